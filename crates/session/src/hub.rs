//! Who is connected and what each agent needs to hear: an index of bound pods by node with the objects they refer to, and
//! for each session the set of things whose state it may not know. Kept current by the service's watches.

use crate::echo;
use crate::options::{REPLIES_LEN_MAX, SESSIONS_MAX};
use crate::references::{self, Reference};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stoa_store::{Event, EventKind};
use stoa_wire::{Down, Packet, PodRef, Referent};
use tokio::sync::{Notify, mpsc};

/// Something an agent is told the state of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    Pod(PodRef),
    Object(Referent, String, String),
    /// Everything before this was said.
    Synced,
}

/// What an agent is to be told, in the order in which it was marked, each thing once.
#[derive(Default)]
struct Dirty {
    by_turn: BTreeMap<u64, Item>,
    turns: HashMap<Item, u64>,
    next: u64,
}

impl Dirty {
    /// Whether it was not marked yet.
    fn insert(&mut self, item: Item) -> bool {
        if self.turns.contains_key(&item) {
            return false;
        }
        self.turns.insert(item.clone(), self.next);
        self.by_turn.insert(self.next, item);
        self.next += 1;
        true
    }

    fn remove(&mut self, item: &Item) {
        if let Some(turn) = self.turns.remove(item) {
            self.by_turn.remove(&turn);
        }
    }

    fn take(&mut self) -> Option<Item> {
        let (_, item) = self.by_turn.pop_first()?;
        self.turns.remove(&item);
        Some(item)
    }
}

/// One agent's session.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) node: String,
    dirty: Mutex<Dirty>,
    pub(crate) wake: Notify,
    /// Answers and tunnel requests, which are said once.
    pub(crate) replies: mpsc::Sender<Packet<Down>>,
    /// Rings when the agent's last report is to be written once more: somebody changed the node.
    pub(crate) retell: Notify,
    /// Rings when the session is to end: another took its place, or it broke the protocol.
    pub(crate) closed: tokio::sync::watch::Sender<bool>,
}

impl Session {
    fn mark(&self, item: Item) {
        if self.dirty.lock().insert(item) {
            self.wake.notify_one();
        }
    }

    /// The next thing to tell, in the order in which things were marked.
    pub(crate) fn take(&self) -> Option<Item> {
        self.dirty.lock().take()
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }
}

struct Bound {
    node: String,
    uid: String,
    service_account: String,
    references: BTreeSet<Reference>,
}

#[derive(Default)]
struct Index {
    /// By namespace and name.
    pods: HashMap<(String, String), Bound>,
    by_node: HashMap<String, HashSet<(String, String)>>,
    /// How many pods of a node refer to an object.
    needed: HashMap<(Referent, String, String), BTreeMap<String, usize>>,
    /// What every agent hears of, by kind, namespace and name.
    shared: BTreeSet<(Referent, String, String)>,
}

impl Index {
    fn set(&mut self, namespace: &str, name: &str, bound: Option<Bound>) {
        let key = (namespace.to_string(), name.to_string());
        if let Some(old) = self.pods.remove(&key) {
            if let Some(names) = self.by_node.get_mut(&old.node) {
                names.remove(&key);
                if names.is_empty() {
                    self.by_node.remove(&old.node);
                }
            }
            for (kind, object) in old.references {
                let object = (kind, namespace.to_string(), object);
                let Some(nodes) = self.needed.get_mut(&object) else { continue };
                match nodes.get_mut(&old.node) {
                    Some(n) if *n > 1 => *n -= 1,
                    _ => drop(nodes.remove(&old.node)),
                }
                if nodes.is_empty() {
                    self.needed.remove(&object);
                }
            }
        }
        let Some(new) = bound else { return };
        for (kind, object) in &new.references {
            let nodes = self.needed.entry((*kind, namespace.to_string(), object.clone())).or_default();
            *nodes.entry(new.node.clone()).or_default() += 1;
        }
        self.by_node.entry(new.node.clone()).or_default().insert(key.clone());
        self.pods.insert(key, new);
    }
}

/// The sessions and the index.
#[derive(Default)]
pub(crate) struct Hub {
    index: Mutex<Index>,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    next: AtomicU64,
}

/// Why a session cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("this master serves {SESSIONS_MAX} agents already")]
pub(crate) struct Full;

