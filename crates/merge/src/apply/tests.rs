use super::*;
use stoa_kube::schema::builtin;

const NOW: &str = "2026-01-02T03:04:05Z";

fn now() -> Time {
    Time::parse(NOW).expect("a time")
}

fn deployment() -> Type<'static> {
    builtin().named("apps.v1.Deployment").expect("Deployment")
}

fn manager(name: &str) -> Manager<'_> {
    Manager { name, api_version: "apps/v1", subresource: "" }
}

/// An object with its record of owners.
fn joined((mut object, record): (Value, Option<String>)) -> Value {
    if let Some(text) = record {
        object["metadata"]["managedFields"] = serde_json::from_str(&text).expect("JSON");
    }
    object
}

fn apply(
    live: Option<Value>,
    applied: &Value,
    by: &Manager<'_>,
    force: Force,
    now: Time,
    ty: Type<'_>,
) -> Result<Value, ApplyError> {
    super::apply(live, applied, by, force, now, ty).map(joined)
}

fn track_update(old: Option<&Value>, new: Value, by: &Manager<'_>, now: Time, ty: Type<'_>) -> Value {
    let (new, sent) = split(new);
    let record = match old {
        Some(old) => super::track_update(old, &new, sent.as_ref(), by, now, ty),
        None => track_create(&new, by, now, ty),
    };
    joined((new, record))
}

/// Answers of a stock server; see `testdata/`.
fn exchange(name: &str) -> Value {
    let text = include_str!("../../testdata/exchanges.jsonl");
    let all = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    all.into_iter().find(|e| e["name"] == name).unwrap_or_else(|| panic!("{name}"))
}

/// The recorded answer with its managed fields put back and their times filled in.
fn recorded(exchange: &Value) -> Value {
    let mut object = exchange["response"].clone();
    let mut managed = exchange["managedFields"].clone();
    for entry in managed.as_array_mut().expect("a list") {
        if entry.get("time").is_some() {
            entry["time"] = json!(NOW);
        }
    }
    object["metadata"]["managedFields"] = managed;
    object
}

fn body(exchange: &Value) -> &Value {
    &exchange["request"]["body"]
}

#[test]
fn an_apply_that_creates_owns_what_it_names() {
    let exchange = exchange("apply creates");
    let got = apply(None, body(&exchange), &manager("a"), Force::No, now(), deployment()).expect("applies");
    assert_eq!(got["metadata"]["managedFields"], recorded(&exchange)["metadata"]["managedFields"]);
    assert_eq!(got["spec"]["template"]["spec"]["containers"], json!([{"name": "c", "image": "nginx"}]));
    assert_eq!(got["metadata"]["name"], "ssa");
}

#[test]
fn recorded_applies_give_the_recorded_answers() {
    let steps = [
        ("apply creates", "apply again with another owner of replicas", "b", Force::No),
        ("apply forced", "apply drops fields", "a", Force::No),
    ];
    for (before, name, who, force) in steps {
        let live = recorded(&exchange(before));
        let exchange = exchange(name);
        let got = apply(Some(live.clone()), body(&exchange), &manager(who), force, now(), deployment())
            .expect("applies");
        assert_eq!(got, recorded(&exchange), "{name}");
    }
}

#[test]
fn a_conflict_is_told_and_force_takes_the_field() {
    let live = recorded(&exchange("apply again with another owner of replicas"));
    let conflict = exchange("apply conflict");
    let error = apply(Some(live.clone()), body(&conflict), &manager("b"), Force::No, now(), deployment())
        .expect_err("conflict");
    assert_eq!(serde_json::to_value(error.to_status()).expect("JSON"), conflict["response"]);
    let forced = exchange("apply forced");
    let got = apply(Some(live.clone()), body(&forced), &manager("b"), Force::Yes, now(), deployment())
        .expect("applies");
    let mut want = recorded(&forced)["metadata"]["managedFields"].clone();
    // The recording also has what the deployment controller had written meanwhile.
    want.as_array_mut().expect("a list").retain(|e| e["manager"] != "kube-controller-manager");
    assert_eq!(got["metadata"]["managedFields"], want);
    assert_eq!(got["spec"]["template"]["spec"]["containers"][0]["image"], "nginx:2");
}

