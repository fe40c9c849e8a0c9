//! Persistent volumes, claims and storage classes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::{Quantity, check_label_key};

use super::field::{
    Errors, Path, dns_label, dns_subdomain, indexed, name_error, optional_one_of, quantity, required_text,
};
use super::{affinity, pod_diff, selector, source};
use crate::value::{at, has, is_empty, items, pairs, path, text, texts};

const SPEC: Path<'static> = Path::root("spec");
const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// How a volume may be mounted. By one pod alone goes with nothing else.
fn access_modes(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    for mode in texts(spec, "accessModes").filter(|m| !MODES.contains(m)) {
        errors.push(Cause::not_supported(list, mode, &MODES));
    }
    let alone = |m: &str| m == "ReadWriteOncePod";
    let shared = |m: &str| MODES.contains(&m) && !alone(m);
    if texts(spec, "accessModes").any(alone) && texts(spec, "accessModes").any(shared) {
        errors.push(Cause::forbidden(list, "may not use ReadWriteOncePod with other access modes"));
    }
}

pub(super) fn claim(object: &Value, errors: &mut Errors) {
    claim_spec(at(object, "spec"), SPEC, errors);
}

/// A claim as a template of it: what is copied of its metadata, and its specification.
pub(super) fn claim_template(template: &Value, path: Path<'_>, errors: &mut Errors) {
    template_metadata(at(template, "metadata"), path.child("metadata"), errors);
    claim_spec(at(template, "spec"), path.child("spec"), errors);
}

/// What of a template's metadata is copied to what is made of it: nothing else may be there.
pub(super) fn template_metadata(meta: &Value, at_meta: Path<'_>, errors: &mut Errors) {
    super::meta::annotations(at(meta, "annotations"), at_meta.child("annotations"), errors);
    super::meta::labels(at(meta, "labels"), at_meta.child("labels"), errors);
    for (key, shown) in [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ] {
        if !is_empty(meta, key) {
            errors.push(Cause::forbidden(at_meta.child(shown), "cannot be set"));
        }
    }
}

/// The specification of a claim, its own or a template's.
pub(super) fn claim_spec(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("accessModes");
    if is_empty(spec, "accessModes") {
        errors.push(Cause::required(list, "at least 1 access mode is required"));
    }
    selector::check(at(spec, "selector"), path.child("selector"), errors);
    access_modes(spec, list, errors);
    let requests = at(at(spec, "resources"), "requests");
    let at_size = path.child("resources");
    match quantity(requests, "storage") {
        None => errors.push(Cause::required(at_size.key("storage"), "")),
        Some(q) if q.is_negative() || q.is_zero() => {
            let shown = at(requests, "storage").clone();
            errors.push(Cause::invalid(at_size.key("storage"), shown, "must be greater than zero"));
        }
        Some(_) => {}
    }
    class_name(spec, "storageClassName", path, errors);
    optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], path, errors);
    for key in ["dataSource", "dataSourceRef"] {
        if has(spec, key) {
            data_source(at(spec, key), path.child(key), errors);
        }
    }
    let (source, reference) = (at(spec, "dataSource"), at(spec, "dataSourceRef"));
    let differs = |key: &str| at(source, key) != at(reference, key);
    let why = match (source.is_object(), reference.is_object(), is_empty(reference, "namespace")) {
        (true, true, false) => "may not be specified when dataSourceRef.namespace is specified",
        (true, true, true) if ["apiGroup", "kind", "name"].into_iter().any(differs) => {
            "must match dataSourceRef"
        }
        _ => "",
    };
    if !why.is_empty() {
        // The path is what is shown as the value, and a path is written as an object without fields.
        errors.push(Cause::invalid(path, Value::Object(Default::default()), why));
    }
    class_name(spec, "volumeAttributesClassName", path, errors);
}

