//! Maintenance: the schedule, machines that go down and come up, and inverse offers: the question to frameworks whether
//! they can do without an agent's resources. The answers are for the operator to read; nothing is killed by them.

use crate::master::Master;
use crate::report::unavailability;
use crate::respond::Refusal;
use crate::rules::{Away, Machine, Window};
use crate::state::{State, Tell};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use stoa_authz::Action;
use stoa_ledger::Ledger;
use stoa_mesos::resource::list;
use stoa_mesos::scheduler::Event;
use stoa_units::{AgentId, FrameworkId, OfferId, Resources, Time};

/// Most machines of a schedule.
const MACHINES_MAX: usize = 100_000;

/// A question to a framework that waits for its answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inverse {
    pub framework: FrameworkId,
    pub agent: AgentId,
    pub away: Away,
}

/// What a framework said of an agent's maintenance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub status: &'static str,
    pub at: Time,
    /// It is not asked again before.
    pub until: Time,
    pub away: Away,
}

/// Questions and answers.
#[derive(Debug, Default)]
pub(crate) struct Inverses {
    pub asked: BTreeMap<OfferId, Inverse>,
    pub answers: BTreeMap<(FrameworkId, AgentId), Answer>,
}

fn machine(value: &Value) -> Machine {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
    Machine { hostname: text("hostname"), ip: text("ip") }
}

fn show(machine: &Machine) -> String {
    serde_json::to_string(machine).unwrap_or_default()
}

/// Reads a list of machines as Mesos does.
pub(crate) fn parse_machines(value: &Value) -> Result<Vec<Machine>, String> {
    let all: Vec<Machine> = value.as_array().into_iter().flatten().map(machine).collect();
    if all.is_empty() {
        return Err("List of machines is empty".into());
    }
    check_machines(&all)?;
    Ok(all)
}

fn check_machines(all: &[Machine]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for m in all {
        if m.hostname.is_empty() && m.ip.is_empty() {
            return Err("Both 'hostname' and 'ip' for a machine are empty".into());
        }
        if !m.ip.is_empty() && m.ip.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("Failed to parse the IP '{}'", m.ip));
        }
        if !seen.insert(m) {
            return Err(format!("Machine '{}' appears more than once in the schedule", show(m)));
        }
    }
    Ok(())
}

fn parse_schedule(value: &Value) -> Result<Vec<Window>, String> {
    let mut windows = Vec::new();
    let mut all = Vec::new();
    for window in value["windows"].as_array().into_iter().flatten() {
        let machines: Vec<Machine> =
            window["machine_ids"].as_array().into_iter().flatten().map(machine).collect();
        if machines.is_empty() {
            return Err("List of machines in the maintenance window is empty".into());
        }
        let nanoseconds = |name: &str| window["unavailability"][name]["nanoseconds"].as_i64();
        let start = nanoseconds("start").ok_or("Expecting 'unavailability.start' to be present")?;
        let duration = nanoseconds("duration");
        if duration.is_some_and(|d| d < 0) {
            return Err("Unavailability 'duration' is negative".into());
        }
        all.extend(machines.clone());
        windows.push(Window { machines, away: Away { start, duration } });
    }
    if all.len() > MACHINES_MAX {
        return Err(format!("More than {MACHINES_MAX} machines in the schedule"));
    }
    check_machines(&all)?;
    Ok(windows)
}

impl State {
    fn is_scheduled(&self, m: &Machine) -> bool {
        self.rules.windows.iter().any(|w| w.machines.contains(m))
    }

    fn agents_of(&self, machines: &[Machine]) -> Vec<AgentId> {
        let on = |a: &crate::state::Agent| machines.iter().any(|m| m.is(&a.hostname, a.address.as_deref()));
        self.agents.iter().filter(|(_, a)| on(a)).map(|(id, _)| id.clone()).collect()
    }

    /// What frameworks said of a machine's maintenance.
    pub fn inverse_statuses(&self, m: &Machine) -> Vec<Value> {
        let agents = self.agents_of(std::slice::from_ref(m));
        self.inverses
            .answers
            .iter()
            .filter(|((_, agent), _)| agents.contains(agent))
            .map(|((framework, _), a)| {
                json!({"status": a.status, "framework_id": {"value": framework}, "timestamp": crate::watch::time_info(a.at)})
            })
            .collect()
    }

