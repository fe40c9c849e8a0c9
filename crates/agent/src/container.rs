//! From a container of a pod to what the runtime is asked to start. Pure: image, volumes, environment and user were
//! found before.

use crate::limits;
use crate::pod::{self, HOST_IMAGE};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, ResourceRequirements, SELinuxOptions,
    SeccompProfile, SecurityContext,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use stoa_runtime::{
    AppArmor, Capabilities, ContainerSpec, Mount, Propagation, Rootfs, SeLinux, Seccomp, Source, User,
};

/// Where a container may leave its last words unless it says otherwise.
const TERMINATION_PATH: &str = "/dev/termination-log";

/// Annotations that the runtime keeps, so that a restarted agent knows its containers again.
pub(crate) const NOTE_NAMESPACE: &str = "stoa.dev/namespace";
/// See [`NOTE_NAMESPACE`].
pub(crate) const NOTE_POD: &str = "stoa.dev/pod";
/// See [`NOTE_NAMESPACE`].
pub(crate) const NOTE_IMAGE_ID: &str = "stoa.dev/image-id";
/// See [`NOTE_NAMESPACE`].
pub(crate) const NOTE_IMAGE: &str = "stoa.dev/image";
/// See [`NOTE_NAMESPACE`]: its resources as the spec had them when they were last set, as JSON.
pub(crate) const NOTE_RESOURCES: &str = "stoa.dev/resources";
/// See [`NOTE_NAMESPACE`]: what its pod named for itself then, as JSON.
pub(crate) const NOTE_POD_RESOURCES: &str = "stoa.dev/pod-resources";
/// See [`NOTE_NAMESPACE`]: how often the container was started again.
pub(crate) const NOTE_RESTARTS: &str = "stoa.dev/restarts";

/// An image that is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundImage {
    /// Its digest as a status tells it.
    pub id: String,
    /// First words of the command line.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// User in the image's words.
    pub user: String,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// Unpacked layers, topmost first.
    pub layers: Vec<PathBuf>,
    /// Its name was given by hand on this machine.
    pub is_local: bool,
}

/// Who a container runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundUser {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Groups that the image's own files name.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// All that was found for one start.
pub(crate) struct Found<'a> {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) restarts: u32,
    /// None with the machine's own root file system.
    pub(crate) image: Option<&'a FoundImage>,
    pub(crate) user: FoundUser,
    pub(crate) env: BTreeMap<String, String>,
    /// Each of the container's mounts, by its index: where on the machine, and whether nobody may write.
    pub(crate) mounts: Vec<(PathBuf, bool)>,
    /// The pod's own directory, with the files of `/etc`.
    pub(crate) pod_dir: &'a Path,
    pub(crate) log_path: PathBuf,
    /// Directory of a Mesos task.
    pub(crate) sandbox: PathBuf,
    pub(crate) hostname: &'a str,
    pub(crate) node_memory: u64,
    pub(crate) seccomp_dir: &'a Path,
    /// Id of the container whose processes it shall see.
    pub(crate) joins: Option<String>,
}

/// Why a container is not started: reason and message of its waiting state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

fn config_error(message: impl Into<String>) -> Refusal {
    Refusal { reason: "CreateContainerConfigError", message: message.into() }
}

/// The words in which an image store looks a user up: the pod's choice before the image's.
pub(crate) fn user_words(pod: &Pod, container: &Container, image: Option<&FoundImage>) -> String {
    let (own, shared) = contexts(pod, container);
    let user = own.and_then(|c| c.run_as_user).or(shared.and_then(|c| c.run_as_user));
    let group = own.and_then(|c| c.run_as_group).or(shared.and_then(|c| c.run_as_group));
    let image_user = image.map_or("", |i| i.user.as_str());
    match (user, group) {
        (Some(u), Some(g)) => format!("{u}:{g}"),
        (Some(u), None) => u.to_string(),
        (None, Some(g)) => {
            let name = image_user.split(':').next().filter(|n| !n.is_empty()).unwrap_or("0");
            format!("{name}:{g}")
        }
        (None, None) => image_user.to_owned(),
    }
}

