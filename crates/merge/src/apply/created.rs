//! The record of a new object's creator, written as JSON in one walk over the object. It names every field, so that building it as
//! sets first, as changes need them, cost as much as all checks of the object together.

use super::compare::as_list;
use super::field_set::MEMBER;
use super::managed::{UNOWNED_METADATA, UNOWNED_ROOT};
use super::place::Place;
use super::text;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A member with nothing below it.
const BARE: &[u8] = b"{}";
/// Where in the object a place is: at the root and in the metadata are fields that nobody owns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// With the paths that such a write does not write.
    Root(&'static [&'static [&'static str]]),
    Metadata,
    Below,
}

/// `fieldsV1` of what a new object has beyond one of its kind in which nothing is set. `None` where it has nothing; an error where
/// the empty object has elements in its lists, which this does not compare. What is under `reset` is not written.
pub(super) fn fields(
    empty: &Value,
    new: &Value,
    place: Place<'_>,
    reset: &'static [&'static [&'static str]],
) -> Result<Option<Vec<u8>>, HasElements> {
    let mut out = Vec::with_capacity(512);
    Ok(beyond(&mut out, empty, new, place, Depth::Root(reset))?.then_some(out))
}

/// The object to compare with is not empty.
#[derive(Debug)]
pub(super) struct HasElements;

/// Writes what differs from an empty place; whether anything does.
fn beyond(
    out: &mut Vec<u8>,
    empty: &Value,
    new: &Value,
    place: Place<'_>,
    depth: Depth,
) -> Result<bool, HasElements> {
    match place {
        Place::Leaf => out.extend_from_slice(BARE),
        Place::Struct(_) | Place::Map(_) => {
            let nothing = Map::new();
            let of = |v: &'_ Value| v.as_object().map_or(0, Map::len);
            if of(empty) + of(new) == 0 {
                // Nor does anybody own the metadata as such.
                let is_owned = depth != Depth::Metadata;
                out.extend_from_slice(if is_owned { BARE } else { b"" });
                return Ok(is_owned);
            }
            let before = empty.as_object().unwrap_or(&nothing);
            let begun = out.len();
            out.push(b'{');
            for (key, child) in new.as_object().into_iter().flatten().filter(|(key, _)| is_owned(key, depth))
            {
                let below = place.key(key).unwrap_or(Place::Leaf);
                let mark = out.len();
                match before.get(key) {
                    Some(old) if old == child => {}
                    Some(old) => {
                        put_field(out, key);
                        let depth = match (depth, key.as_str()) {
                            (Depth::Root(_), "metadata") => Depth::Metadata,
                            _ => Depth::Below,
                        };
                        if !beyond(out, old, child, below, depth)? {
                            out.truncate(mark);
                        }
                    }
                    None => {
                        put_field(out, key);
                        whole(out, child, below);
                    }
                }
            }
            if out.len() == begun + 1 {
                out.truncate(begun);
                return Ok(false);
            }
            out.push(b'}');
        }
        Place::Set | Place::Keyed(..) => {
            if !as_list(Some(empty)).is_empty() {
                return Err(HasElements);
            }
            if as_list(Some(new)).is_empty() {
                out.extend_from_slice(BARE);
                return Ok(true);
            }
            let begun = out.len();
            out.push(b'{');
            put_elements(out, as_list(Some(new)), place);
            if out.len() == begun + 1 {
                out.truncate(begun);
                return Ok(false);
            }
            out.push(b'}');
        }
    }
    Ok(true)
}

fn is_owned(key: &str, depth: Depth) -> bool {
    match depth {
        Depth::Root(reset) => {
            let is_reset = |path: &&[&str]| matches!(path, [one] if one.strip_prefix("f:") == Some(key));
            !UNOWNED_ROOT.contains(&key) && !reset.iter().any(is_reset)
        }
        Depth::Metadata => !UNOWNED_METADATA.contains(&key),
        Depth::Below => true,
    }
}

/// Writes a place with every part that it has.
fn whole(out: &mut Vec<u8>, value: &Value, place: Place<'_>) {
    out.push(b'{');
    let begun = out.len();
    out.extend_from_slice(MEMBER);
    match (place, value) {
        (Place::Struct(_) | Place::Map(_), Value::Object(map)) => {
            for (key, child) in map {
                put_field(out, key);
                whole(out, child, place.key(key).unwrap_or(Place::Leaf));
            }
        }
        (Place::Set | Place::Keyed(..), Value::Array(list)) => put_elements(out, list, place),
        _ => {}
    }
    if out.len() == begun + MEMBER.len() {
        out.truncate(begun);
    }
    out.push(b'}');
}

fn put_elements(out: &mut Vec<u8>, list: &[Value], place: Place<'_>) {
    // Elements that cannot be named own nothing; of several with one name the first counts.
    let mut named = BTreeMap::new();
    for child in list {
        if let Ok(name) = place.element_name(child) {
            named.entry(name).or_insert(child);
        }
    }
    for (name, child) in named {
        text::put_comma(out);
        text::put(out, &name);
        out.push(b':');
        whole(out, child, place.element());
    }
}

fn put_field(out: &mut Vec<u8>, key: &str) {
    text::put_comma(out);
    out.extend_from_slice(b"\"f:");
    let quote = out.len();
    text::put(out, key);
    out.remove(quote);
    out.push(b':');
}
