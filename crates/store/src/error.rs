//! What can go wrong.

use crate::{Entry, Key};
use std::io;
use std::path::PathBuf;
use stoa_units::Revision;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key does not stand where the transaction demands.
    #[error("{key} is not at the expected revision")]
    Conflict {
        /// Which key.
        key: Key,
        /// How it stands.
        current: Option<Entry>,
    },
    /// That part of history is gone.
    #[error("the revision has been compacted; the oldest is {oldest}")]
    Compacted {
        /// The oldest revision that can still be read, and after which a watch can still begin.
        oldest: Revision,
    },
    /// That revision has not happened yet.
    #[error("revision {requested} is in the future; the store is at {current}")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// The watcher was slower than history is long; it must list again.
    #[error("the watcher fell behind the history that is kept")]
    Lagged,
    /// A transaction beyond a limit.
    #[error("{what} is {size}, at most {max} is allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        max: usize,
    },
    /// A transaction that makes no sense.
    #[error("{key} is changed twice in one transaction")]
    Twice {
        /// Which key.
        key: Key,
    },
    /// The store has been shut.
    #[error("the store is closed")]
    Closed,
    /// Another process has the store open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A file of the store is damaged.
    #[error("{path} is corrupt: {what}; it was left as it is: restore it from a backup")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file that this store did not write.
    #[error("{path} does not belong to this store: {what}; it was left as it is")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
    /// The disk failed. After a failed write nothing more is accepted: what reached the disk is known only after a restart.
    #[error("cannot {what}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, cause: io::Error) -> Error {
        Error::Io { what: what.into(), cause }
    }
}