fn live() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "uid": "u", "resourceVersion": "1"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {}, "spec": {"containers": []}}}, "status": {}})
}

#[test]
fn a_created_object_belongs_to_its_creator() {
    let got = track_update(None, live(), &manager("kubectl-create"), now(), deployment());
    assert_eq!(
        got["metadata"]["managedFields"],
        json!([{"manager": "kubectl-create", "operation": "Update", "apiVersion": "apps/v1", "time": NOW, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:spec": {"f:containers": {}}}}}}])
    );
}

#[test]
fn status_updates_own_status_and_keep_to_it() {
    let created = track_update(None, live(), &manager("c"), now(), deployment());
    let mut next = created.clone();
    next["metadata"]["annotations"] = json!({"deployment.kubernetes.io/revision": "1"});
    next["metadata"]["labels"] = json!({"x": "y"});
    next["status"] = json!({"conditions": [{"type": "Progressing", "status": "True", "reason": "r"}]});
    let status = Manager { name: "kube-controller-manager", api_version: "apps/v1", subresource: "status" };
    let got = track_update(Some(&created), next, &status, now(), deployment());
    assert_eq!(
        got["metadata"]["managedFields"][1],
        json!({"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "time": NOW, "fieldsType": "FieldsV1",
            "subresource": "status", "fieldsV1": {
                "f:metadata": {"f:annotations": {".": {}, "f:deployment.kubernetes.io/revision": {}}},
                "f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Progressing\"}": {".": {}, "f:reason": {}, "f:status": {}, "f:type": {}}}}}})
    );
}

#[test]
fn an_update_takes_fields_from_their_owners() {
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 1, "paused": true}});
    let first = apply(None, &applied, &manager("a"), Force::No, now(), deployment()).expect("applies");
    let mut scaled = first.clone();
    scaled["spec"]["replicas"] = json!(5);
    let scaled = track_update(Some(&first), scaled, &manager("kubectl-edit"), now(), deployment());
    let entries = scaled["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(entries[0]["fieldsV1"], json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(entries[1]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    let error = apply(Some(scaled.clone()), &applied, &manager("a"), Force::No, now(), deployment())
        .expect_err("conflict");
    assert_eq!(
        error.to_status().message,
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas"
    );
    // Agreeing with the present value is no conflict: both own it then.
    let mut same = applied;
    same["spec"]["replicas"] = json!(5);
    let both =
        apply(Some(scaled.clone()), &same, &manager("a"), Force::No, now(), deployment()).expect("applies");
    assert_eq!(both["metadata"]["managedFields"].as_array().map(Vec::len), Some(2));
    // Who owns it alone takes it away by no longer applying it; here somebody else still owns it.
    let less = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {}});
    let left =
        apply(Some(both.clone()), &less, &manager("a"), Force::No, now(), deployment()).expect("applies");
    assert_eq!((&left["spec"]["replicas"], left["spec"].get("paused")), (&json!(5), None));
}

#[test]
fn removed_elements_and_keys_go_with_their_unowned_parts() {
    let config = |containers: Value, labels: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": labels},
            "spec": {"template": {"spec": {"containers": containers}}}})
    };
    let two = config(
        json!([{"name": "x", "image": "1"}, {"name": "y", "image": "2"}]),
        json!({"a": "1", "b": "2"}),
    );
    let mut live = apply(None, &two, &manager("a"), Force::No, now(), deployment()).expect("applies");
    // The server defaults fields of the second container, and another manager adds one of its own.
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = json!("Always");
    live["metadata"]["labels"]["c"] = json!("3");
    let one = config(json!([{"name": "x", "image": "1"}]), json!({"a": "1"}));
    let got =
        apply(Some(live.clone()), &one, &manager("a"), Force::No, now(), deployment()).expect("applies");
    assert_eq!(got["spec"]["template"]["spec"]["containers"], json!([{"name": "x", "image": "1"}]));
    assert_eq!(got["metadata"]["labels"], json!({"a": "1", "c": "3"}));
    // With all of them gone the map goes too.
    let mut none = config(json!([{"name": "x", "image": "1"}]), json!({}));
    none["metadata"].as_object_mut().expect("a map").remove("labels");
    let mut live = got;
    live["metadata"]["labels"] = json!({"a": "1"});
    let got =
        apply(Some(live.clone()), &none, &manager("a"), Force::No, now(), deployment()).expect("applies");
    assert_eq!(got["metadata"].get("labels"), None);
}

