//! What may be said of a job's progress: it does not go back, and an end is one.

use serde_json::Value;
use std::cmp::Ordering;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::Time;

use super::super::field::{Errors, Path, indexed, not_negative};
use super::super::internal;
use crate::value::{at, flag, has, int, is_empty, items, text};

const STATUS: Path<'static> = Path::root("status");

pub(in super::super) fn job_status(old: &Value, new: &Value, errors: &mut Errors) {
    let status = at(new, "status");
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(status, key, STATUS, errors);
    }
    uncounted(status, errors);
    let (was, is) = (State::read(old), State::read(new));
    end(&was, &is, errors);
    indices_done(old, new, errors);
    rest(&was, &is, errors);
    criteria(&is, errors);
    change(&was, &is, errors);
}

/// A job's conditions that hold, and what else is compared.
struct State<'a> {
    spec: &'a Value,
    status: &'a Value,
    complete: bool,
    failed: bool,
    failure_target: bool,
    criteria_met: bool,
}

impl<'a> State<'a> {
    fn read(job: &'a Value) -> State<'a> {
        let status = at(job, "status");
        let holds = |kind: &str| {
            items(status, "conditions").any(|c| text(c, "type") == kind && text(c, "status") == "True")
        };
        State {
            spec: at(job, "spec"),
            status,
            complete: holds("Complete"),
            failed: holds("Failed"),
            failure_target: holds("FailureTarget"),
            criteria_met: holds("SuccessCriteriaMet"),
        }
    }

    fn is_finished(&self) -> bool {
        self.complete || self.failed
    }

    fn count(&self, key: &str) -> i64 {
        int(self.status, key).unwrap_or(0)
    }

    fn is_indexed(&self) -> bool {
        text(self.spec, "completionMode") == "Indexed"
    }

    fn differs(&self, other: &State<'_>, key: &str) -> bool {
        at(self.status, key) != at(other.status, key)
    }
}

fn uncounted(status: &Value, errors: &mut Errors) {
    let path = STATUS.child("uncountedTerminatedPods");
    let mut seen = HashSet::new();
    for key in ["succeeded", "failed"] {
        let list = path.child(key);
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

fn conditions(why: &str, errors: &mut Errors) {
    errors.push(Cause::invalid_unshown(STATUS.child("conditions"), why));
}

/// An end is of one kind, has its time, and leaves nothing running. Only what changes is judged.
fn end(was: &State<'_>, is: &State<'_>, errors: &mut Errors) {
    let status = is.status;
    let completes = was.complete != is.complete;
    let times = completes || was.differs(is, "completionTime");
    let at_completion = STATUS.child("completionTime");
    if (completes || was.failed != is.failed) && is.complete && is.failed {
        conditions("cannot set Complete=True and Failed=true conditions", errors);
    }
    if (completes || was.failure_target != is.failure_target) && is.complete && is.failure_target {
        conditions("cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    let completion = at(status, "completionTime");
    if times && has(status, "completionTime") && !is.complete {
        let why = "cannot set completionTime when there is no Complete=True condition";
        errors.push(Cause::invalid(at_completion, completion.clone(), why));
    }
    if times && !has(status, "completionTime") && is.complete {
        errors.push(Cause::required(at_completion, "completionTime is required for Complete jobs"));
    }
    let instant = |key: &str| Time::parse(text(status, key));
    if (was.differs(is, "startTime") || was.differs(is, "completionTime"))
        && let (Some(start), Some(end)) = (instant("startTime"), instant("completionTime"))
        && end.cmp(&start) == Ordering::Less
    {
        let why = "completionTime cannot be set before startTime";
        errors.push(Cause::invalid(at_completion, completion.clone(), why));
    }
    if was.failed != is.failed && is.failed && !is.failure_target {
        conditions("cannot set Failed=True condition without the FailureTarget=true condition", errors);
    }
    if completes && is.complete && !is.criteria_met {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        conditions(why, errors);
    }
    let finishes = was.is_finished() != is.is_finished();
    if (finishes || was.count("active") != is.count("active")) && is.count("active") > 0 && is.is_finished() {
        let why = "active>0 is invalid for finished job";
        errors.push(Cause::invalid(STATUS.child("active"), is.count("active"), why));
    }
    if (finishes || was.differs(is, "startTime")) && !has(status, "startTime") && is.is_finished() {
        errors.push(Cause::required(STATUS.child("startTime"), "startTime is required for finished job"));
    }
    let pods = at(status, "uncountedTerminatedPods");
    let uncounted = !is_empty(pods, "succeeded") || !is_empty(pods, "failed");
    if (finishes || was.differs(is, "uncountedTerminatedPods")) && is.is_finished() && uncounted {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        let path = STATUS.child("uncountedTerminatedPods");
        errors.push(internal::invalid(path, pods, "batch.v1.UncountedTerminatedPods", why));
    }
}

/// What is said of single indices.
fn indices_done(old: &Value, new: &Value, errors: &mut Errors) {
    let (was, is) = (State::read(old), State::read(new));
    let (at_completed, at_failed) = (STATUS.child("completedIndexes"), STATUS.child("failedIndexes"));
    let (completed, failed) = (text(is.status, "completedIndexes"), text(is.status, "failedIndexes"));
    let completed_change = text(was.status, "completedIndexes") != completed;
    let failed_change = was.differs(&is, "failedIndexes");
    let per_index = has(is.spec, "backoffLimitPerIndex");
    let completions = int(is.spec, "completions");
    if let Some(all) = completions {
        if completed_change && let Err(why) = indices(completed, all) {
            let why = format!("error parsing completedIndexes: {why}");
            errors.push(Cause::invalid(at_completed, completed, &why));
        }
        if failed_change
            && per_index
            && has(is.status, "failedIndexes")
            && let Err(why) = indices(failed, all)
        {
            errors.push(Cause::invalid(at_failed, failed, &format!("error parsing failedIndexes: {why}")));
        }
    }
    if completed_change && !completed.is_empty() && !is.is_indexed() {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Cause::invalid(at_completed, completed, why));
    }
    if failed_change && !per_index && has(is.status, "failedIndexes") {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Cause::invalid(at_failed, failed, why));
    }
    if let Some(all) = completions
        && (completed_change || failed_change)
        && let Some(index) = overlap(completed, failed, all)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(Cause::invalid(at_failed, failed, &why));
    }
}

/// Pods that are going or ready.
fn rest(was: &State<'_>, is: &State<'_>, errors: &mut Errors) {
    let finishes = was.is_finished() != is.is_finished();
    if (finishes || was.differs(is, "terminating")) && is.count("terminating") > 0 && is.is_finished() {
        let why = "terminating>0 is invalid for finished job";
        errors.push(Cause::invalid(STATUS.child("terminating"), is.count("terminating"), why));
    }
    let moves = was.differs(is, "ready") || was.count("active") != is.count("active");
    if moves && is.count("ready") > is.count("active") {
        let why = "cannot set more ready pods than active";
        errors.push(Cause::invalid(STATUS.child("ready"), is.count("ready"), why));
    }
}

fn criteria(is: &State<'_>, errors: &mut Errors) {
    if is.criteria_met && is.failed {
        conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions", errors);
    }
    if is.criteria_met && is.failure_target {
        conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions", errors);
    }
    if has(is.spec, "successPolicy") && !is.criteria_met && is.complete {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        conditions(why, errors);
    }
}

/// What has been said stays said.
fn change(was: &State<'_>, is: &State<'_>, errors: &mut Errors) {
    for (kind, before, after) in [
        ("Failed", was.failed, is.failed),
        ("Complete", was.complete, is.complete),
        ("FailureTarget", was.failure_target, is.failure_target),
    ] {
        if before && !after {
            conditions(&format!("cannot disable the terminal {kind}=True condition"), errors);
        }
    }
    let elastic = is.is_indexed() && at(is.spec, "completions") == at(is.spec, "parallelism");
    for (key, may_shrink) in [("failed", false), ("succeeded", elastic)] {
        if is.count(key) < was.count(key) && !may_shrink {
            let why = format!("cannot decrease the {key} counter");
            errors.push(Cause::invalid(STATUS.child(key), is.count(key), &why));
        }
    }
    let stays = |key: &str| !has(was.status, key) || at(was.status, key) == at(is.status, key);
    if has(is.status, "completionTime") && !stays("completionTime") {
        let value = at(is.status, "completionTime").clone();
        errors.push(Cause::invalid(
            STATUS.child("completionTime"),
            value,
            "completionTime cannot be mutated",
        ));
    }
    // One that goes on after a rest begins anew.
    if has(was.status, "startTime") && !has(is.status, "startTime") && !flag(is.spec, "suspend") {
        let why = "startTime cannot be removed for unsuspended job";
        errors.push(Cause::required(STATUS.child("startTime"), why));
    }
    if was.criteria_met && !is.criteria_met {
        conditions("cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if was.complete && !was.criteria_met && is.criteria_met {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        conditions(why, errors);
    }
}

/// How many indices a list such as `0,2-4` names, all below `completions`.
pub(super) fn indices(list: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    if list.is_empty() {
        return Ok(0);
    }
    for part in list.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let ends: Vec<&str> = part.split('-').collect();
    let number = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(n) if n >= completions => Err(format!("too large index: {text:?}")),
        Ok(n) => Ok(n),
    };
    match ends[..] {
        [one] => number(one).map(|n| (n, n)),
        [first, end] => {
            let (first, end) = (number(first)?, number(end)?);
            if first >= end {
                return Err(format!("non-increasing order, previous: {first}, current: {end}"));
            }
            Ok((first, end))
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

/// The first index that is on both lists.
fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let read = |list: &str| -> Vec<(i64, i64)> {
        list.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut i, mut j) = (0, 0);
    while let (Some(c), Some(f)) = (completed.get(i), failed.get(j)) {
        if c.0 <= f.1 && f.0 <= c.1 {
            return Some(c.0.max(f.0));
        }
        if c.0 <= f.0 { i += 1 } else { j += 1 }
    }
    None
}
