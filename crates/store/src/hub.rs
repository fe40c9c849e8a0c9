//! Recent history, and who wants to hear of it.
//!
//! Watchers of the same prefix form a group, and a group keeps the history that matches it once. A watcher is a cursor into
//! its group: it holds no buffer, so ten thousand of them cost no memory and an event is stored once per group, not once per
//! watcher. A slow watcher loses nothing until history itself is compacted away from under its cursor.

use crate::options::Options;
use crate::{Error, Event};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stoa_units::{Revision, Time};
use tokio::sync::Notify;

/// Most events that one compaction by policy takes, so that it never holds up the writer for long.
const COMPACT_EVENTS_MAX: usize = 4_096;
/// How far apart the marks are by which history's age is known.
const MARK_AGE_MIN: Duration = Duration::from_secs(1);
/// What an event is reckoned to take beside its value.
const EVENT_OVERHEAD_BYTES: usize = 160;

/// The watchers of one prefix.
pub(crate) struct Group {
    pub(crate) prefix: Arc<str>,
    pub(crate) state: Mutex<GroupState>,
    pub(crate) changed: Notify,
}

/// What a group knows.
pub(crate) struct GroupState {
    /// Matching events, all that are after `from` and still kept.
    pub(crate) events: VecDeque<Arc<Event>>,
    from: Revision,
    /// The last matching event that was compacted away.
    pub(crate) trimmed: Revision,
    pub(crate) closed: bool,
    /// Already on the list of those to wake.
    touched: bool,
}

#[derive(Default)]
struct Inner {
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    compacted: Revision,
    last: Revision,
    marks: VecDeque<(Time, Revision)>,
    groups: HashMap<Arc<str>, (Arc<Group>, usize)>,
    /// How many groups have a prefix of which length that does not end in `/`.
    odd_lengths: BTreeMap<usize, usize>,
    closed: bool,
}

/// History and groups.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Every event up to here is in its groups.
    applied: AtomicU64,
}

impl Hub {
    /// A hub whose history begins after `compacted` and holds `history`.
    pub(crate) fn new(compacted: Revision, history: VecDeque<Arc<Event>>, last: Revision, now: Time) -> Hub {
        let history_bytes = history.iter().map(|event| weight(event)).sum();
        let marks = VecDeque::from([(now, last)]);
        let inner = Inner { history, history_bytes, compacted, last, marks, ..Inner::default() };
        Hub { inner: Mutex::new(inner), applied: AtomicU64::new(last.0) }
    }

    /// Every event up to here can be had from its groups.
    pub(crate) fn applied(&self) -> Revision {
        Revision(self.applied.load(Ordering::Acquire))
    }

    /// Adds events and returns the groups that got some; they must then be woken.
    pub(crate) fn append(&self, events: &[Arc<Event>], last: Revision, now: Time) -> Vec<Arc<Group>> {
        let mut touched: Vec<Arc<Group>> = Vec::new();
        let mut inner = self.inner.lock();
        for event in events {
            inner.history_bytes += weight(event);
            inner.history.push_back(event.clone());
            inner.each_group(event.key.as_str(), |group| {
                let mut state = group.state.lock();
                state.events.push_back(event.clone());
                if !std::mem::replace(&mut state.touched, true) {
                    touched.push(group.clone());
                }
            });
        }
        for group in &touched {
            group.state.lock().touched = false;
        }
        inner.last = last;
        inner.mark(last, now);
        self.applied.store(last.0, Ordering::Release);
        touched
    }

    /// Forgets events up to and including `to`.
    pub(crate) fn trim(&self, to: Revision) {
        let mut inner = self.inner.lock();
        let mut gone = 0;
        while let Some(event) = inner.history.pop_front_if(|event| event.revision <= to) {
            inner.history_bytes -= weight(&event);
            gone += 1;
            inner.each_group(event.key.as_str(), |group| {
                let mut state = group.state.lock();
                // A group that was made later than the event does not have it.
                if state.events.pop_front_if(|first| first.revision <= event.revision).is_some() {
                    state.trimmed = event.revision;
                }
            });
        }
        inner.compacted = inner.compacted.max(to);
        let len = inner.history.len();
        if gone > 0 && inner.history.capacity() > 4 * len.max(1_024) {
            inner.history.shrink_to(2 * len);
        }
    }

