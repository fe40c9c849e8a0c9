//! A pod as controllers see it: the few fields that decide anything, read from the bytes without building the rest.

use crate::ObjectId;
use crate::device_claim::PodDevice;
use crate::meta::{resource, time};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_kube::{Meta, OwnerRef};
use stoa_units::{Revision, Time};

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawSpec {
    node_name: String,
    hostname: String,
    subdomain: String,
    tolerations: Vec<Toleration>,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
    restart_policy: String,
    resource_claims: Vec<RawDevice>,
    volumes: Vec<RawVolume>,
    affinity: RawAffinity,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawVolume {
    name: String,
    persistent_volume_claim: Option<RawClaim>,
    ephemeral: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawDevice {
    name: String,
    resource_claim_name: Option<String>,
    resource_claim_template_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawClaim {
    claim_name: String,
}

/// As much of an affinity as binds a daemon's pod to its node.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawAffinity {
    node_affinity: RawNodeAffinity,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawNodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: RawTerms,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawTerms {
    node_selector_terms: Vec<RawTerm>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawTerm {
    match_fields: Vec<RawField>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawField {
    key: String,
    operator: String,
    values: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawContainer {
    ports: Vec<Port>,
    restart_policy: String,
}

/// A container's port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Port {
    /// Its name, if it has one.
    pub name: String,
    /// Its number.
    pub container_port: u16,
    /// `TCP` unless it says otherwise.
    pub protocol: String,
}

/// A toleration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key.
    pub key: String,
    /// `Exists` or `Equal`.
    pub operator: String,
    /// The taint's value.
    pub value: String,
    /// The taint's effect; empty means any.
    pub effect: String,
    /// For how long a `NoExecute` taint is tolerated.
    pub toleration_seconds: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<RawIp>,
    conditions: Vec<Condition>,
    container_statuses: Vec<RawContainerStatus>,
    init_container_statuses: Vec<RawContainerStatus>,
    resource_claim_statuses: Vec<RawDevice>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIp {
    ip: String,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When the status last changed.
    pub last_transition_time: Option<Time>,
    /// Why.
    pub reason: String,
    /// Why, in words.
    pub message: String,
}

impl Condition {
    /// As it is written back, among others that changed.
    pub(crate) fn to_value(&self) -> Value {
        let at = self.last_transition_time.map(time);
        let mut out = json!({"type": self.kind, "status": self.status, "lastProbeTime": null, "lastTransitionTime": at});
        for (field, text) in [("reason", &self.reason), ("message", &self.message)] {
            if !text.is_empty() {
                out[field] = text.as_str().into();
            }
        }
        out
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawContainerStatus {
    name: String,
    restart_count: i64,
    state: RawState,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawState {
    terminated: Option<RawTerminated>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawTerminated {
    exit_code: i32,
    finished_at: Option<Time>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The container's name.
    pub container: String,
    /// Its exit code.
    pub code: i32,
    /// When.
    pub at: Option<Time>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Which one.
    pub id: ObjectId,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// `controller.kubernetes.io/pod-deletion-cost`.
    pub deletion_cost: i32,
    /// `metadata.generation`: moves with its spec.
    pub generation: i64,
    /// Its controlling owner.
    pub controller: Option<OwnerRef>,
    /// When it was created.
    pub created: Time,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When its grace ends, if it is being deleted.
    pub deleted_at: Option<Time>,
    /// Its finalizers.
    pub finalizers: Vec<String>,
    /// Its node; empty if it has none yet.
    pub node: String,
    /// `status.phase`.
    pub phase: String,
    /// `status.podIP`.
    pub ip: String,
    /// `status.podIPs`, or the one that there is.
    pub ips: Vec<String>,
    /// The persistent volume claims that it uses.
    pub claims: Vec<String>,
    /// Its claims of devices.
    pub devices: Vec<PodDevice>,
    /// The one node that its required affinity leaves it, if it is bound that way to one.
    pub only_node: String,
    /// `spec.restartPolicy`.
    pub restart_policy: String,
    /// Its annotations that controllers number pods by.
    pub job_index: Option<u32>,
    /// How often its index of a job had failed before it.
    pub job_index_failures: u32,
    /// How often it had failed in a way that does not count.
    pub job_index_ignored: u32,
    /// Its containers that ended, those that initialise first.
    pub exits: Vec<Exit>,
    /// Its host name and subdomain.
    pub hostname: (String, String),
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its tolerations of `NoExecute` taints.
    pub tolerations: Vec<Toleration>,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// Restarts of all containers.
    pub restarts: i64,
}

fn exit(c: RawContainerStatus) -> Option<Exit> {
    let t = c.state.terminated?;
    Some(Exit { container: c.name, code: t.exit_code, at: t.finished_at })
}

/// Claims that volumes name, and those that are made for the pod's ephemeral volumes.
fn claims(pod: &str, volumes: &[RawVolume]) -> Vec<String> {
    let name = |v: &RawVolume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{pod}-{}", v.name)),
        (None, None) => None,
    };
    volumes.iter().filter_map(name).collect()
}

/// Claims of devices, by what the pod says and what was found out since.
fn devices(wanted: Vec<RawDevice>, found: &[RawDevice]) -> Vec<PodDevice> {
    let device = |d: RawDevice| {
        let made = found.iter().find(|f| f.name == d.name && !d.resource_claim_template_name.is_empty());
        PodDevice {
            claim: d.resource_claim_name.or_else(|| made.and_then(|f| f.resource_claim_name.clone())),
            spared: made.is_some_and(|f| f.resource_claim_name.is_none()),
            template: d.resource_claim_template_name,
            name: d.name,
        }
    };
    wanted.into_iter().map(device).collect()
}

fn only_node(affinity: &RawAffinity) -> String {
    let terms = &affinity.node_affinity.required.node_selector_terms;
    let fields = terms.iter().flat_map(|t| &t.match_fields);
    let mut named = fields.filter(|f| f.key == "metadata.name" && f.operator == "In" && f.values.len() == 1);
    named.next().map(|f| f.values[0].clone()).unwrap_or_default()
}

impl Pod {
    /// Reads a pod.
    pub fn read(bytes: &[u8]) -> Result<Pod, serde_json::Error> {
        let meta = Meta::read(bytes)?;
        let raw: Raw = serde_json::from_slice(bytes)?;
        let note = |key: &str| meta.annotations.get(key);
        let cost = note("controller.kubernetes.io/pod-deletion-cost");
        let sidecars = raw.spec.init_containers.into_iter().filter(|c| c.restart_policy == "Always");
        let (first, statuses) = (raw.status.init_container_statuses, raw.status.container_statuses);
        let keeps = |t: &Toleration| t.effect.is_empty() || t.effect == "NoExecute";
        Ok(Pod {
            deletion_cost: cost.and_then(|c| c.parse().ok()).unwrap_or(0),
            generation: meta.generation,
            controller: meta.controller().cloned(),
            created: meta.creation_timestamp.unwrap_or(Time::EPOCH),
            deleting: meta.is_deleting(),
            deleted_at: meta.deletion_timestamp,
            job_index: note("batch.kubernetes.io/job-completion-index").and_then(|i| i.parse().ok()),
            job_index_failures: note("batch.kubernetes.io/job-index-failure-count")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0),
            job_index_ignored: note("batch.kubernetes.io/job-index-ignored-failure-count")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0),
            claims: claims(&meta.name, &raw.spec.volumes),
            devices: devices(raw.spec.resource_claims, &raw.status.resource_claim_statuses),
            only_node: only_node(&raw.spec.affinity),
            id: ObjectId {
                resource: resource("", "pods"),
                revision: meta.revision().unwrap_or(Revision::ZERO),
                namespace: Arc::from(meta.namespace),
                name: Arc::from(meta.name),
                uid: Arc::from(meta.uid),
            },
            labels: meta.labels,
            finalizers: meta.finalizers,
            node: raw.spec.node_name,
            phase: raw.status.phase,
            ips: match raw.status.pod_ips {
                ips if ips.is_empty() && !raw.status.pod_ip.is_empty() => vec![raw.status.pod_ip.clone()],
                ips => ips.into_iter().map(|i| i.ip).collect(),
            },
            ip: raw.status.pod_ip,
            restart_policy: raw.spec.restart_policy,
            hostname: (raw.spec.hostname, raw.spec.subdomain),
            ports: sidecars.chain(raw.spec.containers).flat_map(|c| c.ports).collect(),
            tolerations: raw.spec.tolerations.into_iter().filter(keeps).collect(),
            conditions: raw.status.conditions,
            restarts: first.iter().chain(&statuses).map(|c| c.restart_count).sum(),
            exits: first.into_iter().chain(statuses).filter_map(exit).collect(),
        })
    }

    /// Whether all its containers ended for good.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Whether it counts: neither ended nor being deleted.
    pub fn is_active(&self) -> bool {
        !self.is_ended() && !self.deleting
    }

    /// Whether it has the finalizer.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|f| f == name)
    }

    /// Its node, or the one node that it may go to.
    pub fn target_node(&self) -> &str {
        if self.node.is_empty() { &self.only_node } else { &self.node }
    }

    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// Whether its `Ready` condition is true.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|c| c.status == "True")
    }

    /// Since when it has been ready.
    pub fn ready_since(&self) -> Option<Time> {
        self.condition("Ready").filter(|c| c.status == "True").and_then(|c| c.last_transition_time)
    }

    /// When it becomes available: ready for long enough. `None` while it is not ready.
    pub fn available_at(&self, min_ready_seconds: i32) -> Option<Time> {
        if !self.is_ready() {
            return None;
        }
        if min_ready_seconds <= 0 {
            return Some(Time::EPOCH);
        }
        let wait = std::time::Duration::from_secs(min_ready_seconds.unsigned_abs().into());
        Some(self.ready_since()?.plus(wait))
    }
}
