//! Pods' statuses on their way from one agent to the store: the newest of each pod waits, with the newest passing one before
//! it, a few are written at a time, and a pod that has ended is removed after its last status was written, never before.

use crate::hub::Hub;
use crate::options::STATUS_WRITES_MAX;
use bytes::Bytes;
use futures_util::future::join_all;
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde_json::{Value, json};
use stoa_kube::{Resource, Status, resources};
use stoa_registry::{Context, DeleteOptions, Registry, Target};
use stoa_wire::{PODS_MAX, PodRef};
use tokio::sync::Notify;

/// Conditions that the agent says; all others belong to the scheduler, to controllers or to users.
const AGENT_CONDITIONS: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    "PodResizePending",
    "PodResizeInProgress",
    "AllContainersRestarting",
];

#[derive(Default)]
struct Waiting {
    /// Older than `status`, and written all the same.
    passing: Option<Bytes>,
    status: Option<Bytes>,
    stopped: bool,
}

/// The statuses of one agent that wait to be written.
#[derive(Default)]
pub(crate) struct Statuses {
    waiting: Mutex<IndexMap<PodRef, Waiting>>,
    wake: Notify,
}

/// The agent sent more pods than a machine can hold.
#[derive(Debug, thiserror::Error)]
#[error("statuses of more than {} pods", 2 * PODS_MAX)]
pub(crate) struct TooMany;

impl Statuses {
    fn change(&self, pod: PodRef, change: impl FnOnce(&mut Waiting)) -> Result<(), TooMany> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= 2 * PODS_MAX && !waiting.contains_key(&pod) {
            return Err(TooMany);
        }
        change(waiting.entry(pod).or_default());
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes a status; an older one of the same pod that still waits is of no interest any more.
    pub(crate) fn set(&self, pod: PodRef, status: Bytes) -> Result<(), TooMany> {
        self.change(pod, |w| w.status = Some(status))
    }

    /// Takes a status that a newer one does not make uninteresting.
    pub(crate) fn set_passing(&self, pod: PodRef, status: Bytes) -> Result<(), TooMany> {
        self.change(pod, |w| (w.passing, w.status) = (Some(status), None))
    }

    /// Takes word that nothing of the pod is left on the machine.
    pub(crate) fn stopped(&self, pod: PodRef) -> Result<(), TooMany> {
        self.change(pod, |w| w.stopped = true)
    }

    fn take(&self) -> Vec<(PodRef, Waiting)> {
        let mut waiting = self.waiting.lock();
        let n = waiting.len().min(STATUS_WRITES_MAX);
        waiting.drain(..n).collect()
    }

    /// Puts back what could not be written, unless something newer came meanwhile.
    fn put_back(&self, pod: PodRef, old: Waiting) {
        let mut waiting = self.waiting.lock();
        let entry = waiting.entry(pod).or_default();
        if entry.passing.is_none() {
            entry.passing = old.passing;
            entry.status = entry.status.take().or(old.status);
        }
        entry.stopped |= old.stopped;
        drop(waiting);
        self.wake.notify_one();
    }

    /// Writes what waits, for ever. Cancel it to stop.
    pub(crate) async fn write_all(&self, registry: &Registry, hub: &Hub, node: &str) {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                self.wake.notified().await;
                continue;
            }
            join_all(batch.into_iter().map(|(pod, waiting)| self.write(registry, hub, node, pod, waiting)))
                .await;
        }
    }

    async fn write(&self, registry: &Registry, hub: &Hub, node: &str, pod: PodRef, mut waiting: Waiting) {
        let result = async {
            if let Some(status) = &waiting.passing {
                write_status(registry, node, &pod, status).await?;
                waiting.passing = None;
            }
            if let Some(status) = &waiting.status {
                write_status(registry, node, &pod, status).await?;
            }
            if waiting.stopped {
                remove(registry, node, &pod).await?;
            }
            Ok::<(), Status>(())
        };
        match result.await {
            Ok(()) => {}
            // The agent speaks of a pod that is gone or another's: it has not heard yet.
            Err(e) if e.is("NotFound") || e.is("Conflict") && is_other(registry, node, &pod) => {
                hub.remind(node, pod)
            }
            Err(e) if e.is("Conflict") => self.put_back(pod, waiting),
            Err(e) => {
                tracing::warn!(node, pod = %pod.name, namespace = %pod.namespace, error = %e.message, "a status was refused");
            }
        }
    }
}

