//! The agent's side: starts helpers, watches them, knows every container, and finds all again after a restart.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, broadcast, watch};

use crate::cgroup::{Tree, pod_path};
use crate::error::Error;
use crate::helper::Helper;
use crate::layout::{Bundle, Layout, check_name, read_json, remove_tree, write_json};
use crate::lsm;
use crate::mount_point;
use crate::options::Options;
use crate::pause;
use crate::pod;
use crate::process::{Identity, boot_id};
use crate::shim::{Order, Record, Report, START_ERROR_CODE, dies_as_one};
use crate::spec::{ContainerSpec, PodSpec, Sharing, Users};
use crate::state::{Container, DiskIo, Exit, ExitReason, Started, State, Stats};
use crate::users;

/// Exits kept for a slow listener; one that lags further is told so and lists.
const EXITS_LEN_MAX: usize = 4_096;
/// How long a helper may take to make a container.
const START_WAIT_MS: u16 = 60_000;
/// Containers being made at once, for each processor: more would only make each of them later.
const STARTS_PER_PROCESSOR: usize = 4;
/// How long a removal waits for a killed container to be reported as ended.
const KILL_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
/// A killed container is gone within milliseconds; one that is not is helped on this often.
const HURRY_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// The runtime of one machine's cluster. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) layout: Layout,
    /// Mount points with an entry for each pod.
    by_pod: Vec<PathBuf>,
    pub(crate) helper: Helper,
    pub(crate) tree: Tree,
    lsm: lsm::Kernel,
    pub(crate) pods: Mutex<HashMap<String, PodSpec>>,
    pub(crate) containers: Mutex<HashMap<String, Entry>>,
    exits: broadcast::Sender<Exit>,
    starts: Arc<Semaphore>,
    choosing: Mutex<()>,
    /// Limits of what runs are changed one at a time: two would each write down the other's old ones.
    pub(crate) limiting: Mutex<()>,
}

pub(crate) struct Entry {
    pub(crate) spec: Arc<ContainerSpec>,
    pub(crate) pod: PodSpec,
    state: watch::Sender<State>,
}

impl Inner {
    pub(crate) fn pod_cgroup(&self, pod: &PodSpec) -> String {
        pod_path(&self.options.cgroup_parent, pod.qos, &pod.uid)
    }

    pub(crate) fn cgroup(&self, pod: &PodSpec, id: &str) -> String {
        format!("{}/{id}", self.pod_cgroup(pod))
    }

    /// What a cgroup used, with its processes counted.
    fn counted(&self, path: &str) -> Stats {
        Stats { processes: self.tree.processes(path).len() as u64, ..self.tree.stats(path) }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Invalid { what: "state", why: format!("a worker died: {error}") }),
    }
}

impl Runtime {
    /// Opens the state directory and finds all pods and containers again. A container whose helper is gone is killed
    /// and shows as ended with [`ExitReason::Lost`].
    pub async fn open(options: Options) -> Result<Runtime, Error> {
        check_name("cgroup parent", &options.cgroup_parent)?;
        let runtime = blocking(move || {
            let layout = Layout::new(&options.root);
            layout.prepare()?;
            let pods = layout.pods();
            let by_pod = options.by_pod.iter().chain([&pods]).map(|directory| {
                mount_point::ensure(directory).map_err(Error::io("make a mount point of", directory))
            });
            let by_pod = by_pod.collect::<Result<_, _>>()?;
            let helper = Helper::open(&options.exe)?;
            let tree = Tree::discover().map_err(Error::io("read", "/proc/self/mountinfo"))?;
            let (exits, _) = broadcast::channel(EXITS_LEN_MAX);
            let (pods, containers) = (Mutex::default(), Mutex::default());
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let starts = Arc::new(Semaphore::new(processors * STARTS_PER_PROCESSOR));
            let choosing = Mutex::default();
            let limiting = Mutex::default();
            let inner = Inner {
                options,
                layout,
                by_pod,
                helper,
                tree,
                lsm: lsm::Kernel::new(),
                pods,
                containers,
                exits,
                starts,
                choosing,
                limiting,
            };
            Ok(Runtime { inner: Arc::new(inner) })
        })
        .await?;
        let found = runtime.clone();
        let watched = blocking(move || found.recover()).await?;
        for (id, helper) in watched {
            runtime.watch(id, helper, None);
        }
        Ok(runtime)
    }

