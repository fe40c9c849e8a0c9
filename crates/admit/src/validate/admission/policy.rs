//! Policies written in expressions, and what binds them to requests.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::super::field::{Errors, Path, dns_subdomain, indexed, name_error, one_of, optional_one_of};
use super::{Declares, expression, found, match_conditions, param_kind, param_ref, rule};
use crate::cel::{RESERVED, Type};
use crate::value::{at, has, is_empty, text, texts};

const SPEC: Path<'static> = Path::root("spec");
const NEEDS_ONE: &str = "validations or auditAnnotations must contain at least one item";
const AUDIT_ANNOTATIONS_MAX: usize = 20;
/// What is deleted cannot be changed.
const MUTATING: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const VALUE_BYTES_MAX: usize = 5 * 1024;

/// What policies of both kinds say.
fn common(spec: &Value, errors: &mut Errors) {
    one_of(spec, "failurePolicy", &["Fail", "Ignore"], SPEC, errors);
    if has(spec, "paramKind") {
        param_kind(at(spec, "paramKind"), SPEC.child("paramKind"), errors);
    }
    let constraints = SPEC.child("matchConstraints");
    if has(spec, "matchConstraints") {
        rule::match_resources(at(spec, "matchConstraints"), constraints, errors);
        if is_empty(at(spec, "matchConstraints"), "resourceRules") {
            errors.push(Cause::required(constraints.child("resourceRules"), ""));
        }
    } else {
        errors.push(Cause::required(constraints, ""));
    }
    let declares = declares(spec);
    match_conditions(spec, declares, SPEC, errors);
    let list = SPEC.child("variables");
    for (i, variable) in indexed(spec, "variables") {
        let path = list.index(i);
        let name = text(variable, "name");
        if name.trim().is_empty() {
            errors.push(Cause::required(path.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            errors.push(Cause::invalid(path.child("name"), name, "must be a valid CEL identifier"));
        }
        let told = text(variable, "expression");
        if told.trim().is_empty() {
            errors.push(Cause::required(path.child("expression"), "expression is not specified"));
        } else {
            expression(told, &[], declares, path.child("expression"), errors);
        }
    }
}

/// What the expressions of a policy may name.
fn declares(spec: &Value) -> Declares {
    Declares { params: has(spec, "paramKind"), no_authorizer: false }
}

fn is_identifier(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
        && !RESERVED.contains(&name)
        && !["true", "false", "null", "in"].contains(&name)
}

pub(in super::super) fn validating_policy(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    common(spec, errors);
    if is_empty(spec, "validations") && is_empty(spec, "auditAnnotations") {
        errors.push(Cause::required(SPEC.child("validations"), NEEDS_ONE));
        errors.push(Cause::required(SPEC.child("auditAnnotations"), NEEDS_ONE));
        return;
    }
    let list = SPEC.child("validations");
    for (i, validation) in indexed(spec, "validations") {
        let path = list.index(i);
        let condition = text(validation, "expression");
        if condition.trim().is_empty() {
            errors.push(Cause::required(path.child("expression"), "expression is not specified"));
        } else {
            expression(condition, &[Type::Bool], declares(spec), path.child("expression"), errors);
        }
        let told = text(validation, "messageExpression");
        if !told.is_empty() && told.trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.push(Cause::invalid(path.child("messageExpression"), told, why));
        } else if !told.is_empty() {
            let place = path.child("messageExpression");
            let declares = Declares { no_authorizer: true, ..declares(spec) };
            expression(told, &[Type::Text], declares, place, errors);
        }
        let message = text(validation, "message");
        if !message.is_empty() && message.trim().is_empty() {
            let why = "message must be non-empty if specified";
            errors.push(Cause::invalid(path.child("message"), message, why));
        } else if message.trim().contains(['\n', '\r']) {
            errors.push(Cause::invalid(
                path.child("message"),
                message,
                "message must not contain line breaks",
            ));
        }
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        optional_one_of(validation, "reason", &reasons, path, errors);
    }
    audit_annotations(object, spec, errors);
}

fn audit_annotations(object: &Value, spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("auditAnnotations");
    let policy = text(at(object, "metadata"), "name");
    if indexed(spec, "auditAnnotations").count() > AUDIT_ANNOTATIONS_MAX {
        let why = format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations");
        errors.push(Cause::invalid(list, at(spec, "auditAnnotations").clone(), &why));
    }
    let mut keys = HashSet::new();
    for (i, annotation) in indexed(spec, "auditAnnotations") {
        let path = list.index(i);
        let key = text(annotation, "key");
        if policy.is_empty() {
            let why = "requires metadata.name be non-empty";
            errors.push(Cause::invalid(path.child("key"), key, why));
        } else {
            // The key that is written down, which begins with the policy's name.
            let whole = format!("{policy}/{key}");
            name_error(check_label_key(&whole), &whole, path.child("key"), errors);
        }
        let value = text(annotation, "valueExpression").trim();
        if value.is_empty() {
            errors.push(Cause::required(path.child("valueExpression"), "valueExpression is not specified"));
        } else if value.len() > VALUE_BYTES_MAX {
            let why = format!("must not exceed {VALUE_BYTES_MAX} bytes in length");
            errors.push(Cause::required(path.child("valueExpression"), &why));
        } else {
            let place = path.child("valueExpression");
            expression(value, &[Type::Text, Type::Null], declares(spec), place, errors);
        }
        if !keys.insert(key) {
            errors.push(Cause::duplicate(path.child("key"), key));
        }
    }
}

pub(in super::super) fn mutating_policy(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    common(spec, errors);
    operations(at(spec, "matchConstraints"), SPEC.child("matchConstraints"), errors);
    let list = SPEC.child("mutations");
    if is_empty(spec, "mutations") {
        errors.push(Cause::required(list, "mutations must contain at least one item"));
    }
    for (i, mutation) in indexed(spec, "mutations") {
        let path = list.index(i);
        let kind = text(mutation, "patchType");
        let (own, other) = match kind {
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            "" => {
                errors.push(Cause::required(path.child("patchType"), ""));
                continue;
            }
            _ => {
                let known = ["ApplyConfiguration", "JSONPatch"];
                errors.push(Cause::not_supported(path.child("patchType"), kind, &known));
                continue;
            }
        };
        if !has(mutation, own) {
            let why = format!("must be specified when patchType is {kind}");
            errors.push(Cause::required(path.child(own), &why));
        } else {
            let (at_own, told) = (path.child(own), text(at(mutation, own), "expression"));
            if told.trim().is_empty() {
                errors.push(Cause::required(at_own.child("expression"), ""));
            } else {
                changes(own, told.trim(), declares(spec), at_own.child("expression"), errors);
            }
        }
        if has(mutation, other) {
            let why = format!("must not be specified when patchType is {kind}");
            // Its name in braces, for whatever it is.
            errors.push(Cause::invalid(path.child(other), format!("{{{other}}}"), &why));
        }
    }
    one_of(spec, "reinvocationPolicy", &["IfNeeded", "Never"], SPEC, errors);
}

/// An expression that comes to what is changed: an object, or a list of steps. What such values hold is not looked into.
fn changes(kind: &str, told: &str, declares: Declares, path: Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    expression(told, &[], declares, path, errors);
    if errors.len() > before {
        return;
    }
    let wanted = if kind == "jsonPatch" { "list(JSONPatch)" } else { "Object" };
    match found(told, declares) {
        None | Some(Type::Dyn) => {}
        Some(Type::List) if kind == "jsonPatch" => {}
        Some(other) => {
            let why = format!("must evaluate to {wanted} but got {}", other.whole_name());
            errors.push(Cause::invalid(path, told, &why));
        }
    }
}

/// Whether the requests that are meant bring something to change.
fn operations(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let rules = path.child("resourceRules");
    for (_, rule) in indexed(v, "resourceRules") {
        for operation in texts(rule, "operations").filter(|o| !MUTATING.contains(o)) {
            errors.push(Cause::not_supported(rules.child("operations"), operation, &MUTATING));
        }
    }
}

fn policy_name(spec: &Value, errors: &mut Errors) {
    match text(spec, "policyName") {
        "" => errors.push(Cause::required(SPEC.child("policyName"), "")),
        name => dns_subdomain(name, SPEC.child("policyName"), errors),
    }
    param_ref(at(spec, "paramRef"), SPEC.child("paramRef"), errors);
}

pub(in super::super) fn validating_binding(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    policy_name(spec, errors);
    rule::match_resources(at(spec, "matchResources"), SPEC.child("matchResources"), errors);
    let list = SPEC.child("validationActions");
    let mut seen = HashSet::new();
    for (i, action) in texts(spec, "validationActions").enumerate() {
        let known = ["Audit", "Deny", "Warn"];
        if !known.contains(&action) {
            errors.push(Cause::not_supported(list.index(i), action, &known));
        }
        if !seen.insert(action) {
            errors.push(Cause::duplicate(list.index(i), action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(Cause::invalid(list, at(spec, "validationActions").clone(), why));
    }
    if seen.is_empty() {
        errors.push(Cause::required(list, "at least one validation action is required"));
    }
}

pub(in super::super) fn mutating_binding(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    policy_name(spec, errors);
    let resources = at(spec, "matchResources");
    rule::match_resources(resources, SPEC.child("matchResources"), errors);
    operations(resources, SPEC.child("matchResources"), errors);
}
