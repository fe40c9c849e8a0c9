//! Messages whose JSON form is not an object of their fields: quantities, times, numbers-or-texts, JSON text, and JSON schemas
//! that may be something else.

use super::table::{Element, Table};
use super::wire::{Reader, Scalar, put_bytes, put_int};
use super::{DEPTH_MAX, Error, MAGIC, Result, decode_within, read, write};
use serde_json::Value;
use stoa_units::Time;

fn each<'a>(bytes: &'a [u8], mut see: impl FnMut(u32, Scalar<'a>) -> Result<()>) -> Result<()> {
    let mut reader = Reader(bytes);
    while let Some((number, scalar)) = reader.field()? {
        see(number, scalar)?;
    }
    Ok(())
}

/// The JSON form.
pub(super) fn read(kind: Element, bytes: &[u8], table: &Table, depth: usize) -> Result<Value> {
    match kind {
        Element::Quantity => {
            let mut text = "0";
            each(bytes, |number, scalar| {
                if number == 1 {
                    text = scalar.text()?;
                }
                Ok(())
            })?;
            Ok(text.into())
        }
        Element::IntOrString => int_or_string(bytes),
        Element::Duration => {
            let mut nanos = 0;
            each(bytes, |number, scalar| {
                if number == 1 {
                    nanos = scalar.int()?;
                }
                Ok(())
            })?;
            Ok(duration_text(nanos).into())
        }
        Element::Time => Ok(time(bytes)?.map_or(Value::Null, |t| t.to_rfc3339_seconds().into())),
        Element::MicroTime => Ok(time(bytes)?.map_or(Value::Null, |t| t.to_rfc3339_micros().into())),
        Element::Json => json(bytes, depth),
        _ => schema_or(kind, bytes, table, depth),
    }
}

const NANOS: i64 = 1_000_000_000;

/// A duration as Go writes it, of whole seconds or with a fraction of nine digits at most: `1h2m3.5s`.
fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (seconds, rest) = (nanos / NANOS.unsigned_abs(), nanos % NANOS.unsigned_abs());
    let fraction = format!(".{rest:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}{fraction}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}{fraction}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// The nanoseconds of a duration in hours, minutes and seconds.
fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut sum = 0_i64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit = match tail.as_bytes().first()? {
            b'h' => 3600 * NANOS,
            b'm' => 60 * NANOS,
            b's' => NANOS,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let part: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        sum = sum.checked_add(whole.parse::<i64>().ok()?.checked_mul(unit)?)?;
        sum =
            sum.checked_add(i64::try_from(i128::from(part) * i128::from(unit) / i128::from(NANOS)).ok()?)?;
        rest = tail.get(1..)?;
    }
    (!text.is_empty()).then_some(sign * sum)
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut kind, mut number, mut word) = (0, 0, "");
    each(bytes, |field, scalar| {
        match field {
            1 => kind = scalar.int()?,
            2 => number = scalar.int()? as i32,
            3 => word = scalar.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(if kind == 0 { number.into() } else { word.into() })
}

/// Go's zero time is an empty message.
fn time(bytes: &[u8]) -> Result<Option<Time>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    each(bytes, |field, scalar| {
        match field {
            1 => seconds = scalar.int()?,
            2 => nanos = scalar.int()? as i32,
            _ => {}
        }
        Ok(())
    })?;
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|_| Error::Malformed("a time is out of range"))?;
    Ok(Some(Time(at)))
}

fn json(bytes: &[u8], depth: usize) -> Result<Value> {
    let mut raw = &[][..];
    each(bytes, |field, scalar| {
        if field == 1 {
            raw = scalar.bytes()?;
        }
        Ok(())
    })?;
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if raw.starts_with(MAGIC) {
        if depth >= DEPTH_MAX {
            return Err(Error::Malformed("messages nest too deep"));
        }
        return decode_within(raw, depth + 1);
    }
    let parsed = crate::decode::parse(raw);
    parsed.map(|p| p.value).map_err(|_| Error::Malformed("embedded JSON cannot be read"))
}

