//! Protobuf, the second encoding: bytes to and from the JSON form, driven by one table of the API's messages.
//!
//! Everything else in the house knows one form only. A message in protobuf is turned into the JSON that says the same, and
//! back: enums are their names, `bytes` base64, maps objects, as the proto2-JSON mapping has it. Decoding comes from the
//! outside, so depth and length are bounded and required fields are asked for; what the table does not know is passed over.
//! Encoding writes what fits the table and leaves out the rest, as extensions of the JSON form have no number.

use crate::json::{Blob, Double};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// How deep messages nest at most.
const DEPTH_MAX: usize = 64;

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such message.
    #[error("no message {0}")]
    Unknown(String),
    /// The bytes end within a field, or a field is not what it says.
    #[error("malformed message {0}")]
    Malformed(&'static str),
    /// A required field is missing.
    #[error("message {message} is missing required field '{field}'")]
    Missing {
        /// Of which message.
        message: &'static str,
        /// Which.
        field: &'static str,
    },
    /// Messages within messages without end.
    #[error("messages nest deeper than {DEPTH_MAX}")]
    TooDeep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Double,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Bool,
    Text,
    Bytes,
    /// `google.protobuf.Duration`, which is text in JSON.
    Duration,
    Message(usize),
    Enum(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Optional,
    Required,
    Repeated,
    Map,
}

#[derive(Debug)]
struct Field {
    number: u32,
    name: &'static str,
    kind: Kind,
    label: Label,
}

#[derive(Debug)]
struct Message {
    name: &'static str,
    /// By number.
    fields: Vec<Field>,
}

impl Message {
    fn field(&self, number: u32) -> Option<&Field> {
        self.fields.binary_search_by_key(&number, |f| f.number).ok().map(|i| &self.fields[i])
    }
}

#[derive(Debug, Default)]
struct Table {
    messages: Vec<Message>,
    enums: Vec<Vec<(i64, &'static str)>>,
    names: HashMap<&'static str, usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| read_table(include_str!("../data/v1.txt")));

fn read_table(text: &'static str) -> Table {
    let lines = || text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let (mut messages, mut enums) = (HashMap::new(), HashMap::new());
    for line in lines() {
        if let Some(name) = line.strip_prefix("message ") {
            messages.insert(name, messages.len());
        } else if let Some(name) = line.strip_prefix("enum ") {
            enums.insert(name, enums.len());
        }
    }
    let mut table = Table::default();
    let mut is_enum = false;
    for line in lines() {
        if let Some(name) = line.strip_prefix("message ") {
            table.messages.push(Message { name, fields: vec![] });
            is_enum = false;
            continue;
        }
        if line.starts_with("enum ") {
            table.enums.push(vec![]);
            is_enum = true;
            continue;
        }
        let mut words = line.split(' ');
        let number = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default();
        if is_enum {
            if let (Some(values), Ok(number)) = (table.enums.last_mut(), number.parse()) {
                values.push((number, name));
            }
            continue;
        }
        let kind = match words.next().unwrap_or_default() {
            "double" => Kind::Double,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "uint32" => Kind::Uint32,
            "uint64" => Kind::Uint64,
            "bool" => Kind::Bool,
            "string" => Kind::Text,
            "bytes" => Kind::Bytes,
            "duration" => Kind::Duration,
            other => match (messages.get(other), enums.get(other)) {
                (Some(i), _) => Kind::Message(*i),
                (None, Some(i)) => Kind::Enum(*i),
                // The table is ours and a test reads every line of it.
                (None, None) => continue,
            },
        };
        let label = match words.next() {
            Some("!") => Label::Required,
            Some("*") => Label::Repeated,
            Some("%") => Label::Map,
            _ => Label::Optional,
        };
        if let (Some(message), Ok(number)) = (table.messages.last_mut(), number.parse()) {
            message.fields.push(Field { number, name, kind, label });
        }
    }
    for message in &mut table.messages {
        message.fields.sort_by_key(|f| f.number);
    }
    table.names = messages;
    table
}

/// Whether the table has a message.
pub fn has(message: &str) -> bool {
    TABLE.names.contains_key(message)
}

// ---- decoding

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(out);
            }
        }
        None
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok().filter(|l| *l <= self.0.len())?;
        let (part, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(part)
    }

    fn fixed64(&mut self) -> Option<u64> {
        self.take(8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes)
    }

    /// Passes over a value.
    fn skip(&mut self, wire: u64) -> Option<()> {
        match wire {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => {
                let len = self.varint()?;
                self.take(len).map(drop)
            }
            5 => self.take(4).map(drop),
            _ => None,
        }
    }
}

fn number_value(kind: Kind, raw: u64) -> Option<Value> {
    Some(match kind {
        // Negative numbers of 32 bits are ten bytes on the wire.
        Kind::Int32 => Value::from(raw as i32),
        Kind::Int64 => Value::from(raw as i64),
        Kind::Uint32 => Value::from(raw as u32),
        Kind::Uint64 => Value::from(raw),
        Kind::Bool => Value::Bool(raw != 0),
        Kind::Enum(i) => {
            let values = &TABLE.enums[i];
            values.iter().find(|(n, _)| *n == raw as i64).map(|(_, name)| Value::from(*name))?
        }
        _ => return None,
    })
}

