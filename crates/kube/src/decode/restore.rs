//! What Go says of a map that it cannot make an object of. A strategic patch takes this way from the merged map to the object,
//! which speaks in other words than the decoder of JSON does.

use crate::go;
use crate::schema::{Kind, Type};
use serde_json::Value;

/// Why the map is no object of the type, if Go's converter can tell: scalars with a form of their own are left to the decoder.
pub fn restore_error(value: &Value, ty: Type<'_>) -> Option<String> {
    structure(value, ty)
}

fn structure(value: &Value, ty: Type<'_>) -> Option<String> {
    let Value::Object(map) = value else {
        return Some(format!("cannot restore struct from: {}", go_kind(value)));
    };
    map.iter().find_map(|(key, value)| {
        let field = ty.field(key)?;
        part(value, field.kind(), field.go_type())
    })
}

fn part(value: &Value, kind: Kind<'_>, go_type: &str) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let plain = go_type.trim_start_matches('*');
    match (kind, value) {
        (Kind::Struct(ty), _) => structure(value, ty),
        (Kind::List(element), Value::Array(list)) => {
            let inner = plain.strip_prefix("[]").unwrap_or_default();
            list.iter().find_map(|item| part(item, element.kind(), inner))
        }
        (Kind::List(_), _) => Some(format!("cannot restore slice from {}", go_kind(value))),
        (Kind::Map(element), Value::Object(map)) => {
            let inner = plain.split_once(']').map_or("", |(_, inner)| inner);
            map.values().find_map(|item| part(item, element.kind(), inner))
        }
        (Kind::Map(_), _) => Some(format!("cannot restore map from {}", go_kind(value))),
        (Kind::Text, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => None,
        // Go would convert a number into a text of one character, and is kept from it.
        (Kind::Text, Value::Number(n)) if !n.is_f64() => {
            Some(format!("cannot convert {} to {plain}", go_kind(value)))
        }
        (Kind::Text, _) => Some("unrecognized type: string".to_owned()),
        (Kind::Bool, _) => Some("unrecognized type: bool".to_owned()),
        (Kind::Int32 | Kind::Int64, Value::Number(n)) => {
            let is_whole = n.as_f64().is_some_and(|f| f == f.trunc());
            (!is_whole).then(|| format!("cannot convert float64 to {plain}"))
        }
        (Kind::Int32, _) => Some("unrecognized type: int32".to_owned()),
        (Kind::Int64, _) => Some("unrecognized type: int64".to_owned()),
        _ => None,
    }
}

/// What Go calls a value of JSON in memory.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "map",
        Value::Array(_) => "slice",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        other => go::json_type(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;
    use serde_json::json;

    #[test]
    fn what_is_no_object_is_told_as_gos_converter_tells_it() {
        let ty = schema::builtin().type_of_kind("", "v1", "Pod").expect("a pod");
        for (value, want) in [
            (json!({"metadata": 1}), Some("cannot restore struct from: int64")),
            (json!({"metadata": {"labels": ["a"]}}), Some("cannot restore map from slice")),
            (json!({"metadata": {"labels": {"a": 1}}}), Some("cannot convert int64 to string")),
            (json!({"metadata": {"labels": {"a": true}}}), Some("unrecognized type: string")),
            (json!({"metadata": {"finalizers": "a"}}), Some("cannot restore slice from string")),
            (json!({"spec": {"priority": "1"}}), Some("unrecognized type: int32")),
            (json!({"spec": {"priority": 1.5}}), Some("cannot convert float64 to int32")),
            (json!({"spec": {"hostNetwork": 1}}), Some("unrecognized type: bool")),
            (json!({"spec": {"containers": [{"name": {}}]}}), Some("unrecognized type: string")),
            (json!({"spec": {"priority": null, "odd": 1, "containers": [{"name": "c"}]}}), None),
        ] {
            assert_eq!(restore_error(&value, ty).as_deref(), want, "{value}");
        }
    }
}
