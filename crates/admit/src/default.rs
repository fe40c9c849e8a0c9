//! Defaults as a stock v1.36 server writes them back. Where a field's default depends on nothing it is a row of a table;
//! the rest is one small function per kind.

mod network;
mod pod;
mod storage;
mod table;
mod workload;

use serde_json::Value;
use stoa_kube::Resource;

use crate::value::{items_mut, set_default};
pub(crate) use network::{is_externally_reachable, is_headless, wants_node_ports};
pub(crate) use pod::{CONTAINER_LISTS, account_alias, qos_class};
pub(crate) use workload::is_manual_selector;

/// Fills in what the user left open. Idempotent: stored objects pass through unchanged.
pub fn default(resource: &Resource, object: &mut Value) {
    table::apply(resource, object);
    match (resource.group, resource.plural) {
        ("", "pods") => pod::pod(object),
        ("", "podtemplates") => {
            if let Some(template) = object.get_mut("template") {
                pod::pod_template(template);
            }
        }
        ("", "replicationcontrollers") => workload::replication_controller(object),
        ("apps", "deployments") => workload::deployment(object),
        ("apps", "replicasets") => workload::replica_set(object),
        ("apps", "statefulsets") => workload::stateful_set(object),
        ("apps", "daemonsets") => workload::daemon_set(object),
        ("", "namespaces") => crate::strategy::label_namespace(object),
        ("batch", "jobs") => workload::job(object),
        ("batch", "cronjobs") => workload::cron_job(object),
        ("autoscaling", "horizontalpodautoscalers") => {
            workload::horizontal_pod_autoscaler(resource.version, object);
        }
        ("", "services") => network::service(object),
        ("", "endpoints") => network::endpoints(object),
        ("networking.k8s.io", "networkpolicies") => network::network_policy(object),
        ("", "secrets") => string_data(object),
        ("", "nodes") => node(object),
        ("", "persistentvolumes") => storage::persistent_volume(object),
        ("", "limitranges") => storage::limit_range(object),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => subjects(object),
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition_names(object),
        ("resource.k8s.io", "resourceclaims") => device_counts(object),
        ("resource.k8s.io", "resourceclaimtemplates") => {
            if let Some(claim) = object.get_mut("spec") {
                device_counts(claim);
            }
        }
        _ => {}
    }
    round_amounts(resource, object);
}

/// Nothing is counted in less than thousandths.
fn round_amounts(resource: &Resource, object: &mut Value) {
    let places: &[&[&str]] = match (resource.group, resource.plural) {
        ("", "nodes") => &[&["status", "capacity"], &["status", "allocatable"]],
        ("", "persistentvolumes") => &[&["spec", "capacity"]],
        ("", "persistentvolumeclaims") => &[
            &["spec", "resources", "limits"],
            &["spec", "resources", "requests"],
            &["status", "capacity"],
            &["status", "allocatedResources"],
        ],
        ("", "resourcequotas") => &[&["spec", "hard"], &["status", "hard"], &["status", "used"]],
        _ => &[],
    };
    for place in places {
        if let Some(amounts) = crate::value::path_mut(object, place) {
            pod::round_up(amounts);
        }
    }
}

/// A kind names itself in the singular and as a list.
fn definition_names(object: &mut Value) {
    let Some(names) = object.get_mut("spec").and_then(|s| s.get_mut("names")) else { return };
    let kind = crate::value::text(names, "kind").to_owned();
    if !kind.is_empty() {
        crate::value::set_default_zero(names, "singular", kind.to_lowercase());
        crate::value::set_default_zero(names, "listKind", format!("{kind}List"));
    }
}

/// What is not kept back of a node can be given out; and its first address range has a field of its own.
fn node(object: &mut Value) {
    if let Some(status) = object.get_mut("status")
        && crate::value::has(status, "capacity")
    {
        let capacity = status["capacity"].clone();
        crate::value::set_default(status, "allocatable", capacity);
    }
    let Some(spec) = object.get_mut("spec") else { return };
    let one = crate::value::text(spec, "podCIDR").to_owned();
    let first = crate::value::texts(spec, "podCIDRs").next().map(str::to_owned);
    match first {
        Some(first) if one.is_empty() => crate::value::set(spec, "podCIDR", first),
        first if !one.is_empty() && first.as_ref() != Some(&one) => {
            crate::value::set(spec, "podCIDRs", vec![Value::from(one)]);
        }
        _ => {}
    }
}

/// Who asks for a number of devices and names none asks for one.
fn device_counts(claim: &mut Value) {
    let Some(devices) = claim.get_mut("spec").and_then(|s| s.get_mut("devices")) else { return };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly") {
            device_count(exactly);
        }
        items_mut(request, "firstAvailable").for_each(device_count);
    }
}

fn device_count(request: &mut Value) {
    if crate::value::text(request, "allocationMode") == "ExactCount" {
        crate::value::set_default_zero(request, "count", 1);
    }
}

/// `stringData` is write-only: its entries become data and win over those given there.
fn string_data(object: &mut Value) {
    use base64::Engine;
    let Some(Value::Object(texts)) = crate::value::remove(object, "stringData") else { return };
    let Some(data) = crate::value::ensure(object, "data") else { return };
    for (key, value) in texts {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        crate::value::set(data, &key, encoded);
    }
    if crate::value::is_empty(object, "data") {
        crate::value::remove(object, "data");
    }
}

/// A subject's API group follows from its kind.
fn subjects(object: &mut Value) {
    for subject in items_mut(object, "subjects") {
        match crate::value::text(subject, "kind") {
            "User" | "Group" => crate::value::set_default_zero(subject, "apiGroup", crate::RBAC_GROUP),
            "ServiceAccount" => set_default(subject, "apiGroup", ""),
            _ => {}
        }
        // The core group of an account is the empty text, which is not written.
        if crate::value::is_empty(subject, "apiGroup") {
            crate::value::remove(subject, "apiGroup");
        }
    }
}
