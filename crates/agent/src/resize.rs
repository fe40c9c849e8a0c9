//! Other resources for a pod that runs: first granted, where the node has them, then set in its cgroups, or by starting
//! a container again where its own policy wants that. Until they are granted the pod is as if nobody had asked.

use crate::container::resources_notes;
use crate::events::Kind;
use crate::limits;
use crate::machine::chain;
use crate::observed::{Ended, ResizePending};
use crate::plan;
use crate::pod::{self, Part};
use crate::refuse;
use crate::worker::{RETRY_AFTER, Worker};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Serialize;
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
                self.resizing = true;
                self.tell_resize(Kind::Normal, "ResizeStarted", "started", &wanted, None);
                wanted
            }
            Some(pending) => {
                // Once for each that is asked for, whatever else changes on the node meanwhile.
                let told = self.observed.resize_pending.as_ref().map(|p| p.reason);
                let generation = |pod: &Pod| pod.metadata.generation;
                let is_same = self.wanted.as_deref().map(generation) == Some(generation(wanted.as_ref()));
                if told != Some(pending.reason) || !is_same {
                    let event =
                        if pending.reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
                    let why = Some(pending.message.clone());
                    self.tell_resize(Kind::Warning, event, &pending.word, &wanted, why);
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
            return Some(ResizePending { reason: "Infeasible", word: "Infeasible".to_owned(), message });
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
                return Some(ResizePending { reason: "Infeasible", word: "Infeasible".to_owned(), message });
            }
            if used + asked > capacity {
                let message = format!(
                    "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
                );
                return Some(ResizePending { reason: "Deferred", word: format!("OutOf{name}"), message });
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
        let (uid, limits) = (&self.reference.uid, limits::of_container(&self.pod, container));
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
            Err(error) => self.resize_failed(error),
        }
    }

    /// Remembers why resources could not be set, and to try again.
    pub(crate) fn resize_failed(&mut self, error: String) {
        tracing::warn!(pod = %self.reference.name, %error, "cannot set a pod's resources");
        if self.observed.resize_error.as_ref() != Some(&error) {
            let why = Some(error.clone());
            self.tell_resize(Kind::Warning, "ResizeError", "error", &self.pod, why);
        }
        self.observed.resize_error = Some(error);
        self.observed.resize_retry_at = Some(self.shared.now().plus(RETRY_AFTER));
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
        for (_, container) in pod::containers(&pod).filter(|(part, _)| *part != Part::Ephemeral) {
            self.resize_one(container).await?;
        }
        machine.update_pod(&uid, target.clone()).await.map_err(|e| chain(&e))?;
        self.pod_limits = target;
        self.observed.resources = Some(pod::resources(&pod));
        self.finish_resize();
        Ok(())
    }

    /// Says that a resize is done, once all that had to be started again for it was.
    pub(crate) fn finish_resize(&mut self) {
        let is_waiting = |part: Part, container: &Container| {
            let Some(seen) = self.observed.seen(&container.name).filter(|s| s.attempts > 0) else {
                return false;
            };
            // Who has ended for good is waited for by nobody.
            let comes_back = |e: &Ended| pod::wants_restart(&self.pod, part, container, e.code);
            seen.killing || (!seen.is_running() && seen.ended().is_none_or(comes_back))
        };
        let is_done = || {
            let mut here =
                pod::containers(&self.pod).filter(|(part, _)| matches!(part, Part::Main | Part::Sidecar));
            !plan::needs_resize(&self.pod, &self.observed) && !here.any(|(part, c)| is_waiting(part, c))
        };
        if self.resizing && self.observed.doom.is_none() && is_done() {
            self.resizing = false;
            self.tell_resize(Kind::Normal, "ResizeCompleted", "completed", &self.pod, None);
        }
    }

    fn tell_resize(&self, kind: Kind, reason: &'static str, word: &str, pod: &Pod, error: Option<String>) {
        let message = format!("Pod resize {word}: {}", summary(pod, error));
        self.shared.recorder.record(&self.reference, None, kind, reason, message);
    }

    async fn resize_one(&mut self, container: &Container) -> Result<(), String> {
        let wanted = container.resources.clone().unwrap_or_default();
        let Some(seen) = self.observed.seen(&container.name) else { return Ok(()) };
        let (Some(id), Some(before)) = (seen.running_id().map(str::to_owned), seen.resources.clone()) else {
            return Ok(());
        };
        // What the pod names for itself bounds containers that name nothing: they change with it.
        // One that was started again has the new bounds, also while the pod itself cannot be given them.
        let of_pod = pod::resources(&self.pod);
        let held_of_pod = seen.of_pod.clone().or_else(|| self.observed.resources.clone()).unwrap_or_default();
        if seen.killing || (before == wanted && held_of_pod == of_pod) {
            return Ok(());
        }
        let (held, next) = (bounded(&before, &held_of_pod), bounded(&wanted, &of_pod));
        if wants_restart(container, &held, &next) {
            let message = format!("Container {} resize requires restart", container.name);
            self.observed.seen_mut(&container.name).recycled = true;
            self.kill(&container.name, pod::grace(&self.pod), plan::Turn::Now, &message);
            return Ok(());
        }
        // Written down also where nothing else changes, so that the next agent knows how far this one came.
        let notes = resources_notes(&self.pod, container).into();
        let set = self.limits_of(container);
        let set = self.shared.machine.update(&id, set, notes).await;
        set.map_err(|e| match chain(&e).split_once("attempting to set memory limit") {
            Some((_, why)) => format!(
                "cannot decrease memory limits: attempting to set container {} memory limit{why}",
                stoa_units::quote(&container.name)
            ),
            None => chain(&e),
        })?;
        let seen = self.observed.seen_mut(&container.name);
        (seen.resources, seen.of_pod) = (Some(wanted), Some(of_pod));
        Ok(())
    }
}

