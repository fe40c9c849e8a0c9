//! The other calls of a subscribed framework: killing, reconciling, acknowledging, wanting more or less.

use crate::master::Master;
use crate::pod;
use crate::state::State;
use bytes::Bytes;
use std::sync::Arc;
use stoa_mesos::scheduler::{self, Command, Event};
use stoa_mesos::{Reason, TaskState};
use stoa_units::{AgentId, FrameworkId, TaskId, Time};
use tokio::sync::mpsc;

/// Longest list of tasks in one RECONCILE.
pub(crate) const RECONCILE_LEN_MAX: usize = 100_000;
/// Answers that are put on the stream at once. More wait for the reader, so that a long list does not count as slowness.
const RECONCILE_BURST_LEN_MAX: usize = 256;

/// A RECONCILE whose answers wait for room on the stream.
pub(crate) struct Pending {
    framework: FrameworkId,
    stream_id: String,
    queue: mpsc::Sender<Bytes>,
    tasks: Vec<(TaskId, Option<AgentId>)>,
}

impl Master {
    /// Carries out a call. An error is the text of a 400.
    pub async fn command(&self, id: &FrameworkId, command: Command) -> Result<(), String> {
        let now = self.now();
        match command {
            Command::Teardown => {
                self.state.lock().remove_framework(&mut self.ledger.lock(), id, now);
                self.flush().await;
                self.tell_ledger();
            }
            Command::Accept(call) => self.accept(id, call).await,
            Command::Decline(call) => self.decline(id, &call.offer_ids, call.filters.as_ref()),
            Command::Revive(roles) => {
                self.check_roles(id, &roles)?;
                let mut state = self.state.lock();
                state.allocator.revive(id, &roles);
                state.revive_inverses(id, now);
                save_suppressed(&mut state, id);
            }
            Command::Suppress(roles) => {
                self.check_roles(id, &roles)?;
                let mut state = self.state.lock();
                state.allocator.suppress(id, &roles);
                save_suppressed(&mut state, id);
            }
            Command::Kill(call) => self.kill(id, call, now).await,
            Command::Acknowledge(call) => {
                let mut state = self.state.lock();
                state.acknowledge(&(id.clone(), call.task_id.value), &call.uuid.0, now);
            }
            Command::Reconcile(call) => {
                if call.tasks.len() > RECONCILE_LEN_MAX {
                    return Err(format!("More than {RECONCILE_LEN_MAX} tasks in one RECONCILE"));
                }
                self.reconcile(id, call, now)?;
            }
            Command::ReconcileOperations(call) => self.reconcile_operations(id, &call),
            Command::UpdateFramework(call) => self.update_framework(id, *call).await?,
            Command::Shutdown(call) => {
                self.state.lock().shutdown_executor(id, &call.agent_id.value, &call.executor_id.value);
                self.flush().await;
            }
            Command::Message(call) => self.state.lock().send_to_executor(id, call),
            Command::AcceptInverseOffers(call) => self.answer_inverses(id, &call, "ACCEPT"),
            Command::DeclineInverseOffers(call) => self.answer_inverses(id, &call, "DECLINE"),
            Command::AcknowledgeOperation(call) => {
                if let Some((operation, uuid)) = call.parts() {
                    self.state.lock().acknowledge_operation(id, &operation, &uuid);
                }
            }
            Command::Nothing(_) => {}
        }
        self.nudge();
        Ok(())
    }

    fn check_roles(&self, id: &FrameworkId, roles: &[String]) -> Result<(), String> {
        let state = self.state.lock();
        let subscribed =
            state.frameworks.get(id).map(|f| f.record.info.subscribed_roles()).unwrap_or_default();
        match roles.iter().find(|r| !subscribed.contains(r)) {
            Some(role) => Err(format!("Framework is not subscribed to role '{role}'")),
            None => Ok(()),
        }
    }

    async fn kill(&self, id: &FrameworkId, call: scheduler::Kill, now: Time) {
        let key = (id.clone(), call.task_id.value);
        {
            let mut state = self.state.lock();
            if state.task(&key).is_some_and(|t| t.record.completed.is_none()) {
                let grace = call.kill_policy.as_ref().and_then(|k| k.grace_period.as_ref());
                state.kill_task(&key, grace.map(|d| pod::seconds_ceil(d.nanoseconds.0)));
            } else {
                let status = answer(&state, id, &key.1, call.agent_id.as_ref().map(|a| &a.value), now);
                state.send_plain(id, status);
            }
        }
        // The mark is on disk before the call is answered: a kill is not forgotten by a restart.
        self.flush().await;
    }

