//! VolumeBinding: a pod waits for claims that are to be bound first, and goes where its volumes can be reached. Claims that wait
//! for their first consumer get a volume of the node that is chosen.

use crate::plugins::node_affinity;
use crate::pod::NodeTerm;
use crate::{NodeInfo, Reason};
use std::collections::HashSet;

/// A volume that a claim may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// From which nodes it is reached; from all where it says nothing.
    pub from: Option<Vec<NodeTerm>>,
}

/// What is known of a pod's claims at the moment of its placement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Why the pod cannot go anywhere yet.
    pub blocked: Option<String>,
    /// From where the volumes of bound claims are reached.
    pub bound: Vec<Vec<NodeTerm>>,
    /// Of each claim that waits for its first consumer and that nobody provisions for: the volumes that would do, best first.
    pub waiting: Vec<Vec<Candidate>>,
}

impl Volumes {
    /// Whether they leave every node open.
    pub fn is_empty(&self) -> bool {
        self.blocked.is_none() && self.bound.is_empty() && self.waiting.is_empty()
    }

    /// Rules out nodes from which a volume is not reached.
    pub fn filter(&self, node: &NodeInfo) -> Option<Reason> {
        if !self.bound.iter().all(|terms| node_affinity::is_one_of(terms, node)) {
            return Some(Reason::fixed("node(s) didn't match PersistentVolume's node affinity"));
        }
        self.choose(node)
            .is_none()
            .then_some(Reason::fixed("node(s) didn't find available persistent volumes to bind"))
    }

    /// A volume for each claim that waits, no two of them the same; nothing if there are not enough.
    pub fn choose(&self, node: &NodeInfo) -> Option<Vec<&str>> {
        let (mut taken, mut out) = (HashSet::new(), Vec::new());
        for candidates in &self.waiting {
            let fits = |c: &&Candidate| {
                let reached = c.from.as_ref().is_none_or(|terms| node_affinity::is_one_of(terms, node));
                reached && !taken.contains(c.name.as_str())
            };
            let found = candidates.iter().find(fits)?.name.as_str();
            taken.insert(found);
            out.push(found);
        }
        Some(out)
    }
}
