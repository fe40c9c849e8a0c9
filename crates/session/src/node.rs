//! The Node object of an agent as pure functions: rendered when it says hello, ready while its session lasts.

use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;
use stoa_units::Time;
use stoa_wire::NodeReport;

/// Conditions that an agent's session stands for.
const READY: &str = "Ready";
/// Features by the names under which a kubelet of this version declares them.
const DECLARED_FEATURES: [&str; 2] =
    ["InPlacePodLevelResourcesVerticalScaling", "RestartAllContainersOnContainerExits"];

/// A Node for an agent that has none yet. Pure.
pub(crate) fn render(name: &str, report: &NodeReport, pod_cidr: &str, now: Time) -> Value {
    let mut node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]},
    });
    set_metadata(&mut node, report);
    set_status(&mut node, report, now);
    node
}

/// Labels by which tenants keep pods to machines they trust: administrators set them, never a machine for itself.
const RESTRICTED: &str = "node-restriction.kubernetes.io";

fn is_restricted(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    domain.strip_suffix(RESTRICTED).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Labels and annotations that the agent speaks for; those of others stay.
pub(crate) fn set_metadata(node: &mut Value, report: &NodeReport) {
    for (field, given) in [("labels", &report.labels), ("annotations", &report.annotations)] {
        let map = object_at(&mut node["metadata"], field);
        for (key, value) in given.iter().filter(|(key, _)| !is_restricted(key)) {
            map.insert(key.clone(), value.as_str().into());
        }
    }
}

/// The lease of a node, owned by it. Pure.
pub(crate) fn render_lease(name: &str, node: &Value, now: Time) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40,
            "renewTime": now.0.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()},
    })
}

/// The addresses of the node's pods.
pub(crate) fn set_pod_cidr(node: &mut Value, cidr: &str) {
    let spec = object_at(node, "spec");
    spec.insert("podCIDR".into(), json!(cidr));
    spec.insert("podCIDRs".into(), json!([cidr]));
}

/// How old the times of a node's conditions may become. Nobody here lives by them, the session being the sign of life; tools
/// that watch nodes do.
pub(crate) const STAMP_AFTER: Duration = Duration::from_secs(300);

/// Everything of the status that the agent speaks for. Its conditions are stamped where anything is new, and where their stamps
/// are old.
pub(crate) fn set_status(node: &mut Value, report: &NodeReport, now: Time) {
    let before = node["status"].clone();
    say_status(node, report, now);
    let of_agent = |c: &Value| {
        c["type"] == READY || report.conditions.iter().any(|told| c["type"] == told.kind.as_str())
    };
    let is_old = |c: &Value| {
        let stamp = c["lastHeartbeatTime"].as_str().and_then(Time::parse);
        stamp.is_none_or(|stamp| now.since(stamp) >= STAMP_AFTER)
    };
    let list = node["status"]["conditions"].as_array();
    let is_due = list.is_some_and(|list| list.iter().any(|c| of_agent(c) && is_old(c)));
    if !is_due && before == node["status"] {
        return;
    }
    let list = node["status"]["conditions"].as_array_mut().into_iter().flatten();
    for condition in list.filter(|c| of_agent(c)) {
        condition["lastHeartbeatTime"] = now.to_rfc3339_seconds().into();
    }
}

