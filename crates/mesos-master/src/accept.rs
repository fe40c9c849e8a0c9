//! ACCEPT: offers become pods. The offers are taken out of the state first, so that nobody can use them twice; then the plan
//! is made, the claims move in the ledger, and one transaction writes the agent's claims key, the pods and the tasks'
//! records. Whatever goes wrong, every task that was asked for is answered.

use crate::executor::{self, Committed};
use crate::framework::Framework;
use crate::launch::{Ready, Start, chunks};
use crate::master::Master;
use crate::state::{Offer, State, TaskKey, Tell};
use crate::task::{self, Task};
use serde_json::json;
use stoa_ledger::{Holder, Split, claim_key};
use stoa_mesos::offer::Operation;
use stoa_mesos::scheduler::Accept;
use stoa_mesos::{Filters, FrameworkInfo, Id, Mark, Reason, TaskState};
use stoa_offers::{Change, Launch, Plan, Stock, plan_accept};
use stoa_store::{Error, Key, Txn};
use stoa_units::{AgentId, FrameworkId, OfferId, Revision, Stamped, TaskId};

/// How often a transaction that met another writer is made again.
const COMMIT_TRIES_MAX: usize = 20;

/// The offers of one ACCEPT or DECLINE, taken together.
pub(crate) struct Taken {
    pub agent: AgentId,
    pub role: String,
    pub offers: Vec<OfferId>,
    /// What they hold together.
    stock: Stock,
    /// What becomes of reservations and volumes.
    changes: Vec<Change>,
    /// What is left.
    rest: Split,
    /// For how long what is left of them is refused.
    refuse_seconds: Option<f64>,
}

/// Why offers cannot be used, and what tasks on them become.
struct Invalid {
    state: TaskState,
    reason: Reason,
    message: String,
}

impl Invalid {
    fn offers(message: String) -> Invalid {
        Invalid { state: TaskState::Dropped, reason: Reason::InvalidOffers, message }
    }
}

/// Whether tasks took the place of ended ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    New,
    Replaced,
}

impl Master {
    pub async fn accept(&self, id: &FrameworkId, call: Accept) {
        let now = self.now();
        let planned = {
            let mut state = self.state.lock();
            match self.take_offers(&mut state, id, &call) {
                Ok(mut taken) => {
                    let mut plan = self.plan(&state, id, &taken, &call);
                    taken.rest = plan.rest();
                    taken.changes = std::mem::take(&mut plan.changes);
                    answer_refusals(&mut state, id, &taken.agent, &plan, now);
                    let done = std::mem::take(&mut plan.done);
                    let starts: Vec<Start> =
                        plan.launches.into_iter().map(|l| Start::Task(l.into())).collect();
                    let starts: Vec<Start> = starts
                        .into_iter()
                        .chain(plan.groups.into_iter().map(|g| Start::Group(g.into())))
                        .collect();
                    state.frameworks.get_mut(id).map(|f| {
                        let ids =
                            starts.iter().flat_map(Start::launches).map(|l| l.task.task_id.value.clone());
                        let ids: Vec<TaskId> = ids.collect();
                        f.launching.extend(ids.iter().cloned());
                        (taken, f.record.info.clone(), ids, starts, done)
                    })
                }
                Err(invalid) => {
                    answer_all(&mut state, id, &call, &invalid, now);
                    None
                }
            }
        };
        if let Some((taken, info, ids, starts, done)) = planned {
            self.launch_all(id, &info, &taken, starts).await;
            if !taken.changes.is_empty() {
                // What is reserved is on disk before anybody hears of it.
                self.flush().await;
            }
            {
                let mut state = self.state.lock();
                for (i, done) in done {
                    if let Some(operation) = call.operations.get(i) {
                        state.tell_operation_done(id, &taken.agent, operation, done.converted);
                    }
                }
            }
            if let Some(f) = self.state.lock().frameworks.get_mut(id) {
                for id in &ids {
                    f.launching.remove(id);
                }
            }
        }
        self.tell_ledger();
    }

