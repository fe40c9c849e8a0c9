//! What both engines share: the published index, the hub, and how a draft becomes what everybody sees.

use crate::draft::Draft;
use crate::hub::{Group, Hub};
use crate::index::Index;
use crate::options::Options;
use crate::{Entries, Entry, Error, Event, Key, Page, Range, Stats, Watch};
use std::collections::VecDeque;
use std::sync::Arc;
use stoa_units::Revision;

pub(crate) struct Shared {
    index: Index,
    pub(crate) hub: Arc<Hub>,
    pub(crate) options: Options,
}

impl Shared {
    pub(crate) fn new(index: Index, history: VecDeque<Arc<Event>>, options: Options) -> Shared {
        let hub = Hub::new(index.compacted(), history, index.revision(), options.clock.now());
        Shared { index, hub: Arc::new(hub), options }
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// A draft on top of what is published, with history compacted if the policy or a caller wants that.
    pub(crate) fn draft(&self, len: usize, compact: Option<Revision>) -> Draft<'_> {
        let mut draft = Draft::new(&self.index, len);
        let due = self.hub.due(&self.options, self.options.clock.now());
        draft.compacted = due.max(compact).filter(|to| *to > self.index.compacted());
        draft
    }

    /// Makes a draft visible: first to reads, then to watchers, so that a watcher who reads finds what it was told of.
    /// Returns the groups to wake.
    pub(crate) fn publish(&self, draft: Draft<'_>) -> Vec<Arc<Group>> {
        let (revision, compacted) = (draft.revision(), draft.compacted);
        let events = draft.publish();
        if let Some(to) = compacted {
            self.hub.trim(to);
        }
        self.hub.append(&events, revision, self.options.clock.now())
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        self.index.get(key)
    }

    pub(crate) fn get_at(&self, key: &Key, at: Revision) -> Result<Option<Entry>, Error> {
        self.index.get_at(key, at)
    }

    pub(crate) fn hold(&self, range: Range<'_>) -> Result<Page<Entries>, Error> {
        self.index.hold(range)
    }

    pub(crate) fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        self.index.check(after)?;
        Watch::new(self.hub.clone(), prefix, after)
    }

    pub(crate) fn revision(&self) -> Revision {
        self.index.revision()
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.index.compacted()
    }

    pub(crate) fn stats(&self) -> Stats {
        let index = &self.index;
        let (history_len, history_bytes, watchers_len) = self.hub.sizes();
        Stats {
            keys_len: index.len(),
            live_bytes: index.live_bytes(),
            history_len,
            history_bytes,
            watchers_len,
            queue_len: 0,
            log_bytes: 0,
        }
    }
}

/// Wakes the watchers of groups.
pub(crate) fn wake(groups: &[Arc<Group>]) {
    for group in groups {
        group.changed.notify_waiters();
    }
}
