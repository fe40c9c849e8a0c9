//! Objects as `kubectl get` prints them, and their metadata alone.

use crate::negotiate::Include;
use bytes::Bytes;
use serde_json::{Value, json};
use stoa_kube::{Resource, table};
use stoa_units::Time;

/// The column definitions of a resource.
pub(crate) fn columns(resource: &Resource) -> Value {
    let columns = table::columns(resource).iter().map(|c| {
        json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description,
            "priority": c.priority})
    });
    Value::Array(columns.collect())
}

/// One object as a row.
pub(crate) fn row(resource: &Resource, bytes: &[u8], include: Include, now: Time) -> Value {
    let object: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let cells = table::row(resource, &object, now);
    let shown = match include {
        Include::None => Value::Null,
        Include::Object => object,
        Include::Metadata => partial_of(object),
    };
    // That there is no object is said, too.
    json!({"cells": cells, "object": shown})
}

/// A table with these rows.
pub(crate) fn table(resource: &Resource, revision: &str, rows: Vec<Value>) -> Value {
    let metadata = if revision.is_empty() { json!({}) } else { json!({ "resourceVersion": revision }) };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns(resource), "rows": rows})
}

pub(crate) fn partial_of(mut object: Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take()})
}

/// An object's metadata alone.
pub(crate) fn partial(bytes: &[u8]) -> Bytes {
    let object: Value = serde_json::from_slice(bytes).unwrap_or_default();
    partial_of(object).to_string().into()
}
