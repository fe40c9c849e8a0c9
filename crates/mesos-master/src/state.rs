//! What a running master knows, under one lock: frameworks with their tasks, outstanding offers, agents, who waits for
//! which update. Nothing here waits; writes to the store are left in `dirty` and `kills` for `persist` to carry out.

use crate::by_agent::ByAgent;
use crate::executor::Executor;
use crate::feed::Watchers;
use crate::feedback::Operations;
use crate::files::Log;
use crate::framework::{self, Framework};
use crate::maintenance::Inverses;
use crate::observe::Observation;
use crate::rules::Rules;
use crate::stream::Closings;
use crate::task::{self, Killing, Part, Rank, Retry, Task};
use bytes::Bytes;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stoa_ledger::{Holder, Ledger, Split};
use stoa_mesos::Mark;
use stoa_mesos::framework::Capability;
use stoa_mesos::plane::Down;
use stoa_mesos::scheduler::Event;
use stoa_mesos::{Reason, Source, TaskState, TaskStatus};
use stoa_offers::Allocator;
use stoa_store::Key;
use stoa_units::{AgentId, FrameworkId, NamespacedName, OfferId, Resources, TaskId, Time};
use tokio::time::Instant;

/// A task's full name.
pub(crate) type TaskKey = (FrameworkId, TaskId);

/// An outstanding offer.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub framework: FrameworkId,
    pub role: Arc<str>,
    pub agent: AgentId,
    pub resources: Resources,
    /// What of it is drawn from the agent's pools.
    pub draws: Vec<(Arc<str>, Resources)>,
    pub made: Time,
}

impl Offer {
    /// The offer as a claim.
    pub fn split(&self) -> Split {
        Split { amount: self.resources.clone(), draws: self.draws.clone() }
    }
}

/// A machine, as its Node says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Agent {
    pub hostname: String,
    pub address: Option<String>,
    /// Where its Mesos API is, if operators have a door there.
    pub api: Option<SocketAddr>,
    pub attributes: Vec<stoa_mesos::agent::Attribute>,
    pub is_ready: bool,
    /// Where it has persistent volumes.
    pub volumes_dir: Option<String>,
    /// Where it is.
    pub region: Option<String>,
    /// Where in there it is.
    pub zone: Option<String>,
    pub since: Time,
    /// Since when it does not answer.
    pub unready: Option<Time>,
}

/// The port that agents' APIs are said to have where they have none.
const AGENT_PORT: u16 = 5051;

impl Agent {
    /// The port of its API.
    pub fn port(&self) -> u16 {
        self.api.map_or(AGENT_PORT, |api| api.port())
    }

    /// The address of its API.
    pub fn ip(&self) -> Option<String> {
        self.api.map(|api| api.ip().to_string()).or_else(|| self.address.clone())
    }

    /// Its API as libprocess would name it.
    pub fn pid(&self) -> String {
        let host = self.ip().unwrap_or_else(|| self.hostname.clone());
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        format!("slave(1)@{host}:{}", self.port())
    }
}

/// A pod to delete.
#[derive(Clone, Debug)]
pub(crate) struct Kill {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    /// `None` means the pod's own.
    pub grace_seconds: Option<i64>,
}

/// Why offers are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// The framework is told.
    Rescind,
    /// It knows, or cannot be told.
    Silent,
}

/// The state.
#[derive(Debug)]
pub(crate) struct State {
    pub frameworks: BTreeMap<FrameworkId, Framework>,
    /// Read only: `put_offer` and `take_offer` change it, and `offers_on` with it.
    pub offers: HashMap<OfferId, Offer>,
    pub offers_on: ByAgent<OfferId>,
    /// Every framework's tasks by their agents: `put_task` and `take_task` change them.
    pub tasks_on: ByAgent<TaskKey>,
    pub agents: BTreeMap<AgentId, Agent>,
    /// The tasks of each pod: one, or a group. Those under custom executors are not here.
    pub pods: HashMap<NamespacedName, Vec<TaskKey>>,
    /// Custom executors, by the uid of their pod.
    pub executors: BTreeMap<String, Executor>,
    pub executor_pods: HashMap<NamespacedName, String>,
    /// The ways to agents that have custom executors.
    pub planes: HashMap<AgentId, tokio::sync::mpsc::Sender<Down>>,
    /// Claims to end in the ledger.
    pub freed: Vec<Holder>,
    /// Namespaces of roles that are known to be in order, with their uids.
    pub namespaces: HashMap<String, String>,
    pub allocator: Allocator,
    /// When which update is sent again.
    pub retries: BTreeSet<(Instant, TaskKey)>,
    /// When which ended task is forgotten.
    pub forget: BTreeSet<(Time, TaskKey)>,
    /// Records to write, or to remove where there is none.
    pub dirty: BTreeMap<Key, Option<Bytes>>,
    pub kills: VecDeque<Kill>,
    pub next_framework: u64,
    pub next_offer: u64,
    /// How long ended tasks are kept, and how many of a framework.
    pub retention: Duration,
    pub completed_max: usize,
    pub closings: Closings,
    /// What operators decided.
    pub rules: Rules,
    /// What the names of agents' pools mean.
    pub marks: BTreeMap<AgentId, BTreeMap<Arc<str>, Mark>>,
    pub inverses: Inverses,
    pub operations: Operations,
    pub watchers: Watchers,
    pub log: Log,
    /// Directories of destroyed volumes whose removal is under way.
    pub cleaning: BTreeSet<String>,
}

