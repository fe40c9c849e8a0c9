//! The Kubernetes door under load: every kind of write and read with its CPU time, lists of up to 100,000 pods, informers
//! that start at once, and up to 10,000 watchers.

use crate::bare::Bare;
use crate::clock;
use crate::connection::Connection;
use crate::report::{Better, beside, figure, section};
use crate::server::{Server, pss_of};
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const WORKERS: usize = 32;
const CONNECTIONS: usize = 4;
const CREATES: u64 = 10_000;
const GETS: u64 = 40_000;
const WRITES: u64 = 5_000;
const LISTS: u64 = 2_000;
const PODS: u64 = 10_000;
const PODS_MANY: u64 = 100_000;
/// Lists of all of those at the same time.
const LISTS_AT_ONCE: usize = 4;
/// How often the server's memory is looked at for its peak: often enough for answers that take a second.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
const INFORMERS: usize = 1_000;
const INFORMED: u64 = 1_000;
/// Watchers, and creates that each of them sees.
const FAN_OUTS: [(usize, usize); 2] = [(1_000, 200), (10_000, 20)];
const STREAMS_PER_CONNECTION: usize = 100;
const JSON: &str = "application/json";
/// design.md's budgets.
const READ_CPU_BUDGET_US: f64 = 25.0;
const WATCH_P99_BUDGET_MS: f64 = 50.0;
const WRITE_CPU_BUDGET_US: f64 = 60.0;
const LIST_100K_BUDGET_S: f64 = 1.0;
const LIST_MEMORY_BUDGET_MIB: f64 = 16.0;
const POD_MEMORY_BUDGET_KIB: f64 = 8.0;
/// A stock kube-apiserver and etcd on a 2-core machine like ours, recorded earlier (client-go, JSON, 32 workers): orders of magnitude.
const STOCK_CREATES: f64 = 1_377.0;
const STOCK_GETS: f64 = 2_874.0;

/// Runs all of it against `server`; with the folder of stoa's data also the least that a durable write costs, measured in it.
pub async fn run(server: &Server, dir: Option<&Path>) -> Result<()> {
    section("Kubernetes API, 32 workers on 4 HTTP/2 connections, client on the same cores");
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(&server.credentials).await?);
    }
    let c = &mut connections[0].clone();
    let request = |i| (JSON, "POST", MAPS.to_string(), config_map(i, "created"));
    let cost = timed(server, &connections, CREATES, request).await?;
    cost.show_beside("create ConfigMap of 1 KiB", STOCK_CREATES, WRITE_CPU_BUDGET_US);
    if let Some(dir) = dir {
        let least = bare_write(server, dir).await?;
        let beyond = cost.cpu_us - least;
        beside("    beyond the least a durable write costs", beyond, "µs", "the least", least, Better::Less);
    }
    writes(server, &connections).await?;
    let request = |i| (JSON, "GET", format!("{MAPS}/c{}", i % CREATES), String::new());
    let cost = timed(server, &connections, GETS, request).await?;
    cost.show_beside("get ConfigMap", STOCK_GETS, READ_CPU_BUDGET_US);
    for (count, query) in [(1, "fieldSelector=metadata.name%3Dc7"), (500, "limit=500")] {
        let request = move |_| (JSON, "GET", format!("{MAPS}?{query}"), String::new());
        let cost = timed(server, &connections, LISTS, request).await?;
        figure(&format!("list of {count}"), cost.rate, "/s");
        figure("  server CPU", cost.cpu_us, "µs");
    }
    for (watchers, creates) in FAN_OUTS {
        fan_out(server, c, watchers, creates).await?;
    }
    informers(server, c, &connections).await?;
    list(server, c, &connections).await
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(i: u64, state: &str) -> String {
    let data = "x".repeat(900);
    let meta = json!({"name": format!("c{i}"), "labels": {"state": state}});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": data}}).to_string()
}

