//! All custom executors of the agent, under one lock. Workers say what becomes of the pods, the plane what the master
//! wants, the server what the executors report.

use super::executor::{Counter, End, Executor, Identity, Known, Life, Wanted};
use super::journal::Journal;
use super::stream::{self, EventBody};
use crate::observed::{Doom, Life as ContainerLife, Observed};
use crate::pod;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stoa_mesos::executor::{Event, Subscribe, Subscribed};
use stoa_mesos::plane::{Down, Up};
use stoa_mesos::task::ExecutorId;
use stoa_mesos::{AgentInfo, Blob, Encoding, Id, TaskStatus};
use stoa_units::{FrameworkId, Time};
use tokio::sync::watch;

/// The one container of an executor's pod.
pub(crate) const CONTAINER: &str = "executor";
/// On an executor's pod: the executor and its framework.
const EXECUTOR_INFO: &str = "stoa.dev/executor-info";
const FRAMEWORK_INFO: &str = "stoa.dev/framework-info";
/// How long an executor may take to subscribe, after its start or after this agent's.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Messages of executors that wait for a way to the master; they are sent at most once.
const MESSAGES_LEN_MAX: usize = 1_024;
/// Reasons of a container that waits, after which it will not run.
const HOPELESS: [&str; 6] = [
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// Reasons of a pod that had to make room.
pub(super) const PREEMPTED: [&str; 2] = ["Evicted", "Preempting"];

/// Whether a pod is a custom executor's.
pub(crate) fn is_executor(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(EXECUTOR_INFO))
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No such executor here.
    Unknown,
    /// It did not subscribe.
    NotSubscribed,
}

#[derive(Default)]
struct State {
    executors: HashMap<String, Executor>,
    messages: VecDeque<(u64, Up)>,
    counter: Counter,
}

/// See the module.
pub(crate) struct Executors {
    state: Mutex<State>,
    dir: PathBuf,
    agent: String,
    ips: Vec<String>,
    /// What the machine is called.
    hostname: String,
    /// Where executors find the API.
    endpoint: OnceLock<std::net::SocketAddr>,
    /// Where those with a network of their own find it.
    of_pods: OnceLock<std::net::SocketAddr>,
    /// Where operators find it.
    operators: OnceLock<std::net::SocketAddr>,
    changed: watch::Sender<u64>,
}

impl Executors {
    /// The executors of an agent; their journals are in `dir`.
    pub(crate) fn new(dir: PathBuf, agent: &str, ips: &[String]) -> Executors {
        if let Err(error) = std::fs::create_dir_all(&dir) {
            tracing::error!(dir = %dir.display(), %error, "cannot make the directory of executors' journals");
        }
        Executors {
            state: Mutex::default(),
            dir,
            agent: agent.to_owned(),
            ips: ips.to_vec(),
            hostname: read_hostname().unwrap_or_else(|| agent.to_owned()),
            endpoint: OnceLock::new(),
            of_pods: OnceLock::new(),
            operators: OnceLock::new(),
            changed: watch::Sender::new(0),
        }
    }

    /// Where the API is, once it is bound.
    pub(crate) fn set_endpoint(&self, address: std::net::SocketAddr) {
        let _ = self.endpoint.set(address);
    }

    /// Where executors with a network of their own find the API, once it is bound.
    pub(crate) fn set_of_pods(&self, address: std::net::SocketAddr) {
        let _ = self.of_pods.set(address);
    }

    /// Where operators find the API, once it is bound.
    pub(crate) fn set_operators(&self, address: std::net::SocketAddr) {
        let _ = self.operators.set(address);
    }

    /// Where the API is said to be: for operators, if they have a door, else for executors.
    pub(crate) fn announced(&self) -> Option<std::net::SocketAddr> {
        self.operators.get().or_else(|| self.endpoint.get()).copied()
    }

    /// What the machine is called.
    pub(crate) fn hostname(&self) -> &str {
        &self.hostname
    }

    /// An executor's tasks, as far as they are not forgotten.
    pub(crate) fn tasks_of(&self, pod: &str) -> Vec<Known> {
        self.state.lock().executors.get(pod).map(Executor::tasks).unwrap_or_default()
    }

    /// Whether some task that an executor runs has what is lent.
    pub(crate) fn is_lent(&self, pod: &str) -> bool {
        let state = self.state.lock();
        state.executors.get(pod).is_some_and(Executor::is_lent)
    }

