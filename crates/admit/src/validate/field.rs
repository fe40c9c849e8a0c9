//! Paths of fields, rendered only when something is wrong, and the checks that many kinds share.

use serde_json::Value;
use std::fmt;
use stoa_kube::Cause;
use stoa_units::{NameError, Quantity, check_dns_label, check_dns_subdomain};

use crate::value::{NULL, at, has, int, text};

pub(super) use super::errors::Errors;

/// Where a value stands in the object. Lives on the stack: a valid object costs no text.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Child(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A top-level field.
    pub(super) const fn root(name: &'a str) -> Path<'a> {
        Path { parent: None, part: Part::Child(name) }
    }

    /// A field of this one.
    pub(super) fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), part: Part::Child(name) }
    }

    /// An element of this list.
    pub(super) fn index(&'a self, i: usize) -> Path<'a> {
        Path { parent: Some(self), part: Part::Index(i) }
    }

    /// An entry of this map.
    pub(super) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), part: Part::Key(key) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.part {
            Part::Child(name) if self.parent.is_some() => write!(f, ".{name}"),
            Part::Child(name) => f.write_str(name),
            Part::Index(i) => write!(f, "[{i}]"),
            Part::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> String {
        path.to_string()
    }
}

/// Notes all that is wrong with a name.
pub(super) fn name_error(result: Result<(), NameError>, value: &str, path: Path<'_>, errors: &mut Errors) {
    if let Err(e) = result {
        errors.extend(e.all().map(|why| Cause::invalid(path, value, why)));
    }
}

pub(super) fn dns_label(value: &str, path: Path<'_>, errors: &mut Errors) {
    name_error(check_dns_label(value), value, path, errors);
}

pub(super) fn dns_subdomain(value: &str, path: Path<'_>, errors: &mut Errors) {
    name_error(check_dns_subdomain(value), value, path, errors);
}

const LABEL_LEN_MAX: usize = 63;
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// RFC 1035 label: names of services.
pub(super) fn dns_1035_label(value: &str) -> Result<(), NameError> {
    match check_dns_label(value) {
        Err(e) if value.len() > LABEL_LEN_MAX => Err(e),
        Ok(()) if value.starts_with(|c: char| c.is_ascii_lowercase()) => Ok(()),
        _ => Err(NameError::new(DNS_1035)),
    }
}

/// A text that must not be empty; returns it if it is not.
pub(super) fn required_text<'v>(
    v: &'v Value,
    key: &str,
    path: Path<'_>,
    errors: &mut Errors,
) -> Option<&'v str> {
    let value = text(v, key);
    if value.is_empty() {
        errors.push(Cause::required(path.child(key), ""));
        return None;
    }
    Some(value)
}

/// A text that must be one of a list; empty counts as absent and is refused as such.
pub(super) fn one_of(v: &Value, key: &str, supported: &[&str], path: Path<'_>, errors: &mut Errors) {
    let value = text(v, key);
    if value.is_empty() {
        errors.push(Cause::required(path.child(key), ""));
    } else if !supported.contains(&value) {
        errors.push(Cause::not_supported(path.child(key), value, supported));
    }
}

/// A text that may be absent, and otherwise must be one of a list.
pub(super) fn optional_one_of(v: &Value, key: &str, supported: &[&str], path: Path<'_>, errors: &mut Errors) {
    if has(v, key) && !supported.contains(&text(v, key)) {
        errors.push(Cause::not_supported(path.child(key), text(v, key), supported));
    }
}

pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// An integer that may be absent and must not be negative.
pub(super) fn not_negative(v: &Value, key: &str, path: Path<'_>, errors: &mut Errors) {
    if let Some(n) = int(v, key).filter(|n| *n < 0) {
        errors.push(Cause::invalid(path.child(key), n, NOT_NEGATIVE));
    }
}

/// An integer that may be absent and must not be less than a bound.
pub(super) fn int_at_least(v: &Value, key: &str, low: i64, path: Path<'_>, errors: &mut Errors) {
    if let Some(n) = int(v, key).filter(|n| *n < low) {
        errors.push(Cause::invalid(path.child(key), n, &format!("must be greater than or equal to {low}")));
    }
}

/// An integer that must lie in a range, if it is there.
pub(super) fn in_range(v: &Value, key: &str, low: i64, high: i64, path: Path<'_>, errors: &mut Errors) {
    if let Some(n) = int(v, key).filter(|n| !(low..=high).contains(n)) {
        errors.push(Cause::invalid(path.child(key), n, &range_message(low, high)));
    }
}

