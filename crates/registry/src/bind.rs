//! Binding a pod to its node: the pod's write and the claim on the node's resources are one transaction.

use crate::error::{Demand, precondition};
use crate::options::MODIFY_TRIES_MAX;
use crate::update::read;
use crate::{Change, Context, Prepared, Registry, Target, Written, decode, error};
use serde_json::{Value, json};
use stoa_kube::{Cause, Object, Resource, Status, resources};
use stoa_store::{Entry, Error, Key};
use stoa_units::{NamespacedName, Revision, Stamped, Time};

/// Labels that a pod takes over from its node.
const TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// A claim on a node's resources, to be committed with the binding.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The node's record of claims.
    pub key: Key,
    /// At which revision it must stand; zero means absent.
    pub expected: Revision,
    /// What it becomes.
    pub value: Stamped,
}

/// Claims room for pods that clients bind through the API.
pub trait Claimer: Send + Sync {
    /// Claims room for `pod` on `node`, or says why there is none.
    fn claim(&self, pod: &Value, node: &str) -> Result<Claim, Status>;
    /// The binding was not committed: the room is free again.
    fn abandon(&self, pod: &NamespacedName);
}

impl Registry {
    /// Answers `POST …/pods/<name>/binding` and `POST …/bindings`, claiming room through the [`Claimer`] that was plugged in.
    pub async fn create_binding(
        &self,
        ctx: &Context,
        target: Target<'_>,
        binding: Value,
    ) -> Result<Written, Status> {
        let (mut binding, warnings) = decode::subresource(ctx, target, ("", "v1", "Binding"), binding)?;
        let name = text(&binding["metadata"]["name"]).to_string();
        self.admit_subresource(ctx, Target { name: &name, ..target }, &binding)?;
        if !target.name.is_empty() && target.name != name {
            return Err(Status::bad_request("name in URL does not match name in Binding object"));
        }
        check_target(&name, &binding["target"])?;
        if name.is_empty() {
            return Err(Status::bad_request("Name parameter required."));
        }
        // What the older path binds takes nothing over from its node, and there a uid is the binding's own and says nothing.
        if target.subresource != "binding" {
            if let Some(meta) = binding["metadata"].as_object_mut() {
                meta.remove("uid");
            }
        } else if binding["target"]["kind"] == "Node" {
            self.copy_topology(&mut binding);
        }
        let mut written =
            self.bind(ctx, &NamespacedName::new(target.namespace, name.as_str()), &binding).await?;
        written.warnings.splice(0..0, warnings);
        Ok(written)
    }

    async fn bind(&self, ctx: &Context, pod: &NamespacedName, binding: &Value) -> Result<Written, Status> {
        let node = text(&binding["target"]["name"]);
        for _ in 0..MODIFY_TRIES_MAX {
            let (entry, object) = self.bound(ctx, pod, binding)?;
            let claimer = self.claimer().filter(|_| !ctx.is_dry_run());
            let claim = claimer.map(|c| c.claim(&object.0, node)).transpose()?;
            match self.commit_binding(ctx, entry, object, claim).await {
                Ok(Some(written)) => return Ok(written),
                failed => {
                    if let Some(claimer) = claimer {
                        claimer.abandon(pod);
                    }
                    failed?;
                }
            }
        }
        Err(conflict(&pod.name, "the pod or its node changed meanwhile; try again"))
    }

    /// The pod as it will be.
    fn bound(&self, ctx: &Context, pod: &NamespacedName, binding: &Value) -> Result<(Entry, Object), Status> {
        let (namespace, name) = (&*pod.namespace, &*pod.name);
        let pods = resources().find("", "v1", "pods").ok_or_else(|| Status::internal("pods are unknown"))?;
        let entry = self.store().get(&self.key(pods, namespace, name));
        let entry = entry.ok_or_else(|| Status::not_found(pods, name))?;
        let mut object = Object(read(&entry)?);
        check_demands(ctx, pods, pod, &binding["metadata"], &entry, &object)?;
        check_unbound(&object, name)?;
        object.0["spec"]["nodeName"] = binding["target"]["name"].clone();
        // Where it was to go is no news any more.
        if let Some(status) = object.0["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        for field in ["annotations", "labels"] {
            for (k, v) in binding["metadata"][field].as_object().into_iter().flatten() {
                // What an agent believes of a pod is not a scheduler's to say either.
                if !ctx.is_internal() && field == "annotations" && stoa_admit::is_reserved_annotation(k) {
                    return Err(Status::forbidden(pods, name, &format!("{k} is reserved for the cluster")));
                }
                object.0["metadata"][field][k] = v.clone();
            }
        }
        set_scheduled(&mut object.0, self.now());
        Ok((entry, object))
    }

