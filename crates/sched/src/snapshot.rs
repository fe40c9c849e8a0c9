//! The cluster as placement sees it: dense vectors of nodes, kept current by small changes.

use crate::pod::PodTerm;
use crate::{NodeInfo, PodInfo, Room};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use stoa_ledger::Ledger;
use stoa_units::{AgentId, NamespacedName, PortSet, Resources};

/// Changes of rooms are remembered this many; a frontier that is further behind is made anew.
const CHANGES_LEN_MAX: usize = 65_536;

/// What a pod without requests is assumed to use when nodes are compared, as the stock scheduler has it.
const PAD_MILLI_CPU: u64 = 100;
const PAD_MEMORY_BYTES: u64 = 200 << 20;

/// A pod that is on a node.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// Its node.
    pub node: AgentId,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// Pods that are thought away: what would be if they were evicted.
#[derive(Default)]
pub(crate) struct Without<'a>(BTreeMap<&'a NamespacedName, &'a Placed>);

impl<'a> Without<'a> {
    pub const NOBODY: Without<'static> = Without(BTreeMap::new());

    pub fn add(&mut self, placed: &'a Placed) {
        self.0.insert(&placed.pod.name, placed);
    }

    pub fn remove(&mut self, placed: &Placed) {
        self.0.remove(&placed.pod.name);
    }

    pub fn has(&self, placed: &Placed) -> bool {
        self.0.contains_key(&placed.pod.name)
    }

    /// How many of them on a node keep others away by a term.
    pub fn guards(&self, term: &PodTerm, node: &AgentId) -> usize {
        let all = self.0.values().filter(|p| p.node == *node);
        all.map(|p| p.pod.anti_affinity.iter().filter(|t| *t == term).count()).sum()
    }
}

/// The cluster at a moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) nodes: Vec<Option<NodeInfo>>,
    pub(crate) rooms: Vec<Room>,
    slots: HashMap<AgentId, usize>,
    vacant: Vec<usize>,
    pods: HashMap<NamespacedName, Placed>,
    by_node: HashMap<AgentId, BTreeSet<NamespacedName>>,
    by_namespace: HashMap<Arc<str>, BTreeSet<NamespacedName>>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    /// Pods for which evictions make room, and where; by node, those that wait for it.
    nominated: HashMap<NamespacedName, AgentId>,
    awaited: HashMap<AgentId, Vec<Arc<PodInfo>>>,
    /// Required anti-affinity of pods that are placed: each distinct term, and how many pods have it on which node.
    pub(crate) anti_terms: BTreeMap<PodTerm, BTreeMap<AgentId, usize>>,
    /// Moves whenever what nodes *are* changes.
    pub(crate) layout: u64,
    /// Slots whose room changed, in order; the first is change number `changes_from`.
    changes: Vec<u32>,
    changes_from: u64,
    ledger_generation: u64,
}

fn padding(pod: &PodInfo) -> (u64, u64) {
    let r = &pod.shape.requests;
    (if r.milli_cpu == 0 { PAD_MILLI_CPU } else { 0 }, if r.memory_bytes == 0 { PAD_MEMORY_BYTES } else { 0 })
}

impl Snapshot {
    /// Nothing yet.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// Adds a node or says what it is now.
    pub fn set_node(&mut self, node: NodeInfo) {
        let slot = match self.slots.get(&node.id) {
            Some(slot) if self.nodes[*slot].as_ref() == Some(&node) => return,
            Some(slot) => *slot,
            None => {
                let slot = self.vacant.pop().unwrap_or_else(|| {
                    self.nodes.push(None);
                    self.rooms.push(Room::default());
                    self.nodes.len() - 1
                });
                self.slots.insert(node.id.clone(), slot);
                let mut padding = (0, 0);
                for name in self.by_node.get(&node.id).into_iter().flatten() {
                    let pad = self.pods.get(name).map_or((0, 0), |p| self::padding(&p.pod));
                    padding = (padding.0 + pad.0, padding.1 + pad.1);
                }
                self.rooms[slot] = Room { padding, ..Room::default() };
                slot
            }
        };
        self.rooms[slot].allocatable = node.allocatable.clone();
        self.nodes[slot] = Some(node);
        self.layout += 1;
        self.changed(slot);
    }

