//! Custom executors: what the store remembers of each, which tasks run under it, and what becomes of both. An executor is a
//! pod; its tasks are no part of the pod's object, and what is said of them goes over the agent's `plane`.

use crate::master::Master;
use crate::observe::{observe_gone, observe_pod};
use crate::state::{Kill, State, TaskKey, to_bytes};
use crate::task::{self, Rank};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::typed::Pod;
use stoa_ledger::{Holder, Split};
use stoa_mesos::offer::DurationInfo;
use stoa_mesos::plane::Down;
use stoa_mesos::scheduler::{Event, Failure, Message};
use stoa_mesos::task::{ExecutorId, ExecutorInfo, KillPolicy};
use stoa_mesos::{Blob, Id, Reason, TaskState, TaskStatus, json::Int};
use stoa_store::Key;
use stoa_units::{AgentId, FrameworkId, NamespacedName, Resources, Time};
use tokio::time::Instant;

/// The directory of executors in the store.
pub(crate) const KIND: &str = "executors";
/// How long an agent may take to say how the tasks of an executor ended whose pod is gone.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(10);

/// What the store remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub framework: FrameworkId,
    pub agent: AgentId,
    pub info: ExecutorInfo,
    pub role: String,
    pub resources: Resources,
    /// What of them is drawn from reservations.
    #[serde(default)]
    pub draws: Vec<(Arc<str>, Resources)>,
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub launched: Time,
    /// Since when it is over.
    #[serde(default)]
    pub ended: Option<Time>,
}

impl Record {
    /// Where the record is.
    pub fn key(uid: &str) -> Key {
        Key::internal(KIND, uid)
    }

    pub fn id(&self) -> &ExecutorId {
        &self.info.executor_id.value
    }

    pub fn pod_name(&self) -> NamespacedName {
        NamespacedName::new(&*self.namespace, &*self.pod)
    }

    /// What it claims.
    pub fn split(&self) -> Split {
        Split { amount: self.resources.clone(), draws: self.draws.clone() }
    }
}

/// Whether the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    Yes,
    NotYet,
}

/// An executor.
#[derive(Debug)]
pub(crate) struct Executor {
    pub record: Record,
    pub committed: Committed,
    /// Tasks that are not forgotten yet.
    pub tasks: BTreeSet<stoa_units::TaskId>,
    /// When its pod was found gone while tasks had not ended.
    pub lost: Option<Instant>,
}

impl State {
    /// Takes an executor in.
    pub fn enter_executor(&mut self, record: Record, committed: Committed) {
        let uid = record.uid.clone();
        self.executor_pods.insert(record.pod_name(), uid.clone());
        if record.ended.is_none() {
            let holder = Holder::Pod(record.pod_name());
            self.allocator.charge(holder, &record.framework, &record.role, &record.resources);
        }
        let executor = Executor { record, committed, tasks: BTreeSet::new(), lost: None };
        self.executors.insert(uid, executor);
    }

    /// The executor of a framework on an agent that new tasks can run under.
    pub fn live_executor(
        &self,
        framework: &FrameworkId,
        agent: &AgentId,
        id: &ExecutorId,
    ) -> Option<&Record> {
        let all = self.executors.values().map(|e| &e.record);
        all.into_iter()
            .find(|r| r.ended.is_none() && r.framework == *framework && r.agent == *agent && r.id() == id)
    }

    /// All executors of a framework on an agent that new tasks can run under.
    pub fn live_executors(&self, framework: &FrameworkId, agent: &AgentId) -> Vec<ExecutorInfo> {
        let all = self.executors.values().map(|e| &e.record);
        let live = all.filter(|r| r.ended.is_none() && r.framework == *framework && r.agent == *agent);
        live.map(|r| r.info.clone()).collect()
    }

    /// Says something to an agent, if there is a way. What must not be lost is said again when there is one.
    pub fn say(&mut self, agent: &AgentId, what: Down) {
        if let Some(plane) = self.planes.get(agent)
            && plane.try_send(what).is_err()
        {
            // Too slow, or gone: a new one begins with everything.
            self.planes.remove(agent);
        }
    }

