//! A node's conditions become taints, so that the scheduler avoids it and pods leave it; the pods of a node that is lost
//! are not ready. What capacity it has of extended resources may be allocated.

use crate::meta::{id, resource, time};
use crate::{Action, Key, Level, Pod, World};
use serde_json::{Value, json};
use stoa_kube::typed::{Node, Taint};

/// Taints that this controller alone sets and takes away.
const OURS: [&str; 7] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/unschedulable",
];
const NOT_READY: &str = OURS[0];
const UNREACHABLE: &str = OURS[1];

/// Looks at one node.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(node) = world.nodes.get("", &key.name) else { return Vec::new() };
    let ready = status_of(node, "Ready");
    let mut actions = Vec::new();
    let now = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let mut taints: Vec<Taint> = now.iter().filter(|t| !OURS.contains(&t.key.as_str())).cloned().collect();
    for (key, effect) in wanted(node, ready) {
        let same = now.iter().find(|t| t.key == key && t.effect == effect);
        taints.push(same.cloned().unwrap_or_else(|| {
            let added = (effect == "NoExecute").then_some(stoa_kube::typed::Time(world.now.0));
            Taint { key: key.into(), effect: effect.into(), time_added: added, value: None }
        }));
    }
    let (mut old, mut new) = (now.clone(), taints.clone());
    for list in [&mut old, &mut new] {
        list.sort_by(|a, b| (&a.key, &a.effect).cmp(&(&b.key, &b.effect)));
    }
    if old != new {
        let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
        let id = id(resource("", "nodes"), &node.metadata);
        actions.push(Action::Patch { id, subresource: "", patch: json!({"spec": {"taints": taints}}) });
    }
    if let Some(allocatable) = allocatable(node) {
        let id = id(resource("", "nodes"), &node.metadata);
        let patch = json!({"status": {"allocatable": allocatable}});
        actions.push(Action::Patch { id, subresource: "status", patch });
    }
    if ready != "True" {
        for pod in world.pods_on(&key.name).filter(|p| p.is_ready()) {
            actions.extend(mark_not_ready(world, pod));
        }
    }
    actions
}

/// What of a node's allocatable is to change: resources that somebody put into its capacity by hand (nothing of them is
/// kept for the system) and such that went from there.
fn allocatable(node: &Node) -> Option<Value> {
    let status = node.status.as_ref()?;
    let empty = Default::default();
    let (has, may) =
        (status.capacity.as_ref().unwrap_or(&empty), status.allocatable.as_ref().unwrap_or(&empty));
    let is_extended = |name: &str| name.contains('/') && !name.contains("kubernetes.io/");
    let added = has.iter().filter(|(n, q)| is_extended(n) && may.get(*n) != Some(q));
    let gone = may.keys().filter(|n| is_extended(n) && !has.contains_key(*n));
    let changes: serde_json::Map<String, Value> =
        added.map(|(n, q)| (n.clone(), json!(q))).chain(gone.map(|n| (n.clone(), Value::Null))).collect();
    (!changes.is_empty()).then_some(Value::Object(changes))
}

fn status_of<'a>(node: &'a Node, kind: &str) -> &'a str {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|c| c.type_ == kind);
    found.map_or("Unknown", |c| c.status.as_str())
}

fn wanted(node: &Node, ready: &str) -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    match ready {
        "True" => {}
        "False" => out.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        _ => out.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
    }
    for (kind, taint) in [
        ("MemoryPressure", OURS[2]),
        ("DiskPressure", OURS[3]),
        ("PIDPressure", OURS[4]),
        ("NetworkUnavailable", OURS[5]),
    ] {
        if status_of(node, kind) == "True" {
            out.push((taint, "NoSchedule"));
        }
    }
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        out.push((OURS[6], "NoSchedule"));
    }
    out
}

fn mark_not_ready(world: &World, pod: &Pod) -> Vec<Action> {
    let conditions: Vec<Value> = pod
        .conditions
        .iter()
        .map(|c| {
            if c.kind == "Ready" {
                return json!({"type": "Ready", "status": "False", "reason": "NodeNotReady",
                    "message": "Node is not ready", "lastProbeTime": null, "lastTransitionTime": time(world.now)});
            }
            c.to_value()
        })
        .collect();
    let patch = json!({"status": {"conditions": conditions}});
    vec![
        Action::Patch { id: pod.id.clone(), subresource: "status", patch },
        Action::Event {
            about: pod.id.clone(),
            level: Level::Warning,
            reason: "NodeNotReady",
            message: "Node is not ready".to_string(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_the_capacity_by_hand_may_be_allocated() {
        let node = |capacity: Value, allocatable: Value| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n"},
                "status": {"capacity": capacity, "allocatable": allocatable}}))
            .unwrap()
        };
        let own = json!({"cpu": "4", "hugepages-2Mi": "0"});
        let kept = json!({"cpu": "3", "hugepages-2Mi": "0"});
        assert_eq!(allocatable(&node(own.clone(), kept.clone())), None, "the agent's own is the agent's");
        let with = |base: &Value, count: &str| {
            let mut all = base.clone();
            all["example.com/dongle"] = count.into();
            all
        };
        let added = allocatable(&node(with(&own, "5"), kept.clone()));
        assert_eq!(added, Some(json!({"example.com/dongle": "5"})));
        assert_eq!(allocatable(&node(with(&own, "5"), with(&kept, "5"))), None);
        assert_eq!(allocatable(&node(own, with(&kept, "5"))), Some(json!({"example.com/dongle": null})));
    }
}
