//! Autoscalers: bounds, metrics and how quickly to follow them.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::{check_label_key, check_path_segment};

use super::field::{
    Errors, NOT_NEGATIVE, Path, dns_label, indexed, int_at_least, name_error, not_negative, optional_one_of,
    quantity,
};
use super::quota;
use crate::value::{at, has, int, text};

const SPEC: Path<'static> = Path::root("spec");

/// An autoscaler; `old` is what it was, null if it is new.
pub(super) fn autoscaler(old: &Value, object: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(object, "spec"));
    let min = int(spec, "minReplicas").unwrap_or(1);
    // An autoscaler that once could rest at nothing may go on to.
    let low = if int(stored, "minReplicas") == Some(0) { 0 } else { 1 };
    int_at_least(spec, "minReplicas", low, SPEC, errors);
    let max = int(spec, "maxReplicas").unwrap_or(0);
    let at_max = SPEC.child("maxReplicas");
    if max == 0 {
        errors.push(Cause::required(at_max, "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(Cause::invalid(at_max, max, "must be greater than or equal to 1"));
    }
    if max < min {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(Cause::invalid(at_max, max, why));
    }
    let target = at(spec, "scaleTargetRef");
    let was = at(stored, "scaleTargetRef");
    let same = ["apiVersion", "kind"].iter().all(|k| text(was, k) == text(target, k));
    let version = match text(target, "kind") {
        _ if was.is_object() && same => Version::Any,
        "ReplicationController" => Version::Wellformed,
        _ => Version::OfGroup,
    };
    reference(target, version, SPEC.child("scaleTargetRef"), errors);
    let list = SPEC.child("metrics");
    for (i, m) in indexed(spec, "metrics") {
        metric(m, list.index(i), errors);
    }
    let wakes = indexed(spec, "metrics").any(|(_, m)| matches!(text(m, "type"), "Object" | "External"));
    if min == 0 && !wakes {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Cause::forbidden(list, why));
    }
    let behavior = at(spec, "behavior");
    let at_behavior = SPEC.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if has(behavior, direction) {
            rules(at(behavior, direction), at_behavior.child(direction), errors);
        }
    }
}

pub(super) fn autoscaler_status(object: &Value, errors: &mut Errors) {
    for key in ["currentReplicas", "desiredReplicas"] {
        not_negative(at(object, "status"), key, Path::root("status"), errors);
    }
}

/// What the version of an object that is referred to must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Any,
    Wellformed,
    OfGroup,
}

fn reference(target: &Value, version: Version, path: Path<'_>, errors: &mut Errors) {
    for key in ["kind", "name"] {
        match text(target, key) {
            "" => errors.push(Cause::required(path.child(key), "")),
            name => name_error(check_path_segment(name), name, path.child(key), errors),
        }
    }
    let text = text(target, "apiVersion");
    let why = match text.matches('/').count() {
        _ if version == Version::Any => return,
        count if count > 1 => format!("unexpected GroupVersion string: {text}"),
        _ if version == Version::OfGroup
            && text.split_once('/').is_none_or(|(group, _)| group.is_empty()) =>
        {
            "apiVersion must specify API group".to_owned()
        }
        _ => return,
    };
    errors.push(Cause::invalid(path.child("apiVersion"), text, &why));
}

/// The field that holds a metric of each type, in the order in which they are looked at.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn metric(m: &Value, path: Path<'_>, errors: &mut Errors) {
    let kind = text(m, "type");
    let wanted = SOURCES.iter().find(|(k, _)| *k == kind).map(|(_, field)| *field);
    let unknown = || {
        let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
        Cause::not_supported(path.child("type"), kind, &known)
    };
    if kind.is_empty() {
        errors.push(Cause::required(path.child("type"), "must specify a metric source type"));
    }
    if wanted.is_none() {
        errors.push(unknown());
    }
    let present: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|f| has(m, f)).collect();
    if let Some(first) = present.first() {
        source(first, at(m, first), path.child(first), errors);
    }
    match wanted {
        // Said twice, as the stock server does.
        None => errors.push(unknown()),
        Some(field) if !has(m, field) => {
            let why = "must populate information for the given metric source";
            errors.push(Cause::required(path.child(field), why));
        }
        Some(_) => {}
    }
    if present.len() > 1 {
        for field in present.into_iter().filter(|field| Some(*field) != wanted) {
            let why = "must populate the given metric source only";
            errors.push(Cause::forbidden(path.child(field), why));
        }
    }
}

