//! Jobs and cron jobs.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::field::{Errors, Path, dns_subdomain, indexed, not_negative, one_of, optional_one_of};
use super::{cron, pod, selector};
use crate::default::is_manual_selector;
use crate::value::{at, flag, has, int, items, path, text};

const SPEC: Path<'static> = Path::root("spec");
const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";

pub(super) fn job(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let at_selector = SPEC.child("selector");
    let s = at(spec, "selector");
    let meta = at(object, "metadata");
    let (uid, name) = (text(meta, "uid"), text(meta, "name"));
    if !is_manual_selector(spec) && !uid.is_empty() {
        let own = json!({UID: uid, NAME: name, "controller-uid": uid, "job-name": name});
        let selected = path(s, &["matchLabels", UID]) == uid;
        if !selected || selector::read(s).is_some_and(|w| !selector::matches(&w, &own)) {
            errors.push(Cause::invalid(at_selector, s.clone(), "`selector` not auto-generated"));
        }
    }
    job_spec(spec, SPEC, errors);
    if s.is_null() {
        errors.push(Cause::required(at_selector, ""));
        return;
    }
    selector::check(s, at_selector, errors);
    let labels = path(spec, &["template", "metadata", "labels"]);
    if selector::read(s).is_some_and(|w| !selector::matches(&w, labels)) {
        let template = SPEC.child("template");
        let meta = template.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(Cause::invalid(meta.child("labels"), labels.clone(), why));
    }
}

/// What a job and a cron job's template have in common.
fn job_spec(spec: &Value, at_spec: Path<'_>, errors: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, key, at_spec, errors);
    }
    optional_one_of(spec, "completionMode", &["Indexed", "NonIndexed"], at_spec, errors);
    let indexed_mode = text(spec, "completionMode") == "Indexed";
    if indexed_mode && int(spec, "completions").is_none() {
        errors.push(Cause::required(at_spec.child("completions"), "when completion mode is Indexed"));
    }
    let template = at(spec, "template");
    let at_template = at_spec.child("template");
    pod::template(template, at_template, errors);
    let restart = path(template, &["spec", "restartPolicy"]).as_str().unwrap_or_default();
    let at_pod = at_template.child("spec");
    if restart.is_empty() || restart == "Always" {
        let why = "valid values: \"OnFailure\", \"Never\"";
        errors.push(Cause::required(at_pod.child("restartPolicy"), why));
    } else if !matches!(restart, "OnFailure" | "Never") {
        let known = ["OnFailure", "Never"];
        errors.push(Cause::not_supported(at_pod.child("restartPolicy"), restart, &known));
    } else if restart != "Never" && has(spec, "podFailurePolicy") {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(Cause::invalid(at_pod.child("restartPolicy"), restart, why));
    }
    per_index(spec, at_spec, errors);
    if has(spec, "managedBy") {
        managed_by(text(spec, "managedBy"), at_spec.child("managedBy"), errors);
    }
    if has(spec, "successPolicy") {
        success_policy(spec, at_spec.child("successPolicy"), errors);
    }
    if has(spec, "podFailurePolicy") {
        failure_policy(spec, at_spec.child("podFailurePolicy"), errors);
    }
    let replacement = if has(spec, "podFailurePolicy") { &["Failed"][..] } else { &REPLACEMENTS };
    optional_one_of(spec, "podReplacementPolicy", replacement, at_spec, errors);
}

/// Longest name of who cares for a job.
const MANAGED_BY_LEN_MAX: usize = 63;

/// Who cares for a job says so with a domain of its own.
fn managed_by(name: &str, path: Path<'_>, errors: &mut Errors) {
    match name.split_once('/') {
        _ if name.is_empty() => errors.push(Cause::required(path, "")),
        None | Some(("", _) | (_, "")) => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(Cause::invalid(path, name, why));
        }
        Some((domain, _)) => dns_subdomain(domain, path, errors),
    }
    if name.len() > MANAGED_BY_LEN_MAX {
        errors.push(Cause::too_long(path, MANAGED_BY_LEN_MAX));
    }
}

const REPLACEMENTS: [&str; 2] = ["Failed", "TerminatingOrFailed"];
const NEEDS_INDEX: &str = "requires indexed completion mode";

