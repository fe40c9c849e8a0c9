//! Ranges of services' addresses, and the addresses as objects. A range is ready as soon as it is there, and stays while services
//! have addresses that lie in no other. Which address a service gets is decided by the transaction that writes it; the object
//! that shows it to clients follows here.

use crate::collector::drop_finalizer;
use crate::meta::{id, is_deleting, labels, resource, time};
use crate::{Action, Key, OnExists, Propagation, World};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::IpAddr;
use stoa_kube::typed::{IPAddress, Service, ServiceCIDR};
use stoa_units::Time;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";
const IS_READY: &str = "Kubernetes Service CIDR is ready";
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// A service's address; empty if it has none.
pub(crate) fn address_of(service: &Service) -> &str {
    let address = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    address.filter(|a| *a != "None").unwrap_or_default()
}

/// Looks at one address.
pub(crate) fn reconcile_address(world: &World, key: &Key) -> Vec<Action> {
    let addresses = resource("networking.k8s.io", "ipaddresses");
    let service = world.services.owned_by(&key.name).next();
    match (world.addresses.get("", &key.name), service) {
        (None, Some(service)) => {
            key.name.parse().map_or_else(|_| Vec::new(), |ip| vec![shown(key, ip, service)])
        }
        // What a client made is the client's; what is shown of a service that is gone, or of another one, is not true any more.
        (Some(address), service)
            if is_managed(address)
                && !is_deleting(&address.metadata)
                && service.is_none_or(|s| !is_of(address, s)) =>
        {
            vec![Action::Delete {
                id: id(addresses, &address.metadata),
                propagation: Propagation::Background,
                grace_seconds: None,
                announce: None,
            }]
        }
        _ => Vec::new(),
    }
}

fn shown(key: &Key, ip: IpAddr, service: &Service) -> Action {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let meta = &service.metadata;
    Action::Create {
        resource: resource("networking.k8s.io", "ipaddresses"),
        namespace: "".into(),
        object: json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {"name": &*key.name, "labels": {FAMILY: family, MANAGED_BY: MANAGER}},
            "spec": {"parentRef": {"resource": "services", "namespace": meta.namespace, "name": meta.name}}}),
        on_exists: OnExists::Fine,
        announce: None,
    }
}

fn is_managed(address: &IPAddress) -> bool {
    labels(&address.metadata).get(MANAGED_BY).is_some_and(|m| m == MANAGER)
}

fn is_of(address: &IPAddress, service: &Service) -> bool {
    let parent = &address.spec.parent_ref;
    parent.namespace == service.metadata.namespace && Some(&parent.name) == service.metadata.name.as_ref()
}

/// Looks at one range.
pub(crate) fn reconcile_range(world: &World, key: &Key) -> Vec<Action> {
    let cidrs = resource("networking.k8s.io", "servicecidrs");
    let (Some(cidr), Some(member)) =
        (world.service_cidrs.get("", &key.name), world.graph.at(cidrs, "", &key.name))
    else {
        return Vec::new();
    };
    let verdict = if !member.deleting {
        if !member.has_finalizer(FINALIZER) {
            let finalizers: Vec<&str> =
                member.finalizers.iter().map(String::as_str).chain([FINALIZER]).collect();
            let patch = json!({"metadata": {"finalizers": finalizers}});
            return vec![Action::Patch { id: member.id.clone(), subresource: "", patch }];
        }
        ("True", "", IS_READY)
    } else if !member.has_finalizer(FINALIZER) {
        return Vec::new();
    } else if is_in_use(world, key, cidr) {
        ("False", "Terminating", IN_USE)
    } else {
        return vec![drop_finalizer(member, FINALIZER)];
    };
    let Some(conditions) = conditions(world.now, cidr, verdict) else { return Vec::new() };
    let patch = json!({"status": {"conditions": conditions}});
    vec![Action::Patch { id: member.id.clone(), subresource: "status", patch }]
}

/// The ranges that an object holds.
pub(crate) fn ranges(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = cidr.spec.as_ref().and_then(|s| s.cidrs.as_ref()).into_iter().flatten();
    cidrs.filter_map(|c| c.parse().ok()).collect()
}

/// Whether a service has an address of the range that lies in no range that stays.
fn is_in_use(world: &World, key: &Key, cidr: &ServiceCIDR) -> bool {
    let own = ranges(cidr);
    let others = world.service_cidrs.iter().filter(|c| c.metadata.name.as_deref() != Some(&key.name));
    let staying: Vec<IpNet> = others.filter(|c| !is_deleting(&c.metadata)).flat_map(|c| ranges(c)).collect();
    let within = |ranges: &[IpNet], ip: &IpAddr| ranges.iter().any(|r| r.contains(ip));
    let mut taken = world.services.iter().filter_map(|s| address_of(s).parse().ok());
    taken.any(|ip| within(&own, &ip) && !within(&staying, &ip))
}

/// The conditions with what is to be said, unless they say it.
fn conditions(now: Time, cidr: &ServiceCIDR, (status, reason, message): (&str, &str, &str)) -> Option<Value> {
    let old = cidr.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let (ready, others): (Vec<_>, Vec<_>) = old.partition(|c| c.type_ == READY);
    if ready.iter().any(|c| c.status == status && c.reason == reason) {
        return None;
    }
    let mut all: Vec<Value> = others.into_iter().map(|c| json!(c)).collect();
    all.push(json!({"type": READY, "status": status, "reason": reason, "message": message, "lastTransitionTime": time(now)}));
    Some(all.into())
}

#[cfg(test)]
mod tests;