/// The file on the machine that stands for the container's termination log.
pub(crate) fn termination_log(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("containers").join(container).join(format!("{attempt}.termination-log"))
}

const HOSTS_PATH: &str = "/etc/hosts";

/// Whether the container has the pod's `hosts` where it looks for it: not on the machine's own root, and not where a volume
/// of its own is mounted there.
pub(crate) fn has_hosts(container: &Container) -> bool {
    container.image.as_deref() != Some(HOST_IMAGE)
        && container.volume_mounts.iter().flatten().all(|m| m.mount_path != HOSTS_PATH)
}

/// Where a task's sandbox is in its container, in Mesos' words.
const SANDBOX: &str = "/mnt/mesos/sandbox";

/// What the runtime shall start.
pub(crate) fn build(pod: &Pod, container: &Container, found: Found<'_>) -> Result<ContainerSpec, Refusal> {
    let (own, shared) = contexts(pod, container);
    let name = &container.name;
    check_non_root(pod, container, &found)?;
    let is_host = container.image.as_deref() == Some(HOST_IMAGE);
    let is_task = crate::mesos::is_task(pod);
    let mut env = found.env;
    if is_task && !is_host {
        env.insert("MESOS_SANDBOX".into(), SANDBOX.into());
        env.insert("MESOS_DIRECTORY".into(), found.sandbox.display().to_string());
    }
    for (key, value) in found.image.iter().flat_map(|i| i.env.iter()).filter_map(|e| e.split_once('=')) {
        env.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    env.entry("PATH".into())
        .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    env.entry("HOSTNAME".into()).or_insert_with(|| found.hostname.to_owned());
    let (rootfs, args, cwd) = match found.image {
        Some(image) if !is_host => {
            let args = crate::env::command_line(container, &image.entrypoint, &image.cmd, &env);
            let cwd = container.working_dir.clone().filter(|d| !d.is_empty());
            let own = match image.working_dir.as_str() {
                "" if is_task => SANDBOX,
                own => own,
            };
            (Rootfs::Layers { lower: image.layers.clone() }, args, cwd.unwrap_or_else(|| own.to_owned()))
        }
        _ => {
            let sandbox = found.sandbox.display().to_string();
            env.insert("MESOS_SANDBOX".into(), sandbox.clone());
            env.insert("MESOS_DIRECTORY".into(), sandbox);
            env.entry("HOME".into()).or_insert_with(|| found.sandbox.display().to_string());
            let args = crate::env::command_line(container, &[], &[], &env);
            let cwd = container.working_dir.clone().unwrap_or_default();
            (Rootfs::Host { sandbox: found.sandbox.clone() }, args, cwd)
        }
    };
    if args.is_empty() {
        return Err(Refusal { reason: "RunContainerError", message: "no command specified".into() });
    }
    if !found.user.home.is_empty() {
        env.entry("HOME".into()).or_insert_with(|| found.user.home.clone());
    }
    let mut out = ContainerSpec::new(found.id, pod::reference(pod).uid, rootfs, args, found.log_path);
    out.name.clone_from(name);
    out.attempt = found.attempt;
    out.env = env.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    out.cwd = PathBuf::from(cwd);
    out.user = user(pod, found.user);
    out.mounts = mounts(pod, container, &found.mounts)?;
    if is_host {
        // There is no such place on the machine's own root: what is to be in the sandbox goes where the sandbox is.
        for mount in &mut out.mounts {
            if let Ok(inside) = mount.destination.strip_prefix(SANDBOX) {
                mount.destination = found.sandbox.join(inside);
            }
        }
    }
    if is_task && !is_host {
        // Before those that lie within it.
        let own = Mount {
            source: Source::Bind(found.sandbox.clone()),
            destination: PathBuf::from(SANDBOX),
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
            relabel: true,
        };
        out.mounts.insert(0, own);
    }
    out.output_dir = (is_task || is_host).then(|| found.sandbox.clone());
    if !is_host {
        let termination = termination_log(found.pod_dir, name, found.attempt);
        own_files(container, found.pod_dir, &termination, &mut out.mounts);
    }
    security(own, shared, found.seccomp_dir, &mut out)?;
    out.tty = container.tty == Some(true);
    out.stdin = container.stdin == Some(true);
    out.stdin_once = container.stdin_once == Some(true);
    // A framework's kill is a signal to whatever the command started, as its own executor would send it.
    out.init = is_host || is_task;
    out.joins = found.joins;
    out.oom_score_adj = limits::oom_score_adj(pod, container, found.node_memory);
    let reference = pod::reference(pod);
    out.annotations = [
        (NOTE_NAMESPACE, reference.namespace),
        (NOTE_POD, reference.name),
        (NOTE_IMAGE_ID, found.image.map(|i| i.id.clone()).unwrap_or_default()),
        (NOTE_IMAGE, container.image.clone().unwrap_or_default()),
        (NOTE_RESTARTS, found.restarts.to_string()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v))
    .chain(resources_notes(pod, container))
    .collect();
    Ok(out)
}

/// What [`NOTE_RESOURCES`] and [`NOTE_POD_RESOURCES`] say of a container.
pub(crate) fn resources_notes(pod: &Pod, container: &Container) -> [(String, String); 2] {
    let note = |r: &ResourceRequirements| serde_json::to_string(r).unwrap_or_default();
    [
        (NOTE_RESOURCES.to_owned(), note(&container.resources.clone().unwrap_or_default())),
        (NOTE_POD_RESOURCES.to_owned(), note(&pod::resources(pod))),
    ]
}

/// Refuses root where the pod forbids it, and a name of which nobody can tell whether it is root's.
fn check_non_root(pod: &Pod, container: &Container, found: &Found<'_>) -> Result<(), Refusal> {
    let (own, shared) = contexts(pod, container);
    if own.and_then(|c| c.run_as_non_root).or(shared.and_then(|c| c.run_as_non_root)) != Some(true) {
        return Ok(());
    }
    let asked = own.and_then(|c| c.run_as_user).or(shared.and_then(|c| c.run_as_user));
    let of = format!("(pod: \"{}\", container: {})", pod::long_name(&pod::reference(pod)), container.name);
    let image_user = found.image.and_then(|i| i.user.split(':').next()).unwrap_or_default();
    match asked {
        Some(0) => Err(config_error(format!("container's runAsUser breaks non-root policy {of}"))),
        Some(_) => Ok(()),
        None if !image_user.is_empty() && image_user.parse::<u32>().is_err() => Err(config_error(format!(
            "container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root {of}"
        ))),
        None if found.user.uid == 0 => {
            Err(config_error(format!("container has runAsNonRoot and image will run as root {of}")))
        }
        None => Ok(()),
    }
}

fn contexts<'a>(
    pod: &'a Pod,
    container: &'a Container,
) -> (Option<&'a SecurityContext>, Option<&'a PodSecurityContext>) {
    (container.security_context.as_ref(), pod.spec.as_ref().and_then(|s| s.security_context.as_ref()))
}