    fn reconcile(&self, id: &FrameworkId, call: scheduler::Reconcile, now: Time) -> Result<(), String> {
        let mut state = self.state.lock();
        let Some(f) = state.frameworks.get(id) else { return Ok(()) };
        let Some(subscriber) = &f.subscriber else { return Ok(()) };
        let tasks: Vec<(TaskId, Option<AgentId>)> = if call.tasks.is_empty() {
            f.live_tasks().map(|t| (t.record.id().clone(), None)).collect()
        } else {
            call.tasks.into_iter().map(|t| (t.task_id.value, t.agent_id.map(|a| a.value))).collect()
        };
        if tasks.len() > RECONCILE_BURST_LEN_MAX {
            let (stream_id, queue) = (subscriber.stream_id.clone(), subscriber.queue());
            let pending = Pending { framework: id.clone(), stream_id, queue, tasks };
            return self.pacer.try_send(pending).map_err(|_| "Too many reconciliations under way".into());
        }
        for (task, agent) in tasks {
            let status = answer(&state, id, &task, agent.as_ref(), now);
            state.send_plain(id, status);
        }
        Ok(())
    }

    /// Answers long RECONCILEs, each as fast as its reader reads.
    pub async fn run_pacer(self: Arc<Self>, mut pending: mpsc::Receiver<Pending>) {
        while let Some(p) = pending.recv().await {
            tokio::spawn(self.clone().pace(p));
        }
    }

    async fn pace(self: Arc<Self>, p: Pending) {
        for part in p.tasks.chunks(RECONCILE_BURST_LEN_MAX) {
            // The answers are made only when there is room for them, so that none is older than what follows it.
            let Ok(room) = p.queue.reserve_many(part.len()).await else { return };
            let state = self.state.lock();
            let subscriber = state.frameworks.get(&p.framework).and_then(|f| f.subscriber.as_ref());
            let Some(encoding) = subscriber.filter(|s| s.stream_id == p.stream_id).map(|s| s.encoding) else {
                return;
            };
            for (place, (task, agent)) in room.zip(part) {
                let status = answer(&state, &p.framework, task, agent.as_ref(), self.now());
                place.send(Event::update(status).to_record(encoding));
            }
        }
    }

    fn answer_inverses(&self, id: &FrameworkId, call: &scheduler::InverseAnswer, status: &'static str) {
        let ids: Vec<_> = call.inverse_offer_ids.iter().map(|i| i.value.clone()).collect();
        let refuse = call.filters.as_ref().and_then(|f| f.refuse_seconds).map(|s| s.0);
        self.state.lock().answer_inverses(id, &ids, status, refuse, self.now());
    }
}

fn save_suppressed(state: &mut State, id: &FrameworkId) {
    let suppressed = state.allocator.suppressed(id).cloned().unwrap_or_default();
    if let Some(f) = state.frameworks.get_mut(id).filter(|f| f.record.suppressed != suppressed) {
        f.record.suppressed = suppressed;
        state.save_framework(id);
    }
}

/// The answer to "what of this task?", in the order in which Mesos decides it. Agents are known from the store, so none is
/// ever "recovered, not yet back", the case in which Mesos stays silent.
fn answer(
    state: &State,
    id: &FrameworkId,
    task: &TaskId,
    agent: Option<&AgentId>,
    now: Time,
) -> stoa_mesos::TaskStatus {
    let known = state.task(&(id.clone(), task.clone())).filter(|t| t.record.completed.is_none());
    let mut status = match (known, agent.and_then(|a| state.agents.get(a))) {
        (Some(t), _) => {
            let is_away = !state.agents.get(&t.record.agent).is_some_and(|a| a.is_ready);
            let shown = if is_away && !t.state.is_terminal() { TaskState::Unreachable } else { t.state };
            let mut status = state.plain(id, task, Some(&t.record.agent), shown, now);
            status.executor_id = Some(stoa_mesos::Id { value: t.record.executor_id() });
            status.container_status = t.status.as_ref().and_then(|s| s.container_status.clone());
            status.message = Some("Reconciliation: Latest task state".into());
            status
        }
        (None, Some(a)) if a.is_ready => {
            let mut status = state.plain(id, task, agent, TaskState::Gone, now);
            status.message = Some("Reconciliation: Task is unknown to the agent".into());
            status
        }
        (None, Some(a)) => {
            let mut status = state.plain(id, task, agent, TaskState::Unreachable, now);
            status.message = Some("Reconciliation: Task is unreachable".into());
            status.unreachable_time = a.unready.map(crate::watch::time_info);
            status
        }
        (None, None) if agent.is_some_and(|a| state.rules.gone.contains_key(a)) => {
            let mut status = state.plain(id, task, agent, TaskState::GoneByOperator, now);
            status.message = Some("Reconciliation: Task is gone".into());
            status
        }
        (None, None) => {
            let mut status = state.plain(id, task, agent, TaskState::Unknown, now);
            status.message = Some("Reconciliation: Task is unknown".into());
            status
        }
    };
    status.reason = Some(Reason::Reconciliation);
    status
}
