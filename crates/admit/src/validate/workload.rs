//! What makes pods: selectors that match their templates and never change, replicas, update strategies.

use serde_json::{Value, json};
use std::collections::HashSet;
use stoa_kube::Cause;

use super::field::{
    Errors, NOT_NEGATIVE, Path, conditions, count_or_percent, dns_label, indexed, is_zero, not_negative,
    one_of,
};
use super::{internal, meta, pod, selector, shown, storage};
use crate::Operation;
use crate::value::{at, has, int, items, path, set, text};

const SPEC: Path<'static> = Path::root("spec");

/// A selector that must be there, be no catch-all, and match the template.
fn selector_and_template(spec: &Value, owner: Owner, errors: &mut Errors) {
    let at_selector = SPEC.child("selector");
    let s = at(spec, "selector");
    let is_daemon_set = owner.kind == DAEMON_SET.kind;
    if s.is_null() && !is_daemon_set {
        errors.push(Cause::required(at_selector, ""));
    }
    let found = errors.len();
    selector::check(s, at_selector, errors);
    let is_malformed = errors.len() > found;
    let refuse_empty = |errors: &mut Errors| {
        if !s.is_null() && selector::is_empty(s) {
            let why = format!("empty selector is invalid for {}", owner.selector_word);
            errors.push(Cause::invalid(at_selector, s.clone(), &why));
        }
    };
    if !is_daemon_set {
        refuse_empty(errors);
        // Whose template a selector that is none has to match cannot be said, and a stock server stops there.
        if is_malformed {
            let why = if owner.kind == STATEFUL_SET.kind { "" } else { "invalid label selector" };
            errors.push(internal::invalid(at_selector, s, SELECTOR, why));
            return;
        }
    }
    let template = at(spec, "template");
    let at_template = SPEC.child("template");
    let labels = path(template, &["metadata", "labels"]);
    let wanted = selector::read(s);
    // A selector that is not there matches nothing.
    if s.is_null()
        || !is_malformed && wanted.is_some_and(|w| !w.is_everything() && !selector::matches(&w, labels))
    {
        let meta = at_template.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(Cause::invalid(meta.child("labels"), labels.clone(), why));
    }
    if is_daemon_set {
        refuse_empty(errors);
    }
    if owner.kind == STATEFUL_SET.kind {
        pod::template(&as_run(spec, template), at_template, errors);
        // Its labels and annotations are looked at once more, and elsewhere.
        meta::check_maps(at(template, "metadata"), at_template, errors);
        pod::notes(at(template, "metadata"), at(template, "spec"), at_template.child("annotations"), errors);
    } else {
        pod::template(template, at_template, errors);
    }
    always_restarts(spec, owner.kind, errors);
}

/// A stateful set's template as its pods will have it: with a volume for each of the claims that they get, and without the host's
/// name and domain, which the set gives them.
fn as_run(spec: &Value, template: &Value) -> Value {
    let mut template = template.clone();
    let Some(pod) = template.get_mut("spec").filter(|s| s.is_object()) else { return template };
    for key in ["hostname", "subdomain"] {
        crate::value::remove(pod, key);
    }
    let names: Vec<&str> =
        items(spec, "volumeClaimTemplates").map(|c| text(at(c, "metadata"), "name")).collect();
    if names.is_empty() {
        return template;
    }
    let mut claimed = HashSet::with_capacity(names.len());
    let mut volumes: Vec<Value> = Vec::new();
    for name in names {
        if claimed.insert(name) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    volumes.extend(items(pod, "volumes").filter(|v| !claimed.contains(text(v, "name"))).cloned());
    set(pod, "volumes", volumes);
    template
}

const SELECTOR: &str = "apis.meta.v1.LabelSelector";

/// How messages call the owner of a template.
#[derive(Clone, Copy)]
struct Owner {
    selector_word: &'static str,
    kind: &'static str,
}

const REPLICA_SET: Owner = Owner { selector_word: "deployment", kind: "ReplicaSet" };
const DAEMON_SET: Owner = Owner { selector_word: "daemonset", kind: "DaemonSet" };
const STATEFUL_SET: Owner = Owner { selector_word: "statefulset", kind: "StatefulSet" };

fn always_restarts(spec: &Value, kind: &str, errors: &mut Errors) {
    let policy = path(spec, &["template", "spec", "restartPolicy"]).as_str().unwrap_or_default();
    if policy != "Always" {
        let at_spec = SPEC.child("template");
        let at_spec = at_spec.child("spec");
        errors.push(Cause::not_supported(at_spec.child("restartPolicy"), policy, &["Always"]));
    }
    if has(path(spec, &["template", "spec"]), "activeDeadlineSeconds") {
        let at_spec = SPEC.child("template");
        let at_spec = at_spec.child("spec");
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Cause::forbidden(at_spec.child("activeDeadlineSeconds"), &why));
    }
}

