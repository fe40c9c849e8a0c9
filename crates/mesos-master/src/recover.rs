//! After a start: frameworks, tasks, agents and pods as the store has them. Everybody who was subscribed is given time to
//! come back; updates that were not confirmed are queued again.

use crate::executor;
use crate::framework::{self, Framework};
use crate::master::Master;
use crate::observe::{Observation, Run};
use crate::pools;
use crate::rules::Rules;
use crate::state::failover_timeout;
use crate::task::{self, Killing, Rank, Task};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::collections::BTreeMap;
use stoa_ledger::{Holder, Split};
use stoa_mesos::Source;
use stoa_store::{Entry, Error, Key, Range};
use stoa_units::{AgentId, Revision, Time};
use tokio::time::Instant;

impl Master {
    /// Everything under a prefix, and as of when. In one piece: a page counts what comes after it, and so pages of so many
    /// tasks as a cluster may have cost the square of their number; the bytes are shared either way.
    pub fn read_all(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), Error> {
        let page = self.store().range(Range { prefix, ..Range::default() })?;
        Ok((page.entries, page.revision))
    }

    fn read_records<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, Error> {
        let (entries, _) = self.read_all(&Key::internal_prefix(kind))?;
        let parse = |e: &Entry| match serde_json::from_slice(&e.value) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(key = %e.key, %error, "cannot read a record: leaving it alone");
                None
            }
        };
        Ok(entries.iter().filter_map(parse).collect())
    }

    fn read_reservations(&self) -> Result<Vec<(AgentId, Vec<pools::Entry>)>, Error> {
        let (entries, _) = self.read_all(&Key::internal_prefix(pools::KIND))?;
        let parse = |e: &Entry| match serde_json::from_slice(&e.value) {
            Ok(list) => Some((AgentId::from(e.key.name()), list)),
            Err(error) => {
                tracing::error!(key = %e.key, %error, "cannot read reservations: leaving them alone");
                None
            }
        };
        Ok(entries.iter().filter_map(parse).collect())
    }

    /// Takes over frameworks and tasks.
    pub fn recover(&self) -> Result<(), Error> {
        let frameworks: Vec<framework::Record> = self.read_records(framework::KIND)?;
        let executors: Vec<executor::Record> = self.read_records(executor::KIND)?;
        let tasks: Vec<task::Record> = self.read_records(task::KIND)?;
        let rules = self.store().get(&Rules::key()).and_then(|e| serde_json::from_slice(&e.value).ok());
        let now = self.now();
        let mut state = self.state.lock();
        state.rules = rules.unwrap_or_default();
        state.apply_rules();
        for record in frameworks {
            let id = record.id.clone();
            let mut f = Framework::new(record);
            if !f.is_removed() {
                let wait = failover_timeout(&f).max(self.options.recovery_grace);
                f.deadline = Instant::now().checked_add(wait);
                state.allocator.set_framework(&id, f.subscription());
            }
            state.frameworks.insert(id, f);
        }
        let live = tasks.iter().filter(|t| t.ended.is_none()).map(|t| (t.holder(), t.split()));
        let started = executors.iter().filter(|e| e.ended.is_none());
        let mut draws: BTreeMap<Holder, Split> = BTreeMap::new();
        for (holder, split) in live.chain(started.map(|e| (Holder::Pod(e.pod_name()), e.split()))) {
            let sum = draws.entry(holder).or_default();
            *sum = sum.plus(&split);
        }
        let roles: BTreeMap<&str, &str> = tasks.iter().map(|t| (&*t.namespace, &*t.role)).collect();
        let mut ledger = self.ledger.lock();
        for (namespace, role) in roles {
            ledger.set_namespace_role(namespace, Some(role));
        }
        for (holder, split) in draws {
            ledger.set_draws(&holder, split.draws);
        }
        drop(ledger);
        for record in executors {
            let is_removed = state.frameworks.get(&record.framework).is_none_or(|f| f.is_removed());
            let uid = record.uid.clone();
            let has_ended = record.ended.is_some();
            state.enter_executor(record, executor::Committed::Yes);
            if is_removed && !has_ended {
                state.kill_executor(&uid, None);
            }
        }
        for record in tasks {
            let key = (record.framework.clone(), record.id().clone());
            let Some(f) = state.frameworks.get(&key.0) else {
                tracing::error!(task = %key.1, framework = %key.0, "a task of no framework: removing its pod");
                state.kill_pod(&record, None);
                state.dirty.insert(task::Record::key(&key.0, &key.1), None);
                continue;
            };
            let is_removed = f.is_removed();
            state.enter_pod(&record);
            if record.ended.is_none() && !is_removed {
                state.charge(&record);
            }
            if let Some(at) = record.completed {
                let until = at.plus(state.retention);
                state.forget.insert((until, key.clone()));
            }
            let must_die = record.ended.is_none() && (is_removed || record.is_killed);
            let mut task = Task::new(record);
            task.is_committed = true;
            restore_ended(&mut task, now);
            if let Some(f) = state.frameworks.get_mut(&key.0) {
                f.completed.extend(task.record.completed.map(|at| (at, key.1.clone())));
            }
            state.put_task(key.clone(), task);
            if must_die {
                state.kill_task(&key, None);
            }
        }
        state.drop_idle_executors();
        Ok(())
    }

    /// Books what is reserved, and what tasks under custom executors hold. Their pods say nothing of it, so it is done before anybody places
    /// anything.
    pub fn recover_claims(&self) -> Result<(), Error> {
        let (tasks, _) = self.read_all(&Key::internal_prefix(task::KIND))?;
        let reservations = self.read_reservations()?;
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        for (agent, entries) in reservations {
            state.load_pools(&mut ledger, &agent, entries);
        }
        let own =
            tasks.iter().filter(|e| serde_json::from_slice(&e.value).is_ok_and(|h: Head| h.has_own_claim()));
        for record in own.filter_map(|e| serde_json::from_slice::<task::Record>(&e.value).ok()) {
            ledger.set_namespace_role(&record.namespace, Some(&record.role));
            ledger.force_claim(&record.agent, record.holder(), &record.resources);
        }
        Ok(())
    }
}

/// As much of a task's record as tells whether its claim is booked under a name of its own. Most are not, and are read in
/// full once only.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    part: task::Part,
    #[serde(default)]
    ended: Option<IgnoredAny>,
}

impl Head {
    fn has_own_claim(&self) -> bool {
        matches!(self.part, task::Part::Entry { .. }) && self.ended.is_none()
    }
}

/// An end that was seen is told again as far as it was not confirmed.
fn restore_ended(task: &mut Task, now: Time) {
    let Some(status) = task.record.ended.clone() else { return };
    if task.record.acked == Rank::Ended {
        task.state = status.state;
        task.status = Some(status);
        return;
    }
    let seen = Observation {
        rank: Rank::Ended,
        state: status.state,
        message: status.message,
        reason: status.reason,
        source: status.source.unwrap_or(Source::Executor),
        has_run: if task.record.has_run { Run::Once } else { Run::Never },
        is_ready: false,
        container: status.container_status,
    };
    task.advance(&seen, Killing::Hidden, now);
}