#[test]
fn lists_keep_the_applied_order_among_live_elements() {
    let config = |names: &[&str]| {
        let list: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": list}}}})
    };
    let names = |value: &Value| -> Vec<String> {
        let list = value["spec"]["template"]["spec"]["containers"].as_array().expect("a list");
        list.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let live = apply(None, &config(&["a", "b", "c"]), &manager("x"), Force::No, now(), deployment())
        .expect("applies");
    let got =
        apply(Some(live.clone()), &config(&["c", "d", "a"]), &manager("y"), Force::No, now(), deployment())
            .expect("applies");
    assert_eq!(names(&got), ["c", "d", "a", "b"]);
}

#[test]
fn a_first_apply_meets_the_fields_of_whoever_came_before() {
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 2}});
    let error =
        apply(Some(live()), &applied, &manager("a"), Force::No, now(), deployment()).expect_err("conflict");
    assert_eq!(
        error.to_status().message,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let got = apply(Some(live()), &applied, &manager("a"), Force::Yes, now(), deployment()).expect("applies");
    assert_eq!(got["spec"]["replicas"], 2);
    assert_eq!(got["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let base = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "paused": true, "template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "name": "x"}]}]}}}});
    let live = apply(None, &base, &manager("a"), Force::No, now(), deployment()).expect("applies");
    let mut other = base;
    other["spec"]["replicas"] = json!(2);
    other["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"] = json!("y");
    let error = apply(Some(live.clone()), &other, &manager("b"), Force::No, now(), deployment())
        .expect_err("conflict");
    assert_eq!(
        error.to_status().message,
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"].name"
    );
}

#[test]
fn an_empty_list_of_elements_is_owned_by_nobody() {
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "labels": {}, "finalizers": []},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "env": [], "args": []}]}}}});
    let got = apply(None, &applied, &manager("a"), Force::No, now(), deployment()).expect("applies");
    assert_eq!(
        got["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"c\"}": {".": {}, "f:args": {}, "f:name": {}}}}}}})
    );
}

#[test]
fn before_the_first_apply_an_object_was_written_as_a_whole() {
    let mut live = live();
    live["metadata"]["labels"] = json!({"x": "y"});
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"paused": true}});
    let got = apply(Some(live), &applied, &manager("a"), Force::No, now(), deployment()).expect("applies");
    let entries = got["metadata"]["managedFields"].as_array().expect("a list");
    let before = entries.iter().find(|e| e["manager"] == "before-first-apply").expect("an entry");
    assert_eq!(before["fieldsV1"]["f:metadata"], json!({"f:labels": {".": {}, "f:x": {}}}));
}

#[test]
fn of_a_conflict_the_nearer_fields_come_first() {
    let of = |tolerations: Value, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}], "tolerations": tolerations}}}})
    };
    let first = of(json!([{"key": "a"}]), "x:1");
    let first = apply(None, &first, &manager("a"), Force::No, now(), deployment()).expect("applies");
    let second = of(json!([{"key": "b"}]), "x:2");
    let error =
        apply(Some(first), &second, &manager("b"), Force::No, now(), deployment()).expect_err("conflict");
    assert_eq!(
        error.to_status().message,
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.template.spec.tolerations\n- .spec.template.spec.containers[name=\"c\"].image"
    );
}

