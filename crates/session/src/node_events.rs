//! What people are told about nodes: what changes in a Node object becomes Events, in the words of a kubelet and of the
//! stock node controller. Read off the watch, so whoever wrote the change, it is told once. An agent whose node was given an
//! extended resource hears of it here too.

use crate::node;
use crate::service::{Inner, REOPEN_WAIT, begin};
use serde_json::{Value, json};
use stoa_kube::{Status, resources};
use stoa_registry::{Context, Target};
use stoa_store::{Error, Event, EventKind, Key};
use stoa_units::Time;

/// Where Events about what has no namespace are.
const NAMESPACE: &str = "default";
/// Conditions of pressure, with what is said when one begins and when it ends.
const PRESSURES: [(&str, &str, &str); 3] = [
    ("MemoryPressure", "NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
];

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    Kubelet,
    Controller,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    by: Speaker,
    kind: &'static str,
    reason: &'static str,
    message: String,
}

fn condition<'a>(node: &'a Value, kind: &str) -> &'a str {
    let list = node["status"]["conditions"].as_array().into_iter().flatten();
    list.into_iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or_default()
}

/// What a change of a Node is worth telling. `before` is null for a node that is new, `after` for one that is gone. Pure.
fn tell(name: &str, before: &Value, after: &Value) -> Vec<Said> {
    let said = |by, kind, reason, message: String| Said { by, kind, reason, message };
    let turned = |by, reason| said(by, "Normal", reason, format!("Node {name} status is now: {reason}"));
    if after.is_null() {
        let message = format!("Node {name} event: Removing Node {name} from Controller");
        return vec![said(Speaker::Controller, "Normal", "RemovingNode", message)];
    }
    let mut out = Vec::new();
    if before.is_null() {
        let message = format!("Node {name} event: Registered Node {name} in Controller");
        out.push(said(Speaker::Controller, "Normal", "RegisteredNode", message));
    }
    for (kind, begins, ends) in PRESSURES {
        match (condition(before, kind), condition(after, kind)) {
            (old, new) if old == new => {}
            (_, "True") => out.push(turned(Speaker::Kubelet, begins)),
            (_, "False") => out.push(turned(Speaker::Kubelet, ends)),
            // Nobody knows: that the node is not ready says so.
            _ => {}
        }
    }
    let boot = |node: &'_ Value| node["status"]["nodeInfo"]["bootID"].as_str().unwrap_or_default().to_owned();
    let (old, new) = (boot(before), boot(after));
    if !old.is_empty() && !new.is_empty() && old != new {
        let message = format!("Node {name} has been rebooted, boot id: {new}");
        out.push(said(Speaker::Kubelet, "Warning", "Rebooted", message));
    }
    let (old, new) = (condition(before, "Ready"), condition(after, "Ready"));
    if old != new {
        match new {
            "True" => out.push(turned(Speaker::Kubelet, "NodeReady")),
            "False" if !old.is_empty() => out.push(turned(Speaker::Kubelet, "NodeNotReady")),
            _ => {}
        }
        if old == "True" {
            out.push(turned(Speaker::Controller, "NodeNotReady"));
        }
    }
    let is_cordoned = |node: &Value| node["spec"]["unschedulable"].as_bool() == Some(true);
    match (is_cordoned(before), is_cordoned(after)) {
        (false, true) => out.push(turned(Speaker::Kubelet, "NodeNotSchedulable")),
        (true, false) => out.push(turned(Speaker::Kubelet, "NodeSchedulable")),
        _ => {}
    }
    out
}

/// The Event of what is said about a node. A kubelet calls a node's name its uid, the controller does not; both are found
/// by `kubectl describe`.
fn render(node: &str, uid: &str, said: &Said, at: Time, serial: usize) -> Value {
    let stamp = at.to_rfc3339_seconds();
    let (involved, source) = match said.by {
        Speaker::Kubelet => (
            json!({"kind": "Node", "name": node, "uid": node}),
            json!({"component": "kubelet", "host": node}),
        ),
        Speaker::Controller => (
            json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}),
            json!({"component": "node-controller"}),
        ),
    };
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{node}.{:x}{serial:02x}", at.0.as_nanosecond()), "namespace": NAMESPACE},
        "involvedObject": involved,
        "reason": said.reason, "message": said.message, "type": said.kind, "count": 1,
        "firstTimestamp": stamp, "lastTimestamp": stamp,
        "reportingComponent": source["component"],
        "reportingInstance": source["host"].as_str().unwrap_or_default(),
        "source": source,
    })
}

