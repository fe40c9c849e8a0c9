//! Storage drivers and what they tell: drivers, nodes, capacities, attachments and classes of volume attributes.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::field::{
    Errors, NOT_NEGATIVE, Path, dns_subdomain, immutable, indexed, int_at_least, name_error, quantity,
    required_text,
};
use super::{meta, selector};
use crate::value::{at, has, int, is_empty, text, texts};

const SPEC: Path<'static> = Path::root("spec");

/// A driver's name where it is referred to.
fn driver_name(v: &Value, key: &str, path: Path<'_>, errors: &mut Errors) {
    if let Some(name) = required_text(v, key, path, errors) {
        name_error(meta::check_driver(name), name, path.child(key), errors);
    }
}

/// Tokens for drivers live at least ten minutes.
const TOKEN_SECONDS_MIN: i64 = 600;
/// Shortest period in which a driver may change how many volumes its nodes take.
const ALLOCATABLE_SECONDS_MIN: i64 = 10;

pub(super) fn driver(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    super::field::optional_one_of(spec, "fsGroupPolicy", &policies, SPEC, errors);
    let requests = SPEC.child("tokenRequests");
    let mut audiences = HashSet::new();
    for (i, request) in indexed(spec, "tokenRequests") {
        let path = requests.index(i);
        if !audiences.insert(text(request, "audience")) {
            errors.push(Cause::duplicate(path.child("audience"), text(request, "audience")));
        }
        if let Some(seconds) = int(request, "expirationSeconds").filter(|s| *s < TOKEN_SECONDS_MIN) {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(Cause::invalid(path.child("expirationSeconds"), seconds, why));
        }
    }
    let modes = SPEC.child("volumeLifecycleModes");
    for mode in texts(spec, "volumeLifecycleModes").filter(|m| !matches!(*m, "Ephemeral" | "Persistent")) {
        errors.push(Cause::not_supported(modes, mode, &["Ephemeral", "Persistent"]));
    }
    int_at_least(spec, "nodeAllocatableUpdatePeriodSeconds", ALLOCATABLE_SECONDS_MIN, SPEC, errors);
}

pub(super) fn driver_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    immutable(stored, spec, SPEC.child("attachedRequired"), "attachRequired", errors);
    immutable(stored, spec, SPEC.child("volumeLifecycleModes"), "volumeLifecycleModes", errors);
}

/// As long as the storage interface allows.
const NODE_ID_LEN_MAX: usize = 256;

pub(super) fn node(object: &Value, errors: &mut Errors) {
    let list = SPEC.child("drivers");
    let mut names = HashSet::new();
    for (i, driver) in indexed(at(object, "spec"), "drivers") {
        let path = list.index(i);
        driver_name(driver, "name", path, errors);
        if let Some(id) = required_text(driver, "nodeID", path, errors)
            && id.len() > NODE_ID_LEN_MAX
        {
            let why = format!("must be {NODE_ID_LEN_MAX} characters or less");
            errors.push(Cause::invalid(path.child("nodeID"), id, &why));
        }
        let allocatable = path.child("allocatable");
        super::field::not_negative(at(driver, "allocatable"), "count", allocatable, errors);
        if !names.insert(text(driver, "name")) {
            errors.push(Cause::duplicate(path.child("name"), text(driver, "name")));
        }
        let keys = path.child("topologyKeys");
        let mut seen = HashSet::new();
        for (j, key) in texts(driver, "topologyKeys").enumerate() {
            name_error(stoa_units::check_label_key(key), key, keys, errors);
            if !seen.insert(key) {
                errors.push(Cause::duplicate(keys.index(j), key));
            }
        }
    }
}

pub(super) fn node_change(old: &Value, new: &Value, errors: &mut Errors) {
    let list = SPEC.child("drivers");
    for (i, driver) in indexed(at(new, "spec"), "drivers") {
        let was = indexed(at(old, "spec"), "drivers").find(|(_, d)| text(d, "name") == text(driver, "name"));
        let fixed = |d: &Value| (at(d, "nodeID").clone(), at(d, "topologyKeys").clone());
        if was.is_some_and(|(_, d)| fixed(d) != fixed(driver)) {
            errors.push(Cause::immutable(list.index(i), driver.clone()));
        }
    }
}

pub(super) fn capacity(object: &Value, errors: &mut Errors) {
    selector::check(at(object, "nodeTopology"), Path::root("nodeTopology"), errors);
    dns_subdomain(text(object, "storageClassName"), Path::root("storageClassName"), errors);
    for key in ["capacity", "maximumVolumeSize"] {
        if quantity(object, key).is_some_and(|q| q.is_negative()) {
            errors.push(Cause::invalid(key, at(object, key).clone(), NOT_NEGATIVE));
        }
    }
}

pub(super) fn capacity_change(old: &Value, new: &Value, errors: &mut Errors) {
    for key in ["nodeTopology", "storageClassName"] {
        immutable(old, new, Path::root(key), key, errors);
    }
}

pub(super) fn attachment(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    driver_name(spec, "attacher", SPEC, errors);
    let source = at(spec, "source");
    let at_source = SPEC.child("source");
    let named = !is_empty(source, "persistentVolumeName");
    if !named && !has(source, "inlineVolumeSpec") {
        let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        errors.push(Cause::required(at_source, why));
    } else if named && has(source, "inlineVolumeSpec") {
        let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        errors.push(Cause::forbidden(at_source, why));
    } else if named {
        let name = text(source, "persistentVolumeName");
        dns_subdomain(name, at_source.child("persistentVolumeName"), errors);
    }
    dns_subdomain(text(spec, "nodeName"), SPEC.child("nodeName"), errors);
}

pub(super) fn attachment_change(old: &Value, new: &Value, errors: &mut Errors) {
    if at(old, "spec") != at(new, "spec") {
        errors.push(Cause::immutable(SPEC, at(new, "spec").clone()));
    }
}

/// Parameters of a class, keys and values together.
const PARAMETERS_LEN_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;

/// Parameters of a storage class or a class of attributes.
pub(super) fn parameters(object: &Value, errors: &mut Errors) {
    let map = at(object, "parameters").as_object();
    let count = map.map_or(0, serde_json::Map::len);
    if count > PARAMETERS_LEN_MAX {
        errors.push(Cause::too_long("parameters", PARAMETERS_LEN_MAX));
        return;
    }
    let mut bytes = 0;
    for (key, value) in map.into_iter().flatten() {
        if key.is_empty() {
            let why = "field can not be empty.";
            errors.push(Cause::invalid("parameters", key.as_str(), why));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > PARAMETERS_BYTES_MAX {
        errors.push(Cause::too_long("parameters", PARAMETERS_BYTES_MAX));
    }
}

pub(super) fn attributes_class(object: &Value, errors: &mut Errors) {
    if text(object, "driverName").is_empty() {
        errors.push(Cause::required("driverName", ""));
    } else {
        let name = text(object, "driverName");
        name_error(meta::check_driver(name), name, Path::root("driverName"), errors);
    }
    if is_empty(object, "parameters") {
        errors.push(Cause::required("parameters", "must contain at least one key/value pair"));
    }
    parameters(object, errors);
}

pub(super) fn attributes_class_change(old: &Value, new: &Value, errors: &mut Errors) {
    for key in ["driverName", "parameters"] {
        if at(old, key) != at(new, key) {
            errors.push(Cause::forbidden(key, &format!("updates to {key} are forbidden.")));
        }
    }
}
