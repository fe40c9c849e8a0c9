//! Ranges of service addresses, and the addresses that are taken.

use ipnet::IpNet;
use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::check_path_segment;

use super::field::{Errors, Path, dns_subdomain, name_error};
use super::{address, internal};
use crate::value::{at, has, path, text, texts};

const SPEC: Path<'static> = Path::root("spec");

/// A range of service addresses: one of each family at most.
pub(super) fn service_cidr(object: &Value, errors: &mut Errors) {
    let list = SPEC.child("cidrs");
    let spec = at(object, "spec");
    let cidrs: Vec<&str> = texts(spec, "cidrs").collect();
    match cidrs.len() {
        0 => return errors.push(Cause::required(list, "at least one CIDR required")),
        1 | 2 => {}
        _ => {
            let why = "may only hold up to 2 values";
            return errors.push(internal::invalid(list, spec, "networking.v1.ServiceCIDRSpec", why));
        }
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        address::strict_range(cidr, list.index(i), errors);
    }
    let is_v4 = |c: &&str| address::any_range(c).map(|range: IpNet| range.addr().is_ipv4());
    if let [a, b] = cidrs.as_slice()
        && let (Some(a), Some(b)) = (is_v4(a), is_v4(b))
        && a == b
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(Cause::invalid(list, at(spec, "cidrs").clone(), why));
    }
}

pub(super) fn service_cidr_change(old: &Value, new: &Value, errors: &mut Errors) {
    let before: Vec<&str> = texts(at(old, "spec"), "cidrs").collect();
    let after: Vec<&str> = texts(at(new, "spec"), "cidrs").collect();
    let list = SPEC.child("cidrs");
    // A range of the other family may join the one there is.
    let joined = (before.len(), after.len()) == (1, 2);
    if before.len() != after.len() && !joined {
        return errors.push(Cause::immutable(list, path(new, &["spec", "cidrs"]).clone()));
    }
    for (i, (_, cidr)) in before.iter().zip(&after).enumerate().filter(|(_, (a, b))| a != b) {
        errors.push(Cause::immutable(list.index(i), *cidr));
    }
    if joined {
        service_cidr(new, errors);
    }
}

/// An address is called by itself, and says whose it is.
pub(super) fn address(object: &Value, errors: &mut Errors) {
    // What a name is made from must be one itself.
    for key in ["generateName", "name"] {
        let name = text(at(object, "metadata"), key);
        if let Some(why) = address::strict_fault(name).filter(|_| !name.is_empty()) {
            errors.push(Cause::invalid(Path::root("metadata").child(key), name, &why));
        }
    }
    let parent = SPEC.child("parentRef");
    let reference = path(object, &["spec", "parentRef"]);
    if !reference.is_object() {
        return errors.push(Cause::required(parent, ""));
    }
    if !text(reference, "group").is_empty() {
        dns_subdomain(text(reference, "group"), parent.child("group"), errors);
    }
    for key in ["resource", "name"] {
        match text(reference, key) {
            "" => errors.push(Cause::required(parent.child(key), "")),
            name => name_error(check_path_segment(name), name, parent.child(key), errors),
        }
    }
    if has(reference, "namespace") {
        let name = text(reference, "namespace");
        name_error(check_path_segment(name), name, parent.child("namespace"), errors);
    }
}

pub(super) fn address_change(old: &Value, new: &Value, errors: &mut Errors) {
    let type_name = "networking.v1.ParentReference";
    internal::immutable(
        at(old, "spec"),
        at(new, "spec"),
        "parentRef",
        SPEC.child("parentRef"),
        type_name,
        errors,
    );
}
