//! What the leader's end of sessions is told when it starts.

use std::time::Duration;

/// How long an agent may take to open a tunnel that it was asked to.
pub(crate) const TUNNEL_WAIT: Duration = Duration::from_secs(10);
/// Answers and tunnel requests that may wait for one agent.
pub(crate) const REPLIES_LEN_MAX: usize = 256;
/// Events of one agent that may wait to be written; more are dropped, as a stock event broadcaster does.
pub(crate) const OCCURRENCES_LEN_MAX: usize = 1_024;
/// Statuses of one agent that are written at a time.
pub(crate) const STATUS_WRITES_MAX: usize = 32;
/// Sessions at a time.
pub(crate) const SESSIONS_MAX: usize = 20_000;

/// Settings of [`crate::Service`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Identifies the cluster.
    pub cluster_id: String,
    /// All pods' addresses; each node gets one part of it.
    pub cluster_cidr: String,
    /// Length of the prefix of a node's part.
    pub node_prefix: u8,
    /// Virtual addresses of services.
    pub service_cidr: String,
    /// Address of the cluster's DNS; empty where there is none.
    pub dns: String,
    /// The cluster's DNS domain.
    pub domain: String,
    /// The API server as pods reach it; empty where it is unknown.
    pub api_host: String,
    /// See `api_host`.
    pub api_port: u16,
    /// How long a node stays ready without a session.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cluster_id: String::new(),
            cluster_cidr: "10.244.0.0/16".to_owned(),
            node_prefix: 24,
            service_cidr: "10.96.0.0/16".to_owned(),
            dns: String::new(),
            domain: "cluster.local".to_owned(),
            api_host: String::new(),
            api_port: 0,
            grace: Duration::from_secs(40),
        }
    }
}
