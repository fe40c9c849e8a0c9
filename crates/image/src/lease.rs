//! Leases: files that name the layers which a pull has unpacked or will, before any image in the index has them. A lease
//! counts while the process that took it lives.

use crate::error::file;
use crate::{Digest, Error};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A lease; dropped, it is given back.
pub(crate) struct Lease(PathBuf);

impl Lease {
    /// Takes a lease on `layers`; the caller holds the store's lock, as whoever collects does.
    pub(crate) fn take(dir: &Path, n: u64, layers: &[Digest]) -> Result<Lease, Error> {
        let path = dir.join(format!("{}-{n}", std::process::id()));
        let text: String = layers.iter().map(|l| format!("{}\n", l.hex())).collect();
        fs::write(&path, text).map_err(file("write", &path))?;
        Ok(Lease(path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What cannot be removed now goes with the process.
        let _ = fs::remove_file(&self.0);
    }
}

/// The layers of all leases; those of dead processes are removed.
pub(crate) fn leased(dir: &Path) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.split('-').next()).unwrap_or_default();
        if pid.is_empty() || !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_file(entry.path());
            continue;
        }
        all.extend(fs::read_to_string(entry.path()).unwrap_or_default().lines().map(str::to_string));
    }
    all
}
