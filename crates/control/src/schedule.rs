//! The scheduler's turn: takes pods that wait, decides, claims, and hands bindings over to be written.

use crate::bind::{Binding, Bound};
use crate::execute::merge;
use crate::recorder::Note;
use crate::service::Core;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::resources;
use stoa_ledger::Holder;
use stoa_reconcile::{Level, Pod};
use stoa_registry::{Context, DeleteOptions, Registry, Target};
use stoa_sched::{Budget, Decision, PodInfo, Preemption, Tried, place, preempt, suits};
use stoa_units::{AgentId, NamespacedName, Revision};

const COMPONENT: &str = "default-scheduler";
/// Pods that are looked at in one turn, placed or not, before anything else gets its turn.
const ATTEMPTS_LEN_MAX: usize = 512;

impl Core {
    /// Places pods that wait. Those that got a place are claimed for and returned, to be bound.
    pub(crate) fn place_waiting(&mut self) -> Vec<Binding> {
        let mut bindings = Vec::new();
        self.snapshot.sync(&self.ledger.lock());
        for _ in 0..ATTEMPTS_LEN_MAX {
            if bindings.len() >= self.options.bindings_len_max {
                break;
            }
            let now = self.clock.now();
            let Some(name) = self.queue.pop(now) else { break };
            let Some(info) = self.pending.get(&name).cloned() else {
                self.queue.remove(&name);
                continue;
            };
            if self.preempting.contains_key(&name) {
                // Tried again, and ready at once, when the last of those that give way was evicted and is seen to be going.
                self.queue.park(&name, now);
                continue;
            }
            let info = self.with_volumes(info);
            match self.place_one(&info) {
                Ok(node) => {
                    self.in_flight.insert(name.clone());
                    bindings.push(Binding { pod: name, uid: info.uid.clone(), node });
                }
                Err(None) => self.queue.retry(&name, now),
                Err(Some(message)) => {
                    self.queue.park(&name, now);
                    self.say_unschedulable(&name, message);
                }
            }
        }
        bindings
    }

    /// Decides and claims. The error is the message for the pod; none when it is only to be tried again.
    fn place_one(&mut self, info: &Arc<PodInfo>) -> Result<AgentId, Option<String>> {
        let diagnosis = match place(&self.snapshot, &mut self.frontiers, info) {
            Decision::Node { node, .. } => return self.claim(info, node),
            Decision::Unschedulable(diagnosis) => diagnosis,
        };
        if diagnosis.blocked.is_none() && self.make_room(info) {
            self.snapshot.sync(&self.ledger.lock());
            if let Decision::Node { node, .. } = place(&self.snapshot, &mut self.frontiers, info) {
                return self.claim(info, node);
            }
        }
        let tried = preempt(&self.snapshot, info, &self.budgets());
        let message = diagnosis.message(&tried);
        match tried {
            Tried::Found(plan) => {
                self.snapshot.nominate(info.clone(), &plan.node);
                if !plan.victims.is_empty() {
                    self.carry_out_preemption(info, plan);
                }
            }
            // It keeps what it was promised.
            Tried::NotEligible(_) if info.may_preempt => {}
            Tried::NotEligible(_) | Tried::Nowhere(_) => {
                if self.snapshot.nomination(&info.name).is_some() {
                    self.forget_nomination(info);
                }
                self.withdraw(&info.name);
            }
        }
        Err(Some(message))
    }

    /// The budgets that evictions should not exceed.
    fn budgets(&self) -> Vec<Budget> {
        let read = |b: &Arc<PodDisruptionBudget>| {
            let status = b.status.as_ref();
            Some(Budget {
                namespace: b.metadata.namespace.as_deref()?.into(),
                selector: stoa_reconcile::budget_selector(b)?,
                allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
                disrupted: status
                    .and_then(|s| s.disrupted_pods.as_ref())
                    .into_iter()
                    .flatten()
                    .map(|(n, _)| n.clone())
                    .collect(),
            })
        };
        self.world.budgets.iter().filter_map(read).collect()
    }