pub(crate) fn to_bytes<T: Serialize>(record: &T) -> Bytes {
    stoa_mesos::json::to_ascii(record).into()
}

impl State {
    pub fn new(allocator: Allocator, retention: Duration, completed_max: usize, closings: Closings) -> State {
        State {
            frameworks: BTreeMap::new(),
            offers: HashMap::new(),
            offers_on: ByAgent::default(),
            tasks_on: ByAgent::default(),
            agents: BTreeMap::new(),
            pods: HashMap::new(),
            executors: BTreeMap::new(),
            executor_pods: HashMap::new(),
            planes: HashMap::new(),
            freed: Vec::new(),
            namespaces: HashMap::new(),
            allocator,
            retries: BTreeSet::new(),
            forget: BTreeSet::new(),
            dirty: BTreeMap::new(),
            kills: VecDeque::new(),
            next_framework: 0,
            next_offer: 0,
            retention,
            completed_max,
            closings,
            rules: Rules::default(),
            marks: BTreeMap::new(),
            inverses: Inverses::default(),
            operations: Operations::new(),
            watchers: Watchers::default(),
            log: Log::default(),
            cleaning: BTreeSet::new(),
        }
    }

    pub fn task(&self, key: &TaskKey) -> Option<&Task> {
        self.frameworks.get(&key.0)?.tasks.get(&key.1)
    }

    pub fn task_mut(&mut self, key: &TaskKey) -> Option<&mut Task> {
        self.frameworks.get_mut(&key.0)?.tasks.get_mut(&key.1)
    }

    /// Enters a task of a framework that there is.
    pub fn put_task(&mut self, key: TaskKey, task: Task) {
        let Some(f) = self.frameworks.get_mut(&key.0) else { return };
        let agent = task.record.agent.clone();
        if let Some(before) = f.tasks.insert(key.1.clone(), task) {
            self.tasks_on.remove(&before.record.agent, &key);
        }
        self.tasks_on.insert(&agent, key);
    }

    /// Takes a task out.
    pub fn take_task(&mut self, key: &TaskKey) -> Option<Task> {
        let task = self.frameworks.get_mut(&key.0)?.tasks.remove(&key.1)?;
        self.tasks_on.remove(&task.record.agent, key);
        Some(task)
    }

    // ---- events

    /// Sends an event; a framework that cannot take it is disconnected by the next sweep.
    pub fn send(&mut self, id: &FrameworkId, event: &Event) -> bool {
        let Some(f) = self.frameworks.get_mut(id) else { return false };
        let Some(subscriber) = &f.subscriber else { return false };
        if subscriber.is_closed() {
            return false;
        }
        let is_sent = subscriber.send(event);
        if !is_sent {
            tracing::warn!(framework = %id, "the scheduler is gone or too slow: disconnecting it");
            self.closings.note();
        }
        is_sent
    }

    /// A status that needs no confirmation.
    pub fn send_plain(&mut self, id: &FrameworkId, status: TaskStatus) {
        self.send(id, &Event::update(status));
    }

    // ---- offers

    /// Enters an offer.
    pub fn put_offer(&mut self, id: OfferId, offer: Offer) {
        if let Some(f) = self.frameworks.get_mut(&offer.framework) {
            f.offers.insert(id.clone());
        }
        self.offers_on.insert(&offer.agent, id.clone());
        self.offers.insert(id, offer);
    }

