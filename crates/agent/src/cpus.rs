//! CPUs that containers have to themselves: a kubelet's static policy. A container of a Guaranteed pod that asks for whole
//! CPUs gets them for as long as its pod lives; everybody else runs on what is left, which shrinks and grows under them.
//! Who has what is on disk before it counts, so that the next agent finds it as it was.

mod pool;
mod set;
#[cfg(test)]
mod tests;
mod topology;

pub use set::CpuSet;
pub use topology::Topology;

use crate::durable;
use crate::error::Error;
use crate::machine::{Machine, chain};
use crate::options::Options;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use pool::{Assigned, Pool, wants};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stoa_runtime::State;
use tokio::sync::Notify;

/// What a kubelet calls it.
const FILE: &str = "cpu_manager_state";
/// How often it is seen to that everybody runs where they should, as with a kubelet.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Who gets which CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuPolicy {
    /// Everybody all of them.
    #[default]
    None,
    /// Containers of Guaranteed pods that ask for whole CPUs have them to themselves.
    Static,
}

/// What is on disk, in a kubelet's words.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    policy_name: String,
    default_cpu_set: String,
    entries: BTreeMap<String, BTreeMap<String, String>>,
}

/// See the module.
pub(crate) struct Cpus {
    /// None where everybody may run everywhere.
    pool: Option<Mutex<Pool>>,
    /// Held by whoever changes the pool, from the first look at it until the change is on disk. Who only looks does not wait
    /// for the disk.
    changing: Mutex<()>,
    path: PathBuf,
    changed: Notify,
    /// One look at all containers at a time: an older one must not undo what a newer one did.
    applying: tokio::sync::Mutex<()>,
}

impl Cpus {
    /// The book as an earlier agent left it. Without a policy, what that one shut in is let out.
    pub(crate) async fn open(options: &Options, machine: &dyn Machine) -> Result<Cpus, Error> {
        let path = options.data_dir.join(FILE);
        let refused =
            |why: String| Error::Options(format!("cannot give containers CPUs of their own: {why}"));
        let record = read(&path).map_err(|cause| Error::Io { what: "read", path: path.clone(), cause })?;
        let pool = match options.cpu_policy {
            CpuPolicy::None => {
                if record.is_some() {
                    let all = machine.topology().await.map_err(refused)?.cpus();
                    move_all(machine, |_, _| all.to_string()).await;
                    fs::remove_file(&path).map_err(|cause| Error::Io {
                        what: "remove",
                        path: path.clone(),
                        cause,
                    })?;
                }
                None
            }
            CpuPolicy::Static => {
                let topology = machine.topology().await.map_err(refused)?;
                let reserved = reserved(options, &topology).map_err(refused)?;
                let mut pool = Pool::new(topology, reserved);
                if let Some(record) = record {
                    let taken_over = record.parse().and_then(|(shared, own)| pool.restore(&shared, own));
                    taken_over.map_err(|why| {
                        refused(format!("{why}; drain this node and remove `{}`", path.display()))
                    })?;
                }
                Some(Mutex::new(pool))
            }
        };
        Ok(Cpus { pool, ..Cpus::none(options) })
    }

    /// Everybody may run everywhere.
    pub(crate) fn none(options: &Options) -> Cpus {
        let path = options.data_dir.join(FILE);
        Cpus {
            pool: None,
            changing: Mutex::default(),
            path,
            changed: Notify::new(),
            applying: tokio::sync::Mutex::default(),
        }
    }

    /// Whether containers may have CPUs to themselves.
    pub(crate) fn is_static(&self) -> bool {
        self.pool.is_some()
    }

