//! A task: what the store remembers of it, and its queue of status updates.
//!
//! A task only ever moves forward through the ranks; each rank reached makes one update. Its uuid is derived from the
//! pod and the state, so that an acknowledgement that arrives after a restart of the master still fits.

use crate::observe::{Observation, Run};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::time::Duration;
use stoa_ledger::Holder;
use stoa_mesos::task::{ExecutorId, TaskInfo};
use stoa_mesos::{Blob, Double, Id, TaskState, TaskStatus};
use stoa_store::Key;
use stoa_units::{AgentId, FrameworkId, NamespacedName, Resources, TaskId, Time};
use tokio::time::Instant;

/// The directory of tasks in the store.
pub(crate) const KIND: &str = "tasks";
/// How long an update waits for its acknowledgement before it is sent again, at first.
const RETRY_MIN: Duration = Duration::from_secs(10);
/// The same, at most.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// How far a task has come. The order is that of a task's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Rank {
    #[default]
    Staging,
    Starting,
    Running,
    Killing,
    Ended,
}

impl Rank {
    /// The state that the rank stands for; how a task ended is not known from it.
    pub fn state(self) -> TaskState {
        match self {
            Rank::Staging => TaskState::Staging,
            Rank::Starting => TaskState::Starting,
            Rank::Running => TaskState::Running,
            Rank::Killing => TaskState::Killing,
            Rank::Ended => TaskState::Lost,
        }
    }

    /// The rank of a state that an executor reports.
    pub fn of(state: TaskState) -> Rank {
        match state {
            TaskState::Staging => Rank::Staging,
            TaskState::Starting => Rank::Starting,
            TaskState::Killing => Rank::Killing,
            s if s.is_terminal() => Rank::Ended,
            _ => Rank::Running,
        }
    }
}

/// What of a pod a task is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// All of it.
    #[default]
    Whole,
    /// One container: the task is in a group.
    Member {
        /// Which.
        container: String,
        /// Under which executor, in its framework's words.
        executor: ExecutorId,
    },
    /// An entry in a custom executor's.
    Entry {
        /// Which.
        executor: ExecutorId,
    },
}

/// What the store remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub framework: FrameworkId,
    pub task: TaskInfo,
    pub role: String,
    pub resources: Resources,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub agent: AgentId,
    #[serde(default)]
    pub part: Part,
    pub launched: Time,
    /// Up to where the framework has confirmed.
    #[serde(default)]
    pub acked: Rank,
    /// Whether it was ever seen to run.
    #[serde(default)]
    pub has_run: bool,
    /// How it ended.
    #[serde(default)]
    pub ended: Option<TaskStatus>,
    /// What of its resources is drawn from reservations, and its volumes.
    #[serde(default)]
    pub draws: Vec<(std::sync::Arc<str>, Resources)>,
    /// Why somebody asked for its end, if it was not its framework.
    #[serde(default)]
    pub why_killed: Option<stoa_mesos::Reason>,
    /// Whether somebody asked for its end.
    #[serde(default)]
    pub is_killed: bool,
    /// Since when it has ended and the framework knows, or is no more.
    #[serde(default)]
    pub completed: Option<Time>,
}

impl Record {
    /// Where the record is.
    pub fn key(framework: &FrameworkId, task: &TaskId) -> Key {
        Key::internal(KIND, &format!("{framework}:{task}"))
    }

    pub fn id(&self) -> &TaskId {
        &self.task.task_id.value
    }

    pub fn pod_name(&self) -> NamespacedName {
        NamespacedName::new(&*self.namespace, &*self.pod)
    }

    /// A name of its own, that no pod can have.
    fn own_name(&self) -> Holder {
        Holder::Pod(NamespacedName::new(&*self.namespace, format!("{}/{}", self.pod, self.id())))
    }

    /// What it claims, or adds to its pod's claim.
    pub fn split(&self) -> stoa_ledger::Split {
        stoa_ledger::Split { amount: self.resources.clone(), draws: self.draws.clone() }
    }

    /// Under what the ledger books its claim: the pod, which a group shares; tasks under a custom executor have their own.
    pub fn holder(&self) -> Holder {
        match self.part {
            Part::Whole | Part::Member { .. } => Holder::Pod(self.pod_name()),
            Part::Entry { .. } => self.own_name(),
        }
    }

    /// Under what its framework's share of the role is booked.
    pub fn share(&self) -> Holder {
        match self.part {
            Part::Whole => Holder::Pod(self.pod_name()),
            Part::Member { .. } | Part::Entry { .. } => self.own_name(),
        }
    }

