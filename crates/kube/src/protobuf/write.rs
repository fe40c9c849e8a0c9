//! From JSON values to messages. Absent fields are not written: to a reader they are Go's zero values.

use super::table::{Element, Field, Id, Label, Table};
use super::wire::{Type, put_bytes, put_int, put_tag, put_varint};
use super::{DEPTH_MAX, Error, Result, special};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Writes a field whose length is known only once it is written.
pub(super) fn delimited(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    put_tag(out, number, Type::Bytes);
    let at = out.len();
    // Most messages are shorter than 128 bytes: their length takes one byte. Longer ones are moved on.
    out.push(0);
    write(out)?;
    let len = out.len() - at - 1;
    if len < 0x80 {
        out[at] = len as u8;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, len as u64);
    let more = prefix.len() - 1;
    out.resize(out.len() + more, 0);
    out.copy_within(at + 1..at + 1 + len, at + 1 + more);
    out[at..=at + more].copy_from_slice(&prefix);
    Ok(())
}

/// Writes a message's fields from an object, or from the list that stands for it.
pub(super) fn object(out: &mut Vec<u8>, value: &Value, id: Id, table: &Table, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(Error::Malformed("objects nest too deep"));
    }
    match value {
        Value::Object(map) => fields(out, map, id, table, depth),
        Value::Array(list) if table.message(id).is_list => {
            table.fields(id).first().map_or(Ok(()), |field| repeated(out, field, list, table, depth))
        }
        // In a list or map, Go reads null as the zero value.
        Value::Null => Ok(()),
        _ => Err(Error::Mistyped { field: "a message", expected: "object" }),
    }
}

fn fields(out: &mut Vec<u8>, map: &Map<String, Value>, id: Id, table: &Table, depth: usize) -> Result<()> {
    for field in table.fields(id) {
        if let (Label::Embedded, Element::Message(inner)) = (field.label, field.element) {
            let start = out.len();
            delimited(out, field.number, |out| fields(out, map, inner, table, depth + 1))?;
            if out.last() == Some(&0) && out.len() == start + tag_len(field.number) + 1 {
                out.truncate(start);
            }
            continue;
        }
        match (field.label, map.get(field.name)) {
            (_, None | Some(Value::Null)) => {}
            (Label::Repeated, Some(Value::Array(list))) => repeated(out, field, list, table, depth)?,
            (Label::Map, Some(Value::Object(entries))) => {
                for (key, value) in entries {
                    delimited(out, field.number, |out| {
                        put_bytes(out, 1, key.as_bytes());
                        element(out, 2, field, value, table, depth)
                    })?;
                }
            }
            (Label::Repeated, Some(_)) => return Err(mistyped(field, "list")),
            (Label::Map, Some(_)) => return Err(mistyped(field, "object")),
            (_, Some(value)) => element(out, field.number, field, value, table, depth)?,
        }
    }
    Ok(())
}

fn tag_len(number: u32) -> usize {
    if number < 16 { 1 } else { 2 }
}

fn mistyped(field: &Field, expected: &'static str) -> Error {
    Error::Mistyped { field: field.name, expected }
}

fn repeated(out: &mut Vec<u8>, field: &Field, list: &[Value], table: &Table, depth: usize) -> Result<()> {
    list.iter().try_for_each(|value| element(out, field.number, field, value, table, depth))
}

fn element(
    out: &mut Vec<u8>,
    number: u32,
    field: &Field,
    value: &Value,
    table: &Table,
    depth: usize,
) -> Result<()> {
    match field.element {
        Element::Text => {
            let text = if value.is_null() { Some("") } else { value.as_str() };
            put_bytes(out, number, text.ok_or_else(|| mistyped(field, "text"))?.as_bytes());
        }
        Element::Bytes => {
            let text = if value.is_null() { Some("") } else { value.as_str() };
            let bytes = text.and_then(|t| STANDARD.decode(t).ok());
            put_bytes(out, number, &bytes.ok_or_else(|| mistyped(field, "base64"))?);
        }
        Element::Bool => {
            put_int(out, number, i64::from(value.as_bool().ok_or_else(|| mistyped(field, "boolean"))?));
        }
        Element::Int32 | Element::Int64 => {
            put_int(out, number, int(value).ok_or_else(|| mistyped(field, "whole number"))?);
        }
        Element::Double => {
            let n = value.as_f64().ok_or_else(|| mistyped(field, "number"))?;
            put_tag(out, number, Type::Fixed64);
            out.extend_from_slice(&n.to_le_bytes());
        }
        Element::Message(id) => delimited(out, number, |out| object(out, value, id, table, depth + 1))?,
        kind => {
            delimited(out, number, |out| special::write(out, kind, value, field.name, table, depth + 1))?;
        }
    }
    Ok(())
}

/// A whole number, also as `1.0` or `1e3`.
fn int(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let n = value.as_f64()?;
        (n.fract() == 0.0 && n.abs() < 9e15).then_some(n as i64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_any_size_stands_before_its_field() {
        for len in [0usize, 1, 127, 128, 300, 16_383, 16_384, 3_000_000] {
            let mut out = vec![7];
            delimited(&mut out, 2, |out| {
                out.resize(out.len() + len, b'x');
                Ok(())
            })
            .unwrap();
            let mut want = vec![7, 0x12];
            put_varint(&mut want, len as u64);
            want.resize(want.len() + len, b'x');
            assert!(out == want, "{len}");
        }
    }
}
