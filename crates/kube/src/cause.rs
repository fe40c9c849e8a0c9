//! One thing wrong with one field of an object. The texts are the stock server's, because clients and people read them.

use crate::go;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How many are told of one object. Somebody who mends it looks at fewer, and a body of a few megabytes can hold hundreds of thousands.
pub const CAUSES_MAX: usize = 1_000;

/// A field error: becomes a line of a `Status` message and an entry of its `details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// The kind of error in one word: `FieldValueRequired`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is wrong, without the field's path.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path of the field: `spec.containers[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Cause {
    /// A cause from its parts.
    pub fn new(reason: impl Into<String>, field: impl Into<String>, message: impl Into<String>) -> Cause {
        Cause { reason: reason.into(), message: message.into(), field: field.into() }
    }

    fn of(reason: &str, field: impl Into<String>, head: String, detail: &str) -> Cause {
        let message = if detail.is_empty() { head } else { format!("{head}: {detail}") };
        Cause::new(reason, field, message)
    }

    /// A value is needed and absent. `detail` may be empty.
    pub fn required(field: impl Into<String>, detail: &str) -> Cause {
        Cause::of("FieldValueRequired", field, "Required value".to_owned(), detail)
    }

    /// A value is malformed, printed as the server prints it.
    pub fn invalid(field: impl Into<String>, value: impl Into<Value>, detail: &str) -> Cause {
        let head = format!("Invalid value: {}", go::print_value(&value.into()));
        Cause::of("FieldValueInvalid", field, head, detail)
    }

    /// Something is wrong with a field whose value is not shown (rules of a custom resource, secrets).
    pub fn invalid_unshown(field: impl Into<String>, detail: &str) -> Cause {
        Cause::of("FieldValueInvalid", field, "Invalid value".to_owned(), detail)
    }

    /// A value is of the wrong JSON type.
    pub fn type_invalid(field: impl Into<String>, value: impl Into<Value>, detail: &str) -> Cause {
        let head = format!("Invalid value: {}", go::print_value(&value.into()));
        Cause::of("FieldValueTypeInvalid", field, head, detail)
    }

    /// A value is none of the known ones. They are listed in the given order.
    pub fn not_supported(field: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Cause {
        let list: Vec<String> = supported.iter().map(|s| go::quote(s)).collect();
        let head = format!("Unsupported value: {}", go::print_value(&value.into()));
        let detail =
            if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        Cause::of("FieldValueNotSupported", field, head, &detail)
    }

    /// A value that must be unique occurs twice.
    pub fn duplicate(field: impl Into<String>, value: impl Into<Value>) -> Cause {
        Cause::of(
            "FieldValueDuplicate",
            field,
            format!("Duplicate value: {}", go::print_value(&value.into())),
            "",
        )
    }

    /// The field may not be set or changed here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Cause {
        Cause::of("FieldValueForbidden", field, "Forbidden".to_owned(), detail)
    }

    /// A text is longer than allowed, in bytes.
    pub fn too_long(field: impl Into<String>, bytes_max: usize) -> Cause {
        Cause::of(
            "FieldValueTooLong",
            field,
            "Too long".to_owned(),
            &format!("may not be more than {bytes_max} bytes"),
        )
    }

    /// A list or map has more entries than allowed.
    pub fn too_many(field: impl Into<String>, actual: usize, entries_max: usize) -> Cause {
        let unit = if entries_max == 1 { "item" } else { "items" };
        Cause::of(
            "FieldValueTooMany",
            field,
            format!("Too many: {actual}"),
            &format!("must have at most {entries_max} {unit}"),
        )
    }

    /// What the field refers to does not exist.
    pub fn not_found(field: impl Into<String>, value: impl Into<Value>) -> Cause {
        Cause::of("FieldValueNotFound", field, format!("Not found: {}", go::print_value(&value.into())), "")
    }

    /// A field was changed that never may.
    pub fn immutable(field: impl Into<String>, value: impl Into<Value>) -> Cause {
        Cause::invalid(field, value, "field is immutable")
    }

    /// The check itself failed.
    pub fn internal(field: impl Into<String>, detail: &str) -> Cause {
        Cause::of("InternalError", field, "Internal error".to_owned(), detail)
    }
}

impl std::fmt::Display for Cause {
    /// As it stands in a `Status` message: `spec.x: Required value`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_read_as_on_a_stock_server() {
        let cases = [
            (Cause::required("spec.containers", ""), "spec.containers: Required value"),
            (
                Cause::required("metadata.name", "name or generateName is required"),
                "metadata.name: Required value: name or generateName is required",
            ),
            (
                Cause::invalid("a", 70000, "must be between 1 and 65535, inclusive"),
                "a: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (Cause::invalid("l", json!({"a": "b"}), "x"), "l: Invalid value: {\"a\":\"b\"}: x"),
            (
                Cause::not_supported("p", "Sometimes", &["Always", "Never"]),
                "p: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\"",
            ),
            (Cause::duplicate("n", "x"), "n: Duplicate value: \"x\""),
            (Cause::not_found("n", "nope"), "n: Not found: \"nope\""),
            (Cause::too_long("n", 63), "n: Too long: may not be more than 63 bytes"),
            (
                Cause::immutable("s", json!({"a": "\"<"})),
                "s: Invalid value: {\"a\":\"\\\"<\"}: field is immutable",
            ),
            (Cause::invalid_unshown("spec", "x too big"), "spec: Invalid value: x too big"),
        ];
        for (cause, want) in cases {
            assert_eq!(cause.to_string(), want);
        }
    }
}
