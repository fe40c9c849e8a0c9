//! Jobs and cron jobs.

mod policy;
mod status;

use serde_json::{Value, json};
use stoa_kube::Cause;
use stoa_units::check_dns_label;

use super::field::{Errors, Path, domain_prefixed_path, not_negative};
use super::{cron, internal, pod, selector};
use crate::default::is_manual_selector;
use crate::value::{at, flag, has, int, is_empty, items, items_mut, path, set, text};
pub(super) use status::job_status;

const SPEC: Path<'static> = Path::root("spec");
const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
/// The same labels as they were called before they had a prefix.
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

pub(super) fn job(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    generated_selector(object, spec, errors);
    own_spec(spec, errors);
    let completions = int(spec, "completions").unwrap_or(0);
    if text(spec, "completionMode") == "Indexed" && completions > 0 {
        let name = text(at(object, "metadata"), "name");
        let host = format!("{name}-{}", completions - 1);
        if check_dns_label(&host).is_err() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(Cause::invalid(Path::root("metadata").child("name"), name, &why));
        }
    }
}

/// The labels that tell a job's pods from others' are the cluster's.
fn generated_selector(object: &Value, spec: &Value, errors: &mut Errors) {
    let selector = at(spec, "selector");
    let meta = at(object, "metadata");
    let (uid, name) = (text(meta, "uid"), text(meta, "name"));
    if is_manual_selector(spec) || selector.is_null() || uid.is_empty() {
        return;
    }
    let template = SPEC.child("template");
    let at_meta = template.child("metadata");
    let at_labels = at_meta.child("labels");
    let labels = path(spec, &["template", "metadata", "labels"]);
    for (key, want) in [(OLD_UID, uid), (OLD_NAME, name), (UID, uid), (NAME, name)] {
        let why = format!("must be '{want}'");
        match at(labels, key).as_str() {
            None => errors.push(Cause::required(at_labels.key(key), &why)),
            Some(value) if value != want => {
                errors.push(Cause::invalid(at_labels.key(key), labels.clone(), &why));
            }
            Some(_) => {}
        }
    }
    let own = json!({UID: uid, NAME: name, OLD_UID: uid, OLD_NAME: name});
    if selector::read(selector).is_some_and(|wanted| !selector::matches(&wanted, &own)) {
        let at_selector = SPEC.child("selector");
        let why = "`selector` not auto-generated";
        errors.push(internal::invalid(at_selector, selector, "apis.meta.v1.LabelSelector", why));
    }
}

/// A job's own specification, which selects the pods that its template makes.
fn own_spec(spec: &Value, errors: &mut Errors) {
    job_spec(spec, SPEC, errors);
    let selector = at(spec, "selector");
    let at_selector = SPEC.child("selector");
    let labels = path(spec, &["template", "metadata", "labels"]);
    if selector.is_null() {
        errors.push(Cause::required(at_selector, ""));
    } else {
        selector::check(selector, at_selector, errors);
    }
    // What selects nothing does not select the template either.
    if selector.is_null() || selector::read(selector).is_some_and(|w| !selector::matches(&w, labels)) {
        let template = SPEC.child("template");
        let meta = template.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(Cause::invalid(meta.child("labels"), labels.clone(), why));
    }
}

/// Pods of an indexed job at a time, and indices that may fail.
const INDEXED_MAX: i64 = 100_000;
/// The same where a job has more indices than [`INDEXED_MAX`] and limits how often each may fail.
const INDEXED_MANY_MAX: i64 = 10_000;
/// Longest name of who cares for a job.
const MANAGED_BY_LEN_MAX: usize = 63;

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
    if has(spec, "maxFailedIndexes") && !has(spec, "backoffLimitPerIndex") {
        let why = "when maxFailedIndexes is specified";
        errors.push(Cause::required(at_spec.child("backoffLimitPerIndex"), why));
    }
    if has(spec, "managedBy") {
        let name = text(spec, "managedBy");
        domain_prefixed_path(name, at_spec.child("managedBy"), errors);
        if name.len() > MANAGED_BY_LEN_MAX {
            errors.push(Cause::too_long(at_spec.child("managedBy"), MANAGED_BY_LEN_MAX));
        }
    }
    completion_mode(spec, at_spec, errors);
    if has(spec, "podFailurePolicy") {
        policy::failure(spec, at_spec.child("podFailurePolicy"), errors);
    }
    if has(spec, "successPolicy") {
        policy::success(spec, at_spec.child("successPolicy"), errors);
    }
    policy::replacement(spec, at_spec, errors);
    let at_template = at_spec.child("template");
    pod::template(at(spec, "template"), at_template, errors);
    let restart = path(spec, &["template", "spec", "restartPolicy"]).as_str().unwrap_or_default();
    let at_pod = at_template.child("spec");
    let at_restart = at_pod.child("restartPolicy");
    if restart.is_empty() || restart == "Always" {
        errors.push(Cause::required(at_restart, "valid values: \"OnFailure\", \"Never\""));
    } else if !matches!(restart, "OnFailure" | "Never") {
        errors.push(Cause::not_supported(at_restart, restart, &["OnFailure", "Never"]));
    } else if restart != "Never" && has(spec, "podFailurePolicy") {
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.push(Cause::invalid(at_restart, restart, why));
    }
}

