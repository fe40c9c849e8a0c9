//! Devices: classes of them, claims on them, and what drivers offer. Expressions are taken as they are: nothing here evaluates them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use stoa_kube::Cause;

use super::field::{Errors, Path, dns_label, dns_subdomain, immutable, indexed, required_text};
use super::{affinity, meta};
use crate::cel::{self, Type};
use crate::value::{at, flag, has, int, is_empty, items, pairs, path as below, text, texts};

const SPEC: Path<'static> = Path::root("spec");
const STATUS: Path<'static> = Path::root("status");
/// Requests, constraints, configurations and selectors that one object may have.
const ENTRIES_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const RESERVATIONS_MAX: usize = 256;
const DEVICES_MAX: usize = 128;
/// Devices of a slice that uses taints, counters or lists, each of which takes more room.
const DEVICES_RICH_MAX: usize = 64;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const IDENTIFIER_LEN_MAX: usize = 32;
const POOL_LEN_MAX: usize = 253;
const REQUEST_NAME: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

/// Looks at the entries of a list that has a bound.
fn entries(
    v: &Value,
    key: &str,
    len_max: usize,
    path: Path<'_>,
    errors: &mut Errors,
    mut look: impl FnMut(&Value, Path<'_>, &mut Errors),
) {
    let (count, list) = (items(v, key).count(), path.child(key));
    if count > len_max {
        errors.push(Cause::too_many(list, count, len_max));
    }
    for (i, entry) in indexed(v, key) {
        look(entry, list.index(i), errors);
    }
}

/// Entries that must differ by a name.
fn unlike(v: &Value, key: &str, name: &str, path: Path<'_>, errors: &mut Errors) {
    let (list, mut seen) = (path.child(key), HashSet::new());
    for (i, entry) in indexed(v, key) {
        let id = entry.as_str().unwrap_or_else(|| text(entry, name));
        if !seen.insert(id) {
            errors.push(Cause::duplicate(list.index(i), id));
        }
    }
}

fn driver(v: &Value, path: Path<'_>, errors: &mut Errors) {
    meta::driver_name(text(v, "driver"), path.child("driver"), errors);
}

pub(super) fn class(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    selectors(spec, SPEC, errors);
    entries(spec, "config", ENTRIES_MAX, SPEC, errors, configuration);
}

fn selectors(v: &Value, path: Path<'_>, errors: &mut Errors) {
    entries(v, "selectors", ENTRIES_MAX, path, errors, |selector, path, errors| {
        if !has(selector, "cel") {
            errors.push(Cause::required(path.child("cel"), ""));
        } else {
            let cel = path.child("cel");
            expression(text(at(selector, "cel"), "expression"), cel.child("expression"), errors);
        }
    });
}

/// Whether a device is fit, in CEL.
fn expression(told: &str, path: Path<'_>, errors: &mut Errors) {
    if told.is_empty() {
        return errors.push(Cause::required(path, ""));
    }
    if told.len() > EXPRESSION_BYTES_MAX {
        return errors.push(Cause::too_long(path, EXPRESSION_BYTES_MAX));
    }
    let why = match cel::compile(told, &["device"]) {
        Ok(Type::Bool | Type::Dyn) => return,
        Ok(other) => format!("must evaluate to bool or the unknown type, not {}", other.name()),
        Err(e) => format!("compilation failed: {e}"),
    };
    errors.push(Cause::invalid(path, told, &why));
}

fn configuration(config: &Value, path: Path<'_>, errors: &mut Errors) {
    let (opaque, path) = (at(config, "opaque"), path.child("opaque"));
    if opaque.is_null() {
        errors.push(Cause::required(path, ""));
        return;
    }
    driver(opaque, path, errors);
    let (parameters, path) = (at(opaque, "parameters"), path.child("parameters"));
    match parameters {
        Value::Null => errors.push(Cause::required(path, "")),
        Value::Object(_) if parameters.to_string().len() > PARAMETERS_BYTES_MAX => {
            errors.push(Cause::too_long(path, PARAMETERS_BYTES_MAX));
        }
        Value::Object(_) => {}
        _ => errors.push(Cause::invalid(path, "<value omitted>", "must be a valid JSON object")),
    }
}

pub(super) fn claim(object: &Value, errors: &mut Errors) {
    devices(below(object, &["spec", "devices"]), SPEC.child("devices"), errors);
}

pub(super) fn template(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    meta::check_maps(at(spec, "metadata"), SPEC.child("metadata"), errors);
    let inner = SPEC.child("spec");
    devices(below(spec, &["spec", "devices"]), inner.child("devices"), errors);
}

/// Requests by their names, with the names of their alternatives.
type Names<'a> = HashMap<&'a str, HashSet<&'a str>>;

fn names(devices: &Value) -> Names<'_> {
    let alternatives = |r| items(r, "firstAvailable").map(|s| text(s, "name")).collect();
    items(devices, "requests").map(|r| (text(r, "name"), alternatives(r))).collect()
}