fn schema_or(kind: Element, bytes: &[u8], table: &Table, depth: usize) -> Result<Value> {
    let Some(id) = table.json_schema else { return Ok(Value::Null) };
    let (mut schema, mut allows, mut list) = (None, false, Vec::new());
    each(bytes, |field, scalar| {
        match (kind, field) {
            (Element::SchemaOrBool, 1) => allows = scalar.int()? != 0,
            (Element::SchemaOrBool, 2) | (_, 1) => {
                schema = Some(read::message(scalar.bytes()?, id, table, depth)?);
            }
            (Element::SchemaOrArray, 2) => list.push(read::message(scalar.bytes()?, id, table, depth)?),
            (Element::SchemaOrTexts, 2) => list.push(scalar.text()?.into()),
            _ => {}
        }
        Ok(())
    })?;
    Ok(match (schema, kind) {
        (Some(schema), _) => schema,
        (None, Element::SchemaOrBool) => allows.into(),
        (None, _) if list.is_empty() => Value::Null,
        (None, _) => list.into(),
    })
}

/// Writes the fields of the message that stands for a JSON value.
pub(super) fn write(
    out: &mut Vec<u8>,
    kind: Element,
    value: &Value,
    name: &'static str,
    table: &Table,
    depth: usize,
) -> Result<()> {
    let mistyped = |expected| Error::Mistyped { field: name, expected };
    match (kind, value) {
        (Element::Quantity, Value::String(text)) => put_bytes(out, 1, text.as_bytes()),
        (Element::Quantity, Value::Number(n)) => put_bytes(out, 1, n.to_string().as_bytes()),
        (Element::Quantity, _) => return Err(mistyped("quantity")),
        (Element::IntOrString, value) => {
            let (kind, number, word) = match value {
                Value::String(word) => (1, 0, word.as_str()),
                Value::Number(n) => (0, n.as_i64().ok_or_else(|| mistyped("whole number"))?, ""),
                _ => return Err(mistyped("number or text")),
            };
            put_int(out, 1, kind);
            put_int(out, 2, number);
            put_bytes(out, 3, word.as_bytes());
        }
        (Element::Duration, value) => {
            let nanos = value.as_str().and_then(parse_duration).ok_or_else(|| mistyped("duration"))?;
            put_int(out, 1, nanos);
        }
        (Element::Time | Element::MicroTime, value) => {
            let at = value.as_str().and_then(Time::parse).ok_or_else(|| mistyped("time"))?;
            let nanos = at.0.as_nanosecond();
            // Both are written even when zero: an empty message is no time at all.
            put_int(out, 1, nanos.div_euclid(1_000_000_000) as i64);
            let rest = nanos.rem_euclid(1_000_000_000) as i64;
            put_int(out, 2, if kind == Element::Time { 0 } else { rest / 1000 * 1000 });
        }
        (Element::Json, value) => put_bytes(out, 1, value.to_string().as_bytes()),
        (kind, value) => return write_schema_or(out, kind, value, name, table, depth),
    }
    Ok(())
}

fn write_schema_or(
    out: &mut Vec<u8>,
    kind: Element,
    value: &Value,
    name: &'static str,
    table: &Table,
    depth: usize,
) -> Result<()> {
    let mistyped = || Error::Mistyped { field: name, expected: "JSON schema" };
    let id = table.json_schema.ok_or_else(mistyped)?;
    match (kind, value) {
        (Element::SchemaOrBool, Value::Bool(allows)) => put_int(out, 1, i64::from(*allows)),
        (Element::SchemaOrBool, Value::Object(_)) => {
            put_int(out, 1, 1);
            write::delimited(out, 2, |out| write::object(out, value, id, table, depth))?;
        }
        (Element::SchemaOrArray | Element::SchemaOrTexts, Value::Object(_)) => {
            write::delimited(out, 1, |out| write::object(out, value, id, table, depth))?;
        }
        (Element::SchemaOrArray, Value::Array(list)) => {
            for one in list {
                write::delimited(out, 2, |out| write::object(out, one, id, table, depth))?;
            }
        }
        (Element::SchemaOrTexts, Value::Array(list)) => {
            for one in list {
                put_bytes(out, 2, one.as_str().ok_or_else(mistyped)?.as_bytes());
            }
        }
        _ => return Err(mistyped()),
    }
    Ok(())
}
