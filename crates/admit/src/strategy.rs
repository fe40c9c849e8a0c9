//! What the user may not decide: status and specification belong to different paths, the generation counts changes of the
//! specification, and metadata that the cluster gave stays as it was.

mod device;
mod job;
mod pod;
mod service;

use serde_json::{Map, Value, json};
use stoa_kube::Resource;

use crate::Request;
use crate::value::{
    at, ensure, ensure_list, flag, int, is_empty, items, path, remove, set, set_default, text,
};

/// Kinds whose `metadata.generation` counts changes. The others have none, as on the stock server.
const GENERATIONS: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "podtemplates"),
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
    ("policy", "poddisruptionbudgets"),
    ("networking.k8s.io", "ingresses"),
    ("networking.k8s.io", "ingressclasses"),
    ("networking.k8s.io", "networkpolicies"),
    ("discovery.k8s.io", "endpointslices"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("flowcontrol.apiserver.k8s.io", "flowschemas"),
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceslices"),
];

fn has_generation(resource: &Resource) -> bool {
    GENERATIONS.contains(&(resource.group, resource.plural))
}

fn has_status(resource: &Resource) -> bool {
    resource.subresource("status").is_some()
}

/// Prepares a new object: status as it is before anyone has looked, the first generation, what the kind's storage adds.
/// `uid`, `creationTimestamp` and the final name must be set already.
pub fn prepare_create(request: &Request<'_>, object: &mut Value) {
    let resource = request.resource;
    // A node registers itself together with its status.
    if has_status(resource) && !request.is_on("", "nodes") {
        remove(object, "status");
        if let Some(status) = initial_status(request, object) {
            set(object, "status", status);
        }
    }
    if let Some(meta) = ensure(object, "metadata") {
        for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            remove(meta, key);
        }
        // Elsewhere a number that the client brings along is kept, as on the stock server, and counts nothing.
        if has_generation(resource) {
            set(meta, "generation", 1);
        }
    }
    drop_disabled(request, &Value::Null, object);
    match (resource.group, resource.plural) {
        ("", "pods") => pod::created(object),
        ("", "namespaces") => namespace_created(object),
        ("", "services") => service::created(object),
        ("apps", "daemonsets") => set_template_generation(object, 1),
        ("batch", "jobs") => job::created(object),
        ("", "persistentvolumes") => protect(object, "kubernetes.io/pv-protection"),
        ("storage.k8s.io", "volumeattributesclasses") => protect(object, "kubernetes.io/vac-protection"),
        ("", "persistentvolumeclaims") => {
            protect(object, "kubernetes.io/pvc-protection");
            data_source(None, object);
        }
        ("", "serviceaccounts") => only_names(object),
        ("certificates.k8s.io", "certificatesigningrequests") => requester(request, object),
        ("coordination.k8s.io", "leases") => own_strategy(None, object),
        _ => {}
    }
}

/// Where a kind keeps a pod's specification.
fn pod_spec(request: &Request<'_>) -> Option<&'static [&'static str]> {
    match (request.resource.group, request.resource.plural) {
        ("", "pods") => Some(&["spec"]),
        ("", "podtemplates") => Some(&["template", "spec"]),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template", "spec"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template", "spec"]),
        _ => None,
    }
}

fn drop_disabled(request: &Request<'_>, old: &Value, object: &mut Value) {
    if request.is_on("resource.k8s.io", "resourceslices") {
        device::drop_disabled(old, object);
    }
    for (group, plural, place, key) in DISABLED {
        if request.is_on(group, plural)
            && path(old, place).get(key).is_none_or(Value::is_null)
            && let Some(holder) = crate::value::path_mut(object, place)
        {
            remove(holder, key);
        }
    }
    if request.is_on("discovery.k8s.io", "endpointslices") {
        drop_topology(old, object);
    }
    let Some(keys) = pod_spec(request) else { return };
    if let Some(spec) = crate::value::path_mut(object, keys) {
        pod::drop_disabled(path(old, keys), spec);
    }
}

/// Fields that a stock server has switched off, and where they are: they stay only where they were stored before.
const DISABLED: [(&str, &str, &[&str], &str); 4] = [
    ("apps", "statefulsets", &["spec", "updateStrategy", "rollingUpdate"], "maxUnavailable"),
    ("", "nodes", &["spec"], "configSource"),
    ("", "nodes", &["status"], "config"),
    ("storage.k8s.io", "csidrivers", &["spec"], "preventPodSchedulingIfMissing"),
];

