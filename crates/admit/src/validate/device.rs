//! Devices: classes of them, claims on them, and what drivers offer. Expressions are taken as they are: nothing here evaluates them.

mod amounts;

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::{check_label_key, check_label_value};
use uuid::Uuid;

use super::field::{
    Errors, Path, conditions, dns_label, dns_subdomain, immutable, indexed, name_error, one_of, required_text,
};
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

/// Looks at the entries of a list that has a bound. Of one that is too long nothing else is said; returns whether it was not.
fn entries(
    v: &Value,
    key: &str,
    len_max: usize,
    path: Path<'_>,
    errors: &mut Errors,
    mut look: impl FnMut(&Value, Path<'_>, &mut Errors),
) -> bool {
    let (count, list) = (items(v, key).count(), path.child(key));
    if count > len_max {
        errors.push(Cause::too_many(list, count, len_max));
        return false;
    }
    for (i, entry) in indexed(v, key) {
        look(entry, list.index(i), errors);
    }
    true
}

/// Looks at the entries of a list that has a bound and in which each has a name of its own.
fn named_entries(
    v: &Value,
    (key, name): (&str, &str),
    len_max: usize,
    path: Path<'_>,
    errors: &mut Errors,
    look: impl FnMut(&Value, Path<'_>, &mut Errors),
) {
    if !entries(v, key, len_max, path, errors, look) {
        return;
    }
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

/// Judges a class; of what is as it was stored (`old`, or null) what it says inside is not judged again.
pub(super) fn class(old: &Value, object: &Value, errors: &mut Errors) {
    let (was, spec) = (at(old, "spec"), at(object, "spec"));
    let known = |key: &str| if at(was, key) == at(spec, key) { Known::Stored } else { Known::New };
    selectors(spec, known("selectors"), SPEC, errors);
    let params = known("config");
    entries(spec, "config", ENTRIES_MAX, SPEC, errors, |config, path, errors| {
        configuration(config, params, path, errors);
    });
    let key = "extendedResourceName";
    if has(spec, key) && !super::quota::is_extended(text(spec, key)) {
        let why = "must be a valid extended resource name";
        errors.push(Cause::invalid(SPEC.child(key), text(spec, key), why));
    }
}

/// Whether something has been judged before, by this version or an older one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    New,
    Stored,
}

fn selectors(v: &Value, known: Known, path: Path<'_>, errors: &mut Errors) {
    entries(v, "selectors", ENTRIES_MAX, path, errors, |selector, path, errors| {
        if !has(selector, "cel") {
            errors.push(Cause::required(path.child("cel"), ""));
        } else if known == Known::New {
            let cel = path.child("cel");
            expression(text(at(selector, "cel"), "expression"), cel.child("expression"), errors);
        }
    });
}

/// Whether a device is fit, in CEL.
fn expression(told: &str, path: Path<'_>, errors: &mut Errors) {
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

fn configuration(config: &Value, known: Known, path: Path<'_>, errors: &mut Errors) {
    let (opaque, path) = (at(config, "opaque"), path.child("opaque"));
    if opaque.is_null() {
        errors.push(Cause::required(path, ""));
        return;
    }
    driver(opaque, path, errors);
    json_object(at(opaque, "parameters"), known, path.child("parameters"), errors);
}

/// A driver's own object, which nobody else reads.
fn json_object(parameters: &Value, known: Known, path: Path<'_>, errors: &mut Errors) {
    let is_large = || known == Known::New && parameters.to_string().len() > PARAMETERS_BYTES_MAX;
    match parameters {
        Value::Null => errors.push(Cause::required(path, "")),
        Value::Object(_) if is_large() => {
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
    super::storage::template_metadata(at(spec, "metadata"), SPEC.child("metadata"), errors);
    let inner = SPEC.child("spec");
    devices(below(spec, &["spec", "devices"]), inner.child("devices"), errors);
}

/// What a namespace is labelled with whose claims may look into devices that are in use.
const ADMIN_ACCESS: &str = "resource.kubernetes.io/admin-access";

/// Access of an administrator's kind is for labelled namespaces; the first request that asks for it is told, once.
pub(super) fn admin_access(
    request: &crate::Request<'_>,
    old: Option<&Value>,
    new: &Value,
    world: &dyn crate::World,
    errors: &mut Errors,
) {
    let first = |all: Vec<&Value>| all.iter().position(|v| flag(v, "adminAccess"));
    let results = |o| items(below(o, &["status", "allocation", "devices"]), "results").collect();
    let spec = match request.resource.plural {
        "resourceclaims" => at(new, "spec"),
        "resourceclaimtemplates" => below(new, &["spec", "spec"]),
        _ => return,
    };
    let (place, found) = match (request.subresource, old) {
        ("status", Some(old)) if first(results(old)).is_none() => {
            ("status.allocation.devices.results", first(results(new)))
        }
        // What is asked for never changes.
        ("", None) => {
            let asked = items(at(spec, "devices"), "requests").map(|r| at(r, "exactly"));
            ("spec.devices.requests", first(asked.collect()))
        }
        _ => return,
    };
    let Some(i) = found else { return };
    let namespace = world.namespace(request.namespace);
    let label = |n: &Value| text(below(n, &["metadata", "labels"]), ADMIN_ACCESS) == "true";
    if !namespace.is_some_and(|n| label(&n)) {
        let why = format!(
            "admin access to devices requires the `{ADMIN_ACCESS}: true` label on the containing namespace"
        );
        errors.push(Cause::forbidden(format!("{place}[{i}].adminAccess"), &why));
    }
}

/// Requests by their names, with the names of their alternatives.
type Names<'a> = HashMap<&'a str, HashSet<&'a str>>;

fn names(devices: &Value) -> Names<'_> {
    let alternatives = |r| items(r, "firstAvailable").map(|s| text(s, "name")).collect();
    items(devices, "requests").map(|r| (text(r, "name"), alternatives(r))).collect()
}

fn devices(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let names = names(v);
    named_entries(v, ("requests", "name"), ENTRIES_MAX, path, errors, request);
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
        configuration(config, Known::New, path, errors);
    });
}

/// The requests that something is about.
fn references(v: &Value, names: &Names<'_>, path: Path<'_>, errors: &mut Errors) {
    named_entries(v, ("requests", ""), ENTRIES_MAX, path, errors, |name, path, errors| {
        reference(name.as_str().unwrap_or_default(), names, path, errors);
    });
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
            let list = ("firstAvailable", "name");
            named_entries(request, list, ALTERNATIVES_MAX, path, errors, |v, path, errors| {
                dns_label(text(v, "name"), path.child("name"), errors);
                wanted(v, path, errors);
            });
        }
    }
}

