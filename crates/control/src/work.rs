//! The work queue: which keys to look at now, which later, and which not before the world has caught up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;
use stoa_reconcile::Key;
use stoa_units::{Revision, Time};

/// Back-off of a key whose plan failed: doubled from the first to the last.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Keys that wait. Each is in one place at a time; a key that is being worked on is looked at again afterwards if it was
/// named meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Work {
    ready: VecDeque<Key>,
    queued: HashSet<Key>,
    running: HashMap<Key, bool>,
    /// Keys that were written for: not to be looked at before the world is at that revision.
    behind: BTreeMap<Revision, BTreeSet<Key>>,
    held: HashMap<Key, Option<Time>>,
    later: BTreeMap<Time, BTreeSet<Key>>,
    due: HashMap<Key, Time>,
    failures: HashMap<Key, u32>,
}

impl Work {
    /// Names a key: it is to be looked at as soon as may be.
    pub fn add(&mut self, key: Key) {
        if let Some(again) = self.running.get_mut(&key) {
            *again = true;
        } else if !self.held.contains_key(&key) && self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Names a key for later. An earlier time that is set already stays.
    pub fn add_at(&mut self, key: Key, at: Time) {
        if let Some(due) = self.due.get(&key).copied() {
            if due <= at {
                return;
            }
            self.forget_due(&key, due);
        }
        self.due.insert(key.clone(), at);
        self.later.entry(at).or_default().insert(key);
    }

    fn forget_due(&mut self, key: &Key, due: Time) {
        if let Some(set) = self.later.get_mut(&due) {
            set.remove(key);
            if set.is_empty() {
                self.later.remove(&due);
            }
        }
    }

    /// Keys whose time has come are ready.
    pub fn wake(&mut self, now: Time) {
        while let Some(entry) = self.later.first_entry().filter(|e| *e.key() <= now) {
            for key in entry.remove() {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    /// When the next key's time comes.
    pub fn next_due(&self) -> Option<Time> {
        self.later.keys().next().copied()
    }

    /// The world is at `revision`: keys that waited for it are ready.
    pub fn reached(&mut self, revision: Revision) {
        while let Some(entry) = self.behind.first_entry().filter(|e| *e.key() <= revision) {
            for key in entry.remove() {
                match self.held.remove(&key).flatten() {
                    Some(at) => self.add_at(key, at),
                    None => self.add(key),
                }
            }
        }
    }

    /// The next key to look at.
    pub fn pop(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        Some(key)
    }

    /// The key's plan is being carried out.
    pub fn start(&mut self, key: Key) {
        self.running.insert(key, false);
    }

    /// The plan was carried out up to `written`; the world is at `world`. The key is looked at again once the world has
    /// caught up, so that a plan that took only its first step takes the next.
    pub fn finish(&mut self, key: Key, written: Revision, world: Revision) {
        let again = self.running.remove(&key).unwrap_or(false);
        self.failures.remove(&key);
        if written > world {
            self.held.insert(key.clone(), None);
            self.behind.entry(written).or_default().insert(key);
        } else if again || written > Revision::ZERO {
            self.add(key);
        }
    }

    /// The plan failed after it had written up to `written`: the key is looked at again after its back-off.
    pub fn fail(&mut self, key: Key, written: Revision, world: Revision, now: Time) {
        self.running.remove(&key);
        let failures = self.failures.entry(key.clone()).or_default();
        *failures += 1;
        let wait = (BACKOFF_MIN * (1u32 << (*failures - 1).min(20))).min(BACKOFF_MAX);
        let at = now.plus(wait);
        if written > world {
            self.held.insert(key.clone(), Some(at));
            self.behind.entry(written).or_default().insert(key);
        } else {
            self.add_at(key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_reconcile::Controller;

    fn key(n: &str) -> Key {
        Key::new(Controller::ReplicaSet, "d", n)
    }

    #[test]
    fn a_key_is_looked_at_once_however_often_it_is_named() {
        let mut w = Work::default();
        w.add(key("a"));
        w.add(key("a"));
        assert_eq!((w.pop(), w.pop()), (Some(key("a")), None));
        w.start(key("a"));
        w.add(key("a"));
        assert_eq!(w.pop(), None);
        w.finish(key("a"), Revision::ZERO, Revision(1));
        assert_eq!((w.pop(), w.pop()), (Some(key("a")), None));
    }

    #[test]
    fn what_was_written_must_be_seen_before_the_next_look() {
        let mut w = Work::default();
        w.start(key("a"));
        w.finish(key("a"), Revision(7), Revision(5));
        w.add(key("a"));
        w.reached(Revision(6));
        assert_eq!(w.pop(), None);
        w.reached(Revision(7));
        assert_eq!((w.pop(), w.pop()), (Some(key("a")), None));
    }

    #[test]
    fn failures_back_off_and_success_forgets_them() {
        let at = |ms: u64| Time::EPOCH.plus(Duration::from_millis(ms));
        let mut w = Work::default();
        for wait in [20, 40, 80] {
            w.start(key("a"));
            w.fail(key("a"), Revision::ZERO, Revision::ZERO, at(0));
            assert_eq!(w.next_due(), Some(at(wait)));
            w.wake(at(wait));
            assert_eq!(w.pop(), Some(key("a")));
        }
        w.start(key("a"));
        w.finish(key("a"), Revision::ZERO, Revision::ZERO);
        w.start(key("a"));
        w.fail(key("a"), Revision::ZERO, Revision::ZERO, at(0));
        assert_eq!(w.next_due(), Some(at(20)));
        w.add_at(key("a"), at(10));
        w.add_at(key("a"), at(30));
        assert_eq!(w.next_due(), Some(at(10)));
    }
}