/// Where an endpoint is has fields of its own: what older versions wrote down besides is no longer taken, though a node that was
/// known only from there is kept.
fn drop_topology(old: &Value, object: &mut Value) {
    if at(old, "endpoints") == at(object, "endpoints") {
        return;
    }
    let host = |endpoint: &Value| {
        path(endpoint, &["deprecatedTopology", "kubernetes.io/hostname"]).as_str().map(str::to_owned)
    };
    let known: std::collections::HashSet<String> = items(old, "endpoints").filter_map(host).collect();
    for endpoint in crate::value::items_mut(object, "endpoints") {
        let node = host(endpoint).filter(|node| known.contains(node));
        if let Some(node) = node.filter(|node| stoa_units::check_dns_subdomain(node).is_ok()) {
            set_default(endpoint, "nodeName", node);
        }
        remove(endpoint, "deprecatedTopology");
    }
}

/// Whoever holds a lease took it: that the cluster picks holders is a feature that is off on a stock server, and what asks for it
/// stays only where it was stored before.
fn own_strategy(old: Option<&Value>, object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else { return };
    for key in ["strategy", "preferredHolder"] {
        if old.is_none_or(|o| path(o, &["spec", key]).is_null()) {
            remove(spec, key);
        }
    }
}

/// The status of an object that no controller has seen; `None` leaves it to the kind's zero values.
fn initial_status(request: &Request<'_>, object: &Value) -> Option<Value> {
    Some(match (request.resource.group, request.resource.plural) {
        ("", "pods") => pod::initial_status(at(object, "spec"), &request.now.to_rfc3339_seconds()),
        ("", "namespaces") => json!({"phase": "Active"}),
        ("", "services") | ("networking.k8s.io", "ingresses") => json!({"loadBalancer": {}}),
        ("", "persistentvolumeclaims") => json!({"phase": "Pending"}),
        ("", "persistentvolumes") => {
            json!({"phase": "Pending", "lastPhaseTransitionTime": request.now.to_rfc3339_seconds()})
        }
        ("", "replicationcontrollers") | ("apps", "replicasets") => json!({"replicas": 0}),
        ("apps", "statefulsets") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "daemonsets") => json!({
            "currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0,
        }),
        ("policy", "poddisruptionbudgets") => {
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0})
        }
        ("autoscaling", "horizontalpodautoscalers") => json!({"desiredReplicas": 0}),
        // What is stored is stored in one version.
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            let stored = items(at(object, "spec"), "versions").find(|v| flag(v, "storage"));
            json!({"storedVersions": stored.map(|v| text(v, "name")).into_iter().collect::<Vec<_>>()})
        }
        _ => json!({}),
    })
}

fn namespace_created(object: &mut Value) {
    if let Some(list) = ensure(object, "spec").and_then(|spec| ensure_list(spec, "finalizers"))
        && !list.iter().any(|f| f == "kubernetes")
    {
        list.push(Value::from("kubernetes"));
    }
    label_namespace(object);
}

/// Selectors find a namespace by its name through this label, which nobody can take off.
pub(crate) fn label_namespace(object: &mut Value) {
    let Some(meta) = ensure(object, "metadata") else { return };
    let name = text(meta, "name").to_owned();
    if let Some(labels) = ensure(meta, "labels") {
        set(labels, "kubernetes.io/metadata.name", name);
    }
}

/// Of the secrets that an account may use only the names count.
fn only_names(object: &mut Value) {
    for secret in crate::value::items_mut(object, "secrets") {
        if let Some(fields) = secret.as_object_mut() {
            fields.retain(|key, _| key == "name");
        }
    }
}

fn protect(object: &mut Value, finalizer: &str) {
    let Some(list) = ensure(object, "metadata").and_then(|m| ensure_list(m, "finalizers")) else { return };
    if !list.iter().any(|f| f == finalizer) {
        list.push(Value::from(finalizer));
    }
}

/// From what a claim is filled is said in two fields, of which the older one knows claims and snapshots only.
fn data_source(old: Option<&Value>, object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    let stored = old.map_or(&Value::Null, |o| at(o, "spec"));
    let is_elsewhere = !is_empty(at(spec, "dataSourceRef"), "namespace");
    if is_elsewhere && at(stored, "dataSourceRef").is_null() {
        remove(spec, "dataSourceRef");
    }
    if at(stored, "dataSource").is_null()
        && at(stored, "dataSourceRef").is_null()
        && at(spec, "dataSourceRef").is_null()
    {
        let source = at(spec, "dataSource");
        let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
        if !known.contains(&(text(source, "apiGroup"), text(source, "kind"))) {
            remove(spec, "dataSource");
        }
    }
    for (from, to) in [("dataSource", "dataSourceRef"), ("dataSourceRef", "dataSource")] {
        let source = at(spec, from).clone();
        if source.is_object() && at(spec, to).is_null() && is_empty(&source, "namespace") {
            set(spec, to, source);
        }
    }
}

