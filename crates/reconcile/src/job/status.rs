//! A job's status: what was said before, what is to be said, and who is counted now.

use super::count::Counts;
use super::finish::{End, Verdict};
use super::{Look, index};
use crate::job_pod::TRACKING;
use crate::meta::{is_deleting, time};
use crate::{Action, Level, Pod};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use stoa_units::Time;

/// Pods that are on paper at the same time.
const UNCOUNTED_LEN_MAX: usize = 500;

/// A status in the making.
pub(super) struct Draft<'l, 'a> {
    look: &'l Look<'a>,
    old: Value,
    new: Value,
    conditions: Vec<Value>,
    events: Vec<(Level, &'static str, String)>,
    /// Nobody is on paper.
    all_counted: bool,
}

impl<'l, 'a> Draft<'l, 'a> {
    pub fn new(look: &'l Look<'a>, counts: &Counts<'_>) -> Draft<'l, 'a> {
        let old = json!(look.status);
        let conditions = old["conditions"].as_array().cloned().unwrap_or_default();
        let mut draft =
            Draft { look, new: json!({}), old, conditions, events: Vec::new(), all_counted: false };
        let start = look.status.start_time.as_ref().map(|t| Time(t.0));
        let begun = start.or_else(|| (!look.is_suspended()).then_some(look.world.now));
        draft.new["startTime"] = begun.map_or(Value::Null, time);
        let before = |n: Option<i32>| usize::try_from(n.unwrap_or(0)).unwrap_or(0);
        draft.new["succeeded"] = match look.indexed {
            Some(_) => json!(counts.done.total()),
            None => json!(before(look.status.succeeded) + counts.settled.0),
        };
        draft.new["failed"] = json!(before(look.status.failed) + counts.settled.1);
        if look.indexed.is_some() {
            let done = counts.done.to_string();
            draft.new["completedIndexes"] = if done.is_empty() { Value::Null } else { done.into() };
            if look.spec.backoff_limit_per_index.is_some() {
                draft.new["failedIndexes"] = counts.lost.to_string().into();
            }
        }
        draft
    }

    fn condition(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = time(self.look.world.now);
        let condition = json!({"type": kind, "status": status, "reason": reason, "message": message,
            "lastProbeTime": now, "lastTransitionTime": now});
        match self.conditions.iter_mut().find(|c| c["type"] == kind) {
            Some(there) if there["status"] == status => {}
            Some(there) => *there = condition,
            None => self.conditions.push(condition),
        }
    }

    fn holds(&self, kind: &str) -> Option<bool> {
        self.conditions.iter().find(|c| c["type"] == kind).map(|c| c["status"] == "True")
    }

    /// Says what the job will come to.
    pub fn condemn(&mut self, verdict: &Verdict) {
        let target = verdict.end.target();
        self.condition(target, "True", verdict.reason, &verdict.message);
    }

    /// Says that the job is over.
    pub fn conclude(&mut self, counts: &Counts<'_>, verdict: &Verdict) {
        if counts.terminating > 0 || !self.all_counted {
            return;
        }
        self.condition(verdict.end.condition(), "True", verdict.reason, &verdict.message);
        match verdict.end {
            End::Success => {
                self.new["completionTime"] = time(self.look.world.now);
                self.events.push((Level::Normal, "Completed", "Job completed".into()));
            }
            End::Failure => {
                self.events.push((Level::Warning, verdict.reason, verdict.message.clone()));
            }
        }
    }

    /// Says whether the job rests. One that goes on begins anew.
    pub fn suspend_or_resume(&mut self) {
        if is_deleting(&self.look.job.metadata) {
            return;
        }
        match (self.look.is_suspended(), self.holds("Suspended")) {
            (true, None | Some(false)) => {
                self.condition("Suspended", "True", "JobSuspended", "Job suspended");
                self.events.push((Level::Normal, "Suspended", "Job suspended".into()));
                self.new["startTime"] = Value::Null;
            }
            (false, Some(true)) => {
                self.condition("Suspended", "False", "JobResumed", "Job resumed");
                self.events.push((Level::Normal, "Resumed", "Job resumed".into()));
                self.new["startTime"] = time(self.look.world.now);
            }
            _ => {}
        }
    }