pub(super) fn range_message(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A port's number.
pub(super) fn port_number(n: i64, path: Path<'_>, errors: &mut Errors) {
    if !(1..=65535).contains(&n) {
        errors.push(Cause::invalid(path, n, &range_message(1, 65535)));
    }
}

/// What is wrong with a port's name.
pub(super) fn port_name_errors(name: &str) -> Vec<&'static str> {
    let bytes = name.as_bytes();
    let is_plain = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    let rules = [
        (bytes.len() <= 15, "must be no more than 15 characters"),
        (
            !bytes.is_empty() && bytes.iter().all(is_plain),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (bytes.iter().any(u8::is_ascii_lowercase), "must contain at least one letter (a-z)"),
        (!name.contains("--"), "must not contain consecutive hyphens"),
        (!name.starts_with('-') && !name.ends_with('-'), "must not begin or end with a hyphen"),
    ];
    rules.into_iter().filter_map(|(holds, why)| (!holds).then_some(why)).collect()
}

/// A port by number or by name.
pub(super) fn port_number_or_name(v: &Value, path: Path<'_>, errors: &mut Errors) {
    match v {
        Value::Number(n) => port_number(n.as_i64().unwrap_or(0), path, errors),
        Value::String(s) => {
            for why in port_name_errors(s) {
                errors.push(Cause::invalid(path, s.as_str(), why));
            }
        }
        _ => errors.push(Cause::invalid(path, 0, &range_message(1, 65535))),
    }
}

/// A field that never changes, at its own path.
pub(super) fn immutable(old: &Value, new: &Value, path: Path<'_>, key: &str, errors: &mut Errors) {
    if at(old, key) != at(new, key) {
        errors.push(Cause::immutable(path, at(new, key).clone()));
    }
}

/// The quantity under a key; the decoder has refused what is none.
pub(super) fn quantity(v: &Value, key: &str) -> Option<Quantity> {
    v.get(key).and_then(Value::as_str).and_then(|s| Quantity::parse(s).ok())
}

/// A relative path that stays below where it starts.
pub(super) fn descending_path(value: &str, path: Path<'_>, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.push(Cause::invalid(path, value, "must be a relative path"));
    }
    no_backsteps(value, path, errors);
}

/// No `..` among a path's parts.
pub(super) fn no_backsteps(value: &str, path: Path<'_>, errors: &mut Errors) {
    if value.split('/').any(|part| part == "..") {
        errors.push(Cause::invalid(path, value, "must not contain '..'"));
    }
}

/// A count, or a share in percent: `5` or `25%`. Returns whether it is well-formed.
pub(super) fn count_or_percent(v: &Value, path: Path<'_>, errors: &mut Errors) -> bool {
    match v {
        Value::Number(n) if n.as_i64().unwrap_or(-1) < 0 => {
            errors.push(Cause::invalid(path, v.clone(), NOT_NEGATIVE));
            false
        }
        Value::String(s) => {
            let digits = s.strip_suffix('%').unwrap_or_default();
            let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if !good {
                errors.push(Cause::invalid(
                    path,
                    s.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ));
            }
            good
        }
        _ => true,
    }
}

/// Whether a count or share is zero.
pub(super) fn is_zero(v: &Value) -> bool {
    match v {
        Value::Number(n) => n.as_i64() == Some(0),
        // What is no number is none.
        Value::String(s) => s.strip_suffix('%').unwrap_or(s).parse::<i64>().unwrap_or(0) == 0,
        _ => true,
    }
}

/// The elements of a list with their paths' indices.
pub(super) fn indexed<'v>(v: &'v Value, key: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    v.get(key).unwrap_or(&NULL).as_array().into_iter().flatten().enumerate()
}

/// A path that somebody's domain stands before: `acme.io/foo`.
pub(super) fn domain_prefixed_path(value: &str, path: Path<'_>, errors: &mut Errors) {
    const INVALID: &str = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
    if value.is_empty() {
        return errors.push(Cause::required(path, ""));
    }
    let (host, rest) = match value.split_once('/') {
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => (host, rest),
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return errors.push(Cause::invalid(path, value, why));
        }
    };
    dns_subdomain(host, path, errors);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !rest.chars().all(is_plain) {
        errors.push(Cause::invalid(path, rest, INVALID));
    }
}

/// Conditions of the common form: each of a type of its own, with a status, a reason and a time.
pub(super) fn conditions(v: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut types = std::collections::HashSet::new();
    for (i, condition) in v.as_array().into_iter().flatten().enumerate() {
        let path = list.index(i);
        let kind = text(condition, "type");
        if !types.insert(kind) {
            errors.push(Cause::duplicate(path.child("type"), kind));
        }
        name_error(stoa_units::check_label_key(kind), kind, path.child("type"), errors);
        let (status, known) = (text(condition, "status"), ["False", "True", "Unknown"]);
        if !known.contains(&status) {
            errors.push(Cause::not_supported(path.child("status"), status, &known));
        }
        if let Some(n) = int(condition, "observedGeneration").filter(|n| *n < 0) {
            let why = "must be greater than or equal to zero";
            errors.push(Cause::invalid(path.child("observedGeneration"), n, why));
        }
        if text(condition, "lastTransitionTime").is_empty() {
            errors.push(Cause::required(path.child("lastTransitionTime"), ""));
        }
        match text(condition, "reason") {
            "" => errors.push(Cause::required(path.child("reason"), "")),
            reason => {
                if !is_reason(reason) {
                    errors.push(Cause::invalid(path.child("reason"), reason, REASON));
                }
                if reason.len() > REASON_BYTES_MAX {
                    errors.push(Cause::too_long(path.child("reason"), REASON_BYTES_MAX));
                }
            }
        }
        if text(condition, "message").len() > MESSAGE_BYTES_MAX {
            errors.push(Cause::too_long(path.child("message"), MESSAGE_BYTES_MAX));
        }
    }
}

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

fn is_reason(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "_,:".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(is_inner)
        && !text.ends_with([',', ':'])
}
