//! Where a volume's contents come from: the objects that the leader pushed, the node's own facts, tokens.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What is known of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup<T> {
    /// It is this.
    Found(Arc<T>),
    /// It does not exist.
    Absent,
    /// The leader has not said yet.
    Pending,
}

/// The objects that pods of this node refer to.
pub trait Objects {
    /// A config map.
    fn config_map(&self, namespace: &str, name: &str) -> Lookup<ConfigMap>;
    /// A secret.
    fn secret(&self, namespace: &str, name: &str) -> Lookup<Secret>;
}

/// What the downward API tells beside the pod itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// Addresses of the node.
    pub host_ips: Vec<String>,
    /// Addresses of the pod; empty before it has its network.
    pub pod_ips: Vec<String>,
    /// What the node can give to pods, which stands in for a missing limit.
    pub allocatable: BTreeMap<String, String>,
    /// Memory that the whole pod may use, where it is limited: a bound on what it keeps in a tmpfs.
    pub memory_bytes: Option<u64>,
    /// Unpacked layers, topmost first, of the images that volumes show, by the volume's name.
    pub images: BTreeMap<String, Vec<PathBuf>>,
}

impl Place {
    /// How large a tmpfs of the pod may become. Its pages are charged to the pod, so more than its limit is a promise nobody can
    /// keep; nor is more than all pods together may have.
    pub(crate) fn memory_for_files(&self) -> Option<u64> {
        let node = self.allocatable.get("memory").and_then(|q| stoa_units::Quantity::parse(q).ok());
        [self.memory_bytes, node.map(|q| q.value_ceil())].into_iter().flatten().min()
    }
}

/// Names a token of a pod's service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenKey {
    /// For whom; empty means the API server.
    pub audience: String,
    /// Wanted lifetime in seconds.
    pub expiration_seconds: u64,
}

/// The tokens at hand.
pub type Tokens = BTreeMap<TokenKey, String>;
