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

/// Takes the CPU utilizations out of the list. Only the first has a place in `v1`; of others a stock server keeps nothing there.
fn split_cpu(list: Vec<Value>, value_at: &str) -> (Option<Value>, Vec<Value>) {
    let mut cpu = None;
    let mut rest = Vec::new();
    for metric in list {
        match cpu_utilization(&metric, value_at) {
            Some(utilization) => cpu = cpu.or(Some(utilization)),
            None => rest.push(metric),
        }
    }
    (cpu, rest)
}

pub(super) fn to_v1(value: &mut Value) {
    let mut annotations: Vec<(&str, String)> = Vec::new();
    let list = |metrics: &[Value], prefix: &str| {
        let metrics: Vec<String> = metrics.iter().map(|m| in_order(&flatten(m, prefix, prefix))).collect();
        format!("[{}]", metrics.join(","))
    };
    if let Some(spec) = map_of(value, "spec") {
        let (cpu, rest) = split_cpu(take_list(spec, "metrics"), "target");
        if let Some(utilization) = cpu {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), utilization);
        }
        if !rest.is_empty() {
            annotations.push((METRICS, list(&rest, "target")));
        }
        if let Some(behavior) = spec.remove("behavior").filter(|b| !b.is_null()) {
            annotations.push((BEHAVIOR, behavior_text(&behavior)));
        }
    }
    if let Some(status) = map_of(value, "status") {
        let current = take_list(status, "currentMetrics");
        if let Some(utilization) = current.iter().find_map(|m| cpu_utilization(m, "current")) {
            status.insert("currentCPUUtilizationPercentage".to_owned(), utilization);
        }
        if !current.is_empty() {
            annotations.push((CURRENT_METRICS, list(&current, "current")));
        }
        let conditions = take_list(status, "conditions");
        if !conditions.is_empty() {
            let conditions: Vec<String> = conditions.iter().map(condition_text).collect();
            annotations.push((CONDITIONS, format!("[{}]", conditions.join(","))));
        }
    }
    let mut object = Object(std::mem::take(value));
    for (key, content) in annotations {
        object.annotations_mut().insert(key.to_owned(), Value::String(content));
    }
    *value = object.0;
}

/// The fields of everything that the annotations hold, in the order in which Go writes them: clients compare these texts.
const ORDER: [&str; 31] = [
    "type",
    "status",
    "lastTransitionTime",
    "reason",
    "message",
    "object",
    "pods",
    "resource",
    "containerResource",
    "external",
    "target",
    "kind",
    "name",
    "apiVersion",
    "metricName",
    "metricSelector",
    "targetValue",
    "currentValue",
    "targetAverageUtilization",
    "currentAverageUtilization",
    "targetAverageValue",
    "currentAverageValue",
    "container",
    "selector",
    "averageValue",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "observedGeneration",
];

/// An object as Go writes a structure of these fields. Labels have names of their own and go by those.
fn in_order(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<(&String, String)> = map
                .iter()
                .map(|(key, v)| (key, if key == "matchLabels" { escaped(v) } else { in_order(v) }))
                .collect();
            let rank = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
            fields.sort_by_key(|(key, _)| rank(key));
            let fields: Vec<String> = fields
                .into_iter()
                .map(|(key, text)| format!("{}:{text}", escaped(&key.as_str().into())))
                .collect();
            format!("{{{}}}", fields.join(","))
        }
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(in_order).collect();
            format!("[{}]", list.join(","))
        }
        other => escaped(other),
    }
}

/// JSON in which Go has made signs harmless that mean something to a browser.
fn escaped(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(['<', '>', '&']) {
        return text;
    }
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// A condition: its time is always there.
fn condition_text(condition: &Value) -> String {
    let mut condition = condition.clone();
    if let Some(map) = condition.as_object_mut() {
        map.entry("lastTransitionTime").or_insert(Value::Null);
    }
    in_order(&condition)
}

/// How a behavior and its parts are called in the annotation, which are the names of Go's own fields; absent ones are null there.
const RULES: [&str; 4] = ["stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance"];
const POLICY: [&str; 3] = ["type", "value", "periodSeconds"];

fn behavior_text(behavior: &Value) -> String {
    let of = |value: &Value, fields: &[&str], each: &dyn Fn(&str, &Value) -> String| {
        if value.is_null() {
            return "null".to_owned();
        }
        let fields: Vec<String> =
            fields.iter().map(|f| format!("\"{}\":{}", capital("", f), each(f, &value[*f]))).collect();
        format!("{{{}}}", fields.join(","))
    };
    let policy = |p: &Value| of(p, &POLICY, &|_, v| escaped(v));
    let rule = |field: &str, v: &Value| match (field, v) {
        ("policies", Value::Array(list)) => {
            format!("[{}]", list.iter().map(policy).collect::<Vec<_>>().join(","))
        }
        _ => escaped(v),
    };
    of(behavior, &["scaleUp", "scaleDown"], &|_, rules| of(rules, &RULES, &rule))
}

/// What such a text says; Go does not mind how a field's name is capitalised. `None` where it says nothing.
fn behavior_of(text: &Value) -> Option<Value> {
    let part = |value: &Value, fields: &[&str]| -> Map<String, Value> {
        let given = value.as_object().into_iter().flatten();
        let known = given.filter_map(|(key, v)| {
            let field = fields.iter().find(|f| f.eq_ignore_ascii_case(key))?;
            (!v.is_null()).then(|| ((*field).to_owned(), v.clone()))
        });
        known.collect()
    };
    let mut behavior = part(text, &["scaleUp", "scaleDown"]);
    for rules in behavior.values_mut() {
        let mut read = part(rules, &RULES);
        if let Some(Value::Array(policies)) = read.get_mut("policies") {
            policies.iter_mut().for_each(|p| *p = part(p, &POLICY).into());
        }
        *rules = read.into();
    }
    (!behavior.is_empty()).then(|| behavior.into())
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
        if let Some(Value::Array(others)) = metrics {
            list.extend(others.iter().map(|m| nest(m, "target")));
        }
        if let Some(utilization) = spec.remove("targetCPUUtilizationPercentage").filter(|u| !u.is_null()) {
            let target = json!({"type": "Utilization", "averageUtilization": utilization});
            list.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        if !list.is_empty() {
            spec.insert("metrics".to_owned(), Value::Array(list));
        }
        if let Some(behavior) = behavior.as_ref().and_then(behavior_of) {
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

fn is_zero(amount: &Value) -> bool {
    let parsed = amount.as_str().map(stoa_units::Quantity::parse);
    parsed.and_then(Result::ok).is_some_and(|q| q.is_zero())
}

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
    // Amounts that Go's old form cannot leave out.
    let always = match (key, prefix) {
        ("object", _) | ("external", "current") => Some("value"),
        ("pods", _) | ("resource" | "containerResource", "current") => Some("averageValue"),
        _ => None,
    };
    if let Some(amount) = always {
        out.entry(capital(prefix, amount)).or_insert_with(|| "0".into());
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
    // The old form says zero of what is not there.
    if key == "object" && prefix == "target" && amounts.contains_key("averageValue") {
        amounts.retain(|name, v| name != "value" || !is_zero(v));
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
