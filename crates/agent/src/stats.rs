//! What the machine and each container use: sampled at a steady pace, so that a rate is known whenever somebody asks.

use crate::machine::Machine;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use stoa_runtime::Stats;
use stoa_units::Time;

/// Nanoseconds of one tick of `/proc/stat`: a hundredth of a second, whatever the kernel's own pace.
const TICK_NS: u64 = 10_000_000;

/// One look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at: Time,
    pub(crate) stats: Stats,
    /// CPU time a second, in ns, since the look before; none at the first.
    pub(crate) nano_cores: Option<u64>,
}

/// The machine as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct MachineUse {
    pub(crate) cpu_ns: u64,
    pub(crate) memory_total: u64,
    pub(crate) memory_available: u64,
    pub(crate) tasks: u64,
    pub(crate) tasks_max: u64,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) total: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

#[derive(Default)]
struct State {
    node: Option<(Time, MachineUse, Option<u64>)>,
    /// By container id, and by pod uid.
    cgroups: HashMap<String, Sample>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Sampler(Mutex<State>);

impl Sampler {
    /// Looks at everything once.
    pub(crate) fn look(&self, machine: &dyn Machine, now: Time) {
        let running = machine.list();
        let mut seen = HashSet::new();
        let mut fresh: Vec<(String, Stats)> = Vec::new();
        for container in running.iter().filter(|c| matches!(c.state, stoa_runtime::State::Running { .. })) {
            fresh.extend(machine.stats(&container.spec.id).map(|s| (container.spec.id.clone(), s)));
            if seen.insert(container.spec.pod_uid.clone()) {
                fresh.extend(
                    machine.pod_stats(&container.spec.pod_uid).map(|s| (container.spec.pod_uid.clone(), s)),
                );
            }
        }
        let node = read_machine();
        let mut state = self.0.lock();
        let before = state.node.take();
        let node_rate = before.and_then(|(at, b, _)| rate(b.cpu_ns, node.cpu_ns, at, now));
        state.node = Some((now, node, node_rate));
        let old = std::mem::take(&mut state.cgroups);
        state.cgroups = fresh
            .into_iter()
            .map(|(key, stats)| {
                let before = old.get(&key);
                let nano_cores =
                    before.and_then(|b| rate(b.stats.cpu_usage_ns, stats.cpu_usage_ns, b.at, now));
                (key, Sample { at: now, stats, nano_cores })
            })
            .collect();
    }

    /// What a container, or a pod by its uid, uses.
    pub(crate) fn of(&self, key: &str) -> Option<Sample> {
        self.0.lock().cgroups.get(key).copied()
    }

    /// What the machine uses.
    pub(crate) fn node(&self) -> Option<(Time, MachineUse, Option<u64>)> {
        self.0.lock().node
    }
}

fn rate(before: u64, after: u64, from: Time, to: Time) -> Option<u64> {
    let ns = to.since(from).as_nanos();
    (ns > 0).then(|| {
        u64::try_from(u128::from(after.saturating_sub(before)) * 1_000_000_000 / ns).unwrap_or(u64::MAX)
    })
}

/// Reads what the kernel says of the whole machine.
pub(crate) fn read_machine() -> MachineUse {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (stat, memory, load) = (read("/proc/stat"), read("/proc/meminfo"), read("/proc/loadavg"));
    parse_machine(&stat, &memory, &load, read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0))
}

fn parse_machine(stat: &str, memory: &str, load: &str, pid_max: u64) -> MachineUse {
    let ticks: Vec<u64> = stat
        .lines()
        .find_map(|l| l.strip_prefix("cpu "))
        .map(|l| l.split_whitespace().filter_map(|n| n.parse().ok()).collect())
        .unwrap_or_default();
    // user nice system idle iowait irq softirq steal: all but the idle two.
    let busy: u64 =
        ticks.iter().take(8).enumerate().filter(|(i, _)| *i != 3 && *i != 4).map(|(_, n)| n).sum();
    let kib = |field: &str| {
        let line = memory.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let tasks = load.split_whitespace().nth(3).and_then(|t| t.split('/').nth(1)?.parse().ok()).unwrap_or(0);
    MachineUse {
        cpu_ns: busy * TICK_NS,
        memory_total: kib("MemTotal"),
        memory_available: kib("MemAvailable"),
        tasks,
        tasks_max: pid_max,
    }
}

/// The file system that a directory is on.
pub(crate) fn read_disk(path: &std::path::Path) -> Disk {
    rustix::fs::statvfs(path).map_or_else(
        |_| Disk::default(),
        |s| Disk {
            total: s.f_blocks * s.f_frsize,
            available: s.f_bavail * s.f_frsize,
            inodes: s.f_files,
            inodes_free: s.f_ffree,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_kernels_words_are_read() {
        let m = parse_machine(
            "cpu  10 1 5 100 50 2 3 4 9 9\ncpu0 1 1 1 1\n",
            "MemTotal:       2000 kB\nMemFree: 1 kB\nMemAvailable:   1500 kB\n",
            "0.1 0.2 0.3 2/345 999\n",
            32_768,
        );
        let want = MachineUse {
            cpu_ns: 25 * TICK_NS,
            memory_total: 2000 << 10,
            memory_available: 1500 << 10,
            tasks: 345,
            tasks_max: 32_768,
        };
        assert_eq!(m, want);
    }

    #[test]
    fn a_rate_needs_two_looks() {
        let at = |s| Time::EPOCH.plus(Duration::from_secs(s));
        assert_eq!(rate(1_000, 501_000, at(0), at(10)), Some(50_000));
        assert_eq!(rate(0, 1, at(3), at(3)), None);
        // A container that was replaced counts from zero again.
        assert_eq!(rate(500, 100, at(0), at(1)), Some(0));
    }
}