/// Tells what one write of a Node changed, and has the node's agent answer where it is for that to say.
async fn write(inner: &Inner, event: &Event) -> Result<(), Status> {
    let registry = &inner.registry;
    let resource = resources()
        .find("", "v1", "events")
        .ok_or_else(|| Status::internal("the registry does not know events"))?;
    let read = |bytes: Option<&[u8]>| bytes.and_then(|b| serde_json::from_slice::<Value>(b).ok());
    let before = read(event.previous.as_deref()).unwrap_or_default();
    let after = match event.kind {
        EventKind::Delete => Value::Null,
        EventKind::Put => read(Some(&event.value)).unwrap_or_default(),
    };
    let known = if after.is_null() { &before } else { &after };
    let (name, uid) = (event.key.name(), known["metadata"]["uid"].as_str().unwrap_or_default());
    let (ctx, target) = (Context::system("session"), Target::new(resource, NAMESPACE, ""));
    if node::is_to_allow(&after)
        && let Some(session) = inner.hub.session(name)
    {
        session.retell.notify_one();
    }
    let now = registry.clock().now();
    for (serial, said) in tell(name, &before, &after).iter().enumerate() {
        registry.create(&ctx, target, render(name, uid, said, now, serial)).await?;
    }
    Ok(())
}

/// Tells what becomes of nodes, as long as the master runs. What happens in a gap of the watch is not told: events are a
/// courtesy.
pub(crate) async fn follow(inner: &Inner) {
    let prefix = Key::prefix("", "nodes", "");
    let mut first = Some(inner.begun);
    loop {
        let opened = match first.take() {
            Some(begun) => inner.registry.store().watch(&prefix, begun),
            None => begin(inner, &prefix, |_| {}),
        };
        let mut watch = match opened {
            Ok(watch) => watch,
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "nodes cannot be watched");
                tokio::time::sleep(REOPEN_WAIT).await;
                continue;
            }
        };
        loop {
            match watch.next().await {
                Ok(batch) => {
                    for event in &batch.events {
                        if let Err(e) = write(inner, event).await {
                            tracing::debug!(node = event.key.name(), error = %e.message, "an event was refused");
                        }
                    }
                }
                Err(Error::Closed) => return,
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, pressure: &str, boot: &str, cordoned: bool) -> Value {
        json!({"metadata": {"name": "n1", "uid": "u1"}, "spec": {"unschedulable": cordoned},
            "status": {"nodeInfo": {"bootID": boot}, "conditions": [
                {"type": "MemoryPressure", "status": pressure}, {"type": "Ready", "status": ready}]}})
    }

    #[test]
    fn every_turn_of_a_node_is_told_once_and_by_who_would_tell_it() {
        let (good, nothing) = (node("True", "False", "b1", false), Value::Null);
        let words = |before: &Value, after: &Value| -> Vec<String> {
            let said = tell("n1", before, after).into_iter();
            said.map(|s| {
                let by = if s.by == Speaker::Kubelet { "k" } else { "c" };
                format!("{by} {} {}", s.kind, s.reason)
            })
            .collect()
        };
        let fresh = ["c Normal RegisteredNode", "k Normal NodeHasSufficientMemory", "k Normal NodeReady"];
        assert_eq!(words(&nothing, &good), fresh);
        assert!(words(&good, &good).is_empty());
        for (after, want) in [
            (node("True", "True", "b1", false), vec!["k Normal NodeHasInsufficientMemory"]),
            (node("Unknown", "Unknown", "b1", false), vec!["c Normal NodeNotReady"]),
            (node("False", "False", "b1", false), vec!["k Normal NodeNotReady", "c Normal NodeNotReady"]),
            (node("True", "False", "b2", false), vec!["k Warning Rebooted"]),
            (node("True", "False", "b1", true), vec!["k Normal NodeNotSchedulable"]),
            (nothing, vec!["c Normal RemovingNode"]),
        ] {
            assert_eq!(words(&good, &after), want, "{after}");
        }
        let back = words(&node("Unknown", "Unknown", "b1", true), &good);
        let want = ["k Normal NodeHasSufficientMemory", "k Normal NodeReady", "k Normal NodeSchedulable"];
        assert_eq!(back, want);
        let rebooted = &tell("n1", &good, &node("True", "False", "b2", false))[0].message;
        assert_eq!(rebooted, "Node n1 has been rebooted, boot id: b2");
    }

    #[test]
    fn a_kubelet_names_a_node_otherwise_than_the_controller_does() {
        let event = |by| {
            let said = Said { by, kind: "Normal", reason: "NodeReady", message: String::new() };
            render("n1", "u1", &said, Time::EPOCH, 3)
        };
        let (kubelet, controller) = (event(Speaker::Kubelet), event(Speaker::Controller));
        assert_eq!(kubelet["involvedObject"], json!({"kind": "Node", "name": "n1", "uid": "n1"}));
        assert_eq!(kubelet["source"], json!({"component": "kubelet", "host": "n1"}));
        assert_eq!(controller["involvedObject"]["uid"], "u1");
        assert_eq!(controller["source"], json!({"component": "node-controller"}));
        assert_eq!(controller["metadata"]["name"], "n1.003");
    }
}
