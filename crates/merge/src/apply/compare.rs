//! Which fields an object has, and which fields differ between two.

use super::field_set::{self, FieldSet};
use super::place::Place;
use crate::go;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use stoa_kube::schema::Kind;

/// The fields that a configuration names: leaves, elements of keyed lists, keys of maps. All that is wrong with it is told at once.
pub(super) fn field_set_of(value: &Value, place: Place<'_>) -> Result<FieldSet, String> {
    let mut namer = Namer { path: Vec::new(), set: FieldSet::default(), faults: Vec::new() };
    namer.name_fields(value, place);
    match namer.faults.as_slice() {
        [] => Ok(namer.set),
        [one] => Err(one.clone()),
        all => Err(format!("errors:\n  {}", all.join("\n  "))),
    }
}

/// Walks through a configuration.
struct Namer {
    path: Vec<String>,
    set: FieldSet,
    faults: Vec<String>,
}

impl Namer {
    fn fault(&mut self, why: &str) {
        self.faults.push(format!("{}: {why}", printed(&self.path)));
    }

    fn name_fields(&mut self, value: &Value, place: Place<'_>) {
        match (place, value) {
            (Place::Struct(_) | Place::Map(_), Value::Object(map)) => {
                for (key, child) in map {
                    self.path.push(field_set::field(key));
                    match place.key(key) {
                        Some(below) => {
                            if let Some(why) = place.scalar(key).and_then(|kind| scalar_fault(kind, child)) {
                                self.fault(&why);
                            }
                            self.name_fields(child, below);
                        }
                        None => self.fault("field not declared in schema"),
                    }
                    // What is empty has no leaf that would tell of it; an empty list of elements says nothing at all.
                    let is_hollow = match child {
                        Value::Object(map) => map.is_empty(),
                        other => other.is_null(),
                    };
                    if is_hollow || matches!(place, Place::Map(_)) {
                        self.set.insert(&self.path);
                    }
                    self.path.pop();
                }
            }
            (Place::Set | Place::Keyed(..), Value::Array(list)) => self.name_elements(list, place),
            (Place::Leaf, _) => self.set.insert(&self.path),
            // A null is the absence of parts; the parent has named it.
            (_, Value::Null) => {}
            (Place::Set | Place::Keyed(..), _) => self.fault(&format!("expected list, got {}", boxed(value))),
            (Place::Struct(_) | Place::Map(_), _) => {
                self.fault(&format!("expected map, got {}", boxed(value)))
            }
        }
    }

    fn name_elements(&mut self, list: &[Value], place: Place<'_>) {
        let mut seen = HashSet::with_capacity(list.len());
        for (i, child) in list.iter().enumerate() {
            let name = match place.element_name(child) {
                Ok(name) => name,
                // What lies deeper has no name to be told by.
                Err(why) => return self.fault(&format!("element {i}: {why}")),
            };
            // Of two that go by one name nobody could tell who owns which.
            if !seen.insert(name.clone()) {
                self.fault(&format!("duplicate entries for key {}", field_set::printed(&name)));
            }
            self.path.push(name);
            self.name_fields(child, place.element());
            self.set.insert(&self.path);
            self.path.pop();
        }
    }
}

/// How Go prints the box that a value is kept in.
fn boxed(value: &Value) -> String {
    format!("&{{{}}}", go::print(value))
}

