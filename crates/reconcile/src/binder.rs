//! Claims and volumes find each other: volumes that somebody has made, for claims that they satisfy. The smallest that is
//! enough is taken, and both sides say so. Making volumes is the business of provisioners.

use crate::deployment::differs;
use crate::meta::{annotation, id, is_deleting, labels, resource, selector};
use crate::{Action, Key, Level, ObjectId, World};
use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::typed::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use stoa_units::{NamespacedName, Quantity};

const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BY_US: &str = "pv.kubernetes.io/bound-by-controller";
/// Who is to make a claim's volume, in the older form and in the newer.
const PROVISIONER: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
/// How names of provisioners begin that are no programs of their own.
const BUILT_IN: &str = "kubernetes.io/";
/// The annotation of a claim by which a provisioner learns for which node to make its volume.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Under what a volume is found: the claim that it is for, or the class that it is free in.
pub(crate) fn volume_place(volume: &PersistentVolume) -> String {
    match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
        Some(claim) => {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            claim_place(&text(&claim.namespace), &text(&claim.name))
        }
        None => class_place(volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref())),
    }
}

/// Under what a claim is found: its volume, or the class in which it waits for one.
pub(crate) fn waiting_place(claim: &PersistentVolumeClaim) -> String {
    match volume_name(claim) {
        "" => class_place(claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref())),
        name => format!("volume/{name}"),
    }
}

fn class_place(class: Option<&str>) -> String {
    format!("class/{}", class.unwrap_or_default())
}

fn claim_place(namespace: &str, name: &str) -> String {
    format!("claim/{namespace}/{name}")
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

/// Whom a claim's change concerns besides itself: the volumes that are for it.
pub(crate) fn volumes_of<'a>(
    world: &'a World,
    namespace: &str,
    name: &str,
) -> Vec<&'a Arc<PersistentVolume>> {
    let mut all: Vec<_> = world.volumes.owned_by(&claim_place(namespace, name)).collect();
    let claim = world.claims.get(namespace, name);
    all.extend(
        claim.map(|c| volume_name(c)).filter(|v| !v.is_empty()).and_then(|v| world.volumes.get("", v)),
    );
    all
}

/// Whom a volume's change concerns besides itself: the claim that it is for, or those that wait in its class.
pub(crate) fn claims_of<'a>(world: &'a World, name: &str) -> Vec<&'a Arc<PersistentVolumeClaim>> {
    let mut all: Vec<_> = world.claims.owned_by(&format!("volume/{name}")).collect();
    let Some(volume) = world.volumes.get("", name) else { return all };
    match claim_ref(volume) {
        Some(r) => {
            let (ns, name) =
                (r.namespace.as_deref().unwrap_or_default(), r.name.as_deref().unwrap_or_default());
            all.extend(world.claims.get(ns, name));
        }
        None => all.extend(world.claims.owned_by(&volume_place(volume))),
    }
    all
}

fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

fn claim_id(claim: &PersistentVolumeClaim) -> ObjectId {
    id(resource("", "persistentvolumeclaims"), &claim.metadata)
}

fn volume_id(volume: &PersistentVolume) -> ObjectId {
    id(resource("", "persistentvolumes"), &volume.metadata)
}

/// Whether a volume is kept for this claim: by name, and by identity where it says one.
fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|r| {
        r.namespace == claim.metadata.namespace
            && r.name == claim.metadata.name
            && r.uid.as_ref().is_none_or(|u| u.is_empty() || Some(u) == claim.metadata.uid.as_ref())
    })
}

/// Looks at one claim.
pub(crate) fn reconcile_claim(world: &World, key: &Key) -> Vec<Action> {
    let Some(claim) = world.claims.get(&key.namespace, &key.name) else { return Vec::new() };
    if is_deleting(&claim.metadata) {
        return Vec::new();
    }
    match volume_name(claim) {
        "" => match find(world, claim) {
            Some(volume) => bind(claim, volume),
            None => wait(world, claim),
        },
        name => match world.volumes.get("", name) {
            Some(v) if claim_ref(v).is_none() || is_for(v, claim) => bind(claim, v),
            found => lose(claim, found.is_some()),
        },
    }
}

/// The volume that is kept for the claim, or the smallest free one that satisfies it.
fn find<'a>(world: &'a World, claim: &PersistentVolumeClaim) -> Option<&'a Arc<PersistentVolume>> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let kept = claim_place(&text(&claim.metadata.namespace), &text(&claim.metadata.name));
    if let Some(volume) = world.volumes.owned_by(&kept).find(|v| is_for(v, claim) && satisfies(v, claim)) {
        return Some(volume);
    }
    if waits_for_consumer(world, claim) {
        return None;
    }
    let class = class_place(claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()));
    let free = world.volumes.owned_by(&class).filter(|v| satisfies(v, claim));
    free.min_by_key(|v| (size(v), v.metadata.name.clone()))
}

