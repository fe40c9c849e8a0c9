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
    let ranges: Vec<Option<IpNet>> = cidrs.iter().map(|c| address::any_range(c)).collect();
    let why = match (cidrs.len(), ranges.as_slice()) {
        (0, _) => return errors.push(Cause::required(list, "at least one CIDR required")),
        (1, _) => None,
        (2, [Some(a), Some(b)]) if a.addr().is_ipv4() != b.addr().is_ipv4() => None,
        (2, _) => {
            Some("may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64")
        }
        _ => Some("may only hold up to 2 values"),
    };
    if let Some(why) = why {
        return errors.push(internal::invalid(list, spec, "networking.v1.ServiceCIDRSpec", why));
    }
    for (i, cidr) in cidrs.iter().enumerate() {
        address::strict_range(cidr, list.index(i), errors);
    }
}

pub(super) fn service_cidr_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (path(old, &["spec", "cidrs"]), path(new, &["spec", "cidrs"]));
    if before != after {
        errors.push(Cause::immutable(SPEC.child("cidrs"), after.clone()));
    }
}

/// An address is called by itself, and says whose it is.
pub(super) fn address(object: &Value, errors: &mut Errors) {
    let name = text(at(object, "metadata"), "name");
    if let Some(why) = address::strict_fault(name).filter(|_| !name.is_empty()) {
        errors.push(Cause::invalid(Path::root("metadata").child("name"), name, &why));
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
