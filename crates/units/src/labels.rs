//! Label and field selectors: Kubernetes' text form (`a=b,c in (d,e),!f`), the structured `matchLabels` and
//! `matchExpressions` form, and matching.

use crate::{check_label_key, check_label_value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Why a selector cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operator {
    /// The value is one of those listed.
    In,
    /// The value is none of those listed, or the key is absent.
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is an integer above the one listed (node selectors, `a>1`).
    Gt,
    /// The value is an integer below the one listed.
    Lt,
}

/// One requirement on one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// The operands, sorted for a canonical text form.
    pub values: Vec<String>,
}

impl Requirement {
    /// Whether `value` (the label's, if the object has it) satisfies the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|x| x == v);
        let number = |v: &str| v.parse::<i64>().ok();
        let operand = self.values.first().and_then(|v| number(v));
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => matches!((value.and_then(number), operand), (Some(v), Some(o)) if v > o),
            Operator::Lt => matches!((value.and_then(number), operand), (Some(v), Some(o)) if v < o),
        }
    }
}

/// A conjunction of requirements; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LabelSelector(pub Vec<Requirement>);

impl LabelSelector {
    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels found through `get` satisfy every requirement.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|r| r.matches(get(&r.key)))
    }

    /// Whether a label map satisfies every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|k| labels.get(k).map(String::as_str))
    }

    /// Equality on every pair, as `matchLabels` and a Service's selector mean it.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> LabelSelector {
        LabelSelector(
            labels
                .into_iter()
                .map(|(k, v)| Requirement { key: k.clone(), operator: Operator::In, values: vec![v.clone()] })
                .collect(),
        )
    }

    /// Reads the text form of a query parameter. Errors have the stock server's wording.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        let mut lex = Lexer { text, at: 0 };
        let mut out = Vec::new();
        loop {
            match lex.peek() {
                Token::End if out.is_empty() => return Ok(LabelSelector(out)),
                Token::Word(_) | Token::Not => {}
                t => return Err(found(t, "!, identifier, or 'end of string'")),
            }
            let read = lex.requirement();
            out.push(read.map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?);
            match lex.next() {
                Token::End => break,
                Token::Comma => {
                    let t = lex.peek();
                    if !matches!(t, Token::Word(_) | Token::Not) {
                        return Err(found(t, "identifier after ','"));
                    }
                }
                t => return Err(found(t, "',' or 'end of string'")),
            }
        }
        out.sort_by(|a: &Requirement, b| a.key.cmp(&b.key));
        Ok(LabelSelector(out))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let first = r.values.first().map_or("", String::as_str);
            match r.operator {
                Operator::In if r.values.len() == 1 => write!(f, "{}={first}", r.key)?,
                Operator::In => write!(f, "{} in ({})", r.key, r.values.join(","))?,
                Operator::NotIn if r.values.len() == 1 => write!(f, "{}!={first}", r.key)?,
                Operator::NotIn => write!(f, "{} notin ({})", r.key, r.values.join(","))?,
                Operator::Exists => f.write_str(&r.key)?,
                Operator::DoesNotExist => write!(f, "!{}", r.key)?,
                Operator::Gt => write!(f, "{}>{first}", r.key)?,
                Operator::Lt => write!(f, "{}<{first}", r.key)?,
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Comma,
    Open,
    Close,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    Word(&'a str),
}

/// What stands where something else is expected.
fn found(t: Token<'_>, expected: &str) -> SelectorError {
    SelectorError(format!("found '{t}', expected: {expected}"))
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::End => "",
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
            Token::Not => "!",
            Token::Equals => "=",
            Token::DoubleEquals => "==",
            Token::NotEquals => "!=",
            Token::Greater => ">",
            Token::Less => "<",
            Token::Word(w) => w,
        })
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn peek(&self) -> Token<'a> {
        self.scan().0
    }

    fn next(&mut self) -> Token<'a> {
        let (t, at) = self.scan();
        self.at = at;
        t
    }

    fn scan(&self) -> (Token<'a>, usize) {
        let b = self.text.as_bytes();
        let mut i = self.at;
        while i < b.len() && b[i].is_ascii_whitespace() {
            i += 1;
        }
        let Some(c) = b.get(i) else { return (Token::End, i) };
        let second = b.get(i + 1);
        match c {
            b',' => (Token::Comma, i + 1),
            b'(' => (Token::Open, i + 1),
            b')' => (Token::Close, i + 1),
            b'!' if second == Some(&b'=') => (Token::NotEquals, i + 2),
            b'!' => (Token::Not, i + 1),
            b'=' if second == Some(&b'=') => (Token::DoubleEquals, i + 2),
            b'=' => (Token::Equals, i + 1),
            b'>' => (Token::Greater, i + 1),
            b'<' => (Token::Less, i + 1),
            _ => {
                let start = i;
                while i < b.len() && !b[i].is_ascii_whitespace() && !b",()!=<>".contains(&b[i]) {
                    i += 1;
                }
                (Token::Word(&self.text[start..i]), i)
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let not = self.peek() == Token::Not;
        if not {
            self.next();
        }
        let key = match self.next() {
            Token::Word(w) => w,
            t => return Err(found(t, "identifier")),
        };
        check_label_key(key)
            .map_err(|e| SelectorError(format!("<nil>: Invalid value: {key:?}: {}", e.joined())))?;
        let made = |operator, values| Ok(Requirement { key: key.to_string(), operator, values });
        if not {
            return made(Operator::DoesNotExist, vec![]);
        }
        match self.peek() {
            Token::End | Token::Comma => made(Operator::Exists, vec![]),
            Token::Equals | Token::DoubleEquals => {
                self.next();
                let v = self.exact(key)?;
                made(Operator::In, vec![v])
            }
            Token::NotEquals => {
                self.next();
                let v = self.exact(key)?;
                made(Operator::NotIn, vec![v])
            }
            Token::Greater | Token::Less => {
                let op = if self.next() == Token::Greater { Operator::Gt } else { Operator::Lt };
                let v = self.exact(key)?;
                if v.parse::<i64>().is_err() {
                    return Err(SelectorError(format!(
                        "values[0]: Invalid value: {v:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                    )));
                }
                made(op, vec![v])
            }
            Token::Word(w @ ("in" | "notin")) => {
                self.next();
                let op = if w == "in" { Operator::In } else { Operator::NotIn };
                let values = self.list(key)?;
                made(op, values)
            }
            t => {
                self.next();
                Err(found(t, "in, notin, =, ==, !=, gt, lt"))
            }
        }
    }

    fn exact(&mut self, key: &str) -> Result<String, SelectorError> {
        let v = match self.peek() {
            Token::Word(w) => {
                self.next();
                w
            }
            Token::End | Token::Comma => "",
            t => return Err(found(t, "identifier")),
        };
        self.check(key, v)
    }

    fn check(&self, key: &str, v: &str) -> Result<String, SelectorError> {
        check_label_value(v)
            .map_err(|e| SelectorError(format!("values[0][{key}]: Invalid value: {v:?}: {}", e.joined())))?;
        Ok(v.to_string())
    }

    fn list(&mut self, key: &str) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Token::Open => {}
            // Here alone there is no comma.
            t => return Err(SelectorError(format!("found '{t}' expected: '('"))),
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Word(w) => {
                    out.push(self.check(key, w)?);
                    match self.next() {
                        Token::Comma => continue,
                        Token::Close => break,
                        t => return Err(found(t, "',' or ')'")),
                    }
                }
                Token::Comma => out.push(String::new()),
                Token::Close => {
                    out.push(String::new());
                    break;
                }
                t => return Err(found(t, "',', ')' or identifier")),
            }
        }
        out.sort();
        out.dedup();
        Ok(out)
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldTerm {
    /// The field's path, such as `spec.nodeName`.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// `=` or `!=`: only `In` and `NotIn` occur.
    pub operator: Operator,
}

/// A conjunction of field terms. Which fields a kind supports is the registry's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector(pub Vec<FieldTerm>);

impl FieldSelector {
    /// Reads `a=b,c!=d`, with `\` escaping `,`, `=` and itself.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut terms = Vec::new();
        for part in split_unescaped(text, ',') {
            if part.is_empty() {
                continue;
            }
            let bad = || SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'"));
            let (i, _) = unescaped(part).find(|(_, c)| *c == '=').ok_or_else(bad)?;
            let (field, operator) = match part[..i].strip_suffix('!') {
                Some(f) => (f, Operator::NotIn),
                None => (&part[..i], Operator::In),
            };
            let rest = &part[i + 1..];
            let value = rest.strip_prefix('=').unwrap_or(rest);
            terms.push(FieldTerm { field: field.to_string(), value: unescape(value)?, operator });
        }
        Ok(FieldSelector(terms))
    }

    /// Whether the fields found through `get` satisfy every term; an absent field reads as empty.
    pub fn matches_with(&self, get: impl Fn(&str) -> Option<String>) -> bool {
        self.0.iter().all(|t| (get(&t.field).unwrap_or_default() == t.value) == (t.operator == Operator::In))
    }
}

fn unescaped(s: &str) -> impl Iterator<Item = (usize, char)> + '_ {
    let mut escaped = false;
    s.char_indices().filter(move |(_, c)| {
        if escaped {
            escaped = false;
            return false;
        }
        escaped = *c == '\\';
        !escaped
    })
}

fn split_unescaped(s: &str, by: char) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    for (i, c) in unescaped(s) {
        if c == by {
            out.push(&s[start..i]);
            start = i + c.len_utf8();
        }
    }
    out.push(&s[start..]);
    out
}

