//! Namespaces, nodes, events, leases and classes.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::{Cause, Resource};
use stoa_units::{check_dns_subdomain, check_label_key, check_label_value};

use super::address::range;
use super::affinity::EFFECTS;
use super::field::{Errors, Path, dns_label, indexed, name_error, not_negative, one_of};
use super::shown;
use crate::value::{at, flag, has, int, path, text, texts};

const SPEC: Path<'static> = Path::root("spec");

pub(super) fn namespace(object: &Value, errors: &mut Errors) {
    let list = SPEC.child("finalizers");
    for finalizer in texts(at(object, "spec"), "finalizers") {
        self::finalizer(finalizer, list, errors);
    }
}

/// Who takes a finalizer off a namespace is told of the others by their places.
pub(super) fn finalized(object: &Value, errors: &mut Errors) {
    let list = SPEC.child("finalizers");
    for (i, finalizer) in texts(at(object, "spec"), "finalizers").enumerate() {
        self::finalizer(finalizer, list.index(i), errors);
    }
}

fn finalizer(finalizer: &str, path: Path<'_>, errors: &mut Errors) {
    name_error(check_label_key(finalizer), finalizer, path, errors);
    super::meta::known_finalizer(finalizer, path, errors);
}

/// A namespace goes away if and only if somebody has deleted it.
pub(super) fn namespace_status(object: &Value, errors: &mut Errors) {
    let phase = text(at(object, "status"), "phase");
    let (wanted, why) = match has(at(object, "metadata"), "deletionTimestamp") {
        false => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
        true => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
    };
    if phase != wanted {
        errors.push(Cause::invalid(Path::root("status").child("Phase"), phase, why));
    }
}

/// A stock server looks for taints there.
const TAINTS: Path<'static> = Path::root("metadata");

fn taints(object: &Value, errors: &mut Errors) {
    let list = TAINTS.child("taints");
    let mut seen = HashSet::new();
    for (i, taint) in indexed(at(object, "spec"), "taints") {
        let path = list.index(i);
        let (key, value) = (text(taint, "key"), text(taint, "value"));
        name_error(check_label_key(key), key, path.child("key"), errors);
        if let Err(e) = check_label_value(value) {
            let why: Vec<&str> = e.all().collect();
            errors.push(Cause::invalid(path.child("value"), value, &why.join(";")));
        }
        one_of(taint, "effect", &EFFECTS, path, errors);
        if !seen.insert((key, text(taint, "effect"))) {
            let why = "taints must be unique by key and effect pair";
            let mut cause = shown::duplicate(path, taint, shown::TAINT);
            cause.message = format!("{}: {why}", cause.message);
            errors.push(cause);
        }
    }
}

/// Rules of a node as a whole.
pub(super) fn node(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    taints(object, errors);
    node_amounts(object, errors);
    let swap = path(object, &["status", "nodeInfo", "swap"]);
    if let Some(n) = int(swap, "capacity").filter(|n| *n <= 0) {
        // So a stock server names the place.
        let root = Path::root("metadata");
        let place = root.child("nodeSwapStatus");
        errors.push(Cause::invalid(place.child("capacity"), n, "must be greater than zero"));
    }
    features(object, errors);
    let list = SPEC.child("podCIDRs");
    for (i, cidr) in texts(spec, "podCIDRs").enumerate() {
        range(cidr, list.index(i), errors);
    }
    let cidrs: Vec<ipnet::IpNet> = texts(spec, "podCIDRs").filter_map(|c| c.parse().ok()).collect();
    let is_v4 = |net: &ipnet::IpNet| matches!(net, ipnet::IpNet::V4(_));
    let is_pair = cidrs.len() == 2 && is_v4(&cidrs[0]) != is_v4(&cidrs[1]);
    if texts(spec, "podCIDRs").count() > 1 && !is_pair {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(Cause::invalid(list, at(spec, "podCIDRs").clone(), why));
    }
}

