use super::wire::{put_bytes, put_int};
use super::*;
use crate::resource::resources;
use proptest::prelude::*;
use serde_json::json;

/// Fields by hand: a number and bytes, or a number.
fn bytes(number: u32, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, number, value);
    out
}

fn int(number: u32, value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put_int(&mut out, number, value);
    out
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw), bytes(3, b""), bytes(4, b"")].concat()
}

#[test]
fn a_pod_is_read_with_what_is_embedded_in_its_place() {
    let volume = [bytes(1, b"v"), bytes(2, &bytes(6, &bytes(1, b"s")))].concat();
    let port = [bytes(1, b"http"), int(2, 0), int(3, 80), bytes(4, b"")].concat();
    let limits = bytes(1, &[bytes(1, b"cpu"), bytes(2, &bytes(1, b"500m"))].concat());
    let probe = [bytes(1, &bytes(2, &bytes(2, &[int(1, 0), int(2, 8080)].concat()))), int(3, 5)].concat();
    let container =
        [bytes(1, b"c"), bytes(2, b"nginx"), bytes(6, &port), bytes(8, &limits), bytes(10, &probe)].concat();
    let meta =
        [bytes(1, b"p"), bytes(2, b""), bytes(8, b""), bytes(11, &[bytes(1, b"a"), bytes(2, b"b")].concat())]
            .concat();
    let spec = [bytes(1, &volume), bytes(2, &container), int(4, 0), int(5, -1), int(11, 0)].concat();
    let pod = [bytes(1, &meta), bytes(2, &spec), bytes(3, b"")].concat();
    assert_eq!(
        decode(&body("v1", "Pod", &pod)).unwrap(),
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {
                "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
                "containers": [{"name": "c", "image": "nginx", "ports": [{"name": "http", "containerPort": 80}],
                    "resources": {"limits": {"cpu": "500m"}},
                    "livenessProbe": {"httpGet": {"port": 8080}, "timeoutSeconds": 5}}],
                // A pointer's zero is said, a plain boolean's is not.
                "terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": -1},
            "status": {}})
    );
}

#[test]
fn a_config_map_is_written_to_the_byte() {
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "m", "creationTimestamp": "1970-01-01T00:00:05Z"},
        "data": {"a": "1", "b": ""}, "bogus": 1, "immutable": false});
    let meta = [bytes(1, b"m"), bytes(8, &[int(1, 5), int(2, 0)].concat())].concat();
    let entries = [
        bytes(2, &[bytes(1, b"a"), bytes(2, b"1")].concat()),
        bytes(2, &[bytes(1, b"b"), bytes(2, b"")].concat()),
    ];
    let raw = [bytes(1, &meta), entries.concat(), int(4, 0)].concat();
    assert_eq!(encode(&object).unwrap(), body("v1", "ConfigMap", &raw));
}

#[test]
fn bodies_that_are_not_what_they_say_are_refused() {
    for bad in [
        b"".to_vec(),
        b"{}".to_vec(),
        body("v1", "Nope", b""),
        body("v1", "Pod", &[0xff; 20]),
        body("v1", "Pod", &bytes(1, &[0x0a, 0x7f])),
        body("v1", "Pod", &int(1, 5)),
        body("v1", "ConfigMap", &bytes(1, &bytes(1, b"\xff"))),
    ] {
        assert!(decode(&bad).is_err(), "{bad:?}");
    }
    for bad in [
        json!({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": {}}}),
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": 1}}),
        json!({"kind": "Secret", "apiVersion": "v1", "data": {"a": "no base64!"}}),
        json!({"kind": "Nope", "apiVersion": "v1"}),
        json!([]),
    ] {
        assert!(encode(&bad).is_err(), "{bad}");
    }
}

#[test]
fn messages_that_nest_without_end_are_refused() {
    // A schema's `not` (28) within itself.
    let mut schema = bytes(5, b"object");
    for _ in 0..1000 {
        schema = bytes(28, &schema);
    }
    let crd = bytes(2, &bytes(7, &bytes(4, &bytes(1, &schema))));
    let envelope = body("apiextensions.k8s.io/v1", "CustomResourceDefinition", &crd);
    assert_eq!(decode(&envelope), Err(Error::Malformed("messages nest too deep")));
    // Objects in an extension within another.
    let mut inner = body("apps/v1", "ControllerRevision", b"");
    for _ in 0..1000 {
        inner = body("apps/v1", "ControllerRevision", &bytes(2, &bytes(1, &inner)));
    }
    assert_eq!(decode(&inner), Err(Error::Malformed("messages nest too deep")));
}

#[test]
fn options_are_read_under_any_group() {
    let raw = [int(1, 0), bytes(4, b"Foreground")].concat();
    assert_eq!(
        decode(&body("apps/v1", "DeleteOptions", &raw)).unwrap(),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "propagationPolicy": "Foreground"})
    );
}