/// The other ways of writing, upon what was created.
async fn writes(server: &Server, connections: &[Connection]) -> Result<()> {
    let path = |i: u64| format!("{MAPS}/c{i}");
    let put = move |i| (JSON, "PUT", path(i), config_map(i, "updated"));
    timed(server, connections, WRITES, put).await?.show("update ConfigMap", WRITE_CPU_BUDGET_US);
    let merge = move |i| {
        let patch = json!({"metadata": {"labels": {"state": "patched"}}});
        ("application/merge-patch+json", "PATCH", path(i), patch.to_string())
    };
    timed(server, connections, WRITES, merge).await?.show("patch ConfigMap (merge)", WRITE_CPU_BUDGET_US);
    let apply = move |i| {
        let path = format!("{}?fieldManager=bench&force=true", path(i));
        ("application/apply-patch+yaml", "PATCH", path, config_map(i, "applied"))
    };
    timed(server, connections, WRITES, apply)
        .await?
        .show("apply ConfigMap (server-side)", WRITE_CPU_BUDGET_US);
    Ok(())
}

/// What a load came to.
struct Cost {
    /// Requests a second.
    rate: f64,
    /// The server's CPU time of each.
    cpu_us: f64,
}

impl Cost {
    fn show(&self, what: &str, budget_us: f64) {
        figure(what, self.rate, "/s");
        beside("  server CPU", self.cpu_us, "µs", "budget", budget_us, Better::Less);
    }

    fn show_beside(&self, what: &str, stock: f64, budget_us: f64) {
        beside(what, self.rate, "/s", "stock server, recorded", stock, Better::More);
        beside("  server CPU", self.cpu_us, "µs", "budget", budget_us, Better::Less);
    }
}

/// The CPU time of the same writes on a server that does nothing but receive, sync and answer them.
async fn bare_write(server: &Server, dir: &Path) -> Result<f64> {
    let bare = Bare::start(dir, &server.credentials)?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(&bare.credentials).await?);
    }
    let cpu = bare.cpu()?;
    let request = |i| (JSON, "POST", MAPS.to_string(), config_map(i, "created"));
    let rate = load(&connections, CREATES, request).await?;
    let cost = (bare.cpu()? - cpu).as_secs_f64() * 1e6 / CREATES as f64;
    figure("the same to a server that only syncs and answers", rate, "/s");
    figure("  server CPU", cost, "µs");
    Ok(cost)
}

async fn timed<F>(server: &Server, connections: &[Connection], total: u64, request: F) -> Result<Cost>
where
    F: Fn(u64) -> (&'static str, &'static str, String, String) + Send + Sync + 'static,
{
    let cpu = server.cpu()?;
    let rate = load(connections, total, request).await?;
    let cpu = server.cpu()? - cpu;
    Ok(Cost { rate, cpu_us: cpu.as_secs_f64() * 1e6 / total as f64 })
}

async fn load<F>(connections: &[Connection], total: u64, request: F) -> Result<f64>
where
    F: Fn(u64) -> (&'static str, &'static str, String, String) + Send + Sync + 'static,
{
    let (next, request) = (Arc::new(AtomicU64::new(0)), Arc::new(request));
    let begun = clock::now();
    let mut tasks = Vec::new();
    for w in 0..WORKERS {
        let (mut c, next, request) =
            (connections[w % connections.len()].clone(), next.clone(), request.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= total {
                    return anyhow::Ok(());
                }
                let (content_type, method, path, body) = request(i);
                c.call_as(content_type, method, &path, body).await?;
            }
        }));
    }
    for t in tasks {
        t.await??;
    }
    Ok(total as f64 / begun.elapsed().as_secs_f64())
}

/// A pod that a gate keeps from the scheduler: this is about lists.
fn pod(i: u64) -> String {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}"), "labels": {"app": "bench"}},
        "spec": {"schedulingGates": [{"name": "stoa.dev/bench"}],
                 "containers": [{"name": "c", "image": "busybox", "resources": {"requests": {"cpu": "10m"}}}]}})
    .to_string()
}

