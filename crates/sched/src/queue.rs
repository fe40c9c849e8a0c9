//! Pods that wait: ready ones by priority and age, those that fitted nowhere until something changes, with back-off.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use stoa_units::{NamespacedName, Time};

/// The first back-off: short, since an attempt costs little and what a pod waits for, such as the first node, often comes in
/// a moment. It doubles.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest back-off.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod that fitted nowhere is looked at again after this long even if nothing seemed to change.
const STALE_AFTER: Duration = Duration::from_secs(300);

/// Order of the ready ones: highest priority, then longest waiting.
type Rank = (std::cmp::Reverse<i32>, Time, NamespacedName);

#[derive(Clone, Debug)]
enum Place {
    Ready(Rank),
    BackingOff(Time),
    Parked(Time),
}

#[derive(Clone, Debug)]
struct Waiting {
    priority: i32,
    since: Time,
    attempts: u32,
    place: Place,
}

/// The scheduling queue. It decides who is next; the pods themselves are elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    pods: HashMap<NamespacedName, Waiting>,
    ready: BTreeSet<Rank>,
    backing_off: BTreeMap<Time, BTreeSet<NamespacedName>>,
    parked: BTreeSet<NamespacedName>,
    /// Grows with every event that may let parked pods fit.
    moves: u64,
    /// Pods handed out and not yet reported on: their attempts so far, and `moves` when they were taken.
    flying: HashMap<NamespacedName, (Waiting, u64)>,
}

impl Queue {
    /// Nobody waits.
    pub fn new() -> Queue {
        Queue::default()
    }

    /// A pod waits, or changed in a way that may let it fit: it is ready at once.
    pub fn add(&mut self, name: NamespacedName, priority: i32, since: Time) {
        let attempts = self.pods.get(&name).map_or(0, |w| w.attempts);
        self.drop_place(&name);
        self.flying.remove(&name);
        self.set_ready(name, priority, since, attempts);
    }

    /// A pod waits no longer: it was bound, or is gone.
    pub fn remove(&mut self, name: &NamespacedName) {
        self.drop_place(name);
        self.flying.remove(name);
    }

    /// Whether the pod waits here, in any state.
    pub fn contains(&self, name: &NamespacedName) -> bool {
        self.pods.contains_key(name) || self.flying.contains_key(name)
    }

    /// The next pod. It must be reported on by [`Queue::remove`], [`Queue::park`] or [`Queue::retry`].
    pub fn pop(&mut self, now: Time) -> Option<NamespacedName> {
        self.wake(now);
        let rank = self.ready.pop_first()?;
        let waiting = self.pods.remove(&rank.2)?;
        self.flying.insert(rank.2.clone(), (waiting, self.moves));
        Some(rank.2)
    }

    /// The pod fitted nowhere: it waits for an event, or backs off if one came while it was looked at.
    pub fn park(&mut self, name: &NamespacedName, now: Time) {
        let Some((waiting, moves)) = self.flying.remove(name) else { return };
        let attempts = waiting.attempts + 1;
        if moves != self.moves {
            return self.back_off(name, Waiting { attempts, ..waiting }, now);
        }
        self.parked.insert(name.clone());
        self.pods.insert(name.clone(), Waiting { attempts, place: Place::Parked(now), ..waiting });
    }

    /// Placing the pod failed for a passing reason: it is tried again after its back-off.
    pub fn retry(&mut self, name: &NamespacedName, now: Time) {
        if let Some((waiting, _)) = self.flying.remove(name) {
            let attempts = waiting.attempts + 1;
            self.back_off(name, Waiting { attempts, ..waiting }, now);
        }
    }

    /// Something changed that may let parked pods fit: they are tried again once their back-off is over.
    pub fn move_parked(&mut self, now: Time) {
        self.moves += 1;
        for name in std::mem::take(&mut self.parked) {
            let Some(waiting) = self.pods.remove(&name) else { continue };
            let at = match waiting.place {
                Place::Parked(at) => at,
                _ => now,
            };
            self.back_off(&name, waiting, at);
        }
        self.wake(now);
    }

    /// When the queue must be looked at again if nothing else happens.
    pub fn next_wake(&self) -> Option<Time> {
        self.backing_off.keys().next().copied()
    }

    /// How many are ready, backing off, parked.
    pub fn lens(&self) -> (usize, usize, usize) {
        (self.ready.len(), self.backing_off.values().map(BTreeSet::len).sum(), self.parked.len())
    }

    /// Makes pods ready that were parked so long that a missed event must be suspected.
    pub fn sweep(&mut self, now: Time) {
        let parked_at = |name: &NamespacedName| match self.pods.get(name).map(|w| &w.place) {
            Some(Place::Parked(at)) => Some(*at),
            _ => None,
        };
        let is_stale =
            |name: &&NamespacedName| parked_at(name).is_some_and(|at| now.since(at) >= STALE_AFTER);
        let stale: Vec<NamespacedName> = self.parked.iter().filter(is_stale).cloned().collect();
        for name in stale {
            if let Some(w) = self.pods.get(&name).cloned() {
                self.drop_place(&name);
                self.set_ready(name, w.priority, w.since, w.attempts);
            }
        }
    }

    fn wake(&mut self, now: Time) {
        while let Some(entry) = self.backing_off.first_entry().filter(|e| *e.key() <= now) {
            for name in entry.remove() {
                if let Some(w) = self.pods.remove(&name) {
                    self.set_ready(name, w.priority, w.since, w.attempts);
                }
            }
        }
    }

    fn set_ready(&mut self, name: NamespacedName, priority: i32, since: Time, attempts: u32) {
        let rank = (std::cmp::Reverse(priority), since, name.clone());
        self.ready.insert(rank.clone());
        self.pods.insert(name, Waiting { priority, since, attempts, place: Place::Ready(rank) });
    }

    fn back_off(&mut self, name: &NamespacedName, waiting: Waiting, from: Time) {
        let factor = 1u32 << waiting.attempts.saturating_sub(1).min(10);
        let until = from.plus((BACKOFF_MIN * factor).min(BACKOFF_MAX));
        self.backing_off.entry(until).or_default().insert(name.clone());
        self.pods.insert(name.clone(), Waiting { place: Place::BackingOff(until), ..waiting });
    }

    fn drop_place(&mut self, name: &NamespacedName) {
        let Some(waiting) = self.pods.remove(name) else { return };
        match waiting.place {
            Place::Ready(rank) => drop(self.ready.remove(&rank)),
            Place::Parked(_) => drop(self.parked.remove(name)),
            Place::BackingOff(until) => {
                if let Some(set) = self.backing_off.get_mut(&until) {
                    set.remove(name);
                    if set.is_empty() {
                        self.backing_off.remove(&until);
                    }
                }
            }
        }
    }
}