/// What a node has, and what of it pods get.
fn node_amounts(object: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    for key in ["capacity", "allocatable"] {
        let map = status.child(key);
        for (name, value) in path(object, &["status", key]).as_object().into_iter().flatten() {
            super::quota::amount(name, value, map.child(name), errors);
        }
    }
}

/// Features that a node says it has: in order, each once, and named as features are.
fn features(object: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    let list = status.child("declaredFeatures");
    let mut before: Option<&str> = None;
    for (i, feature) in texts(at(object, "status"), "declaredFeatures").enumerate() {
        match before.map(|b| b.cmp(feature)) {
            Some(std::cmp::Ordering::Equal) => errors.push(Cause::duplicate(list.index(i), feature)),
            Some(std::cmp::Ordering::Greater) => {
                errors.push(Cause::invalid(list.index(i), feature, "list must be sorted alphabetically"));
            }
            _ => {}
        }
        let why = if feature.len() > FEATURE_LEN_MAX {
            format!("must be no more than {FEATURE_LEN_MAX} characters")
        } else if !is_feature(feature) {
            FEATURE.to_owned()
        } else {
            String::new()
        };
        if !why.is_empty() {
            let why = format!("invalid feature name {}: {why}", Value::from(feature));
            errors.push(Cause::invalid(list.index(i), feature, &why));
        }
        before = Some(feature);
    }
}

const FEATURE_LEN_MAX: usize = 253;
const FEATURE: &str = "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes";

/// Segments of letters and digits, each with a letter at its beginning, the first one's a capital.
fn is_feature(name: &str) -> bool {
    let is_segment = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic()) && s.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.split('/').all(is_segment)
}

/// Rules of a change to a node, its status too.
pub(super) fn node_change(old: &Value, new: &Value, errors: &mut Errors) {
    node_amounts(new, errors);
    features(new, errors);
    let status = Path::root("status");
    let list = status.child("addresses");
    let mut seen = HashSet::new();
    for (i, address) in indexed(at(new, "status"), "addresses") {
        if !seen.insert((text(address, "type"), text(address, "address"))) {
            errors.push(shown::duplicate(list.index(i), address, shown::ADDRESS));
        }
    }
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    let (before, after) = (texts(stored, "podCIDRs").count(), texts(spec, "podCIDRs").count());
    let kept = texts(stored, "podCIDRs").zip(texts(spec, "podCIDRs"));
    let changed = if before != after { 1 } else { kept.filter(|(a, b)| a != b).count() };
    for _ in 0..changed.min(before) {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Cause::forbidden(SPEC.child("podCIDRs"), why));
    }
    let provider = text(stored, "providerID");
    if !provider.is_empty() && provider != text(spec, "providerID") {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(Cause::forbidden(SPEC.child("providerID"), why));
    }
    taints(new, errors);
    if text(stored, "externalID") != text(spec, "externalID") {
        errors.push(Cause::forbidden(SPEC.child("externalID"), "may not be updated"));
    }
}

const EVENT_TEXT_LEN_MAX: usize = 128;
const EVENT_NOTE_LEN_MAX: usize = 1024;

/// What is demanded besides of an event that comes through `events.k8s.io`: nothing of the old style.
pub(super) fn new_event(resource: &Resource, object: &Value, errors: &mut Errors) {
    super::meta::named_as_domain(resource, object, errors);
    series(object, errors);
    if !has(object, "eventTime") {
        errors.push(Cause::required("eventTime", ""));
    }
    let kind = text(object, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.push(Cause::invalid("type", "", &format!("has invalid value: {kind}")));
    }
    let source = at(object, "source");
    for (field, is_set) in [
        ("firstTimestamp", has(object, "firstTimestamp")),
        ("lastTimestamp", has(object, "lastTimestamp")),
        ("count", int(object, "count").unwrap_or(0) != 0),
        ("source", !text(source, "component").is_empty() || !text(source, "host").is_empty()),
    ] {
        if is_set {
            errors.push(Cause::invalid(field, "", "needs to be unset"));
        }
    }
}

