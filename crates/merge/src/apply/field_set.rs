//! A set of fields, as `managedFields` holds it: a tree whose nodes are path elements (`f:spec`, `k:{"name":"c"}`, `v:"x"`), each
//! of which may itself be in the set, or only lead to what is.

use super::place::Place;
use super::text;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How deep a field set read from outside may be; objects are not deeper.
const DEPTH_MAX: usize = stoa_kube::decode::DEPTH_MAX;

/// What says of a place with others below it that it is a member itself.
pub(super) const MEMBER: &[u8] = br#"".":{}"#;

fn is_stored_member(stored: &Value) -> bool {
    stored.as_object().is_some_and(|map| map.is_empty() || map.contains_key("."))
}

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// Whether the place that this node stands for is in the set.
    is_member: bool,
    below: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// Reads `fieldsV1`. What is no path element is left out.
    pub(super) fn read(value: &Value) -> FieldSet {
        FieldSet { is_member: false, ..FieldSet::read_node(value, 0) }
    }

    fn read_node(value: &Value, depth: usize) -> FieldSet {
        let Some(map) = value.as_object().filter(|_| depth < DEPTH_MAX) else { return FieldSet::default() };
        let mut set = FieldSet { is_member: map.is_empty() || map.contains_key("."), ..FieldSet::default() };
        for (element, below) in map {
            let node = FieldSet::read_node(below, depth + 1);
            if let Some(element) = canonical(element).filter(|_| !node.is_empty()) {
                set.below.insert(element, node);
            }
        }
        set
    }

    /// Writes `fieldsV1` as JSON, behind what is there.
    pub(super) fn write_text(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        if self.is_member && !self.below.is_empty() {
            out.extend_from_slice(MEMBER);
        }
        for (element, node) in &self.below {
            text::put_comma(out);
            text::put(out, element);
            out.push(b':');
            node.write_text(out);
        }
        out.push(b'}');
    }

    /// Whether any member of this set is one of those that are written there, in the form in which they are stored.
    pub(super) fn touches(&self, stored: &Value) -> bool {
        let below =
            |(element, node): (&String, &FieldSet)| stored.get(element).is_some_and(|s| node.touches(s));
        self.is_member && is_stored_member(stored) || self.below.iter().any(below)
    }

    /// Whether every member of this set is one of those.
    pub(super) fn is_within(&self, stored: &Value) -> bool {
        let below =
            |(element, node): (&String, &FieldSet)| stored.get(element).is_some_and(|s| node.is_within(s));
        (!self.is_member || is_stored_member(stored)) && self.below.iter().all(below)
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }

    /// Adds the place at a path.
    pub(super) fn insert(&mut self, path: &[String]) {
        match path {
            [] => self.is_member = true,
            [first, rest @ ..] => match self.below.get_mut(first) {
                Some(node) => node.insert(rest),
                None => self.below.entry(first.clone()).or_default().insert(rest),
            },
        }
    }

    /// Takes the place at a path away, with all below it.
    pub(super) fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.below.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(node) = self.below.get_mut(*first) {
                    node.cut(rest);
                    if node.is_empty() {
                        self.below.remove(*first);
                    }
                }
            }
        }
    }

    /// Union.
    pub(super) fn add(&mut self, other: FieldSet) {
        self.is_member |= other.is_member;
        if self.below.is_empty() {
            self.below = other.below;
            return;
        }
        for (element, node) in other.below {
            self.below.entry(element).or_default().add(node);
        }
    }

    /// Adds a set at the place at a path.
    pub(super) fn attach(&mut self, path: &[String], set: FieldSet) {
        match path {
            [] => self.add(set),
            [first, rest @ ..] => match self.below.get_mut(first) {
                Some(node) => node.attach(rest, set),
                None => self.below.entry(first.clone()).or_default().attach(rest, set),
            },
        }
    }

    /// A member with these below it.
    pub(super) fn member(below: BTreeMap<String, FieldSet>) -> FieldSet {
        FieldSet { is_member: true, below }
    }

    fn of(is_member: bool, below: impl Iterator<Item = (String, FieldSet)>) -> FieldSet {
        FieldSet { is_member, below: below.filter(|(_, n)| !n.is_empty()).collect() }
    }

    /// Difference, place by place.
    pub(super) fn without(&self, other: &FieldSet) -> FieldSet {
        let mut set = self.clone();
        set.subtract(other);
        set
    }

    /// Takes away what is in the other, place by place.
    pub(super) fn subtract(&mut self, other: &FieldSet) {
        self.is_member &= !other.is_member;
        for (element, gone) in &other.below {
            let Some(node) = self.below.get_mut(element) else { continue };
            node.subtract(gone);
            if node.is_empty() {
                self.below.remove(element);
            }
        }
    }

    /// Intersection, place by place.
    pub(super) fn both(&self, other: &FieldSet) -> FieldSet {
        let common =
            self.below.iter().filter_map(|(e, node)| Some((e.clone(), node.both(other.below.get(e)?))));
        FieldSet::of(self.is_member && other.is_member, common)
    }

    /// The set with every struct field that leads to a member made a member too. Keys of maps and elements of lists are members
    /// only in their own right.
    pub(super) fn with_named_fields(&self, place: Place<'_>) -> FieldSet {
        let mut out = FieldSet { is_member: self.is_member, ..FieldSet::default() };
        for (element, node) in &self.below {
            let mut named = node.with_named_fields(place.step(element));
            named.is_member |= matches!(place, Place::Struct(_));
            out.below.insert(element.clone(), named);
        }
        out
    }

    /// The node below a path element.
    pub(super) fn below(&self, element: &str) -> Option<&FieldSet> {
        self.below.get(element)
    }

    pub(super) fn is_member(&self) -> bool {
        self.is_member
    }

    /// The members as conflicts print them: `.spec.containers[name="c"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths(&mut String::new(), &mut out);
        out
    }

    /// Of every place first the parts that are members, then what lies below each: that is how conflicts are told.
    fn collect_paths(&self, at: &mut String, out: &mut Vec<String>) {
        let members = self.below.iter().filter(|(_, node)| node.is_member);
        out.extend(members.map(|(element, _)| format!("{at}{}", printed(element))));
        for (element, node) in self.below.iter().filter(|(_, node)| !node.below.is_empty()) {
            let length = at.len();
            at.push_str(&printed(element));
            node.collect_paths(at, out);
            at.truncate(length);
        }
    }
}

/// The path element of a field or a key.
pub(super) fn field(name: &str) -> String {
    ["f:", name].concat()
}

/// A path element with its JSON in one form only, so that equal elements are equal texts.
fn canonical(element: &str) -> Option<String> {
    let (kind, rest) = element.split_once(':')?;
    match kind {
        "f" => Some(element.to_owned()),
        "k" | "v" => serde_json::from_str::<Value>(rest).ok().map(|json| format!("{kind}:{json}")),
        "i" => rest.parse::<u64>().ok().map(|index| format!("i:{index}")),
        _ => None,
    }
}

/// A path element as messages print it.
pub(super) fn printed(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("v", json)) => format!("[={json}]"),
        Some(("k", json)) => {
            let keys: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
            let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", pairs.join(","))
        }
        Some((_, index)) => format!("[{index}]"),
        None => element.to_owned(),
    }
}