#[test]
fn malformed_configurations_are_refused() {
    let spec = |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
    for (config, want) in [
        (spec(json!({"foo": 1})), ".spec.foo: field not declared in schema"),
        (spec(json!(1)), ".spec: expected map, got &{1}"),
        (spec(json!({"replicas": "1"})), ".spec.replicas: expected numeric (int or float), got string"),
        (spec(json!({"paused": [1]})), ".spec.paused: expected boolean, got &{[1]}"),
        (
            spec(json!({"template": {"metadata": {"labels": {"a": {"b": 1}}}}})),
            ".spec.template.metadata.labels.a: expected string, got &value.valueUnstructured{Value:map[string]interface {}{\"b\":1}}",
        ),
        (
            spec(json!({"template": {"spec": {"containers": {}}}})),
            ".spec.template.spec.containers: expected list, got &{map[]}",
        ),
        (
            spec(json!({"template": {"spec": {"containers": [null]}}})),
            ".spec.template.spec.containers: element 0: associative list with keys may not have a null element",
        ),
        (
            spec(json!({"template": {"spec": {"containers": ["x"]}}})),
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
        (
            spec(
                json!({"template": {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]}]}}}),
            ),
            ".spec.template.spec.containers[name=\"c\"].ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]",
        ),
        (
            spec(
                json!({"bar": 1, "foo": 1, "template": {"spec": {"containers": [{"name": "c"}, {"name": "c", "nope": 1}]}}}),
            ),
            "errors:\n  .spec.bar: field not declared in schema\n  .spec.foo: field not declared in schema\n  .spec.template.spec.containers: duplicate entries for key [name=\"c\"]\n  .spec.template.spec.containers[name=\"c\"].nope: field not declared in schema",
        ),
    ] {
        let error = apply(None, &config, &manager("a"), Force::No, now(), deployment()).expect_err("refused");
        let want = format!("failed to create typed patch object (/d; apps/v1, Kind=Deployment): {want}");
        assert_eq!(error, ApplyError::Untyped(want));
        assert_eq!(error.to_status().code(), 500);
    }
    let config = json!({"metadata": {"managedFields": []}});
    let error = apply(None, &config, &manager("a"), Force::No, now(), deployment()).expect_err("refused");
    assert_eq!(error, ApplyError::Malformed("metadata.managedFields must be nil".to_owned()));
    assert_eq!(error.to_status().code(), 400);
}

#[test]
fn the_book_keeping_is_bounded_and_can_be_reset() {
    let mut object = track_update(None, live(), &manager("m0"), now(), deployment());
    for i in 1..20 {
        let mut next = object.clone();
        next["metadata"]["labels"] = json!({});
        (0..=i).for_each(|k| next["metadata"]["labels"][format!("l{k}")] = json!(i.to_string()));
        next["spec"]["replicas"] = json!(i);
        next["metadata"]["annotations"][format!("a{i}")] = json!("x");
        let name = format!("m{i}");
        object = track_update(Some(&object), next, &manager(&name), now(), deployment());
    }
    let entries = object["metadata"]["managedFields"].as_array().expect("a list");
    assert!(entries.len() <= 10, "{}", entries.len());
    assert!(entries.iter().any(|e| e["manager"] == "ancient-changes"));
    let mut reset = object.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    let got = track_update(Some(&object), reset, &manager("r"), now(), deployment());
    assert_eq!(got["metadata"].get("managedFields"), None);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn config() -> impl Strategy<Value = Value> {
        let env = proptest::collection::btree_map("[A-C]", "[a-b]", 0..3);
        let containers = proptest::collection::btree_map("[a-c]", (proptest::option::of("[x-z]"), env), 0..3);
        let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
        (containers, labels, proptest::option::of(0..3)).prop_map(|(containers, labels, replicas)| {
            let list: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, env))| {
                    let env: Vec<Value> = env.into_iter().map(|(k, v)| json!({"name": k, "value": v})).collect();
                    let mut c = json!({"name": name, "env": env});
                    if let Some(image) = image {
                        c["image"] = json!(image);
                    }
                    c
                })
                .collect();
            let mut config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": labels},
                "spec": {"template": {"spec": {"containers": list}}}});
            if let Some(replicas) = replicas {
                config["spec"]["replicas"] = json!(replicas);
            }
            config
        })
    }

    fn contains(whole: &Value, part: &Value) -> bool {
        match (whole, part) {
            (Value::Object(w), Value::Object(p)) => {
                p.iter().all(|(k, v)| w.get(k).is_some_and(|x| contains(x, v)))
            }
            (Value::Array(w), Value::Array(p)) => p.iter().all(|v| w.iter().any(|x| contains(x, v))),
            (w, p) => w == p,
        }
    }

    proptest! {
        #[test]
        fn what_is_applied_is_there_afterwards(steps in proptest::collection::vec((config(), 0..3usize), 1..5)) {
            let mut live: Option<Value> = None;
            for (config, who) in steps {
                let who = ["a", "b", "c"][who];
                let next = apply(live.clone(), &config, &manager(who), Force::Yes, now(), deployment()).expect("applies");
                prop_assert!(contains(&next, &config), "{next} lacks {config}");
                let again = apply(Some(next.clone()), &config, &manager(who), Force::No, now(), deployment()).expect("applies");
                prop_assert_eq!(&again, &next);
                live = Some(next);
            }
        }

        #[test]
        fn a_sole_applier_gets_what_it_applied_last(first in config(), second in config()) {
            let one = apply(None, &first, &manager("a"), Force::No, now(), deployment()).expect("applies");
            let two = apply(Some(one.clone()), &second, &manager("a"), Force::No, now(), deployment()).expect("applies");
            let fresh = apply(None, &second, &manager("a"), Force::No, now(), deployment()).expect("applies");
            let complete = |mut v: Value| { decode::complete(&mut v, deployment()).expect("completes"); v };
            prop_assert_eq!(complete(two), complete(fresh));
        }

        #[test]
        fn field_sets_survive_writing_and_reading(config in config()) {
            let set = field_set_of(&config, Place::Struct(deployment())).expect("a set");
            let mut text = Vec::new();
            set.write_text(&mut text);
            let stored = serde_json::from_slice(&text).expect("JSON");
            prop_assert_eq!(&FieldSet::read(&stored), &set);
            prop_assert!(set.is_within(&stored) && set.touches(&stored) != set.is_empty());
        }
    }
}