fn user(pod: &Pod, found: FoundUser) -> User {
    let shared = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let strict = shared.and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict");
    let mut groups = if strict { Vec::new() } else { found.groups };
    let more =
        shared.into_iter().flat_map(|c| c.supplemental_groups.iter().flatten().copied().chain(c.fs_group));
    groups.extend(more.filter_map(|g| u32::try_from(g).ok()));
    // The primary one is among them, as engines have it: a process that changes its group keeps what it may read.
    groups.push(found.gid);
    groups.sort_unstable();
    groups.dedup();
    User { uid: found.uid, gid: found.gid, additional_gids: groups }
}

fn mounts(pod: &Pod, container: &Container, found: &[(PathBuf, bool)]) -> Result<Vec<Mount>, Refusal> {
    // What is made for the pod is its own; paths and images of the machine are others' too.
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    let own: Vec<&str> = volumes
        .into_iter()
        .flatten()
        .filter(|v| v.host_path.is_none() && v.image.is_none())
        .map(|v| v.name.as_str())
        .collect();
    container
        .volume_mounts
        .iter()
        .flatten()
        .zip(found)
        .map(|(mount, (source, fixed))| {
            let propagation = match mount.mount_propagation.as_deref() {
                None | Some("None") => Propagation::Private,
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                Some(other) => return Err(config_error(format!("unknown mount propagation {other:?}"))),
            };
            let read_only = mount.read_only == Some(true) || *fixed;
            let recursive = matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
            let destination = match mount.mount_path.as_str() {
                path if path.starts_with('/') => PathBuf::from(path),
                path => Path::new("/").join(path),
            };
            Ok(Mount {
                source: Source::Bind(source.clone()),
                destination,
                read_only,
                recursive_read_only: read_only && recursive,
                propagation,
                relabel: own.contains(&mount.name.as_str()),
            })
        })
        .collect()
}

