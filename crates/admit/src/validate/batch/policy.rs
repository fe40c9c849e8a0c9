//! When a job's pods that fail or succeed decide about the job.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::super::field::{Errors, Path, indexed, name_error, not_negative};
use super::super::internal;
use super::NEEDS_INDEX;
use super::status::indices;
use crate::value::{at, has, int, items, text};

/// Rules of a policy, of either kind.
const RULES_MAX: usize = 20;
/// Exit codes that one rule may name.
const EXIT_CODES_MAX: usize = 255;
/// Conditions that one rule may name.
const CONDITIONS_MAX: usize = 20;
/// Bytes of a list of indices.
const INDICES_BYTES_MAX: usize = 64 * 1024;

pub(super) fn success(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let policy = at(spec, "successPolicy");
    if text(spec, "completionMode") != "Indexed" {
        errors.push(internal::invalid(path, policy, "batch.v1.SuccessPolicy", NEEDS_INDEX));
        return;
    }
    let rules = path.child("rules");
    let count = indexed(policy, "rules").count();
    if count == 0 {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Cause::required(rules, why));
    }
    if count > RULES_MAX {
        errors.push(Cause::too_many(rules, count, RULES_MAX));
    }
    for (i, rule) in indexed(policy, "rules") {
        success_rule(rule, int(spec, "completions").unwrap_or(0), rules.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: Path<'_>, errors: &mut Errors) {
    if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(Cause::required(path, why));
    }
    let mut total = 0;
    if has(rule, "succeededIndexes") {
        let list = text(rule, "succeededIndexes");
        let path = path.child("succeededIndexes");
        if list.len() > INDICES_BYTES_MAX {
            errors.push(Cause::too_long(path, INDICES_BYTES_MAX));
        }
        match indices(list, completions) {
            Ok(n) => total = n,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(Cause::invalid(path, list, &why));
            }
        }
    }
    let Some(wanted) = int(rule, "succeededCount") else { return };
    not_negative(rule, "succeededCount", path, errors);
    let mut at_most = |max: i64, what: &str| {
        if wanted > max {
            let why = format!("must be less than or equal to {max} (the number of {what})");
            errors.push(Cause::invalid(path.child("succeededCount"), wanted, &why));
        }
    };
    at_most(completions, "specified completions");
    if has(rule, "succeededIndexes") {
        at_most(total, "indexes in the specified succeededIndexes field");
    }
}

pub(super) fn failure(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let policy = at(spec, "podFailurePolicy");
    let rules = path.child("rules");
    let count = indexed(policy, "rules").count();
    if count > RULES_MAX {
        errors.push(Cause::too_many(rules, count, RULES_MAX));
    }
    let pod = at(at(spec, "template"), "spec");
    let lists = ["containers", "initContainers"].into_iter().flat_map(|list| items(pod, list));
    let names: HashSet<&str> = lists.map(|c| text(c, "name")).collect();
    for (i, rule) in indexed(policy, "rules") {
        failure_rule(rule, spec, &names, rules.index(i), errors);
    }
}

/// One of a few values; what they are is said where there is none.
fn one_of_told(v: &Value, key: &str, known: &[&str], path: Path<'_>, errors: &mut Errors) {
    let value = text(v, key);
    if value.is_empty() {
        let quoted: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
        errors.push(Cause::required(path.child(key), &format!("valid values: [{}]", quoted.join(" "))));
    } else if !known.contains(&value) {
        errors.push(Cause::not_supported(path.child(key), value, known));
    }
}

fn failure_rule(rule: &Value, spec: &Value, names: &HashSet<&str>, path: Path<'_>, errors: &mut Errors) {
    one_of_told(rule, "action", &["Count", "FailIndex", "FailJob", "Ignore"], path, errors);
    if text(rule, "action") == "FailIndex" && !has(spec, "backoffLimitPerIndex") {
        let why = "requires the backoffLimitPerIndex to be set";
        errors.push(Cause::invalid(path.child("action"), "FailIndex", why));
    }
    let codes = at(rule, "onExitCodes");
    if codes.is_object() {
        exit_codes(codes, names, path.child("onExitCodes"), errors);
    }
    let list = path.child("onPodConditions");
    let conditions = indexed(rule, "onPodConditions").count();
    if conditions > CONDITIONS_MAX {
        errors.push(Cause::too_many(list, conditions, CONDITIONS_MAX));
    }
    for (j, condition) in indexed(rule, "onPodConditions") {
        let kind = text(condition, "type");
        name_error(stoa_units::check_label_key(kind), kind, list.index(j).child("type"), errors);
        one_of_told(condition, "status", &["False", "True", "Unknown"], list.index(j), errors);
    }
    let why = match (codes.is_object(), conditions > 0) {
        (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
        (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
        _ => return,
    };
    errors.push(Cause::invalid_unshown(path, why));
}

fn exit_codes(codes: &Value, names: &HashSet<&str>, path: Path<'_>, errors: &mut Errors) {
    let operator = text(codes, "operator");
    one_of_told(codes, "operator", &["In", "NotIn"], path, errors);
    if has(codes, "containerName") {
        let name = text(codes, "containerName");
        if !names.contains(name) {
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
    let mut seen = std::collections::HashSet::new();
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            errors.push(Cause::invalid(list.index(i), 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(value) {
            errors.push(Cause::duplicate(list.index(i), *value));
        }
    }
    if !values.is_sorted() {
        errors.push(Cause::invalid(list, at(codes, "values").clone(), "must be ordered"));
    }
}

/// What becomes of pods that are on their way out.
pub(super) fn replacement(spec: &Value, at_spec: Path<'_>, errors: &mut Errors) {
    let known =
        if has(spec, "podFailurePolicy") { &["Failed"][..] } else { &["Failed", "TerminatingOrFailed"] };
    super::super::field::optional_one_of(spec, "podReplacementPolicy", known, at_spec, errors);
}
