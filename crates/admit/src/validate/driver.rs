//! Storage drivers and what they tell: drivers, nodes, capacities, attachments and classes of volume attributes.

use serde_json::Value;
use std::collections::{HashMap, HashSet};
use stoa_kube::Cause;

use super::field::{
    Errors, NOT_NEGATIVE, Path, dns_subdomain, immutable, indexed, name_error, quantity, required_text,
};
use super::{internal, meta, selector};
use crate::value::{at, has, int, is_empty, pairs, text, texts};

const SPEC: Path<'static> = Path::root("spec");

/// A driver's name where it is referred to.
fn driver_name(v: &Value, key: &str, path: Path<'_>, errors: &mut Errors) {
    meta::driver_name(text(v, key), path.child(key), errors);
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
            continue;
        }
        let why = match int(request, "expirationSeconds") {
            Some(n) if n < TOKEN_SECONDS_MIN => "may not specify a duration less than 10 minutes",
            Some(n) if n > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        errors.push(Cause::invalid(
            path.child("expirationSeconds"),
            at(request, "expirationSeconds").clone(),
            why,
        ));
    }
    let modes = SPEC.child("volumeLifecycleModes");
    for mode in texts(spec, "volumeLifecycleModes").filter(|m| !matches!(*m, "Ephemeral" | "Persistent")) {
        errors.push(Cause::not_supported(modes, mode, &["Persistent", "Ephemeral"]));
    }
    let key = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(n) = int(spec, key).filter(|n| *n < ALLOCATABLE_SECONDS_MIN) {
        let why = format!("must be greater than or equal to {ALLOCATABLE_SECONDS_MIN} seconds");
        errors.push(Cause::invalid(SPEC.child(key), n, &why));
    }
    let key = "serviceAccountTokenInSecrets";
    if has(spec, key) && is_empty(spec, "tokenRequests") {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(Cause::invalid(SPEC.child(key), at(spec, key).clone(), why));
    }
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
        // Told of the driver as a whole, as the stock server does.
        let mut seen = HashSet::new();
        for key in texts(driver, "topologyKeys") {
            if key.is_empty() {
                errors.push(Cause::required(path, ""));
            }
            if !seen.insert(key) {
                errors.push(Cause::duplicate(path, key));
            }
            name_error(stoa_units::check_label_key(key), key, path, errors);
        }
    }
}

pub(super) fn node_change(old: &Value, new: &Value, errors: &mut Errors) {
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        crate::value::remove(&mut driver, "allocatable");
        driver
    };
    let mut by_name: HashMap<&str, Vec<&Value>> = HashMap::new();
    for (_, driver) in indexed(at(new, "spec"), "drivers") {
        by_name.entry(text(driver, "name")).or_default().push(driver);
    }
    for (_, was) in indexed(at(old, "spec"), "drivers") {
        let now = by_name.get(text(was, "name")).into_iter().flatten();
        for is in now.filter(|is| fixed(was) != fixed(is)) {
            let path = SPEC.child("drivers");
            let type_name = "storage.v1.CSINodeDriver";
            errors.push(internal::invalid(path, &fixed(is), type_name, "field is immutable"));
        }
    }
}

pub(super) fn capacity(object: &Value, errors: &mut Errors) {
    selector::check(at(object, "nodeTopology"), Path::root("nodeTopology"), errors);
    dns_subdomain(text(object, "storageClassName"), Path::root("storageClassName"), errors);
    if quantity(object, "capacity").is_some_and(|q| q.is_negative()) {
        errors.push(Cause::invalid("capacity", at(object, "capacity").clone(), NOT_NEGATIVE));
    }
}

pub(super) fn capacity_change(old: &Value, new: &Value, errors: &mut Errors) {
    let topology = Path::root("nodeTopology");
    internal::immutable(old, new, "nodeTopology", topology, "apis.meta.v1.LabelSelector", errors);
    immutable(old, new, Path::root("storageClassName"), "storageClassName", errors);
}

pub(super) fn attachment(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    required_text(spec, "attacher", SPEC, errors);
    let source = at(spec, "source");
    let at_source = SPEC.child("source");
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (has(source, "persistentVolumeName"), has(source, "inlineVolumeSpec")) {
        (false, false) => errors.push(Cause::required(at_source, why)),
        (true, true) => errors.push(Cause::forbidden(at_source, why)),
        (true, false) if is_empty(source, "persistentVolumeName") => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(Cause::required(at_source.child("persistentVolumeName"), why));
        }
        (false, true) => {
            let inline = at_source.child("inlineVolumeSpec");
            super::storage::inline_volume(at(source, "inlineVolumeSpec"), inline, errors);
        }
        _ => {}
    }
    dns_subdomain(text(spec, "nodeName"), SPEC.child("nodeName"), errors);
    attachment_status(object, errors);
}

/// What attaching or detaching has come to.
pub(super) fn attachment_status(object: &Value, errors: &mut Errors) {
    const STATUS: Path<'static> = Path::root("status");
    let status = at(object, "status");
    let metadata = pairs(status, "attachmentMetadata");
    let bytes: usize = metadata.map(|(key, v)| key.len() + v.as_str().map_or(0, str::len)).sum();
    if bytes > METADATA_BYTES_MAX {
        errors.push(Cause::too_long(STATUS.child("attachmentMetadata"), METADATA_BYTES_MAX));
    }
    for key in ["attachError", "detachError"] {
        let (error, path) = (at(status, key), STATUS.child(key));
        if text(error, "message").len() > ERROR_BYTES_MAX {
            // A stock server tells of the other bound.
            errors.push(Cause::too_long(path.child("message"), METADATA_BYTES_MAX));
        }
        if let Some(code) = int(error, "errorCode").filter(|n| *n < 0) {
            let why = super::field::range_message(0, i64::from(i32::MAX));
            errors.push(Cause::invalid(path.child("errorCode"), code, &why));
        }
    }
}

/// What a driver says of an attachment, and what it says of its failure.
const METADATA_BYTES_MAX: usize = 256 * 1024;
const ERROR_BYTES_MAX: usize = 1024;

/// A new attachment's names are those of drivers and volumes.
pub(super) fn new_attachment(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    // That there is none has been told.
    if !is_empty(spec, "attacher") {
        driver_name(spec, "attacher", SPEC, errors);
    }
    let source = at(spec, "source");
    if has(source, "persistentVolumeName") {
        let path = SPEC.child("source");
        dns_subdomain(text(source, "persistentVolumeName"), path.child("persistentVolumeName"), errors);
    }
}

pub(super) fn attachment_change(old: &Value, new: &Value, errors: &mut Errors) {
    internal::immutable(old, new, "spec", SPEC, "storage.v1.VolumeAttachmentSpec", errors);
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
    super::storage::provisioner(object, "driverName", errors);
    parameters(object, errors);
    if is_empty(object, "parameters") {
        errors.push(Cause::required("parameters", "must contain at least one key/value pair"));
    }
}

pub(super) fn attributes_class_change(old: &Value, new: &Value, errors: &mut Errors) {
    for key in ["driverName", "parameters"] {
        if at(old, key) != at(new, key) {
            errors.push(Cause::forbidden(key, &format!("updates to {key} are forbidden.")));
        }
    }
}
