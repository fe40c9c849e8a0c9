//! Starting one container of a pod: image, environment, user, mounts, then the runtime; and what people are told when
//! one of them is not to be had.

use crate::container::{self, Found, FoundUser, Refusal};
use crate::env::EnvError;
use crate::events::Kind;
use crate::hooks;
use crate::machine::chain;
use crate::mesos::{self, Fetched};
use crate::observed::{BACKOFF_FIRST, Ended, Life, Sandbox};
use crate::pod::{self, HOST_IMAGE, Part};
use crate::worker::{RETRY_AFTER, Worker, place};
use k8s_openapi::api::core::v1::Container;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stoa_runtime::{Error as RuntimeError, Exit, Started};
use stoa_units::quote;

/// What a container's last words are cut to.
const WORDS_LEN_MAX: u64 = 4_096;
/// With `FallbackToLogsOnError`: so much of the end of the log.
const FALLBACK_LEN_MAX: u64 = 2_048;
/// On pods of Mesos tasks: the user that the framework wants.
const USER_ANNOTATION: &str = "stoa.dev/user";
/// How often it is asked whether a task's URIs are there.
const FETCH_POLL: Duration = Duration::from_millis(200);
/// Lives whose logs are kept, the current one included.
const LOGS_KEPT: u32 = 2;

impl Worker {
    /// Starts a container, or notes why it is not.
    pub(crate) async fn start(&mut self, name: &str) {
        let pod = Arc::clone(&self.pod);
        let Some((part, container)) = pod::find(&pod, name) else { return };
        let shared = Arc::clone(&self.shared);
        let _permit = shared.starts.acquire().await;
        if let Err((refusal, wait)) = self.try_start(part, container).await {
            tracing::debug!(pod = %self.reference.name, container = name, reason = refusal.reason, "container not started");
            let seen = self.observed.seen_mut(name);
            // What did not help does not put off the next try either.
            let planned = seen.is_refused_alike(&refusal.message).then_some(seen.early).flatten();
            let retry_at = planned.unwrap_or_else(|| shared.now().plus(wait));
            seen.early = None;
            if let Life::Ended(ended) = &seen.life {
                seen.last = Some(ended.clone());
            }
            seen.refusals += 1;
            seen.life =
                Life::Refused { reason: refusal.reason.to_owned(), message: refusal.message, retry_at };
        }
    }

