//! ReplicaSets: as many pods as wanted. Whom to delete first is decided as the stock controller decides it.

use crate::deployment::differs;
use crate::meta::{id, is_deleting, owner_reference, resource, selector};
use crate::{Action, Announce, Key, ObjectId, OnExists, Pod, Propagation, World};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use stoa_kube::typed::{ObjectMeta, PodTemplateSpec};
use stoa_units::{LabelSelector, Time};

/// Pods created or deleted in one look, as the stock controller bounds it.
pub(crate) const BURST_LEN_MAX: usize = 500;

/// The condition of a set that cannot make or delete its pods. Whoever carries out the plan sets it, for a plan cannot know.
const FAILURE: &str = "ReplicaFailure";

/// What ReplicaSets and ReplicationControllers have in common, which is all.
struct Set<'a> {
    id: ObjectId,
    meta: &'a ObjectMeta,
    selects: LabelSelector,
    replicas: i32,
    min_ready: i32,
    template: PodTemplateSpec,
    status: Value,
}

/// Looks at one ReplicaSet.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(set) = world.replica_sets.get(&key.namespace, &key.name) else { return Vec::new() };
    let Some(spec) = &set.spec else { return Vec::new() };
    let Some(selects) = selector(&spec.selector) else { return Vec::new() };
    look(
        world,
        &Set {
            id: id(resource("apps", "replicasets"), &set.metadata),
            meta: &set.metadata,
            selects,
            replicas: spec.replicas.unwrap_or(1),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
            template: spec.template.clone().unwrap_or_default(),
            status: json!(set.status),
        },
    )
}

/// Looks at one ReplicationController.
pub(crate) fn reconcile_controller(world: &World, key: &Key) -> Vec<Action> {
    let Some(set) = world.replication_controllers.get(&key.namespace, &key.name) else { return Vec::new() };
    let Some(spec) = &set.spec else { return Vec::new() };
    let Some(selects) = spec.selector.as_ref().filter(|s| !s.is_empty()) else { return Vec::new() };
    look(
        world,
        &Set {
            id: id(resource("", "replicationcontrollers"), &set.metadata),
            meta: &set.metadata,
            selects: LabelSelector::from_labels(selects),
            replicas: spec.replicas.unwrap_or(1),
            min_ready: spec.min_ready_seconds.unwrap_or(0),
            template: spec.template.clone().unwrap_or_default(),
            status: json!(set.status),
        },
    )
}

fn look(world: &World, set: &Set<'_>) -> Vec<Action> {
    let owner = &set.id;
    let mut actions = Vec::new();
    let pods: Vec<Arc<Pod>> = world.pods.owned_by(&owner.uid).cloned().collect();
    let mut active: Vec<Arc<Pod>> = Vec::new();
    for pod in &pods {
        if !set.selects.matches(&pod.labels) && !pod.deleting {
            actions.push(give_up(pod, owner));
        } else if pod.is_active() {
            active.push(pod.clone());
        }
    }
    let wanted = usize::try_from(set.replicas).unwrap_or(0);
    let mut steps = Vec::new();
    if !is_deleting(set.meta) {
        let adopted = adopt(world, owner, &set.selects, &mut actions);
        let have = active.len() + adopted;
        if have < wanted {
            let missing = (wanted - have).min(BURST_LEN_MAX);
            steps.extend((0..missing).map(|_| create(owner, &set.template)));
        } else if have > wanted {
            let excess = (active.len().saturating_sub(wanted)).min(BURST_LEN_MAX);
            let ranks = ranks(world, set.meta, &active);
            active.sort_by_key(|p| order(p, &ranks));
            steps.extend(active.iter().take(excess).map(|p| delete(p, owner)));
        }
    }
    let terminating = pods.iter().filter(|p| p.deleting && !p.is_ended()).count();
    let failing = conditions(set).any(|c| c["type"] == FAILURE);
    let status = write_status(world, set, &active, terminating, failing && steps.is_empty());
    // Where something failed before it may fail again, and then nothing after it is done.
    let (first, then) = if failing { (status, steps) } else { (steps, status) };
    actions.extend(first);
    actions.extend(then);
    actions
}

/// A pod of an owner, from its template.
pub(crate) fn from_template(owner: &ObjectId, template: &PodTemplateSpec) -> Value {
    let meta = template.metadata.clone().unwrap_or_default();
    let mut metadata = json!({"generateName": format!("{}-", owner.name), "namespace": owner.namespace,
        "ownerReferences": [owner_reference(owner)]});
    if let Some(labels) = meta.labels {
        metadata["labels"] = json!(labels);
    }
    if let Some(annotations) = meta.annotations.filter(|a| !a.is_empty()) {
        metadata["annotations"] = json!(annotations);
    }
    if let Some(finalizers) = meta.finalizers.filter(|f| !f.is_empty()) {
        metadata["finalizers"] = json!(finalizers);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.spec})
}

/// Creates a pod of an owner and says so.
pub(crate) fn create_pod(owner: &ObjectId, object: Value) -> Action {
    Action::Create {
        resource: resource("", "pods"),
        namespace: owner.namespace.clone(),
        object,
        on_exists: OnExists::Fine,
        announce: Some(Announce {
            about: owner.clone(),
            reason: "SuccessfulCreate",
            done: "Created pod: ".into(),
            end: "".into(),
            failed: "FailedCreate",
            error: "Error creating: ".into(),
        }),
    }
}

