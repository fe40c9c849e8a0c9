//! Follows pods and nodes in the store. Both follow the same pattern: list, look at everything, watch from there; when the
//! watch falls behind, again from the start. What is looked at is always the whole object, never what changed in it.

use crate::master::Master;
use crate::observe::{observe, observe_gone};
use crate::state::{Agent, State, TaskKey};
use std::collections::BTreeSet;
use std::time::Duration;
use stoa_kube::typed::{Node, Pod};
use stoa_ledger::Holder;
use stoa_mesos::agent::Attribute;
use stoa_mesos::framework::Capability;
use stoa_mesos::scheduler::{Event, Failure};
use stoa_mesos::{Id, Reason, TaskState};
use stoa_offers::Facts;
use stoa_store::{Error, EventKind, Key};
use stoa_units::{AgentId, FrameworkId, NamespacedName, OfferId, Resources, Revision, Time};

/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Labels of a node that are attributes of the agent.
const ATTRIBUTE_PREFIX: &str = "attribute.stoa.dev/";
/// On nodes: what is reserved from the start, as `--agent-resources` writes it.
const RESERVED_ANNOTATION: &str = "stoa.dev/reserved";
/// On nodes: what the agent lends and may take back, spelled like that.
const LENT_ANNOTATION: &str = "stoa.dev/revocable";
/// On nodes: where the Mesos API of the agent is.
const MESOS_API_ANNOTATION: &str = "stoa.dev/mesos-api";
/// On nodes: where persistent volumes are.
const VOLUMES_ANNOTATION: &str = "stoa.dev/volumes-dir";
/// How long an agent is not offered after offers of it were taken back for a pod.
const HOLD: Duration = Duration::from_secs(5);
/// How long a framework may sit on what is its fair share while a pod waits for it.
const OFFER_USE: Duration = Duration::from_secs(3);

impl Master {
    /// Lists pods and nodes once. Returns from where to watch.
    pub fn look(&self) -> Result<(Revision, Revision), Error> {
        let (nodes, nodes_at) = self.read_all(&Key::prefix("", "nodes", ""))?;
        let known: BTreeSet<AgentId> = self.state.lock().agents.keys().cloned().collect();
        let mut seen = BTreeSet::new();
        for entry in &nodes {
            seen.insert(AgentId::from(entry.key.name()));
            self.see_node(entry.key.name(), &entry.value);
        }
        self.sync_node_ports();
        for gone in known.difference(&seen) {
            self.lose_node(gone.as_str());
        }
        let (pods, pods_at) = self.read_all(&Key::prefix("", "pods", ""))?;
        let mut missing: BTreeSet<NamespacedName> = {
            let state = self.state.lock();
            state.pods.keys().chain(state.executor_pods.keys()).cloned().collect()
        };
        for entry in &pods {
            missing.remove(&name_of(&entry.key));
            self.see_pod(&entry.key, &entry.value);
        }
        for name in missing {
            self.lose_pod(&name, None, pods_at);
        }
        Ok((pods_at, nodes_at))
    }