#[test]
fn repeated_numbers_are_read_packed_or_not() {
    let group = |raw: &[u8]| decode(&body("v1", "Pod", &bytes(2, &bytes(14, raw)))).unwrap();
    let want = json!([1, 300]);
    assert_eq!(
        group(&[int(4, 1), int(4, 300)].concat())["spec"]["securityContext"]["supplementalGroups"],
        want
    );
    assert_eq!(group(&bytes(4, &[1, 0xac, 2]))["spec"]["securityContext"]["supplementalGroups"], want);
}

#[test]
fn every_kind_and_its_list_has_a_message() {
    let table = table::builtin();
    for resource in resources().iter() {
        let version = resource.api_version();
        assert!(find(table, &version, resource.kind).is_ok(), "{version} {}", resource.kind);
        if resource.has_verb("list") {
            assert!(List::new(&version, resource.list_kind, &json!({})).is_ok(), "{}", resource.list_kind);
        }
        for sub in resource.subresources {
            // Tunnels have options in their query, and no body.
            if ["exec", "attach", "portforward", "proxy"].contains(&sub.name) {
                continue;
            }
            let version = [sub.group, sub.version].join("/");
            let version = version.trim_start_matches('/');
            assert!(find(table, version, sub.kind).is_ok(), "{version} {}", sub.kind);
        }
    }
}

/// The schema table and this one were read off different documents; each field of the one is in the other.
#[test]
fn the_table_has_the_fields_of_the_schema_and_no_others() {
    fn names(table: &Table, id: table::Id, out: &mut Vec<&'static str>) {
        for field in table.fields(id) {
            match (field.label, field.element) {
                (table::Label::Embedded, table::Element::Message(inner)) => names(table, inner, out),
                _ => out.push(field.name),
            }
        }
    }
    let table = table::builtin();
    for name in table.names() {
        let (Some(id), Some(ty)) = (table.named(name), crate::schema::builtin().named(name)) else {
            continue;
        };
        let mut ours = Vec::new();
        names(table, id, &mut ours);
        ours.sort_unstable();
        // Those two are the envelope's, except in references to other objects.
        ours.retain(|f| !["apiVersion", "kind"].contains(f));
        let theirs = ty.fields().map(|f| f.name()).filter(|f| !["apiVersion", "kind"].contains(f));
        assert_eq!(ours, theirs.collect::<Vec<_>>(), "{name}");
    }
}

/// Puts real times in the place of those that a recording blanked.
fn filled(value: &mut Value) {
    match value {
        Value::String(text) => {
            let blank = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or_default();
            if blank == "time" || blank.ends_with("Time") || blank.ends_with("Timestamp") {
                *text = "2026-01-02T03:04:05Z".into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(filled),
        Value::Object(map) => map.values_mut().for_each(filled),
        _ => {}
    }
}

/// What no message can say: nulls.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(without_nulls);
        }
        _ => {}
    }
}

