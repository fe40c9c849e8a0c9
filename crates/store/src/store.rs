//! The trait behind which the engines stand.

use crate::{Commit, Entries, Entry, Error, Key, Page, Range, Txn, Watch};
use stoa_units::Revision;

/// A revisioned key-value store with watch. Reads are local and never wait for I/O.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Judges and carries out a transaction. When this returns `Ok` the changes are durable and visible to reads. If the
    /// caller stops waiting, the transaction happens or does not, but never in part.
    async fn commit(&self, txn: Txn) -> Result<Commit, Error>;

    /// A key as it stands.
    fn get(&self, key: &Key) -> Option<Entry>;

    /// A key as it stood at a revision.
    fn get_at(&self, key: &Key, at: Revision) -> Result<Option<Entry>, Error>;

    /// Entries under a prefix, now or at a revision, held by reference.
    fn hold(&self, range: Range<'_>) -> Result<Page<Entries>, Error>;

    /// Entries under a prefix, now or at a revision.
    fn range(&self, range: Range<'_>) -> Result<Page, Error> {
        let Page { entries, revision, remaining } = self.hold(range)?;
        Ok(Page { entries: entries.into_iter().collect(), revision, remaining })
    }

    /// All events under a prefix whose revision is greater than `after`. A prefix that ends in `/` or is a whole key is
    /// found without regard to how many other watchers there are.
    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error>;

    /// The revision of the last transaction.
    fn revision(&self) -> Revision;

    /// The oldest revision that can still be read, and after which a watch can still begin.
    fn compacted(&self) -> Revision;

    /// Forgets history before a revision, which itself stays readable.
    async fn compact(&self, before: Revision) -> Result<(), Error>;

    /// After this, local reads see all that had been committed anywhere when it was called.
    async fn barrier(&self) -> Result<(), Error>;

    /// Sizes, for metrics.
    fn stats(&self) -> Stats;
}

/// How large a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that exist.
    pub keys_len: usize,
    /// Bytes of their values.
    pub live_bytes: u64,
    /// Events that are kept.
    pub history_len: usize,
    /// Bytes of their values.
    pub history_bytes: usize,
    /// Open watches.
    pub watchers_len: usize,
    /// Transactions that wait for the writer.
    pub queue_len: usize,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
}