fn read(pod: &[u8]) -> Option<(String, String, Option<Bound>)> {
    let pod: Value = serde_json::from_slice(pod).ok()?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let metadata = &pod["metadata"];
    let node = text(&pod["spec"]["nodeName"]);
    let bound = (!node.is_empty()).then(|| Bound {
        node,
        uid: text(&metadata["uid"]),
        service_account: text(&pod["spec"]["serviceAccountName"]),
        references: references::of(&pod),
    });
    Some((text(&metadata["namespace"]), text(&metadata["name"]), bound))
}

impl Hub {
    /// Takes the pods of the store as they are, in place of what was known, and tells every session everything again.
    pub(crate) fn reset<'a>(&self, pods: impl Iterator<Item = &'a [u8]>) {
        let mut index = Index::default();
        for (namespace, name, bound) in pods.filter_map(read) {
            index.set(&namespace, &name, bound);
        }
        let mut current = self.index.lock();
        index.shared = std::mem::take(&mut current.shared);
        *current = index;
        drop(current);
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            self.mark_all(&session);
        }
    }

    /// Takes in one change of a pod.
    pub(crate) fn pod_changed(&self, event: &Event) {
        if event.kind == EventKind::Put
            && event.previous.as_deref().is_some_and(|p| echo::is_echo(p, &event.value))
        {
            return;
        }
        let Some((namespace, name, bound)) = read(&event.value) else { return };
        let bound = bound.filter(|_| event.kind == EventKind::Put);
        let mut index = self.index.lock();
        let old = index.pods.get(&(namespace.clone(), name.clone()));
        let old = old.map(|o| (o.node.clone(), o.uid.clone(), o.references.clone()));
        let new = bound.as_ref().map(|b| (b.node.clone(), b.uid.clone(), b.references.clone()));
        index.set(&namespace, &name, bound);
        drop(index);
        let reference =
            |uid: &str| PodRef { namespace: namespace.clone(), name: name.clone(), uid: uid.to_string() };
        if let Some((node, uid, _)) = &old
            && new.as_ref().is_none_or(|(n, u, _)| (n, u) != (node, uid))
            && let Some(session) = self.session(node)
        {
            session.mark(Item::Pod(reference(uid)));
        }
        let Some((node, uid, references)) = new else { return };
        let Some(session) = self.session(&node) else { return };
        // The objects first: a pod that comes before what it mounts would only wait.
        for (kind, object) in references {
            let known =
                old.as_ref().is_some_and(|(n, _, r)| *n == node && r.contains(&(kind, object.clone())));
            if !known {
                session.mark(Item::Object(kind, namespace.clone(), object));
            }
        }
        session.mark(Item::Pod(reference(&uid)));
    }

    /// Takes in one change of a ConfigMap or Secret.
    pub(crate) fn object_changed(&self, kind: Referent, namespace: &str, name: &str) {
        let item = (kind, namespace.to_string(), name.to_string());
        let nodes: Vec<String> =
            self.index.lock().needed.get(&item).map(|n| n.keys().cloned().collect()).unwrap_or_default();
        for session in nodes.iter().filter_map(|n| self.session(n)) {
            session.mark(Item::Object(kind, item.1.clone(), item.2.clone()));
        }
    }

    /// Takes the objects of a kind that every agent hears of as they are, in place of what was known.
    pub(crate) fn reset_shared(&self, kind: Referent, present: impl Iterator<Item = (String, String)>) {
        let present: BTreeSet<_> = present.map(|(namespace, name)| (kind, namespace, name)).collect();
        let told: BTreeSet<_> = {
            let mut index = self.index.lock();
            let (known, others) = std::mem::take(&mut index.shared)
                .into_iter()
                .partition::<BTreeSet<_>, _>(|(k, ..)| *k == kind);
            index.shared = others;
            index.shared.extend(present.iter().cloned());
            known.union(&present).cloned().collect()
        };
        told.into_iter().for_each(|(kind, namespace, name)| self.tell_all(kind, &namespace, &name));
    }

    /// Takes in one change of an object that every agent hears of.
    pub(crate) fn shared_changed(&self, kind: Referent, namespace: &str, name: &str, change: EventKind) {
        let item = (kind, namespace.to_string(), name.to_string());
        match change {
            EventKind::Put => drop(self.index.lock().shared.insert(item)),
            EventKind::Delete => drop(self.index.lock().shared.remove(&item)),
        }
        self.tell_all(kind, namespace, name);
    }

    fn tell_all(&self, kind: Referent, namespace: &str, name: &str) {
        for session in self.sessions.lock().values() {
            session.mark(Item::Object(kind, namespace.to_string(), name.to_string()));
        }
    }

    fn mark_all(&self, session: &Session) {
        let mut items = Vec::new();
        {
            let index = self.index.lock();
            items.extend(
                index.shared.iter().map(|(kind, ns, name)| Item::Object(*kind, ns.clone(), name.clone())),
            );
            for key in index.by_node.get(&session.node).into_iter().flatten() {
                let Some(bound) = index.pods.get(key) else { continue };
                for (kind, object) in &bound.references {
                    items.push(Item::Object(*kind, key.0.clone(), object.clone()));
                }
                items.push(Item::Pod(PodRef {
                    namespace: key.0.clone(),
                    name: key.1.clone(),
                    uid: bound.uid.clone(),
                }));
            }
        }
        items.push(Item::Synced);
        let mut dirty = session.dirty.lock();
        // Synced must come after what it speaks of.
        dirty.remove(&Item::Synced);
        for item in items {
            dirty.insert(item);
        }
        drop(dirty);
        session.wake.notify_one();
    }

    /// Begins a session of `node`, in place of one that may still be open.
    pub(crate) fn connect(&self, node: &str) -> Result<(Arc<Session>, mpsc::Receiver<Packet<Down>>), Full> {
        let (replies, receiver) = mpsc::channel(REPLIES_LEN_MAX);
        let session = Arc::new(Session {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            node: node.to_string(),
            dirty: Mutex::default(),
            wake: Notify::new(),
            replies,
            retell: Notify::new(),
            closed: tokio::sync::watch::Sender::new(false),
        });
        let replaced = {
            let mut sessions = self.sessions.lock();
            if sessions.len() >= SESSIONS_MAX && !sessions.contains_key(node) {
                return Err(Full);
            }
            sessions.insert(node.to_string(), session.clone())
        };
        if let Some(old) = replaced {
            old.close();
        }
        self.mark_all(&session);
        Ok((session, receiver))
    }

    /// Ends a session; whether it was still the node's own.
    pub(crate) fn disconnect(&self, session: &Session) -> bool {
        session.close();
        let mut sessions = self.sessions.lock();
        let own = sessions.get(&session.node).is_some_and(|s| s.id == session.id);
        if own {
            sessions.remove(&session.node);
        }
        own
    }

    /// The session of a node, if there is one.
    pub(crate) fn session(&self, node: &str) -> Option<Arc<Session>> {
        self.sessions.lock().get(node).cloned()
    }

    /// Whether the very pod is bound to `node`.
    pub(crate) fn is_bound(&self, node: &str, pod: &PodRef) -> bool {
        let index = self.index.lock();
        let found = index.pods.get(&(pod.namespace.clone(), pod.name.clone()));
        found.is_some_and(|b| b.node == node && b.uid == pod.uid)
    }

    /// Whether the very pod is bound to `node` and runs under `account`.
    pub(crate) fn uses_account(&self, node: &str, pod: &PodRef, account: &str) -> bool {
        let index = self.index.lock();
        let found = index.pods.get(&(pod.namespace.clone(), pod.name.clone()));
        found.is_some_and(|b| b.node == node && b.uid == pod.uid && b.service_account == account)
    }

    /// Whether `node` may see the object: some pod of it refers to it, or everybody may.
    pub(crate) fn is_needed(&self, node: &str, kind: Referent, namespace: &str, name: &str) -> bool {
        if kind.is_shared() {
            return true;
        }
        let index = self.index.lock();
        index
            .needed
            .get(&(kind, namespace.to_string(), name.to_string()))
            .is_some_and(|n| n.contains_key(node))
    }

    /// Tells an agent the state of a pod again.
    pub(crate) fn remind(&self, node: &str, pod: PodRef) {
        if let Some(session) = self.session(node) {
            session.mark(Item::Pod(pod));
        }
    }
}

#[cfg(test)]
mod tests;
