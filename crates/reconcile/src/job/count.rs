//! Who has ended how, and who is yet to be counted.

use super::policy::{Verdict, judge};
use super::{Indexes, Look, index};
use crate::Pod;
use crate::job_pod::TRACKING;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a job's pods come to.
pub(super) struct Counts<'a> {
    pub active: Vec<&'a Arc<Pod>>,
    pub ready: usize,
    /// Told to end, and not ended.
    pub terminating: usize,
    pub succeeded: usize,
    pub failed: usize,
    /// Counted on paper, and free by now.
    pub settled: (usize, usize),
    /// Counted on paper, and not free yet.
    pub uncounted: (BTreeSet<String>, BTreeSet<String>),
    /// Indexes that have succeeded, of an indexed job.
    pub done: Indexes,
    /// Indexes that have failed for good, of a job with a limit for each.
    pub lost: Indexes,
    /// Of each index that is to be tried again, the pod that failed last: it carries how often that was.
    pub last_tries: BTreeMap<u32, &'a Arc<Pod>>,
}

impl Look<'_> {
    /// Whether a pod counts as failed: also one that is told to end, unless its end is waited for.
    pub(super) fn has_failed(&self, pod: &Pod) -> bool {
        pod.phase == "Failed" || (pod.deleting && pod.phase != "Succeeded" && !self.replaces_ended_only())
    }

    /// Whether a failed pod counts towards the limits.
    pub(super) fn is_counted(&self, pod: &Pod) -> bool {
        judge(self.spec.pod_failure_policy.as_ref(), pod) != Verdict::Ignore
    }

    /// Whether a pod's index has failed for good.
    fn has_lost_index(&self, pod: &Pod, limit: i32) -> bool {
        if !self.has_failed(pod) {
            return false;
        }
        match judge(self.spec.pod_failure_policy.as_ref(), pod) {
            Verdict::FailIndex => true,
            Verdict::Ignore => false,
            _ => i64::from(pod.job_index_failures) >= i64::from(limit),
        }
    }
}

impl<'a> Counts<'a> {
    pub fn of(look: &Look<'a>) -> Counts<'a> {
        let active: Vec<&Arc<Pod>> = look.pods.iter().copied().filter(|p| p.is_active()).collect();
        let tracked: Vec<&Arc<Pod>> =
            look.pods.iter().copied().filter(|p| p.has_finalizer(TRACKING)).collect();
        let held: BTreeSet<&str> = tracked.iter().map(|p| &*p.id.uid).collect();
        let paper = look.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let split = |uids: Option<Vec<String>>| {
            let uids = uids.unwrap_or_default();
            let all = uids.len();
            let still: BTreeSet<String> = uids.into_iter().filter(|u| held.contains(u.as_str())).collect();
            (all - still.len(), still)
        };
        let (settled_well, well) = split(paper.succeeded);
        let (settled_badly, badly) = split(paper.failed);
        let fresh = |p: &&&Arc<Pod>| {
            !well.contains(&*p.id.uid)
                && !badly.contains(&*p.id.uid)
                && (look.indexed.is_none() || index(look, p).is_some())
        };
        let new_well = tracked.iter().filter(fresh).filter(|p| p.phase == "Succeeded");
        let new_badly =
            tracked.iter().filter(fresh).filter(|p| look.has_failed(p) && look.is_counted(p)).count();
        let before = |n: Option<i32>| usize::try_from(n.unwrap_or(0)).unwrap_or(0);
        let completions = look.indexed.unwrap_or(0);
        let done = Indexes::parse(look.status.completed_indexes.as_deref().unwrap_or_default(), completions);
        let (done, succeeded) = match look.indexed {
            Some(_) => {
                let done = done.with(new_well.filter_map(|p| index(look, p)));
                let total = done.total();
                (done, total)
            }
            None => (done, before(look.status.succeeded) + settled_well + well.len() + new_well.count()),
        };
        let mut counts = Counts {
            ready: active.iter().filter(|p| p.is_ready()).count(),
            terminating: look.pods.iter().filter(|p| p.deleting && !p.is_ended()).count(),
            failed: before(look.status.failed) + settled_badly + badly.len() + new_badly,
            settled: (settled_well, settled_badly),
            uncounted: (well, badly),
            lost: Indexes::default(),
            last_tries: BTreeMap::new(),
            active,
            succeeded,
            done,
        };
        if let Some(limit) = look.spec.backoff_limit_per_index.filter(|_| look.indexed.is_some()) {
            counts.judge_indexes(look, limit, &tracked);
        }
        counts
    }

    fn judge_indexes(&mut self, look: &Look<'a>, limit: i32, tracked: &[&'a Arc<Pod>]) {
        let completions = look.indexed.unwrap_or(0);
        let before = look.status.failed_indexes.as_deref().unwrap_or_default();
        let lost = tracked.iter().filter(|p| look.has_lost_index(p, limit)).filter_map(|p| index(look, p));
        self.lost = Indexes::parse(before, completions).with(lost.filter(|i| !self.done.contains(*i)));
        let running: BTreeSet<u32> = self.active.iter().filter_map(|p| index(look, p)).collect();
        for pod in tracked.iter().copied().filter(|p| look.has_failed(p)) {
            let Some(i) = index(look, pod) else { continue };
            if self.done.contains(i) || self.lost.contains(i) || running.contains(&i) {
                continue;
            }
            let tries = |p: &Pod| p.job_index_failures + p.job_index_ignored;
            if self.last_tries.get(&i).is_none_or(|last| tries(last) <= tries(pod)) {
                self.last_tries.insert(i, pod);
            }
        }
    }

    /// Whether a failed pod must stay because it tells how often its index has failed.
    pub fn is_last_try(&self, pod: &Pod) -> bool {
        pod.job_index.and_then(|i| self.last_tries.get(&i)).is_some_and(|last| last.id.uid == pod.id.uid)
    }
}