    /// The container that the task is.
    pub fn container(&self) -> &str {
        match &self.part {
            Part::Member { container, .. } => container,
            Part::Whole => crate::pod::CONTAINER,
            Part::Entry { .. } => crate::pod::EXECUTOR_CONTAINER,
        }
    }

    /// The executor in the framework's words; a command task's has the task's id.
    pub fn executor_id(&self) -> ExecutorId {
        match &self.part {
            Part::Whole => ExecutorId::from(self.id()),
            Part::Member { executor, .. } | Part::Entry { executor } => executor.clone(),
        }
    }

    pub fn is_entry(&self) -> bool {
        matches!(self.part, Part::Entry { .. })
    }
}

/// When an update is sent again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Retry {
    pub due: Instant,
    interval: Duration,
}

impl Retry {
    pub fn first(now: Instant) -> Retry {
        Retry { due: now + RETRY_MIN, interval: RETRY_MIN }
    }

    pub fn next(self, now: Instant) -> Retry {
        let interval = (self.interval * 2).min(RETRY_MAX);
        Retry { due: now + interval, interval }
    }
}

/// A task.
#[derive(Debug)]
pub(crate) struct Task {
    pub record: Record,
    /// Whether the store has it.
    pub is_committed: bool,
    pub state: TaskState,
    /// The newest status.
    pub status: Option<TaskStatus>,
    /// How it came there, as far as this process saw it: the last status of each state in turn.
    history: Vec<TaskStatus>,
    /// Updates that are not confirmed, oldest first; only the first is under way.
    pub queue: VecDeque<(Rank, TaskStatus)>,
    pub retry: Option<Retry>,
    /// Up to where updates were queued.
    pub reached: Rank,
    /// Whether the framework was told that the agent does not answer.
    pub is_unreachable: bool,
    /// What was last told of the task's checks, and how often something was.
    pub told_ready: (Option<bool>, u64),
}

/// Statuses of a task that are shown.
const HISTORY_LEN_MAX: usize = 8;

/// Whether a framework hears of every rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Killing {
    /// It knows TASK_KILLING.
    Told,
    /// It does not.
    Hidden,
}

impl Task {
    pub fn new(record: Record) -> Task {
        Task {
            reached: record.acked,
            state: record.acked.state(),
            status: None,
            history: vec![],
            queue: VecDeque::new(),
            retry: None,
            is_committed: false,
            is_unreachable: false,
            told_ready: (None, 0),
            record,
        }
    }

    /// Moves forward to what was observed, queueing an update for each rank on the way. True if there is news.
    pub fn advance(&mut self, seen: &Observation, killing: Killing, now: Time) -> bool {
        let mut is_new = false;
        self.record.has_run |= seen.has_run == Run::Once;
        for rank in [Rank::Starting, Rank::Running, Rank::Killing, Rank::Ended] {
            if rank <= self.reached || rank > seen.rank {
                continue;
            }
            let passed = rank < seen.rank;
            let is_skipped = match rank {
                // What was never seen to run was not running.
                Rank::Starting | Rank::Running => passed && !self.record.has_run,
                Rank::Killing => passed || killing == Killing::Hidden,
                Rank::Staging | Rank::Ended => false,
            };
            if is_skipped {
                continue;
            }
            let status = self.status_at(rank, seen, now);
            self.reached = rank;
            self.state = status.state;
            if rank == Rank::Ended {
                self.record.ended = Some(status.clone());
            }
            self.note(status.clone());
            self.queue.push_back((rank, status));
            is_new = true;
        }
        is_new |= self.tell_check(seen, now);
        if self.status.is_none() && seen.rank != Rank::Ended && self.reached > Rank::Staging {
            // After a restart: confirmed before, and so not told again, yet shown.
            self.note(self.status_at(self.reached, seen, now));
        }
        is_new
    }

    /// Queues an update when a check's result is another. That it has not succeeded yet is no result.
    fn tell_check(&mut self, seen: &Observation, now: Time) -> bool {
        let task = &self.record.task;
        let has_check = task.health_check.is_some() || task.check.is_some();
        let is_news =
            self.told_ready.0 != Some(seen.is_ready) && (seen.is_ready || self.told_ready.0.is_some());
        if !has_check || !is_news || seen.rank != Rank::Running || self.reached != Rank::Running {
            return false;
        }
        let reason = match task.health_check {
            Some(_) => stoa_mesos::Reason::TaskHealthCheckStatusUpdated,
            None => stoa_mesos::Reason::TaskCheckStatusUpdated,
        };
        self.told_ready = (Some(seen.is_ready), self.told_ready.1 + 1);
        let mut status = self.status_at(Rank::Running, seen, now);
        let salt = format!("{}:{}:{}", self.record.uid, self.told_ready.1, now.as_secs_f64());
        status.uuid = Some(Blob(update_uuid(&salt, TaskState::Running).to_vec()));
        status.reason = Some(reason);
        self.note(status.clone());
        self.queue.push_back((Rank::Running, status));
        true
    }