fn pods() -> Result<&'static Resource, Status> {
    resources().find("", "v1", "pods").ok_or_else(|| Status::internal("the registry does not know pods"))
}

fn is_own(object: &Value, node: &str, pod: &PodRef) -> bool {
    object["metadata"]["uid"] == pod.uid.as_str() && object["spec"]["nodeName"] == node
}

fn is_other(registry: &Registry, node: &str, pod: &PodRef) -> bool {
    let Ok(resource) = pods() else { return false };
    let entry = registry.get(Target::new(resource, &pod.namespace, &pod.name));
    let object: Option<Value> = entry.ok().and_then(|e| serde_json::from_slice(&e.value).ok());
    !object.is_some_and(|o| is_own(&o, node, pod))
}

async fn write_status(registry: &Registry, node: &str, pod: &PodRef, status: &[u8]) -> Result<(), Status> {
    let status: Value = serde_json::from_slice(status)
        .map_err(|e| Status::bad_request(format!("a pod status is not JSON: {e}")))?;
    let resource = pods()?;
    let target = Target::new(resource, &pod.namespace, &pod.name).sub("status");
    let ctx = Context::system("session");
    let write = registry.modify(&ctx, target, |object| {
        if !is_own(object, node, pod) {
            return Err(Status::conflict(resource, &pod.name, "the pod is not bound to this node"));
        }
        object["status"] = merge_status(&object["status"], &status);
        Ok(())
    });
    write.await.map(drop)
}

