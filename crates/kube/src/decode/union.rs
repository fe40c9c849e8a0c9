//! Schemas within the schemas of custom resources that may be something else as well: a boolean, a list. Go reads each of these
//! by itself, as if it were a body of its own.

use super::{DecodeError, Pass};
use crate::go;
use crate::schema::{self, Type};
use serde_json::Value;

/// Reads what stands in a field of one of those types; another type is none of this module's business. What Go reads as nothing
/// becomes null.
pub(super) fn read(value: &mut Value, go_type: &str) -> Result<(), DecodeError> {
    let Some(ty) = schema::builtin().named("apiextensions.v1.JSONSchemaProps") else { return Ok(()) };
    match go_type.trim_start_matches('*') {
        "v1.JSONSchemaPropsOrBool" => match value {
            Value::Bool(_) => Ok(()),
            Value::Object(_) => one(value, ty),
            _ => Err(DecodeError::Type("boolean or JSON schema expected".to_owned())),
        },
        "v1.JSONSchemaPropsOrArray" => match value {
            Value::Object(_) => one(value, ty),
            Value::Array(list) => list.iter_mut().try_for_each(|v| one(v, ty)),
            other => {
                *other = Value::Null;
                Ok(())
            }
        },
        _ => Ok(()),
    }
}

/// What is not known in it is dropped without a word.
fn one(value: &mut Value, ty: Type<'_>) -> Result<(), DecodeError> {
    match value {
        Value::Object(map) => Pass::default().structure(map, ty),
        Value::Null => {
            *value = Value::Object(Default::default());
            Ok(())
        }
        other => {
            let text = format!(
                "json: cannot unmarshal {} into Go value of type {}",
                go::json_type(other),
                super::go_name(ty)
            );
            Err(DecodeError::Type(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_within_a_schema_is_read_by_itself() {
        let read = |v: Value, go_type: &str| {
            let mut v = v;
            read(&mut v, go_type).map(|()| v).map_err(|e| e.to_string())
        };
        let (or_bool, or_array) = ("*v1.JSONSchemaPropsOrBool", "*v1.JSONSchemaPropsOrArray");
        assert_eq!(read(json!("x"), or_bool), Err("boolean or JSON schema expected".to_owned()));
        assert_eq!(read(json!(true), or_bool), Ok(json!(true)));
        assert_eq!(read(json!({"type": "string", "no": 1}), or_bool), Ok(json!({"type": "string"})));
        assert_eq!(read(json!(1), or_array), Ok(Value::Null));
        assert_eq!(read(json!([{"no": 1}, null]), or_array), Ok(json!([{}, {}])));
        let why = "json: cannot unmarshal string into Go value of type v1.JSONSchemaProps";
        assert_eq!(read(json!(["x"]), or_array), Err(why.to_owned()));
        assert_eq!(
            read(json!({"items": {"type": 1}}), or_array),
            Err("json: cannot unmarshal number into Go struct field JSONSchemaProps.type of type string"
                .to_owned())
        );
    }
}
