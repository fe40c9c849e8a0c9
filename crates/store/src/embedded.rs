//! The durable engine: an index in memory, a log on disk, one writer.

use crate::draft::check;
use crate::header::CLUSTER_BYTES_MAX;
use crate::queue::{Queue, Request};
use crate::recover::{Recovered, recover};
use crate::shared::Shared;
use crate::writer::Writer;
use crate::{Commit, Entries, Entry, Error, Key, Options, Page, Range, Stats, Store, Txn, Watch};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use stoa_units::Revision;
use tokio::sync::oneshot;

/// The file whose lock says that a process has the store open.
const LOCK_NAME: &str = "lock";

struct Embedded {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    log_bytes: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
    /// Held until everything else is gone.
    _lock: File,
}

/// Opens the store in `dir`, or makes one if there is none.
///
/// # Errors
/// [`Error::InUse`] if another process has it open; [`Error::Corrupt`] or [`Error::Foreign`] if its files are damaged or
/// not its own, in which case none of them is changed.
pub fn open_embedded(dir: &Path, options: Options) -> Result<Arc<dyn Store>, Error> {
    if options.cluster.len() > CLUSTER_BYTES_MAX {
        let size = options.cluster.len();
        return Err(Error::TooLarge { what: "the cluster's name in bytes", size, max: CLUSTER_BYTES_MAX });
    }
    let io = |cause| Error::io(format!("create {}", dir.display()), cause);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io)?;
    let lock = lock(dir)?;
    let Recovered { index, history, log, checkpoint } = recover(dir, &options)?;
    let shared = Arc::new(Shared::new(index, history, options));
    let queue = Arc::new(Queue::new());
    let log_bytes = Arc::default();
    let writer = Writer::new(shared.clone(), queue.clone(), log, Arc::clone(&log_bytes), checkpoint);
    let thread = std::thread::Builder::new().name("stoa-store".to_owned());
    let writer =
        thread.spawn(move || writer.run()).map_err(|cause| Error::io("start the writer's thread", cause))?;
    Ok(Arc::new(Embedded { shared, queue, log_bytes, writer: Some(writer), _lock: lock }))
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK_NAME);
    let io = |cause| Error::io(format!("lock {}", path.display()), cause);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path }),
        Err(TryLockError::Error(cause)) => Err(io(cause)),
    }
}

#[async_trait::async_trait]
impl Store for Embedded {
    async fn commit(&self, txn: Txn) -> Result<Commit, Error> {
        check(&txn)?;
        let (reply, verdict) = oneshot::channel();
        let bytes = txn.bytes_len();
        self.queue.push(Request::Commit { txn, bytes, reply }).await?;
        verdict.await.unwrap_or(Err(Error::Closed))
    }

    fn get(&self, key: &Key) -> Option<Entry> {
        self.shared.get(key)
    }

    fn get_at(&self, key: &Key, at: Revision) -> Result<Option<Entry>, Error> {
        self.shared.get_at(key, at)
    }

    fn hold(&self, range: Range<'_>) -> Result<Page<Entries>, Error> {
        self.shared.hold(range)
    }

    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        self.shared.watch(prefix, after)
    }

    fn revision(&self) -> Revision {
        self.shared.revision()
    }

    fn compacted(&self) -> Revision {
        self.shared.compacted()
    }

    async fn compact(&self, before: Revision) -> Result<(), Error> {
        let (reply, verdict) = oneshot::channel();
        self.queue.push(Request::Compact { before, reply }).await?;
        verdict.await.unwrap_or(Err(Error::Closed))
    }

    async fn barrier(&self) -> Result<(), Error> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        let log_bytes = self.log_bytes.load(Ordering::Relaxed);
        Stats { queue_len: self.queue.len(), log_bytes, ..self.shared.stats() }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}
