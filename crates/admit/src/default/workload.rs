//! Defaults of what makes pods: deployments, sets, jobs, autoscalers.

use serde_json::{Map, Value, json};

use super::pod::pod_template;
use crate::value::{
    at, ensure, flag, has, is_empty, items_mut, path, path_mut, set, set_default, set_default_zero, text,
};

fn template_of(object: &mut Value) {
    if let Some(template) = path_mut(object, &["spec", "template"]) {
        pod_template(template);
    }
}

/// The labels of the template, which replication controllers select and wear by default.
fn template_labels(object: &Value) -> Option<Value> {
    let labels = path(object, &["spec", "template", "metadata", "labels"]);
    labels.as_object().filter(|m| !m.is_empty()).map(|_| labels.clone())
}

pub(super) fn replication_controller(object: &mut Value) {
    template_of(object);
    let Some(labels) = template_labels(object) else { return };
    if let Some(spec) = object.get_mut("spec")
        && is_empty(spec, "selector")
    {
        set(spec, "selector", labels.clone());
    }
    if let Some(meta) = ensure(object, "metadata")
        && is_empty(meta, "labels")
    {
        set(meta, "labels", labels);
    }
}

pub(super) fn deployment(object: &mut Value) {
    template_of(object);
    let Some(strategy) = path_mut(object, &["spec", "strategy"]) else { return };
    if text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = ensure(strategy, "rollingUpdate")
    {
        set_default(rolling, "maxUnavailable", "25%");
        set_default(rolling, "maxSurge", "25%");
    }
}

pub(super) fn replica_set(object: &mut Value) {
    template_of(object);
}

pub(super) fn stateful_set(object: &mut Value) {
    template_of(object);
    let Some(spec) = object.get_mut("spec") else { return };
    if let Some(strategy) = spec.get_mut("updateStrategy")
        && text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = ensure(strategy, "rollingUpdate")
    {
        set_default(rolling, "partition", 0);
    }
    for claim in items_mut(spec, "volumeClaimTemplates") {
        set(claim, "kind", "PersistentVolumeClaim");
        set(claim, "apiVersion", "v1");
        if let Some(claim_spec) = claim.get_mut("spec") {
            set_default(claim_spec, "volumeMode", "Filesystem");
        }
        if let Some(status) = ensure(claim, "status") {
            set_default_zero(status, "phase", "Pending");
        }
    }
}

pub(super) fn daemon_set(object: &mut Value) {
    template_of(object);
    // Which change of the template it is stands among the annotations, from before anybody has counted.
    if let Some(notes) = ensure(object, "metadata").and_then(|m| ensure(m, "annotations")) {
        set_default(notes, crate::strategy::TEMPLATE_GENERATION, "0");
    }
    let Some(strategy) = path_mut(object, &["spec", "updateStrategy"]) else { return };
    if text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = ensure(strategy, "rollingUpdate")
    {
        set_default(rolling, "maxUnavailable", 1);
        set_default(rolling, "maxSurge", 0);
    }
}

pub(super) fn job(object: &mut Value) {
    template_of(object);
    // A job without labels wears its template's.
    if let (Some(labels), Some(meta)) = (template_labels(object), ensure(object, "metadata"))
        && is_empty(meta, "labels")
    {
        set(meta, "labels", labels);
    }
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    if !has(spec, "completions") && !has(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    if has(spec, "backoffLimitPerIndex") && text(spec, "completionMode") == "Indexed" {
        // The limit per index decides; the table's limit of six for the whole job would cut it short.
        if at(spec, "backoffLimit").as_i64() == Some(6) {
            set(spec, "backoffLimit", i32::MAX);
        }
    }
    let replacement = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    set_default(spec, "podReplacementPolicy", replacement);
    failure_conditions(spec);
}

/// A condition that a job's policy asks for is one that holds.
fn failure_conditions(spec: &mut Value) {
    for rule in spec.get_mut("podFailurePolicy").into_iter().flat_map(|p| items_mut(p, "rules")) {
        items_mut(rule, "onPodConditions").for_each(|c| set_default_zero(c, "status", "True"));
    }
}

pub(super) fn cron_job(object: &mut Value) {
    if let Some(template) = path_mut(object, &["spec", "jobTemplate", "spec", "template"]) {
        pod_template(template);
    }
    if let Some(spec) = path_mut(object, &["spec", "jobTemplate", "spec"]) {
        failure_conditions(spec);
    }
}

/// The utilisation that is aimed at when nothing is said, in percent of the request.
const CPU_UTILIZATION_PERCENT: i64 = 80;

pub(super) fn horizontal_pod_autoscaler(version: &str, object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    if version == "v1" {
        set_default(spec, "targetCPUUtilizationPercentage", CPU_UTILIZATION_PERCENT);
        return;
    }
    if is_empty(spec, "metrics") {
        let target = json!({"type": "Utilization", "averageUtilization": CPU_UTILIZATION_PERCENT});
        set(spec, "metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    }
    if let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) {
        let policies = |list: &[(&str, i64)]| -> Value {
            list.iter().map(|(t, v)| json!({"type": t, "value": v, "periodSeconds": 15})).collect()
        };
        let up = policies(&[("Pods", 4), ("Percent", 100)]);
        let down = policies(&[("Percent", 100)]);
        for (direction, window, default) in [("scaleUp", Some(0), up), ("scaleDown", None, down)] {
            set_default(behavior, direction, Map::new());
            let Some(rules) = behavior.get_mut(direction) else { continue };
            set_default(rules, "selectPolicy", "Max");
            if let Some(seconds) = window {
                set_default(rules, "stabilizationWindowSeconds", seconds);
            }
            // An empty list is something said, and refused.
            set_default(rules, "policies", default);
        }
    }
}

/// Whether a job's selector is the user's own.
pub(crate) fn is_manual_selector(spec: &Value) -> bool {
    flag(spec, "manualSelector")
}
