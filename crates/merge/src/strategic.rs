//! Strategic merge: a merge patch that knows, from the schema table, which lists merge by which key, and that obeys the
//! directives `$patch`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…` and `$retainKeys`. The algorithm is the stock server's,
//! down to where the elements of a merged list end up.

mod list;
#[cfg(test)]
mod tests;

use crate::error::PatchError;
use crate::go;
use list::{ListPatch, merge_list};
use serde_json::{Map, Value};
use std::collections::HashSet;
use stoa_kube::schema::{Element, Kind, Type};

pub(crate) const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch to an object of the given type.
pub fn strategic(document: Value, patch: &Value, ty: Type<'_>) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        let found = go::kind(patch);
        let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
        return Err(PatchError::Malformed(why));
    };
    let original = match document {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    merge_map(original, patch.clone(), Place::Struct(ty)).map(Value::Object)
}

/// What the schema knows of a map.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Struct(Type<'a>),
    Map(Element<'a>),
    Unknown,
}

/// What the schema says about a key of a map.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a> {
    pub kind: Option<Kind<'a>>,
    pub merge: bool,
    pub replace: bool,
    pub merge_key: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub(crate) fn of(kind: Option<Kind<'a>>) -> Place<'a> {
        match kind {
            Some(Kind::Struct(ty)) => Place::Struct(ty),
            Some(Kind::Map(element)) => Place::Map(element),
            _ => Place::Unknown,
        }
    }

    fn rule(self, key: &str) -> Rule<'a> {
        let plain = |kind| Rule { kind, merge: false, replace: false, merge_key: None };
        match self {
            Place::Struct(ty) => match ty.field(key) {
                None => plain(None),
                Some(field) => {
                    let strategy = field.patch_strategy();
                    Rule {
                        kind: Some(field.kind()),
                        merge: strategy.merge,
                        replace: strategy.replace,
                        merge_key: field.merge_key(),
                    }
                }
            },
            Place::Map(element) => plain(Some(element.kind())),
            Place::Unknown => plain(None),
        }
    }
}

fn unknown_directive(map: &Map<String, Value>) -> PatchError {
    let directive = map.get(DIRECTIVE).map(go::print).unwrap_or_default();
    PatchError::Unforeseen(format!("unknown patch type: {directive} in map: {}", go::print_map(map)))
}

/// Merges a patch into a map.
pub(crate) fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    place: Place<'_>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None => {}
        Some(Some("merge")) => drop(patch.remove(DIRECTIVE)),
        Some(Some("replace")) => {
            patch.remove(DIRECTIVE);
            return Ok(clean_map(patch));
        }
        Some(Some("delete")) => return Ok(Map::new()),
        Some(_) => return Err(unknown_directive(&patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, place)?;
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_FROM) {
            delete_from_list(&mut original, name, &value)?;
            continue;
        }
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let rule = place.rule(&key);
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if !rule.replace => {
                Value::Object(merge_map(old, new, Place::of(rule.kind))?)
            }
            (Some(Value::Array(old)), Value::Array(new)) if rule.merge => {
                Value::Array(merge_list(old, new, ListPatch::of(rule))?)
            }
            (_, new) => clean(new),
        };
        original.insert(key, merged);
    }
    Ok(original)
}

/// Obeys `$retainKeys`: whatever the list does not name goes.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || PatchError::Malformed("invalid patch format of retainKeys".to_owned());
    let keys: Vec<&str> = list
        .as_array()
        .ok_or_else(bad)?
        .iter()
        .map(|k| k.as_str().ok_or_else(bad))
        .collect::<Result<_, _>>()?;
    let is_directive = |key: &str| key.starts_with('$');
    if patch.iter().any(|(k, v)| !v.is_null() && !is_directive(k) && !keys.contains(&k.as_str())) {
        return Err(bad());
    }
    original.retain(|key, _| keys.contains(&key.as_str()));
    Ok(())
}

/// Obeys every `$setElementOrder/…`, merging the list of that name on the way.
fn merge_ordered_lists(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    place: Place<'_>,
) -> Result<(), PatchError> {
    let orders: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
    for directive in orders {
        let bad = || PatchError::Malformed("invalid patch format of setElementOrder list".to_owned());
        let Some(Value::Array(order)) = patch.remove(&directive) else { return Err(bad()) };
        let name = &directive[SET_ORDER.len()..];
        let rule = place.rule(name);
        let list = ListPatch::of(rule);
        let as_list = |value: Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(bad()),
        };
        // An explicit null deletes the list, whatever order was set.
        if patch.get(name).is_some_and(Value::is_null) {
            continue;
        }
        let deletes = format!("{DELETE_FROM}{name}");
        if let Some(value) = patch.remove(&deletes) {
            delete_from_list(original, name, &value)?;
        }
        let old = as_list(original.remove(name))?;
        let new = as_list(patch.remove(name))?;
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => merge_list(Vec::new(), new, list)?,
            (Some(old), Some(new)) => merge_list(old, new, list)?,
        };
        original.insert(
            name.to_owned(),
            Value::Array(list::arrange(merged, &order, &server_order, rule.merge_key)),
        );
    }
    Ok(())
}

/// Obeys `$deleteFromPrimitiveList/…`.
fn delete_from_list(original: &mut Map<String, Value>, name: &str, values: &Value) -> Result<(), PatchError> {
    let bad = || PatchError::Malformed("invalid patch format of primitive list".to_owned());
    let gone = values.as_array().ok_or_else(bad)?;
    match original.get_mut(name) {
        Some(Value::Array(list)) => {
            if list.iter().any(|v| v.is_object() || v.is_array()) {
                return Err(bad());
            }
            let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
            list.retain(|v| !gone.contains(&v.to_string()));
        }
        Some(_) => return Err(bad()),
        None => {}
    }
    Ok(())
}

/// What a patch's value becomes where there is nothing to merge with: without nulls and directives.
pub(crate) fn clean(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(clean_map(map)),
        Value::Array(list) => Value::Array(clean_list(list)),
        scalar => scalar,
    }
}

fn clean_map(map: Map<String, Value>) -> Map<String, Value> {
    if map.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
        return Map::new();
    }
    let is_directive = |k: &str| {
        k == DIRECTIVE || k == RETAIN_KEYS || k.starts_with(DELETE_FROM) || k.starts_with(SET_ORDER)
    };
    map.into_iter().filter(|(k, v)| !v.is_null() && !is_directive(k)).map(|(k, v)| (k, clean(v))).collect()
}

fn clean_list(list: Vec<Value>) -> Vec<Value> {
    // An element that only carries a directive is no element.
    let is_element = |v: &Value| match v.get(DIRECTIVE).and_then(Value::as_str) {
        Some("delete") => false,
        Some(_) => v.as_object().is_some_and(|m| m.len() > 1),
        None => true,
    };
    list.into_iter().filter(is_element).map(clean).collect()
}
