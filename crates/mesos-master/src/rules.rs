//! What operators decided, kept in the store as one record: weights, quota, maintenance, agents that are drained, deactivated
//! or gone. It is small and written whole.

use crate::state::State;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use stoa_offers::{Amounts, Quota};
use stoa_store::Key;
use stoa_units::{AgentId, Time};

/// Agents that are gone and whose ids are remembered, the newest.
pub(crate) const GONE_MAX: usize = 10_000;

/// A machine, by name, by address or by both.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Machine {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
}

/// When machines are away, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Away {
    pub start: i64,
    #[serde(default)]
    pub duration: Option<i64>,
}

/// Machines that are away together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub machines: Vec<Machine>,
    pub away: Away,
}

/// An agent that is to become empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drain {
    pub started: Time,
    /// Tasks get at most this long to end, in nanoseconds.
    #[serde(default)]
    pub grace: Option<i64>,
    /// Whether the agent is gone afterwards.
    #[serde(default)]
    pub mark_gone: bool,
    /// Whether it is empty.
    #[serde(default)]
    pub is_drained: bool,
}

/// A role's quota in Mesos' numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoleQuota {
    #[serde(default)]
    pub guarantees: BTreeMap<String, f64>,
    #[serde(default)]
    pub limits: BTreeMap<String, f64>,
    /// Who set it.
    #[serde(default)]
    pub principal: Option<String>,
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rules {
    pub weights: BTreeMap<String, f64>,
    pub quotas: BTreeMap<String, RoleQuota>,
    pub windows: Vec<Window>,
    pub down: BTreeSet<Machine>,
    pub drains: BTreeMap<AgentId, Drain>,
    pub deactivated: BTreeSet<AgentId>,
    pub gone: BTreeMap<AgentId, Time>,
    /// Directories of destroyed volumes that are still to be removed, and where.
    pub rubbish: BTreeMap<String, AgentId>,
}

impl Rules {
    pub fn key() -> Key {
        Key::internal("mesos", "rules")
    }

    /// When an agent is away, if it is in the schedule.
    pub fn away(&self, hostname: &str, address: Option<&str>) -> Option<Away> {
        let is_it = |m: &Machine| m.is(hostname, address);
        self.windows.iter().find(|w| w.machines.iter().any(is_it)).map(|w| w.away)
    }

    /// Remembers that an agent is gone.
    pub fn add_gone(&mut self, agent: &AgentId, now: Time) {
        self.drains.remove(agent);
        self.deactivated.remove(agent);
        self.rubbish.retain(|_, a| a != agent);
        self.gone.insert(agent.clone(), now);
        if self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.iter().min_by_key(|(_, t)| **t).map(|(a, _)| a.clone())
        {
            self.gone.remove(&oldest);
        }
    }
}

impl Machine {
    /// Whether an agent runs on it. Parts that are not said do not matter.
    pub fn is(&self, hostname: &str, address: Option<&str>) -> bool {
        let same_name = self.hostname.is_empty() || self.hostname.eq_ignore_ascii_case(hostname);
        let same_ip = self.ip.is_empty() || address == Some(self.ip.as_str());
        same_name && same_ip && !(self.hostname.is_empty() && self.ip.is_empty())
    }
}

impl RoleQuota {
    /// As the allocator counts.
    pub fn to_quota(&self) -> Quota {
        Quota { guarantees: to_base(&self.guarantees), limits: to_base(&self.limits) }
    }
}

/// Mesos' numbers in base units: thousandths, bytes.
pub(crate) fn to_base(amounts: &BTreeMap<String, f64>) -> Amounts {
    let convert = |(name, value): (&String, &f64)| {
        let milli = (value * 1000.0).round().max(0.0);
        let base = match name.as_str() {
            "mem" | "disk" => milli / 1000.0 * 1_048_576.0,
            _ => milli,
        };
        // A float that is out of range becomes the nearest number that is in it.
        (name.as_str().into(), base as u64)
    };
    amounts.iter().map(convert).collect()
}

impl State {
    /// Keeps the rules in the store with the next writes.
    pub fn save_rules(&mut self) {
        let bytes: Bytes = stoa_mesos::json::to_ascii(&self.rules).into();
        self.dirty.insert(Rules::key(), Some(bytes));
    }

    /// Tells the allocator what the rules say.
    pub fn apply_rules(&mut self) {
        for (role, weight) in &self.rules.weights {
            self.allocator.set_weight(role, *weight);
        }
        let known: Vec<String> = self.allocator.quotas().keys().map(|r| r.to_string()).collect();
        for role in known {
            if !self.rules.quotas.contains_key(&role) {
                self.allocator.set_quota(&role, None);
            }
        }
        for (role, quota) in &self.rules.quotas {
            self.allocator.set_quota(role, Some(quota.to_quota()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named_by_what_is_said_of_it() {
        let m = |hostname: &str, ip: &str| Machine { hostname: hostname.into(), ip: ip.into() };
        assert!(m("h", "").is("H", Some("10.0.0.1")));
        assert!(m("", "10.0.0.1").is("h", Some("10.0.0.1")));
        assert!(!m("h", "10.0.0.2").is("h", Some("10.0.0.1")));
        assert!(!m("", "").is("h", None));
    }

    #[test]
    fn mesos_numbers_become_base_units() {
        let q =
            to_base(&[("cpus".to_string(), 1.5), ("mem".to_string(), 2.0), ("gpus".to_string(), 1.0)].into());
        assert_eq!((q["cpus"], q["mem"], q["gpus"]), (1500, 2 << 20, 1000));
    }
}