    /// The agent need not keep an update any longer.
    pub fn acknowledge_executor(&mut self, record: &task::Record, uuid: &[u8]) {
        let what = Down::Acknowledge {
            pod: record.uid.clone(),
            task: record.id().clone(),
            uuid: Blob(uuid.to_vec()),
        };
        self.say(&record.agent, what);
    }

    /// Asks an executor to kill a task.
    pub fn kill_entry(&mut self, record: &task::Record, grace_seconds: Option<i64>) {
        let grace = grace_seconds.map(|s| DurationInfo { nanoseconds: Int(s.saturating_mul(1_000_000_000)) });
        let policy = grace.map(|g| KillPolicy { grace_period: Some(g) });
        self.say(&record.agent, Down::Kill { pod: record.uid.clone(), task: record.id().clone(), policy });
    }

    /// Asks for the end of an executor's pod.
    pub fn kill_executor(&mut self, uid: &str, grace_seconds: Option<i64>) {
        let Some(executor) = self.executors.get(uid).filter(|e| e.committed == Committed::Yes) else {
            return;
        };
        let (namespace, pod) = (executor.record.namespace.clone(), executor.record.pod.clone());
        self.kills.push_back(Kill { namespace, pod, uid: uid.to_string(), grace_seconds });
    }

    /// Asks for the end of all of a framework's executors.
    pub fn kill_executors(&mut self, framework: &FrameworkId) {
        let live = |e: &&Executor| e.record.framework == *framework && e.record.ended.is_none();
        let uids: Vec<String> = self.executors.values().filter(live).map(|e| e.record.uid.clone()).collect();
        for uid in uids {
            self.kill_executor(&uid, None);
        }
    }

    /// SHUTDOWN: the executor is told, and killed after its grace period.
    pub fn shutdown_executor(&mut self, framework: &FrameworkId, agent: &AgentId, id: &ExecutorId) {
        let Some(uid) = self.live_executor(framework, agent, id).map(|r| r.uid.clone()) else { return };
        self.say(agent, Down::Shutdown { pod: uid.clone() });
        self.kill_executor(&uid, None);
    }

    /// MESSAGE: at most once.
    pub fn send_to_executor(&mut self, framework: &FrameworkId, call: Message) {
        let (agent, id) = (&call.agent_id.value, &call.executor_id.value);
        match self.live_executor(framework, agent, id).map(|r| r.uid.clone()) {
            Some(pod) => self.say(&call.agent_id.value, Down::Message { pod, data: call.data }),
            None => tracing::debug!(%framework, executor = %id, "a message to an executor that is not there"),
        }
    }

    /// Takes what an agent says of a task under an executor of its own.
    pub fn take_update(
        &mut self,
        agent: &AgentId,
        pod: &str,
        framework: FrameworkId,
        status: TaskStatus,
        now: Time,
    ) {
        let key: TaskKey = (framework, status.task_id.value.clone());
        let is_removed = self.frameworks.get(&key.0).is_none_or(|f| f.is_removed());
        let uuid = status.uuid.clone().unwrap_or_default();
        let known = self
            .task_mut(&key)
            .filter(|t| t.record.is_entry() && t.record.uid == pod && t.record.agent == *agent);
        let Some(task) = known.filter(|t| t.record.completed.is_none()) else {
            // Nobody waits for this any more.
            self.say(agent, Down::Acknowledge { pod: pod.into(), task: key.1, uuid });
            return;
        };
        let had_ended = task.record.ended.is_some();
        let is_new = task.take(status);
        if is_removed {
            task.queue.clear();
            task.record.acked = task.reached;
        }
        let record = task.record.clone();
        let is_queued = task.queue.iter().any(|(_, s)| s.uuid.as_ref() == Some(&uuid));
        if is_removed || !(is_new || is_queued) {
            self.acknowledge_executor(&record, &uuid.0);
        }
        if record.ended.is_some() && !had_ended {
            self.dirty.insert(task::Record::key(&key.0, &key.1), Some(to_bytes(&record)));
            self.free(&record);
        }
        self.push(&key);
        self.settle(&key, now);
    }

