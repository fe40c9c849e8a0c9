//! Pods leave a node with a `NoExecute` taint that they do not tolerate, at once or when their time is up.

use crate::meta::time;
use crate::pod::{Condition, Toleration};
use crate::{Action, Key, Level, Pod, Propagation, World};
use serde_json::json;
use std::time::Duration;
use stoa_kube::typed::Taint;
use stoa_units::Time;

/// Looks at one pod.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(pod) = world.pods.get(&key.namespace, &key.name) else { return Vec::new() };
    if pod.deleting || pod.node.is_empty() || pod.is_ended() {
        return Vec::new();
    }
    let taints =
        world.nodes.get("", &pod.node).and_then(|n| n.spec.as_ref()?.taints.clone()).unwrap_or_default();
    let hard = taints.iter().filter(|t| t.effect == "NoExecute");
    match hard.filter_map(|t| leaves_at(world, pod, t)).min() {
        None => Vec::new(),
        Some(at) if at > world.now => vec![Action::Again { at }],
        Some(_) => evict(world, pod),
    }
}

/// When a taint makes the pod leave; `None` if it never does.
fn leaves_at(world: &World, pod: &Pod, taint: &Taint) -> Option<Time> {
    let tolerates = |t: &&Toleration| {
        let key = t.key == taint.key || (t.key.is_empty() && t.operator == "Exists");
        key && (t.operator == "Exists" || t.value == taint.value.as_deref().unwrap_or_default())
    };
    let matching: Vec<&Toleration> = pod.tolerations.iter().filter(tolerates).collect();
    if matching.is_empty() {
        return Some(Time::EPOCH);
    }
    // The shortest of those that say how long; without any, for ever.
    let seconds = matching.iter().filter_map(|t| t.toleration_seconds).min()?;
    Some(world.tainted_since(&pod.node, taint).plus(Duration::from_secs(seconds.max(0).unsigned_abs())))
}

fn evict(world: &World, pod: &Pod) -> Vec<Action> {
    let kept = pod.conditions.iter().filter(|c| c.kind != "DisruptionTarget");
    let mut conditions: Vec<_> = kept.map(Condition::to_value).collect();
    conditions.push(json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint", "lastProbeTime": null,
        "lastTransitionTime": time(world.now), "observedGeneration": pod.generation}));
    vec![
        Action::Patch {
            id: pod.id.clone(),
            subresource: "status",
            patch: json!({"status": {"conditions": conditions}}),
        },
        Action::Event {
            about: pod.id.clone(),
            level: Level::Normal,
            reason: "TaintManagerEviction",
            message: format!("Marking for deletion Pod {}/{}", pod.id.namespace, pod.id.name),
        },
        Action::Delete {
            id: pod.id.clone(),
            propagation: Propagation::Default,
            grace_seconds: None,
            announce: None,
        },
    ]
}

#[cfg(test)]
mod tests {
    use crate::stage::Stage;
    use crate::{Action, Controller, Key, reconcile};
    use serde_json::{Value, json};

    fn looks(stage: &Stage, name: &str) -> &'static str {
        let key = Key::new(Controller::TaintEviction, "d", name);
        match reconcile(&stage.world, &key).as_slice() {
            [] => "stays",
            [Action::Again { .. }] => "waits",
            _ => "leaves",
        }
    }

    #[test]
    fn time_runs_from_when_the_taint_was_seen() {
        let node = |taints: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"taints": taints}});
        let pod = |name: &str, seconds: Value| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d"},
                "spec": {"nodeName": "n", "containers": [], "tolerations": seconds}})
        };
        let toleration = |seconds: Value| json!([{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        let mut stage = Stage::new();
        stage.put(node(json!([])));
        stage.put(pod("bare", json!([])));
        stage.put(pod("short", toleration(json!(5))));
        stage.put(pod("ever", toleration(Value::Null)));
        let taint = json!([{"key": "k", "value": "v", "effect": "NoExecute"}]);
        stage.put(node(taint.clone()));
        assert_eq!(["bare", "short", "ever"].map(|p| looks(&stage, p)), ["leaves", "waits", "stays"]);
        stage.wait(4);
        // The node is written again, as it is all the time: nothing begins anew.
        stage.put(node(taint));
        assert_eq!(looks(&stage, "short"), "waits");
        stage.wait(1);
        assert_eq!(looks(&stage, "short"), "leaves");
        stage.put(node(json!([])));
        assert_eq!(looks(&stage, "short"), "stays");
    }
}
