//! Storage in use is not taken away: a claim that is being deleted stays as long as a pod uses it, a volume as long as it is
//! bound. Admission puts the finalizers on; here they come off.

use crate::collector::drop_finalizer;
use crate::meta::resource;
use crate::{Action, Key, World};
use stoa_units::NamespacedName;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

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

#[cfg(test)]
mod tests;
