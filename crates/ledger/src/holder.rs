//! Who may hold a piece of an agent, and what a claim and an agent are in the book.

use std::fmt;
use std::sync::Arc;
use stoa_units::{AgentId, NamespacedName, OfferId, Resources};

/// Who holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A pod bound to the agent; a Mesos task is one too.
    Pod(NamespacedName),
    /// An offer that a framework has not answered yet.
    Offer(OfferId),
    /// What nobody has drawn of a pool on an agent: only those whom it is reserved for may.
    Pool(AgentId, Arc<str>),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Pod(p) => write!(f, "pod {p}"),
            Holder::Offer(o) => write!(f, "offer {o}"),
            Holder::Pool(agent, name) => write!(f, "pool {name} of agent {agent}"),
        }
    }
}

/// A machine as the book sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name.
    pub id: AgentId,
    /// What workloads may use (a node's `allocatable`). `ports` is what frameworks are offered (Mesos `ports`); pods
    /// may take any host port that is free.
    pub capacity: Resources,
    /// Whether offers may be made of it: connected, ready and not cordoned.
    pub active: bool,
}

/// One claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The agent that it is on.
    pub agent: AgentId,
    /// How much.
    pub amount: Resources,
    /// Who pays in the fair-share tree: a Mesos role, or `kubernetes/<namespace>`.
    pub role: Arc<str>,
}
