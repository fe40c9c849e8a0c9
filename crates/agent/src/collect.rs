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

/// How full a disk is, in whole percent, a part of one counted as one.
pub(crate) fn percent_used(total: u64, available: u64) -> u8 {
    let free = u128::from(available.min(total)) * 100 / u128::from(total.max(1));
    100 - u8::try_from(free).unwrap_or(100)
}

/// Bytes that must go; none while the disk is not too full, and none ever where it may be entirely.
pub(crate) fn excess(total: u64, available: u64, bounds: Bounds) -> Option<u64> {
    let is_too_full = total > 0 && bounds.high < 100 && percent_used(total, available) >= bounds.high;
    let wanted = u128::from(total) * u128::from(100 - bounds.low.min(100)) / 100;
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    is_too_full.then(|| wanted.saturating_sub(available)).filter(|bytes| *bytes > 0)
}

/// What the node is told when too little could be freed, in a kubelet's words.
pub(crate) fn insufficient(total: u64, available: u64, freed: u64) -> String {
    let percent = percent_used(total, available);
    format!(
        "Insufficient free disk space on the node's image filesystem ({percent}% of {} used). Failed to free sufficient space by \
         deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by active images, logs, \
         volumes, or other data.",
        show_size(total)
    )
}

fn show_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64 / 1024.0;
    if size < 1.0 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{size:.1} {}", units[unit])
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
        for (available, want) in [(200, None), (160, None), (159, Some(41)), (149, Some(51)), (0, Some(200))]
        {
            assert_eq!(excess(1_000, available, bounds), want, "{available}");
        }
        assert_eq!(excess(0, 0, bounds), None);
        assert_eq!(excess(1_000, 0, Bounds { high: 100, low: 80 }), None);
    }

    #[test]
    fn what_could_not_be_freed_is_told_in_a_kubelets_words() {
        let words = insufficient(40 << 30, 2 << 30, 7);
        assert!(words.starts_with(
            "Insufficient free disk space on the node's image filesystem (95% of 40.0 GiB used). "
        ));
        assert!(
            words.contains("by deleting unused images (freed 7 bytes). Investigate disk usage"),
            "{words}"
        );
        assert_eq!([1_023, 1_536, 5 << 50].map(show_size), ["1023 B", "1.5 KiB", "5120.0 TiB"]);
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