    fn add_checks(&self, status: &mut TaskStatus) {
        let Some(is_ready) = self.told_ready.0 else { return };
        if self.record.task.health_check.is_some() {
            status.healthy = Some(is_ready);
        } else if let Some(check) = &self.record.task.check {
            status.check_status = Some(crate::check::check_status(check, is_ready));
        }
    }

    fn status_at(&self, rank: Rank, seen: &Observation, now: Time) -> TaskStatus {
        let state = if rank == Rank::Ended { seen.state } else { rank.state() };
        let mut status = self.plain_status(state, now);
        status.uuid = Some(Blob(update_uuid(&self.record.uid, state).to_vec()));
        status.source = Some(seen.source);
        status.container_status = seen.container.clone();
        if rank == Rank::Running {
            self.add_checks(&mut status);
        }
        if rank == seen.rank {
            status.message = seen.message.clone();
            let asked = self.record.why_killed.filter(|_| rank >= Rank::Killing);
            status.reason = seen.reason.or(asked);
        }
        status
    }

    /// A status that needs no confirmation.
    pub fn plain_status(&self, state: TaskState, now: Time) -> TaskStatus {
        let mut status = TaskStatus::new(self.record.id().clone(), state);
        status.agent_id = Some(Id { value: self.record.agent.clone() });
        status.executor_id = Some(Id { value: self.record.executor_id() });
        status.timestamp = Some(Double(now.as_secs_f64()));
        status
    }

    /// Takes what an executor reports, as it is. True if there is news.
    pub fn take(&mut self, status: TaskStatus) -> bool {
        let is_known = self.queue.iter().any(|(_, s)| s.uuid == status.uuid);
        if is_known || self.record.ended.is_some() {
            return false;
        }
        let rank = Rank::of(status.state);
        self.record.has_run |= rank >= Rank::Running;
        if rank == Rank::Ended {
            self.record.ended = Some(status.clone());
        }
        self.reached = self.reached.max(rank);
        self.state = status.state;
        self.note(status.clone());
        self.queue.push_back((rank, status));
        true
    }

    /// Takes a status for the newest.
    fn note(&mut self, status: TaskStatus) {
        if self.history.last().is_some_and(|s| s.state == status.state) {
            self.history.pop();
        }
        if self.history.len() >= HISTORY_LEN_MAX {
            self.history.remove(0);
        }
        self.history.push(status.clone());
        self.status = Some(status);
    }

    /// The statuses to show, oldest first.
    pub fn statuses(&self) -> &[TaskStatus] {
        if self.history.is_empty() { self.status.as_slice() } else { &self.history }
    }

    /// Takes a confirmation. True if it was that of the update under way.
    pub fn acknowledge(&mut self, uuid: &[u8]) -> bool {
        let fits = self.queue.front().and_then(|(_, s)| s.uuid.as_ref()).is_some_and(|u| u.0 == uuid);
        if fits && let Some((rank, _)) = self.queue.pop_front() {
            self.record.acked = self.record.acked.max(rank);
            self.retry = None;
        }
        fits
    }

    /// Whether nothing more is to be told of it.
    pub fn is_settled(&self) -> bool {
        self.record.ended.is_some() && self.record.acked == Rank::Ended
    }
}

/// The uuid of a task's update: version 8, of the pod and the state.
fn update_uuid(pod_uid: &str, state: TaskState) -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update(b"stoa.dev/status-update\0")
        .chain_update(pod_uid.as_bytes())
        .chain_update([0])
        .chain_update(state.as_str().as_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    *uuid::Builder::from_custom_bytes(bytes).into_uuid().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_back_off_from_ten_seconds_to_ten_minutes() {
        let now = Instant::now();
        let mut retry = Retry::first(now);
        let mut seconds = vec![];
        for _ in 0..9 {
            seconds.push(retry.interval.as_secs());
            retry = retry.next(now);
        }
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    }

    #[test]
    fn an_updates_uuid_is_the_same_after_a_restart_and_differs_by_state() {
        assert_eq!(update_uuid("u", TaskState::Running), update_uuid("u", TaskState::Running));
        assert_ne!(update_uuid("u", TaskState::Running), update_uuid("u", TaskState::Starting));
        assert_ne!(update_uuid("u", TaskState::Running), update_uuid("v", TaskState::Running));
    }
}