fn class_name(spec: &Value, key: &str, path: Path<'_>, errors: &mut Errors) {
    if !is_empty(spec, key) {
        dns_subdomain(text(spec, key), path.child(key), errors);
    }
}

/// What a volume is filled from.
fn data_source(source: &Value, path: Path<'_>, errors: &mut Errors) {
    required_text(source, "name", path, errors);
    required_text(source, "kind", path, errors);
    let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Cause::invalid(path, kind, why));
    }
    if !group.is_empty() {
        dns_subdomain(group, path.child("apiGroup"), errors);
    }
    if !is_empty(source, "namespace") {
        dns_label(text(source, "namespace"), path.child("namespace"), errors);
    }
}

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn claim_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    let noted = |o: &Value| path(o, &["metadata", "annotations", OLD_CLASS]).as_str().map(str::to_owned);
    let (class_before, class_after) = (noted(old), noted(new));
    // A class that stood in an annotation may move into its field.
    let (before, after) = (at(stored, "storageClassName"), at(spec, "storageClassName"));
    let moves = before.is_null()
        && class_before.is_some()
        && after.as_str() == class_before.as_deref()
        && (class_after.is_none() || class_after == class_before);
    if !moves && class_before.clone().unwrap_or_default() != class_after.clone().unwrap_or_default() {
        let meta = Path::root("metadata");
        let notes = meta.child("annotations");
        errors.push(Cause::immutable(notes.child(OLD_CLASS), class_after.unwrap_or_default()));
    }
    let bound = text(at(new, "status"), "phase") == "Bound";
    let mut settled = spec.clone();
    let mut put_back = |key: &str, value: &Value| super::put(&mut settled, key, value.clone());
    if is_empty(stored, "volumeName") {
        put_back("volumeName", at(stored, "volumeName"));
    }
    let is_filled_in = class_before.is_none() || after.as_str() == class_before.as_deref();
    if moves || before.is_null() && !after.is_null() && is_filled_in {
        put_back("storageClassName", before);
    }
    if bound {
        put_back("volumeAttributesClassName", at(stored, "volumeAttributesClassName"));
    }
    let size = |s: &Value| at(at(at(s, "resources"), "requests"), "storage").clone();
    if bound && let Some(requests) = settled.pointer_mut("/resources/requests") {
        super::put(requests, "storage", size(stored));
    }
    if &settled != stored {
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{}",
            pod_diff::diff_of("core.v1.PersistentVolumeClaimSpec", stored, &settled)
        );
        errors.push(Cause::forbidden(SPEC, &why));
    }
    let amount = |v: &Value| v.as_str().and_then(|s| Quantity::parse(s).ok()).map_or(0, |q| q.nano());
    // What was asked for too much may be taken back, down to what there is.
    let there = amount(path(old, &["status", "capacity", "storage"]));
    if amount(&size(spec)) < amount(&size(stored)) && amount(&size(spec)) <= there {
        let resources = SPEC.child("resources");
        let map = resources.child("requests");
        let why = "field can not be less than status.capacity";
        errors.push(Cause::forbidden(map.child("storage"), why));
    }
    if at(stored, "volumeMode") != at(spec, "volumeMode") {
        errors.push(Cause::immutable("volumeMode", at(spec, "volumeMode").clone()));
    }
    attributes_change(old, new, errors);
}

/// Once a claim's volume has a class of attributes, there is always one to be wished for.
fn attributes_change(old: &Value, new: &Value, errors: &mut Errors) {
    let key = "volumeAttributesClassName";
    let (before, after) = (path(old, &["spec", key]), path(new, &["spec", key]));
    if before == after || !has(at(old, "status"), "currentVolumeAttributesClassName") {
        return;
    }
    let none = match after {
        Value::Null => "nil",
        after if after == "" => "empty string",
        _ => return,
    };
    let why =
        format!("update to {none} is forbidden when status.currentVolumeAttributesClassName is not nil");
    errors.push(Cause::forbidden(SPEC.child(key), &why));
}

