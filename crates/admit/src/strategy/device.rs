//! What drivers may say of their devices only where features are on that a stock server has off.

use serde_json::Value;

use crate::value::{at, has, items, items_mut, pairs, remove};

/// Forms of an attribute that say several things.
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
/// What of a node's own resources a device stands for.
const MAPPINGS: &str = "nodeAllocatableResourceMappings";

/// Takes off a slice what belongs to features that are off, unless the stored one uses them already.
pub(super) fn drop_disabled(old: &Value, slice: &mut Value) {
    let uses = |what: &dyn Fn(&Value) -> bool| items(at(old, "spec"), "devices").any(what);
    let lists = |device: &Value| pairs(device, "attributes").any(|(_, a)| LISTS.iter().any(|l| has(a, l)));
    let (keeps_lists, keeps_mappings) = (uses(&lists), uses(&|device| has(device, MAPPINGS)));
    let Some(spec) = slice.get_mut("spec") else { return };
    for device in items_mut(spec, "devices") {
        if !keeps_mappings {
            remove(device, MAPPINGS);
        }
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for attribute in attributes.into_iter().flat_map(|all| all.values_mut()).filter(|_| !keeps_lists) {
            LISTS.iter().for_each(|list| drop(remove(attribute, list)));
        }
    }
}
