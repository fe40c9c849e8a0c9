//! A pod's first status and its special paths.

use serde_json::{Value, json};

use crate::default::qos_class;
use crate::value::{at, ensure, is_empty, items, items_mut, path, set, text};

/// Not placed, not started.
pub(super) fn initial_status(spec: &Value) -> Value {
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(spec)});
    if items(spec, "schedulingGates").next().is_some() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": null,
            "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}

pub(super) fn created(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        crate::default::account_alias(spec);
    }
}

/// A priority was computed when the pod was made; a writer that leaves it out does not mean to change it.
pub(super) fn updated(old: &Value, object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    for key in ["priority", "preemptionPolicy"] {
        if at(spec, key).is_null() {
            super::set_or_remove(spec, key, path(old, &["spec", key]).clone());
        }
    }
}

pub(super) fn status_updated(old: &Value, object: &mut Value) {
    let owners = path(old, &["metadata", "ownerReferences"]).clone();
    if let Some(meta) = ensure(object, "metadata") {
        super::set_or_remove(meta, "ownerReferences", owners);
    }
    let class = path(old, &["status", "qosClass"]).clone();
    if let Some(status) = ensure(object, "status")
        && is_empty(status, "qosClass")
        && !class.is_null()
    {
        set(status, "qosClass", class);
    }
}

pub(super) fn only_ephemeral_containers_change(old: &Value, object: &mut Value) {
    let containers = path(object, &["spec", "ephemeralContainers"]).clone();
    super::keep(old, object, "spec");
    super::keep(old, object, "status");
    if let Some(spec) = ensure(object, "spec") {
        super::set_or_remove(spec, "ephemeralContainers", containers);
    }
}

pub(super) fn only_resources_change(old: &Value, object: &mut Value) {
    let wanted = at(object, "spec").clone();
    super::keep(old, object, "spec");
    super::keep(old, object, "status");
    let Some(spec) = ensure(object, "spec") else { return };
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            let name = text(container, "name").to_owned();
            if let Some(w) = items(&wanted, list).find(|w| text(w, "name") == name) {
                for key in ["resources", "resizePolicy"] {
                    super::set_or_remove(container, key, at(w, key).clone());
                }
            }
        }
    }
}
