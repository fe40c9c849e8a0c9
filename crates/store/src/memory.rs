//! The engine of tests and simulations: no disk, no thread, every commit carried out where it is called.

use crate::draft::check;
use crate::index::Index;
use crate::shared::{Shared, wake};
use crate::{Commit, Entries, Entry, Error, Key, Options, Page, Range, Stats, Store, Txn, Watch};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use stoa_units::Revision;

struct Memory {
    shared: Shared,
    writer: Mutex<()>,
}

/// A store that forgets everything when it is dropped.
pub fn memory(options: Options) -> Arc<dyn Store> {
    let shared = Shared::new(Index::default(), VecDeque::new(), options);
    Arc::new(Memory { shared, writer: Mutex::new(()) })
}

#[async_trait::async_trait]
impl Store for Memory {
    async fn commit(&self, txn: Txn) -> Result<Commit, Error> {
        check(&txn)?;
        let _writer = self.writer.lock();
        let mut draft = self.shared.draft(1, None);
        let verdict = draft.apply(txn);
        if !draft.is_empty() {
            wake(&self.shared.publish(draft));
        }
        verdict
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
        let _writer = self.writer.lock();
        self.shared.index().check(before)?;
        let draft = self.shared.draft(0, Some(before));
        if !draft.is_empty() {
            wake(&self.shared.publish(draft));
        }
        Ok(())
    }

    async fn barrier(&self) -> Result<(), Error> {
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.shared.stats()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.hub.close();
    }
}
