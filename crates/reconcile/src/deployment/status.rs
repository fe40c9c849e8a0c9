//! A deployment's status: counts, and the conditions that `kubectl rollout status` waits for.

use super::{NO_DEADLINE, REVISION, Rollout, actual, available, sets, wanted};
use crate::Action;
use crate::meta::{annotation, is_deleting};
use serde_json::{Value, json};
use std::time::Duration;
use stoa_kube::typed::DeploymentSpec;
use stoa_units::Time;

type Condition = k8s_openapi::api::apps::v1::DeploymentCondition;

const AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The counts that decide about progress.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    replicas: i32,
    updated: i32,
    ready: i32,
    available: i32,
}

fn deadline(spec: &DeploymentSpec) -> Option<i32> {
    spec.progress_deadline_seconds.filter(|s| *s != NO_DEADLINE)
}

impl Rollout<'_> {
    fn counts(&self) -> Counts {
        let ready =
            |s: &stoa_kube::typed::ReplicaSet| s.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0);
        Counts {
            replicas: self.sets.iter().map(|s| actual(s)).sum(),
            updated: self.new_set().map_or(0, |s| actual(s)),
            ready: self.sets.iter().map(|s| ready(s)).sum(),
            available: self.sets.iter().map(|s| available(s)).sum(),
        }
    }

    /// Pods that are on their way out, as far as the sets have counted them.
    fn terminating(&self) -> Option<i32> {
        let counts = self.sets.iter().filter_map(|s| s.status.as_ref()?.terminating_replicas);
        counts.fold(None, |sum, n| Some(sum.unwrap_or(0) + n))
    }

    fn old_counts(&self) -> Counts {
        let s = self.deployment.status.clone().unwrap_or_default();
        Counts {
            replicas: s.replicas.unwrap_or(0),
            updated: s.updated_replicas.unwrap_or(0),
            ready: s.ready_replicas.unwrap_or(0),
            available: s.available_replicas.unwrap_or(0),
        }
    }

    /// Whether the newest template is everywhere.
    pub(super) fn is_complete(&self) -> bool {
        let c = self.counts();
        let n = self.replicas();
        self.new.is_some() && c.updated == n && c.replicas == n && c.available == n
    }

    /// Says that the set of that name is being made. All else that the status says stays, so that what the set does then is
    /// measured by it.
    pub(super) fn write_created(&mut self, name: &str) {
        if deadline(self.spec).is_none() {
            return;
        }
        let mut all = self.deployment.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let before = all.clone();
        let message = format!("Created new replica set {name:?}");
        set(&mut all, condition("Progressing", "True", "NewReplicaSetCreated", message, self.world.now));
        if all == before {
            return;
        }
        let (id, patch) = (self.id.clone(), json!({"status": {"conditions": all}}));
        self.actions.push(Action::Patch { id, subresource: "status", patch });
    }

    /// Writes the status if it differs, and the deployment's revision annotation.
    pub(super) fn write_status(&mut self) {
        let meta = &self.deployment.metadata;
        if let Some(set) = self.new_set().filter(|_| !is_deleting(meta)) {
            let revision = sets::revision(set).to_string();
            if revision != "0" && annotation(meta, REVISION) != Some(&revision) {
                let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
                let id = self.id.clone();
                // The status follows at the next look, with the revision that this makes.
                return self.actions.push(Action::Patch { id, subresource: "", patch });
            }
        }
        let c = self.counts();
        let missing = (self.sets.iter().map(|s| wanted(s)).sum::<i32>() - c.available).max(0);
        let conditions = self.conditions(c);
        let count = |n: i32| if n == 0 { Value::Null } else { n.into() };
        let patch = json!({"status": {
            "observedGeneration": meta.generation,
            "replicas": count(c.replicas),
            "updatedReplicas": count(c.updated),
            "readyReplicas": count(c.ready),
            "availableReplicas": count(c.available),
            "unavailableReplicas": count(missing),
            "terminatingReplicas": self.terminating(),
            "conditions": conditions,
        }});
        if differs(&json!(self.deployment.status), &patch["status"]) {
            let id = self.id.clone();
            self.actions.push(Action::Patch { id, subresource: "status", patch });
        }
    }

    fn conditions(&mut self, c: Counts) -> Vec<Condition> {
        let old = self.deployment.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let mut out = old.clone();
        let now = self.world.now;
        if let Some(progressing) = self.progressing(c, old.iter().find(|c| c.type_ == "Progressing")) {
            set(&mut out, progressing);
        }
        let enough = c.available >= self.replicas() - self.max_unavailable();
        let (status, reason, message) = match enough {
            true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
            false => {
                ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
            }
        };
        set(&mut out, condition("Available", status, reason, message.into(), now));
        let failures = self.sets.iter().filter_map(|s| s.status.as_ref()?.conditions.as_ref());
        let failure = failures.flatten().find(|c| c.type_ == "ReplicaFailure" && c.status == "True");
        out.retain(|c| c.type_ != "ReplicaFailure" || failure.is_some());
        if let Some(f) = failure {
            let reason = f.reason.clone().unwrap_or_default();
            let message = f.message.clone().unwrap_or_default();
            set(&mut out, condition("ReplicaFailure", "True", &reason, message, now));
        }
        out
    }

    /// The `Progressing` condition as it should be; nothing where it stays.
    fn progressing(&mut self, c: Counts, old: Option<&Condition>) -> Option<Condition> {
        let now = self.world.now;
        let limit = deadline(self.spec)?;
        let is = |reason: &str| old.is_some_and(|c| c.reason.as_deref() == Some(reason));
        let make = |status, reason, message| Some(condition("Progressing", status, reason, message, now));
        if self.spec.paused == Some(true) {
            return make("Unknown", "DeploymentPaused", "Deployment is paused".into())
                .filter(|_| !is(TIMED_OUT));
        }
        if is("DeploymentPaused") {
            return make("Unknown", "DeploymentResumed", "Deployment is resumed".into());
        }
        let set = self.new_set()?;
        let set = format!("ReplicaSet \"{}\"", set.metadata.name.as_deref().unwrap_or_default());
        if is(AVAILABLE) && c.replicas == c.updated && self.is_complete() {
            // It was complete and still is: the condition names the set that it is about.
            return make("True", AVAILABLE, format!("{set} has successfully progressed."));
        }
        if self.is_complete() {
            return make("True", AVAILABLE, format!("{set} has successfully progressed."));
        }
        if is(AVAILABLE) && c.replicas == c.updated {
            // A pod of a finished rollout died: no rollout, no deadline.
            return None;
        }
        let before = self.old_counts();
        let moved = c.updated > before.updated
            || c.replicas - c.updated < before.replicas - before.updated
            || c.ready > before.ready
            || c.available > before.available;
        if moved {
            self.look_again(now, limit);
            return make("True", "ReplicaSetUpdated", format!("{set} is progressing."));
        }
        let name = self.new_set()?.metadata.name.clone().unwrap_or_default();
        if old.is_none() {
            self.look_again(now, limit);
            return make("True", "FoundNewReplicaSet", format!("Found new replica set {name:?}"));
        }
        if is(AVAILABLE) {
            // A set of before is taken up again; no progress is no failure yet.
            return None;
        }
        let last = old.and_then(|c| c.last_update_time.as_ref()).map_or(now, |t| Time(t.0));
        let until = last.plus(Duration::from_secs(limit.max(0).unsigned_abs().into()));
        if is(TIMED_OUT) || now >= until {
            return make("False", TIMED_OUT, format!("{set} has timed out progressing."));
        }
        self.actions.push(Action::Again { at: until });
        None
    }

    fn look_again(&mut self, now: Time, limit: i32) {
        let at = now.plus(Duration::from_secs(limit.max(0).unsigned_abs().into()));
        self.actions.push(Action::Again { at });
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Time) -> Condition {
    let at = stoa_kube::typed::Time(now.0);
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(at.clone()),
        last_transition_time: Some(at),
    }
}

/// Sets a condition. One that says the same stays as it is; one of the same status keeps its time of transition.
fn set(all: &mut Vec<Condition>, mut new: Condition) {
    let Some(old) = all.iter().position(|c| c.type_ == new.type_) else { return all.push(new) };
    let same_status = all[old].status == new.status;
    let progress = new.type_ == "Progressing" && new.reason.as_deref() == Some("ReplicaSetUpdated");
    if same_status && all[old].reason == new.reason && all[old].message == new.message && !progress {
        return;
    }
    if same_status {
        new.last_transition_time = all[old].last_transition_time.clone();
    }
    all.remove(old);
    all.push(new);
}

/// Whether merging `patch` would change `status`. Null means absent.
pub(crate) fn differs(status: &Value, patch: &Value) -> bool {
    let Some(fields) = patch.as_object() else { return true };
    fields.iter().any(|(k, v)| {
        let now = status.get(k).unwrap_or(&Value::Null);
        // What is absent counts as zero or empty.
        let blank = |v: &Value| v.is_null() || *v == json!(0) || v.as_array().is_some_and(Vec::is_empty);
        now != v && !(blank(now) && blank(v))
    })
}
