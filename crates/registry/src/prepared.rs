//! What a write comes to: an object that passed every check, with what must hold and what else must change when it is
//! committed; and, after the commit, its final bytes.

use bytes::Bytes;
use serde_json::Value;
use stoa_kube::{Object, Resource};
use stoa_store::{Key, Txn};
use stoa_units::{Revision, Stamped};

use crate::convert;

/// A write that passed every check and waits for its commit. It can be put into a transaction with others.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Where the object goes.
    pub key: Key,
    /// At which revision the key must stand; zero means absent.
    pub expected: Revision,
    /// The object in its stored form, without a revision; of what is created or updated without its record of owners.
    pub object: Value,
    /// All of it in bytes, with a slot for the revision.
    pub stamped: Stamped,
    /// What the client should be told.
    pub warnings: Vec<String>,
    /// Keys that must not have changed since they were looked at.
    pub(crate) guards: Vec<(Key, Revision)>,
    /// Records that are made with the object: allocations.
    pub(crate) puts: Vec<(Key, Stamped)>,
    /// Records that go with the object: allocations given back.
    pub(crate) deletes: Vec<(Key, Stamped)>,
    /// Whether the object is removed rather than written.
    pub(crate) removes: bool,
}

impl Prepared {
    /// Of an object whose record of owners is within it, or beside it as JSON.
    pub(crate) fn put(key: Key, expected: Revision, object: Value, managed: Option<&str>) -> Prepared {
        let object = Object(object);
        let stamped = object.to_stamped_with(managed);
        Prepared {
            key,
            expected,
            object: object.0,
            stamped,
            warnings: Vec::new(),
            guards: Vec::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            removes: false,
        }
    }

    pub(crate) fn remove(key: Key, expected: Revision, object: Value) -> Prepared {
        Prepared { removes: true, ..Prepared::put(key, expected, object, None) }
    }

    /// Adds everything to a transaction. Several creates in one namespace share their demands on it; a demand made twice holds
    /// twice.
    #[must_use]
    pub fn add_to(&self, txn: Txn) -> Txn {
        let mut txn = txn.expect(self.key.clone(), self.expected);
        for (key, at) in &self.guards {
            txn = txn.expect(key.clone(), *at);
        }
        txn = if self.removes {
            txn.delete(self.key.clone(), self.stamped.clone())
        } else {
            txn.put(self.key.clone(), self.stamped.clone())
        };
        for (key, value) in &self.puts {
            txn = txn.expect(key.clone(), Revision::ZERO).put(key.clone(), value.clone());
        }
        for (key, last) in &self.deletes {
            txn = txn.delete(key.clone(), last.clone());
        }
        txn
    }

    /// A transaction of its own.
    pub fn to_txn(&self) -> Txn {
        self.add_to(Txn::new())
    }

    pub(crate) fn written(
        self,
        resource: &Resource,
        bytes: Bytes,
        revision: Revision,
        change: Change,
    ) -> Written {
        Written { bytes: convert::serve(resource, bytes), revision, change, warnings: self.warnings }
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The object is new.
    Created,
    /// The object changed.
    Updated,
    /// The object was that already: nothing was written.
    Unchanged,
    /// The object is gone.
    Deleted,
}

/// What a write came to.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object in the served form; of a removal, its last state.
    pub bytes: Bytes,
    /// Its revision.
    pub revision: Revision,
    /// What happened.
    pub change: Change,
    /// What the client should be told.
    pub warnings: Vec<String>,
}

impl Written {
    /// The object as a JSON value.
    pub fn to_value(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }
}
