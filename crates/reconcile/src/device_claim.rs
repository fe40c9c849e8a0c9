//! Claims of devices: those that pods have made for them from templates, and who still holds a claim.
//!
//! Nothing here allocates: a claim that nobody holds any more is given back, and one that was made for a pod goes when the
//! pod has ended.

use crate::meta::resource;
use crate::{Action, Announce, Key, Level, ObjectId, OnExists, Pod, Propagation, World};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stoa_kube::{Meta, OwnerRef};
use stoa_units::{NamespacedName, Revision};

const GROUP: &str = "resource.k8s.io";
/// Which of its pod's claims a claim was made for.
const MADE_FOR: &str = "resource.kubernetes.io/pod-claim-name";
/// Held by a claim while devices are allocated to it.
const PROTECTION: &str = "resource.kubernetes.io/delete-protection";
/// Who may hold a claim at the same time.
const HOLDERS_LEN_MAX: usize = 256;
/// What names are made of: so many bytes of the pod's name and its claim's.
const BASE_LEN_MAX: usize = 57;
/// What of a name is kept where one is made by appending to it.
const KEPT_LEN_MAX: usize = 58;

/// A pod's claim of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodDevice {
    /// Its name in the pod.
    pub name: String,
    /// From what it is made; empty where the pod names a claim that there is.
    pub template: String,
    /// Which claim it is, once that is known.
    pub claim: Option<String>,
    /// Whether it was found that none is needed.
    pub spared: bool,
}

/// A claim.
#[derive(Clone, Debug)]
pub struct DeviceClaim {
    id: ObjectId,
    owner: Option<OwnerRef>,
    made_for: Option<String>,
    finalizers: Vec<String>,
    deleting: bool,
    allocated: bool,
    holders: Vec<Value>,
}

/// What claims are made from.
#[derive(Clone, Debug)]
pub struct DeviceTemplate {
    labels: Value,
    annotations: Map<String, Value>,
    spec: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawStatus {
    allocation: Option<serde::de::IgnoredAny>,
    reserved_for: Vec<Value>,
}

impl DeviceClaim {
    pub(crate) fn read(meta: &Meta, bytes: &[u8]) -> Result<DeviceClaim, serde_json::Error> {
        let raw: Raw = serde_json::from_slice(bytes)?;
        Ok(DeviceClaim {
            id: ObjectId {
                resource: resource(GROUP, "resourceclaims"),
                namespace: meta.namespace.as_str().into(),
                name: meta.name.as_str().into(),
                uid: meta.uid.as_str().into(),
                revision: meta.revision().unwrap_or(Revision::ZERO),
            },
            owner: meta.controller().filter(|o| o.kind == "Pod" && o.api_version == "v1").cloned(),
            made_for: meta.annotations.get(MADE_FOR).cloned(),
            finalizers: meta.finalizers.clone(),
            deleting: meta.is_deleting(),
            allocated: raw.status.allocation.is_some(),
            holders: raw.status.reserved_for,
        })
    }

    /// The pod that it was made for.
    pub(crate) fn owner(&self) -> Option<&OwnerRef> {
        self.owner.as_ref()
    }

    /// The pods that hold it.
    pub(crate) fn held_by(&self) -> impl Iterator<Item = &str> {
        self.holders.iter().filter(|h| is_pod(h)).filter_map(|h| h["name"].as_str())
    }

