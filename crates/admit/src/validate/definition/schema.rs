//! Schemas of custom resources: what they may not say, in the order in which a stock server looks: first whether every place is
//! of a type that is told outside of what only judges values, then each schema from the outside in, and last what is written
//! in expressions.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::super::field::{Errors, Path, indexed};
use super::super::internal;
use super::place;
use super::structural;
use crate::cel::{self, Type};
use crate::value::{at, flag, has, is_empty, pairs, text, texts};

/// How deep a schema may nest before it is no longer looked into.
pub(super) const DEPTH_MAX: usize = 64;
const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";

/// Whether a resource's status is written apart from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subresource {
    Status,
    None,
}

/// What is wrong with the schema of a version, or of all of them.
pub(super) fn validation(v: &Value, subresource: Subresource, path: Path<'_>, errors: &mut Errors) {
    let schema = at(v, "openAPIV3Schema");
    if !schema.is_object() {
        return;
    }
    let before = errors.len();
    if subresource == Subresource::Status {
        root_with_status(schema, path, errors);
    }
    if flag(schema, "nullable") {
        let why = "nullable cannot be true at the root";
        errors.push(Cause::forbidden(path.child("openAPIV3Schema.nullable"), why));
    }
    let path = path.child("openAPIV3Schema");
    let unsupported = structural::unsupported(schema, 0);
    let mut is_structural = false;
    if unsupported.is_none() {
        let mut found = Errors::default();
        structural::check(schema, path, &mut found);
        is_structural = found.is_empty();
        let mut causes = found.into_causes();
        causes.sort_by_cached_key(|cause| format!("{}: {}", cause.field, cause.message));
        errors.extend(causes);
    }
    let mut expressions = Errors::default();
    let at_root = Place { root: true, expressions: is_structural, ..Place::default() };
    allowed(schema, at_root, 0, path, errors, &mut expressions);
    errors.extend(expressions.into_causes());
    if let Some(why) = unsupported
        && errors.len() == before
    {
        errors.push(Cause::invalid(path, "", &why));
    }
}

/// What the root may say where the status has a schema of its own: the other words would be about both.
const WITH_STATUS: [&str; 22] = [
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

fn root_with_status(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    let kind = text(schema, "type");
    // Three words are looked at before the type.
    let early = ["id", "$schema", "$ref"].iter().any(|key| !is_empty(schema, key));
    if !early && !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return errors.push(Cause::invalid(path.child("openAPIV3Schema.type"), kind, why));
    }
    let says = |key: &str| !is_empty(schema, key) && at(schema, key) != &Value::Bool(false);
    let mut keys = schema.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    if keys.any(|key| says(key) && !WITH_STATUS.contains(&key)) {
        let why = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is enabled";
        errors.push(internal::invalid(path.child("openAPIV3Schema"), schema, SCHEMA, why));
    }
}

/// Calls for a schema and all that it holds.
pub(crate) fn each_schema<'v>(schema: &'v Value, look: &mut impl FnMut(&'v Value)) {
    visit(schema, 0, look);
}

fn visit<'v>(schema: &'v Value, depth: usize, look: &mut impl FnMut(&'v Value)) {
    if depth > DEPTH_MAX || !schema.is_object() {
        return;
    }
    look(schema);
    visit(at(schema, "items"), depth + 1, look);
    for key in ["items", "allOf", "anyOf", "oneOf"] {
        indexed(schema, key).for_each(|(_, v)| visit(v, depth + 1, look));
    }
    visit(at(schema, "not"), depth + 1, look);
    pairs(schema, "properties").for_each(|(_, v)| visit(v, depth + 1, look));
    visit(at(schema, "additionalProperties"), depth + 1, look);
    pairs(schema, "patternProperties").for_each(|(_, v)| visit(v, depth + 1, look));
    visit(at(schema, "additionalItems"), depth + 1, look);
    for key in ["definitions", "dependencies"] {
        pairs(schema, key).for_each(|(_, v)| visit(v, depth + 1, look));
    }
}

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Where a schema stands in the whole.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    root: bool,
    /// Why there is no default here.
    no_defaults: Option<&'static str>,
    /// Within the metadata of an object.
    in_metadata: bool,
    /// Whether expressions are read: they are about values of types that are told.
    expressions: bool,
    /// The outermost part whose values cannot be told to be the same ones as before.
    uncorrelated: Option<Path<'a>>,
}

