//! Structural schemas: of what type every place is stands in the schema itself, and what judges values (`allOf`, `anyOf`, `oneOf`,
//! `not`) says nothing of the shape and judges only places that there are.

use serde_json::Value;
use stoa_kube::Cause;

use super::super::field::{Errors, Path, indexed};
use super::schema::DEPTH_MAX;
use crate::value::{NULL, at, flag, has, is_empty, pairs, text};

/// Where a schema stands in the whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Words that keep a schema from being read as a structural one. Said only where nothing else is wrong.
pub(super) fn unsupported(schema: &Value, depth: usize) -> Option<String> {
    if depth > DEPTH_MAX || !schema.is_object() {
        return None;
    }
    let words = [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ];
    let says = |key: &str| has(schema, key) && (key == "additionalItems" || !is_empty(schema, key));
    if let Some((_, name)) = words.into_iter().find(|(key, _)| says(key)) {
        return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    }
    if at(schema, "items").is_array() && !is_empty(schema, "items") {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    if at(schema, "x-kubernetes-preserve-unknown-fields") == &Value::Bool(false) {
        let why = "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
        return Some(why.to_owned());
    }
    let single = ["items", "additionalProperties", "not"].into_iter().map(|key| at(schema, key));
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|key| indexed(schema, key).map(|(_, v)| v));
    let fields = pairs(schema, "properties").map(|(_, v)| v);
    single.chain(fields).chain(lists).find_map(|v| unsupported(v, depth + 1))
}

/// What keeps a schema from being structural.
pub(super) fn check(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    shape(schema, Level::Root, 0, path, errors);
    complete(schema, Some(schema), 0, path, path, errors);
}

fn shape(schema: &Value, level: Level, depth: usize, path: Path<'_>, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    let kind = text(schema, "type");
    let item = at(schema, "items");
    if item.is_object() {
        shape(item, Level::Item, depth + 1, path.child("items"), errors);
    } else if kind == "array" {
        errors.push(Cause::required(path.child("items"), "must be specified"));
    }
    let list = path.child("properties");
    for (key, v) in pairs(schema, "properties") {
        shape(v, Level::Field, depth + 1, list.key(key), errors);
    }
    let more = at(schema, "additionalProperties");
    let at_more = path.child("additionalProperties");
    if level == Level::Root && !more.is_null() {
        errors.push(Cause::forbidden(at_more, "must not be used at the root"));
    }
    if more.is_object() {
        shape(more, Level::Field, depth + 1, at_more, errors);
    }
    extensions(schema, path, errors);
    values(schema, is_int_or_text(schema), first_is_int_or_text(schema), depth, path, errors);
    types(schema, level, path, errors);
    if flag(schema, "x-kubernetes-embedded-resource") && !more.is_null() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Cause::forbidden(at_more, why));
    }
    metadata(schema, level, path, errors);
}

fn extensions(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, "x-kubernetes-int-or-string") && flag(schema, key) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(Cause::invalid(path.child(key), true, why));
        }
    }
}

fn types(schema: &Value, level: Level, path: Path<'_>, errors: &mut Errors) {
    let (kind, at_type) = (text(schema, "type"), path.child("type"));
    let open =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_empty() {
            Cause::required(at_type, why)
        } else {
            Cause::invalid(at_type, kind, why)
        });
    } else if kind.is_empty() && !open {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Cause::required(at_type, why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(Cause::invalid(at_type, kind, "must be object at the root"));
    }
}

/// What every object has is not described anew.
fn metadata(schema: &Value, level: Level, path: Path<'_>, errors: &mut Errors) {
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let fields = at(schema, "properties");
    let list = path.child("properties");
    let is_object = level == Level::Root || embedded;
    for key in ["kind", "apiVersion"] {
        if has(fields, key) && is_object && text(at(fields, key), "type") != "string" {
            let place = list.key(key);
            let kind = text(at(fields, key), "type");
            errors.push(Cause::invalid(place.child("type"), kind, "must be string"));
        }
    }
    if has(fields, "metadata") {
        let (meta, place) = (at(fields, "metadata"), list.key("metadata"));
        if is_object && text(meta, "type") != "object" {
            errors.push(Cause::invalid(place.child("type"), text(meta, "type"), "must be object"));
        }
        if level == Level::Root && !says_names_only(meta) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(Cause::forbidden(place, why));
        }
    }
    let open = flag(schema, "x-kubernetes-preserve-unknown-fields");
    if embedded && !open && is_empty(schema, "properties") {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Cause::required(path.child("properties"), why));
    }
}

fn says_names_only(meta: &Value) -> bool {
    let names =
        |v: &Value| v.as_object().into_iter().flatten().all(|(k, _)| k == "name" || k == "generateName");
    let silent = |v: &Value| matches!(v, Value::Null | Value::Bool(false)) || v.as_str() == Some("");
    meta.as_object().into_iter().flatten().all(|(key, v)| match key.as_str() {
        "type" | "default" => true,
        "properties" => names(v),
        _ => silent(v) || v.as_array().is_some_and(Vec::is_empty),
    })
}

