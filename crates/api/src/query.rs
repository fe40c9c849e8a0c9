//! A URL's query, parsed once.

use crate::options::QUERY_LEN_MAX;
use std::num::{IntErrorKind, ParseIntError};
use stoa_kube::Status;
use stoa_units::quote;

/// Parameters in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`, with `%` and `+` escapes.
    pub fn parse(text: &str) -> Result<Query, Status> {
        let mut out = Vec::new();
        for part in text.split('&').filter(|p| !p.is_empty()) {
            if out.len() == QUERY_LEN_MAX {
                return Err(Status::bad_request(format!("more than {QUERY_LEN_MAX} query parameters")));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(key), Some(value)) = (decode(key, Plus::IsSpace), decode(value, Plus::IsSpace)) else {
                return Err(Status::bad_request(format!("invalid URL escape in {part:?}")));
            };
            out.push((key, value));
        }
        Ok(Query(out))
    }

    /// The first value of a parameter, or empty.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A truth value as a stock server reads it: whatever is there and does not say otherwise, a bare `?watch` too.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    /// A whole number. One that is named and has no value is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|e: ParseIntError| {
            let why = match e.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", quote(text)))
        })
    }
}

impl Query {
    /// A time: nothing where it is not named, and nothing in that where it is named without one.
    pub fn time(&self, name: &str) -> Result<Option<Option<String>>, Status> {
        match self.get(name) {
            None => Ok(None),
            // Old clients wrote their values as JSON.
            Some("" | "null") => Ok(Some(None)),
            Some(text) => match stoa_kube::decode::check_time(text) {
                Ok(()) => Ok(Some(Some(text.to_owned()))),
                Err(why) => Err(Status::bad_request(why)),
            },
        }
    }
}

/// What `+` stands for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Plus {
    /// A space, in queries.
    IsSpace,
    /// Itself, in paths.
    IsPlus,
}

/// Undoes percent-encoding; `None` where an escape is malformed or the outcome is no UTF-8.
pub(crate) fn decode(text: &str, plus: Plus) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_string());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'%' => {
                let digit = |b: &u8| char::from(*b).to_digit(16).map(|d| d as u8);
                let (high, low) = (digit(bytes.get(i + 1)?)?, digit(bytes.get(i + 2)?)?);
                out.push(high << 4 | low);
                i += 2;
            }
            b'+' if plus == Plus::IsSpace => out.push(b' '),
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_bad_ones_refused() {
        let q = Query::parse("a=b%20c+d&watch&x=%2F&a=2").unwrap();
        assert_eq!(q.text("a"), "b c d");
        assert_eq!(q.all("a").count(), 2);
        assert!(q.is_true("watch"));
        assert_eq!(q.text("x"), "/");
        let q = Query::parse("t&f=False&n=0&x=f&e=&big=99999999999999999999&bad=abc&neg=-3").unwrap();
        assert_eq!(
            ["t", "f", "n", "x", "e", "none"].map(|name| q.is_true(name)),
            [true, false, false, true, true, false]
        );
        let number = |name: &str| q.number(name).map_err(|status| status.message);
        assert_eq!((number("neg"), number("none")), (Ok(Some(-3)), Ok(None)));
        for (name, why) in [
            ("e", r#"parsing "": invalid syntax"#),
            ("bad", r#"parsing "abc": invalid syntax"#),
            ("big", r#"parsing "99999999999999999999": value out of range"#),
        ] {
            assert_eq!(number(name), Err(format!("strconv.ParseInt: {why}")));
        }
        assert!(Query::parse("a=%zz").is_err());
        assert!(Query::parse("a=%f").is_err());
        assert!(Query::parse("a=%ff").is_err());
        assert!(Query::parse(&"a=1&".repeat(101)).is_err());
        assert_eq!(decode("a+b", Plus::IsPlus).as_deref(), Some("a+b"));
    }
}