/// Whether it is the name of a resource that whoever likes may say a node has, by a patch of its status.
fn is_extended(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(domain, _)| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

/// Resources that somebody else than the agent says the node has. They are advertised in its capacity.
fn of_others(status: &Map<String, Value>, report: &NodeReport) -> Map<String, Value> {
    let capacity = status.get("capacity").and_then(Value::as_object).into_iter().flatten();
    let others = capacity.filter(|(name, _)| is_extended(name) && !report.capacity.contains_key(*name));
    others.map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

/// Whether pods may use another amount of an extended resource than the node is said to have: its agent, which keeps none of
/// them for itself, has yet to say so. Pure.
pub(crate) fn is_to_allow(node: &Value) -> bool {
    let extended = |field: &str| {
        let all = node["status"][field].as_object().into_iter().flatten();
        all.filter(|(name, _)| is_extended(name)).collect::<Vec<_>>()
    };
    extended("capacity") != extended("allocatable")
}

fn say_status(node: &mut Value, report: &NodeReport, now: Time) {
    let status = object_at(node, "status");
    let others = of_others(status, report);
    for (field, own) in [("capacity", &report.capacity), ("allocatable", &report.allocatable)] {
        let own = own.iter().map(|(name, amount)| (name.clone(), amount.as_str().into()));
        let all: Map<String, Value> = own.chain(others.clone()).collect();
        status.insert(field.into(), all.into());
    }
    status.insert(
        "addresses".into(),
        json!([
            {"type": "InternalIP", "address": report.address},
            {"type": "Hostname", "address": report.hostname},
        ]),
    );
    status.insert("nodeInfo".into(), json!(report.info));
    status.insert("features".into(), json!({"supplementalGroupsPolicy": true}));
    status.insert("runtimeHandlers".into(), json!([{"name": "", "features": report.features}]));
    status.insert("declaredFeatures".into(), json!(DECLARED_FEATURES));
    let images: Vec<Value> =
        report.images.iter().map(|i| json!({"names": i.names, "sizeBytes": i.size_bytes})).collect();
    if images.is_empty() {
        status.remove("images");
    } else {
        status.insert("images".into(), images.into());
    }
    status.insert("daemonEndpoints".into(), json!({"kubeletEndpoint": {"Port": 0}}));
    for c in &report.conditions {
        set_condition(node, &c.kind, &c.status, &c.reason, &c.message, now);
    }
    // An agent that goes down says so itself.
    if !report.conditions.iter().any(|c| c.kind == READY) {
        set_condition(node, READY, "True", "KubeletReady", "kubelet is posting ready status", now);
    }
}

/// The node's session is lost for longer than it may be.
pub(crate) fn set_unknown(node: &mut Value, now: Time) {
    let kinds: Vec<String> = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["type"].as_str().map(str::to_owned))
        .filter(|kind| matches!(kind.as_str(), READY | "MemoryPressure" | "DiskPressure" | "PIDPressure"))
        .collect();
    for kind in kinds {
        set_condition(
            node,
            &kind,
            "Unknown",
            "NodeStatusUnknown",
            "Kubelet stopped posting node status.",
            now,
        );
    }
}

/// Whether the node is said to be ready.
pub(crate) fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == READY && c["status"] == "True")
}

fn set_condition(node: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: Time) {
    let list = object_at(node, "status").entry("conditions").or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    let stamp = now.to_rfc3339_seconds();
    let old = list.iter().find(|c| c["type"] == kind);
    let same = old.is_some_and(|c| c["status"] == status && c["reason"] == reason && c["message"] == message);
    if same {
        return;
    }
    let turned = old
        .filter(|c| c["status"] == status)
        .and_then(|c| c["lastTransitionTime"].as_str().map(str::to_owned));
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": stamp, "lastTransitionTime": turned.unwrap_or_else(|| stamp.clone()),
    });
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(slot) => *slot = condition,
        None => list.push(condition),
    }
}

fn object_at<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let slot = &mut value[field];
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