    /// No room is being made for the pod any more, and its status says so.
    fn forget_nomination(&mut self, info: &PodInfo) {
        let (registry, name, uid) = (self.registry.clone(), info.name.clone(), info.uid.clone());
        self.chores.spawn(async move { nominate(&registry, &name, &uid, Value::Null).await });
    }

    fn claim(&mut self, info: &Arc<PodInfo>, node: AgentId) -> Result<AgentId, Option<String>> {
        let mut ledger = self.ledger.lock();
        let holder = Holder::Pod(info.name.clone());
        let claimed = ledger.claim(&node, holder, &info.shape.requests);
        self.snapshot.sync(&ledger);
        drop(ledger);
        match claimed {
            Ok(()) => {
                self.withdraw(&info.name);
                self.promise_volumes(info, &node);
                self.snapshot.add_pod(info.clone(), &node, false);
                self.ledger_touched = true;
                Ok(node)
            }
            // Somebody else took it between the look and the claim.
            Err(short) => {
                tracing::debug!(pod = %info.name, %node, %short, "a claim came too late");
                Err(None)
            }
        }
    }

    /// Keeps no room for the pod any more: others may fit.
    pub(crate) fn withdraw(&mut self, name: &NamespacedName) {
        self.room_freed |= self.snapshot.withdraw(name);
    }

    /// Has offers taken back that keep the pod from fitting anywhere.
    fn make_room(&mut self, info: &PodInfo) -> bool {
        let need = &info.shape.requests;
        let agent = {
            let ledger = self.ledger.lock();
            if ledger.usages().all(|(_, u)| u.offers.is_empty()) {
                return false;
            }
            let helps =
                |id: &&AgentId| self.snapshot.node(id).is_some_and(|node| suits(&self.snapshot, info, node));
            let plans = ledger.agents().filter_map(|id| {
                let offers = ledger.offers_in_the_way(id, need).filter(|o| !o.is_empty())?;
                Some((offers.len(), id)).filter(|(_, id)| helps(id))
            });
            plans.min().map(|(_, id)| id.clone())
        };
        agent.is_some_and(|id| self.rescinder.make_room(Some(&id), &info.name.namespace, need))
    }

    /// What became of bindings.
    pub(crate) fn settle_bindings(&mut self, results: Vec<(Binding, Bound)>) {
        let now = self.clock.now();
        for (binding, bound) in results {
            let name = &binding.pod;
            self.in_flight.remove(name);
            let pod = self.world.pods.get(&name.namespace, &name.name).cloned();
            if let (Bound::At(revision), Some(pod)) = (bound, &pod) {
                self.queue.remove(name);
                self.pending.remove(name);
                if *pod.id.uid == *binding.uid {
                    self.written = self.written.max(revision);
                    self.keep_promise(name, &binding.node);
                    self.say_scheduled(pod, &binding);
                    continue;
                }
            }
            // Not bound, or gone by now. What the store says of a pod that is bound otherwise is what holds.
            match pod.filter(|p| !p.node.is_empty() && !p.is_ended()) {
                Some(pod) => {
                    let node = AgentId::from(pod.node.as_str());
                    if let Some(info) = self.pending.remove(name) {
                        let holder = Holder::Pod(name.clone());
                        self.ledger.lock().force_claim(&node, holder, &info.shape.requests);
                        self.snapshot.add_pod(info, &node, pod.deleting);
                    }
                    self.queue.remove(name);
                }
                None => {
                    self.ledger.lock().release(&Holder::Pod(name.clone()));
                    self.snapshot.remove_pod(name);
                    self.room_freed = true;
                    if bound == Bound::Failed && self.pending.contains_key(name) {
                        self.queue.retry(name, now);
                    } else {
                        self.wait_anew(name);
                    }
                }
            }
            self.ledger_touched = true;
        }
    }