pub(super) fn deployment(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    not_negative(spec, "replicas", SPEC, errors);
    selector_and_template(spec, REPLICA_SET, errors);
    let strategy = at(spec, "strategy");
    let at_strategy = SPEC.child("strategy");
    strategy_type(strategy, &["Recreate", "RollingUpdate"], at_strategy, errors);
    let rolling = at(strategy, "rollingUpdate");
    let at_rolling = at_strategy.child("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" if rolling.is_object() => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Cause::forbidden(at_rolling, why));
        }
        "RollingUpdate" => rolling_update(rolling, at_rolling, errors),
        _ => {}
    }
    for key in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(spec, key, SPEC, errors);
    }
    if let Some(deadline) = int(spec, "progressDeadlineSeconds")
        && deadline <= int(spec, "minReadySeconds").unwrap_or(0)
    {
        let why = "must be greater than minReadySeconds";
        errors.push(Cause::invalid(SPEC.child("progressDeadlineSeconds"), deadline, why));
    }
}

fn rolling_update(rolling: &Value, at_rolling: Path<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (at(rolling, "maxUnavailable"), at(rolling, "maxSurge"));
    let good = count_or_percent(unavailable, at_rolling.child("maxUnavailable"), errors);
    count_or_percent(surge, at_rolling.child("maxSurge"), errors);
    if is_zero(unavailable) && is_zero(surge) {
        let why = "may not be 0 when `maxSurge` is 0";
        errors.push(Cause::invalid(at_rolling.child("maxUnavailable"), unavailable.clone(), why));
    }
    if good {
        no_more_than_all(unavailable, at_rolling.child("maxUnavailable"), errors);
    }
}

fn no_more_than_all(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if percent(v).is_some_and(|p| p > 100) {
        errors.push(Cause::invalid(path, v.clone(), "must not be greater than 100%"));
    }
}

/// A kind of update that is none of the known ones, shown with what else is said of the update.
fn strategy_type(strategy: &Value, known: &[&str], path: Path<'_>, errors: &mut Errors) {
    if known.contains(&text(strategy, "type")) {
        return;
    }
    let known: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
    let shown = shown_strategy(strategy, shown::SPREAD_UPDATE);
    let why = format!("Unsupported value: {shown}: supported values: {}", known.join(", "));
    errors.push(Cause::new("FieldValueNotSupported", path, why));
}

fn shown_strategy(strategy: &Value, rolling: &[shown::Field]) -> String {
    let rolling = match at(strategy, "rollingUpdate") {
        Value::Null => "null".to_owned(),
        set => shown::print(set, rolling),
    };
    format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", Value::from(text(strategy, "type")))
}

fn percent(v: &Value) -> Option<u64> {
    v.as_str()?.strip_suffix('%')?.parse().ok()
}

pub(super) fn replica_set(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    not_negative(spec, "replicas", SPEC, errors);
    not_negative(spec, "minReadySeconds", SPEC, errors);
    selector_and_template(spec, REPLICA_SET, errors);
}

pub(super) fn replication_controller(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    not_negative(spec, "minReadySeconds", SPEC, errors);
    let wanted = at(spec, "selector").as_object().filter(|m| !m.is_empty());
    if wanted.is_none() {
        errors.push(Cause::required(SPEC.child("selector"), ""));
    }
    not_negative(spec, "replicas", SPEC, errors);
    let at_template = SPEC.child("template");
    if !has(spec, "template") {
        errors.push(Cause::required(at_template, ""));
        return;
    }
    let labels = path(spec, &["template", "metadata", "labels"]);
    if wanted.is_some_and(|w| w.iter().any(|(k, v)| at(labels, k) != v)) {
        let meta = at_template.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(Cause::invalid(meta.child("labels"), labels.clone(), why));
    }
    pod::template(at(spec, "template"), at_template, errors);
    always_restarts(spec, "ReplicationController", errors);
}

