//! What a caller asks for: a pod's shared surroundings and a container in it. Plain data, kept on disk beside the
//! container so that a restarted agent reads back what it asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::lsm::Confinement;

/// Which network a pod lives in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// The machine's own.
    Host,
    /// The namespace bound at this path.
    Namespace(PathBuf),
}

/// Who shares a namespace with whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sharing {
    /// The machine's own.
    Host,
    /// One for all containers of the pod.
    Pod,
    /// One for each container.
    #[default]
    Container,
}

/// Whose user ids the containers of a pod have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Users {
    /// The machine's own.
    #[default]
    Host,
    /// A range of their own, which the runtime chooses.
    Own,
    /// A range of their own that begins with this id of the machine.
    From(u32),
}

/// The three quality-of-service classes, each a directory of the cgroup tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Qos {
    /// Requests equal limits for everything.
    Guaranteed,
    /// Some request or limit is set.
    Burstable,
    /// Nothing is set.
    #[default]
    BestEffort,
}

impl Qos {
    /// The directory below the cluster's cgroup; guaranteed pods sit directly below it, as under a kubelet.
    pub fn directory(self) -> &'static str {
        match self {
            Qos::Guaranteed => "",
            Qos::Burstable => "burstable",
            Qos::BestEffort => "besteffort",
        }
    }
}

/// Limits written into a cgroup; `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// CPU weight in shares (1024 a core).
    pub cpu_shares: Option<u64>,
    /// CPU time in µs a period.
    pub cpu_quota_us: Option<i64>,
    /// The period of the quota in µs (100 000 when unset).
    pub cpu_period_us: Option<u64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<i64>,
    /// How many tasks may exist.
    pub pids: Option<i64>,
    /// CPUs it may run on, in list form (`0-1`).
    pub cpuset_cpus: Option<String>,
    /// Bytes of huge pages by the pages' size in bytes; of sizes that are not named there are none.
    pub huge_pages: Option<BTreeMap<u64, u64>>,
}

/// What the containers of a pod share.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// The pod's UID; the key of everything.
    pub uid: String,
    /// Host name inside; ignored with the host's network.
    #[serde(default)]
    pub hostname: String,
    /// The network.
    pub network: Network,
    /// The IPC namespace: `Host` or `Pod` (`Container` is taken as `Pod`).
    #[serde(default)]
    pub ipc: Sharing,
    /// The PID namespace. With `Pod` a process that does nothing is the first one in it.
    #[serde(default)]
    pub pid: Sharing,
    /// Its users. The other namespaces belong to the machine: root of a range of its own has no power over them.
    #[serde(default)]
    pub users: Users,
    /// Kernel parameters of the pod's own network and IPC namespaces (`net.ipv4.…`, `kernel.shm…`).
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Its class.
    #[serde(default)]
    pub qos: Qos,
    /// Limits of the pod's cgroup.
    #[serde(default)]
    pub limits: Limits,
    /// Size of the pod's `/dev/shm`; 64 MiB when `None`.
    #[serde(default)]
    pub shm_bytes: Option<u64>,
    /// Its SELinux label, where its containers name none of their own.
    #[serde(default)]
    pub selinux: Option<SeLinux>,
    /// SELinux level of the pod; the runtime chooses one where `selinux` has none.
    #[serde(default)]
    pub level: Option<String>,
}

impl PodSpec {
    /// First of the machine's ids that the pod has for itself.
    pub fn first_id(&self) -> Option<u32> {
        match self.users {
            Users::From(first) => Some(first),
            Users::Host | Users::Own => None,
        }
    }
}

/// Where a container's root comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rootfs {
    /// Read-only layers, topmost first, under a writable one the runtime makes and removes.
    Layers {
        /// Unpacked layers, topmost first (as overlayfs wants them).
        lower: Vec<PathBuf>,
    },
    /// The machine's own root with the stoa data hidden, for Mesos tasks without an image.
    Host {
        /// The task's sandbox: its working directory, visible at its own path.
        sandbox: PathBuf,
    },
}

/// How mounts made later on one side are seen on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// The machine's mounts appear in the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A file or directory of the machine, with all that is mounted below it.
    Bind(PathBuf),
    /// A fresh tmpfs of at most this many bytes.
    Tmpfs(Option<u64>),
}

/// One mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where, an absolute path inside. Links in it are followed inside the container's root only.
    pub destination: PathBuf,
    /// Whether writes are refused.
    #[serde(default)]
    pub read_only: bool,
    /// Whether `read_only` holds for the mounts below it too.
    #[serde(default)]
    pub recursive_read_only: bool,
    /// Propagation.
    #[serde(default)]
    pub propagation: Propagation,
    /// Whether it is the pod's own, to be given the SELinux label of the container's files.
    #[serde(default)]
    pub relabel: bool,
}

/// The user a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub additional_gids: Vec<u32>,
}

/// Which system calls are let through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seccomp {
    /// The list that container engines ship.
    #[default]
    RuntimeDefault,
    /// All.
    Unconfined,
    /// A profile file in the engines' JSON form.
    Localhost(PathBuf),
}

