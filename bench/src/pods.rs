//! From an empty machine to running pods: start-up, the first pod, fifty pods, memory.

use crate::clock;
use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::report::{Better, beside, figure, section};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

const PODS: usize = 50;
/// By then a process to which nothing happens has seen that it is idle.
const UNTIL_IDLE: Duration = Duration::from_secs(25);
const READY_BUDGET_MS: f64 = 50.0;
const FIRST_POD_BUDGET_MS: f64 = 300.0;
const IDLE_BUDGET_MIB: f64 = 32.0;

/// Start-up, the first pod and idle memory of a fresh cluster, then fifty pods. Returns the cluster for more.
pub async fn run(stoa: &Path, dir: &Path, images: &Path) -> Result<Cluster> {
    section("one machine, from exec on");
    make_images(stoa, dir, images)?;
    let begun = clock::now();
    let cluster = Cluster::start(stoa, dir, &[])?;
    beside(
        "exec → API ready",
        cluster.ready_after.as_secs_f64() * 1e3,
        "ms",
        "budget",
        READY_BUDGET_MS,
        Better::Less,
    );
    let mut c = Connection::open(&cluster.server.credentials).await?;
    let mut times = create_and_wait(&mut c, "first", 1).await?;
    let first = times.pop().context("no pod ran")?;
    let since_exec = begun.elapsed().as_secs_f64() * 1e3;
    beside(
        "exec → first pod Running (image present)",
        since_exec,
        "ms",
        "budget",
        FIRST_POD_BUDGET_MS,
        Better::Less,
    );
    figure("  of it, create → Running", first.as_secs_f64() * 1e3, "ms");
    c.call("DELETE", "/api/v1/namespaces/default/pods/first-0?gracePeriodSeconds=0", Bytes::new()).await?;
    tokio::time::sleep(UNTIL_IDLE).await;
    let idle = cluster.server.pss_bytes()? as f64 / (1 << 20) as f64;
    beside("all-in-one idle memory (PSS)", idle, "MiB", "budget", IDLE_BUDGET_MIB, Better::Less);

    let all = clock::now();
    let mut times = create_and_wait(&mut c, "many", PODS).await?;
    let whole = all.elapsed();
    figure(
        &format!("{PODS} pods created at once, create → Running p50"),
        clock::quantile_ms(&mut times, 0.5),
        "ms",
    );
    figure("  p99", clock::quantile_ms(&mut times, 0.99), "ms");
    figure("  all running after", whole.as_secs_f64() * 1e3, "ms");
    let loaded = cluster.server.pss_bytes()? as f64 / (1 << 20) as f64;
    figure(&format!("memory with {PODS} pods (PSS of the process)"), loaded, "MiB");
    Ok(cluster)
}

/// Fills the image store of a cluster that is yet to start.
pub fn make_images(stoa: &Path, dir: &Path, images: &Path) -> Result<()> {
    let status =
        std::process::Command::new(images).arg(stoa).arg(dir).stderr(std::process::Stdio::null()).status()?;
    if !status.success() {
        bail!("{} failed", images.display());
    }
    Ok(())
}

/// Creates `n` pods named `<prefix>-<i>` and waits until a watch has shown each of them Running.
pub async fn create_and_wait(c: &mut Connection, prefix: &str, n: usize) -> Result<Vec<Duration>> {
    let path = "/api/v1/namespaces/default/pods?watch=1";
    let mut body = c.send("GET", path, "application/json", Bytes::new()).await?.into_body();
    let mut sent: HashMap<String, Instant> = HashMap::new();
    let mut creates = Vec::new();
    for i in 0..n {
        let name = format!("{prefix}-{i}");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent",
                     "command": ["sleep", "3600"], "resources": {"requests": {"cpu": "10m", "memory": "4Mi"}}}]}})
        .to_string();
        sent.insert(name, clock::now());
        let mut c = c.clone();
        creates.push(tokio::spawn(async move {
            // The very first pod may come before its namespace's service account: try again as any client would.
            let mut last = None;
            for _ in 0..400 {
                match c.call("POST", "/api/v1/namespaces/default/pods", pod.clone()).await {
                    Ok(_) => return Ok(()),
                    Err(e) => last = Some(e),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(last.unwrap_or_else(|| anyhow::anyhow!("no pod could be created")))
        }));
    }
    let mut times = Vec::new();
    let mut rest = Vec::new();
    while times.len() < n {
        let frame = tokio::time::timeout(Duration::from_secs(60), body.frame()).await;
        let frame = frame.context("a pod did not run in a minute")?.context("the watch ended")??;
        let Some(data) = frame.data_ref() else { continue };
        rest.extend_from_slice(data);
        let at = clock::now();
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line)?;
            let pod = &event["object"];
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            if pod["status"]["phase"] == "Running"
                && let Some(t) = sent.remove(name)
            {
                times.push(at.duration_since(t));
            }
        }
    }
    for t in creates {
        t.await??;
    }
    Ok(times)
}
