//! When a job is over, and why.

use super::count::Counts;
use super::policy::{self, judge};
use super::{Look, policy::Verdict as PodVerdict};
use std::sync::Arc;
use stoa_kube::typed::Job;
use stoa_units::Time;

/// What a job has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub end: End,
    pub reason: &'static str,
    pub message: String,
}

/// Why jobs end. What somebody else wrote into a status is told by the last one.
const REASONS: [&str; 8] = [
    "PodFailurePolicy",
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "MaxFailedIndexesExceeded",
    "FailedIndexes",
    "SuccessPolicy",
    "CompletionsReached",
    "JobFinished",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Failure,
}

impl End {
    /// The condition that says what the job will come to.
    pub fn target(self) -> &'static str {
        match self {
            End::Success => "SuccessCriteriaMet",
            End::Failure => "FailureTarget",
        }
    }

    /// The condition that says that it is over.
    pub fn condition(self) -> &'static str {
        match self {
            End::Success => "Complete",
            End::Failure => "Failed",
        }
    }
}

impl Verdict {
    fn failure(reason: &'static str, message: impl Into<String>) -> Verdict {
        Verdict { end: End::Failure, reason, message: message.into() }
    }

    fn success(reason: &'static str, message: impl Into<String>) -> Verdict {
        Verdict { end: End::Success, reason, message: message.into() }
    }

    /// Enough pods have succeeded.
    pub fn complete() -> Verdict {
        Verdict::success("CompletionsReached", "Reached expected number of succeeded pods")
    }
}

/// How a job ended and when, if it has.
pub(crate) fn finished(job: &Job) -> Option<(&'static str, Time)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let holds = |kind: &'static str| {
        let c = conditions.iter().find(|c| c.type_ == kind && c.status == "True")?;
        Some((kind, c.last_transition_time.as_ref().map_or(Time::EPOCH, |t| Time(t.0))))
    };
    holds("Complete").or_else(|| holds("Failed"))
}

/// Whether a job is over.
pub(crate) fn is_finished(job: &Job) -> bool {
    finished(job).is_some()
}

impl Look<'_> {
    /// What the job comes to, if that is decided before enough pods have succeeded.
    pub(super) fn verdict(&self, counts: &Counts<'_>) -> Option<Verdict> {
        self.said().or_else(|| self.failure(counts)).or_else(|| {
            let policy = self.spec.success_policy.as_ref()?;
            let message = policy::succeeded(policy, &counts.done, self.indexed?)?;
            Some(Verdict::success("SuccessPolicy", message))
        })
    }

    /// What was decided at an earlier look.
    fn said(&self) -> Option<Verdict> {
        let conditions = self.status.conditions.as_ref()?;
        [End::Failure, End::Success].into_iter().find_map(|end| {
            let c = conditions.iter().find(|c| c.type_ == end.target() && c.status == "True")?;
            let known = REASONS.iter().find(|r| c.reason.as_deref() == Some(**r));
            let reason = known.copied().unwrap_or("JobFinished");
            Some(Verdict { end, reason, message: c.message.clone().unwrap_or_default() })
        })
    }

    fn failure(&self, counts: &Counts<'_>) -> Option<Verdict> {
        let policy = self.spec.pod_failure_policy.as_ref();
        let failed = self.pods.iter().filter(|p| policy.is_some() && self.has_failed(p));
        if let Some(why) = failed.map(|p| judge(policy, p)).find_map(|v| match v {
            PodVerdict::FailJob(why) => Some(why),
            _ => None,
        }) {
            return Some(Verdict::failure("PodFailurePolicy", why));
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if counts.failed > usize::try_from(limit).unwrap_or(0) || self.restarts_exceed(limit) {
            let message = "Job has reached the specified backoff limit";
            return Some(Verdict::failure("BackoffLimitExceeded", message));
        }
        if self.overdue_at().is_some_and(|at| at <= self.world.now) {
            let message = "Job was active longer than specified deadline";
            return Some(Verdict::failure("DeadlineExceeded", message));
        }
        if self.spec.backoff_limit_per_index.is_some() {
            return self.indexes_failed(counts);
        }
        None
    }

    fn indexes_failed(&self, counts: &Counts<'_>) -> Option<Verdict> {
        let lost = counts.lost.total();
        let most = self.spec.max_failed_indexes.and_then(|m| usize::try_from(m).ok());
        if most.is_some_and(|m| lost > m) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Verdict::failure("MaxFailedIndexesExceeded", message));
        }
        let all = usize::try_from(self.indexed?).unwrap_or(usize::MAX);
        (lost > 0 && lost + counts.done.total() >= all)
            .then(|| Verdict::failure("FailedIndexes", "Job has failed indexes"))
    }

    /// Where containers are restarted in place, their restarts count.
    fn restarts_exceed(&self, limit: i32) -> bool {
        if self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) != Some("OnFailure") {
            return false;
        }
        let live = |p: &&&Arc<crate::Pod>| matches!(p.phase.as_str(), "Running" | "Pending");
        let restarts: i64 = self.pods.iter().filter(live).map(|p| p.restarts).sum();
        if limit == 0 { restarts > 0 } else { restarts >= i64::from(limit) }
    }
}