fn source(field: &str, v: &Value, path: Path<'_>, errors: &mut Errors) {
    let shares = matches!(field, "resource" | "containerResource");
    match field {
        "object" => {
            let described = at(v, "describedObject");
            reference(described, Version::Wellformed, path.child("describedObject"), errors);
            identifier(v, path.child("metric"), errors);
        }
        "pods" | "external" => identifier(v, path.child("metric"), errors),
        _ => {
            match text(v, "name") {
                "" => errors.push(Cause::required(path.child("name"), "must specify a resource name")),
                name if field == "containerResource" => {
                    resource_name(name, path.child("name"), errors);
                }
                _ => {}
            }
            match text(v, "container") {
                _ if field != "containerResource" => {}
                "" => errors.push(Cause::required(path.child("container"), "must specify a container")),
                name => dns_label(name, path.child("container"), errors),
            }
        }
    }
    let (t, at_target) = (at(v, "target"), path.child("target"));
    target(t, at_target, errors);
    let (value, average, share) = (has(t, "value"), has(t, "averageValue"), has(t, "averageUtilization"));
    if shares {
        if !average && !share {
            let why = "must set either a target raw value or a target utilization";
            errors.push(Cause::required(at_target.child("averageUtilization"), why));
        } else if average && share {
            let why = "may not set both a target raw value and a target utilization";
            errors.push(Cause::forbidden(at_target.child("averageValue"), why));
        }
    } else if field == "pods" {
        if !average {
            let why = "must specify a positive target averageValue";
            errors.push(Cause::required(at_target.child("averageValue"), why));
        }
    } else if !value && !average {
        let why = match field {
            "object" => "must set either a target value or averageValue",
            _ => "must set either a target value for metric or a per-pod target",
        };
        errors.push(Cause::required(at_target.child("averageValue"), why));
    } else if value && average && field == "external" {
        let why = "may not set both a target value for metric and a per-pod target";
        errors.push(Cause::forbidden(at_target.child("value"), why));
    }
}

/// A resource that containers have amounts of.
fn resource_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    let checked = check_label_key(name);
    if let Err(e) = &checked {
        errors.push(Cause::invalid(path, name, e.0));
    }
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        if checked.is_ok() && !quota::is_standard(name) {
            errors.push(Cause::invalid(path, name, quota::NOT_STANDARD));
        }
        errors.push(Cause::invalid(path, name, "must be a standard resource for containers"));
    }
}

fn identifier(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let metric = at(v, "metric");
    match text(metric, "name") {
        "" => errors.push(Cause::required(path.child("name"), "must specify a metric name")),
        name => name_error(check_path_segment(name), name, path.child("name"), errors),
    }
}

fn target(t: &Value, path: Path<'_>, errors: &mut Errors) {
    match text(t, "type") {
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
            if other.is_empty() {
                errors.push(Cause::required(path.child("type"), "must specify a metric target type"));
            }
            let why = "must be either Utilization, Value, or AverageValue";
            errors.push(Cause::invalid(path.child("type"), other, why));
        }
    }
    for key in ["value", "averageValue"] {
        if quantity(t, key).is_some_and(|q| q.is_zero() || q.is_negative()) {
            errors.push(Cause::invalid(path.child(key), at(t, key).clone(), "must be positive"));
        }
    }
    if let Some(share) = int(t, "averageUtilization").filter(|n| *n < 1) {
        errors.push(Cause::invalid(path.child("averageUtilization"), share, "must be greater than 0"));
    }
}

/// An hour, and half of one.
const WINDOW_SECONDS_MAX: i64 = 3600;
const PERIOD_SECONDS_MAX: i64 = 1800;

fn rules(rules: &Value, path: Path<'_>, errors: &mut Errors) {
    let mut window = |why: String, n: i64| {
        errors.push(Cause::invalid(path.child("stabilizationWindowSeconds"), n, &why));
    };
    match int(rules, "stabilizationWindowSeconds") {
        Some(n) if n < 0 => window("must be greater than or equal to zero".to_owned(), n),
        Some(n) if n > WINDOW_SECONDS_MAX => {
            window(format!("must be less than or equal to {WINDOW_SECONDS_MAX}"), n);
        }
        _ => {}
    }
    optional_one_of(rules, "selectPolicy", &["Disabled", "Max", "Min"], path, errors);
    let list = path.child("policies");
    if indexed(rules, "policies").next().is_none() {
        errors.push(Cause::required(list, "must specify at least one Policy"));
    }
    for (i, policy) in indexed(rules, "policies") {
        let path = list.index(i);
        let kind = text(policy, "type");
        if !matches!(kind, "Percent" | "Pods") {
            errors.push(Cause::not_supported(path.child("type"), kind, &["Percent", "Pods"]));
        }
        for key in ["value", "periodSeconds"] {
            if let Some(n) = Some(int(policy, key).unwrap_or(0)).filter(|n| *n <= 0) {
                errors.push(Cause::invalid(path.child(key), n, "must be greater than zero"));
            }
        }
        if let Some(n) = int(policy, "periodSeconds").filter(|n| *n > PERIOD_SECONDS_MAX) {
            let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            errors.push(Cause::invalid(path.child("periodSeconds"), n, &why));
        }
    }
    if quantity(rules, "tolerance").is_some_and(|q| q.is_negative()) {
        errors.push(Cause::invalid(path.child("tolerance"), at(rules, "tolerance").clone(), NOT_NEGATIVE));
    }
}
