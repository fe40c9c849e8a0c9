//! Reservations and volumes: pools in the ledger, a record for each agent in the store, and the operations of operators, who
//! need no offer. What they need and is only offered is taken back first.

use crate::master::Master;
use crate::mount;
use crate::respond::Refusal;
use crate::state::{Kill, State, Tell};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use stoa_authz::Action;
use stoa_kube::typed::Pod;
use stoa_ledger::{Ledger, Pool};
use stoa_mesos::Mark;
use stoa_mesos::offer::{Operation, OperationKind};
use stoa_offers::{Change, Context, Stock, kind_of, plan_operation};
use stoa_store::Key;
use stoa_units::{AgentId, OfferId, Resources};

/// The directory of reservations in the store, one record an agent.
pub(crate) const KIND: &str = "reservations";
/// On pods: the directory that they remove.
const CLEANER: &str = "stoa.dev/volume-dir";
/// Most pools of one agent.
pub(crate) const POOLS_PER_AGENT_MAX: usize = 4_096;

/// One pool of an agent's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub mark: Mark,
    pub total: Resources,
}

fn pool(mark: &Mark, total: Resources) -> Option<Pool> {
    (!total.is_empty()).then(|| Pool { role: mark.role().into(), kind: kind_of(mark), total })
}

impl State {
    /// Takes over what the store knows of an agent, or what the agent itself says of its static reservations.
    pub fn load_pools(&mut self, ledger: &mut Ledger, agent: &AgentId, entries: Vec<Entry>) {
        for entry in entries.into_iter().take(POOLS_PER_AGENT_MAX) {
            let name = entry.mark.name();
            ledger.set_pool(agent, &name, pool(&entry.mark, entry.total));
            self.marks.entry(agent.clone()).or_default().insert(name, entry.mark);
        }
    }

    /// What an agent lends from now on. Offers of more are taken back; who has more keeps it.
    pub fn set_lent(&mut self, ledger: &mut Ledger, agent: &AgentId, total: Resources) {
        let mark = Mark::lent();
        let name = mark.name();
        if ledger.pool(agent, &name).map(|p| &p.total).unwrap_or(&Resources::default()) == &total {
            return;
        }
        let offers: Vec<OfferId> = ledger.offers(agent).cloned().collect();
        for offer in offers {
            if ledger.draws(&stoa_ledger::Holder::Offer(offer.clone())).iter().any(|(n, _)| *n == name) {
                self.drop_offer(ledger, &offer, Tell::Rescind);
            }
        }
        ledger.set_pool(agent, &name, pool(&mark, total));
        self.marks.entry(agent.clone()).or_default().insert(name, mark);
    }

    /// What changes make of an agent's pools.
    pub fn plan_pools(
        &self,
        ledger: &Ledger,
        agent: &AgentId,
        changes: &[Change],
    ) -> Vec<(Arc<str>, Option<Pool>)> {
        let one = |c: &Change| {
            let name = c.mark.name();
            let old = ledger.pool(agent, &name).map(|p| p.total.clone()).unwrap_or_default();
            let new = pool(&c.mark, c.apply(&old));
            (name, new)
        };
        changes.iter().map(one).collect()
    }

    /// Remembers how changed pools are called and leaves the agent's record to be written.
    pub fn keep_pools(&mut self, ledger: &Ledger, agent: &AgentId, changes: &[Change]) {
        let base = self.agents.get(agent).and_then(|a| a.volumes_dir.clone());
        let mut rubbish = Vec::new();
        let marks = self.marks.entry(agent.clone()).or_default();
        for change in changes {
            let name = change.mark.name();
            if let (Some(base), Some(_), None) = (&base, change.mark.volume(), ledger.pool(agent, &name)) {
                rubbish.push((mount::volume_dir(base, &change.mark), agent.clone()));
            }
            match ledger.pool(agent, &name) {
                Some(_) => drop(marks.entry(name).or_insert_with(|| change.mark.clone())),
                None => drop(marks.remove(&name)),
            }
        }
        let entries: Vec<Entry> = ledger
            .pools(agent)
            .filter_map(|(name, pool)| {
                let mark = marks.get(name).cloned().or_else(|| Mark::parse(name))?;
                // What the agent was started with it says again itself.
                let is_static = mark.volume().is_none() && mark.dynamic().is_none();
                (!is_static).then(|| Entry { mark, total: pool.total.clone() })
            })
            .collect();
        let bytes = (!entries.is_empty()).then(|| Bytes::from(stoa_mesos::json::to_ascii(&entries)));
        self.dirty.insert(Key::internal(KIND, agent.as_str()), bytes);
        if !rubbish.is_empty() {
            self.rules.rubbish.extend(rubbish);
            self.save_rules();
        }
    }

