//! Events: one record under two names for most of its fields.

use serde_json::Value;

/// Core's name and the name in `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(value: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(map) = value.as_object_mut() else { return };
    for (old, new) in names {
        if let Some(v) = map.remove(old) {
            map.insert(new.to_owned(), v);
        }
    }
}

pub(super) fn from_core(value: &mut Value) {
    rename(value, NAMES.into_iter());
}

pub(super) fn to_core(value: &mut Value) {
    rename(value, NAMES.into_iter().map(|(core, new)| (new, core)));
}
