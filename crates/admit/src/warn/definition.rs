//! Formats that schemas of custom resources name and nobody knows: values are not held to them.

use serde_json::Value;
use std::collections::HashSet;

use crate::validate::each_schema;
use crate::value::{at, items, text};

/// Formats of texts, as they are called without their hyphens.
const OF_TEXTS: [&str; 24] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
];
/// Those that came later.
const NAMES: [&str; 2] = ["k8sshortname", "k8slongname"];
const WARNINGS_MAX: usize = 128;

fn is_known(kind: &str, format: &str) -> bool {
    match kind {
        "" | "string" => {
            let plain = format.replace('-', "");
            OF_TEXTS.contains(&&*plain) || NAMES.contains(&&*plain)
        }
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

fn unknown(definition: &Value) -> Vec<&str> {
    let versions: Vec<&Value> = items(at(definition, "spec"), "versions").map(|v| at(v, "schema")).collect();
    // What all versions say alike is looked at once.
    let alike = versions.split_first().is_some_and(|(first, rest)| rest.iter().all(|v| v == first));
    let mut out = Vec::new();
    for schema in versions.iter().take(if alike { 1 } else { usize::MAX }) {
        each_schema(at(schema, "openAPIV3Schema"), &mut |schema| {
            let format = text(schema, "format");
            if !format.is_empty() && !is_known(text(schema, "type"), format) && out.len() < WARNINGS_MAX {
                out.push(format);
            }
        });
    }
    out
}

/// Warns of what is new.
pub(super) fn formats(object: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let before: HashSet<&str> = old.into_iter().flat_map(unknown).collect();
    let new = unknown(object).into_iter().filter(|format| !before.contains(format));
    out.extend(new.map(|format| format!("unrecognized format {format:?}")));
}
