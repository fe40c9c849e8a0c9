//! Pods of nodes that are gone, or that somebody declared out of service: nobody is left to report their end, so they are
//! failed and removed.

use crate::meta::time;
use crate::pod::Condition;
use crate::{Action, Key, Pod, Propagation, World};
use serde_json::{Value, json};
use std::time::Duration;
use stoa_kube::typed::Node;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A node that is absent for less may just be registering anew.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Looks at one pod.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(pod) = world.pods.get(&key.namespace, &key.name) else { return Vec::new() };
    if pod.node.is_empty() {
        return Vec::new();
    }
    if let Some(node) = world.nodes.get("", &pod.node) {
        return if pod.deleting && is_out_of_service(node) { end(pod, None) } else { Vec::new() };
    }
    let until = world.absent_since(&pod.node).unwrap_or(world.now).plus(QUARANTINE);
    if until > world.now {
        return vec![Action::Again { at: until }];
    }
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists", "lastProbeTime": null, "lastTransitionTime": time(world.now),
        "observedGeneration": pod.generation});
    end(pod, Some(condition))
}

/// Whether somebody said of a node that does not answer that it will not come back: what ends there has ended.
pub(crate) fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref()).into_iter().flatten();
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True");
    !ready && taints.into_iter().any(|t| t.key == OUT_OF_SERVICE)
}

fn end(pod: &Pod, condition: Option<Value>) -> Vec<Action> {
    let mut actions = Vec::new();
    if !pod.is_ended() {
        let kept = pod.conditions.iter().filter(|c| condition.is_none() || c.kind != "DisruptionTarget");
        let mut conditions: Vec<Value> = kept.map(Condition::to_value).collect();
        conditions.extend(condition);
        let patch = json!({"status": {"phase": "Failed", "conditions": conditions}});
        actions.push(Action::Patch { id: pod.id.clone(), subresource: "status", patch });
    }
    actions.push(Action::Delete {
        id: pod.id.clone(),
        propagation: Propagation::Default,
        grace_seconds: Some(0),
        announce: None,
    });
    actions
}

#[cfg(test)]
mod tests {
    use crate::stage::Stage;
    use crate::{Action, Controller, Key, reconcile};
    use serde_json::{Value, json};

    fn node(ready: &str, taint: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
            "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn pods_end_with_a_node_that_is_out_of_service_or_gone() {
        let key = Key::new(Controller::PodCollector, "d", "p");
        let out = "node.kubernetes.io/out-of-service";
        for (node, deleting, ends) in [
            (Some(node("Unknown", out)), true, true),
            (Some(node("Unknown", out)), false, false),
            (Some(node("True", out)), true, false),
            (Some(node("Unknown", "node.kubernetes.io/unreachable")), true, false),
            (None, false, true),
        ] {
            let mut stage = Stage::new();
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"},
                "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
            if deleting {
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let mut named = stage.put(pod);
            if let Some(node) = &node {
                named.extend(stage.put(node.clone()));
            }
            assert!(!ends || named.contains(&key), "{node:?} {deleting}");
            // Without a node there is a time in which it may come back.
            stage.wait(60);
            let plan = reconcile(&stage.world, &key);
            let forced = plan.iter().any(|a| matches!(a, Action::Delete { grace_seconds: Some(0), .. }));
            assert_eq!(forced, ends, "{node:?} {deleting}");
        }
    }
}
