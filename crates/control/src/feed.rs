//! What a change of the store means for the ledger and the scheduler: nodes are capacity, bound pods are claims, pods
//! without a node wait.

use crate::service::Core;
use std::collections::BTreeSet;
use std::sync::Arc;
use stoa_kube::Resource;
use stoa_kube::typed::{Node, Pod as TypedPod};
use stoa_ledger::{Agent, Holder};
use stoa_reconcile::Pod;
use stoa_sched::{NodeInfo, PodInfo, plugins};
use stoa_store::{Event, EventKind};
use stoa_units::{AgentId, NamespacedName, PortRange, PortSet};

/// The annotation of a node that says which ports frameworks are offered.
const PORTS: &str = "stoa.dev/ports";
/// The label of a namespace that names its role in the fair-share tree.
const ROLE: &str = "stoa.dev/role";

impl Core {
    /// Takes over one change.
    pub(crate) fn observe(&mut self, event: &Event) {
        let key = &event.key;
        let (Some(group), Some(plural)) = (key.group(), key.resource()) else { return };
        // Custom resources and records of ours have no entry in the table.
        let Some(resource) = stoa_kube::resources().find_stored(group, plural) else { return };
        match event.kind {
            EventKind::Put => self.put(resource, key.namespace(), key.name(), &event.value),
            EventKind::Delete => self.remove(resource, key.namespace(), key.name()),
        }
    }

    /// An object was written.
    pub(crate) fn put(&mut self, resource: &'static Resource, namespace: &str, name: &str, bytes: &[u8]) {
        let is = |plural: &str| resource.storage.is_empty() && resource.plural == plural;
        let before = if is("pods") { self.world.pods.get(namespace, name).cloned() } else { None };
        match self.world.put(resource, bytes) {
            Ok(keys) => keys.into_iter().for_each(|k| self.name(k)),
            Err(e) => {
                tracing::error!(resource = resource.plural, namespace, name, error = %e, "an object cannot be read");
                return;
            }
        }
        match (resource.storage, resource.plural) {
            ("", "pods") => self.put_pod(NamespacedName::new(namespace, name), before, bytes),
            ("", "nodes") => self.put_node(name),
            ("", "namespaces") => self.put_namespace(name),
            // Pods may wait for a claim to be bound.
            ("", "persistentvolumeclaims" | "persistentvolumes" | "storageclasses") => self.room_freed = true,
            _ => {}
        }
    }

    /// An object was removed.
    pub(crate) fn remove(&mut self, resource: &'static Resource, namespace: &str, name: &str) {
        let keys = self.world.remove(resource, namespace, name);
        keys.into_iter().for_each(|k| self.name(k));
        match (resource.storage, resource.plural) {
            ("", "pods") => self.drop_pod(&NamespacedName::new(namespace, name)),
            ("", "nodes") => {
                let id = AgentId::from(name);
                self.snapshot.remove_node(&id);
                // Offers of it are void; whoever made them sees that in the ledger.
                drop(self.ledger.lock().remove_agent(&id));
                self.ledger_touched = true;
            }
            ("", "namespaces") => {
                self.snapshot.set_namespace(name, None);
                self.ledger.lock().set_namespace_role(name, None);
            }
            _ => {}
        }
    }

    fn put_pod(&mut self, name: NamespacedName, before: Option<Arc<Pod>>, bytes: &[u8]) {
        let Some(pod) = self.world.pods.get(&name.namespace, &name.name).cloned() else { return };
        if before.as_ref().is_some_and(|b| *b.id.uid != *pod.id.uid) {
            self.drop_pod(&name);
        }
        if pod.is_ended() {
            return self.drop_pod(&name);
        }
        let same = |b: &Arc<Pod>| {
            *b.id.uid == *pod.id.uid
                && b.node == pod.node
                && b.generation == pod.generation
                && b.labels == pod.labels
                && b.deleting == pod.deleting
        };
        if before.as_ref().is_some_and(same) {
            // A status: nothing that concerns placement.
            return;
        }
        let (info, nominated) = match serde_json::from_slice::<TypedPod>(bytes) {
            Ok(typed) => {
                let spec = typed.spec.as_ref();
                let scheduler = spec.and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler");
                if pod.node.is_empty() && scheduler != self.options.scheduler_name {
                    return;
                }
                let nominated = typed.status.as_ref().and_then(|s| s.nominated_node_name.clone());
                (Arc::new(PodInfo::read(&typed)), nominated.filter(|n| !n.is_empty()))
            }
            Err(e) => return tracing::error!(pod = %name, error = %e, "a pod cannot be read"),
        };
        if pod.node.is_empty() {
            return self.wait(name, &pod, info, nominated);
        }
        let node = AgentId::from(pod.node.as_str());
        self.ledger.lock().force_claim(&node, Holder::Pod(name.clone()), &info.shape.requests);
        self.ledger_touched = true;
        self.queue.remove(&name);
        self.pending.remove(&name);
        self.withdraw(&name);
        self.bound.insert(name);
        self.snapshot.add_pod(info, &node, pod.deleting);
    }

