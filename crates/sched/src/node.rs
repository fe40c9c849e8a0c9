//! A node as placement sees it: what it is ([`NodeInfo`], changes rarely) and what room it has ([`Room`], changes with
//! every pod).

use std::collections::{BTreeMap, HashMap};
use stoa_kube::typed::{Node, Taint};
use stoa_units::{AgentId, PortSet, Quantity, Resources};

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeInfo {
    /// Its name.
    pub id: AgentId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// `status.allocatable`.
    pub allocatable: Resources,
    /// Sizes of the images that it has, by every name of theirs.
    pub images: HashMap<String, u64>,
}

impl NodeInfo {
    /// Reads a node.
    pub fn read(node: &Node) -> NodeInfo {
        let (spec, status) = (node.spec.clone().unwrap_or_default(), node.status.clone().unwrap_or_default());
        let mut allocatable = Resources::default();
        let declared = status.allocatable.or(status.capacity).unwrap_or_default();
        for (name, quantity) in &declared {
            if let Ok(q) = Quantity::parse(&quantity.0) {
                allocatable.add_quantity(name, &q);
            }
        }
        let mut images = HashMap::new();
        for image in status.images.unwrap_or_default() {
            let size = image.size_bytes.unwrap_or(0).max(0).unsigned_abs();
            images.extend(image.names.unwrap_or_default().into_iter().map(|n| (n, size)));
        }
        NodeInfo {
            id: AgentId::from(node.metadata.name.clone().unwrap_or_default()),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.taints.unwrap_or_default(),
            unschedulable: spec.unschedulable.unwrap_or(false),
            allocatable,
            images,
        }
    }
}

/// What room a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// `status.allocatable`, as whole numbers for scoring.
    pub allocatable: Resources,
    /// Everything claimed: pods, tasks, outstanding offers.
    pub used: Resources,
    /// What pods that ask for nothing are assumed to use when nodes are compared (milli-CPU, bytes).
    pub padding: (u64, u64),
    /// Every host port that somebody holds.
    pub ports: PortSet,
}
