//! Persistent volumes, claims and storage classes.

use serde_json::Value;
use stoa_kube::Cause;

use super::field::{Errors, NOT_NEGATIVE, Path, indexed, one_of, optional_one_of, quantity};
use super::{affinity, selector, volume};
use crate::value::{at, has, is_empty, text, texts};

const SPEC: Path<'static> = Path::root("spec");
const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

fn access_modes(spec: &Value, path: Path<'_>, detail: &str, errors: &mut Errors) {
    let list = path.child("accessModes");
    if is_empty(spec, "accessModes") {
        errors.push(Cause::required(list, detail));
    }
    for mode in texts(spec, "accessModes").filter(|m| !MODES.contains(m)) {
        errors.push(Cause::not_supported(list, mode, &MODES));
    }
    if texts(spec, "accessModes").count() > 1 && texts(spec, "accessModes").any(|m| m == "ReadWriteOncePod") {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(Cause::forbidden(list, why));
    }
}

pub(super) fn claim(object: &Value, errors: &mut Errors) {
    claim_spec(at(object, "spec"), SPEC, errors);
}

/// The specification of a claim, its own or a template's.
pub(super) fn claim_spec(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    access_modes(spec, path, "at least 1 access mode is required", errors);
    selector::check(at(spec, "selector"), path.child("selector"), errors);
    let requests = at(at(spec, "resources"), "requests");
    match quantity(requests, "storage") {
        None => errors.push(Cause::required(path.child("resources").key("storage"), "")),
        Some(q) if q.is_negative() || q.is_zero() => {
            let why = if q.is_zero() { "must be greater than zero" } else { NOT_NEGATIVE };
            let shown = at(requests, "storage").clone();
            errors.push(Cause::invalid(path.child("resources").key("storage"), shown, why));
        }
        Some(_) => {}
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        super::field::dns_subdomain(class, path.child("storageClassName"), errors);
    }
    optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    let class = text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        super::field::dns_subdomain(class, path.child("volumeAttributesClassName"), errors);
    }
}

pub(super) fn claim_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    let fixed = |s: &Value, bound: bool| -> Vec<(String, Value)> {
        let entries = s.as_object().into_iter().flatten();
        let free = |k: &str| matches!(k, "volumeAttributesClassName") || (bound && k == "resources");
        entries.filter(|(k, _)| !free(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let bound = text(at(old, "status"), "phase") == "Bound";
    // The binder names the volume, and a default class may still be filled in.
    let settle = |s: &Value| {
        let mut s = s.clone();
        for key in ["volumeName", "storageClassName"] {
            if is_empty(stored, key) {
                crate::value::remove(&mut s, key);
            }
        }
        s
    };
    if fixed(&settle(stored), bound) != fixed(&settle(spec), bound) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(Cause::forbidden(SPEC, why));
    }
    let size = |s: &Value| quantity(at(at(s, "resources"), "requests"), "storage");
    // What was asked for too much may be taken back, down to what there is.
    let there = quantity(at(at(old, "status"), "capacity"), "storage").map_or(0, |q| q.nano());
    if let (true, Some(before), Some(after)) = (bound, size(stored), size(spec))
        && after.nano() < before.nano()
        && (there == 0 || after.nano() <= there)
    {
        let resources = SPEC.child("resources");
        let map = resources.child("requests");
        let why = "field can not be less than status.capacity";
        errors.push(Cause::forbidden(map.child("storage"), why));
    }
}

/// A volume has storage to give, and nothing else.
fn capacity(amounts: &Value, path: Path<'_>, errors: &mut Errors) {
    let count = amounts.as_object().map_or(0, |map| map.len());
    if count > 1 || quantity(amounts, "storage").is_none() {
        errors.push(Cause::not_supported(path, amounts.clone(), &["storage"]));
    }
    for name in amounts.as_object().into_iter().flatten().map(|(name, _)| name) {
        let Some(amount) = quantity(amounts, name) else { continue };
        if amount.is_negative() {
            let whole = amount.nano() / 1_000_000_000;
            let whole = i64::try_from(whole).unwrap_or(i64::MIN);
            errors.push(Cause::invalid(path.key(name), whole, "must be a valid resource quantity"));
        }
        if amount.is_negative() || amount.is_zero() {
            let shown = at(amounts, name).clone();
            errors.push(Cause::invalid(path.key(name), shown, "must be greater than zero"));
        }
    }
}

/// Keys of a volume's specification that are not its source.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn sources(spec: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let entries = spec.as_object().into_iter().flatten();
    entries.filter(|(k, v)| !NOT_SOURCES.contains(&k.as_str()) && !v.is_null())
}

