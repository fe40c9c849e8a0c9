//! An API server under measurement: how to reach it, and which processes it is made of. It is stoa, or any other that
//! a kubeconfig and process ids describe, so that a stock server stands beside with the same load.

use crate::connection::Credentials;
use anyhow::{Context, Result};
use std::time::Duration;

/// A running server that somebody else starts and stops.
pub struct Server {
    /// Its administrator's credentials.
    pub credentials: Credentials,
    /// The processes whose work counts as its own: a stock server's store is one beside it.
    pub pids: Vec<u32>,
}

impl Server {
    /// Proportional set size of all of it in bytes.
    pub fn pss_bytes(&self) -> Result<u64> {
        self.pids.iter().map(|pid| pss_of(*pid)).sum()
    }

    /// User and system CPU time so far.
    pub fn cpu(&self) -> Result<Duration> {
        self.pids.iter().map(|pid| cpu_of(*pid)).sum()
    }
}

/// Proportional set size of a process in bytes.
pub fn pss_of(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = text.lines().find_map(|l| l.strip_prefix("Pss:")).context("no Pss line")?;
    Ok(kib.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// User and system CPU time of a process so far.
pub fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("odd stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    // USER_HZ is 100 on every Linux that has /proc in this form.
    Ok(Duration::from_millis(ticks * 10))
}

/// The command lines of the machine's processes.
pub fn cmdlines() -> Result<Vec<(u32, String)>> {
    let pids =
        std::fs::read_dir("/proc")?.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    // A process that ended meanwhile has none.
    Ok(pids
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .collect())
}