    /// Bytes of an executor for its scheduler.
    pub fn take_message(
        &mut self,
        agent: &AgentId,
        framework: &FrameworkId,
        executor: ExecutorId,
        data: Blob,
    ) {
        let message =
            Message { agent_id: Id { value: agent.clone() }, executor_id: Id { value: executor }, data };
        self.send(framework, &Event::Message { message });
    }

    /// An executor is over. Its framework hears it once.
    pub fn end_executor(&mut self, agent: &AgentId, uid: &str, status: i32, now: Time) {
        let Some(executor) = self.executors.get_mut(uid).filter(|e| e.record.agent == *agent) else { return };
        if executor.record.ended.is_some() {
            return;
        }
        executor.record.ended = Some(now);
        let record = executor.record.clone();
        self.dirty.insert(Record::key(uid), Some(to_bytes(&record)));
        self.allocator.discharge(&Holder::Pod(record.pod_name()));
        let failure = Failure {
            agent_id: Some(Id { value: agent.clone() }),
            executor_id: Some(Id { value: record.id().clone() }),
            status: Some(Int(i64::from(status))),
        };
        self.send(&record.framework, &Event::Failure { failure });
        self.drop_idle_executor(uid);
    }

    /// The pod of an executor is gone. How its tasks ended is the agent's to say, for a while.
    pub fn lose_executor(&mut self, name: &NamespacedName) {
        let Some(uid) = self.executor_pods.get(name).cloned() else { return };
        let Some(executor) = self.executors.get_mut(&uid).filter(|e| e.committed == Committed::Yes) else {
            return;
        };
        executor.lost.get_or_insert(Instant::now());
    }

    /// The agent is gone for good; its executors are, too. Their tasks were ended before.
    pub fn lose_executors_of(&mut self, agent: &AgentId) {
        let there = |e: &&Executor| e.record.agent == *agent;
        let uids: Vec<String> = self.executors.values().filter(there).map(|e| e.record.uid.clone()).collect();
        self.planes.remove(agent);
        for uid in uids {
            self.kill_executor(&uid, Some(0));
            self.remove_executor(&uid);
        }
    }

    /// Ends what agents said nothing of.
    pub fn sweep_executors(&mut self, instant: Instant, now: Time) {
        let overdue = |e: &&Executor| e.lost.is_some_and(|at| instant >= at + LAST_WORDS_WAIT);
        let uids: Vec<String> =
            self.executors.values().filter(overdue).map(|e| e.record.uid.clone()).collect();
        for uid in uids {
            let Some(executor) = self.executors.get(&uid) else { continue };
            let framework = executor.record.framework.clone();
            let tasks: Vec<_> = executor.tasks.iter().cloned().collect();
            for id in tasks {
                let key = (framework.clone(), id);
                let Some(task) = self.task(&key).filter(|t| t.record.ended.is_none()) else { continue };
                let has_agent = self.agents.contains_key(&task.record.agent);
                let fate = crate::watch::fate(self, &framework, &task.record.agent);
                let mut seen = observe_gone(&task.record, None, has_agent, fate);
                seen.reason = Some(Reason::ExecutorTerminated);
                self.observe(&key, &seen, now);
            }
            self.remove_executor(&uid);
        }
    }

    /// The pod is gone and nothing more will be said of it. Tasks that have ended are remembered without it.
    fn remove_executor(&mut self, uid: &str) {
        if let Some(executor) = self.executors.remove(uid) {
            self.allocator.discharge(&Holder::Pod(executor.record.pod_name()));
            self.executor_pods.remove(&executor.record.pod_name());
            self.dirty.insert(Record::key(uid), None);
        }
    }