    /// Takes offers out of the state, all or none. The ledger still books them as offers.
    fn take_offers(&self, state: &mut State, id: &FrameworkId, call: &Accept) -> Result<Taken, Invalid> {
        let mut found: Vec<(OfferId, Offer)> = Vec::new();
        let mut error = call.offer_ids.is_empty().then(|| "No offers specified".to_string());
        for offer in &call.offer_ids {
            match state.offers.get(&offer.value).filter(|o| o.framework == *id) {
                None => error = Some(format!("Offer {} is no longer valid", offer.value)),
                Some(_) if found.iter().any(|(o, _)| *o == offer.value) => {
                    error = Some(format!("Duplicate offer {} in offer list", offer.value));
                }
                Some(o) => found.push((offer.value.clone(), o.clone())),
            }
        }
        if let Some((_, first)) = found.first() {
            if let Some((o, _)) = found.iter().find(|(_, o)| o.agent != first.agent) {
                error =
                    Some(format!("Aggregated offers must belong to one single agent. Offer {o} does not"));
            }
            if let Some((o, _)) = found.iter().find(|(_, o)| o.role != first.role) {
                error =
                    Some(format!("Aggregated offers must be allocated to the same role. Offer {o} does not"));
            }
        }
        let invalid = match (error, found.first()) {
            (Some(why), _) => Some(Invalid::offers(format!("Task launched with invalid offers: {why}"))),
            (None, Some((_, o))) if !state.agents.get(&o.agent).is_some_and(|a| a.is_ready) => {
                Some(Invalid {
                    state: TaskState::Dropped,
                    reason: Reason::AgentDisconnected,
                    message: format!("Agent {} is not connected", o.agent),
                })
            }
            _ => None,
        };
        if let Some(invalid) = invalid {
            // An offer can be used once, for better or worse.
            let mut ledger = self.ledger.lock();
            for (offer, _) in &found {
                state.drop_offer(&mut ledger, offer, Tell::Silent);
            }
            return Err(invalid);
        }
        let Some((_, first)) = found.first().cloned() else {
            return Err(Invalid::offers("Task launched with invalid offers: No offers specified".into()));
        };
        // An offer holds no pods: what the agent has room for is looked up now.
        let pods = self.ledger.lock().free(&first.agent).pods;
        let mut stock = Stock::default();
        {
            let ledger = self.ledger.lock();
            for (offer, o) in &found {
                let plain = ledger.unreserved(&Holder::Offer(offer.clone()));
                stock.put(&Mark::default(), &plain.unwrap_or_else(|| o.resources.clone()));
                for (name, part) in &o.draws {
                    if let Some(mark) = state.mark(&o.agent, name) {
                        stock.put(&mark, part);
                    }
                }
            }
        }
        stock.plain.pods = pods;
        for (offer, _) in &found {
            state.take_offer(offer);
        }
        Ok(Taken {
            agent: first.agent,
            role: first.role.to_string(),
            offers: found.into_iter().map(|(o, _)| o).collect(),
            rest: stock.split(),
            stock,
            changes: vec![],
            refuse_seconds: call.filters.as_ref().and_then(|f| f.refuse_seconds).map(|s| s.0),
        })
    }

    fn plan(&self, state: &State, id: &FrameworkId, taken: &Taken, call: &Accept) -> Plan {
        let f = state.frameworks.get(id);
        let is_known = |task: &TaskId| {
            f.is_some_and(|f| {
                f.launching.contains(task) || f.tasks.get(task).is_some_and(|t| t.record.completed.is_none())
            })
        };
        let accept = stoa_offers::Accept {
            agent: &taken.agent,
            role: &taken.role,
            offered: &taken.stock,
            operations: &call.operations,
            executors: &state.live_executors(id, &taken.agent),
            principal: f.and_then(|f| f.record.principal.as_deref()),
        };
        let is_allowed = |operation: &Operation| {
            let principal = f.and_then(|f| f.record.info.principal.as_deref());
            if !self.may_operate(principal, operation) {
                return Err(format!("Not authorized to carry out {}", operation.kind));
            }
            state.check_removed(&taken.agent, operation)?;
            crate::pools::check_unused(&self.ledger.lock(), &taken.agent, operation)
        };
        let mut plan = plan_accept(accept, &is_known, &is_allowed);
        if let Some(f) = f {
            self.refuse_users(f, &mut plan);
        }
        let room = self.options.tasks_per_framework_max.saturating_sub(f.map_or(0, |f| f.tasks.len()));
        let over = plan.launches.split_off(room.min(plan.launches.len()));
        for over in over {
            give_back(&mut plan, &over);
            plan.refusals.push(stoa_offers::Refusal {
                task: over.task.task_id.value.clone(),
                state: TaskState::Error,
                reason: Reason::TaskInvalid,
                message: format!("Framework has more than {} tasks", self.options.tasks_per_framework_max),
            });
        }
        plan
    }

