//! Who has which CPU to itself, and what is left for everybody. Pure.

use super::{CpuSet, Topology};
use crate::limits;
use crate::pod::{self, Part};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use stoa_runtime::Qos;

/// What containers have to themselves, by the pod's uid and their name.
pub(super) type Assigned = BTreeMap<String, BTreeMap<String, CpuSet>>;

/// A container that is to have CPUs to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) part: Part,
    pub(super) container: String,
    pub(super) count: usize,
}

/// What containers of a pod are to have: whole CPUs, in pods of which everything is promised.
pub(super) fn wants(pod: &Pod) -> Vec<Want> {
    // What is said of the pod as a whole says nothing of which container gets what.
    let is_whole = pod.spec.as_ref().is_some_and(|s| s.resources.is_some());
    if is_whole || limits::qos(pod) != Qos::Guaranteed {
        return Vec::new();
    }
    pod::containers(pod)
        .filter(|(part, _)| *part != Part::Ephemeral)
        .filter_map(|(part, container)| {
            let milli = limits::milli_cpu_of(container);
            let count =
                usize::try_from(milli / 1_000).ok().filter(|n| *n > 0 && milli.is_multiple_of(1_000))?;
            Some(Want { part, container: container.name.clone(), count })
        })
        .collect()
}

/// There are fewer than asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough cpus available to satisfy request: requested={requested}, available={available}")]
pub(super) struct Short {
    pub(super) requested: usize,
    pub(super) available: usize,
}

/// The book of all CPUs of a machine.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    topology: Topology,
    reserved: CpuSet,
    assigned: Assigned,
}

impl Pool {
    /// A machine of which nobody has anything. What is reserved is shared by all, and never anybody's own.
    pub(super) fn new(topology: Topology, reserved: CpuSet) -> Pool {
        Pool { topology, reserved, assigned: Assigned::new() }
    }

    /// As it was written down, unless that cannot hold on this machine any more.
    pub(super) fn restore(&mut self, shared: &CpuSet, assigned: Assigned) -> Result<(), String> {
        if assigned.is_empty() {
            return Ok(());
        }
        let all = self.topology.cpus();
        if !self.reserved.is_subset(shared) {
            let reserved = &self.reserved;
            return Err(format!(
                "not all reserved cpus: \"{reserved}\" are present in defaultCpuSet: \"{shared}\""
            ));
        }
        let own = union(&assigned);
        if !(&own & shared).is_empty() {
            return Err(format!("cpus of containers: \"{own}\" overlap with defaultCpuSet: \"{shared}\""));
        }
        let known = &own | shared;
        if known != all {
            return Err(format!(
                "current set of available CPUs \"{all}\" doesn't match with CPUs in state \"{known}\""
            ));
        }
        self.assigned = assigned;
        Ok(())
    }

    pub(super) fn assigned(&self) -> &Assigned {
        &self.assigned
    }

    /// What everybody shares.
    pub(super) fn shared(&self) -> CpuSet {
        &self.topology.cpus() - &union(&self.assigned)
    }

    /// What a container has to itself.
    pub(super) fn own(&self, uid: &str, container: &str) -> Option<&CpuSet> {
        self.assigned.get(uid)?.get(container)
    }

    /// Gives the containers of a pod what they want, all or none of them. Who has something keeps it. What an init container
    /// had, the ones after it use again; a sidecar keeps its own, for it does not end.
    pub(super) fn assign(&mut self, uid: &str, wants: &[Want]) -> Result<(), Short> {
        let mut own = self.assigned.get(uid).cloned().unwrap_or_default();
        let mut reuse = CpuSet::default();
        let mut free = &self.shared() - &self.reserved;
        for want in wants {
            let set = match own.get(&want.container) {
                Some(set) => set.clone(),
                None => {
                    let candidates = &free | &reuse;
                    let short = Short { requested: want.count, available: candidates.len() };
                    self.topology.choose(&candidates, &reuse, want.count).ok_or(short)?
                }
            };
            free = &free - &set;
            reuse = if want.part == Part::Init { &reuse | &set } else { &reuse - &set };
            own.insert(want.container.clone(), set);
        }
        if !own.is_empty() {
            self.assigned.insert(uid.to_owned(), own);
        }
        Ok(())
    }

    /// Takes back what a pod has. Says whether it had anything.
    pub(super) fn release(&mut self, uid: &str) -> bool {
        self.assigned.remove(uid).is_some()
    }
}

fn union(assigned: &Assigned) -> CpuSet {
    assigned.values().flat_map(BTreeMap::values).flat_map(CpuSet::iter).collect()
}
