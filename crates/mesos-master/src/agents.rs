//! What operators do with agents: drain, deactivate, reactivate, declare gone. There is one life of a machine for both faces:
//! a deactivated agent is a cordoned Node, a drained one is cordoned and emptied, and one that is gone is deleted.

use crate::master::Master;
use crate::respond::Refusal;
use crate::rules::Drain;
use crate::state::State;
use serde_json::Value;
use stoa_authz::Action;
use stoa_kube::typed::Pod;
use stoa_ledger::Holder;
use stoa_mesos::{Reason, TaskState};
use stoa_registry::{DeleteOptions, Target};
use stoa_store::Key;
use stoa_units::{AgentId, NamespacedName};

/// What lets a pod stay on a machine that is drained: a daemon belongs to it.
const DAEMONS: &str = "DaemonSet";

impl Master {
    fn check_agent(&self, agent: &AgentId, action: Action, principal: Option<&str>) -> Result<(), Refusal> {
        if !self.options.acls.may(principal, action, Some(agent.as_str())) {
            return Err(Refusal::Forbidden);
        }
        if self.state.lock().agents.contains_key(agent) {
            Ok(())
        } else {
            Err(Refusal::Bad("Unknown agent".into()))
        }
    }

    /// Marks the agent's Node, so that neither face places anything on it, or takes the mark away.
    pub async fn cordon(&self, agent: &AgentId, is_cordoned: bool) -> Result<(), Refusal> {
        let set = |node: &mut Value| {
            if is_cordoned {
                node["spec"]["unschedulable"] = true.into();
            } else if let Some(spec) = node["spec"].as_object_mut() {
                spec.remove("unschedulable");
            }
            Ok(())
        };
        let target = Target::new(self.nodes, "", agent.as_str());
        match self.registry.modify(&self.context, target, set).await {
            Ok(_) => {}
            Err(status) if status.code() == 404 => return Err(Refusal::Bad("Unknown agent".into())),
            Err(status) => return Err(Refusal::Failed(status.message.to_string())),
        }
        if is_cordoned {
            self.rescind_agent(agent);
        }
        self.tell_ledger();
        Ok(())
    }

    /// Ends everything on an agent but daemons. Tasks get their own grace, at most `grace` nanoseconds.
    pub async fn empty_agent(&self, agent: &AgentId, grace: Option<i64>) {
        let grace_seconds = grace.map(crate::pod::seconds_ceil);
        {
            let mut state = self.state.lock();
            for key in crate::watch::tasks_on(&state, agent) {
                let own = state.task(&key).map(|t| crate::pod::kill_grace_seconds(&t.record.task));
                let seconds = match (own, grace_seconds) {
                    (Some(own), Some(most)) => Some(own.min(most)),
                    (_, most) => most,
                };
                if let Some(task) = state.task_mut(&key) {
                    task.record.why_killed = Some(Reason::AgentDraining);
                }
                state.kill_task(&key, seconds);
            }
        }
        self.flush().await;
        let Ok((entries, _)) = self.read_all(&Key::prefix("", "pods", "")) else { return };
        for pod in entries.iter().filter_map(|e| serde_json::from_slice::<Pod>(&e.value).ok()) {
            let is_here = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(agent.as_str());
            let labels = pod.metadata.labels.as_ref();
            let is_task = labels.is_some_and(|l| l.contains_key(crate::pod::FRAMEWORK_LABEL));
            let owners = pod.metadata.owner_references.iter().flatten();
            let is_daemon = owners.into_iter().any(|o| o.kind == DAEMONS);
            if !is_here || is_task || is_daemon {
                continue;
            }
            let namespace = pod.metadata.namespace.unwrap_or_default();
            let name = pod.metadata.name.unwrap_or_default();
            let options = DeleteOptions { uid: pod.metadata.uid, ..DeleteOptions::default() };
            let target = self.pod_target(&namespace, &name);
            if let Err(status) = self.registry.delete(&self.context, target, &options).await
                && status.code() != 404
            {
                tracing::warn!(
                    pod = name,
                    namespace,
                    code = status.code(),
                    "cannot end a pod of a drained agent"
                );
            }
        }
    }

    /// DRAIN_AGENT.
    pub async fn drain_agent(
        &self,
        agent: &AgentId,
        grace: Option<i64>,
        mark_gone: bool,
        principal: Option<&str>,
    ) -> Result<(), Refusal> {
        self.check_agent(agent, Action::DrainAgent, principal)?;
        if mark_gone && !self.options.acls.may(principal, Action::MarkAgentGone, Some(agent.as_str())) {
            return Err(Refusal::Forbidden);
        }
        {
            let mut state = self.state.lock();
            let drain = Drain { started: self.now(), grace, mark_gone, is_drained: false };
            state.rules.drains.insert(agent.clone(), drain);
            state.rules.deactivated.insert(agent.clone());
            state.save_rules();
        }
        self.flush().await;
        self.cordon(agent, true).await?;
        self.empty_agent(agent, grace).await;
        self.finish_drains().await;
        Ok(())
    }

