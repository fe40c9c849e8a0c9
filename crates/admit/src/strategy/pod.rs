//! A pod's first status and its special paths.

use serde_json::{Value, json};
use std::collections::HashMap;

use crate::default::qos_class;
use crate::value::{at, ensure, ensure_list, has, is_empty, items, items_mut, path, set, text, texts};

/// Not placed, not started.
pub(super) fn initial_status(spec: &Value, now: &str) -> Value {
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(spec)});
    if items(spec, "schedulingGates").next().is_some() {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": now,
            "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    status
}

pub(super) fn created(object: &mut Value) {
    let labels = path(object, &["metadata", "labels"]).clone();
    if let Some(spec) = object.get_mut("spec") {
        crate::default::account_alias(spec);
        demand_own_labels(spec, &labels);
    }
    take_app_armor_annotations(object);
}

/// Keys of labels whose values the pod has itself turn into demands of its selectors.
fn demand_own_labels(spec: &mut Value, labels: &Value) {
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        merge_keys(constraint, labels);
    }
    let Some(affinity) = spec.get_mut("affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = affinity.get_mut(kind) else { continue };
        for term in items_mut(terms, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_keys(term, labels);
        }
        for term in items_mut(terms, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = term.get_mut("podAffinityTerm") {
                merge_keys(term, labels);
            }
        }
    }
}

fn merge_keys(term: &mut Value, labels: &Value) {
    let mut demands = Vec::new();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in texts(term, list) {
            if let Some(value) = at(labels, key).as_str() {
                demands.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if demands.is_empty() {
        return;
    }
    // A selector that is not there matches nothing, whatever it demands.
    if let Some(selector) = term.get_mut("labelSelector").filter(|s| s.is_object())
        && let Some(list) = ensure_list(selector, "matchExpressions")
    {
        list.extend(demands);
    }
}

/// Takes out of a pod's specification, its own or a template's, what a stock server of this version has switched off: it stores pods
/// without, and so they run. What is stored with it keeps it.
pub(super) fn drop_disabled(old: &Value, spec: &mut Value) {
    if at(old, "schedulingGroup").is_null() {
        super::remove(spec, "schedulingGroup");
    }
    for off in ["clusterTrustBundle", "podCertificate"] {
        let used = |volume: &Value| items(at(volume, "projected"), "sources").any(|s| has(s, off));
        if items(old, "volumes").any(used) {
            continue;
        }
        for volume in items_mut(spec, "volumes") {
            let Some(projected) = volume.get_mut("projected") else { continue };
            for source in items_mut(projected, "sources") {
                super::remove(source, off);
            }
        }
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let stops = |list: &&str| items(old, list).any(|c| has(at(c, "lifecycle"), "stopSignal"));
    if !lists.iter().any(stops) {
        for list in lists {
            for container in items_mut(spec, list) {
                let Some(lifecycle) = container.get_mut("lifecycle") else { continue };
                let was = super::remove(lifecycle, "stopSignal");
                if was.is_some() && !has(lifecycle, "postStart") && !has(lifecycle, "preStop") {
                    super::remove(container, "lifecycle");
                }
            }
        }
    }
}

/// Before AppArmor had a field it was asked for by an annotation that names the container. What it says is put into the
/// field, unless that is set.
fn take_app_armor_annotations(object: &mut Value) {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let annotations = path(object, &["metadata", "annotations"]).clone();
    let Some(annotations) = annotations.as_object().filter(|a| a.keys().any(|k| k.starts_with(PREFIX)))
    else {
        return;
    };
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    let of_pod = path(spec, &["securityContext", "appArmorProfile"]).clone();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items_mut(spec, list) {
            let said =
                annotations.get(&format!("{PREFIX}{}", text(container, "name"))).and_then(Value::as_str);
            let Some(profile) = said.and_then(app_armor_profile) else { continue };
            if path(container, &["securityContext", "appArmorProfile"]).is_null()
                && profile != of_pod
                && let Some(context) = ensure(container, "securityContext")
            {
                set(context, "appArmorProfile", profile);
            }
        }
    }
}

/// What an annotation means; nothing where the field could not say it.
fn app_armor_profile(annotation: &str) -> Option<Value> {
    const NAME_LEN_MAX: usize = 4_095;
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        other => {
            let name = other.strip_prefix("localhost/")?;
            let fits = !name.is_empty() && name.trim() == name && name.len() <= NAME_LEN_MAX;
            fits.then(|| json!({"type": "Localhost", "localhostProfile": name}))
        }
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
    keep_observed(at(old, "status"), object);
    // Amounts of devices beside a node's own are switched off too.
    let off = "nodeAllocatableResourceClaimStatuses";
    if at(at(old, "status"), off).is_null()
        && let Some(status) = object.get_mut("status")
    {
        super::remove(status, off);
    }
}

/// Who writes a status and knows nothing of generations does not mean to take back what was observed.
fn keep_observed(old: &Value, object: &mut Value) {
    const FIELD: &str = "observedGeneration";
    let is_unset = |v: &Value| v[FIELD].as_i64().unwrap_or(0) == 0;
    let Some(status) = object.get_mut("status").filter(|s| s.is_object()) else { return };
    if is_unset(status) {
        super::set_or_remove(status, FIELD, old[FIELD].clone());
    }
    // Of several of one type the first counts.
    let known: HashMap<&str, &Value> = items(old, "conditions").rev().map(|o| (text(o, "type"), o)).collect();
    for condition in items_mut(status, "conditions").filter(|c| c.is_object() && is_unset(c)) {
        if let Some(known) = known.get(text(condition, "type")) {
            super::set_or_remove(condition, FIELD, known[FIELD].clone());
        }
    }
}

pub(super) fn only_ephemeral_containers_change(old: &Value, object: &mut Value) {
    let containers = path(object, &["spec", "ephemeralContainers"]).clone();
    super::keep(old, object, "spec");
    super::keep(old, object, "status");
    super::keep_own_metadata(old, object);
    if let Some(spec) = ensure(object, "spec") {
        super::set_or_remove(spec, "ephemeralContainers", containers);
    }
}

/// Whoever resizes changes amounts only. Where the containers are not those that they were, everything is left as it is sent: the
/// rules refuse it then, and say of what.
pub(super) fn only_resources_change(old: &Value, object: &mut Value) {
    let wanted = at(object, "spec").clone();
    let stored = at(old, "spec");
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| items(&wanted, list).count() != items(stored, list).count()) {
        return;
    }
    super::keep(old, object, "spec");
    super::keep(old, object, "status");
    super::keep_own_metadata(old, object);
    let Some(spec) = ensure(object, "spec") else { return };
    super::set_or_remove(spec, "resources", at(&wanted, "resources").clone());
    for list in lists {
        let mut pairs = items(stored, list).zip(items(&wanted, list));
        if pairs.any(|(before, after)| text(before, "name") != text(after, "name")) {
            set(spec, list, at(&wanted, list).clone());
            continue;
        }
        for (container, wanted) in items_mut(spec, list).zip(items(&wanted, list)) {
            for key in ["resources", "resizePolicy"] {
                super::set_or_remove(container, key, at(wanted, key).clone());
            }
        }
    }
}
