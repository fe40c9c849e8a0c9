//! Endpoints, and where services are reached.

use serde_json::Value;
use stoa_kube::Cause;

use super::field::{Errors, Path, indexed, ip, one_of, port_number};
use super::ingress::balancer_status;
use crate::value::{at, int, is_empty, text};

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

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
pub(super) fn endpoint_address(value: &str, reach: Reach, path: Path<'_>, errors: &mut Errors) {
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

/// Only a service that asks for a balancer has one.
pub(super) fn service_status(object: &Value, errors: &mut Errors) {
    let balanced = indexed(at(at(object, "status"), "loadBalancer"), "ingress").next().is_some();
    if balanced && text(at(object, "spec"), "type") != "LoadBalancer" {
        let why = "may only be used when `spec.type` is \"LoadBalancer\"";
        return errors.push(Cause::forbidden("status.loadBalancer.ingress", why));
    }
    balancer_status(object, errors);
}
