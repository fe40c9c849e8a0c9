//! SchedulingGates: a pod with gates is not looked at until they are gone.

use crate::PodInfo;

/// What the `PodScheduled` condition says of a gated pod; nothing if it has no gates.
pub fn message(pod: &PodInfo) -> Option<&'static str> {
    (!pod.gates.is_empty()).then_some("Scheduling is blocked due to non-empty scheduling gates")
}
