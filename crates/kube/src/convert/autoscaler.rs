//! Autoscalers: `v1` knows one target, the CPU; whatever else `v2` says travels in annotations, in the form that the stock
//! server uses (the metric shapes of the old `v2beta1`).

use crate::object::Object;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn map_of<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    value.get_mut(key).and_then(Value::as_object_mut)
}

fn take_list(map: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    match map.remove(key) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Whether this is the metric that `v1` has a field for, and its value.
fn cpu_utilization(metric: &Value, value_at: &str) -> Option<Value> {
    let is_cpu = metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
    let utilization = metric["resource"][value_at].get("averageUtilization")?;
    (is_cpu && !utilization.is_null()).then(|| utilization.clone())
}

/// Takes the first CPU utilization out of the list.
fn split_cpu(list: Vec<Value>, value_at: &str) -> (Option<Value>, Vec<Value>) {
    let mut cpu = None;
    let mut rest = Vec::new();
    for metric in list {
        match cpu_utilization(&metric, value_at) {
            Some(utilization) if cpu.is_none() => cpu = Some(utilization),
            _ => rest.push(metric),
        }
    }
    (cpu, rest)
}

pub(super) fn to_v1(value: &mut Value) {
    let mut annotations: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = map_of(value, "spec") {
        let (cpu, rest) = split_cpu(take_list(spec, "metrics"), "target");
        if let Some(utilization) = cpu {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), utilization);
        }
        if !rest.is_empty() {
            annotations.push((METRICS, rest.iter().map(|m| flatten(m, "target", "target")).collect()));
        }
        if let Some(behavior) = spec.remove("behavior").filter(|b| !b.is_null()) {
            annotations.push((BEHAVIOR, behavior));
        }
    }
    if let Some(status) = map_of(value, "status") {
        let current = take_list(status, "currentMetrics");
        if let Some(utilization) = current.iter().find_map(|m| cpu_utilization(m, "current")) {
            status.insert("currentCPUUtilizationPercentage".to_owned(), utilization);
        }
        if !current.is_empty() {
            annotations
                .push((CURRENT_METRICS, current.iter().map(|m| flatten(m, "current", "current")).collect()));
        }
        let conditions = take_list(status, "conditions");
        if !conditions.is_empty() {
            annotations.push((CONDITIONS, Value::Array(conditions)));
        }
    }
    let mut object = Object(std::mem::take(value));
    for (key, content) in annotations {
        object.annotations_mut().insert(key.to_owned(), Value::String(content.to_string()));
    }
    *value = object.0;
}

pub(super) fn to_v2(value: &mut Value) {
    let mut object = Object(std::mem::take(value));
    let mut take = |key: &str| -> Option<Value> {
        object.annotation(key)?;
        let text = object.annotations_mut().remove(key)?;
        // An annotation that does not parse is dropped, as on a stock server.
        serde_json::from_str(text.as_str()?).ok()
    };
    let (metrics, behavior) = (take(METRICS), take(BEHAVIOR));
    let (current, conditions) = (take(CURRENT_METRICS), take(CONDITIONS));
    *value = object.0;
    if let Some(spec) = map_of(value, "spec") {
        let mut list = Vec::new();
        if let Some(utilization) = spec.remove("targetCPUUtilizationPercentage").filter(|u| !u.is_null()) {
            let target = json!({"type": "Utilization", "averageUtilization": utilization});
            list.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        if let Some(Value::Array(others)) = metrics {
            list.extend(others.iter().map(|m| nest(m, "target")));
        }
        if !list.is_empty() {
            spec.insert("metrics".to_owned(), Value::Array(list));
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = map_of(value, "status") {
        let utilization = status.remove("currentCPUUtilizationPercentage").filter(|u| !u.is_null());
        let list = match (current, utilization) {
            (Some(Value::Array(list)), _) => list.iter().map(|m| nest(m, "current")).collect(),
            (_, Some(utilization)) => {
                let current = json!({"averageUtilization": utilization, "averageValue": "0"});
                vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})]
            }
            _ => Vec::new(),
        };
        if !list.is_empty() {
            status.insert("currentMetrics".to_owned(), Value::Array(list));
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".to_owned(), conditions);
        }
    }
}

/// The part of a metric that its type names.
fn source_key(metric: &Value) -> Option<&'static str> {
    match metric["type"].as_str()? {
        "Resource" => Some("resource"),
        "ContainerResource" => Some("containerResource"),
        "Pods" => Some("pods"),
        "Object" => Some("object"),
        "External" => Some("external"),
        _ => None,
    }
}

fn capital(prefix: &str, name: &str) -> String {
    let mut out = prefix.to_owned();
    let mut chars = name.chars();
    out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
    out.extend(chars);
    out
}

/// Moves what is not null.
fn put(out: &mut Map<String, Value>, key: &str, value: &Value) {
    if !value.is_null() {
        out.insert(key.to_owned(), value.clone());
    }
}

const AMOUNTS: [&str; 3] = ["value", "averageValue", "averageUtilization"];

/// `v2`'s nested metric in the old flat form: `target.averageValue` becomes `targetAverageValue`.
fn flatten(metric: &Value, amounts_at: &str, prefix: &str) -> Value {
    let Some(key) = source_key(metric) else { return metric.clone() };
    let source = &metric[key];
    let mut out = Map::new();
    for name in ["name", "container"] {
        put(&mut out, name, &source[name]);
    }
    put(&mut out, "metricName", &source["metric"]["name"]);
    let selector = if key == "external" { "metricSelector" } else { "selector" };
    put(&mut out, selector, &source["metric"]["selector"]);
    put(&mut out, "target", &source["describedObject"]);
    for amount in AMOUNTS {
        // An object metric keeps its average under the plain name.
        let flat = if key == "object" && amount == "averageValue" {
            amount.to_owned()
        } else {
            capital(prefix, amount)
        };
        put(&mut out, &flat, &source[amounts_at][amount]);
    }
    json!({"type": metric["type"], key: out})
}

/// The old flat metric in `v2`'s nested form.
fn nest(metric: &Value, prefix: &str) -> Value {
    let Some(key) = source_key(metric) else { return metric.clone() };
    let source = &metric[key];
    let mut out = Map::new();
    for name in ["name", "container"] {
        put(&mut out, name, &source[name]);
    }
    let mut identifier = Map::new();
    put(&mut identifier, "name", &source["metricName"]);
    let selector = if key == "external" { "metricSelector" } else { "selector" };
    put(&mut identifier, "selector", &source[selector]);
    if !identifier.is_empty() {
        out.insert("metric".to_owned(), Value::Object(identifier));
    }
    put(&mut out, "describedObject", &source["target"]);
    let mut amounts = Map::new();
    for amount in AMOUNTS {
        let flat = if key == "object" && amount == "averageValue" {
            amount.to_owned()
        } else {
            capital(prefix, amount)
        };
        put(&mut amounts, amount, &source[flat.as_str()]);
    }
    if prefix == "target" {
        let kind = match amounts.keys().find(|k| *k != "value").map(String::as_str) {
            Some("averageUtilization") => "Utilization",
            Some(_) => "AverageValue",
            None => "Value",
        };
        amounts.insert("type".to_owned(), Value::from(kind));
    }
    out.insert(prefix.to_owned(), Value::Object(amounts));
    json!({"type": metric["type"], key: out})
}
