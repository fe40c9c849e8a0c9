//! Offer filters: after a decline the same resources, or less, are not offered again for a while.

use std::time::Duration;
use stoa_ledger::Split;
use stoa_units::Time;

/// How long a decline holds that does not say so itself.
const REFUSE_DEFAULT: Duration = Duration::from_secs(5);
/// How long a decline holds at most.
const REFUSE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many different refusals are kept for one framework in one role on one agent; the one that ends first goes.
const FILTERS_PER_AGENT_MAX: usize = 4;

/// How long `refuse_seconds` holds: absent, negative and not-a-number mean the default, zero means not at all.
pub fn refuse_duration(seconds: Option<f64>) -> Option<Duration> {
    match seconds {
        Some(0.0) => None,
        Some(s) if s > 0.0 => Some(Duration::try_from_secs_f64(s).map_or(REFUSE_MAX, |d| d.min(REFUSE_MAX))),
        _ => Some(REFUSE_DEFAULT),
    }
}

/// One refusal.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// What was refused.
    pub refused: Split,
    /// Until when.
    pub expires: Time,
    /// The leaf's epoch at the time: a revive starts a new one and so voids all filters at once.
    pub epoch: u64,
}

/// The refusals of one framework in one role on one agent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters(Vec<Filter>);

impl Filters {
    pub fn add(&mut self, filter: Filter, now: Time) {
        self.0.retain(|f| {
            let stale = f.epoch != filter.epoch || f.expires <= now;
            let covered = f.expires <= filter.expires && filter.refused.contains(&f.refused);
            !stale && !covered
        });
        if self.0.len() >= FILTERS_PER_AGENT_MAX
            && let Some(first) = (0..self.0.len()).min_by_key(|i| self.0[*i].expires)
        {
            self.0.swap_remove(first);
        }
        self.0.push(filter);
    }

    /// Whether an offer of `amount` is held back: only while it is a subset of what was refused.
    pub fn block(&self, amount: &Split, epoch: u64, now: Time) -> bool {
        self.0.iter().any(|f| f.epoch == epoch && f.expires > now && f.refused.contains(amount))
    }

    /// Drops what has expired; true if nothing is left.
    pub fn expire(&mut self, now: Time) -> bool {
        self.0.retain(|f| f.expires > now);
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_units::Resources;

    #[test]
    fn refuse_seconds_follow_the_rules() {
        let day = 24 * 3600;
        for (seconds, want) in [
            (None, Some(5)),
            (Some(-1.0), Some(5)),
            (Some(f64::NAN), Some(5)),
            (Some(f64::NEG_INFINITY), Some(5)),
            (Some(0.0), None),
            (Some(300.0), Some(300)),
            (Some(4_294_967_295.0), Some(365 * day)),
            (Some(1e300), Some(365 * day)),
            (Some(f64::INFINITY), Some(365 * day)),
        ] {
            assert_eq!(refuse_duration(seconds), want.map(Duration::from_secs), "{seconds:?}");
        }
    }

    #[test]
    fn a_filter_blocks_only_subsets_and_only_until_it_expires() {
        let r = |milli_cpu| Split::plain(Resources { milli_cpu, ..Default::default() });
        let now = Time::EPOCH;
        let mut f = Filters::default();
        f.add(Filter { refused: r(2000), expires: now.plus(Duration::from_secs(5)), epoch: 1 }, now);
        assert!(f.block(&r(2000), 1, now));
        assert!(f.block(&r(1000), 1, now));
        assert!(!f.block(&r(2001), 1, now), "more became free");
        assert!(!f.block(&r(1000), 2, now), "a revive voids it");
        let later = now.plus(Duration::from_secs(5));
        assert!(!f.block(&r(1000), 1, later));
        assert!(f.expire(later));
    }

    #[test]
    fn filters_are_bounded() {
        let mut f = Filters::default();
        for i in 0..100u64 {
            // No refusal covers another.
            let refused =
                Split::plain(Resources { milli_cpu: i, memory_bytes: 1000 - i, ..Default::default() });
            f.add(
                Filter { refused, expires: Time::EPOCH.plus(Duration::from_secs(i + 1)), epoch: 0 },
                Time::EPOCH,
            );
        }
        assert_eq!(f.0.len(), FILTERS_PER_AGENT_MAX);
        assert!(f.0.iter().all(|x| x.expires > Time::EPOCH.plus(Duration::from_secs(96))));
    }
}
