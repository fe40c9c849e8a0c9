//! What an agent is told when it starts.

use crate::cpus::{CpuPolicy, CpuSet};
use crate::mesos::OperatorApi;
use crate::pressure::{Threshold, parse_thresholds};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stoa_mesos::Verbosity;
use stoa_units::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

/// A kubelet's defaults; of tasks it wants nothing, which a fork bomb in many pods would make good use of.
const EVICTION_HARD: &str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,\
                             imagefs.inodesFree<5%,pid.available<5%";

/// What people call the runtime: by its own name, and by that of the one that everybody has.
const RUNTIME_HANDLERS: [&str; 3] = ["native", "stoa", "runc"];

/// Settings of an agent.
#[derive(Clone)]
pub struct Options {
    /// The node's name; its certificate says `system:node:<name>`.
    pub name: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Identifies the cluster: names the bridge, the nftables table and the cgroup.
    pub cluster_id: String,
    /// The leaders' addresses, `https://host:port`, tried in turn.
    pub masters: Vec<String>,
    /// The cluster's authority, PEM.
    pub ca_pem: String,
    /// This node's certificate, PEM.
    pub cert_pem: String,
    /// Its key, PEM.
    pub key_pem: String,
    /// Resources in Mesos' form (`cpus:4;mem:8192;ports:[31000-32000]`) in place of what the machine has.
    pub resources: Option<String>,
    /// What Mesos frameworks may have beside that until it is taken back, in the same form.
    pub revocable: Option<String>,
    /// Above these load averages, of five and of fifteen minutes, it is taken back.
    pub revocable_load_max: [Option<f64>; 2],
    /// Attributes in Mesos' form (`rack:r1;zone:z`); they become labels.
    pub attributes: Option<String>,
    /// The node's address; the one that leads to the first master when `None`.
    pub node_ip: Option<String>,
    /// Addresses for pods until the leader names others.
    pub pod_cidr: String,
    /// The executable that plays the runtime's helper.
    pub exe: PathBuf,
    /// Directories that tasks on the machine's own root must not see, beside `data_dir`: the cluster's keys and store.
    pub hidden_dirs: Vec<PathBuf>,
    /// A folder of manifests of pods that run here whatever a leader says.
    pub static_pods_dir: Option<PathBuf>,
    /// Kernel parameters beside the safe ones that pods may set, each a name or a prefix that ends in `*`.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Handlers of runtime classes that this machine's own runtime answers to.
    pub runtime_handlers: Vec<String>,
    /// The file of registries' mirrors, authorities and credentials; need not exist.
    pub registries: PathBuf,
    /// Kept from pods for the machine itself, in Mesos' form; where `resources` is measured.
    pub system_reserved: Option<String>,
    /// Whether containers may have CPUs to themselves.
    pub cpu_policy: CpuPolicy,
    /// CPUs that never are a container's own, and are kept from pods, in place of those in `system_reserved`.
    pub reserved_cpus: Option<CpuSet>,
    /// Below these, the node is under pressure and pods are evicted.
    pub eviction_hard: Vec<Threshold>,
    /// Below these for as long as they say, pods are evicted with more time.
    pub eviction_soft: Vec<Threshold>,
    /// Most that a pod then gets, whatever its own grace period.
    pub eviction_max_pod_grace: Duration,
    /// How long pressure is told of after it has passed.
    pub pressure_hold: Duration,
    /// Fuller than this many percent of the disk, images that nobody uses are collected …
    pub image_gc_high_percent: u8,
    /// … until it is no fuller than this.
    pub image_gc_low_percent: u8,
    /// Size at which a container's log is rotated.
    pub log_bytes_max: u64,
    /// Log files of a container's life that are kept, the current one included.
    pub log_files_max: u32,
    /// Cancelled when the machine is about to go down: pods are then ended before the agent is.
    pub power_off: CancellationToken,
    /// How long that may take.
    pub shutdown_grace: Duration,
    /// Most pods that run here.
    pub pods_max: u32,
    /// Most tasks (processes and threads) of one pod.
    pub pod_pids_max: i64,
    /// Where custom Mesos executors find their API; another port where this one is taken.
    pub executor_api: SocketAddr,
    /// The Mesos API for operators; only the master reaches it when `None`.
    pub mesos_api: Option<OperatorApi>,
    /// How much operators of that API want to be said.
    pub verbosity: Arc<Verbosity>,
    /// Longest wait between two attempts to reach a leader.
    pub reconnect_max: Duration,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The defaults for a node.
    pub fn new(
        name: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        cluster_id: impl Into<String>,
    ) -> Options {
        let data_dir = data_dir.into();
        Options {
            name: name.into(),
            registries: data_dir.join("registries.yaml"),
            data_dir,
            cluster_id: cluster_id.into(),
            masters: Vec::new(),
            ca_pem: String::new(),
            cert_pem: String::new(),
            key_pem: String::new(),
            resources: None,
            revocable: None,
            revocable_load_max: [None; 2],
            attributes: None,
            node_ip: None,
            pod_cidr: "10.244.0.0/24".to_owned(),
            exe: PathBuf::from("/proc/self/exe"),
            hidden_dirs: Vec::new(),
            static_pods_dir: None,
            allowed_unsafe_sysctls: Vec::new(),
            runtime_handlers: RUNTIME_HANDLERS.map(str::to_owned).into(),
            system_reserved: None,
            cpu_policy: CpuPolicy::None,
            reserved_cpus: None,
            eviction_hard: parse_thresholds(EVICTION_HARD).unwrap_or_default(),
            eviction_soft: Vec::new(),
            eviction_max_pod_grace: Duration::ZERO,
            pressure_hold: Duration::from_secs(300),
            image_gc_high_percent: 85,
            image_gc_low_percent: 80,
            log_bytes_max: 10 << 20,
            log_files_max: 5,
            power_off: CancellationToken::new(),
            shutdown_grace: Duration::from_secs(30),
            pods_max: 110,
            pod_pids_max: 8_192,
            executor_api: SocketAddr::from((Ipv4Addr::LOCALHOST, 5051)),
            mesos_api: None,
            verbosity: Arc::default(),
            reconnect_max: Duration::from_secs(5),
            clock: Arc::new(SystemClock),
        }
    }

    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("pods")
    }

    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    pub(crate) fn sandboxes_dir(&self) -> PathBuf {
        self.data_dir.join("sandboxes")
    }

    pub(crate) fn finished_dir(&self) -> PathBuf {
        self.data_dir.join("finished")
    }

    pub(crate) fn fetch_dir(&self) -> PathBuf {
        self.data_dir.join("fetch")
    }

    /// Where persistent volumes of Mesos' kind are. They outlive pods, and nothing collects them.
    pub(crate) fn persistent_dir(&self) -> PathBuf {
        self.data_dir.join("volumes")
    }

    /// What no task may see, whoever it runs as: the cluster's keys and other pods' files.
    pub(crate) fn hidden_from_tasks(&self) -> Vec<PathBuf> {
        std::iter::once(&self.data_dir).chain(&self.hidden_dirs).cloned().collect()
    }

    pub(crate) fn standalone_dir(&self) -> PathBuf {
        self.data_dir.join("standalone")
    }

    pub(crate) fn executors_dir(&self) -> PathBuf {
        self.data_dir.join("executors")
    }

    pub(crate) fn seccomp_dir(&self) -> PathBuf {
        self.data_dir.join("seccomp")
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.data_dir.join("runtime")
    }

    pub(crate) fn network_dir(&self) -> PathBuf {
        self.data_dir.join("network")
    }

    /// Where this machine's images are kept; `stoa image …` works on it too.
    pub fn images_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    pub(crate) fn cgroup_parent(&self) -> String {
        format!("stoa-{}", self.cluster_id)
    }

    pub(crate) fn runtime_options(&self) -> stoa_runtime::Options {
        let mut options = stoa_runtime::Options::new(self.runtime_dir(), self.cgroup_parent());
        options.exe.clone_from(&self.exe);
        options.by_pod = vec![self.pods_dir(), self.network_dir().join("netns")];
        options.log_bytes_max = self.log_bytes_max;
        options.log_files_max = self.log_files_max;
        options.clock = Arc::clone(&self.clock);
        // Its own sandbox is bound back.
        options.hidden = self.hidden_from_tasks();
        options
    }

    /// The short form of the cluster's id that fits into the name of a link.
    pub(crate) fn short_id(&self) -> String {
        let id = self.cluster_id.to_ascii_lowercase();
        id.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
    }
}
