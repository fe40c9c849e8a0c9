//! NodeAffinity: node selector, required and preferred node affinity, by labels and by `metadata.name`.

use crate::pod::NodeTerm;
use crate::{NodeInfo, Reason, Shape};

fn matches(term: &NodeTerm, node: &NodeInfo) -> bool {
    !term.is_empty
        && term.labels.matches(&node.labels)
        && term.fields.matches_with(|f| (f == "metadata.name").then_some(node.id.as_str()))
}

/// Whether the node is one that the pod asks for.
pub fn is_wanted(shape: &Shape, node: &NodeInfo) -> bool {
    shape.node_selector.matches(&node.labels)
        && shape.required.as_ref().is_none_or(|terms| terms.iter().any(|t| matches(t, node)))
}

/// Rules out nodes that the pod does not ask for.
pub fn filter(shape: &Shape, node: &NodeInfo) -> Option<Reason> {
    (!is_wanted(shape, node)).then_some(Reason::fixed("node(s) didn't match Pod's node affinity/selector"))
}

/// The weights of the preferred terms that match.
pub fn score(shape: &Shape, node: &NodeInfo) -> i64 {
    // An empty preferred term matches every node: it counts for none.
    shape.preferred.iter().filter(|(_, t)| matches(t, node)).map(|(w, _)| i64::from(*w)).sum()
}