    /// Adds the labels that a pod takes over from its node, where the binding does not say otherwise.
    fn copy_topology(&self, binding: &mut Value) {
        let node = text(&binding["target"]["name"]);
        let Some(entry) = self.store().get(&Key::object("", "nodes", "", node)) else { return };
        let Ok(meta) = stoa_kube::Meta::read(&entry.value) else { return };
        for label in TOPOLOGY_LABELS {
            let labels = &mut binding["metadata"]["labels"];
            if let Some(value) = meta.labels.get(label).filter(|_| labels[label].is_null()) {
                labels[label] = value.clone().into();
            }
        }
    }

    async fn commit_binding(
        &self,
        ctx: &Context,
        entry: Entry,
        object: Object,
        claim: Option<Claim>,
    ) -> Result<Option<Written>, Status> {
        let prepared = Prepared::put(entry.key.clone(), entry.modified, object.0, None);
        if ctx.is_dry_run() {
            let bytes = prepared.stamped.at(entry.modified);
            let change = Change::Updated;
            return Ok(Some(Written { bytes, revision: entry.modified, change, warnings: Vec::new() }));
        }
        let mut txn = prepared.to_txn();
        if let Some(claim) = claim {
            txn = txn.expect(claim.key.clone(), claim.expected).put(claim.key, claim.value);
        }
        match self.store().commit(txn).await {
            Ok(mut commit) => Ok(Some(Written {
                bytes: std::mem::take(&mut commit.values[0]),
                revision: commit.revision,
                change: Change::Updated,
                warnings: Vec::new(),
            })),
            Err(Error::Conflict { .. }) => Ok(None),
            Err(e) => Err(error::status(e)),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn conflict(name: &str, why: &str) -> Status {
    Status::conflict_named("pods/binding", "", name, why)
}

/// Where a pod is to go. A stock server tells what is wrong with that as a failure of its own (500), which it is not.
fn check_target(name: &str, target: &Value) -> Result<(), Status> {
    let mut causes = Vec::new();
    let kind = text(&target["kind"]);
    if !matches!(kind, "" | "Node") {
        causes.push(Cause::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if text(&target["name"]).is_empty() {
        causes.push(Cause::required("target.name", ""));
    }
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("Binding", "", name, causes)) }
}

/// A binding may be for this very pod alone, or for the pod as somebody has read it.
fn check_demands(
    ctx: &Context,
    pods: &Resource,
    pod: &NamespacedName,
    meta: &Value,
    entry: &Entry,
    object: &Object,
) -> Result<(), Status> {
    let place = (&*pod.namespace, &*pod.name);
    let (uid, revision, found) =
        (text(&meta["uid"]), text(&meta["resourceVersion"]), entry.modified.to_string());
    if !uid.is_empty() && uid != object.uid() {
        return Err(precondition(ctx, pods, place, Demand::Uid, uid, object.uid()));
    }
    if !revision.is_empty() && revision != found {
        return Err(precondition(ctx, pods, place, Demand::Revision, revision, &found));
    }
    Ok(())
}

fn check_unbound(pod: &Object, name: &str) -> Result<(), Status> {
    if pod.deletion_timestamp().is_some() {
        return Err(conflict(name, &format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    let assigned = text(&pod.0["spec"]["nodeName"]);
    if !assigned.is_empty() {
        let why = format!("pod {name} is already assigned to node {assigned:?}");
        return Err(conflict(name, &why));
    }
    if pod.0["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
        return Err(conflict(name, &format!("pod {name} has non-empty .spec.schedulingGates")));
    }
    Ok(())
}

fn set_scheduled(pod: &mut Value, now: Time) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now.to_rfc3339_seconds()});
    set_condition(&mut pod["status"], condition);
}

/// Writes a pod's condition in the place of the one of its type. When it came to be what it is stays as it was.
pub(crate) fn set_condition(status: &mut Value, mut condition: Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(all) = status["conditions"].as_array_mut() else { return };
    match all.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(there) => {
            if there["status"] == condition["status"] && !there["lastTransitionTime"].is_null() {
                condition["lastTransitionTime"] = there["lastTransitionTime"].clone();
            }
            *there = condition;
        }
        None => all.push(condition),
    }
}