async fn remove(registry: &Registry, node: &str, pod: &PodRef) -> Result<(), Status> {
    let resource = pods()?;
    let target = Target::new(resource, &pod.namespace, &pod.name);
    let entry = registry.get(target)?;
    let object: Value = serde_json::from_slice(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
    if !is_own(&object, node, pod) {
        return Err(Status::conflict(resource, &pod.name, "the pod is not bound to this node"));
    }
    // Only what was asked to go goes: an agent cannot delete a pod of its own accord.
    if object["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let options = DeleteOptions { uid: Some(pod.uid.clone()), ..DeleteOptions::now() };
    match registry.delete(&Context::system("session"), target, &options).await {
        Err(e) if e.is("NotFound") => Ok(()),
        other => other.map(drop),
    }
}

/// The pod's new status: what the agent says, beside what belongs to others. A pod that has ended stays ended.
fn merge_status(old: &Value, new: &Value) -> Value {
    let mut out = new.clone();
    if !out.is_object() {
        return old.clone();
    }
    if let Some(phase @ ("Succeeded" | "Failed")) = old["phase"].as_str() {
        out["phase"] = json!(phase);
    }
    // By the claims that were made for a pod its node may read them: no node says which these are.
    for field in ["resourceClaimStatuses", "extendedResourceClaimStatus"] {
        match old.get(field) {
            Some(made) => out[field] = made.clone(),
            None => drop(out.as_object_mut().and_then(|o| o.remove(field))),
        }
    }
    for field in ["qosClass", "nominatedNodeName"] {
        if out[field].is_null() && !old[field].is_null() {
            out[field] = old[field].clone();
        } else if out[field].is_null()
            && let Some(map) = out.as_object_mut()
        {
            map.remove(field);
        }
    }
    let list = |v: &Value| v["conditions"].as_array().cloned().unwrap_or_default();
    let said = list(new);
    let is_said = |c: &Value| said.iter().any(|s| s["type"] == c["type"]);
    let is_agents = |c: &Value| c["type"].as_str().is_some_and(|t| AGENT_CONDITIONS.contains(&t));
    let mut conditions: Vec<Value> = list(old).into_iter().filter(|c| !is_said(c) && !is_agents(c)).collect();
    // Those of others come first, as where a kubelet writes them.
    conditions.extend(said.iter().cloned());
    out["conditions"] = conditions.into();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_says_what_is_its_own_and_keeps_what_is_not() {
        let old = json!({"phase": "Running", "qosClass": "BestEffort", "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"},
            {"type": "ContainersReady", "status": "False"}, {"type": "example.com/gate", "status": "True"}]});
        let new = json!({"phase": "Running", "podIP": "10.0.0.2", "conditions": [{"type": "Ready", "status": "True"}]});
        let merged = merge_status(&old, &new);
        let conditions: Vec<String> = merged["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| format!("{}={}", c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
            .collect();
        assert_eq!(conditions, ["PodScheduled=True", "example.com/gate=True", "Ready=True"]);
        assert_eq!((&merged["qosClass"], &merged["podIP"]), (&json!("BestEffort"), &json!("10.0.0.2")));
        assert!(merged.get("nominatedNodeName").is_none());
        let claims =
            |name: &str| json!({"resourceClaimStatuses": [{"name": "c", "resourceClaimName": name}]});
        assert_eq!(
            merge_status(&claims("made"), &claims("other"))["resourceClaimStatuses"][0]["resourceClaimName"],
            "made"
        );
        assert!(merge_status(&json!({}), &claims("other")).get("resourceClaimStatuses").is_none());
    }

    #[test]
    fn a_pod_that_ended_stays_ended() {
        let merged = merge_status(&json!({"phase": "Succeeded"}), &json!({"phase": "Running"}));
        assert_eq!(merged["phase"], "Succeeded");
    }

    #[tokio::test]
    async fn a_node_ends_its_own_pods_and_no_others() {
        let store = stoa_store::memory(stoa_store::Options::default());
        let clock = std::sync::Arc::new(stoa_units::SystemClock);
        let registry = Registry::new(store.clone(), clock, stoa_registry::Options::default());
        let key = stoa_store::Key::object("", "pods", "n", "p");
        let object = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "deletionGracePeriodSeconds": 1},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
        let stamped = stoa_kube::Object(object).to_stamped();
        store.commit(stoa_store::Txn::new().put(key.clone(), stamped)).await.unwrap();
        let pod = PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        assert!(remove(&registry, "n2", &pod).await.is_err_and(|e| e.is("Conflict")));
        assert!(store.get(&key).is_some());
        remove(&registry, "n1", &pod).await.unwrap();
        assert!(store.get(&key).is_none());
    }

    #[test]
    fn only_the_newest_status_waits_and_what_failed_does_not_replace_it() {
        let s = Statuses::default();
        let pod = PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        s.set(pod.clone(), Bytes::from_static(b"1")).unwrap();
        s.set(pod.clone(), Bytes::from_static(b"2")).unwrap();
        let mut taken = s.take();
        assert_eq!(taken.len(), 1);
        s.stopped(pod.clone()).unwrap();
        s.set(pod.clone(), Bytes::from_static(b"3")).unwrap();
        let (p, old) = taken.remove(0);
        assert_eq!(old.status.as_deref(), Some(&b"2"[..]));
        s.put_back(p, old);
        let again = s.take().remove(0).1;
        assert_eq!((again.status.as_deref(), again.stopped), (Some(&b"3"[..]), true));
    }

    #[test]
    fn what_passes_is_written_before_what_came_after_it() {
        let s = Statuses::default();
        let pod = PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        let waiting = |w: &Waiting| [&w.passing, &w.status].map(|s| s.as_ref().map_or(0, |b| b[0] - b'0'));
        let taken = || {
            let mut all = s.take();
            assert_eq!(all.len(), 1);
            all.remove(0)
        };
        s.set(pod.clone(), Bytes::from_static(b"1")).unwrap();
        s.set_passing(pod.clone(), Bytes::from_static(b"2")).unwrap();
        s.set(pod.clone(), Bytes::from_static(b"3")).unwrap();
        s.set(pod.clone(), Bytes::from_static(b"4")).unwrap();
        let (p, old) = taken();
        assert_eq!(waiting(&old), [2, 4]);
        s.put_back(p, old);
        s.set(pod.clone(), Bytes::from_static(b"5")).unwrap();
        let (p, old) = taken();
        assert_eq!(waiting(&old), [2, 5]);
        s.set_passing(pod.clone(), Bytes::from_static(b"6")).unwrap();
        s.put_back(p, old);
        assert_eq!(waiting(&taken().1), [6, 0]);
    }
}
