//! A release `stoa up` in a temporary directory, started and stopped by its process id.

use crate::clock;
use crate::connection::Credentials;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running cluster; dropping it stops it and removes what it made.
pub struct Cluster {
    child: Child,
    stoa: PathBuf,
    dir: PathBuf,
    /// From exec to the ready line.
    pub ready_after: Duration,
    /// Its administrator's credentials.
    pub credentials: Credentials,
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Cluster {
    /// Starts one on `dir`, with more flags for `stoa up`.
    pub fn start(stoa: &Path, dir: &Path, flags: &[&str]) -> Result<Cluster> {
        let (api, mesos) = (free_port()?.to_string(), free_port()?.to_string());
        let log = std::fs::File::create(dir.with_extension("log"))?;
        let begun = clock::now();
        let mut child = Command::new(stoa)
            .args(["up", "--api-port", &api, "--mesos-port", &mesos, "--data-dir"])
            .arg(dir)
            .args(["--agent-resources", "cpus:64;mem:65536"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", stoa.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let ready_after = begun.elapsed();
        if !line.starts_with("ready:") {
            bail!("stoa did not start; see {}", dir.with_extension("log").display());
        }
        let credentials = Credentials::from_kubeconfig(&dir.join("kubeconfig"))?;
        Ok(Cluster { child, stoa: stoa.to_path_buf(), dir: dir.to_path_buf(), ready_after, credentials })
    }

    /// Proportional set size of the process in bytes.
    pub fn pss_bytes(&self) -> Result<u64> {
        Cluster::pss_of(self.pid())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its process and the helpers of its containers.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let at = self.dir.to_string_lossy().into_owned();
        Ok(cmdlines()?.into_iter().filter(|(_, line)| line.contains(&at)).map(|(pid, _)| pid).collect())
    }

    /// Proportional set size of a process in bytes.
    pub fn pss_of(pid: u32) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kib = text.lines().find_map(|l| l.strip_prefix("Pss:")).context("no Pss line")?;
        Ok(kib.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    /// User and system CPU time so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_of(self.pid())
    }

    /// Its data.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
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

impl Drop for Cluster {
    fn drop(&mut self) {
        // The process may have gone already; what matters is the sweep after it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        let _ = Command::new(&self.stoa)
            .arg("down")
            .arg("--data-dir")
            .arg(&self.dir)
            .stdout(Stdio::null())
            .status();
    }
}
