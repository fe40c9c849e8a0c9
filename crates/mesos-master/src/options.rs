//! What the operator decides.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::Acls;
pub use stoa_authz::{Anonymous, Credential};
use stoa_mesos::Verbosity;

/// Options of the Mesos door.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub bind: SocketAddr,
    /// What the master calls itself; requests must be addressed to this name, to `localhost` or to an IP address.
    pub hostname: String,
    /// The cluster's name in `/state`.
    pub cluster: String,
    /// Whether frameworks without credentials are served.
    pub anonymous: Anonymous,
    /// Who may authenticate.
    pub credentials: Vec<Credential>,
    /// Who may do what.
    pub acls: Arc<Acls>,
    /// The region and zone that the master is in.
    pub domain: Option<(String, String)>,
    /// Weights of roles; 1 where not named.
    pub weights: Vec<(String, f64)>,
    /// How long a framework known from the store is waited for after a start, if its own timeout is shorter.
    pub recovery_grace: Duration,
    /// How long the pod of an ended task is kept after the framework knows, so that its output can be read.
    pub completed_task_retention: Duration,
    /// How many ended tasks of one framework are kept at most.
    pub completed_tasks_max: usize,
    /// How many frameworks may be known at a time.
    pub frameworks_max: usize,
    /// How many tasks one framework may have at a time.
    pub tasks_per_framework_max: usize,
    /// How much operators want to be said.
    pub verbosity: Arc<Verbosity>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5050),
            hostname: "localhost".into(),
            cluster: "stoa".into(),
            anonymous: Anonymous::Refuse,
            credentials: vec![],
            acls: Arc::default(),
            domain: None,
            weights: vec![],
            recovery_grace: Duration::from_secs(60),
            completed_task_retention: Duration::from_secs(3600),
            completed_tasks_max: 200,
            frameworks_max: 10_000,
            tasks_per_framework_max: 100_000,
            verbosity: Arc::default(),
        }
    }
}
