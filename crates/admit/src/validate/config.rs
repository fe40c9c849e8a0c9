//! Config maps and secrets: keys, sizes, and those that may never change again.

use base64::Engine;
use serde_json::Value;
use stoa_kube::Cause;

use super::container::config_key;
use super::field::{Errors, Path};
use crate::value::{at, flag, has, pairs, text};

/// All values of an object together.
const DATA_BYTES_MAX: usize = 1024 * 1024;

fn encoded_len(v: &Value) -> usize {
    // Four characters of base64 are three bytes, less the padding.
    let s = v.as_str().unwrap_or_default().trim_end_matches('=');
    s.len() * 3 / 4
}

pub(super) fn config_map(object: &Value, errors: &mut Errors) {
    let (data, binary) = (Path::root("data"), Path::root("binaryData"));
    let mut bytes = 0;
    for (key, value) in pairs(object, "data") {
        config_key(key, data.key(key), errors);
        if has(at(object, "binaryData"), key) {
            let why = "duplicate of key present in binaryData";
            errors.push(Cause::invalid(data.key(key), key.as_str(), why));
        }
        bytes += value.as_str().map_or(0, str::len);
    }
    for (key, value) in pairs(object, "binaryData") {
        config_key(key, binary.key(key), errors);
        bytes += encoded_len(value);
    }
    if bytes > DATA_BYTES_MAX {
        // The stock server names no field here, and prints that so.
        errors.push(Cause::too_long("[]", DATA_BYTES_MAX));
    }
}

pub(super) fn config_map_change(old: &Value, new: &Value, errors: &mut Errors) {
    frozen(old, new, &["data", "binaryData"], errors);
}

/// What was declared immutable stays so.
fn frozen(old: &Value, new: &Value, keys: &[&str], errors: &mut Errors) {
    if !flag(old, "immutable") {
        return;
    }
    const WHY: &str = "field is immutable when `immutable` is set";
    if !flag(new, "immutable") {
        errors.push(Cause::forbidden("immutable", WHY));
    }
    for key in keys {
        if at(old, key) != at(new, key) {
            errors.push(Cause::forbidden(*key, WHY));
        }
    }
}

pub(super) fn secret(object: &Value, errors: &mut Errors) {
    let data = Path::root("data");
    let mut bytes = 0;
    for (key, value) in pairs(object, "data") {
        config_key(key, data.key(key), errors);
        bytes += encoded_len(value);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(Cause::too_long("data", DATA_BYTES_MAX));
    }
    typed(object, data, errors);
}

/// A secret of a known type has the keys that its readers look for.
fn typed(object: &Value, data: Path<'_>, errors: &mut Errors) {
    let values = at(object, "data");
    let mut need = |key: &str| {
        if !has(values, key) {
            errors.push(Cause::required(data.key(key), ""));
        }
    };
    match text(object, "type") {
        "kubernetes.io/service-account-token" => {
            let notes = at(at(object, "metadata"), "annotations");
            if text(notes, "kubernetes.io/service-account.name").is_empty() {
                let meta = Path::root("metadata");
                let path = meta.child("annotations");
                errors.push(Cause::required(path.key("kubernetes.io/service-account.name"), ""));
            }
        }
        "kubernetes.io/dockercfg" => {
            need(".dockercfg");
            json_value(values, ".dockercfg", data, errors);
        }
        "kubernetes.io/dockerconfigjson" => {
            need(".dockerconfigjson");
            json_value(values, ".dockerconfigjson", data, errors);
        }
        "kubernetes.io/basic-auth" if !has(values, "username") && !has(values, "password") => {
            errors.push(Cause::required(data.key("username"), ""));
            errors.push(Cause::required(data.key("password"), ""));
        }
        "kubernetes.io/ssh-auth" if at(values, "ssh-privatekey").as_str().is_none_or(str::is_empty) => {
            errors.push(Cause::required(data.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

fn json_value(values: &Value, key: &str, data: Path<'_>, errors: &mut Errors) {
    let Some(encoded) = at(values, key).as_str() else { return };
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
    let why = match stoa_kube::decode::parse(&decoded).map(|parsed| parsed.value) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Number(_) => "number",
                _ => "bool",
            };
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        }
        Err(e) => e.to_string(),
    };
    // The value is a secret: the message does not show it.
    errors.push(Cause::invalid(data.key(key), "<secret contents redacted>", &why));
}

pub(super) fn secret_change(old: &Value, new: &Value, errors: &mut Errors) {
    if text(old, "type") != text(new, "type") {
        errors.push(Cause::immutable("type", text(new, "type")));
    }
    frozen(old, new, &["data"], errors);
}
