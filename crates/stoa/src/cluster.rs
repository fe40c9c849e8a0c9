//! The data directory of one cluster on one machine: its id, its lock and where everything in it lies.
//! Names of bridges, tables and cgroups derive from the id, so that several clusters fit on one machine.

use crate::routes;
use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Length of a cluster's id: short enough for a link's name (15 bytes), long enough not to clash on one machine.
const ID_LEN: usize = 6;

/// How often a held lock is tried again, and the pause between.
const LOCK_TRIES_MAX: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Serialize, Deserialize)]
struct Identity {
    id: String,
    /// The addresses of all pods, chosen at the first start and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod_cidr: Option<String>,
}

/// A data directory.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The directory.
    pub dir: PathBuf,
    /// The cluster's short id.
    pub id: String,
}

/// Held as long as a process serves the data directory.
pub struct Lock {
    _file: File,
}

impl Cluster {
    /// Opens the data directory, making it and the cluster's id at the first start.
    pub fn open(dir: &Path) -> Result<Cluster> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot create the data directory {}", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?;
        if let Some(found) = Cluster::find(&dir)? {
            return Ok(found);
        }
        let identity = Identity { id: random_id(), pod_cidr: None };
        write(&dir, &identity)?;
        Ok(Cluster { dir, id: identity.id })
    }

    /// The addresses of all pods: those asked for, those of earlier starts, or the first private network that this machine
    /// has no route to, so that several clusters can share a machine.
    ///
    /// # Errors
    ///
    /// Networks that cannot be divided into parts of `node_prefix` bits, and others than those of earlier starts.
    pub fn pod_cidr(&self, asked: Option<&str>, node_prefix: u8) -> Result<String> {
        let mut identity = read(&self.dir)?.context("the data directory lost its cluster.json")?;
        if let Some(text) = asked {
            let network = text.parse::<Ipv4Net>().ok().filter(|n| n.trunc() == *n);
            let network = network
                .with_context(|| format!("--pod-cidr: `{text}` is no IPv4 network such as 10.244.0.0/16"))?;
            if network.prefix_len() > node_prefix {
                bail!(
                    "--pod-cidr: {text} is smaller than one agent's part of it, a /{node_prefix}\nhint: give a larger network, or a greater --node-cidr-mask-size"
                );
            }
        }
        let chosen = match (asked, &identity.pod_cidr) {
            (Some(asked), Some(kept)) if asked != kept => bail!(
                "this cluster's pods have addresses in {kept}; they cannot move to {asked}\nhint: leave --pod-cidr out, or start a new cluster in another --data-dir"
            ),
            (_, Some(kept)) => return Ok(kept.clone()),
            (Some(asked), None) => asked.to_string(),
            (None, None) => {
                let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
                routes::free_network(&table).context(
                    "every network of 10.0.0.0/8 is routed somewhere on this machine\nhint: choose one with --pod-cidr",
                )?
            }
        };
        identity.pod_cidr = Some(chosen.clone());
        write(&self.dir, &identity)?;
        Ok(chosen)
    }

    /// The cluster of an existing data directory, if there is one.
    pub fn find(dir: &Path) -> Result<Option<Cluster>> {
        let Some(identity) = read(dir)? else { return Ok(None) };
        let dir = dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?;
        Ok(Some(Cluster { dir, id: identity.id }))
    }

    /// Takes the directory's lock, so that two processes never serve one store. A process that was just killed may hold it
    /// for another moment, so this waits a little before it gives up.
    pub async fn lock(&self) -> Result<Lock> {
        let path = self.dir.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        for attempt in 0..LOCK_TRIES_MAX {
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if attempt + 1 < LOCK_TRIES_MAX => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(e) => return Err(e).with_context(|| format!("cannot lock {}", path.display())),
            }
        }
        bail!(
            "{} is in use by another stoa process\nhint: stop it first, or choose another --data-dir",
            self.dir.display()
        )
    }

    /// Where keys and certificates lie.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Where the store lies.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Where the agent keeps pods.
    pub fn agent(&self) -> PathBuf {
        self.dir.join("agent")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }
}

/// The image store of a data directory, whether or not a cluster was ever started there.
pub fn images_of(dir: &Path) -> PathBuf {
    dir.join("agent").join("images")
}

/// What the operator says about registries: mirrors, authorities, credentials.
pub fn registries_of(dir: &Path) -> PathBuf {
    dir.join("registries.yaml")
}

fn read(dir: &Path) -> Result<Option<Identity>> {
    let path = dir.join("cluster.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let identity: Identity =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let ok = identity.id.len() == ID_LEN
        && identity.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !ok {
        bail!("{} is damaged: `{}` is no cluster id", path.display(), identity.id);
    }
    Ok(Some(identity))
}

/// Replaces the file whole, so that a crash leaves the old one or the new one.
fn write(dir: &Path, identity: &Identity) -> Result<()> {
    let (path, tmp) = (dir.join("cluster.json"), dir.join("cluster.json.tmp"));
    let mut file = File::create(&tmp).with_context(|| format!("cannot write {}", tmp.display()))?;
    serde_json::to_writer(&mut file, identity)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&tmp, &path).with_context(|| format!("cannot write {}", path.display()))?;
    File::open(dir)?.sync_all().with_context(|| format!("cannot sync {}", dir.display()))
}

fn random_id() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..ID_LEN).map(|_| ALPHABET[rand::random_range(0..ALPHABET.len())] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cluster_keeps_its_id_and_is_served_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Cluster::open(dir.path()).unwrap();
        let again = Cluster::open(dir.path()).unwrap();
        assert_eq!(first.id, again.id);
        let held = first.lock().await.unwrap();
        let refused = again.lock().await.map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("in use"), "{refused}");
        drop(held);
        assert!(again.lock().await.is_ok());
    }

    #[test]
    fn pod_addresses_are_chosen_once() {
        let dir = tempfile::tempdir().unwrap();
        let c = Cluster::open(dir.path()).unwrap();
        let first = c.pod_cidr(None, 24).unwrap();
        assert_eq!(c.pod_cidr(None, 24).unwrap(), first);
        assert_eq!(c.pod_cidr(Some(&first), 24).unwrap(), first);
        for (asked, why) in [
            ("pods", "is no IPv4 network"),
            ("10.1.2.3/16", "is no IPv4 network"),
            ("10.1.0.0/25", "is smaller than"),
        ] {
            assert!(c.pod_cidr(Some(asked), 24).unwrap_err().to_string().contains(why), "{asked}");
        }
        assert!(c.pod_cidr(Some("10.1.0.0/16"), 24).unwrap_err().to_string().contains("cannot move"));
        assert_eq!(Cluster::open(dir.path()).unwrap().id, c.id, "the id is kept beside it");
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cluster.json"), "{\"id\":\"../../x\"}").unwrap();
        assert!(Cluster::open(dir.path()).unwrap_err().to_string().contains("damaged"));
    }
}