/// Whether both sides say that the claim has its volume.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    !volume_name(claim).is_empty() && annotation(&claim.metadata, COMPLETED).is_some()
}

/// The volumes that a claim may get: the one that is kept for it, or the free ones that satisfy it, the smallest first.
pub fn free_volumes<'a>(world: &'a World, claim: &PersistentVolumeClaim) -> Vec<&'a Arc<PersistentVolume>> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let kept = claim_place(&text(&claim.metadata.namespace), &text(&claim.metadata.name));
    if let Some(volume) = world.volumes.owned_by(&kept).find(|v| is_for(v, claim) && satisfies(v, claim)) {
        return vec![volume];
    }
    let class = class_place(claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()));
    let mut free: Vec<_> = world.volumes.owned_by(&class).filter(|v| satisfies(v, claim)).collect();
    free.sort_by_cached_key(|v| (size(v), v.metadata.name.clone()));
    free
}

/// What to merge into a volume that a claim gets.
pub fn claim_ref_of(claim: &PersistentVolumeClaim) -> Value {
    let id = claim_id(claim);
    json!({"metadata": {"annotations": {BY_US: "yes"}}, "spec": {"claimRef": {"kind": "PersistentVolumeClaim",
        "apiVersion": "v1", "namespace": id.namespace, "name": id.name, "uid": id.uid,
        "resourceVersion": id.revision.to_string()}}})
}

/// Whether the class wants the scheduler to choose a node first.
pub fn waits_for_consumer(world: &World, claim: &PersistentVolumeClaim) -> bool {
    let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
    let mode = world.storage_classes.get("", class).and_then(|c| c.volume_binding_mode.clone());
    mode.as_deref() == Some("WaitForFirstConsumer") && annotation(&claim.metadata, SELECTED_NODE).is_none()
}

fn size(volume: &PersistentVolume) -> i128 {
    let amount = volume.spec.as_ref().and_then(|s| s.capacity.as_ref()?.get("storage"));
    amount.and_then(|q| Quantity::parse(&q.0).ok()).map_or(0, |q| q.nano())
}

fn satisfies(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let mode = |m: &Option<String>| m.clone().unwrap_or_else(|| "Filesystem".to_string());
    let class = |c: &Option<String>| c.clone().unwrap_or_default();
    let modes = has.access_modes.as_deref().unwrap_or_default();
    let asked = wants.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("storage"));
    let asked = asked.and_then(|q| Quantity::parse(&q.0).ok()).map_or(0, |q| q.nano());
    let chosen = match &wants.selector {
        Some(s) => selector(s).is_none_or(|s| s.matches(labels(&volume.metadata))),
        None => true,
    };
    !is_deleting(&volume.metadata)
        && class(&has.storage_class_name) == class(&wants.storage_class_name)
        && mode(&has.volume_mode) == mode(&wants.volume_mode)
        && wants.access_modes.iter().flatten().all(|m| modes.contains(m))
        && size(volume) >= asked
        && chosen
}

/// Says on both sides that they belong together; what is said already is left.
fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Vec<Action> {
    let mut actions = Vec::new();
    let (claim_id, volume_id) = (claim_id(claim), volume_id(volume));
    let known = claim_ref(volume).and_then(|r| r.uid.as_deref()) == claim.metadata.uid.as_deref();
    if !known {
        let mut patch = json!({"spec": {"claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "namespace": claim_id.namespace, "name": claim_id.name, "uid": claim_id.uid,
            "resourceVersion": claim_id.revision.to_string()}}});
        if claim_ref(volume).is_none() {
            patch["metadata"] = json!({"annotations": {BY_US: "yes"}});
        }
        actions.push(Action::Patch { id: volume_id.clone(), subresource: "", patch });
    }
    actions.extend(set_phase(volume_id.clone(), &json!(volume.status), "Bound"));
    let chosen = volume_name(claim).is_empty();
    if chosen || annotation(&claim.metadata, COMPLETED).is_none() {
        let mut notes = json!({COMPLETED: "yes"});
        if chosen {
            notes[BY_US] = "yes".into();
        }
        let patch = json!({"metadata": {"annotations": notes}, "spec": {"volumeName": volume_id.name}});
        actions.push(Action::Patch { id: claim_id.clone(), subresource: "", patch });
    }
    let spec = volume.spec.as_ref();
    let status = json!({"phase": "Bound", "accessModes": spec.and_then(|s| s.access_modes.clone()),
        "capacity": spec.and_then(|s| s.capacity.clone())});
    if differs(&json!(claim.status), &status) {
        actions.push(Action::Patch { id: claim_id, subresource: "status", patch: json!({"status": status}) });
    }
    actions
}