fn devices(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let names = names(v);
    entries(v, "requests", ENTRIES_MAX, path, errors, request);
    unlike(v, "requests", "name", path, errors);
    entries(v, "constraints", ENTRIES_MAX, path, errors, |constraint, path, errors| {
        references(constraint, &names, path, errors);
        let which = ["matchAttribute", "distinctAttribute"].into_iter().find(|k| has(constraint, k));
        match which {
            Some(key) => qualified(text(constraint, key), path.child(key), Domain::Required, errors),
            None => errors.push(Cause::required(
                path,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            )),
        }
    });
    entries(v, "config", ENTRIES_MAX, path, errors, |config, path, errors| {
        references(config, &names, path, errors);
        configuration(config, path, errors);
    });
}

/// The requests that something is about.
fn references(v: &Value, names: &Names<'_>, path: Path<'_>, errors: &mut Errors) {
    entries(v, "requests", ENTRIES_MAX, path, errors, |name, path, errors| {
        reference(name.as_str().unwrap_or_default(), names, path, errors);
    });
    unlike(v, "requests", "", path, errors);
}

fn reference(name: &str, names: &Names<'_>, path: Path<'_>, errors: &mut Errors) {
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() <= 2 {
        parts.iter().for_each(|part| dns_label(part, path, errors));
    }
    let is_known = match parts.as_slice() {
        [request] => names.contains_key(request),
        [request, alternative] => names.get(request).is_some_and(|all| all.contains(alternative)),
        _ => false,
    };
    if !is_known {
        errors.push(Cause::invalid(path, name, REQUEST_NAME));
    }
}

fn request(request: &Value, path: Path<'_>, errors: &mut Errors) {
    dns_label(text(request, "name"), path.child("name"), errors);
    match (has(request, "exactly"), !is_empty(request, "firstAvailable")) {
        (false, false) => {
            errors.push(Cause::required(path, "exactly one of `exactly` or `firstAvailable` is required"));
        }
        (true, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(Cause::invalid(path, Value::Null, why));
        }
        (true, false) => wanted(at(request, "exactly"), path.child("exactly"), errors),
        (false, true) => {
            entries(request, "firstAvailable", ALTERNATIVES_MAX, path, errors, |v, path, errors| {
                dns_label(text(v, "name"), path.child("name"), errors);
                wanted(v, path, errors);
            });
            unlike(request, "firstAvailable", "name", path, errors);
        }
    }
}

/// Which devices, and how many.
fn wanted(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if let Some(class) = required_text(v, "deviceClassName", path, errors) {
        dns_subdomain(class, path.child("deviceClassName"), errors);
    }
    selectors(v, path, errors);
    let count = int(v, "count").unwrap_or(0);
    match text(v, "allocationMode") {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(Cause::invalid(path.child("count"), count, why));
        }
        "All" => {}
        "ExactCount" if count <= 0 => {
            errors.push(Cause::invalid(path.child("count"), count, "must be greater than zero"));
        }
        "ExactCount" => {}
        other => {
            errors.push(Cause::not_supported(path.child("allocationMode"), other, &["All", "ExactCount"]));
        }
    }
}

