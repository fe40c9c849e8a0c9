//! A watcher: a cursor into the history of its prefix.

use crate::hub::{Group, Hub};
use crate::{Batch, Error};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use stoa_units::Revision;

/// Most events in one batch, unless one transaction alone has more.
const BATCH_LEN_MAX: usize = 512;

/// Yields every event under a prefix exactly once and in order. Dropping it ends the watch.
pub struct Watch {
    hub: Arc<Hub>,
    group: Arc<Group>,
    /// Everything up to here was yielded or does not match.
    cursor: Revision,
}

impl Watch {
    pub(crate) fn new(hub: Arc<Hub>, prefix: &str, after: Revision) -> Result<Watch, Error> {
        let group = hub.join(prefix, after)?;
        Ok(Watch { hub, group, cursor: after })
    }

    /// Waits for the next events. May be cancelled and called again without loss.
    ///
    /// # Errors
    /// [`Error::Lagged`] when history was compacted past an event that was not yet yielded: list again and watch from
    /// there. [`Error::Closed`] when the store shuts.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        let group = self.group.clone();
        loop {
            let mut changed = pin!(group.changed.notified());
            changed.as_mut().enable();
            if let Some(batch) = self.take()? {
                return Ok(batch);
            }
            changed.await;
        }
    }

    /// The next events if there are any.
    ///
    /// # Errors
    /// As those of [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Batch>, Error> {
        self.take()
    }

    /// Everything up to this revision has been yielded or does not match: what a bookmark may say.
    pub fn synced(&self) -> Revision {
        // Read before the events are looked at: whatever is applied by now is in the group already.
        let applied = self.hub.applied();
        let state = self.group.state.lock();
        let pending =
            state.trimmed > self.cursor || state.events.back().is_some_and(|e| e.revision > self.cursor);
        if pending { self.cursor } else { self.cursor.max(applied) }
    }

    fn take(&mut self) -> Result<Option<Batch>, Error> {
        let applied = self.hub.applied();
        let state = self.group.state.lock();
        if state.trimmed > self.cursor {
            return Err(Error::Lagged);
        }
        let start = state.events.partition_point(|event| event.revision <= self.cursor);
        let pending = state.events.range(start..);
        let mut events = Vec::with_capacity(pending.len().min(BATCH_LEN_MAX));
        for event in pending {
            if events.len() >= BATCH_LEN_MAX && events.last().is_some_and(|e: &Arc<_>| is_before(e, event)) {
                break;
            }
            events.push(event.clone());
        }
        let all = start + events.len() == state.events.len();
        let Some(last) = events.last().map(|event| event.revision) else {
            self.cursor = self.cursor.max(applied);
            return if state.closed { Err(Error::Closed) } else { Ok(None) };
        };
        let revision = if all { last.max(applied) } else { last };
        self.cursor = revision;
        Ok(Some(Batch { events, revision }))
    }
}

fn is_before(a: &crate::Event, b: &crate::Event) -> bool {
    a.revision < b.revision
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.leave(&self.group);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("prefix", &self.group.prefix)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
