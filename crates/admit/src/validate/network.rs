//! Endpoints, slices, ingresses and network policies.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::field::{
    Errors, Path, dns_subdomain, indexed, ip, one_of, port_name_errors, port_number, port_number_or_name,
    required_text,
};
use super::selector;
use crate::value::{at, has, int, is_empty, path, text, texts};

const SPEC: Path<'static> = Path::root("spec");
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Which addresses an endpoint may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any.
    Anywhere,
    /// None that mean the machine itself or its link.
    Network,
}

pub(super) fn endpoints(object: &Value, reach: Reach, errors: &mut Errors) {
    let list = Path::root("subsets");
    for (i, subset) in indexed(object, "subsets") {
        let path = list.index(i);
        if is_empty(subset, "addresses") && is_empty(subset, "notReadyAddresses") {
            errors.push(Cause::required(path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for key in ["addresses", "notReadyAddresses"] {
            let list = path.child(key);
            for (j, address) in indexed(subset, key) {
                endpoint_address(text(address, "ip"), reach, list.index(j).child("ip"), errors);
            }
        }
        let list = path.child("ports");
        let several = indexed(subset, "ports").count() > 1;
        for (j, port) in indexed(subset, "ports") {
            let path = list.index(j);
            match text(port, "name") {
                "" if several => errors.push(Cause::required(path.child("name"), "")),
                "" => {}
                name => super::field::dns_label(name, path.child("name"), errors),
            }
            port_number(int(port, "port").unwrap_or(0), path.child("port"), errors);
            one_of(port, "protocol", &PROTOCOLS, path, errors);
        }
    }
}

/// An address that traffic may be sent to: not this machine's own, not one that clouds answer on.
fn endpoint_address(value: &str, reach: Reach, path: Path<'_>, errors: &mut Errors) {
    let Ok(address) = value.parse::<std::net::IpAddr>() else { return ip(value, path, errors) };
    let why = match address {
        _ if reach == Reach::Anywhere => return,
        _ if address.is_unspecified() => "may not be unspecified (0.0.0.0 or ::)",
        _ if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        std::net::IpAddr::V4(a) if a.is_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        std::net::IpAddr::V6(a) if a.is_unicast_link_local() => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        _ if address.is_multicast() => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        }
        _ => return,
    };
    errors.push(Cause::invalid(path, value, why));
}

const ENDPOINTS_MAX: usize = 1000;
const SLICE_PORTS_MAX: usize = 20_000;
const SLICE_ADDRESSES_MAX: usize = 100;

pub(super) fn endpoint_slice(object: &Value, reach: Reach, errors: &mut Errors) {
    let kinds = ["FQDN", "IPv4", "IPv6"];
    let kind = text(object, "addressType");
    if kind.is_empty() {
        errors.push(Cause::required("addressType", ""));
    } else if !kinds.contains(&kind) {
        errors.push(Cause::not_supported("addressType", kind, &kinds));
    }
    let list = Path::root("endpoints");
    let count = indexed(object, "endpoints").count();
    if count > ENDPOINTS_MAX {
        errors.push(Cause::too_many(list, count, ENDPOINTS_MAX));
    }
    for (i, endpoint) in indexed(object, "endpoints") {
        let path = list.index(i);
        let addresses = path.child("addresses");
        let count = texts(endpoint, "addresses").count();
        if count == 0 {
            errors.push(Cause::required(addresses, "must contain at least 1 address"));
        } else if count > SLICE_ADDRESSES_MAX {
            errors.push(Cause::too_many(addresses, count, SLICE_ADDRESSES_MAX));
        }
        for (j, address) in texts(endpoint, "addresses").enumerate() {
            match kind {
                "FQDN" => dns_subdomain(address, addresses.index(j), errors),
                "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                    let why = "must be a valid IPv4 address";
                    errors.push(Cause::invalid(addresses.index(j), address, why));
                }
                "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                    let why = "must be a valid IPv6 address";
                    errors.push(Cause::invalid(addresses.index(j), address, why));
                }
                _ => endpoint_address(address, reach, addresses.index(j), errors),
            }
        }
        if !text(endpoint, "hostname").is_empty() {
            super::field::dns_label(text(endpoint, "hostname"), path.child("hostname"), errors);
        }
        if has(endpoint, "nodeName") {
            dns_subdomain(text(endpoint, "nodeName"), path.child("nodeName"), errors);
        }
    }
    let list = Path::root("ports");
    let count = indexed(object, "ports").count();
    if count > SLICE_PORTS_MAX {
        errors.push(Cause::too_many(list, count, SLICE_PORTS_MAX));
    }
    let mut names = HashSet::new();
    for (i, port) in indexed(object, "ports") {
        let path = list.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            super::field::dns_label(name, path.child("name"), errors);
        }
        if !names.insert(name) {
            errors.push(Cause::duplicate(path.child("name"), name));
        }
        if let Some(n) = int(port, "port") {
            port_number(n, path.child("port"), errors);
        }
        one_of(port, "protocol", &PROTOCOLS, path, errors);
    }
}