/// A container's resources, in the order in which a kubelet tells of them.
#[derive(Serialize)]
struct Allocation<'a> {
    name: &'a str,
    resources: ResourceRequirements,
}

/// What a pod is resized to, as JSON in an event's message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    init_containers: Vec<Allocation<'a>>,
    containers: Vec<Allocation<'a>>,
    generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn summary(pod: &Pod, error: Option<String>) -> String {
    let of = |is_wanted: fn(Part) -> bool| {
        let those = pod::containers(pod).filter(|(part, _)| is_wanted(*part));
        let allocation = |c: &'_ Container| c.resources.clone().unwrap_or_default();
        those.map(|(_, c)| Allocation { name: &c.name, resources: allocation(c) }).collect()
    };
    let summary = Summary {
        init_containers: of(|part| matches!(part, Part::Init | Part::Sidecar)),
        containers: of(|part| part == Part::Main),
        generation: pod.metadata.generation.unwrap_or(0),
        error,
    };
    serde_json::to_string(&summary).unwrap_or_default()
}

/// What bounds a container: its own limits, else those of its pod.
fn bounded(own: &ResourceRequirements, of_pod: &ResourceRequirements) -> ResourceRequirements {
    let mut out = own.clone();
    for (name, amount) in of_pod.limits.iter().flatten() {
        out.limits.get_or_insert_default().entry(name.clone()).or_insert_with(|| amount.clone());
    }
    out
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
    if pod::resources(old) != pod::resources(new) {
        return true;
    }
    pod::containers(new).any(|(_, c)| {
        pod::find(old, &c.name).is_some_and(|(_, o)| {
            o.resources.clone().unwrap_or_default() != c.resources.clone().unwrap_or_default()
        })
    })
}

/// `pod` with the resources that it and its containers have in `held`.
fn with_resources_of(pod: &Pod, held: &Pod) -> Pod {
    let mut out = pod.clone();
    let Some(spec) = &mut out.spec else { return out };
    spec.resources = held.spec.as_ref().and_then(|s| s.resources.clone());
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some((_, old)) = pod::find(held, &container.name) {
            container.resources.clone_from(&old.resources);
        }
    }
    out
}

/// A pod as it was granted before, by what its running containers and, with them, the pod itself were given.
pub(crate) fn held_resources(pod: &Pod, observed: &crate::observed::Observed) -> Option<Pod> {
    let mut out = pod.clone();
    let spec = out.spec.as_mut()?;
    let mut any = false;
    let of_pod = spec.resources.clone().unwrap_or_default();
    let mut running = observed.containers.values().filter(|s| s.is_running());
    if let Some(given) = running.find_map(|s| s.of_pod.as_ref().filter(|given| **given != of_pod)) {
        spec.resources = Some(given.clone());
        any = true;
    }
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

    #[test]
    fn what_a_pod_is_resized_to_is_told_as_a_kubelet_tells_it() {
        let amount =
            |cpu: &str| json!({"limits": {"cpu": cpu}, "requests": {"cpu": "100m", "memory": "100"}});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"generation": 2}, "spec": {
            "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": amount("200m")}],
            "containers": [{"name": "c", "resources": amount("300m")}, {"name": "d"}]}}))
        .unwrap();
        let resources = |cpu: &str| {
            format!(r#"{{"limits":{{"cpu":"{cpu}"}},"requests":{{"cpu":"100m","memory":"100"}}}}"#)
        };
        let (s, c) = (resources("200m"), resources("300m"));
        let told = format!(
            r#"{{"initContainers":[{{"name":"s","resources":{s}}}],"containers":[{{"name":"c","resources":{c}}},{{"name":"d","resources":{{}}}}],"generation":2,"error":"why"}}"#
        );
        assert_eq!(summary(&pod, Some("why".into())), told);
    }
}
