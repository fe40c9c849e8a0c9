//! What a service means: EndpointSlices, the older Endpoints, and slices that mirror Endpoints which people write.
//!
//! A service with a selector gets both forms from its pods; one without gets slices from the Endpoints of its name, if
//! there are any. This file reads pods; the forms are in the files below.

mod legacy;
mod mirror;
mod pack;
mod slices;

pub(crate) use legacy::reconcile as reconcile_endpoints;
pub(crate) use mirror::reconcile as reconcile_mirror;
pub(crate) use slices::reconcile as reconcile_slices;

use crate::meta::service_selector;
use crate::{Pod, World};
use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::typed::{IntOrString, Service, ServicePort};

/// Tells consumers how old the news is.
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The pods whose addresses a service publishes. One that has ended, or has no address yet, has nothing to publish.
fn pods<'a>(world: &'a World, service: &Service) -> Vec<&'a Arc<Pod>> {
    let Some(selects) = service_selector(service) else { return Vec::new() };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let all = world.pods_matching(namespace, &selects);
    all.filter(|p| !p.is_ended() && !p.ips.is_empty()).collect()
}

/// Whether the service has no address of its own.
fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses).unwrap_or(false)
}

fn service_ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default()
}

/// The number that a service's port has in a pod; none where the pod has no port of that name.
fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.target_port.as_ref() {
        Some(IntOrString::Int(n)) if *n > 0 => u16::try_from(*n).ok(),
        Some(IntOrString::String(name)) => {
            let speaks = |p: &str| p == protocol || (p.is_empty() && protocol == "TCP");
            pod.ports.iter().find(|p| p.name == *name && speaks(&p.protocol)).map(|p| p.container_port)
        }
        _ => u16::try_from(port.port).ok(),
    }
}

/// A pod's ports as the service names them.
fn ports(service: &Service, pod: &Pod) -> Vec<Value> {
    let named = service_ports(service).iter().filter_map(|p| {
        let mut out = json!({"name": p.name.as_deref().unwrap_or_default(), "port": target_port(p, pod)?,
            "protocol": p.protocol.as_deref().unwrap_or("TCP")});
        if let Some(app) = &p.app_protocol {
            out["appProtocol"] = json!(app);
        }
        Some(out)
    });
    named.collect()
}

/// The name by which the pod is found below the service's.
fn hostname<'a>(service: &Service, pod: &'a Pod) -> Option<&'a str> {
    let (host, domain) = &pod.hostname;
    let here = service.metadata.name.as_deref() == Some(domain) && !host.is_empty();
    here.then_some(host.as_str())
}

fn target_ref(pod: &Pod) -> Value {
    json!({"kind": "Pod", "namespace": pod.id.namespace, "name": pod.id.name, "uid": pod.id.uid})
}

/// Where the address belongs to: `IPv4` or `IPv6`.
fn family(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests;