pub(super) fn ingress(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    if is_empty(spec, "rules") && !has(spec, "defaultBackend") {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(Cause::invalid(SPEC, at(spec, "rules").clone(), why));
    }
    if has(spec, "defaultBackend") {
        backend(at(spec, "defaultBackend"), SPEC.child("defaultBackend"), errors);
    }
    let list = SPEC.child("rules");
    for (i, rule) in indexed(spec, "rules") {
        let path = list.index(i);
        host(text(rule, "host"), path.child("host"), errors);
        let http = path.child("http");
        let paths = http.child("paths");
        if has(rule, "http") && is_empty(at(rule, "http"), "paths") {
            errors.push(Cause::required(paths, ""));
        }
        for (j, p) in indexed(at(rule, "http"), "paths") {
            ingress_path(p, paths.index(j), errors);
        }
    }
    let list = SPEC.child("tls");
    for (i, tls) in indexed(spec, "tls") {
        let path = list.index(i);
        let hosts = path.child("hosts");
        for (j, name) in texts(tls, "hosts").enumerate() {
            host(name, hosts.index(j), errors);
        }
    }
    let class = text(spec, "ingressClassName");
    if has(spec, "ingressClassName") {
        dns_subdomain(class, SPEC.child("ingressClassName"), errors);
    }
}

/// The old annotation for the class, which a new object may not have beside the field.
const CLASS_NOTE: &str = "kubernetes.io/ingress.class";

pub(super) fn new_ingress(object: &Value, errors: &mut Errors) {
    let note = path(object, &["metadata", "annotations", CLASS_NOTE]);
    if let Some(note) = note.as_str()
        && has(at(object, "spec"), "ingressClassName")
    {
        let meta = Path::root("metadata");
        let notes = meta.child("annotations");
        let why = "can not be set when the class field is also set";
        errors.push(Cause::invalid(notes.child(CLASS_NOTE), note, why));
    }
}

