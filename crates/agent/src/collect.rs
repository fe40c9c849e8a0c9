//! Which images go when the disk fills: those that no pod needs and a registry could give again, the longest unused first,
//! until enough is free. The choice is pure; [`Collector`] remembers when each image was last used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stoa_units::Time;

/// An image that came less than this long ago is about to be used.
const AGE_MIN: Duration = Duration::from_secs(120);

/// An image on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredImage {
    /// Digest of its configuration.
    pub id: String,
    /// All its names.
    pub names: Vec<String>,
    /// Bytes of its files.
    pub size: u64,
    /// A registry could give it again.
    pub is_replaceable: bool,
}

/// How full the disk may be, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bounds {
    /// Fuller than this, images are collected …
    pub(crate) high: u8,
    /// … until it is no fuller than this.
    pub(crate) low: u8,
}

/// Bytes that must go; none while the disk is not too full.
pub(crate) fn excess(total: u64, available: u64, bounds: Bounds) -> Option<u64> {
    let used = total.saturating_sub(available);
    let at = |percent: u8| u64::try_from(u128::from(total) * u128::from(percent) / 100).unwrap_or(u64::MAX);
    (total > 0 && used > at(bounds.high)).then(|| used - at(bounds.low).min(used))
}

#[derive(Clone, Copy)]
struct Use {
    first_seen: Time,
    last_used: Time,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Collector {
    uses: BTreeMap<String, Use>,
}

impl Collector {
    /// Notes what is there and what of it pods need.
    pub(crate) fn note(&mut self, images: &[StoredImage], used: &BTreeSet<String>, now: Time) {
        self.uses.retain(|id, _| images.iter().any(|i| i.id == *id));
        for image in images {
            let entry =
                self.uses.entry(image.id.clone()).or_insert(Use { first_seen: now, last_used: Time::EPOCH });
            if used.contains(&image.id) {
                entry.last_used = now;
            }
        }
    }

    /// Ids to remove, in order, so that `bytes` become free. Shared layers make it a guess: whoever removes looks again.
    pub(crate) fn choose(
        &self,
        images: &[StoredImage],
        used: &BTreeSet<String>,
        bytes: u64,
        now: Time,
    ) -> Vec<String> {
        let mut free: Vec<(&StoredImage, Use)> = images
            .iter()
            .filter(|i| i.is_replaceable && !used.contains(&i.id))
            .filter_map(|i| Some((i, *self.uses.get(&i.id)?)))
            .filter(|(_, u)| now.since(u.first_seen) >= AGE_MIN)
            .collect();
        free.sort_by_key(|(i, u)| (u.last_used, u.first_seen, i.id.clone()));
        let mut freed = 0_u64;
        let enough = |(i, _): &(&StoredImage, Use)| {
            let go_on = freed < bytes;
            freed = freed.saturating_add(i.size);
            go_on
        };
        free.into_iter().take_while(enough).map(|(i, _)| i.id.clone()).collect()
    }
}

/// Ids of the images that nobody needs or wants kept and a registry could give again: what an operator has pruned.
pub(crate) fn unneeded(images: &[StoredImage], used: &BTreeSet<String>) -> Vec<String> {
    images.iter().filter(|i| i.is_replaceable && !used.contains(&i.id)).map(|i| i.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::EPOCH.plus(Duration::from_secs(s))
    }

    fn image(id: &str, size: u64, is_replaceable: bool) -> StoredImage {
        StoredImage { id: id.into(), names: Vec::new(), size, is_replaceable }
    }

    #[test]
    fn nothing_goes_while_there_is_room() {
        let bounds = Bounds { high: 85, low: 80 };
        for (available, want) in [(200, None), (150, None), (149, Some(51)), (0, Some(200))] {
            assert_eq!(excess(1_000, available, bounds), want, "{available}");
        }
        assert_eq!(excess(0, 0, bounds), None);
    }

    #[test]
    fn the_longest_unused_goes_first_and_what_is_in_use_or_irreplaceable_never() {
        let images = [
            image("used", 10, true),
            image("old", 10, true),
            image("older", 10, true),
            image("by-hand", 90, false),
            image("fresh", 10, true),
        ];
        let (early, late) = images.split_at(4);
        let mut collector = Collector::default();
        let set = |ids: &[&str]| ids.iter().map(|s| (*s).to_string()).collect::<BTreeSet<_>>();
        collector.note(early, &set(&["older", "used"]), at(10));
        collector.note(early, &set(&["old", "used"]), at(20));
        let all: Vec<StoredImage> = early.iter().chain(late).cloned().collect();
        collector.note(&all, &set(&["used"]), at(300));
        let choose = |bytes| collector.choose(&all, &set(&["used"]), bytes, at(310));
        assert_eq!(choose(1), ["older"]);
        assert_eq!(choose(11), ["older", "old"]);
        assert_eq!(choose(1_000), ["older", "old"], "not what came a moment ago");
        assert!(choose(0).is_empty());
        assert_eq!(unneeded(&all, &set(&["used", "old"])), ["older", "fresh"]);
    }
}