/// What is wrong with a scalar of a kind; what has a form of its own is looked at later.
fn scalar_fault(kind: Kind<'_>, value: &Value) -> Option<String> {
    match (kind, value) {
        (_, Value::Null) | (Kind::Text, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => None,
        (Kind::Text, _) => {
            let shown = go::print_typed(value);
            Some(format!("expected string, got &value.valueUnstructured{{Value:{shown}}}"))
        }
        (Kind::Bool, _) => Some(format!("expected boolean, got {}", boxed(value))),
        (Kind::Int32 | Kind::Int64 | Kind::Double, Value::Number(_)) => None,
        (Kind::Int32 | Kind::Int64 | Kind::Double, _) => {
            Some(format!("expected numeric (int or float), got {}", go::type_of(value)))
        }
        _ => None,
    }
}

fn printed(path: &[String]) -> String {
    let mut set = FieldSet::default();
    set.insert(path);
    set.paths().pop().unwrap_or_default()
}

/// A place with every part that it has.
fn whole(value: &Value, place: Place<'_>) -> FieldSet {
    let below = match (place, value) {
        (Place::Struct(_) | Place::Map(_), Value::Object(map)) => {
            let mut below = BTreeMap::new();
            for (key, child) in map {
                below.insert(field_set::field(key), whole(child, place.key(key).unwrap_or(Place::Leaf)));
            }
            below
        }
        (Place::Set | Place::Keyed(..), Value::Array(list)) => {
            let mut below = BTreeMap::new();
            // Elements that cannot be named own nothing; of several with one name the first counts.
            for child in list {
                if let Ok(name) = place.element_name(child) {
                    below.entry(name).or_insert_with(|| whole(child, place.element()));
                }
            }
            below
        }
        _ => BTreeMap::new(),
    };
    FieldSet::member(below)
}

/// What differs between two objects.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Places that only the new one has.
    pub added: FieldSet,
    /// Places with another value.
    pub modified: FieldSet,
    /// Places that only the old one has.
    pub removed: FieldSet,
}

/// Compares two objects.
pub(super) fn compare(old: Option<&Value>, new: Option<&Value>, place: Place<'_>) -> Changes {
    let mut changes = Changes::default();
    changes.visit(old, new, place, &mut Vec::new());
    changes
}

fn as_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

pub(super) fn as_list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

impl Changes {
    fn visit(&mut self, old: Option<&Value>, new: Option<&Value>, place: Place<'_>, path: &mut Vec<String>) {
        match (old, new) {
            // What is new is new in all its parts.
            (None, Some(new)) => return self.added.attach(path, whole(new, place)),
            // Most of an object is as it was: nothing below need be named.
            (Some(old), Some(new)) if old == new => return,
            _ => {}
        }
        match place {
            Place::Leaf => return self.leaf(old, new, path),
            Place::Struct(_) | Place::Map(_) => {
                let count = |v| as_map(v).map_or(0, Map::len);
                // Nothing and empty are told apart by the place itself.
                if count(old) + count(new) == 0 {
                    return self.leaf(old, new, path);
                }
                self.keys(as_map(old), as_map(new), place, path);
            }
            Place::Set | Place::Keyed(..) => {
                let (before, after) = (as_list(old), as_list(new));
                if before.is_empty() && after.is_empty() {
                    return self.leaf(old, new, path);
                }
                self.elements(before, after, place, path);
            }
        }
        match (old, new) {
            (None, Some(_)) => self.added.insert(path),
            (Some(_), None) => self.removed.insert(path),
            _ => {}
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>, path: &[String]) {
        match (old, new) {
            (None, Some(_)) => self.added.insert(path),
            (Some(_), None) => self.removed.insert(path),
            (Some(a), Some(b)) if a != b => self.modified.insert(path),
            _ => {}
        }
    }

    fn keys(
        &mut self,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        place: Place<'_>,
        path: &mut Vec<String>,
    ) {
        let only_old = old.into_iter().flatten().filter(|(k, _)| new.is_none_or(|n| !n.contains_key(*k)));
        for key in new.into_iter().flatten().chain(only_old).map(|(k, _)| k) {
            path.push(field_set::field(key));
            let below = place.key(key).unwrap_or(Place::Leaf);
            self.visit(old.and_then(|m| m.get(key)), new.and_then(|m| m.get(key)), below, path);
            path.pop();
        }
    }

    fn elements(&mut self, old: &[Value], new: &[Value], place: Place<'_>, path: &mut Vec<String>) {
        // Elements that cannot be named own nothing; of several with one name the first counts.
        let by_name = |list: &[Value]| {
            let mut map: BTreeMap<String, usize> = BTreeMap::new();
            for (index, element) in list.iter().enumerate() {
                if let Ok(name) = place.element_name(element) {
                    map.entry(name).or_insert(index);
                }
            }
            map
        };
        let (before, after) = (by_name(old), by_name(new));
        let only_before = before.keys().filter(|name| !after.contains_key(*name));
        for name in after.keys().chain(only_before) {
            path.push(name.clone());
            let at = |names: &BTreeMap<String, usize>| names.get(name).copied();
            let old_element = at(&before).and_then(|i| old.get(i));
            let new_element = at(&after).and_then(|i| new.get(i));
            self.visit(old_element, new_element, place.element(), path);
            path.pop();
        }
    }
}
