//! Metadata: names as the kind wants them, labels, annotations, owners, finalizers.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::{Cause, Resource};
use stoa_units::{
    NameError, check_dns_label, check_dns_subdomain, check_label_key, check_label_value, check_path_segment,
};

use super::field::{Errors, Path, dns_label, name_error, not_negative};
use crate::value::{at, flag, int, items, text, texts};

/// Keys and values of all annotations together.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const METADATA: Path<'static> = Path::root("metadata");

/// How a kind's objects may be called.
fn name_check(resource: &Resource) -> fn(&str) -> Result<(), NameError> {
    match (resource.group, resource.plural) {
        ("", "namespaces" | "services") | ("apps", "statefulsets") => check_dns_label,
        // Judged by its own rules.
        ("networking.k8s.io", "ipaddresses") => |_| Ok(()),
        // What an event is called, only its own group cares about.
        ("", "events") | ("policy", "poddisruptionbudgets") => check_path_segment,
        (crate::RBAC_GROUP, _) | ("apiregistration.k8s.io", _) | ("certificates.k8s.io", _) => {
            check_path_segment
        }
        _ => check_dns_subdomain,
    }
}

/// A driver's name where it is referred to. Drivers may have capitals in their names.
pub(super) fn driver_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        return errors.push(Cause::required(path, ""));
    }
    if name.len() > LABEL_LEN_MAX {
        errors.push(Cause::too_long(path, LABEL_LEN_MAX));
    }
    name_error(check_dns_subdomain(&name.to_lowercase()), name, path, errors);
}

const LABEL_LEN_MAX: usize = 63;

/// Whether the metadata of a kind's objects is held to the general rules alone.
fn is_general(resource: &Resource) -> bool {
    GENERAL.contains(&resource.group)
        || matches!((resource.group, resource.plural), ("", "events") | ("policy", "poddisruptionbudgets"))
}

/// Groups of which this is so.
const GENERAL: [&str; 5] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
];

/// Rules of a whole object's metadata.
pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let meta = at(object, "metadata");
    named(resource, meta, name_check(resource), errors);
    not_negative(meta, "generation", METADATA, errors);
    check_maps(meta, METADATA, errors);
    owners(meta, errors);
    finalizers(meta, errors);
    if !is_general(resource) {
        known_finalizers(meta, errors);
    }
}

/// The same where the kind demands besides that the object be called as most objects are.
pub(super) fn named_as_domain(resource: &Resource, object: &Value, errors: &mut Errors) {
    let meta = at(object, "metadata");
    named(resource, meta, check_dns_subdomain, errors);
    not_negative(meta, "generation", METADATA, errors);
    check_maps(meta, METADATA, errors);
    owners(meta, errors);
    finalizers(meta, errors);
    known_finalizers(meta, errors);
}

/// What a kind that is held to the general rules alone demands of a change besides them, where it comes through a group that is
/// stricter.
pub(super) fn changed_strictly(old: &Value, new: &Value, errors: &mut Errors) {
    let meta = at(new, "metadata");
    moved(at(old, "metadata"), meta, errors);
    check_maps(meta, METADATA, errors);
    owners(meta, errors);
    known_finalizers(meta, errors);
}

/// How an object is called, and where it lives.
fn named(
    resource: &Resource,
    meta: &Value,
    check_name: fn(&str) -> Result<(), NameError>,
    errors: &mut Errors,
) {
    let prefix = text(meta, "generateName");
    // Of some only the name that came of it is judged.
    let is_judged = !matches!(
        (resource.group, resource.plural),
        ("", "replicationcontrollers") | ("resource.k8s.io", "deviceclasses")
    );
    if !prefix.is_empty() && is_judged {
        // What follows makes even these two segments of a path.
        let checked = match prefix {
            "." | ".." => check_name(&format!("{prefix}a")),
            _ => check_name(&masked(prefix)),
        };
        name_error(checked, prefix, METADATA.child("generateName"), errors);
    }
    match text(meta, "name") {
        "" => errors.push(Cause::required(METADATA.child("name"), "name or generateName is required")),
        name => name_error(check_name(name), name, METADATA.child("name"), errors),
    }
    match (resource.namespaced, text(meta, "namespace")) {
        (true, "") => errors.push(Cause::required(METADATA.child("namespace"), "")),
        (true, namespace) => dns_label(namespace, METADATA.child("namespace"), errors),
        (false, "") => {}
        (false, _) => errors.push(Cause::forbidden(METADATA.child("namespace"), "not allowed on this type")),
    }
}

