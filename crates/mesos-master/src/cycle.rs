//! The cycle: makes offers when something changed, and does what waits for time: repeated updates, frameworks that stayed
//! away, tasks that are over.

use crate::master::Master;
use crate::state::{Agent, Offer, State, Tell};
use std::collections::BTreeMap;
use std::time::Duration;
use stoa_ledger::{Holder, Ledger};
use stoa_mesos::framework::Capability;
use stoa_mesos::mark::{Format, Mark};
use stoa_mesos::offer::Url;
use stoa_mesos::resource::AllocationInfo;
use stoa_mesos::scheduler::{Event, Offers};
use stoa_mesos::{Address, Id, json::Int};
use stoa_units::{FrameworkId, OfferId};
use tokio::time::{Instant, MissedTickBehavior};

/// How often the cycle looks at the clock, whether or not anything changed.
const TICK: Duration = Duration::from_secs(1);
/// Offers in one event: bounds the length of a record.
const OFFERS_PER_EVENT_MAX: usize = 256;

impl Master {
    /// Runs for ever.
    pub async fn run_cycle(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.sync_node_ports(),
                () = self.wake.notified() => {}
                () = self.ledger_changed.notified() => {}
            }
            self.sweep();
            self.make_offers();
            self.state.lock().ask_inverses(&self.id, self.now());
            let has_rubbish = !self.state.lock().rules.rubbish.is_empty();
            if has_rubbish {
                self.clean_volumes().await;
            }
            let has_drains = !self.state.lock().rules.drains.is_empty();
            if has_drains {
                self.finish_drains().await;
            }
        }
    }

    /// What waits for time, or for a reader to have gone.
    pub fn sweep(&self) {
        let (now, instant) = (self.now(), Instant::now());
        let mut has_freed = false;
        let mut state = self.state.lock();
        if self.closings.take() {
            let gone: Vec<FrameworkId> = state
                .frameworks
                .iter()
                .filter(|(_, f)| f.subscriber.as_ref().is_some_and(|s| s.is_closed()))
                .map(|(id, _)| id.clone())
                .collect();
            for id in gone {
                state.disconnect(&mut self.ledger.lock(), &id);
                has_freed = true;
            }
        }
        let overdue: Vec<FrameworkId> = state
            .frameworks
            .iter()
            .filter(|(_, f)| f.deadline.is_some_and(|d| d <= instant))
            .map(|(id, _)| id.clone())
            .collect();
        for id in overdue {
            state.remove_framework(&mut self.ledger.lock(), &id, now);
            has_freed = true;
        }
        state.push_due(instant);
        state.sweep_executors(instant, now);
        if !state.freed.is_empty() {
            let freed = std::mem::take(&mut state.freed);
            let mut ledger = self.ledger.lock();
            for holder in freed {
                has_freed |= ledger.release(&holder).is_some();
            }
        }
        state.push_operations(instant, None);
        while let Some((at, key)) = state.forget.first().cloned() {
            if at > now {
                break;
            }
            state.forget.pop_first();
            if state.task(&key).is_some_and(|t| t.record.completed.is_some()) {
                state.forget_task(&key);
            }
        }
        if !state.dirty.is_empty() || !state.kills.is_empty() {
            self.work.notify_one();
        }
        drop(state);
        if has_freed {
            self.tell_ledger();
        }
    }

    /// Offers what is free.
    pub fn make_offers(&self) {
        let now = self.now();
        let mut state = self.state.lock();
        // An agent that the ledger knows and we do not yet has no name to offer under: its Node comes first.
        let mut made: BTreeMap<FrameworkId, Vec<OfferId>> = BTreeMap::new();
        {
            let mut ledger = self.ledger.lock();
            let seed = state.next_offer.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for grant in state.allocator.plan_offers(&ledger, now, seed) {
                if !state.agents.get(&grant.agent).is_some_and(|a| a.is_ready) {
                    state.allocator.hold(&grant.agent, now.plus(TICK));
                    continue;
                }
                let id = OfferId::from(format!("{}-O{}", self.id, state.next_offer));
                state.next_offer += 1;
                let holder = Holder::Offer(id.clone());
                let split = grant.split();
                if ledger.claim_split(&grant.agent, holder.clone(), grant.role.clone(), &split).is_err() {
                    continue;
                }
                state.allocator.charge(holder, &grant.framework, &grant.role, &grant.resources);
                made.entry(grant.framework.clone()).or_default().push(id.clone());
                let offer = Offer {
                    framework: grant.framework,
                    role: grant.role,
                    agent: grant.agent,
                    resources: grant.resources,
                    draws: grant.draws,
                    made: now,
                };
                state.put_offer(id, offer);
            }
        }
        for (framework, ids) in made {
            for part in ids.chunks(OFFERS_PER_EVENT_MAX) {
                let offers = {
                    let ledger = self.ledger.lock();
                    part.iter().filter_map(|id| render_offer(&state, &ledger, id)).collect()
                };
                if !state.send(&framework, &Event::Offers { offers: Offers { offers } }) {
                    let mut ledger = self.ledger.lock();
                    for id in part {
                        state.drop_offer(&mut ledger, id, Tell::Silent);
                    }
                    drop(ledger);
                    state.disconnect(&mut self.ledger.lock(), &framework);
                    break;
                }
            }
        }
    }
}

/// An offer as its framework reads it.
pub(crate) fn render_offer(state: &State, ledger: &Ledger, id: &OfferId) -> Option<stoa_mesos::Offer> {
    let offer = state.offers.get(id)?;
    let framework = state.frameworks.get(&offer.framework)?;
    let agent = state.agents.get(&offer.agent);
    let hostname = agent.map_or_else(|| offer.agent.to_string(), |a| a.hostname.clone());
    // Frameworks of old take resources with an allocation for something else.
    let role = framework.has(Capability::MultiRole).then_some(&*offer.role);
    let executors = state.live_executors(&offer.framework, &offer.agent);
    let format = if framework.has(Capability::ReservationRefinement) { Format::Refined } else { Format::Old };
    let holder = Holder::Offer(id.clone());
    let plain = ledger.unreserved(&holder).unwrap_or_else(|| offer.resources.clone());
    let mut resources = Mark::default().list(&plain, role, format);
    for (name, part) in &offer.draws {
        if let Some(mark) = state.mark(&offer.agent, name) {
            resources.extend(mark.list(part, role, format));
        }
    }
    Some(stoa_mesos::Offer {
        id: Id { value: id.clone() },
        framework_id: Id { value: offer.framework.clone() },
        agent_id: Id { value: offer.agent.clone() },
        hostname,
        resources,
        attributes: agent.map(|a| a.attributes.clone()).unwrap_or_default(),
        executor_ids: executors.into_iter().map(|e| e.executor_id).collect(),
        url: agent.map(agent_url),
        domain: agent.and_then(crate::report::domain),
        allocation_info: role.map(|r| AllocationInfo { role: Some(r.into()) }),
        unavailability: state.away_of(&offer.agent).map(|away| crate::report::unavailability(&away)),
    })
}

fn agent_url(agent: &Agent) -> Url {
    let (hostname, port) = (Some(agent.hostname.clone()), Int(i64::from(agent.port())));
    Url {
        scheme: "http".into(),
        address: Address { hostname, ip: agent.ip(), port },
        path: Some("/slave(1)".into()),
    }
}