    fn wait(&mut self, name: NamespacedName, pod: &Pod, info: Arc<PodInfo>, nominated: Option<String>) {
        if pod.deleting {
            self.queue.remove(&name);
            self.pending.remove(&name);
            self.withdraw(&name);
        } else if let Some(message) = plugins::scheduling_gates::message(&info) {
            self.report(pod, "SchedulingGated", message.to_string());
        } else if !self.in_flight.contains(&name) {
            // Room was being made for it when another leader scheduled.
            if let Some(node) = nominated {
                self.snapshot.nominate(info.clone(), &AgentId::from(node));
            }
            self.queue.add(name.clone(), info.priority, pod.created);
            self.pending.insert(name, info);
        }
    }

    fn drop_pod(&mut self, name: &NamespacedName) {
        self.queue.remove(name);
        self.pending.remove(name);
        self.withdraw(name);
        self.snapshot.remove_pod(name);
        self.bound.remove(name);
        // One in flight is settled, and its claim with it, when the outcome of its binding is known.
        if self.in_flight.contains(name) {
            return;
        }
        if self.ledger.lock().release(&Holder::Pod(name.clone())).is_some() {
            self.ledger_touched = true;
            self.room_freed = true;
        }
    }

    fn put_node(&mut self, name: &str) {
        let Some(node) = self.world.nodes.get("", name).cloned() else { return };
        let info = NodeInfo::read(&node);
        let id = info.id.clone();
        let mut capacity = info.allocatable.clone();
        capacity.ports = node
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(PORTS))
            .map(|text| parse_ports(text))
            .unwrap_or_default();
        let active = is_ready(&node)
            && !info.unschedulable
            && info.taints.iter().all(|t| t.effect == "PreferNoSchedule");
        if self.snapshot.node(&id) != Some(&info) {
            self.snapshot.set_node(info);
            self.room_freed = true;
        }
        let mut ledger = self.ledger.lock();
        ledger.set_agent(Agent { id: id.clone(), capacity, active });
        self.snapshot.sync_node(&ledger, &id);
        self.ledger_touched = true;
    }

    fn put_namespace(&mut self, name: &str) {
        let Some(namespace) = self.world.namespaces.get("", name) else { return };
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        if self.roles.get(name).map(String::as_str) != labels.get(ROLE).map(String::as_str) {
            let role = labels.get(ROLE).cloned();
            self.ledger.lock().set_namespace_role(name, role.as_deref());
            match role {
                Some(role) => self.roles.insert(name.to_string(), role),
                None => self.roles.remove(name),
            };
        }
        self.snapshot.set_namespace(name, Some(labels));
    }

    /// Gives back what an earlier life of this view had claimed for pods and nodes that are gone by now.
    pub(crate) fn settle(&mut self, pods: BTreeSet<NamespacedName>, agents: Vec<AgentId>) {
        let mut ledger = self.ledger.lock();
        for name in pods.iter().filter(|n| !self.bound.contains(*n)) {
            ledger.release(&Holder::Pod(name.clone()));
        }
        for id in agents.iter().filter(|id| self.snapshot.node(id).is_none()) {
            drop(ledger.remove_agent(id));
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Mesos' form, `[31000-32000, 33000-33000]`. What cannot be read is not offered.
fn parse_ports(text: &str) -> PortSet {
    let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
    PortSet::from_ranges(inner.split(',').filter_map(|range| {
        let (begin, end) = range.trim().split_once('-')?;
        Some(PortRange { begin: begin.trim().parse().ok()?, end: end.trim().parse().ok()? })
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_are_read_and_nonsense_is_not_offered() {
        assert_eq!(super::parse_ports("[31000-31001, 33000-33000]").len(), 3);
        assert_eq!(super::parse_ports("all of them").len(), 0);
    }
}