    /// A pod of that name may have come while another one was in flight.
    fn wait_anew(&mut self, name: &NamespacedName) {
        self.queue.remove(name);
        self.pending.remove(name);
        let Some(pods) = resources().find("", "v1", "pods") else { return };
        let key = self.registry.key(pods, &name.namespace, &name.name);
        let Some(entry) = self.registry.store().get(&key) else { return };
        let Ok(typed) = serde_json::from_slice::<stoa_kube::typed::Pod>(&entry.value) else { return };
        let unbound = typed.spec.as_ref().is_some_and(|s| s.node_name.is_none());
        let info = Arc::new(PodInfo::read(&typed));
        if unbound && typed.metadata.deletion_timestamp.is_none() && info.gates.is_empty() {
            self.queue.add(name.clone(), info.priority, info.started);
            self.pending.insert(name.clone(), info);
        }
    }

    fn say_scheduled(&self, pod: &Pod, binding: &Binding) {
        self.recorder.say(Note {
            about: pod.id.clone(),
            level: Level::Normal,
            reason: "Scheduled",
            message: format!("Successfully assigned {} to {}", binding.pod, binding.node),
            component: COMPONENT,
            action: "Binding",
        });
    }

    fn say_unschedulable(&mut self, name: &NamespacedName, message: String) {
        let Some(pod) = self.world.pods.get(&name.namespace, &name.name).cloned() else { return };
        self.recorder.say(Note {
            about: pod.id.clone(),
            level: Level::Warning,
            reason: "FailedScheduling",
            message: truncated(&message),
            component: COMPONENT,
            action: "Scheduling",
        });
        self.report(&pod, "Unschedulable", message);
    }

    /// Writes why a pod is not scheduled into its status, unless it says so already.
    pub(crate) fn report(&mut self, pod: &Pod, reason: &'static str, message: String) {
        let said = pod.condition("PodScheduled");
        if said.is_some_and(|c| c.status == "False" && c.reason == reason && c.message == message) {
            return;
        }
        let (registry, id, now) = (self.registry.clone(), pod.id.clone(), self.clock.now());
        self.chores.spawn(async move {
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message,
                "lastProbeTime": null, "lastTransitionTime": now.to_rfc3339_seconds()});
            let name = NamespacedName { namespace: id.namespace, name: id.name };
            set_condition(&registry, &name, &id.uid, condition).await;
        });
    }

    fn carry_out_preemption(&mut self, info: &PodInfo, plan: Preemption) {
        let (registry, recorder, now) = (self.registry.clone(), self.recorder.clone(), self.clock.now());
        for (victim, uid) in &plan.victims {
            // Its end is decided: whoever else needs room does not choose it again.
            self.snapshot.set_terminating(victim, true);
            if let Some(pod) = self.world.pods.get(&victim.namespace, &victim.name) {
                debug_assert_eq!(*pod.id.uid, **uid);
                recorder.say(Note {
                    about: pod.id.clone(),
                    level: Level::Normal,
                    reason: "Preempted",
                    message: format!("Preempted by pod {} on node {}", info.uid, plan.node),
                    component: COMPONENT,
                    action: "Preempting",
                });
            }
        }
        let (pod, uid) = (info.name.clone(), info.uid.clone());
        self.preempting.insert(pod.clone(), None);
        self.evictions.spawn(async move {
            let mut evicted = Evicted { by: pod.clone(), revision: Revision::ZERO, spared: Vec::new() };
            let Some(pods) = resources().find("", "v1", "pods") else { return evicted };
            nominate(&registry, &pod, &uid, json!(plan.node)).await;
            let ctx = Context::system("scheduler");
            for (victim, victim_uid) in plan.victims {
                let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                    "message": "default-scheduler: preempting to accommodate a higher priority pod",
                    "lastProbeTime": null, "lastTransitionTime": now.to_rfc3339_seconds()});
                set_condition(&registry, &victim, &victim_uid, condition).await;
                let options = DeleteOptions { uid: Some(victim_uid), ..DeleteOptions::default() };
                let target = Target::new(pods, &victim.namespace, &victim.name);
                match registry.delete(&ctx, target, &options).await {
                    Ok(deleted) => evicted.revision = evicted.revision.max(deleted.revision),
                    Err(status) => {
                        tracing::debug!(%victim, error = %status.message, "a victim was not evicted");
                        evicted.spared.push(victim);
                    }
                }
            }
            evicted
        });
    }

    /// What became of evictions.
    pub(crate) fn settle_evictions(&mut self, done: Result<Evicted, tokio::task::JoinError>) {
        match done {
            Ok(evicted) => {
                for name in &evicted.spared {
                    let going = self.world.pods.get(&name.namespace, &name.name).is_some_and(|p| p.deleting);
                    self.snapshot.set_terminating(name, going);
                }
                self.preempting.insert(evicted.by, Some(evicted.revision));
            }
            // Whose it was is not known: all may try again.
            Err(_) => self.preempting.values_mut().for_each(|done| *done = Some(Revision::ZERO)),
        }
        self.look_at_preemptions();
    }

    /// Pods whose victims were evicted, as far as can be seen here, are tried again at once.
    pub(crate) fn look_at_preemptions(&mut self) {
        let seen = self.revision;
        let done = self.preempting.extract_if(|_, done| done.is_some_and(|revision| revision <= seen));
        let names: Vec<NamespacedName> = done.map(|(name, _)| name).collect();
        for name in names {
            if let Some(info) = self.pending.get(&name) {
                self.queue.add(name, info.priority, info.started);
            }
        }
    }
}

