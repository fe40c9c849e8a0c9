//! Lists in strategic merge: by key, or as sets of scalars; and the order in which the elements end up.

use super::{DIRECTIVE, Place, Rule, clean, clean_list, merge_map};
use crate::error::PatchError;
use crate::go;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use stoa_kube::schema::Kind;

/// How a list merges.
#[derive(Clone, Copy)]
pub(super) struct ListPatch<'a> {
    merge: bool,
    key: Option<&'a str>,
    place: Place<'a>,
}

impl<'a> ListPatch<'a> {
    pub(super) fn of(rule: Rule<'a>) -> ListPatch<'a> {
        let element = match rule.kind {
            Some(Kind::List(element)) => Some(element.kind()),
            _ => None,
        };
        ListPatch { merge: rule.merge, key: rule.merge_key, place: Place::of(element) }
    }
}

/// Merges a patch's list into the original one.
pub(super) fn merge_list(
    old: Vec<Value>,
    new: Vec<Value>,
    list: ListPatch<'_>,
) -> Result<Vec<Value>, PatchError> {
    if !list.merge {
        return Ok(clean_list(new));
    }
    check_types(&old, &new)?;
    let of_maps = |l: &[Value]| l.first().is_some_and(Value::is_object);
    if !of_maps(&old) && !of_maps(&new) {
        return merge_scalars(old, new);
    }
    let Some(key) = list.key else {
        return Err(PatchError::Malformed("cannot merge lists without merge key".to_owned()));
    };
    let patch = Elements::read(new, key)?;
    if patch.replaces {
        return Ok(patch.elements.into_iter().map(|m| clean(Value::Object(m))).collect());
    }
    let gone: HashSet<String> = patch.deleted.iter().map(Value::to_string).collect();
    let is_gone = |v: &Value| v.get(key).is_some_and(|k| gone.contains(&k.to_string()));
    let mut merged: Vec<Value> = old.into_iter().filter(|v| !is_gone(v)).collect();
    let server_order = merged.clone();
    let patch_order: Vec<Value> = patch.elements.iter().cloned().map(Value::Object).collect();
    let mut places = positions(&merged, Some(key));
    for element in patch.elements {
        let Some(name) = element.get(key).map(Value::to_string) else {
            let text = go::print_map(&element);
            return Err(PatchError::Unforeseen(format!(
                "map: {text} does not contain declared merge key: {key}"
            )));
        };
        match places.get(&name).and_then(|at| merged.get_mut(*at)) {
            Some(slot) => {
                let before = match slot.take() {
                    Value::Object(map) => map,
                    _ => Map::new(),
                };
                *slot = Value::Object(merge_map(before, element, list.place)?);
            }
            None => {
                places.insert(name, merged.len());
                merged.push(clean(Value::Object(element)));
            }
        }
    }
    Ok(arrange(merged, &patch_order, &server_order, Some(key)))
}

/// Only elements of one type can be told apart in one way.
fn check_types(old: &[Value], new: &[Value]) -> Result<(), PatchError> {
    let mut types = old.iter().chain(new).map(go::type_of);
    let Some(first) = types.next() else { return Ok(()) };
    if types.all(|other| other == first) {
        return Ok(());
    }
    let shown = go::print(&Value::from(vec![Value::from(old.to_vec()), Value::from(new.to_vec())]));
    Err(PatchError::Unforeseen(format!("list element types are not identical: {shown}")))
}

/// The elements of a patch's list, without those that are directives.
struct Elements {
    elements: Vec<Map<String, Value>>,
    /// Keys of the elements to delete.
    deleted: Vec<Value>,
    /// Whether the list replaces the original one.
    replaces: bool,
}

impl Elements {
    fn read(list: Vec<Value>, key: &str) -> Result<Elements, PatchError> {
        let mut out = Elements { elements: Vec::new(), deleted: Vec::new(), replaces: false };
        for value in list {
            let Value::Object(mut map) = value else {
                return Err(PatchError::Malformed("lists of mixed types cannot be merged".to_owned()));
            };
            match map.get(DIRECTIVE).map(Value::as_str) {
                None => out.elements.push(map),
                Some(Some("merge")) => {
                    map.remove(DIRECTIVE);
                    out.elements.push(map);
                }
                Some(Some("delete")) => match map.remove(key) {
                    Some(value) => out.deleted.push(value),
                    None => {
                        return Err(PatchError::Unforeseen(format!(
                            "map: {} does not contain declared merge key: {key}",
                            go::print_map(&map)
                        )));
                    }
                },
                Some(Some("replace")) => {
                    out.replaces = true;
                    map.remove(DIRECTIVE);
                    // The directive may stand alone or in an element of the new list.
                    if !map.is_empty() {
                        out.elements.push(map);
                    }
                }
                Some(_) => return Err(super::unknown_directive(&map)),
            }
        }
        Ok(out)
    }
}

fn merge_scalars(old: Vec<Value>, new: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    if old.iter().chain(&new).any(|v| v.is_object() || v.is_array()) {
        return Err(PatchError::Malformed("lists of mixed types cannot be merged".to_owned()));
    }
    let mut seen = HashSet::new();
    let merged = old.iter().chain(&new).filter(|v| seen.insert(v.to_string())).cloned().collect();
    Ok(arrange(merged, &new, &old, None))
}

/// By what an element is told from others: its key, or itself. Elements without the key have no name.
fn name_of(element: &Value, key: Option<&str>) -> Option<String> {
    match key {
        Some(key) => element.get(key).map(Value::to_string),
        None => Some(element.to_string()),
    }
}

/// Where each name stands first. Lists come from outside, so looking through them for each element would cost the square.
fn positions(list: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut out = HashMap::with_capacity(list.len());
    for (index, element) in list.iter().enumerate() {
        if let Some(name) = name_of(element, key) {
            out.entry(name).or_insert(index);
        }
    }
    out
}

/// An element and where it stands in the patch's and the server's order.
struct Placed {
    element: Value,
    in_patch: Option<usize>,
    in_server: Option<usize>,
}

/// Puts the elements that the patch names into the patch's order and weaves the others in where the server had them.
pub(super) fn arrange(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    let (patch, server) = (positions(patch_order, key), positions(server_order, key));
    let placed = merged.into_iter().map(|element| {
        let name = name_of(&element, key);
        let at = |order: &HashMap<String, usize>| name.as_ref().and_then(|n| order.get(n)).copied();
        Placed { in_patch: at(&patch), in_server: at(&server), element }
    });
    let (mut named, mut others): (Vec<Placed>, Vec<Placed>) = placed.partition(|p| p.in_patch.is_some());
    named.sort_by_key(|p| p.in_patch);
    others.sort_by_key(|p| p.in_server);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(other), Some(name)) = (others.peek(), named.peek()) {
        let before = matches!((other.in_server, name.in_server), (Some(a), Some(b)) if a < b);
        out.extend(if before { others.next() } else { named.next() });
    }
    out.extend(others);
    out.extend(named);
    out.into_iter().map(|p| p.element).collect()
}
