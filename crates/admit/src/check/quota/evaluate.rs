//! What one object costs.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use stoa_units::Quantity;

use super::Amounts;
use crate::check::limits::amounts;
use crate::default::wants_node_ports;
use crate::value::{at, has, int, items, path, text};

/// Kinds that have a plain count of their own beside `count/<resource>`.
const COUNTED: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "pods",
];

/// The kinds that must be listed to know the usage of these resources: group and plural.
pub(super) fn counted_kinds<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<(String, String)> {
    let mut out = BTreeSet::new();
    for name in names {
        let (group, plural) = if let Some(counted) = name.strip_prefix("count/") {
            counted.split_once('.').map_or(("", counted), |(plural, group)| (group, plural))
        } else if COUNTED.contains(&name) {
            ("", name)
        } else if name.starts_with("services.") {
            ("", "services")
        } else if name == "requests.storage" || name.contains(".storageclass.storage.k8s.io/") {
            ("", "persistentvolumeclaims")
        } else {
            ("", "pods")
        };
        out.insert((group.to_owned(), plural.to_owned()));
    }
    out
}

/// What an object costs, in every currency a quota may count.
pub(super) fn cost(group: &str, plural: &str, object: &Value) -> Amounts {
    let mut out = BTreeMap::new();
    let one = Quantity::from_value(1);
    let dot = if group.is_empty() { "" } else { "." };
    out.insert(format!("count/{plural}{dot}{group}"), one);
    if !group.is_empty() {
        return out;
    }
    if COUNTED.contains(&plural) && plural != "pods" {
        out.insert(plural.to_owned(), one);
    }
    match plural {
        "pods" => pod(object, &mut out),
        "services" => service(object, &mut out),
        "persistentvolumeclaims" => claim(object, &mut out),
        _ => {}
    }
    out
}

/// A pod that has ended, or will never end properly, frees what it held.
fn is_over(pod: &Value) -> bool {
    matches!(text(at(pod, "status"), "phase"), "Succeeded" | "Failed")
}

fn pod(object: &Value, out: &mut Amounts) {
    if is_over(object) {
        return;
    }
    out.insert("pods".to_owned(), Quantity::from_value(1));
    let spec = at(object, "spec");
    for (name, amount) in pod_resources(spec, "requests") {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            out.insert(name.clone(), amount);
        }
        out.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_resources(spec, "limits") {
        out.insert(format!("limits.{name}"), amount);
    }
}

/// Requests or limits of a whole pod: its containers and sidecars together, or an init container where it needs more
/// beside the sidecars started before it; plus the overhead.
pub(in crate::check) fn pod_resources(spec: &Value, side: &str) -> Amounts {
    let own = |c: &Value| amounts(at(c, "resources"), side);
    let sum = |total: &mut Amounts, more: &Amounts| {
        for (name, amount) in more {
            let entry = total.entry(name.clone()).or_insert_with(|| Quantity::from_value(0));
            *entry = entry.plus(amount);
        }
    };
    let mut total = Amounts::new();
    items(spec, "containers").for_each(|c| sum(&mut total, &own(c)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for c in items(spec, "initContainers") {
        let mut needed = own(c);
        if text(c, "restartPolicy") == "Always" {
            sum(&mut total, &needed);
            sum(&mut sidecars, &needed);
        } else {
            // What it does not speak of is with the sidecars in the total.
            for (name, amount) in &mut needed {
                *amount = sidecars.get(name).map_or(*amount, |s| amount.plus(s));
            }
            largest(&mut peak, needed);
        }
    }
    largest(&mut total, peak);
    for (name, amount) in own(spec) {
        total.insert(name, amount);
    }
    let overhead = amounts(spec, "overhead");
    if side == "requests" {
        sum(&mut total, &overhead);
    } else {
        // An overhead limits nothing that is not limited already.
        for (name, amount) in overhead {
            if let Some(limit) = total.get_mut(&name) {
                *limit = limit.plus(&amount);
            }
        }
    }
    total
}

fn largest(total: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        let entry = total.entry(name).or_insert(amount);
        if amount.nano() > entry.nano() {
            *entry = amount;
        }
    }
}

fn service(object: &Value, out: &mut Amounts) {
    let spec = at(object, "spec");
    let ports = items(spec, "ports").count();
    let mut node_ports = if wants_node_ports(spec) { ports } else { 0 };
    if text(spec, "type") == "LoadBalancer" {
        out.insert("services.loadbalancers".to_owned(), Quantity::from_value(1));
        if node_ports == 0 {
            node_ports = items(spec, "ports").filter(|p| int(p, "nodePort").unwrap_or(0) != 0).count();
        }
    }
    if node_ports > 0 {
        let count = i64::try_from(node_ports).unwrap_or(i64::MAX);
        out.insert("services.nodeports".to_owned(), Quantity::from_value(count));
    }
}

fn claim(object: &Value, out: &mut Amounts) {
    let spec = at(object, "spec");
    let class = text(spec, "storageClassName");
    let storage = amounts(at(spec, "resources"), "requests").remove("storage");
    if let Some(amount) = storage {
        out.insert("requests.storage".to_owned(), amount);
    }
    if !class.is_empty() {
        let prefix = format!("{class}.storageclass.storage.k8s.io");
        out.insert(format!("{prefix}/persistentvolumeclaims"), Quantity::from_value(1));
        if let Some(amount) = storage {
            out.insert(format!("{prefix}/requests.storage"), amount);
        }
    }
}

/// Resources that, once limited, every container must speak of.
const EXPLICIT: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];

/// Which of the limited resources containers leave open: `cpu for: a,b; memory for: a`.
pub(super) fn missing_requests(pod: &Value, hard: &Amounts) -> Option<String> {
    let spec = at(pod, "spec");
    let mut parts = Vec::new();
    for resource in EXPLICIT.iter().filter(|r| hard.contains_key(**r)) {
        let (side, name) = match resource.split_once('.') {
            Some((side, name)) => (side, name),
            None => ("requests", *resource),
        };
        let given = |c: &Value| has(path(c, &["resources", side]), name);
        if given(spec) {
            continue;
        }
        let containers = items(spec, "containers").chain(items(spec, "initContainers"));
        let mut open: Vec<&str> = containers.filter(|c| !given(c)).map(|c| text(c, "name")).collect();
        open.sort_unstable();
        if !open.is_empty() {
            parts.push(format!("{resource} for: {}", open.join(",")));
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Whether a pod's affinity looks into other namespaces, which is dear for the scheduler.
pub(super) fn crosses_namespaces(spec: &Value) -> bool {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let crosses = |t: &Value| items(t, "namespaces").next().is_some() || has(t, "namespaceSelector");
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let v = path(spec, &["affinity", kind]);
        items(v, REQUIRED).any(crosses) || items(v, PREFERRED).any(|t| crosses(at(t, "podAffinityTerm")))
    })
}
