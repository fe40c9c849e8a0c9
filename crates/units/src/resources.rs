//! Amounts of a machine's resources: what an agent has, what a pod or a task claims, what an offer holds.
//! Fixed fields for what every workload uses, a small sorted list for the rest; host ports are part of it, so that
//! one comparison decides whether something fits.

use crate::{PortSet, Quantity};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An amount of resources. Everything is a whole number: thousandths of a CPU, bytes, milli-units of extended resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub milli_cpu: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk (`ephemeral-storage`, Mesos `disk`).
    pub disk_bytes: u64,
    /// How many pods. A Mesos task is one pod.
    pub pods: u64,
    /// Host ports: whole ones, since Mesos does not tell protocols apart, or what a pod's `hostPort` takes of them.
    pub ports: PortSet,
    /// Anything else by name (`nvidia.com/gpu`, `gpus`), in thousandths; sorted by name, no zeros.
    pub extended: Vec<(Arc<str>, u64)>,
}

impl Resources {
    /// Nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Resources::default()
    }

    /// The amount of an extended resource, in thousandths.
    pub fn extended_milli(&self, name: &str) -> u64 {
        self.extended.binary_search_by(|(n, _)| (**n).cmp(name)).map_or(0, |i| self.extended[i].1)
    }

    /// Sets the amount of an extended resource, in thousandths.
    pub fn set_extended(&mut self, name: impl Into<Arc<str>>, milli: u64) {
        let name = name.into();
        match (self.extended.binary_search_by(|(n, _)| n.cmp(&name)), milli) {
            (Ok(i), 0) => drop(self.extended.remove(i)),
            (Ok(i), m) => self.extended[i].1 = m,
            (Err(_), 0) => {}
            (Err(i), m) => self.extended.insert(i, (name, m)),
        }
    }

    /// Adds a Kubernetes resource by its name (`cpu`, `memory`, `ephemeral-storage`, `pods`, or an extended one).
    pub fn add_quantity(&mut self, name: &str, quantity: &Quantity) {
        match name {
            "cpu" => self.milli_cpu = self.milli_cpu.saturating_add(quantity.milli_ceil()),
            "memory" => self.memory_bytes = self.memory_bytes.saturating_add(quantity.value_ceil()),
            "ephemeral-storage" => self.disk_bytes = self.disk_bytes.saturating_add(quantity.value_ceil()),
            "pods" => self.pods = self.pods.saturating_add(quantity.value_ceil()),
            other => {
                let sum = self.extended_milli(other).saturating_add(quantity.milli_ceil());
                self.set_extended(other, sum);
            }
        }
    }

    /// Whether `want` fits into this amount, dimension by dimension.
    pub fn contains(&self, want: &Resources) -> bool {
        self.milli_cpu >= want.milli_cpu
            && self.memory_bytes >= want.memory_bytes
            && self.disk_bytes >= want.disk_bytes
            && self.pods >= want.pods
            && want.extended.iter().all(|(n, v)| self.extended_milli(n) >= *v)
            && self.ports.contains_all(&want.ports)
    }

    /// The sum; ports are united.
    #[must_use]
    pub fn plus(&self, other: &Resources) -> Resources {
        self.zip(other, u64::saturating_add, PortSet::union)
    }

    /// What is left after taking `other`, never below zero; ports are subtracted as sets.
    #[must_use]
    pub fn minus(&self, other: &Resources) -> Resources {
        self.zip(other, u64::saturating_sub, PortSet::difference)
    }

    /// The larger of both in each dimension; ports are united.
    #[must_use]
    pub fn max(&self, other: &Resources) -> Resources {
        self.zip(other, u64::max, PortSet::union)
    }

    fn zip(
        &self,
        other: &Resources,
        f: impl Fn(u64, u64) -> u64,
        ports: impl Fn(&PortSet, &PortSet) -> PortSet,
    ) -> Resources {
        let mut out = Resources {
            milli_cpu: f(self.milli_cpu, other.milli_cpu),
            memory_bytes: f(self.memory_bytes, other.memory_bytes),
            disk_bytes: f(self.disk_bytes, other.disk_bytes),
            pods: f(self.pods, other.pods),
            ports: ports(&self.ports, &other.ports),
            extended: Vec::new(),
        };
        for (n, v) in &self.extended {
            out.set_extended(n.clone(), f(*v, other.extended_milli(n)));
        }
        for (n, v) in &other.extended {
            if self.extended_milli(n) == 0 {
                out.set_extended(n.clone(), f(0, *v));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_and_returning_is_the_identity() {
        let mut have = Resources { milli_cpu: 4000, memory_bytes: 1 << 30, pods: 110, ..Default::default() };
        have.set_extended("gpu", 2000);
        have.ports = PortSet::from_ranges([crate::PortRange { begin: 31000, end: 31010 }]);
        let mut want =
            Resources { milli_cpu: 1500, pods: 1, ports: PortSet::one(31005), ..Default::default() };
        want.set_extended("gpu", 1000);
        assert!(have.contains(&want));
        let left = have.minus(&want);
        assert!(!left.ports.contains(31005));
        assert_eq!(left.plus(&want), have);
        assert!(!left.contains(&Resources { ports: PortSet::one(31005), ..Default::default() }));
    }
}