    async fn try_start(&mut self, part: Part, container: &Container) -> Result<(), (Refusal, Duration)> {
        let name = container.name.as_str();
        let image = self.find_image(part, container).await?;
        self.mount_images(part, container).await?;
        let Sandbox::Ready { ips } = self.observed.sandbox.clone() else {
            return Err((Refusal { reason: "ContainerCreating", message: String::new() }, RETRY_AFTER));
        };
        let place_of = self.downward_place(&ips);
        let mut services = match self.pod.spec.as_ref().and_then(|s| s.enable_service_links) {
            Some(false) => std::collections::BTreeMap::new(),
            Some(true) | None => self.shared.services.variables(&self.reference.namespace),
        };
        services.extend(self.shared.cluster.lock().service_variables());
        let env =
            crate::env::make(&self.pod, container, &self.shared.pushed, &place_of, &self.volumes, &services);
        let mut env = env.map_err(|e| match e {
            EnvError::Pending => {
                (Refusal { reason: "ContainerCreating", message: String::new() }, RETRY_AFTER)
            }
            EnvError::Invalid(message) => {
                self.tell_refusal(part, name, &message);
                (Refusal { reason: "CreateContainerConfigError", message }, RETRY_AFTER * 5)
            }
        })?;
        if crate::mesos::is_executor(&self.pod) {
            let ip = match &self.observed.sandbox {
                Sandbox::Ready { ips } if !pod::is_host_network(&self.pod) => ips.first().map(String::as_str),
                _ => None,
            };
            let sandbox = self.task_sandbox();
            let own = self.shared.executors.environment(&self.reference.uid, &sandbox.to_string_lossy(), ip);
            let own =
                own.ok_or((Refusal { reason: "ContainerCreating", message: String::new() }, RETRY_AFTER))?;
            for (name, value) in own {
                env.entry(name).or_insert(value);
            }
        }
        let words = container::user_words(&self.pod, container, image.as_ref());
        let user = match &image {
            Some(_) => {
                let reference = container.image.clone().unwrap_or_default();
                self.shared.machine.user(&reference, &words).await.map_err(|m| self.refuse(part, name, m))?
            }
            None => {
                let named = self.pod.metadata.annotations.as_ref().and_then(|a| a.get(USER_ANNOTATION));
                host_user(&words, named.map(String::as_str)).map_err(|m| self.refuse(part, name, m))?
            }
        };
        let mounts = self.find_mounts(container, &env).await.map_err(|m| {
            let (refusal, wait) = self.refuse(part, name, m);
            (Refusal { reason: "CreateContainerConfigError", ..refusal }, wait)
        })?;
        if crate::mesos::is_task(&self.pod) {
            own_volumes(&mounts, &self.shared.options.persistent_dir(), &user)
                .map_err(|e| self.refuse(part, name, e.to_string()))?;
        }
        let joins = self.target_id(part, name)?;
        let (attempt, restarts) =
            self.observed.seen(name).map_or((0, 0), |s| (s.attempts, s.restarts_next()));
        let pod_dir = self.shared.volumes.pod_dir(&self.reference.uid);
        let pod_dir = pod_dir.map_err(|e| self.refuse(part, name, chain(&e)))?;
        if container::has_hosts(container) {
            self.write_hosts(&pod_dir, &ips).map_err(|e| self.refuse(part, name, e.to_string()))?;
        }
        let log_path = self.shared.log_path(&self.reference, name, attempt);
        let sandbox = self.container_sandbox(name);
        let termination = container::termination_log(&pod_dir, name, attempt);
        let is_host = container.image.as_deref() == Some(HOST_IMAGE);
        let is_task = is_host || crate::mesos::is_task(&self.pod);
        make_files(&log_path, (!is_host).then_some(&*termination), is_task.then_some((&*sandbox, &user)))
            .map_err(|e| self.refuse(part, name, e.to_string()))?;
        if is_task {
            self.fetch(name, &sandbox, &user).map_err(|(refusal, wait)| {
                if refusal.reason != "ContainerCreating" {
                    self.tell(part, name, Kind::Warning, "Failed", format!("Error: {}", refusal.message));
                }
                (refusal, wait)
            })?;
        }
        let found = Found {
            id: uuid::Uuid::new_v4().simple().to_string(),
            attempt,
            restarts,
            image: image.as_ref(),
            user,
            env,
            mounts,
            pod_dir: &pod_dir,
            log_path,
            sandbox,
            hostname: &self.hostname,
            node_memory: self.shared.node_memory,
            seccomp_dir: &self.shared.options.seccomp_dir(),
            joins,
        };
        let mut spec = container::build(&self.pod, container, found).map_err(|refusal| {
            self.tell_refusal(part, name, &refusal.message);
            (refusal, RETRY_AFTER * 5)
        })?;
        spec.limits = self.limits_of(container);
        if self.shared.cpus.are_own(&self.reference.uid, name) {
            // Whoever runs there leaves first.
            self.shared.cpus.apply(&*self.shared.machine).await;
        }
        self.observed.seen_mut(name).user =
            Some((spec.user.uid, spec.user.gid, spec.user.additional_gids.clone()));
        let (id, image_id) = (spec.id.clone(), image.as_ref().map(|i| i.id.clone()).unwrap_or_default());
        let before = self.observed.seen(name).and_then(|s| s.id().or(s.last.as_ref().map(|l| l.id.as_str())));
        let before = before.map(str::to_owned);
        let outcome = self.shared.machine.start(spec).await;
        self.shared.cpus.started();
        self.started(part, container, &id, image_id, image.and_then(|i| i.stop_signal), outcome).await?;
        self.drop_older(name, attempt, before).await;
        Ok(())
    }