    /// Says what goes on.
    pub fn activity(&mut self, counts: &Counts<'_>, active: usize) {
        self.new["active"] = json!(active);
        // Pods that are being let go may still be ready.
        self.new["ready"] = json!(counts.ready.min(active));
        self.new["terminating"] = json!(counts.terminating);
    }

    /// Puts on paper whom to count, and returns the pods that are then to be let go.
    pub fn count(&mut self, counts: &Counts<'_>, verdict: Option<&Verdict>) -> Vec<&'a Arc<Pod>> {
        let look = self.look;
        let (mut well, mut badly) = counts.uncounted.clone();
        let mut freed: Vec<&'a Arc<Pod>> = Vec::new();
        let deleting = is_deleting(&look.job.metadata);
        let before = super::Indexes::parse(
            look.status.completed_indexes.as_deref().unwrap_or_default(),
            look.indexed.unwrap_or(0),
        );
        let (mut indexes, mut full) = (BTreeSet::new(), false);
        for pod in look.pods.iter().copied().filter(|p| p.has_finalizer(TRACKING)) {
            if indexes.len() + well.len() + badly.len() >= UNCOUNTED_LEN_MAX {
                full = true;
                break;
            }
            let failed = look.has_failed(pod);
            let succeeded = pod.phase == "Succeeded";
            let over = deleting || verdict.is_some();
            let waits = match () {
                () if over => false,
                () if failed => counts.is_last_try(pod),
                () => !succeeded,
            };
            if waits {
                continue;
            }
            freed.push(pod);
            let uid = pod.id.uid.to_string();
            if succeeded && !badly.contains(&uid) {
                match (look.indexed.is_some(), index(look, pod)) {
                    (false, _) => {
                        well.insert(uid);
                    }
                    // The index tells that it is counted.
                    (true, Some(i)) if !before.contains(i) => {
                        indexes.insert(i);
                    }
                    (true, _) => {}
                }
            } else if failed || verdict.is_some_and(|v| v.end == End::Failure) {
                let ours = look.indexed.is_none() || index(look, pod).is_some();
                if ours && look.is_counted(pod) {
                    badly.insert(uid);
                }
            }
        }
        self.all_counted = !full && freed.is_empty() && well.is_empty() && badly.is_empty();
        let list = |set: BTreeSet<String>| if set.is_empty() { Value::Null } else { json!(set) };
        self.new["uncountedTerminatedPods"] = json!({"succeeded": list(well), "failed": list(badly)});
        freed
    }

    /// What is to be written, if anything is new, and what is to be told.
    pub fn write(mut self) -> Vec<Action> {
        if !self.conditions.is_empty() {
            self.new["conditions"] = self.conditions.clone().into();
        }
        let blank = |v: &Value| v.is_null() || *v == json!(0) || *v == json!({});
        let bare = |v: &Value| {
            let mut v = v.clone();
            if let Some(o) = v.as_object_mut() {
                o.retain(|_, f| !f.is_null());
            }
            v
        };
        let never = self.look.job.status.as_ref().is_none_or(|s| s.uncounted_terminated_pods.is_none());
        let differs = self.new.as_object().into_iter().flatten().any(|(k, v)| {
            let (was, is) = (bare(self.old.get(k).unwrap_or(&Value::Null)), bare(v));
            was != is && !(blank(&was) && blank(&is))
        });
        if !differs && !never {
            return Vec::new();
        }
        for counter in ["succeeded", "failed", "active"] {
            if self.new[counter] == 0 {
                self.new[counter] = Value::Null;
            }
        }
        let id = self.look.id.clone();
        let told = self.events.into_iter().map(|(level, reason, message)| Action::Event {
            about: id.clone(),
            level,
            reason,
            message,
        });
        let patch = json!({"status": self.new});
        let write = Action::Patch { id: id.clone(), subresource: "status", patch };
        [write].into_iter().chain(told).collect()
    }
}