async fn list(server: &Server, c: &mut Connection, connections: &[Connection]) -> Result<()> {
    let path = "/api/v1/namespaces/listed/pods";
    c.call("POST", "/api/v1/namespaces", json!({"metadata": {"name": "listed"}}).to_string()).await?;
    // The service account that admission asks for is made by a controller.
    wait_for(c, "/api/v1/namespaces/listed/serviceaccounts/default").await?;
    let rate = load(connections, PODS, move |i| (JSON, "POST", path.to_string(), pod(i))).await?;
    figure("create Pod", rate, "/s");
    let mut samples = Vec::new();
    let mut size = 0;
    for _ in 0..5 {
        let begun = clock::now();
        size = c.call("GET", path, Bytes::new()).await?.len();
        samples.push(begun.elapsed());
    }
    let p50 = clock::quantile_ms(&mut samples, 0.5);
    figure(&format!("list of {PODS} pods, {:.1} MB", size as f64 / 1e6), p50, "ms");
    let more = PODS_MANY - PODS;
    let before = server.pss_bytes()?;
    load(connections, more, move |i| (JSON, "POST", path.to_string(), pod(PODS + i))).await?;
    let grown = server.pss_bytes()?.saturating_sub(before) as f64 / more as f64 / 1024.0;
    beside("memory for each further pod object", grown, "KiB", "budget", POD_MEMORY_BUDGET_KIB, Better::Less);
    let peak = Peak::begin(server)?;
    let begun = clock::now();
    let size = drain(c, path).await?;
    let took = begun.elapsed().as_secs_f64();
    let what = format!("list of {PODS_MANY} pods, {:.0} MB", size as f64 / 1e6);
    beside(&what, took, "s", "budget", LIST_100K_BUDGET_S, Better::Less);
    let mut lists = Vec::new();
    for _ in 0..LISTS_AT_ONCE {
        let mut c = Connection::open(&server.credentials).await?;
        lists.push(tokio::spawn(async move { drain(&mut c, path).await }));
    }
    for list in lists {
        list.await??;
    }
    let what = format!("  memory beyond that before, {LISTS_AT_ONCE} such lists at once");
    beside(&what, peak.end().await?, "MiB", "budget", LIST_MEMORY_BUDGET_MIB, Better::Less);
    Ok(())
}

/// Reads an answer without keeping it; returns its length.
async fn drain(c: &mut Connection, path: &str) -> Result<usize> {
    let mut body = c.send("GET", path, JSON, Bytes::new()).await?.into_body();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        size += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(size)
}

/// How far the server's memory goes up meanwhile.
struct Peak {
    before: u64,
    seen: tokio::task::JoinHandle<u64>,
    stop: Arc<AtomicBool>,
}