/// The pod's files of `/etc` and the container's termination log, unless a volume is mounted there.
fn own_files(container: &Container, pod_dir: &Path, termination: &Path, mounts: &mut Vec<Mount>) {
    let log =
        container.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or(TERMINATION_PATH);
    let etc = pod_dir.join("etc");
    let read_only =
        container.security_context.as_ref().and_then(|c| c.read_only_root_filesystem) == Some(true);
    let own = [
        // A kubelet hands this one in as a volume of its own, so that it is written to whatever the root is.
        (HOSTS_PATH, etc.join("hosts"), false),
        ("/etc/resolv.conf", etc.join("resolv.conf"), read_only),
        ("/etc/hostname", etc.join("hostname"), read_only),
        (log, termination.to_owned(), false),
    ];
    for (destination, source, read_only) in own {
        let destination = PathBuf::from(destination);
        if mounts.iter().any(|m| m.destination == destination) {
            continue;
        }
        mounts.push(Mount {
            source: Source::Bind(source),
            destination,
            read_only,
            recursive_read_only: false,
            propagation: Propagation::Private,
            relabel: true,
        });
    }
}

fn security(
    own: Option<&SecurityContext>,
    shared: Option<&PodSecurityContext>,
    seccomp_dir: &Path,
    out: &mut ContainerSpec,
) -> Result<(), Refusal> {
    let profile =
        own.and_then(|c| c.seccomp_profile.as_ref()).or(shared.and_then(|c| c.seccomp_profile.as_ref()));
    out.privileged = own.and_then(|c| c.privileged) == Some(true);
    out.seccomp = if out.privileged { Seccomp::Unconfined } else { seccomp(profile, seccomp_dir)? };
    let profile =
        own.and_then(|c| c.app_armor_profile.as_ref()).or(shared.and_then(|c| c.app_armor_profile.as_ref()));
    out.apparmor = apparmor(profile)?;
    out.selinux = own.and_then(|c| c.se_linux_options.as_ref()).map(selinux);
    let Some(own) = own else { return Ok(()) };
    out.read_only_rootfs = own.read_only_root_filesystem == Some(true);
    out.no_new_privileges = own.allow_privilege_escalation == Some(false) && !out.privileged;
    out.unmasked_proc = own.proc_mount.as_deref() == Some("Unmasked");
    if let Some(capabilities) = &own.capabilities {
        out.capabilities = Capabilities {
            add: capabilities.add.clone().unwrap_or_default(),
            drop: capabilities.drop.clone().unwrap_or_default(),
        };
    }
    Ok(())
}

fn seccomp(profile: Option<&SeccompProfile>, dir: &Path) -> Result<Seccomp, Refusal> {
    // A pod that says nothing is confined: the safer of the two defaults that a kubelet may be given.
    let Some(profile) = profile else { return Ok(Seccomp::RuntimeDefault) };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            let leaves = name.is_empty() || name.starts_with('/') || name.split('/').any(|p| p == "..");
            if leaves {
                return Err(config_error(
                    "localhost seccomp profile must be a relative path inside the profile directory",
                ));
            }
            Ok(Seccomp::Localhost(dir.join(name)))
        }
        other => Err(config_error(format!("unknown seccomp profile type {other:?}"))),
    }
}