    /// What the runtime said to a start.
    async fn started(
        &mut self,
        part: Part,
        container: &Container,
        id: &str,
        image_id: String,
        stop_signal: Option<String>,
        outcome: Result<Started, RuntimeError>,
    ) -> Result<(), (Refusal, Duration)> {
        let name = container.name.as_str();
        match outcome {
            Ok(started) => {
                self.tell(part, name, Kind::Normal, "Created", "Container created".to_owned());
                self.tell(part, name, Kind::Normal, "Started", "Container started".to_owned());
                if let Some(signal) = stop_signal {
                    self.stop_signals.insert(name.to_owned(), signal);
                }
                let of_pod = pod::resources(&self.pod);
                let seen = self.observed.seen_mut(name);
                seen.begin(id.to_owned(), started.started_at, image_id);
                seen.image = container.image.clone().unwrap_or_default();
                seen.started = container.startup_probe.is_none();
                seen.ready = container.readiness_probe.is_none();
                seen.resources = Some(container.resources.clone().unwrap_or_default());
                seen.of_pod = Some(of_pod);
                hooks::after_start(self, part, container, id);
                self.finish_resize();
                Ok(())
            }
            Err(error @ RuntimeError::Start { .. }) => {
                let message = chain(&error);
                self.tell(part, name, Kind::Normal, "Created", "Container created".to_owned());
                self.tell(part, name, Kind::Warning, "Failed", format!("Error: {message}"));
                let now = self.shared.now();
                let seen = self.observed.seen_mut(name);
                seen.begin(id.to_owned(), now, image_id);
                // 128 is what engines answer for a command that could not be run, whatever the cause.
                seen.end(Ended {
                    id: id.to_owned(),
                    code: 128,
                    signal: None,
                    reason: crate::status::START_ERROR.to_owned(),
                    message,
                    started_at: None,
                    finished_at: now,
                });
                self.report_end(name);
                self.tell_backoff(name);
                Ok(())
            }
            Err(error) => {
                let message = chain(&error);
                if let Err(error) = self.shared.machine.remove(id).await {
                    tracing::warn!(%error, id, "cannot remove what a failed start left");
                }
                self.tell(part, name, Kind::Warning, "Failed", format!("Error: {message}"));
                Err((Refusal { reason: error.reason(), message }, BACKOFF_FIRST))
            }
        }
    }

    /// Id of the running container whose processes an ephemeral one shall see.
    fn target_id(&self, part: Part, name: &str) -> Result<Option<String>, (Refusal, Duration)> {
        let Some(target) = pod::target_of(&self.pod, name).filter(|_| part == Part::Ephemeral) else {
            return Ok(None);
        };
        let id = self.observed.seen(target).and_then(|s| s.running_id().map(str::to_owned));
        id.map(Some)
            .ok_or_else(|| self.refuse(part, name, format!("unable to find target container {target}")))
    }

    pub(crate) fn tell(&self, part: Part, name: &str, kind: Kind, reason: &'static str, message: String) {
        self.shared.recorder.record(&self.reference, Some(place(part, name)), kind, reason, message);
    }

    /// Tells why a container cannot be made, but not again at every push of something else: events of a pod are few.
    fn tell_refusal(&self, part: Part, name: &str, message: &str) {
        if !self.observed.seen(name).is_some_and(|s| s.is_refused_alike(message)) {
            self.tell(part, name, Kind::Warning, "Failed", format!("Error: {message}"));
        }
    }

    fn refuse(&self, part: Part, name: &str, message: String) -> (Refusal, Duration) {
        self.tell_refusal(part, name, &message);
        (Refusal { reason: "CreateContainerError", message }, BACKOFF_FIRST)
    }

