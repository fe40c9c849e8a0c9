//! A client of the `kube` crate, as operators written in Rust are: the end-to-end stories run it against a real cluster.
//!
//! Usage: `stoa-kube-client STORY NAMESPACE` with `KUBECONFIG` set. A story that holds prints `ok`; one that does not says what it
//! saw instead and fails. Nothing here sleeps: every wait is for an event of a watch, and bounded.

mod apply;
mod controller;
mod informer;

use anyhow::{Context, Result, bail};
use kube::Client;
use std::future::Future;
use std::time::Duration;

/// How long one awaited thing may take. Generous: a slow machine is no failure.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Waits for one thing, and says which it was that did not come.
pub(crate) async fn within<T>(what: &str, wait: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(WAIT_MAX, wait).await.with_context(|| format!("waited in vain for {what}"))
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [story, namespace] = args.as_slice() else { bail!("usage: stoa-kube-client STORY NAMESPACE") };
    let client = Client::try_default().await.context("cannot make a client of KUBECONFIG")?;
    match story.as_str() {
        "list-watch" => Box::pin(informer::follow(client, namespace, informer::paged())).await,
        "streaming-list" => Box::pin(informer::follow(client, namespace, informer::streaming())).await,
        "partial" => Box::pin(informer::partial(client, namespace)).await,
        "controller" => Box::pin(controller::run(client, namespace)).await,
        "apply" => Box::pin(apply::run(client, namespace)).await,
        "discovery" => Box::pin(informer::discover(client)).await,
        other => bail!("there is no story {other:?}"),
    }?;
    println!("ok");
    Ok(())
}