    /// Takes an offer out.
    pub fn take_offer(&mut self, id: &OfferId) -> Option<Offer> {
        let offer = self.offers.remove(id)?;
        self.offers_on.remove(&offer.agent, id);
        if let Some(f) = self.frameworks.get_mut(&offer.framework) {
            f.offers.remove(id);
        }
        Some(offer)
    }

    /// Takes an offer back. What it held is free again; nothing is refused by that.
    pub fn drop_offer(&mut self, ledger: &mut Ledger, id: &OfferId, tell: Tell) -> Option<Offer> {
        let offer = self.take_offer(id)?;
        let holder = Holder::Offer(id.clone());
        ledger.release(&holder);
        self.allocator.discharge(&holder);
        if tell == Tell::Rescind {
            self.send(&offer.framework, &Event::rescind(id.clone()));
        }
        Some(offer)
    }

    /// Takes back all offers of an agent.
    pub fn drop_offers_of_agent(&mut self, ledger: &mut Ledger, agent: &AgentId) {
        let ids: Vec<OfferId> = self.offers_on.on(agent).cloned().collect();
        for id in ids {
            self.drop_offer(ledger, &id, Tell::Rescind);
        }
    }

    /// Takes back all offers of a framework.
    pub fn drop_offers_of_framework(&mut self, ledger: &mut Ledger, id: &FrameworkId) {
        let offers = self.frameworks.get(id).map(|f| f.offers.clone()).unwrap_or_default();
        for offer in offers {
            self.drop_offer(ledger, &offer, Tell::Silent);
        }
    }

    // ---- tasks

    /// Takes over what was seen of a task's pod.
    pub fn observe(&mut self, key: &TaskKey, seen: &Observation, now: Time) {
        let Some(f) = self.frameworks.get_mut(&key.0) else { return };
        let killing = if f.has(Capability::TaskKillingState) { Killing::Told } else { Killing::Hidden };
        let is_removed = f.is_removed();
        let seen =
            &Observation { state: spell(seen.state, f.has(Capability::PartitionAware)), ..seen.clone() };
        let Some(task) = f.tasks.get_mut(&key.1) else { return };
        let had_ended = task.record.ended.is_some();
        if !task.advance(seen, killing, now) {
            return;
        }
        if is_removed {
            task.queue.clear();
            task.record.acked = task.reached;
        }
        if task.record.ended.is_some() && !had_ended {
            let record = task.record.clone();
            self.dirty.insert(task::Record::key(&key.0, &key.1), Some(to_bytes(&record)));
            self.free(&record);
            // A container that never starts is still there, and so is its claim.
            if seen.reason == Some(Reason::ContainerLaunchFailed) && !record.is_entry() {
                self.kill_pod(&record, Some(0));
            } else if matches!(record.part, Part::Member { .. }) && seen.state != TaskState::Finished {
                // A group lives and dies together.
                self.kill_pod(&record, None);
            }
        }
        self.tell_task_updated(key);
        self.push(key);
        self.settle(key, now);
    }

    /// Books a task in its framework's share.
    pub fn charge(&mut self, record: &task::Record) {
        self.allocator.charge(record.share(), &record.framework, &record.role, &record.resources);
    }

    /// Ends what is booked for a task that has ended. The ledger's side of a pod goes with the pod.
    pub fn free(&mut self, record: &task::Record) {
        self.allocator.discharge(&record.share());
        if record.is_entry() {
            self.freed.push(record.holder());
        }
    }