    /// Whether a volume may be made: one of that name that is still being removed must be gone first.
    pub fn check_removed(&self, agent: &AgentId, operation: &Operation) -> Result<(), String> {
        let Some(base) = self.agents.get(agent).and_then(|a| a.volumes_dir.as_deref()) else { return Ok(()) };
        let volumes = operation.create.iter().flat_map(|c| &c.volumes);
        for mark in volumes.filter_map(|v| Mark::of(v).ok()) {
            if self.rules.rubbish.contains_key(&mount::volume_dir(base, &mark)) {
                return Err(format!(
                    "Persistent volume {} is still being destroyed",
                    mark.volume().unwrap_or_default()
                ));
            }
        }
        Ok(())
    }

    /// The removal of a volume's directory has ended.
    pub fn see_cleaner(&mut self, pod: &Pod) {
        let annotations = pod.metadata.annotations.as_ref();
        let Some(dir) = annotations.and_then(|a| a.get(CLEANER)).cloned() else { return };
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        if !matches!(phase, "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some() {
            return;
        }
        self.cleaning.remove(&dir);
        if phase == "Succeeded" && self.rules.rubbish.remove(&dir).is_some() {
            self.save_rules();
        }
        self.kills.push_back(Kill {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            grace_seconds: Some(0),
        });
    }

    /// What of an agent nobody has, with its marks.
    pub fn stock(&self, ledger: &Ledger, agent: &AgentId) -> Stock {
        let mut stock = Stock { plain: ledger.free(agent), marked: vec![] };
        for (name, _) in ledger.pools(agent) {
            let free = ledger.pool_free(agent, name);
            if let Some(mark) = self.mark(agent, name).filter(|_| !free.is_empty()) {
                stock.put(&mark, &free);
            }
        }
        stock
    }
}

/// Whether a shared volume that is to go is in use.
pub(crate) fn check_unused(ledger: &Ledger, agent: &AgentId, operation: &Operation) -> Result<(), String> {
    let volumes = operation.destroy.iter().flat_map(|d| &d.volumes);
    for mark in volumes.filter_map(|v| Mark::of(v).ok()).filter(|m| m.shared.is_some()) {
        let name = mark.name();
        let mut users = ledger.pool_users(agent, &name);
        if users.any(|h| matches!(h, stoa_ledger::Holder::Pod(_))) {
            return Err(format!("Persistent volume {} is in use", mark.volume().unwrap_or_default()));
        }
    }
    Ok(())
}

impl Master {
    /// Whether somebody may carry out an operation.
    pub fn may_operate(&self, principal: Option<&str>, operation: &Operation) -> bool {
        let acls = &self.options.acls;
        if acls.is_open() {
            return true;
        }
        let marks = |list: &[stoa_mesos::Resource]| -> Vec<Mark> {
            list.iter().filter_map(|r| Mark::of(r).ok()).collect()
        };
        let all = |action, objects: Vec<String>| {
            objects.iter().all(|object| acls.may(principal, action, Some(object)))
        };
        let roles = |marks: Vec<Mark>| marks.iter().map(|m| m.role().to_string()).collect::<Vec<_>>();
        let of = |value: &Mark, path: &str| -> String {
            value.disk.as_ref().and_then(|d| d["persistence"][path].as_str()).unwrap_or_default().into()
        };
        match operation.kind {
            OperationKind::Reserve => operation.reserve.as_ref().is_none_or(|r| {
                let source = marks(&r.source).into_iter().filter(|m| !m.is_plain());
                all(Action::ReserveResources, roles(marks(&r.resources)))
                    && all(
                        Action::UnreserveResources,
                        source.filter_map(|m| m.dynamic()?.principal.clone()).collect(),
                    )
            }),
            OperationKind::Unreserve => operation.unreserve.as_ref().is_none_or(|r| {
                let authors = marks(&r.resources).into_iter();
                all(
                    Action::UnreserveResources,
                    authors
                        .map(|m| m.dynamic().and_then(|d| d.principal.clone()).unwrap_or_default())
                        .collect(),
                )
            }),
            OperationKind::Create => {
                operation.create.as_ref().is_none_or(|c| all(Action::CreateVolume, roles(marks(&c.volumes))))
            }
            OperationKind::Destroy => operation.destroy.as_ref().is_none_or(|d| {
                let authors = marks(&d.volumes).iter().map(|m| of(m, "principal")).collect();
                all(Action::DestroyVolume, authors)
            }),
            OperationKind::GrowVolume => operation
                .grow_volume
                .as_ref()
                .is_none_or(|g| all(Action::ResizeVolume, roles(marks(std::slice::from_ref(&g.volume))))),
            OperationKind::ShrinkVolume => operation
                .shrink_volume
                .as_ref()
                .is_none_or(|g| all(Action::ResizeVolume, roles(marks(std::slice::from_ref(&g.volume))))),
            _ => true,
        }
    }

