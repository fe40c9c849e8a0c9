//! Endpoints, the older form: one object a service, its addresses grouped by the ports that they share.

use super::pack::difference;
use super::{
    HEADLESS, TRIGGERED, hostname, is_headless, pods, ports, publishes_unready, service_ports, target_ref,
};
use crate::meta::{created, id, labels, resource, service_selector, time};
use crate::{Action, Key, ObjectId, OnExists, Pod, Propagation, World};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use stoa_kube::typed::{Endpoints, Service};
use stoa_units::Time;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Addresses in one object; more are left out, and the object says so.
const ADDRESSES_LEN_MAX: usize = 1_000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// Looks at the service and the Endpoints of a name.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let there = world.endpoints.get(&key.namespace, &key.name);
    let Some(service) = world.services.get(&key.namespace, &key.name) else {
        // What people wrote without a service is theirs.
        let ours = there.filter(|e| labels(&e.metadata).get(MANAGED_BY).map(String::as_str) == Some(MANAGER));
        let delete = |e: &std::sync::Arc<Endpoints>| Action::Delete {
            id: endpoints_id(e),
            propagation: Propagation::Default,
            grace_seconds: None,
            announce: None,
        };
        return ours.map(delete).into_iter().collect();
    };
    if service.metadata.deletion_timestamp.is_some() || service_selector(service).is_none() {
        return Vec::new();
    }
    let content = content(world, service);
    let mut copied = labels(&service.metadata).clone();
    copied.insert(MANAGED_BY.to_string(), MANAGER.to_string());
    if is_headless(service) {
        copied.insert(HEADLESS.to_string(), String::new());
    } else {
        copied.remove(HEADLESS);
    }
    match there {
        None => vec![create(service, &content, &copied)],
        Some(there) => update(there, &content, &copied).into_iter().collect(),
    }
}

struct Content {
    subsets: Vec<Value>,
    truncated: bool,
    /// When each address became what it is.
    since: BTreeMap<String, (bool, Time)>,
}

type Address = (bool, String, String);

fn content(world: &World, service: &Service) -> Content {
    let unready = publishes_unready(service);
    let pods = pods(world, service);
    let mut pods: Vec<&Pod> = pods.into_iter().map(|p| &**p).filter(|p| !p.deleting || unready).collect();
    let is_ready = |p: &Pod| unready || p.is_ready();
    let truncated = pods.len() > ADDRESSES_LEN_MAX;
    if truncated {
        pods.sort_by_key(|p| !is_ready(p));
        pods.truncate(ADDRESSES_LEN_MAX);
    }
    let mut values: BTreeMap<Address, Value> = BTreeMap::new();
    // Of each port: where it is.
    let mut by_port: BTreeMap<String, (Value, BTreeSet<Address>)> = BTreeMap::new();
    let mut bare = BTreeSet::new();
    let mut since = BTreeMap::new();
    for pod in pods {
        let Some(ip) = address_of(service, pod) else { continue };
        let at: Address = (is_ready(pod), ip.to_string(), pod.id.uid.to_string());
        let mut address = json!({"ip": ip, "nodeName": pod.node, "targetRef": target_ref(pod)});
        if let Some(host) = hostname(service, pod) {
            address["hostname"] = json!(host);
        }
        if let Some(moment) = pod.condition("Ready").and_then(|c| c.last_transition_time) {
            since.insert(pod.id.uid.to_string(), (is_ready(pod), moment));
        }
        values.insert(at.clone(), address);
        for port in ports(service, pod) {
            let entry = by_port.entry(port.to_string()).or_insert_with(|| (to_legacy(port), BTreeSet::new()));
            entry.1.insert(at.clone());
        }
        if service_ports(service).is_empty() && is_headless(service) {
            bare.insert(at);
        }
    }
    // Ports that are at the same addresses share a subset.
    let mut groups: BTreeMap<BTreeSet<Address>, Vec<Value>> = BTreeMap::new();
    for (port, at) in by_port.into_values() {
        groups.entry(at).or_default().push(port);
    }
    if !bare.is_empty() {
        groups.entry(bare).or_default();
    }
    let subset = |(at, ports): (BTreeSet<Address>, Vec<Value>)| {
        let some = |ready: bool| -> Vec<&Value> {
            at.iter().filter(|a| a.0 == ready).filter_map(|a| values.get(a)).collect()
        };
        let mut out = json!({});
        for (field, list) in [("addresses", some(true)), ("notReadyAddresses", some(false))] {
            if !list.is_empty() {
                out[field] = json!(list);
            }
        }
        if !ports.is_empty() {
            out["ports"] = json!(ports);
        }
        out
    };
    Content { subsets: groups.into_iter().map(subset).collect(), truncated, since }
}