fn host(name: &str, path: Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return;
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        errors.push(Cause::invalid(path, name, "must be a DNS name, not an IP address"));
    }
    if !name.contains('*') {
        dns_subdomain(name, path, errors);
    } else if name.strip_prefix("*.").is_none_or(|rest| stoa_units::check_dns_subdomain(rest).is_err()) {
        errors.push(Cause::invalid(path, name, WILDCARD));
    }
}

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn ingress_path(p: &Value, path: Path<'_>, errors: &mut Errors) {
    let place = text(p, "path");
    match text(p, "pathType") {
        "" => errors.push(Cause::required(path.child("pathType"), "pathType must be specified")),
        "Exact" | "Prefix" => {
            if !place.starts_with('/') {
                errors.push(Cause::invalid(path.child("path"), place, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if place.contains(bad) {
                    let why = format!("must not contain '{bad}'");
                    errors.push(Cause::invalid(path.child("path"), place, &why));
                }
            }
            for bad in ["/..", "/."].into_iter().filter(|s| place.ends_with(s)) {
                errors.push(Cause::invalid(path.child("path"), place, &format!("cannot end with '{bad}'")));
            }
        }
        "ImplementationSpecific" => {
            if !place.is_empty() && !place.starts_with('/') {
                errors.push(Cause::invalid(path.child("path"), place, "must be an absolute path"));
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Cause::not_supported(path.child("pathType"), other, &known));
        }
    }
    backend(at(p, "backend"), path.child("backend"), errors);
}

fn backend(b: &Value, path: Path<'_>, errors: &mut Errors) {
    match (has(b, "service"), has(b, "resource")) {
        (true, true) => {
            let why = "cannot set both resource and service backends";
            errors.push(Cause::invalid(path, "", why));
        }
        (false, false) => {
            let why = "resource or service backend is required";
            errors.push(Cause::required(path, why));
        }
        (false, true) => {
            let at_resource = path.child("resource");
            for key in ["kind", "name"] {
                required_text(at(b, "resource"), key, at_resource, errors);
            }
        }
        (true, false) => {
            let at_service = path.child("service");
            let service = at(b, "service");
            if let Some(name) = required_text(service, "name", at_service, errors) {
                super::field::name_error(
                    super::field::dns_1035_label(name),
                    name,
                    at_service.child("name"),
                    errors,
                );
            }
            let at_port = at_service.child("port");
            let port = at(service, "port");
            match (text(port, "name"), int(port, "number").unwrap_or(0)) {
                ("", 0) => errors.push(Cause::required(at_service, "port name or number is required")),
                ("", n) => port_number(n, at_port.child("number"), errors),
                (name, 0) => {
                    for why in port_name_errors(name) {
                        errors.push(Cause::invalid(at_port.child("name"), name, why));
                    }
                }
                _ => {
                    let why = "cannot set both port name & port number";
                    errors.push(Cause::invalid(at_service, "", why));
                }
            }
        }
    }
}

pub(super) fn ingress_class(object: &Value, errors: &mut Errors) {
    let controller = text(at(object, "spec"), "controller");
    if controller.is_empty() {
        errors.push(Cause::required(SPEC.child("controller"), ""));
    } else if !controller.contains('/') {
        let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(Cause::invalid(SPEC.child("controller"), controller, why));
    }
    let parameters = path(object, &["spec", "parameters"]);
    if !parameters.is_object() {
        return;
    }
    let at_parameters = SPEC.child("parameters");
    for key in ["kind", "name"] {
        required_text(parameters, key, at_parameters, errors);
    }
    one_of(parameters, "scope", &["Cluster", "Namespace"], at_parameters, errors);
    let place = at_parameters.child("namespace");
    match (text(parameters, "scope"), text(parameters, "namespace")) {
        ("Namespace", "") => errors.push(Cause::required(place, "`parameters.scope` is set to 'Namespace'")),
        ("Namespace", namespace) => super::field::dns_label(namespace, place, errors),
        ("Cluster", namespace) if !namespace.is_empty() => {
            errors.push(Cause::forbidden(place, "`parameters.scope` is set to 'Cluster'"));
        }
        _ => {}
    }
}

pub(super) fn network_policy(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    selector::check(at(spec, "podSelector"), SPEC.child("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = SPEC.child(direction);
        for (i, rule) in indexed(spec, direction) {
            let path = list.index(i);
            let ports = path.child("ports");
            for (j, port) in indexed(rule, "ports") {
                policy_port(port, ports.index(j), errors);
            }
            let list = path.child(peers);
            for (j, peer) in indexed(rule, peers) {
                policy_peer(peer, list.index(j), errors);
            }
        }
    }
    let types = SPEC.child("policyTypes");
    if texts(spec, "policyTypes").count() > 2 {
        let why = "may not specify more than two policyTypes";
        errors.push(Cause::invalid(types, at(spec, "policyTypes").clone(), why));
    }
    for (i, kind) in texts(spec, "policyTypes").enumerate() {
        if !matches!(kind, "Egress" | "Ingress") {
            errors.push(Cause::not_supported(types.index(i), kind, &["Egress", "Ingress"]));
        }
    }
}

fn policy_port(port: &Value, path: Path<'_>, errors: &mut Errors) {
    one_of(port, "protocol", &PROTOCOLS, path, errors);
    if has(port, "port") {
        port_number_or_name(at(port, "port"), path.child("port"), errors);
        match (int(port, "port"), int(port, "endPort")) {
            (Some(first), Some(last)) => {
                if last < first {
                    let why = "must be greater than or equal to `port`";
                    errors.push(Cause::invalid(path.child("endPort"), first, why));
                }
                port_number(last, path.child("endPort"), errors);
            }
            (None, Some(last)) => {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(Cause::invalid(path.child("endPort"), last, why));
            }
            _ => {}
        }
    } else if let Some(last) = int(port, "endPort") {
        let why = "may not be specified when `port` is not specified";
        errors.push(Cause::invalid(path.child("endPort"), last, why));
    }
}

fn policy_peer(peer: &Value, path: Path<'_>, errors: &mut Errors) {
    let selectors = has(peer, "podSelector") || has(peer, "namespaceSelector");
    for key in ["podSelector", "namespaceSelector"] {
        selector::check(at(peer, key), path.child(key), errors);
    }
    if has(peer, "ipBlock") {
        if selectors {
            let why = "may not specify both ipBlock and another peer";
            errors.push(Cause::forbidden(path, why));
        }
        let block = path.child("ipBlock");
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        let cidr = text(at(peer, "ipBlock"), "cidr");
        let net = cidr.parse::<ipnet::IpNet>();
        if cidr.is_empty() {
            errors.push(Cause::required(block.child("cidr"), ""));
        } else if net.is_err() {
            errors.push(Cause::invalid(block.child("cidr"), cidr, why));
        }
        let list = block.child("except");
        for (i, except) in texts(at(peer, "ipBlock"), "except").enumerate() {
            match (except.parse::<ipnet::IpNet>(), &net) {
                (Err(_), _) => errors.push(Cause::invalid(list.index(i), except, why)),
                (Ok(inner), Ok(outer)) if !outer.contains(&inner) || inner == *outer => {
                    let why = "must be a strict subset of `cidr`";
                    errors.push(Cause::invalid(list.index(i), except, why));
                }
                _ => {}
            }
        }
    } else if !selectors {
        errors.push(Cause::required(path, "must specify a peer"));
    }
}

/// A range of service addresses: one of each family at most.
pub(super) fn service_cidr(object: &Value, errors: &mut Errors) {
    let list = SPEC.child("cidrs");
    let cidrs: Vec<&str> = texts(at(object, "spec"), "cidrs").collect();
    if cidrs.is_empty() {
        errors.push(Cause::required(list, "at least one CIDR required"));
    }
    if cidrs.len() > 2 {
        let why = "may only hold up to 2 values";
        errors.push(Cause::invalid(list, at(at(object, "spec"), "cidrs").clone(), why));
    }
    let parsed: Vec<Option<ipnet::IpNet>> = cidrs.iter().map(|c| c.parse().ok()).collect();
    if let [Some(a), Some(b)] = parsed.as_slice()
        && a.addr().is_ipv4() == b.addr().is_ipv4()
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(Cause::invalid(list, at(at(object, "spec"), "cidrs").clone(), why));
    }
    for (i, (text, net)) in cidrs.iter().zip(&parsed).enumerate() {
        if net.is_none() {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(Cause::invalid(list.index(i), *text, why));
        }
    }
}

pub(super) fn service_cidr_change(old: &Value, new: &Value, errors: &mut Errors) {
    let list = SPEC.child("cidrs");
    let (before, after) = (path(old, &["spec", "cidrs"]), path(new, &["spec", "cidrs"]));
    let kept = texts(at(old, "spec"), "cidrs")
        .eq(texts(at(new, "spec"), "cidrs").take(texts(at(old, "spec"), "cidrs").count()));
    if before != after && !kept {
        errors.push(Cause::immutable(list, after.clone()));
    }
}

/// An address says whose it is.
pub(super) fn address(object: &Value, errors: &mut Errors) {
    let parent = SPEC.child("parentRef");
    let reference = path(object, &["spec", "parentRef"]);
    if !reference.is_object() {
        errors.push(Cause::required(parent, ""));
        return;
    }
    for key in ["resource", "name"] {
        required_text(reference, key, parent, errors);
    }
}

pub(super) fn address_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (path(old, &["spec", "parentRef"]), path(new, &["spec", "parentRef"]));
    if before != after {
        errors.push(Cause::immutable(SPEC.child("parentRef"), after.clone()));
    }
}

/// Where a balancer of load is reached: by addresses, and by names that are none.
pub(super) fn balancer_status(object: &Value, errors: &mut Errors) {
    let balancer = Path::root("status");
    let balancer = balancer.child("loadBalancer");
    let list = balancer.child("ingress");
    for (i, ingress) in indexed(at(at(object, "status"), "loadBalancer"), "ingress") {
        let path = list.index(i);
        if !text(ingress, "ip").is_empty() {
            ip(text(ingress, "ip"), path.child("ip"), errors);
        }
        let name = text(ingress, "hostname");
        if !name.is_empty() {
            dns_subdomain(name, path.child("hostname"), errors);
            if name.parse::<std::net::IpAddr>().is_ok() {
                let why = "must be a DNS name, not an IP address";
                errors.push(Cause::invalid(path.child("hostname"), name, why));
            }
        }
    }
}

/// Only a service that asks for a balancer has one.
pub(super) fn service_status(object: &Value, errors: &mut Errors) {
    let balanced = indexed(at(at(object, "status"), "loadBalancer"), "ingress").next().is_some();
    if balanced && text(at(object, "spec"), "type") != "LoadBalancer" {
        let why = "may only be used when `spec.type` is \"LoadBalancer\"";
        return errors.push(Cause::forbidden("status.loadBalancer.ingress", why));
    }
    balancer_status(object, errors);
}
