//! What pods that wait say about claims: whether these are bound, from where their volumes are reached, and which volume a
//! claim gets that waits for its first consumer.

use crate::execute::merge;
use crate::service::Core;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use stoa_kube::resources;
use stoa_kube::typed::{PersistentVolume, PersistentVolumeClaim};
use stoa_reconcile::{SELECTED_NODE, claim_ref_of, free_volumes, is_bound, waits_for_consumer};
use stoa_registry::{Context, Target};
use stoa_sched::plugins::volume_binding::{Candidate, Volumes};
use stoa_sched::{ClaimName, PodInfo, node_terms};
use stoa_units::{AgentId, NamespacedName};

/// A class of this provisioner has none.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// A claim that waits for the pod that is being bound.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    claim: Arc<PersistentVolumeClaim>,
    /// The volume that it gets; none where one is made for it.
    volume: Option<String>,
}

enum Claim<'a> {
    Blocked(String),
    Bound(&'a Arc<PersistentVolumeClaim>),
    Waiting(&'a Arc<PersistentVolumeClaim>),
}

impl Core {
    /// The pod with what is known of its claims now.
    pub(crate) fn with_volumes(&mut self, info: Arc<PodInfo>) -> Arc<PodInfo> {
        if info.claims.is_empty() {
            return info;
        }
        self.forget_promises();
        let volumes = Arc::new(self.volumes_of(&info));
        Arc::new(PodInfo { volumes, ..(*info).clone() })
    }

    fn volumes_of(&self, info: &PodInfo) -> Volumes {
        let mut out = Volumes::default();
        let taken: BTreeSet<&str> =
            self.promised.values().flatten().filter_map(|p| p.volume.as_deref()).collect();
        let mut unbound = false;
        for name in &info.claims {
            match self.claim_of(info, name) {
                Claim::Blocked(why) if why.is_empty() => unbound = true,
                Claim::Blocked(why) => return Volumes { blocked: Some(why), ..out },
                Claim::Bound(claim) => {
                    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
                    out.bound.extend(self.world.volumes.get("", name).and_then(|v| reached_from(v)));
                }
                Claim::Waiting(claim) if !self.is_provisioned(claim) => {
                    let free = free_volumes(&self.world, claim).into_iter();
                    let free =
                        free.filter(|v| !taken.contains(v.metadata.name.as_deref().unwrap_or_default()));
                    let candidate = |v: &Arc<PersistentVolume>| Candidate {
                        name: v.metadata.name.clone().unwrap_or_default(),
                        from: reached_from(v),
                    };
                    out.waiting.push(free.map(candidate).collect());
                }
                Claim::Waiting(_) => {}
            }
        }
        out.blocked = unbound.then(|| "pod has unbound immediate PersistentVolumeClaims".to_string());
        out
    }

    /// A claim as the pod finds it. Blocked for no reason of its own means that it is to be bound first.
    fn claim_of(&self, info: &PodInfo, name: &ClaimName) -> Claim<'_> {
        let namespace = &*info.name.namespace;
        let Some(claim) = self.world.claims.get(namespace, &name.name) else {
            return Claim::Blocked(match name.made_for {
                Some(_) => format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {:?}",
                    name.name
                ),
                None => format!("persistentvolumeclaim {:?} not found", name.name),
            });
        };
        let volume = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
        let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if phase == "Lost" {
            let why = "bound to non-existent persistentvolume";
            return Claim::Blocked(format!("persistentvolumeclaim {:?} {why} {volume:?}", name.name));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Claim::Blocked(format!("persistentvolumeclaim {:?} is being deleted", name.name));
        }
        let owners = claim.metadata.owner_references.iter().flatten();
        let ours = owners.filter(|o| o.controller == Some(true)).any(|o| *o.uid == *info.uid);
        if name.made_for.is_some() && !ours {
            return Claim::Blocked(format!(
                "PVC {namespace}/{} was not created for pod {} (pod is not owner)",
                name.name, info.name
            ));
        }
        match () {
            () if is_bound(claim) => Claim::Bound(claim),
            () if volume.is_empty() && waits_for_consumer(&self.world, claim) => Claim::Waiting(claim),
            () => Claim::Blocked(String::new()),
        }
    }

    /// Whether somebody makes volumes for the claim.
    fn is_provisioned(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
        self.world.storage_classes.get("", class).is_some_and(|c| c.provisioner != NO_PROVISIONER)
    }

    /// Keeps for a pod what its claims get on the node that was chosen, until its binding is written.
    pub(crate) fn promise_volumes(&mut self, info: &PodInfo, node: &AgentId) {
        if info.claims.is_empty() {
            return;
        }
        let mut chosen =
            self.snapshot.node(node).and_then(|n| info.volumes.choose(n)).unwrap_or_default().into_iter();
        let mut all = Vec::new();
        for name in &info.claims {
            if let Claim::Waiting(claim) = self.claim_of(info, name) {
                let volume =
                    if self.is_provisioned(claim) { None } else { chosen.next().map(str::to_string) };
                all.push(Promise { claim: claim.clone(), volume });
            }
        }
        if !all.is_empty() {
            self.promised.insert(info.name.clone(), all);
        }
    }

    /// The pod is bound: its claims get their volumes, or whoever makes them is told for which node.
    pub(crate) fn keep_promise(&mut self, pod: &NamespacedName, node: &AgentId) {
        for Promise { claim, volume } in self.promised.get(pod).cloned().unwrap_or_default() {
            let (plural, namespace, name, patch) = match &volume {
                Some(volume) => ("persistentvolumes", "", volume.clone(), claim_ref_of(&claim)),
                None => (
                    "persistentvolumeclaims",
                    claim.metadata.namespace.as_deref().unwrap_or_default(),
                    claim.metadata.name.clone().unwrap_or_default(),
                    json!({"metadata": {"annotations": {SELECTED_NODE: node}}}),
                ),
            };
            let (registry, namespace) = (self.registry.clone(), namespace.to_string());
            self.chores.spawn(async move {
                let Some(resource) = resources().find("", "v1", plural) else { return };
                let target = Target::new(resource, &namespace, &name);
                let change = |v: &mut Value| {
                    // Somebody was faster.
                    if volume.is_none() || v["spec"]["claimRef"].is_null() {
                        merge(v, &patch);
                    }
                    Ok(())
                };
                if let Err(status) = registry.modify(&Context::system("scheduler"), target, change).await {
                    tracing::debug!(%name, error = %status.message, "a claim did not get its volume");
                }
            });
        }
    }

    /// What has been kept by now, or was promised to a pod that is gone, is promised no more.
    fn forget_promises(&mut self) {
        let (world, in_flight) = (&self.world, &self.in_flight);
        self.promised.retain(|pod, all| {
            let waits = |p: &Promise| {
                let m = &p.claim.metadata;
                let name =
                    (m.namespace.as_deref().unwrap_or_default(), m.name.as_deref().unwrap_or_default());
                let now = world.claims.get(name.0, name.1);
                now.is_some_and(|c| c.metadata.uid == m.uid && !is_bound(c))
            };
            let bound = world.pods.get(&pod.namespace, &pod.name).is_some_and(|p| !p.node.is_empty());
            (in_flight.contains(pod) || bound) && all.iter().any(waits)
        });
    }
}

fn reached_from(volume: &PersistentVolume) -> Option<Vec<stoa_sched::NodeTerm>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    affinity.required.as_ref().map(node_terms)
}
