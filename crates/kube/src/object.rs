//! An object as a JSON value with accessors for what every object has, and its serialisation with a gap for the revision.

use crate::meta::OwnerRef;
use serde::Deserialize;
use serde_json::{Map, Value};
use stoa_units::{Revision, Stamped, Time};

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(pub Value);

static NO_MAP: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl Object {
    /// Parses an object's JSON.
    pub fn read(bytes: &[u8]) -> Result<Object, serde_json::Error> {
        serde_json::from_slice(bytes).map(Object)
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn meta_text(&self, key: &str) -> &str {
        self.meta().get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn meta_map(&self, key: &str) -> &Map<String, Value> {
        self.meta().get(key).and_then(Value::as_object).unwrap_or(&NO_MAP)
    }

    fn meta_time(&self, key: &str) -> Option<Time> {
        self.meta().get(key).and_then(Value::as_str).and_then(Time::parse)
    }

    /// `apiVersion`, or empty.
    pub fn api_version(&self) -> &str {
        self.text("apiVersion")
    }

    /// `kind`, or empty.
    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    /// `metadata`, or an empty map.
    pub fn meta(&self) -> &Map<String, Value> {
        self.0.get("metadata").and_then(Value::as_object).unwrap_or(&NO_MAP)
    }

    /// `metadata` to write to; made if it is not there. Whatever stood there that is no map is replaced.
    pub fn meta_mut(&mut self) -> &mut Map<String, Value> {
        entry_map(as_map(&mut self.0), "metadata")
    }

    /// `metadata.labels` to write to; made if it is not there.
    pub fn labels_mut(&mut self) -> &mut Map<String, Value> {
        entry_map(self.meta_mut(), "labels")
    }

    /// `metadata.annotations` to write to; made if it is not there.
    pub fn annotations_mut(&mut self) -> &mut Map<String, Value> {
        entry_map(self.meta_mut(), "annotations")
    }

    /// `metadata.name`, or empty.
    pub fn name(&self) -> &str {
        self.meta_text("name")
    }

    /// `metadata.generateName`, or empty.
    pub fn generate_name(&self) -> &str {
        self.meta_text("generateName")
    }

    /// `metadata.namespace`, or empty.
    pub fn namespace(&self) -> &str {
        self.meta_text("namespace")
    }

    /// `metadata.uid`, or empty.
    pub fn uid(&self) -> &str {
        self.meta_text("uid")
    }

    /// `metadata.generation`, or 0.
    pub fn generation(&self) -> i64 {
        self.meta().get("generation").and_then(Value::as_i64).unwrap_or_default()
    }

    /// `metadata.resourceVersion`, if it is a revision.
    pub fn resource_version(&self) -> Option<Revision> {
        Revision::parse(self.meta_text("resourceVersion"))
    }

    /// `metadata.labels`, or an empty map.
    pub fn labels(&self) -> &Map<String, Value> {
        self.meta_map("labels")
    }

    /// `metadata.annotations`, or an empty map.
    pub fn annotations(&self) -> &Map<String, Value> {
        self.meta_map("annotations")
    }

    /// The label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().get(key).and_then(Value::as_str)
    }

    /// The annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations().get(key).and_then(Value::as_str)
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> Vec<&str> {
        let list = self.meta().get("finalizers").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// `metadata.ownerReferences`; entries that are no reference are left out.
    pub fn owner_references(&self) -> Vec<OwnerRef> {
        let list = self.meta().get("ownerReferences").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|o| OwnerRef::deserialize(o).ok()).collect()
    }

    /// The owner that manages this object.
    pub fn controller(&self) -> Option<OwnerRef> {
        self.owner_references().into_iter().find(|o| o.controller)
    }

    /// `metadata.creationTimestamp`.
    pub fn creation_timestamp(&self) -> Option<Time> {
        self.meta_time("creationTimestamp")
    }

    /// `metadata.deletionTimestamp`.
    pub fn deletion_timestamp(&self) -> Option<Time> {
        self.meta_time("deletionTimestamp")
    }

    /// Its JSON, which begins with version and kind as what is stored does.
    pub fn into_text(mut self) -> String {
        let mut take = |key: &str| self.0.as_object_mut().and_then(|map| map.remove(key)).unwrap_or_default();
        let (version, kind) = (take("apiVersion"), take("kind"));
        let rest = self.0.to_string();
        format!("{{\"apiVersion\":{version},\"kind\":{kind},{}", rest.get(1..).unwrap_or_default())
    }

    /// The JSON to store, in one pass, with a gap at `metadata.resourceVersion` for the revision of the commit.
    pub fn to_stamped(&self) -> Stamped {
        to_stamped(&self.0, None)
    }

    /// The same for an object without `metadata.managedFields`, with these, which are JSON already.
    pub fn to_stamped_with(&self, managed_fields: Option<&str>) -> Stamped {
        to_stamped(&self.0, managed_fields)
    }
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        // Just made one above.
        _ => unreachable!("the value was made a map"),
    }
}