pub(super) fn daemon_set(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    selector_and_template(spec, DAEMON_SET, errors);
    not_negative(spec, "minReadySeconds", SPEC, errors);
    let strategy = at(spec, "updateStrategy");
    let at_strategy = SPEC.child("updateStrategy");
    strategy_type(strategy, &["RollingUpdate", "OnDelete"], at_strategy, errors);
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = at(strategy, "rollingUpdate");
        let at_rolling = at_strategy.child("rollingUpdate");
        for key in ["maxUnavailable", "maxSurge"] {
            count_or_percent(at(rolling, key), at_rolling.child(key), errors);
        }
        for key in ["maxUnavailable", "maxSurge"] {
            no_more_than_all(at(rolling, key), at_rolling.child(key), errors);
        }
        match (is_zero(at(rolling, "maxUnavailable")), is_zero(at(rolling, "maxSurge"))) {
            (true, true) => {
                let why = "cannot be 0 when maxSurge is 0";
                errors.push(Cause::required(at_rolling.child("maxUnavailable"), why));
            }
            (false, false) => {
                let why = "may not be set when maxUnavailable is non-zero";
                let surge = at(rolling, "maxSurge").clone();
                errors.push(Cause::invalid(at_rolling.child("maxSurge"), surge, why));
            }
            _ => {}
        }
    }
    not_negative(spec, "revisionHistoryLimit", SPEC, errors);
}

pub(super) fn stateful_set(object: &Value, operation: Operation, errors: &mut Errors) {
    let spec = at(object, "spec");
    let management = text(spec, "podManagementPolicy");
    if !matches!(management, "OrderedReady" | "Parallel") {
        let why = "must be 'OrderedReady' or 'Parallel'";
        errors.push(Cause::invalid(SPEC.child("podManagementPolicy"), management, why));
    }
    let strategy = at(spec, "updateStrategy");
    let at_strategy = SPEC.child("updateStrategy");
    if !matches!(text(strategy, "type"), "RollingUpdate" | "OnDelete") {
        let shown = shown_strategy(strategy, shown::SET_UPDATE);
        let why = format!("Invalid value: {shown}: must be 'RollingUpdate' or 'OnDelete'");
        errors.push(Cause::new("FieldValueInvalid", at_strategy, why));
    }
    let at_rolling = at_strategy.child("rollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        let rolling = at(strategy, "rollingUpdate");
        not_negative(rolling, "partition", at_rolling, errors);
        let (unavailable, path) = (at(rolling, "maxUnavailable"), at_rolling.child("maxUnavailable"));
        if !unavailable.is_null() {
            count_or_percent(unavailable, path, errors);
            if is_zero(unavailable) {
                errors.push(Cause::invalid(path, unavailable.clone(), "cannot be 0"));
            }
            no_more_than_all(unavailable, path, errors);
        }
    }
    if text(strategy, "type") == "OnDelete" && has(strategy, "rollingUpdate") {
        let why = "only allowed for updateStrategy 'RollingUpdate'";
        errors.push(shown::invalid(at_rolling, at(strategy, "rollingUpdate"), shown::SET_UPDATE, why));
    }
    let retention = at(spec, "persistentVolumeClaimRetentionPolicy");
    let at_retention = SPEC.child("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        if has(retention, key) {
            one_of(retention, key, &["Retain", "Delete"], at_retention, errors);
        }
    }
    if operation == Operation::Create {
        let templates = SPEC.child("volumeClaimTemplates");
        for (i, template) in indexed(spec, "volumeClaimTemplates") {
            storage::claim_spec(at(template, "spec"), templates.index(i).child("spec"), errors);
        }
    }
    not_negative(spec, "replicas", SPEC, errors);
    not_negative(spec, "minReadySeconds", SPEC, errors);
    not_negative(at(spec, "ordinals"), "start", SPEC.child("ordinals"), errors);
    selector_and_template(spec, STATEFUL_SET, errors);
}

/// The name of the service travels into the pods, where it is a label of their names. It never changes, so that what was let in
/// once stays.
pub(super) fn new_stateful_set(object: &Value, errors: &mut Errors) {
    let name = text(at(object, "spec"), "serviceName");
    if !name.is_empty() {
        dns_label(name, SPEC.child("serviceName"), errors);
    }
}

