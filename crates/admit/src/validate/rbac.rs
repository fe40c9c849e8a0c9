//! Roles and bindings.

use serde_json::Value;
use stoa_kube::Cause;

use super::field::{Errors, Path, indexed};
use super::{selector, shown};
use crate::RBAC_GROUP;
use crate::value::{at, is_empty, text};
use stoa_units::{check_dns_subdomain, check_path_segment};

pub(super) fn role(object: &Value, namespaced: bool, errors: &mut Errors) {
    let list = Path::root("rules");
    for (i, rule) in indexed(object, "rules") {
        let path = list.index(i);
        if is_empty(rule, "verbs") {
            let why = "verbs must contain at least one value";
            errors.push(Cause::required(path.child("verbs"), why));
        }
        if !is_empty(rule, "nonResourceURLs") {
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                let shown = at(rule, "nonResourceURLs").clone();
                errors.push(Cause::invalid(path.child("nonResourceURLs"), shown, why));
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|k| !is_empty(rule, k)) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                let shown = at(rule, "nonResourceURLs").clone();
                errors.push(Cause::invalid(path.child("nonResourceURLs"), shown, why));
            }
            continue;
        }
        if is_empty(rule, "apiGroups") {
            let why = "resource rules must supply at least one api group";
            errors.push(Cause::required(path.child("apiGroups"), why));
        }
        if is_empty(rule, "resources") {
            let why = "resource rules must supply at least one resource";
            errors.push(Cause::required(path.child("resources"), why));
        }
    }
    let aggregation = at(object, "aggregationRule");
    if aggregation.is_object() {
        let root = Path::root("aggregationRule");
        let list = root.child("clusterRoleSelectors");
        if is_empty(aggregation, "clusterRoleSelectors") {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(Cause::required(list, why));
        }
        for (i, s) in indexed(aggregation, "clusterRoleSelectors") {
            let before = errors.len();
            selector::check(s, list.index(i), errors);
            if errors.len() > before {
                // What came of it, which is nothing, is what a stock server shows.
                errors.push(Cause::invalid(list.index(i), Value::Null, "invalid label selector."));
            }
        }
    }
}

pub(super) fn binding(object: &Value, namespaced: bool, errors: &mut Errors) {
    let reference = at(object, "roleRef");
    let path = Path::root("roleRef");
    let group = text(reference, "apiGroup");
    if group != RBAC_GROUP {
        errors.push(Cause::not_supported(path.child("apiGroup"), group, &[RBAC_GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(reference, "kind")) {
        errors.push(Cause::not_supported(path.child("kind"), text(reference, "kind"), kinds));
    }
    match text(reference, "name") {
        "" => errors.push(Cause::required(path.child("name"), "")),
        name => {
            if let Err(e) = check_path_segment(name) {
                errors.push(Cause::invalid(path.child("name"), name, e.0));
            }
        }
    }
    let list = Path::root("subjects");
    for (i, s) in indexed(object, "subjects") {
        subject(s, namespaced, list.index(i), errors);
    }
}

fn subject(s: &Value, namespaced: bool, path: Path<'_>, errors: &mut Errors) {
    let name = text(s, "name");
    if name.is_empty() {
        errors.push(Cause::required(path.child("name"), ""));
    }
    let group = text(s, "apiGroup");
    match text(s, "kind") {
        "ServiceAccount" => {
            if let Err(e) = check_dns_subdomain(name)
                && !name.is_empty()
            {
                errors.push(Cause::invalid(path.child("name"), name, e.0));
            }
            if !group.is_empty() {
                errors.push(Cause::not_supported(path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && is_empty(s, "namespace") {
                errors.push(Cause::required(path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != RBAC_GROUP {
                errors.push(Cause::not_supported(path.child("apiGroup"), group, &[RBAC_GROUP]));
            }
        }
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            errors.push(Cause::not_supported(path.child("kind"), other, &known));
        }
    }
}

pub(super) fn binding_change(old: &Value, new: &Value, errors: &mut Errors) {
    if at(old, "roleRef") != at(new, "roleRef") {
        let why = "cannot change roleRef";
        errors.push(shown::invalid(Path::root("roleRef"), at(new, "roleRef"), shown::ROLE_REF, why));
    }
}
