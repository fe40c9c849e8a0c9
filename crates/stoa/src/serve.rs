//! The commands that stay in the foreground: `up`, `master`, `agent`. Each starts its services, says one line when they
//! are ready, and stops them on SIGTERM or Ctrl-C. Containers live on.

use crate::cli::{Agent, CpuManagerPolicy, Doors, Flags, Machine, Master, Up};
use crate::cluster::{Cluster, registries_of};
use crate::{join, master};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stoa_agent::OperatorApi;
use stoa_mesos_master::Anonymous;
use stoa_pki::Identity;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long services may take to stop once they are asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a one-machine cluster.
pub async fn up(options: Up, flags: Flags) -> Result<()> {
    check_root("up")?;
    let cluster = Cluster::open(&options.data.data_dir)?;
    let _lock = cluster.lock().await?;
    let name = node_name(&options.machine)?;
    let shutdown = CancellationToken::new();
    let mut running = master::start(&cluster, &options.doors, flags, Some(&name), shutdown.clone()).await?;
    let identity = running.node.take().context("no identity was made for the node")?;
    let url =
        format!("https://{}", SocketAddr::new(master::reachable(options.doors.bind), running.api.port()));
    let mut agent = agent_options(&cluster, &name, &options.machine)?;
    agent.masters = vec![url];
    agent.ca_pem = std::mem::take(&mut running.ca_pem);
    agent.resources = options.agent_resources;
    agent.attributes = options.attributes;
    if options.machine.eviction_hard.is_none() {
        agent.eviction_hard = stoa_agent::parse_thresholds(EVICTION_OF_A_SHARED_MACHINE)
            .map_err(|e| anyhow::anyhow!("eviction thresholds: {e}"))?;
    }
    let doors = &options.doors;
    let keys = Keys {
        anonymous: doors.mesos_anonymous,
        credentials: doors.mesos_credentials.as_deref(),
        acls: doors.mesos_acls.as_deref(),
    };
    agent.mesos_api = mesos_api(options.machine.mesos_api.as_deref(), doors.bind.is_loopback(), &keys)?;
    let power = Power::of(&agent);
    start_agent(&mut running.tasks, agent, identity, shutdown.clone());
    say_ready(&cluster, &options.doors, &running)?;
    until_stopped(running.tasks, shutdown, Some(power)).await
}

/// A machine that people use for other things too has a disk that is often four fifths full: a kubelet's shares would mean that
/// nothing runs there. What is left here is what the cluster itself needs to go on.
const EVICTION_OF_A_SHARED_MACHINE: &str =
    "memory.available<100Mi,nodefs.available<1Gi,nodefs.inodesFree<1%,imagefs.available<1Gi,pid.available<5%";

/// Runs a master.
pub async fn master(options: Master, flags: Flags) -> Result<()> {
    let cluster = Cluster::open(&options.data.data_dir)?;
    let _lock = cluster.lock().await?;
    let shutdown = CancellationToken::new();
    let running = master::start(&cluster, &options.doors, flags, None, shutdown.clone()).await?;
    say_ready(&cluster, &options.doors, &running)?;
    until_stopped(running.tasks, shutdown, None).await
}

/// Runs an agent of a master elsewhere.
pub async fn agent(options: Agent) -> Result<()> {
    check_root("agent")?;
    let cluster = Cluster::open(&options.data.data_dir)?;
    let _lock = cluster.lock().await?;
    let name = node_name(&options.machine)?;
    let joined = join::load_or_join(&cluster.pki(), &options.master, options.token.as_deref(), &name).await?;
    let shutdown = CancellationToken::new();
    // The directory's own id, not the cluster's: two agents of one cluster on one machine must not share names.
    let mut agent = agent_options(&cluster, &name, &options.machine)?;
    agent.masters = options.master;
    agent.ca_pem = joined.ca_pem;
    agent.resources = options.resources;
    agent.attributes = options.attributes;
    let is_near = agent.masters.iter().all(|m| is_on_loopback(m));
    let keys = Keys {
        anonymous: options.mesos_anonymous,
        credentials: options.mesos_credentials.as_deref(),
        acls: options.mesos_acls.as_deref(),
    };
    agent.mesos_api = mesos_api(options.machine.mesos_api.as_deref(), is_near, &keys)?;
    let mut tasks = JoinSet::new();
    let power = Power::of(&agent);
    start_agent(&mut tasks, agent, joined.identity, shutdown.clone());
    println!("ready: agent {name}");
    std::io::stdout().flush()?;
    until_stopped(tasks, shutdown, Some(power)).await
}

