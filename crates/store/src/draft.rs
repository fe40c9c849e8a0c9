//! Judges transactions by a state that nobody sees yet: the index, and what the transactions before them left.

use crate::index::{Index, Slot, Staged, Version};
use crate::{
    Commit, Entry, Error, Event, EventKind, KEY_BYTES_MAX, Key, Op, TXN_BYTES_MAX, TXN_OPS_MAX, Txn,
};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use stoa_units::Revision;

/// What is to be published once it is durable.
pub(crate) struct Draft<'a> {
    index: &'a Index,
    revision: Revision,
    seen: HashMap<Key, Seen>,
    staged: Vec<Staged>,
    pub(crate) events: Vec<Arc<Event>>,
    /// Set if history is to be forgotten before this revision.
    pub(crate) compacted: Option<Revision>,
}

/// A key that was looked at.
struct Seen {
    /// Where it hangs, if it has been published before.
    slot: Option<Arc<Slot>>,
    /// How it will stand.
    version: Option<Arc<Version>>,
}

impl Seen {
    fn look(index: &Index, key: &Key) -> Seen {
        let slot = index.slot(key);
        let version = slot.as_ref().map(|slot| slot.head());
        Seen { slot, version }
    }

    /// The version, if the key will exist.
    fn existing(&self) -> Option<&Arc<Version>> {
        self.version.as_ref().filter(|version| version.exists())
    }
}

impl<'a> Draft<'a> {
    /// A draft with room for about `len` transactions.
    pub(crate) fn new(index: &'a Index, len: usize) -> Draft<'a> {
        Draft {
            index,
            revision: index.revision(),
            seen: HashMap::with_capacity(len),
            staged: Vec::with_capacity(len),
            events: Vec::with_capacity(len),
            compacted: None,
        }
    }

    /// The revision that the store will be at.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// True if publishing this would change nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.compacted.is_none()
    }

    /// Judges one transaction by what those before it left, and carries it out if its demands hold.
    pub(crate) fn apply(&mut self, txn: Txn) -> Result<Commit, Error> {
        for (key, expected) in &txn.expects {
            if self.modified(key) != *expected {
                return Err(self.conflict(key));
            }
        }
        for op in &txn.ops {
            if let Op::Delete { key, .. } = op
                && self.modified(key) == Revision::ZERO
            {
                return Err(self.conflict(key));
            }
        }
        if txn.ops.is_empty() {
            return Ok(Commit { revision: self.revision, values: Vec::new() });
        }
        let revision = self.revision.next();
        let mut values = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            let bytes = op.stamped().at(revision);
            values.push(bytes.clone());
            match op {
                Op::Put { key, .. } => self.change(EventKind::Put, key, bytes, revision),
                Op::Delete { key, .. } => self.change(EventKind::Delete, key, bytes, revision),
            }
        }
        self.revision = revision;
        Ok(Commit { revision, values })
    }

    /// Carries out again what was once committed; an error says why it cannot have been.
    pub(crate) fn replay(
        &mut self,
        revision: Revision,
        ops: Vec<(EventKind, Key, Bytes)>,
    ) -> Result<(), String> {
        if revision != self.revision.next() {
            return Err(format!("revision {revision} where {} should be", self.revision.next()));
        }
        for (kind, key, value) in ops {
            if kind == EventKind::Delete && self.modified(&key) == Revision::ZERO {
                return Err(format!("{key}, which does not exist, is deleted"));
            }
            self.change(kind, key, value, revision);
        }
        self.revision = revision;
        Ok(())
    }

    fn change(&mut self, kind: EventKind, key: Key, value: Bytes, revision: Revision) {
        let index = self.index;
        let seen = self.seen.entry(key.clone()).or_insert_with_key(|key| Seen::look(index, key));
        let before = seen.existing();
        let created = before.map_or(revision, |version| version.created);
        let previous = before.map(|version| version.value.clone());
        let kept = if kind == EventKind::Put { value.clone() } else { Bytes::new() };
        let version = Arc::new(Version::after(seen.version.take(), kind, kept, created, revision));
        seen.version = Some(version.clone());
        self.staged.push(Staged { key: key.clone(), slot: seen.slot.clone(), version });
        self.events.push(Arc::new(Event { key, kind, value, previous, created, revision }));
    }

    fn look(&mut self, key: &Key) -> Option<&Arc<Version>> {
        let index = self.index;
        if !self.seen.contains_key(key) {
            self.seen.insert(key.clone(), Seen::look(index, key));
        }
        self.seen.get(key).and_then(Seen::existing)
    }

    /// When a key will last have been modified; zero if it will be absent.
    fn modified(&mut self, key: &Key) -> Revision {
        self.look(key).map_or(Revision::ZERO, |version| version.modified)
    }

    fn conflict(&mut self, key: &Key) -> Error {
        let current: Option<Entry> = self.look(key).map(|version| version.entry(key));
        Error::Conflict { key: key.clone(), current }
    }

    /// Makes everything visible to reads, one transaction after another. Returns the events, for the watchers.
    pub(crate) fn publish(self) -> Vec<Arc<Event>> {
        let Draft { index, staged, events, compacted, .. } = self;
        index.publish(staged);
        match compacted {
            Some(to) => index.compact(to),
            None => index.sweep(),
        }
        events
    }
}

/// Refuses what is beyond a limit before it takes a place in the queue.
pub(crate) fn check(txn: &Txn) -> Result<(), Error> {
    let at_most =
        |what, size, max| if size > max { Err(Error::TooLarge { what, size, max }) } else { Ok(()) };
    at_most("the number of operations", txn.ops.len(), TXN_OPS_MAX)?;
    at_most("the number of demands", txn.expects.len(), TXN_OPS_MAX)?;
    at_most("the transaction in bytes", txn.bytes_len(), TXN_BYTES_MAX)?;
    let mut seen = HashSet::with_capacity(if txn.ops.len() > 1 { txn.ops.len() } else { 0 });
    for op in &txn.ops {
        let key = op.key();
        at_most("the key in bytes", key.as_str().len(), KEY_BYTES_MAX)?;
        if txn.ops.len() > 1 && !seen.insert(key) {
            return Err(Error::Twice { key: key.clone() });
        }
    }
    Ok(())
}
