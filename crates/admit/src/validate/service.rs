//! Services. Whether an address or a port is free is for the allocator to say ([`crate::service`]).

use serde_json::Value;
use std::collections::HashSet;
use std::net::IpAddr;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::address::{endpoint_ip, ip, range, sloppy};
use super::field::{
    Errors, Path, dns_label, dns_subdomain, indexed, name_error, one_of, port_number, port_number_or_name,
};
use super::{meta, shown};
use crate::default::is_externally_reachable;
use crate::value::{NULL, at, has, int, is_empty, path, text, texts};

const META: Path<'static> = Path::root("metadata");
const SPEC: Path<'static> = Path::root("spec");
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// Whether a service has no address of its own: the list of them says so, and nothing else.
fn is_headless(spec: &Value) -> bool {
    let mut addresses = texts(spec, "clusterIPs");
    addresses.next() == Some("None") && addresses.next().is_none()
}

fn is_name(spec: &Value) -> bool {
    text(spec, "type") == "ExternalName"
}

fn is_balancer(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer"
}

/// A new service.
pub(super) fn service(object: &Value, errors: &mut Errors) {
    check(object, &NULL, errors);
}

/// A service; what `old` had already may go on by the rules of its time.
fn check(object: &Value, old: &Value, errors: &mut Errors) {
    let (spec, stored) = (at(object, "spec"), at(old, "spec"));
    topology(object, errors);
    if is_empty(spec, "ports") && !is_headless(spec) && !is_name(spec) {
        errors.push(Cause::required(SPEC.child("ports"), ""));
    }
    match text(spec, "type") {
        kind @ ("LoadBalancer" | "NodePort") if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            let list = SPEC.child("clusterIPs");
            errors.push(Cause::invalid(list.index(0), "None", &why));
        }
        "ExternalName" => external_name(spec, errors),
        _ => {}
    }
    ports(spec, errors);
    meta::labels(at(spec, "selector"), SPEC.child("selector"), errors);
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], SPEC, errors);
    affinity(spec, errors);
    own_addresses(spec, stored, errors);
    let list = SPEC.child("externalIPs");
    let before: HashSet<&str> = texts(stored, "externalIPs").collect();
    for (i, address) in texts(spec, "externalIPs").enumerate() {
        let found = errors.len();
        if !before.contains(address) {
            ip(address, list.index(i), errors);
        }
        if errors.len() == found {
            endpoint_ip(address, list.index(i), errors);
        }
    }
    one_of(spec, "type", &TYPES, SPEC, errors);
    port_uniqueness(spec, errors);
    ranges(object, old, errors);
    if has(spec, "allocateLoadBalancerNodePorts") && !is_balancer(spec) {
        errors.push(Cause::forbidden(SPEC.child("allocateLoadBalancerNodePorts"), BALANCER_ONLY));
    }
    class(spec, errors);
    external_traffic(spec, errors);
    internal_traffic(spec, errors);
    let near = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if has(spec, "trafficDistribution") && !near.contains(&text(spec, "trafficDistribution")) {
        let path = SPEC.child("trafficDistribution");
        errors.push(Cause::not_supported(path, text(spec, "trafficDistribution"), &near));
    }
}

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

/// The two names of one annotation must say the same.
fn topology(object: &Value, errors: &mut Errors) {
    let annotations = at(at(object, "metadata"), "annotations");
    let (hints, mode) = (at(annotations, HINTS), at(annotations, MODE));
    if !hints.is_null() && !mode.is_null() && hints != mode {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(Cause::invalid(META.child("annotations").key(MODE), mode.clone(), &why));
    }
}

fn external_name(spec: &Value, errors: &mut Errors) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !is_empty(spec, key) {
            errors.push(Cause::forbidden(SPEC.child(key), "may not be set for ExternalName services"));
        }
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.push(Cause::required(SPEC.child("externalName"), "")),
        name => dns_subdomain(name, SPEC.child("externalName"), errors),
    }
}

