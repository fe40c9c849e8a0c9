//! PodTopologySpread: pods that a selector means are kept even over the domains of a topology key.

use crate::plugins::{node_affinity, taint_toleration};
use crate::pod::Spread;
use crate::snapshot::Without;
use crate::{NodeInfo, PodInfo, Reason, Snapshot};
use std::collections::HashMap;

/// How many matching pods each domain of one constraint has.
struct Count<'a> {
    constraint: &'a Spread,
    domains: HashMap<&'a str, i64>,
    least: i64,
    own: i64,
}

/// All constraints of a pod, counted.
pub struct Spreading<'a>(Vec<Count<'a>>);

/// Counts the pods in every domain.
pub(crate) fn prepare<'a>(snapshot: &'a Snapshot, pod: &'a PodInfo, without: &Without<'_>) -> Spreading<'a> {
    Spreading(pod.spread.iter().map(|c| count(snapshot, pod, c, without)).collect())
}

fn count<'a>(
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
    constraint: &'a Spread,
    without: &Without<'_>,
) -> Count<'a> {
    let mut domains: HashMap<&str, i64> = HashMap::new();
    let counts = |node: &NodeInfo| {
        (!constraint.honor_affinity || node_affinity::is_wanted(&pod.shape, node))
            && (!constraint.honor_taints || taint_toleration::filter(&pod.shape, node).is_none())
    };
    for node in snapshot.nodes.iter().flatten().filter(|n| counts(n)) {
        if let Some(domain) = node.labels.get(&constraint.topology_key) {
            domains.entry(domain).or_default();
        }
    }
    for placed in snapshot.pods_in(&pod.name.namespace) {
        if placed.terminating || without.has(placed) || !constraint.selector.matches(&placed.pod.labels) {
            continue;
        }
        let node = snapshot.node(&placed.node).filter(|n| counts(n));
        let domain = node.and_then(|n| n.labels.get(&constraint.topology_key));
        if let Some(n) = domain.and_then(|d| domains.get_mut(d.as_str())) {
            *n += 1;
        }
    }
    let enough = constraint.min_domains.is_none_or(|min| domains.len() as i64 >= i64::from(min));
    let least = if enough { domains.values().copied().min().unwrap_or(0) } else { 0 };
    let own = i64::from(constraint.selector.matches(&pod.labels));
    Count { constraint, domains, least, own }
}

impl Spreading<'_> {
    /// Rules out nodes whose domain would have too many.
    pub fn filter(&self, node: &NodeInfo) -> Option<Reason> {
        for count in self.0.iter().filter(|c| c.constraint.required) {
            let Some(domain) = node.labels.get(&count.constraint.topology_key) else {
                return Some(Reason::fixed(
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let there = count.domains.get(domain.as_str()).copied().unwrap_or(0);
            if there + count.own - count.least > i64::from(count.constraint.max_skew) {
                return Some(Reason::curable("node(s) didn't match pod topology spread constraints"));
            }
        }
        None
    }

    /// How many matching pods are in the node's domains: the fewer the better.
    pub fn score(&self, node: &NodeInfo) -> i64 {
        let soft = self.0.iter().filter(|c| !c.constraint.required);
        soft.map(|count| {
            let domain = node.labels.get(&count.constraint.topology_key);
            // A node outside all domains is worse than any within.
            domain.map_or(i64::from(u16::MAX), |d| count.domains.get(d.as_str()).copied().unwrap_or(0))
        })
        .sum()
    }
}
