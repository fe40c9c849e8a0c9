//! Jobs: pods that run to their end, each counted exactly once.
//!
//! A job's pods carry a finalizer until they are counted. One look writes down whom it is about to count
//! (`status.uncountedTerminatedPods`) and takes their finalizers off; the next finds the pods free and moves them into the
//! counters. So a crash in between neither loses a pod nor counts one twice. A job is declared over only when all are counted
//! and none is terminating; until then a condition says what it will come to.

mod count;
mod finish;
mod indexes;
mod manage;
mod policy;
mod status;
pub(crate) mod ttl;

pub(crate) use finish::{finished, is_finished};

use crate::job_pod::TRACKING;
use crate::meta::{id, is_deleting, resource, selector};
use crate::replica_set::adopters;
use crate::{Action, Key, ObjectId, Pod, World};
use count::Counts;
use finish::Verdict;
use indexes::Indexes;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_kube::typed::Job;
use stoa_units::Time;

type Spec = k8s_openapi::api::batch::v1::JobSpec;
type Status = k8s_openapi::api::batch::v1::JobStatus;

/// Who looks after jobs that name nobody.
const SELF: &str = "kubernetes.io/job-controller";

/// Looks at one job.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(job) = world.jobs.get(&key.namespace, &key.name) else { return Vec::new() };
    let Some(spec) = &job.spec else { return Vec::new() };
    if spec.managed_by.as_deref().is_some_and(|m| m != SELF) {
        return Vec::new();
    }
    let look = Look::new(world, job, spec);
    if is_finished(job) {
        // Nobody is left to be counted; what still waits to be is let go.
        return look.pods.iter().filter(|p| p.has_finalizer(TRACKING)).map(|p| untrack(p)).collect();
    }
    let moved = look.claim();
    if !moved.is_empty() {
        return moved;
    }
    look.decide()
}

/// All that one look goes by.
struct Look<'a> {
    world: &'a World,
    job: &'a Job,
    spec: &'a Spec,
    status: Status,
    id: ObjectId,
    pods: Vec<&'a Arc<Pod>>,
    /// Completions of an indexed job.
    indexed: Option<u32>,
}

