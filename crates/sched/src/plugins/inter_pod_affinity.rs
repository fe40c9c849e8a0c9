//! InterPodAffinity: pods near or away from other pods, in the same value of a topology key; also what pods that are
//! placed already demand of newcomers.

use crate::pod::PodTerm;
use crate::snapshot::Without;
use crate::{NodeInfo, PodInfo, Reason, Snapshot};
use std::collections::HashMap;
use std::collections::HashSet;

/// The domains in which pods that a term means are found, and how many.
struct Found<'a> {
    key: &'a str,
    domains: HashMap<&'a str, i64>,
    /// Whether no pod anywhere matches, yet the pod itself does: the first of a group that wants to be together.
    first: bool,
}

/// All terms that bear on a pod, looked up.
pub struct Neighbours<'a> {
    near: Vec<Found<'a>>,
    far: Vec<Found<'a>>,
    preferred: Vec<(i64, Found<'a>)>,
    /// Domains that pods which are placed already want for themselves: key and value.
    guarded: HashSet<(&'a str, &'a str)>,
}

/// Whether a pod that is placed keeps this one away from somewhere.
pub fn is_guarded_against(snapshot: &Snapshot, pod: &PodInfo) -> bool {
    let namespace = &*pod.name.namespace;
    snapshot
        .anti_terms
        .keys()
        .any(|t| t.matches(namespace, &pod.labels, snapshot.namespace_labels(namespace)))
}

/// Looks up where the pods of every term are.
pub(crate) fn prepare<'a>(snapshot: &'a Snapshot, pod: &'a PodInfo, without: &Without<'_>) -> Neighbours<'a> {
    let namespace = &*pod.name.namespace;
    let mut guarded = HashSet::new();
    for (term, nodes) in &snapshot.anti_terms {
        if !term.matches(namespace, &pod.labels, snapshot.namespace_labels(namespace)) {
            continue;
        }
        let guarded_still = nodes.iter().filter(|(id, n)| **n > without.guards(term, id));
        for node in guarded_still.filter_map(|(id, _)| snapshot.node(id)) {
            if let Some(value) = node.labels.get(&term.topology_key) {
                guarded.insert((term.topology_key.as_str(), value.as_str()));
            }
        }
    }
    let look = |term: &'a PodTerm| find(snapshot, pod, term, without);
    Neighbours {
        near: pod.affinity.iter().map(look).collect(),
        far: pod.anti_affinity.iter().map(look).collect(),
        preferred: pod.preferred_pods.iter().map(|(w, t)| (i64::from(*w), look(t))).collect(),
        guarded,
    }
}

fn find<'a>(snapshot: &'a Snapshot, pod: &PodInfo, term: &'a PodTerm, without: &Without<'_>) -> Found<'a> {
    let (mut domains, mut any) = (HashMap::new(), false);
    for placed in snapshot.pods_of(term).filter(|p| !without.has(p)) {
        any = true;
        let node = snapshot.node(&placed.node);
        if let Some(value) = node.and_then(|n| n.labels.get(&term.topology_key)) {
            *domains.entry(value.as_str()).or_default() += 1;
        }
    }
    let namespace = &*pod.name.namespace;
    let own = term.matches(namespace, &pod.labels, snapshot.namespace_labels(namespace));
    Found { key: &term.topology_key, domains, first: !any && own }
}

impl Found<'_> {
    fn at(&self, node: &NodeInfo) -> i64 {
        node.labels.get(self.key).and_then(|v| self.domains.get(v.as_str())).copied().unwrap_or(0)
    }
}

impl Neighbours<'_> {
    /// Rules out nodes in the wrong company.
    pub fn filter(&self, node: &NodeInfo) -> Option<Reason> {
        let near = |f: &Found<'_>| node.labels.contains_key(f.key) && (f.at(node) > 0 || f.first);
        if !self.near.iter().all(near) {
            return Some(Reason::fixed("node(s) didn't match pod affinity rules"));
        }
        if self.far.iter().any(|f| f.at(node) > 0) {
            return Some(Reason::curable("node(s) didn't match pod anti-affinity rules"));
        }
        let guarded = |(key, value): &(&str, &str)| node.labels.get(*key).is_some_and(|v| v == value);
        if self.guarded.iter().any(guarded) {
            return Some(Reason::curable("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        None
    }

    /// The weights of preferred terms, for each pod that matches.
    pub fn score(&self, node: &NodeInfo) -> i64 {
        self.preferred.iter().map(|(weight, f)| weight * f.at(node)).sum()
    }
}