    /// Told whenever there may be something to say, or somebody new.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn note(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn with<T>(&self, pod: &str, now: Time, act: impl FnOnce(&mut Executor, &mut Counter) -> T) -> T {
        let mut state = self.state.lock();
        let State { executors, counter, .. } = &mut *state;
        let executor = executors.entry(pod.to_owned()).or_insert_with(|| {
            // Uids are the API's; a path is made of nothing else.
            let safe: String = pod.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let journal = Journal::open(&self.dir.join(format!("{safe}.journal")));
            Executor::open(pod, &self.agent, &self.ips, journal, counter, now)
        });
        let out = act(executor, counter);
        if executor.is_done()
            && let Some(mut done) = executors.remove(pod)
        {
            done.forget();
        }
        drop(state);
        self.note();
        out
    }

    /// Whether it is known of a pod's executor already.
    pub(crate) fn knows(&self, pod: &str) -> bool {
        self.state.lock().executors.contains_key(pod)
    }

    // ---- what the pod's worker sees

    /// Looks at an executor's pod.
    pub(crate) fn see(&self, pod: &Pod, observed: &Observed, now: Time) {
        if !is_executor(pod) {
            return;
        }
        let uid = pod::reference(pod).uid;
        let is_gone = observed.doom == Some(Doom::Gone);
        if is_gone && !self.knows(&uid) {
            return;
        }
        let seen = observed.seen(CONTAINER);
        self.with(&uid, now, |executor, counter| {
            if executor.identity.is_none() {
                executor.identity = read_identity(pod);
                executor.framework = executor.identity.as_ref().map(|i| i.framework.clone());
            }
            let notes = pod.metadata.annotations.as_ref();
            executor.is_pod_lent = notes.is_some_and(|a| a.contains_key(crate::node::REVOCABLE_ANNOTATION));
            match seen.map(|s| &s.life) {
                Some(ContainerLife::Running { id, .. }) if executor.container.as_ref() != Some(id) => {
                    executor.container = Some(id.clone());
                    executor.since = now;
                }
                _ => {}
            }
            if matches!(observed.doom, Some(Doom::Deleted | Doom::Gone)) {
                executor.shut_down(Wanted::Pod);
            }
            if let Some(end) = find_end(observed, CONTAINER) {
                executor.end(&end, counter, now);
            }
            executor.is_gone |= is_gone;
        });
    }

    /// What an executor's environment says of this agent; `ip` is its own, where it is not the machine's. Nothing as long as
    /// there is no door that it could come to.
    pub(crate) fn environment(
        &self,
        pod: &str,
        sandbox: &str,
        ip: Option<&str>,
    ) -> Option<Vec<(String, String)>> {
        let state = self.state.lock();
        let executor = state.executors.get(pod)?;
        let endpoint = if ip.is_some() { self.of_pods.get()? } else { self.endpoint.get()? };
        let own = |name: &str, value: String| (name.to_owned(), value);
        Some(vec![
            own("MESOS_AGENT_ENDPOINT", endpoint.to_string()),
            own("MESOS_SLAVE_PID", format!("slave(1)@{endpoint}")),
            own("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", executor.token.clone()),
            own("MESOS_DIRECTORY", sandbox.to_owned()),
            own("MESOS_SANDBOX", sandbox.to_owned()),
            own("LIBPROCESS_IP", ip.map_or_else(|| endpoint.ip().to_string(), str::to_owned)),
            own("LIBPROCESS_PORT", "0".to_owned()),
        ])
    }

    /// Executors that took too long, with their containers. Each is named once.
    pub(crate) fn take_overdue(&self, now: Time) -> Vec<(String, String)> {
        let mut overdue = Vec::new();
        let mut state = self.state.lock();
        let State { executors, counter, .. } = &mut *state;
        for executor in executors.values_mut() {
            let is_late = now.since(executor.since) >= REGISTRATION_TIMEOUT;
            if !is_late || !matches!(executor.life, Life::Starting) || executor.wanted == Wanted::Timeout {
                continue;
            }
            match &executor.container {
                Some(container) => {
                    overdue.push((executor.pod.clone(), container.clone()));
                    executor.wanted = Wanted::Timeout;
                }
                None if executor.identity.is_none() => {
                    executor.drop_tasks(counter, now);
                    executor.is_gone = true;
                }
                None => {}
            }
        }
        drop(state);
        self.note();
        overdue
    }

    // ---- what the executor says

    fn find<'a>(
        state: &'a mut State,
        framework: &FrameworkId,
        id: &ExecutorId,
    ) -> Option<(&'a mut Executor, &'a mut Counter)> {
        let State { executors, counter, .. } = state;
        let is_it = |e: &&mut Executor| {
            !matches!(e.life, Life::Ended)
                && e.identity.as_ref().is_some_and(|i| i.framework == *framework && i.executor == *id)
        };
        Some((executors.values_mut().find(is_it)?, counter))
    }

    /// Whether some executor here is a framework's.
    pub(crate) fn has_framework(&self, framework: &FrameworkId) -> bool {
        let state = self.state.lock();
        state.executors.values().any(|e| e.framework.as_ref() == Some(framework))
    }

    /// The token that an executor was given.
    pub(crate) fn token(&self, framework: &FrameworkId, id: &ExecutorId) -> Option<String> {
        Some(Self::find(&mut self.state.lock(), framework, id)?.0.token.clone())
    }

    /// Opens an executor's stream; whoever had it before loses it.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        framework: &FrameworkId,
        id: &ExecutorId,
        call: Subscribe,
        encoding: Encoding,
        now: Time,
    ) -> Result<EventBody, Refused> {
        let (subscriber, body) = stream::open(encoding);
        let mut state = self.state.lock();
        let (executor, counter) = Self::find(&mut state, framework, id).ok_or(Refused::Unknown)?;
        let Some(identity) = executor.identity.clone() else { return Err(Refused::Unknown) };
        let welcome = Event::Subscribed {
            subscribed: Box::new(Subscribed {
                executor_info: identity.info,
                framework_info: identity.framework_info,
                agent_info: self.agent_info(),
                container_id: executor.container.clone().map(|value| Id { value }),
            }),
        };
        subscriber.send(&welcome);
        let (pod, stream) = (executor.pod.clone(), subscriber.clone());
        executor.subscribe(subscriber, call, counter, now);
        drop(state);
        self.note();
        tracing::info!(%pod, %framework, executor = %id, "an executor subscribed");
        let executors = Arc::clone(self);
        Ok(body.on_close(move || executors.left(&pod, &stream)))
    }

    /// A stream's reader has gone.
    fn left(&self, pod: &str, stream: &stream::Subscriber) {
        let mut state = self.state.lock();
        let Some(executor) = state.executors.get_mut(pod) else { return };
        if matches!(&executor.life, Life::Subscribed(s) if s.is_same(stream)) {
            tracing::info!(%pod, "an executor's stream ended");
            executor.life = Life::Away;
        }
    }

    /// News of a task.
    pub(crate) fn update(
        &self,
        framework: &FrameworkId,
        id: &ExecutorId,
        status: TaskStatus,
        now: Time,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let (executor, counter) = Self::find(&mut state, framework, id).ok_or(Refused::Unknown)?;
        if !matches!(executor.life, Life::Subscribed(_)) {
            return Err(Refused::NotSubscribed);
        }
        executor.update(status, counter, now);
        drop(state);
        self.note();
        Ok(())
    }

    /// Bytes for the scheduler.
    pub(crate) fn message(
        &self,
        framework: &FrameworkId,
        id: &ExecutorId,
        data: Blob,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let (executor, _) = Self::find(&mut state, framework, id).ok_or(Refused::Unknown)?;
        if !matches!(executor.life, Life::Subscribed(_)) {
            return Err(Refused::NotSubscribed);
        }
        if state.messages.len() >= MESSAGES_LEN_MAX {
            tracing::warn!(%framework, executor = %id, "dropping the oldest message of executors: no way to the master");
            state.messages.pop_front();
        }
        state.counter += 1;
        let up = Up::Message { framework: framework.clone(), executor: id.clone(), data };
        let numbered = (state.counter, up);
        state.messages.push_back(numbered);
        drop(state);
        self.note();
        Ok(())
    }

    /// This agent, as its API presents it.
    pub(crate) fn agent_info(&self) -> AgentInfo {
        AgentInfo {
            hostname: self.hostname.clone(),
            resources: vec![],
            attributes: vec![],
            port: self.announced().map(|e| u32::from(e.port())),
            id: Some(Id { value: self.agent.as_str().into() }),
            domain: None,
        }
    }

    // ---- what the master says and hears

    /// Takes what the master says.
    pub(crate) fn hear(&self, down: Down, now: Time) {
        match down {
            Down::Launch { pod, framework, tasks } => self.with(&pod, now, |e, n| {
                e.framework.get_or_insert(framework);
                e.launch(tasks, n, now);
            }),
            Down::Kill { pod, task, policy } => self.known(&pod, now, |e, n| e.kill(&task, policy, n, now)),
            Down::Acknowledge { pod, task, uuid } => {
                self.known(&pod, now, |e, _| e.acknowledge(&task, &uuid.0))
            }
            Down::Message { pod, data } => self.known(&pod, now, |e, _| e.message(data)),
            Down::Shutdown { pod } => self.known(&pod, now, |e, _| e.shut_down(Wanted::Framework)),
            Down::Known { pods } => self.retain(&pods),
        }
    }

    fn known(&self, pod: &str, now: Time, act: impl FnOnce(&mut Executor, &mut Counter)) {
        if self.knows(pod) {
            self.with(pod, now, act);
        }
    }

    /// Of executors that are over and that the master does not know any more nothing need be kept.
    fn retain(&self, pods: &[String]) {
        let mut state = self.state.lock();
        state.executors.retain(|uid, e| {
            let is_kept = pods.contains(uid) || !(e.is_gone && matches!(e.life, Life::Ended));
            if !is_kept {
                e.forget();
            }
            is_kept
        });
    }

    /// Journals of executors whose pods are no more.
    pub(crate) fn sweep(&self, keep: impl Fn(&str) -> bool) {
        let state = self.state.lock();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let uid = name.to_str().and_then(|n| n.split('.').next()).unwrap_or_default();
            if !keep(uid) && !state.executors.contains_key(uid) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// What is to be said after `after`, in order. Messages are given away.
    pub(crate) fn take_unsaid(&self, after: u64) -> Vec<(u64, Up)> {
        let mut state = self.state.lock();
        let mut all: Vec<(u64, Up)> = state.executors.values().flat_map(|e| e.unsaid(after)).collect();
        all.extend(state.messages.drain(..));
        all.sort_by_key(|(n, _)| *n);
        all
    }
}