    /// Refuses tasks that would run as somebody whom the framework's principal may not run as.
    fn refuse_users(&self, f: &Framework, plan: &mut Plan) {
        if self.options.acls.is_open() {
            return;
        }
        let principal = f.record.info.principal.as_deref();
        let may = |user: &str| self.options.acls.may(principal, stoa_authz::Action::RunTask, Some(user));
        // As whom a task would run and may not; what is more than its user's process is root's.
        let refused = |task: &stoa_mesos::TaskInfo| {
            let executor = task.executor.as_ref();
            let command = task.command.as_ref().or(executor.and_then(|e| e.command.as_ref()));
            let user = command.and_then(|c| c.user.as_deref()).unwrap_or(&f.record.info.user);
            let containers = task.container.iter().chain(executor.and_then(|e| e.container.as_ref()));
            let is_mighty = |c: &stoa_mesos::task::ContainerInfo| {
                stoa_mesos::options::options(c).is_ok_and(|o| o.is_mighty)
            };
            let is_mighty = containers.into_iter().any(is_mighty);
            if !may(user) {
                return Some(user.to_owned());
            }
            (is_mighty && !may("root")).then(|| "root".to_owned())
        };
        let refusal = |task: &stoa_mesos::TaskInfo, user: &str, reason| stoa_offers::Refusal {
            task: task.task_id.value.clone(),
            state: TaskState::Error,
            reason,
            message: format!("Not authorized to launch as user '{user}'"),
        };
        let mut kept = Vec::with_capacity(plan.launches.len());
        for launch in std::mem::take(&mut plan.launches) {
            let Some(user) = refused(&launch.task) else {
                kept.push(launch);
                continue;
            };
            give_back(plan, &launch);
            plan.refusals.push(refusal(&launch.task, &user, Reason::TaskUnauthorized));
        }
        plan.launches = kept;
        let mut kept = Vec::with_capacity(plan.groups.len());
        for group in std::mem::take(&mut plan.groups) {
            let Some(user) = group.launches.iter().find_map(|l| refused(&l.task)) else {
                kept.push(group);
                continue;
            };
            for launch in &group.launches {
                give_back(plan, launch);
                plan.refusals.push(refusal(&launch.task, &user, Reason::TaskGroupUnauthorized));
            }
        }
        plan.groups = kept;
    }

    /// Starts what is planned.
    async fn launch_all(&self, id: &FrameworkId, info: &FrameworkInfo, taken: &Taken, starts: Vec<Start>) {
        if starts.is_empty() {
            return self.return_offers(id, taken);
        }
        let namespace = match self.ensure_namespace(&taken.role).await {
            Ok(namespace) => namespace,
            Err(why) => {
                for start in &starts {
                    self.answer_launches(id, taken, start.launches(), TaskState::Error, &why);
                }
                return self.return_offers(id, taken);
            }
        };
        let mut ready: Vec<Ready> = Vec::with_capacity(starts.len());
        for start in starts {
            match self.prepare(id, info, taken, &namespace, &start, &ready) {
                Ok(r) => ready.push(r),
                Err(why) => self.answer_launches(id, taken, start.launches(), TaskState::Error, &why),
            }
        }
        let parts: Vec<(Holder, Split)> = ready.iter().flat_map(Ready::claims).collect();
        if let Err(why) = self.settle_offers(id, taken, &parts) {
            for r in &ready {
                self.answer_launches(id, taken, r.start.launches(), TaskState::Dropped, &why);
            }
            return self.return_offers(id, taken);
        }
        if self.enter_tasks(id, &ready) == Entry::Replaced {
            // What is still to be written of the old tasks must not come after the new ones' records.
            self.flush().await;
        }
        for chunk in chunks(ready) {
            self.commit(id, info, taken, chunk).await;
        }
    }

    /// Moves the claim from the offers to their parts. What is left is free and refused in the same breath, so that the
    /// cycle cannot offer it again in between.
    fn settle_offers(
        &self,
        id: &FrameworkId,
        taken: &Taken,
        parts: &[(Holder, Split)],
    ) -> Result<(), String> {
        let now = self.now();
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        let pools = state.plan_pools(&ledger, &taken.agent, &taken.changes);
        ledger.settle(&taken.offers, &pools, parts).map_err(|e| e.to_string())?;
        if !taken.changes.is_empty() {
            state.keep_pools(&ledger, &taken.agent, &taken.changes);
        }
        for offer in &taken.offers {
            state.allocator.discharge(&Holder::Offer(offer.clone()));
        }
        state.allocator.decline(id, &taken.role, &taken.agent, &taken.rest, taken.refuse_seconds, now);
        Ok(())
    }