    /// Joins the group of a prefix; the watcher wants what is after `after`.
    pub(crate) fn join(&self, prefix: &str, after: Revision) -> Result<Arc<Group>, Error> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(Error::Closed);
        }
        if after < inner.compacted {
            return Err(Error::Compacted { oldest: inner.compacted });
        }
        // A reader may already see a revision whose events are still on their way here.
        let from = after.min(inner.last);
        if let Some((group, watchers)) = inner.groups.get_mut(prefix) {
            *watchers += 1;
            let group = group.clone();
            inner.extend_back(&group, from);
            return Ok(group);
        }
        let start = inner.history.partition_point(|event| event.revision <= from);
        let matching = inner.history.range(start..).filter(|e| e.key.as_str().starts_with(prefix));
        let events = matching.cloned().collect();
        let state = GroupState { events, from, trimmed: Revision::ZERO, closed: false, touched: false };
        let prefix: Arc<str> = prefix.into();
        let group =
            Arc::new(Group { prefix: prefix.clone(), state: Mutex::new(state), changed: Notify::new() });
        if !prefix.ends_with('/') {
            *inner.odd_lengths.entry(prefix.len()).or_default() += 1;
        }
        inner.groups.insert(prefix, (group.clone(), 1));
        Ok(group)
    }

    /// Leaves a group; the last one out removes it.
    pub(crate) fn leave(&self, group: &Group) {
        let mut inner = self.inner.lock();
        let Some((_, watchers)) = inner.groups.get_mut(&group.prefix) else { return };
        *watchers -= 1;
        if *watchers > 0 {
            return;
        }
        inner.groups.remove(&group.prefix);
        if !group.prefix.ends_with('/') {
            let len = group.prefix.len();
            let left = inner.odd_lengths.get(&len).map_or(0, |n| n - 1);
            if left == 0 {
                inner.odd_lengths.remove(&len);
            } else {
                inner.odd_lengths.insert(len, left);
            }
        }
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for (group, _) in inner.groups.values() {
            group.state.lock().closed = true;
            group.changed.notify_waiters();
        }
    }

    /// To which revision the policy wants history to be forgotten, if to any.
    pub(crate) fn due(&self, options: &Options, now: Time) -> Option<Revision> {
        let mut inner = self.inner.lock();
        let len = inner.history.len();
        let mut take = 0;
        if len > options.history_len_max {
            // Some more than the excess, so that not every transaction compacts.
            take = len - options.history_len_max + options.history_len_max / 64;
        }
        if inner.history_bytes > options.history_bytes_max {
            let mut excess = inner.history_bytes - options.history_bytes_max + options.history_bytes_max / 64;
            let count = inner.history.iter().take_while(|event| {
                let more = excess > 0;
                excess = excess.saturating_sub(weight(event));
                more
            });
            take = take.max(count.count());
        }
        if let Some(old) = inner.older_than(options.history_age_max, now) {
            let aged = inner.history.partition_point(|event| event.revision <= old);
            take = take.max(aged.min(len.saturating_sub(options.history_len_min)));
        }
        let take = take.min(COMPACT_EVENTS_MAX).min(len);
        take.checked_sub(1).map(|last| inner.history[last].revision)
    }

    /// History's length and bytes, and the number of watchers.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let inner = self.inner.lock();
        let watchers = inner.groups.values().map(|(_, watchers)| watchers).sum();
        (inner.history.len(), inner.history_bytes, watchers)
    }
}

impl Inner {
    /// Calls `f` with every group whose prefix the key has: one look-up per part of the key, however many groups there are.
    fn each_group(&self, key: &str, mut f: impl FnMut(&Arc<Group>)) {
        if self.groups.is_empty() {
            return;
        }
        let mut visit = |prefix: &str| {
            if let Some((group, _)) = self.groups.get(prefix) {
                f(group);
            }
        };
        for (at, _) in key.match_indices('/') {
            visit(&key[..=at]);
        }
        for len in self.odd_lengths.keys() {
            if let Some(prefix) = key.get(..*len).filter(|prefix| !prefix.ends_with('/')) {
                visit(prefix);
            }
        }
    }

    /// Gives a group what it lacks of the history after `from`.
    fn extend_back(&self, group: &Group, from: Revision) {
        let mut state = group.state.lock();
        if from >= state.from {
            return;
        }
        let start = self.history.partition_point(|event| event.revision <= from);
        let end = self.history.partition_point(|event| event.revision <= state.from);
        for event in self.history.range(start..end).rev() {
            if event.key.as_str().starts_with(&*group.prefix) {
                state.events.push_front(event.clone());
            }
        }
        state.from = from;
    }

    fn mark(&mut self, last: Revision, now: Time) {
        if self.marks.back().is_none_or(|(then, _)| now.since(*then) >= MARK_AGE_MIN) {
            self.marks.push_back((now, last));
        }
    }

    /// The newest revision that is known to be older than `age`.
    fn older_than(&mut self, age: Duration, now: Time) -> Option<Revision> {
        while self.marks.len() > 1 && now.since(self.marks[1].0) >= age {
            self.marks.pop_front();
        }
        self.marks.front().filter(|(then, _)| now.since(*then) >= age).map(|(_, revision)| *revision)
    }
}

fn weight(event: &Event) -> usize {
    event.key.as_str().len() + event.value.len() + EVENT_OVERHEAD_BYTES
}