/// `anyOf` an integer and a text, which is how a place that may be either is told.
fn is_int_or_text(schema: &Value) -> bool {
    let kinds = ["integer", "string"].map(|kind| serde_json::json!({"type": kind}));
    at(schema, "anyOf").as_array().is_some_and(|all| **all == kinds)
}

fn first_is_int_or_text(schema: &Value) -> bool {
    indexed(schema, "allOf").next().is_some_and(|(_, first)| is_int_or_text(first))
}

/// What judges values.
fn values(
    schema: &Value,
    skip_any: bool,
    skip_first: bool,
    depth: usize,
    path: Path<'_>,
    errors: &mut Errors,
) {
    for key in ["anyOf", "allOf", "oneOf"] {
        let list = path.child(key);
        for (i, v) in indexed(schema, key).filter(|_| !(key == "anyOf" && skip_any)) {
            nested(v, key == "allOf" && skip_first && i == 0, depth + 1, list.index(i), errors);
        }
    }
    nested(at(schema, "not"), false, depth + 1, path.child("not"), errors);
    let pattern = text(schema, "pattern");
    if let Err(e) = regex::Regex::new(pattern)
        && !pattern.is_empty()
    {
        let e = e.to_string();
        let why = e.lines().last().unwrap_or_default();
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(Cause::invalid(path.child("pattern"), pattern, &why));
    }
}

/// What one that judges values may not say: nothing of the shape.
fn nested(v: &Value, skip_any: bool, depth: usize, path: Path<'_>, errors: &mut Errors) {
    if depth > DEPTH_MAX || !v.is_object() {
        return;
    }
    values(v, skip_any, false, depth, path, errors);
    nested(at(v, "items"), false, depth + 1, path.child("items"), errors);
    let list = path.child("properties");
    for (key, field) in pairs(v, "properties") {
        nested(field, false, depth + 1, list.key(key), errors);
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    let more = at(v, "additionalProperties");
    for (key, says, why) in [
        ("type", !is_empty(v, "type"), EMPTY),
        ("additionalProperties", more.is_object() || *more == Value::Bool(true), UNDEFINED),
        ("default", has(v, "default"), UNDEFINED),
        ("title", !is_empty(v, "title"), EMPTY),
        ("description", !is_empty(v, "description"), EMPTY),
        ("nullable", flag(v, "nullable"), FALSE),
        ("x-kubernetes-preserve-unknown-fields", flag(v, "x-kubernetes-preserve-unknown-fields"), FALSE),
        ("x-kubernetes-embedded-resource", flag(v, "x-kubernetes-embedded-resource"), FALSE),
        ("x-kubernetes-int-or-string", flag(v, "x-kubernetes-int-or-string"), FALSE),
        ("x-kubernetes-list-map-keys", !is_empty(v, "x-kubernetes-list-map-keys"), EMPTY),
        ("x-kubernetes-list-type", has(v, "x-kubernetes-list-type"), UNDEFINED),
        ("x-kubernetes-map-type", has(v, "x-kubernetes-map-type"), UNDEFINED),
        ("x-kubernetes-validations", !is_empty(v, "x-kubernetes-validations"), EMPTY),
    ] {
        if says {
            errors.push(Cause::forbidden(path.child(key), why));
        }
    }
    if has(at(v, "properties"), "metadata") {
        let why = "must not be specified in a nested context";
        errors.push(Cause::forbidden(list.key("metadata"), why));
    }
}

/// What is judged (`v`, at `judged`) is told of in the schema (`schema`, at `told`).
fn complete(
    v: &Value,
    schema: Option<&Value>,
    depth: usize,
    told: Path<'_>,
    judged: Path<'_>,
    errors: &mut Errors,
) {
    if depth > DEPTH_MAX {
        return;
    }
    complete_nested(at(v, "not"), schema, depth + 1, told, judged.child("not"), errors);
    for key in ["allOf", "anyOf", "oneOf"] {
        let list = judged.child(key);
        for (i, v) in indexed(v, key) {
            complete_nested(v, schema, depth + 1, told, list.index(i), errors);
        }
    }
}

fn complete_nested(
    v: &Value,
    schema: Option<&Value>,
    depth: usize,
    told: Path<'_>,
    judged: Path<'_>,
    errors: &mut Errors,
) {
    if !v.is_object() {
        return;
    }
    let Some(schema) = schema else {
        return errors.push(Cause::required(told, &format!("because it is defined in {judged}")));
    };
    complete(v, Some(schema), depth, told, judged, errors);
    let item = Some(at(schema, "items")).filter(|item| item.is_object());
    complete_nested(at(v, "items"), item, depth + 1, told.child("items"), judged.child("items"), errors);
    let (fields, others) = (told.child("properties"), judged.child("properties"));
    for (key, field) in pairs(v, "properties") {
        let (place, other) = (fields.key(key), others.key(key));
        match at(schema, "properties").get(key).unwrap_or(&NULL) {
            Value::Null => errors.push(Cause::required(place, &format!("because it is defined in {other}"))),
            known => complete_nested(field, Some(known), depth + 1, place, other, errors),
        }
    }
}