    /// Nothing is taken of the offers: whatever the ledger still books of them is free.
    fn return_offers(&self, id: &FrameworkId, taken: &Taken) {
        if self.settle_offers(id, taken, &[]).is_ok() {
            return;
        }
        // The agent went meanwhile, and some of its offers with it.
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        for offer in &taken.offers {
            let holder = Holder::Offer(offer.clone());
            ledger.release(&holder);
            state.allocator.discharge(&holder);
        }
    }

    /// The state knows the tasks before the store does: the watch may be faster than the commit's answer.
    fn enter_tasks(&self, id: &FrameworkId, ready: &[Ready]) -> Entry {
        let mut state = self.state.lock();
        let mut entry = Entry::New;
        for r in ready {
            if let Some(executor) = &r.executor {
                state.enter_executor(executor.clone(), Committed::NotYet);
            }
            for record in &r.records {
                let key: TaskKey = (id.clone(), record.id().clone());
                // An ended task of the same id makes way, and so does its pod.
                if state.evict_task(&key) {
                    entry = Entry::Replaced;
                }
                state.enter_pod(record);
                if state.frameworks.get(id).is_some_and(|f| !f.is_removed()) {
                    state.charge(record);
                }
                state.put_task(key, Task::new(record.clone()));
            }
        }
        entry
    }

    async fn commit(&self, id: &FrameworkId, info: &FrameworkInfo, taken: &Taken, mut chunk: Vec<Ready>) {
        let claims = Key::internal("claims", &claim_key(&taken.agent));
        let mut failure = String::from("too many other writers");
        for _ in 0..COMMIT_TRIES_MAX {
            let expected = self.ledger.lock().revision(&taken.agent);
            let page =
                json!({"agent": taken.agent.as_str(), "writer": "mesos", "master": self.id}).to_string();
            let mut txn =
                Txn::new().expect(claims.clone(), expected).put(claims.clone(), Stamped::plain(page));
            for r in &chunk {
                if let Some(prepared) = &r.prepared {
                    txn = prepared.add_to(txn);
                }
                if let Some(executor) = &r.executor {
                    let bytes = stoa_mesos::json::to_ascii(executor);
                    txn = txn.put(executor::Record::key(&executor.uid), Stamped::plain(bytes));
                }
                for record in &r.records {
                    let key = task::Record::key(id, record.id());
                    txn = txn.put(key, Stamped::plain(stoa_mesos::json::to_ascii(record)));
                }
            }
            match self.store().commit(txn).await {
                Ok(commit) => {
                    self.ledger.lock().committed(&taken.agent, commit.revision);
                    self.started(id, &chunk);
                    return;
                }
                Err(Error::Conflict { key, current }) if key == claims => {
                    // Another writer of this process was faster, or the ledger was not yet told of the key: in one process
                    // there is one ledger, and it has already said that both fit.
                    let modified = current.map_or(Revision::ZERO, |e| e.modified);
                    self.ledger.lock().committed(&taken.agent, modified);
                }
                Err(Error::Conflict { .. }) => {
                    // The namespace changed: what admission saw is out of date.
                    let first = chunk.first().and_then(|r| r.records.first());
                    let namespace = first.map(|r| r.namespace.clone()).unwrap_or_default();
                    if let Err(why) = self.prepare_again(id, info, taken, &namespace, &mut chunk) {
                        failure = why;
                        break;
                    }
                }
                Err(e) => {
                    failure = e.to_string();
                    break;
                }
            }
        }
        tracing::error!(framework = %id, agent = %taken.agent, why = failure, "cannot write tasks");
        self.withdraw(id, &chunk);
        for r in &chunk {
            self.answer_launches(id, taken, r.start.launches(), TaskState::Dropped, &failure);
        }
    }

    fn prepare_again(
        &self,
        id: &FrameworkId,
        info: &FrameworkInfo,
        taken: &Taken,
        namespace: &str,
        chunk: &mut [Ready],
    ) -> Result<(), String> {
        for i in 0..chunk.len() {
            let (before, rest) = chunk.split_at_mut(i);
            let Some(r) = rest.first_mut() else { break };
            let new = self.prepare(id, info, taken, namespace, &r.start, before)?;
            let mut state = self.state.lock();
            if let (Some(old), Some(executor)) = (&r.executor, &new.executor) {
                state.forget_executor(&old.uid);
                state.enter_executor(executor.clone(), Committed::NotYet);
            }
            for record in &new.records {
                if let Some(task) = state.task_mut(&(id.clone(), record.id().clone())) {
                    task.record.uid = record.uid.clone();
                }
                state.enter_pod(record);
            }
            *r = new;
        }
        Ok(())
    }

