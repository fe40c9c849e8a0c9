//! Defaults of services, endpoints and network policies.

use serde_json::{Value, json};

use crate::value::{at, ensure, is_empty, items_mut, path_mut, set, set_default, set_default_zero, text};

/// How long a client sticks to an endpoint: three hours.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn service(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    if text(spec, "sessionAffinity") == "ClientIP" {
        let client = ensure(spec, "sessionAffinityConfig").and_then(|c| ensure(c, "clientIP"));
        if let Some(client) = client {
            set_default(client, "timeoutSeconds", AFFINITY_SECONDS);
        }
    } else if text(spec, "sessionAffinity") == "None" {
        crate::value::remove(spec, "sessionAffinityConfig");
    }
    let external = text(spec, "type") == "ExternalName";
    for port in items_mut(spec, "ports") {
        let number = at(port, "port").clone();
        let unset = match at(port, "targetPort") {
            Value::Null => true,
            Value::Number(n) => n.as_i64() == Some(0),
            Value::String(s) => s.is_empty(),
            _ => false,
        };
        if unset && !number.is_null() {
            set(port, "targetPort", number);
        }
    }
    let kind = text(spec, "type").to_owned();
    if is_externally_reachable(spec) {
        set_default_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    if !external {
        set_default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
        if let Some(balancer) = path_mut(object, &["status", "loadBalancer"]) {
            for point in items_mut(balancer, "ingress").filter(|p| !is_empty(p, "ip")) {
                set_default(point, "ipMode", "VIP");
            }
        }
    }
}

pub(super) fn endpoints(object: &mut Value) {
    for subset in items_mut(object, "subsets") {
        items_mut(subset, "ports").for_each(|p| set_default_zero(p, "protocol", "TCP"));
    }
}

pub(super) fn network_policy(object: &mut Value) {
    let Some(spec) = path_mut(object, &["spec"]).filter(|s| s.is_object()) else { return };
    if is_empty(spec, "policyTypes") {
        // Rules for leaving traffic mean that it is restricted.
        let types = match !is_empty(spec, "egress") {
            true => json!(["Ingress", "Egress"]),
            false => json!(["Ingress"]),
        };
        set(spec, "policyTypes", types);
    }
}

/// Whether traffic from outside may come to a service, for which there is a policy then.
pub(crate) fn is_externally_reachable(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !is_empty(spec, "externalIPs"),
        _ => false,
    }
}

/// Whether a service has no virtual address of its own.
pub(crate) fn is_headless(spec: &Value) -> bool {
    text(spec, "clusterIP") == "None"
}

/// Whether node ports are wanted.
pub(crate) fn wants_node_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => {
            !spec.get("allocateLoadBalancerNodePorts").is_some_and(|v| v == &Value::Bool(false))
        }
        _ => false,
    }
}
