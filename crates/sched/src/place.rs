//! The placement itself.

use crate::frontier::{fits, normalized, reasons};
use crate::plugins::{Normalize, TABLE, inter_pod_affinity, node_affinity, pod_topology_spread};
use crate::snapshot::Without;
use crate::{Decision, Diagnosis, Frontiers, NodeInfo, PodInfo, Reason, Room, Snapshot};

/// Weights of the two plugins that look at other pods.
const SPREAD_WEIGHT: i64 = 2;
const NEIGHBOURS_WEIGHT: i64 = 2;

/// Finds the best node for a pod, or why there is none. Every node is considered; `frontiers` only remembers.
pub fn place(snapshot: &Snapshot, frontiers: &mut Frontiers, pod: &PodInfo) -> Decision {
    if let Some(why) = blocked(pod) {
        let nodes = snapshot.nodes_len();
        return Decision::Unschedulable(Diagnosis { nodes, blocked: Some(why), ..Diagnosis::default() });
    }
    if let Some(name) = pod.shape.only_node() {
        return place_on(snapshot, pod, name);
    }
    let constrained = pod.is_constrained() || inter_pod_affinity::is_guarded_against(snapshot, pod);
    let frontier = frontiers.of(snapshot, pod.shape_hash, &pod.shape);
    if !constrained {
        let has_room =
            |slot: usize| !snapshot.keeps_room() || fits(&pod.shape, &snapshot.room_for(slot, pod));
        let best = frontier.best().filter(|(slot, _)| has_room(*slot)).or_else(|| {
            let all = (0..snapshot.nodes.len()).filter(|_| snapshot.keeps_room());
            let fitting = all
                .filter_map(|slot| Some((slot, frontier.score(slot)?)))
                .filter(|(slot, _)| has_room(*slot));
            fitting.reduce(|best, next| if next.1 > best.1 { next } else { best })
        });
        let best = best.and_then(|(slot, score)| Some((snapshot.nodes[slot].as_ref()?, score)));
        return match best {
            Some((node, score)) => Decision::Node { node: node.id.clone(), score: score.into() },
            None => Decision::Unschedulable(diagnose(snapshot, pod)),
        };
    }
    let spread = pod_topology_spread::prepare(snapshot, pod, &Without::NOBODY);
    let neighbours = inter_pod_affinity::prepare(snapshot, pod, &Without::NOBODY);
    let mut fitting = Vec::new();
    for (slot, node) in snapshot.nodes.iter().enumerate() {
        let (Some(node), Some(score)) = (node, frontier.score(slot)) else { continue };
        let has_room = !snapshot.keeps_room() || fits(&pod.shape, &snapshot.room_for(slot, pod));
        let reached = pod.volumes.filter(node).is_none();
        if has_room && reached && spread.filter(node).is_none() && neighbours.filter(node).is_none() {
            fitting.push((node, i64::from(score), spread.score(node), neighbours.score(node)));
        }
    }
    let crowd_max = fitting.iter().map(|f| f.2).max().unwrap_or(0);
    // Preferences may be negative, so they are measured from the least one.
    let liked_min = fitting.iter().map(|f| f.3).min().unwrap_or(0);
    let liked_max = fitting.iter().map(|f| f.3).max().unwrap_or(0) - liked_min;
    let scored = fitting.into_iter().map(|(node, score, crowd, liked)| {
        let spread = normalized(Normalize::Down, crowd, crowd_max);
        let near = normalized(Normalize::Up, liked - liked_min, liked_max);
        (node, score + SPREAD_WEIGHT * spread + NEIGHBOURS_WEIGHT * near)
    });
    // Of equals the first, so that the outcome does not depend on chance.
    let best = scored.reduce(|best, next| if next.1 > best.1 { next } else { best });
    match best {
        Some((node, score)) => Decision::Node { node: node.id.clone(), score },
        None => Decision::Unschedulable(diagnose(snapshot, pod)),
    }
}

/// Why the pod cannot go anywhere, whatever the nodes are.
fn blocked(pod: &PodInfo) -> Option<String> {
    let conflict = pod.shape.named_nodes().is_some_and(|n| n.is_empty());
    conflict.then(|| node_affinity::CONFLICT.to_string()).or_else(|| pod.volumes.blocked.clone())
}

/// A pod that names its one node, as a daemon's does: no other node is looked at, and no frontier is made for a shape that no
/// other pod will ever have.
fn place_on(snapshot: &Snapshot, pod: &PodInfo, name: &str) -> Decision {
    let fits = snapshot.node_and_room(name, pod).filter(|(node, room)| {
        reasons(&pod.shape, node, room).is_empty() && company(snapshot, pod, node, &Without::NOBODY).is_none()
    });
    match fits {
        Some((node, _)) => Decision::Node { node: node.id.clone(), score: 0 },
        None => Decision::Unschedulable(diagnose(snapshot, pod)),
    }
}

/// Whether a node would take the pod if only it had room: everything but resources and ports speaks for it.
pub fn suits(snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> bool {
    TABLE.node.iter().all(|p| p.filter.is_none_or(|filter| filter(&pod.shape, node).is_none()))
        && company(snapshot, pod, node, &Without::NOBODY).is_none()
}

/// What of a pod's volumes, or of other pods but for some, speaks against a node.
pub(crate) fn company(
    snapshot: &Snapshot,
    pod: &PodInfo,
    node: &NodeInfo,
    without: &Without<'_>,
) -> Option<Reason> {
    let volumes = pod.volumes.filter(node);
    volumes
        .or_else(|| pod_topology_spread::prepare(snapshot, pod, without).filter(node))
        .or_else(|| inter_pod_affinity::prepare(snapshot, pod, without).filter(node))
}

/// Counts, node by node, what rules the pod out.
fn diagnose(snapshot: &Snapshot, pod: &PodInfo) -> Diagnosis {
    let mut out = Diagnosis { claims_devices: pod.shape.claims_devices, ..Diagnosis::default() };
    each_verdict(snapshot, pod, |_, _, why| out.add(why));
    out
}

/// Hands out of each node what rules the pod out there.
pub(crate) fn each_verdict<'a>(
    snapshot: &'a Snapshot,
    pod: &PodInfo,
    mut take: impl FnMut(&'a NodeInfo, &Room, &[Reason]),
) {
    let spread = pod_topology_spread::prepare(snapshot, pod, &Without::NOBODY);
    let neighbours = inter_pod_affinity::prepare(snapshot, pod, &Without::NOBODY);
    let named = pod.shape.named_nodes();
    for (slot, node) in snapshot.nodes.iter().enumerate() {
        let Some(node) = node else { continue };
        let room = snapshot.room_for(slot, pod);
        if named.as_ref().is_some_and(|names| !names.contains(node.id.as_str())) {
            take(node, &room, &[Reason::fixed(node_affinity::UNNAMED)]);
            continue;
        }
        let mut why = reasons(&pod.shape, node, &room);
        if why.is_empty() {
            let volumes = pod.volumes.filter(node);
            why.extend(volumes.or_else(|| spread.filter(node)).or_else(|| neighbours.filter(node)));
        }
        take(node, &room, &why);
    }
}
