//! One executor: its tasks, its unconfirmed updates, and how far it has come. No locks, no I/O but the journal's.

use super::executors::PREEMPTED;
use super::journal::{Journal, Line};
use super::stream::Subscriber;
use std::collections::{BTreeMap, VecDeque};
use stoa_mesos::executor::{Acknowledged, Event, Kill, Launch, Message, Subscribe};
use stoa_mesos::plane::Up;
use stoa_mesos::task::{
    ContainerStatus, ExecutorId, ExecutorInfo, IpAddress, KillPolicy, NetworkInfo, TaskInfo,
};
use stoa_mesos::{Blob, Capability, Double, FrameworkInfo, Id, Reason, Source, TaskState, TaskStatus};
use stoa_units::{FrameworkId, TaskId, Time};

/// Confirmed updates that are remembered, so that one that is sent again is confirmed again.
const ACKNOWLEDGED_LEN_MAX: usize = 1_024;

/// Who it is. Known once the pod is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) framework: FrameworkId,
    pub(crate) executor: ExecutorId,
    pub(crate) info: ExecutorInfo,
    pub(crate) framework_info: FrameworkInfo,
}

/// How far it has come.
#[derive(Debug)]
pub(crate) enum Life {
    /// Not heard of since its start, or since this agent's.
    Starting,
    /// It listens.
    Subscribed(Subscriber),
    /// Its stream broke.
    Away,
    /// Its container is over.
    Ended,
}

/// Why its end is wanted, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    Nobody,
    /// Its pod is being deleted.
    Pod,
    /// Its framework said so.
    Framework,
    /// It did not subscribe in time.
    Timeout,
}

/// Whether the executor has a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    Waiting,
    Sent,
}

/// A task as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) id: TaskId,
    pub(crate) name: String,
    pub(crate) state: TaskState,
    pub(crate) resources: Vec<stoa_mesos::Resource>,
    pub(crate) amount: stoa_units::Resources,
}

#[derive(Debug)]
struct Task {
    /// Kept until something was heard of it.
    info: Option<TaskInfo>,
    /// Its name and what it takes, for those who look; unknown of those that an earlier agent was given.
    shown: Option<(String, Vec<stoa_mesos::Resource>)>,
    delivery: Delivery,
    state: TaskState,
    kill: Option<Option<KillPolicy>>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    /// Of the container: `OOMKilled`, or why it was never started.
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) has_run: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) pod: String,
    pub(crate) framework: Option<FrameworkId>,
    pub(crate) identity: Option<Identity>,
    pub(crate) life: Life,
    pub(crate) wanted: Wanted,
    /// Since when this life lasts.
    pub(crate) since: Time,
    /// Its container in the runtime while it runs.
    pub(crate) container: Option<String>,
    /// Its pod says that something is lent to it.
    pub(crate) is_pod_lent: bool,
    /// The pod's object is gone.
    pub(crate) is_gone: bool,
    pub(crate) token: String,
    agent: String,
    ips: Vec<String>,
    tasks: BTreeMap<TaskId, Task>,
    updates: VecDeque<(u64, TaskStatus)>,
    acknowledged: VecDeque<Vec<u8>>,
    exited: Option<(u64, i32, Time)>,
    is_told: bool,
    journal: Journal,
}

/// Numbers what is said upwards.
pub(crate) type Counter = u64;

fn next(counter: &mut Counter) -> u64 {
    *counter += 1;
    *counter
}

impl Executor {
    /// An executor as its journal has it.
    pub(crate) fn open(
        pod: &str,
        agent: &str,
        ips: &[String],
        journal: (Journal, Vec<Line>),
        counter: &mut Counter,
        now: Time,
    ) -> Executor {
        let (journal, lines) = journal;
        let mut new = Executor {
            pod: pod.to_owned(),
            framework: None,
            identity: None,
            life: Life::Starting,
            wanted: Wanted::Nobody,
            since: now,
            container: None,
            is_gone: false,
            is_pod_lent: false,
            token: String::new(),
            agent: agent.to_owned(),
            ips: ips.to_vec(),
            tasks: BTreeMap::new(),
            updates: VecDeque::new(),
            acknowledged: VecDeque::new(),
            exited: None,
            is_told: false,
            journal,
        };
        for line in lines {
            new.replay(line, counter, now);
        }
        if new.token.is_empty() {
            new.token = uuid::Uuid::new_v4().simple().to_string();
            let line = Line::Token(new.token.clone());
            new.journal.write(&line);
        }
        new
    }

