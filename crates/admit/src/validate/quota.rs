//! Resource quotas and limit ranges.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use stoa_kube::Cause;
use stoa_units::{Quantity, check_label_key};

use super::field::{Errors, NOT_NEGATIVE, Path, indexed, name_error, quantity};
use super::shown;
use crate::value::{at, has, is_empty, items, pairs, text, texts};

const SPEC: Path<'static> = Path::root("spec");

pub(super) fn quota(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    for (name, value) in pairs(spec, "hard") {
        hard(name, value, SPEC.child("hard"), errors);
    }
    scopes(spec, errors);
    if has(spec, "scopeSelector") {
        scope_selector(spec, errors);
    }
}

/// What a quota's status says that there is and that is used.
pub(super) fn amounts(object: &Value, part: &'static str, errors: &mut Errors) {
    let root = Path::root(part);
    for key in ["hard", "used"] {
        for (name, value) in pairs(at(object, part), key) {
            hard(name, value, root.child(key), errors);
        }
    }
}

fn hard(name: &str, value: &Value, map: Path<'_>, errors: &mut Errors) {
    let path = map.key(name);
    resource_name(name, path, errors);
    if !name.contains('/') && !is_quota_name(name) {
        errors.push(Cause::invalid(path, name, "must be a standard resource for quota"));
    }
    amount(name, value, path, errors);
}

/// A resource's name: well-formed, and without a domain one that clusters know.
pub(super) fn resource_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    match check_label_key(name) {
        Err(e) => name_error(Err(e), name, path, errors),
        Ok(()) if !name.contains('/') && !is_standard(name) => {
            errors.push(Cause::invalid(path, name, NOT_STANDARD));
        }
        Ok(()) => {}
    }
}

/// An amount of a resource: not negative, and whole where only whole ones can be had.
pub(super) fn amount(name: &str, value: &Value, path: Path<'_>, errors: &mut Errors) {
    let Some(q) = value.as_str().and_then(|s| Quantity::parse(s).ok()) else { return };
    if q.is_negative() {
        errors.push(Cause::invalid(path, value.clone(), NOT_NEGATIVE));
    }
    if is_counted(name) && q.nano() / MILLI % 1000 != 0 {
        errors.push(Cause::invalid(path, value.clone(), "must be an integer"));
    }
}

const MILLI: i128 = 1_000_000;

/// Whether a resource comes in whole pieces: objects, and whatever belongs to somebody's domain.
fn is_counted(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name)
}

/// Whether a resource is somebody's own, and can be named in a quota too.
pub(super) fn is_extended(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    !is_native && !name.starts_with("requests.") && check_label_key(&format!("requests.{name}")).is_ok()
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Scopes that no object is in together.
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["NotTerminating", "Terminating"]];

/// What is said of a resource that has no domain and is none of the standard ones.
pub(super) const NOT_STANDARD: &str = "must be a standard resource type or fully qualified";

/// Whether a resource is one that clusters know, be it in a container or in a quota.
pub(super) fn is_standard(name: &str) -> bool {
    is_quota_name(name) || name == "storage"
}

/// Whether objects that a scope tells apart can use this resource up.
fn may_scope(scope: &str, resource: &str) -> bool {
    let compute = matches!(resource, "cpu" | "memory" | "ephemeral-storage" | "pods")
        || ["requests.", "limits."]
            .iter()
            .any(|side| matches!(resource.strip_prefix(side), Some("cpu" | "memory" | "ephemeral-storage")));
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => compute || resource.contains("hugepages-"),
    }
}

fn scopes(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("scopes");
    let given: Vec<&str> = texts(spec, "scopes").collect();
    // All of them are shown each time.
    let mut say = |why: &str| {
        if !errors.is_full() {
            errors.push(Cause::invalid(list, at(spec, "scopes").clone(), why));
        }
        errors.is_full()
    };
    let mut unfit = Unfit::default();
    for scope in &given {
        if !SCOPES.contains(scope) && say("unsupported scope") {
            return;
        }
        for _ in 0..unfit.count(spec, scope) {
            if say("unsupported scope applied to resource") {
                return;
            }
        }
    }
    for pair in CONFLICTS {
        if pair.iter().all(|scope| given.contains(scope)) {
            say("conflicting scopes");
        }
    }
}

