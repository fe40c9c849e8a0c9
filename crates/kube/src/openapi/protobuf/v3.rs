//! The messages of an OpenAPI v3 document, as far as our documents have them.

use super::Message::{Fields, OneOf, Pairs, Repeated};
use super::Shape::{Any, Bool, Each, Int, Number, Of, Text};
use super::{Entries, Message, Shape};
use serde_json::Value;

pub(in crate::openapi) static DOCUMENT: Message = Fields(
    &[
        ("openapi", 1, Text),
        ("info", 2, Of(&INFO)),
        ("paths", 4, Of(&PATHS)),
        ("components", 5, Of(&COMPONENTS)),
        ("security", 6, Each(&Of(&SECURITY_REQUIREMENT))),
    ],
    9,
);
static INFO: Message = Fields(&[("title", 1, Text), ("description", 2, Text), ("version", 6, Text)], 7);
static PATHS: Message = Pairs(1, Of(&PATH_ITEM), 2);
pub(in crate::openapi) static COMPONENTS: Message =
    Fields(&[("schemas", 1, Of(&SCHEMAS)), ("securitySchemes", 7, Of(&SECURITY_SCHEMES))], 10);
static SCHEMAS: Message = Pairs(1, Of(&SCHEMA_OR_REFERENCE), 0);
static SECURITY_SCHEMES: Message = Pairs(1, Of(&SECURITY_SCHEME_OR_REFERENCE), 0);
static SECURITY_SCHEME_OR_REFERENCE: Message = OneOf(|value| reference_or(value, Of(&SECURITY_SCHEME)));
static SECURITY_SCHEME: Message = Fields(
    &[("type", 1, Text), ("description", 2, Text), ("name", 3, Text), ("in", 4, Text), ("scheme", 5, Text)],
    9,
);
static SECURITY_REQUIREMENT: Message = Pairs(1, Of(&TEXTS), 0);
static TEXTS: Message = Repeated(1, Text);
static PATH_ITEM: Message = Fields(
    &[
        ("$ref", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("get", 4, Of(&OPERATION)),
        ("put", 5, Of(&OPERATION)),
        ("post", 6, Of(&OPERATION)),
        ("delete", 7, Of(&OPERATION)),
        ("options", 8, Of(&OPERATION)),
        ("head", 9, Of(&OPERATION)),
        ("patch", 10, Of(&OPERATION)),
        ("trace", 11, Of(&OPERATION)),
        ("parameters", 13, Each(&Of(&PARAMETER_OR_REFERENCE))),
    ],
    14,
);
static OPERATION: Message = Fields(
    &[
        ("tags", 1, Each(&Text)),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("parameters", 6, Each(&Of(&PARAMETER_OR_REFERENCE))),
        ("requestBody", 7, Of(&REQUEST_BODY_OR_REFERENCE)),
        ("responses", 8, Of(&RESPONSES)),
        ("deprecated", 10, Bool),
        ("security", 11, Each(&Of(&SECURITY_REQUIREMENT))),
    ],
    13,
);
static PARAMETER_OR_REFERENCE: Message = OneOf(|value| reference_or(value, Of(&PARAMETER)));
static PARAMETER: Message = Fields(
    &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Bool),
        ("schema", 10, Of(&SCHEMA_OR_REFERENCE)),
    ],
    14,
);
static REQUEST_BODY_OR_REFERENCE: Message = OneOf(|value| reference_or(value, Of(&REQUEST_BODY)));
static REQUEST_BODY: Message =
    Fields(&[("description", 1, Text), ("content", 2, Of(&MEDIA_TYPES)), ("required", 3, Bool)], 4);
static MEDIA_TYPES: Message = Pairs(1, Of(&MEDIA_TYPE), 0);
static MEDIA_TYPE: Message = Fields(&[("schema", 1, Of(&SCHEMA_OR_REFERENCE)), ("example", 2, Any)], 5);
/// A default response would be a field of its own: none of our operations has one.
static RESPONSES: Message = Pairs(2, Of(&RESPONSE_OR_REFERENCE), 3);
static RESPONSE_OR_REFERENCE: Message = OneOf(|value| reference_or(value, Of(&RESPONSE)));
static RESPONSE: Message = Fields(&[("description", 1, Text), ("content", 3, Of(&MEDIA_TYPES))], 5);
static REFERENCE: Message = Fields(&[("$ref", 1, Text), ("summary", 2, Text), ("description", 3, Text)], 0);
static SCHEMA_OR_REFERENCE: Message = OneOf(|value| reference_or(value, Of(&PLAIN_SCHEMA)));
static PLAIN_SCHEMA: Message = Fields(
    &[
        ("nullable", 1, Bool),
        ("readOnly", 3, Bool),
        ("example", 7, Any),
        ("deprecated", 8, Bool),
        ("title", 9, Text),
        ("maximum", 11, Number),
        ("minimum", 13, Number),
        ("maxLength", 15, Int),
        ("minLength", 16, Int),
        ("pattern", 17, Text),
        ("maxItems", 18, Int),
        ("minItems", 19, Int),
        ("uniqueItems", 20, Bool),
        ("required", 23, Each(&Text)),
        ("enum", 24, Each(&Any)),
        ("type", 25, Text),
        ("allOf", 26, Each(&Of(&SCHEMA_OR_REFERENCE))),
        ("oneOf", 27, Each(&Of(&SCHEMA_OR_REFERENCE))),
        ("anyOf", 28, Each(&Of(&SCHEMA_OR_REFERENCE))),
        ("items", 30, Of(&ITEMS)),
        ("properties", 31, Of(&SCHEMAS)),
        ("additionalProperties", 32, Of(&ADDITIONAL)),
        ("default", 33, Of(&DEFAULT)),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    36,
);
static ITEMS: Message = Repeated(1, Of(&SCHEMA_OR_REFERENCE));
static ADDITIONAL: Message =
    OneOf(|value| Some(if value.is_boolean() { (2, Bool) } else { (1, Of(&SCHEMA_OR_REFERENCE)) }));
/// Scalars only: of any other default nothing remains but that there is one.
static DEFAULT: Message = OneOf(|value| match value {
    Value::Number(_) => Some((1, Number)),
    Value::Bool(_) => Some((2, Bool)),
    Value::String(_) => Some((3, Text)),
    _ => None,
});

fn reference_or(value: &Value, shape: Shape) -> Option<(u32, Shape)> {
    Some(if value.get("$ref").is_some() { (2, Of(&REFERENCE)) } else { (1, shape) })
}

/// A field of the document.
pub(in crate::openapi) const PATH: Entries = Entries { map: 4, pair: 1, shape: Of(&PATH_ITEM) };
/// Another.
pub(in crate::openapi) const COMPONENTS_FIELD: u32 = 5;
/// A field of the components.
pub(in crate::openapi) const SCHEMA: Entries = Entries { map: 1, pair: 1, shape: Of(&SCHEMA_OR_REFERENCE) };
