//! The plugins, one file each, and the table that lists them. Three kinds: what depends on the node alone, what depends
//! on its room, and what depends on where other pods are.

pub mod balanced_allocation;
pub mod dynamic_resources;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_ports;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod scheduling_gates;
pub mod taint_toleration;
pub mod volume_binding;

use crate::{NodeInfo, Reason, Room, Shape};

/// The largest score that a plugin gives, before its weight.
pub const SCORE_MAX: i64 = 100;

/// How raw scores become scores between 0 and [`SCORE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalize {
    /// They are that already.
    No,
    /// By the largest one.
    Up,
    /// By the largest one, and the less the better.
    Down,
}

/// The raw score of a node by what it is.
pub type ScoreNode = fn(&Shape, &NodeInfo) -> i64;

/// The score of a node by its room.
pub type ScoreRoom = fn(&Shape, &Room) -> i64;

/// A plugin that looks at what a node is. Its verdict is kept as long as the node stays what it is.
pub struct NodePlugin {
    /// The stock name.
    pub name: &'static str,
    /// Why the node does not take the shape.
    pub filter: Option<fn(&Shape, &NodeInfo) -> Option<Reason>>,
    /// The raw score, its weight and how it is normalized.
    pub score: Option<(i64, Normalize, ScoreNode)>,
}

/// A plugin that looks at a node's room.
pub struct RoomPlugin {
    /// The stock name.
    pub name: &'static str,
    /// Adds why the room does not suffice.
    pub filter: Option<fn(&Shape, &Room, &mut Vec<Reason>)>,
    /// Whether the room suffices, without saying why not.
    pub fits: Option<fn(&Shape, &Room) -> bool>,
    /// The score and its weight.
    pub score: Option<(i64, ScoreRoom)>,
}

/// All plugins, in the order of the stock scheduler's filters.
pub struct Table {
    /// Those that look at what a node is.
    pub node: &'static [NodePlugin],
    /// Those that look at its room.
    pub room: &'static [RoomPlugin],
}

/// The registry. A new plugin is a file and a row here; see also [`pod_topology_spread`], [`inter_pod_affinity`] (which
/// look at other pods), [`volume_binding`] (which looks at claims) and [`scheduling_gates`] (which looks at no node).
pub static TABLE: Table = Table {
    node: &[
        NodePlugin { name: "NodeUnschedulable", filter: Some(node_unschedulable::filter), score: None },
        NodePlugin {
            name: "TaintToleration",
            filter: Some(taint_toleration::filter),
            score: Some((3, Normalize::Down, taint_toleration::score)),
        },
        NodePlugin {
            name: "NodeAffinity",
            filter: Some(node_affinity::filter),
            score: Some((2, Normalize::Up, node_affinity::score)),
        },
        NodePlugin { name: "DynamicResources", filter: Some(dynamic_resources::filter), score: None },
        NodePlugin {
            name: "ImageLocality",
            filter: None,
            score: Some((1, Normalize::No, image_locality::score)),
        },
    ],
    room: &[
        RoomPlugin {
            name: "NodePorts",
            filter: Some(node_ports::filter),
            fits: Some(node_ports::fits),
            score: None,
        },
        RoomPlugin {
            name: "NodeResourcesFit",
            filter: Some(node_resources_fit::filter),
            fits: Some(node_resources_fit::fits),
            score: Some((1, node_resources_fit::score)),
        },
        RoomPlugin {
            name: "NodeResourcesBalancedAllocation",
            filter: None,
            fits: None,
            score: Some((1, balanced_allocation::score)),
        },
    ],
};