/// Which devices, and how many.
fn wanted(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if let Some(class) = required_text(v, "deviceClassName", path, errors) {
        dns_subdomain(class, path.child("deviceClassName"), errors);
    }
    selectors(v, Known::New, path, errors);
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
    let list = path.child("tolerations");
    for (i, t) in indexed(v, "tolerations") {
        toleration(t, list.index(i), errors);
    }
}

/// What a taint keeps away.
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

fn toleration(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let (key, value) = (text(v, "key"), text(v, "value"));
    if !key.is_empty() {
        name_error(check_label_key(key), key, path.child("key"), errors);
    }
    match text(v, "operator") {
        "Exists" if !value.is_empty() => {
            errors.push(Cause::invalid(path.child("value"), value, "must be empty for operator `Exists`"));
        }
        "Exists" => {}
        "Equal" => name_error(check_label_value(value), value, path.child("value"), errors),
        "" => errors.push(Cause::required(path.child("operator"), "")),
        other => errors.push(Cause::not_supported(path.child("operator"), other, &["Equal", "Exists"])),
    }
    let effect = text(v, "effect");
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        errors.push(Cause::not_supported(path.child("effect"), effect, &EFFECTS));
    }
}

fn taint(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let (key, value) = (text(v, "key"), text(v, "value"));
    name_error(check_label_key(key), key, path.child("key"), errors);
    if !value.is_empty() {
        name_error(check_label_value(value), value, path.child("value"), errors);
    }
    one_of(v, "effect", &EFFECTS, path, errors);
}