fn apparmor(profile: Option<&AppArmorProfile>) -> Result<AppArmor, Refusal> {
    let Some(profile) = profile else { return Ok(AppArmor::Unset) };
    match profile.type_.as_str() {
        "Unconfined" => Ok(AppArmor::Unconfined),
        "RuntimeDefault" => Ok(AppArmor::RuntimeDefault),
        "Localhost" => Ok(AppArmor::Localhost(profile.localhost_profile.clone().unwrap_or_default())),
        other => Err(config_error(format!("unknown AppArmor profile type {other:?}"))),
    }
}

/// The parts of a label that are named; an empty one is not.
pub(crate) fn selinux(options: &SELinuxOptions) -> SeLinux {
    let named = |part: &Option<String>| part.clone().filter(|p| !p.is_empty());
    SeLinux {
        user: named(&options.user),
        role: named(&options.role),
        kind: named(&options.type_),
        level: named(&options.level),
    }
}

/// The number of the signal that asks a container to stop.
pub(crate) fn stop_signal(container: Option<&Container>, image: Option<&str>) -> i32 {
    let own = container.and_then(|c| c.lifecycle.as_ref()).and_then(|l| l.stop_signal.as_deref());
    own.or(image).and_then(parse_signal).unwrap_or(libc_sigterm())
}

fn libc_sigterm() -> i32 {
    nix::sys::signal::Signal::SIGTERM as i32
}

fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(n) = text.parse::<i32>() {
        return (1..=64).contains(&n).then_some(n);
    }
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    if let Some(n) = name.strip_prefix("SIGRTMIN") {
        let offset = n.strip_prefix('+').map_or(Some(0), |n| n.parse::<i32>().ok())?;
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    name.parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn build_one(spec: Value, uid: u32) -> Result<ContainerSpec, Refusal> {
        build_as(spec, uid, "")
    }

    fn build_as(spec: Value, uid: u32, user: &str) -> Result<ContainerSpec, Refusal> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
        )
        .unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let image = FoundImage {
            cmd: vec!["run".into()],
            env: vec!["PATH=/bin".into()],
            user: user.into(),
            ..FoundImage::default()
        };
        let mounts = container
            .volume_mounts
            .iter()
            .flatten()
            .map(|m| (PathBuf::from("/v").join(&m.name), false))
            .collect();
        let found = Found {
            id: "id".into(),
            attempt: 2,
            restarts: 2,
            image: Some(&image),
            user: FoundUser { uid, ..FoundUser::default() },
            env: BTreeMap::new(),
            mounts,
            pod_dir: Path::new("/pods/u"),
            log_path: PathBuf::from("/logs/2.log"),
            sandbox: PathBuf::from("/sandbox"),
            hostname: "p",
            node_memory: 1 << 30,
            seccomp_dir: Path::new("/seccomp"),
            joins: None,
        };
        build(&pod, container, found)
    }

    #[test]
    fn a_plain_container_gets_an_engines_defaults_and_the_pods_files() {
        let spec = build_one(json!({"containers": [{"name": "c", "image": "i"}]}), 0).unwrap();
        assert_eq!(spec.args, ["run"]);
        assert!(spec.env.contains(&"PATH=/bin".to_owned()) && spec.env.contains(&"HOSTNAME=p".to_owned()));
        assert_eq!(spec.seccomp, Seccomp::RuntimeDefault);
        let at: Vec<_> = spec.mounts.iter().map(|m| m.destination.to_str().unwrap()).collect();
        assert_eq!(at, ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/dev/termination-log"]);
        assert_eq!(spec.annotations[NOTE_RESTARTS], "2");
    }

    #[test]
    fn hosts_may_be_written_on_a_read_only_root_and_a_volume_may_stand_for_it() {
        let mut spec = json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i",
            "securityContext": {"readOnlyRootFilesystem": true}}]});
        let written: Vec<_> = build_one(spec.clone(), 0)
            .unwrap()
            .mounts
            .into_iter()
            .map(|m| (m.destination.display().to_string(), m.read_only))
            .collect();
        let want = [
            ("/etc/hosts", false),
            ("/etc/resolv.conf", true),
            ("/etc/hostname", true),
            ("/dev/termination-log", false),
        ];
        assert_eq!(written, want.map(|(path, read_only)| (path.to_owned(), read_only)));
        spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/etc/hosts"}]);
        let mounts = build_one(spec.clone(), 0).unwrap().mounts;
        let own: Vec<_> = mounts.iter().filter(|m| m.destination == Path::new("/etc/hosts")).collect();
        assert!(own.len() == 1 && matches!(&own[0].source, Source::Bind(from) if from == Path::new("/v/v")));
        let container: Container = serde_json::from_value(spec["containers"][0].clone()).unwrap();
        assert!(!has_hosts(&container));
    }

    #[test]
    fn root_is_refused_where_the_pod_forbids_it() {
        let spec =
            json!({"containers": [{"name": "c", "image": "i", "securityContext": {"runAsNonRoot": true}}]});
        let refusal = build_one(spec.clone(), 0).unwrap_err();
        assert_eq!(
            refusal.message,
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(build_one(spec.clone(), 7).is_ok());
        assert!(build_as(spec.clone(), 7, "7:7").is_ok());
        let refusal = build_as(spec.clone(), 7, "app").unwrap_err();
        assert!(refusal.message.contains("image has non-numeric user (app)"), "{}", refusal.message);
        let mut asked = spec;
        asked["securityContext"] = json!({"runAsUser": 0});
        let refusal = build_as(asked.clone(), 7, "7").unwrap_err();
        assert!(
            refusal.message.starts_with("container's runAsUser breaks non-root policy"),
            "{}",
            refusal.message
        );
        asked["securityContext"]["runAsUser"] = json!(9);
        assert!(build_as(asked, 9, "app").is_ok());
    }

    #[test]
    fn a_seccomp_profile_never_leaves_its_directory() {
        let spec = |p: &str| json!({"containers": [{"name": "c", "image": "i", "securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": p}}}]});
        assert!(build_one(spec("../x"), 0).is_err());
        assert_eq!(
            build_one(spec("a.json"), 0).unwrap().seccomp,
            Seccomp::Localhost("/seccomp/a.json".into())
        );
    }

    #[test]
    fn a_mesos_task_runs_in_its_sandbox_on_the_machines_own_root() {
        let spec = build_one(json!({"hostNetwork": true, "containers": [{"name": "task", "image": HOST_IMAGE, "command": ["sh", "-c", "x"]}]}), 0).unwrap();
        assert!(matches!(&spec.rootfs, Rootfs::Host { sandbox } if sandbox == Path::new("/sandbox")));
        assert!(spec.env.contains(&"MESOS_SANDBOX=/sandbox".to_owned()));
        assert!(spec.mounts.is_empty() && spec.init);
        assert!(!build_one(json!({"containers": [{"name": "c", "image": "i"}]}), 0).unwrap().init);
    }

    #[test]
    fn what_a_mesos_task_mounts_into_its_sandbox_is_there() {
        let spec = build_one(json!({"hostNetwork": true, "containers": [{"name": "task", "image": HOST_IMAGE,
            "command": ["sh", "-c", "x"], "volumeMounts": [{"name": "v", "mountPath": "/mnt/mesos/sandbox/data"}]}]}), 0).unwrap();
        assert_eq!(spec.mounts[0].destination, Path::new("/sandbox/data"));
    }

    #[test]
    fn signals_are_read_by_name_and_number() {
        for (text, want) in [
            ("SIGQUIT", Some(3)),
            ("QUIT", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("NO", None),
            ("0", None),
        ] {
            assert_eq!(parse_signal(text), want, "{text}");
        }
    }
}
