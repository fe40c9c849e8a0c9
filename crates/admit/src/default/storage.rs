//! Defaults of volumes, claims and limit ranges.

use serde_json::Value;

use super::pod::volume_source;
use crate::value::{ensure, items_mut, pairs, set_default};

pub(super) fn persistent_volume(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        volume_source(spec);
    }
}

/// A container's maximum is its default limit, which is its default request; failing that, its minimum is.
pub(super) fn limit_range(object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else { return };
    for item in items_mut(spec, "limits").filter(|i| crate::value::text(i, "type") == "Container") {
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let source: Vec<(String, Value)> =
                pairs(item, from).map(|(k, v)| (k.clone(), v.clone())).collect();
            if source.is_empty() {
                continue;
            }
            if let Some(target) = ensure(item, to) {
                source.into_iter().for_each(|(k, v)| set_default(target, &k, v));
            }
        }
    }
    for item in items_mut(spec, "limits") {
        for key in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if let Some(amounts) = item.get_mut(key) {
                super::pod::round_up(amounts);
            }
        }
    }
}