    /// Forgets a node. Pods that are on it stay known until they are removed.
    pub fn remove_node(&mut self, id: &AgentId) {
        if let Some(slot) = self.slots.remove(id) {
            self.nodes[slot] = None;
            self.rooms[slot] = Room::default();
            self.vacant.push(slot);
            self.layout += 1;
            self.changed(slot);
        }
    }

    /// The node.
    pub fn node(&self, id: &AgentId) -> Option<&NodeInfo> {
        self.nodes[*self.slots.get(id)?].as_ref()
    }

    /// The node of that name, and its room as the pod sees it.
    pub(crate) fn node_and_room(&self, name: &str, pod: &PodInfo) -> Option<(&NodeInfo, Cow<'_, Room>)> {
        let slot = *self.slots.get(&AgentId::from(name))?;
        Some((self.nodes[slot].as_ref()?, self.room_for(slot, pod)))
    }

    /// How many nodes there are.
    pub fn nodes_len(&self) -> usize {
        self.slots.len()
    }

    /// The labels of a namespace.
    pub fn set_namespace(&mut self, name: &str, labels: Option<BTreeMap<String, String>>) {
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.to_string(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
    }

    pub(crate) fn namespace_labels(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)
    }

    /// Takes over what the ledger says is claimed, of those agents that changed.
    pub fn sync(&mut self, ledger: &Ledger) {
        let changed = match ledger.changes_since(self.ledger_generation) {
            Some(changed) => changed,
            None => self.slots.keys().cloned().collect(),
        };
        self.ledger_generation = ledger.generation();
        for id in changed {
            self.sync_node(ledger, &id);
        }
    }

    /// Takes over what the ledger says about one node: after it was added.
    pub fn sync_node(&mut self, ledger: &Ledger, id: &AgentId) {
        let Some(slot) = self.slots.get(id).copied() else { return };
        let mut used = ledger.used(id);
        let ports = std::mem::take(&mut used.ports);
        let room = &mut self.rooms[slot];
        if room.used != used || room.ports != ports {
            (room.used, room.ports) = (used, ports);
            self.changed(slot);
        }
    }