/// Deletes a pod of an owner and says so.
pub(crate) fn delete(pod: &Pod, owner: &ObjectId) -> Action {
    Action::Delete {
        id: pod.id.clone(),
        propagation: Propagation::Default,
        grace_seconds: None,
        announce: Some(Announce {
            about: owner.clone(),
            reason: "SuccessfulDelete",
            done: "Deleted pod: ".into(),
            end: "".into(),
            failed: "FailedDelete",
            error: "Error deleting: ".into(),
        }),
    }
}

fn create(owner: &ObjectId, template: &PodTemplateSpec) -> Action {
    create_pod(owner, from_template(owner, template))
}

/// Takes over pods that match and belong to nobody; returns how many of them count.
pub(crate) fn adopt(
    world: &World,
    owner: &ObjectId,
    selects: &LabelSelector,
    actions: &mut Vec<Action>,
) -> usize {
    let before = actions.len();
    for (pod, owners) in adopters(world, owner, selects).into_iter().filter(|(p, _)| p.is_active()) {
        let patch = json!({"metadata": {"ownerReferences": owners}});
        actions.push(Action::Patch { id: pod.id.clone(), subresource: "", patch });
    }
    actions.len() - before
}

/// Pods that match and belong to nobody, with the owners that they get.
pub(crate) fn adopters<'a>(
    world: &'a World,
    owner: &ObjectId,
    selects: &LabelSelector,
) -> Vec<(&'a Arc<Pod>, Vec<Value>)> {
    let free =
        world.pods_matching(&owner.namespace, selects).filter(|p| p.controller.is_none() && !p.deleting);
    free.map(|pod| {
        // Owners that do not control stay.
        let others = world.graph.get(&pod.id.uid).map(|m| m.owners.clone()).unwrap_or_default();
        let mut owners: Vec<Value> = others
            .iter()
            .map(|o| {
                json!({"apiVersion": o.api_version, "kind": o.kind, "name": o.name, "uid": o.uid,
                    "blockOwnerDeletion": o.block_owner_deletion})
            })
            .collect();
        owners.push(owner_reference(owner));
        (pod, owners)
    })
    .collect()
}

/// Lets go of a pod that is not selected any more.
pub(crate) fn give_up(pod: &Pod, owner: &ObjectId) -> Action {
    // Any other owners are the collector's: a controlled pod has no second controller.
    debug_assert!(pod.controller.as_ref().is_some_and(|o| *o.uid == *owner.uid));
    let patch = json!({"metadata": {"ownerReferences": null}});
    Action::Patch { id: pod.id.clone(), subresource: "", patch }
}

/// How many active pods of the same deployment share each node: crowded nodes lose pods first.
fn ranks(world: &World, meta: &ObjectMeta, active: &[Arc<Pod>]) -> HashMap<String, usize> {
    let mut ranks: HashMap<String, usize> = HashMap::new();
    let mut count = |p: &Pod| *ranks.entry(p.node.clone()).or_default() += 1;
    match crate::meta::controller(meta) {
        Some(owner) => {
            for sibling in world.replica_sets.owned_by(&owner.uid) {
                let uid = sibling.metadata.uid.as_deref().unwrap_or_default();
                world.pods.owned_by(uid).filter(|p| p.is_active()).for_each(|p| count(p));
            }
        }
        None => active.iter().for_each(|p| count(p)),
    }
    ranks
}

pub(crate) type Order =
    (bool, u8, bool, i32, Reverse<usize>, Reverse<Time>, Reverse<i64>, Reverse<Time>, Arc<str>);

/// The stock order of victims: unassigned, pending, not ready, cheap, crowded, ready for a short time, restarted often, young.
pub(crate) fn order(pod: &Pod, ranks: &HashMap<String, usize>) -> Order {
    let phase = match pod.phase.as_str() {
        "" | "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    (
        !pod.node.is_empty(),
        phase,
        pod.is_ready(),
        pod.deletion_cost,
        Reverse(ranks.get(&pod.node).copied().unwrap_or(0)),
        Reverse(pod.ready_since().unwrap_or(Time::EPOCH)),
        Reverse(pod.restarts),
        Reverse(pod.created),
        pod.id.name.clone(),
    )
}

fn conditions<'a>(set: &'a Set<'_>) -> impl Iterator<Item = &'a Value> {
    set.status["conditions"].as_array().into_iter().flatten()
}

fn write_status(
    world: &World,
    set: &Set<'_>,
    active: &[Arc<Pod>],
    terminating: usize,
    recovered: bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let template = set.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    let whole = LabelSelector::from_labels(&template);
    let times: Vec<Time> = active.iter().filter_map(|p| p.available_at(set.min_ready)).collect();
    let available = times.iter().filter(|t| **t <= world.now).count();
    if let Some(next) = times.iter().filter(|t| **t > world.now).min() {
        actions.push(Action::Again { at: *next });
    }
    let count = |n: usize| if n == 0 { Value::Null } else { n.into() };
    let mut patch = json!({"status": {
        "replicas": active.len(),
        "fullyLabeledReplicas": count(active.iter().filter(|p| whole.matches(&p.labels)).count()),
        "readyReplicas": count(active.iter().filter(|p| p.is_ready()).count()),
        "availableReplicas": count(available),
        "observedGeneration": set.meta.generation,
    }});
    if set.id.resource.plural == "replicasets" {
        patch["status"]["terminatingReplicas"] = terminating.into();
    }
    if recovered {
        let left: Vec<&Value> = conditions(set).filter(|c| c["type"] != FAILURE).collect();
        patch["status"]["conditions"] = if left.is_empty() { Value::Null } else { json!(left) };
    }
    if differs(&set.status, &patch["status"]) {
        actions.push(Action::Patch { id: set.id.clone(), subresource: "status", patch });
    }
    actions
}

#[cfg(test)]
mod tests;
