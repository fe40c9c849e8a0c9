//! Services. Whether an address or a port is free is for the allocator to say ([`crate::service`]).

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::field::{
    Errors, Path, dns_label, dns_subdomain, indexed, ip, name_error, one_of, optional_one_of, port_number,
    port_number_or_name,
};
use super::{meta, shown};
use crate::default::{is_externally_reachable, is_headless};
use crate::value::{at, has, int, is_empty, path, text, texts};

const SPEC: Path<'static> = Path::root("spec");
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

pub(super) fn service(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let kind = text(spec, "type");
    if is_empty(spec, "ports") && !is_headless(spec) && kind != "ExternalName" {
        errors.push(Cause::required(SPEC.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            let list = SPEC.child("clusterIPs");
            errors.push(Cause::invalid(list.index(0), "None", &why));
        }
        "ExternalName" => {
            if !is_empty(spec, "clusterIPs") || !is_empty(spec, "clusterIP") {
                let why = "may not be set for ExternalName services";
                errors.push(Cause::forbidden(SPEC.child("clusterIPs"), why));
            }
            match text(spec, "externalName") {
                "" => errors.push(Cause::required(SPEC.child("externalName"), "")),
                name => {
                    let bare = name.strip_suffix('.').unwrap_or(name);
                    dns_subdomain(bare, SPEC.child("externalName"), errors);
                }
            }
        }
        _ => {}
    }
    ports(spec, errors);
    meta::labels(at(spec, "selector"), SPEC.child("selector"), errors);
    one_of(spec, "sessionAffinity", &["ClientIP", "None"], SPEC, errors);
    affinity(spec, errors);
    let list = SPEC.child("externalIPs");
    for (i, address) in texts(spec, "externalIPs").enumerate() {
        external_ip(address, list.index(i), errors);
    }
    one_of(spec, "type", &TYPES, SPEC, errors);
    port_uniqueness(spec, errors);
    ranges(spec, errors);
    external_traffic(spec, errors);
    if kind != "ExternalName" {
        one_of(spec, "internalTrafficPolicy", &["Cluster", "Local"], SPEC, errors);
    }
    let near = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    optional_one_of(spec, "trafficDistribution", &near, SPEC, errors);
    addresses(spec, errors);
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
    let health = "healthCheckNodePort";
    let port = int(spec, health).unwrap_or(0);
    let wanted = text(spec, "type") == "LoadBalancer" && text(spec, key) == "Local";
    if !wanted && port != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(Cause::invalid(SPEC.child(health), port, why));
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
    let config = at(spec, "sessionAffinityConfig");
    if text(spec, "sessionAffinity") == "ClientIP" {
        let seconds = path(config, &["clientIP", "timeoutSeconds"]).as_i64().unwrap_or(0);
        if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) {
            let root = SPEC.child("sessionAffinityConfig");
            let client = root.child("clientIP");
            let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
            errors.push(Cause::invalid(client.child("timeoutSeconds"), seconds, &why));
        }
    } else if config.is_object() {
        let why = "must not be set when session affinity is None";
        errors.push(Cause::forbidden(SPEC.child("sessionAffinityConfig"), why));
    }
}