    fn replay(&mut self, line: Line, counter: &mut Counter, now: Time) {
        match line {
            Line::Token(token) => self.token = token,
            Line::Sent(id) => self.task_mut(&id).delivery = Delivery::Sent,
            Line::Update(status) => {
                let task = self.task_mut(&status.task_id.value);
                task.delivery = Delivery::Sent;
                task.state = status.state;
                self.updates.push_back((next(counter), *status));
            }
            Line::Acknowledged(id, uuid) => drop(self.confirm(&id, &uuid.0)),
            Line::Ended(status) => {
                self.life = Life::Ended;
                self.exited = Some((next(counter), status, now));
            }
        }
    }

    fn task_mut(&mut self, id: &TaskId) -> &mut Task {
        self.tasks.entry(id.clone()).or_insert(Task {
            info: None,
            shown: None,
            delivery: Delivery::Waiting,
            state: TaskState::Staging,
            kill: None,
        })
    }

    fn send(&mut self, event: &Event) -> bool {
        let Life::Subscribed(stream) = &self.life else { return false };
        let is_sent = stream.send(event);
        if !is_sent {
            tracing::warn!(pod = %self.pod, "an executor is gone or too slow: disconnecting it");
            self.life = Life::Away;
        }
        is_sent
    }

    // ---- what the master says

    /// Takes tasks on; those known already are left alone.
    pub(crate) fn launch(&mut self, tasks: Vec<TaskInfo>, counter: &mut Counter, now: Time) {
        for info in tasks {
            let id = info.task_id.value.clone();
            if let Some(known) = self.tasks.get_mut(&id) {
                // Of one that an earlier agent sent, the content is not known any more.
                if known.state == TaskState::Staging {
                    known.info.get_or_insert(info);
                }
                continue;
            }
            let task = self.task_mut(&id);
            task.shown = Some((info.name.clone(), info.resources.clone()));
            task.info = Some(info);
            if matches!(self.life, Life::Ended) {
                let words = "Executor terminated before the task was delivered";
                self.end_task(
                    &id,
                    self.lost(TaskState::Dropped),
                    Reason::ExecutorTerminated,
                    words,
                    counter,
                    now,
                );
            }
        }
        self.deliver();
    }

    /// Gives the executor what waits for it.
    fn deliver(&mut self) {
        let waiting = |(_, t): &(&TaskId, &Task)| t.delivery == Delivery::Waiting && t.info.is_some();
        let ids: Vec<TaskId> = self.tasks.iter().filter(waiting).map(|(id, _)| id.clone()).collect();
        for id in ids {
            let Some(task) = self.tasks.get(&id).and_then(|t| t.info.clone()) else { continue };
            if !matches!(self.life, Life::Subscribed(_)) {
                return;
            }
            // Noted before: a task that is sent twice is worse than one that the executor says it never got.
            self.journal.write(&Line::Sent(id.clone()));
            self.task_mut(&id).delivery = Delivery::Sent;
            if !self.send(&Event::Launch { launch: Box::new(Launch { task }) }) {
                self.task_mut(&id).delivery = Delivery::Waiting;
                return;
            }
        }
    }

    /// Kills a task, now or when the executor is back.
    pub(crate) fn kill(&mut self, id: &TaskId, policy: Option<KillPolicy>, counter: &mut Counter, now: Time) {
        let Some(task) = self.tasks.get_mut(id).filter(|t| !t.state.is_terminal()) else { return };
        if task.delivery == Delivery::Waiting {
            let words = "Task was killed before it was delivered to the executor";
            self.end_task(id, TaskState::Killed, Reason::TaskKilledDuringLaunch, words, counter, now);
            return;
        }
        task.kill = Some(policy.clone());
        let kill = Kill { task_id: Id { value: id.clone() }, kill_policy: policy };
        self.send(&Event::Kill { kill });
    }

    /// The scheduler has confirmed an update.
    pub(crate) fn acknowledge(&mut self, id: &TaskId, uuid: &[u8]) {
        if self.confirm(id, uuid) {
            self.journal.write(&Line::Acknowledged(id.clone(), Blob(uuid.to_vec())));
            if self.journal.is_long() {
                let lines = self.lines();
                self.journal.rewrite(&lines);
            }
        }
        self.tell_acknowledged(id, uuid);
    }

    fn tell_acknowledged(&mut self, id: &TaskId, uuid: &[u8]) {
        let acknowledged = Acknowledged { task_id: Id { value: id.clone() }, uuid: Blob(uuid.to_vec()) };
        self.send(&Event::Acknowledged { acknowledged });
    }