/// Who asks for a certificate is what authentication said, never what the body says.
fn requester(request: &Request<'_>, object: &mut Value) {
    let Some(spec) = ensure(object, "spec") else { return };
    remove(spec, "uid");
    remove(spec, "extra");
    set(spec, "username", request.user.name);
    set(spec, "groups", request.user.groups.to_vec());
}

/// Where a daemon set says how often its template has changed.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn set_template_generation(object: &mut Value, generation: i64) {
    if let Some(notes) = ensure(object, "metadata").and_then(|m| ensure(m, "annotations")) {
        set(notes, TEMPLATE_GENERATION, generation.to_string());
    }
}

/// Prepares a changed object: what this path may not change is taken from the stored one.
pub fn prepare_update(request: &Request<'_>, old: &Value, object: &mut Value) {
    let resource = request.resource;
    keep_metadata(old, object);
    match request.subresource {
        "" => {
            if has_status(resource) {
                keep(old, object, "status");
            }
            drop_disabled(request, old, object);
            main_updated(request, old, object);
        }
        "status" => status_updated(request, old, object),
        "ephemeralcontainers" => pod::only_ephemeral_containers_change(old, object),
        "resize" => pod::only_resources_change(old, object),
        "finalize" => {
            let finalizers = path(object, &["spec", "finalizers"]).clone();
            keep(old, object, "spec");
            keep(old, object, "status");
            if let Some(spec) = ensure(object, "spec") {
                set(spec, "finalizers", finalizers);
            }
        }
        "approval" => {
            let conditions = path(object, &["status", "conditions"]).clone();
            keep(old, object, "spec");
            keep(old, object, "status");
            if let Some(status) = ensure(object, "status") {
                set_or_remove(status, "conditions", conditions);
            }
        }
        _ => {}
    }
    if request.is_on("", "namespaces") {
        label_namespace(object);
    }
    bump_generation(request, old, object);
}

fn main_updated(request: &Request<'_>, old: &Value, object: &mut Value) {
    match (request.resource.group, request.resource.plural) {
        ("", "namespaces") => {
            let finalizers = path(old, &["spec", "finalizers"]).clone();
            if let Some(spec) = ensure(object, "spec") {
                set(spec, "finalizers", finalizers);
            }
        }
        ("", "pods") => pod::updated(old, object),
        ("", "services") => service::updated(old, object),
        ("", "persistentvolumeclaims") => data_source(Some(old), object),
        ("", "serviceaccounts") => only_names(object),
        ("apps", "daemonsets") => {
            let stored = path(old, &["metadata", "annotations", TEMPLATE_GENERATION]);
            let stored = stored.as_str().and_then(|s| s.parse().ok()).unwrap_or(1);
            let changed = path(old, &["spec", "template"]) != path(object, &["spec", "template"]);
            set_template_generation(object, stored + i64::from(changed));
        }
        ("apps", "statefulsets") => {
            // The stored templates carry a status that the user's may lack.
            keep_template_status(object);
        }
        ("certificates.k8s.io", "certificatesigningrequests") => keep(old, object, "spec"),
        ("coordination.k8s.io", "leases") => own_strategy(Some(old), object),
        _ => {}
    }
}

fn keep_template_status(object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else { return };
    for claim in crate::value::items_mut(spec, "volumeClaimTemplates") {
        if let Some(status) = ensure(claim, "status") {
            set_default(status, "phase", "Pending");
        }
    }
}