/// Which AppArmor profile a container has, where the kernel has AppArmor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AppArmor {
    /// Nobody said: the engines' default where it is to be had.
    #[default]
    Unset,
    /// The engines' default; without it there is no container.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// One that is loaded on this machine.
    Localhost(String),
}

/// Parts of an SELinux label that are not left to the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SeLinux {
    /// User.
    pub user: Option<String>,
    /// Role.
    pub role: Option<String>,
    /// Type.
    pub kind: Option<String>,
    /// Level with categories: `s0:c1,c2`.
    pub level: Option<String>,
}

/// Capabilities added to and dropped from the default set; `ALL` is understood, and `CAP_` may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Capabilities {
    /// Added after dropping.
    pub add: Vec<String>,
    /// Dropped.
    pub drop: Vec<String>,
}

/// A device node given to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// The node on the machine.
    pub source: PathBuf,
    /// The node inside (below `/dev`).
    pub destination: PathBuf,
    /// Access: some of `rwm`.
    pub access: String,
}

/// A container to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// The caller's id for it, unique on this machine and for good: `[A-Za-z0-9_.-]`, at most 128 long.
    pub id: String,
    /// UID of its pod, made before by `create_pod`.
    pub pod_uid: String,
    /// Its name in the pod.
    pub name: String,
    /// How often it was started before.
    #[serde(default)]
    pub attempt: u32,
    /// Its root.
    pub rootfs: Rootfs,
    /// The command line; the first is looked up in `PATH`.
    pub args: Vec<String>,
    /// Environment as `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Working directory, made when missing; `/` when empty (the sandbox with `Rootfs::Host`).
    #[serde(default)]
    pub cwd: PathBuf,
    /// Who it runs as.
    #[serde(default)]
    pub user: User,
    /// Mounts, in order.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Limits of its own cgroup.
    #[serde(default)]
    pub limits: Limits,
    /// Capabilities.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Everything allowed.
    #[serde(default)]
    pub privileged: bool,
    /// System call filter.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// AppArmor profile.
    #[serde(default)]
    pub apparmor: AppArmor,
    /// SELinux label in place of the pod's.
    #[serde(default)]
    pub selinux: Option<SeLinux>,
    /// What the kernel's security modules are told; the runtime writes it down at the start.
    #[serde(default)]
    pub confinement: Confinement,
    /// Root mounted read-only.
    #[serde(default)]
    pub read_only_rootfs: bool,
    /// No gain of privileges by exec.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// `procMount: Unmasked`: leave `/proc` as the kernel shows it.
    #[serde(default)]
    pub unmasked_proc: bool,
    /// Give it a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Keep its stdin open for attach.
    #[serde(default)]
    pub stdin: bool,
    /// Close stdin when the first attached client goes.
    #[serde(default)]
    pub stdin_once: bool,
    /// Put a minimal first process above the command, so that signals reach it as they do outside of a container.
    #[serde(default)]
    pub init: bool,
    /// Id of the container whose processes this one shall see and share a namespace with.
    #[serde(default)]
    pub joins: Option<String>,
    /// Its log file; older ones beside it end in `.1`, `.2`, ….
    pub log_path: PathBuf,
    /// A directory that gets its output as well, as plain files `stdout` and `stderr`.
    #[serde(default)]
    pub output_dir: Option<PathBuf>,
    /// What the OOM killer adds; clamped to what this process may set.
    #[serde(default)]
    pub oom_score_adj: i32,
    /// Devices.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Kept beside the container and given back by `list`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl ContainerSpec {
    /// A container with the defaults of an engine.
    pub fn new(
        id: impl Into<String>,
        pod_uid: impl Into<String>,
        rootfs: Rootfs,
        args: Vec<String>,
        log_path: impl Into<PathBuf>,
    ) -> ContainerSpec {
        let id = id.into();
        ContainerSpec {
            name: id.clone(),
            id,
            pod_uid: pod_uid.into(),
            attempt: 0,
            rootfs,
            args,
            env: Vec::new(),
            cwd: PathBuf::new(),
            user: User::default(),
            mounts: Vec::new(),
            limits: Limits::default(),
            capabilities: Capabilities::default(),
            privileged: false,
            seccomp: Seccomp::default(),
            apparmor: AppArmor::default(),
            selinux: None,
            confinement: Confinement::default(),
            read_only_rootfs: false,
            no_new_privileges: false,
            unmasked_proc: false,
            tty: false,
            stdin: false,
            stdin_once: false,
            init: false,
            joins: None,
            log_path: log_path.into(),
            output_dir: None,
            oom_score_adj: 0,
            devices: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// A further process in a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExecSpec {
    /// The command line.
    pub args: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Working directory; the container's when `None`.
    pub cwd: Option<PathBuf>,
    /// The container's user when `None`.
    pub user: Option<User>,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep stdin open.
    pub stdin: bool,
}