#[test]
fn what_a_stock_server_answered_survives_the_way_there_and_back() {
    let mut seen = 0;
    for line in include_str!("../../testdata/exchanges.jsonl").lines() {
        let exchange: Value = serde_json::from_str(line).unwrap();
        let mut object = exchange["response"].clone();
        filled(&mut object);
        // Only objects that stand alone say their kind.
        if let Some(claims) = object.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut) {
            for claim in claims.iter_mut().filter_map(Value::as_object_mut) {
                claim.retain(|k, _| !["apiVersion", "kind"].contains(&k.as_str()));
            }
        }
        if find(table::builtin(), text(&object, "apiVersion"), text(&object, "kind")).is_err() {
            continue;
        }
        seen += 1;
        let mut back = decode(&encode(&object).unwrap()).unwrap();
        for value in [&mut object, &mut back] {
            without_nulls(value);
            without_empty(value);
        }
        assert_eq!(back, object, "{}", exchange["name"]);
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn special_messages_survive_the_way_there_and_back() {
    for object in [
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a"},
            "spec": {"group": "g", "names": {"kind": "K", "plural": "ks"}, "scope": "Namespaced", "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "$schema": "s", "type": "object", "x-kubernetes-preserve-unknown-fields": false,
                    "additionalProperties": false, "default": {"a": [1, null]}, "minimum": 1.5, "enum": ["x", 1, null],
                    "items": {"type": "string"}, "properties": {"p": {"items": [{"type": "integer"}]},
                        "q": {"additionalProperties": {"type": "string"}}},
                    "dependencies": {"d": ["e"], "f": {"type": "null"}}}}}]},
            "status": {"acceptedNames": {"kind": "K", "plural": "ks"}, "conditions": null, "storedVersions": null}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l", "managedFields": [
                {"manager": "m", "fieldsV1": {"f:spec": {}}, "time": "1969-12-31T23:59:58Z"}]},
            "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": 0}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}, "spec": {"replicas": 0, "selector": null,
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": {"metadata": {}, "spec": {"containers": null}}}, "status": {}}),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": "u", "extra": {"k": ["a", "b"]}}, "status": {"allowed": false}}),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404,
            "details": {"name": "x", "causes": [{"field": "f"}]}}),
        json!({"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": false, "kind": "Pod", "verbs": ["get"]}]}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"k": "AP8="}}),
    ] {
        let mut back = decode(&encode(&object).unwrap()).unwrap();
        let mut object = object;
        without_nulls(&mut back);
        without_nulls(&mut object);
        assert_eq!(back, object);
    }
}

#[test]
fn a_list_is_one_envelope() {
    let object = |name: &str| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});
    let list = List::new("v1", "ConfigMapList", &json!({"resourceVersion": "7"})).unwrap();
    let mut items = Vec::new();
    list.put(&mut items, &object("a")).unwrap();
    list.put(&mut items, &object("b")).unwrap();
    let whole = [&list.head(items.len())[..], &items, &List::tail()].concat();
    let items = [bytes(2, &bytes(1, &bytes(1, b"a"))), bytes(2, &bytes(1, &bytes(1, b"b")))].concat();
    assert_eq!(whole, body("v1", "ConfigMapList", &[bytes(1, &bytes(2, b"7")), items].concat()));
}

#[test]
fn a_watch_event_is_framed_by_its_length() {
    let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}});
    let mut out = vec![9];
    put_watch_event(&mut out, "ADDED", &object).unwrap();
    let event = [bytes(1, b"ADDED"), bytes(2, &bytes(1, &encode(&object).unwrap()))].concat();
    assert_eq!(out, [&[9, 0, 0, 0, event.len() as u8][..], &event].concat());
    assert!(put_watch_event(&mut out, "ADDED", &json!({"kind": "Nope"})).is_err());
    assert_eq!(out.len(), event.len() + 5);
}

/// Draws objects of any message, with any of its fields.
struct Draw {
    state: u64,
    /// How many fields are still drawn, so that the object has an end.
    left: usize,
}