/// What must come true before a device is used, and what must not: both or neither, and nothing in both.
fn bindings(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let keys = ["bindingConditions", "bindingFailureConditions"];
    let mut fits = true;
    for key in keys {
        fits &= entries(v, key, BINDINGS_MAX, path, errors, |name, path, errors| {
            let name = name.as_str().unwrap_or_default();
            name_error(check_label_key(name), name, path, errors);
        });
    }
    let needed: HashSet<&str> = texts(v, keys[0]).collect();
    for key in keys.into_iter().filter(|_| fits) {
        let (list, mut seen) = (path.child(key), HashSet::new());
        for (i, name) in texts(v, key).enumerate() {
            if !seen.insert(name) {
                errors.push(Cause::duplicate(list.index(i), name));
            }
            if key == keys[1] && needed.contains(name) {
                let why = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(Cause::invalid(list.index(i), name, why));
            }
        }
    }
    for (key, other) in [(keys[0], keys[1]), (keys[1], keys[0])] {
        if is_empty(v, key) && !is_empty(v, other) {
            let why = format!("{key} are required to use {other}");
            errors.push(Cause::invalid(path.child(key), at(v, key).clone(), &why));
        }
    }
}

/// Lengths of an id: plain, in its usual form, in braces, as a URN.
const UUID_LENS: [usize; 4] = [32, 36, 38, 45];

/// An id in the one form that is written.
fn uid(value: &str, path: Path<'_>, errors: &mut Errors) {
    let why = match Uuid::try_parse(value) {
        Ok(id) if id.to_string() == value => return,
        Ok(_) => "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters".to_owned(),
        Err(_) if UUID_LENS.contains(&value.len()) => "error validating uid: invalid UUID format".to_owned(),
        Err(_) => format!("error validating uid: invalid UUID length: {}", value.len()),
    };
    errors.push(Cause::invalid(path, value, &why));
}

pub(super) fn claim_status(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, status) = (at(old, "status"), at(new, "status"));
    let list = STATUS.child("reservedFor");
    named_entries(status, ("reservedFor", "uid"), RESERVATIONS_MAX, STATUS, errors, |user, path, errors| {
        for key in ["resource", "name", "uid"] {
            required_text(user, key, path, errors);
        }
    });
    device_statuses(status, errors);
    let before: HashSet<&Value> = items(was, "reservedFor").collect();
    let is_new = |user: &Value| !before.contains(user);
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
        bindings(result, path, errors);
        if has(result, "shareID") {
            uid(text(result, "shareID"), path.child("shareID"), errors);
        }
    });
    // What the class says and what the claim says.
    entries(at(v, "devices"), "config", 2 * ENTRIES_MAX, place, errors, |config, path, errors| {
        one_of(config, "source", &["FromClaim", "FromClass"], path, errors);
        references(config, &names, path, errors);
        configuration(config, Known::New, path, errors);
    });
    if has(v, "nodeSelector") {
        affinity::node_selector(at(v, "nodeSelector"), path.child("nodeSelector"), errors);
    }
}

/// Which device of which driver's pool, and which share of it.
fn device_id(v: &Value) -> String {
    let id = format!("{}/{}/{}", text(v, "driver"), text(v, "pool"), text(v, "device"));
    if has(v, "shareID") { format!("{id}/{}", text(v, "shareID")) } else { id }
}

