//! Metadata: names as the kind wants them, labels, annotations, owners, finalizers.

use serde_json::Value;
use stoa_kube::{Cause, Resource};
use stoa_units::{
    NameError, check_dns_label, check_dns_subdomain, check_label_key, check_label_value, check_path_segment,
};

use super::field::{Errors, Path, dns_1035_label, dns_label, indexed, name_error};
use crate::value::{at, flag, int, text, texts};

/// Keys and values of all annotations together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const METADATA: Path<'static> = Path::root("metadata");

/// How a kind's objects may be called.
fn name_check(resource: &Resource) -> fn(&str) -> Result<(), NameError> {
    match (resource.group, resource.plural) {
        ("", "namespaces") | ("apps", "statefulsets") => check_dns_label,
        // Judged by its own rules.
        ("networking.k8s.io", "ipaddresses") => |_| Ok(()),
        ("policy", "poddisruptionbudgets") => check_path_segment,
        ("", "services") => dns_1035_label,
        (crate::RBAC_GROUP, _) | ("apiregistration.k8s.io", _) => check_path_segment,
        _ => check_dns_subdomain,
    }
}

/// Drivers of storage may have capitals in their names.
pub(super) fn check_driver(name: &str) -> Result<(), NameError> {
    if name.len() > LABEL_LEN_MAX {
        return Err(NameError("must be no more than 63 characters"));
    }
    check_dns_subdomain(&name.to_ascii_lowercase())
}

const LABEL_LEN_MAX: usize = 63;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let meta = at(object, "metadata");
    let check_name = name_check(resource);
    let prefix = text(meta, "generateName");
    if !prefix.is_empty() {
        // A dash at the end is fine where more follows.
        let masked = if prefix.len() > 1 && prefix.ends_with('-') {
            format!("{}a", &prefix[..prefix.len() - 1])
        } else {
            prefix.to_owned()
        };
        if let Err(e) = check_name(&masked) {
            errors.push(Cause::invalid(METADATA.child("generateName"), prefix, e.0));
        }
    }
    match text(meta, "name") {
        "" => errors.push(Cause::required(METADATA.child("name"), "name or generateName is required")),
        name => {
            if let Err(e) = check_name(name) {
                errors.push(Cause::invalid(METADATA.child("name"), name, e.0));
            }
        }
    }
    match (resource.namespaced, text(meta, "namespace")) {
        (true, "") => errors.push(Cause::required(METADATA.child("namespace"), "")),
        (true, namespace) => dns_label(namespace, METADATA.child("namespace"), errors),
        (false, "") => {}
        (false, _) => errors.push(Cause::forbidden(METADATA.child("namespace"), "not allowed on this type")),
    }
    check_maps(meta, METADATA, errors);
    owners(meta, errors);
    finalizers(meta, errors);
}

/// Labels and annotations, of an object or of a template.
pub(super) fn check_maps(meta: &Value, path: Path<'_>, errors: &mut Errors) {
    labels(at(meta, "labels"), path.child("labels"), errors);
    annotations(at(meta, "annotations"), path.child("annotations"), errors);
}

/// A map of labels, or a selector by labels.
pub(super) fn labels(map: &Value, path: Path<'_>, errors: &mut Errors) {
    for (key, value) in map.as_object().into_iter().flatten() {
        name_error(check_label_key(key), key, path, errors);
        let value = value.as_str().unwrap_or_default();
        name_error(check_label_value(value), value, path, errors);
    }
}

fn annotations(map: &Value, path: Path<'_>, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in map.as_object().into_iter().flatten() {
        // Keys of annotations may be written in capitals.
        name_error(check_label_key(&key.to_ascii_lowercase()), key, path, errors);
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(Cause::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
}

fn owners(meta: &Value, errors: &mut Errors) {
    let list = METADATA.child("ownerReferences");
    let mut controller: Option<&str> = None;
    for (i, owner) in indexed(meta, "ownerReferences") {
        let path = list.index(i);
        let (group, version) = match text(owner, "apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", text(owner, "apiVersion")),
        };
        if version.is_empty() {
            errors.push(Cause::invalid(
                path.child("apiVersion"),
                text(owner, "apiVersion"),
                "version must not be empty",
            ));
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                errors.push(Cause::invalid(path.child(key), "", "must not be empty"));
            }
        }
        if group.is_empty() && version == "v1" && text(owner, "kind") == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Cause::invalid(list, owner.clone(), why));
        }
        if flag(owner, "controller") {
            let name = text(owner, "name");
            if let Some(first) = controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                );
                errors.push(Cause::invalid(list, at(meta, "ownerReferences").clone(), &why));
            }
            controller = Some(name);
        }
    }
}

fn finalizers(meta: &Value, errors: &mut Errors) {
    let path = METADATA.child("finalizers");
    let (mut orphan, mut foreground) = (false, false);
    for finalizer in texts(meta, "finalizers") {
        name_error(check_label_key(finalizer), finalizer, path, errors);
        orphan |= finalizer == "orphan";
        foreground |= finalizer == "foregroundDeletion";
    }
    if orphan && foreground {
        let why = "finalizers orphan and foregroundDeletion cannot be both set";
        errors.push(Cause::invalid(path, at(meta, "finalizers").clone(), why));
    }
}

pub(super) fn check_update(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, meta) = (at(old, "metadata"), at(new, "metadata"));
    if !at(stored, "deletionTimestamp").is_null() {
        let mut fresh: Vec<&str> =
            texts(meta, "finalizers").filter(|f| !texts(stored, "finalizers").any(|x| x == *f)).collect();
        fresh.sort_unstable();
        if !fresh.is_empty() {
            let list: Vec<String> = fresh.iter().map(|f| format!("{f:?}")).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.push(Cause::forbidden(METADATA.child("finalizers"), &why));
        }
    }
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp"] {
        if at(stored, key) != at(meta, key) {
            errors.push(Cause::immutable(METADATA.child(key), at(meta, key).clone()));
        }
    }
    if int(stored, "deletionGracePeriodSeconds") != int(meta, "deletionGracePeriodSeconds") {
        let value = at(meta, "deletionGracePeriodSeconds").clone();
        errors.push(Cause::immutable(METADATA.child("deletionGracePeriodSeconds"), value));
    }
    // Names cannot have changed; what was stored with other rules must stay writable.
    check_maps(meta, METADATA, errors);
    owners(meta, errors);
    finalizers(meta, errors);
}