/// Where traffic from outside goes, and the port on which a balancer asks for it.
fn external_traffic(spec: &Value, errors: &mut Errors) {
    let key = "externalTrafficPolicy";
    if is_externally_reachable(spec) {
        one_of(spec, key, &["Cluster", "Local"], SPEC, errors);
    } else if !is_empty(spec, key) {
        let why = "may only be set for externally-accessible services";
        errors.push(Cause::invalid(SPEC.child(key), text(spec, key), why));
    }
    let (health, port) = (SPEC.child("healthCheckNodePort"), int(spec, "healthCheckNodePort").unwrap_or(0));
    if port == 0 {
        // One is given out where it is needed.
    } else if needs_health_port(spec) {
        port_number(port, health, errors);
    } else {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(Cause::invalid(health, port, why));
    }
}

fn needs_health_port(spec: &Value) -> bool {
    is_balancer(spec) && text(spec, "externalTrafficPolicy") == "Local"
}

fn internal_traffic(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("internalTrafficPolicy");
    if !has(spec, "internalTrafficPolicy") {
        if ["ClusterIP", "LoadBalancer", "NodePort"].contains(&text(spec, "type")) {
            errors.push(Cause::required(path, ""));
        }
    } else if !["Cluster", "Local"].contains(&text(spec, "internalTrafficPolicy")) {
        let policy = text(spec, "internalTrafficPolicy");
        errors.push(Cause::not_supported(path, policy, &["Cluster", "Local"]));
    }
}