pub(super) fn claim_status(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, status) = (at(old, "status"), at(new, "status"));
    let list = STATUS.child("reservedFor");
    entries(status, "reservedFor", RESERVATIONS_MAX, STATUS, errors, |user, path, errors| {
        for key in ["resource", "name", "uid"] {
            required_text(user, key, path, errors);
        }
    });
    unlike(status, "reservedFor", "uid", STATUS, errors);
    let is_new = |user: &Value| !items(was, "reservedFor").any(|u| u == user);
    if !is_empty(status, "reservedFor") && !has(status, "allocation") {
        errors.push(Cause::forbidden(list, "may not be specified when `allocated` is not set"));
    } else if has(at(new, "metadata"), "deletionTimestamp") && items(status, "reservedFor").any(is_new) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(Cause::forbidden(list, why));
    }
    match (has(was, "allocation"), has(status, "allocation")) {
        (true, true) => immutable(was, status, STATUS.child("allocation"), "allocation", errors),
        (false, true) => allocation(new, at(status, "allocation"), STATUS.child("allocation"), errors),
        _ => {}
    }
}

fn allocation(claim: &Value, v: &Value, path: Path<'_>, errors: &mut Errors) {
    let names = names(below(claim, &["spec", "devices"]));
    let place = path.child("devices");
    entries(at(v, "devices"), "results", ENTRIES_MAX, place, errors, |result, path, errors| {
        reference(text(result, "request"), &names, path.child("request"), errors);
        driver(result, path, errors);
        pool_name(text(result, "pool"), path.child("pool"), errors);
        dns_label(text(result, "device"), path.child("device"), errors);
    });
    if has(v, "nodeSelector") {
        affinity::node_selector(at(v, "nodeSelector"), path.child("nodeSelector"), errors);
    }
}

fn pool_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Cause::required(path, ""));
        return;
    }
    if name.len() > POOL_LEN_MAX {
        errors.push(Cause::too_long(path, POOL_LEN_MAX));
    }
    name.split('/').for_each(|part| dns_subdomain(part, path, errors));
}

/// Whether a name must say whose it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Domain {
    Required,
    Optional,
}

/// The name of an attribute or a capacity: `domain/identifier`, or an identifier of the driver's own.
fn qualified(name: &str, path: Path<'_>, domain: Domain, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Cause::required(path, "name required"));
        return;
    }
    let identifier = match name.split_once('/') {
        None => name,
        Some((owner, identifier)) => {
            match owner {
                "" => errors.push(Cause::required(path, "the domain must not be empty")),
                owner => meta::driver_name(owner, path, errors),
            }
            if identifier.is_empty() {
                errors.push(Cause::required(path, "the name must not be empty"));
            }
            identifier
        }
    };
    if identifier.len() > IDENTIFIER_LEN_MAX {
        errors.push(Cause::too_long(path, IDENTIFIER_LEN_MAX));
    }
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_c =
        identifier.starts_with(is_letter) && identifier.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    if !identifier.is_empty() && !is_c {
        errors.push(Cause::type_invalid(path, identifier, C_IDENTIFIER));
    }
    if domain == Domain::Required && !name.contains('/') {
        errors.push(Cause::invalid(path, name, "must include a domain"));
    }
}

