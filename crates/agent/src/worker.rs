//! One pod's worker: a task that takes nudges one at a time, asks [`crate::plan`] what to do, does it, and tells the
//! leader what came of it. It is the only writer of what is seen of its pod.

use crate::events::{Kind, Place};
use crate::finished;
use crate::images::{self, Pulls};
use crate::kill::Killing;
use crate::observed::{Doom, Ended, Life, Observed, Sandbox};
use crate::plan::{self, Action, Turn};
use crate::pod::{self, Part};
use crate::probe::{Probed, Probing};
use crate::shared::{LiveContainer, LivePod, Shared};
use crate::status;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stoa_runtime::{Exit, Limits, State};
use stoa_units::Time;
use stoa_volume::Made;
use stoa_wire::PodRef;
use tokio::sync::{mpsc, watch};

/// Nudges that may wait for a worker; probes and exits are few, so a full queue means a stuck worker.
pub(crate) const NUDGES_MAX: usize = 64;
/// Wait before something that failed for no reason of the pod's is tried again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(2);
/// No sleep is longer, so that a step of the wall clock is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Something that may change what is to be done.
#[derive(Debug)]
pub(crate) enum Nudge {
    /// The pod's object is now this.
    Desired(Arc<Pod>),
    /// The pod's object is gone.
    Gone,
    /// A container ended.
    Exit(Exit),
    /// Exits may have been missed.
    Resync,
    /// A probe made up its mind.
    Probed(Probed),
    /// A container's postStart hook ended well.
    Hooked { container: String, id: String },
    /// The pod has to go: it fails with these words, after no longer than this. The condition says that it is for others.
    Disrupt { reason: String, message: String, condition: Option<String>, grace: Option<Duration> },
    /// A pull is done: for a container, or for a volume.
    Pulled { wanted_by: String, image: String, outcome: Box<images::Outcome> },
    /// A container shall end, for this reason; its restart policy says what follows. Where it is for its postStart hook: what
    /// became of that.
    Stop { container: String, id: String, grace: Duration, message: String, hook: Option<String> },
}

/// See the module.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) reference: PodRef,
    pub(crate) observed: Observed,
    pub(crate) volumes: Made,
    /// Layers of the images that volumes show, once they are here.
    pub(crate) volume_images: BTreeMap<String, Vec<PathBuf>>,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) hostname: String,
    /// When tokens in volumes are to be renewed.
    pub(crate) refresh_at: Option<Time>,
    pub(crate) prepare_failures: u32,
    /// When the surroundings were to be tried again, had nothing been pushed meanwhile that might help.
    pub(crate) early_prepare: Option<Time>,
    /// What was told last of a volume that could not be made.
    pub(crate) mount_refusal: Option<String>,
    /// What the API wants, while this node does not grant its resources: `pod` is what holds until then.
    pub(crate) wanted: Option<Arc<Pod>>,
    pub(crate) retry_grant_at: Option<Time>,
    /// Whether a resize was granted that is not done yet.
    pub(crate) resizing: bool,
    /// Limits that the pod's cgroup has.
    pub(crate) pod_limits: Limits,
    pub(crate) killing: HashMap<String, Killing>,
    pub(crate) probing: HashMap<String, Probing>,
    pub(crate) stop_signals: HashMap<String, String>,
    pub(crate) pulls: Pulls,
    pub(crate) nudge: mpsc::Sender<Nudge>,
    nudges: mpsc::Receiver<Nudge>,
    objects: watch::Receiver<u64>,
    /// The last words, once everything is down.
    frozen: bool,
    teardown_at: Option<Time>,
    /// It was said that the pod is being ended.
    pub(crate) end_said: bool,
    said: Option<PodStatus>,
}