/// Of a status write only the status counts, and the metadata that controllers keep beside it.
fn status_updated(request: &Request<'_>, old: &Value, object: &mut Value) {
    let (Some(new), Some(stored)) = (object.as_object_mut(), old.as_object()) else { return };
    new.retain(|key, _| stored.contains_key(key) || key == "status");
    for (key, value) in stored {
        if !matches!(key.as_str(), "metadata" | "status") {
            new.insert(key.clone(), value.clone());
        }
    }
    match (request.resource.group, request.resource.plural) {
        ("flowcontrol.apiserver.k8s.io", _) => keep_all_metadata(old, object),
        ("resource.k8s.io", "resourceclaims")
        | ("storage.k8s.io", "volumeattachments")
        | ("networking.k8s.io", "servicecidrs")
        | ("admissionregistration.k8s.io", "validatingadmissionpolicies") => keep_own_metadata(old, object),
        _ => {}
    }
    if request.is_on("apps", "deployments") {
        let labels = path(old, &["metadata", "labels"]).clone();
        if let Some(meta) = ensure(object, "metadata") {
            set_or_remove(meta, "labels", labels);
        }
    }
    if request.is_on("", "pods") {
        pod::status_updated(old, object);
    }
    if request.is_on("", "nodes") {
        drop_disabled(request, old, object);
    }
}

/// Who writes these statuses has no say in the metadata; only who wrote what is noted.
fn keep_all_metadata(old: &Value, object: &mut Value) {
    let mut kept = at(old, "metadata").clone();
    set_or_remove(&mut kept, "managedFields", path(object, &["metadata", "managedFields"]).clone());
    set(object, "metadata", kept);
}

/// What people and controllers note in metadata is none of a status' business.
fn keep_own_metadata(old: &Value, object: &mut Value) {
    let Some(meta) = ensure(object, "metadata") else { return };
    for key in ["deletionTimestamp", "labels", "annotations", "finalizers", "ownerReferences"] {
        set_or_remove(meta, key, path(old, &["metadata", key]).clone());
    }
}

/// What the cluster gave an object at its creation stays, whether or not the writer sent it along.
fn keep_metadata(old: &Value, object: &mut Value) {
    let stored = at(old, "metadata");
    let Some(meta) = ensure(object, "metadata") else { return };
    for key in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if is_empty(meta, key) && at(meta, key).as_i64().is_none() {
            set_or_remove(meta, key, at(stored, key).clone());
        }
    }
    for key in ["generation", "selfLink"] {
        set_or_remove(meta, key, at(stored, key).clone());
    }
    for key in ["name", "namespace"] {
        if is_empty(meta, key) {
            set_or_remove(meta, key, at(stored, key).clone());
        }
    }
}

fn keep(old: &Value, object: &mut Value, key: &str) {
    set_or_remove(object, key, at(old, key).clone());
}

fn set_or_remove(v: &mut Value, key: &str, value: Value) {
    if value.is_null() {
        remove(v, key);
    } else {
        set(v, key, value);
    }
}

/// Counts up when what the controllers act on has changed.
fn bump_generation(request: &Request<'_>, old: &Value, object: &mut Value) {
    // A binding and the like is no wish of the user's.
    let specifies = matches!(request.subresource, "" | "scale" | "resize" | "ephemeralcontainers");
    // Drivers count from the first change on, and have no number before.
    let counts = has_generation(request.resource) || request.is_on("storage.k8s.io", "csidrivers");
    // A class of priorities stays at its first number, whatever of it changes.
    if !counts || !specifies || request.is_on("scheduling.k8s.io", "priorityclasses") {
        return;
    }
    let notes = |o: &Value| path(o, &["metadata", "annotations"]).clone();
    // A deployment's annotations travel to its replica sets; what its controller notes is no wish of anybody's.
    let noted =
        request.is_on("apps", "deployments") && !request.user.is_internal() && notes(old) != notes(object);
    // A slice's labels, by which it is found, count too.
    let labels = |o: &Value| path(o, &["metadata", "labels"]).clone();
    let noted = noted || request.is_on("discovery.k8s.io", "endpointslices") && labels(old) != labels(object);
    let changed = || {
        specified(old) != specified(object) && {
            // What this version would have set in what an older one stored is no change.
            let mut defaulted = old.clone();
            crate::default(request.resource, &mut defaulted);
            specified(&defaulted) != specified(object)
        }
    };
    if noted || changed() {
        let next = int(at(old, "metadata"), "generation").unwrap_or(0) + 1;
        if let Some(meta) = ensure(object, "metadata") {
            set(meta, "generation", next);
        }
    }
}

/// Everything but metadata and status; empty lists and maps mean nothing.
fn specified(object: &Value) -> Map<String, Value> {
    let entries = object.as_object().into_iter().flatten();
    entries
        .filter(|(k, v)| !matches!(k.as_str(), "metadata" | "status" | "kind" | "apiVersion") && !v.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

#[cfg(test)]
mod tests;