    fn is_of(&self, pod: &Pod) -> bool {
        self.owner.as_ref().is_some_and(|o| *o.uid == *pod.id.uid)
    }
}

impl DeviceTemplate {
    pub(crate) fn read(bytes: &[u8]) -> Result<DeviceTemplate, serde_json::Error> {
        let mut object: Value = serde_json::from_slice(bytes)?;
        let mut spec = object["spec"].take();
        Ok(DeviceTemplate {
            labels: spec["metadata"]["labels"].take(),
            annotations: spec["metadata"]["annotations"].as_object().cloned().unwrap_or_default(),
            spec: spec["spec"].take(),
        })
    }
}

fn is_pod(holder: &Value) -> bool {
    holder["resource"] == "pods" && holder["apiGroup"].as_str().unwrap_or_default().is_empty()
}

/// Whether a pod needs no devices any more.
fn is_done(pod: &Pod) -> bool {
    pod.is_ended() || pod.deleting && pod.node.is_empty()
}

/// Looks at a pod: has made what it lacks, writes down what was made, and holds for it what it is bound to.
pub(crate) fn reconcile_pod(world: &World, key: &Key) -> Vec<Action> {
    let Some(pod) = world.pods.get(&key.namespace, &key.name).filter(|p| !p.deleting) else {
        return Vec::new();
    };
    let mut names: Vec<Option<String>> = pod.devices.iter().map(|d| d.claim.clone()).collect();
    let mut found = false;
    for (device, name) in pod.devices.iter().zip(&mut names) {
        if device.spared || device.template.is_empty() || is_there(world, pod, name.as_deref()) {
            continue;
        }
        let made = world.device_claims.owned_by(&pod.id.uid);
        let mut made = made.filter(|c| c.made_for.as_deref() == Some(device.name.as_str()));
        match made.next() {
            Some(claim) => {
                *name = Some(claim.id.name.to_string());
                found = true;
            }
            None => return vec![make(world, pod, device)],
        }
    }
    if found {
        let statuses: Vec<Value> = (pod.devices.iter().zip(&names))
            .filter(|(d, name)| !d.template.is_empty() && (d.spared || name.is_some()))
            .map(|(d, name)| match name {
                Some(name) => json!({"name": d.name, "resourceClaimName": name}),
                None => json!({"name": d.name}),
            })
            .collect();
        let patch = json!({"status": {"resourceClaimStatuses": statuses}});
        return vec![Action::Patch { id: pod.id.clone(), subresource: "status", patch }];
    }
    // Before it is bound, holding is for whoever binds it.
    if pod.node.is_empty() || pod.is_ended() {
        return Vec::new();
    }
    let claims = pod.devices.iter().filter_map(|d| {
        let claim = world.device_claims.get(&key.namespace, d.claim.as_deref()?)?;
        (d.template.is_empty() || claim.is_of(pod)).then_some(claim)
    });
    claims.filter_map(|claim| hold(pod, claim)).collect()
}

fn is_there(world: &World, pod: &Pod, name: Option<&str>) -> bool {
    let claim = name.and_then(|n| world.device_claims.get(&pod.id.namespace, n));
    claim.is_some_and(|c| c.is_of(pod))
}

fn hold(pod: &Pod, claim: &DeviceClaim) -> Option<Action> {
    let held = claim.holders.iter().any(|h| h["uid"] == *pod.id.uid);
    if !claim.allocated || held || claim.holders.len() >= HOLDERS_LEN_MAX {
        return None;
    }
    let mut holders = claim.holders.clone();
    holders.push(json!({"resource": "pods", "name": pod.id.name, "uid": pod.id.uid}));
    let patch = json!({"status": {"reservedFor": holders}});
    Some(Action::Patch { id: claim.id.clone(), subresource: "status", patch })
}

fn make(world: &World, pod: &Pod, device: &PodDevice) -> Action {
    let kind = resource(GROUP, "resourceclaims");
    let begin = format!("PodResourceClaim {}: ", device.name);
    let reason = "FailedResourceClaimCreation";
    let Some(template) = world.device_templates.get(&pod.id.namespace, &device.template) else {
        let name = &device.template;
        let message = format!(
            "{begin}resource claim template {name:?}: resourceclaimtemplate.resource.k8s.io {name:?} not found"
        );
        return Action::Event { about: pod.id.clone(), level: Level::Warning, reason, message };
    };
    let mut annotations = template.annotations.clone();
    annotations.insert(MADE_FOR.into(), device.name.as_str().into());
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod.id.name, "uid": pod.id.uid, "controller": true});
    let mut metadata = json!({"generateName": base(&pod.id.name, &device.name), "namespace": pod.id.namespace,
        "annotations": annotations, "ownerReferences": [owner]});
    if !template.labels.is_null() {
        metadata["labels"] = template.labels.clone();
    }
    Action::Create {
        resource: kind,
        namespace: pod.id.namespace.clone(),
        object: json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata, "spec": template.spec}),
        on_exists: OnExists::Fine,
        announce: Some(Announce {
            about: pod.id.clone(),
            // That it was made is not worth a word.
            reason: "",
            done: "".into(),
            end: "".into(),
            failed: reason,
            error: format!("{begin}create ResourceClaim : ").into(),
        }),
    }
}

