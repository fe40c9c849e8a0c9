//! The Mesos tasks of this agent as its API shows them, gathered from what the pods' workers see.

use super::executors::is_executor;
use super::is_task;
use crate::observed::{Life, Observed};
use crate::pod;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stoa_mesos::task::ExecutorInfo;
use stoa_mesos::{FrameworkInfo, TaskState};
use stoa_units::{Quantity, Resources, Time};

/// A container of a task's pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    pub(crate) name: String,
    /// The task, where the container is one.
    pub(crate) task: String,
    /// In the runtime, while it is or was there.
    pub(crate) id: Option<String>,
    pub(crate) state: TaskState,
    pub(crate) is_running: bool,
    pub(crate) resources: Resources,
    /// Since when it is in its state.
    pub(crate) since: Option<Time>,
}

/// A framework's pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) framework: String,
    /// The framework as it said of itself, where the pod tells.
    pub(crate) framework_info: Option<FrameworkInfo>,
    /// As whom the framework's tasks run unless they say otherwise.
    pub(crate) framework_user: String,
    /// As whom this runs.
    pub(crate) user: String,
    /// In the framework's words; a command task's is the task's.
    pub(crate) executor: String,
    /// No framework's, but an operator's own container; `executor` is its id.
    pub(crate) is_standalone: bool,
    /// Of a custom executor.
    pub(crate) executor_info: Option<ExecutorInfo>,
    /// The task's name, of a command task.
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) is_executor: bool,
    pub(crate) directory: PathBuf,
    pub(crate) containers: Vec<Container>,
    /// The pod's addresses.
    pub(crate) ips: Vec<String>,
}

impl Entry {
    /// What its container is called.
    pub(crate) fn container_id(&self) -> &str {
        if self.is_standalone { &self.executor } else { &self.uid }
    }

    /// Whether something of it runs or will.
    pub(crate) fn is_live(&self) -> bool {
        self.containers.iter().any(|c| !c.state.is_terminal())
    }

    /// Whether something of it runs.
    pub(crate) fn is_running(&self) -> bool {
        self.containers.iter().any(|c| c.is_running)
    }

    /// Whether it is called so: by the pod, the executor, or a container's name in the runtime.
    pub(crate) fn is(&self, id: &str) -> bool {
        self.uid == id || self.executor == id || self.containers.iter().any(|c| c.id.as_deref() == Some(id))
    }

    /// The container that a name means: its own, or the first that runs.
    pub(crate) fn container(&self, id: &str) -> Option<&Container> {
        let mut running = self.containers.iter().filter(|c| c.is_running);
        let own = running.clone().find(|c| c.id.as_deref() == Some(id));
        own.or_else(|| running.next())
    }