const NEEDS_INDEX: &str = "requires indexed completion mode";

fn completion_mode(spec: &Value, at_spec: Path<'_>, errors: &mut Errors) {
    let mode = text(spec, "completionMode");
    if has(spec, "completionMode") && !matches!(mode, "NonIndexed" | "Indexed") {
        let known = ["NonIndexed", "Indexed"];
        errors.push(Cause::not_supported(at_spec.child("completionMode"), mode, &known));
    }
    if mode == "Indexed" {
        return indexed(spec, at_spec, errors);
    }
    if mode == "NonIndexed" || !has(spec, "completionMode") {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(n) = int(spec, key) {
                errors.push(Cause::invalid(at_spec.child(key), n, NEEDS_INDEX));
            }
        }
    }
}

fn indexed(spec: &Value, at_spec: Path<'_>, errors: &mut Errors) {
    let completions = int(spec, "completions");
    if completions.is_none() {
        errors.push(Cause::required(at_spec.child("completions"), "when completion mode is Indexed"));
    }
    let mut at_most = |key: &str, max: i64, when: &str| {
        if let Some(n) = int(spec, key).filter(|n| *n > max) {
            let why = format!("must be less than or equal to {max}{when}");
            errors.push(Cause::invalid(at_spec.child(key), n, &why));
        }
    };
    at_most("parallelism", INDEXED_MAX, " when completion mode is Indexed");
    if let (Some(failed), Some(all)) = (int(spec, "maxFailedIndexes"), completions)
        && failed > all
    {
        let why = "must be less than or equal to completions";
        errors.push(Cause::invalid(at_spec.child("maxFailedIndexes"), failed, why));
    }
    let mut at_most = |key: &str, max: i64, when: &str| {
        if let Some(n) = int(spec, key).filter(|n| *n > max) {
            let why = format!("must be less than or equal to {max}{when}");
            errors.push(Cause::invalid(at_spec.child(key), n, &why));
        }
    };
    at_most("maxFailedIndexes", INDEXED_MAX, "");
    if completions.is_none_or(|n| n <= INDEXED_MAX) || !has(spec, "backoffLimitPerIndex") {
        return;
    }
    let when = format!(" when completions are above {INDEXED_MAX} and used with backoff limit per index");
    if has(spec, "maxFailedIndexes") {
        at_most("parallelism", INDEXED_MANY_MAX, &when);
        at_most("maxFailedIndexes", INDEXED_MANY_MAX, &when);
    } else {
        let why = format!("must be specified when completions is above {INDEXED_MAX}");
        errors.push(Cause::required(at_spec.child("maxFailedIndexes"), &why));
        if let Some(n) = int(spec, "parallelism").filter(|n| *n > INDEXED_MANY_MAX) {
            let why = format!("must be less than or equal to {INDEXED_MANY_MAX}{when}");
            errors.push(Cause::invalid(at_spec.child("parallelism"), n, &why));
        }
    }
}

pub(super) fn job_change(old: &Value, new: &Value, errors: &mut Errors) {
    // The stock server judges a changed job's specification once as a job's and once as a change's.
    own_spec(at(new, "spec"), errors);
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    let fixed = |key: &str, type_name: &str, errors: &mut Errors| {
        internal::immutable(stored, spec, key, SPEC.child(key), type_name, errors);
    };
    if text(spec, "completionMode") != "Indexed" {
        fixed("completions", "", errors);
    } else if at(stored, "completions") != at(spec, "completions")
        && has(spec, "completions")
        && int(spec, "completions") != int(spec, "parallelism")
    {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(Cause::invalid(SPEC.child("completions"), at(spec, "completions").clone(), why));
    }
    fixed("selector", "apis.meta.v1.LabelSelector", errors);
    template_change(old, at(spec, "template"), errors);
    fixed("completionMode", "", errors);
    fixed("podFailurePolicy", "batch.v1.PodFailurePolicy", errors);
    fixed("backoffLimitPerIndex", "", errors);
    fixed("managedBy", "", errors);
    fixed("successPolicy", "batch.v1.SuccessPolicy", errors);
}

/// Queueing systems place and size a job's pods before they let it run: of a suspended job that has no pods, what the template
/// says of itself may change, and some of what it says of the pods.
fn template_change(old: &Value, template: &Value, errors: &mut Errors) {
    let path_of = SPEC.child("template");
    let stored = path(old, &["spec", "template"]);
    if !may_be_placed(old) {
        if stored != template {
            errors.push(internal::invalid(
                path_of,
                template,
                "core.v1.PodTemplateSpec",
                "field is immutable",
            ));
        }
        return;
    }
    let spec = at(template, "spec");
    if placed(at(stored, "spec"), spec) != *spec {
        let path_of = path_of.child("spec");
        errors.push(internal::invalid(path_of, spec, "core.v1.PodSpec", "field is immutable"));
    }
}

