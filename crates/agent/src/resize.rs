//! Other resources for a pod that runs: first granted, where the node has them, then set in its cgroups, or by starting
//! a container again where its own policy wants that. Until they are granted the pod is as if nobody had asked.

use crate::container::{NOTE_RESOURCES, resources_note};
use crate::events::Kind;
use crate::limits;
use crate::machine::chain;
use crate::observed::ResizePending;
use crate::pod::{self, Part};
use crate::refuse;
use crate::worker::{RETRY_AFTER, Worker};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_runtime::{Limits, Qos};
use stoa_units::Quantity;

/// A grant that had to wait is tried again this often.
const GRANT_EVERY: Duration = Duration::from_secs(3);

impl Worker {
    /// The pod as it holds on this node: with the resources that it asks for, or, while those are not to be had, with
    /// the ones it has.
    pub(crate) fn grant_resources(&mut self, wanted: Arc<Pod>) -> Arc<Pod> {
        self.retry_grant_at = None;
        if self.observed.doom.is_some() || !differs(&self.pod, &wanted) {
            self.observed.resize_pending = None;
            self.wanted = None;
            return wanted;
        }
        match self.find_room(&wanted) {
            None => {
                self.shared.claims.lock().insert(self.reference.uid.clone(), refuse::claim(&wanted));
                self.observed.resize_pending = None;
                self.observed.resize_retry_at = None;
                self.wanted = None;
                wanted
            }
            Some(pending) => {
                if self.observed.resize_pending.as_ref() != Some(&pending) {
                    let event =
                        if pending.reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
                    let message = pending.message.clone();
                    self.shared.recorder.record(&self.reference, None, Kind::Warning, event, message);
                }
                if pending.reason == "Deferred" {
                    self.retry_grant_at = Some(self.shared.now().plus(GRANT_EVERY));
                }
                self.observed.resize_pending = Some(pending);
                let held = with_resources_of(&wanted, &self.pod);
                self.wanted = Some(wanted);
                Arc::new(held)
            }
        }
    }

    /// Others may have left meanwhile.
    pub(crate) fn retry_resources(&mut self) {
        if self.retry_grant_at.is_some_and(|at| at <= self.shared.now())
            && let Some(wanted) = self.wanted.clone()
        {
            self.pod = self.grant_resources(wanted);
        }
    }

    /// Why the node cannot give what the pod asks for.
    fn find_room(&self, wanted: &Pod) -> Option<ResizePending> {
        if self.shared.cpus.is_static()
            && limits::qos(wanted) == Qos::Guaranteed
            && limits::claim(wanted).0 != limits::claim(&self.pod).0
        {
            let message =
                "Resize is infeasible for Guaranteed Pods alongside CPU Manager static policy".to_owned();
            return Some(ResizePending { reason: "Infeasible", message });
        }
        let claims = self.shared.claims.lock();
        let others = claims.iter().filter(|(uid, _)| **uid != self.reference.uid);
        let used = others.fold((0_u64, 0_u64), |(c, m), (_, h)| (c + h.milli_cpu, m + h.memory_bytes));
        let capacity = |name: &str| self.shared.allocatable.get(name).and_then(|q| Quantity::parse(q).ok());
        let (cpu, memory) = limits::claim(wanted);
        let (old_cpu, old_memory) = limits::claim(&self.pod);
        let all = [
            ("cpu", cpu, old_cpu, used.0, capacity("cpu").map(|q| q.milli_ceil())),
            ("memory", memory, old_memory, used.1, capacity("memory").map(|q| q.value_ceil())),
        ];
        for (name, asked, held, used, capacity) in all {
            let Some(capacity) = capacity.filter(|_| asked > held) else { continue };
            if asked > capacity {
                let message = format!(
                    "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}"
                );
                return Some(ResizePending { reason: "Infeasible", message });
            }
            if used + asked > capacity {
                let message = format!(
                    "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
                );
                return Some(ResizePending { reason: "Deferred", message });
            }
        }
        None
    }

    /// The limits of the pod's cgroup. Who has CPUs to itself may use them whole: no quota takes a part of them away.
    pub(crate) fn limits_of_pod(&self) -> Limits {
        let limits = limits::of_pod(&self.pod, Some(self.shared.options.pod_pids_max));
        if self.shared.cpus.has_own(&self.reference.uid) { limits::without_quota(limits) } else { limits }
    }

    /// The limits of a container's cgroup, with the CPUs that it runs on.
    pub(crate) fn limits_of(&self, container: &Container) -> Limits {
        let (uid, limits) = (&self.reference.uid, limits::of_container(container));
        let is_own = self.shared.cpus.are_own(uid, &container.name);
        let limits = if is_own { limits::without_quota(limits) } else { limits };
        Limits { cpuset_cpus: self.shared.cpus.of(uid, &container.name), ..limits }
    }

