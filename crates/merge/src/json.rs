//! JSON patch and merge patch. Operations run one at a time, so that copies can be counted: a few of them that double the
//! document would otherwise fill the memory.

#[cfg(test)]
mod tests;

use crate::error::PatchError;
use crate::{go, strategic};
use serde_json::{Map, Value};
use stoa_kube::decode;

/// How many operations a JSON patch may have; the stock server's limit.
pub const OPERATIONS_MAX: usize = 10_000;
/// How many bytes the copies of one JSON patch may add; the stock server's limit.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How closely a patch is looked at before it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As one looks whose server tells of odd fields: it says so if it cannot read the patch for that.
    Close,
    /// No more closely than to carry it out.
    Plain,
}

/// Applies a JSON patch, which is all or nothing.
pub fn json_patch(mut document: Value, patch: &[u8], look: Look) -> Result<Value, PatchError> {
    let parsed = decode::parse(patch).map_err(|e| unreadable(&e.to_string(), look))?.value;
    if !parsed.is_array() && !parsed.is_null() {
        let wanted = if look == Look::Close { "[]handlers.jsonPatchOp" } else { "jsonpatch.Patch" };
        return Err(unreadable(&wrong_type(&parsed, wanted), look));
    }
    let operations = operations(parsed, look)?;
    let count = operations.len();
    if count > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    let mut copied_bytes = 0;
    for operation in &operations {
        operate(&mut document, operation, &mut copied_bytes).map_err(PatchError::Refused)?;
    }
    Ok(document)
}

fn unreadable(why: &str, look: Look) -> PatchError {
    let before = if look == Look::Close { "error decoding patch: " } else { "" };
    PatchError::Malformed(format!("{before}{why}"))
}

/// What is no object is no operation; an operation that makes no sense is one that cannot be carried out.
fn operations(parsed: Value, look: Look) -> Result<Vec<Map<String, Value>>, PatchError> {
    let Value::Array(list) = parsed else { return Ok(Vec::new()) };
    let one = |operation| match operation {
        Value::Object(map) => {
            let is_odd = |key: &&str| map.get(*key).is_some_and(|v| !v.is_string() && !v.is_null());
            match ["op", "path", "from"].iter().find(|key| is_odd(key)) {
                Some(key) if look == Look::Close => {
                    let found = go::kind(&map[*key]);
                    let why = format!(
                        "json: cannot unmarshal {found} into Go struct field jsonPatchOp.{key} of type string"
                    );
                    Err(unreadable(&why, look))
                }
                _ => Ok(map),
            }
        }
        // Go decodes null into a map without entries.
        Value::Null => Ok(Map::new()),
        other => {
            let wanted = if look == Look::Close { "handlers.jsonPatchOp" } else { "jsonpatch.Operation" };
            Err(unreadable(&wrong_type(&other, wanted), look))
        }
    };
    list.into_iter().map(one).collect()
}

/// Carries out one operation. The stock server is laxer than RFC 6902, and clients build on that: a field that is not there is null,
/// so that it can be tested for null and replaced; an index counts from the end if it is negative.
fn operate(
    document: &mut Value,
    operation: &Map<String, Value>,
    copied_bytes: &mut usize,
) -> Result<(), String> {
    let text = |field: &str| operation.get(field).and_then(Value::as_str);
    let path = || text("path").ok_or("the operation has no path");
    let from = || text("from").ok_or("the operation has no from");
    let value = operation.get("value").unwrap_or(&Value::Null);
    match text("op").unwrap_or("unknown") {
        "add" => add(document, path()?, value.clone()),
        "remove" => remove(document, path()?).map(drop),
        "replace" => replace(document, path()?, value.clone()),
        "test" => test(document, path()?, value),
        "move" => {
            let moved = remove(document, from()?)?;
            add(document, path()?, moved)
        }
        "copy" => {
            let copied = get(document, from()?)?.clone();
            *copied_bytes += size_bytes(&copied);
            if *copied_bytes > COPIED_BYTES_MAX {
                return Err(format!(
                    "the copies add {copied_bytes} bytes, which exceeds the limit of {COPIED_BYTES_MAX}"
                ));
            }
            add(document, path()?, copied)
        }
        other => Err(format!("there is no operation {other:?}")),
    }
}

/// The keys of a pointer; what stands before its first slash is ignored.
fn keys(path: &str) -> Option<Vec<String>> {
    let (_, path) = path.split_once('/')?;
    Some(path.split('/').map(unescape).collect())
}