    /// Says of drained agents that they are, once nothing of a framework is left on them.
    pub async fn finish_drains(&self) {
        let gone: Vec<AgentId> = {
            let mut state = self.state.lock();
            let empty: Vec<AgentId> = state
                .rules
                .drains
                .iter()
                .filter(|(agent, d)| !d.is_drained && state.is_empty(agent))
                .map(|(agent, _)| agent.clone())
                .collect();
            if empty.is_empty() {
                return;
            }
            for agent in &empty {
                if let Some(drain) = state.rules.drains.get_mut(agent) {
                    drain.is_drained = true;
                }
            }
            state.save_rules();
            let drains = &state.rules.drains;
            empty.into_iter().filter(|a| drains.get(a).is_some_and(|d| d.mark_gone)).collect()
        };
        for agent in gone {
            if let Err(refusal) = self.lose_agent(&agent).await {
                tracing::warn!(%agent, ?refusal, "cannot declare a drained agent gone: trying again later");
                if let Some(drain) = self.state.lock().rules.drains.get_mut(&agent) {
                    drain.is_drained = false;
                }
            }
        }
        self.work.notify_one();
    }

    /// DEACTIVATE_AGENT.
    pub async fn deactivate_agent(&self, agent: &AgentId, principal: Option<&str>) -> Result<(), Refusal> {
        self.check_agent(agent, Action::DeactivateAgent, principal)?;
        {
            let mut state = self.state.lock();
            state.rules.deactivated.insert(agent.clone());
            state.save_rules();
        }
        self.flush().await;
        self.cordon(agent, true).await
    }

    /// REACTIVATE_AGENT.
    pub async fn reactivate_agent(&self, agent: &AgentId, principal: Option<&str>) -> Result<(), Refusal> {
        self.check_agent(agent, Action::ReactivateAgent, principal)?;
        {
            let mut state = self.state.lock();
            if !state.rules.deactivated.contains(agent) {
                return Err(Refusal::Bad("Agent is not deactivated".into()));
            }
            if state.rules.drains.get(agent).is_some_and(|d| !d.is_drained) {
                return Err(Refusal::Bad("Agent is still in the DRAINING state".into()));
            }
            state.rules.deactivated.remove(agent);
            state.rules.drains.remove(agent);
            state.save_rules();
        }
        self.flush().await;
        self.cordon(agent, false).await
    }

    /// MARK_AGENT_GONE. Saying it twice changes nothing.
    pub async fn mark_gone(&self, agent: &AgentId, principal: Option<&str>) -> Result<(), Refusal> {
        if !self.options.acls.may(principal, Action::MarkAgentGone, Some(agent.as_str())) {
            return Err(Refusal::Forbidden);
        }
        {
            let state = self.state.lock();
            if state.rules.gone.contains_key(agent) && !state.agents.contains_key(agent) {
                return Ok(());
            }
            if !state.agents.contains_key(agent) {
                return Err(Refusal::NotFound(format!("Agent '{agent}' not found")));
            }
        }
        self.lose_agent(agent).await
    }

    async fn lose_agent(&self, agent: &AgentId) -> Result<(), Refusal> {
        let pods = {
            let now = self.now();
            let mut state = self.state.lock();
            state.rules.add_gone(agent, now);
            state.save_rules();
            // Reservations and volumes go with the machine.
            let mut ledger = self.ledger.lock();
            let names: Vec<_> = ledger.pools(agent).map(|(name, _)| name.clone()).collect();
            for name in names {
                ledger.set_pool(agent, &name, None);
            }
            state.marks.remove(agent);
            state.dirty.insert(Key::internal(crate::pools::KIND, agent.as_str()), None);
            let names = ledger.claims(agent).filter_map(|(holder, _)| match holder {
                Holder::Pod(name) => Some(name.clone()),
                Holder::Offer(_) | Holder::Pool(..) => None,
            });
            let is_task =
                |n: &NamespacedName| state.pods.contains_key(n) || state.executor_pods.contains_key(n);
            names.filter(|n| !is_task(n)).collect::<Vec<_>>()
        };
        // The mark is on disk before the Node goes: whoever sees it gone knows why.
        self.flush().await;
        let target = Target::new(self.nodes, "", agent.as_str());
        match self.registry.delete(&self.context, target, &DeleteOptions::default()).await {
            Err(status) if status.code() != 404 => return Err(Refusal::Failed(status.message.to_string())),
            _ => {}
        }
        // Whoever says that a machine is gone says it of what ran there: nobody waits for it to come back.
        for name in pods {
            let target = self.pod_target(&name.namespace, &name.name);
            // Another of that name may run elsewhere by now.
            let stored = self.registry.get(target).ok();
            let Some(pod) = stored.and_then(|e| serde_json::from_slice::<Value>(&e.value).ok()) else {
                continue;
            };
            if pod["spec"]["nodeName"] != agent.as_str() {
                continue;
            }
            let uid = pod["metadata"]["uid"].as_str().map(str::to_owned);
            let options = DeleteOptions { uid, ..DeleteOptions::now() };
            match self.registry.delete(&self.context, target, &options).await {
                Err(status) if status.code() != 404 => {
                    tracing::warn!(pod = %name, error = %status.message, "cannot remove a pod of a gone agent");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl State {
    /// Whether every task on an agent has ended and its framework knows.
    fn is_empty(&self, agent: &AgentId) -> bool {
        let mut tasks = self.tasks_on.on(agent).filter_map(|key| self.task(key));
        tasks.all(|t| t.record.completed.is_some())
    }

    /// What a task becomes whose agent is no more.
    pub fn fate_of(&self, agent: &AgentId) -> TaskState {
        if self.rules.gone.contains_key(agent) { TaskState::GoneByOperator } else { TaskState::Gone }
    }
}