impl Draw {
    fn next(&mut self, below: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn object(&mut self, table: &Table, id: table::Id, depth: usize, out: &mut Map<String, Value>) {
        for field in table.fields(id) {
            if self.left == 0 || self.next(3 + depth as u64) > 2 {
                continue;
            }
            self.left -= 1;
            let value = match (field.label, field.element) {
                (table::Label::Embedded, table::Element::Message(inner)) => {
                    self.object(table, inner, depth, out);
                    continue;
                }
                (table::Label::Repeated, kind) => {
                    (0..1 + self.next(3)).map(|_| self.element(table, kind, depth)).collect()
                }
                (table::Label::Map, kind) => {
                    let one =
                        |draw: &mut Draw| (format!("k{}", draw.next(9)), draw.element(table, kind, depth));
                    Value::Object((0..1 + self.next(3)).map(|_| one(self)).collect())
                }
                (_, kind) => self.element(table, kind, depth),
            };
            out.insert(field.name.into(), value);
        }
    }

    fn element(&mut self, table: &Table, kind: table::Element, depth: usize) -> Value {
        let n = self.next(1000) as i64 + 1;
        match kind {
            table::Element::Text => format!("t{n}").into(),
            table::Element::Bytes => "AP8=".into(),
            table::Element::Bool => true.into(),
            table::Element::Int32 => {
                if n % 2 == 0 {
                    n.into()
                } else {
                    (-n).into()
                }
            }
            table::Element::Int64 => (n << 40).into(),
            table::Element::Double => (n as f64 + 0.5).into(),
            table::Element::Time => format!("2026-01-02T03:04:{:02}Z", n % 60).into(),
            table::Element::MicroTime => format!("2026-01-02T03:04:05.{n:06}Z").into(),
            table::Element::Quantity => format!("{n}Mi").into(),
            table::Element::Duration => ["10s", "1h0m2.5s", "-3m0.000000001s"][n as usize % 3].into(),
            table::Element::IntOrString if n % 2 == 0 => n.into(),
            table::Element::IntOrString => format!("{}%", n % 100).into(),
            table::Element::Json => json!({"any": [n, null, "x"]}),
            table::Element::SchemaOrTexts => json!(["a", "b"]),
            table::Element::SchemaOrBool if n % 2 == 0 => false.into(),
            table::Element::SchemaOrBool | table::Element::SchemaOrArray => json!({"type": "string"}),
            table::Element::Message(id) if table.message(id).is_list => json!(["a", "b"]),
            table::Element::Message(id) => {
                let mut out = Map::new();
                self.object(table, id, depth + 1, &mut out);
                Value::Object(out)
            }
        }
    }
}

/// Drops empty objects and lists: no message tells a list without items from none, nor a message without fields from none where
/// Go holds no pointer.
fn without_empty(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(without_empty),
        Value::Object(map) => {
            map.values_mut().for_each(without_empty);
            map.retain(|_, v| {
                !v.as_object().is_some_and(Map::is_empty) && !v.as_array().is_some_and(Vec::is_empty)
            });
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn any_object_of_any_kind_survives_the_way_there_and_back(seed in any::<u64>()) {
        let table = table::builtin();
        let mut draw = Draw { state: seed, left: 0 };
        for name in table.names() {
            let id = table.named(name).unwrap();
            if table.message(id).is_list {
                continue;
            }
            let mut object = Map::new();
            draw.left = 100;
            draw.object(table, id, 0, &mut object);
            let mut object = Value::Object(object);
            let mut raw = Vec::new();
            write::object(&mut raw, &object, id, table, 0).unwrap();
            let mut back = read::message(&raw, id, table, 0).unwrap();
            without_empty(&mut object);
            without_empty(&mut back);
            prop_assert_eq!(back, object, "{}", name);
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(raw in prop::collection::vec(any::<u8>(), 0..200),
        kind in "Pod|Deployment|Secret|ConfigMap|CustomResourceDefinition|Lease") {
        let version = match kind.as_str() {
            "Deployment" => "apps/v1",
            "CustomResourceDefinition" => "apiextensions.k8s.io/v1",
            "Lease" => "coordination.k8s.io/v1",
            _ => "v1",
        };
        let _ = decode(&body(version, &kind, &raw));
        let _ = decode(&raw);
    }

    #[test]
    fn a_damaged_object_never_panics(at in 0usize..4096, byte in any::<u8>(), line in 0usize..80) {
        let line = include_str!("../../testdata/exchanges.jsonl").lines().nth(line).unwrap_or("{}");
        let mut object = serde_json::from_str::<Value>(line).unwrap()["response"].clone();
        filled(&mut object);
        if let Ok(bytes) = encode(&object) {
            let mut bytes = bytes.to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(read) = decode(&bytes) {
                let _ = encode(&read);
            }
        }
    }
}
