//! Horizontal pod autoscalers. Both versions are shown as `v2`, which is the one that knows all metrics.

use super::view::{View, at, shown, text};
use crate::convert::convert;
use crate::resource::GroupVersion;
use serde_json::Value;

const V2: GroupVersion = GroupVersion { group: "autoscaling", version: "v2" };
/// How many metrics fit a cell.
const METRICS_SHOWN_MAX: usize = 2;

/// A scale, of whatever is scaled.
pub(super) fn scale(view: View<'_>) -> Vec<Value> {
    let [desired, available] = ["spec.replicas", "status.replicas"].map(|path| view.number(path).into());
    vec![view.name(), desired, available, view.age()]
}

pub(super) fn cells(view: View<'_>, served: GroupVersion) -> Vec<Value> {
    let converted;
    let view = match served == V2 {
        true => view,
        false => match convert(view.object.clone(), served, V2) {
            Ok(value) => {
                converted = value;
                View { object: &converted, now: view.now }
            }
            Err(_) => view,
        },
    };
    let target = view.at("spec.scaleTargetRef");
    vec![
        view.name(),
        format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
        metrics(view).into(),
        shown(view.at("spec.minReplicas"), "<unset>").into(),
        view.number("spec.maxReplicas").into(),
        view.number("status.currentReplicas").into(),
        view.age(),
    ]
}

fn metrics(view: View<'_>) -> String {
    let specs = view.list("spec.metrics");
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let statuses = view.list("status.currentMetrics");
    let mut lines: Vec<String> = specs
        .iter()
        .enumerate()
        .map(|(i, spec)| metric(spec, statuses.get(i).unwrap_or(&Value::Null)))
        .collect();
    let more = lines.len().saturating_sub(METRICS_SHOWN_MAX);
    lines.truncate(METRICS_SHOWN_MAX);
    match more {
        0 => lines.join(", "),
        more => format!("{} + {more} more...", lines.join(", ")),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let key = match text(spec, "type") {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let (target, current) = (at(spec, &format!("{key}.target")), at(status, &format!("{key}.current")));
    let value = |name: &str| shown(at(current, name), "<unknown>");
    let amounts = if at(target, "averageValue").is_string() {
        let average = if matches!(key, "object" | "external") { " (avg)" } else { "" };
        format!("{}/{}{average}", value("averageValue"), text(target, "averageValue"))
    } else if matches!(key, "resource" | "containerResource") {
        let percent =
            |v: &Value, absent: &str| v.as_i64().map_or_else(|| absent.to_owned(), |n| format!("{n}%"));
        let current = percent(at(current, "averageUtilization"), "<unknown>");
        format!("{current}/{}", percent(at(target, "averageUtilization"), "<auto>"))
    } else {
        format!("{}/{}", value("value"), shown(at(target, "value"), "<unknown>"))
    };
    match key {
        "resource" | "containerResource" => format!("{}: {amounts}", text(at(spec, key), "name")),
        _ => amounts,
    }
}
