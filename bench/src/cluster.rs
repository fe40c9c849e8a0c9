//! A release `stoa up` in a temporary directory, started and stopped by its process id.

use crate::clock;
use crate::connection::Credentials;
use crate::server::{self, Server};
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
    /// Its API server, with its administrator's credentials.
    pub server: Server,
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
        let server = Server { credentials, pids: vec![child.id()] };
        Ok(Cluster { child, stoa: stoa.to_path_buf(), dir: dir.to_path_buf(), ready_after, server })
    }

    /// Its process and the helpers of its containers.
    pub fn processes(&self) -> Result<Vec<u32>> {
        let at = self.dir.to_string_lossy().into_owned();
        Ok(server::cmdlines()?
            .into_iter()
            .filter(|(_, line)| line.contains(&at))
            .map(|(pid, _)| pid)
            .collect())
    }

    /// Its data.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
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
