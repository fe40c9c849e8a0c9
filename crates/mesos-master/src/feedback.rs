//! What becomes of operations whose scheduler asked to hear of them: the newest status of each, repeated until it is
//! acknowledged, and the answers to questions about them.

use crate::master::Master;
use crate::state::State;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use stoa_mesos::offer::Operation;
use stoa_mesos::scheduler::{Event, OperationStatus, ReconcileOperations, UpdateOperationStatus};
use stoa_mesos::{Blob, Id, Resource};
use stoa_units::{AgentId, FrameworkId};
use tokio::time::Instant;

/// Operations of one framework whose status waits to be acknowledged; the oldest go first.
const OPERATIONS_PER_FRAMEWORK_MAX: usize = 1_000;
/// Questions answered in one call.
const RECONCILE_LEN_MAX: usize = 4_000;
/// How long a status waits for its acknowledgement.
const RETRY: Duration = Duration::from_secs(10);

/// An operation that was carried out.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    agent: AgentId,
    info: Value,
    status: OperationStatus,
    due: Instant,
    /// Grows with every operation: who is the oldest.
    number: u64,
}

/// The operations that wait, by framework and id.
pub(crate) type Operations = BTreeMap<(FrameworkId, String), Entry>;

fn status(state: &str, id: &str, agent: Option<&AgentId>) -> OperationStatus {
    OperationStatus {
        state: state.into(),
        operation_id: Some(Id { value: id.into() }),
        message: None,
        converted_resources: vec![],
        uuid: None,
        agent_id: agent.map(|a| Id { value: a.clone() }),
    }
}

fn event(status: OperationStatus) -> Event {
    Event::UpdateOperationStatus { update_operation_status: UpdateOperationStatus { status } }
}

impl State {
    /// An operation failed before it began: that is said once.
    pub fn tell_operation_error(&mut self, framework: &FrameworkId, agent: &AgentId, id: &str, why: &str) {
        let mut status = status("OPERATION_ERROR", id, Some(agent));
        status.message = Some(why.into());
        self.send(framework, &event(status));
    }

    /// An operation is done.
    pub fn tell_operation_done(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        operation: &Operation,
        converted: Vec<Resource>,
    ) {
        let Some(id) = operation.id.as_ref().map(|i| i.value.clone()) else { return };
        let mut status = status("OPERATION_FINISHED", &id, Some(agent));
        status.converted_resources = converted;
        status.uuid = Some(Id { value: Blob(uuid::Uuid::new_v4().as_bytes().to_vec()) });
        self.send(framework, &event(status.clone()));
        self.next_offer += 1;
        let entry = Entry {
            agent: agent.clone(),
            info: serde_json::to_value(operation).unwrap_or_default(),
            status,
            due: Instant::now() + RETRY,
            number: self.next_offer,
        };
        self.operations.insert((framework.clone(), id), entry);
        let of_framework = |k: &&(FrameworkId, String)| k.0 == *framework;
        if self.operations.keys().filter(of_framework).count() > OPERATIONS_PER_FRAMEWORK_MAX {
            let all = self.operations.iter().filter(|(k, _)| k.0 == *framework);
            if let Some(key) = all.min_by_key(|(_, e)| e.number).map(|(k, _)| k.clone()) {
                self.operations.remove(&key);
            }
        }
    }

    /// The framework has heard.
    pub fn acknowledge_operation(&mut self, framework: &FrameworkId, id: &str, uuid: &[u8]) {
        let key = (framework.clone(), id.to_string());
        let fits =
            self.operations.get(&key).and_then(|e| e.status.uuid.as_ref()).is_some_and(|u| u.value.0 == uuid);
        if fits {
            self.operations.remove(&key);
        }
    }

    /// Sends again what is due, or, for a framework that has just connected, everything.
    pub fn push_operations(&mut self, now: Instant, only: Option<&FrameworkId>) {
        let is_due = |(k, e): &(&(FrameworkId, String), &mut Entry)| match only {
            Some(framework) => k.0 == *framework,
            None => e.due <= now,
        };
        let due: Vec<(FrameworkId, OperationStatus)> = self
            .operations
            .iter_mut()
            .filter(|pair| is_due(pair))
            .map(|(k, e)| {
                e.due = now + RETRY;
                (k.0.clone(), e.status.clone())
            })
            .collect();
        for (framework, status) in due {
            if self.frameworks.get(&framework).is_some_and(|f| f.is_connected()) {
                self.send(&framework, &event(status));
            }
        }
    }

    /// GET_OPERATIONS.
    pub fn view_operations(&self) -> Vec<Value> {
        let one = |((framework, _), e): (&(FrameworkId, String), &Entry)| {
            json!({"framework_id": {"value": framework}, "agent_id": {"value": e.agent}, "info": e.info,
                "latest_status": e.status, "statuses": [e.status], "uuid": e.status.uuid})
        };
        self.operations.iter().map(one).collect()
    }

    fn operation_answer(
        &self,
        framework: &FrameworkId,
        id: &str,
        agent: Option<&AgentId>,
    ) -> OperationStatus {
        if let Some(known) = self.operations.get(&(framework.clone(), id.to_string())) {
            return OperationStatus { uuid: None, ..known.status.clone() };
        }
        let (name, why) = match agent.map(|a| (a, self.agents.get(a))) {
            Some((_, Some(a))) if a.is_ready => {
                ("OPERATION_DROPPED", "Reconciliation: Operation is unknown to the agent")
            }
            Some((_, Some(_))) => ("OPERATION_UNREACHABLE", "Reconciliation: Agent is unreachable"),
            Some((a, None)) if self.rules.gone.contains_key(a) => {
                ("OPERATION_GONE_BY_OPERATOR", "Reconciliation: Agent is gone")
            }
            _ => ("OPERATION_UNKNOWN", "Reconciliation: Operation is unknown"),
        };
        OperationStatus { message: Some(why.into()), ..status(name, id, agent) }
    }
}

impl Master {
    /// RECONCILE_OPERATIONS: of each that is asked for, or of all that wait.
    pub fn reconcile_operations(&self, framework: &FrameworkId, call: &ReconcileOperations) {
        let mut state = self.state.lock();
        if call.operations.is_empty() {
            state.push_operations(Instant::now(), Some(framework));
            return;
        }
        for asked in call.operations.iter().take(RECONCILE_LEN_MAX) {
            let agent = asked.agent_id.as_ref().map(|a| &a.value);
            let status = state.operation_answer(framework, &asked.operation_id.value, agent);
            state.send(framework, &event(status));
        }
    }
}
