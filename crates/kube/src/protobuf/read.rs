//! From messages to JSON values.

use super::table::{Element, Field, Id, Label, Table, Zero};
use super::wire::{Reader, Scalar};
use super::{DEPTH_MAX, Error, Result, special};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// A message as JSON: an object, or the list that stands for it.
pub(super) fn message(bytes: &[u8], id: Id, table: &Table, depth: usize) -> Result<Value> {
    let mut out = Map::new();
    fill(&mut out, bytes, id, table, depth)?;
    if table.message(id).is_list {
        let only = out.into_iter().next().map(|(_, list)| list);
        return Ok(only.unwrap_or_else(|| Value::Array(Vec::new())));
    }
    Ok(Value::Object(out))
}

/// Reads a message's fields into an object.
pub(super) fn fill(
    out: &mut Map<String, Value>,
    bytes: &[u8],
    id: Id,
    table: &Table,
    depth: usize,
) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::Malformed("messages nest too deep"));
    }
    let mut reader = Reader(bytes);
    while let Some((number, scalar)) = reader.field()? {
        // Newer clients may know more fields than we do; like a stock server we let them be.
        let Some(field) = table.field(id, number) else { continue };
        match (field.label, field.element) {
            (Label::Embedded, Element::Message(inner)) => {
                fill(out, scalar.bytes()?, inner, table, depth + 1)?;
            }
            (Label::Embedded | Label::One, kind) => {
                let value = element(kind, scalar, table, depth)?;
                if is_left_out(field, &value) {
                    // The last one counts.
                    out.remove(field.name);
                } else {
                    out.insert(field.name.into(), value);
                }
            }
            (Label::Repeated, kind) => {
                let list = out.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(list) = list else { return Err(Error::Malformed("a list is no list")) };
                push(list, kind, scalar, table, depth)?;
            }
            (Label::Map, kind) => {
                let (key, value) = entry(scalar.bytes()?, kind, table, depth)?;
                let map = out.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(map) = map else { return Err(Error::Malformed("a map is no map")) };
                map.insert(key, value);
            }
        }
    }
    Ok(())
}

/// Whether Go's JSON has no such field.
fn is_left_out(field: &Field, value: &Value) -> bool {
    if field.zero == Zero::Kept {
        return false;
    }
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        // A quantity or number-or-text is a struct to Go, and a number-or-text reads as a number here.
        Value::Number(n) => n.as_f64() == Some(0.0) && field.element != Element::IntOrString,
        Value::Object(map) => field.zero == Zero::DroppedWhole && map.is_empty(),
    }
}

/// Adds one element, or several that are packed into one field.
fn push(list: &mut Vec<Value>, kind: Element, scalar: Scalar<'_>, table: &Table, depth: usize) -> Result<()> {
    match (kind, scalar) {
        (Element::Int32 | Element::Int64 | Element::Bool, Scalar::Bytes(packed)) => {
            let mut packed = Reader(packed);
            while !packed.0.is_empty() {
                list.push(element(kind, Scalar::Varint(packed.varint()?), table, depth)?);
            }
        }
        (Element::Double, Scalar::Bytes(packed)) => {
            let mut packed = Reader(packed);
            while !packed.0.is_empty() {
                list.push(element(kind, Scalar::Fixed64(packed.fixed64()?), table, depth)?);
            }
        }
        _ => list.push(element(kind, scalar, table, depth)?),
    }
    Ok(())
}

fn entry(bytes: &[u8], kind: Element, table: &Table, depth: usize) -> Result<(String, Value)> {
    let (mut key, mut value) = ("", None);
    let mut reader = Reader(bytes);
    while let Some((number, scalar)) = reader.field()? {
        match number {
            1 => key = scalar.text()?,
            2 => value = Some(element(kind, scalar, table, depth)?),
            _ => {}
        }
    }
    let absent = || match kind {
        Element::Bool | Element::Int32 | Element::Int64 => Scalar::Varint(0),
        Element::Double => Scalar::Fixed64(0),
        _ => Scalar::Bytes(&[]),
    };
    let value = value.map_or_else(|| element(kind, absent(), table, depth), Ok)?;
    Ok((key.to_string(), value))
}

fn element(kind: Element, scalar: Scalar<'_>, table: &Table, depth: usize) -> Result<Value> {
    Ok(match kind {
        Element::Text => scalar.text()?.into(),
        Element::Bytes => STANDARD.encode(scalar.bytes()?).into(),
        Element::Bool => (scalar.int()? != 0).into(),
        Element::Int32 => (scalar.int()? as i32).into(),
        Element::Int64 => scalar.int()?.into(),
        Element::Double => match scalar {
            Scalar::Fixed64(bits) => number(f64::from_bits(bits)),
            _ => return Err(Error::Malformed("a number has the wrong wire type")),
        },
        Element::Message(id) => message(scalar.bytes()?, id, table, depth + 1)?,
        kind => special::read(kind, scalar.bytes()?, table, depth + 1)?,
    })
}

/// A number as Go writes it: a whole one without a fraction. What is no number has no JSON.
fn number(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 1e15 { (n as i64).into() } else { n.into() }
}
