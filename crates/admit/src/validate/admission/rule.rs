//! Which requests a webhook or a policy is about.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_path_segment;

use super::super::field::{Errors, Path, name_error, optional_one_of};
use super::super::selector;
use crate::value::{at, has, texts};

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// Operations on resources of groups in versions.
pub(super) fn with_operations(rule: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("operations");
    listed(rule, "operations", "operations", path, errors);
    for (i, operation) in texts(rule, "operations").enumerate() {
        if !OPERATIONS.contains(&operation) {
            errors.push(Cause::not_supported(list.index(i), operation, &OPERATIONS));
        }
    }
    listed(rule, "apiGroups", "API groups", path, errors);
    listed(rule, "apiVersions", "API versions", path, errors);
    let list = path.child("apiVersions");
    for (i, _) in texts(rule, "apiVersions").enumerate().filter(|(_, v)| v.is_empty()) {
        errors.push(Cause::required(list.index(i), ""));
    }
    resources(rule, path.child("resources"), errors);
    optional_one_of(rule, "scope", &["*", "Cluster", "Namespaced"], path, errors);
}

/// A list that must not be empty, and in which the star stands alone.
fn listed(rule: &Value, key: &str, what: &str, path: Path<'_>, errors: &mut Errors) {
    let count = texts(rule, key).count();
    if count == 0 {
        errors.push(Cause::required(path.child(key), ""));
    } else if count > 1 && texts(rule, key).any(|v| v == "*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(Cause::invalid(path.child(key), at(rule, key).clone(), &why));
    }
}

fn resources(rule: &Value, path: Path<'_>, errors: &mut Errors) {
    let all: Vec<&str> = texts(rule, "resources").collect();
    if all.is_empty() {
        errors.push(Cause::required(path, ""));
    }
    let (mut of_any_part, mut of_any_kind) = (HashSet::new(), HashSet::new());
    let mut plain = false;
    for (i, resource) in all.iter().enumerate() {
        if resource.is_empty() {
            errors.push(Cause::required(path.index(i), ""));
            continue;
        }
        let Some((kind, part)) = resource.split_once('/') else {
            plain = *resource != "*";
            continue;
        };
        for (covered, wider) in [
            (of_any_part.contains(kind), format!("{kind}/*")),
            (of_any_kind.contains(part), format!("*/{part}")),
        ] {
            if covered {
                let why = format!("if '{wider}' is present, must not specify {resource}");
                errors.push(Cause::invalid(path.index(i), *resource, &why));
            }
        }
        if part == "*" {
            of_any_part.insert(kind);
        }
        if kind == "*" {
            of_any_kind.insert(part);
        }
    }
    let shown = || at(rule, "resources").clone();
    if all.len() > 1 && all.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(Cause::invalid(path, shown(), why));
    }
    if all.contains(&"*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(Cause::invalid(path, shown(), why));
    }
}

/// The requests that a policy or a binding is about.
pub(super) fn match_resources(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if !v.is_object() {
        return;
    }
    optional_one_of(v, "matchPolicy", &["Equivalent", "Exact"], path, errors);
    for key in ["namespaceSelector", "objectSelector"] {
        if has(v, key) {
            selector::check(at(v, key), path.child(key), errors);
        } else {
            errors.push(Cause::required(path.child(key), ""));
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(key);
        for (i, rule) in super::indexed(v, key) {
            let path = list.index(i);
            let names = path.child("resourceNames");
            let mut seen = HashSet::new();
            for (j, name) in texts(rule, "resourceNames").enumerate() {
                name_error(check_path_segment(name), name, names.index(j), errors);
                if !seen.insert(name) {
                    errors.push(Cause::duplicate(names.index(j), name));
                }
            }
            with_operations(rule, path, errors);
        }
    }
}
