//! The documents in protobuf, as gnostic lays them out: JSON objects become messages by a table, maps become lists of pairs with a
//! name, and what begins with `x-`, like every value of no fixed shape, becomes YAML text (JSON is that, too).

#[cfg(test)]
mod tests;
pub(super) mod v2;
pub(super) mod v3;

use crate::protobuf::wire::{Type, put_bytes, put_int, put_tag};
use serde_json::{Map, Value};

/// How a JSON value becomes a message.
pub(super) enum Message {
    /// An object whose members are fields; the number is that of the field for what begins with `x-`, zero if there is none.
    Fields(&'static [(&'static str, u32, Shape)], u32),
    /// An object of any keys: a repeated field of pairs, of which the number is given, and another for what begins with `x-`.
    Pairs(u32, Shape, u32),
    /// One of several fields: which one, the value itself says; or none.
    OneOf(fn(&Value) -> Option<(u32, Shape)>),
    /// A repeated field of one number, from a value or a list of values.
    Repeated(u32, Shape),
}

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Bool,
    Int,
    Number,
    /// Any value, as YAML.
    Any,
    Of(&'static Message),
    /// A repeated field.
    Each(&'static Shape),
}

/// How one of a document's two large maps is written: the number of its field, that of its pairs, and what they hold.
pub(super) struct Entries {
    pub(super) map: u32,
    pub(super) pair: u32,
    pub(super) shape: Shape,
}

const YAML_FIELD: u32 = 2;
const NAME_FIELD: u32 = 1;
const VALUE_FIELD: u32 = 2;

/// A value as the bytes of a message.
pub(super) fn encode(message: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match (message, value) {
        (Message::Fields(fields, extension), Value::Object(map)) => {
            for (key, number, shape) in *fields {
                if let Some(value) = map.get(*key) {
                    put(&mut out, *number, *shape, value);
                }
            }
            put_extensions(&mut out, *extension, map);
        }
        (Message::Pairs(number, shape, extension), Value::Object(map)) => {
            for (key, value) in map.iter().filter(|(k, _)| *extension == 0 || !k.starts_with("x-")) {
                put_bytes(&mut out, *number, &pair(key, *shape, value));
            }
            put_extensions(&mut out, *extension, map);
        }
        (Message::OneOf(choose), value) => {
            if let Some((number, shape)) = choose(value) {
                put_chosen(&mut out, number, shape, value);
            }
        }
        (Message::Repeated(number, shape), Value::Array(list)) => {
            list.iter().for_each(|item| put_chosen(&mut out, *number, *shape, item));
        }
        (Message::Repeated(number, shape), value) => put_chosen(&mut out, *number, *shape, value),
        // No document of ours has a scalar where an object belongs: a test decodes them all.
        (Message::Fields(..) | Message::Pairs(..), _) => {}
    }
    out
}

/// A pair of a name and a value.
pub(super) fn pair(name: &str, shape: Shape, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, NAME_FIELD, name.as_bytes());
    put_chosen(&mut out, VALUE_FIELD, shape, value);
    out
}

fn put_extensions(out: &mut Vec<u8>, number: u32, map: &Map<String, Value>) {
    for (key, value) in map.iter().filter(|(k, _)| number != 0 && k.starts_with("x-")) {
        put_bytes(out, number, &pair(key, Shape::Any, value));
    }
}

/// A field outside of any choice: what is empty is left out.
fn put(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Value) {
    match (shape, value) {
        (Shape::Each(shape), Value::Array(list)) => {
            list.iter().for_each(|item| put_chosen(out, number, *shape, item));
        }
        (Shape::Bool, Value::Bool(false)) => {}
        (Shape::Text, Value::String(text)) if text.is_empty() => {}
        (Shape::Int | Shape::Number, Value::Number(n)) if n.as_f64() == Some(0.0) => {}
        _ => put_chosen(out, number, shape, value),
    }
}

/// A field that is there, whatever it holds.
fn put_chosen(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Value) {
    match shape {
        Shape::Text => put_bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Shape::Bool => put_int(out, number, i64::from(value.as_bool().unwrap_or_default())),
        Shape::Int => put_int(out, number, value.as_i64().unwrap_or_default()),
        Shape::Number => {
            put_tag(out, number, Type::Fixed64);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        Shape::Any => {
            let mut any = Vec::new();
            put_bytes(&mut any, YAML_FIELD, format!("{value}\n").as_bytes());
            put_bytes(out, number, &any);
        }
        Shape::Of(message) => put_bytes(out, number, &encode(message, value)),
        Shape::Each(shape) => put(out, number, Shape::Each(shape), value),
    }
}
