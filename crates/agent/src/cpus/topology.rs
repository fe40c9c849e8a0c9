//! Which CPUs are threads of one core, and which cores sit in one socket, as the kernel tells it.

use super::CpuSet;
use std::collections::BTreeMap;
use std::path::Path;

/// Where a CPU sits. The parts of a machine in which CPUs are handed out whole, where that is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) socket: u32,
    pub(super) core: u32,
}

/// The CPUs that containers of this machine may be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    seats: BTreeMap<u32, Seat>,
}

impl Topology {
    /// These CPUs, each where the kernel's directory says that it sits; one of which that says nothing is a core of its own.
    pub fn read(directory: &Path, cpus: &CpuSet) -> Topology {
        let seat = |cpu: u32| {
            let number = |file: &str| {
                let text =
                    std::fs::read_to_string(directory.join(format!("cpu{cpu}/topology/{file}"))).ok()?;
                // An unknown socket is -1, as on some virtual machines.
                Some(text.trim().parse::<i64>().ok()?.max(0) as u32)
            };
            Seat {
                socket: number("physical_package_id").unwrap_or(0),
                core: number("core_id").unwrap_or(cpu),
            }
        };
        Topology { seats: cpus.iter().map(|cpu| (cpu, seat(cpu))).collect() }
    }

    /// A machine of so many sockets, cores in each, and threads in each of those, numbered as the kernel does: first threads first.
    #[cfg(test)]
    pub(crate) fn of(sockets: u32, cores: u32, threads: u32) -> Topology {
        let seats = (0..sockets * cores * threads).map(|cpu| {
            let at = cpu % (sockets * cores);
            (cpu, Seat { socket: at / cores, core: at % cores })
        });
        Topology { seats: seats.collect() }
    }

    pub(super) fn cpus(&self) -> CpuSet {
        self.seats.keys().copied().collect()
    }

    /// So many of `free`: whole sockets first, then whole cores, then threads of the cores of which least is left. Those in
    /// `reuse` come before others of the same kind. None where there are too few.
    pub(super) fn choose(&self, free: &CpuSet, reuse: &CpuSet, count: usize) -> Option<CpuSet> {
        if free.len() < count {
            return None;
        }
        let mut taken = CpuSet::default();
        let sockets = self.groups(|seat| (seat.socket, 0));
        let cores = self.groups(|seat| (seat.socket, seat.core));
        for groups in [&sockets, &cores] {
            let mut whole: Vec<&CpuSet> = groups.values().filter(|g| g.is_subset(free)).collect();
            // Sorting keeps the order by number among those that are alike.
            whole.sort_by_key(|g| (*g - reuse).len());
            for group in whole {
                if (group & &taken).is_empty() && taken.len() + group.len() <= count {
                    taken = &taken | group;
                }
            }
        }
        let left = free - &taken;
        let mut single: Vec<u32> = left.iter().collect();
        single.sort_by_key(|cpu| {
            let seat = self.seats.get(cpu);
            let beside = |groups: &BTreeMap<(u32, u32), CpuSet>, key: Option<(u32, u32)>| {
                key.and_then(|k| groups.get(&k)).cloned().unwrap_or_default()
            };
            let core = beside(&cores, seat.map(|s| (s.socket, s.core)));
            let socket = beside(&sockets, seat.map(|s| (s.socket, 0)));
            let is_far = (&socket & &taken).is_empty();
            (!reuse.contains(*cpu), is_far, (&core & &left).len(), seat.copied(), *cpu)
        });
        let more: CpuSet = single.into_iter().take(count - taken.len()).collect();
        Some(&taken | &more)
    }

    fn groups(&self, key: impl Fn(&Seat) -> (u32, u32)) -> BTreeMap<(u32, u32), CpuSet> {
        let mut groups = BTreeMap::<_, Vec<u32>>::new();
        for (cpu, seat) in &self.seats {
            groups.entry(key(seat)).or_default().push(*cpu);
        }
        groups.into_iter().map(|(key, cpus)| (key, cpus.into_iter().collect())).collect()
    }
}