fn wait(world: &World, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let about = claim_id(claim);
    let mut actions: Vec<Action> =
        set_phase(about.clone(), &json!(claim.status), "Pending").into_iter().collect();
    let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
    let (level, reason, message) = match class {
        _ if waits_for_consumer(world, claim) => for_whom(world, claim),
        "" => {
            let message = "no persistent volumes available for this claim and no storage class is set";
            (Level::Normal, "FailedBinding", message.to_string())
        }
        class if world.storage_classes.get("", class).is_none() => {
            (Level::Warning, "ProvisioningFailed", format!("storageclass.storage.k8s.io {class:?} not found"))
        }
        class => match provisioner(world, class) {
            // Those of this form are built in where there are such.
            name if name.starts_with(BUILT_IN) => {
                (Level::Warning, "ProvisioningFailed", format!("no volume plugin matched name: {name}"))
            }
            name => {
                let asked = ask(claim, name);
                if asked.is_some() {
                    // It is told of once the provisioner can know of it.
                    actions.extend(asked);
                    return actions;
                }
                let message = format!(
                    "Waiting for a volume to be created either by the external provisioner '{name}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
                );
                (Level::Normal, "ExternalProvisioning", message)
            }
        },
    };
    actions.push(Action::Event { about, level, reason, message });
    actions
}

/// What a claim waits for whose volume depends on the node of its first consumer.
fn for_whom(world: &World, claim: &PersistentVolumeClaim) -> (Level, &'static str, String) {
    let id = claim_id(claim);
    let name = NamespacedName { namespace: id.namespace, name: id.name };
    let pods: Vec<&str> =
        world.pods_using(&name).filter(|p| p.node.is_empty()).map(|p| &*p.id.name).collect();
    let (reason, message) = match pods.as_slice() {
        [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".into()),
        [pod] => ("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
    };
    (Level::Normal, reason, message)
}

fn provisioner<'a>(world: &'a World, class: &str) -> &'a str {
    world.storage_classes.get("", class).map_or("", |c| c.provisioner.as_str())
}

/// Says on a claim who is to make its volume: provisioners go by that.
fn ask(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<Action> {
    let said = |note: &str| annotation(&claim.metadata, note) == Some(provisioner);
    (!PROVISIONER.into_iter().all(said)).then(|| {
        let notes: serde_json::Map<String, Value> =
            PROVISIONER.into_iter().map(|note| (note.to_string(), provisioner.into())).collect();
        let patch = json!({"metadata": {"annotations": notes}});
        Action::Patch { id: claim_id(claim), subresource: "", patch }
    })
}

/// The volume of a claim is gone or somebody else's.
fn lose(claim: &PersistentVolumeClaim, exists: bool) -> Vec<Action> {
    let about = claim_id(claim);
    if annotation(&claim.metadata, COMPLETED).is_none() {
        // It is named beforehand and has not come yet.
        return set_phase(about, &json!(claim.status), "Pending").into_iter().collect();
    }
    let Some(patch) = set_phase(about.clone(), &json!(claim.status), "Lost") else { return Vec::new() };
    let (reason, message) = match exists {
        true => ("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"),
        false => ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
    };
    vec![patch, Action::Event { about, level: Level::Warning, reason, message: message.to_string() }]
}

/// Looks at one volume.
pub(crate) fn reconcile_volume(world: &World, key: &Key) -> Vec<Action> {
    let Some(volume) = world.volumes.get("", &key.name) else { return Vec::new() };
    let bound_to = claim_ref(volume).filter(|r| r.uid.as_ref().is_some_and(|u| !u.is_empty()));
    let phase = match bound_to {
        None => "Available",
        Some(r) => {
            let (ns, name) =
                (r.namespace.as_deref().unwrap_or_default(), r.name.as_deref().unwrap_or_default());
            let claim = world.claims.get(ns, name).filter(|c| c.metadata.uid == r.uid);
            match claim {
                None => "Released",
                // The claim's side is still to be written; its look does both.
                Some(c) if volume_name(c).is_empty() => return Vec::new(),
                Some(c) if volume_name(c) == &*key.name => "Bound",
                Some(_) => "Released",
            }
        }
    };
    set_phase(volume_id(volume), &json!(volume.status), phase).into_iter().collect()
}

fn set_phase(id: ObjectId, status: &Value, phase: &str) -> Option<Action> {
    (status["phase"] != phase).then(|| Action::Patch {
        id,
        subresource: "status",
        patch: json!({"status": {"phase": phase}}),
    })
}

#[cfg(test)]
mod tests;
