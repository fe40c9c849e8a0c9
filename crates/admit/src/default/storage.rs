//! Defaults of volumes, claims and limit ranges.

use serde_json::Value;

use super::pod::volume_source;
use crate::value::{ensure, items_mut, pairs, path_mut, set_default};

pub(super) fn persistent_volume(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        volume_source(spec);
    }
}

pub(super) fn persistent_volume_claim(object: &mut Value) {
    if let Some(resources) = path_mut(object, &["spec", "resources"]) {
        let limits: Vec<(String, Value)> =
            pairs(resources, "limits").map(|(k, v)| (k.clone(), v.clone())).collect();
        if !limits.is_empty()
            && let Some(requests) = ensure(resources, "requests")
        {
            limits.into_iter().for_each(|(k, v)| set_default(requests, &k, v));
        }
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
}