    fn confirm(&mut self, id: &TaskId, uuid: &[u8]) -> bool {
        let Some(at) = self.updates.iter().position(|(_, s)| s.uuid.as_ref().is_some_and(|u| u.0 == uuid))
        else {
            return false;
        };
        let Some((_, status)) = self.updates.remove(at) else { return false };
        if status.state.is_terminal() {
            self.tasks.remove(id);
        }
        if self.acknowledged.len() >= ACKNOWLEDGED_LEN_MAX {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back(uuid.to_vec());
        true
    }

    /// All that is still true, for a shorter journal.
    fn lines(&self) -> Vec<Line> {
        let mut lines = vec![Line::Token(self.token.clone())];
        let sent = self.tasks.iter().filter(|(_, t)| t.delivery == Delivery::Sent);
        lines.extend(sent.map(|(id, _)| Line::Sent(id.clone())));
        lines.extend(self.updates.iter().map(|(_, s)| Line::Update(Box::new(s.clone()))));
        lines.extend(self.exited.map(|(_, status, _)| Line::Ended(status)));
        lines
    }

    /// Bytes of the scheduler.
    pub(crate) fn message(&mut self, data: Blob) {
        self.send(&Event::Message { message: Message { data } });
    }

    /// Tells the executor to end, once.
    pub(crate) fn shut_down(&mut self, wanted: Wanted) {
        self.wanted = self.wanted.max(wanted);
        if matches!(self.life, Life::Subscribed(_)) && !self.is_told {
            self.is_told = self.send(&Event::Shutdown);
        }
    }

    // ---- what the executor says

    /// The executor (again) listens on `stream`, on which it was welcomed already.
    pub(crate) fn subscribe(
        &mut self,
        stream: Subscriber,
        call: Subscribe,
        counter: &mut Counter,
        now: Time,
    ) {
        self.life = Life::Subscribed(stream);
        self.since = now;
        self.is_told = false;
        for update in call.unacknowledged_updates {
            self.update(update.status, counter, now);
        }
        // What was sent and never arrived: neither the executor knows of it, nor was anything heard of it.
        let held: Vec<&TaskId> = call.unacknowledged_tasks.iter().map(|t| &t.task_id.value).collect();
        for (id, task) in &mut self.tasks {
            if task.state == TaskState::Staging && task.info.is_some() && !held.contains(&id) {
                task.delivery = Delivery::Waiting;
            }
        }
        self.deliver();
        let kills: Vec<(TaskId, Option<KillPolicy>)> =
            self.tasks.iter().filter_map(|(id, t)| Some((id.clone(), t.kill.clone()?))).collect();
        for (id, policy) in kills {
            self.kill(&id, policy, counter, now);
        }
        if self.wanted > Wanted::Nobody {
            self.shut_down(self.wanted);
        }
    }

    /// News of a task.
    pub(crate) fn update(&mut self, mut status: TaskStatus, counter: &mut Counter, now: Time) {
        let id = status.task_id.value.clone();
        let uuid = status.uuid.clone().unwrap_or_default().0;
        if self.acknowledged.contains(&uuid) {
            return self.tell_acknowledged(&id, &uuid);
        }
        if self.updates.iter().any(|(_, s)| s.uuid.as_ref().is_some_and(|u| u.0 == uuid)) {
            return;
        }
        status.agent_id = Some(Id { value: self.agent.as_str().into() });
        status.executor_id = self.identity.as_ref().map(|i| Id { value: i.executor.clone() });
        status.source.get_or_insert(Source::Executor);
        status.timestamp.get_or_insert(Double(now.as_secs_f64()));
        if status.container_status.is_none() {
            status.container_status = Some(self.container_status());
        }
        let task = self.task_mut(&id);
        task.delivery = Delivery::Sent;
        task.info = None;
        task.state = status.state;
        self.journal.write(&Line::Update(Box::new(status.clone())));
        self.updates.push_back((next(counter), status));
    }

    fn container_status(&self) -> ContainerStatus {
        let address = |ip: &String| IpAddress {
            protocol: Some(if ip.contains(':') { "IPv6" } else { "IPv4" }.into()),
            ip_address: Some(ip.clone()),
        };
        let networks = self.ips.first().map(|ip| NetworkInfo {
            ip_addresses: vec![address(ip)],
            name: None,
            port_mappings: vec![],
            labels: None,
        });
        ContainerStatus {
            container_id: self.container.clone().map(|value| Id { value }),
            network_infos: networks.into_iter().collect(),
        }
    }

    // ---- its end

    /// Its container is over: so are its tasks.
    pub(crate) fn end(&mut self, end: &End, counter: &mut Counter, now: Time) {
        if matches!(self.life, Life::Ended) {
            return;
        }
        self.life = Life::Ended;
        self.since = now;
        self.container = None;
        let failed = TaskState::Failed;
        let (state, reason) = match (self.wanted, &*end.reason) {
            (_, "OOMKilled") => (failed, Reason::ContainerLimitationMemory),
            // What was lent was taken back: nobody failed.
            (_, why) if PREEMPTED.contains(&why) && self.is_lent() => {
                (self.lost(TaskState::Gone), Reason::ContainerPreempted)
            }
            (_, why) if PREEMPTED.contains(&why) => (failed, Reason::ContainerPreempted),
            (Wanted::Timeout, _) => (failed, Reason::ExecutorRegistrationTimeout),
            (Wanted::Framework, _) => (self.lost(TaskState::Gone), Reason::ExecutorTerminated),
            (Wanted::Pod, _) => (TaskState::Killed, Reason::ExecutorTerminated),
            (Wanted::Nobody, _) if !end.has_run => (failed, Reason::ContainerLaunchFailed),
            (Wanted::Nobody, _) => (failed, Reason::ExecutorTerminated),
        };
        let words = match (&*end.message, end.has_run) {
            ("", _) => format!("Executor terminated: exit code {}", end.code),
            (words, true) => format!("Executor terminated: {words}"),
            (words, false) => format!("Failed to launch container: {words}"),
        };
        let live: Vec<TaskId> =
            self.tasks.iter().filter(|(_, t)| !t.state.is_terminal()).map(|(id, _)| id.clone()).collect();
        for id in live {
            self.end_task(&id, state, reason, &words, counter, now);
        }
        let status = stoa_mesos::plane::wait_status(end.code, end.signal);
        self.journal.write(&Line::Ended(status));
        self.exited = Some((next(counter), status, now));
    }

    /// Whether it, or a task of it that runs, has what is lent.
    pub(crate) fn is_lent(&self) -> bool {
        let is_lent = |list: &[stoa_mesos::Resource]| list.iter().any(|r| r.revocable.is_some());
        let live = self.tasks.values().filter(|t| !t.state.is_terminal());
        let mut shown = live.filter_map(|t| t.shown.as_ref());
        self.is_pod_lent
            || shown.any(|(_, resources)| is_lent(resources))
            || self.identity.as_ref().is_some_and(|i| is_lent(&i.info.resources))
    }

    /// What partition-aware frameworks are told is lost to others.
    fn lost(&self, state: TaskState) -> TaskState {
        let is_aware =
            self.identity.as_ref().is_some_and(|i| i.framework_info.has(Capability::PartitionAware));
        if is_aware { state } else { TaskState::Lost }
    }

    fn end_task(
        &mut self,
        id: &TaskId,
        state: TaskState,
        reason: Reason,
        words: &str,
        counter: &mut Counter,
        now: Time,
    ) {
        let mut status = TaskStatus::new(id.clone(), state);
        status.reason = Some(reason);
        status.message = Some(words.to_owned());
        status.source = Some(Source::Agent);
        status.uuid = Some(Blob(uuid::Uuid::new_v4().as_bytes().to_vec()));
        self.update(status, counter, now);
    }

    /// A pod that never came: the tasks that were meant for it are dropped.
    pub(crate) fn drop_tasks(&mut self, counter: &mut Counter, now: Time) {
        let ids: Vec<TaskId> = self.tasks.keys().cloned().collect();
        for id in ids {
            let words = "The executor's pod is not on this agent";
            self.end_task(&id, TaskState::Lost, Reason::ExecutorTerminated, words, counter, now);
        }
        self.life = Life::Ended;
    }

    // ---- what is said upwards

    /// What was numbered after `after`.
    pub(crate) fn unsaid(&self, after: u64) -> Vec<(u64, Up)> {
        let Some(framework) = &self.framework else { return vec![] };
        let update = |(n, s): &(u64, TaskStatus)| {
            let status = Box::new(s.clone());
            (*n, Up::Update { pod: self.pod.clone(), framework: framework.clone(), status })
        };
        let mut all: Vec<(u64, Up)> = self.updates.iter().filter(|(n, _)| *n > after).map(update).collect();
        if let (Some((n, status, at)), Some(identity)) = (self.exited, &self.identity)
            && n > after
        {
            let up = Up::Exited {
                pod: self.pod.clone(),
                framework: framework.clone(),
                executor: identity.executor.clone(),
                status,
                at: Double(at.as_secs_f64()),
            };
            all.push((n, up));
        }
        all
    }

    /// Whether nothing of it has to be remembered any longer.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.life, Life::Ended) && self.is_gone && self.updates.is_empty()
    }

    /// Its tasks and their states.
    pub(crate) fn tasks(&self) -> Vec<Known> {
        let one = |(id, t): (&TaskId, &Task)| {
            let (name, resources) = t.shown.clone().unwrap_or_else(|| (id.to_string(), vec![]));
            let amount = stoa_mesos::resource::total(&resources);
            Known { id: id.clone(), name, state: t.state, resources, amount }
        };
        self.tasks.iter().map(one).collect()
    }

    /// Removes what was remembered.
    pub(crate) fn forget(&mut self) {
        self.journal.remove();
    }
}

#[cfg(test)]
mod tests;
