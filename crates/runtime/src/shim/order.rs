//! What the agent writes down for a helper, and what the helper writes down for the agent.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stoa_units::Time;

use crate::launch::Failure;
use crate::process::Identity;
use crate::spec::{ContainerSpec, PodSpec, Sharing};

/// `shim.json`: everything the helper needs, and all a restarted agent needs to know what it once asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) spec: ContainerSpec,
    pub(crate) pod: PodSpec,
    pub(crate) pod_dir: PathBuf,
    /// Where its writable layer is.
    pub(crate) layer: PathBuf,
    /// The library's state directory.
    pub(crate) library: PathBuf,
    /// The container's cgroup.
    pub(crate) cgroup: String,
    pub(crate) hidden: Vec<PathBuf>,
    /// Mount points with an entry for each pod.
    #[serde(default)]
    pub(crate) by_pod: Vec<PathBuf>,
    /// First process of the container whose process namespace is joined.
    #[serde(default)]
    pub(crate) joins: Option<Identity>,
    pub(crate) log_bytes_max: u64,
    pub(crate) log_files_max: u32,
}

impl Order {
    /// Whether everything in the container dies with its first process.
    pub(crate) fn dies_as_one(&self) -> bool {
        dies_as_one(&self.spec, &self.pod)
    }
}

/// A first process takes all others with it only where it is the first of a namespace.
pub(crate) fn dies_as_one(spec: &ContainerSpec, pod: &PodSpec) -> bool {
    pod.pid == Sharing::Container && spec.joins.is_none()
}

/// `state.json`: written first with the helper alone, then with the container's first process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) helper: Identity,
    pub(crate) init: Option<Identity>,
    pub(crate) started_at: Option<Time>,
}

/// The one line a helper prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Report {
    Started { pid: i32, started_at: Time },
    NotCreated { message: String },
    NotStarted(Failure),
}
