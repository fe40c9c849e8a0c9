//! Values as Go prints its internal types in a message: every field, set or not, by its Go name and in the order of its
//! declaration. Types of the meta group have one form only and are printed as they are written.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_kube::protobuf::field_number;
use stoa_kube::schema::{self, Field, Kind, Type};

use super::field::{Errors, Path};
use super::pod_diff::{HOST_FIELDS, find, order};
use crate::value::{at, ensure, remove, set};

/// The value of a type: `batch.v1.SuccessPolicy`.
pub(super) fn print(v: &Value, type_name: &str) -> String {
    let mut out = String::new();
    match schema::builtin().named(type_name) {
        Some(ty) if !v.is_null() => structure(v, ty, &mut out),
        _ => out.push_str(&v.to_string()),
    }
    out
}

/// A malformed value of a type.
pub(super) fn invalid(path: Path<'_>, v: &Value, type_name: &str, why: &str) -> Cause {
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Cause::new("FieldValueInvalid", path, format!("Invalid value: {}{why}", print(v, type_name)))
}

/// A field that never changes.
pub(super) fn immutable(
    old: &Value,
    new: &Value,
    key: &str,
    path: Path<'_>,
    type_name: &str,
    errors: &mut Errors,
) {
    if at(old, key) != at(new, key) {
        errors.push(invalid(path, at(new, key), type_name, "field is immutable"));
    }
}

fn structure(v: &Value, ty: Type<'_>, out: &mut String) {
    if is_meta(ty) {
        return written(v, Kind::Struct(ty), out);
    }
    let moved;
    let mut v = v;
    if ty.short_name() == "PodSpec" {
        moved = with_host_fields(v);
        v = &moved;
    }
    out.push('{');
    let mut first = true;
    for (go, field) in fields(ty) {
        let value = field.map_or(&Value::Null, |f| at(v, f.name()));
        if let Some(Kind::Struct(inner)) = field.map(Field::kind)
            && inner.short_name() == "ObjectMeta"
        {
            // Embedded: its fields are its holder's.
            let mut meta = String::new();
            written(value, Kind::Struct(inner), &mut meta);
            let meta = meta.strip_prefix('{').and_then(|m| m.strip_suffix('}')).unwrap_or_default();
            if !meta.is_empty() {
                comma(&mut first, out);
                out.push_str(meta);
            }
            continue;
        }
        comma(&mut first, out);
        out.push_str(&format!("\"{go}\":"));
        match field {
            Some(f) => internal(value, f.kind(), f.is_pointer(), out),
            None => out.push_str("null"),
        }
    }
    out.push('}');
}