#[test]
fn an_element_without_its_keys_goes_by_their_defaults() {
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": [{"image": "x", "ports": [{"hostPort": 1}]}]}}}});
    let made = apply(None, &config, &manager("a"), Force::No, now(), deployment()).expect("applied");
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"];
    let container = &fields["f:containers"]["k:{\"name\":\"\"}"];
    assert!(container["f:image"].is_object(), "{fields}");
    assert!(container["f:ports"]["k:{\"containerPort\":0,\"protocol\":\"TCP\"}"].is_object(), "{fields}");
    let account = builtin().named("core.v1.ServiceAccount").expect("accounts");
    let config = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}, "secrets": [{"kind": "Secret"}]});
    let why = apply(None, &config, &manager("a"), Force::No, now(), account).expect_err("refused");
    assert_eq!(
        why.to_string(),
        "failed to create typed patch object (/s; /v1, Kind=ServiceAccount): .secrets: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)"
    );
}

/// Objects of names that the schema knows, in and out of their places.
fn arbitrary(names: &'static [&'static str]) -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3_i64).prop_map(Value::from),
        prop_oneof![Just("a"), Just("TCP"), Just("\"q\"\n"), Just("")].prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            4 => proptest::collection::btree_map(proptest::sample::select(names), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn a_creators_record_is_what_has_changed_from_nothing(
        meta in arbitrary(&["name", "uid", "labels", "annotations", "finalizers", "ownerReferences", "generation", "a/\"b"]),
        spec in arbitrary(&["template", "metadata", "spec", "containers", "name", "ports", "containerPort", "protocol", "port",
            "env", "args", "selector", "volumes", "resources", "limits", "hostAliases", "ip", "tolerations", "clusterIPs", "unknown"]),
        status in arbitrary(&["conditions", "type", "replicas"]),
        kind in proptest::sample::select(&["apps.v1.Deployment", "core.v1.Service", "core.v1.Pod", "core.v1.ConfigMap", "core.v1.Node",
            "certificates.v1.CertificateSigningRequest"][..]),
    ) {
        let ty = builtin().named(kind).expect("a kind");
        let object = json!({"apiVersion": "v1", "kind": "K", "metadata": meta, "spec": spec, "status": status, "data": spec});
        let by = manager("a");
        let full = created_in_full(&empty_object(&object, ty), &object, &by, now(), ty);
        proptest::prop_assert_eq!(track_create(&object, &by, now(), ty), full);
    }
}
