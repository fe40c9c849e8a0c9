//! One agent's page in the book: capacity, the sum of claims, and who holds them.

use crate::Holder;
use std::collections::BTreeMap;
use stoa_units::{PortSet, Resources, Revision};

/// One agent's page. It outlives the agent while pods still claim it, so that an agent that comes back finds them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// Nothing while the agent is not registered.
    pub capacity: Option<Resources>,
    pub active: bool,
    /// The sum of all claims. `ports` is their union.
    pub used: Resources,
    pub claims: BTreeMap<Holder, Resources>,
    /// The claims key's revision that this page is based on.
    pub revision: Revision,
    /// When this page last changed.
    pub generation: u64,
}

impl Book {
    pub fn add(&mut self, holder: Holder, amount: Resources) {
        add_amounts(&mut self.used, &amount);
        if !amount.ports.is_empty() {
            self.used.ports = self.used.ports.union(&amount.ports);
        }
        self.claims.insert(holder, amount);
    }

    pub fn remove(&mut self, holder: &Holder) -> Option<Resources> {
        let amount = self.claims.remove(holder)?;
        subtract_amounts(&mut self.used, &amount);
        if !amount.ports.is_empty() {
            // Forced claims may overlap in ports, so the union is made anew rather than subtracted from.
            let all = self.claims.values().filter(|r| !r.ports.is_empty());
            self.used.ports = all.fold(PortSet::EMPTY, |sum, r| sum.union(&r.ports));
        }
        Some(amount)
    }

    /// What is free, with only those ports that may be offered.
    pub fn free(&self, reserved_ports: &PortSet) -> Resources {
        let Some(capacity) = self.capacity.as_ref() else { return Resources::default() };
        let mut free = capacity.minus(&self.used);
        free.ports = free.ports.difference(reserved_ports);
        free
    }

    pub fn is_blank(&self) -> bool {
        self.capacity.is_none() && self.claims.is_empty()
    }
}

/// Adds everything but ports.
pub(crate) fn add_amounts(to: &mut Resources, amount: &Resources) {
    to.milli_cpu = to.milli_cpu.saturating_add(amount.milli_cpu);
    to.memory_bytes = to.memory_bytes.saturating_add(amount.memory_bytes);
    to.disk_bytes = to.disk_bytes.saturating_add(amount.disk_bytes);
    to.pods = to.pods.saturating_add(amount.pods);
    for (name, milli) in &amount.extended {
        let sum = to.extended_milli(name).saturating_add(*milli);
        to.set_extended(name.clone(), sum);
    }
}

/// Takes away everything but ports.
pub(crate) fn subtract_amounts(from: &mut Resources, amount: &Resources) {
    from.milli_cpu = from.milli_cpu.saturating_sub(amount.milli_cpu);
    from.memory_bytes = from.memory_bytes.saturating_sub(amount.memory_bytes);
    from.disk_bytes = from.disk_bytes.saturating_sub(amount.disk_bytes);
    from.pods = from.pods.saturating_sub(amount.pods);
    for (name, milli) in &amount.extended {
        let rest = from.extended_milli(name).saturating_sub(*milli);
        from.set_extended(name.clone(), rest);
    }
}
