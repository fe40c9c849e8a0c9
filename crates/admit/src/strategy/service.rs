//! A service's addresses and ports: fields that its type does not have are dropped, and what was allocated before is
//! kept when the writer leaves it out.

use serde_json::{Value, json};

use crate::default::{is_externally_reachable, is_headless, wants_node_ports};
use crate::value::{at, int, is_empty, items, items_mut, remove, set, text};

pub(super) fn created(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) {
        families(spec);
    }
}

pub(super) fn updated(old: &Value, object: &mut Value) {
    let stored = at(old, "spec");
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    let has_address = |s: &Value| text(s, "type") != "ExternalName";
    if has_address(spec) && has_address(stored) {
        // Only one of the two forms may be left out, and then it follows the other.
        for key in ["clusterIP", "clusterIPs"] {
            if is_empty(spec, key) && is_empty(spec, "clusterIP") {
                super::set_or_remove(spec, key, at(stored, key).clone());
            }
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if is_empty(spec, key) {
                super::set_or_remove(spec, key, at(stored, key).clone());
            }
        }
    }
    if !has_address(spec) && has_address(stored) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if at(spec, key) == at(stored, key) {
                remove(spec, key);
            }
        }
    }
    if wants_node_ports(spec) && wants_node_ports(stored) {
        for port in items_mut(spec, "ports") {
            let same = |p: &&Value| {
                at(p, "port") == at(port, "port") && text(p, "protocol") == text(port, "protocol")
            };
            if int(port, "nodePort").unwrap_or(0) == 0
                && let Some(number) = items(stored, "ports").find(same).and_then(|p| int(p, "nodePort"))
            {
                set(port, "nodePort", number);
            }
        }
    } else if !wants_node_ports(spec) {
        // A writer that sends back what it read must not be told that the old type's ports are wrong.
        let numbers: Vec<Option<i64>> = items(stored, "ports").map(|p| int(p, "nodePort")).collect();
        for port in items_mut(spec, "ports") {
            if numbers.contains(&int(port, "nodePort")) {
                remove(port, "nodePort");
            }
        }
    }
    drop_fields_of_other_types(stored, spec);
    families(spec);
}

/// What belonged to the old type goes when the writer sends it back unchanged; what he sets himself is told to be wrong.
fn drop_fields_of_other_types(stored: &Value, spec: &mut Value) {
    let balancer = |s: &Value| text(s, "type") == "LoadBalancer";
    let health = |s: &Value| balancer(s) && text(s, "externalTrafficPolicy") == "Local";
    let health_ended = health(stored) && !health(spec);
    if health_ended && at(spec, "healthCheckNodePort") == at(stored, "healthCheckNodePort") {
        remove(spec, "healthCheckNodePort");
    }
    let reach_ended = is_externally_reachable(stored) && !is_externally_reachable(spec);
    let balancer_ended = balancer(stored) && !balancer(spec);
    for (key, has_ended) in [
        ("externalTrafficPolicy", reach_ended),
        ("allocateLoadBalancerNodePorts", balancer_ended),
        ("loadBalancerClass", balancer_ended),
    ] {
        if has_ended && at(spec, key) == at(stored, key) {
            remove(spec, key);
        }
    }
}

/// One family, IPv4; a headless service without a selector stands for both, as on the stock server.
fn families(spec: &mut Value) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let first = items(spec, "clusterIPs").next().cloned();
    match (is_empty(spec, "clusterIP"), first) {
        (true, Some(first)) => set(spec, "clusterIP", first),
        (false, None) => {
            let one = at(spec, "clusterIP").clone();
            set(spec, "clusterIPs", vec![one]);
        }
        _ => {}
    }
    let both = is_headless(spec) && is_empty(spec, "selector");
    if is_empty(spec, "ipFamilyPolicy") {
        set(spec, "ipFamilyPolicy", if both { "RequireDualStack" } else { "SingleStack" });
    }
    if is_empty(spec, "ipFamilies") {
        let v6 = text(spec, "clusterIP").contains(':');
        let families = match (both, v6) {
            (true, _) => json!(["IPv4", "IPv6"]),
            (false, false) => json!(["IPv4"]),
            (false, true) => json!(["IPv6"]),
        };
        set(spec, "ipFamilies", families);
    }
}