    /// Takes back every question about agents that are not, or no longer so, in the schedule.
    fn rescind_inverses(&mut self) {
        let stale: Vec<(OfferId, FrameworkId)> = self
            .inverses
            .asked
            .iter()
            .filter(|(_, i)| self.away_of(&i.agent) != Some(i.away))
            .map(|(id, i)| (id.clone(), i.framework.clone()))
            .collect();
        for (id, framework) in stale {
            self.inverses.asked.remove(&id);
            self.send(&framework, &Event::rescind_inverse(id));
        }
        let answers = std::mem::take(&mut self.inverses.answers);
        self.inverses.answers =
            answers.into_iter().filter(|((_, agent), a)| self.away_of(agent) == Some(a.away)).collect();
    }

    /// When an agent is away, if it is in the schedule.
    pub fn away_of(&self, agent: &AgentId) -> Option<Away> {
        let a = self.agents.get(agent)?;
        self.rules.away(&a.hostname, a.address.as_deref())
    }

    /// A framework's answers to questions.
    pub fn answer_inverses(
        &mut self,
        framework: &FrameworkId,
        ids: &[OfferId],
        status: &'static str,
        refuse_seconds: Option<f64>,
        now: Time,
    ) {
        for id in ids {
            let Some(asked) = self.inverses.asked.get(id).filter(|i| i.framework == *framework) else {
                continue;
            };
            let (agent, away) = (asked.agent.clone(), asked.away);
            self.inverses.asked.remove(id);
            let until = stoa_offers::refuse_duration(refuse_seconds).map_or(now, |d| now.plus(d));
            self.inverses.answers.insert((framework.clone(), agent), Answer { status, at: now, until, away });
        }
    }

    /// The framework wants to be asked again at once.
    pub fn revive_inverses(&mut self, framework: &FrameworkId, now: Time) {
        for ((f, _), answer) in &mut self.inverses.answers {
            if f == framework {
                answer.until = now;
            }
        }
    }

    /// Nobody waits for a framework's answers any more.
    pub fn drop_inverses(&mut self, framework: &FrameworkId) {
        self.inverses.asked.retain(|_, i| i.framework != *framework);
        self.inverses.answers.retain(|(f, _), _| f != framework);
    }

    /// Asks every framework that holds something on an agent that is to be maintained.
    pub fn ask_inverses(&mut self, master: &str, now: Time) {
        if self.rules.windows.is_empty() {
            return;
        }
        let agents: Vec<(AgentId, Away)> =
            self.agents.keys().filter_map(|a| Some((a.clone(), self.away_of(a)?))).collect();
        let mut asked: BTreeSet<(FrameworkId, AgentId)> =
            self.inverses.asked.values().map(|i| (i.framework.clone(), i.agent.clone())).collect();
        let mut events: BTreeMap<FrameworkId, Vec<Value>> = BTreeMap::new();
        for (agent, away) in agents {
            let holders: Vec<(FrameworkId, Resources)> = self
                .frameworks
                .values()
                .filter(|f| f.is_connected())
                .filter_map(|f| {
                    let on = f.live_tasks().filter(|t| t.record.agent == agent);
                    let held = on.fold(Resources::default(), |sum, t| sum.plus(&t.record.resources));
                    (!held.is_empty()).then(|| (f.record.id.clone(), held))
                })
                .collect();
            for (framework, held) in holders {
                let key = (framework.clone(), agent.clone());
                let is_answered = self.inverses.answers.get(&key).is_some_and(|a| a.until > now);
                if is_answered || !asked.insert(key) {
                    continue;
                }
                let id = OfferId::from(format!("{master}-I{}", self.next_offer));
                self.next_offer += 1;
                events.entry(framework.clone()).or_default().push(json!({
                    "id": {"value": id}, "framework_id": {"value": framework}, "agent_id": {"value": agent},
                    "unavailability": unavailability(&away), "resources": list(&held, None),
                }));
                self.inverses.asked.insert(id, Inverse { framework, agent: agent.clone(), away });
            }
        }
        for (framework, inverse_offers) in events {
            self.send(&framework, &Event::inverse_offers(inverse_offers));
        }
    }

    /// Offers of agents in the schedule say when these are away: what is out says otherwise and is taken back.
    fn reoffer(&mut self, ledger: &mut Ledger, agents: &[AgentId]) {
        for agent in agents {
            self.drop_offers_of_agent(ledger, agent);
        }
    }
}

