//! The revisioned key-value store with watch: the only memory of the cluster.
//!
//! **What.** Keys hold opaque bytes. Every transaction that changes something gets the next [`Revision`]; a transaction may
//! demand that keys stand at given revisions (compare-and-swap), reads may ask for any revision that is not yet
//! compacted, and a [`Watch`] yields every event after a revision exactly once and in order. The semantics are etcd's.
//!
//! **Why our own.** One machine needs no quorum, and a control plane is bound by how fast a small write becomes durable.
//! Here the fsync in flight *is* the batching window: whatever queues up behind it goes into the next one.
//!
//! **Flow.** `commit` queues a transaction for the one writer thread. The writer takes all that is queued, judges each
//! transaction in order against a draft of the index, appends one frame to the log and syncs it. Only then does the draft
//! become the index that readers see, do events reach watchers, and do the callers hear the verdict, be it a success or
//! a conflict: nobody ever sees a state that a crash could take back.
//!
//! **Where things are.** `index` is the multi-version map, whose readers walk a snapshot while the writer goes on; `draft`
//! judges transactions; `hub` holds recent history and finds the watchers of an event; `embedded` is the durable engine
//! over `log` (segments of checksummed frames) and `checkpoint` (the state at the compaction revision, from which the log
//! is replayed); `memory` is the engine of tests and simulations, without threads.
//!
//! **Why no database underneath.** All of the state is in memory, for reads; what the disk must give is order and
//! durability. A log gives both at the speed of the disk. A B-tree (redb was measured) wrote a put at a quarter of that, since
//! each transaction rewrites pages, and had to be read back into memory all the same.
//!
//! **What not.** No leases, no nested prefixes with meaning, no knowledge of what the bytes are.

mod checkpoint;
mod draft;
mod embedded;
mod entry;
mod error;
mod event;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod header;
mod hub;
mod index;
mod key;
mod log;
mod memory;
mod options;
mod queue;
mod recover;
mod shared;
mod store;
mod txn;
mod watch;
mod writer;

pub use embedded::open_embedded;
pub use entry::{Entries, Entry, IntoEntries, Page, Range};
pub use error::Error;
pub use event::{Batch, Event, EventKind};
pub use key::Key;
pub use memory::memory;
pub use options::Options;
pub use stoa_units::{Revision, Stamped};
pub use store::{Stats, Store};
pub use txn::{Commit, KEY_BYTES_MAX, Op, TXN_BYTES_MAX, TXN_OPS_MAX, Txn};
pub use watch::Watch;
