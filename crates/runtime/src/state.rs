//! What is: a container's state as the helper records it and as callers see it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stoa_units::Time;

use crate::spec::ContainerSpec;

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// With code 0.
    Completed,
    /// With another code, or by a signal.
    Error,
    /// The kernel killed it for memory.
    OomKilled,
    /// Its command could not be run.
    StartError,
    /// Its helper was killed, or the machine restarted; the code is made up (137 or 255).
    Lost,
}

impl ExitReason {
    /// The word in a container's status.
    pub fn as_str(self) -> &'static str {
        match self {
            ExitReason::Completed => "Completed",
            ExitReason::Error => "Error",
            ExitReason::OomKilled => "OOMKilled",
            ExitReason::StartError => "StartError",
            ExitReason::Lost => "ContainerStatusUnknown",
        }
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Which container.
    pub id: String,
    /// Its pod.
    pub pod_uid: String,
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why.
    pub reason: ExitReason,
    /// More, for people; may be empty.
    pub message: String,
    /// When its command began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Time,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Being set up.
    Creating,
    /// Its command runs.
    Running {
        /// Of its first process, as the machine counts.
        pid: i32,
        /// Since when.
        started_at: Time,
    },
    /// It ended.
    Exited(Exit),
}

/// A container as it is.
#[derive(Clone, Debug)]
pub struct Container {
    /// What was asked.
    pub spec: Arc<ContainerSpec>,
    /// Where it is.
    pub state: State,
}

/// What `start` gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Of its first process, as the machine counts.
    pub pid: i32,
    /// When.
    pub started_at: Time,
}

/// What a cgroup used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time ever, in ns.
    pub cpu_usage_ns: u64,
    /// Memory charged, in bytes.
    pub memory_usage_bytes: u64,
    /// Of that, what cannot be dropped at once: usage less inactive file pages.
    pub memory_working_set_bytes: u64,
    /// Anonymous memory.
    pub memory_rss_bytes: u64,
    /// Tasks: threads, each counted by itself.
    pub pids: u64,
    /// So many there may be; 0 for any number.
    pub pids_max: u64,
    /// Processes. Counted of containers and pods only.
    pub processes: u64,
    /// Of the CPU time, what was spent in the processes themselves, in ns.
    pub cpu_user_ns: u64,
    /// Of the CPU time, what was spent in the kernel, in ns.
    pub cpu_system_ns: u64,
    /// Periods of its CPU quota, those in which it had to wait, and how long it waited in ns.
    pub cpu_periods: [u64; 3],
    /// Memory of files that it holds.
    pub memory_cache_bytes: u64,
    /// What of its memory lies in swap.
    pub memory_swap_bytes: u64,
    /// The bound on its memory; 0 for none.
    pub memory_limit_bytes: u64,
    /// Page faults, and those of them that had to read a disk.
    pub page_faults: [u64; 2],
    /// Bytes written to the writable layer are not counted here: ask the volume of the container.
    pub oom_kills: u64,
    /// How its tasks were held up for want of CPU, memory and disk, where the kernel keeps count of that.
    pub pressure: Option<[Pressure; 3]>,
}

/// How tasks were held up for want of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// While at least one of them was.
    pub some: Stall,
    /// While all of them were.
    pub full: Stall,
}

/// A kind of waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Hundredths of a per cent of the last 10, 60 and 300 seconds.
    pub averages: [u32; 3],
    /// Ever, in µs.
    pub total_us: u64,
}

/// What went between a cgroup and a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskIo {
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// Bytes read and written.
    pub bytes: [u64; 2],
    /// Operations that read and that wrote.
    pub operations: [u64; 2],
}