/// How a claim's volume grows.
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

pub(super) fn claim_status(object: &Value, errors: &mut Errors) {
    let (root, status) = (Path::root("status"), at(object, "status"));
    let at_resize = root.child("allocatedResourceStatuses");
    let capacity = root.child("capacity");
    for (name, value) in pairs(status, "capacity") {
        basic(value, capacity.key(name), errors);
    }
    for (name, state) in pairs(status, "allocatedResourceStatuses") {
        grown_name(name, at_resize, errors);
        if !RESIZES.contains(&state.as_str().unwrap_or_default()) {
            errors.push(Cause::not_supported(at_resize, name.as_str(), &RESIZES));
        }
    }
    let allocated = root.child("allocatedResources");
    for (name, value) in pairs(status, "allocatedResources") {
        let before = errors.len();
        grown_name(name, allocated, errors);
        if errors.len() == before {
            basic(value, allocated.key(name), errors);
        }
    }
}

/// Of what clusters know, only storage grows.
fn grown_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    match check_label_key(name) {
        Err(e) => super::field::name_error(Err(e), name, path, errors),
        Ok(()) if name != "storage" && (!name.contains('/') || name.contains("kubernetes.io/")) => {
            errors.push(Cause::not_supported(path, name, &["storage"]));
        }
        Ok(()) => {}
    }
}

const NANO: i128 = 1_000_000_000;

/// An amount that is none below nothing, shown in whole units.
fn basic(value: &Value, path: Path<'_>, errors: &mut Errors) {
    let Some(q) = value.as_str().and_then(|s| Quantity::parse(s).ok()) else { return };
    if q.is_negative() {
        let whole = -((-q.nano() + NANO - 1) / NANO);
        let whole = i64::try_from(whole).unwrap_or(i64::MIN);
        errors.push(Cause::invalid(path, whole, "must be a valid resource quantity"));
    }
}