pub(super) fn selector_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (path(old, &["spec", "selector"]), path(new, &["spec", "selector"]));
    if before != after {
        errors.push(internal::invalid(SPEC.child("selector"), after, SELECTOR, "field is immutable"));
    }
}

const STATEFUL_SET_UPDATABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

pub(super) fn stateful_set_change(old: &Value, new: &Value, errors: &mut Errors) {
    const FREE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |o: &Value| -> Vec<(String, Value)> {
        let entries = at(o, "spec").as_object().into_iter().flatten();
        entries.filter(|(k, _)| !FREE.contains(&k.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    if fixed(old) != fixed(new) {
        errors.push(Cause::forbidden(SPEC, STATEFUL_SET_UPDATABLE));
    }
}

pub(super) fn controller_revision(object: &Value, errors: &mut Errors) {
    if !has(object, "data") {
        errors.push(Cause::required("data", "data is mandatory"));
    }
    not_negative_root(object, "revision", errors);
}

fn not_negative_root(object: &Value, key: &str, errors: &mut Errors) {
    if let Some(n) = int(object, key).filter(|n| *n < 0) {
        errors.push(Cause::invalid(key, n, NOT_NEGATIVE));
    }
}

pub(super) fn controller_revision_change(old: &Value, new: &Value, errors: &mut Errors) {
    if at(old, "data") != at(new, "data") {
        errors.push(Cause::immutable("data", at(new, "data").clone()));
    }
}

pub(super) fn disruption_budget(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(shown::invalid(SPEC, spec, shown::BUDGET, why));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let v = at(spec, key);
        if count_or_percent(v, SPEC.child(key), errors) && percent(v).is_some_and(|p| p > 100) {
            errors.push(Cause::invalid(SPEC.child(key), v.clone(), "must not be greater than 100%"));
        }
    }
    selector::check(at(spec, "selector"), SPEC.child("selector"), errors);
    if has(spec, "unhealthyPodEvictionPolicy") {
        one_of(spec, "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"], SPEC, errors);
    }
}

const STATUS: Path<'static> = Path::root("status");

pub(super) fn deployment_status(old: &Value, object: &Value, errors: &mut Errors) {
    let status = at(object, "status");
    for key in [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ] {
        not_negative(status, key, STATUS, errors);
    }
    counts(status, &["updatedReplicas", "readyReplicas", "availableReplicas"], "readyReplicas", errors);
    collisions(old, status, errors);
}

pub(super) fn stateful_set_status(old: &Value, object: &Value, errors: &mut Errors) {
    let status = at(object, "status");
    for key in [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ] {
        not_negative(status, key, STATUS, errors);
    }
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    counts(status, &parts, "status.readyReplicas", errors);
    collisions(old, status, errors);
}

pub(super) fn daemon_set_status(old: &Value, object: &Value, errors: &mut Errors) {
    let status = at(object, "status");
    for key in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        not_negative(status, key, STATUS, errors);
    }
    collisions(old, status, errors);
}

/// Names that were taken are counted up only, or the same names would be tried again.
fn collisions(old: &Value, status: &Value, errors: &mut Errors) {
    let count = int(status, "collisionCount");
    if let Some(before) = int(at(old, "status"), "collisionCount")
        && count.is_none_or(|n| n < before)
    {
        errors.push(Cause::invalid(
            STATUS.child("collisionCount"),
            count.unwrap_or(0),
            "cannot be decremented",
        ));
    }
}

pub(super) fn disruption_budget_status(object: &Value, errors: &mut Errors) {
    conditions(at(at(object, "status"), "conditions"), STATUS.child("conditions"), errors);
    for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        not_negative(at(object, "status"), key, STATUS, errors);
    }
}

pub(super) fn replica_set_status(object: &Value, errors: &mut Errors) {
    let status = at(object, "status");
    for key in [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ] {
        not_negative(status, key, STATUS, errors);
    }
    counts(status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], "readyReplicas", errors);
}

/// No part is more than the whole, and only what is ready is available.
fn counts(status: &Value, parts: &[&str], ready: &str, errors: &mut Errors) {
    let count = |key: &str| int(status, key).unwrap_or(0);
    for key in parts {
        if count(key) > count("replicas") {
            let why = "cannot be greater than status.replicas";
            errors.push(Cause::invalid(STATUS.child(key), count(key), why));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = format!("cannot be greater than {ready}");
        errors.push(Cause::invalid(STATUS.child("availableReplicas"), count("availableReplicas"), &why));
    }
}