impl Master {
    /// Replaces the schedule.
    pub async fn update_schedule(&self, schedule: &Value, principal: Option<&str>) -> Result<(), Refusal> {
        let windows = parse_schedule(schedule).map_err(Refusal::Bad)?;
        let machines: Vec<Machine> = windows.iter().flat_map(|w| w.machines.clone()).collect();
        self.check_machine_acls(&machines, Action::UpdateMaintenanceSchedule, principal)?;
        {
            let mut state = self.state.lock();
            if let Some(m) = state.rules.down.iter().find(|m| !machines.contains(m)) {
                return Err(Refusal::Bad(format!(
                    "Machine '{}' is deactivated and cannot be removed from the schedule",
                    show(m)
                )));
            }
            let before: Vec<(AgentId, Option<Away>)> =
                state.agents.keys().map(|a| (a.clone(), state.away_of(a))).collect();
            state.rules.windows = windows;
            state.save_rules();
            state.rescind_inverses();
            let moved: Vec<AgentId> =
                before.into_iter().filter(|(a, w)| state.away_of(a) != *w).map(|(a, _)| a).collect();
            let mut ledger = self.ledger.lock();
            state.reoffer(&mut ledger, &moved);
        }
        self.flush().await;
        self.tell_ledger();
        Ok(())
    }

    fn check_machine_acls(
        &self,
        machines: &[Machine],
        action: Action,
        principal: Option<&str>,
    ) -> Result<(), Refusal> {
        let may = |m: &Machine| self.options.acls.may(principal, action, Some(&m.hostname));
        if machines.iter().all(may) { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    /// Takes machines down: their agents are offered no more, and what runs there ends.
    pub async fn start_maintenance(&self, machines: &Value, principal: Option<&str>) -> Result<(), Refusal> {
        let machines = parse_machines(machines).map_err(Refusal::Bad)?;
        self.check_machine_acls(&machines, Action::StartMaintenance, principal)?;
        let agents = {
            let mut state = self.state.lock();
            for m in &machines {
                if !state.is_scheduled(m) {
                    return Err(Refusal::Bad(format!(
                        "Machine '{}' is not part of a maintenance schedule",
                        show(m)
                    )));
                }
                if state.rules.down.contains(m) {
                    return Err(Refusal::Bad(format!(
                        "Machine '{}' is not in DRAINING mode and cannot be brought down",
                        show(m)
                    )));
                }
            }
            state.rules.down.extend(machines.iter().cloned());
            state.save_rules();
            state.agents_of(&machines)
        };
        self.flush().await;
        for agent in agents {
            self.cordon(&agent, true).await?;
            self.empty_agent(&agent, None).await;
        }
        Ok(())
    }

    /// Takes machines into use again.
    pub async fn stop_maintenance(&self, machines: &Value, principal: Option<&str>) -> Result<(), Refusal> {
        let machines = parse_machines(machines).map_err(Refusal::Bad)?;
        self.check_machine_acls(&machines, Action::StopMaintenance, principal)?;
        let agents = {
            let mut state = self.state.lock();
            for m in &machines {
                if !state.is_scheduled(m) {
                    return Err(Refusal::Bad(format!(
                        "Machine '{}' is not part of a maintenance schedule",
                        show(m)
                    )));
                }
                if !state.rules.down.contains(m) {
                    return Err(Refusal::Bad(format!(
                        "Machine '{}' is not in DOWN mode and cannot be brought up",
                        show(m)
                    )));
                }
            }
            for m in &machines {
                state.rules.down.remove(m);
            }
            for window in &mut state.rules.windows {
                window.machines.retain(|m| !machines.contains(m));
            }
            state.rules.windows.retain(|w| !w.machines.is_empty());
            state.save_rules();
            state.rescind_inverses();
            state.agents_of(&machines)
        };
        self.flush().await;
        for agent in agents {
            if !self.state.lock().rules.deactivated.contains(&agent) {
                self.cordon(&agent, false).await?;
            }
        }
        Ok(())
    }

    /// Takes back what is offered of an agent.
    pub fn rescind_agent(&self, agent: &AgentId) {
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        let offers: Vec<OfferId> = ledger.offers(agent).cloned().collect();
        for offer in offers {
            state.drop_offer(&mut ledger, &offer, Tell::Rescind);
        }
    }
}