impl Peak {
    fn begin(server: &Server) -> Result<Peak> {
        let (before, pids) = (server.pss_bytes()?, server.pids.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let seen = tokio::spawn(async move {
            let mut highest = before;
            while !stopped.load(Ordering::Relaxed) {
                highest = highest.max(pids.iter().map(|pid| pss_of(*pid).unwrap_or(0)).sum());
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
            highest
        });
        Ok(Peak { before, seen, stop })
    }

    /// In MiB.
    async fn end(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.seen.await?.saturating_sub(self.before) as f64 / f64::from(1 << 20))
    }
}

/// Lists and then watches, all at the same time, as after a restart of everything.
async fn informers(server: &Server, c: &mut Connection, connections: &[Connection]) -> Result<()> {
    let maps = "/api/v1/namespaces/informed/configmaps";
    c.call("POST", "/api/v1/namespaces", json!({"metadata": {"name": "informed"}}).to_string()).await?;
    load(connections, INFORMED, move |i| (JSON, "POST", maps.to_string(), config_map(i, "informed"))).await?;
    let peak = Peak::begin(server)?;
    let begun = clock::now();
    let mut started = Vec::new();
    let mut open = Vec::new();
    for i in 0..INFORMERS {
        if i % STREAMS_PER_CONNECTION == 0 {
            open.push(Connection::open(&server.credentials).await?);
        }
        let mut c = open[i / STREAMS_PER_CONNECTION].clone();
        started.push(tokio::spawn(async move {
            drain(&mut c, &format!("{maps}?resourceVersion=0")).await?;
            c.send("GET", &format!("{maps}?watch=1&resourceVersion=0"), JSON, Bytes::new()).await
        }));
    }
    let mut watches = Vec::new();
    for informer in started {
        watches.push(informer.await??);
    }
    figure(
        &format!("{INFORMERS} informers of {INFORMED} ConfigMaps, started at once"),
        begun.elapsed().as_secs_f64(),
        "s",
    );
    figure("  memory beyond that before", peak.end().await?, "MiB");
    drop(watches);
    Ok(())
}

async fn wait_for(c: &mut Connection, path: &str) -> Result<()> {
    for _ in 0..200 {
        if c.call("GET", path, Bytes::new()).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("{path} did not appear")
}

/// Every watcher sees every create; a sample is the time from sending the create to one watcher having the event.
async fn fan_out(server: &Server, c: &mut Connection, watchers_len: usize, creates: usize) -> Result<()> {
    let namespace = format!("watched-{watchers_len}");
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    c.call("POST", "/api/v1/namespaces", json!({"metadata": {"name": namespace}}).to_string()).await?;
    let (tx, mut rx) = mpsc::unbounded_channel::<(usize, Instant)>();
    let mut connections = Vec::new();
    let mut watchers = Vec::new();
    for w in 0..watchers_len {
        if w % STREAMS_PER_CONNECTION == 0 {
            connections.push(Connection::open(&server.credentials).await?);
        }
        let mut connection = connections[w / STREAMS_PER_CONNECTION].clone();
        let path = format!("{maps}?watch=1&labelSelector=bench");
        let response = connection.send("GET", &path, JSON, Bytes::new()).await?;
        let tx = tx.clone();
        watchers.push(tokio::spawn(async move {
            let mut body = response.into_body();
            let mut rest = Vec::new();
            while let Some(Ok(frame)) = body.frame().await {
                let Some(data) = frame.data_ref() else { continue };
                rest.extend_from_slice(data);
                let at = clock::now();
                while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    if let Some(i) = number(&line) {
                        let _ = tx.send((i, at));
                    }
                }
            }
        }));
    }
    let mut sent = Vec::with_capacity(creates);
    let mut samples = Vec::with_capacity(creates * watchers_len);
    let begun = clock::now();
    for i in 0..creates {
        sent.push(clock::now());
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("n{i}"), "labels": {"bench": "1"}}});
        c.call("POST", &maps, body.to_string()).await?;
        for _ in 0..watchers_len {
            let next = tokio::time::timeout(Duration::from_secs(30), rx.recv()).await;
            let (n, at) = next.context("a watcher did not get its event")?.context("no watcher is left")?;
            samples.push(at.duration_since(sent[n]));
        }
    }
    let rate = samples.len() as f64 / begun.elapsed().as_secs_f64();
    figure(&format!("watch fan-out to {watchers_len} watchers, events delivered"), rate, "/s");
    figure("  create sent → event delivered, p50", clock::quantile_ms(&mut samples, 0.5), "ms");
    let p99 = clock::quantile_ms(&mut samples, 0.99);
    beside(
        "  create sent → event delivered, p99",
        p99,
        "ms",
        "budget for 10,000",
        WATCH_P99_BUDGET_MS,
        Better::Less,
    );
    for w in watchers {
        w.abort();
    }
    Ok(())
}

/// The `i` of a watch event about ConfigMap `n<i>`.
fn number(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let at = text.find("\"name\":\"n")? + 9;
    text[at..].split('"').next()?.parse().ok()
}