    /// The store has it.
    pub fn executor_committed(&mut self, uid: &str) {
        if let Some(executor) = self.executors.get_mut(uid) {
            executor.committed = Committed::Yes;
        }
    }

    /// The store never had it.
    pub fn forget_executor(&mut self, uid: &str) {
        if let Some(executor) = self.executors.remove(uid) {
            self.allocator.discharge(&Holder::Pod(executor.record.pod_name()));
            self.executor_pods.remove(&executor.record.pod_name());
        }
    }

    /// A task is forgotten. True if it was its executor's last.
    pub fn leave_executor(&mut self, record: &task::Record) -> bool {
        let Some(executor) = self.executors.get_mut(&record.uid) else { return true };
        executor.tasks.remove(record.id());
        let is_last = executor.tasks.is_empty();
        self.drop_idle_executor(&record.uid);
        is_last
    }

    /// An executor that is over and whose tasks are forgotten goes, and so does its pod.
    fn drop_idle_executor(&mut self, uid: &str) {
        let Some(executor) = self.executors.get(uid) else { return };
        if executor.record.ended.is_some() && executor.tasks.is_empty() {
            self.kill_executor(uid, Some(0));
            self.remove_executor(uid);
        }
    }

    /// The same for all.
    pub fn drop_idle_executors(&mut self) {
        let uids: Vec<String> = self.executors.keys().cloned().collect();
        for uid in uids {
            self.drop_idle_executor(&uid);
        }
    }

    /// All that an agent must know of its executors, for a way that has just opened.
    pub fn plan_sync(&self, agent: &AgentId) -> Vec<Down> {
        let there: Vec<&Executor> = self
            .executors
            .values()
            .filter(|e| e.record.agent == *agent && e.committed == Committed::Yes)
            .collect();
        let mut all = vec![Down::Known { pods: there.iter().map(|e| e.record.uid.clone()).collect() }];
        for executor in there {
            let framework = &executor.record.framework;
            let tasks = executor.tasks.iter().filter_map(|id| self.task(&(framework.clone(), id.clone())));
            for task in tasks.filter(|t| t.is_committed && t.record.ended.is_none()) {
                let (record, pod) = (&task.record, executor.record.uid.clone());
                if record.acked == Rank::Staging && task.queue.is_empty() {
                    all.push(launch(record));
                }
                if record.is_killed {
                    all.push(Down::Kill { pod, task: record.id().clone(), policy: None });
                }
            }
        }
        all
    }

    /// Whether something is to be said to, or heard from, an agent's executors.
    pub fn wants_plane(&self, agent: &AgentId) -> bool {
        self.executors.values().any(|e| e.record.agent == *agent)
    }
}

/// The launch of a task under its executor.
pub(crate) fn launch(record: &task::Record) -> Down {
    Down::Launch {
        pod: record.uid.clone(),
        framework: record.framework.clone(),
        tasks: vec![record.task.clone()],
    }
}

impl Master {
    /// Looks at an executor's pod. What becomes of its tasks is the agent's to say; only a pod that will never run is ended.
    pub fn see_executor(&self, name: &NamespacedName, bytes: &[u8]) {
        let Ok(pod) = serde_json::from_slice::<Pod>(bytes) else { return };
        let mut state = self.state.lock();
        let Some(uid) = state.executor_pods.get(name).cloned() else { return };
        if pod.metadata.uid.as_deref() != Some(&*uid) {
            return;
        }
        let seen = observe_pod(crate::pod::EXECUTOR_CONTAINER, &pod);
        let is_over = seen.rank == Rank::Ended && seen.state != TaskState::Staging;
        if is_over && crate::watch::has_ended(&pod) {
            self.ledger.lock().release(&Holder::Pod(name.clone()));
        } else if is_over && pod.metadata.deletion_timestamp.is_none() {
            tracing::info!(pod = %name, "an executor cannot be started: removing its pod");
            state.kill_executor(&uid, Some(0));
        }
    }
}