impl<'a> Look<'a> {
    fn new(world: &'a World, job: &'a Job, spec: &'a Spec) -> Look<'a> {
        let id = id(resource("batch", "jobs"), &job.metadata);
        let indexed = spec.completion_mode.as_deref() == Some("Indexed");
        let pods = world.pods.owned_by(&id.uid).collect();
        Look {
            world,
            job,
            spec,
            status: job.status.clone().unwrap_or_default(),
            pods,
            indexed: indexed.then(|| u32::try_from(spec.completions.unwrap_or(0)).unwrap_or(0)),
            id,
        }
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend.unwrap_or(false)
    }

    /// Whether a pod is replaced only when it has ended, rather than as soon as it is told to.
    fn replaces_ended_only(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
            || self.spec.pod_failure_policy.is_some()
    }

    /// Takes over pods that match and belong to nobody, and lets go of those that do not match any more.
    fn claim(&self) -> Vec<Action> {
        let Some(selects) = self.spec.selector.as_ref().and_then(selector) else { return Vec::new() };
        let strangers = self.pods.iter().filter(|p| !selects.matches(&p.labels) && !p.deleting);
        let mut actions: Vec<Action> = strangers
            .map(|p| {
                let left = without_tracking(p);
                let patch = json!({"metadata": {"ownerReferences": null, "finalizers": left}});
                Action::Patch { id: p.id.clone(), subresource: "", patch }
            })
            .collect();
        if is_deleting(&self.job.metadata) {
            return actions;
        }
        for (pod, owners) in adopters(self.world, &self.id, &selects) {
            let mut finalizers = pod.finalizers.clone();
            if !pod.has_finalizer(TRACKING) {
                finalizers.push(TRACKING.to_string());
            }
            let patch = json!({"metadata": {"ownerReferences": owners, "finalizers": finalizers}});
            actions.push(Action::Patch { id: pod.id.clone(), subresource: "", patch });
        }
        actions
    }

    fn decide(&self) -> Vec<Action> {
        let counts = Counts::of(self);
        let mut out = status::Draft::new(self, &counts);
        let mut actions = Vec::new();
        let verdict = self.verdict(&counts);
        let mut active = counts.active.len();
        let (mut deletes, mut creates) = (Vec::new(), Vec::new());
        if verdict.is_some() {
            // They count as failures unless the job has succeeded, so their finalizers are not taken off here.
            deletes.extend(counts.active.iter().map(|p| crate::replica_set::delete(p, &self.id)));
            active = 0;
        } else if !is_deleting(&self.job.metadata) {
            let managed = self.manage(&counts);
            active = managed.active;
            actions.extend(managed.removed.iter().filter(|p| p.has_finalizer(TRACKING)).map(|p| untrack(p)));
            deletes.extend(managed.removed.iter().map(|p| crate::replica_set::delete(p, &self.id)));
            creates = managed.creates;
            actions.extend(managed.again.map(|at| Action::Again { at }));
        }
        let verdict = verdict.or_else(|| self.is_complete(&counts, active).then(Verdict::complete));
        match &verdict {
            Some(verdict) => out.condemn(verdict),
            None => out.suspend_or_resume(),
        }
        out.activity(&counts, counts.active.len() - deletes.len().min(counts.active.len()));
        let freed = out.count(&counts, verdict.as_ref());
        if let Some(verdict) = verdict.as_ref().filter(|_| freed.is_empty() && counts.active.is_empty()) {
            out.conclude(&counts, verdict);
        }
        actions.extend(self.deadline());
        // First what is known is written down, then pods are let go, then new ones are made.
        let mut plan = out.write();
        plan.extend(freed.iter().map(|p| untrack(p)));
        plan.extend(actions);
        plan.extend(deletes);
        plan.extend(creates);
        plan
    }

    /// Whether enough pods have succeeded and none is left.
    fn is_complete(&self, counts: &Counts<'_>, active: usize) -> bool {
        match self.spec.completions {
            Some(wanted) => active == 0 && counts.succeeded >= usize::try_from(wanted).unwrap_or(0),
            None => active == 0 && counts.succeeded > 0,
        }
    }

    /// When the job has taken as long as it may.
    fn overdue_at(&self) -> Option<Time> {
        if self.is_suspended() {
            return None;
        }
        let allowed = u64::try_from(self.spec.active_deadline_seconds?).unwrap_or(0);
        let start = self.status.start_time.as_ref().map(|t| Time(t.0))?;
        Some(start.plus(std::time::Duration::from_secs(allowed)))
    }

    fn deadline(&self) -> Option<Action> {
        self.overdue_at().filter(|at| *at > self.world.now).map(|at| Action::Again { at })
    }
}

/// An index that the job has, by a pod's annotation.
fn index(look: &Look<'_>, pod: &Pod) -> Option<u32> {
    pod.job_index.filter(|i| look.indexed.is_some_and(|n| *i < n))
}

/// Of each index the pods that carry it.
fn by_index<'p>(look: &Look<'_>, pods: &[&'p Arc<Pod>]) -> BTreeMap<u32, Vec<&'p Arc<Pod>>> {
    let mut out: BTreeMap<u32, Vec<&'p Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        if let Some(i) = index(look, pod) {
            out.entry(i).or_default().push(*pod);
        }
    }
    out
}

fn without_tracking(pod: &Pod) -> serde_json::Value {
    let left: Vec<&String> = pod.finalizers.iter().filter(|f| *f != TRACKING).collect();
    if left.is_empty() { serde_json::Value::Null } else { json!(left) }
}

/// Lets a pod go that is counted.
fn untrack(pod: &Pod) -> Action {
    let patch = json!({"metadata": {"finalizers": without_tracking(pod)}});
    Action::Patch { id: pod.id.clone(), subresource: "", patch }
}

#[cfg(test)]
mod tests;
