//! For how long agents may keep what they read of ConfigMaps and Secrets: the longer, the more nodes there are, so that their
//! reads do not grow with the cluster. It stands in an annotation of each node.

use crate::meta::{annotation, id, is_deleting, resource};
use crate::{Action, Key, World};
use serde_json::json;
use stoa_kube::typed::Node;

const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// From how many nodes to how many how many seconds hold. They overlap, so that a cluster at an edge does not waver.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1_000, 30), (900, 2_000, 60), (1_800, usize::MAX, 300)];

/// Looks at one node.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(node) = world.nodes.get("", &key.name).filter(|n| !is_deleting(&n.metadata)) else {
        return Vec::new();
    };
    // While a node comes up others write it: its taints must not wait for this.
    if !is_up(node) {
        return Vec::new();
    }
    let said = annotation(&node.metadata, TTL).and_then(|text| text.parse().ok());
    let wanted = seconds(world.nodes.len(), said);
    if said == Some(wanted) {
        return Vec::new();
    }
    let patch = json!({"metadata": {"annotations": {TTL: wanted.to_string()}}});
    vec![Action::Patch { id: id(resource("", "nodes"), &node.metadata), subresource: "", patch }]
}

/// Whether pods may go there: it says so, and nothing that says otherwise is left.
fn is_up(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut taints = node.spec.iter().filter_map(|s| s.taints.as_ref()).flatten();
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
        && !taints.any(|t| t.key == "node.kubernetes.io/not-ready")
}

/// How many seconds hold for so many nodes, given what held before.
fn seconds(nodes: usize, before: Option<u32>) -> u32 {
    let mut step = STEPS.iter().position(|(_, _, s)| Some(*s) == before).unwrap_or(0);
    while nodes > STEPS[step].1 && step + 1 < STEPS.len() {
        step += 1;
    }
    while nodes < STEPS[step].0 && step > 0 {
        step -= 1;
    }
    STEPS[step].2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Controller;
    use crate::stage::Stage;

    #[test]
    fn a_node_says_for_how_long_what_was_read_holds() {
        for (nodes, before, wanted) in [
            (1, None, 0),
            (100, None, 0),
            (101, None, 15),
            (95, Some(15), 15),
            (89, Some(15), 0),
            (95, Some(0), 0),
            (700, Some(15), 30),
            (5_000, Some(0), 300),
            (3, Some(300), 0),
            (3, Some(7), 0),
        ] {
            assert_eq!(seconds(nodes, before), wanted, "{nodes} {before:?}");
        }
        let mut stage = Stage::new();
        let key = Key::new(Controller::NodeTtl, "", "n");
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let taint = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"taints": taint}, "status": ready});
        assert!(stage.put(node).contains(&key));
        stage.settle(&key);
        assert!(stage.get("nodes", "", "n")["metadata"]["annotations"].is_null());
        stage.patch("nodes", "", "n", &json!({"spec": {"taints": null}}));
        stage.settle(&key);
        assert_eq!(stage.get("nodes", "", "n")["metadata"]["annotations"][TTL], "0");
    }
}
