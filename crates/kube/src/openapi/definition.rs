//! Definitions: one schema a type, with the `x-kubernetes-` extensions by which clients merge and explain.

use super::Dialect;
use crate::resource::resources;
use crate::schema::{Field, Kind, ListType, Type};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

const DESCRIPTIONS_TSV: &str = include_str!("../../data/descriptions.tsv");
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The name of a type in OpenAPI: `io.k8s.api.core.v1.Pod`.
pub(super) fn name(ty: Type<'_>) -> String {
    let name = ty.name();
    match name.split('.').next().unwrap_or_default() {
        "apis" => format!("io.k8s.apimachinery.pkg.{name}"),
        "api" | "util" => format!("io.k8s.apimachinery.pkg.{name}"),
        "runtime" => "io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(),
        "apiextensions" => format!("io.k8s.apiextensions-apiserver.pkg.apis.{name}"),
        "apiregistration" => format!("io.k8s.kube-aggregator.pkg.apis.{name}"),
        _ => format!("io.k8s.api.{name}"),
    }
}

/// The types that the roots are made of, themselves included, sorted by name.
pub(super) fn reachable(mut roots: Vec<Type<'static>>) -> impl Iterator<Item = Type<'static>> {
    let mut found: BTreeMap<&'static str, Type<'static>> = BTreeMap::new();
    while let Some(ty) = roots.pop() {
        if !matches!(ty.kind(), Kind::Struct(_)) || found.insert(ty.name(), ty).is_some() {
            continue;
        }
        roots.extend(ty.fields().filter_map(|f| struct_in(f.kind())));
    }
    found.into_values()
}

fn struct_in(kind: Kind<'static>) -> Option<Type<'static>> {
    match kind {
        Kind::Struct(ty) => Some(ty),
        Kind::List(element) | Kind::Map(element) => struct_in(element.kind()),
        _ => None,
    }
}

/// Definitions of the scalars that have a name.
pub(super) fn scalars(dialect: Dialect) -> Vec<(String, Value)> {
    let (quantity, int_or_string) = match dialect {
        Dialect::V2 => (json!({"type": "string"}), json!({"type": "string", "format": "int-or-string"})),
        Dialect::V3 => (
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
    };
    let time = json!({"type": "string", "format": "date-time"});
    vec![
        (format!("{META}.Time"), time.clone()),
        (format!("{META}.MicroTime"), time),
        (format!("{META}.Patch"), json!({"type": "object"})),
        ("io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(), quantity),
        ("io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(), int_or_string),
    ]
}

/// The schema of a type.
pub(super) fn write(ty: Type<'_>, dialect: Dialect) -> Value {
    let mut out = Map::new();
    out.insert("type".to_owned(), json!("object"));
    if let Some(text) = description(ty.name(), "") {
        out.insert("description".to_owned(), json!(text));
    }
    let properties: Map<String, Value> =
        ty.fields().map(|f| (f.name().to_owned(), property(ty, f, dialect))).collect();
    if !properties.is_empty() {
        out.insert("properties".to_owned(), Value::Object(properties));
    }
    let required: Vec<&str> = ty.fields().filter(|f| f.is_required()).map(Field::name).collect();
    if !required.is_empty() {
        out.insert("required".to_owned(), json!(required));
    }
    let kinds = kinds(ty);
    if !kinds.is_empty() {
        out.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
    }
    if ty.is_atomic() {
        out.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    if let Ok(unions @ Value::Array(_)) = serde_json::from_str(ty.unions()) {
        out.insert("x-kubernetes-unions".to_owned(), unions);
    }
    Value::Object(out)
}

/// The kinds whose objects are of this type.
fn kinds(ty: Type<'_>) -> Vec<Value> {
    let gvk =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    // Options and events of the machinery belong to every group.
    if matches!(ty.name(), "apis.meta.v1.DeleteOptions" | "apis.meta.v1.WatchEvent") {
        return resources()
            .group_versions()
            .iter()
            .map(|gv| gvk(gv.group, gv.version, ty.short_name()))
            .collect();
    }
    if matches!(ty.name(), "apis.meta.v1.Status" | "apis.meta.v1.APIResourceList") {
        return vec![gvk("", "v1", ty.short_name())];
    }
    if ty.field("apiVersion").is_none() || ty.field("kind").is_none() {
        return Vec::new();
    }
    let gv = resources().group_versions().iter().find(|gv| {
        crate::schema::type_name(gv.group, gv.version, ty.short_name()) == ty.name()
            && ty.field("metadata").is_some()
    });
    gv.map(|gv| gvk(gv.group, gv.version, ty.short_name())).into_iter().collect()
}

/// What a field (or, without one, a type) is for. Most have no description.
pub(super) fn description(ty: &str, field: &str) -> Option<&'static str> {
    static TEXTS: OnceLock<HashMap<(&str, &str), &str>> = OnceLock::new();
    let texts = TEXTS.get_or_init(|| {
        DESCRIPTIONS_TSV
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|line| {
                let (ty, rest) = line.split_once('\t')?;
                let (field, text) = rest.split_once('\t')?;
                Some(((ty, field), text))
            })
            .collect()
    });
    texts.get(&(ty, field)).copied()
}

fn property(ty: Type<'_>, field: Field<'_>, dialect: Dialect) -> Value {
    let mut schema = of_kind(field.kind(), dialect);
    let mut extras: Vec<(&str, Value)> = Vec::new();
    if let Some(text) = description(ty.name(), field.name()) {
        extras.push(("description", json!(text)));
    }
    if let Some(default) = field.default().and_then(|d| serde_json::from_str::<Value>(d).ok()) {
        extras.push(("default", default));
    }
    let values: Vec<&str> = field.enum_values().collect();
    if !values.is_empty() {
        extras.push(("enum", json!(values)));
    }
    if matches!(field.kind(), Kind::List(_)) {
        let keys: Vec<&str> = field.map_keys().collect();
        let list_type = match field.list_type() {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        extras.push(("x-kubernetes-list-type", json!(list_type)));
        if !keys.is_empty() {
            extras.push(("x-kubernetes-list-map-keys", json!(keys)));
        }
    }
    let strategy = field.patch_strategy();
    let strategies: Vec<&str> =
        [(strategy.merge, "merge"), (strategy.retain_keys, "retainKeys"), (strategy.replace, "replace")]
            .into_iter()
            .filter_map(|(is_set, word)| is_set.then_some(word))
            .collect();
    if !strategies.is_empty() {
        extras.push(("x-kubernetes-patch-strategy", json!(strategies.join(","))));
    }
    if let Some(key) = field.merge_key() {
        extras.push(("x-kubernetes-patch-merge-key", json!(key)));
    }
    if field.is_atomic() || field.is_granular() {
        extras.push(("x-kubernetes-map-type", json!(if field.is_atomic() { "atomic" } else { "granular" })));
    }
    if extras.is_empty() {
        return schema;
    }
    // Beside a `$ref` nothing counts, so v3 wraps it; v2 readers look at the neighbours all the same.
    if dialect == Dialect::V3 && schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    if let Value::Object(map) = &mut schema {
        map.extend(extras.into_iter().map(|(k, v)| (k.to_owned(), v)));
    }
    schema
}

fn of_kind(kind: Kind<'_>, dialect: Dialect) -> Value {
    match kind {
        Kind::Any => json!({}),
        Kind::Open => json!({"type": "object"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int32 => json!({"type": "integer", "format": "int32"}),
        Kind::Int64 => json!({"type": "integer", "format": "int64"}),
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Text => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Time => dialect.reference(&format!("{META}.Time")),
        Kind::MicroTime => dialect.reference(&format!("{META}.MicroTime")),
        Kind::Quantity => dialect.reference("io.k8s.apimachinery.pkg.api.resource.Quantity"),
        Kind::IntOrString => dialect.reference("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        Kind::Struct(ty) => dialect.reference(&name(ty)),
        Kind::List(element) => json!({"type": "array", "items": element_of(element.kind(), dialect)}),
        Kind::Map(element) => {
            json!({"type": "object", "additionalProperties": element_of(element.kind(), dialect)})
        }
    }
}

/// Elements carry Go's zero value as their default, as on a stock server.
fn element_of(kind: Kind<'_>, dialect: Dialect) -> Value {
    let mut schema = of_kind(kind, dialect);
    let default = match kind {
        Kind::Text => json!(""),
        Kind::Int32 | Kind::Int64 => json!(0),
        Kind::Struct(_) => json!({}),
        _ => return schema,
    };
    if dialect == Dialect::V2 {
        return schema;
    }
    if schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    if let Value::Object(map) = &mut schema {
        map.insert("default".to_owned(), default);
    }
    schema
}
