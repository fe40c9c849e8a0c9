//! A service's addresses and ports: fields that its type does not have are dropped, and what was allocated before is
//! kept when the writer leaves it out.

use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

use crate::default::{is_externally_reachable, is_headless};
use crate::value::{at, int, is_empty, items, items_mut, remove, set, text};

pub(super) fn created(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) {
        // Whoever knows only the older field means both.
        if !is_empty(spec, "clusterIP") && is_empty(spec, "clusterIPs") {
            follow_older_field(spec);
        }
        families(spec);
        no_inner_policy(spec);
    }
}

/// A mere name has no traffic of its own. What is no policy at all is told to be none.
fn no_inner_policy(spec: &mut Value) {
    let key = "internalTrafficPolicy";
    if text(spec, "type") == "ExternalName" && matches!(text(spec, key), "Cluster" | "Local") {
        remove(spec, key);
    }
}

pub(super) fn updated(old: &Value, object: &mut Value) {
    let stored = at(old, "spec");
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    let has_address = |s: &Value| text(s, "type") != "ExternalName";
    if has_address(spec) && has_address(stored) {
        keep_address(stored, spec);
    } else if !is_empty(spec, "clusterIP")
        && at(spec, "clusterIP") != at(stored, "clusterIP")
        && at(spec, "clusterIPs") == at(stored, "clusterIPs")
    {
        follow_older_field(spec);
    }
    if has_address(stored) && !has_address(spec) {
        let same = at(spec, "clusterIPs") == at(stored, "clusterIPs");
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let is_address = key.starts_with("clusterIP");
            if if is_address { same } else { at(spec, key) == at(stored, key) } {
                remove(spec, key);
            }
        }
    }
    if has_node_ports(spec) && has_node_ports(stored) {
        keep_node_ports(stored, spec);
    } else if has_node_ports(stored) {
        // A writer that sends back what it read must not be told that the old type's ports are wrong.
        let known: HashSet<i64> = items(stored, "ports").map(node_port).chain([0]).collect();
        if items(spec, "ports").all(|p| known.contains(&node_port(p))) {
            for port in items_mut(spec, "ports") {
                remove(port, "nodePort");
            }
        }
    }
    drop_fields_of_other_types(stored, spec);
    families(spec);
    no_inner_policy(spec);
    // What a balancer said is of no use to another type.
    if text(spec, "type") != "LoadBalancer"
        && let Some(status) = super::ensure(object, "status")
    {
        set(status, "loadBalancer", json!({}));
    }
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

/// Who knows only the field with one address means the list too.
fn follow_older_field(spec: &mut Value) {
    let one = at(spec, "clusterIP").clone();
    set(spec, "clusterIPs", vec![one]);
}

/// An address that is left out stays; of the two forms in which it is written, the one that changed wins.
fn keep_address(stored: &Value, spec: &mut Value) {
    let changed = |spec: &Value, key: &str| at(spec, key) != at(stored, key);
    if is_empty(spec, "clusterIP") {
        super::set_or_remove(spec, "clusterIP", at(stored, "clusterIP").clone());
    }
    if is_empty(spec, "clusterIPs") && !changed(spec, "clusterIP") {
        super::set_or_remove(spec, "clusterIPs", at(stored, "clusterIPs").clone());
    }
    if changed(spec, "clusterIP") && !changed(spec, "clusterIPs") {
        follow_older_field(spec);
    }
    for key in ["ipFamilies", "ipFamilyPolicy"] {
        if is_empty(spec, key) && at(spec, key) != "" {
            super::set_or_remove(spec, key, at(stored, key).clone());
        }
    }
}

fn node_port(port: &Value) -> i64 {
    int(port, "nodePort").unwrap_or(0)
}

/// A port's node port that is left out stays with the port's name, unless another port has taken it.
fn keep_node_ports(stored: &Value, spec: &mut Value) {
    let taken: HashSet<i64> = items(spec, "ports").map(node_port).collect();
    // Of several with one name the last counts.
    let had: HashMap<&str, i64> = items(stored, "ports").map(|p| (text(p, "name"), node_port(p))).collect();
    for port in items_mut(spec, "ports").filter(|p| node_port(p) == 0) {
        let number = had.get(text(port, "name")).copied();
        if let Some(number) = number.filter(|n| !taken.contains(n)) {
            set(port, "nodePort", number);
        }
    }
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
    let both = is_headless(spec) && is_empty(spec, "selector");
    if at(spec, "ipFamilyPolicy").is_null() {
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
