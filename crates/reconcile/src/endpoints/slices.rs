//! EndpointSlices of a service with a selector.

use super::pack::{Kept, Owner, Slices, Trigger, Wanted};
use super::{
    HEADLESS, TRIGGERED, family, hostname, is_headless, pods, ports, publishes_unready, service_ports,
    target_port, target_ref,
};
use crate::meta::{created, id, labels, resource, service_selector};
use crate::{Action, Key, Pod, World};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use serde_json::{Value, json};
use std::collections::HashMap;
use stoa_kube::typed::Service;
use stoa_units::Time;

/// Endpoints in a slice, as stock has it.
const ENDPOINTS_LEN_MAX: usize = 100;
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Looks at one service.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(service) = world.services.get(&key.namespace, &key.name) else { return Vec::new() };
    let deleting = service.metadata.deletion_timestamp.is_some();
    // Without a selector the slices are somebody else's; with the service go its slices.
    if deleting || service_selector(service).is_none() {
        return Vec::new();
    }
    let service_id = id(resource("", "services"), &service.metadata);
    let mut copied = labels(&service.metadata).clone();
    if is_headless(service) {
        copied.insert(HEADLESS.to_string(), String::new());
    } else {
        copied.remove(HEADLESS);
    }
    let owner = Owner {
        id: &service_id,
        manager: MANAGER,
        labels: copied,
        annotations: Vec::new(),
        len_max: ENDPOINTS_LEN_MAX,
        kept: Kept::OneEmpty,
    };
    let families = service.spec.as_ref().and_then(|s| s.ip_families.clone()).filter(|f| !f.is_empty());
    let families = families.unwrap_or_else(|| vec!["IPv4".to_string()]);
    let mut slices = Slices::of(world, &owner);
    let pods = pods(world, service);
    let look = Look { world, service, unready: publishes_unready(service) };
    for family in &families {
        // Most pods have the same numbers for the service's ports.
        let mut groups: HashMap<Vec<Option<u16>>, usize> = HashMap::new();
        for pod in &pods {
            let Some(wanted) = look.member(pod, family) else { continue };
            let numbers = service_ports(service).iter().map(|p| target_port(p, pod)).collect();
            let group = groups.entry(numbers).or_insert_with(|| slices.group(family, ports(service, pod)));
            slices.want(*group, wanted);
        }
    }
    let first = Trigger { annotation: TRIGGERED, first: Some(created(&service.metadata)) };
    slices.plan(&families, &first)
}

struct Look<'a> {
    world: &'a World,
    service: &'a Service,
    unready: bool,
}

/// A pod as an endpoint of one family of addresses.
struct Member<'a> {
    pod: &'a Pod,
    addresses: Vec<&'a str>,
    ready: bool,
    serving: bool,
    zone: Option<&'a str>,
    hostname: Option<&'a str>,
    spread: Option<&'a str>,
}

impl<'a> Look<'a> {
    fn member(&self, pod: &'a Pod, wanted: &str) -> Option<Member<'a>> {
        let node = self.world.nodes.get("", &pod.node);
        // The collector of pods is about to remove it; nothing answers there.
        if node.is_none() && !self.unready {
            return None;
        }
        let addresses: Vec<&str> =
            pod.ips.iter().map(String::as_str).filter(|ip| family(ip) == wanted).collect();
        if addresses.is_empty() {
            return None;
        }
        let serving = pod.is_ready();
        Some(Member {
            pod,
            addresses,
            ready: self.unready || (serving && !pod.deleting),
            serving,
            zone: node.and_then(|n| labels(&n.metadata).get(ZONE)).map(String::as_str),
            hostname: hostname(self.service, pod),
            spread: self.service.spec.as_ref().and_then(|s| s.traffic_distribution.as_deref()),
        })
    }
}

impl Member<'_> {
    /// Where its traffic should come from: zones and nodes.
    fn hints(&self) -> (Option<&str>, Option<&str>) {
        match (self.ready, self.spread, self.zone) {
            (true, Some("PreferClose" | "PreferSameZone"), Some(zone)) => (Some(zone), None),
            (true, Some("PreferSameNode"), Some(zone)) => (Some(zone), Some(&self.pod.node)),
            _ => (None, None),
        }
    }
}

impl Wanted for Member<'_> {
    fn identity(&self) -> &str {
        &self.pod.id.uid
    }

    fn published_identity(published: &Endpoint) -> &str {
        published.target_ref.as_ref().and_then(|r| r.uid.as_deref()).unwrap_or_default()
    }

    fn is(&self, there: &Endpoint) -> bool {
        let conditions = there.conditions.as_ref();
        let is =
            |of: fn(&EndpointConditions) -> Option<bool>, wanted| conditions.and_then(of) == Some(wanted);
        let hints = there.hints.as_ref();
        let zone = hints.and_then(|h| h.for_zones.as_ref()?.first()).map(|z| z.name.as_str());
        let node = hints.and_then(|h| h.for_nodes.as_ref()?.first()).map(|n| n.name.as_str());
        there.addresses == self.addresses
            && is(|c| c.ready, self.ready)
            && is(|c| c.serving, self.serving)
            && is(|c| c.terminating, self.pod.deleting)
            && there.node_name.as_deref().unwrap_or_default() == self.pod.node
            && there.zone.as_deref() == self.zone
            && there.hostname.as_deref() == self.hostname
            && (zone, node) == self.hints()
    }

    fn to_value(&self) -> Value {
        let pod = self.pod;
        let mut out = json!({"addresses": self.addresses, "targetRef": target_ref(pod),
            "conditions": {"ready": self.ready, "serving": self.serving, "terminating": pod.deleting}});
        if !pod.node.is_empty() {
            out["nodeName"] = json!(pod.node);
        }
        for (field, text) in [("zone", self.zone), ("hostname", self.hostname)] {
            if let Some(text) = text {
                out[field] = json!(text);
            }
        }
        let (zone, node) = self.hints();
        for (field, name) in [("forZones", zone), ("forNodes", node)] {
            if let Some(name) = name {
                out["hints"][field] = json!([{"name": name}]);
            }
        }
        out
    }

    fn since(&self) -> Option<Time> {
        self.pod.condition("Ready").and_then(|c| c.last_transition_time)
    }

    fn is_news(&self, there: &Endpoint) -> bool {
        // That it ends, or where it is, did not come with its readiness.
        there.conditions.as_ref().and_then(|c| c.serving) != Some(self.serving)
    }
}
