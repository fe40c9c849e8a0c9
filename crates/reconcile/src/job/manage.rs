//! How many pods a job runs, which go first, and what a new one looks like.

use super::count::Counts;
use super::{Look, by_index, index};
use crate::job_pod::TRACKING;
use crate::replica_set::{BURST_LEN_MAX, create_pod, from_template, order};
use crate::{Action, Pod};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_units::Time;

/// The pause after a first failure, doubled by each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// The longest name before a generated suffix.
const GENERATED_LEN_MAX: usize = 58;

const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const INDEX_IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// What is to happen to a job's pods.
#[derive(Default)]
pub(super) struct Managed<'a> {
    /// How many will run then.
    pub active: usize,
    pub removed: Vec<&'a Arc<Pod>>,
    pub creates: Vec<Action>,
    /// When a pause after failures is over.
    pub again: Option<Time>,
}

impl<'a> Look<'a> {
    pub(super) fn manage(&self, counts: &Counts<'a>) -> Managed<'a> {
        let active = counts.active.len();
        let wanted = if self.is_suspended() { 0 } else { self.wanted(counts) };
        let removed = self.victims(counts, active.saturating_sub(wanted));
        // Either some go or some come: where an index runs twice, the next look makes what is missing.
        if !removed.is_empty() || self.is_suspended() {
            return Managed { active: active - removed.len(), removed, ..Managed::default() };
        }
        let ending = if self.replaces_ended_only() { counts.terminating } else { 0 };
        let missing = wanted.saturating_sub(active + ending).min(BURST_LEN_MAX);
        if missing == 0 {
            return Managed { active, ..Managed::default() };
        }
        let per_index = self.indexed.is_some() && self.spec.backoff_limit_per_index.is_some();
        let pause = if per_index { None } else { self.pause_until() };
        if let Some(at) = pause.filter(|at| *at > self.world.now) {
            return Managed { active, again: Some(at), ..Managed::default() };
        }
        let Some(completions) = self.indexed else {
            let creates = (0..missing).map(|_| self.create(None, None)).collect();
            return Managed { active: active + missing, creates, ..Managed::default() };
        };
        let indexes = self.pending(counts, completions, missing);
        let due =
            |i: &u32| counts.last_tries.get(i).map(|p| self.retry_at(p)).filter(|at| *at > self.world.now);
        let again = indexes.iter().filter_map(due).min();
        let creates: Vec<Action> = indexes
            .iter()
            .filter(|i| due(i).is_none())
            .map(|i| self.create(Some(*i), counts.last_tries.get(i).map(|p| &***p)))
            .collect();
        Managed { active: active + creates.len(), creates, again, ..Managed::default() }
    }

    /// How many pods should run.
    fn wanted(&self, counts: &Counts<'_>) -> usize {
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        match self.spec.completions {
            Some(all) => usize::try_from(all).unwrap_or(0).saturating_sub(counts.succeeded).min(parallelism),
            // A queue that one worker has found empty needs no new workers.
            None if counts.succeeded > 0 => counts.active.len(),
            None => parallelism,
        }
    }

    /// The pods that go: those whose index runs twice or is none, and then by the stock order.
    fn victims(&self, counts: &Counts<'a>, at_least: usize) -> Vec<&'a Arc<Pod>> {
        let ranks = HashMap::new();
        let (mut out, mut rest) = (Vec::new(), Vec::new());
        if self.indexed.is_some() {
            out.extend(counts.active.iter().copied().filter(|p| index(self, p).is_none()));
            for (_, mut pods) in by_index(self, &counts.active) {
                pods.sort_by_key(|p| order(p, &ranks));
                rest.extend(pods.pop());
                out.extend(pods);
            }
        } else {
            rest.clone_from(&counts.active);
        }
        if out.len() < at_least {
            rest.sort_by_key(|p| order(p, &ranks));
            out.extend(rest.into_iter().take(at_least - out.len()));
        }
        out.truncate(BURST_LEN_MAX);
        out
    }

    /// The first indexes that nobody works on and that are not decided.
    fn pending(&self, counts: &Counts<'_>, completions: u32, missing: usize) -> Vec<u32> {
        let ending = self.replaces_ended_only();
        let busy = self.pods.iter().filter(|p| p.is_active() || (ending && p.deleting && !p.is_ended()));
        let taken = counts.done.and(&counts.lost).with(busy.filter_map(|p| index(self, p)));
        taken.missing(completions, missing)
    }

    /// When the pause after the failures since the last success is over. Counted from the pods that are still there; also those
    /// that a policy ignores, or they would follow each other without end.
    fn pause_until(&self) -> Option<Time> {
        let ended = |p: &&&Arc<Pod>| p.phase == "Succeeded";
        let success = self.pods.iter().filter(ended).map(|p| self.ended_at(p)).max();
        let failures = self.pods.iter().filter(|p| self.has_failed(p));
        let times = failures.map(|p| self.ended_at(p)).filter(|t| success.is_none_or(|s| *t > s));
        let (count, last) = times.fold((0u32, None::<Time>), |(n, last), t| (n + 1, last.max(Some(t))));
        last.map(|at| at.plus(backoff(count)))
    }

    /// When the index of a failed pod is tried again.
    fn retry_at(&self, pod: &Pod) -> Time {
        self.ended_at(pod).plus(backoff(pod.job_index_failures + pod.job_index_ignored + 1))
    }

    /// When a pod ended, as well as it is known.
    fn ended_at(&self, pod: &Pod) -> Time {
        let exits = pod.exits.iter().filter_map(|e| e.at).max();
        let unready = || pod.condition("Ready").and_then(|c| c.last_transition_time);
        let told = || pod.deleted_at.map(|t| t.min(self.world.now));
        exits.or_else(told).or_else(unready).unwrap_or(pod.created)
    }

    fn create(&self, index: Option<u32>, last_try: Option<&Pod>) -> Action {
        let mut pod = from_template(&self.id, &self.spec.template);
        let meta = &mut pod["metadata"];
        let mut finalizers: Vec<Value> = meta["finalizers"].as_array().cloned().unwrap_or_default();
        finalizers.retain(|f| f != TRACKING);
        finalizers.push(TRACKING.into());
        meta["finalizers"] = finalizers.into();
        if let Some(i) = index {
            self.number(&mut pod, i, last_try);
        }
        create_pod(&self.id, pod)
    }

    /// Gives a pod its index: in its name, host name, label, annotation and environment.
    fn number(&self, pod: &mut Value, index: u32, last_try: Option<&Pod>) {
        let suffix = format!("-{index}-");
        let name: String = self.id.name.chars().take(GENERATED_LEN_MAX - suffix.len()).collect();
        let meta = &mut pod["metadata"];
        meta["generateName"] = format!("{name}{suffix}").into();
        meta["labels"][INDEX] = index.to_string().into();
        meta["annotations"][INDEX] = index.to_string().into();
        if self.spec.backoff_limit_per_index.is_some() {
            let (failures, ignored) = match last_try {
                Some(p) if self.is_counted(p) => (p.job_index_failures + 1, p.job_index_ignored),
                Some(p) => (p.job_index_failures, p.job_index_ignored + 1),
                None => (0, 0),
            };
            meta["annotations"][INDEX_FAILURES] = failures.to_string().into();
            if ignored > 0 {
                meta["annotations"][INDEX_IGNORED] = ignored.to_string().into();
            }
        }
        let spec = &mut pod["spec"];
        spec["hostname"] = format!("{}-{index}", self.id.name).into();
        let path = format!("metadata.labels['{INDEX}']");
        let variable =
            json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}});
        for kind in ["initContainers", "containers"] {
            for container in spec.get_mut(kind).and_then(Value::as_array_mut).into_iter().flatten() {
                let mut env = container["env"].as_array().cloned().unwrap_or_default();
                if !env.iter().any(|v| v["name"] == variable["name"]) {
                    env.push(variable.clone());
                    container["env"] = env.into();
                }
            }
        }
    }
}

fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => (BACKOFF_MIN * (1u32 << (n - 1).min(10))).min(BACKOFF_MAX),
    }
}