fn series(object: &Value, errors: &mut Errors) {
    let series = at(object, "series");
    if series.is_null() {
        return;
    }
    if int(series, "count").unwrap_or(0) < 2 {
        errors.push(Cause::invalid("series.count", "", "should be at least 2"));
    }
    if !has(series, "lastObservedTime") {
        errors.push(Cause::required("series.lastObservedTime", ""));
    }
}

/// What an event tells stays told: of its change through `events.k8s.io`, only a series may go on.
pub(super) fn event_change(old: &Value, new: &Value, errors: &mut Errors) {
    super::meta::changed_strictly(old, new, errors);
    if at(old, "series") != at(new, "series") {
        series(new, errors);
    }
    let changed = |key: &str| {
        let nothing =
            |v: &Value| v.is_null() || v == "" || v == 0 || v.as_object().is_some_and(|m| m.is_empty());
        let (before, after) = (at(old, key), at(new, key));
        // What it is related to is there or not, whatever it says.
        before != after && (key == "related" || !(nothing(before) && nothing(after)))
    };
    let told = |field: &str, shown: String| {
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {shown}: field is immutable"))
    };
    // The stock server looks at the reason twice.
    for key in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "reason",
        "type",
        "eventTime",
        "action",
        "related",
        "reportingComponent",
        "reportingInstance",
    ] {
        if !changed(key) {
            continue;
        }
        let value = at(new, key);
        let field = if key == "reportingComponent" { "reportingController" } else { key };
        errors.push(match key {
            "involvedObject" => told(field, shown::print(value, shown::OBJECT_REFERENCE)),
            "related" if !value.is_null() => told(field, shown::print(value, shown::OBJECT_REFERENCE)),
            "source" => told(field, shown::print(value, shown::EVENT_SOURCE)),
            "count" => Cause::immutable(field, int(new, key).unwrap_or(0)),
            "firstTimestamp" | "lastTimestamp" | "eventTime" | "related" => told(field, value.to_string()),
            _ => Cause::immutable(field, text(new, key)),
        });
    }
}

pub(super) fn event(object: &Value, errors: &mut Errors) {
    let namespace = text(at(object, "metadata"), "namespace");
    let subject = text(at(object, "involvedObject"), "namespace");
    let new_style = has(object, "eventTime");
    let agrees = match subject {
        // Of what lives in no namespace is told in the default one.
        "" => matches!(namespace, "" | "default") || (new_style && namespace == "kube-system"),
        subject => new_style || subject == namespace,
    };
    if !agrees {
        let why = "does not match event.namespace";
        errors.push(Cause::invalid("involvedObject.namespace", subject, why));
    }
    if new_style {
        event_texts(object, errors);
    }
    name_error(check_dns_subdomain(namespace), namespace, Path::root("namespace"), errors);
}

fn event_texts(object: &Value, errors: &mut Errors) {
    let controller = text(object, "reportingComponent");
    if controller.is_empty() {
        errors.push(Cause::required("reportingComponent", ""));
    }
    name_error(check_label_key(controller), controller, Path::root("reportingComponent"), errors);
    for key in ["reportingInstance", "action", "reason"] {
        let value = text(object, key);
        if value.is_empty() {
            errors.push(Cause::required(key, ""));
        } else if value.len() > EVENT_TEXT_LEN_MAX {
            let why = format!("can have at most {EVENT_TEXT_LEN_MAX} characters");
            errors.push(Cause::invalid(key, "", &why));
        }
    }
    if text(object, "message").len() > EVENT_NOTE_LEN_MAX {
        let why = format!("can have at most {EVENT_NOTE_LEN_MAX} characters");
        errors.push(Cause::invalid("message", "", &why));
    }
}

