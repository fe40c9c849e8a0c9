//! From an accepted task to what is written of it: its namespace, its pod, its executor's pod, its record.

use crate::accept::Taken;
use crate::executor;
use crate::master::Master;
use crate::pod::{self, Place, ROLE_LABEL};
use crate::task::{self, Part, Rank};
use serde_json::json;
use stoa_kube::Object;
use stoa_ledger::{Holder, Split};
use stoa_mesos::{ExecutorId, FrameworkInfo};
use stoa_offers::{Group, Launch};
use stoa_registry::{Prepared, Target};
use stoa_units::{AgentId, FrameworkId, OfferId};

/// Tasks in one transaction: each has two keys and two demands, and the store takes 128 of both.
const TASKS_PER_TXN_MAX: usize = 40;
/// Bytes of one transaction, below the store's limit.
const TXN_BYTES_MAX: usize = stoa_store::TXN_BYTES_MAX / 2;

/// What is started together: a task, a group, or a task under a custom executor.
#[derive(Clone)]
pub(crate) enum Start {
    Task(Box<Launch>),
    Group(Box<Group>),
}

impl Start {
    pub fn launches(&self) -> &[Launch] {
        match self {
            Start::Task(launch) => std::slice::from_ref(&**launch),
            Start::Group(group) => &group.launches,
        }
    }
}

/// The same on its way into the store.
pub(crate) struct Ready {
    pub start: Start,
    /// None if the tasks' executor runs already.
    pub prepared: Option<Prepared>,
    pub executor: Option<executor::Record>,
    pub records: Vec<task::Record>,
}

impl Ready {
    /// What it takes, and under which names.
    pub fn claims(&self) -> Vec<(Holder, Split)> {
        let mut claims: Vec<(Holder, Split)> = Vec::new();
        if let Some(executor) = &self.executor {
            claims.push((Holder::Pod(executor.pod_name()), executor.split()));
        }
        for record in &self.records {
            let (holder, split) = (record.holder(), record.split());
            match claims.iter_mut().find(|(h, _)| *h == holder) {
                Some((_, sum)) => *sum = sum.plus(&split),
                None => claims.push((holder, split)),
            }
        }
        claims
    }

    /// How long its records and objects are, about.
    fn bytes_len(&self) -> usize {
        let records = self.records.iter().map(|r| stoa_mesos::json::to_ascii(r).len()).sum::<usize>();
        let executor = self.executor.as_ref().map_or(0, |e| stoa_mesos::json::to_ascii(e).len());
        self.prepared.as_ref().map_or(0, |p| p.stamped.bytes.len()) + records + executor
    }
}

