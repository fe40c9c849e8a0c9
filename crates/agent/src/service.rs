//! The agent itself: keeps a session with a leader, a worker for each pod, and a clean machine.

use crate::cpus::Cpus;
use crate::error::Error;
use crate::events::{self, Recorder};
use crate::evict::Keeper;
use crate::finished;
use crate::link::{self, Handler, Uplink};
use crate::machine::{Machine, chain};
use crate::mesos::{self, Endpoint};
use crate::names::Names;
use crate::native::Native;
use crate::node;
use crate::observed::{Doom, Sandbox};
use crate::options::Options;
use crate::pod;
use crate::refuse;
use crate::restore;
use crate::services::{self, Here};
use crate::shared::{Cluster, Shared};
use crate::statics;
use crate::tokens::Tokens;
use crate::tunnels::{self, Opened, Refused};
use crate::worker::{NUDGES_MAX, Nudge, Worker};
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stoa_units::{Quantity, Time};
use stoa_wire::{
    Down, Frame, HeldPod, NodeReport, Occurrence, PROTOCOL, Packet, PodRef, Referent, TunnelRequest, Up,
};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

mod folder;
mod room;

/// First wait before another attempt to reach a leader; it doubles, with chance, up to `Options::reconnect_max`.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// How often the image store is looked at for the node's status.
const IMAGES_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked for executors that did not subscribe.
const EXECUTORS_EVERY: Duration = Duration::from_secs(1);
/// How often the machine is swept of what no pod owns, once the leader has said what is desired.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Where this machine answers its pods' questions for names, beside its address towards them.
const DNS_PORT: u16 = 53;
/// How long to wait before a name server that could not serve is tried again.
const NAMES_RETRY: Duration = Duration::from_secs(5);
/// How long to wait before services that could not be written are tried again.
const SERVICES_RETRY: Duration = Duration::from_secs(1);

/// How often mirrors that are missing are asked for.
const MIRRORS_EVERY: Duration = Duration::from_secs(1);
/// Mirrors that wait to be taken away.
const UNMIRRORED_MAX: usize = 256;

/// An agent, ready to run.
pub struct Service {
    options: Options,
    machine: Option<Arc<dyn Machine>>,
}

struct Handle {
    pod: PodRef,
    nudge: mpsc::Sender<Nudge>,
    task: tokio::task::JoinHandle<()>,
}

/// What was named since the session began; at its end the rest is swept.
#[derive(Default)]
struct Naming {
    pods: HashSet<String>,
    objects: HashSet<(Referent, String, String)>,
    synced: bool,
}

struct Agent {
    shared: Arc<Shared>,
    report: Mutex<NodeReport>,
    workers: Mutex<HashMap<String, Handle>>,
    naming: Mutex<Naming>,
    swept: AtomicBool,
    /// Pods of this machine's own that are gone while the leader may still show them.
    unmirrored: tokio::sync::Mutex<mpsc::Receiver<PodRef>>,
    unmirror: mpsc::Sender<PodRef>,
    keeper: Keeper,
    /// The machine is about to: it takes no pod any more.
    goes_down: AtomicBool,
    /// Rung when the node's report changed between two looks at the images.
    report_changed: Notify,
    /// Cancelled once the folder of this machine's own pods was read: before, a mirror of one of them seems to be of none.
    folder_read: CancellationToken,
}

impl Service {
    /// An agent of these options, on this machine.
    pub fn new(options: Options) -> Service {
        Service { options, machine: None }
    }

    /// An agent on another machine: a scripted one, in tests and simulations.
    pub fn with_machine(options: Options, machine: Arc<dyn Machine>) -> Service {
        Service { options, machine: Some(machine) }
    }

