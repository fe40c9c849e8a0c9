//! JSON patch and merge patch. Operations run one at a time, so that copies can be counted: a few of them that double the
//! document would otherwise fill the memory.

#[cfg(test)]
mod tests;

use crate::error::PatchError;
use crate::go;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;
use stoa_kube::decode;

/// How many operations a JSON patch may have; the stock server's limit.
pub const OPERATIONS_MAX: usize = 10_000;
/// How many bytes the copies of one JSON patch may add; the stock server's limit.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Applies a JSON patch, which is all or nothing.
pub fn json_patch(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let parsed =
        decode::parse(patch).map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?.value;
    if !parsed.is_array() {
        return Err(wrong_type(&parsed, "[]interface {}"));
    }
    let count = parsed.as_array().map_or(0, Vec::len);
    if count > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    let operations = operations(parsed)?;
    let mut result = document.clone();
    let mut copied_bytes = 0;
    for operation in operations {
        check_growth(&result, &operation, &mut copied_bytes)?;
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(&operation))
            .map_err(|e| PatchError::Refused(e.to_string()))?;
    }
    Ok(result)
}

/// What is no object is no operation; an operation that makes no sense is one that cannot be carried out.
fn operations(parsed: Value) -> Result<Vec<PatchOperation>, PatchError> {
    let Value::Array(mut list) = parsed else { return Ok(Vec::new()) };
    for operation in &mut list {
        let Value::Object(map) = operation else {
            let found = go::kind(operation);
            let why = format!("json: cannot unmarshal {found} into Go value of type jsonpatch.Operation");
            return Err(PatchError::Malformed(why));
        };
        // A value that is not there is null.
        if matches!(map.get("op").and_then(Value::as_str), Some("add" | "replace" | "test")) {
            map.entry("value").or_insert(Value::Null);
        }
    }
    let Patch(operations) =
        serde_json::from_value(Value::Array(list)).map_err(|e| PatchError::Refused(e.to_string()))?;
    Ok(operations)
}

/// A patch of the wrong JSON type, in the words of Go's decoder.
fn wrong_type(patch: &Value, wanted: &str) -> PatchError {
    let found = go::kind(patch);
    PatchError::Malformed(format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type {wanted}"
    ))
}

/// Refuses an operation that would nest or grow the document beyond its bounds.
fn check_growth(
    document: &Value,
    operation: &PatchOperation,
    copied_bytes: &mut usize,
) -> Result<(), PatchError> {
    let placed = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Copy(copy) => document.pointer(copy.from.as_str()),
        PatchOperation::Move(from) => document.pointer(from.from.as_str()),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let Some(value) = placed else { return Ok(()) };
    if operation.path().count() + depth(value) > decode::DEPTH_MAX {
        return Err(PatchError::Refused("the result is nested too deeply".to_owned()));
    }
    if matches!(operation, PatchOperation::Copy(_)) {
        *copied_bytes += size_bytes(value);
        if *copied_bytes > COPIED_BYTES_MAX {
            return Err(PatchError::Refused(format!(
                "the copies add {copied_bytes} bytes, which exceeds the limit of {COPIED_BYTES_MAX}"
            )));
        }
    }
    Ok(())
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

/// Applies a merge patch: maps merge, null deletes, everything else replaces.
pub fn merge_patch(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch =
        decode::parse(patch).map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?.value;
    if !patch.is_object() {
        return Err(wrong_type(&patch, "map[string]interface {}"));
    }
    let mut result = document.clone();
    json_patch::merge(&mut result, &patch);
    Ok(result)
}