    /// Sets what was granted. What cannot be set now is tried again.
    pub(crate) async fn resize(&mut self) {
        match self.try_resize().await {
            Ok(()) => {
                self.observed.resize_error = None;
                self.observed.resize_retry_at = None;
            }
            Err(error) => {
                tracing::warn!(pod = %self.reference.name, %error, "cannot set a pod's resources");
                if self.observed.resize_error.as_ref() != Some(&error) {
                    let message = format!("Error resizing pod: {error}");
                    self.shared.recorder.record(&self.reference, None, Kind::Warning, "ResizeError", message);
                }
                self.observed.resize_error = Some(error);
                self.observed.resize_retry_at = Some(self.shared.now().plus(RETRY_AFTER));
            }
        }
    }

    async fn try_resize(&mut self) -> Result<(), String> {
        let uid = self.reference.uid.clone();
        let machine = Arc::clone(&self.shared.machine);
        let target = self.limits_of_pod();
        // Wide enough for old and new at once, so that no order of the containers is wrong.
        let wide = limits::wider(&self.pod_limits, &target);
        machine.update_pod(&uid, wide.clone()).await.map_err(|e| chain(&e))?;
        self.pod_limits = wide;
        let pod = Arc::clone(&self.pod);
        let mut all_done = true;
        for (_, container) in pod::containers(&pod).filter(|(part, _)| *part != Part::Ephemeral) {
            all_done &= self.resize_one(container).await?;
        }
        machine.update_pod(&uid, target.clone()).await.map_err(|e| chain(&e))?;
        self.pod_limits = target;
        if all_done {
            let message =
                format!("Pod resize completed: generation {}", pod.metadata.generation.unwrap_or(0));
            self.shared.recorder.record(&self.reference, None, Kind::Normal, "ResizeCompleted", message);
        }
        Ok(())
    }

    /// Says whether the container has what it should have, now and not only after it was started again.
    async fn resize_one(&mut self, container: &Container) -> Result<bool, String> {
        let wanted = container.resources.clone().unwrap_or_default();
        let Some(seen) = self.observed.seen(&container.name) else { return Ok(true) };
        let (Some(id), Some(before)) = (seen.running_id().map(str::to_owned), seen.resources.clone()) else {
            return Ok(true);
        };
        if before == wanted {
            return Ok(true);
        }
        if seen.killing {
            return Ok(false);
        }
        if wants_restart(container, &before, &wanted) {
            let message = format!("Container {} resize requires restart", container.name);
            self.kill(&container.name, pod::grace(&self.pod), &message);
            return Ok(false);
        }
        let notes = [(NOTE_RESOURCES.to_owned(), resources_note(container))].into();
        let set = self.limits_of(container);
        self.shared.machine.update(&id, set, notes).await.map_err(|e| chain(&e))?;
        self.observed.seen_mut(&container.name).resources = Some(wanted);
        Ok(true)
    }
}

/// Whether the container's policy for what changes is to start it again.
fn wants_restart(container: &Container, before: &ResourceRequirements, after: &ResourceRequirements) -> bool {
    // By value: "1000m" is the same as "1", and no reason to start anything again.
    let get = |map: Option<&BTreeMap<String, Text>>, name: &str| {
        map.and_then(|m| m.get(name))
            .map(|q| Quantity::parse(&q.0).map(|q| q.nano()).map_err(|_| q.0.clone()))
    };
    let value =
        |r: &ResourceRequirements, name: &str| (get(r.requests.as_ref(), name), get(r.limits.as_ref(), name));
    container.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer"
            && value(before, &policy.resource_name) != value(after, &policy.resource_name)
    })
}

fn differs(old: &Pod, new: &Pod) -> bool {
    pod::containers(new).any(|(_, c)| {
        pod::find(old, &c.name).is_some_and(|(_, o)| {
            o.resources.clone().unwrap_or_default() != c.resources.clone().unwrap_or_default()
        })
    })
}

/// `pod` with the resources that its containers have in `held`.
fn with_resources_of(pod: &Pod, held: &Pod) -> Pod {
    let mut out = pod.clone();
    let Some(spec) = &mut out.spec else { return out };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some((_, old)) = pod::find(held, &container.name) {
            container.resources.clone_from(&old.resources);
        }
    }
    out
}

/// A pod as it was granted before, by what its running containers were given.
pub(crate) fn held_resources(pod: &Pod, observed: &crate::observed::Observed) -> Option<Pod> {
    let mut out = pod.clone();
    let spec = out.spec.as_mut()?;
    let mut any = false;
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        let given =
            observed.seen(&container.name).filter(|s| s.is_running()).and_then(|s| s.resources.clone());
        if let Some(given) = given.filter(|g| *g != container.resources.clone().unwrap_or_default()) {
            container.resources = Some(given);
            any = true;
        }
    }
    any.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_amount_in_other_words_starts_nothing_again() {
        let container: Container = serde_json::from_value(json!({"name": "c", "resizePolicy": [
            {"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": "RestartContainer"}]}))
        .unwrap();
        let sized = |cpu: &str, memory: &str| -> ResourceRequirements {
            serde_json::from_value(json!({"limits": {"cpu": cpu, "memory": memory}})).unwrap()
        };
        let before = sized("1", "1Gi");
        assert!(!wants_restart(&container, &before, &sized("1000m", "1073741824")));
        assert!(!wants_restart(&container, &before, &sized("2", "1Gi")));
        assert!(wants_restart(&container, &before, &sized("1", "2Gi")));
    }
}