    /// Makes those volumes of the container that are images.
    async fn mount_images(&mut self, part: Part, container: &Container) -> Result<(), (Refusal, Duration)> {
        let images = self.find_volume_images(container).await?;
        if images.is_empty() {
            return Ok(());
        }
        for (volume, image) in images {
            self.volume_images.insert(volume.clone(), image.layers);
            self.observed.volume_images.insert(volume, image.id);
        }
        let ips = self.ips();
        match self.make_volumes(&ips).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.refuse(part, &container.name, "failed to mount an image volume".to_owned())),
        }
    }

    /// Where each of the container's mounts comes from.
    async fn find_mounts(
        &self,
        container: &Container,
        env: &std::collections::BTreeMap<String, String>,
    ) -> Result<Vec<(PathBuf, bool)>, String> {
        let group = self.pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|c| c.fs_group);
        let group = group.and_then(|g| u32::try_from(g).ok());
        let mut out = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let volume =
                self.volumes.get(&mount.name).ok_or_else(|| format!("no volume \"{}\"", mount.name))?;
            let part = match (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref()) {
                (Some(p), _) if !p.is_empty() => Some(p.to_owned()),
                (_, Some(p)) if !p.is_empty() => Some(expand_sub_path(p, env)?),
                _ => None,
            };
            if let Some(part) = &part {
                check_sub_path(part)?;
            }
            let path = match part {
                None => volume.path.clone(),
                Some(part) => {
                    let (volumes, uid, name) =
                        (self.shared.volumes.clone(), self.reference.uid.clone(), container.name.clone());
                    let from = volume.clone();
                    let bound = tokio::task::spawn_blocking(move || {
                        volumes.bind_sub_path(&uid, &name, index, &from, &part, group)
                    });
                    bound.await.map_err(|e| e.to_string())?.map_err(|e| {
                        tracing::warn!(container = %container.name, error = %chain(&e), "cannot bind a part of a volume");
                        format!(
                            "failed to prepare subPath for volumeMount {} of container {}",
                            quote(&mount.name),
                            quote(&container.name)
                        )
                    })?
                }
            };
            out.push((path, volume.read_only));
        }
        Ok(out)
    }

    /// Whether the pod is a task with a sandbox.
    pub(crate) fn has_sandbox(&self) -> bool {
        crate::mesos::is_task(&self.pod)
            || pod::containers(&self.pod).any(|(_, c)| c.image.as_deref() == Some(HOST_IMAGE))
    }

    /// The sandbox of a container: the pod's, or in a group its own below it.
    fn container_sandbox(&self, name: &str) -> PathBuf {
        let base = self.task_sandbox();
        if pod::containers(&self.pod).count() > 1 { base.join("tasks").join(name) } else { base }
    }

    /// Brings what the task wants fetched before it starts.
    fn fetch(&self, name: &str, sandbox: &Path, user: &FoundUser) -> Result<(), (Refusal, Duration)> {
        let uris = mesos::uris(&self.pod, name)
            .map_err(|message| (Refusal { reason: "CreateContainerError", message }, BACKOFF_FIRST))?;
        if uris.is_empty() {
            return Ok(());
        }
        let job = format!("{}/{name}", self.reference.uid);
        let who = mesos::As { uid: user.uid, gid: user.gid };
        match self.shared.fetcher.poll(&job, &uris, sandbox, who) {
            Fetched::Done(Ok(())) => Ok(()),
            Fetched::Running => {
                let message = "fetching URIs".to_owned();
                Err((Refusal { reason: "ContainerCreating", message }, FETCH_POLL))
            }
            Fetched::Done(Err(message)) => {
                Err((Refusal { reason: "CreateContainerError", message }, BACKOFF_FIRST))
            }
        }
    }

    /// Directory of a Mesos task: by framework, task and pod, so that a namesake gets a fresh one.
    pub(crate) fn task_sandbox(&self) -> PathBuf {
        let label = |key: &str| {
            let value = self.pod.metadata.labels.as_ref().and_then(|l| l.get(key)).map_or("", String::as_str);
            // Label values are safe by the API's rules; this agent does not rely on it.
            let safe = stoa_units::check_label_value(value).is_ok() && !value.is_empty();
            if safe { value.to_owned() } else { "none".to_owned() }
        };
        let framework = match mesos::is_standalone(&self.pod) {
            true => "standalone".to_owned(),
            false => label("stoa.dev/framework-id"),
        };
        self.shared
            .options
            .sandboxes_dir()
            .join(framework)
            .join(match &*label("stoa.dev/task-id") {
                "none" => label("stoa.dev/executor-id"),
                task => task.to_owned(),
            })
            .join(&self.reference.uid)
    }

    /// Removes the life before the last from the machine, and logs older than may be asked for.
    async fn drop_older(&self, name: &str, attempt: u32, before: Option<String>) {
        if let Some(id) = before
            && let Err(error) = self.shared.machine.remove(&id).await
        {
            tracing::warn!(%error, id, "cannot remove an ended container");
        }
        if let Some(old) = attempt.checked_sub(LOGS_KEPT) {
            let path = self.shared.log_path(&self.reference, name, old);
            let _ = tokio::task::spawn_blocking(move || remove_logs(&path)).await;
        }
    }

    /// A container's last words: what it wrote to its termination log, or the end of its log where it asked for that.
    pub(crate) async fn last_words(&self, name: &str, attempt: u32, exit: &Exit) -> String {
        let Some((_, container)) = pod::find(&self.pod, name) else { return exit.message.clone() };
        let Ok(pod_dir) = self.shared.volumes.pod_dir(&self.reference.uid) else {
            return exit.message.clone();
        };
        let file = container::termination_log(&pod_dir, name, attempt);
        let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        let log = (fallback && exit.code != 0).then(|| self.shared.log_path(&self.reference, name, attempt));
        let read = tokio::task::spawn_blocking(move || {
            let words = crate::logs::read_head(&file, WORDS_LEN_MAX).unwrap_or_default();
            match log {
                Some(log) if words.is_empty() => {
                    crate::logs::read_end(&log, FALLBACK_LEN_MAX).unwrap_or_default()
                }
                _ => words,
            }
        });
        let words = read.await.unwrap_or_default();
        if words.is_empty() { exit.message.clone() } else { String::from_utf8_lossy(&words).into_owned() }
    }
}