/// By what operators are known at the agent's Mesos API.
struct Keys<'a> {
    anonymous: bool,
    credentials: Option<&'a Path>,
    acls: Option<&'a Path>,
}

/// Where operators find the agent's Mesos API, if anywhere.
fn mesos_api(asked: Option<&str>, is_near: bool, keys: &Keys<'_>) -> Result<Option<OperatorApi>> {
    let address = match asked {
        Some("none") => return Ok(None),
        None if !is_near => return Ok(None),
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            anyhow::anyhow!(
                "--mesos-api: `{text}` is no ADDR:PORT such as 127.0.0.1:5051\nhint: `none` turns it off"
            )
        })?),
    };
    Ok(Some(OperatorApi {
        address,
        anonymous: if keys.anonymous { Anonymous::Allow } else { Anonymous::Refuse },
        credentials: keys.credentials.map(master::read_credentials).transpose()?.unwrap_or_default(),
        acls: Arc::new(keys.acls.map(master::read_acls).transpose()?.unwrap_or_default()),
    }))
}

/// Whether a master's URL leads to this machine.
fn is_on_loopback(url: &str) -> bool {
    let host = url.trim_start_matches("https://").trim_end_matches('/');
    let address = host.parse::<SocketAddr>().map(|a| a.ip());
    address.is_ok_and(|ip| ip.is_loopback()) || host.split(':').next() == Some("localhost")
}

fn check_root(command: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("`stoa {command}` must be root: it makes containers, mounts and links\nhint: run it with sudo")
}

fn node_name(machine: &Machine) -> Result<String> {
    let name = machine.node_name.clone().unwrap_or_else(master::hostname);
    stoa_units::check_dns_subdomain(&name).map_err(|e| {
        anyhow::anyhow!("`{name}` cannot name a node: {e}\nhint: choose one with --node-name")
    })?;
    Ok(name)
}

fn agent_options(cluster: &Cluster, name: &str, machine: &Machine) -> Result<stoa_agent::Options> {
    let mut options = stoa_agent::Options::new(name, cluster.agent(), &cluster.id);
    // A Mesos task runs on the machine's own root file system: the cluster's keys and its store are no part of that.
    options.hidden_dirs = vec![cluster.dir.clone()];
    if let Some(text) = &machine.eviction_hard {
        let thresholds = stoa_agent::parse_thresholds(text);
        options.eviction_hard = thresholds.map_err(|e| anyhow::anyhow!("--eviction-hard: {e}"))?;
    }
    let graces = machine.eviction_soft_grace_period.as_deref().unwrap_or_default();
    let soft = machine.eviction_soft.as_deref().unwrap_or_default();
    options.eviction_soft = stoa_agent::parse_soft_thresholds(soft, graces)
        .map_err(|e| anyhow::anyhow!("--eviction-soft: {e}"))?;
    options.eviction_max_pod_grace = Duration::from_secs(machine.eviction_max_pod_grace_period);
    options.system_reserved.clone_from(&machine.system_reserved);
    options.cpu_policy = match machine.cpu_manager_policy {
        CpuManagerPolicy::None => stoa_agent::CpuPolicy::None,
        CpuManagerPolicy::Static => stoa_agent::CpuPolicy::Static,
    };
    if let Some(text) = &machine.reserved_cpus {
        let cpus = stoa_agent::CpuSet::parse(text);
        options.reserved_cpus = Some(cpus.map_err(|e| anyhow::anyhow!("--reserved-cpus: {e}"))?);
    }
    options.pressure_hold = Duration::from_secs(machine.pressure_hold);
    options.image_gc_high_percent = machine.image_gc_high_percent;
    options.image_gc_low_percent = machine.image_gc_low_percent;
    options.shutdown_grace = Duration::from_secs(machine.shutdown_grace);
    options.pods_max = machine.max_pods;
    options.pod_pids_max = machine.pod_pids_max;
    options.log_bytes_max = machine.log_bytes_max;
    options.log_files_max = machine.log_files_max;
    options.registries = registries_of(&cluster.dir);
    options.node_ip = machine.node_ip.map(|ip| ip.to_string());
    options.static_pods_dir.clone_from(&machine.static_pods);
    options.revocable.clone_from(&machine.revocable_resources);
    options.revocable_load_max = [machine.qos_load_5min, machine.qos_load_15min];
    options.verbosity = crate::logging::verbosity("agent");
    options.allowed_unsafe_sysctls.clone_from(&machine.allow_unsafe_sysctls);
    options.runtime_handlers.extend(machine.runtime_handlers.iter().cloned());
    // Not /proc/self/exe: a helper is started from a thread whose own `self` may be gone.
    options.exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    Ok(options)
}