fn double_value(bits: u64) -> Value {
    serde_json::to_value(Double(f64::from_bits(bits))).unwrap_or_default()
}

fn bytes_value(kind: Kind, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    Ok(match kind {
        Kind::Text => String::from_utf8_lossy(bytes).into_owned().into(),
        Kind::Bytes => serde_json::to_value(Blob(bytes.to_vec())).unwrap_or_default(),
        Kind::Message(i) => decode_message(&TABLE.messages[i], bytes, depth + 1)?,
        Kind::Duration => duration_value(bytes).ok_or(Error::Malformed("Duration"))?,
        _ => return Err(Error::Malformed("")),
    })
}

fn duration_value(bytes: &[u8]) -> Option<Value> {
    let (mut reader, mut seconds, mut nanos) = (Reader(bytes), 0i64, 0i32);
    while !reader.0.is_empty() {
        match reader.varint()? {
            0x08 => seconds = reader.varint()? as i64,
            0x10 => nanos = reader.varint()? as i32,
            tag => reader.skip(tag & 7)?,
        }
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let (whole, part) = (seconds.unsigned_abs(), nanos.unsigned_abs());
    let text = match part {
        0 => format!("{sign}{whole}s"),
        _ => format!("{sign}{whole}.{part:09}s"),
    };
    Some(text.into())
}

/// Turns a message's bytes into its JSON form.
pub fn decode(message: &str, bytes: &[u8]) -> Result<Value, Error> {
    let index = TABLE.names.get(message).ok_or_else(|| Error::Unknown(message.into()))?;
    decode_message(&TABLE.messages[*index], bytes, 0)
}

fn decode_message(message: &'static Message, bytes: &[u8], depth: usize) -> Result<Value, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::TooDeep);
    }
    let bad = || Error::Malformed(message.name);
    let mut reader = Reader(bytes);
    let mut out = Map::new();
    while !reader.0.is_empty() {
        let tag = reader.varint().ok_or_else(bad)?;
        let (number, wire) = (u32::try_from(tag >> 3).map_err(|_| bad())?, tag & 7);
        let Some(field) = message.field(number) else {
            reader.skip(wire).ok_or_else(bad)?;
            continue;
        };
        match wire {
            0 => {
                let raw = reader.varint().ok_or_else(bad)?;
                // A value that this version does not know is as good as absent.
                if let Some(value) = number_value(field.kind, raw) {
                    put(&mut out, field, value);
                }
            }
            1 => {
                let bits = reader.fixed64().ok_or_else(bad)?;
                if field.kind == Kind::Double {
                    put(&mut out, field, double_value(bits));
                }
            }
            2 => {
                let len = reader.varint().ok_or_else(bad)?;
                let part = reader.take(len).ok_or_else(bad)?;
                decode_part(&mut out, field, part, depth).map_err(|e| match e {
                    Error::Malformed("") => bad(),
                    e => e,
                })?;
            }
            wire => reader.skip(wire).ok_or_else(bad)?,
        }
    }
    match message.fields.iter().find(|f| f.label == Label::Required && !out.contains_key(f.name)) {
        // An enum's value that is not known is not there, yet was given.
        Some(f) if !matches!(f.kind, Kind::Enum(_)) => {
            Err(Error::Missing { message: message.name, field: f.name })
        }
        _ => Ok(out.into()),
    }
}

fn decode_part(
    out: &mut Map<String, Value>,
    field: &'static Field,
    part: &[u8],
    depth: usize,
) -> Result<(), Error> {
    if field.label == Label::Map {
        let (key, value) = decode_entry(field.kind, part, depth)?;
        if let Value::Object(map) = out.entry(field.name).or_insert_with(|| Map::new().into()) {
            map.insert(key, value);
        }
        return Ok(());
    }
    match field.kind {
        Kind::Text | Kind::Bytes | Kind::Message(_) | Kind::Duration => {
            put(out, field, bytes_value(field.kind, part, depth)?);
        }
        // Numbers packed into one part.
        kind => {
            let mut reader = Reader(part);
            while !reader.0.is_empty() {
                let value = match kind {
                    Kind::Double => reader.fixed64().map(double_value),
                    kind => reader.varint().map(|raw| number_value(kind, raw).unwrap_or_default()),
                };
                let value = value.ok_or(Error::Malformed(""))?;
                if !value.is_null() {
                    put(out, field, value);
                }
            }
        }
    }
    Ok(())
}

fn decode_entry(kind: Kind, part: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let bad = || Error::Malformed("");
    let (mut reader, mut key, mut value) = (Reader(part), String::new(), None);
    while !reader.0.is_empty() {
        let tag = reader.varint().ok_or_else(bad)?;
        if !matches!(tag, 0x0a | 0x12) {
            reader.skip(tag & 7).ok_or_else(bad)?;
            continue;
        }
        let len = reader.varint().ok_or_else(bad)?;
        let bytes = reader.take(len).ok_or_else(bad)?;
        if tag == 0x0a {
            key = String::from_utf8_lossy(bytes).into_owned();
        } else {
            value = Some(bytes_value(kind, bytes, depth)?);
        }
    }
    let value = match value {
        Some(value) => value,
        None => bytes_value(kind, &[], depth)?,
    };
    Ok((key, value))
}

