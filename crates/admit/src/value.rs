//! Reading and filling JSON objects without ever panicking on their shape: a value of the wrong type reads as absent,
//! and nothing is written into it.

use serde_json::{Map, Value};

pub(crate) static NULL: Value = Value::Null;

/// The text under a key, or empty.
pub(crate) fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The integer under a key.
pub(crate) fn int(v: &Value, key: &str) -> Option<i64> {
    v.get(key).and_then(Value::as_i64)
}

/// The boolean under a key, or false.
pub(crate) fn flag(v: &Value, key: &str) -> bool {
    v.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// The elements of the list under a key.
pub(crate) fn items<'a>(v: &'a Value, key: &str) -> impl DoubleEndedIterator<Item = &'a Value> {
    v.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The texts of the list under a key.
pub(crate) fn texts<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    items(v, key).filter_map(Value::as_str)
}

/// The elements of the list under a key, to change them.
pub(crate) fn items_mut<'a>(v: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    v.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The entries of the object under a key.
pub(crate) fn pairs<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    v.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// Whether something other than null is under a key.
pub(crate) fn has(v: &Value, key: &str) -> bool {
    v.get(key).is_some_and(|x| !x.is_null())
}

/// Whether a list, map or text under a key is absent or empty.
pub(crate) fn is_empty(v: &Value, key: &str) -> bool {
    match v.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        Some(Value::Object(o)) => o.is_empty(),
        Some(_) => false,
    }
}

/// The value under a key, null if absent.
pub(crate) fn at<'a>(v: &'a Value, key: &str) -> &'a Value {
    v.get(key).unwrap_or(&NULL)
}

/// The value at the end of a path of keys, null if absent.
pub(crate) fn path<'a>(v: &'a Value, keys: &[&str]) -> &'a Value {
    keys.iter().fold(v, |v, k| at(v, k))
}

/// Sets a key unless something other than null is there; does nothing to what is no object.
pub(crate) fn set_default(v: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(map) = v.as_object_mut() {
        let slot = map.entry(key).or_insert(Value::Null);
        if slot.is_null() {
            *slot = default.into();
        }
    }
}

/// As [`set_default`], and replaces zero and the empty text too, which Go cannot tell from absence in such a field.
pub(crate) fn set_default_zero(v: &mut Value, key: &str, default: impl Into<Value>) {
    let zero = match v.get(key) {
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        Some(Value::String(s)) => s.is_empty(),
        _ => false,
    };
    if zero {
        set(v, key, default);
    } else {
        set_default(v, key, default);
    }
}

/// Sets a key; does nothing to what is no object.
pub(crate) fn set(v: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(map) = v.as_object_mut() {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes a key.
pub(crate) fn remove(v: &mut Value, key: &str) -> Option<Value> {
    v.as_object_mut()?.remove(key)
}

/// The object under a key, made if absent; `None` where something else is in the way.
pub(crate) fn ensure<'a>(v: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    set_default(v, key, Map::new());
    v.get_mut(key).filter(|c| c.is_object())
}

/// The list under a key, made if absent; `None` where something else is in the way.
pub(crate) fn ensure_list<'a>(v: &'a mut Value, key: &str) -> Option<&'a mut Vec<Value>> {
    set_default(v, key, Vec::<Value>::new());
    v.get_mut(key).and_then(Value::as_array_mut)
}

/// The value at the end of a path of keys, if it is there.
pub(crate) fn path_mut<'a>(v: &'a mut Value, keys: &[&str]) -> Option<&'a mut Value> {
    keys.iter().try_fold(v, |v, k| v.get_mut(*k))
}

/// Whether two values say the same; nothing and an empty map do.
pub(crate) fn is_same(a: &Value, b: &Value) -> bool {
    let is_nothing = |v: &Value| match v {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(key, v)| is_same(v, at(b, key)))
                && y.iter().all(|(key, v)| x.contains_key(key) || is_nothing(v))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(a, b)| is_same(a, b))
        }
        _ => a == b || is_nothing(a) && is_nothing(b),
    }
}