fn unescape(s: &str) -> Result<String, SelectorError> {
    let bad = |why: String| SelectorError(format!("invalid field selector: {why}"));
    let mut out = String::with_capacity(s.len());
    let mut chars = s.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                next => {
                    let next = next.map(String::from).unwrap_or_default();
                    return Err(bad(format!("invalid escape sequence: \\{next}")));
                }
            },
            // Go prints the character as the number that it is.
            ',' | '=' => return Err(bad(format!("unescaped character in value: {}", u32::from(c)))),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn selectors_select() {
        let l = labels(&[("a", "b"), ("env", "prod"), ("n", "5")]);
        for (text, want) in [
            ("", true),
            ("a=b", true),
            ("a==b,env", true),
            ("a!=b", false),
            ("zzz!=b", true),
            ("!a", false),
            ("!zzz", true),
            ("env in (dev, prod)", true),
            ("env notin (dev,prod)", false),
            ("zzz notin (x)", true),
            ("n>4,n<6", true),
            ("a=", false),
        ] {
            assert_eq!(LabelSelector::parse(text).map(|s| s.matches(&l)), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_malformed_selector_says_what_was_found() {
        assert_eq!(
            LabelSelector::parse("a===").map_err(|e| e.to_string()),
            Err("unable to parse requirement: found '=', expected: identifier".to_string())
        );
        for (text, want) in [
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("(", "found '(', expected: !, identifier, or 'end of string'"),
            ("a,,b", "found ',', expected: identifier after ','"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(
                LabelSelector::parse(text).map_err(|e| e.to_string()),
                Err(want.to_string()),
                "{text}"
            );
        }
        let long = LabelSelector::parse(&format!("{}_=", "x".repeat(63))).unwrap_err().to_string();
        assert!(
            long.contains("name part must be no more than 63 bytes; name part must consist of"),
            "{long}"
        );
        for (text, want) in [
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
            ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
        ] {
            assert_eq!(
                FieldSelector::parse(text).map_err(|e| e.to_string()),
                Err(want.to_string()),
                "{text}"
            );
        }
        for bad in ["a=b,", ",", "a in", "a in (", "a in (b", "(", "a b", "-a=b", "a=b=c", "a>x"] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_compare_and_escape() {
        let s = FieldSelector::parse("metadata.name=x,spec.nodeName!=n1,a=b\\,c").unwrap();
        let get = |f: &str| match f {
            "metadata.name" => Some("x".to_string()),
            "a" => Some("b,c".to_string()),
            _ => None,
        };
        assert!(s.matches_with(get));
        assert!(FieldSelector::parse("abc").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_the_printed_form_reads_back(s in "[a-z=!,() <>inot\\\\é]{0,24}") {
            drop(FieldSelector::parse(&s));
            if let Ok(sel) = LabelSelector::parse(&s) {
                proptest::prop_assert_eq!(LabelSelector::parse(&sel.to_string()).ok(), Some(sel));
            }
        }
    }
}