fn put(out: &mut Map<String, Value>, field: &'static Field, value: Value) {
    if field.label == Label::Repeated {
        if let Value::Array(all) = out.entry(field.name).or_insert_with(|| Value::Array(vec![])) {
            all.push(value);
        }
    } else {
        out.insert(field.name.into(), value);
    }
}

// ---- encoding

fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push((v as u8) | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn put_part(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_u64().map(|u| u as i64)).or_else(|| {
            let f = n.as_f64()?;
            (f.fract() == 0.0 && f.abs() <= 9_007_199_254_740_992.0).then_some(f as i64)
        }),
        Value::String(s) => s.parse().ok(),
        _ => None,
    }
}

/// Turns a message's JSON form into its bytes. What the message does not have is left out.
pub fn encode(message: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    if let Some(index) = TABLE.names.get(message) {
        encode_message(&mut out, &TABLE.messages[*index], value, 0);
    }
    out
}

fn encode_message(out: &mut Vec<u8>, message: &'static Message, value: &Value, depth: usize) {
    let Value::Object(object) = value else { return };
    if depth > DEPTH_MAX {
        return;
    }
    for field in &message.fields {
        let Some(value) = object.get(field.name) else { continue };
        match (field.label, value) {
            (Label::Repeated, Value::Array(all)) => {
                for one in all {
                    encode_field(out, field.number, field.kind, one, depth);
                }
            }
            (Label::Map, Value::Object(map)) => {
                for (key, one) in map {
                    let mut entry = Vec::new();
                    put_part(&mut entry, 1, key.as_bytes());
                    encode_field(&mut entry, 2, field.kind, one, depth);
                    put_part(out, field.number, &entry);
                }
            }
            (Label::Repeated | Label::Map, _) => {}
            (Label::Optional | Label::Required, one) => {
                encode_field(out, field.number, field.kind, one, depth);
            }
        }
    }
}

fn encode_field(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value, depth: usize) {
    let tag = |wire: u64| u64::from(number) << 3 | wire;
    let mut put_number = |raw: Option<u64>| {
        if let Some(raw) = raw {
            put_varint(out, tag(0));
            put_varint(out, raw);
        }
    };
    match kind {
        Kind::Double => {
            let spelled = || serde_json::from_value::<Double>(value.clone()).ok().map(|d| d.0);
            if let Some(d) = value.as_f64().or_else(spelled) {
                put_varint(out, tag(1));
                out.extend_from_slice(&d.to_bits().to_le_bytes());
            }
        }
        Kind::Int32 | Kind::Int64 | Kind::Uint32 => put_number(integer(value).map(|i| i as u64)),
        Kind::Uint64 => put_number(value.as_u64().or_else(|| integer(value).map(|i| i as u64))),
        Kind::Bool => put_number(value.as_bool().map(u64::from)),
        Kind::Enum(i) => {
            let values = &TABLE.enums[i];
            let of_name = |name: &str| values.iter().find(|(_, n)| *n == name).map(|(v, _)| *v as u64);
            put_number(value.as_str().and_then(of_name));
        }
        Kind::Text => {
            if let Some(text) = value.as_str() {
                put_part(out, number, text.as_bytes());
            }
        }
        Kind::Bytes => {
            if let Ok(Blob(bytes)) = serde_json::from_value::<Blob>(value.clone()) {
                put_part(out, number, &bytes);
            }
        }
        Kind::Duration => {
            if let Some((seconds, nanos)) = value.as_str().and_then(parse_duration) {
                let mut part = Vec::new();
                put_varint(&mut part, 0x08);
                put_varint(&mut part, seconds as u64);
                put_varint(&mut part, 0x10);
                put_varint(&mut part, i64::from(nanos) as u64);
                put_part(out, number, &part);
            }
        }
        Kind::Message(i) => {
            if value.is_object() {
                put_varint(out, tag(2));
                let start = out.len();
                encode_message(out, &TABLE.messages[i], value, depth + 1);
                // The length is known now and goes to the front: cheaper than a buffer for each message.
                let len = out.len() - start;
                put_varint(out, len as u64);
                let head = out.len() - start - len;
                out[start..].rotate_right(head);
            }
        }
    }
}

/// Seconds and nanoseconds of a `google.protobuf.Duration` in its JSON form, `1.5s`.
pub fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let number = text.strip_suffix('s')?;
    let (sign, number) = number.strip_prefix('-').map_or((1, number), |rest| (-1, rest));
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 9 || !part.bytes().all(|b| b.is_ascii_digit()) || whole.starts_with(['+', '-']) {
        return None;
    }
    let nanos: i32 = if part.is_empty() { 0 } else { format!("{part:0<9}").parse().ok()? };
    Some((sign * whole.parse::<i64>().ok()?, sign as i32 * nanos))
}

#[cfg(test)]
mod tests;
