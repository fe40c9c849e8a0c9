//! The multi-version map: every key as it stands, and as it stood at every revision that is not compacted.
//!
//! A key has a slot, a slot the newest version, and a version the one before it. A hash finds a slot at once; a persistent
//! ordered map of slots, which changes only when keys come and go, serves ranges: cloning it is a reference count. A read
//! is of a revision, always: it takes from each slot the newest version that is not newer. So the writer may go on while a
//! reader walks a hundred thousand keys, and overwriting a key touches neither map.
//!
//! What compaction makes invisible is cut off the versions' chains, change by change. A reader that walks pins its revision,
//! and nothing is cut beyond a pin.

use crate::key::prefix_end;
use crate::{Entries, Entry, Error, EventKind, Key, Page, Range};
use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use stoa_units::Revision;

/// One state of a key.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) kind: EventKind,
    pub(crate) value: Bytes,
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    older: Mutex<Option<Arc<Version>>>,
}

impl Version {
    /// A state that follows on `older`.
    pub(crate) fn after(
        older: Option<Arc<Version>>,
        kind: EventKind,
        value: Bytes,
        created: Revision,
        modified: Revision,
    ) -> Version {
        Version { kind, value, created, modified, older: Mutex::new(older) }
    }

    pub(crate) fn exists(&self) -> bool {
        self.kind == EventKind::Put
    }

    pub(crate) fn entry(&self, key: &Key) -> Entry {
        let (created, modified) = (self.created, self.modified);
        Entry { key: key.clone(), value: self.value.clone(), created, modified }
    }
}

impl Drop for Version {
    // In a loop: a key that is written all the time has a chain longer than the stack is deep.
    fn drop(&mut self) {
        let mut next = self.older.get_mut().take();
        while let Some(mut version) = next.and_then(Arc::into_inner) {
            next = version.older.get_mut().take();
        }
    }
}

/// Where a key's versions hang.
#[derive(Debug)]
pub(crate) struct Slot {
    key: Key,
    head: Mutex<Arc<Version>>,
}

impl Slot {
    pub(crate) fn head(&self) -> Arc<Version> {
        self.head.lock().clone()
    }

    /// The newest version that is not newer than `at`, if the key existed then.
    fn at(&self, at: Revision) -> Option<Arc<Version>> {
        let mut version = self.head();
        while version.modified > at {
            let older = version.older.lock().clone()?;
            version = older;
        }
        version.exists().then_some(version)
    }
}

/// A key as it stood when it was read.
#[derive(Clone)]
pub(crate) struct Held {
    slot: Arc<Slot>,
    version: Arc<Version>,
}

impl Held {
    pub(crate) fn entry(&self) -> Entry {
        self.version.entry(&self.slot.key)
    }

    pub(crate) fn value_len(&self) -> usize {
        self.version.value.len()
    }
}

/// What no store holds: an entry as it is shown instead of what is stored.
impl From<Entry> for Held {
    fn from(entry: Entry) -> Held {
        let Entry { key, value, created, modified } = entry;
        let version = Arc::new(Version::after(None, EventKind::Put, value, created, modified));
        Held { slot: Arc::new(Slot { key, head: Mutex::new(version.clone()) }), version }
    }
}

/// A version that is to be published.
pub(crate) struct Staged {
    pub(crate) key: Key,
    /// Where, if the key has been published before.
    pub(crate) slot: Option<Arc<Slot>>,
    pub(crate) version: Arc<Version>,
}

/// A version that was published, and where.
#[derive(Debug)]
struct Change {
    slot: Arc<Slot>,
    version: Arc<Version>,
}

#[derive(Debug, Default)]
struct Maps {
    slots: HashMap<Key, Arc<Slot>>,
    order: OrdMap<Key, Arc<Slot>>,
}

/// The map.
#[derive(Debug, Default)]
pub(crate) struct Index {
    maps: RwLock<Maps>,
    revision: AtomicU64,
    /// Written only while `pins` is locked.
    compacted: AtomicU64,
    pins: Mutex<BTreeMap<Revision, usize>>,
    /// Every change after what has been cut, in order.
    changes: Mutex<VecDeque<Change>>,
    live_len: AtomicUsize,
    live_bytes: AtomicI64,
}

