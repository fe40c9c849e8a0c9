//! Writes bindings: pods and the claims keys of their agents in one transaction, many pods at a time.

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stoa_kube::{Object, Resource, resources};
use stoa_ledger::{Ledger, claim_key};
use stoa_registry::Registry;
use stoa_store::{Error, Key, Store, Txn};
use stoa_units::{AgentId, NamespacedName, Revision, Stamped};

/// Pods in one transaction: with as many claims keys it stays below the store's limit of operations.
const TXN_PODS_MAX: usize = 40;
/// Transactions on their way at the same time. An agent's pods are all in one lane, so that lanes never conflict.
const LANES: usize = 8;
/// How often a binding is tried anew when its agent's claims key has moved.
const TRIES_MAX: usize = 4;
/// Labels that a pod takes over from its node.
const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// A pod that was placed and claimed for.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub pod: NamespacedName,
    pub uid: Arc<str>,
    pub node: AgentId,
}

/// What became of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// It is durable.
    At(Revision),
    /// The pod is gone, ending, bound or not what it was.
    Moot,
    /// Something else went wrong.
    Failed,
}

/// Writes bindings over a registry's store.
#[derive(Clone)]
pub(crate) struct Binder {
    pub registry: Arc<Registry>,
    pub ledger: Arc<Mutex<Ledger>>,
}

impl Binder {
    /// Writes them all; says of each what became of it.
    pub async fn bind(self, bindings: Vec<Binding>) -> Vec<(Binding, Bound)> {
        let agents: BTreeSet<AgentId> = bindings.iter().map(|b| b.node.clone()).collect();
        let lane_of: BTreeMap<AgentId, usize> =
            agents.into_iter().enumerate().map(|(i, a)| (a, i % LANES)).collect();
        let mut lanes: Vec<Vec<Binding>> = vec![Vec::new(); LANES];
        for binding in bindings {
            let lane = lane_of.get(&binding.node).copied().unwrap_or(0);
            lanes[lane].push(binding);
        }
        let runs = lanes.into_iter().filter(|l| !l.is_empty()).map(|lane| self.run(lane));
        join_all(runs).await.into_iter().flatten().collect()
    }

    async fn run(&self, lane: Vec<Binding>) -> Vec<(Binding, Bound)> {
        let mut out = Vec::with_capacity(lane.len());
        for chunk in lane.chunks(TXN_PODS_MAX) {
            match self.write(chunk).await {
                Some(results) => out.extend(results),
                // One of them spoils the transaction: each on its own.
                None => {
                    for one in chunk {
                        out.push((one.clone(), self.write_one(one).await));
                    }
                }
            }
        }
        out
    }

    async fn write_one(&self, binding: &Binding) -> Bound {
        for _ in 0..TRIES_MAX {
            if let Some(mut results) = self.write(std::slice::from_ref(binding)).await {
                return results.pop().map_or(Bound::Failed, |(_, bound)| bound);
            }
        }
        Bound::Failed
    }

    /// One transaction. `None`: something had changed; what is known of the claims keys is up to date now.
    async fn write(&self, chunk: &[Binding]) -> Option<Vec<(Binding, Bound)>> {
        let store = self.registry.store();
        let pods = resources().find("", "v1", "pods")?;
        let (mut txn, mut results, mut agents) = (Txn::new(), Vec::new(), BTreeSet::new());
        for binding in chunk {
            match self.bound(pods, binding) {
                Some((key, revision, value)) => {
                    txn = txn.expect(key.clone(), revision).put(key, value);
                    agents.insert(binding.node.clone());
                    results.push((binding.clone(), Bound::Failed));
                }
                None => results.push((binding.clone(), Bound::Moot)),
            }
        }
        if agents.is_empty() {
            return Some(results);
        }
        for agent in &agents {
            let key = Key::internal("claims", &claim_key(agent));
            let expected = self.ledger.lock().revision(agent);
            txn = txn
                .expect(key.clone(), expected)
                .put(key, Stamped::plain(agent.as_str().as_bytes().to_vec()));
        }
        match store.commit(txn).await {
            Ok(commit) => {
                let mut ledger = self.ledger.lock();
                for agent in &agents {
                    ledger.committed(agent, commit.revision);
                }
                for (_, bound) in results.iter_mut().filter(|(_, b)| *b == Bound::Failed) {
                    *bound = Bound::At(commit.revision);
                }
                Some(results)
            }
            Err(Error::Conflict { .. }) => {
                refresh(&self.ledger, store, &agents);
                None
            }
            Err(e) => {
                tracing::warn!(error = %e, "bindings were not written");
                Some(results)
            }
        }
    }

    /// The pod as it will be, unless it needs no binding any more.
    fn bound(&self, pods: &Resource, binding: &Binding) -> Option<(Key, Revision, Stamped)> {
        let key = self.registry.key(pods, &binding.pod.namespace, &binding.pod.name);
        let entry = self.registry.store().get(&key)?;
        let mut object = Object(serde_json::from_slice::<Value>(&entry.value).ok()?);
        let gone = object.uid() != &*binding.uid || object.deletion_timestamp().is_some();
        if gone || object.0["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty()) {
            return None;
        }
        object.0["spec"]["nodeName"] = binding.node.as_str().into();
        self.copy_topology(&binding.node, &mut object);
        let now = self.registry.clock().now().to_rfc3339_seconds();
        let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
        let status = &mut object.0["status"];
        match status["conditions"].as_array_mut() {
            Some(all) => match all.iter_mut().find(|c| c["type"] == "PodScheduled") {
                Some(there) => *there = condition,
                None => all.push(condition),
            },
            None => status["conditions"] = json!([condition]),
        }
        if let Some(status) = status.as_object_mut() {
            status.remove("nominatedNodeName");
        }
        Some((key, entry.modified, object.to_stamped()))
    }

    fn copy_topology(&self, node: &AgentId, object: &mut Object) {
        let key = Key::object("", "nodes", "", node.as_str());
        let Some(entry) = self.registry.store().get(&key) else { return };
        let Ok(meta) = stoa_kube::Meta::read(&entry.value) else { return };
        for label in TOPOLOGY_LABELS {
            if let Some(value) = meta.labels.get(label) {
                object.labels_mut().insert(label.into(), value.clone().into());
            }
        }
    }
}

/// Reads the claims keys of agents anew.
pub(crate) fn refresh(ledger: &Mutex<Ledger>, store: &Arc<dyn Store>, agents: &BTreeSet<AgentId>) {
    for agent in agents {
        if let Some(entry) = store.get(&Key::internal("claims", &claim_key(agent))) {
            ledger.lock().committed(agent, entry.modified);
        }
    }
}