pub(super) fn lease(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    if let Some(n) = int(spec, "leaseDurationSeconds").filter(|n| *n <= 0) {
        errors.push(Cause::invalid(SPEC.child("leaseDurationSeconds"), n, "must be greater than 0"));
    }
    not_negative(spec, "leaseTransitions", SPEC, errors);
    // A stock server names the field as a field of itself.
    let at_strategy = SPEC.child("strategy");
    let (strategy, place) = (text(spec, "strategy"), at_strategy.child("strategy"));
    if strategy.contains('/') {
        name_error(check_label_key(strategy), strategy, place, errors);
    } else if has(spec, "strategy") && strategy != LEASE_STRATEGY {
        errors.push(Cause::not_supported(place, strategy, &[LEASE_STRATEGY]));
    }
    if !text(spec, "preferredHolder").is_empty() && strategy.is_empty() {
        let why = "may only be specified if `strategy` is defined";
        errors.push(Cause::forbidden(SPEC.child("preferredHolder"), why));
    }
}

/// How the holder of a lease is picked where the cluster picks it.
const LEASE_STRATEGY: &str = "OldestEmulationVersion";

/// Above this only the cluster's own pods stand.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(super) fn priority_class(object: &Value, errors: &mut Errors) {
    let name = text(at(object, "metadata"), "name");
    let value = int(object, "value").unwrap_or(0);
    if name.starts_with("system-") {
        let known = SYSTEM_CLASSES.iter().find(|(n, _)| *n == name);
        let why = match known {
            Some((n, v)) if *v != value => Some(format!("value of {n} PriorityClass must be {v}")),
            Some((n, _)) if flag(object, "globalDefault") => {
                Some(format!("globalDefault of {n} PriorityClass must be false"))
            }
            Some(_) => None,
            None => Some(format!("{name} is not a known system priority class")),
        };
        if let Some(why) = why {
            let meta = Path::root("metadata");
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.push(Cause::forbidden(meta.child("name"), &why));
        }
    } else if value > USER_PRIORITY_MAX {
        let why = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        errors.push(Cause::forbidden("value", &why));
    }
    match text(object, "preemptionPolicy") {
        "" if has(object, "preemptionPolicy") => errors.push(Cause::required("preemptionPolicy", "")),
        "" | "Never" | "PreemptLowerPriority" => {}
        policy => {
            let known = ["PreemptLowerPriority", "Never"];
            errors.push(Cause::not_supported("preemptionPolicy", policy, &known));
        }
    }
}

pub(super) fn priority_class_change(old: &Value, new: &Value, errors: &mut Errors) {
    if int(old, "value") != int(new, "value") {
        errors.push(Cause::forbidden("value", "may not be changed in an update."));
    }
    super::field::immutable(old, new, Path::root("preemptionPolicy"), "preemptionPolicy", errors);
}

pub(super) fn runtime_class(object: &Value, errors: &mut Errors) {
    match text(object, "handler") {
        "" => errors.push(Cause::required("handler", "")),
        handler => dns_label(handler, Path::root("handler"), errors),
    }
    let fixed = path(object, &["overhead", "podFixed"]);
    // Judged as a container's limits, and named so.
    super::pod_resources::overhead(fixed, Path::root("overhead"), errors);
    let scheduling = Path::root("scheduling");
    let selector = path(object, &["scheduling", "nodeSelector"]);
    super::meta::labels(selector, scheduling.child("nodeSelector"), errors);
    let list = scheduling.child("tolerations");
    super::affinity::tolerations(at(object, "scheduling"), list, errors);
    let mut seen = HashSet::new();
    for (i, toleration) in indexed(at(object, "scheduling"), "tolerations") {
        if !seen.insert(["key", "operator", "value", "effect"].map(|key| text(toleration, key))) {
            errors.push(shown::duplicate(list.index(i), toleration, shown::TOLERATION));
        }
    }
}