fn ports(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("ports");
    let several = indexed(spec, "ports").count() > 1;
    let mut names = HashSet::new();
    for (i, port) in indexed(spec, "ports") {
        let path = list.index(i);
        match text(port, "name") {
            "" if several => errors.push(Cause::required(path.child("name"), "")),
            "" => {}
            name => {
                dns_label(name, path.child("name"), errors);
                if !names.insert(name) {
                    errors.push(Cause::duplicate(path.child("name"), name));
                }
            }
        }
        port_number(int(port, "port").unwrap_or(0), path.child("port"), errors);
        one_of(port, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
        port_number_or_name(at(port, "targetPort"), path.child("targetPort"), errors);
        if has(port, "appProtocol") {
            let protocol = text(port, "appProtocol");
            name_error(check_label_key(protocol), protocol, path.child("appProtocol"), errors);
        }
    }
}

/// A day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;

fn affinity(spec: &Value, errors: &mut Errors) {
    let (config, root) = (at(spec, "sessionAffinityConfig"), SPEC.child("sessionAffinityConfig"));
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let seconds = path(config, &["clientIP", "timeoutSeconds"]).as_i64().unwrap_or(0);
            if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) {
                let client = root.child("clientIP");
                let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                errors.push(Cause::invalid(client.child("timeoutSeconds"), seconds, &why));
            }
        }
        "None" if config.is_object() => {
            errors.push(Cause::forbidden(root, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn port_uniqueness(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("ports");
    if text(spec, "type") == "ClusterIP" {
        for (i, _) in indexed(spec, "ports").filter(|(_, p)| node_port(p) != 0) {
            let path = list.index(i);
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(Cause::forbidden(path.child("nodePort"), why));
        }
    }
    let (mut pairs, mut node_ports) = (HashSet::new(), HashSet::new());
    for (i, port) in indexed(spec, "ports").filter(|(_, p)| node_port(p) != 0) {
        if !node_ports.insert((text(port, "protocol"), node_port(port))) {
            let path = list.index(i);
            errors.push(Cause::duplicate(path.child("nodePort"), node_port(port)));
        }
    }
    for (i, port) in indexed(spec, "ports") {
        if !pairs.insert((text(port, "protocol"), int(port, "port").unwrap_or(0))) {
            errors.push(shown::duplicate(list.index(i), port, shown::PORT));
        }
    }
}

fn node_port(port: &Value) -> i64 {
    int(port, "nodePort").unwrap_or(0)
}

const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// From where a balancer takes traffic. What was there before need not be mended.
fn ranges(object: &Value, old: &Value, errors: &mut Errors) {
    let (spec, key) = (at(object, "spec"), "loadBalancerSourceRanges");
    if !is_empty(spec, key) {
        // So the stock server spells it here.
        let list = SPEC.child("LoadBalancerSourceRanges");
        if !is_balancer(spec) {
            errors.push(Cause::forbidden(list, BALANCER_ONLY));
        }
        let before: HashSet<&str> = texts(at(old, "spec"), key).map(str::trim).collect();
        for (i, cidr) in texts(spec, key).map(str::trim).enumerate() {
            if !before.contains(cidr) {
                range(cidr, list.index(i), errors);
            }
        }
        return;
    }
    let annotation = |o| path(o, &["metadata", "annotations", RANGES]).as_str();
    let Some(listed) = annotation(object) else { return };
    let annotations = META.child("annotations");
    let path = annotations.key(RANGES);
    if !is_balancer(spec) {
        errors.push(Cause::forbidden(path, BALANCER_ONLY));
    }
    if annotation(old) != Some(listed) && !listed.trim().is_empty() {
        for cidr in listed.trim().split(',') {
            range(cidr.trim(), path, errors);
        }
    }
}

fn class(spec: &Value, errors: &mut Errors) {
    let (class, path) = (text(spec, "loadBalancerClass"), SPEC.child("loadBalancerClass"));
    if !has(spec, "loadBalancerClass") {
        return;
    }
    if is_balancer(spec) {
        name_error(check_label_key(class), class, path, errors);
    } else {
        errors.push(Cause::forbidden(path, BALANCER_ONLY));
    }
}

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

fn is_v6(address: &str) -> bool {
    matches!(sloppy(address), Some(IpAddr::V6(_)))
}

/// The addresses, their families and how many of them there are to be.
fn own_addresses(spec: &Value, stored: &Value, errors: &mut Errors) {
    if is_name(spec) {
        return;
    }
    let (list, families) = (SPEC.child("clusterIPs"), SPEC.child("ipFamilies"));
    let all = || at(spec, "clusterIPs").clone();
    let count = texts(spec, "clusterIPs").count();
    let first = texts(spec, "clusterIPs").next();
    match (text(spec, "clusterIP"), first) {
        ("", Some(_)) => {
            errors.push(Cause::invalid(list, all(), "must be empty when `clusterIP` is not specified"));
        }
        ("", None) => {}
        (_, None) => errors.push(Cause::required(list, "")),
        (one, Some(first)) if one != first => {
            errors.push(Cause::invalid(list, all(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    let mut seen = HashSet::new();
    for (i, family) in texts(spec, "ipFamilies").enumerate() {
        if !FAMILIES.contains(&family) {
            errors.push(Cause::not_supported(families.index(i), family, &FAMILIES));
        }
        if !seen.insert(family) {
            errors.push(Cause::duplicate(families.index(i), family));
        }
    }
    let policy = text(spec, "ipFamilyPolicy");
    if has(spec, "ipFamilyPolicy") && !POLICIES.contains(&policy) {
        errors.push(Cause::not_supported(SPEC.child("ipFamilyPolicy"), policy, &POLICIES));
    }
    let mut bad = false;
    let before: HashSet<&str> = texts(stored, "clusterIPs").collect();
    for (i, address) in texts(spec, "clusterIPs").enumerate() {
        if i == 0 && address == "None" {
            if count > 1 {
                bad = true;
                errors.push(Cause::invalid(list, all(), "'None' must be the first and only value"));
            }
        } else if !before.contains(address) {
            let found = errors.len();
            ip(address, list.index(i), errors);
            bad |= errors.len() > found;
        }
    }
    if count > 2 {
        errors.push(Cause::invalid(list, all(), "may only hold up to 2 values"));
    }
    if bad {
        return;
    }
    let sixes = texts(spec, "clusterIPs").filter(|a| is_v6(a)).count();
    if count > 1 && (sixes == 0 || sixes == count) {
        let why = "may specify no more than one IP for each IP family";
        errors.push(Cause::invalid(list, all(), why));
    }
    // What is nobody's wish has no family either.
    if is_headless(spec) || is_empty(spec, "clusterIP") {
        return;
    }
    for (i, (address, family)) in texts(spec, "clusterIPs").zip(texts(spec, "ipFamilies")).enumerate() {
        if (family == "IPv4" && is_v6(address)) || (family == "IPv6" && !is_v6(address)) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.push(Cause::invalid(list.index(i), address, &why));
        }
    }
}

/// What keeps addresses from being given out, which the cluster does before it looks at the rest. It has IPv4 addresses only.
pub(super) fn addresses(old: Option<&Value>, object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let stored = old.map_or(&NULL, |o| at(o, "spec"));
    if is_name(spec) {
        return;
    }
    own_addresses(spec, stored, errors);
    if !errors.is_empty() {
        return;
    }
    let (path, policy) = (SPEC.child("ipFamilyPolicy"), text(spec, "ipFamilyPolicy"));
    let lists = [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")];
    for (key, what) in lists {
        let (count, before) = (texts(spec, key).count(), texts(stored, key).count());
        if policy == "SingleStack" && count == 2 {
            let why =
                format!("must be RequireDualStack or PreferDualStack when multiple '{key}' are specified");
            errors.push(Cause::invalid(path, policy, &why));
        } else if policy != "SingleStack" && count == 1 && before == 2 {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            errors.push(Cause::invalid(path, policy, &why));
        }
    }
    let unselective = text(spec, "clusterIP") == "None" && is_empty(spec, "selector");
    let list = SPEC.child("clusterIPs");
    let asked = |i: usize| texts(stored, "ipFamilies").nth(i).is_some();
    let is_known = |i: usize| texts(spec, "ipFamilies").nth(i).is_some_and(|f| i > 0 || f != "IPv6");
    for (i, address) in texts(spec, "clusterIPs").enumerate() {
        // The first family has been taken from the address.
        if is_v6(address) && !asked(i) && !is_known(i) {
            let shown = at(spec, "clusterIPs").clone();
            errors.push(Cause::invalid(list.index(i), shown, "IPv6 is not configured on this cluster"));
        }
    }
    if !errors.is_empty() || unselective {
        return;
    }
    if policy == "RequireDualStack" {
        errors.push(Cause::invalid(path, policy, "this cluster is not configured for dual-stack services"));
    }
    let families = SPEC.child("ipFamilies");
    for (i, family) in texts(spec, "ipFamilies").enumerate().filter(|(_, f)| *f != "IPv4") {
        errors.push(Cause::invalid(families.index(i), family, "not configured on this cluster"));
    }
}

/// A change: an address is the service's for life, unless it turns into a mere name and back.
pub(super) fn change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    if !is_name(stored) && !is_name(spec) {
        if !(is_headless(stored) && is_headless(spec)) {
            address_change(stored, spec, errors);
        }
        if !is_headless(stored) && !is_headless(spec) {
            family_change(stored, spec, errors);
        }
    }
    let class_path = SPEC.child("loadBalancerClass");
    if is_balancer(stored)
        && is_balancer(spec)
        && at(stored, "loadBalancerClass") != at(spec, "loadBalancerClass")
    {
        let shown = at(spec, "loadBalancerClass").clone();
        errors.push(Cause::invalid(class_path, shown, "may not change once set"));
    }
    class(spec, errors);
    let port = |s: &Value| int(s, "healthCheckNodePort").unwrap_or(0);
    if needs_health_port(stored) && needs_health_port(spec) && ![0, port(stored)].contains(&port(spec)) {
        errors.push(Cause::forbidden(SPEC.child("healthCheckNodePort"), "field is immutable"));
    }
    check(new, old, errors);
}

const RELEASE: &str = "must be set to 'SingleStack' when releasing the secondary";

fn address_change(stored: &Value, spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("clusterIPs");
    let shown = || at(spec, "clusterIPs").clone();
    let before: Vec<&str> = texts(stored, "clusterIPs").collect();
    let after: Vec<&str> = texts(spec, "clusterIPs").collect();
    let compared = if before.len() == after.len() { before.len() } else { 1 };
    if after.is_empty() && !before.is_empty() {
        errors.push(Cause::invalid(list.index(0), shown(), "primary clusterIP can not be unset"));
    }
    for (i, _) in before.iter().zip(&after).take(compared).enumerate().filter(|(_, (a, b))| a != b) {
        errors.push(Cause::invalid(list.index(i), shown(), "may not change once set"));
    }
    if after.len() == 1 && before.len() > 1 {
        released("clusterIP", spec, errors);
    }
}

fn family_change(stored: &Value, spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("ipFamilies");
    let before: Vec<&str> = texts(stored, "ipFamilies").collect();
    let after: Vec<&str> = texts(spec, "ipFamilies").collect();
    let same = before.len() == after.len();
    if before.len() > after.len() && is_empty(spec, "clusterIPs") {
        let shown = at(spec, "ipFamilies").clone();
        errors.push(Cause::invalid(list.index(0), shown, "primary ipFamily can not be unset"));
    }
    let compared = if same { before.len() } else { 1 };
    for _ in before.iter().zip(&after).take(compared).filter(|(a, b)| a != b) {
        let shown = at(spec, if same { "ipFamilies" } else { "clusterIPs" }).clone();
        errors.push(Cause::invalid(list.index(0), shown, "may not change once set"));
    }
    if after.len() == 1 && before.len() > 1 {
        released("ipFamily", spec, errors);
    }
}

fn released(what: &str, spec: &Value, errors: &mut Errors) {
    if text(spec, "ipFamilyPolicy") != "SingleStack" {
        let shown = at(spec, "ipFamilyPolicy").clone();
        let why = format!("{RELEASE} {what}");
        errors.push(Cause::invalid(SPEC.child("ipFamilyPolicy"), shown, &why));
    }
}

/// What a balancer says that it serves on.
pub(super) fn status(old: &Value, object: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    let balancer = status.child("loadBalancer");
    let list = balancer.child("ingress");
    let points = |o| path(o, &["status", "loadBalancer"]);
    if !is_balancer(at(object, "spec")) && !is_empty(points(object), "ingress") {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        return errors.push(Cause::forbidden(list, why));
    }
    let before: HashSet<&str> = indexed(points(old), "ingress").map(|(_, point)| text(point, "ip")).collect();
    for (i, point) in indexed(points(object), "ingress") {
        let path = list.index(i);
        let (address, mode) = (text(point, "ip"), text(point, "ipMode"));
        if !address.is_empty() && !before.contains(address) {
            ip(address, path.child("ip"), errors);
        }
        let has_mode = has(point, "ipMode");
        if !has_mode && !address.is_empty() {
            errors.push(Cause::required(path.child("ipMode"), "must be specified when `ip` is set"));
        } else if has_mode && address.is_empty() {
            let why = "may not be specified when `ip` is not set";
            errors.push(Cause::forbidden(path.child("ipMode"), why));
        } else if has_mode && !["Proxy", "VIP"].contains(&mode) {
            errors.push(Cause::not_supported(path.child("ipMode"), mode, &["Proxy", "VIP"]));
        }
        match text(point, "hostname") {
            "" => {}
            name => {
                dns_subdomain(name, path.child("hostname"), errors);
                if sloppy(name).is_some() {
                    let why = "must be a DNS name, not an IP address";
                    errors.push(Cause::invalid(path.child("hostname"), name, why));
                }
            }
        }
    }
}