/// What drivers tell of the devices that a claim was given.
fn device_statuses(status: &Value, errors: &mut Errors) {
    let given = items(below(status, &["allocation", "devices"]), "results");
    let given: HashSet<String> = given.map(device_id).collect();
    let list = STATUS.child("devices");
    for (i, device) in indexed(status, "devices") {
        let path = list.index(i);
        driver(device, path, errors);
        pool_name(text(device, "pool"), path.child("pool"), errors);
        dns_label(text(device, "device"), path.child("device"), errors);
        if has(device, "shareID") {
            uid(text(device, "shareID"), path.child("shareID"), errors);
        }
        if !given.contains(&device_id(device)) {
            let parts = ["driver", "pool", "device", "shareID"].map(|key| Value::from(text(device, key)));
            let [driver, pool, device, share] = parts;
            // As Go prints the four.
            let shown = format!(r#"{{"Driver":{driver},"Pool":{pool},"Device":{device},"ShareID":{share}}}"#);
            let message = format!("Invalid value: {shown}: must be an allocated device in the claim");
            errors.push(Cause::new("FieldValueInvalid", path, message));
        }
        let count = items(device, "conditions").count();
        if count > CONDITIONS_MAX {
            errors.push(Cause::too_many(path.child("conditions"), count, CONDITIONS_MAX));
        }
        conditions(at(device, "conditions"), path.child("conditions"), errors);
        if has(device, "data") {
            json_object(at(device, "data"), Known::New, path.child("data"), errors);
        }
        let (network, path) = (at(device, "networkData"), path.child("networkData"));
        for (key, bytes_max) in [("interfaceName", 256), ("hardwareAddress", 128)] {
            if text(network, key).len() > bytes_max {
                errors.push(Cause::too_long(path.child(key), bytes_max));
            }
        }
        named_entries(network, ("ips", ""), ADDRESSES_MAX, path, errors, |address, path, errors| {
            interface_address(address.as_str().unwrap_or_default(), path, errors);
        });
    }
    let mut seen = HashSet::new();
    for (i, device) in indexed(status, "devices") {
        let id = device_id(device);
        if seen.contains(&id) {
            errors.push(Cause::duplicate(list.index(i), id));
        } else {
            seen.insert(id);
        }
    }
}

/// An address and the length of its network, in their one form.
fn interface_address(value: &str, path: Path<'_>, errors: &mut Errors) {
    let why = match value.parse::<ipnet::IpNet>() {
        Err(_) => "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned(),
        Ok(net) if net.to_string() != value => format!("must be in canonical form (\"{net}\")"),
        Ok(_) => return,
    };
    errors.push(Cause::invalid(path, value, &why));
}

/// Conditions that a driver may tell of one device, and addresses.
const CONDITIONS_MAX: usize = 8;
const ADDRESSES_MAX: usize = 16;
const BINDINGS_MAX: usize = 4;

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
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [identifier] => c_identifier(identifier, path, errors),
        [owner, identifier] => {
            match owner {
                "" => errors.push(Cause::invalid(path, "", "the domain must not be empty")),
                owner => meta::driver_name(owner, path, errors),
            }
            match identifier {
                "" => errors.push(Cause::invalid(path, "", "the name must not be empty")),
                identifier => c_identifier(identifier, path, errors),
            }
        }
        // A stock server lets more parts pass.
        _ => {}
    }
    if domain == Domain::Required && !name.contains('/') {
        let why = "a fully qualified name must be a domain and a name separated by a slash";
        errors.push(Cause::invalid(path, name, why));
    }
}

fn c_identifier(identifier: &str, path: Path<'_>, errors: &mut Errors) {
    if identifier.len() > IDENTIFIER_LEN_MAX {
        errors.push(Cause::too_long(path, IDENTIFIER_LEN_MAX));
    }
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_c =
        identifier.starts_with(is_letter) && identifier.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    if !is_c {
        errors.push(Cause::invalid(path, identifier, C_IDENTIFIER));
    }
}