/// The first part of the cluster's addresses that no node has. Pure.
pub(crate) fn free_cidr<'a>(
    cluster: &str,
    prefix: u8,
    taken: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let (base, own) = cluster.split_once('/')?;
    let (base, own): (Ipv4Addr, u8) = (base.parse().ok()?, own.parse().ok()?);
    if own > prefix || prefix > 30 {
        return None;
    }
    let step = 1_u32 << (32 - prefix);
    let start = u32::from(base) & u32::MAX.checked_shl(32 - u32::from(own)).unwrap_or(0);
    // Parts given earlier may be of another size.
    let taken: std::collections::HashSet<u32> = taken
        .filter_map(|cidr| {
            let (ip, prefix) = cidr.split_once('/')?;
            let (ip, prefix): (Ipv4Addr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
            let first = u32::from(ip).checked_sub(start)?;
            let last = first.checked_add(u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0))?;
            Some(first / step..=last / step)
        })
        .flatten()
        .collect();
    let free = (0..1_u32 << (prefix - own)).find(|n| !taken.contains(n))?;
    Some(format!("{}/{prefix}", Ipv4Addr::from(start + free * step)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_wire::NodeFeatures;

    #[test]
    fn each_node_gets_the_first_free_part() {
        for (taken, want) in
            [(vec![], Some("10.244.0.0/24")), (vec!["10.244.0.0/24", "10.244.2.0/24"], Some("10.244.1.0/24"))]
        {
            assert_eq!(free_cidr("10.244.0.0/16", 24, taken.into_iter()).as_deref(), want);
        }
        assert_eq!(free_cidr("10.0.0.0/23", 24, ["10.0.0.0/24", "10.0.1.0/24"].into_iter()), None);
        let mixed = ["10.0.0.0/23", "10.0.2.128/25"];
        assert_eq!(free_cidr("10.0.0.0/16", 24, mixed.into_iter()).as_deref(), Some("10.0.3.0/24"));
        assert_eq!(free_cidr("10.0.0.0/16", 22, mixed.into_iter()).as_deref(), Some("10.0.4.0/22"));
        assert_eq!(free_cidr("10.0.0.0/16", 25, mixed.into_iter()).as_deref(), Some("10.0.2.0/25"));
        assert_eq!(free_cidr("nonsense", 24, [].into_iter()), None);
    }

    #[test]
    fn a_machine_cannot_vouch_for_itself() {
        let labels = ["zone", "node-restriction.kubernetes.io/trusted", "a.node-restriction.kubernetes.io/b"];
        let labels = labels.map(|l| (l.to_string(), "yes".to_string())).into();
        let report = NodeReport { labels, ..NodeReport::default() };
        let node = render("n1", &report, "10.244.0.0/24", Time::EPOCH);
        assert_eq!(node["metadata"]["labels"], json!({"zone": "yes"}));
    }

    #[test]
    fn a_node_says_what_its_kernel_has() {
        let features = NodeFeatures { recursive_read_only_mounts: true, user_namespaces: false };
        let report = NodeReport { features, ..NodeReport::default() };
        let node = render("n1", &report, "10.244.0.0/24", Time::EPOCH);
        let able = json!({"recursiveReadOnlyMounts": true, "userNamespaces": false});
        assert_eq!(node["status"]["runtimeHandlers"], json!([{"name": "", "features": able}]));
    }

    #[test]
    fn what_others_say_a_node_has_stays() {
        let of =
            |amounts: &[(&str, &str)]| amounts.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let own = of(&[("cpu", "2"), ("example.com/disk", "1")]);
        let report = NodeReport {
            capacity: of(&[("cpu", "4"), ("example.com/disk", "1")]),
            allocatable: own,
            ..NodeReport::default()
        };
        let mut node = render("n1", &report, "10.244.0.0/24", Time::EPOCH);
        assert!(!is_to_allow(&node));
        node["status"]["capacity"]["example.com/dongle"] = "4".into();
        // What the agent speaks for, and what is no extended resource, is not for others to say.
        node["status"]["capacity"]["example.com/disk"] = "9".into();
        node["status"]["capacity"]["made-up"] = "1".into();
        assert!(is_to_allow(&node));
        set_status(&mut node, &report, Time::EPOCH);
        let of_node =
            |node: &Value| (node["status"]["capacity"].clone(), node["status"]["allocatable"].clone());
        let want = |cpu: &str| json!({"cpu": cpu, "example.com/disk": "1", "example.com/dongle": "4"});
        assert_eq!(of_node(&node), (want("4"), want("2")));
        assert!(!is_to_allow(&node));
        object_at(&mut node["status"], "capacity").remove("example.com/dongle");
        assert!(is_to_allow(&node));
        set_status(&mut node, &report, Time::EPOCH);
        assert_eq!(of_node(&node), (json!(report.capacity), json!(report.allocatable)));
    }

    #[test]
    fn a_status_that_says_the_same_is_the_same() {
        let report =
            NodeReport { hostname: "h".into(), address: "192.0.2.1".into(), ..NodeReport::default() };
        let node = render("n1", &report, "10.244.0.0/24", Time::EPOCH);
        assert!(is_ready(&node));
        let mut again = node.clone();
        set_status(&mut again, &report, Time::EPOCH.plus(Duration::from_secs(60)));
        assert_eq!(again, node);
        // What is new stamps all conditions, and so does time.
        let at = |seconds| Time::EPOCH.plus(Duration::from_secs(seconds));
        let moved = NodeReport { address: "192.0.2.2".into(), ..report.clone() };
        let stamps = |n: &Value| {
            let ready = &n["status"]["conditions"][0];
            (ready["lastHeartbeatTime"].clone(), ready["lastTransitionTime"].clone())
        };
        for (report, seconds, want) in [
            (&moved, 60, "1970-01-01T00:01:00Z"),
            (&report, 299, "1970-01-01T00:00:00Z"),
            (&report, 600, "1970-01-01T00:10:00Z"),
        ] {
            let mut next = again.clone();
            set_status(&mut next, report, at(seconds));
            assert_eq!(stamps(&next), (json!(want), json!("1970-01-01T00:00:00Z")), "{seconds}");
        }
        set_unknown(&mut again, Time::EPOCH.plus(Duration::from_secs(90)));
        assert!(!is_ready(&again));
        let ready = &again["status"]["conditions"][0];
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("Unknown"), &json!("NodeStatusUnknown")));
        assert_eq!(ready["lastTransitionTime"], "1970-01-01T00:01:30Z");
    }
}