    /// Runs until told to stop. Containers are left running; the next agent takes them over.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let options = self.options;
        for dir in [options.pods_dir(), options.logs_dir(), options.finished_dir()] {
            std::fs::create_dir_all(&dir).map_err(|cause| Error::Io {
                what: "create",
                path: dir.clone(),
                cause,
            })?;
        }
        let machine = match self.machine {
            Some(machine) => machine,
            None => Arc::new(Native::open(&options).await?),
        };
        let address = options.node_ip.clone().unwrap_or_else(|| node::find_address(&options.masters));
        let report = node::describe(&options, &address).map_err(Error::Options)?;
        let memory =
            report.capacity.get("memory").and_then(|m| Quantity::parse(m).ok()).map_or(0, |q| q.value_ceil());
        let cpus = Cpus::open(&options, &*machine).await?;
        let (events, mut occurrences) = mpsc::channel(events::QUEUE_LEN_MAX);
        let recorder = Recorder::new(Arc::clone(&options.clock), events);
        let (tokens, mut token_requests) = Tokens::new();
        let shared = Arc::new(Shared::new(
            options,
            machine,
            cpus,
            recorder,
            tokens,
            vec![address],
            memory,
            report.allocatable.clone(),
            report.labels.clone(),
        ));
        let (unmirror, unmirrored) = mpsc::channel(UNMIRRORED_MAX);
        let keeper = Keeper::new(shared.now(), shared.options.pressure_hold);
        let agent = Arc::new(Agent {
            keeper,
            goes_down: AtomicBool::new(false),
            report_changed: Notify::new(),
            folder_read: CancellationToken::new(),
            shared,
            unmirror,
            unmirrored: tokio::sync::Mutex::new(unmirrored),
            report: Mutex::new(report),
            workers: Mutex::default(),
            naming: Mutex::default(),
            swept: AtomicBool::new(false),
        });
        agent.look_at_images().await;
        let (recorder, name) = (&agent.shared.recorder, &agent.shared.options.name);
        recorder.record_node(name, events::Kind::Normal, "Starting", "Starting kubelet.");
        agent.limit_all().await.map_err(Error::Options)?;
        let endpoint = Endpoint::bind(&agent.shared.options).await.map_err(|cause| Error::Io {
            what: "bind the Mesos API of",
            path: agent.shared.options.data_dir.clone(),
            cause,
        })?;
        agent.shared.executors.set_endpoint(endpoint.address);
        let at = endpoint.operators.as_ref().and_then(|l| l.local_addr().ok());
        if let Some(at) = at {
            let announced = mesos::announced(at, &agent.shared.host_ips);
            agent.shared.executors.set_operators(announced);
            let mut report = agent.report.lock();
            report.annotations.insert(node::MESOS_API_ANNOTATION.to_owned(), announced.to_string());
        }
        let api = agent.shared.options.mesos_api.clone().map(Arc::new);
        let operators = at.zip(api).map(|(at, api)| mesos::Door::Operators(api, at));
        let serve = |listener: Option<tokio::net::TcpListener>, door: Option<mesos::Door>| {
            let shared = Arc::clone(&agent.shared);
            async move {
                match listener.zip(door) {
                    Some((listener, door)) => mesos::run(shared, listener, door).await,
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = serve(endpoint.executors, Some(mesos::Door::Executors)) => {}
            () = serve(endpoint.operators, operators) => {}
            () = agent.serve_pods() => {}
            () = agent.keep_executors() => {}
            () = agent.watch_exits() => {}
            () = agent.keep_swept() => {}
            () = agent.keep_static_pods() => {}
            () = agent.keep_services() => {}
            () = agent.keep_names() => {}
            () = agent.keep_fit() => {}
            () = agent.shared.cpus.keep(&*agent.shared.machine) => {}
            () = agent.keep_session(&mut occurrences, &mut token_requests) => {}
            () = shutdown.cancelled() => {}
            () = agent.power_off() => {}
        }
        agent.workers.lock().drain().for_each(|(_, handle)| handle.task.abort());
        Ok(())
    }
}

impl Agent {
    /// Keeps all pods together to what is theirs, and says so. Where that cannot be done each is kept to its own all the same.
    async fn limit_all(&self) -> Result<(), String> {
        let options = &self.shared.options;
        let (milli, memory) = node::unreserved(options, &self.report.lock().capacity)?;
        let limits = crate::limits::of_all(milli, Some(memory).filter(|_| options.resources.is_none()));
        let (kind, reason, message) = match self.shared.machine.limit_all(limits).await {
            Ok(()) => (
                events::Kind::Normal,
                "NodeAllocatableEnforced",
                "Updated Node Allocatable limit across pods".to_owned(),
            ),
            Err(error) => {
                let (all, why) = (options.cgroup_parent(), chain(&error));
                (
                    events::Kind::Warning,
                    "FailedNodeAllocatableEnforcement",
                    format!("Failed to update Node Allocatable Limits [\"{all}\"]: {why}"),
                )
            }
        };
        self.shared.recorder.record_node(&options.name, kind, reason, message);
        Ok(())
    }

