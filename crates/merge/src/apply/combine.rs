//! Merging a configuration into an object, and removing fields from one.

use super::field_set::{self, FieldSet};
use super::place::Place;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Merges the applied value into the live one.
pub(super) fn merge(live: Option<&Value>, applied: &Value, place: Place<'_>) -> Result<Value, String> {
    match (place, live, applied) {
        (Place::Struct(_) | Place::Map(_), Some(Value::Object(old)), Value::Object(new)) => {
            let kept = old.iter().filter(|(key, _)| !new.contains_key(*key));
            let mut out: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
            for (key, value) in new {
                let below = place.key(key).unwrap_or(Place::Leaf);
                out.insert(key.clone(), merge(old.get(key), value, below)?);
            }
            Ok(Value::Object(out))
        }
        (Place::Set | Place::Keyed(..), Some(Value::Array(old)), Value::Array(new)) => {
            merge_lists(old, new, place).map(Value::Array)
        }
        (_, Some(old), Value::Null) if !matches!(place, Place::Leaf) => Ok(old.clone()),
        _ => Ok(applied.clone()),
    }
}

/// The applied elements come in their order; live elements that are not applied keep their places between them.
fn merge_lists(live: &[Value], applied: &[Value], place: Place<'_>) -> Result<Vec<Value>, String> {
    let names = |list: &[Value]| list.iter().map(|e| place.element_name(e)).collect::<Result<Vec<_>, _>>();
    let (live_names, applied_names) = (names(live)?, names(applied)?);
    let mut in_applied = HashMap::with_capacity(applied.len());
    for (index, name) in applied_names.iter().enumerate() {
        if in_applied.insert(name.as_str(), index).is_some() {
            return Err(format!("duplicate entries for key [{name}]"));
        }
    }
    // Reversed, so that of several live elements with one name the first counts.
    let in_live: HashMap<&str, &Value> = live_names.iter().map(String::as_str).zip(live).rev().collect();
    let mut out = Vec::with_capacity(live.len() + applied.len());
    let (mut l, mut a) = (0, 0);
    while l < live.len() || a < applied.len() {
        let position = live_names.get(l).map(|name| in_applied.get(name.as_str()).copied());
        match position {
            Some(None) => {
                out.push(live[l].clone());
                l += 1;
            }
            // Already merged, when its turn among the applied ones came.
            Some(Some(at)) if at < a => l += 1,
            // It is applied too, so the applied order decides what comes next.
            _ => {
                let before = in_live.get(applied_names[a].as_str()).copied();
                out.push(merge(before, &applied[a], place.element())?);
                if position == Some(Some(a)) {
                    l += 1;
                }
                a += 1;
            }
        }
    }
    Ok(out)
}

/// Removes the members of a set from a value, each with all below it; `None` where nothing is left of what had parts.
pub(super) fn remove(value: Value, set: &FieldSet, place: Place<'_>) -> Option<Value> {
    match (place, value) {
        (Place::Struct(_) | Place::Map(_), Value::Object(map)) => {
            let was_empty = map.is_empty();
            let out: Map<String, Value> = map
                .into_iter()
                .filter_map(|(key, value)| {
                    let element = field_set::field(&key);
                    Some((key, remove_below(value, set.below(&element), place.step(&element))?))
                })
                .collect();
            (was_empty || !out.is_empty()).then_some(Value::Object(out))
        }
        (Place::Set | Place::Keyed(..), Value::Array(list)) => {
            let was_empty = list.is_empty();
            let out: Vec<Value> = list
                .into_iter()
                .filter_map(|element| match place.element_name(&element) {
                    Ok(name) => remove_below(element, set.below(&name), place.element()),
                    Err(_) => Some(element),
                })
                .collect();
            (was_empty || !out.is_empty()).then_some(Value::Array(out))
        }
        (_, value) => Some(value),
    }
}

fn remove_below(value: Value, set: Option<&FieldSet>, place: Place<'_>) -> Option<Value> {
    match set {
        None => Some(value),
        Some(node) if node.is_member() => None,
        Some(node) => remove(value, node, place),
    }
}