fn entry_map<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    as_map(map.entry(key).or_insert(Value::Null))
}

fn write(out: &mut Vec<u8>, value: &Value) {
    // A JSON value always serialises, and a Vec always takes more.
    let _ = serde_json::to_writer(out, value);
}

fn write_key(out: &mut Vec<u8>, key: &str, first: &mut bool) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    let _ = serde_json::to_writer(&mut *out, key);
    out.push(b':');
}

fn to_stamped(value: &Value, managed_fields: Option<&str>) -> Stamped {
    let mut out = Vec::with_capacity(1024);
    let Value::Object(map) = value else {
        write(&mut out, value);
        return Stamped::plain(out);
    };
    out.push(b'{');
    let mut first = true;
    // The envelope goes first, so that a reader that wants only that may stop early.
    for key in ["apiVersion", "kind"] {
        if let Some(v) = map.get(key) {
            write_key(&mut out, key, &mut first);
            write(&mut out, v);
        }
    }
    write_key(&mut out, "metadata", &mut first);
    let meta = map.get("metadata").and_then(Value::as_object).unwrap_or(&NO_MAP);
    let slot = write_meta(&mut out, meta, managed_fields);
    for (key, v) in map.iter().filter(|(k, _)| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata")) {
        write_key(&mut out, key, &mut first);
        write(&mut out, v);
    }
    out.push(b'}');
    Stamped { bytes: out.into(), slot: Some(slot) }
}

/// Writes the metadata with an empty `resourceVersion` and returns where its digits go.
fn write_meta(out: &mut Vec<u8>, meta: &Map<String, Value>, managed_fields: Option<&str>) -> usize {
    out.extend_from_slice(b"{\"resourceVersion\":\"");
    let slot = out.len();
    out.push(b'"');
    let mut first = false;
    for (key, v) in meta.iter().filter(|(k, _)| *k != "resourceVersion") {
        write_key(out, key, &mut first);
        write(out, v);
    }
    if let Some(text) = managed_fields {
        write_key(out, "managedFields", &mut first);
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'}');
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_is_written_into_the_gap_and_nothing_else_changes() {
        for mut value in [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "3", "zzz": "\"resourceVersion\""},
                   "data": {"resourceVersion": "x"}, "aaa": [1, null]}),
            json!({"kind": "X"}),
            json!({"metadata": {}, "spec": {}}),
        ] {
            let stamped = Object(value.clone()).to_stamped();
            let read: Value = serde_json::from_slice(&stamped.at(Revision(42))).expect("JSON");
            value.as_object_mut().expect("map").entry("metadata").or_insert(json!({}));
            value["metadata"]["resourceVersion"] = json!("42");
            assert_eq!(read, value);
        }
    }

    #[test]
    fn a_record_that_is_text_already_is_written_as_it_is() {
        let object = Object(json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}}));
        let stamped = object.to_stamped_with(Some(r#"[{"manager":"m"}]"#));
        let read: Value = serde_json::from_slice(&stamped.at(Revision(7))).expect("JSON");
        let meta = json!({"name": "a", "resourceVersion": "7", "managedFields": [{"manager": "m"}]});
        assert_eq!(read["metadata"], meta);
    }

    #[test]
    fn metadata_is_made_where_it_is_written() {
        let mut object = Object(json!({"metadata": 1}));
        object.labels_mut().insert("a".into(), json!("b"));
        assert_eq!(object.label("a"), Some("b"));
        assert_eq!(object.annotation("a"), None);
        assert!(object.finalizers().is_empty());
    }

    proptest::proptest! {
        #[test]
        fn stamping_round_trips_any_strings(name in ".*", key in ".*", text in ".*") {
            let value = json!({"metadata": {"name": name, "annotations": {key.clone(): text}}, key: 1});
            let stamped = Object(value.clone()).to_stamped();
            let mut read: Value = serde_json::from_slice(&stamped.at(Revision(9))).expect("JSON");
            read["metadata"].as_object_mut().expect("map").remove("resourceVersion");
            let mut want = value;
            if let Some(m) = want["metadata"].as_object_mut() { m.remove("resourceVersion"); }
            proptest::prop_assert_eq!(read, want);
        }
    }
}
