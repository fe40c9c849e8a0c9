//! `stoa down`: kills the containers and takes away every mount, namespace, link, table and cgroup of this cluster.

use crate::cli::Down;
use crate::cluster::Cluster;
use anyhow::{Context, Result};

/// Cleans the machine; the data directory stays.
pub async fn run(options: Down) -> Result<()> {
    let Some(cluster) = Cluster::find(&options.data.data_dir)? else {
        println!("nothing to do: {} holds no cluster", options.data.data_dir.display());
        return Ok(());
    };
    let _lock = cluster.lock().await?;
    stoa_agent::destroy(&cluster.agent(), &cluster.id)
        .await
        .with_context(|| format!("cannot take down everything of {}", cluster.dir.display()))?;
    println!(
        "down: cluster {} left nothing running; its data stays in {}",
        cluster.id,
        cluster.dir.display()
    );
    Ok(())
}