/// What can be said of single indices only where there are any.
fn per_index(spec: &Value, at_spec: Path<'_>, errors: &mut Errors) {
    let indexed_mode = text(spec, "completionMode") == "Indexed";
    for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let Some(n) = int(spec, key).filter(|_| !indexed_mode) {
            errors.push(Cause::invalid(at_spec.child(key), n, NEEDS_INDEX));
        }
    }
    if !has(spec, "backoffLimitPerIndex") && has(spec, "maxFailedIndexes") {
        let why = "when maxFailedIndexes is specified";
        errors.push(Cause::required(at_spec.child("backoffLimitPerIndex"), why));
    }
    if let (Some(failed), Some(all)) = (int(spec, "maxFailedIndexes"), int(spec, "completions"))
        && failed > all
    {
        let why = "must be less than or equal to completions";
        errors.push(Cause::invalid(at_spec.child("maxFailedIndexes"), failed, why));
    }
}

/// Rules of a policy, of either kind.
const POLICY_RULES_MAX: usize = 20;
/// Exit codes that one rule may name.
const EXIT_CODES_MAX: usize = 255;
/// Conditions that one rule may name.
const CONDITIONS_MAX: usize = 20;

fn success_policy(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    if text(spec, "completionMode") != "Indexed" {
        errors.push(Cause::invalid(path, at(spec, "successPolicy").clone(), NEEDS_INDEX));
    }
    let policy = at(spec, "successPolicy");
    let rules = path.child("rules");
    let count = indexed(policy, "rules").count();
    if count == 0 {
        errors.push(Cause::required(rules, "at least one rules must be specified"));
    } else if count > POLICY_RULES_MAX {
        errors.push(Cause::too_many(rules, count, POLICY_RULES_MAX));
    }
    for (i, rule) in indexed(policy, "rules") {
        let path = rules.index(i);
        if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
            let why = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(Cause::required(path, why));
        }
        not_negative(rule, "succeededCount", path, errors);
        if let (Some(wanted), Some(all)) = (int(rule, "succeededCount"), int(spec, "completions"))
            && wanted > all
        {
            let why = format!("must be less than or equal to {all} (the number of specified completions)");
            errors.push(Cause::invalid(path.child("succeededCount"), wanted, &why));
        }
    }
}

fn failure_policy(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let policy = at(spec, "podFailurePolicy");
    let rules = path.child("rules");
    let count = indexed(policy, "rules").count();
    if count > POLICY_RULES_MAX {
        errors.push(Cause::too_many(rules, count, POLICY_RULES_MAX));
    }
    for (i, rule) in indexed(policy, "rules") {
        let path = rules.index(i);
        let action = text(rule, "action");
        one_of(rule, "action", &["Count", "FailIndex", "FailJob", "Ignore"], path, errors);
        if action == "FailIndex" && !has(spec, "backoffLimitPerIndex") {
            let why = "requires the backoffLimitPerIndex to be set";
            errors.push(Cause::invalid(path.child("action"), action, why));
        }
        let (codes, conditions) = (at(rule, "onExitCodes"), indexed(rule, "onPodConditions").count());
        match (codes.is_object(), conditions > 0) {
            (true, true) => {
                let why = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(Cause::invalid_unshown(path, why));
            }
            (false, false) => {
                let why = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(Cause::invalid_unshown(path, why));
            }
            _ => {}
        }
        if codes.is_object() {
            exit_codes(codes, spec, path.child("onExitCodes"), errors);
        }
        let list = path.child("onPodConditions");
        if conditions > CONDITIONS_MAX {
            errors.push(Cause::too_many(list, conditions, CONDITIONS_MAX));
        }
        for (j, condition) in indexed(rule, "onPodConditions") {
            super::affinity::qualified(condition, "type", list.index(j), errors);
            one_of(condition, "status", &["False", "True", "Unknown"], list.index(j), errors);
        }
    }
}

