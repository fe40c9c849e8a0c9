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
    pub(crate) memory_free: u64,
    /// Anonymous memory.
    pub(crate) memory_rss: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_free: u64,
    /// Page faults, and those of them that had to read a disk.
    pub(crate) page_faults: [u64; 2],
}

/// What went through a network interface: bytes, packets, errors and what was dropped, received and sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: [u64; 4],
    pub(crate) sent: [u64; 4],
}

/// Reads a network's table of interfaces; its loop and the ends of other networks are passed over, as in a kubelet's.
fn parse_interfaces(text: &str) -> Vec<Interface> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let interfaces = lines.filter_map(|(name, figures)| {
        let name = name.trim();
        let n: Vec<u64> = figures.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let of =
            |first: usize| Some([*n.get(first)?, *n.get(first + 1)?, *n.get(first + 2)?, *n.get(first + 3)?]);
        let is_own = name != "lo" && !name.starts_with("veth") && !name.starts_with("docker");
        is_own.then_some(Interface { name: name.to_owned(), received: of(0)?, sent: of(8)? })
    });
    interfaces.collect()
}

fn interfaces_of(process: &str) -> Vec<Interface> {
    parse_interfaces(&std::fs::read_to_string(format!("/proc/{process}/net/dev")).unwrap_or_default())
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
    /// By pod uid; the machine's own under the empty one.
    networks: HashMap<String, Vec<Interface>>,
    /// All pods together.
    all: Option<Sample>,
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
        let mut networks = HashMap::from([(String::new(), interfaces_of("self"))]);
        for container in running.iter().filter(|c| matches!(c.state, stoa_runtime::State::Running { .. })) {
            fresh.extend(machine.stats(&container.spec.id).map(|s| (container.spec.id.clone(), s)));
            if seen.insert(container.spec.pod_uid.clone()) {
                if let stoa_runtime::State::Running { pid, .. } = container.state {
                    networks.insert(container.spec.pod_uid.clone(), interfaces_of(&pid.to_string()));
                }
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
        state.networks = networks;
        let all_before = state.all.take();
        state.all = machine.all_stats().map(|stats| {
            let nano_cores =
                all_before.and_then(|b| rate(b.stats.cpu_usage_ns, stats.cpu_usage_ns, b.at, now));
            Sample { at: now, stats, nano_cores }
        });
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

    /// What all pods use together.
    pub(crate) fn all(&self) -> Option<Sample> {
        self.0.lock().all
    }

    /// What went through a pod's network; through the machine's own for the empty uid.
    pub(crate) fn network(&self, uid: &str) -> Vec<Interface> {
        self.0.lock().networks.get(uid).cloned().unwrap_or_default()
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
    let mut machine =
        parse_machine(&stat, &memory, &load, read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0));
    let faults = read("/proc/vmstat");
    machine.page_faults = ["pgfault ", "pgmajfault "]
        .map(|name| faults.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0));
    machine
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
        memory_free: kib("MemFree"),
        memory_rss: kib("AnonPages"),
        swap_total: kib("SwapTotal"),
        swap_free: kib("SwapFree"),
        page_faults: [0; 2],
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
            memory_free: 1 << 10,
            ..MachineUse::default()
        };
        assert_eq!(m, want);
    }

    #[test]
    fn interfaces_are_read_but_for_those_that_lead_elsewhere() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets\n\
            \x20   lo: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 20 6 7 8 0 0 0 0\n veth1: 1 1 1 1 0 0 0 0 1 1 1 1 0 0 0 0\n";
        let eth0 = Interface { name: "eth0".into(), received: [10, 2, 3, 4], sent: [20, 6, 7, 8] };
        assert_eq!(parse_interfaces(text), [eth0]);
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
