//! What the agent needs of the machine below it. One trait, so that the pod workers can be driven by a scripted machine
//! in tests; [`crate::Native`] is the real one: our own runtime, image store and network.

use crate::collect::StoredImage;
use crate::container::{FoundImage, FoundUser};
use crate::cpus::Topology;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use stoa_image::Keyring;
use stoa_runtime::{
    AttachSession, Container, ContainerSpec, DiskIo, Error as RuntimeError, ExecSession, ExecSpec, Exit,
    Limits, PodSpec, Started, Stats,
};
use tokio::sync::broadcast;

/// A pod's place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its network namespace.
    pub netns: PathBuf,
    /// Its addresses.
    pub ips: Vec<String>,
}

/// A host port of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PublishedPort {
    /// Whose.
    pub pod_uid: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Only on this address of the node.
    pub host_ip: Option<String>,
    /// The port of the node.
    pub host_port: u16,
    /// Where it leads.
    pub pod_ip: String,
    /// See `pod_ip`.
    pub pod_port: u16,
}

/// The machine.
#[async_trait::async_trait]
pub trait Machine: Send + Sync {
    /// The leader says which addresses pods of this node get, and which others lie in the cluster. Idempotent.
    async fn set_pod_cidr(&self, cidr: &str, around: &[String]) -> Result<(), String>;
    /// Gives a pod a network namespace and an address. Idempotent.
    async fn attach_network(&self, uid: &str) -> Result<Attached, String>;
    /// Takes them away. Idempotent.
    async fn detach_network(&self, uid: &str) -> Result<(), String>;
    /// The whole set of host ports wanted now.
    async fn publish_ports(&self, ports: Vec<PublishedPort>) -> Result<(), String>;
    /// This machine's address towards its pods, once they have a network.
    fn gateway(&self) -> Option<std::net::Ipv4Addr>;
    /// The whole set of services wanted now.
    async fn set_services(&self, services: &stoa_net::Services) -> Result<(), String>;
    /// Makes a pod's cgroup and shared namespaces. Idempotent.
    async fn create_pod(&self, spec: PodSpec) -> Result<(), RuntimeError>;
    /// Starts a container.
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError>;
    /// Sends a signal to a container's first process.
    async fn kill(&self, id: &str, signal: i32) -> Result<(), RuntimeError>;
    /// Kills everything in a container.
    async fn kill_all(&self, id: &str) -> Result<(), RuntimeError>;
    /// Removes a container, its root file system included.
    async fn remove(&self, id: &str) -> Result<(), RuntimeError>;
    /// Limits all containers together.
    async fn limit_all(&self, limits: Limits) -> Result<(), RuntimeError>;
    /// Gives a pod other limits.
    async fn update_pod(&self, uid: &str, limits: Limits) -> Result<(), RuntimeError>;
    /// Gives a running container other limits, and other annotations.
    async fn update(
        &self,
        id: &str,
        limits: Limits,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), RuntimeError>;
    /// The CPUs that containers may be given, or why none can be kept to some of them.
    async fn topology(&self) -> Result<Topology, String> {
        Err("this machine tells no CPUs apart".to_owned())
    }
    /// Moves a running container to these CPUs.
    async fn update_cpus(&self, id: &str, cpus: &str) -> Result<(), RuntimeError>;
    /// Removes a pod and all its containers.
    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError>;
    /// All containers.
    fn list(&self) -> Vec<Container>;
    /// Uids of all pods that have anything on this machine: cgroup, containers or network.
    fn pods(&self) -> HashSet<String>;
    /// Ends of containers as they happen.
    fn exits(&self) -> broadcast::Receiver<Exit>;
    /// Runs a process in a container.
    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError>;
    /// Joins a container's own streams.
    async fn attach(&self, id: &str) -> Result<AttachSession, RuntimeError>;
    /// Connects to a port in a pod's network.
    async fn dial(&self, netns: Option<&Path>, port: u16) -> std::io::Result<tokio::net::TcpStream>;
    /// Looks an image up.
    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, String>;
    /// Pulls an image from its registry; the size is that of its blobs.
    async fn pull(&self, reference: &str, _ring: Keyring) -> Result<(FoundImage, u64), String> {
        Err(format!("failed to resolve reference \"{reference}\": this machine reaches no registry"))
    }
    /// Whether whoever holds these credentials may use a present image without asking its registry.
    fn admits(&self, _reference: &str, _ring: &Keyring) -> bool {
        true
    }
    /// Looks a user up in an image.
    async fn user(&self, reference: &str, words: &str) -> Result<FoundUser, String>;
    /// The images present.
    async fn stored_images(&self) -> Vec<StoredImage>;
    /// Removes an image, unless a container runs from it.
    async fn remove_image(&self, _id: &str) -> Result<(), String> {
        Ok(())
    }
    /// Bytes that all images take.
    fn images_size(&self) -> u64 {
        0
    }
    /// What a container uses.
    fn stats(&self, _id: &str) -> Option<Stats> {
        None
    }
    /// What a pod uses.
    fn pod_stats(&self, _uid: &str) -> Option<Stats> {
        None
    }
    /// What went between a container and disks.
    fn disk_io(&self, _id: &str) -> Vec<DiskIo> {
        Vec::new()
    }
    /// What went between a pod and disks.
    fn pod_disk_io(&self, _uid: &str) -> Vec<DiskIo> {
        Vec::new()
    }
    /// What all pods use together.
    fn all_stats(&self) -> Option<Stats> {
        None
    }
    /// Memory that all pods use together, less what the kernel could drop at once.
    fn memory_used(&self) -> u64 {
        0
    }
    /// Where a container's own writes lie.
    fn upper_dir(&self, _id: &str) -> Option<PathBuf> {
        None
    }
}

/// An error with everything that led to it, in one line.
pub(crate) fn chain(e: &dyn std::error::Error) -> String {
    let mut out = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        out.push_str(": ");
        out.push_str(&e.to_string());
        cause = e.source();
    }
    out
}
