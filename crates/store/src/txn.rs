//! Transactions: what must hold, and what then happens, all of it or nothing.

use crate::Key;
use bytes::Bytes;
use stoa_units::{Revision, Stamped};

/// Largest transaction, keys and values together: etcd's default request limit.
pub const TXN_BYTES_MAX: usize = 1536 * 1024;
/// Most operations and most demands in one transaction: etcd's default.
pub const TXN_OPS_MAX: usize = 128;
/// Longest key. A namespace, a resource, a group and a name at their longest stay below it.
pub const KEY_BYTES_MAX: usize = 1024;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put {
        /// Which key.
        key: Key,
        /// Its new value.
        value: Stamped,
    },
    /// Removes a key that exists; if it does not, the transaction conflicts.
    Delete {
        /// Which key.
        key: Key,
        /// The last state, which watchers see with the deletion's revision in it.
        last: Stamped,
    },
}

impl Op {
    /// The key that is changed.
    pub fn key(&self) -> &Key {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
        }
    }

    /// The bytes that are written.
    pub(crate) fn stamped(&self) -> &Stamped {
        match self {
            Op::Put { value, .. } => value,
            Op::Delete { last, .. } => last,
        }
    }
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub(crate) expects: Vec<(Key, Revision)>,
    pub(crate) ops: Vec<Op>,
}

impl Txn {
    /// A transaction that demands and changes nothing.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Demands that `key` was last modified at `modified`; [`Revision::ZERO`] means that it must be absent.
    #[must_use]
    pub fn expect(mut self, key: Key, modified: Revision) -> Txn {
        self.expects.push((key, modified));
        self
    }

    /// Sets `key`.
    #[must_use]
    pub fn put(mut self, key: Key, value: Stamped) -> Txn {
        self.ops.push(Op::Put { key, value });
        self
    }

    /// Removes `key`, which must exist; `last` is its last state, stamped with the deletion's revision.
    #[must_use]
    pub fn delete(mut self, key: Key, last: Stamped) -> Txn {
        self.ops.push(Op::Delete { key, last });
        self
    }

    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// True if the transaction changes nothing. Its demands are still judged, in order with other transactions.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The bytes of all keys and values.
    pub fn bytes_len(&self) -> usize {
        let expects: usize = self.expects.iter().map(|(key, _)| key.as_str().len()).sum();
        let ops: usize = self.ops.iter().map(|op| op.key().as_str().len() + op.stamped().bytes.len()).sum();
        expects + ops
    }
}

/// What a transaction came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision of all its changes; of an empty transaction, the revision at which its demands held.
    pub revision: Revision,
    /// The final bytes, one per operation.
    pub values: Vec<Bytes>,
}
