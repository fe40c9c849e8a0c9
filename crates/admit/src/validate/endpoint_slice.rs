//! Slices of endpoints: addresses of one family, and ports with names of their own.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::{check_dns_label, check_dns_subdomain, check_label_key, check_label_value};

use super::address;
use super::field::{Errors, Path, dns_label, dns_subdomain, indexed, name_error, optional_one_of};
use super::meta;
use super::network::{PROTOCOLS, Reach, endpoint_address};
use crate::value::{at, has, text, texts};

const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;
const TOPOLOGY_MAX: usize = 16;
const HINTS_MAX: usize = 8;

pub(super) fn slice(object: &Value, reach: Reach, errors: &mut Errors) {
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
    } else {
        indexed(object, "endpoints").for_each(|(i, e)| endpoint(e, kind, reach, list.index(i), errors));
    }
    ports(object, errors);
}

fn endpoint(v: &Value, kind: &str, reach: Reach, path: Path<'_>, errors: &mut Errors) {
    let addresses = path.child("addresses");
    let count = texts(v, "addresses").count();
    if count == 0 {
        errors.push(Cause::required(addresses, "must contain at least 1 address"));
    } else if count > ADDRESSES_MAX {
        errors.push(Cause::too_many(addresses, count, ADDRESSES_MAX));
    }
    for (j, value) in texts(v, "addresses").enumerate() {
        match kind {
            "FQDN" => domain(value, addresses.index(j), errors),
            "IPv4" | "IPv6" => ip(value, kind, reach, (addresses, j), errors),
            _ => {}
        }
    }
    if has(v, "nodeName") {
        dns_subdomain(text(v, "nodeName"), path.child("nodeName"), errors);
    }
    let topology = at(v, "deprecatedTopology");
    let labels = topology.as_object().map_or(0, serde_json::Map::len);
    if labels > TOPOLOGY_MAX {
        errors.push(Cause::too_many(path.child("deprecatedTopology"), labels, TOPOLOGY_MAX));
    }
    meta::labels(topology, path.child("deprecatedTopology"), errors);
    if has(v, "hostname") {
        dns_label(text(v, "hostname"), path.child("hostname"), errors);
    }
    hints(at(v, "hints"), path.child("hints"), errors);
}

/// An address of a list. Those of the younger family are written in one form only.
fn ip(value: &str, kind: &str, reach: Reach, (list, i): (Path<'_>, usize), errors: &mut Errors) {
    let path = list.index(i);
    let fault = if kind == "IPv6" { address::strict_fault(value) } else { None };
    if let Some(why) = fault {
        return errors.push(Cause::invalid(path, value, &why));
    }
    let before = errors.len();
    let Some(ip) = address::ip(value, path, errors).filter(|_| errors.len() == before) else { return };
    if ip.is_ipv4() != (kind == "IPv4") {
        // A stock server names the list.
        errors.push(Cause::invalid(list, value, &format!("must be an {kind} address")));
    }
    endpoint_address(value, reach, path, errors);
}

fn domain(value: &str, path: Path<'_>, errors: &mut Errors) {
    if value.is_empty() {
        return errors.push(Cause::required(path, ""));
    }
    let name = value.strip_suffix('.').unwrap_or(value);
    if let Err(e) = check_dns_subdomain(name) {
        errors.push(Cause::invalid(path, name, e.0));
    } else if !name.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Cause::invalid(path, name, why));
    } else if let Some((label, e)) = name.split('.').find_map(|l| check_dns_label(l).err().map(|e| (l, e))) {
        errors.push(Cause::invalid(path, label, e.0));
    }
}

fn hints(v: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["forZones", "forNodes"] {
        let list = path.child(key);
        let count = indexed(v, key).count();
        if count > HINTS_MAX {
            errors.push(Cause::too_many(list, count, HINTS_MAX));
            continue;
        }
        let mut seen = HashSet::new();
        for (i, hint) in indexed(v, key) {
            let name = text(hint, "name");
            let path = list.index(i);
            if !seen.insert(name) {
                errors.push(Cause::duplicate(path.child("name"), name));
            }
            let fault = if key == "forZones" { check_label_value(name) } else { check_dns_subdomain(name) };
            name_error(fault, name, path.child("name"), errors);
        }
    }
}

fn ports(object: &Value, errors: &mut Errors) {
    let list = Path::root("ports");
    let count = indexed(object, "ports").count();
    if count > PORTS_MAX {
        return errors.push(Cause::too_many(list, count, PORTS_MAX));
    }
    let mut names = HashSet::new();
    for (i, port) in indexed(object, "ports") {
        let path = list.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            dns_label(name, path.child("name"), errors);
        }
        if !names.insert(name) {
            errors.push(Cause::duplicate(path.child("name"), name));
        }
        if has(port, "protocol") {
            optional_one_of(port, "protocol", &PROTOCOLS, path, errors);
        } else {
            errors.push(Cause::required(path.child("protocol"), ""));
        }
        if has(port, "appProtocol") {
            let protocol = text(port, "appProtocol");
            name_error(check_label_key(protocol), protocol, path.child("appProtocol"), errors);
        }
    }
}
