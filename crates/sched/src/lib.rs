//! Pod placement: a snapshot of the cluster and a pod in, a node or the reasons against every node out.
//!
//! A placement filters and scores *every* node, without sampling, and yet costs O(changes since the last one): pods of one
//! [`Shape`] (same requests, selectors, tolerations, ports) share a [`Frontiers`] entry, a tournament tree over all nodes'
//! scores in which only nodes that changed are looked at again. Only pods whose fate depends on other pods (affinity,
//! topology spread) scan the nodes.
//!
//! One file a plugin below `plugins`, one table that lists them ([`plugins::TABLE`]); messages are the stock
//! scheduler's. [`Queue`] holds the pods that wait, [`preempt()`] plans evictions. No clock, no I/O, no chance: the caller
//! passes time in and carries decisions out.

mod decision;
mod frontier;
mod node;
mod place;
pub mod plugins;
mod pod;
mod preempt;
mod queue;
mod snapshot;
mod tree;

pub use decision::{Decision, Diagnosis, Reason, Tried};
pub use frontier::Frontiers;
pub use node::{NodeInfo, Room};
pub use place::{place, suits};
pub use pod::{ClaimName, NodeTerm, PodInfo, Shape, node_terms, requests};
pub use preempt::{Budget, Preemption, preempt};
pub use queue::{BACKOFF_MAX, BACKOFF_MIN, Queue};
pub use snapshot::{Placed, Snapshot};

#[cfg(test)]
mod tests;