pub(super) fn volume(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    access_modes(spec, SPEC, "", errors);
    if is_empty(spec, "capacity") {
        errors.push(Cause::required(SPEC.child("capacity"), ""));
    }
    capacity(at(spec, "capacity"), SPEC.child("capacity"), errors);
    let mut found = 0;
    for (kind, v) in sources(spec) {
        found += 1;
        if found > 1 {
            let why = "may not specify more than 1 volume type";
            errors.push(Cause::forbidden(SPEC.child(kind), why));
        } else if kind == "local" {
            super::field::required_text(v, "path", SPEC.child(kind), errors);
            if !has(spec, "nodeAffinity") {
                let why = "Local volume requires node affinity";
                errors.push(Cause::required(Path::root("metadata").child("annotations"), why));
            }
        } else {
            volume::source(kind, v, SPEC.child(kind), errors);
        }
    }
    if found == 0 {
        errors.push(Cause::required(SPEC, "must specify a volume type"));
    }
    one_of(spec, "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], SPEC, errors);
    let required = at(at(spec, "nodeAffinity"), "required");
    if required.is_object() {
        let affinity = SPEC.child("nodeAffinity");
        affinity::node_selector(required, affinity.child("required"), errors);
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        super::field::dns_subdomain(class, SPEC.child("storageClassName"), errors);
    }
    optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], SPEC, errors);
    if has(spec, "volumeAttributesClassName") {
        let class = SPEC.child("volumeAttributesClassName");
        match text(spec, "volumeAttributesClassName") {
            "" => errors.push(Cause::required(class, "an empty string is disallowed")),
            name => super::field::dns_subdomain(name, class, errors),
        }
        if !has(spec, "csi") {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(Cause::required(SPEC.child("csi"), why));
        }
    }
}

pub(super) fn volume_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    if !sources(stored).eq(sources(spec)) {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(Cause::forbidden(SPEC.child("persistentvolumesource"), why));
    }
    if at(stored, "volumeMode") != at(spec, "volumeMode") {
        errors.push(Cause::immutable(SPEC.child("volumeMode"), at(spec, "volumeMode").clone()));
    }
}

pub(super) fn class(object: &Value, errors: &mut Errors) {
    if text(object, "provisioner").is_empty() {
        errors.push(Cause::required("provisioner", ""));
    }
    for (key, known) in [
        ("reclaimPolicy", ["Delete", "Retain"]),
        ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
    ] {
        if has(object, key) && !known.contains(&text(object, key)) {
            errors.push(Cause::not_supported(key, text(object, key), &known));
        }
    }
    super::driver::parameters(object, errors);
    let list = Path::root("allowedTopologies");
    for (i, term) in indexed(object, "allowedTopologies") {
        let path = list.index(i);
        let terms = path.child("matchLabelExpressions");
        for (j, e) in indexed(term, "matchLabelExpressions") {
            if is_empty(e, "values") {
                errors.push(Cause::required(terms.index(j).child("values"), ""));
            }
        }
    }
}

pub(super) fn class_change(old: &Value, new: &Value, errors: &mut Errors) {
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if at(old, key) != at(new, key) {
            errors.push(Cause::forbidden(key, &format!("updates to {key} are forbidden.")));
        }
    }
    if at(old, "volumeBindingMode") != at(new, "volumeBindingMode") {
        errors.push(Cause::immutable("volumeBindingMode", at(new, "volumeBindingMode").clone()));
    }
}
