//! TaintToleration: taints keep pods off that do not tolerate them; `PreferNoSchedule` only counts against a node.

use crate::pod::Tolerates;
use crate::{NodeInfo, Reason, Shape};
use stoa_kube::typed::{PodSpec, Taint};

/// Why a node does not keep a pod, in the words of an agent.
pub const UNTOLERATED: &str = "node(s) had taints that the pod didn't tolerate";

/// Whether the toleration covers the taint.
pub fn tolerates(t: &Tolerates, taint: &Taint) -> bool {
    let effect = t.effect.is_empty() || t.effect == taint.effect;
    let key = t.key == taint.key || (t.key.is_empty() && t.exists);
    effect && key && (t.exists || t.value == taint.value.as_deref().unwrap_or_default())
}

/// Whether a pod tolerates a taint: what an agent asks once more when the pod comes, since a pod may be bound past the
/// scheduler.
pub fn is_tolerated(spec: &PodSpec, taint: &Taint) -> bool {
    spec.tolerations.iter().flatten().any(|t| tolerates(&crate::pod::tolerates(t), taint))
}

/// Rules out nodes with a taint that is not tolerated.
pub fn filter(shape: &Shape, node: &NodeInfo) -> Option<Reason> {
    let mut hard = node.taints.iter().filter(|t| t.effect != "PreferNoSchedule");
    let refused = hard.any(|taint| !shape.tolerations.iter().any(|t| tolerates(t, taint)));
    refused.then_some(Reason::fixed("node(s) had untolerated taint(s)"))
}

/// How many soft taints are not tolerated: the fewer the better.
pub fn score(shape: &Shape, node: &NodeInfo) -> i64 {
    let soft = node.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
    soft.filter(|taint| {
        let mut may =
            shape.tolerations.iter().filter(|t| t.effect.is_empty() || t.effect == "PreferNoSchedule");
        !may.any(|t| tolerates(t, taint))
    })
    .count() as i64
}
