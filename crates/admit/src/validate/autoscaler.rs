//! Autoscalers: bounds, metrics and how quickly to follow them.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::check_path_segment;

use super::field::{Errors, Path, indexed, name_error, not_negative, optional_one_of, quantity};
use super::selector;
use crate::value::{at, has, int, text};

const SPEC: Path<'static> = Path::root("spec");

pub(super) fn autoscaler(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let min = int(spec, "minReplicas").unwrap_or(1);
    if min < 1 {
        let why = "must be greater than or equal to 1";
        errors.push(Cause::invalid(SPEC.child("minReplicas"), min, why));
    }
    let max = int(spec, "maxReplicas").unwrap_or(0);
    if max < 1 {
        errors.push(Cause::invalid(SPEC.child("maxReplicas"), max, "must be greater than 0"));
    }
    if max < min {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(Cause::invalid(SPEC.child("maxReplicas"), max, why));
    }
    reference(at(spec, "scaleTargetRef"), SPEC.child("scaleTargetRef"), errors);
    let list = SPEC.child("metrics");
    let mut resources = 0;
    for (i, m) in indexed(spec, "metrics") {
        metric(m, list.index(i), errors);
        resources += usize::from(matches!(text(m, "type"), "Resource" | "ContainerResource"));
    }
    let count = indexed(spec, "metrics").count();
    if min == 0 && count > 0 && resources == count {
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

fn reference(target: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["kind", "name"] {
        match text(target, key) {
            "" => errors.push(Cause::required(path.child(key), "")),
            name => name_error(check_path_segment(name), name, path.child(key), errors),
        }
    }
}

/// The field that holds a metric of each type.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

fn metric(m: &Value, path: Path<'_>, errors: &mut Errors) {
    let kind = text(m, "type");
    let wanted = SOURCES.iter().find(|(k, _)| *k == kind).map(|(_, field)| *field);
    match (kind, wanted) {
        ("", _) => errors.push(Cause::required(path.child("type"), "must specify a metric source type")),
        (_, None) => {
            let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
            errors.push(Cause::not_supported(path.child("type"), kind, &known));
        }
        _ => {}
    }
    for (_, field) in SOURCES.iter().filter(|(_, field)| has(m, field)) {
        source(field, at(m, field), path.child(field), errors);
    }
    let Some(wanted) = wanted else { return };
    if !has(m, wanted) {
        let why = "must populate information for the given metric source";
        errors.push(Cause::required(path.child(wanted), why));
    }
    for (_, field) in SOURCES.iter().filter(|(_, field)| *field != wanted && has(m, field)) {
        let why = "must populate the given metric source only";
        errors.push(Cause::forbidden(path.child(field), why));
    }
}

fn source(field: &str, v: &Value, path: Path<'_>, errors: &mut Errors) {
    let shares = matches!(field, "resource" | "containerResource");
    match field {
        "object" => {
            reference(at(v, "describedObject"), path.child("describedObject"), errors);
            identifier(v, path.child("metric"), errors);
        }
        "pods" | "external" => identifier(v, path.child("metric"), errors),
        _ => {
            if text(v, "name").is_empty() {
                errors.push(Cause::required(path.child("name"), "must specify a resource name"));
            }
            if field == "containerResource" && text(v, "container").is_empty() {
                errors.push(Cause::required(path.child("container"), "must specify a container"));
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

fn identifier(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let metric = at(v, "metric");
    match text(metric, "name") {
        "" => errors.push(Cause::required(path.child("name"), "must specify a metric name")),
        name => name_error(check_path_segment(name), name, path.child("name"), errors),
    }
    selector::check(at(metric, "selector"), path.child("selector"), errors);
}

fn target(t: &Value, path: Path<'_>, errors: &mut Errors) {
    match text(t, "type") {
        "" => errors.push(Cause::required(path.child("type"), "must specify a metric target type")),
        "Utilization" | "Value" | "AverageValue" => {}
        other => {
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
            if let Some(n) = int(policy, key).filter(|n| *n <= 0) {
                errors.push(Cause::invalid(path.child(key), n, "must be greater than zero"));
            }
        }
        if let Some(n) = int(policy, "periodSeconds").filter(|n| *n > PERIOD_SECONDS_MAX) {
            let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            errors.push(Cause::invalid(path.child("periodSeconds"), n, &why));
        }
    }
}
