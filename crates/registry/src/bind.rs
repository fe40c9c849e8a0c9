//! Binding a pod to its node: the pod's write and the claim on the node's resources are one transaction.

use crate::options::MODIFY_TRIES_MAX;
use crate::update::read;
use crate::{Change, Context, Prepared, Registry, Target, Written, error};
use serde_json::{Value, json};
use stoa_kube::{Object, Status, resources};
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
    /// Carries out a `Binding` as a client sends it, claiming room through the [`Claimer`] that was plugged in.
    pub async fn bind(
        &self,
        ctx: &Context,
        namespace: &str,
        name: &str,
        binding: &Value,
    ) -> Result<Written, Status> {
        let pod = NamespacedName::new(namespace, name);
        for _ in 0..MODIFY_TRIES_MAX {
            let (entry, node, object) = self.bound(ctx, &pod, binding)?;
            let claimer = self.claimer().filter(|_| !ctx.is_dry_run());
            let claim = claimer.map(|c| c.claim(&object.0, &node)).transpose()?;
            match self.commit_binding(ctx, entry, object, claim).await {
                Ok(Some(written)) => return Ok(written),
                failed => {
                    if let Some(claimer) = claimer {
                        claimer.abandon(&pod);
                    }
                    failed?;
                }
            }
        }
        Err(conflict(name, "the pod or its node changed meanwhile; try again"))
    }

    /// Binds with a claim that the caller has made. A conflict, be it on the pod or on the node's claims, is the
    /// caller's to settle: it gives the claim back and decides anew.
    pub async fn bind_claimed(
        &self,
        ctx: &Context,
        namespace: &str,
        name: &str,
        binding: &Value,
        claim: Claim,
    ) -> Result<Written, Status> {
        let pod = NamespacedName::new(namespace, name);
        let (entry, _, object) = self.bound(ctx, &pod, binding)?;
        let written = self.commit_binding(ctx, entry, object, Some(claim)).await?;
        written.ok_or_else(|| conflict(name, "the pod or its node changed meanwhile; try again"))
    }

    /// The pod as it will be, and the node it goes to.
    fn bound(
        &self,
        ctx: &Context,
        pod: &NamespacedName,
        binding: &Value,
    ) -> Result<(Entry, String, Object), Status> {
        let (namespace, name) = (&*pod.namespace, &*pod.name);
        let pods = resources().find("", "v1", "pods").ok_or_else(|| Status::internal("pods are unknown"))?;
        let entry = self.store().get(&self.key(pods, namespace, name));
        let entry = entry.ok_or_else(|| Status::not_found(pods, name))?;
        let mut object = Object(read(&entry)?);
        let node = check(&object, name, binding)?;
        object.0["spec"]["nodeName"] = node.clone().into();
        for field in ["annotations", "labels"] {
            for (k, v) in binding["metadata"][field].as_object().into_iter().flatten() {
                // What an agent believes of a pod is not a scheduler's to say either.
                if !ctx.is_internal() && field == "annotations" && stoa_admit::is_reserved_annotation(k) {
                    return Err(Status::forbidden(pods, name, &format!("{k} is reserved for the cluster")));
                }
                object.0["metadata"][field][k] = v.clone();
            }
        }
        self.copy_topology(&node, &mut object);
        set_scheduled(&mut object.0, self.now());
        Ok((entry, node, object))
    }

    fn copy_topology(&self, node: &str, object: &mut Object) {
        let Some(entry) = self.store().get(&Key::object("", "nodes", "", node)) else { return };
        let Ok(meta) = stoa_kube::Meta::read(&entry.value) else { return };
        for label in TOPOLOGY_LABELS {
            if let Some(value) = meta.labels.get(label) {
                object.labels_mut().insert(label.into(), value.clone().into());
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
        let prepared = Prepared::put(entry.key.clone(), entry.modified, object.0);
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

    /// Answers `POST …/pods/<name>/binding` and `POST …/bindings`.
    pub async fn create_binding(
        &self,
        ctx: &Context,
        target: Target<'_>,
        binding: &Value,
    ) -> Result<Written, Status> {
        let name = match target.name {
            "" => binding["metadata"]["name"].as_str().unwrap_or_default(),
            name => name,
        };
        self.bind(ctx, target.namespace, name, binding).await
    }
}

fn conflict(name: &str, why: &str) -> Status {
    Status::conflict_named("pods/binding", "", name, why)
}

fn check(pod: &Object, name: &str, binding: &Value) -> Result<String, Status> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let target = &binding["target"];
    let (kind, node) = (text(&target["kind"]), text(&target["name"]));
    let mut causes = Vec::new();
    if !matches!(kind.as_str(), "" | "Node") {
        causes.push(stoa_kube::Cause::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        causes.push(stoa_kube::Cause::required("target.name", ""));
    }
    if !causes.is_empty() {
        return Err(Status::invalid("Binding", "", name, causes));
    }
    let uid = text(&binding["metadata"]["uid"]);
    if !uid.is_empty() && uid != pod.uid() {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", pod.uid());
        return Err(conflict(name, &why));
    }
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
    Ok(node)
}

fn set_scheduled(pod: &mut Value, now: Time) {
    let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now.to_rfc3339_seconds(), "observedGeneration": pod["metadata"]["generation"]});
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = pod["status"]["conditions"].as_array_mut() else { return };
    conditions.retain(|c| c["type"] != "PodScheduled");
    conditions.push(condition);
}
