//! The store's index: which images there are and by which names. One JSON file, replaced whole; a lock file keeps two
//! writers apart, a changed file makes readers read again.

use crate::error::file;
use crate::{Config, Digest, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What the index knows of one image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) repo_digests: Vec<String>,
    /// Bottom layer first, as the configuration lists them.
    pub(crate) layers: Vec<Digest>,
    pub(crate) size: u64,
    pub(crate) config: Config,
    #[serde(default)]
    pub(crate) created: Option<String>,
    pub(crate) architecture: String,
    pub(crate) os: String,
    /// Those of its names that a registry gave it; the others were given by hand on this machine.
    #[serde(default)]
    pub(crate) pulled: Vec<String>,
    /// Fingerprints of the credentials it was pulled with, …
    #[serde(default)]
    pub(crate) guards: Vec<String>,
    /// … unless it was to be had without any.
    #[serde(default)]
    pub(crate) is_open: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    /// By the digest of the image's configuration: the image's id.
    pub(crate) images: BTreeMap<Digest, Record>,
}

type Stamp = (u64, i64, i64, u64);

/// The index file of a store.
pub(crate) struct IndexFile {
    dir: PathBuf,
    cached: Mutex<Option<(Stamp, Arc<Index>)>>,
}

/// Held while the store is changed.
pub(crate) struct Lock(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);

impl IndexFile {
    pub(crate) fn new(dir: &Path) -> IndexFile {
        IndexFile { dir: dir.to_path_buf(), cached: Mutex::new(None) }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    /// Waits until this process alone may change the store.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        let path = self.dir.join("lock");
        let held = File::create(&path).map_err(file("write", &path))?;
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| file("lock", &path)(e.into()))?;
        Ok(Lock(held))
    }

    /// The index as it is now.
    pub(crate) fn read(&self) -> Result<Arc<Index>, Error> {
        let path = self.path();
        let meta = match std::fs::metadata(&path) {
            Ok(m) => m,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(e) => return Err(file("read", &path)(e)),
        };
        // Every write makes a new file, so the inode alone nearly decides; the rest guards against its reuse.
        let stamp = (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size());
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((s, index)) = &*cached
            && *s == stamp
        {
            return Ok(index.clone());
        }
        let text = std::fs::read(&path).map_err(file("read", &path))?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|cause| Error::Json { what: format!("the image index {}", path.display()), cause })?;
        let index = Arc::new(index);
        *cached = Some((stamp, index.clone()));
        Ok(index)
    }

    /// Replaces the index; the caller holds the lock.
    pub(crate) fn write(&self, _lock: &Lock, index: &Index) -> Result<(), Error> {
        let (path, tmp) = (self.path(), self.dir.join("index.json.tmp"));
        let text = serde_json::to_vec_pretty(index)
            .map_err(|cause| Error::Json { what: "the image index".to_string(), cause })?;
        let mut out = File::create(&tmp).map_err(file("write", &tmp))?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(file("write", &tmp))?;
        std::fs::rename(&tmp, &path).map_err(file("write", &path))?;
        let dir = File::open(&self.dir).map_err(file("open", &self.dir))?;
        dir.sync_all().map_err(file("sync", &self.dir))
    }
}