/// The part of a volume that an expression names; a variable without a value names none.
fn expand_sub_path(
    expression: &str,
    env: &std::collections::BTreeMap<String, String>,
) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let path = crate::env::expand(expression, |name| {
        let value = env.get(name).map(String::as_str);
        if value.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name}")),
        None => Ok(path),
    }
}

fn check_sub_path(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Err(format!("error SubPath `{path}` must not be an absolute path"));
    }
    if path.split('/').any(|p| p == "..") {
        return Err(format!("unable to provision SubPath `{path}`: must not contain '..'"));
    }
    Ok(())
}

/// Persistent volumes that nobody has used yet become the first user's.
fn own_volumes(mounts: &[(PathBuf, bool)], dir: &Path, user: &FoundUser) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    for (path, _) in mounts.iter().filter(|(path, read_only)| path.starts_with(dir) && !read_only) {
        let meta = std::fs::symlink_metadata(path)?;
        if meta.is_dir() && (meta.uid(), meta.gid()) == (0, 0) && (user.uid, user.gid) != (0, 0) {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))?;
        }
    }
    Ok(())
}

/// On the machine's own root: the pod's numbers, else the user that the framework names, as this machine knows it.
fn host_user(words: &str, named: Option<&str>) -> Result<FoundUser, String> {
    if let (true, Some(name)) = (words.is_empty(), named) {
        let user = nix::unistd::User::from_name(name).map_err(|e| e.to_string())?;
        let user = user.ok_or_else(|| format!("no user `{name}` on this node"))?;
        return Ok(FoundUser {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: Vec::new(),
            home: String::new(),
        });
    }
    let (user, group) = words.split_once(':').unwrap_or((words, ""));
    let uid = user.parse().unwrap_or(0);
    Ok(FoundUser { uid, gid: group.parse().unwrap_or(uid), groups: Vec::new(), home: String::new() })
}

fn make_files(
    log: &Path,
    termination: Option<&Path>,
    task: Option<(&Path, &FoundUser)>,
) -> std::io::Result<()> {
    if let Some(dir) = log.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if let Some((sandbox, user)) = task {
        std::fs::create_dir_all(sandbox)?;
        std::os::unix::fs::chown(sandbox, Some(user.uid), Some(user.gid))?;
    }
    let Some(termination) = termination else { return Ok(()) };
    if let Some(dir) = termination.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(termination, [])?;
    // Whoever the container runs as may write its last words.
    std::fs::set_permissions(termination, std::os::unix::fs::PermissionsExt::from_mode(0o666))
}

fn remove_logs(current: &Path) {
    let (Some(dir), Some(name)) = (current.parent(), current.file_name().and_then(|n| n.to_str())) else {
        return;
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name();
        if file
            .to_str()
            .is_some_and(|f| f == name || f.strip_prefix(name).is_some_and(|r| r.starts_with('.')))
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
