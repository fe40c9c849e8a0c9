//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use crate::plugins::taint_toleration::tolerates;
use crate::{NodeInfo, Reason, Shape};
use stoa_kube::typed::Taint;

/// Rules out cordoned nodes.
pub fn filter(shape: &Shape, node: &NodeInfo) -> Option<Reason> {
    if !node.unschedulable {
        return None;
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    let tolerated = shape.tolerations.iter().any(|t| tolerates(t, &taint));
    (!tolerated).then_some(Reason::fixed("node(s) were unschedulable"))
}