/// An address that a service takes for its own must not be one with a meaning of its own: loopback would catch what a
/// node says to itself, link-local what a cloud tells its machines.
fn external_ip(text: &str, path: Path<'_>, errors: &mut Errors) {
    use std::net::IpAddr;
    let Ok(address) = text.parse::<IpAddr>() else { return ip(text, path, errors) };
    let why = if address.is_unspecified() {
        format!("may not be unspecified ({text})")
    } else if address.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if matches!(address, IpAddr::V4(a) if a.is_link_local())
        || matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
    {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if address.is_multicast() {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return;
    };
    errors.push(Cause::invalid(path, text, &why));
}

fn port_uniqueness(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("ports");
    let (mut pairs, mut node_ports) = (HashSet::new(), HashSet::new());
    for (i, port) in indexed(spec, "ports") {
        let path = list.index(i);
        let node_port = int(port, "nodePort").unwrap_or(0);
        if node_port != 0 && matches!(text(spec, "type"), "ClusterIP" | "ExternalName") {
            let why = format!("may not be used when `type` is '{}'", text(spec, "type"));
            errors.push(Cause::forbidden(path.child("nodePort"), &why));
        }
        let protocol = text(port, "protocol");
        if node_port != 0 && !node_ports.insert((protocol, node_port)) {
            errors.push(Cause::duplicate(path.child("nodePort"), node_port));
        }
    }
    for (i, port) in indexed(spec, "ports") {
        if !pairs.insert((text(port, "protocol"), int(port, "port").unwrap_or(0))) {
            errors.push(shown::duplicate(list.index(i), port, shown::PORT));
        }
    }
}

fn ranges(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("loadBalancerSourceRanges");
    let balancer = text(spec, "type") == "LoadBalancer";
    if !is_empty(spec, "loadBalancerSourceRanges") && !balancer {
        errors.push(Cause::forbidden(list, "may only be used when `type` is 'LoadBalancer'"));
    }
    for (i, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
        if range.trim().parse::<ipnet::IpNet>().is_err() {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(Cause::invalid(list.index(i), range, why));
        }
    }
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if has(spec, key) && !balancer {
            errors.push(Cause::forbidden(SPEC.child(key), "may only be used when `type` is 'LoadBalancer'"));
        }
    }
}

fn addresses(spec: &Value, errors: &mut Errors) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let list = SPEC.child("clusterIPs");
    let first = texts(spec, "clusterIPs").next().unwrap_or_default();
    if !first.is_empty() && first != text(spec, "clusterIP") {
        let shown = at(spec, "clusterIPs").clone();
        errors.push(Cause::invalid(list, shown, "first value must match `clusterIP`"));
    }
    for (i, address) in texts(spec, "clusterIPs").enumerate() {
        if address == "None" {
            if texts(spec, "clusterIPs").count() > 1 {
                let why = "'None' must be the first and only value";
                errors.push(Cause::invalid(list, at(spec, "clusterIPs").clone(), why));
            }
        } else if !address.is_empty() {
            ip(address, list.index(i), errors);
        }
    }
    let unselective = is_headless(spec) && is_empty(spec, "selector");
    let families = SPEC.child("ipFamilies");
    for (i, family) in texts(spec, "ipFamilies").enumerate() {
        match family {
            "IPv4" => {}
            // A headless service without a selector stands for whatever its endpoints are.
            "IPv6" if unselective => {}
            "IPv6" => {
                errors.push(Cause::invalid(families.index(i), family, "not configured on this cluster"))
            }
            _ => errors.push(Cause::not_supported(families.index(i), family, &["IPv4", "IPv6"])),
        }
        if texts(spec, "ipFamilies").take(i).any(|before| before == family) {
            errors.push(Cause::duplicate(families.index(i), family));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    optional_one_of(spec, "ipFamilyPolicy", &policies, SPEC, errors);
    if text(spec, "ipFamilyPolicy") == "RequireDualStack" && !unselective {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(Cause::invalid(SPEC.child("ipFamilyPolicy"), "RequireDualStack", why));
    }
}

/// The address is the service's for life, unless it turns into a mere name and back.
pub(super) fn change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    let named = |s: &Value| text(s, "type") == "ExternalName";
    if named(stored) || named(spec) || is_empty(stored, "clusterIP") {
        return;
    }
    let list = SPEC.child("clusterIPs");
    match text(spec, "clusterIP") {
        "" => {
            let shown = at(spec, "clusterIPs").clone();
            errors.push(Cause::invalid(list.index(0), shown, "primary clusterIP can not be unset"));
        }
        now if now != text(stored, "clusterIP") => {
            let shown = at(spec, "clusterIPs").clone();
            errors.push(Cause::invalid(list.index(0), shown, "may not change once set"));
        }
        _ => {}
    }
    let class = "loadBalancerClass";
    if text(stored, "type") == "LoadBalancer"
        && text(spec, "type") == "LoadBalancer"
        && at(stored, class) != at(spec, class)
    {
        let shown = at(spec, class).clone();
        errors.push(Cause::invalid(SPEC.child(class), shown, "may not change once set"));
    }
}