    /// Enters a task among its pod's.
    pub fn enter_pod(&mut self, record: &task::Record) {
        let key = (record.framework.clone(), record.id().clone());
        if record.is_entry() {
            if let Some(executor) = self.executors.get_mut(&record.uid) {
                executor.tasks.insert(key.1);
            }
            return;
        }
        let keys = self.pods.entry(record.pod_name()).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    /// Takes a task out of its pod's. True if the pod has none left.
    pub fn leave_pod(&mut self, record: &task::Record) -> bool {
        if record.is_entry() {
            return self.leave_executor(record);
        }
        let name = record.pod_name();
        let Some(keys) = self.pods.get_mut(&name) else { return true };
        keys.retain(|k| k.1 != *record.id() || k.0 != record.framework);
        let is_last = keys.is_empty();
        if is_last {
            self.pods.remove(&name);
        }
        is_last
    }

    /// Sends the first unconfirmed update of a task, if it is not under way.
    pub fn push(&mut self, key: &TaskKey) {
        let Some(f) = self.frameworks.get_mut(&key.0) else { return };
        let Some(task) = f.tasks.get_mut(&key.1) else { return };
        let Some((_, status)) = task.queue.front() else { return };
        if task.retry.is_some() || f.subscriber.is_none() {
            return;
        }
        let retry = Retry::first(Instant::now());
        let event = Event::update(status.clone());
        task.retry = Some(retry);
        self.retries.insert((retry.due, key.clone()));
        self.send(&key.0, &event);
    }

    /// Sends again what is due and not confirmed.
    pub fn push_due(&mut self, now: Instant) {
        while let Some((due, key)) = self.retries.first().cloned() {
            if due > now {
                return;
            }
            self.retries.pop_first();
            let Some(f) = self.frameworks.get_mut(&key.0) else { continue };
            let is_connected = f.is_connected();
            let Some(task) = f.tasks.get_mut(&key.1) else { continue };
            // A confirmation or a new connection has overtaken this entry.
            let Some(retry) = task.retry.filter(|r| r.due == due) else { continue };
            let Some((_, status)) = task.queue.front() else { continue };
            if !is_connected {
                task.retry = None;
                continue;
            }
            let next = retry.next(now);
            let event = Event::update(status.clone());
            task.retry = Some(next);
            self.retries.insert((next.due, key.clone()));
            self.send(&key.0, &event);
        }
    }

    /// Sends every unconfirmed update of a framework that has just connected.
    pub fn push_all(&mut self, id: &FrameworkId) {
        let Some(f) = self.frameworks.get_mut(id) else { return };
        let mut keys = Vec::new();
        for (task_id, task) in &mut f.tasks {
            if !task.queue.is_empty() {
                task.retry = None;
                keys.push((id.clone(), task_id.clone()));
            }
        }
        for key in keys {
            self.push(&key);
        }
    }

    pub fn acknowledge(&mut self, key: &TaskKey, uuid: &[u8], now: Time) {
        let Some(task) = self.task_mut(key) else { return };
        if !task.acknowledge(uuid) {
            tracing::debug!(task = %key.1, framework = %key.0, "an acknowledgement fits no update under way");
            return;
        }
        let record = task.record.clone();
        self.dirty.insert(task::Record::key(&key.0, &key.1), Some(to_bytes(&record)));
        if record.is_entry() {
            self.acknowledge_executor(&record, uuid);
        }
        self.push(key);
        self.settle(key, now);
    }

    /// Notes that a task is over and told; it is kept for a while, so that people can read its output.
    pub fn settle(&mut self, key: &TaskKey, now: Time) {
        let (retention, completed_max) = (self.retention, self.completed_max);
        let Some(f) = self.frameworks.get_mut(&key.0) else { return };
        let Some(task) = f.tasks.get_mut(&key.1) else { return };
        if !task.is_settled() || task.record.completed.is_some() {
            return;
        }
        task.record.completed = Some(now);
        let record = to_bytes(&task.record);
        f.completed.insert((now, key.1.clone()));
        let excess = if f.completed.len() > completed_max { f.completed.pop_first() } else { None };
        self.dirty.insert(task::Record::key(&key.0, &key.1), Some(record));
        self.forget.insert((now.plus(retention), key.clone()));
        if let Some((_, id)) = excess {
            self.forget_task(&(key.0.clone(), id));
        }
    }

    /// Forgets an ended task, its record and its pod.
    pub fn forget_task(&mut self, key: &TaskKey) {
        if self.evict_task(key) {
            self.dirty.insert(task::Record::key(&key.0, &key.1), None);
            self.drop_empty_framework(&key.0);
        }
    }

    /// Forgets an ended task whose record is about to be overwritten by that of another of the same id. False if there was none.
    pub fn evict_task(&mut self, key: &TaskKey) -> bool {
        let Some(task) = self.take_task(key) else { return false };
        if let Some(at) = task.record.completed {
            if let Some(f) = self.frameworks.get_mut(&key.0) {
                f.completed.remove(&(at, key.1.clone()));
            }
            self.forget.remove(&(at.plus(self.retention), key.clone()));
        }
        if self.leave_pod(&task.record) && !task.record.is_entry() {
            self.kill_pod(&task.record, Some(0));
        }
        true
    }

    fn drop_empty_framework(&mut self, id: &FrameworkId) {
        let removed: usize = self.frameworks.values().filter(|f| f.is_removed()).count();
        let is_empty = self.frameworks.get(id).is_some_and(|f| f.is_removed() && f.tasks.is_empty());
        if is_empty && removed > COMPLETED_FRAMEWORKS_MAX {
            self.frameworks.remove(id);
            self.dirty.insert(framework::Record::key(id), None);
        }
    }

    /// Asks for the end of a task's pod.
    pub fn kill_pod(&mut self, record: &task::Record, grace_seconds: Option<i64>) {
        self.kills.push_back(Kill {
            namespace: record.namespace.clone(),
            pod: record.pod.clone(),
            uid: record.uid.clone(),
            grace_seconds,
        });
    }

    /// Marks a task as killed on somebody's behalf, and asks for its pod's end.
    pub fn kill_task(&mut self, key: &TaskKey, grace_seconds: Option<i64>) {
        let Some(task) = self.task_mut(key) else { return };
        if task.record.ended.is_some() {
            return;
        }
        task.record.is_killed = true;
        let record = task.record.clone();
        if task.is_committed {
            self.dirty.insert(task::Record::key(&key.0, &key.1), Some(to_bytes(&record)));
            if record.is_entry() {
                self.kill_entry(&record, grace_seconds);
            } else {
                self.kill_pod(&record, grace_seconds);
            }
        }
    }

    // ---- frameworks

    pub fn save_framework(&mut self, id: &FrameworkId) {
        if let Some(f) = self.frameworks.get(id) {
            self.dirty.insert(framework::Record::key(id), Some(to_bytes(&f.record)));
        }
    }

    /// The stream is gone. Offers are taken back, and the time until it is given up begins.
    pub fn disconnect(&mut self, ledger: &mut Ledger, id: &FrameworkId) {
        let Some(f) = self.frameworks.get_mut(id) else { return };
        f.subscriber = None;
        let timeout = failover_timeout(f);
        f.deadline = Instant::now().checked_add(timeout);
        tracing::info!(framework = %id, timeout_seconds = timeout.as_secs_f64(), "framework disconnected");
        self.allocator.set_connected(id, false);
        self.drop_offers_of_framework(ledger, id);
    }

    /// The framework is no more: its stream ends, its offers return, its tasks are killed.
    pub fn remove_framework(&mut self, ledger: &mut Ledger, id: &FrameworkId, now: Time) {
        self.drop_offers_of_framework(ledger, id);
        let Some(f) = self.frameworks.get_mut(id) else { return };
        f.subscriber = None;
        f.deadline = None;
        f.record.removed = Some(now);
        let mut settled = Vec::new();
        let mut live = Vec::new();
        for (task_id, task) in &mut f.tasks {
            task.queue.clear();
            task.retry = None;
            task.record.acked = task.reached;
            let list = if task.record.ended.is_some() { &mut settled } else { &mut live };
            list.push((id.clone(), task_id.clone()));
        }
        self.allocator.remove_framework(id);
        for key in live {
            self.kill_task(&key, None);
        }
        self.kill_executors(id);
        for key in settled {
            if let Some(task) = self.task_mut(&key) {
                task.record.acked = Rank::Ended;
            }
            self.settle(&key, now);
        }
        self.save_framework(id);
        self.drop_inverses(id);
        self.operations.retain(|(f, _), _| f != id);
        self.tell_framework(ledger, id, "FRAMEWORK_REMOVED");
        tracing::info!(framework = %id, "framework removed");
    }

    /// Answers for a task that the master does not run.
    pub fn plain(
        &self,
        framework: &FrameworkId,
        task: &TaskId,
        agent: Option<&AgentId>,
        state: TaskState,
        now: Time,
    ) -> TaskStatus {
        let is_aware = self.frameworks.get(framework).is_some_and(|f| f.has(Capability::PartitionAware));
        let mut status = TaskStatus::new(task.clone(), spell(state, is_aware));
        status.agent_id = agent.map(|a| stoa_mesos::Id { value: a.clone() });
        status.source = Some(Source::Master);
        status.timestamp = Some(stoa_mesos::Double(now.as_secs_f64()));
        status
    }
}

/// A state as a framework knows it: to those of old, everything that is not there is lost.
fn spell(state: TaskState, is_aware: bool) -> TaskState {
    use TaskState as S;
    match state {
        S::Dropped | S::Unreachable | S::Gone | S::GoneByOperator | S::Unknown if !is_aware => S::Lost,
        other => other,
    }
}

/// Removed frameworks without tasks that are remembered, so that their ids are refused.
const COMPLETED_FRAMEWORKS_MAX: usize = 50;

/// How long a framework may be away.
pub(crate) fn failover_timeout(f: &Framework) -> Duration {
    let seconds = f.record.info.failover_timeout.map_or(0.0, |t| t.0);
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