    /// What all of it takes.
    pub(crate) fn resources(&self) -> Resources {
        self.containers.iter().fold(Resources::default(), |sum, c| sum.plus(&c.resources))
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Tasks {
    all: Mutex<BTreeMap<String, Entry>>,
}

impl Tasks {
    /// Looks at a pod.
    pub(crate) fn see(&self, pod: &Pod, observed: &Observed, directory: impl FnOnce() -> PathBuf) {
        if !is_task(pod) {
            return;
        }
        let reference = pod::reference(pod);
        let note = |key: &str| {
            pod.metadata.annotations.as_ref().and_then(|a| a.get(key)).cloned().unwrap_or_default()
        };
        let (task, executor) = (note("stoa.dev/task-id"), note("stoa.dev/executor-id"));
        let framework_info: Option<FrameworkInfo> =
            serde_json::from_str(&note("stoa.dev/framework-info")).ok();
        let user = note("stoa.dev/user");
        let entry = Entry {
            uid: reference.uid.clone(),
            namespace: reference.namespace,
            pod: reference.name,
            framework: note("stoa.dev/framework-id"),
            // What an older master wrote does not say whose framework it is; a task's user is then all that is known.
            framework_user: framework_info.as_ref().map_or_else(|| user.clone(), |i| i.user.clone()),
            framework_info,
            user,
            executor: match note(super::standalone::CONTAINER_ID) {
                id if !id.is_empty() => id,
                _ if executor.is_empty() => task.clone(),
                _ => executor,
            },
            is_standalone: super::is_standalone(pod),
            executor_info: serde_json::from_str(&note("stoa.dev/executor-info")).ok(),
            name: note("stoa.dev/task-name"),
            role: note("stoa.dev/role"),
            is_executor: is_executor(pod),
            directory: directory(),
            containers: pod::containers(pod).map(|(_, c)| container(c, &task, observed)).collect(),
            ips: match &observed.sandbox {
                crate::observed::Sandbox::Ready { ips } => ips.clone(),
                _ => vec![],
            },
        };
        self.all.lock().insert(reference.uid, entry);
    }

    /// The pod is no more.
    pub(crate) fn forget(&self, uid: &str) {
        self.all.lock().remove(uid);
    }

    /// Those of frameworks, by uid.
    pub(crate) fn list(&self) -> Vec<Entry> {
        self.all.lock().values().filter(|e| !e.is_standalone).cloned().collect()
    }

    /// Those of frameworks and standalone containers, by uid.
    pub(crate) fn containers(&self) -> Vec<Entry> {
        self.all.lock().values().cloned().collect()
    }

    /// Whether an address is some custom executor's.
    pub(crate) fn is_executors(&self, ip: &str) -> bool {
        let all = self.all.lock();
        all.values().any(|e| e.is_executor && e.ips.iter().any(|own| own == ip))
    }

    /// Whether a custom executor's pod has an address.
    pub(crate) fn is_at(&self, framework: &str, executor: &str, ip: &str) -> bool {
        let all = self.all.lock();
        let mut mine =
            all.values().filter(|e| e.is_executor && e.framework == framework && e.executor == executor);
        mine.any(|e| e.ips.iter().any(|own| own == ip))
    }

    /// The sandbox that a path is in, whose it is, and the path within it.
    pub(crate) fn resolve(&self, path: &Path) -> Option<(Entry, PathBuf)> {
        let all = self.all.lock();
        if let Some(entry) = all.values().find(|e| path.starts_with(&e.directory)) {
            let inside = path.strip_prefix(&entry.directory).ok()?.to_owned();
            return Some((entry.clone(), inside));
        }
        // `/frameworks/<framework>/executors/<executor>/runs/latest/…`, and the same below `/slaves/<agent>`.
        let mut parts = path
            .strip_prefix("/")
            .ok()?
            .components()
            .map(|c| c.as_os_str().to_str().unwrap_or(""))
            .peekable();
        if parts.next_if(|p| *p == "slaves").is_some() {
            parts.next()?;
        }
        let mut expect = |word: &str| parts.next().filter(|p| word.is_empty() || *p == word);
        expect("frameworks")?;
        let framework = expect("")?.to_owned();
        expect("executors")?;
        let executor = expect("")?.to_owned();
        expect("runs")?;
        let run = expect("")?.to_owned();
        let inside: PathBuf = parts.collect();
        let mine = all.values().filter(|e| e.framework == framework && e.executor == executor);
        let entry = mine.filter(|e| run == "latest" || e.uid == run).max_by_key(|e| e.is_live())?;
        Some((entry.clone(), inside))
    }
}

fn container(spec: &Spec, task: &str, observed: &Observed) -> Container {
    let seen = observed.seen(&spec.name);
    let (state, since) = match seen.map(|s| &s.life) {
        Some(Life::Running { started_at, .. }) => (TaskState::Running, Some(*started_at)),
        Some(Life::Ended(e)) => {
            let state = match e.code {
                0 => TaskState::Finished,
                _ if observed.doom.is_some() => TaskState::Killed,
                _ => TaskState::Failed,
            };
            (state, Some(e.finished_at))
        }
        Some(Life::Absent | Life::Refused { .. }) | None => (TaskState::Staging, None),
    };
    let mut resources = Resources::default();
    for (name, quantity) in spec.resources.iter().filter_map(|r| r.requests.as_ref()).flatten() {
        if let Ok(q) = Quantity::parse(&quantity.0) {
            resources.add_quantity(name, &q);
        }
    }
    for port in spec.ports.iter().flatten().filter_map(|p| p.host_port) {
        if let Ok(port) = u16::try_from(port) {
            let one = stoa_units::PortRange { begin: port, end: port };
            resources.ports = resources.ports.union(&stoa_units::PortSet::from_ranges([one]));
        }
    }
    // In a group the container's name is the task's id as far as it can be spelled; the environment has it whole.
    let own = spec.env.iter().flatten().find(|v| v.name == "MESOS_TASK_ID").and_then(|v| v.value.as_deref());
    let own = own.map(|id| id.replace("$$", "$"));
    Container {
        name: spec.name.clone(),
        task: own.unwrap_or_else(|| task.to_owned()),
        id: seen.and_then(|s| s.id().map(str::to_owned)),
        state,
        is_running: seen.is_some_and(crate::observed::Seen::is_running),
        resources,
        since,
    }
}
