//! Quota: how much a role, with everything below it, may hold at most, and how much is kept for it.
//!
//! Only top-level roles have quota, and only scalars count. What is consumed is what is reserved, used or not, and what is
//! held besides. A limit chops what an agent may be offered in the role; a guarantee lets the role come first until it is
//! met, and keeps the others from what it will need.

use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_ledger::Ledger;
use stoa_units::Resources;

/// Amounts by Mesos' names, in the base units of [`Resources`]: thousandths, bytes.
pub type Amounts = BTreeMap<Arc<str>, u64>;

/// A role's quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// What is kept for it.
    pub guarantees: Amounts,
    /// What it may hold at most; what is not named is not limited.
    pub limits: Amounts,
}

/// The role at the top of a role's path.
pub fn top(role: &str) -> &str {
    role.split('/').next().unwrap_or(role)
}

/// One scalar of an amount by Mesos' name.
pub fn scalar(r: &Resources, name: &str) -> u64 {
    match name {
        "cpus" => r.milli_cpu,
        "mem" => r.memory_bytes,
        "disk" => r.disk_bytes,
        other => r.extended_milli(other),
    }
}

/// Sets one scalar by Mesos' name.
pub fn set_scalar(r: &mut Resources, name: &str, value: u64) {
    match name {
        "cpus" => r.milli_cpu = value,
        "mem" => r.memory_bytes = value,
        "disk" => r.disk_bytes = value,
        other => r.set_extended(other, value),
    }
}

/// What each top-level role consumes.
pub fn consumption(ledger: &Ledger) -> BTreeMap<Arc<str>, Resources> {
    let mut out: BTreeMap<Arc<str>, Resources> = BTreeMap::new();
    for (role, usage) in ledger.usages() {
        let sum = out.entry(top(role).into()).or_default();
        *sum = sum.plus(&usage.consumed());
    }
    out
}

/// All quotas during one plan: what each role has consumed so far, and what must be left for guarantees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan<'a> {
    quotas: Option<&'a BTreeMap<Arc<str>, Quota>>,
    consumed: BTreeMap<Arc<str>, Resources>,
    /// Free and unreserved on all agents.
    free: Resources,
    /// What all guarantees lack together.
    lacking: Amounts,
    /// How many roles' guarantees are not met.
    first: usize,
}

impl<'a> Plan<'a> {
    pub fn new(quotas: &'a BTreeMap<Arc<str>, Quota>, ledger: &Ledger) -> Plan<'a> {
        if quotas.is_empty() {
            return Plan::default();
        }
        let mut free = Resources::default();
        if quotas.values().any(|q| !q.guarantees.is_empty()) {
            // Only guarantees ask for it; it is the one sum over all agents, and without guarantees none is made.
            free = ledger.agents().filter(|a| ledger.is_active(a)).fold(free, |sum, a| {
                let mut one = ledger.free(a);
                one.ports = Default::default();
                sum.plus(&one)
            });
        }
        let mut plan = Plan { quotas: Some(quotas), consumed: consumption(ledger), free, ..Plan::default() };
        for role in quotas.keys() {
            plan.first += usize::from(plan.is_first(role));
            plan.count_lacking(role, |sum, n| sum + n);
        }
        plan
    }

    fn count_lacking(&mut self, role: &str, f: impl Fn(u64, u64) -> u64) {
        let Some(quota) = self.quota(role) else { return };
        for name in quota.guarantees.keys() {
            let n = self.lacking(role, name);
            let sum = self.lacking.entry(name.clone()).or_default();
            *sum = f(*sum, n);
        }
    }

    pub fn is_idle(&self) -> bool {
        self.quotas.is_none()
    }

    fn quota(&self, role: &str) -> Option<&'a Quota> {
        self.quotas?.get(top(role))
    }

    fn consumed(&self, role: &str, name: &str) -> u64 {
        self.consumed.get(top(role)).map_or(0, |r| scalar(r, name))
    }

    /// What the role's guarantee lacks of a resource.
    fn lacking(&self, role: &str, name: &str) -> u64 {
        let guarantee = self.quota(role).and_then(|q| q.guarantees.get(name)).copied().unwrap_or(0);
        guarantee.saturating_sub(self.consumed(role, name))
    }

    /// Whether a role comes first: its guarantee is not met.
    pub fn is_first(&self, role: &str) -> bool {
        self.quota(role).is_some_and(|q| q.guarantees.keys().any(|n| self.lacking(role, n) > 0))
    }

    /// Whether a role's limits leave less than each of `least`, of which an offer must have one.
    pub fn is_spent(&self, role: &str, least: &[Resources]) -> bool {
        let Some(quota) = self.quota(role) else { return false };
        let lacks = |least: &Resources, name: &Arc<str>, limit: &u64| {
            scalar(least, name) > limit.saturating_sub(self.consumed(role, name))
        };
        least.iter().all(|l| quota.limits.iter().any(|(name, limit)| lacks(l, name, limit)))
    }

    pub fn is_anybody_first(&self) -> bool {
        self.first > 0
    }

    /// The part of what is free that may be offered in a role.
    pub fn chop(&self, role: &str, free: &Resources) -> Resources {
        if self.is_idle() {
            return free.clone();
        }
        let mut out = free.clone();
        if let Some(quota) = self.quota(role) {
            for (name, limit) in &quota.limits {
                let room = limit.saturating_sub(self.consumed(role, name));
                let have = scalar(&out, name);
                set_scalar(&mut out, name, have.min(room));
            }
        }
        for (name, lacking) in &self.lacking {
            // The role's own guarantee may be met out of what is kept for all.
            let kept = lacking - self.lacking(role, name);
            let room = scalar(&self.free, name).saturating_sub(kept);
            let have = scalar(&out, name);
            if kept > 0 && have > room {
                set_scalar(&mut out, name, room);
            }
        }
        out
    }

    /// Counts what a role was given.
    pub fn grant(&mut self, role: &str, amount: &Resources) {
        if self.is_idle() {
            return;
        }
        let was_first = self.is_first(role);
        self.count_lacking(role, |sum, n| sum - n);
        let sum = self.consumed.entry(top(role).into()).or_default();
        *sum = sum.plus(amount);
        self.count_lacking(role, |sum, n| sum + n);
        self.first -= usize::from(was_first && !self.is_first(role));
        self.free = self.free.minus(amount);
    }
}