    /// Gives the containers of a pod what they are to have to themselves; what they have already they keep. The error is a
    /// kubelet's.
    pub(crate) fn admit(&self, uid: &str, pod: &Pod) -> Result<(), String> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let wants = wants(pod);
        if wants.is_empty() {
            return Ok(());
        }
        durable::aside(|| {
            let _turn = self.changing.lock();
            let before = pool.lock().clone();
            let mut next = before.clone();
            next.assign(uid, &wants).map_err(|e| e.to_string())?;
            // Before anything starts by it.
            if next.assigned() != before.assigned() {
                write(&self.path, &next).map_err(|e| format!("could not save checkpoint: {e}"))?;
                *pool.lock() = next;
                self.changed.notify_one();
            }
            Ok(())
        })
    }

    /// Takes back what the containers of a pod had. None of them may be running.
    pub(crate) fn release(&self, uid: &str) {
        self.retain(|other| other != uid);
    }

    /// Takes back what pods had but these.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        let Some(pool) = &self.pool else { return };
        durable::aside(|| {
            let _turn = self.changing.lock();
            let mut next = pool.lock().clone();
            let gone: Vec<String> = next.assigned().keys().filter(|uid| !keep(uid)).cloned().collect();
            if gone.is_empty() {
                return;
            }
            for uid in &gone {
                next.release(uid);
            }
            *pool.lock() = next.clone();
            // What stays on disk is of pods that are no more, and a later agent takes it back.
            if let Err(error) = write(&self.path, &next) {
                tracing::warn!(%error, path = %self.path.display(), "cannot write down who has which CPUs");
            }
            self.changed.notify_one();
        })
    }

    /// Where a container is to run, if it matters.
    pub(crate) fn of(&self, uid: &str, container: &str) -> Option<String> {
        let pool = self.pool.as_ref()?.lock();
        Some(pool.own(uid, container).map_or_else(|| pool.shared().to_string(), CpuSet::to_string))
    }

    /// Whether a container has CPUs to itself: it may use them whole, and needs no other limit.
    pub(crate) fn are_own(&self, uid: &str, container: &str) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.lock().own(uid, container).is_some())
    }

    /// Whether any container of a pod does.
    pub(crate) fn has_own(&self, uid: &str) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.lock().assigned().contains_key(uid))
    }

    /// A container was started: the pool may have changed since it was told where to run.
    pub(crate) fn started(&self) {
        self.changed.notify_one();
    }

    /// Moves every container to where it is to run now.
    pub(crate) async fn apply(&self, machine: &dyn Machine) {
        if self.is_static() {
            let _turn = self.applying.lock().await;
            move_all(machine, |uid, container| self.of(uid, container).unwrap_or_default()).await;
        }
    }

    /// Keeps all containers where they are to run, as long as the agent runs.
    pub(crate) async fn keep(&self, machine: &dyn Machine) {
        if !self.is_static() {
            return std::future::pending().await;
        }
        loop {
            self.apply(machine).await;
            let _ = tokio::time::timeout(LOOK_EVERY, self.changed.notified()).await;
        }
    }
}

/// What nobody gets to itself: what is named, or as many as are reserved for the machine.
fn reserved(options: &Options, topology: &Topology) -> Result<CpuSet, String> {
    let all = topology.cpus();
    let set = match &options.reserved_cpus {
        Some(named) if !named.is_subset(&all) => {
            return Err(format!("reserved CPUs {named} are not all among this machine's {all}"));
        }
        Some(named) => named.clone(),
        None => {
            let milli = crate::node::reserved_milli_cpu(options)?;
            let count = usize::try_from(milli.div_ceil(1_000)).unwrap_or(usize::MAX);
            let short = || format!("{count} CPUs are to be reserved, but this machine has {all}");
            topology.choose(&all, &CpuSet::default(), count).ok_or_else(short)?
        }
    };
    if set.is_empty() {
        return Err("the static policy requires reserved CPUs, which are shared by all: name them with \
            --reserved-cpus, or reserve some with --system-reserved"
            .to_owned());
    }
    Ok(set)
}

/// Moves every running container that is elsewhere. One that cannot be moved now is tried again with the next look.
async fn move_all(machine: &dyn Machine, to: impl Fn(&str, &str) -> String) {
    for container in machine.list() {
        let State::Running { .. } = container.state else { continue };
        let spec = &container.spec;
        let cpus = to(&spec.pod_uid, &spec.name);
        if spec.limits.cpuset_cpus.as_deref() == Some(cpus.as_str()) {
            continue;
        }
        match machine.update_cpus(&spec.id, &cpus).await {
            Ok(()) => {}
            // It ended meanwhile.
            Err(stoa_runtime::Error::NotFound(_) | stoa_runtime::Error::NotRunning(_)) => {}
            Err(error) => {
                tracing::warn!(container = %spec.name, %cpus, error = %chain(&error), "cannot move a container to other CPUs");
            }
        }
    }
}

impl Record {
    fn parse(&self) -> Result<(CpuSet, Assigned), String> {
        let mut assigned = Assigned::new();
        for (uid, containers) in &self.entries {
            let own = containers.iter().map(|(name, cpus)| Ok((name.clone(), CpuSet::parse(cpus)?)));
            assigned.insert(uid.clone(), own.collect::<Result<_, String>>()?);
        }
        Ok((CpuSet::parse(&self.default_cpu_set)?, assigned))
    }
}

fn read(path: &Path) -> io::Result<Option<Record>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, pool: &Pool) -> io::Result<()> {
    let entries = pool.assigned().iter().map(|(uid, own)| {
        (uid.clone(), own.iter().map(|(name, cpus)| (name.clone(), cpus.to_string())).collect())
    });
    let record = Record {
        policy_name: "static".to_owned(),
        default_cpu_set: pool.shared().to_string(),
        entries: entries.collect(),
    };
    durable::write(path, &serde_json::to_vec(&record)?)
}
