//! NodeAffinity: node selector, required and preferred node affinity, by labels and by `metadata.name`.

use crate::pod::{NodeTerm, required_terms};
use crate::{NodeInfo, Reason, Shape};
use std::collections::BTreeMap;
use stoa_kube::typed::PodSpec;
use stoa_units::LabelSelector;

/// Why nodes are ruled out that are not among those which the pod names.
pub const UNNAMED: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";

/// Why a pod goes nowhere each of whose terms names several nodes at once.
pub const CONFLICT: &str = "pod affinity terms conflict";

/// Why a node that the pod does not ask for is ruled out.
pub const MISMATCH: &str = "node(s) didn't match Pod's node affinity/selector";

fn matches(term: &NodeTerm, node: &str, labels: &BTreeMap<String, String>) -> bool {
    !term.is_empty
        && term.labels.matches(labels)
        && term.fields.matches_with(|f| (f == "metadata.name").then_some(node))
}

fn are_met(
    selector: &LabelSelector,
    required: Option<&[NodeTerm]>,
    node: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector.matches(labels) && required.is_none_or(|terms| terms.iter().any(|t| matches(t, node, labels)))
}

/// Whether the node is meant by one of the terms.
pub(crate) fn is_one_of(terms: &[NodeTerm], node: &NodeInfo) -> bool {
    terms.iter().any(|t| matches(t, node.id.as_str(), &node.labels))
}

/// Whether a node of this name and these labels is one that a pod asks for: what its agent asks once more when the pod
/// comes, since a pod may be bound past the scheduler.
pub fn asks_for(spec: &PodSpec, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let selector = LabelSelector::from_labels(spec.node_selector.iter().flatten());
    are_met(&selector, required_terms(spec).as_deref(), node, labels)
}

/// Whether the node is one that the pod asks for.
pub fn is_wanted(shape: &Shape, node: &NodeInfo) -> bool {
    are_met(&shape.node_selector, shape.required.as_deref(), node.id.as_str(), &node.labels)
}

/// Rules out nodes that the pod does not ask for.
pub fn filter(shape: &Shape, node: &NodeInfo) -> Option<Reason> {
    (!is_wanted(shape, node)).then_some(Reason::fixed(MISMATCH))
}

/// The weights of the preferred terms that match.
pub fn score(shape: &Shape, node: &NodeInfo) -> i64 {
    // An empty preferred term matches every node: it counts for none.
    shape
        .preferred
        .iter()
        .filter(|(_, t)| matches(t, node.id.as_str(), &node.labels))
        .map(|(w, _)| i64::from(*w))
        .sum()
}