fn start_agent(
    tasks: &mut JoinSet<Result<()>>,
    mut options: stoa_agent::Options,
    identity: Identity,
    shutdown: CancellationToken,
) {
    options.cert_pem = identity.cert_pem;
    options.key_pem = identity.key_pem;
    tasks.spawn(
        async move { stoa_agent::Service::new(options).run(shutdown).await.context("the agent ended") },
    );
}

fn say_ready(cluster: &Cluster, doors: &Doors, running: &master::Master) -> Result<()> {
    let host = master::reachable(doors.bind);
    println!(
        "ready: kubernetes https://{} mesos http://{} kubeconfig {}",
        SocketAddr::new(host, running.api.port()),
        SocketAddr::new(host, running.mesos.port()),
        cluster.kubeconfig().display()
    );
    std::io::stdout().flush()?;
    Ok(())
}

/// Tells an agent that its machine goes down.
struct Power {
    off: CancellationToken,
    grace: Duration,
}

impl Power {
    fn of(options: &stoa_agent::Options) -> Power {
        Power { off: options.power_off.clone(), grace: options.shutdown_grace }
    }
}

/// Whether the whole machine is being stopped, and not this process alone.
async fn is_machine_stopping() -> bool {
    let asked = tokio::process::Command::new("systemctl").arg("is-system-running").output();
    let answer = tokio::time::timeout(Duration::from_secs(2), asked).await;
    matches!(answer, Ok(Ok(out)) if out.stdout.trim_ascii() == b"stopping")
}

/// Waits for a signal or for the first service to fail, then stops the others. When the machine itself goes down, the agent
/// ends its pods first.
async fn until_stopped(
    mut tasks: JoinSet<Result<()>>,
    shutdown: CancellationToken,
    power: Option<Power>,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // What an init sends when the power fails; systemd's own shutdown is asked about.
    let mut power_fails = signal(SignalKind::from_raw(nix::libc::SIGPWR))?;
    let mut is_power_off = false;
    let mut outcome = tokio::select! {
        _ = terminate.recv() => {
            is_power_off = is_machine_stopping().await;
            Ok(())
        }
        _ = interrupt.recv() => Ok(()),
        _ = power_fails.recv() => {
            is_power_off = true;
            Ok(())
        }
        Some(ended) = tasks.join_next() => flatten(ended),
        () = crate::idle::watch() => Ok(()),
    };
    if let Some(power) = power.filter(|_| is_power_off) {
        power.off.cancel();
        // The agent's own end says that its pods have ended.
        if let Ok(Some(ended)) = tokio::time::timeout(power.grace + STOP_TIMEOUT, tasks.join_next()).await {
            outcome = flatten(ended);
        }
    }
    shutdown.cancel();
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            if outcome.is_ok() {
                outcome = flatten(ended);
            }
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, rest).await.is_err() {
        tracing::warn!("some services did not stop in time");
    }
    outcome
}

fn flatten(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    match ended {
        Ok(result) => result,
        Err(e) => Err(anyhow::anyhow!("a service ended unexpectedly: {e}")),
    }
}