impl Worker {
    /// A worker for a pod that the leader desires; `observed` is what the machine already holds of it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        observed: Observed,
        nudge: mpsc::Sender<Nudge>,
        nudges: mpsc::Receiver<Nudge>,
    ) -> Worker {
        let reference = pod::reference(&pod);
        let objects = shared.objects.subscribe();
        Worker {
            shared,
            reference,
            observed,
            volumes: Made::new(),
            volume_images: BTreeMap::new(),
            netns: None,
            hostname: String::new(),
            refresh_at: None,
            prepare_failures: 0,
            early_prepare: None,
            mount_refusal: None,
            wanted: None,
            retry_grant_at: None,
            resizing: false,
            pod_limits: Limits::default(),
            killing: HashMap::new(),
            probing: HashMap::new(),
            stop_signals: HashMap::new(),
            pulls: Pulls::default(),
            nudge,
            nudges,
            objects,
            frozen: false,
            teardown_at: None,
            end_said: false,
            said: pod.status.clone(),
            pod,
        }
    }

    /// A pod that had ended before this agent began: nothing is done for it but telling how it ended.
    pub(crate) fn freeze(&mut self, status: PodStatus) {
        self.observed.sandbox = Sandbox::Removed;
        self.frozen = true;
        self.said = Some(status);
    }

    /// Works until the pod's object and everything of it are gone.
    pub(crate) async fn run(mut self) {
        self.note_deletion();
        self.show();
        if self.frozen
            && let Some(status) = self.said.clone()
        {
            self.shared.outbox.put_status(&self.reference, &status);
        }
        loop {
            let (progressed, wake) = self.step().await;
            if self.frozen && self.settle().await {
                return;
            }
            if progressed {
                continue;
            }
            let sleep = wake.map_or(SLEEP_MAX, |at| at.since(self.shared.now()).min(SLEEP_MAX));
            tokio::select! {
                nudge = self.nudges.recv() => match nudge {
                    Some(nudge) => self.take(nudge).await,
                    None => return,
                },
                Ok(()) = self.objects.changed(), if !self.frozen => self.objects_changed().await,
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Plans and acts once. Says whether something changed, and when to look again.
    async fn step(&mut self) -> (bool, Option<Time>) {
        if self.frozen {
            return (false, None);
        }
        let now = self.shared.now();
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_volumes().await;
        }
        self.retry_resources();
        if self.observed.ending_since.is_none()
            && (self.observed.doom.is_some() || plan::is_finished(&self.pod, &self.observed))
        {
            self.observed.ending_since = Some(now);
        }
        let plan = plan::plan(&self.pod, &self.observed, now);
        let mut wake = [plan.wake, self.refresh_at, self.retry_grant_at].into_iter().flatten().min();
        let mut progressed = false;
        for action in plan.actions {
            match action {
                Action::Prepare => {
                    // That the pod is here is told before its surroundings are made. What is taken over has them.
                    if self.prepare_failures == 0 && !self.shared.machine.pods().contains(&self.reference.uid)
                    {
                        self.report();
                    }
                    self.prepare().await;
                    progressed = true;
                }
                Action::Start(name) => {
                    self.start(&name).await;
                    progressed = true;
                    self.report();
                }
                Action::Resize => {
                    self.resize().await;
                    progressed = true;
                }
                Action::Kill { container, grace, turn } => {
                    let starts_over = plan::restarts_all(&self.pod, &self.observed);
                    let message = format!("Stopping container {container}");
                    self.kill(&container, grace, turn, if starts_over { "killing" } else { &message });
                }
                Action::StartOver => {
                    self.start_over().await;
                    progressed = true;
                }
                Action::Fail { reason, message } => {
                    tracing::info!(pod = %self.reference.name, %reason, "pod fails");
                    self.shared.recorder.record(
                        &self.reference,
                        None,
                        Kind::Normal,
                        "DeadlineExceeded",
                        message.as_str(),
                    );
                    self.observed.doom = Some(Doom::Failed { reason, message });
                    progressed = true;
                }
                Action::TearDown if self.teardown_at.is_some_and(|at| at > now) => {
                    wake = [wake, self.teardown_at].into_iter().flatten().min();
                }
                Action::TearDown => {
                    progressed = self.tear_down().await;
                    wake = [wake, self.teardown_at].into_iter().flatten().min();
                }
            }
        }
        self.update_probes();
        self.report();
        (progressed, wake)
    }

    async fn take(&mut self, nudge: Nudge) {
        match nudge {
            Nudge::Desired(pod) => {
                let pod = self.grant_resources(pod);
                let before = std::mem::replace(&mut self.pod, pod);
                self.note_deletion();
                self.spec_changed(&before).await;
            }
            Nudge::Gone => self.observed.doom = Some(Doom::Gone),
            Nudge::Exit(exit) => self.ended(exit).await,
            Nudge::Resync => self.resync().await,
            Nudge::Probed(probed) => self.probed(probed),
            Nudge::Hooked { container, id } => {
                let seen = self.observed.containers.get_mut(&container);
                if let Some(seen) = seen.filter(|s| s.running_id() == Some(id.as_str())) {
                    seen.hooking = false;
                }
            }
            Nudge::Disrupt { reason, message, condition, grace } => {
                if self.observed.doom.is_none() {
                    self.observed.doom = Some(Doom::Disrupted { reason, message, condition, grace });
                } else if let Some(grace) = grace {
                    self.hurry(grace);
                }
            }
            Nudge::Pulled { wanted_by, image, outcome } => self.pulled(&wanted_by, &image, *outcome),
            Nudge::Stop { container, id, grace, message, hook } => {
                let seen = self.observed.containers.get_mut(&container);
                if let Some(seen) = seen.filter(|s| s.running_id() == Some(id.as_str())) {
                    seen.hook_error = hook;
                    self.kill(&container, grace, Turn::Now, &message);
                }
            }
        }
    }

    /// What of a pod may change while it runs: labels and annotations (files tell of them) and images.
    async fn spec_changed(&mut self, before: &Pod) {
        let (old, new) = (&before.metadata, &self.pod.metadata);
        let is_told_anew = (&old.labels, &old.annotations) != (&new.labels, &new.annotations);
        // A container that came later may be the first to mount a volume.
        let has_more = |p: &Pod| p.spec.as_ref().and_then(|s| s.init_containers.as_ref()).map_or(0, Vec::len);
        if is_told_anew || has_more(before) != has_more(&self.pod) {
            self.refresh_volumes().await;
        }
        if is_told_anew || before.spec != self.pod.spec {
            self.retry_config(self.shared.now());
        }
        if self.observed.doom.is_some() {
            return;
        }
        let changed: Vec<String> = pod::containers(&self.pod)
            .filter(|(part, c)| {
                let seen = self.observed.seen(&c.name).filter(|s| s.is_running() && !s.image.is_empty());
                matches!(part, Part::Main | Part::Sidecar)
                    && seen.is_some_and(|s| Some(s.image.as_str()) != c.image.as_deref())
            })
            .map(|(_, c)| c.name.clone())
            .collect();
        for name in changed {
            let message = format!("Container {name} definition changed, will be restarted");
            self.observed.seen_mut(&name).recycled = true;
            self.kill(&name, pod::grace(&self.pod), Turn::Now, &message);
        }
    }

    /// What was wrong with the pod, or with what it refers to, may be right now: containers that could not be made of it need
    /// not wait.
    pub(crate) fn retry_config(&mut self, now: Time) {
        for seen in self.observed.containers.values_mut() {
            if let Life::Refused { reason, retry_at, .. } = &mut seen.life
                && matches!(reason.as_str(), "CreateContainerConfigError" | "ContainerCreating")
                && *retry_at > now
            {
                seen.early = Some(std::mem::replace(retry_at, now));
            }
        }
    }

    /// The pod begins again. What ended leaves the machine, so that an agent that takes over sees no end that was answered.
    async fn start_over(&mut self) {
        let pod = Arc::clone(&self.pod);
        for (part, container) in pod::containers(&pod).filter(|(part, _)| *part != Part::Ephemeral) {
            let Some(seen) = self.observed.containers.get_mut(&container.name) else { continue };
            let ended = seen.ended().map(|e| e.id.clone());
            seen.start_over();
            if let Some(id) = ended
                && let Err(error) = self.shared.machine.remove(&id).await
            {
                tracing::warn!(%error, id, ?part, "cannot remove an ended container");
            }
        }
        self.probing.clear();
        self.tell_passing();
        self.observed.containers.values_mut().for_each(|seen| seen.is_news = false);
    }

    /// Tells what will not be so for long.
    fn tell_passing(&mut self) {
        let status = self.compute();
        self.shared.outbox.put_passing(&self.reference, &status);
        self.said = Some(status);
    }

    fn note_deletion(&mut self) {
        if self.pod.metadata.deletion_timestamp.is_some() && self.observed.doom != Some(Doom::Gone) {
            self.observed.doom = Some(Doom::Deleted);
        }
    }

    /// Everything is down. Says so if somebody waits for it; returns whether the worker is done.
    async fn settle(&mut self) -> bool {
        match self.observed.doom {
            Some(Doom::Gone) => {
                let logs = self.shared.logs_of(&self.reference);
                let sandbox = self.has_sandbox().then(|| self.task_sandbox());
                self.shared.fetcher.forget(&self.reference.uid);
                let uid = self.reference.uid.clone();
                let finished = self.shared.options.finished_dir();
                let work = tokio::task::spawn_blocking(move || {
                    finished::remove(&finished, &uid);
                    if let Some(sandbox) = sandbox {
                        stoa_volume::remove_tree(&sandbox)?;
                        // The task's and the framework's directories go with the last of theirs.
                        for dir in sandbox.ancestors().skip(1).take(2) {
                            let _ = std::fs::remove_dir(dir);
                        }
                    }
                    stoa_volume::remove_tree(&logs)
                });
                if let Ok(Err(error)) = work.await {
                    tracing::warn!(%error, "cannot remove the logs of a pod");
                }
                self.shared.outbox.forget(&self.reference);
                self.shared.recorder.forget(&self.reference);
                self.shared.tokens.forget(&self.reference.uid);
                true
            }
            Some(Doom::Deleted) => {
                self.shared.outbox.put_stopped(&self.reference);
                false
            }
            _ => false,
        }
    }

    /// A container ended.
    pub(crate) async fn ended(&mut self, exit: Exit) {
        let found = self.observed.containers.iter().find(|(_, s)| s.running_id() == Some(exit.id.as_str()));
        let Some((name, attempts)) = found.map(|(n, s)| (n.clone(), s.attempts)) else { return };
        self.killing.remove(&exit.id);
        self.probing.remove(&name);
        let message = self.last_words(&name, attempts.saturating_sub(1), &exit).await;
        let ended = Ended {
            id: exit.id,
            code: exit.code,
            signal: exit.signal,
            reason: exit.reason.as_str().to_owned(),
            message,
            started_at: exit.started_at,
            finished_at: exit.finished_at,
        };
        tracing::info!(pod = %self.reference.name, container = %name, code = ended.code, reason = %ended.reason, "container ended");
        let seen = self.observed.seen_mut(&name);
        // A kubelet ends such a one and starts it again in one go, and tells of both together.
        let is_in_one_go = seen.recycled && seen.hook_error.is_none();
        seen.end(ended);
        self.finish_resize();
        match is_in_one_go {
            true => self.observed.seen_mut(&name).is_news = false,
            false => self.report_end(&name),
        }
        self.tell_backoff(&name);
    }

    /// Tells that a container which keeps failing will be left alone for a while.
    pub(crate) fn tell_backoff(&self, name: &str) {
        let Some((part, container)) = pod::find(&self.pod, name) else { return };
        let Some(seen) = self.observed.seen(name) else { return };
        let Some(ended) = seen.ended() else { return };
        let again =
            self.observed.doom.is_none() && pod::wants_restart(&self.pod, part, container, ended.code);
        if again && seen.may_start_at().is_some_and(|at| at > self.shared.now()) {
            let message = format!(
                "Back-off restarting failed container {name} in pod {}",
                pod::long_name(&self.reference)
            );
            self.shared.recorder.record(
                &self.reference,
                Some(place(part, name)),
                Kind::Warning,
                "BackOff",
                message,
            );
        }
    }

    /// Compares what is believed to run with what the machine holds.
    pub(crate) async fn resync(&mut self) {
        let held: HashMap<String, State> = self
            .shared
            .machine
            .list()
            .into_iter()
            .filter(|c| c.spec.pod_uid == self.reference.uid)
            .map(|c| (c.spec.id.clone(), c.state))
            .collect();
        let believed: Vec<(String, Option<Time>)> = self
            .observed
            .containers
            .values()
            .filter_map(|s| match &s.life {
                Life::Running { id, started_at } => Some((id.clone(), Some(*started_at))),
                _ => None,
            })
            .collect();
        for (id, started_at) in believed {
            match held.get(&id) {
                Some(State::Running { .. } | State::Creating) => {}
                Some(State::Exited(exit)) => self.ended(exit.clone()).await,
                None => {
                    let exit = Exit {
                        id,
                        pod_uid: self.reference.uid.clone(),
                        code: 137,
                        signal: None,
                        reason: stoa_runtime::ExitReason::Lost,
                        message: "The container could not be located when the pod was terminated".to_owned(),
                        started_at,
                        finished_at: self.shared.now(),
                    };
                    self.ended(exit).await;
                }
            }
        }
    }

    /// Takes everything of the pod down. Says whether it is.
    async fn tear_down(&mut self) -> bool {
        let uid = self.reference.uid.clone();
        self.probing.clear();
        // The last words come first: should this process die on the way, the pod must not be taken for a new one.
        let last = self.compute();
        if !matches!(self.observed.doom, Some(Doom::Gone)) {
            finished::write(&self.shared.options.finished_dir(), &uid, &last);
        }
        match self.try_tear_down().await {
            Ok(()) => {
                self.observed.sandbox = Sandbox::Removed;
                self.frozen = true;
                self.shared.live.lock().remove(&uid);
                self.shared.claims.lock().remove(&uid);
                self.shared.cpus.release(&uid);
                self.report();
                if let Some(said) = &self.said
                    && !matches!(self.observed.doom, Some(Doom::Gone))
                {
                    finished::write(&self.shared.options.finished_dir(), &uid, said);
                }
                true
            }
            Err(error) => {
                tracing::warn!(pod = %self.reference.name, %error, "cannot take a pod down yet");
                let message = format!("error killing pod: {error}");
                self.shared.recorder.record(&self.reference, None, Kind::Warning, "FailedKillPod", message);
                self.teardown_at = Some(self.shared.now().plus(RETRY_AFTER));
                false
            }
        }
    }

    async fn try_tear_down(&self) -> Result<(), String> {
        let uid = self.reference.uid.clone();
        let machine = &self.shared.machine;
        machine.remove_pod(&uid).await.map_err(|e| crate::machine::chain(&e))?;
        self.shared.publish_ports(&uid, Vec::new()).await?;
        machine.detach_network(&uid).await?;
        let volumes = self.shared.volumes.clone();
        let removed = tokio::task::spawn_blocking(move || volumes.remove(&uid)).await;
        removed.map_err(|e| e.to_string())?.map_err(|e| crate::machine::chain(&e))
    }

    fn compute(&self) -> PodStatus {
        let now = self.shared.now();
        status::compute(&self.pod, &self.observed, &self.shared.host_ips, self.said.as_ref(), now)
    }

    /// Tells the leader, and the tunnels, what is.
    pub(crate) fn report(&mut self) {
        self.show();
        if matches!(self.observed.doom, Some(Doom::Gone)) || self.is_ending_quietly() {
            return;
        }
        self.end_said = self.observed.doom.is_some();
        let status = self.compute();
        if self.said.as_ref() != Some(&status) {
            self.shared.outbox.put_status(&self.reference, &status);
            self.said = Some(status);
        }
    }

    /// Whether the pod is being ended and there is no more to tell before the last of it has ended. As with a kubelet, which waits
    /// for them all. A framework wants to hear of each of its tasks.
    fn is_ending_quietly(&self) -> bool {
        self.observed.doom.is_some()
            && self.end_said
            && self.observed.running() > 0
            && !crate::mesos::is_task(&self.pod)
    }

    /// Tells the leader how a container ended that is to start again, before that it rests or runs: whoever watches the pod
    /// sees every end.
    pub(crate) fn report_end(&mut self, name: &str) {
        let is_doomed = self.observed.doom.is_some();
        let code = self.observed.seen(name).and_then(|s| s.ended()).map(|e| e.code);
        let again = code.zip(pod::find(&self.pod, name));
        if !is_doomed && again.is_some_and(|(code, (part, c))| pod::wants_restart(&self.pod, part, c, code)) {
            self.tell_passing();
        }
        self.observed.seen_mut(name).is_news = false;
    }

    /// Shows tunnels what there is: of a pod that has ended, its logs.
    fn show(&self) {
        self.shared.executors.see(&self.pod, &self.observed, self.shared.now());
        self.shared.tasks.see(&self.pod, &self.observed, || self.task_sandbox());
        self.shared.standalone.see(&self.pod, &self.observed);
        let live = LivePod {
            pod: self.reference.clone(),
            object: Arc::clone(&self.pod),
            status: self.said.clone(),
            started_at: self.observed.started_at,
            is_active: self.observed.doom.is_none(),
            is_deleted: self.observed.doom == Some(Doom::Deleted),
            netns: self.netns.clone(),
            connected: matches!(self.observed.sandbox, Sandbox::Ready { .. }),
            containers: pod::containers(&self.pod)
                .map(|(_, c)| {
                    let seen = self.observed.seen(&c.name);
                    let live = LiveContainer {
                        running: seen.and_then(|s| s.running_id().map(str::to_owned)),
                        started_at: seen.and_then(|s| match &s.life {
                            Life::Running { started_at, .. } => Some(*started_at),
                            _ => None,
                        }),
                        image: c.image.clone().unwrap_or_default(),
                        image_id: seen.map(|s| s.image_id.clone()).unwrap_or_default(),
                        attempts: seen.map_or(0, |s| s.attempts),
                        tty: c.tty == Some(true),
                        stdin: c.stdin == Some(true),
                    };
                    (c.name.clone(), live)
                })
                .collect(),
        };
        self.shared.live.lock().insert(self.reference.uid.clone(), live);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.live.lock().remove(&self.reference.uid);
        self.shared.tasks.forget(&self.reference.uid);
        self.shared.probes.forget(&self.reference);
        self.shared.claims.lock().remove(&self.reference.uid);
    }
}

/// Where an event about a container points.
pub(crate) fn place(part: Part, name: &str) -> Place<'_> {
    let list = match part {
        Part::Main => "containers",
        Part::Init | Part::Sidecar => "initContainers",
        Part::Ephemeral => "ephemeralContainers",
    };
    Place { list, name }
}

#[cfg(test)]
mod tests;
