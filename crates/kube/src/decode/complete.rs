//! Which fields Go leaves out and which it writes although nobody set them. `resources: {}`, `status: {}` and
//! `lastProbeTime: null` come from here.

use crate::schema::{Field, Kind, Omit, Type};
use serde_json::{Map, Value};

/// The value that Go gives a place which was never set.
pub(super) fn zero(kind: Kind<'_>) -> Value {
    match kind {
        Kind::Any
        | Kind::Open
        | Kind::Time
        | Kind::MicroTime
        | Kind::List(_)
        | Kind::Map(_)
        | Kind::Bytes => Value::Null,
        Kind::Bool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::IntOrString => Value::from(0),
        Kind::Double => Value::from(0),
        Kind::Text => Value::from(""),
        Kind::Quantity => Value::from("0"),
        Kind::Struct(ty) => {
            let mut map = Map::new();
            fill(&mut map, ty);
            Value::Object(map)
        }
    }
}

/// Lists that are refused when they are empty, and get a default when nothing is said: what is refused is never written.
const JUDGED_EMPTY: [&str; 1] = ["[]v2.HPAScalingPolicy"];

/// Whether Go's encoder leaves this value out.
pub(super) fn is_left_out(value: &Value, field: Field<'_>) -> bool {
    if field.omit() == Omit::Never || field.is_pointer() {
        return false;
    }
    match value {
        Value::Bool(b) => !b,
        Value::Number(n) => {
            matches!(field.kind(), Kind::Int32 | Kind::Int64 | Kind::Double) && n.as_f64() == Some(0.0)
        }
        Value::String(s) => s.is_empty() && matches!(field.kind(), Kind::Text | Kind::Bytes),
        Value::Array(list) => list.is_empty() && !JUDGED_EMPTY.contains(&field.go_type()),
        Value::Object(map) => map.is_empty() && matches!(field.kind(), Kind::Map(_)),
        Value::Null => true,
    }
}

/// Whether a stock server's storage makes none of it, for Go to write as null: its binary form knows no empty list.
pub(super) fn is_forgotten(value: &Value, field: Field<'_>) -> bool {
    let is_empty = match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty() && matches!(field.kind(), Kind::Map(_)),
        _ => false,
    };
    is_empty && field.omit() == Omit::Never && field.is_written_unset() && !field.is_pointer()
}

/// Adds the fields that Go writes in any case.
pub(super) fn fill(map: &mut Map<String, Value>, ty: Type<'_>) {
    if !ty.writes_unset() {
        return;
    }
    for field in ty.fields() {
        if field.is_written_unset() && !map.contains_key(field.name()) {
            let value = if field.is_pointer() { Value::Null } else { zero(field.kind()) };
            map.insert(field.name().to_owned(), value);
        }
    }
}