/// What a made claim's name begins with: both names, each shortened by as much where they are long.
fn base(pod: &str, device: &str) -> String {
    let whole = format!("{pod}-{device}-");
    if whole.len() <= BASE_LEN_MAX {
        return whole;
    }
    let share = |name: &str, of: usize| name[..name.len() * BASE_LEN_MAX / of].to_string();
    let pod = share(pod, whole.len());
    let short = format!("{pod}-{}", share(device, whole.len()));
    debug_assert!(short.len() <= KEPT_LEN_MAX);
    short
}

/// Looks at a claim: forgets who holds it no longer, gives back what nobody holds, and removes what was made for a pod that
/// has ended.
pub(crate) fn reconcile_claim(world: &World, key: &Key) -> Vec<Action> {
    let Some(claim) = world.device_claims.get(&key.namespace, &key.name) else { return Vec::new() };
    let holds = |holder: &Value| {
        let pod = holder["name"].as_str().and_then(|name| world.pods.get(&key.namespace, name));
        !is_pod(holder) || pod.is_some_and(|p| holder["uid"] == *p.id.uid && !is_done(p))
    };
    let remaining: Vec<&Value> = claim.holders.iter().filter(|h| holds(h)).collect();
    let id = &claim.id;
    let protected = claim.finalizers.iter().any(|f| f == PROTECTION);
    let mut actions = Vec::new();
    let changed = remaining.len() < claim.holders.len();
    if changed || protected && claim.deleting && remaining.is_empty() {
        let free = remaining.is_empty() && protected;
        let mut status = Map::new();
        if changed {
            let left = if remaining.is_empty() { Value::Null } else { json!(remaining) };
            status.insert("reservedFor".into(), left);
        }
        if free && claim.allocated {
            status.insert("allocation".into(), Value::Null);
        }
        if !status.is_empty() {
            let patch = json!({ "status": status });
            actions.push(Action::Patch { id: id.clone(), subresource: "status", patch });
        }
        if free {
            let left: Vec<&String> = claim.finalizers.iter().filter(|f| *f != PROTECTION).collect();
            let patch = json!({"metadata": {"finalizers": left}});
            actions.push(Action::Patch { id: id.clone(), subresource: "", patch });
        }
    }
    if remaining.is_empty() && !claim.deleting {
        let owner = claim.owner.as_ref();
        let pod = owner.and_then(|o| Some((o, world.pods.get(&key.namespace, &o.name)?)));
        // Where there is no pod of that name it is collected as its dependents are.
        if pod.is_some_and(|(owner, pod)| *owner.uid != *pod.id.uid || is_done(pod)) {
            actions.push(Action::Delete {
                id: id.clone(),
                propagation: Propagation::Default,
                grace_seconds: None,
                announce: None,
            });
        }
    }
    actions
}

/// Under which names a pod is found that concerns a claim or a template.
pub(crate) fn names(pod: &Pod) -> impl Iterator<Item = (Of, NamespacedName)> {
    let at = |name: &str| NamespacedName::new(pod.id.namespace.clone(), name);
    pod.devices.iter().flat_map(move |d| {
        let claim = d.claim.as_deref().map(|name| (Of::Claim, at(name)));
        let template =
            Some(d.template.as_str()).filter(|t| !t.is_empty()).map(|name| (Of::Template, at(name)));
        claim.into_iter().chain(template)
    })
}

/// What a pod names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Of {
    /// A claim.
    Claim,
    /// A template of claims.
    Template,
}

/// The keys of a pod with claims, and of these claims if it may have let go of them.
pub(crate) fn keys(pod: &Pod, is_gone: bool) -> Vec<Key> {
    if pod.devices.is_empty() {
        return Vec::new();
    }
    let ns: Arc<str> = pod.id.namespace.clone();
    let mut out = vec![Key::new(crate::Controller::PodDevices, ns.clone(), pod.id.name.clone())];
    if is_gone || is_done(pod) {
        let claims = names(pod).filter(|(of, _)| *of == Of::Claim).map(|(_, claim)| claim);
        out.extend(claims.map(|c| Key::new(crate::Controller::DeviceClaim, ns.clone(), c.name)));
    }
    out
}

#[cfg(test)]
mod tests;