pub(super) fn slice(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    driver(spec, SPEC, errors);
    let (pool, place) = (at(spec, "pool"), SPEC.child("pool"));
    pool_name(text(pool, "name"), place.child("name"), errors);
    let number = |key: &str| int(pool, key).unwrap_or(0);
    if number("resourceSliceCount") <= 0 {
        let path = place.child("resourceSliceCount");
        errors.push(Cause::invalid(path, number("resourceSliceCount"), "must be greater than zero"));
    }
    if number("generation") < 0 {
        let path = place.child("generation");
        errors.push(Cause::invalid(path, number("generation"), "must be greater than or equal to zero"));
    }
    whose(spec, errors);
    if has(spec, "sharedCounters") && has(spec, "devices") {
        errors.push(Cause::invalid(SPEC, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let is_rich = |d: &Value| {
        let lists = ["bools", "ints", "strings", "versions"];
        !is_empty(d, "taints")
            || !is_empty(d, "consumesCounters")
            || pairs(d, "attributes").any(|(_, a)| lists.iter().any(|l| has(a, l)))
    };
    let len_max = if items(spec, "devices").any(is_rich) { DEVICES_RICH_MAX } else { DEVICES_MAX };
    entries(spec, "devices", len_max, SPEC, errors, |device, path, errors| {
        dns_label(text(device, "name"), path.child("name"), errors);
        let (attributes, capacity) = (path.child("attributes"), path.child("capacity"));
        for (name, value) in pairs(device, "attributes") {
            qualified(name, attributes, Domain::Optional, errors);
            attribute(value, attributes.key(name), errors);
        }
        for (name, _) in pairs(device, "capacity") {
            qualified(name, capacity, Domain::Optional, errors);
        }
    });
    unlike(spec, "devices", "name", SPEC, errors);
}

/// From which nodes the devices can be used.
fn whose(spec: &Value, errors: &mut Errors) {
    let mut set = Vec::new();
    match at(spec, "nodeName").as_str() {
        None => {}
        Some("") => {
            let why = "must be either unset or set to a non-empty string";
            errors.push(Cause::invalid(SPEC.child("nodeName"), "", why));
        }
        Some(name) => {
            set.push("`nodeName`");
            dns_subdomain(name, SPEC.child("nodeName"), errors);
        }
    }
    if has(spec, "nodeSelector") {
        set.push("`nodeSelector`");
        affinity::node_selector(at(spec, "nodeSelector"), SPEC.child("nodeSelector"), errors);
    }
    for (key, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match (has(spec, key), flag(spec, key)) {
            (true, true) => set.push(shown),
            (true, false) => {
                errors.push(Cause::invalid(SPEC.child(key), false, "must be either unset or set to true"));
            }
            (false, _) => {}
        }
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(Cause::required(SPEC, why)),
        1 => {}
        _ => {
            let why = format!("{why}, but multiple fields are set");
            errors.push(Cause::invalid(SPEC, format!("{{{}}}", set.join(", ")), &why));
        }
    }
}

fn attribute(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let kinds = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    for list in kinds[4..].iter().filter(|k| at(v, k).as_array().is_some_and(Vec::is_empty)) {
        let why = "must not be empty if specified";
        errors.push(Cause::invalid(path.child(list), at(v, list).clone(), why));
    }
    let why = "exactly one value must be specified";
    match kinds.iter().filter(|k| has(v, k)).count() {
        0 => errors.push(Cause::invalid(path, "", why)),
        1 => {}
        _ => errors.push(Cause::invalid(path, v.clone(), why)),
    }
    let texts_of = texts(v, "strings").chain(Some(text(v, "string")));
    if texts_of.into_iter().any(|t| t.len() > ATTRIBUTE_LEN_MAX) {
        errors.push(Cause::too_long(path.child("string"), ATTRIBUTE_LEN_MAX));
    }
}

const ATTRIBUTE_LEN_MAX: usize = 64;

pub(super) fn slice_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, spec) = (at(old, "spec"), at(new, "spec"));
    let pool = SPEC.child("pool");
    immutable(at(was, "pool"), at(spec, "pool"), pool.child("name"), "name", errors);
    for key in ["driver", "nodeName"] {
        immutable(was, spec, SPEC.child(key), key, errors);
    }
}