/// How many of the resources of a quota each scope says nothing of, counted once.
#[derive(Default)]
struct Unfit<'a>(HashMap<&'a str, usize>);

impl<'a> Unfit<'a> {
    fn count(&mut self, spec: &Value, scope: &'a str) -> usize {
        let counted =
            || pairs(spec, "hard").filter(|(r, _)| is_quota_name(r) && !may_scope(scope, r)).count();
        *self.0.entry(scope).or_insert_with(counted)
    }
}

/// The stock server tells of no demand by its place.
fn scope_selector(spec: &Value, errors: &mut Errors) {
    let root = SPEC.child("scopeSelector");
    let path = root.child("matchExpressions");
    let demands = || items(at(spec, "scopeSelector"), "matchExpressions");
    let mut unfit = Unfit::default();
    for e in demands() {
        if errors.is_full() {
            return;
        }
        let (scope, operator) = (text(e, "scopeName"), text(e, "operator"));
        if !SCOPES.contains(&scope) {
            errors.push(Cause::invalid(path.child("scopeName"), scope, "unsupported scope"));
        }
        for _ in 0..unfit.count(spec, scope) {
            // All of them are shown each time.
            if errors.is_full() {
                return;
            }
            let shown: Vec<String> = demands().map(|d| shown::print(d, shown::SCOPE_DEMAND)).collect();
            let shown = format!("{{\"MatchExpressions\":[{}]}}", shown.join(","));
            let why = format!("Invalid value: {shown}: unsupported scope applied to resource");
            errors.push(Cause::new("FieldValueInvalid", path, why));
        }
        let has_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if !has_values && SCOPES.contains(&scope) && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(Cause::invalid(path.child("operator"), operator, why));
        }
        let values = texts(e, "values").count();
        match operator {
            "In" | "NotIn" if values == 0 => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Cause::required(path.child("values"), why));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.push(Cause::invalid(path.child("values"), at(e, "values").clone(), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(Cause::invalid(path.child("operator"), other, "not a valid selector operator"));
            }
        }
    }
    let given: Vec<&str> = demands().map(|d| text(d, "scopeName")).collect();
    for pair in CONFLICTS {
        if pair.iter().all(|scope| given.contains(scope)) {
            let shown = at(spec, "scopes").clone();
            errors.push(Cause::invalid(
                SPEC.child("scopeSelector").child("matchExpressions"),
                shown,
                "conflicting scopes",
            ));
        }
    }
}

/// What a quota counts is decided once.
pub(super) fn quota_change(old: &Value, new: &Value, errors: &mut Errors) {
    let sorted = |o: &Value| {
        let mut scopes: Vec<String> = texts(at(o, "spec"), "scopes").map(str::to_owned).collect();
        scopes.sort();
        scopes
    };
    if sorted(old) != sorted(new) {
        errors.push(Cause::immutable(SPEC.child("scopes"), at(at(new, "spec"), "scopes").clone()));
    }
}

