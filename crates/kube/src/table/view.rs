//! An object seen by a printer: fields by dotted path, with Go's zero values for what is absent, and the texts that many
//! printers share.

use super::human;
use serde_json::Value;
use stoa_units::Time;

static NULL: Value = Value::Null;

/// The value at a dotted path; null where it ends early.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |v, key| v.get(key).unwrap_or(&NULL))
}

/// The text at a dotted path, or empty.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The whole number at a dotted path, or 0.
pub(super) fn number(value: &Value, path: &str) -> i64 {
    at(value, path).as_i64().unwrap_or_default()
}

/// The list at a dotted path, or an empty one.
pub(super) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    at(value, path).as_array().map(Vec::as_slice).unwrap_or_default()
}

/// How many entries the map at a dotted path has.
pub(super) fn count(value: &Value, path: &str) -> usize {
    at(value, path).as_object().map_or(0, serde_json::Map::len)
}

/// The text, or what stands for its absence.
pub(super) fn or<'a>(text: &'a str, absent: &'a str) -> &'a str {
    if text.is_empty() { absent } else { text }
}

/// The number or text, as text, or what stands for its absence.
pub(super) fn shown(value: &Value, absent: &str) -> String {
    match value {
        Value::Null => absent.to_owned(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// `a=b,c=d`, or `<none>`.
pub(super) fn format_labels(labels: &Value) -> String {
    let pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    or(&pairs.join(","), "<none>").to_owned()
}

/// A label selector object in the form of a query: `a=b,c in (x,y)`; empty if it selects everything or nothing.
pub(super) fn selector_query(selector: &Value) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut terms: Vec<(&str, String)> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for expression in list(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values: Vec<&str> = list(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let term = match text(expression, "operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return "<error>".to_owned(),
        };
        terms.push((key, term));
    }
    terms.sort_by_key(|(key, _)| *key);
    terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(",")
}

/// As [`selector_query`], with `<none>` for the empty one.
pub(super) fn format_selector(selector: &Value) -> String {
    or(&selector_query(selector), "<none>").to_owned()
}

/// Names and images of containers, each joined by commas.
pub(super) fn containers(pod_spec: &Value) -> (String, String) {
    let join =
        |key: &str| list(pod_spec, "containers").iter().map(|c| text(c, key)).collect::<Vec<_>>().join(",");
    (join("name"), join("image"))
}

/// At most `max` entries, then how many more there are.
pub(super) fn first_of(entries: &[String], max: usize) -> String {
    let shown = entries.iter().take(max).cloned().collect::<Vec<_>>().join(",");
    match entries.len().checked_sub(max) {
        Some(more) if more > 0 => format!("{shown} + {more} more..."),
        _ => shown,
    }
}

/// The condition of that type.
pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "status.conditions").iter().find(|c| text(c, "type") == kind)
}

/// An object and the time at which it is looked at.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub object: &'a Value,
    pub now: Time,
}

impl<'a> View<'a> {
    pub fn at(self, path: &str) -> &'a Value {
        at(self.object, path)
    }

    pub fn text(self, path: &str) -> &'a str {
        text(self.object, path)
    }

    pub fn number(self, path: &str) -> i64 {
        number(self.object, path)
    }

    pub fn flag(self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or_default()
    }

    pub fn list(self, path: &str) -> &'a [Value] {
        list(self.object, path)
    }

    pub fn name(self) -> Value {
        Value::from(self.text("metadata.name"))
    }

    pub fn age(self) -> Value {
        Value::from(self.since("metadata.creationTimestamp"))
    }

    pub fn created_at(self) -> Value {
        Value::from(self.text("metadata.creationTimestamp"))
    }

    pub fn since(self, path: &str) -> String {
        human::age(self.now, self.at(path).as_str())
    }

    pub fn is_deleting(self) -> bool {
        self.at("metadata.deletionTimestamp").is_string()
    }
}
