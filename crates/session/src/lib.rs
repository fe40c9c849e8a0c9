//! The leader's end of agents' sessions. An agent dials once and keeps one HTTP/2 connection; on it the pods that are
//! desired there go down, with the ConfigMaps and Secrets they refer to, and statuses, events and requests come up.
//!
//! What goes down is *state, not messages*: each session has a set of things whose state the agent may not know, and a
//! writer that takes one, reads it from the store as it is now, and sends that. So a slow agent costs one small entry per
//! object, never a queue of versions, and one that was away is brought up to date by marking everything. One watch on pods
//! (and one each on ConfigMaps and Secrets) serves all agents.
//!
//! An agent speaks only for itself: its certificate names the node, and whatever it sends is checked against the pods bound
//! to that node. Liveness is the session: when it ends and does not come back in time, the node's Ready becomes Unknown.
//!
//! Flow: `stream` (HTTP in and out) → `hub` (who is connected, who needs what) → `node` (the Node object) and
//! `statuses` (pods' statuses, one writer per agent) → registry. Beside it `node_events` tells people what becomes of
//! nodes. Tunnels (`tunnel`) are further streams of the same connection. Not here: authentication (the door hands over an
//! authenticated user) and eviction from lost nodes.

mod echo;
mod hub;
mod join;
mod mirror;
mod node;
mod node_events;
mod nodes;
mod occurrence;
mod options;
mod references;
mod service;
mod statuses;
mod stream;
mod tunnel;

pub use join::{JoinAuthority, JoinError};
pub use options::Options;
pub use service::{Door, Service};