    /// The store has the tasks. Whoever was killed meanwhile is killed now.
    fn started(&self, id: &FrameworkId, chunk: &[Ready]) {
        let mut state = self.state.lock();
        let is_removed = state.frameworks.get(id).is_none_or(|f| f.is_removed());
        for r in chunk {
            if let Some(executor) = &r.executor {
                state.executor_committed(&executor.uid);
                self.planes_wanted.notify_one();
                if is_removed {
                    state.kill_executor(&executor.uid, None);
                }
            }
            for record in &r.records {
                let key = (id.clone(), record.id().clone());
                let Some(task) = state.task_mut(&key) else {
                    if !record.is_entry() {
                        state.kill_pod(record, None);
                    }
                    continue;
                };
                task.is_committed = true;
                let is_killed = task.record.is_killed;
                state.tell_task_added(&key);
                if record.is_entry() {
                    state.say(&record.agent, executor::launch(record));
                }
                if is_killed || is_removed {
                    state.kill_task(&key, None);
                }
            }
        }
    }

    /// The store refused the tasks: nothing of them stays.
    fn withdraw(&self, id: &FrameworkId, chunk: &[Ready]) {
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        for r in chunk {
            for (holder, _) in r.claims() {
                ledger.release(&holder);
            }
            for record in &r.records {
                state.allocator.discharge(&record.share());
                state.leave_pod(record);
                state.take_task(&(id.clone(), record.id().clone()));
            }
            if let Some(executor) = &r.executor {
                state.forget_executor(&executor.uid);
            }
        }
    }

    fn answer_launches(
        &self,
        id: &FrameworkId,
        taken: &Taken,
        launches: &[Launch],
        state: TaskState,
        why: &str,
    ) {
        let now = self.now();
        let mut all = self.state.lock();
        for launch in launches {
            let mut status = all.plain(id, &launch.task.task_id.value, Some(&taken.agent), state, now);
            status.reason = Some(match state {
                TaskState::Error => Reason::TaskInvalid,
                _ => Reason::InvalidOffers,
            });
            status.message = Some(why.into());
            all.send_plain(id, status);
        }
    }

    /// DECLINE: an ACCEPT without operations, each offer by itself.
    pub fn decline(&self, id: &FrameworkId, offers: &[Id<OfferId>], filters: Option<&Filters>) {
        let now = self.now();
        let refuse = filters.and_then(|f| f.refuse_seconds).map(|s| s.0);
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        for offer in offers {
            if state.offers.get(&offer.value).is_none_or(|o| o.framework != *id) {
                continue;
            }
            if let Some(o) = state.drop_offer(&mut ledger, &offer.value, Tell::Silent) {
                state.allocator.decline(id, &o.role, &o.agent, &o.split(), refuse, now);
            }
        }
        drop(ledger);
        drop(state);
        self.tell_ledger();
    }
}

/// A task is not started after all: what it would have taken is left.
fn give_back(plan: &mut Plan, launch: &Launch) {
    let mut stock = Stock { plain: plan.remainder.clone(), marked: std::mem::take(&mut plan.marked) };
    let mut plain = launch.resources.clone();
    for (mark, part) in &launch.marked {
        if !mark.is_beside() {
            plain = plain.minus(part);
        }
        if mark.shared.is_none() {
            stock.put(mark, part);
        }
    }
    stock.put(&Mark::default(), &plain);
    plan.remainder = stock.plain;
    plan.marked = stock.marked;
}

fn answer_refusals(state: &mut State, id: &FrameworkId, agent: &AgentId, plan: &Plan, now: stoa_units::Time) {
    for refusal in &plan.refusals {
        let mut status = state.plain(id, &refusal.task, Some(agent), refusal.state, now);
        status.reason = Some(refusal.reason);
        status.message = Some(refusal.message.clone());
        state.send_plain(id, status);
    }
    for (operation, why) in &plan.failed_operations {
        state.tell_operation_error(id, agent, operation, why);
    }
}

/// Tells every task of a call that its offers are of no use.
fn answer_all(state: &mut State, id: &FrameworkId, call: &Accept, invalid: &Invalid, now: stoa_units::Time) {
    let launched = call.operations.iter().flat_map(|o| o.launch.iter().flat_map(|l| &l.task_infos));
    let grouped =
        call.operations.iter().flat_map(|o| o.launch_group.iter().flat_map(|g| &g.task_group.tasks));
    for task in launched.chain(grouped) {
        let mut status = state.plain(id, &task.task_id.value, Some(&task.agent_id.value), invalid.state, now);
        status.reason = Some(invalid.reason);
        status.message = Some(invalid.message.clone());
        state.send_plain(id, status);
    }
}
