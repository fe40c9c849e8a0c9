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
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty() && matches!(field.kind(), Kind::Map(_)),
        Value::Null => true,
    }
}

/// Adds the fields that Go writes in any case.
pub(super) fn fill(map: &mut Map<String, Value>, ty: Type<'_>) {
    for field in ty.fields() {
        if is_written_unset(field) && !map.contains_key(field.name()) {
            let value = if field.is_pointer() { Value::Null } else { zero(field.kind()) };
            map.insert(field.name().to_owned(), value);
        }
    }
}

fn is_written_unset(field: Field<'_>) -> bool {
    match field.omit() {
        // A schema that came from no Go type (a custom resource's) writes nothing by itself.
        _ if field.go_type().is_empty() => false,
        Omit::Never => true,
        Omit::Zero => false,
        // A struct is never empty to Go's encoder.
        Omit::Empty => {
            !field.is_pointer()
                && matches!(
                    field.kind(),
                    Kind::Struct(_)
                        | Kind::Time
                        | Kind::MicroTime
                        | Kind::Quantity
                        | Kind::IntOrString
                        | Kind::Open
                )
        }
    }
}
