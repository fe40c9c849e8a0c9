//! How Go prints and names things, where a message of the stock server shows it.

use serde_json::Value;
pub(crate) use stoa_units::quote;

/// A value as a field error shows it: texts quoted, everything else as compact JSON.
pub(crate) fn print_value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => other.to_string(),
    }
}

/// What Go's decoder calls a JSON value in its type errors.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