/// A pod's address of the service's first family.
fn address_of<'a>(service: &Service, pod: &'a Pod) -> Option<&'a str> {
    let families = service.spec.as_ref().and_then(|s| s.ip_families.as_ref());
    let wanted = families.and_then(|f| f.first()).map_or("IPv4", String::as_str);
    pod.ips.iter().map(String::as_str).find(|ip| super::family(ip) == wanted)
}

/// An unnamed port has no name here.
fn to_legacy(mut port: Value) -> Value {
    if port["name"] == ""
        && let Some(fields) = port.as_object_mut()
    {
        fields.remove("name");
    }
    port
}

fn endpoints_id(endpoints: &Endpoints) -> ObjectId {
    id(resource("", "endpoints"), &endpoints.metadata)
}

fn create(service: &Service, content: &Content, labels: &BTreeMap<String, String>) -> Action {
    let first = content.since.values().map(|(_, t)| *t).chain([created(&service.metadata)]).min();
    let mut notes = json!({TRIGGERED: first.map(time)});
    if content.truncated {
        notes[OVER_CAPACITY] = "truncated".into();
    }
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let mut object = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {
        "name": service.metadata.name, "namespace": namespace, "labels": labels, "annotations": notes}});
    if !content.subsets.is_empty() {
        object["subsets"] = json!(content.subsets);
    }
    Action::Create {
        resource: resource("", "endpoints"),
        namespace: namespace.into(),
        object,
        on_exists: OnExists::Fine,
        announce: None,
    }
}

fn update(there: &Endpoints, content: &Content, wanted: &BTreeMap<String, String>) -> Option<Action> {
    let now: Vec<Value> = there.subsets.iter().flatten().map(|s| json!(s)).collect();
    let labels = difference(labels(&there.metadata), wanted);
    let says = crate::meta::annotation(&there.metadata, OVER_CAPACITY).is_some();
    if now == content.subsets && labels.is_empty() && says == content.truncated {
        return None;
    }
    let known = uids(&now);
    let is_news = |uid: &String, ready: bool| known.get(uid) != Some(&ready);
    let fresh =
        content.since.iter().filter(|(uid, (ready, _))| is_news(uid, *ready)).map(|(_, (_, t))| *t).min();
    let notes = json!({TRIGGERED: fresh.map(time),
        OVER_CAPACITY: content.truncated.then_some("truncated")});
    let subsets = if content.subsets.is_empty() { Value::Null } else { json!(content.subsets) };
    let patch = json!({"metadata": {"labels": labels, "annotations": notes}, "subsets": subsets});
    Some(Action::Patch { id: endpoints_id(there), subresource: "", patch })
}

/// The pods that are published, and whether as ready.
fn uids(subsets: &[Value]) -> BTreeMap<String, bool> {
    let listed = |field: &'static str, ready: bool| {
        let all = subsets.iter().filter_map(move |s| s[field].as_array()).flatten();
        all.filter_map(move |a| Some((a["targetRef"]["uid"].as_str()?.to_string(), ready)))
    };
    listed("notReadyAddresses", false).chain(listed("addresses", true)).collect()
}