impl Master {
    /// The namespace of a role, made on demand. One of that name that is not the role's is left alone: whoever may enter it
    /// must not so get at the tasks.
    pub async fn ensure_namespace(&self, role: &str) -> Result<String, String> {
        for name in pod::namespaces(role) {
            let target = Target::new(self.namespaces, "", &name);
            let mut object = json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "annotations": {ROLE_LABEL: role}},
            });
            // A role that no label can spell is said by the annotation alone.
            if pod::label_safe(role) == role {
                object["metadata"]["labels"] = json!({ROLE_LABEL: role});
            }
            let found = match self.registry.get(target) {
                Ok(entry) => entry.value,
                Err(status) if status.code() == 404 => {
                    match self.registry.create(&self.context, target, object).await {
                        Ok(written) => written.bytes,
                        // Somebody else was faster: look at what is there.
                        Err(status) if status.code() == 409 => match self.registry.get(target) {
                            Ok(entry) => entry.value,
                            Err(e) => return Err(e.message.to_string()),
                        },
                        Err(e) => return Err(format!("Cannot create namespace {name}: {}", e.message)),
                    }
                }
                Err(e) => return Err(e.message.to_string()),
            };
            let Ok(found) = Object::read(&found) else { continue };
            if found.annotation(ROLE_LABEL) == Some(role) {
                if found.deletion_timestamp().is_some() {
                    return Err(format!("Namespace {name} of role '{role}' is being deleted"));
                }
                if self.state.lock().namespaces.get(&name).is_some_and(|uid| uid == found.uid()) {
                    return Ok(name);
                }
                self.ensure_account(&name).await?;
                self.ledger.lock().set_namespace_role(&name, Some(role));
                self.state.lock().namespaces.insert(name.clone(), found.uid().to_string());
                return Ok(name);
            }
        }
        Err(format!("No namespace for role '{role}'"))
    }

    /// Pods need the namespace's default service account. Its controller makes it sooner or later; a task does not wait.
    async fn ensure_account(&self, namespace: &str) -> Result<(), String> {
        let target = Target::new(self.accounts, namespace, "default");
        if self.registry.get(target).is_ok() {
            return Ok(());
        }
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        match self.registry.create(&self.context, target, object).await {
            Err(status) if status.code() != 409 => {
                Err(format!("Cannot create the service account of namespace {namespace}: {}", status.message))
            }
            _ => Ok(()),
        }
    }

    pub fn prepare(
        &self,
        id: &FrameworkId,
        info: &FrameworkInfo,
        taken: &Taken,
        namespace: &str,
        start: &Start,
        before: &[Ready],
    ) -> Result<Ready, String> {
        let salt = taken.offers.first().map_or("", OfferId::as_str);
        let volumes_dir = self.state.lock().agents.get(&taken.agent).and_then(|a| a.volumes_dir.clone());
        let place = |name| Place {
            framework: id,
            info,
            agent: &taken.agent,
            role: &taken.role,
            namespace,
            name,
            volumes_dir: volumes_dir.as_deref(),
        };
        let record = |launch: &Launch, part: Part, pod: &str, uid: &str| task::Record {
            framework: id.clone(),
            task: launch.task.clone(),
            role: taken.role.clone(),
            resources: launch.resources.clone(),
            draws: launch.split().draws,
            why_killed: None,
            namespace: namespace.into(),
            uid: uid.into(),
            pod: pod.into(),
            agent: taken.agent.clone(),
            part,
            launched: self.now(),
            acked: Rank::Staging,
            has_run: false,
            ended: None,
            is_killed: false,
            completed: None,
        };
        let uid_of = |p: &Prepared| p.object["metadata"]["uid"].as_str().unwrap_or_default().to_string();
        match start {
            Start::Task(launch) => {
                let Some(under) = &launch.under else {
                    let name = pod::pod_name(id, launch.task.task_id.value.as_str(), salt);
                    let prepared =
                        self.prepare_pod(namespace, &name, pod::render_pod(place(&name), launch)?)?;
                    let records = vec![record(launch, Part::Whole, &name, &uid_of(&prepared))];
                    return Ok(Ready {
                        start: start.clone(),
                        prepared: Some(prepared),
                        executor: None,
                        records,
                    });
                };
                let executor_id = under.info.executor_id.value.clone();
                let part = Part::Entry { executor: executor_id.clone() };
                let Some(amount) = &under.start else {
                    let (pod, uid) = self.find_executor(id, &taken.agent, &executor_id, before)?;
                    let records = vec![record(launch, part, &pod, &uid)];
                    return Ok(Ready { start: start.clone(), prepared: None, executor: None, records });
                };
                let name = pod::pod_name(id, &executor_id.0, salt);
                let rendered = pod::render_executor(place(&name), &under.info, amount, launch.lent())?;
                let prepared = self.prepare_pod(namespace, &name, rendered)?;
                let uid = uid_of(&prepared);
                let executor = executor::Record {
                    framework: id.clone(),
                    agent: taken.agent.clone(),
                    info: under.info.clone(),
                    role: taken.role.clone(),
                    resources: amount.clone(),
                    draws: under.split().unwrap_or_default().draws,
                    namespace: namespace.into(),
                    pod: name.clone(),
                    uid: uid.clone(),
                    launched: self.now(),
                    ended: None,
                };
                let records = vec![record(launch, part, &name, &uid)];
                Ok(Ready {
                    start: start.clone(),
                    prepared: Some(prepared),
                    executor: Some(executor),
                    records,
                })
            }
            Start::Group(group) => {
                let executor = group.executor.executor_id.value.clone();
                let first = group.launches.first().map_or("", |l| l.task.task_id.value.as_str());
                let name = pod::pod_name(id, first, salt);
                let containers = pod::container_names(group);
                let rendered = pod::render_group(place(&name), group, &containers)?;
                let prepared = self.prepare_pod(namespace, &name, rendered)?;
                let uid = uid_of(&prepared);
                let part = |container| Part::Member { container, executor: executor.clone() };
                let both = group.launches.iter().zip(containers);
                let records = both.map(|(l, container)| record(l, part(container), &name, &uid)).collect();
                Ok(Ready { start: start.clone(), prepared: Some(prepared), executor: None, records })
            }
        }
    }

    fn prepare_pod(
        &self,
        namespace: &str,
        name: &str,
        rendered: serde_json::Value,
    ) -> Result<Prepared, String> {
        self.registry
            .prepare_create(&self.context, self.pod_target(namespace, name), rendered)
            .map_err(|status| format!("Task cannot become a pod: {}", status.message))
    }

    /// The pod of an executor that runs, or that is started by the same call.
    fn find_executor(
        &self,
        id: &FrameworkId,
        agent: &AgentId,
        executor: &ExecutorId,
        before: &[Ready],
    ) -> Result<(String, String), String> {
        let new = before.iter().filter_map(|r| r.executor.as_ref()).find(|e| e.id() == executor);
        if let Some(e) = new {
            return Ok((e.pod.clone(), e.uid.clone()));
        }
        let state = self.state.lock();
        match state.live_executor(id, agent, executor) {
            Some(e) => Ok((e.pod.clone(), e.uid.clone())),
            None => Err(format!("Executor '{executor}' has ended")),
        }
    }
}

/// Splits tasks so that each part fits into a transaction.
pub(crate) fn chunks(ready: Vec<Ready>) -> Vec<Vec<Ready>> {
    let mut out: Vec<Vec<Ready>> = Vec::new();
    let (mut bytes, mut tasks) = (0, 0);
    for r in ready {
        let (len, count) = (r.bytes_len(), r.records.len());
        match out.last_mut() {
            Some(last) if tasks + count <= TASKS_PER_TXN_MAX && bytes + len < TXN_BYTES_MAX => last.push(r),
            _ => {
                (bytes, tasks) = (0, 0);
                out.push(vec![r]);
            }
        }
        bytes += len;
        tasks += count;
    }
    out
}