/// What begins a name as its rules look at it: a dash at the end is fine where more follows (the letter before it goes with it, as
/// on a stock server), and so is what by itself would lead elsewhere in a path.
fn masked(prefix: &str) -> String {
    match prefix.strip_suffix('-').filter(|stem| !stem.is_empty()) {
        Some(stem) => format!("{}a", stem.get(..stem.len() - 1).unwrap_or(stem)),
        None if matches!(prefix, "." | "..") => format!("{prefix}a"),
        None => prefix.to_owned(),
    }
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

/// A map of annotations.
pub(super) fn annotations(map: &Value, path: Path<'_>, errors: &mut Errors) {
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
    let mut controller: Option<String> = None;
    for owner in items(meta, "ownerReferences") {
        let (group, version) = group_version(text(owner, "apiVersion"));
        if version.is_empty() {
            let why = "version must not be empty";
            errors.push(Cause::invalid(list.child("apiVersion"), text(owner, "apiVersion"), why));
        }
        for key in ["kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                errors.push(Cause::invalid(list.child(key), "", "must not be empty"));
            }
        }
        if group.is_empty() && version == "v1" && text(owner, "kind") == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(owners_fault(list, shown_owner(owner), why));
        }
        if flag(owner, "controller") {
            let name = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            let Some(first) = &controller else {
                controller = Some(name);
                continue;
            };
            let why = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
            );
            // All of them are shown each time.
            if !errors.is_full() {
                let all: Vec<String> = items(meta, "ownerReferences").map(shown_owner).collect();
                errors.push(owners_fault(list, format!("[{}]", all.join(",")), &why));
            }
        }
    }
}

fn owners_fault(list: Path<'_>, shown: String, why: &str) -> Cause {
    Cause::new("FieldValueInvalid", list, format!("Invalid value: {shown}: {why}"))
}

/// An owner in the order in which a stock server writes it.
fn shown_owner(owner: &Value) -> String {
    let optional = ["controller", "blockOwnerDeletion"];
    let shown = ["apiVersion", "kind", "name", "uid"].into_iter().map(|key| (key, text(owner, key).into()));
    let shown = shown.chain(optional.map(|key| (key, at(owner, key).clone())));
    let shown: Vec<String> =
        shown.filter(|(_, v): &(&str, Value)| !v.is_null()).map(|(key, v)| format!("{key:?}:{v}")).collect();
    format!("{{{}}}", shown.join(","))
}

/// `group/version` or `version`; anything else names neither.
fn group_version(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((_, version)) if version.contains('/') => ("", ""),
        Some(both) => both,
        None => ("", text),
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
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Cause::invalid(path, at(meta, "finalizers").clone(), why));
    }
}

/// What belongs to nobody's domain must be one of the cluster's own.
pub(super) fn known_finalizer(finalizer: &str, path: Path<'_>, errors: &mut Errors) {
    if !finalizer.contains('/') && !matches!(finalizer, "kubernetes" | "orphan" | "foregroundDeletion") {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Cause::invalid(path, finalizer, why));
    }
}

fn known_finalizers(meta: &Value, errors: &mut Errors) {
    let list = METADATA.child("finalizers");
    for (i, finalizer) in texts(meta, "finalizers").enumerate() {
        known_finalizer(finalizer, list.index(i), errors);
    }
}

/// What is wrong with the metadata of a changed object. It is looked for once; how often it is told is up to the kind, for a
/// stock server's storage looks at all metadata before the kind's own judge does, and that one often twice more.
pub(super) struct Faults {
    /// The name as any object's, and as this kind's.
    any_name: Vec<Cause>,
    name: Vec<Cause>,
    /// What may not change and has.
    moved: Vec<Cause>,
    labels: Vec<Cause>,
    finalizers: Vec<Cause>,
    unknown_finalizers: Vec<Cause>,
}

impl Faults {
    pub(super) fn of(resource: &Resource, old: &Value, new: &Value) -> Faults {
        let meta = at(new, "metadata");
        let find = |look: &dyn Fn(&mut Errors)| {
            let mut errors = Errors::default();
            look(&mut errors);
            errors.into_causes()
        };
        Faults {
            any_name: find(&|errors| named(resource, meta, check_path_segment, errors)),
            name: find(&|errors| named(resource, meta, name_check(resource), errors)),
            moved: find(&|errors| moved(at(old, "metadata"), meta, errors)),
            labels: find(&|errors| {
                check_maps(meta, METADATA, errors);
                owners(meta, errors);
            }),
            finalizers: find(&|errors| finalizers(meta, errors)),
            unknown_finalizers: find(&|errors| {
                if !is_general(resource) {
                    known_finalizers(meta, errors);
                }
            }),
        }
    }

    /// Before anything else, of every kind.
    pub(super) fn common(&self, errors: &mut Errors) {
        for part in [&self.any_name, &self.labels, &self.finalizers, &self.moved, &self.labels] {
            errors.extend(part.iter().cloned());
        }
    }

    /// As a new object's.
    pub(super) fn whole(&self, errors: &mut Errors) {
        for part in [&self.name, &self.labels, &self.finalizers, &self.unknown_finalizers] {
            errors.extend(part.iter().cloned());
        }
    }

    /// As a changed object's.
    pub(super) fn changed(&self, errors: &mut Errors) {
        for part in [&self.moved, &self.labels, &self.unknown_finalizers] {
            errors.extend(part.iter().cloned());
        }
    }
}

fn moved(stored: &Value, meta: &Value, errors: &mut Errors) {
    if !at(stored, "deletionTimestamp").is_null() {
        let known: HashSet<&str> = texts(stored, "finalizers").collect();
        let mut fresh: Vec<&str> = texts(meta, "finalizers").filter(|f| !known.contains(f)).collect();
        fresh.sort_unstable();
        fresh.dedup();
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
}
