//! Resource quotas and limit ranges.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::field::{Errors, NOT_NEGATIVE, Path, indexed, name_error, quantity};
use crate::value::{at, has, is_empty, pairs, text, texts};

const SPEC: Path<'static> = Path::root("spec");

pub(super) fn quota(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let map = SPEC.child("hard");
    for (name, value) in pairs(spec, "hard") {
        let path = map.key(name);
        name_error(check_label_key(name), name, path, errors);
        if !name.contains('/') && !is_quota_name(name) {
            if check_label_key(name).is_ok() && !is_standard(name) {
                errors.push(Cause::invalid(path, name.as_str(), NOT_STANDARD));
            }
            errors.push(Cause::invalid(path, name.as_str(), "must be a standard resource for quota"));
        }
        let Some(q) = quantity(at(spec, "hard"), name) else { continue };
        if q.is_negative() {
            errors.push(Cause::invalid(path, value.clone(), NOT_NEGATIVE));
        }
        let counted = !name.contains("cpu") && !name.contains("memory") && !name.contains("storage");
        if counted && q.nano() % 1_000_000_000 != 0 {
            errors.push(Cause::invalid(path, value.clone(), "must be an integer"));
        }
    }
    scopes(spec, errors);
    if has(spec, "scopeSelector") {
        scope_selector(spec, errors);
    }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// What is said of a resource that has no domain and is none of the standard ones.
pub(super) const NOT_STANDARD: &str = "must be a standard resource type or fully qualified";

/// Whether a resource is one that clusters know, be it in a container or in a quota.
pub(super) fn is_standard(name: &str) -> bool {
    is_quota_name(name) || name == "storage" || name.starts_with("hugepages-")
}

/// Whether objects that a scope tells apart can use this resource up.
fn may_scope(scope: &str, resource: &str) -> bool {
    let compute = matches!(resource, "cpu" | "memory" | "ephemeral-storage" | "pods")
        || ["requests.", "limits."]
            .iter()
            .any(|side| matches!(resource.strip_prefix(side), Some("cpu" | "memory" | "ephemeral-storage")));
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => compute || resource.contains("hugepages-"),
    }
}

fn scopes(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("scopes");
    let given: Vec<&str> = texts(spec, "scopes").collect();
    let mut say = |why: &str| errors.push(Cause::invalid(list, at(spec, "scopes").clone(), why));
    for scope in &given {
        if !SCOPES.contains(scope) {
            say("unsupported scope");
        }
        for (resource, _) in pairs(spec, "hard").filter(|(r, _)| is_quota_name(r)) {
            if !may_scope(scope, resource) {
                say("unsupported scope applied to resource");
            }
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]] {
        if pair.iter().all(|scope| given.contains(scope)) {
            say("conflicting scopes");
        }
    }
}

fn scope_selector(spec: &Value, errors: &mut Errors) {
    let root = SPEC.child("scopeSelector");
    let list = root.child("matchExpressions");
    for (i, e) in indexed(at(spec, "scopeSelector"), "matchExpressions") {
        let path = list.index(i);
        let (scope, operator) = (text(e, "scopeName"), text(e, "operator"));
        if !SCOPES.contains(&scope) {
            errors.push(Cause::invalid(path.child("scopeName"), scope, "unsupported scope"));
        }
        let has_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if !has_values && SCOPES.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Cause::invalid(path.child("operator"), operator, why));
        }
        let values = texts(e, "values").count();
        match operator {
            "In" | "NotIn" if values == 0 => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Cause::required(path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Cause::invalid(path.child("values"), at(e, "values").clone(), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(Cause::invalid(path.child("operator"), other, "not a valid selector operator"));
            }
        }
    }
}

/// What a quota counts is decided once.
pub(super) fn quota_change(old: &Value, new: &Value, errors: &mut Errors) {
    let sorted = |o: &Value| {
        let mut scopes: Vec<String> = texts(at(o, "spec"), "scopes").map(str::to_owned).collect();
        scopes.sort();
        scopes
    };
    if sorted(old) != sorted(new) {
        errors.push(Cause::immutable(SPEC.child("scopes"), at(at(new, "spec"), "scopes").clone()));
    }
}

fn is_quota_name(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.storage"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "persistentvolumeclaims"
            | "configmaps"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

/// What is limited: one of the standard types, or somebody's own.
fn limit_type(kind: &str, path: Path<'_>, errors: &mut Errors) {
    match check_label_key(kind) {
        Err(_) => name_error(check_label_key(kind), kind, path, errors),
        Ok(()) if !kind.contains('/') && !["Container", "PersistentVolumeClaim", "Pod"].contains(&kind) => {
            errors.push(Cause::invalid(path, kind, "must be a standard limit type or fully qualified"));
        }
        Ok(()) => {}
    }
}

pub(super) fn limit_range(object: &Value, errors: &mut Errors) {
    let list = SPEC.child("limits");
    let mut types = HashSet::new();
    for (i, item) in indexed(at(object, "spec"), "limits") {
        let path = list.index(i);
        let kind = text(item, "type");
        limit_type(kind, path.child("type"), errors);
        if !types.insert(kind) {
            errors.push(Cause::duplicate(path.child("type"), kind));
        }
        if text(item, "type") == "Pod" {
            for key in ["default", "defaultRequest"] {
                if !is_empty(item, key) {
                    let why = "may not be specified when `type` is 'Pod'";
                    errors.push(Cause::forbidden(path.child(key), why));
                }
            }
        }
        if text(item, "type") == "PersistentVolumeClaim"
            && !["min", "max"].iter().any(|side| has(at(item, side), "storage"))
        {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(Cause::required(path, why));
        }
        let ratios = path.child("maxLimitRequestRatio");
        for (name, value) in pairs(item, "maxLimitRequestRatio") {
            let Some(ratio) = quantity(at(item, "maxLimitRequestRatio"), name) else { continue };
            if ratio.nano() < 1_000_000_000 {
                let why = format!("ratio {ratio} is less than 1");
                errors.push(Cause::invalid(ratios.key(name), value.clone(), &why));
            }
        }
        // Lower bound, what it must not exceed, and how messages call the two.
        for (low, high, a, b) in [
            ("min", "max", "min", "max"),
            ("defaultRequest", "max", "default request", "max"),
            ("defaultRequest", "default", "default request", "default limit"),
            ("default", "max", "default", "max"),
            ("min", "defaultRequest", "min", "default request"),
            ("min", "default", "min", "default"),
        ]
        .into_iter()
        .filter(|(low, high, ..)| text(item, "type") != "Pod" || (*low, *high) == ("min", "max"))
        {
            for (name, value) in pairs(item, low) {
                let bounds = (quantity(at(item, low), name), quantity(at(item, high), name));
                if let (Some(l), Some(h)) = bounds
                    && l.nano() > h.nano()
                {
                    let why = format!("{a} value {l} is greater than {b} value {h}");
                    let map = path.child(low);
                    errors.push(Cause::invalid(map.key(name), value.clone(), &why));
                }
            }
        }
    }
}
