//! How long a daemon's pods that fail again and again on a node wait for the next one. It is remembered as the world goes by
//! and forgotten with it: after a restart the first failure is the first again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_units::Time;

/// The wait after the first failure, doubled with each up to the last.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// A node where nothing failed for so long starts anew.
const FORGET_AFTER: Duration = Duration::from_secs(2 * 15 * 60);
/// Nodes of sets that are remembered; beyond this the old ones are dropped.
const NODES_LEN_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug)]
struct Failure {
    /// When the failed pod may go and the next one come.
    next: Time,
    /// What is added to that by another failure.
    wait: Duration,
}

/// Failures by set and node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failures(HashMap<(Arc<str>, Arc<str>), Failure>);

impl Failures {
    /// A pod of a set failed on a node.
    pub fn saw(&mut self, set: &str, node: &str, now: Time) {
        if self.0.len() >= NODES_LEN_MAX {
            self.0.retain(|_, f| now.since(f.next) < FORGET_AFTER);
            if self.0.len() >= NODES_LEN_MAX {
                self.0.clear();
            }
        }
        let first = Failure { next: now, wait: WAIT_MIN };
        let known = self.0.entry((set.into(), node.into())).or_insert(Failure { next: Time::EPOCH, ..first });
        *known = if now.since(known.next) > FORGET_AFTER {
            first
        } else {
            Failure { next: now.max(known.next.plus(known.wait)), wait: (known.wait * 2).min(WAIT_MAX) }
        };
    }

    /// When the pod that failed last on a node may be replaced.
    pub fn next(&self, set: &str, node: &str) -> Time {
        self.0.get(&(set.into(), node.into())).map_or(Time::EPOCH, |f| f.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_for_the_next_pod() {
        let at = |s: u64| {
            Time::parse("2026-01-01T00:00:00Z").map(|t| t.plus(Duration::from_secs(s))).expect("a time")
        };
        let mut f = Failures::default();
        for (now, next) in [(0, 0), (0, 1), (1, 3), (3, 7), (100, 100), (100, 116)] {
            f.saw("set", "n1", at(now));
            assert_eq!(f.next("set", "n1"), at(next), "failed at {now}");
        }
        assert_eq!(f.next("set", "n2"), Time::EPOCH);
        f.saw("set", "n1", at(116 + 1_801));
        assert_eq!(f.next("set", "n1"), at(116 + 1_801), "long ago is forgotten");
    }
}