/// Keeps a revision readable.
pub(crate) struct Pin<'a> {
    index: &'a Index,
    at: Revision,
}

impl Pin<'_> {
    pub(crate) fn at(&self) -> Revision {
        self.at
    }

    /// Everything that existed, in the order of keys. Stops at an error of `f`.
    pub(crate) fn each<E>(&self, mut f: impl FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
        let order = self.index.maps.read().order.clone();
        for (key, slot) in &order {
            if let Some(version) = slot.at(self.at) {
                f(version.entry(key))?;
            }
        }
        Ok(())
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pins = self.index.pins.lock();
        if let Some(count) = pins.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.at);
            }
        }
    }
}

impl Index {
    /// An index that begins at `compacted` with nothing in it.
    pub(crate) fn starting_at(compacted: Revision) -> Index {
        Index {
            revision: AtomicU64::new(compacted.0),
            compacted: AtomicU64::new(compacted.0),
            ..Index::default()
        }
    }

    /// Adds an entry of a checkpoint.
    pub(crate) fn restore(&self, entry: Entry) {
        let Entry { key, value, created, modified } = entry;
        self.account(&key, value.len(), 1);
        self.insert(key, Arc::new(Version::after(None, EventKind::Put, value, created, modified)));
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Acquire))
    }

    pub(crate) fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Acquire))
    }

    /// How many keys exist.
    pub(crate) fn len(&self) -> usize {
        self.live_len.load(Ordering::Relaxed)
    }

    /// Bytes of keys and values that exist.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed).try_into().unwrap_or(0)
    }

    /// A key's slot, for the writer.
    pub(crate) fn slot(&self, key: &Key) -> Option<Arc<Slot>> {
        self.maps.read().slots.get(key).cloned()
    }

    fn insert(&self, key: Key, version: Arc<Version>) -> Arc<Slot> {
        let slot = Arc::new(Slot { key: key.clone(), head: Mutex::new(version) });
        let mut maps = self.maps.write();
        maps.slots.insert(key.clone(), slot.clone());
        maps.order.insert(key, slot.clone());
        slot
    }

    fn account(&self, key: &Key, value_len: usize, count: isize) {
        let bytes = (key.as_str().len() + value_len) as i64 * count as i64;
        self.live_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.live_len.fetch_add(count as usize, Ordering::Relaxed);
    }

    /// Makes changes visible, each transaction's all at once. Only the writer calls this.
    pub(crate) fn publish(&self, staged: Vec<Staged>) {
        let mut changes = self.changes.lock();
        let mut staged = staged.into_iter().peekable();
        while let Some(Staged { key, slot, version }) = staged.next() {
            if let Some(older) = version.older.lock().as_ref().filter(|older| older.exists()) {
                self.account(&key, older.value.len(), -1);
            }
            if version.exists() {
                self.account(&key, version.value.len(), 1);
            }
            // A key that is new may have been published a moment ago, by a transaction before this one.
            let slot = match slot.or_else(|| self.slot(&key)) {
                Some(slot) => {
                    let _old = std::mem::replace(&mut *slot.head.lock(), version.clone());
                    slot
                }
                None => self.insert(key, version.clone()),
            };
            let revision = version.modified;
            changes.push_back(Change { slot, version });
            if staged.peek().is_none_or(|next| next.version.modified > revision) {
                self.revision.store(revision.0, Ordering::Release);
            }
        }
    }

    /// Forgets what no revision from `to` on can see. Only the writer calls this.
    pub(crate) fn compact(&self, to: Revision) {
        debug_assert!(to >= self.compacted() && to <= self.revision());
        // Under the lock: a reader either pinned before, and is minded below, or is refused.
        let pins = self.pins.lock();
        self.compacted.store(to.0, Ordering::Release);
        drop(pins);
        self.sweep();
    }

    /// Cuts off what compaction made invisible, as far as no reader is still looking at it. Only the writer calls this.
    pub(crate) fn sweep(&self) {
        let compacted = self.compacted();
        let pinned = self.pins.lock().first_key_value().map(|(at, _)| *at);
        let limit = pinned.map_or(compacted, |at| at.min(compacted));
        let mut changes = self.changes.lock();
        let mut gone = Vec::new();
        while let Some(change) = changes.pop_front_if(|change| change.version.modified <= limit) {
            drop(change.version.older.lock().take());
            if !change.version.exists() && Arc::ptr_eq(&*change.slot.head.lock(), &change.version) {
                gone.push(change.slot);
            }
        }
        if changes.capacity() > 4 * changes.len().max(1_024) {
            let len = changes.len();
            changes.shrink_to(2 * len);
        }
        drop(changes);
        if !gone.is_empty() {
            let mut maps = self.maps.write();
            for slot in gone {
                maps.slots.remove(&slot.key);
                maps.order.remove(&slot.key);
            }
        }
    }

    /// Refuses a revision that is compacted or has not happened.
    pub(crate) fn check(&self, at: Revision) -> Result<(), Error> {
        let (current, oldest) = (self.revision(), self.compacted());
        if at > current {
            return Err(Error::Future { requested: at, current });
        }
        if at < oldest {
            return Err(Error::Compacted { oldest });
        }
        Ok(())
    }

    /// Pins a revision, or the present.
    fn pin(&self, at: Option<Revision>) -> Result<Pin<'_>, Error> {
        let mut pins = self.pins.lock();
        let at = at.unwrap_or_else(|| self.revision());
        self.check(at)?;
        *pins.entry(at).or_default() += 1;
        Ok(Pin { index: self, at })
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        loop {
            // A transaction's keys are changed just before its revision is published: wait for that moment to pass, so that
            // nobody is shown something newer than what the store says it is at.
            let head = self.slot(key)?.head();
            if head.modified <= self.revision() {
                return head.exists().then(|| head.entry(key));
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn get_at(&self, key: &Key, at: Revision) -> Result<Option<Entry>, Error> {
        let pin = self.pin(Some(at))?;
        Ok(self.slot(key).and_then(|slot| slot.at(pin.at)).map(|version| version.entry(key)))
    }

    pub(crate) fn hold(&self, range: Range<'_>) -> Result<Page<Entries>, Error> {
        let end = prefix_end(range.prefix);
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let lower = match range.after {
            Some(after) if after.as_str() >= range.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(range.prefix),
        };
        // A bound that lies beyond the end is an empty range, not a panic.
        let is_nowhere = matches!((lower, upper), (Bound::Excluded(l), Bound::Excluded(u)) if l >= u);
        if range.at.is_none() {
            // Most questions of a write (is there a quota, a limit?) end here. The revision is read first: what comes after it
            // is not asked for.
            let revision = self.revision();
            if is_nowhere || self.maps.read().order.range::<_, str>((lower, upper)).next().is_none() {
                return Ok(Page { entries: Entries::default(), revision, remaining: 0 });
            }
        }
        let pin = self.pin(range.at)?;
        if is_nowhere {
            return Ok(Page { entries: Entries::default(), revision: pin.at, remaining: 0 });
        }
        let order = self.maps.read().order.clone();
        let slots = order.range::<_, str>((lower, upper));
        let mut found =
            slots.filter_map(|(_, slot)| slot.at(pin.at).map(|version| Held { slot: slot.clone(), version }));
        let limit = if range.limit == 0 { usize::MAX } else { range.limit };
        let entries: Entries = found.by_ref().take(limit).collect();
        let remaining = if entries.len() < limit { 0 } else { found.count() as u64 };
        Ok(Page { entries, revision: pin.at, remaining })
    }

    /// Pins the compaction revision.
    pub(crate) fn pin_compacted(&self) -> Pin<'_> {
        let mut pins = self.pins.lock();
        let at = self.compacted();
        *pins.entry(at).or_default() += 1;
        Pin { index: self, at }
    }
}
