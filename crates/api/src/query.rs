//! A URL's query, parsed once.

use crate::options::QUERY_LEN_MAX;
use stoa_kube::Status;

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

    /// A truth value as Go reads it; absent and empty are false (a bare `?watch` is true).
    pub fn is_true(&self, name: &str) -> bool {
        match self.get(name) {
            Some(v) => !matches!(v, "0" | "f" | "F" | "false" | "False" | "FALSE"),
            None => false,
        }
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.text(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            }),
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
        assert!(Query::parse("a=%zz").is_err());
        assert!(Query::parse("a=%f").is_err());
        assert!(Query::parse("a=%ff").is_err());
        assert!(Query::parse(&"a=1&".repeat(101)).is_err());
        assert_eq!(decode("a+b", Plus::IsPlus).as_deref(), Some("a+b"));
    }
}