    /// A pod is on a node: it was bound, or seen there. Idempotent.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>, node: &AgentId, terminating: bool) {
        self.remove_pod(&pod.name.clone());
        let name = pod.name.clone();
        self.by_node.entry(node.clone()).or_default().insert(name.clone());
        self.by_namespace.entry(name.namespace.clone()).or_default().insert(name.clone());
        for term in &pod.anti_affinity {
            *self.anti_terms.entry(term.clone()).or_default().entry(node.clone()).or_default() += 1;
        }
        self.pad(node, &pod, u64::saturating_add);
        self.pods.insert(name, Placed { pod, node: node.clone(), terminating });
    }

    /// A pod is to be evicted, or is not any more: from here on nobody counts upon evicting it.
    pub fn set_terminating(&mut self, name: &NamespacedName, terminating: bool) {
        if let Some(placed) = self.pods.get_mut(name) {
            placed.terminating = terminating;
        }
    }

    /// A pod is gone, or ended.
    pub fn remove_pod(&mut self, name: &NamespacedName) {
        let Some(Placed { pod, node, .. }) = self.pods.remove(name) else { return };
        if let Some(set) = self.by_node.get_mut(&node) {
            set.remove(name);
            if set.is_empty() {
                self.by_node.remove(&node);
            }
        }
        if let Some(set) = self.by_namespace.get_mut(&name.namespace) {
            set.remove(name);
            if set.is_empty() {
                self.by_namespace.remove(&name.namespace);
            }
        }
        for term in &pod.anti_affinity {
            let Some(nodes) = self.anti_terms.get_mut(term) else { continue };
            if let Some(count) = nodes.get_mut(&node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&node);
                }
            }
            if nodes.is_empty() {
                self.anti_terms.remove(term);
            }
        }
        self.pad(&node, &pod, u64::saturating_sub);
    }

    fn pad(&mut self, node: &AgentId, pod: &PodInfo, apply: fn(u64, u64) -> u64) {
        let (cpu, memory) = padding(pod);
        let Some(slot) = self.slots.get(node).copied().filter(|_| cpu + memory > 0) else { return };
        let padding = &mut self.rooms[slot].padding;
        *padding = (apply(padding.0, cpu), apply(padding.1, memory));
        self.changed(slot);
    }

    /// Room is being made for a pod on a node: whatever comes free there is kept from pods of no higher priority, which
    /// would otherwise take it while those that were evicted still end.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &AgentId) {
        self.withdraw(&pod.name);
        self.nominated.insert(pod.name.clone(), node.clone());
        self.awaited.entry(node.clone()).or_default().push(pod);
    }

    /// No room is kept for the pod any more; returns whether there was.
    pub fn withdraw(&mut self, name: &NamespacedName) -> bool {
        let Some(node) = self.nominated.remove(name) else { return false };
        if let Some(waiting) = self.awaited.get_mut(&node) {
            waiting.retain(|p| p.name != *name);
            if waiting.is_empty() {
                self.awaited.remove(&node);
            }
        }
        true
    }

    /// Where room is being made for the pod.
    pub fn nomination(&self, name: &NamespacedName) -> Option<&AgentId> {
        self.nominated.get(name)
    }

    /// Whether room is kept anywhere.
    pub(crate) fn keeps_room(&self) -> bool {
        !self.nominated.is_empty()
    }

    /// A node's room as the pod sees it: without what is kept for others that come before it.
    pub(crate) fn room_for(&self, slot: usize, pod: &PodInfo) -> Cow<'_, Room> {
        let node = self.nodes[slot].as_ref().filter(|_| self.keeps_room());
        let waiting = node.and_then(|n| self.awaited.get(&n.id)).into_iter().flatten();
        let mut room = Cow::Borrowed(&self.rooms[slot]);
        for other in waiting.filter(|o| o.priority >= pod.priority && o.name != pod.name) {
            let wanted = &other.shape.requests;
            let kept = room.to_mut();
            kept.used = kept.used.plus(&Resources { ports: PortSet::EMPTY, ..wanted.clone() });
            kept.ports = kept.ports.union(&wanted.ports);
        }
        room
    }

    /// The pods on a node.
    pub fn pods_on(&self, node: &AgentId) -> impl Iterator<Item = &Placed> {
        self.by_node.get(node).into_iter().flatten().filter_map(|n| self.pods.get(n))
    }

    /// The pods that a term means.
    pub(crate) fn pods_of<'a>(&'a self, term: &'a PodTerm) -> impl Iterator<Item = &'a Placed> {
        let all = term.namespace_selector.is_some();
        let everywhere = self.by_namespace.values().filter(move |_| all).flatten();
        let listed = term
            .namespaces
            .iter()
            .filter(move |_| !all)
            .filter_map(|n| self.by_namespace.get(n.as_str()))
            .flatten();
        everywhere.chain(listed).filter_map(|n| self.pods.get(n)).filter(|p| {
            let ns = &*p.pod.name.namespace;
            term.matches(ns, &p.pod.labels, self.namespace_labels(ns))
        })
    }

    /// The pods of a namespace.
    pub(crate) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &Placed> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|n| self.pods.get(n))
    }

    fn changed(&mut self, slot: usize) {
        if self.changes.len() >= CHANGES_LEN_MAX {
            self.changes_from += self.changes.len() as u64;
            self.changes.clear();
        }
        self.changes.push(slot as u32);
    }

    /// The number that the next change will have.
    pub(crate) fn changes_to(&self) -> u64 {
        self.changes_from + self.changes.len() as u64
    }

    /// The slots that changed since; `None` if that is too long ago to tell.
    pub(crate) fn changes_since(&self, from: u64) -> Option<&[u32]> {
        let start = usize::try_from(from.checked_sub(self.changes_from)?).ok()?;
        self.changes.get(start..)
    }
}