fn may_be_placed(old: &Value) -> bool {
    let status = at(old, "status");
    let is_suspended = |c: &Value| text(c, "type") == "Suspended" && text(c, "status") == "True";
    flag(at(old, "spec"), "suspend")
        && (!has(status, "startTime") || items(status, "conditions").any(is_suspended))
        && int(status, "active").unwrap_or(0) == 0
}

/// The stored specification of the pods with what may change taken from the new one.
fn placed(stored: &Value, new: &Value) -> Value {
    let mut spec = stored.clone();
    let take = |stored: &mut Value, new: &Value, key: &str| match at(new, key) {
        Value::Null => {
            crate::value::remove(stored, key);
        }
        value => set(stored, key, value.clone()),
    };
    for key in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(&mut spec, new, key);
    }
    for list in ["containers", "initContainers"] {
        if items(stored, list).count() != items(new, list).count() {
            continue;
        }
        for (container, new) in items_mut(&mut spec, list).zip(items(new, list)) {
            if text(container, "name") == text(new, "name") {
                take(container, new, "resources");
            }
        }
    }
    node_affinity(&mut spec, at(new, "affinity"));
    spec
}

fn node_affinity(spec: &mut Value, new: &Value) {
    let Some(affinity) = crate::value::ensure(spec, "affinity") else { return };
    match at(new, "nodeAffinity") {
        Value::Null => {
            crate::value::remove(affinity, "nodeAffinity");
        }
        value => set(affinity, "nodeAffinity", value.clone()),
    }
    if new.is_null() && is_empty(spec, "affinity") {
        crate::value::remove(spec, "affinity");
    }
}

/// Room for the eleven characters that a run's name adds, within a pod's label.
const CRON_NAME_LEN_MAX: usize = 52;

pub(super) fn new_cron_job(object: &Value, errors: &mut Errors) {
    cron_job(&Value::Null, object, errors);
    let name = text(at(object, "metadata"), "name");
    if name.len() > CRON_NAME_LEN_MAX {
        let why = format!("must be no more than {CRON_NAME_LEN_MAX} characters");
        errors.push(Cause::invalid(Path::root("metadata").child("name"), name, &why));
    }
}

/// A cron job; `old` is what it was, null if it is new.
pub(super) fn cron_job(old: &Value, object: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(object, "spec"));
    match text(spec, "schedule") {
        "" => errors.push(Cause::required(SPEC.child("schedule"), "")),
        schedule => {
            if let Err(why) = cron::check(schedule) {
                errors.push(Cause::invalid(SPEC.child("schedule"), schedule, &why));
            }
            let zoned_before = text(stored, "schedule").contains("TZ");
            let why = match (schedule.contains("TZ"), zoned_before) {
                (true, true) if has(spec, "timeZone") => {
                    Some("cannot use both timeZone field and TZ or CRON_TZ in schedule")
                }
                (true, false) => Some("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
                _ => None,
            };
            if let Some(why) = why {
                errors.push(Cause::invalid(SPEC.child("schedule"), schedule, why));
            }
        }
    }
    not_negative(spec, "startingDeadlineSeconds", SPEC, errors);
    if has(spec, "timeZone") && at(stored, "timeZone") != at(spec, "timeZone") {
        time_zone(text(spec, "timeZone"), errors);
    }
    let concurrency = text(spec, "concurrencyPolicy");
    if !matches!(concurrency, "Allow" | "Forbid" | "Replace") {
        let known = ["Allow", "Forbid", "Replace"];
        errors.push(Cause::not_supported(SPEC.child("concurrencyPolicy"), concurrency, &known));
    }
    let template = SPEC.child("jobTemplate");
    let at_job = template.child("spec");
    let job = path(spec, &["jobTemplate", "spec"]);
    job_spec(job, at_job, errors);
    if has(job, "selector") {
        let why = "`selector` will be auto-generated";
        let path = at_job.child("selector");
        errors.push(internal::invalid(path, at(job, "selector"), "apis.meta.v1.LabelSelector", why));
    }
    if is_manual_selector(job) {
        errors.push(Cause::not_supported(at_job.child("manualSelector"), true, &["nil", "false"]));
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec, key, SPEC, errors);
    }
}

/// Longest part of a time zone's name.
const ZONE_PART_LEN_MAX: usize = 14;

fn time_zone(zone: &str, errors: &mut Errors) {
    let mut refuse = |why: &str| errors.push(Cause::invalid(SPEC.child("timeZone"), zone, why));
    if zone.is_empty() {
        return refuse("timeZone must be nil or non-empty string");
    }
    let unknown = format!("unknown time zone {zone}");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_+".contains(c);
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= ZONE_PART_LEN_MAX
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.chars().all(is_plain)
    };
    if !zone.split('/').all(is_part) {
        return refuse(&unknown);
    }
    if zone.eq_ignore_ascii_case("local") {
        refuse("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    if zone != "Local" && !cron::is_zone(zone) {
        refuse(&unknown);
    }
}
