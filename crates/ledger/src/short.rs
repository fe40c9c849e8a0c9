//! Why a claim was refused.

use crate::Holder;
use std::sync::Arc;
use stoa_units::{AgentId, OfferId, PortSet, Resources};

/// A claim that the book refuses. Nothing has changed when one is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Short {
    /// The book has no such agent.
    #[error("no agent {0}")]
    UnknownAgent(AgentId),
    /// An offer cannot be made of an agent that is disconnected, not ready or cordoned.
    #[error("agent {0} is not active")]
    Inactive(AgentId),
    /// The holder already has a claim.
    #[error("{0} already holds a claim")]
    Held(Holder),
    /// The offer was answered, rescinded or never made.
    #[error("no outstanding offer {0}")]
    UnknownOffer(OfferId),
    /// Offers accepted together are of different agents.
    #[error("offers {0} and {1} are of different agents")]
    MixedAgents(OfferId, OfferId),
    /// The agent, or the offer, has less than is wanted.
    #[error("short of {}", .names.join(", "))]
    Lacks {
        /// The dimensions that are short, by Kubernetes' names.
        names: Vec<String>,
    },
    /// A pool that is not there, or has less than is wanted, or is in use.
    #[error("pool {0} has not what is wanted")]
    Pool(Arc<str>),
    /// Host ports that somebody else holds, or that are outside what the offer has.
    #[error("ports {0} are not free")]
    Ports(PortSet),
}

/// The dimensions, ports aside, in which `have` is below `want`.
pub(crate) fn lacking(have: &Resources, want: &Resources) -> Vec<String> {
    let mut names = Vec::new();
    let fixed = [
        ("cpu", have.milli_cpu, want.milli_cpu),
        ("memory", have.memory_bytes, want.memory_bytes),
        ("ephemeral-storage", have.disk_bytes, want.disk_bytes),
        ("pods", have.pods, want.pods),
    ];
    // Nothing wanted of a dimension is never short, even on an agent that is over-committed in it.
    names.extend(fixed.iter().filter(|(_, h, w)| *w > 0 && w > h).map(|(n, ..)| n.to_string()));
    names.extend(
        want.extended.iter().filter(|(n, w)| have.extended_milli(n) < *w).map(|(n, _)| n.to_string()),
    );
    names
}