fn read_hostname() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

fn read_identity(pod: &Pod) -> Option<Identity> {
    let annotations = pod.metadata.annotations.as_ref()?;
    let info = serde_json::from_str::<stoa_mesos::task::ExecutorInfo>(annotations.get(EXECUTOR_INFO)?);
    let framework_info = serde_json::from_str::<stoa_mesos::FrameworkInfo>(annotations.get(FRAMEWORK_INFO)?);
    match (info, framework_info) {
        (Ok(info), Ok(framework_info)) => Some(Identity {
            framework: info.framework_id.as_ref()?.value.clone(),
            executor: info.executor_id.value.clone(),
            info,
            framework_info,
        }),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(pod = %pod::reference(pod).name, %error, "an executor's pod does not say who it is");
            None
        }
    }
}

/// How a pod's one container ended, or why it will never be.
pub(super) fn find_end(observed: &Observed, container: &str) -> Option<End> {
    let failed = match &observed.doom {
        Some(
            Doom::Failed { reason, message }
            | Doom::Rejected { reason, message }
            | Doom::Disrupted { reason, message, .. },
        ) => Some((reason.clone(), message.clone())),
        Some(Doom::Deleted | Doom::Gone) => {
            Some((String::new(), "The container was removed before it ran".to_owned()))
        }
        None => None,
    };
    let never =
        |(reason, message): (String, String)| End { code: 1, signal: None, reason, message, has_run: false };
    match observed.seen(container).map(|s| &s.life) {
        Some(ContainerLife::Ended(e)) => {
            // Who was put out of the way did not end of itself.
            let preempted = failed.filter(|(reason, _)| PREEMPTED.contains(&reason.as_str()));
            let (reason, message) = preempted.unwrap_or_else(|| (e.reason.clone(), e.message.clone()));
            Some(End { code: e.code, signal: e.signal, reason, message, has_run: e.reason != "StartError" })
        }
        Some(ContainerLife::Running { .. }) => None,
        Some(ContainerLife::Refused { reason, message, .. }) if HOPELESS.contains(&reason.as_str()) => {
            Some(never((reason.clone(), message.clone())))
        }
        _ => failed.map(never),
    }
}
