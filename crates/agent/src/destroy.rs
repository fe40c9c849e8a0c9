//! `stoa down`: everything that agents of a cluster made on this machine, taken away without an agent running.

use crate::error::Error;
use crate::machine::chain;
use crate::options::Options;
use std::path::Path;

/// Kills all containers of the cluster on this machine and removes its cgroups, namespaces, links, rules and mounts. Logs,
/// images and the cluster's own data stay.
pub async fn destroy(data_dir: &Path, cluster_id: &str) -> Result<(), Error> {
    let options = Options::new("", data_dir, cluster_id);
    stoa_runtime::destroy_all(&options.runtime_options()).await?;
    let pod_cidr = options.pod_cidr.parse().map_err(|_| Error::Network(options.pod_cidr.clone()))?;
    let network =
        stoa_net::Options { id: options.short_id(), dir: options.network_dir(), pod_cidr, mtu: None };
    stoa_net::destroy(&network).await.map_err(|e| Error::Network(chain(&e)))?;
    let pods = options.pods_dir();
    let removed = tokio::task::spawn_blocking(move || {
        stoa_volume::unmount_below(&pods)?;
        stoa_volume::remove_tree(&pods)
    });
    removed.await.map_err(|e| Error::Options(e.to_string()))??;
    Ok(())
}
