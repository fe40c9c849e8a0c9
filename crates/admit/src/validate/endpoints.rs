//! Endpoints, in their old form.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::address::{endpoint_ip, ip};
use super::field::{Errors, Path, dns_label, dns_subdomain, indexed, name_error, one_of, port_number};
use super::network::Reach;
use crate::value::{has, int, is_empty, text};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn check(object: &Value, reach: Reach, errors: &mut Errors) {
    let list = Path::root("subsets");
    for (i, subset) in indexed(object, "subsets") {
        let path = list.index(i);
        if is_empty(subset, "addresses") && is_empty(subset, "notReadyAddresses") {
            errors.push(Cause::required(path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for key in ["addresses", "notReadyAddresses"] {
            let list = path.child(key);
            for (j, address) in indexed(subset, key) {
                self::address(address, reach, list.index(j), errors);
            }
        }
        let list = path.child("ports");
        let several = indexed(subset, "ports").count() > 1;
        for (j, port) in indexed(subset, "ports") {
            let path = list.index(j);
            match text(port, "name") {
                "" if several => errors.push(Cause::required(path.child("name"), "")),
                "" => {}
                name => dns_label(name, path.child("name"), errors),
            }
            port_number(int(port, "port").unwrap_or(0), path.child("port"), errors);
            one_of(port, "protocol", &PROTOCOLS, path, errors);
            if has(port, "appProtocol") {
                let protocol = text(port, "appProtocol");
                name_error(check_label_key(protocol), protocol, path.child("appProtocol"), errors);
            }
        }
    }
}

fn address(address: &Value, reach: Reach, path: Path<'_>, errors: &mut Errors) {
    let value = text(address, "ip");
    ip(value, path.child("ip"), errors);
    if !is_empty(address, "hostname") {
        dns_label(text(address, "hostname"), path.child("hostname"), errors);
    }
    if has(address, "nodeName") {
        dns_subdomain(text(address, "nodeName"), path.child("nodeName"), errors);
    }
    if reach == Reach::Network {
        endpoint_ip(value, path.child("ip"), errors);
    }
}
