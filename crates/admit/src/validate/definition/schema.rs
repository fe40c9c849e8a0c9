//! Schemas of custom resources: what they may not say, and that every place says of what type it is.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::super::field::{Errors, Path, indexed};
use super::super::internal;
use crate::cel::{self, Type};
use crate::value::{at, flag, has, is_empty, pairs, text, texts};

/// How deep a schema may nest before it is no longer looked into.
const DEPTH_MAX: usize = 64;

/// Where a schema stands in the whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

pub(super) fn validation(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let schema = at(v, "openAPIV3Schema");
    if schema.is_object() {
        let path = path.child("openAPIV3Schema");
        allowed(schema, 0, path, errors);
        structural(schema, Level::Root, 0, path, errors);
    }
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What a schema may not say anywhere.
fn allowed(schema: &Value, depth: usize, path: Path<'_>, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Cause::forbidden(path.child("uniqueItems"), why));
    }
    let more = at(schema, "additionalProperties");
    if !is_empty(schema, "properties") && (more.is_object() || *more == Value::Bool(false)) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(Cause::forbidden(path.child("additionalProperties"), why));
    }
    if more.is_object() {
        allowed(more, depth + 1, path.child("additionalProperties"), errors);
    }
    let list = path.child("properties");
    pairs(schema, "properties").for_each(|(key, v)| allowed(v, depth + 1, list.key(key), errors));
    if at(schema, "not").is_object() {
        allowed(at(schema, "not"), depth + 1, path.child("not"), errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        let list = path.child(key);
        indexed(schema, key).for_each(|(i, v)| allowed(v, depth + 1, list.index(i), errors));
    }
    if at(schema, "items").is_object() {
        allowed(at(schema, "items"), depth + 1, path.child("items"), errors);
    }
    words(schema, path, errors);
    lists(schema, path, errors);
    rules(schema, path, errors);
}

/// Words of JSON schema that are not known here.
fn words(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(Cause::not_supported(path.child("type"), kind, &TYPES));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if has(schema, key) && !is_empty(schema, key) {
            errors.push(Cause::forbidden(path.child(key), &format!("{key} is not supported")));
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(Cause::forbidden(path.child("type"), why));
    }
    if at(schema, "items").is_array() {
        let why = "items must be a schema object and not an array";
        errors.push(Cause::forbidden(path.child("items"), why));
    }
}

/// How lists and maps merge.
fn lists(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    let kind = text(schema, "type");
    if at(schema, "x-kubernetes-preserve-unknown-fields") == &Value::Bool(false) {
        let place = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Cause::invalid(place, false, "must be true or undefined"));
    }
    for (key, wanted) in [("x-kubernetes-map-type", "object"), ("x-kubernetes-list-type", "array")] {
        if !has(schema, key) || kind == wanted {
            continue;
        }
        let why = format!("must be {wanted} if {key} is specified");
        errors.push(if kind.is_empty() {
            Cause::required(path.child("type"), &why)
        } else {
            Cause::invalid(path.child("type"), kind, &why)
        });
    }
    for (key, known) in [
        ("x-kubernetes-map-type", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", &["atomic", "map", "set"]),
    ] {
        if has(schema, key) && !known.contains(&text(schema, key)) {
            errors.push(Cause::not_supported(path.child(key), text(schema, key), known));
        }
    }
    let (list_type, at_keys) =
        (text(schema, "x-kubernetes-list-type"), path.child("x-kubernetes-list-map-keys"));
    let keys: Vec<&str> = texts(schema, "x-kubernetes-list-map-keys").collect();
    if !keys.is_empty() && list_type != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        let place = path.child("x-kubernetes-list-type");
        errors.push(if list_type.is_empty() {
            Cause::required(place, why)
        } else {
            Cause::invalid(place, list_type, why)
        });
    }
    if list_type != "map" {
        return;
    }
    if keys.is_empty() {
        errors.push(Cause::required(at_keys, "must not be empty if x-kubernetes-list-type is map"));
    }
    let item = at(schema, "items");
    if !item.is_object() {
        let why = "must have a schema if x-kubernetes-list-type is map";
        return errors.push(Cause::required(path.child("items"), why));
    }
    let mut seen = HashSet::new();
    for key in &keys {
        // Each fault is told with the whole list.
        if errors.is_full() {
            return;
        }
        let shown = || at(schema, "x-kubernetes-list-map-keys").clone();
        if !has(at(item, "properties"), key) {
            errors.push(Cause::invalid(at_keys, shown(), "entries must all be names of item properties"));
        }
        if !seen.insert(key) {
            errors.push(Cause::invalid(at_keys, shown(), "must not contain duplicate entries"));
        }
    }
}

/// Rules written in expressions.
fn rules(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("x-kubernetes-validations");
    for (i, rule) in indexed(schema, "x-kubernetes-validations") {
        let path = list.index(i);
        let expression = text(rule, "rule").trim();
        if expression.is_empty() {
            errors.push(Cause::required(path.child("rule"), "rule is not specified"));
        } else {
            let why = match cel::compile(text(rule, "rule"), &["self", "oldSelf"]) {
                Err(e) => Some(format!("compilation failed: {e}")),
                Ok(Type::Bool | Type::Dyn) => None,
                Ok(_) => Some("cel expression must evaluate to a bool".to_owned()),
            };
            if let Some(why) = why {
                let type_name = "apiextensions.v1.ValidationRule";
                errors.push(internal::invalid(path.child("rule"), rule, type_name, &why));
            }
        }
        let breaks = |text: &str| text.contains(['\n', '\r']);
        let (message, told) = (text(rule, "message"), text(rule, "messageExpression"));
        let at_message = path.child("message");
        if !message.is_empty() && message.trim().is_empty() {
            errors.push(Cause::invalid(at_message, message, "must be non-empty if specified"));
        } else if breaks(message.trim()) {
            errors.push(Cause::invalid(at_message, message, "must not contain line breaks"));
        } else if breaks(expression) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(Cause::required(at_message, why));
        }
        if !told.is_empty() && told.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Cause::required(path.child("messageExpression"), why));
        }
    }
}

/// Every place says of what type it is.
fn structural(schema: &Value, level: Level, depth: usize, path: Path<'_>, errors: &mut Errors) {
    if depth > DEPTH_MAX {
        return;
    }
    if at(schema, "items").is_object() {
        structural(at(schema, "items"), Level::Item, depth + 1, path.child("items"), errors);
    }
    let list = path.child("properties");
    for (key, v) in pairs(schema, "properties") {
        structural(v, Level::Field, depth + 1, list.key(key), errors);
    }
    let more = at(schema, "additionalProperties");
    let at_more = path.child("additionalProperties");
    if more.is_object() {
        structural(more, Level::Field, depth + 1, at_more, errors);
    }
    let kind = text(schema, "type");
    if kind == "array" && !has(schema, "items") {
        errors.push(Cause::required(path.child("items"), "must be specified"));
    }
    if level == Level::Root && !more.is_null() {
        errors.push(Cause::forbidden(at_more, "must not be used at the root"));
    }
    let open =
        flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    let why = match level {
        Level::Root if kind.is_empty() => "must not be empty at the root",
        Level::Root if kind != "object" => {
            return errors.push(Cause::invalid(path.child("type"), kind, "must be object at the root"));
        }
        Level::Item if kind.is_empty() && !open => "must not be empty for specified array items",
        Level::Field if kind.is_empty() && !open => "must not be empty for specified object fields",
        _ => return,
    };
    errors.push(Cause::required(path.child("type"), why));
}