impl Place<'_> {
    /// Where values are only judged.
    fn nested(self) -> Self {
        Place { root: false, expressions: false, ..self }
    }

    fn within(self) -> Self {
        Place { root: false, ..self }
    }
}

/// What a schema may not say anywhere.
fn allowed(
    schema: &Value,
    place: Place<'_>,
    depth: usize,
    path: Path<'_>,
    errors: &mut Errors,
    expressions: &mut Errors,
) {
    if depth > DEPTH_MAX || !schema.is_object() {
        return;
    }
    let before = errors.len();
    words(schema, place, path, errors);
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Cause::forbidden(path.child("uniqueItems"), why));
    }
    let depth = depth + 1;
    let more = at(schema, "additionalProperties");
    if !is_empty(schema, "properties") && (more.is_object() || *more == Value::Bool(false)) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(Cause::forbidden(path.child("additionalProperties"), why));
    }
    let mut inner = place.within();
    if place.in_metadata {
        inner.no_defaults = Some("inside additionalProperties applying to object metadata");
    }
    allowed(more, inner, depth, path.child("additionalProperties"), errors, expressions);
    properties(schema, place, depth, path, errors, expressions);
    let nested = place.nested();
    allowed(at(schema, "not"), nested, depth, path.child("not"), errors, expressions);
    for key in ["allOf", "oneOf", "anyOf"] {
        let list = path.child(key);
        for (i, v) in indexed(schema, key) {
            allowed(v, nested, depth, list.index(i), errors, expressions);
        }
    }
    let list = path.child("definitions");
    for (key, v) in pairs(schema, "definitions") {
        allowed(v, nested, depth, list.key(key), errors, expressions);
    }
    let mut inner = place.within();
    if text(schema, "x-kubernetes-list-type") != "map" {
        inner.uncorrelated = inner.uncorrelated.or(Some(path));
    }
    let list = path.child("items");
    allowed(at(schema, "items"), inner, depth, list, errors, expressions);
    for (i, v) in indexed(schema, "items") {
        allowed(v, inner, depth, list.index(i), errors, expressions);
    }
    let list = path.child("dependencies");
    for (key, v) in pairs(schema, "dependencies") {
        allowed(v, nested, depth, list.key(key), errors, expressions);
    }
    lists(schema, path, errors);
    rules(schema, path, errors);
    if errors.len() == before && place.expressions {
        compiled(schema, place, path, expressions);
    }
}

fn properties(
    schema: &Value,
    place: Place<'_>,
    depth: usize,
    path: Path<'_>,
    errors: &mut Errors,
    expressions: &mut Errors,
) {
    let list = path.child("properties");
    for (key, v) in pairs(schema, "properties") {
        let mut inner = place.within();
        if text(schema, "x-kubernetes-map-type") == "atomic" {
            inner.uncorrelated = inner.uncorrelated.or(Some(path));
        }
        let why = match key.as_str() {
            "metadata" => Some("in top-level metadata"),
            "kind" => Some("in top-level kind"),
            "apiVersion" => Some("in top-level apiVersion"),
            _ => None,
        };
        if why.is_some() && (place.root || flag(schema, "x-kubernetes-embedded-resource")) {
            inner.in_metadata = true;
            if place.root {
                inner.no_defaults = why;
            }
        }
        allowed(v, inner, depth, list.key(key), errors, expressions);
    }
}

/// Words of JSON schema that are not known here.
fn words(schema: &Value, place: Place<'_>, path: Path<'_>, errors: &mut Errors) {
    let kind = text(schema, "type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(Cause::not_supported(path.child("type"), kind, &TYPES));
    }
    if has(schema, "default")
        && let Some(why) = place.no_defaults
    {
        errors.push(Cause::forbidden(path.child("default"), &format!("must not be set {why}")));
    }
    let mut refuse = |key: &str| {
        errors.push(Cause::forbidden(path.child(key), &format!("{key} is not supported")));
    };
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let counts_empty = matches!(key, "additionalItems" | "dependencies" | "$ref");
        if has(schema, key) && (counts_empty || !is_empty(schema, key)) {
            refuse(key);
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(Cause::forbidden(path.child("type"), why));
    }
    if at(schema, "items").is_array() && !is_empty(schema, "items") {
        let why = "items must be a schema object and not an array";
        errors.push(Cause::forbidden(path.child("items"), why));
    }
    if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let why = "must not be used inside of resource meta";
        errors.push(Cause::forbidden(path.child("x-kubernetes-embedded-resource"), why));
    }
}

