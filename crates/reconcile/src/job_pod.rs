//! Pods whose job is gone: the finalizer by which jobs count their pods comes off, since nobody is left to count.

use crate::collector::drop_finalizer;
use crate::{Action, Key, Pod, World};

/// The finalizer of a pod that its job has not counted yet.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// Whether a pod waits to be counted by a job that is not there.
pub(crate) fn is_orphan(world: &World, pod: &Pod) -> bool {
    let owner = || pod.controller.as_ref().filter(|o| o.kind == "Job");
    pod.has_finalizer(TRACKING) && owner().is_none_or(|o| world.graph.get(&o.uid).is_none())
}

/// Looks at one pod.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(pod) = world.pods.get(&key.namespace, &key.name).filter(|p| is_orphan(world, p)) else {
        return Vec::new();
    };
    world.graph.get(&pod.id.uid).map(|m| drop_finalizer(m, TRACKING)).into_iter().collect()
}