    /// An operator's operation on an agent.
    pub async fn operate(
        &self,
        agent: &AgentId,
        operation: &Operation,
        principal: Option<&str>,
    ) -> Result<(), Refusal> {
        if !self.may_operate(principal, operation) {
            return Err(Refusal::Forbidden);
        }
        {
            let mut state = self.state.lock();
            let mut ledger = self.ledger.lock();
            if !state.agents.contains_key(agent) {
                return Err(Refusal::Bad("No agent found with specified ID".into()));
            }
            check_unused(&ledger, agent, operation).map_err(Refusal::Conflict)?;
            state.check_removed(agent, operation).map_err(Refusal::Conflict)?;
            let context = Context { role: None, principal };
            let changes = loop {
                let mut stock = state.stock(&ledger, agent);
                let mut changes = Vec::new();
                match plan_operation(&mut stock, &mut changes, operation, context) {
                    Ok(_) => break changes,
                    Err(why) => {
                        // What is missing may only be offered.
                        let is_short = why.contains("does not contain");
                        let offer: Option<OfferId> = ledger.offers(agent).next().cloned();
                        match offer.filter(|_| is_short) {
                            Some(offer) => drop(state.drop_offer(&mut ledger, &offer, Tell::Rescind)),
                            None if is_short => return Err(Refusal::Conflict(why)),
                            None => {
                                return Err(Refusal::Bad(format!(
                                    "Invalid {} operation on agent {agent}: {why}",
                                    operation.kind
                                )));
                            }
                        }
                    }
                }
            };
            let pools = state.plan_pools(&ledger, agent, &changes);
            if ledger.pools(agent).count() + pools.len() > POOLS_PER_AGENT_MAX {
                return Err(Refusal::Conflict(format!("More than {POOLS_PER_AGENT_MAX} reservations")));
            }
            for (name, pool) in pools {
                ledger.set_pool(agent, &name, pool);
            }
            state.keep_pools(&ledger, agent, &changes);
        }
        self.flush().await;
        self.tell_ledger();
        Ok(())
    }

    /// Removes the directories of destroyed volumes: each by a pod of its own, on the machine where it is.
    pub async fn clean_volumes(&self) {
        let todo: Vec<(String, AgentId)> = {
            let mut state = self.state.lock();
            let ready = |agent: &AgentId| state.agents.get(agent).is_some_and(|a| a.is_ready);
            let new =
                state.rules.rubbish.iter().filter(|(dir, a)| !state.cleaning.contains(*dir) && ready(a));
            let new: Vec<_> = new.map(|(dir, agent)| (dir.clone(), agent.clone())).collect();
            state.cleaning.extend(new.iter().map(|(dir, _)| dir.clone()));
            new
        };
        for (dir, agent) in todo {
            if let Err(why) = self.start_cleaner(&dir, &agent).await {
                tracing::warn!(dir, %agent, why, "cannot remove a destroyed volume: trying again later");
                self.state.lock().cleaning.remove(&dir);
            }
        }
    }

    async fn start_cleaner(&self, dir: &str, agent: &AgentId) -> Result<(), String> {
        let namespace = self.ensure_namespace("*").await?;
        let name = crate::pod::pod_name(&"volumes".into(), "destroy", dir);
        let mut parts = dir.rsplitn(3, '/');
        let (id, role) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let base = parts.next().unwrap_or_default();
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "annotations": {CLEANER: dir}},
            "spec": {
                "nodeName": agent.as_str(), "restartPolicy": "Never", "hostNetwork": true,
                "automountServiceAccountToken": false, "tolerations": [{"operator": "Exists"}],
                "volumes": [{"name": "volumes", "hostPath": {"path": base, "type": "DirectoryOrCreate"}}],
                "containers": [{"name": "remove", "image": stoa_mesos::render::HOST_IMAGE,
                    // Never across mounts: what is mounted there is not the volume's.
                    "command": ["/bin/sh", "-c", "rm -rf --one-file-system -- \"$$MESOS_SANDBOX/volumes/$$1/$$2\"", "-", role, id],
                    "volumeMounts": [{"name": "volumes", "mountPath": format!("{}/volumes", stoa_mesos::render::SANDBOX)}]}],
            },
        });
        match self.registry.create(&self.context, self.pod_target(&namespace, &name), pod).await {
            Err(status) if status.code() != 409 => Err(status.message.to_string()),
            _ => Ok(()),
        }
    }

    /// The operation that a call of the operator API stands for.
    pub fn operation_of(kind: &str, part: &Value) -> Result<(AgentId, Operation), String> {
        let agent = part["agent_id"]["value"].as_str().ok_or("Expecting 'agent_id' to be present")?;
        let (kind, name) = match kind {
            "RESERVE_RESOURCES" => ("RESERVE", "reserve"),
            "UNRESERVE_RESOURCES" => ("UNRESERVE", "unreserve"),
            "CREATE_VOLUMES" => ("CREATE", "create"),
            "DESTROY_VOLUMES" => ("DESTROY", "destroy"),
            "GROW_VOLUME" => ("GROW_VOLUME", "grow_volume"),
            _ => ("SHRINK_VOLUME", "shrink_volume"),
        };
        let mut value = serde_json::json!({"type": kind});
        value[name] = part.clone();
        let operation = serde_json::from_value(value)
            .map_err(|e| format!("Failed to convert JSON into Call protobuf: {e}"))?;
        Ok((agent.into(), operation))
    }
}
