//! What every pod's worker shares: the machine, the objects pushed, the way to the leader, and small books about all
//! pods of the node.

use crate::cpus::Cpus;
use crate::desired::Pushed;
use crate::etc_files::ClusterDns;
use crate::events::Recorder;
use crate::machine::{Machine, PublishedPort};
use crate::mesos::{Executors, Fetcher, Sessions, Standalone, Tasks};
use crate::options::Options;
use crate::outbox::Outbox;
use crate::probe_counts::{HealthCounts, ProbeCounts};
use crate::refuse::{Claim, Marks};
use crate::services::Book;
use crate::sizes::Measured;
use crate::statics::Statics;
use crate::stats::Sampler;
use crate::tokens::Tokens;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use stoa_units::{Clock, Time};
use stoa_volume::Volumes;
use stoa_wire::PodRef;
use tokio::sync::{Semaphore, watch};

/// Containers that are set up at once; more only make each other slower.
const STARTS_MAX: usize = 16;

/// What the leader said about the cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) dns: ClusterDns,
    pub(crate) api_host: String,
    pub(crate) api_port: u16,
}

impl Cluster {
    /// The variables by which programs find the API server.
    pub(crate) fn service_variables(&self) -> BTreeMap<String, String> {
        if self.api_host.is_empty() {
            return BTreeMap::new();
        }
        let (host, port) = (&self.api_host, self.api_port);
        let url = format!("tcp://{host}:{port}");
        let prefix = format!("KUBERNETES_PORT_{port}_TCP");
        [
            ("KUBERNETES_SERVICE_HOST".to_owned(), host.clone()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string()),
            ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), port.to_string()),
            ("KUBERNETES_PORT".to_owned(), url.clone()),
            (prefix.clone(), url),
            (format!("{prefix}_PROTO"), "tcp".to_owned()),
            (format!("{prefix}_PORT"), port.to_string()),
            (format!("{prefix}_ADDR"), host.clone()),
        ]
        .into()
    }
}

/// What tunnels need to know of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LiveContainer {
    /// Its id in the runtime while it runs.
    pub(crate) running: Option<String>,
    /// Since when.
    pub(crate) started_at: Option<Time>,
    /// The image it names.
    pub(crate) image: String,
    /// Digest of the image it runs; empty before it did.
    pub(crate) image_id: String,
    /// Log files so far.
    pub(crate) attempts: u32,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
}

/// What tunnels and figures need to know of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LivePod {
    pub(crate) pod: PodRef,
    pub(crate) object: Arc<Pod>,
    /// What was last said of it.
    pub(crate) status: Option<PodStatus>,
    pub(crate) started_at: Time,
    /// Nobody has decided that it ends.
    pub(crate) is_active: bool,
    /// It is being deleted, and may take its time.
    pub(crate) is_deleted: bool,
    /// None on the node's network.
    pub(crate) netns: Option<PathBuf>,
    /// Whether it has a network at all by now.
    pub(crate) connected: bool,
    pub(crate) containers: BTreeMap<String, LiveContainer>,
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) volumes: Volumes,
    pub(crate) pushed: Pushed,
    pub(crate) services: Book,
    /// Counts changes of pushed objects: however many come, a worker looks once.
    pub(crate) objects: watch::Sender<u64>,
    pub(crate) recorder: Recorder,
    pub(crate) outbox: Outbox,
    pub(crate) tokens: Tokens,
    pub(crate) executors: Arc<Executors>,
    pub(crate) statics: Statics,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) tasks: Tasks,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) standalone: Standalone,
    /// Since when this agent runs.
    pub(crate) started: Time,
    pub(crate) cluster: Mutex<Cluster>,
    pub(crate) starts: Semaphore,
    pub(crate) host_ips: Vec<String>,
    pub(crate) node_memory: u64,
    pub(crate) allocatable: BTreeMap<String, String>,
    /// The node's marks as the leader said last; before, the labels that this agent reports.
    pub(crate) marks: Mutex<Marks>,
    pub(crate) live: Mutex<HashMap<String, LivePod>>,
    /// CPU and memory that each pod claims, for the check that a new one fits.
    pub(crate) claims: Mutex<HashMap<String, Claim>>,
    pub(crate) cpus: Cpus,
    pub(crate) sampler: Sampler,
    pub(crate) measured: Measured,
    pub(crate) probes: ProbeCounts,
    pub(crate) health: HealthCounts,
    /// When this agent began.
    pub(crate) begun: Time,
    ports: tokio::sync::Mutex<HashMap<String, Vec<PublishedPort>>>,
}