/// How lists and maps merge.
fn lists(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    if at(schema, "x-kubernetes-preserve-unknown-fields") == &Value::Bool(false) {
        let place = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(Cause::invalid(place, false, "must be true or undefined"));
    }
    merges(schema, "x-kubernetes-map-type", "object", path, errors);
    let known = ["atomic", "granular"];
    if has(schema, "x-kubernetes-map-type") && !known.contains(&text(schema, "x-kubernetes-map-type")) {
        let place = path.child("x-kubernetes-map-type");
        errors.push(Cause::not_supported(place, text(schema, "x-kubernetes-map-type"), &known));
    }
    let list_type = text(schema, "x-kubernetes-list-type");
    if !merges(schema, "x-kubernetes-list-type", "array", path, errors) && list_type == "set" {
        set_items(at(schema, "items"), path.child("items"), errors);
    }
    let known = ["atomic", "set", "map"];
    let at_type = path.child("x-kubernetes-list-type");
    if has(schema, "x-kubernetes-list-type") && !known.contains(&list_type) {
        errors.push(Cause::not_supported(at_type, list_type, &known));
    }
    if !is_empty(schema, "x-kubernetes-list-map-keys") && list_type != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(if has(schema, "x-kubernetes-list-type") {
            Cause::invalid(at_type, list_type, why)
        } else {
            Cause::required(at_type, why)
        });
    }
    if list_type == "map" {
        map_keys(schema, path, errors);
    }
    if matches!(list_type, "map" | "set") && at(schema, "items").is_object() {
        not_null(schema, list_type, path, errors);
    }
}

/// Of which type something is that says how it merges. Returns whether it is told to be of another.
fn merges(schema: &Value, key: &str, wanted: &str, path: Path<'_>, errors: &mut Errors) -> bool {
    let kind = text(schema, "type");
    if !has(schema, key) || kind == wanted {
        return false;
    }
    let why = format!("must be {wanted} if {key} is specified");
    errors.push(if kind.is_empty() {
        Cause::required(path.child("type"), &why)
    } else {
        Cause::invalid(path.child("type"), kind, &why)
    });
    true
}

/// What a set holds is one value each.
fn set_items(item: &Value, path: Path<'_>, errors: &mut Errors) {
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let list_type = at(item, "x-kubernetes-list-type");
    match text(item, "type") {
        "array" if !list_type.is_null() && list_type != "atomic" => {
            errors.push(Cause::invalid(path.child("x-kubernetes-list-type"), list_type.clone(), why));
        }
        // The other kind of list is shown here, by the stock server's mistake.
        "object" if text(item, "x-kubernetes-map-type") != "atomic" => {
            errors.push(Cause::invalid(path.child("x-kubernetes-map-type"), list_type.clone(), why));
        }
        _ => {}
    }
}

/// By what the entries of a list are told apart.
fn map_keys(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    let at_keys = path.child("x-kubernetes-list-map-keys");
    let at_items = path.child("items");
    if is_empty(schema, "x-kubernetes-list-map-keys") {
        errors.push(Cause::required(at_keys, "must not be empty if x-kubernetes-list-type is map"));
    }
    let item = at(schema, "items");
    if item.is_null() {
        let why = "must have a schema if x-kubernetes-list-type is map";
        return errors.push(Cause::required(at_items, why));
    }
    if let Some(list) = item.as_array() {
        let shown: Vec<String> = list.iter().map(|v| internal::print(v, SCHEMA)).collect();
        let why = "must only have a single schema if x-kubernetes-list-type is map";
        let message =
            format!("Invalid value: {{\"Schema\":null,\"JSONSchemas\":[{}]}}: {why}", shown.join(","));
        return errors.push(Cause::new("FieldValueInvalid", at_items, message));
    }
    let kind = text(item, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.push(Cause::invalid(at_items.child("type"), kind, why));
    }
    let (fields, list) = (at(item, "properties"), at_items.child("properties"));
    let shown = || at(schema, "x-kubernetes-list-map-keys").clone();
    let mut seen = HashSet::new();
    for key in texts(schema, "x-kubernetes-list-map-keys") {
        // Each fault is told with the whole list.
        if errors.is_full() {
            return;
        }
        if !has(fields, key) {
            errors.push(Cause::invalid(at_keys, shown(), "entries must all be names of item properties"));
        } else if matches!(text(at(fields, key), "type"), "array" | "object") {
            let place = list.key(key);
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(Cause::invalid(place.child("type"), kind, why));
        }
        if !seen.insert(key) {
            errors.push(Cause::invalid(at_keys, shown(), "must not contain duplicate entries"));
        }
    }
}

