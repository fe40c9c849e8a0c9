//! JSON into a value, noticing keys that occur twice. serde_json alone would silently keep the last of them, and strict
//! validation must name each.

use super::{DecodeError, PROBLEMS_MAX, shown};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt::{self, Write};

/// How deep a body may nest; serde_json enforces it, so that no recursion over a value can run out of stack.
pub const DEPTH_MAX: usize = 128;

/// A value and the duplicate fields in its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The value; of duplicates the last one counts.
    pub value: Value,
    /// `duplicate field "a.b"`, at most [`PROBLEMS_MAX`].
    pub duplicates: Vec<String>,
}

/// Parses JSON.
pub fn parse(bytes: &[u8]) -> Result<Parsed, DecodeError> {
    let mut state = State { path: String::new(), duplicates: Vec::new() };
    let mut de = serde_json::Deserializer::from_slice(bytes);
    let value = Seed(&mut state).deserialize(&mut de).and_then(|v| de.end().map(|()| v));
    match value {
        Ok(value) => Ok(Parsed { value, duplicates: state.duplicates }),
        Err(e) => Err(DecodeError::Syntax(syntax_error(bytes, &e))),
    }
}

/// The error in Go's words, as far as ours tells enough.
fn syntax_error(bytes: &[u8], e: &serde_json::Error) -> String {
    if e.is_eof() || bytes.is_empty() {
        return "unexpected end of JSON input".to_owned();
    }
    if e.to_string().starts_with("recursion limit exceeded") {
        return "exceeded max depth".to_owned();
    }
    let line_start = bytes
        .split_inclusive(|b| *b == b'\n')
        .take(e.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let at = (line_start + e.column()).saturating_sub(1);
    match bytes.get(at) {
        Some(c) if c.is_ascii_graphic() && e.to_string().starts_with("trailing characters") => {
            format!("invalid character '{}' after top-level value", *c as char)
        }
        Some(c) if e.is_syntax() && c.is_ascii_graphic() => {
            format!("invalid character '{}' looking for beginning of value", *c as char)
        }
        _ => e.to_string(),
    }
}

struct State {
    path: String,
    duplicates: Vec<String>,
}

struct Seed<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let length = self.0.path.len();
        let mut list = Vec::new();
        loop {
            // Writing into a String cannot fail.
            let _ = write!(self.0.path, "[{}]", list.len());
            let Some(item) = seq.next_element_seed(Seed(self.0))? else { break };
            self.0.path.truncate(length);
            list.push(item);
        }
        self.0.path.truncate(length);
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let length = self.0.path.len();
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if length > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&key);
            if map.contains_key(&key) && self.0.duplicates.len() < PROBLEMS_MAX {
                self.0.duplicates.push(format!("duplicate field {}", shown(&self.0.path)));
            }
            let value = access.next_value_seed(Seed(self.0))?;
            self.0.path.truncate(length);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