fn comma(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

fn is_meta(ty: Type<'_>) -> bool {
    ty.name().starts_with("apis.meta.")
}

/// What a pod shares with its host is kept with the security context.
fn with_host_fields(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for key in HOST_FIELDS {
        if let Some(v) = remove(&mut spec, key)
            && let Some(context) = ensure(&mut spec, "securityContext")
        {
            set(context, key, v);
        }
    }
    spec
}

/// The fields of a type with their Go names, in the order of declaration.
fn fields(ty: Type<'_>) -> Vec<(String, Option<Field<'_>>)> {
    if let Some(names) = order(ty.short_name()) {
        return names.split_whitespace().map(|go| (go.to_owned(), find(ty, go))).collect();
    }
    let mut fields: Vec<Field<'_>> =
        ty.fields().filter(|f| !matches!(f.name(), "kind" | "apiVersion") || !has_meta(ty)).collect();
    fields.sort_by_key(|f| field_number(ty.name(), f.name()));
    fields.into_iter().map(|f| (go_name(f.name()), Some(f))).collect()
}

fn has_meta(ty: Type<'_>) -> bool {
    ty.field("metadata").is_some()
}

fn internal(v: &Value, kind: Kind<'_>, is_pointer: bool, out: &mut String) {
    match kind {
        Kind::Struct(ty) if !(v.is_null() && is_pointer) => structure(v, ty, out),
        Kind::List(element) if v.is_array() => {
            list(v, out, |v, out| internal(v, element.kind(), false, out));
        }
        Kind::Map(element) if v.is_object() => map(v, out, |v, out| internal(v, element.kind(), false, out)),
        _ if v.is_null() && !is_pointer => out.push_str(match kind {
            Kind::Bool => "false",
            Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => "0",
            Kind::Text => "\"\"",
            Kind::Quantity => "\"0\"",
            _ => "null",
        }),
        _ => out.push_str(&v.to_string()),
    }
}

/// As in JSON, in Go's order: what is there.
fn written(v: &Value, kind: Kind<'_>, out: &mut String) {
    match kind {
        Kind::Struct(ty) if v.is_object() => {
            let mut fields: Vec<Field<'_>> = ty.fields().filter(|f| !at(v, f.name()).is_null()).collect();
            fields.sort_by_key(|f| field_number(ty.name(), f.name()));
            out.push('{');
            let mut first = true;
            for f in fields {
                comma(&mut first, out);
                out.push_str(&format!("\"{}\":", f.name()));
                written(at(v, f.name()), f.kind(), out);
            }
            out.push('}');
        }
        Kind::List(element) if v.is_array() => list(v, out, |v, out| written(v, element.kind(), out)),
        Kind::Map(_) if v.is_object() => map(v, out, |v, out| out.push_str(&v.to_string())),
        Kind::Struct(_) if v.is_null() => out.push_str("{}"),
        _ => out.push_str(&v.to_string()),
    }
}

fn list(v: &Value, out: &mut String, each: impl Fn(&Value, &mut String)) {
    out.push('[');
    let mut first = true;
    for v in v.as_array().into_iter().flatten() {
        comma(&mut first, out);
        each(v, out);
    }
    out.push(']');
}

fn map(v: &Value, out: &mut String, each: impl Fn(&Value, &mut String)) {
    let mut entries: Vec<(&String, &Value)> = v.as_object().into_iter().flatten().collect();
    entries.sort_by_key(|(key, _)| *key);
    out.push('{');
    let mut first = true;
    for (key, v) in entries {
        comma(&mut first, out);
        out.push_str(&format!("{}:", Value::from(key.as_str())));
        each(v, out);
    }
    out.push('}');
}

/// Go writes abbreviations in capitals.
fn go_name(json: &str) -> String {
    const ABBREVIATIONS: [&str; 12] =
        ["api", "uid", "ip", "cidrs", "cidr", "url", "ca", "fs", "se", "cel", "csi", "id"];
    let head = json.len() - json.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
    let (word, rest) = json.split_at(head);
    if ABBREVIATIONS.contains(&word) || word == "ips" {
        let capitals = if word == "cidrs" { "CIDRs".to_owned() } else { word.to_ascii_uppercase() };
        return format!("{capitals}{rest}");
    }
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(|| rest.to_owned(), |c| format!("{}{}{rest}", c.to_ascii_uppercase(), chars.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_set_is_printed_too() {
        let policy =
            json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "A", "status": "True"}]}]});
        assert_eq!(
            print(&policy, "batch.v1.PodFailurePolicy"),
            r#"{"Rules":[{"Action":"Ignore","OnExitCodes":null,"OnPodConditions":[{"Type":"A","Status":"True"}]}]}"#
        );
        assert_eq!(print(&Value::Null, "batch.v1.SuccessPolicy"), "null");
        let reference = json!({"resource": "services", "name": "s"});
        assert_eq!(
            print(&reference, "networking.v1.ParentReference"),
            r#"{"Group":"","Resource":"services","Namespace":"","Name":"s"}"#
        );
        let selector = json!({"matchExpressions": [{"key": "k", "operator": "Exists"}], "matchLabels": {"b": "c", "a": "b"}});
        assert_eq!(
            print(&selector, "apis.meta.v1.LabelSelector"),
            r#"{"matchLabels":{"a":"b","b":"c"},"matchExpressions":[{"key":"k","operator":"Exists"}]}"#
        );
        assert_eq!(
            ["apiGroup", "uid", "nodeID", "cidrs"].map(go_name),
            ["APIGroup", "UID", "NodeID", "CIDRs"]
        );
    }

    #[test]
    fn a_template_shows_its_metadata_as_its_own() {
        let template =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [], "hostNetwork": true}});
        let shown = print(&template, "core.v1.PodTemplateSpec");
        assert!(
            shown.starts_with(
                r#"{"labels":{"a":"b"},"Spec":{"Volumes":null,"InitContainers":null,"Containers":[]"#
            ),
            "{shown}"
        );
        assert!(shown.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false"#), "{shown}");
    }
}
