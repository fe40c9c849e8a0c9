//! A node's conditions become taints, so that the scheduler avoids it and pods leave it; the pods of a node that is lost
//! are not ready. What capacity it has of extended resources may be allocated.

use crate::meta::{id, labels, resource, time};
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
/// Labels of a node that are found under their former names too.
const COPIED: [(&str, &str); 2] =
    [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];
const NOT_READY: &str = OURS[0];
const UNREACHABLE: &str = OURS[1];

/// Looks at one node.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(node) = world.nodes.get("", &key.name) else { return Vec::new() };
    let ready = status_of(node, "Ready");
    let mut actions = Vec::new();
    let now = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    let wanted = wanted(node, ready);
    let stays =
        |t: &&Taint| !OURS.contains(&t.key.as_str()) || wanted.contains(&(t.key.as_str(), t.effect.as_str()));
    let mut taints: Vec<Taint> = now.iter().filter(stays).cloned().collect();
    for (key, effect) in &wanted {
        if !now.iter().any(|t| t.key == *key && t.effect == *effect) {
            let added = Some(stoa_kube::typed::Time(world.now.0));
            let (key, effect) = (key.to_string(), effect.to_string());
            taints.push(Taint { key, effect, time_added: added, value: None });
        }
    }
    let (mut old, mut new) = (now.clone(), taints.clone());
    for list in [&mut old, &mut new] {
        list.sort_by(|a, b| (&a.key, &a.effect).cmp(&(&b.key, &b.effect)));
    }
    let mut patch = json!({});
    if old != new {
        patch["spec"]["taints"] = if taints.is_empty() { Value::Null } else { json!(taints) };
    }
    let labels = labels(&node.metadata);
    for (label, copy) in COPIED {
        if let Some(value) = labels.get(label).filter(|v| labels.get(copy) != Some(*v)) {
            patch["metadata"]["labels"][copy] = value.as_str().into();
        }
    }
    if patch != json!({}) {
        let id = id(resource("", "nodes"), &node.metadata);
        actions.push(Action::Patch { id, subresource: "", patch });
    }
    if let Some(allocatable) = allocatable(node) {
        let id = id(resource("", "nodes"), &node.metadata);
        let patch = json!({"status": {"allocatable": allocatable}});
        actions.push(Action::Patch { id, subresource: "status", patch });
    }
    // A node that says itself that it is not ready tells of its pods too.
    if ready == "Unknown" {
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
            let mut value = c.to_value();
            if c.kind == "Ready" {
                value["status"] = "False".into();
                value["lastTransitionTime"] = time(world.now);
            }
            value
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

    #[test]
    fn taints_say_since_when_and_labels_are_found_under_their_former_names() {
        let mut stage = crate::stage::Stage::new();
        let own = json!({"key": "mine", "effect": "NoSchedule"});
        stage.put(json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "x"}},
            "spec": {"taints": [own], "unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "False"}]}}));
        stage.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"},
            "spec": {"nodeName": "n"}}));
        let since = stage.world.now;
        stage.patch("pods", "d", "p", &crate::stage::pod_status("Running", true, since));
        stage.settle(&Key::new(crate::Controller::NodeLifecycle, "", "n"));
        let node = stage.get("nodes", "", "n");
        let taints = node["spec"]["taints"].as_array().expect("taints");
        assert_eq!(taints[0], own);
        assert!(taints[1..].iter().all(|t| t["timeAdded"].is_string()) && taints.len() == 4, "{taints:?}");
        assert_eq!(node["metadata"]["labels"]["beta.kubernetes.io/os"], "linux");
        assert_eq!(node["metadata"]["labels"]["beta.kubernetes.io/arch"], "x", "there is nothing to copy");
        let ready = |s: &crate::stage::Stage| s.get("pods", "d", "p")["status"]["conditions"][0].clone();
        assert_eq!(ready(&stage)["status"], "True", "the node is there and tells of its pods itself");
        stage.patch(
            "nodes",
            "",
            "n",
            &json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
        );
        stage.settle(&Key::new(crate::Controller::NodeLifecycle, "", "n"));
        let lost = ready(&stage);
        assert!(lost["status"] == "False" && lost["reason"].is_null(), "{lost}");
    }
}