impl Shared {
    #[allow(clippy::too_many_arguments, reason = "made once, by the service")]
    pub(crate) fn new(
        options: Options,
        machine: Arc<dyn Machine>,
        cpus: Cpus,
        recorder: Recorder,
        tokens: Tokens,
        host_ips: Vec<String>,
        node_memory: u64,
        allocatable: BTreeMap<String, String>,
        node_labels: BTreeMap<String, String>,
    ) -> Shared {
        Shared {
            cpus,
            sampler: Sampler::default(),
            measured: Measured::default(),
            probes: ProbeCounts::default(),
            health: HealthCounts::default(),
            begun: Clock::now(&*options.clock),
            volumes: Volumes::new(options.pods_dir()),
            tasks: Tasks::default(),
            sessions: Arc::default(),
            standalone: Standalone::open(options.standalone_dir()),
            started: Clock::now(&*options.clock),
            fetcher: Arc::new(Fetcher::new(options.fetch_dir(), options.hidden_from_tasks())),
            executors: Arc::new(Executors::new(options.executors_dir(), &options.name, &host_ips)),
            options,
            machine,
            pushed: Pushed::default(),
            services: Book::default(),
            objects: watch::Sender::new(0),
            recorder,
            outbox: Outbox::default(),
            tokens,
            statics: Statics::default(),
            cluster: Mutex::default(),
            starts: Semaphore::new(STARTS_MAX),
            host_ips,
            node_memory,
            allocatable,
            marks: Mutex::new(Marks { labels: node_labels, taints: Vec::new() }),
            live: Mutex::default(),
            claims: Mutex::default(),
            ports: tokio::sync::Mutex::default(),
        }
    }

    /// Pushed objects changed: everyone who may wait for one looks.
    pub(crate) fn objects_changed(&self) {
        self.objects.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn now(&self) -> Time {
        Clock::now(&*self.options.clock)
    }

    /// Memory that all pods may use together, where the operator gave a bound; else none.
    pub(crate) fn allotted_memory(&self) -> u64 {
        if self.options.resources.is_none() { 0 } else { self.node_memory }
    }

    /// Publishes a pod's host ports; an empty list takes them back.
    pub(crate) async fn publish_ports(&self, uid: &str, ports: Vec<PublishedPort>) -> Result<(), String> {
        let mut all = self.ports.lock().await;
        let before =
            if ports.is_empty() { all.remove(uid) } else { all.insert(uid.to_owned(), ports.clone()) };
        if before.unwrap_or_default() == ports {
            return Ok(());
        }
        // The lock is held over the write, so that an older set never overtakes a newer one.
        self.machine.publish_ports(all.values().flatten().cloned().collect()).await
    }

    /// Directory of a pod's logs.
    pub(crate) fn logs_of(&self, pod: &PodRef) -> PathBuf {
        self.options.logs_dir().join(format!("{}_{}_{}", pod.namespace, pod.name, pod.uid))
    }

    /// A container's log file of one life.
    pub(crate) fn log_path(&self, pod: &PodRef, container: &str, attempt: u32) -> PathBuf {
        self.logs_of(pod).join(container).join(format!("{attempt}.log"))
    }
}