    /// Follows pods and nodes for ever.
    pub async fn run_watch(&self, from: (Revision, Revision)) {
        let mut from = Some(from);
        loop {
            let (pods, nodes) = match from.take() {
                Some(from) => from,
                None => match self.look() {
                    Ok(from) => from,
                    Err(e) => {
                        tracing::warn!(error = %e, "cannot list pods and nodes: trying again");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            match self.follow(pods, nodes).await {
                Error::Closed => return,
                Error::Lagged | Error::Compacted { .. } => {}
                e => {
                    tracing::warn!(error = %e, "the watch of pods and nodes failed: starting again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn follow(&self, pods_at: Revision, nodes_at: Revision) -> Error {
        let watches = (
            self.store().watch(&Key::prefix("", "pods", ""), pods_at),
            self.store().watch(&Key::prefix("", "nodes", ""), nodes_at),
        );
        let (mut pods, mut nodes) = match watches {
            (Ok(p), Ok(n)) => (p, n),
            (Err(e), _) | (_, Err(e)) => return e,
        };
        loop {
            let batch = tokio::select! {
                b = pods.next() => b,
                b = nodes.next() => b,
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(e) => return e,
            };
            for event in &batch.events {
                match (event.key.resource(), event.kind) {
                    (Some("pods"), EventKind::Put) => self.see_pod(&event.key, &event.value),
                    (Some("pods"), EventKind::Delete) => {
                        self.lose_pod(&name_of(&event.key), Some(&event.value), event.revision);
                    }
                    (Some("nodes"), EventKind::Put) => self.see_node(event.key.name(), &event.value),
                    (Some("nodes"), EventKind::Delete) => self.lose_node(event.key.name()),
                    _ => {}
                }
            }
            self.nudge();
        }
    }

    // ---- pods

    fn see_pod(&self, key: &Key, bytes: &[u8]) {
        let name = name_of(key);
        let tasks = {
            let state = self.state.lock();
            if state.executor_pods.contains_key(&name) {
                drop(state);
                return self.see_executor(&name, bytes);
            }
            state.pods.get(&name).cloned()
        };
        let Some(tasks) = tasks else { return self.tell_pod(&name, bytes) };
        let Ok(pod) = serde_json::from_slice::<Pod>(bytes) else { return };
        let now = self.now();
        let mut state = self.state.lock();
        for task in &tasks {
            let Some(t) = state.task(task).filter(|t| t.record.pod_name() == name) else { continue };
            let seen = observe(&t.record, &pod);
            state.observe(task, &seen, now);
        }
        if has_ended(&pod) {
            self.ledger.lock().release(&Holder::Pod(name));
        }
    }

    /// A pod of the other face, for those who read the operator's stream.
    fn tell_pod(&self, name: &NamespacedName, bytes: &[u8]) {
        let mut state = self.state.lock();
        if !state.rules.rubbish.is_empty()
            && let Ok(pod) = serde_json::from_slice::<Pod>(bytes)
        {
            state.see_cleaner(&pod);
        }
        if state.watchers.is_empty() {
            return;
        }
        if let Some(pod) = serde_json::from_slice::<Pod>(bytes).ok().and_then(|p| crate::view::pod_task(&p)) {
            state.tell_pod(name, Some(pod));
        }
    }

    /// The pod's key is gone. `at` is when; a key that was written again since is not gone.
    fn lose_pod(&self, name: &NamespacedName, last: Option<&[u8]>, at: Revision) {
        let key = Key::object("", "pods", &name.namespace, &name.name);
        if self.store().get(&key).is_some_and(|e| e.modified > at) {
            return;
        }
        let last = last.and_then(|bytes| serde_json::from_slice::<Pod>(bytes).ok());
        let now = self.now();
        let mut state = self.state.lock();
        if state.executor_pods.contains_key(name) {
            state.lose_executor(name);
            self.ledger.lock().release(&Holder::Pod(name.clone()));
            return;
        }
        let Some(tasks) = state.pods.get(name).cloned() else {
            state.tell_pod(name, None);
            return;
        };
        let mut is_ours = false;
        for task in &tasks {
            let Some(t) = state.task(task).filter(|t| t.is_committed && t.record.pod_name() == *name) else {
                continue;
            };
            is_ours = true;
            let has_agent = state.agents.contains_key(&t.record.agent);
            let fate = fate(&state, &task.0, &t.record.agent);
            let seen = observe_gone(&t.record, last.as_ref(), has_agent, fate);
            state.observe(task, &seen, now);
        }
        if is_ours {
            self.ledger.lock().release(&Holder::Pod(name.clone()));
        }
    }

    // ---- nodes

    fn see_node(&self, name: &str, bytes: &[u8]) {
        let Ok(node) = serde_json::from_slice::<Node>(bytes) else { return };
        let id = AgentId::from(name);
        let now = self.now();
        let mut state = self.state.lock();
        let before = state.agents.get(&id).cloned();
        let agent = read_node(&node, name, before.as_ref(), now);
        let was_ready = before.as_ref().is_some_and(|a| a.is_ready);
        let is_ready = agent.is_ready;
        let mut facts = agent.facts();
        facts.is_remote = self.is_remote(&agent);
        state.agents.insert(id.clone(), agent);
        state.allocator.set_facts(&id, Some(facts));
        self.load_static(&mut state, &id, &node);
        if before.is_none() {
            // One of that name that was gone is another machine now.
            if state.rules.gone.remove(&id).is_some() {
                state.save_rules();
            }
            let ledger = self.ledger.lock();
            state.tell_agent_added(&ledger, &id);
        }
        match (was_ready, is_ready) {
            (true, false) => {
                state.drop_offers_of_agent(&mut self.ledger.lock(), &id);
                tell_unreachable(&mut state, &id, now);
            }
            (false, true) if before.is_some() => tell_reachable(&mut state, &id, now),
            _ => {}
        }
    }

    fn lose_node(&self, name: &str) {
        let id = AgentId::from(name);
        let now = self.now();
        let mut state = self.state.lock();
        if state.agents.remove(&id).is_none() {
            return;
        }
        state.allocator.set_facts(&id, None);
        state.tell_agent_removed(&id);
        state.drop_offers_of_agent(&mut self.ledger.lock(), &id);
        // The pods of a removed node are collected; what ran there is over now.
        for key in tasks_on(&state, &id) {
            let Some(t) = state.task(&key) else { continue };
            let fate = fate(&state, &key.0, &t.record.agent);
            let seen = observe_gone(&t.record, None, false, fate);
            let record = t.record.clone();
            state.observe(&key, &seen, now);
            if !record.is_entry() {
                state.kill_pod(&record, Some(0));
            }
        }
        state.lose_executors_of(&id);
        tell_failure(&mut state, &id);
    }

    fn is_remote(&self, agent: &Agent) -> bool {
        let own = self.options.domain.as_ref().map(|(region, _)| region);
        agent.region.as_ref().is_some_and(|r| own.is_some_and(|own| own != r))
    }

    /// Static reservations are what the agent says of itself; they change only when it starts with others.
    fn load_static(&self, state: &mut State, id: &AgentId, node: &Node) {
        let said = |key: &str| {
            let text = node.metadata.annotations.as_ref().and_then(|a| a.get(key))?;
            let list = stoa_mesos::mark::parse_text(text).ok()?;
            stoa_mesos::mark::sort(&list).ok()
        };
        let sorted = said(RESERVED_ANNOTATION);
        let mut ledger = self.ledger.lock();
        let lent = said(LENT_ANNOTATION).map(|s| s.plain).unwrap_or_default();
        state.set_lent(&mut ledger, id, lent);
        let want: Vec<crate::pools::Entry> = sorted
            .into_iter()
            .flat_map(|s| s.marked)
            .map(|(mark, total)| crate::pools::Entry { mark, total })
            .collect();
        let is_known = |e: &crate::pools::Entry| {
            ledger.pool(id, &e.mark.name()).is_some_and(|p| e.total.contains(&p.total))
        };
        // A static pool that was partly refined or made a volume of is smaller now.
        let new: Vec<_> = want.into_iter().filter(|e| !is_known(e)).collect();
        if !new.is_empty() {
            state.load_pools(&mut ledger, id, new);
        }
    }

    // ---- room for pods

    /// Takes back the offers that keep `need` from fitting on an agent, or on any one. True if some were.
    pub fn make_room(&self, agent: Option<&AgentId>, namespace: &str, need: &Resources) -> bool {
        let now = self.now();
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        let candidates: BTreeSet<AgentId> = match agent {
            Some(agent) => [agent.clone()].into(),
            None => state.offers.values().map(|o| o.agent.clone()).collect(),
        };
        let role = ledger.namespace_role(namespace);
        let is_stale = |id: &OfferId| state.offers.get(id).is_none_or(|o| now.since(o.made) >= OFFER_USE);
        let plans = candidates
            .iter()
            .filter_map(|a| Some((a, state.allocator.plan_rescind_for(&ledger, a, need, &role, &is_stale)?)));
        let best = plans.filter(|(_, offers)| !offers.is_empty()).min_by_key(|(_, offers)| offers.len());
        let Some((agent, offers)) = best else { return false };
        let agent = agent.clone();
        for offer in offers {
            state.drop_offer(&mut ledger, &offer, crate::state::Tell::Rescind);
        }
        state.allocator.hold(&agent, now.plus(HOLD));
        drop(ledger);
        drop(state);
        self.tell_ledger();
        true
    }
}

/// Whether a pod's containers are all over.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    phase.is_some_and(|p| matches!(p, "Succeeded" | "Failed"))
}

/// What a task of a framework becomes with its agent.
pub(crate) fn fate(state: &State, framework: &FrameworkId, agent: &AgentId) -> TaskState {
    let is_aware = state.frameworks.get(framework).is_some_and(|f| f.has(Capability::PartitionAware));
    if is_aware { state.fate_of(agent) } else { TaskState::Lost }
}

/// The tasks on an agent that have not ended.
pub(crate) fn tasks_on(state: &State, agent: &AgentId) -> Vec<TaskKey> {
    let is_live = |key: &&TaskKey| state.task(key).is_some_and(|t| !t.state.is_terminal());
    state.tasks_on.on(agent).filter(is_live).cloned().collect()
}

fn tell_unreachable(state: &mut State, agent: &AgentId, now: Time) {
    for key in tasks_on(state, agent) {
        let mut status = state.plain(&key.0, &key.1, Some(agent), TaskState::Unreachable, now);
        status.reason = Some(Reason::AgentRemoved);
        status.message = Some(format!("Agent {agent} is unreachable: its tasks may still run"));
        status.unreachable_time = Some(time_info(now));
        if let Some(task) = state.task_mut(&key) {
            task.is_unreachable = true;
        }
        state.send_plain(&key.0, status);
    }
    tell_failure(state, agent);
}

fn tell_reachable(state: &mut State, agent: &AgentId, now: Time) {
    for key in tasks_on(state, agent) {
        let Some(task) = state.task_mut(&key).filter(|t| t.is_unreachable) else { continue };
        task.is_unreachable = false;
        let task_state = task.state;
        let mut status = state.plain(&key.0, &key.1, Some(agent), task_state, now);
        status.reason = Some(Reason::AgentReregistered);
        status.message = Some(format!("Agent {agent} is reachable again"));
        state.send_plain(&key.0, status);
    }
}

fn tell_failure(state: &mut State, agent: &AgentId) {
    let event = Event::Failure {
        failure: Failure { agent_id: Some(Id { value: agent.clone() }), executor_id: None, status: None },
    };
    let all: Vec<FrameworkId> =
        state.frameworks.iter().filter(|(_, f)| f.is_connected()).map(|(id, _)| id.clone()).collect();
    for id in all {
        state.send(&id, &event);
    }
}

/// An instant in Mesos' form.
pub(crate) fn time_info(at: Time) -> stoa_mesos::task::TimeInfo {
    let nanoseconds = i64::try_from(at.0.as_nanosecond()).unwrap_or(i64::MAX);
    stoa_mesos::task::TimeInfo { nanoseconds: stoa_mesos::json::Int(nanoseconds) }
}

fn read_node(node: &Node, name: &str, before: Option<&Agent>, now: Time) -> Agent {
    let status = node.status.as_ref();
    let address = |kind: &str| {
        let all = status.and_then(|s| s.addresses.as_ref())?;
        all.iter().find(|a| a.type_ == kind).map(|a| a.address.clone())
    };
    let conditions = status.and_then(|s| s.conditions.as_ref());
    let is_ready = conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    let label = |name: &str| node.metadata.labels.as_ref().and_then(|l| l.get(name)).cloned();
    let labels = node.metadata.labels.iter().flatten();
    let attributes = labels
        .filter_map(|(k, v)| Some(Attribute::text(k.strip_prefix(ATTRIBUTE_PREFIX)?, v.as_str())))
        .collect();
    Agent {
        hostname: address("Hostname").unwrap_or_else(|| name.into()),
        address: address("InternalIP"),
        attributes,
        is_ready,
        api: node
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(MESOS_API_ANNOTATION))
            .and_then(|text| text.parse().ok()),
        volumes_dir: node.metadata.annotations.as_ref().and_then(|a| a.get(VOLUMES_ANNOTATION)).cloned(),
        region: label("topology.kubernetes.io/region"),
        zone: label("topology.kubernetes.io/zone"),
        since: before.map_or(now, |b| b.since),
        unready: if is_ready { None } else { before.and_then(|b| b.unready).or(Some(now)) },
    }
}

impl Agent {
    /// What offer constraints ask about.
    pub fn facts(&self) -> Facts {
        Facts {
            hostname: self.hostname.clone(),
            attributes: self.attributes.clone(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            is_remote: false,
        }
    }
}

fn name_of(key: &Key) -> NamespacedName {
    NamespacedName::new(key.namespace(), key.name())
}