/// `~1` is a slash, `~0` a tilde.
fn unescape(key: &str) -> String {
    let mut parts = key.split('~');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.as_bytes().first() {
            Some(b'0') => out.extend(["~", &part[1..]]),
            Some(b'1') => out.extend(["/", &part[1..]]),
            _ => out.extend(["~", part]),
        }
    }
    out
}

/// The map or list that a path leads into, and the last key.
fn place<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let missing = || format!("the path {path:?} leads nowhere");
    let mut keys = keys(path).ok_or_else(missing)?;
    let last = keys.pop().ok_or_else(missing)?;
    let mut here = document;
    for key in keys {
        here = match here {
            Value::Object(map) => map.get_mut(&key).ok_or_else(missing)?,
            Value::Array(list) => {
                let at = index(&key, list.len())?;
                &mut list[at]
            }
            _ => return Err(missing()),
        };
    }
    if here.is_object() || here.is_array() { Ok((here, last)) } else { Err(missing()) }
}

/// The place of a key among `len` elements.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let wrong = || format!("{key:?} is no index of {len} elements");
    let given: i64 = key.parse().map_err(|_| wrong())?;
    let at =
        if given < 0 { given.checked_add(i64::try_from(len).map_err(|_| wrong())?) } else { Some(given) };
    at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < len).ok_or_else(wrong)
}

fn get<'a>(document: &'a mut Value, path: &str) -> Result<&'a Value, String> {
    let (here, key) = place(document, path)?;
    match here {
        Value::Array(list) => {
            let at = index(&key, list.len())?;
            Ok(&list[at])
        }
        map => Ok(map.get(&key).unwrap_or(&Value::Null)),
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    check_depth(path, &value)?;
    let (here, key) = place(document, path)?;
    match here {
        Value::Array(list) if key == "-" => list.push(value),
        // One place more than there are elements: the end.
        Value::Array(list) => list.insert(index(&key, list.len() + 1)?, value),
        map => map[&key] = value,
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let (here, key) = place(document, path)?;
    match here {
        Value::Array(list) => {
            let at = index(&key, list.len())?;
            Ok(list.remove(at))
        }
        map => map
            .as_object_mut()
            .and_then(|m| m.remove(&key))
            .ok_or_else(|| format!("there is nothing at {path:?} to be removed")),
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    check_depth(path, &value)?;
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("a document is replaced by a map or a list".to_owned());
        }
        *document = value;
        return Ok(());
    }
    let (here, key) = place(document, path)?;
    match here {
        Value::Array(list) => {
            let at = index(&key, list.len())?;
            list[at] = value;
        }
        map => map[&key] = value,
    }
    Ok(())
}

fn test(document: &mut Value, path: &str, wanted: &Value) -> Result<(), String> {
    let found = if path.is_empty() { document } else { get(document, path)? };
    if found == wanted { Ok(()) } else { Err(format!("{path:?} is not what it was tested to be")) }
}

/// A patch of the wrong JSON type, in the words of Go's decoder.
fn wrong_type(patch: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", go::kind(patch))
}

/// Refuses a value that would nest the document beyond its bound.
fn check_depth(path: &str, value: &Value) -> Result<(), String> {
    let is_deep = path.split('/').count() + depth(value) > decode::DEPTH_MAX;
    if is_deep { Err("the result is nested too deeply".to_owned()) } else { Ok(()) }
}

fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// About what the value takes as JSON.
fn size_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => 2 + list.iter().map(|v| size_bytes(v) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(k, v)| k.len() + 4 + size_bytes(v)).sum::<usize>(),
        _ => 4,
    }
}

/// The patch with nothing said of what is not there in a list: a list is taken as a whole, and has nothing to be taken from.
fn without_nulls_in_lists(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(k, v)| (k, without_nulls_in_lists(v))).collect(),
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        scalar => scalar,
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        scalar => scalar,
    }
}

/// Applies a merge patch: maps merge, null deletes, everything else replaces.
pub fn merge_patch(mut document: Value, patch: &[u8], look: Look) -> Result<Value, PatchError> {
    let bad = || PatchError::Malformed("Invalid JSON Patch".to_owned());
    let parsed = match decode::parse(patch) {
        Ok(parsed) => parsed.value,
        Err(e) if look == Look::Close => return Err(unreadable(&e.to_string(), look)),
        Err(_) => return Err(bad()),
    };
    match &parsed {
        Value::Object(_) => json_patch::merge(&mut document, &without_nulls_in_lists(parsed)),
        Value::Null => return Err(bad()),
        other if look == Look::Close => {
            return Err(unreadable(&wrong_type(other, "map[string]interface {}"), look));
        }
        // A list takes the place of all.
        Value::Array(_) => document = strategic::clean(parsed),
        _ => return Err(bad()),
    }
    Ok(document)
}
