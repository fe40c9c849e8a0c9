//! The messages of an OpenAPI v2 document, as far as our documents have them.

use super::Message::{Fields, OneOf, Pairs, Repeated};
use super::Shape::{Any, Bool, Each, Int, Number, Of, Text};
use super::{Entries, Message, Shape};
use serde_json::Value;

pub(in crate::openapi) static DOCUMENT: Message = Fields(
    &[
        ("swagger", 1, Text),
        ("info", 2, Of(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Each(&Text)),
        ("consumes", 6, Each(&Text)),
        ("produces", 7, Each(&Text)),
        ("paths", 8, Of(&PATHS)),
        ("definitions", 9, Of(&SCHEMAS)),
        ("security", 12, Each(&Of(&SECURITY_REQUIREMENT))),
        ("securityDefinitions", 13, Of(&SECURITY_DEFINITIONS)),
    ],
    16,
);
static INFO: Message = Fields(&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], 7);
static PATHS: Message = Pairs(2, Of(&PATH_ITEM), 1);
static SCHEMAS: Message = Pairs(1, Of(&SCHEMA), 0);
static SECURITY_REQUIREMENT: Message = Pairs(1, Of(&TEXTS), 0);
static TEXTS: Message = Repeated(1, Text);
static SECURITY_DEFINITIONS: Message = Pairs(1, Of(&SECURITY_DEFINITION), 0);
static SECURITY_DEFINITION: Message = OneOf(|definition| match definition["type"].as_str() {
    Some("basic") => Some((1, Of(&BASIC))),
    _ => Some((2, Of(&API_KEY))),
});
static BASIC: Message = Fields(&[("type", 1, Text), ("description", 2, Text)], 3);
static API_KEY: Message =
    Fields(&[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)], 5);
static PATH_ITEM: Message = Fields(
    &[
        ("$ref", 1, Text),
        ("get", 2, Of(&OPERATION)),
        ("put", 3, Of(&OPERATION)),
        ("post", 4, Of(&OPERATION)),
        ("delete", 5, Of(&OPERATION)),
        ("options", 6, Of(&OPERATION)),
        ("head", 7, Of(&OPERATION)),
        ("patch", 8, Of(&OPERATION)),
        ("parameters", 9, Each(&Of(&PARAMETERS_ITEM))),
    ],
    10,
);
static OPERATION: Message = Fields(
    &[
        ("tags", 1, Each(&Text)),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Each(&Text)),
        ("consumes", 7, Each(&Text)),
        ("parameters", 8, Each(&Of(&PARAMETERS_ITEM))),
        ("responses", 9, Of(&RESPONSES)),
        ("schemes", 10, Each(&Text)),
        ("deprecated", 11, Bool),
        ("security", 12, Each(&Of(&SECURITY_REQUIREMENT))),
    ],
    13,
);
static PARAMETERS_ITEM: Message = OneOf(|item| reference_or(item, Of(&PARAMETER)));
static PARAMETER: Message = OneOf(|parameter| match parameter["in"].as_str() {
    Some("body") => Some((1, Of(&BODY_PARAMETER))),
    _ => Some((2, Of(&OTHER_PARAMETER))),
});
static BODY_PARAMETER: Message = Fields(
    &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Bool),
        ("schema", 5, Of(&SCHEMA)),
    ],
    6,
);
static OTHER_PARAMETER: Message = OneOf(|parameter| match parameter["in"].as_str() {
    Some("header") => Some((1, Of(&PLAIN_PARAMETER))),
    Some("path") => Some((4, Of(&PLAIN_PARAMETER))),
    _ => Some((3, Of(&QUERY_PARAMETER))),
});
/// In a header or in the path.
static PLAIN_PARAMETER: Message = Fields(
    &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Bool),
        ("enum", 20, Each(&Any)),
    ],
    22,
);
static QUERY_PARAMETER: Message = Fields(
    &[
        ("required", 1, Bool),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Bool),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Bool),
        ("enum", 21, Each(&Any)),
    ],
    23,
);
static RESPONSES: Message = Pairs(1, Of(&RESPONSE_VALUE), 2);
static RESPONSE_VALUE: Message = OneOf(|value| reference_or(value, Of(&RESPONSE)));
static RESPONSE: Message = Fields(&[("description", 1, Text), ("schema", 2, Of(&SCHEMA_ITEM))], 5);
static SCHEMA_ITEM: Message = Repeated(1, Of(&SCHEMA));
static REFERENCE: Message = Fields(&[("$ref", 1, Text), ("description", 2, Text)], 0);
static SCHEMA: Message = Fields(
    &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("maximum", 7, Number),
        ("minimum", 9, Number),
        ("maxLength", 11, Int),
        ("minLength", 12, Int),
        ("pattern", 13, Text),
        ("maxItems", 14, Int),
        ("minItems", 15, Int),
        ("uniqueItems", 16, Bool),
        ("required", 19, Each(&Text)),
        ("enum", 20, Each(&Any)),
        ("additionalProperties", 21, Of(&ADDITIONAL)),
        ("type", 22, Of(&TEXTS)),
        ("items", 23, Of(&SCHEMA_ITEM)),
        ("allOf", 24, Each(&Of(&SCHEMA))),
        ("properties", 25, Of(&SCHEMAS)),
        ("readOnly", 27, Bool),
        ("example", 30, Any),
    ],
    31,
);
static ADDITIONAL: Message =
    OneOf(|value| Some(if value.is_boolean() { (2, Bool) } else { (1, Of(&SCHEMA)) }));

fn reference_or(value: &Value, shape: Shape) -> Option<(u32, Shape)> {
    Some(if value.get("$ref").is_some() { (2, Of(&REFERENCE)) } else { (1, shape) })
}

/// A field of the document.
pub(in crate::openapi) const PATH: Entries = Entries { map: 8, pair: 2, shape: Of(&PATH_ITEM) };
/// Another.
pub(in crate::openapi) const DEFINITION: Entries = Entries { map: 9, pair: 1, shape: Of(&SCHEMA) };
