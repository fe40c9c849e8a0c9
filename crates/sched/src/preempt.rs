//! DefaultPreemption: which pods of lower priority to evict, and where, so that a pod that fits nowhere fits.

use crate::frontier::{fits, reasons};
use crate::plugins::{inter_pod_affinity, pod_topology_spread};
use crate::{Placed, PodInfo, Room, Snapshot};
use std::cmp::Reverse;
use stoa_units::{AgentId, NamespacedName, PortSet, Time};

/// What to evict; nobody, where those that are going already make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preemption {
    /// Where the pod will fit then.
    pub node: AgentId,
    /// Which pods go, by name and uid.
    pub victims: Vec<(NamespacedName, String)>,
}

/// The cheapest set of victims on one node: the lowest highest priority, then the lowest sum, then the fewest, then
/// those that started last. `None` if no eviction helps.
pub fn preempt(snapshot: &Snapshot, pod: &PodInfo) -> Option<Preemption> {
    if !pod.may_preempt {
        return None;
    }
    let mut best: Option<(Cost, Preemption)> = None;
    for (slot, node) in snapshot.nodes.iter().enumerate() {
        let Some(node) = node else { continue };
        let room = &snapshot.room_for(slot, pod);
        let why = reasons(&pod.shape, node, room);
        if why.is_empty() || why.iter().any(|r| !r.resolvable) {
            continue;
        }
        // Company is judged as it is now: evictions that would change it are not planned.
        let spread = pod_topology_spread::prepare(snapshot, pod).filter(node);
        if spread.or_else(|| inter_pod_affinity::prepare(snapshot, pod).filter(node)).is_some() {
            continue;
        }
        let Some(victims) = victims(snapshot, pod, room, &node.id) else { continue };
        let cost = cost(&victims);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            let victims = victims.iter().map(|p| (p.pod.name.clone(), p.pod.uid.to_string())).collect();
            best = Some((cost, Preemption { node: node.id.clone(), victims }));
        }
    }
    best.map(|(_, plan)| plan)
}

type Cost = (i32, i64, usize, Reverse<Time>);

fn cost(victims: &[&Placed]) -> Cost {
    let highest = victims.iter().map(|v| v.pod.priority).max().unwrap_or(i32::MIN);
    // Shifted so that more victims of negative priority are not cheaper than fewer.
    let sum = victims.iter().map(|v| i64::from(v.pod.priority) + i64::from(i32::MAX) + 1).sum();
    let earliest = victims.iter().map(|v| v.pod.started).min().unwrap_or(Time::EPOCH);
    (highest, sum, victims.len(), Reverse(earliest))
}

/// Takes all pods of lower priority away, then puts back, most important first, whatever still fits.
fn victims<'a>(
    snapshot: &'a Snapshot,
    pod: &PodInfo,
    room: &Room,
    node: &AgentId,
) -> Option<Vec<&'a Placed>> {
    let mut lower: Vec<&Placed> = snapshot.pods_on(node).filter(|p| p.pod.priority < pod.priority).collect();
    lower.sort_by_key(|p| (Reverse(p.pod.priority), p.pod.started));
    let mut left = room.clone();
    for p in &lower {
        take(&mut left, p);
    }
    if !fits(&pod.shape, &left) {
        return None;
    }
    let mut chosen = Vec::new();
    for p in lower {
        let before = left.clone();
        left.used = left.used.plus(&amounts(p));
        left.ports = left.ports.union(&p.pod.shape.requests.ports);
        if !fits(&pod.shape, &left) {
            left = before;
            chosen.push(p);
        }
    }
    // Victims that are going already need no second eviction: their room comes by itself.
    if chosen.iter().all(|p| p.terminating) { Some(Vec::new()) } else { Some(chosen) }
}

fn amounts(p: &Placed) -> stoa_units::Resources {
    stoa_units::Resources { ports: PortSet::EMPTY, ..p.pod.shape.requests.clone() }
}

fn take(room: &mut Room, p: &Placed) {
    room.used = room.used.minus(&amounts(p));
    room.ports = room.ports.difference(&p.pod.shape.requests.ports);
}