    /// Reads the state directory; gives back the helpers that live.
    fn recover(&self) -> Result<Vec<(String, OwnedFd)>, Error> {
        let Inner { layout, .. } = &*self.inner;
        let mut watched = Vec::new();
        for entry in
            fs::read_dir(layout.containers()).map_err(Error::io("list", layout.containers()))?.flatten()
        {
            let bundle = Bundle(entry.path());
            let Some(order) = read_json::<Order>(&bundle.order()) else {
                // A crash between making the directory and writing the order: nothing was started from it.
                let _ = remove_tree(bundle.dir());
                continue;
            };
            let id = order.spec.id.clone();
            let state = match read_json::<Exit>(&bundle.exit()) {
                Some(exit) => State::Exited(exit),
                None => match find_helper(&bundle) {
                    Some((helper, state)) => {
                        watched.push((id.clone(), helper));
                        state
                    }
                    None => State::Exited(self.lose(&order.spec, &order.pod)),
                },
            };
            let entry =
                Entry { spec: Arc::new(order.spec), pod: order.pod, state: watch::Sender::new(state) };
            self.inner.containers.lock().insert(id, entry);
        }
        self.recover_pods()?;
        // Writable layers of containers that a restart of the machine took away.
        for entry in fs::read_dir(layout.layers()).map_err(Error::io("list", layout.layers()))?.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if !self.inner.containers.lock().contains_key(&id) {
                remove_tree(&entry.path()).map_err(Error::io("remove", entry.path()))?;
            }
        }
        Ok(watched)
    }

    /// Finds the pods again. One whose making was interrupted is undone: it has no containers, and is made again.
    fn recover_pods(&self) -> Result<(), Error> {
        let Inner { layout, tree, options, .. } = &*self.inner;
        for entry in fs::read_dir(layout.pods()).map_err(Error::io("list", layout.pods()))?.flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            let dir = layout.pod(&uid);
            let Some(spec) = read_json::<PodSpec>(&dir.spec()) else {
                // Nothing was made before this file.
                remove_tree(dir.dir()).map_err(Error::io("remove", dir.dir()))?;
                continue;
            };
            let is_used = self.inner.containers.lock().values().any(|c| c.spec.pod_uid == uid);
            if is_used || dir.made().exists() {
                self.inner.pods.lock().insert(uid, spec);
            } else {
                pod::remove(layout, tree, &options.cgroup_parent, &spec)?;
            }
        }
        Ok(())
    }

    /// Makes a pod's surroundings; a pod that exists is left as it is.
    pub async fn create_pod(&self, spec: PodSpec) -> Result<(), Error> {
        check_name("pod uid", &spec.uid)?;
        if self.inner.pods.lock().contains_key(&spec.uid) {
            return Ok(());
        }
        let inner = self.inner.clone();
        blocking(move || {
            let mut spec = spec;
            // Two pods at once must not choose the same range.
            let _choosing = inner.choosing.lock();
            if spec.users == Users::Own {
                let taken = inner.pods.lock().values().filter_map(PodSpec::first_id).collect();
                spec.users = Users::From(users::choose(&taken)?);
            }
            let parent = &inner.options.cgroup_parent;
            spec.level = inner.lsm.choose_level(&spec, inner.pods.lock().values())?;
            let label = inner.lsm.shared_label(&spec)?;
            let made =
                pod::create(&inner.layout, &inner.helper, &inner.tree, parent, &spec, label.as_deref());
            if let Err(error) = made {
                let _ = pod::remove(&inner.layout, &inner.tree, parent, &spec);
                return Err(error);
            }
            inner.pods.lock().insert(spec.uid.clone(), spec);
            Ok(())
        })
        .await
    }

    /// All pods.
    pub fn pods(&self) -> Vec<PodSpec> {
        self.inner.pods.lock().values().cloned().collect()
    }

    /// Makes a container and runs its command. When the command cannot be run, the container stays as one that
    /// ended with [`ExitReason::StartError`] until it is removed; after any other error nothing is left.
    pub async fn start(&self, spec: ContainerSpec) -> Result<Started, Error> {
        check_name("container id", &spec.id)?;
        let pod = self
            .inner
            .pods
            .lock()
            .get(&spec.pod_uid)
            .cloned()
            .ok_or_else(|| Error::PodNotFound(spec.pod_uid.clone()))?;
        let id = spec.id.clone();
        {
            let mut containers = self.inner.containers.lock();
            if containers.contains_key(&id) {
                return Err(Error::Exists(id));
            }
            let state = watch::Sender::new(State::Creating);
            let entry = Entry { spec: Arc::new(spec.clone()), pod: pod.clone(), state };
            containers.insert(id.clone(), entry);
        }
        let runtime = self.clone();
        let tracker = tokio::runtime::Handle::current();
        let starts = self.inner.starts.clone();
        // The work goes on when the caller stops waiting, so that no half-made container is forgotten.
        let work = tokio::spawn(async move {
            let _turn = starts.acquire_owned().await;
            blocking(move || {
                let _entered = tracker.enter();
                runtime.start_blocking(spec, pod)
            })
            .await
        });
        work.await
            .unwrap_or_else(|error| Err(Error::Create { id, message: format!("a worker died: {error}") }))
    }

    fn start_blocking(&self, mut spec: ContainerSpec, pod: PodSpec) -> Result<Started, Error> {
        let id = spec.id.clone();
        let planned = self.inner.lsm.plan(&pod, &spec).map(|confinement| {
            spec.confinement = confinement;
            // What joins the container later is confined as it is.
            if let Some(entry) = self.inner.containers.lock().get_mut(&id) {
                entry.spec = Arc::new(spec.clone());
            }
        });
        match planned.and_then(|()| self.spawn_helper(&spec, &pod)) {
            Err(error) => {
                self.forget(&id);
                Err(error)
            }
            Ok((child, helper, report)) => {
                let result = match report {
                    Ok(Report::Started { pid, started_at }) => {
                        self.set_state(&id, State::Running { pid, started_at });
                        self.watch(id, helper, Some(child));
                        return Ok(Started { pid, started_at });
                    }
                    Ok(Report::NotStarted(failure)) => {
                        reap(child);
                        let exit = read_json(&self.inner.layout.bundle(&id).exit()).unwrap_or_else(|| {
                            self.made_up_exit(
                                &spec,
                                START_ERROR_CODE,
                                ExitReason::StartError,
                                failure.message.clone(),
                            )
                        });
                        self.set_state(&id, State::Exited(exit));
                        return Err(Error::Start { id, message: failure.message, code: failure.code });
                    }
                    Ok(Report::NotCreated { message }) => Err(Error::Create { id: id.clone(), message }),
                    Err(error) => {
                        let log = fs::read_to_string(self.inner.layout.bundle(&id).helper_log())
                            .unwrap_or_default();
                        let message = format!("the helper ended early ({error}) {}", log.trim());
                        Err(Error::Create { id: id.clone(), message })
                    }
                };
                let mut child = child;
                let _ = child.kill();
                reap(child);
                self.tree_end(&self.inner.cgroup(&pod, &id));
                self.forget(&id);
                result
            }
        }
    }

    /// Writes the order, starts the helper and waits for its one line.
    #[allow(clippy::type_complexity, reason = "three results of one act, taken apart by the only caller")]
    fn spawn_helper(
        &self,
        spec: &ContainerSpec,
        pod: &PodSpec,
    ) -> Result<(Child, OwnedFd, io::Result<Report>), Error> {
        let Inner { layout, options, .. } = &*self.inner;
        let joins = match &spec.joins {
            Some(other) => Some(self.init_of(other)?.0),
            None => None,
        };
        if pod.pid == Sharing::Pod {
            let (dir, cgroup) = (layout.pod(&pod.uid), self.inner.pod_cgroup(pod));
            pause::ensure(&self.inner.helper, &self.inner.tree, &dir, &cgroup)?;
        }
        let bundle = layout.bundle(&spec.id);
        fs::create_dir_all(bundle.dir()).map_err(Error::io("make", bundle.dir()))?;
        let order = Order {
            spec: spec.clone(),
            pod: pod.clone(),
            pod_dir: layout.pod(&pod.uid).0,
            layer: layout.layer(&spec.id),
            library: layout.library(),
            cgroup: self.inner.cgroup(pod, &spec.id),
            hidden: options.hidden.clone(),
            by_pod: self.inner.by_pod.clone(),
            joins,
            log_bytes_max: options.log_bytes_max,
            log_files_max: options.log_files_max,
        };
        write_json(&bundle.order(), &order).map_err(Error::io("write", bundle.order()))?;
        let errors = fs::File::create(bundle.helper_log()).map_err(Error::io("make", bundle.helper_log()))?;
        let mut child = self
            .inner
            .helper
            .command("shim", &[bundle.dir().as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(Error::io("start helper", &options.exe))?;
        let report = match child.stdout.take() {
            Some(pipe) => read_report(pipe),
            None => Err(io::Error::from(io::ErrorKind::BrokenPipe)),
        };
        let pid = rustix::process::Pid::from_child(&child);
        let helper = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
            .map_err(|e| Error::io("watch helper", bundle.dir())(e.into()))?;
        Ok((child, helper, report))
    }

    /// Waits in the background for the helper's end and then makes the container's end known.
    fn watch(&self, id: String, helper: OwnedFd, child: Option<Child>) {
        let runtime = self.clone();
        tokio::spawn(async move {
            // SAFETY: the descriptor is owned by the watcher and closed by nobody else.
            match unsafe { AsyncFd::register_with_interest(helper, tokio::io::Interest::READABLE) } {
                Ok(helper) => drop(helper.readable().await),
                Err(error) => tracing::error!(%id, %error, "cannot watch helper"),
            }
            let _ = blocking(move || {
                if let Some(child) = child {
                    reap(child);
                }
                runtime.end(&id);
                Ok(())
            })
            .await;
        });
    }

    fn end(&self, id: &str) {
        let Some((spec, pod)) =
            self.inner.containers.lock().get(id).map(|entry| (entry.spec.clone(), entry.pod.clone()))
        else {
            return;
        };
        let exit = read_json(&self.inner.layout.bundle(id).exit()).unwrap_or_else(|| self.lose(&spec, &pod));
        self.set_state(id, State::Exited(exit.clone()));
        let _ = self.inner.exits.send(exit);
    }

    /// The helper is gone without a word: nothing of its container may run on, since nobody would know its end.
    fn lose(&self, spec: &ContainerSpec, pod: &PodSpec) -> Exit {
        let bundle = self.inner.layout.bundle(&spec.id);
        let record: Option<Record> = read_json(&bundle.state());
        let was_here = record.as_ref().is_some_and(|r| r.helper.boot_id == boot_id());
        if let Some(init) = record.as_ref().and_then(|r| r.init.as_ref()) {
            let _ = init.signal(libc::SIGKILL);
        }
        let cgroup = self.inner.cgroup(pod, &spec.id);
        self.tree_end(&cgroup);
        let _ = remove_tree(&self.inner.layout.library().join(&spec.id));
        let (code, message) = if was_here {
            (137, "the helper of the container was killed, so the container was too")
        } else {
            (255, "the machine was restarted")
        };
        let mut exit = self.made_up_exit(spec, code, ExitReason::Lost, message.into());
        exit.started_at = record.and_then(|r| r.started_at);
        if let Err(error) = write_json(&bundle.exit(), &exit) {
            tracing::error!(id = %spec.id, %error, "cannot write down the end of a container");
        }
        // A helper that was only about to begin looks for that file once it said who it is: one of the two is seen.
        if let Some(late) = read_json::<Record>(&bundle.state())
            && late.helper.signal(libc::SIGKILL).unwrap_or(false)
        {
            self.tree_end(&cgroup);
        }
        exit
    }

    fn tree_end(&self, cgroup: &str) {
        self.inner.tree.kill(cgroup);
        let _ = self.inner.tree.remove(cgroup);
    }

    fn made_up_exit(&self, spec: &ContainerSpec, code: i32, reason: ExitReason, message: String) -> Exit {
        Exit {
            id: spec.id.clone(),
            pod_uid: spec.pod_uid.clone(),
            code,
            signal: None,
            reason,
            message,
            started_at: None,
            finished_at: self.inner.options.clock.now(),
        }
    }

    fn set_state(&self, id: &str, state: State) {
        if let Some(entry) = self.inner.containers.lock().get(id) {
            entry.state.send_replace(state);
        }
    }

    fn forget(&self, id: &str) {
        self.inner.containers.lock().remove(id);
        let _ = remove_tree(&self.inner.layout.library().join(id));
        for directory in [self.inner.layout.layer(id), self.inner.layout.bundle(id).0] {
            if let Err(error) = remove_tree(&directory) {
                tracing::warn!(%id, %error, "cannot remove a directory of the container");
            }
        }
    }

    pub(crate) fn subscribe(&self, id: &str) -> Result<watch::Receiver<State>, Error> {
        let containers = self.inner.containers.lock();
        containers.get(id).map(|entry| entry.state.subscribe()).ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    /// Every container.
    pub fn list(&self) -> Vec<Container> {
        let containers = self.inner.containers.lock();
        containers
            .values()
            .map(|entry| Container { spec: entry.spec.clone(), state: entry.state.borrow().clone() })
            .collect()
    }

    /// One container.
    pub fn get(&self, id: &str) -> Option<Container> {
        let containers = self.inner.containers.lock();
        containers
            .get(id)
            .map(|entry| Container { spec: entry.spec.clone(), state: entry.state.borrow().clone() })
    }

    /// Every end from now on.
    pub fn exits(&self) -> broadcast::Receiver<Exit> {
        self.inner.exits.subscribe()
    }

    /// Waits for a container's end.
    pub async fn wait(&self, id: &str) -> Result<Exit, Error> {
        let mut states = self.subscribe(id)?;
        loop {
            if let State::Exited(exit) = &*states.borrow_and_update() {
                return Ok(exit.clone());
            }
            if states.changed().await.is_err() {
                return Err(Error::NotFound(id.to_owned()));
            }
        }
    }

    /// Sends a signal to a container's first process. One that ended is no error.
    pub async fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        match *self.subscribe(id)?.borrow() {
            State::Running { .. } => {}
            State::Creating => return Err(Error::NotRunning(id.to_owned())),
            State::Exited(_) => return Ok(()),
        }
        let path = self.inner.layout.bundle(id).state();
        let record: Option<Record> = read_json(&path);
        match record.and_then(|r| r.init) {
            Some(init) => init.signal(signal).map(drop).map_err(Error::io("signal container of", path))?,
            None => return Ok(()),
        }
        if signal == libc::SIGKILL {
            self.hurry(id);
        }
        Ok(())
    }

    /// A killed container that lingers is helped on: see [`crate::cgroup::Tree::hurry`].
    fn hurry(&self, id: &str) {
        let pod = self.inner.containers.lock().get(id).map(|entry| entry.pod.clone());
        let (Some(pod), Ok(mut states)) = (pod, self.subscribe(id)) else { return };
        let (inner, cgroup) = (self.inner.clone(), self.inner.cgroup(&pod, id));
        tokio::spawn(async move {
            let begun = tokio::time::Instant::now();
            while begun.elapsed() < KILL_WAIT {
                let ended = states.wait_for(|state| matches!(state, State::Exited(_)));
                if tokio::time::timeout(HURRY_EVERY, ended).await.is_ok() {
                    return;
                }
                inner.tree.hurry(&cgroup);
            }
        });
    }

    /// Kills everything in a container.
    pub async fn kill_all(&self, id: &str) -> Result<(), Error> {
        self.subscribe(id)?;
        self.kill(id, libc::SIGKILL).await.or_else(|error| match error {
            Error::NotRunning(_) => Ok(()),
            other => Err(other),
        })?;
        let inner = self.inner.clone();
        let (pod, is_running, is_one) = match inner.containers.lock().get(id) {
            Some(entry) => {
                let is_running = matches!(*entry.state.borrow(), State::Running { .. });
                (entry.pod.clone(), is_running, dies_as_one(&entry.spec, &entry.pod))
            }
            None => return Ok(()),
        };
        // With a PID namespace of its own everything in it dies with the first process.
        if is_running && is_one {
            return Ok(());
        }
        let cgroup = inner.cgroup(&pod, id);
        blocking(move || {
            inner.tree.kill(&cgroup);
            Ok(())
        })
        .await
    }

    /// Removes a container, killing it when it runs. Its log files stay. One that is not there is no error.
    pub async fn remove(&self, id: &str) -> Result<(), Error> {
        let Ok(states) = self.subscribe(id) else { return Ok(()) };
        let is_running = !matches!(*states.borrow(), State::Exited(_));
        if is_running {
            self.kill_all(id).await?;
            if tokio::time::timeout(KILL_WAIT, self.wait(id)).await.is_err() {
                return Err(Error::Running(id.to_owned()));
            }
        }
        let runtime = self.clone();
        let id = id.to_owned();
        blocking(move || {
            let pod = runtime.inner.containers.lock().get(&id).map(|entry| entry.pod.clone());
            if let Some(pod) = pod {
                let cgroup = runtime.inner.cgroup(&pod, &id);
                runtime.inner.tree.remove(&cgroup).map_err(Error::io("remove cgroup", cgroup))?;
            }
            runtime.forget(&id);
            Ok(())
        })
        .await
    }

    /// Removes a pod and its containers. One that is not there is no error.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), Error> {
        let ids: Vec<String> =
            self.list().iter().filter(|c| c.spec.pod_uid == uid).map(|c| c.spec.id.clone()).collect();
        for id in ids {
            self.remove(&id).await?;
        }
        let Some(spec) = self.inner.pods.lock().get(uid).cloned() else { return Ok(()) };
        let inner = self.inner.clone();
        blocking(move || {
            pod::remove(&inner.layout, &inner.tree, &inner.options.cgroup_parent, &spec)?;
            inner.pods.lock().remove(&spec.uid);
            Ok(())
        })
        .await
    }

    /// What a pod used.
    pub fn pod_stats(&self, uid: &str) -> Result<Stats, Error> {
        let pod =
            self.inner.pods.lock().get(uid).cloned().ok_or_else(|| Error::PodNotFound(uid.to_owned()))?;
        Ok(self.inner.counted(&self.inner.pod_cgroup(&pod)))
    }

    /// What a container used.
    pub fn stats(&self, id: &str) -> Result<Stats, Error> {
        let pod = self.inner.containers.lock().get(id).map(|entry| entry.pod.clone());
        let pod = pod.ok_or_else(|| Error::NotFound(id.to_owned()))?;
        Ok(self.inner.counted(&self.inner.cgroup(&pod, id)))
    }

    /// What went between a pod and disks.
    pub fn pod_disk_io(&self, uid: &str) -> Vec<DiskIo> {
        let pod = self.inner.pods.lock().get(uid).cloned();
        pod.map(|pod| self.inner.tree.disk_io(&self.inner.pod_cgroup(&pod))).unwrap_or_default()
    }

    /// What went between a container and disks.
    pub fn disk_io(&self, id: &str) -> Vec<DiskIo> {
        let pod = self.inner.containers.lock().get(id).map(|entry| entry.pod.clone());
        pod.map(|pod| self.inner.tree.disk_io(&self.inner.cgroup(&pod, id))).unwrap_or_default()
    }

    /// What all containers of this cluster use together.
    pub fn total_stats(&self) -> Stats {
        self.inner.tree.stats(&format!("/{}", self.inner.options.cgroup_parent))
    }

    /// The directory of what a container wrote into its root file system.
    pub fn upper_dir(&self, id: &str) -> PathBuf {
        self.inner.layout.layer(id).join("upper")
    }

    /// The first process of a running container, for those who must see it from outside.
    pub(crate) fn init_of(&self, id: &str) -> Result<(Identity, Arc<ContainerSpec>, PodSpec), Error> {
        let (spec, pod) = {
            let containers = self.inner.containers.lock();
            let entry = containers.get(id).ok_or_else(|| Error::NotFound(id.to_owned()))?;
            if !matches!(*entry.state.borrow(), State::Running { .. }) {
                return Err(Error::NotRunning(id.to_owned()));
            }
            (entry.spec.clone(), entry.pod.clone())
        };
        let record: Option<Record> = read_json(&self.inner.layout.bundle(id).state());
        let init = record.and_then(|r| r.init).filter(Identity::is_alive);
        Ok((init.ok_or_else(|| Error::NotRunning(id.to_owned()))?, spec, pod))
    }
}

/// The living helper of a bundle, and the state it wrote down. One that was interrupted before its container ran
/// is ended: nobody waits for its report any more.
fn find_helper(bundle: &Bundle) -> Option<(OwnedFd, State)> {
    let record: Record = read_json(&bundle.state())?;
    let helper = record.helper.open()?;
    match (record.init, record.started_at) {
        (Some(init), Some(started_at)) => Some((helper, State::Running { pid: init.pid, started_at })),
        _ => {
            let _ = record.helper.signal(libc::SIGKILL);
            None
        }
    }
}

/// The one line of a helper, which may hang in a file system of the container's choosing.
fn read_report(mut pipe: ChildStdout) -> io::Result<Report> {
    let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, PollTimeout::from(START_WAIT_MS))? == 0 {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    let mut text = Vec::new();
    pipe.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn reap(mut child: Child) {
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "cannot reap helper");
    }
}