/// A volume has storage to give, and nothing else.
fn capacity(amounts: &Value, path: Path<'_>, errors: &mut Errors) {
    let count = amounts.as_object().map_or(0, |map| map.len());
    if count > 1 || quantity(amounts, "storage").is_none() {
        errors.push(Cause::not_supported(path, amounts.clone(), &["storage"]));
    }
    for (name, value) in amounts.as_object().into_iter().flatten() {
        let Some(amount) = quantity(amounts, name) else { continue };
        basic(value, path.key(name), errors);
        if amount.is_negative() || amount.is_zero() {
            errors.push(Cause::invalid(path.key(name), value.clone(), "must be greater than zero"));
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

fn sources(spec: &Value) -> Value {
    let entries = spec.as_object().into_iter().flatten();
    let own = entries.filter(|(k, v)| !NOT_SOURCES.contains(&k.as_str()) && !v.is_null());
    Value::Object(own.map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// A volume that an attachment brings along instead of the name of one: what a controller would see to is not said of it.
pub(super) fn inline_volume(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    const ELSEWHERE: &str = "may not be specified in the context of inline volumes";
    let forbid = |key: &str, errors: &mut Errors| {
        if !is_empty(spec, key) {
            errors.push(Cause::forbidden(path.child(key), ELSEWHERE));
        }
    };
    if has(spec, "claimRef") {
        errors.push(Cause::forbidden(path.child("claimRef"), ELSEWHERE));
    }
    forbid("capacity", errors);
    if !has(spec, "csi") {
        errors
            .push(Cause::required(path.child("csi"), "has to be specified in the context of inline volumes"));
    }
    let list = path.child("accessModes");
    if is_empty(spec, "accessModes") {
        errors.push(Cause::required(list, ""));
    }
    access_modes(spec, list, errors);
    let policy = "persistentVolumeReclaimPolicy";
    if !matches!(text(spec, policy), "" | "Retain") {
        let why = "may only be Retain in the context of inline volumes";
        errors.push(Cause::forbidden(path.child(policy), why));
    }
    if has(spec, "nodeAffinity") {
        errors.push(Cause::forbidden(path.child("nodeAffinity"), ELSEWHERE));
    }
    source::persistent(spec, "", path, errors);
    forbid("storageClassName", errors);
    if has(spec, "volumeMode") && text(spec, "volumeMode") != "Filesystem" {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(Cause::forbidden(path.child("volumeMode"), why));
    }
}

pub(super) fn volume(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let list = SPEC.child("accessModes");
    if is_empty(spec, "accessModes") {
        errors.push(Cause::required(list, ""));
    }
    access_modes(spec, list, errors);
    if is_empty(spec, "capacity") {
        errors.push(Cause::required(SPEC.child("capacity"), ""));
    }
    capacity(at(spec, "capacity"), SPEC.child("capacity"), errors);
    let policy = "persistentVolumeReclaimPolicy";
    if !is_empty(spec, policy) {
        optional_one_of(spec, policy, &["Delete", "Recycle", "Retain"], SPEC, errors);
    }
    if has(spec, "nodeAffinity") {
        let path = SPEC.child("nodeAffinity");
        match at(at(spec, "nodeAffinity"), "required") {
            required if required.is_object() => {
                affinity::node_selector(required, path.child("required"), errors);
            }
            _ => {
                errors.push(Cause::required(path.child("required"), "must specify required node constraints"))
            }
        }
    }
    source::persistent(spec, text(at(object, "metadata"), "name"), SPEC, errors);
    let place = path(spec, &["hostPath", "path"]).as_str();
    if place.is_some_and(is_root) && text(spec, policy) == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Cause::forbidden(SPEC.child(policy), why));
    }
    class_name(spec, "storageClassName", SPEC, errors);
    optional_one_of(spec, "volumeMode", &["Block", "Filesystem"], SPEC, errors);
    if has(spec, "volumeAttributesClassName") {
        let class = SPEC.child("volumeAttributesClassName");
        match text(spec, "volumeAttributesClassName") {
            "" => errors.push(Cause::required(class, "an empty string is disallowed")),
            name => dns_subdomain(name, class, errors),
        }
        if !has(spec, "csi") {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(Cause::required(SPEC.child("csi"), why));
        }
    }
}

/// Whether a path leads nowhere but to the root.
fn is_root(place: &str) -> bool {
    place.starts_with('/') && place.split('/').all(|part| matches!(part, "" | "." | ".."))
}

pub(super) fn volume_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    let (before, mut after) = (sources(stored), sources(spec));
    // A secret for growing may be named later.
    let later = "controllerExpandSecretRef";
    if has(&before, "csi")
        && !has(at(&before, "csi"), later)
        && let Some(csi) = after.get_mut("csi")
    {
        crate::value::remove(csi, later);
    }
    if before != after {
        let why = format!(
            "spec.persistentvolumesource is immutable after creation\n{}",
            pod_diff::diff_of("core.v1.PersistentVolumeSource", &before, &after)
        );
        errors.push(Cause::forbidden(SPEC.child("persistentvolumesource"), &why));
    }
    if at(stored, "volumeMode") != at(spec, "volumeMode") {
        errors.push(Cause::immutable("volumeMode", at(spec, "volumeMode").clone()));
    }
    let (before, after) = (at(stored, "nodeAffinity"), at(spec, "nodeAffinity"));
    if !before.is_null() && !affinity::is_renamed(before, after) {
        let shown = match at(after, "required") {
            _ if after.is_null() => "null".to_owned(),
            Value::Null => "{\"Required\":null}".to_owned(),
            required => {
                let terms: Vec<String> =
                    items(required, "nodeSelectorTerms").map(super::shown::node_term).collect();
                match has(required, "nodeSelectorTerms") {
                    true => format!("{{\"Required\":{{\"NodeSelectorTerms\":[{}]}}}}", terms.join(",")),
                    false => "{\"Required\":{\"NodeSelectorTerms\":null}}".to_owned(),
                }
            }
        };
        let why =
            format!("Invalid value: {shown}: field is immutable, except for updating from beta label to GA");
        errors.push(Cause::new("FieldValueInvalid", "nodeAffinity", why));
    }
    if has(stored, "volumeAttributesClassName") && !has(spec, "volumeAttributesClassName") {
        let why = "update from non-nil value to nil is forbidden";
        errors.push(Cause::forbidden(SPEC.child("volumeAttributesClassName"), why));
    }
}

/// Who provides what a class names: a qualified name, whatever its case.
pub(super) fn provisioner(object: &Value, key: &str, errors: &mut Errors) {
    match text(object, key).to_lowercase().as_str() {
        "" => errors.push(Cause::required(key, "")),
        name => name_error(check_label_key(name), name, Path::root(key), errors),
    }
}

pub(super) fn class(object: &Value, errors: &mut Errors) {
    provisioner(object, "provisioner", errors);
    super::driver::parameters(object, errors);
    let policy = text(object, "reclaimPolicy");
    if !matches!(policy, "" | "Delete" | "Retain") {
        errors.push(Cause::not_supported("reclaimPolicy", policy, &["Delete", "Retain"]));
    }
    let mode = text(object, "volumeBindingMode");
    if !has(object, "volumeBindingMode") {
        errors.push(Cause::required("volumeBindingMode", ""));
    } else if !matches!(mode, "Immediate" | "WaitForFirstConsumer") {
        let known = ["Immediate", "WaitForFirstConsumer"];
        errors.push(Cause::not_supported("volumeBindingMode", mode, &known));
    }
    allowed_topologies(object, errors);
}

/// The topologies in which a class provides volumes: each differs from all before it. A stock server compares with as many empty
/// ones besides as there are terms.
fn allowed_topologies(object: &Value, errors: &mut Errors) {
    let list = Path::root("allowedTopologies");
    let mut before: HashMap<BTreeMap<&str, BTreeSet<&str>>, usize> = HashMap::new();
    before.insert(BTreeMap::new(), items(object, "allowedTopologies").count());
    for (i, term) in indexed(object, "allowedTopologies") {
        let path = list.index(i);
        let expressions = path.child("matchLabelExpressions");
        let mut topology = BTreeMap::new();
        for (j, e) in indexed(term, "matchLabelExpressions") {
            let path = expressions.index(j);
            let (key, at_values) = (text(e, "key"), path.child("values"));
            if is_empty(e, "values") {
                errors.push(Cause::required(at_values, ""));
            }
            let mut values = BTreeSet::new();
            for (k, value) in texts(e, "values").enumerate() {
                if !values.insert(value) {
                    errors.push(Cause::duplicate(at_values.index(k), value));
                }
            }
            name_error(check_label_key(key), key, path.child("key"), errors);
            if topology.insert(key, values).is_some() {
                errors.push(Cause::duplicate(path.child("key"), key));
            }
        }
        let same = before.entry(topology).or_default();
        for _ in 0..*same {
            if errors.is_full() {
                break;
            }
            errors.push(Cause::duplicate(expressions, ""));
        }
        *same += 1;
    }
}

pub(super) fn class_change(old: &Value, new: &Value, errors: &mut Errors) {
    let nothing = |v: &Value| v.is_null() || v.as_object().is_some_and(serde_json::Map::is_empty);
    let (before, after) = (at(old, "parameters"), at(new, "parameters"));
    if before != after && !(nothing(before) && nothing(after)) {
        errors.push(Cause::immutable("parameters", after.clone()));
    }
    if text(old, "provisioner") != text(new, "provisioner") {
        errors.push(Cause::immutable("provisioner", text(new, "provisioner")));
    }
    for key in ["reclaimPolicy", "volumeBindingMode"] {
        super::field::immutable(old, new, Path::root(key), key, errors);
    }
}
