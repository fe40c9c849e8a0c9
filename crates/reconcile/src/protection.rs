//! Storage in use is not taken away: a claim that is being deleted stays as long as a pod uses it, a volume as long as it is
//! bound, a class of attributes as long as either names it. Admission puts the finalizers on, save those of classes; here they
//! come off.

use crate::collector::drop_finalizer;
use crate::meta::resource;
use crate::{Action, Key, World};
use serde_json::json;
use stoa_kube::typed::{PersistentVolume, PersistentVolumeClaim};
use stoa_units::NamespacedName;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const ATTRIBUTES: &str = "kubernetes.io/vac-protection";

/// Looks at one claim.
pub(crate) fn reconcile_claim(world: &World, key: &Key) -> Vec<Action> {
    let claims = resource("", "persistentvolumeclaims");
    let Some(claim) = world.graph.at(claims, &key.namespace, &key.name) else { return Vec::new() };
    if !claim.deleting || !claim.has_finalizer(CLAIM) {
        return Vec::new();
    }
    // A pod without a node does not count: no agent starts one whose claim is being deleted.
    let name = NamespacedName::new(key.namespace.clone(), key.name.clone());
    let used = world.pods_using(&name).any(|p| !p.node.is_empty() && !p.is_ended());
    if used { Vec::new() } else { vec![drop_finalizer(claim, CLAIM)] }
}

/// Looks at one volume.
pub(crate) fn reconcile_volume(world: &World, key: &Key) -> Vec<Action> {
    let Some(volume) = world.graph.at(resource("", "persistentvolumes"), "", &key.name) else {
        return Vec::new();
    };
    if !volume.deleting || !volume.has_finalizer(VOLUME) {
        return Vec::new();
    }
    let phase = world.volumes.get("", &key.name).and_then(|v| v.status.as_ref()?.phase.clone());
    if phase.as_deref() == Some("Bound") { Vec::new() } else { vec![drop_finalizer(volume, VOLUME)] }
}

/// Looks at one class of volumes' attributes.
pub(crate) fn reconcile_attributes(world: &World, key: &Key) -> Vec<Action> {
    let classes = resource("storage.k8s.io", "volumeattributesclasses");
    let Some(class) = world.graph.at(classes, "", &key.name) else { return Vec::new() };
    match (class.deleting, class.has_finalizer(ATTRIBUTES)) {
        (false, false) => {
            let mut all: Vec<&str> = class.finalizers.iter().map(String::as_str).collect();
            all.push(ATTRIBUTES);
            let patch = json!({"metadata": {"finalizers": all}});
            vec![Action::Patch { id: class.id.clone(), subresource: "", patch }]
        }
        (true, true) => {
            let is_it = |name: &str| name == &*key.name;
            let used = world.claims.iter().any(|c| attributes_of_claim(c).any(is_it))
                || world.volumes.iter().any(|v| attributes_of_volume(v).is_some_and(is_it));
            if used { Vec::new() } else { vec![drop_finalizer(class, ATTRIBUTES)] }
        }
        _ => Vec::new(),
    }
}

/// The classes of attributes that a claim names.
pub(crate) fn attributes_of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    let current = status.and_then(|s| s.current_volume_attributes_class_name.as_deref());
    let modify = status.and_then(|s| s.modify_volume_status.as_ref());
    let target = modify.and_then(|m| m.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty())
}

/// The class of attributes that a volume names.
pub(crate) fn attributes_of_volume(volume: &PersistentVolume) -> Option<&str> {
    let name = volume.spec.as_ref()?.volume_attributes_class_name.as_deref();
    name.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