/// Judges a slice beside what it was (`old`, or null).
pub(super) fn slice(old: &Value, object: &Value, errors: &mut Errors) {
    let (was, spec) = (at(old, "spec"), at(object, "spec"));
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
    if !old.is_null() {
        immutable(at(was, "pool"), pool, place.child("name"), "name", errors);
        for key in ["driver", "nodeName"] {
            immutable(was, spec, SPEC.child(key), key, errors);
        }
    }
    whose(spec, errors);
    if has(spec, "sharedCounters") && has(spec, "devices") {
        errors.push(Cause::invalid(SPEC, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let is_rich = |d: &Value| {
        !is_empty(d, "taints")
            || !is_empty(d, "consumesCounters")
            || pairs(d, "attributes").any(|(_, a)| LISTS.iter().any(|l| has(a, l)))
    };
    let len_max = if items(spec, "devices").any(is_rich) { DEVICES_RICH_MAX } else { DEVICES_MAX };
    let is_apart = flag(spec, "perDeviceNodeSelection");
    named_entries(spec, ("devices", "name"), len_max, SPEC, errors, |device, path, errors| {
        let before = items(was, "devices").find(|d| text(d, "name") == text(device, "name"));
        self::device(before, device, is_apart, path, errors);
    });
    named_entries(spec, ("sharedCounters", "name"), COUNTER_SETS_MAX, SPEC, errors, |set, path, errors| {
        counters(set, "name", path, errors);
    });
}

/// Attributes and amounts of one device, and the values of all its attributes; sets of counters of a slice, those that a device
/// draws on, and the counters of a set.
const PROPERTIES_MAX: usize = 32;
const VALUES_MAX: usize = 48;
const COUNTER_SETS_MAX: usize = 8;
const COUNTER_SETS_OF_DEVICE_MAX: usize = 2;
const COUNTERS_MAX: usize = 32;
const TAINTS_MAX: usize = 16;

fn device(before: Option<&Value>, device: &Value, is_apart: bool, path: Path<'_>, errors: &mut Errors) {
    dns_label(text(device, "name"), path.child("name"), errors);
    let count = pairs(device, "attributes").count() + pairs(device, "capacity").count();
    if count > PROPERTIES_MAX {
        let why = format!("the total number of attributes and capacities must not exceed {PROPERTIES_MAX}");
        errors.push(Cause::invalid(path, count, &why));
    }
    let values = pairs(device, "attributes").map(|(_, a)| value_count(a)).sum::<usize>();
    if values > VALUES_MAX {
        let why = format!("the total number of attribute values must not exceed {VALUES_MAX}");
        errors.push(Cause::invalid(path, values, &why));
    }
    let (attributes, capacity) = (path.child("attributes"), path.child("capacity"));
    for (name, value) in pairs(device, "attributes") {
        qualified(name, attributes, Domain::Optional, errors);
        attribute(value, attributes.key(name), errors);
    }
    for (name, value) in pairs(device, "capacity") {
        qualified(name, capacity, Domain::Optional, errors);
        let amount = capacity.key(name);
        match (has(value, "requestPolicy"), flag(device, "allowMultipleAllocations")) {
            (false, _) => {}
            (true, true) => amounts::policy(value, amount.child("requestPolicy"), errors),
            (true, false) => {
                let why = "allowMultipleAllocations must be true";
                errors.push(Cause::forbidden(amount.child("requestPolicy"), why));
            }
        }
    }
    // What a taint does may be known to a newer version alone: as it was stored, it stays.
    if before.is_none_or(|b| at(b, "taints") != at(device, "taints")) {
        entries(device, "taints", TAINTS_MAX, path, errors, taint);
    }
    let drawn = ("consumesCounters", "counterSet");
    named_entries(device, drawn, COUNTER_SETS_OF_DEVICE_MAX, path, errors, |set, path, errors| {
        counters(set, "counterSet", path, errors);
    });
    from_nodes(device, is_apart, path, errors);
    bindings(device, path, errors);
}

/// A set of counters, by its name.
fn counters(set: &Value, name: &str, path: Path<'_>, errors: &mut Errors) {
    match text(set, name) {
        "" => errors.push(Cause::required(path.child(name), "")),
        id => dns_label(id, path.child(name), errors),
    }
    let (all, path) = (pairs(set, "counters"), path.child("counters"));
    match all.count() {
        0 => errors.push(Cause::required(path, "")),
        n if n > COUNTERS_MAX => errors.push(Cause::too_many(path, n, COUNTERS_MAX)),
        _ => pairs(set, "counters").for_each(|(id, _)| dns_label(id, path, errors)),
    }
}

/// From which nodes a device can be used, where each says so itself.
fn from_nodes(device: &Value, is_apart: bool, path: Path<'_>, errors: &mut Errors) {
    let keys = ["nodeName", "nodeSelector", "allNodes"];
    if !is_apart {
        if keys.iter().any(|key| has(device, key)) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            errors.push(Cause::invalid(path, Value::Null, why));
        }
        return;
    }
    let mut set = Vec::new();
    match at(device, "nodeName").as_str() {
        None => {}
        Some("") => errors.push(Cause::invalid(path.child("nodeName"), "", "must not be empty")),
        Some(name) => {
            set.push("`nodeName`");
            dns_subdomain(name, path.child("nodeName"), errors);
        }
    }
    if has(device, "nodeSelector") {
        set.push("`nodeSelector`");
        affinity::node_selector(at(device, "nodeSelector"), path.child("nodeSelector"), errors);
    }
    match (has(device, "allNodes"), flag(device, "allNodes")) {
        (true, true) => set.push("`allNodes`"),
        (true, false) => {
            errors.push(Cause::invalid(path.child("allNodes"), false, "must be either unset or set to true"));
        }
        (false, _) => {}
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match set.len() {
        0 => errors.push(Cause::required(path, why)),
        1 => {}
        _ => errors.push(Cause::invalid(path, format!("{{{}}}", set.join(", ")), why)),
    }
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
        let (selector, path) = (at(spec, "nodeSelector"), SPEC.child("nodeSelector"));
        affinity::node_selector(selector, path, errors);
        if items(selector, "nodeSelectorTerms").count() != 1 {
            let (terms, why) =
                (at(selector, "nodeSelectorTerms"), "must have exactly one node selector term");
            let print = |term: &Value| super::internal::print(term, "core.v1.NodeSelectorTerm");
            let shown: Vec<String> = terms.as_array().into_iter().flatten().map(print).collect();
            let message = format!("Invalid value: [{}]: {why}", shown.join(","));
            errors.push(Cause::new("FieldValueInvalid", path.child("nodeSelectorTerms"), message));
        }
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

/// In which form an attribute may say what it says: one value, or a list of them.
const SCALARS: [&str; 4] = ["bool", "int", "string", "version"];
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// How many values an attribute has; one that says nothing counts as well.
fn value_count(v: &Value) -> usize {
    match LISTS.iter().map(|list| items(v, list).count()).sum() {
        0 => 1,
        many => many,
    }
}

fn attribute(v: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["string", "version"] {
        if let Some(value) = at(v, key).as_str() {
            attribute_text(key, value, path.child(key), errors);
        }
    }
    for list in LISTS {
        let place = path.child(list);
        if at(v, list).as_array().is_some_and(Vec::is_empty) {
            errors.push(Cause::invalid(place, at(v, list).clone(), "must not be empty if specified"));
        }
        for (i, value) in texts(v, list).enumerate() {
            attribute_text(list, value, place.index(i), errors);
        }
    }
    let why = "exactly one value must be specified";
    match SCALARS.iter().chain(&LISTS).filter(|k| has(v, k)).count() {
        0 => errors.push(Cause::invalid(path, "", why)),
        1 => {}
        _ => {
            let forms = ["int", "bool", "string", "version", "ints", "bools", "strings", "versions"];
            let names = [
                "IntValue",
                "BoolValue",
                "StringValue",
                "VersionValue",
                "IntValues",
                "BoolValues",
                "StringValues",
                "VersionValues",
            ];
            let shown = forms.iter().zip(names).map(|(form, go)| format!("\"{go}\":{}", at(v, form)));
            let shown: Vec<String> = shown.collect();
            let message = format!("Invalid value: {{{}}}: {why}", shown.join(","));
            errors.push(Cause::new("FieldValueInvalid", path, message));
        }
    }
}

fn attribute_text(key: &str, value: &str, path: Path<'_>, errors: &mut Errors) {
    if key.starts_with("version") && !is_version(value) {
        errors.push(Cause::invalid(path, value, "must be a string compatible with semver.org spec 2.0.0"));
    }
    if value.len() > ATTRIBUTE_LEN_MAX {
        errors.push(Cause::too_long(path, ATTRIBUTE_LEN_MAX));
    }
}

/// Whether a text is a semantic version: three numbers, then perhaps what comes before it, then perhaps its build.
fn is_version(text: &str) -> bool {
    let is_number = |t: &str| {
        let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        digits && (t == "0" || !t.starts_with('0'))
    };
    let is_word = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let parts: Vec<&str> = core.split('.').collect();
    // A word of digits alone is a number.
    let fits = |t: &str| is_word(t) && (is_number(t) || t.bytes().any(|b| !b.is_ascii_digit()));
    parts.len() == 3
        && parts.into_iter().all(is_number)
        && before.is_none_or(|all| all.split('.').all(fits))
        && build.is_none_or(|all| all.split('.').all(is_word))
}

const ATTRIBUTE_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_semantic() {
        for good in
            ["0.0.0", "1.2.3", "10.20.30", "1.0.0-alpha.1", "1.0.0-0a.-", "1.0.0+001.b-", "1.0.0-x.7+exp.sha"]
        {
            assert!(is_version(good), "{good}");
        }
        for bad in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3+",
            "1.2.3-a..b",
            "v1.2.3",
            "1.2.3 ",
            "1.2.3-ä",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