fn is_quota_name(name: &str) -> bool {
    matches!(
        name,
        "cpu"
            | "memory"
            | "ephemeral-storage"
            | "requests.cpu"
            | "requests.memory"
            | "requests.storage"
            | "requests.ephemeral-storage"
            | "limits.cpu"
            | "limits.memory"
            | "limits.ephemeral-storage"
            | "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "persistentvolumeclaims"
            | "configmaps"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
}

/// What is limited: one of the standard types, or somebody's own.
fn limit_type(kind: &str, path: Path<'_>, errors: &mut Errors) {
    match check_label_key(kind) {
        Err(_) => name_error(check_label_key(kind), kind, path, errors),
        Ok(()) if !kind.contains('/') && !["Container", "PersistentVolumeClaim", "Pod"].contains(&kind) => {
            errors.push(Cause::invalid(path, kind, "must be a standard limit type or fully qualified"));
        }
        Ok(()) => {}
    }
}

pub(super) fn limit_range(object: &Value, errors: &mut Errors) {
    let list = SPEC.child("limits");
    let mut types = HashSet::new();
    for (i, item) in indexed(at(object, "spec"), "limits") {
        let path = list.index(i);
        let kind = text(item, "type");
        limit_type(kind, path.child("type"), errors);
        if !types.insert(kind) {
            errors.push(Cause::duplicate(path.child("type"), kind));
        }
        let mut names = BTreeSet::new();
        let mut named = |side: &'static str, errors: &mut Errors| {
            let map = path.child(side);
            for (name, _) in pairs(item, side) {
                limited_name(kind, name, map.key(name), errors);
                names.insert(name.as_str());
            }
        };
        named("max", errors);
        named("min", errors);
        for side in ["default", "defaultRequest"] {
            if kind != "Pod" {
                named(side, errors);
            } else if !is_empty(item, side) {
                errors.push(Cause::forbidden(path.child(side), "may not be specified when `type` is 'Pod'"));
            }
        }
        let is_claim = kind == "PersistentVolumeClaim";
        if is_claim && !["min", "max"].iter().any(|side| has(at(item, side), "storage")) {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errors.push(Cause::required(path.child("limits"), why));
        }
        named("maxLimitRequestRatio", errors);
        for name in names {
            limits_of(item, name, path, errors);
        }
    }
}

/// The name of what is limited: of pods and containers, what a container can ask for.
fn limited_name(kind: &str, name: &str, path: Path<'_>, errors: &mut Errors) {
    match kind {
        "Pod" | "Container" => super::container::resource_name(name, path, errors),
        _ => resource_name(name, path, errors),
    }
}

/// The limits of one resource, each with those that it must not exceed.
fn limits_of(item: &Value, name: &str, path: Path<'_>, errors: &mut Errors) {
    let is_pod = text(item, "type") == "Pod";
    let of = |side: &str| match side {
        "default" | "defaultRequest" if is_pod => None,
        _ => quantity(at(item, side), name),
    };
    // What is too large, what it exceeds, what both are called, whose field it is, and whose value is shown.
    for (low, high, a, b, place, shown) in [
        ("min", "max", "min", "max", "min", "min"),
        ("min", "defaultRequest", "min", "default request", "defaultRequest", "defaultRequest"),
        ("defaultRequest", "max", "default request", "max", "defaultRequest", "defaultRequest"),
        ("defaultRequest", "default", "default request", "default limit", "defaultRequest", "defaultRequest"),
        ("min", "default", "min", "default", "default", "min"),
        ("default", "max", "default", "max", "default", "max"),
    ] {
        if let (Some(l), Some(h)) = (of(low), of(high))
            && l.nano() > h.nano()
        {
            let why = format!("{a} value {l} is greater than {b} value {h}");
            let map = path.child(place);
            errors.push(Cause::invalid(map.key(name), at(at(item, shown), name).clone(), &why));
        }
    }
    let map = path.child("maxLimitRequestRatio");
    if let Some(ratio) = of("maxLimitRequestRatio") {
        let shown = || at(at(item, "maxLimitRequestRatio"), name).clone();
        if ratio.nano() < 1000 * MILLI {
            errors.push(Cause::invalid(map.key(name), shown(), &format!("ratio {ratio} is less than 1")));
        }
        if let (Some(min), Some(max)) = (of("min"), of("max")) {
            let limit = max.nano() as f64 / min.nano() as f64;
            if ratio.nano() as f64 / 1e9 > limit {
                let why = format!("ratio {ratio} is greater than max/min = {limit:.6}");
                errors.push(Cause::invalid(map.key(name), shown(), &why));
            }
        }
    }
    if let (Some(default), Some(request)) = (of("default"), of("defaultRequest"))
        && !super::container::may_overcommit(name)
        && default.nano() != request.nano()
    {
        let why = format!("default value {default} must equal to defaultRequest value {request} in {name}");
        let map = path.child("defaultRequest");
        errors.push(Cause::invalid(map.key(name), at(at(item, "defaultRequest"), name).clone(), &why));
    }
}
