//! Scalars: type checks in Go's words and canonical forms of quantities, times and base64.

use crate::go;
use crate::schema::Kind;
use base64::Engine;
use serde_json::{Number, Value};
use stoa_units::{Quantity, Time};

/// What is wrong with a scalar.
pub(super) enum Wrong {
    /// The JSON type, as Go calls it.
    Type(String),
    /// The same, and the type into which a type that reads itself would have read it.
    TypeFor(String, &'static str),
    /// The form; the whole message.
    Form(String),
}

/// The Go type that a type error names; types that read themselves report what they read into.
pub(super) fn go_type<'a>(kind: Kind<'_>, declared: &'a str) -> &'a str {
    match kind {
        Kind::Bytes => "[]uint8",
        _ => declared,
    }
}

/// Checks a scalar and rewrites it in canonical form.
pub(super) fn check(value: &mut Value, kind: Kind<'_>) -> Result<(), Wrong> {
    match kind {
        Kind::Bool if value.is_boolean() => Ok(()),
        Kind::Text if value.is_string() => Ok(()),
        Kind::Int32 => whole(value, i64::from(i32::MIN), i64::from(i32::MAX)),
        Kind::Int64 => whole(value, i64::MIN, i64::MAX),
        Kind::Double => value.is_number().then_some(()).ok_or_else(|| wrong_type(value)),
        Kind::Bytes => bytes(value),
        Kind::Time => time(value, Time::to_rfc3339_seconds, "2006-01-02T15:04:05Z07:00"),
        Kind::MicroTime => time(value, Time::to_rfc3339_micros, "2006-01-02T15:04:05.000000Z07:00"),
        Kind::Quantity => quantity(value),
        Kind::IntOrString => int_or_string(value),
        // The caller has dealt with objects and lists that fit; whatever comes here does not.
        Kind::Bool | Kind::Text | Kind::Any | Kind::Open | Kind::Struct(_) | Kind::List(_) | Kind::Map(_) => {
            Err(Wrong::Type(go::json_type(value).to_owned()))
        }
    }
}

fn wrong_type(value: &Value) -> Wrong {
    match value {
        // Go shows the digits of a number that does not fit.
        Value::Number(n) => Wrong::Type(format!("number {n}")),
        other => Wrong::Type(go::json_type(other).to_owned()),
    }
}

fn whole(value: &Value, min: i64, max: i64) -> Result<(), Wrong> {
    match value.as_i64() {
        Some(n) if (min..=max).contains(&n) => Ok(()),
        _ => Err(wrong_type(value)),
    }
}

fn bytes(value: &mut Value) -> Result<(), Wrong> {
    if let Value::Array(list) = &*value {
        let numbers: Result<Vec<u8>, Wrong> = list.iter().map(byte).collect();
        *value = Value::String(base64::engine::general_purpose::STANDARD.encode(numbers?));
        return Ok(());
    }
    let Value::String(text) = &*value else { return Err(Wrong::Type(go::json_type(value).to_owned())) };
    // Go's decoder skips line breaks.
    let packed: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    match base64::engine::general_purpose::STANDARD.decode(&packed) {
        Ok(_) => {
            if packed.len() != text.len() {
                *value = Value::String(packed);
            }
            Ok(())
        }
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                // Go points at the start of the quantum that is cut short.
                base64::DecodeError::InvalidLength(len) => len / 4 * 4,
                base64::DecodeError::InvalidPadding => packed.len() / 4 * 4,
            };
            Err(Wrong::Form(format!("illegal base64 data at input byte {at}")))
        }
    }
}

/// One of bytes that come as a list of numbers.
fn byte(value: &Value) -> Result<u8, Wrong> {
    match value {
        Value::Null => Ok(0),
        Value::Number(n) => {
            let byte = n.as_u64().and_then(|n| u8::try_from(n).ok());
            byte.ok_or_else(|| Wrong::TypeFor(format!("number {n}"), "uint8"))
        }
        other => Err(Wrong::TypeFor(go::json_type(other).to_owned(), "uint8")),
    }
}

fn time(value: &mut Value, write: fn(Time) -> String, layout: &str) -> Result<(), Wrong> {
    let Value::String(text) = &*value else {
        return Err(Wrong::TypeFor(go::json_type(value).to_owned(), "string"));
    };
    let has_micros = layout.contains(".000000");
    let is_apart = text.as_bytes().get(10) == Some(&b'T') && (!has_micros || is_micros(text));
    let parsed = if is_apart { Time::parse(text) } else { None };
    match parsed {
        Some(t) => {
            let canonical = write(t);
            if canonical != *text {
                *value = Value::String(canonical);
            }
            Ok(())
        }
        None => Err(Wrong::Form(super::time::refusal(text, layout, has_micros))),
    }
}

/// Whether a time has exactly six digits of its second's fraction, which Go demands where a layout has them.
fn is_micros(text: &str) -> bool {
    let fraction = text.as_bytes().get(19..).unwrap_or_default();
    let digits = fraction.iter().skip(1).take_while(|b| b.is_ascii_digit()).count();
    fraction.first().is_some_and(|b| matches!(b, b'.' | b',')) && digits == 6
}

fn quantity(value: &mut Value) -> Result<(), Wrong> {
    let text = match &*value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match Quantity::parse(text.trim()) {
        Ok(q) => {
            let canonical = q.to_string();
            if value.as_str() != Some(&canonical) {
                *value = Value::String(canonical);
            }
            Ok(())
        }
        Err(e) => Err(Wrong::Form(e.to_string())),
    }
}

fn int_or_string(value: &Value) -> Result<(), Wrong> {
    match value {
        Value::String(_) => Ok(()),
        Value::Number(n) if fits_i32(n) => Ok(()),
        Value::Number(n) => Err(Wrong::TypeFor(format!("number {n}"), "int32")),
        other => Err(Wrong::TypeFor(go::json_type(other).to_owned(), "int32")),
    }
}

fn fits_i32(n: &Number) -> bool {
    n.as_i64().is_some_and(|v| i32::try_from(v).is_ok())
}