    /// Sweeps now and then: what could not be removed at once is tried again.
    async fn keep_swept(&self) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.reap();
            if self.swept.load(Ordering::SeqCst) {
                self.sweep().await;
            }
        }
    }

    /// Ends executors that did not subscribe in time.
    async fn keep_executors(&self) {
        let mut ticks = tokio::time::interval(EXECUTORS_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (pod, id) in self.shared.executors.take_overdue(self.shared.now()) {
                let Some(nudge) = self.nudge_of(&pod) else { continue };
                let message = "Executor did not register in time".to_owned();
                let container = mesos::CONTAINER.to_owned();
                let grace = Duration::ZERO;
                let _ = nudge.send(Nudge::Stop { container, id, grace, message, hook: None }).await;
            }
        }
    }

    /// Hands each end of a container to its pod's worker.
    async fn watch_exits(&self) {
        let mut exits = self.shared.machine.exits();
        loop {
            match exits.recv().await {
                Ok(exit) => {
                    let nudge = self.nudge_of(&exit.pod_uid);
                    if let Some(nudge) = nudge {
                        let _ = nudge.send(Nudge::Exit(exit)).await;
                    }
                }
                Err(RecvError::Lagged(_)) => self.nudge_all(|| Nudge::Resync).await,
                // Without a runtime nothing can be done; whoever started the agent decides.
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn nudge_of(&self, uid: &str) -> Option<mpsc::Sender<Nudge>> {
        self.workers.lock().get(uid).map(|h| h.nudge.clone())
    }

    async fn nudge_all(&self, nudge: impl Fn() -> Nudge) {
        let all: Vec<_> = self.workers.lock().values().map(|h| h.nudge.clone()).collect();
        for worker in all {
            let _ = worker.send(nudge()).await;
        }
    }

    /// Dials a leader again and again, with growing waits while none answers.
    async fn keep_session(
        self: &Arc<Self>,
        occurrences: &mut mpsc::Receiver<Occurrence>,
        token_requests: &mut mpsc::Receiver<Up>,
    ) {
        let masters = self.shared.options.masters.clone();
        self.folder_read.cancelled().await;
        let mut wait = RECONNECT_FIRST;
        for attempt in 0.. {
            let Some(master) = masters.get(attempt % masters.len().max(1)) else {
                return std::future::pending().await;
            };
            *self.naming.lock() = Naming::default();
            self.shared.statics.forget_mirrors();
            let begun = self.shared.now();
            let outcome = link::run(&self.shared.options, master, self.hello(), Arc::clone(self), |uplink| {
                self.speak(uplink, occurrences, token_requests)
            })
            .await;
            self.shared.tokens.fail_all();
            let lasted = self.shared.now().since(begun);
            match outcome {
                Ok(()) => tracing::info!(%master, "the session ended"),
                Err(error) => tracing::warn!(%master, %error, "no session"),
            }
            // A session that lasted was a good one: try at once; otherwise ever slower.
            wait = if lasted > Duration::from_secs(10) {
                RECONNECT_FIRST
            } else {
                (wait * 2).min(self.shared.options.reconnect_max)
            };
            tokio::time::sleep(jitter(wait)).await;
        }
    }

    fn hello(&self) -> Packet<Up> {
        let running: HashMap<String, u32> = self
            .shared
            .live
            .lock()
            .iter()
            .map(|(uid, l)| {
                (uid.clone(), l.containers.values().filter(|c| c.running.is_some()).count() as u32)
            })
            .collect();
        let pods = self
            .workers
            .lock()
            .values()
            .map(|h| HeldPod { pod: h.pod.clone(), running: running.get(&h.pod.uid).copied().unwrap_or(0) })
            .collect();
        Packet::bare(Up::Hello {
            protocol: PROTOCOL,
            node: self.shared.options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            report: Box::new(self.report.lock().clone()),
            pods,
        })
    }

    /// Says what there is to say, as long as the session lasts.
    async fn speak(
        &self,
        uplink: Uplink,
        occurrences: &mut mpsc::Receiver<Occurrence>,
        token_requests: &mut mpsc::Receiver<Up>,
    ) {
        self.shared.outbox.repeat();
        let mut mirrors = tokio::time::interval(MIRRORS_EVERY);
        mirrors.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut images = tokio::time::interval(IMAGES_EVERY);
        images.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            while let Some(report) = self.shared.outbox.take() {
                // A pod of this machine's own is spoken of once the leader has a mirror of it.
                let Some(known_as) = self.shared.statics.known_as(&report.pod) else { continue };
                if let Some(status) = report.passing {
                    let head = Up::Status { pod: known_as.clone(), passing: true };
                    if !uplink.send(Packet::with(head, status)).await {
                        return;
                    }
                }
                if let Some(status) = report.status {
                    let head = Up::Status { pod: known_as, passing: false };
                    if !uplink.send(Packet::with(head, status)).await {
                        return;
                    }
                }
                if report.stopped
                    && !self.shared.statics.has(&report.pod.uid)
                    && !uplink.send(Packet::bare(Up::Stopped { pod: report.pod })).await
                {
                    return;
                }
            }
            let packet = tokio::select! {
                () = self.shared.outbox.changed() => continue,
                () = self.report_changed.notified() => Packet::bare(Up::Node { report: Box::new(self.report.lock().clone()) }),
                Some(up) = token_requests.recv() => Packet::bare(up),
                Some(mut occurrence) = occurrences.recv() => {
                    // One about a pod waits for no mirror; one about the node itself has no pod at all.
                    if let Some(pod) = occurrence.pod.take() {
                        occurrence.pod = self.shared.statics.known_as(&pod);
                        if occurrence.pod.is_none() {
                            continue;
                        }
                    }
                    Packet::bare(Up::Event { occurrence: Box::new(occurrence) })
                }
                Some(pod) = async { self.unmirrored.lock().await.recv().await } => {
                    Packet::bare(Up::MirrorGone { pod })
                }
                _ = mirrors.tick() => {
                    for (pod, bytes) in self.shared.statics.unseen() {
                        if !uplink.send(Packet::with(Up::Mirror { pod }, bytes.into())).await {
                            return;
                        }
                    }
                    continue;
                }
                _ = images.tick() => {
                    if !self.look_at_images().await {
                        continue;
                    }
                    Packet::bare(Up::Node { report: Box::new(self.report.lock().clone()) })
                }
            };
            if !uplink.send(packet).await {
                return;
            }
        }
    }

    /// Reads the image store; says whether the node's report changed.
    async fn look_at_images(&self) -> bool {
        let images = node::images(&*self.shared.machine).await;
        let mut report = self.report.lock();
        let changed = report.images != images;
        report.images = images;
        changed
    }

    /// What a pod leaves to the node's abilities, decided.
    fn settle(&self, pod: Pod) -> Pod {
        pod::settle_mounts(pod, self.report.lock().features.recursive_read_only_mounts)
    }

    async fn desire(&self, reference: PodRef, bytes: &Bytes) {
        let pod: Arc<Pod> = match serde_json::from_slice(bytes) {
            Ok(pod) => Arc::new(statics::disown(self.settle(pod::absorb_ephemeral(pod)))),
            Err(error) => {
                tracing::error!(pod = %reference.name, %error, "the leader sent a pod that cannot be read");
                return;
            }
        };
        if pod::reference(&pod) != reference {
            tracing::error!(pod = %reference.name, "the leader sent a pod under another's name");
            return;
        }
        if let Some(hash) = pod.metadata.annotations.as_ref().and_then(|a| a.get(statics::MIRROR)) {
            return self.mirrored(hash, &reference, pod.metadata.deletion_timestamp.is_some());
        }
        self.naming.lock().pods.insert(reference.uid.clone());
        match self.nudge_of(&reference.uid) {
            Some(nudge) => {
                if nudge.send(Nudge::Desired(Arc::clone(&pod))).await.is_err() {
                    self.begin(reference, pod);
                }
            }
            None => self.begin(reference, pod),
        }
    }

    /// A worker for a pod that has none.
    fn begin(&self, reference: PodRef, pod: Arc<Pod>) {
        let uid = reference.uid.clone();
        let shared = &self.shared;
        let held: Vec<_> = shared.machine.list().into_iter().filter(|c| c.spec.pod_uid == uid).collect();
        let mut observed = restore::observe(&pod, &held, shared.now());
        // What its containers were given holds until this agent has granted something else.
        let granted = crate::resize::held_resources(&pod, &observed);
        let last = finished::read(&shared.options.finished_dir(), &uid);
        let last = last.or_else(|| pod.status.clone().filter(|_| pod::is_terminal(&pod)));
        // A pod that ended and whose remains are still here is taken down as one that ends now.
        let is_over = last.is_some() && held.is_empty() && !shared.machine.pods().contains(&uid);
        if last.is_none() {
            if held.is_empty()
                && let Some(doom) = self.refuse(&pod)
            {
                observed.doom = Some(doom);
                observed.sandbox = Sandbox::Missing { retry_at: None };
            } else {
                // Whoever ran before the policy stays, wherever there is room.
                if let Err(why) = shared.cpus.admit(&uid, &pod) {
                    tracing::warn!(pod = %reference.name, %why, "a pod that runs gets no CPUs of its own");
                }
                shared.claims.lock().insert(uid.clone(), refuse::claim(granted.as_ref().unwrap_or(&pod)));
            }
        } else if !is_over {
            observed.doom = last.as_ref().map(|s| Doom::Failed {
                reason: s.reason.clone().unwrap_or_default(),
                message: s.message.clone().unwrap_or_default(),
            });
        }
        let (nudge, nudges) = mpsc::channel(NUDGES_MAX);
        let (wanted, pod) = match granted {
            Some(granted) => (Some(pod), Arc::new(granted)),
            None => (None, pod),
        };
        if let Some(wanted) = wanted {
            let _ = nudge.try_send(Nudge::Desired(wanted));
        }
        let mut worker = Worker::new(Arc::clone(shared), pod, observed, nudge.clone(), nudges);
        if let Some(status) = last.filter(|_| is_over) {
            shared.cpus.release(&uid);
            worker.freeze(status);
        }
        // Known before it does anything: a sweep must not take its first steps for remains.
        let mut workers = self.workers.lock();
        let task = tokio::spawn(worker.run());
        workers.insert(uid, Handle { pod: reference, nudge: nudge.clone(), task });
        drop(workers);
        // What ended after the machine was asked and before the worker was known was told to nobody.
        let _ = nudge.try_send(Nudge::Resync);
    }

    async fn gone(&self, uid: &str) {
        if self.shared.statics.drop_mirror(uid).is_some() {
            // The pod runs on, and gets another mirror.
            self.shared.outbox.forget_uid(uid);
            return;
        }
        // The leader counts on its room from now on: a pod that comes instead must not be refused for what is being taken down.
        self.shared.claims.lock().remove(uid);
        let Some(nudge) = self.nudge_of(uid) else { return };
        let _ = nudge.send(Nudge::Gone).await;
        self.reap();
    }

    /// Forgets workers that are done.
    fn reap(&self) {
        self.workers.lock().retain(|_, h| !h.task.is_finished());
    }

    /// All that is desired was named: what was not is ended, and what no worker holds is swept off the machine.
    async fn synced(&self) {
        let named = {
            let mut naming = self.naming.lock();
            naming.synced = true;
            std::mem::take(&mut naming.pods)
        };
        let objects = std::mem::take(&mut self.naming.lock().objects);
        let was_named =
            |kind: Referent, ns: &str, name: &str| objects.contains(&(kind, ns.to_owned(), name.to_owned()));
        self.shared.pushed.retain(was_named);
        self.shared.services.retain(was_named);
        self.shared.services.ring();
        let unwanted: Vec<String> =
            self.workers.lock().keys().filter(|uid| !named.contains(*uid)).cloned().collect();
        let unwanted: Vec<String> =
            unwanted.into_iter().filter(|uid| !self.shared.statics.has(uid)).collect();
        for uid in unwanted {
            tracing::info!(%uid, "a pod is desired no more");
            self.gone(&uid).await;
        }
        self.shared.objects_changed();
        self.sweep().await;
    }

    /// Removes whatever is on this machine of pods that no worker holds.
    async fn sweep(&self) {
        let mut found = self.shared.machine.pods();
        found.extend(self.shared.machine.list().into_iter().map(|c| c.spec.pod_uid.clone()));
        found.extend(self.shared.volumes.held().unwrap_or_default());
        // Read after the machine: whatever was found belongs to a worker of now, or to none.
        let keep: HashSet<String> = self.workers.lock().keys().cloned().collect();
        for uid in found.into_iter().filter(|uid| !keep.contains(uid)) {
            tracing::info!(%uid, "sweeping what is left of a pod");
            if let Err(error) = self.sweep_one(&uid).await {
                tracing::warn!(%uid, %error, "cannot sweep a pod yet");
            }
        }
        let logs = self.shared.options.logs_dir();
        let sandboxes = self.shared.options.sandboxes_dir();
        let finished_dir = self.shared.options.finished_dir();
        self.shared.executors.sweep(|uid| keep.contains(uid));
        // Asked anew: who came while this swept has been given CPUs already.
        let now: HashSet<String> = self.workers.lock().keys().cloned().collect();
        self.shared.cpus.retain(|uid| now.contains(uid) || keep.contains(uid));
        let first = !self.swept.swap(true, Ordering::SeqCst);
        let done = tokio::task::spawn_blocking(move || {
            finished::retain(&finished_dir, |uid| keep.contains(uid));
            if first {
                sweep_sandboxes(&sandboxes, &keep);
            }
            // Logs go with their pods; only what an earlier agent left has to be looked for.
            for entry in std::fs::read_dir(&logs).into_iter().flatten().flatten().filter(|_| first) {
                let name = entry.file_name();
                let uid = name.to_str().and_then(|n| n.rsplit('_').next()).unwrap_or_default().to_owned();
                if !keep.contains(&uid) {
                    let _ = stoa_volume::remove_tree(&entry.path());
                }
            }
        });
        let _ = done.await;
    }

    async fn sweep_one(&self, uid: &str) -> Result<(), String> {
        let machine = &self.shared.machine;
        machine.remove_pod(uid).await.map_err(|e| chain(&e))?;
        machine.detach_network(uid).await?;
        let (volumes, uid) = (self.shared.volumes.clone(), uid.to_owned());
        let removed = tokio::task::spawn_blocking(move || volumes.remove(&uid)).await;
        removed.map_err(|e| e.to_string())?.map_err(|e| chain(&e))
    }

    async fn object(&self, kind: Referent, namespace: String, name: String, bytes: Option<&Bytes>) {
        if matches!(kind, Referent::Service | Referent::EndpointSlice) {
            return self.service(kind, namespace, name, bytes);
        }
        match bytes {
            Some(bytes) => {
                if let Err(error) = self.shared.pushed.put(kind, &namespace, &name, bytes) {
                    tracing::error!(%namespace, %name, %error, "the leader sent an object that cannot be read");
                    return;
                }
            }
            None => self.shared.pushed.absent(kind, &namespace, &name),
        }
        let synced = {
            let mut naming = self.naming.lock();
            naming.objects.insert((kind, namespace, name));
            naming.synced
        };
        // Before the set is whole nothing waits in vain: `synced` nudges everyone once.
        if synced {
            self.shared.objects_changed();
        }
    }

    /// Takes in a Service or an EndpointSlice.
    fn service(&self, kind: Referent, namespace: String, name: String, bytes: Option<&Bytes>) {
        if let Err(error) = self.shared.services.put(kind, &namespace, &name, bytes.map(|b| &b[..])) {
            tracing::error!(%namespace, %name, %error, "the leader sent an object that cannot be read");
            return;
        }
        let mut naming = self.naming.lock();
        naming.objects.insert((kind, namespace, name));
        if naming.synced {
            self.shared.services.ring();
        }
    }

    /// The gateway of the pods' network, once there is one. A leader that welcomes this agent names its services, too.
    async fn gateway(&self) -> Option<std::net::Ipv4Addr> {
        let mut changes = self.shared.services.changes();
        loop {
            if let Some(gateway) = self.shared.machine.gateway() {
                return Some(gateway);
            }
            changes.changed().await.ok()?;
        }
    }

    /// Serves executors that have a network of their own.
    async fn serve_pods(&self) {
        let Some(gateway) = self.gateway().await else { return std::future::pending().await };
        let listener = loop {
            match mesos::bind_for_pods(&self.shared.options, gateway).await {
                Ok(listener) => break listener,
                Err(error) => {
                    tracing::warn!(%gateway, %error, "executors with a network of their own find no API yet");
                    tokio::time::sleep(NAMES_RETRY).await;
                }
            }
        };
        if let Ok(address) = listener.local_addr() {
            self.shared.executors.set_of_pods(address);
        }
        mesos::run(Arc::clone(&self.shared), listener, mesos::Door::Pods).await;
    }

    /// Answers pods' questions for names, once they have a network.
    async fn keep_names(&self) {
        let Some(gateway) = self.gateway().await else { return };
        let zone = Arc::new(Names(Arc::clone(&self.shared)));
        let upstream = std::fs::read_to_string("/etc/resolv.conf").map(|t| stoa_dns::upstream_of(&t));
        let upstream = upstream.unwrap_or_default();
        loop {
            let address = (gateway, DNS_PORT).into();
            let served =
                stoa_dns::serve(address, zone.clone(), upstream.clone(), CancellationToken::new()).await;
            if let Err(error) = served {
                tracing::warn!(error = %chain(&error), "pods cannot ask for names");
            }
            tokio::time::sleep(NAMES_RETRY).await;
        }
    }

    /// Makes services lead to their pods, as long as the agent runs. Until the leader named all of them, what an earlier
    /// agent made stays.
    async fn keep_services(&self) {
        let mut changes = self.shared.services.changes();
        let mut wanted = stoa_net::Services::new();
        let mut here = Here {
            node: self.shared.options.name.clone(),
            leader: self.shared.options.masters.iter().find_map(|m| m.strip_prefix("https://")?.parse().ok()),
            dns: None,
        };
        while changes.changed().await.is_ok() {
            here.dns = self.shared.machine.gateway().map(|ip| std::net::SocketAddrV4::new(ip, DNS_PORT));
            for (names, known) in self.shared.services.take_changed() {
                services::render(&mut wanted, &names, &known, &here);
            }
            while let Err(error) = self.shared.machine.set_services(&wanted).await {
                tracing::warn!(%error, "services cannot be led to their pods yet");
                tokio::time::sleep(SERVICES_RETRY).await;
            }
        }
    }
}

#[async_trait::async_trait]
impl Handler for Agent {
    async fn down(&self, packet: Packet<Down>) {
        match packet.head {
            Down::Welcome {
                pod_cidr, cluster_cidr, service_cidr, dns, domain, api_host, api_port, ..
            } => {
                tracing::info!(%pod_cidr, "a leader welcomes this agent");
                let dns = crate::etc_files::ClusterDns { address: dns, domain };
                *self.shared.cluster.lock() = Cluster { dns, api_host, api_port };
                let around = [cluster_cidr, service_cidr];
                if let Err(error) = self.shared.machine.set_pod_cidr(&pod_cidr, &around).await {
                    tracing::error!(%error, %pod_cidr, "cannot set the pod network up");
                }
            }
            Down::Pod { pod, node_labels, node_taints } => {
                if let Some(labels) = node_labels {
                    self.shared.marks.lock().labels = labels;
                }
                if let Some(taints) = node_taints {
                    self.shared.marks.lock().taints = taints;
                }
                self.desire(pod, &packet.object).await
            }
            Down::PodGone { pod } => self.gone(&pod.uid).await,
            Down::Object { kind, namespace, name } => {
                self.object(kind, namespace, name, Some(&packet.object)).await
            }
            Down::ObjectGone { kind, namespace, name } => self.object(kind, namespace, name, None).await,
            Down::Synced => self.synced().await,
            Down::Token { request, token, expires } => {
                let expires =
                    Time::parse(&expires).ok_or_else(|| "the leader sent a token without an end".to_owned());
                self.shared.tokens.answer(request, expires.map(|at| (token, at)));
            }
            Down::TokenRefused { request, message } => self.shared.tokens.answer(request, Err(message)),
            Down::Open { .. } => {}
        }
    }

    async fn open(&self, request: TunnelRequest) -> Result<Opened, Refused> {
        tunnels::open(&self.shared, request).await
    }

    async fn serve(&self, opened: Opened, input: mpsc::Receiver<Frame>, output: mpsc::Sender<Frame>) {
        tunnels::serve(Arc::clone(&self.shared), opened, input, output).await;
    }
}

/// Removes the sandboxes (`<framework>/<task>/<pod>`) of pods that are no more.
fn sweep_sandboxes(dir: &std::path::Path, keep: &HashSet<String>) {
    let below = |dir: &std::path::Path| {
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>()
    };
    for framework in below(dir) {
        for task in below(&framework) {
            for pod in below(&task) {
                let kept = pod.file_name().and_then(|n| n.to_str()).is_some_and(|uid| keep.contains(uid));
                if !kept && let Err(error) = stoa_volume::remove_tree(&pod) {
                    tracing::warn!(%error, "cannot remove a task's sandbox");
                }
            }
            let _ = std::fs::remove_dir(&task);
        }
        let _ = std::fs::remove_dir(&framework);
    }
}

/// Between half of it and all of it, so that a thousand agents do not dial a new leader in the same instant.
fn jitter(wait: Duration) -> Duration {
    let chance = uuid::Uuid::new_v4().as_u128() as u32;
    wait.mul_f64(0.5 + f64::from(chance) / f64::from(u32::MAX) / 2.0)
}

mod fit;
mod power_off;
#[cfg(test)]
mod tests;
