//! The figures of the README: each beside a peer or a limit measured in the same run. Usage: stoa-bench STOA [DIR] [what…]
//! with `what` any of `pods`, `api`, `agent`, `store` (all by default); DIR decides the disk. `stoa-bench --peer KUBECONFIG PID…`
//! puts the API's load on another server, whose processes are named.

mod agent;
mod api;
mod bare;
mod clock;
mod cluster;
mod connection;
mod pods;
mod report;
mod server;
mod store;

use anyhow::{Context, Result};
use connection::Credentials;
use server::Server;
use std::path::PathBuf;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).peekable();
    rustls::crypto::ring::default_provider().install_default().ok();
    if args.next_if(|first| first == bare::ARGUMENT).is_some() {
        return bare::serve(&PathBuf::from(args.next().context("the cluster's directory is missing")?)).await;
    }
    if args.next_if(|first| first == "--peer").is_some() {
        let kubeconfig = PathBuf::from(args.next().context("usage: stoa-bench --peer KUBECONFIG PID…")?);
        let pids = args.map(|pid| pid.parse().context("a process id is a number")).collect::<Result<_>>()?;
        let peer = Server { credentials: Credentials::from_kubeconfig(&kubeconfig)?, pids };
        return api::run(&peer, None).await;
    }
    let stoa = PathBuf::from(args.next().context("usage: stoa-bench STOA [DIR] [pods|api|agent|store…]")?)
        .canonicalize()?;
    let base = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let wanted: Vec<String> = args.collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|w| w == what);
    let dir = tempfile::Builder::new().prefix("stoa-bench-").tempdir_in(&base)?;
    let images = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/images.sh");
    println!("stoa-bench on {} cores, {}", std::thread::available_parallelism()?, base.display());
    if wants("pods") || wants("api") {
        let cluster = pods::run(&stoa, &dir.path().join("cluster"), &images).await?;
        if wants("api") {
            api::run(&cluster.server, Some(cluster.dir())).await?;
        }
    }
    if wants("agent") {
        agent::run(&stoa, &dir.path().join("agent"), &images).await?;
    }
    if wants("store") {
        store::run(dir.path()).await?;
    }
    Ok(())
}