fn exit_codes(codes: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let operator = text(codes, "operator");
    one_of(codes, "operator", &["In", "NotIn"], path, errors);
    if has(codes, "containerName") {
        let name = text(codes, "containerName");
        let pod = at(at(spec, "template"), "spec");
        let known =
            ["containers", "initContainers"].iter().any(|l| items(pod, l).any(|c| text(c, "name") == name));
        if !known {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.push(Cause::invalid(path.child("containerName"), name, why));
        }
    }
    let list = path.child("values");
    let values: Vec<i64> = items(codes, "values").filter_map(Value::as_i64).collect();
    if values.is_empty() {
        let why = "at least one value is required";
        errors.push(Cause::invalid(list, at(codes, "values").clone(), why));
    } else if values.len() > EXIT_CODES_MAX {
        errors.push(Cause::too_many(list, values.len(), EXIT_CODES_MAX));
    }
    let mut sorted = true;
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            errors.push(Cause::invalid(list.index(i), 0, "must not be 0 for the In operator"));
        }
        if values[..i].contains(value) {
            errors.push(Cause::duplicate(list.index(i), *value));
        }
        sorted &= i == 0 || values[i - 1] <= *value;
    }
    if !sorted {
        errors.push(Cause::invalid(list, at(codes, "values").clone(), "must be ordered"));
    }
}

pub(super) fn job_change(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    let suspended = flag(stored, "suspend");
    for key in [
        "selector",
        "completions",
        "template",
        "completionMode",
        "podFailurePolicy",
        "successPolicy",
        "backoffLimitPerIndex",
        "managedBy",
    ] {
        let elastic = key == "completions"
            && text(spec, "completionMode") == "Indexed"
            && int(spec, "completions") == int(spec, "parallelism");
        // Queueing systems place a job before they let it run.
        if elastic || (key == "template" && suspended) {
            continue;
        }
        if at(stored, key) != at(spec, key) {
            errors.push(Cause::immutable(SPEC.child(key), at(spec, key).clone()));
        }
    }
}

/// Room for the eleven characters that a run's name adds, within a pod's label.
const CRON_NAME_LEN_MAX: usize = 52;

pub(super) fn cron_job(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let name = text(at(object, "metadata"), "name");
    match text(spec, "schedule") {
        "" => errors.push(Cause::required(SPEC.child("schedule"), "")),
        schedule => {
            if let Err(why) = cron::check(schedule) {
                errors.push(Cause::invalid(SPEC.child("schedule"), schedule, &why));
            }
            if schedule.contains("TZ") && !has(spec, "timeZone") {
                let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.push(Cause::invalid(SPEC.child("schedule"), schedule, why));
            }
        }
    }
    not_negative(spec, "startingDeadlineSeconds", SPEC, errors);
    if has(spec, "timeZone") {
        let zone = text(spec, "timeZone");
        if zone.is_empty() {
            let why = "timeZone must be nil or non-empty string";
            errors.push(Cause::invalid(SPEC.child("timeZone"), zone, why));
        } else if zone.eq_ignore_ascii_case("local") || jiff::tz::TimeZone::get(zone).is_err() {
            let why = format!("unknown time zone {zone}");
            errors.push(Cause::invalid(SPEC.child("timeZone"), zone, &why));
        }
    }
    one_of(spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], SPEC, errors);
    let template = SPEC.child("jobTemplate");
    job_spec(path(spec, &["jobTemplate", "spec"]), template.child("spec"), errors);
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec, key, SPEC, errors);
    }
    if name.len() > CRON_NAME_LEN_MAX {
        let why = format!("must be no more than {CRON_NAME_LEN_MAX} characters");
        errors.push(Cause::invalid(Path::root("metadata").child("name"), name, &why));
    }
}

const STATUS: Path<'static> = Path::root("status");

pub(super) fn job_status(object: &Value, errors: &mut Errors) {
    let status = at(object, "status");
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(status, key, STATUS, errors);
    }
    let uncounted = STATUS.child("uncountedTerminatedPods");
    let mut seen = std::collections::HashSet::new();
    for key in ["succeeded", "failed"] {
        let list = uncounted.child(key);
        for (i, uid) in indexed(at(status, "uncountedTerminatedPods"), key) {
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                errors.push(Cause::invalid(list.index(i), uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(Cause::duplicate(list.index(i), uid));
            }
        }
    }
}