/// What entries are told apart by is there.
fn not_null(schema: &Value, list_type: &str, path: Path<'_>, errors: &mut Errors) {
    let (item, path) = (at(schema, "items"), path.child("items"));
    if flag(item, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Cause::forbidden(path.child("nullable"), &why));
    }
    if list_type != "map" {
        return;
    }
    let required: HashSet<&str> = texts(item, "required").collect();
    let (fields, list) = (at(item, "properties"), path.child("properties"));
    for key in texts(schema, "x-kubernetes-list-map-keys").filter(|key| has(fields, key)) {
        let (field, place) = (at(fields, key), list.key(key));
        if !required.contains(key) && !has(field, "default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Cause::required(place.child("default"), why));
        }
        if flag(field, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Cause::forbidden(place.child("nullable"), why));
        }
    }
}

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Rules written in expressions, as far as they can be judged unread.
fn rules(schema: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("x-kubernetes-validations");
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for (i, rule) in indexed(schema, "x-kubernetes-validations") {
        let path = list.index(i);
        let expression = text(rule, "rule").trim();
        let (message, told) = (text(rule, "message"), text(rule, "messageExpression"));
        let at_message = path.child("message");
        if expression.is_empty() {
            errors.push(Cause::required(path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
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
        if has(rule, "reason") && !REASONS.contains(&text(rule, "reason")) {
            errors.push(Cause::not_supported(path.child("reason"), text(rule, "reason"), &REASONS));
        }
        let field = text(rule, "fieldPath");
        let at_field = path.child("fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            errors.push(Cause::invalid(at_field, field, "must be non-empty if specified"));
        }
        if breaks(field) {
            errors.push(Cause::invalid(at_field, field, "must not contain line breaks"));
        }
        if !field.is_empty() && place::find(field, schema, place::Brackets::Allowed).is_err() {
            errors.push(Cause::invalid(at_field, field, "must be a valid path"));
        }
    }
}

/// The expressions themselves, of a schema in which nothing else is wrong.
fn compiled(schema: &Value, place: Place<'_>, path: Path<'_>, errors: &mut Errors) {
    const RULE: &str = "apiextensions.v1.ValidationRule";
    const DECLARED: [&str; 2] = ["self", "oldSelf"];
    let list = path.child("x-kubernetes-validations");
    for (i, rule) in indexed(schema, "x-kubernetes-validations") {
        let path = list.index(i);
        let (at_rule, expression) = (path.child("rule"), text(rule, "rule"));
        let read = cel::compile(expression, &DECLARED);
        let why = match &read {
            Err(e) => Some(format!("compilation failed: {e}")),
            Ok(Type::Bool | Type::Dyn) => None,
            Ok(_) => Some("cel expression must evaluate to a bool".to_owned()),
        };
        if let Some(why) = why {
            errors.push(internal::invalid(at_rule, rule, RULE, &why));
        }
        let told = text(rule, "messageExpression");
        let why = match cel::compile(told, &DECLARED) {
            _ if told.is_empty() => None,
            Err(e) => Some(format!("messageExpression compilation failed: {e}")),
            Ok(Type::Text | Type::Dyn) => None,
            Ok(_) => Some("messageExpression must evaluate to a string".to_owned()),
        };
        if let Some(why) = why {
            errors.push(internal::invalid(path.child("messageExpression"), rule, RULE, &why));
        }
        // What names what was there before does not read where nothing was.
        let compares = read.is_ok() && cel::compile(expression, &["self"]).is_err();
        if let (true, Some(part)) = (compares, place.uncorrelated) {
            let why =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {part}");
            errors.push(Cause::invalid(at_rule, expression, &why));
        }
        if read.is_ok() && !compares && has(rule, "optionalOldSelf") {
            let why = "may not be set if oldSelf is not used in rule";
            let given = at(rule, "optionalOldSelf").clone();
            errors.push(Cause::invalid(path.child("optionalOldSelf"), given, why));
        }
    }
}