/// What became of the pods that were to give way to another.
pub(crate) struct Evicted {
    by: NamespacedName,
    /// At which revision the last of them went.
    revision: Revision,
    /// Those that were not evicted.
    spared: Vec<NamespacedName>,
}

/// An event's message is no longer than so many bytes.
fn truncated(message: &str) -> String {
    const BYTES_MAX: usize = 1_024;
    const END: &str = " ...";
    if message.len() <= BYTES_MAX {
        return message.to_string();
    }
    let end = (0..=BYTES_MAX - END.len()).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
    format!("{}{END}", &message[..end])
}

/// Says where room is being made for a pod that is still the same one.
async fn nominate(registry: &Arc<Registry>, pod: &NamespacedName, uid: &str, node: Value) {
    let Some(pods) = resources().find("", "v1", "pods") else { return };
    let nominated = json!({"status": {"nominatedNodeName": node}});
    let target = Target::new(pods, &pod.namespace, &pod.name).sub("status");
    let change = |v: &mut Value| {
        if v["metadata"]["uid"] == *uid {
            merge(v, &nominated);
        }
        Ok(())
    };
    if let Err(status) = registry.modify(&Context::system("scheduler"), target, change).await {
        tracing::debug!(%pod, error = %status.message, "a pod's nomination was not written");
    }
}

/// Sets one condition of a pod that is still the same one.
async fn set_condition(registry: &Arc<Registry>, name: &NamespacedName, uid: &str, condition: Value) {
    let Some(pods) = resources().find("", "v1", "pods") else { return };
    let target = Target::new(pods, &name.namespace, &name.name).sub("status");
    let change = |pod: &mut Value| {
        if pod["metadata"]["uid"] != *uid {
            return Ok(());
        }
        let kind = condition["type"].clone();
        // A pod that was bound meanwhile is scheduled, whatever was thought of it before.
        if kind == "PodScheduled" && pod["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty()) {
            return Ok(());
        }
        let mut condition = condition.clone();
        // That it is gated is said of any generation.
        if condition["reason"] != "SchedulingGated" {
            condition["observedGeneration"] = pod["metadata"]["generation"].clone();
        }
        match pod["status"]["conditions"].as_array_mut() {
            Some(all) => {
                all.retain(|c| c["type"] != kind);
                all.push(condition);
            }
            None => pod["status"]["conditions"] = json!([condition]),
        }
        Ok(())
    };
    if let Err(status) = registry.modify(&Context::system("scheduler"), target, change).await {
        tracing::debug!(pod = %name, error = %status.message, "a condition was not written");
    }
}
