use super::*;
use crate::resource::resources;
use crate::schema::builtin;
use serde_json::json;

/// What a stock server was sent and answered; see `testdata/`.
fn exchanges() -> Vec<Value> {
    let text = include_str!("../../testdata/exchanges.jsonl");
    text.lines().map(|line| serde_json::from_str(line).expect("a recorded exchange")).collect()
}

fn exchange(name: &str) -> Value {
    exchanges().into_iter().find(|e| e["name"] == name).unwrap_or_else(|| panic!("{name}"))
}

fn type_named(api_version: &str, kind: &str) -> Option<Type<'static>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    builtin().type_of_kind(group, version, kind)
}

fn pod() -> Type<'static> {
    builtin().named("core.v1.Pod").expect("Pod")
}

/// The recorder replaced what differs between runs by its name in angle brackets.
fn fill_placeholders(value: &mut Value) {
    match value {
        Value::String(text) => match text.as_str() {
            "<creationTimestamp>" | "<time>" | "<lastTransitionTime>" | "<lastUpdateTime>" => {
                *text = "2026-01-02T03:04:05Z".to_owned();
            }
            _ => {}
        },
        Value::Array(list) => list.iter_mut().for_each(fill_placeholders),
        Value::Object(map) => map.values_mut().for_each(fill_placeholders),
        _ => {}
    }
}

#[test]
fn what_a_stock_server_answers_is_already_complete() {
    let mut checked = 0;
    for exchange in exchanges() {
        let mut answer = exchange["response"].clone();
        let kind = answer["kind"].as_str().unwrap_or_default();
        let Some(ty) = type_named(answer["apiVersion"].as_str().unwrap_or_default(), kind) else { continue };
        if kind == "Status" {
            continue;
        }
        fill_placeholders(&mut answer);
        let decoded =
            decode_value(answer.clone(), ty).unwrap_or_else(|e| panic!("{}: {e}", exchange["name"]));
        assert_eq!(decoded.problems, Vec::<String>::new(), "{}", exchange["name"]);
        assert_eq!(decoded.value, answer, "{}", exchange["name"]);
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn a_request_gets_the_empty_fields_that_the_answer_has() {
    for name in
        ["event", "hpa v2", "node", "cronjob", "replicaset", "daemonset", "pdb", "service, external name"]
    {
        let exchange = exchange(name);
        let body = exchange["request"]["body"].clone();
        let ty = type_named(
            body["apiVersion"].as_str().unwrap_or_default(),
            body["kind"].as_str().unwrap_or_default(),
        );
        let decoded = decode_value(body, ty.expect("a type")).expect("decodes").value;
        // Defaults come later and elsewhere; whatever is written here must be in the answer just so.
        assert_contains(&exchange["response"], &decoded, name);
    }
}

fn assert_contains(whole: &Value, part: &Value, at: &str) {
    match (whole, part) {
        (Value::Object(w), Value::Object(p)) => {
            for (key, value) in p {
                assert_contains(
                    w.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing")),
                    value,
                    &format!("{at}.{key}"),
                );
            }
        }
        (Value::Array(w), Value::Array(p)) => {
            assert_eq!(w.len(), p.len(), "{at}");
            w.iter().zip(p).for_each(|(w, p)| assert_contains(w, p, at));
        }
        // Zeros may be defaulted.
        (w, p) => assert!(w == p || p == &json!(0) || p == &json!("") || p.is_null(), "{at}: {w} {p}"),
    }
}

#[test]
fn errors_read_as_on_a_stock_server() {
    for (name, plural) in
        [("pod, bad quantity", "pods"), ("pod, wrong type", "pods"), ("strict unknown field", "pods")]
    {
        let exchange = exchange(name);
        let resource = resources().find("", "v1", plural).expect("a resource");
        let body = exchange["request"]["body"].to_string();
        let why = match decode(body.as_bytes(), builtin().type_of(resource)) {
            Ok(decoded) => strict_error(&decoded.problems),
            Err(e) => e.to_string(),
        };
        let status = crate::Status::undecodable(resource, &why);
        assert_eq!(serde_json::to_value(status).expect("JSON"), exchange["response"], "{name}");
    }
}

#[test]
fn wrong_types_are_named_as_go_names_them() {
    let spec = |spec: Value| json!({"spec": spec});
    for (body, want) in [
        (json!([]), "json: cannot unmarshal array into Go value of type v1.Pod"),
        (
            json!({"spec": 1}),
            "json: cannot unmarshal number into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            spec(json!({"hostNetwork": "x"})),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            spec(json!({"restartPolicy": 1})),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            spec(json!({"priority": 1.5})),
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            spec(json!({"priority": 3_000_000_000_u64})),
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            spec(json!({"containers": [{"command": ["a", 1]}]})),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.command of type string",
        ),
        (
            spec(json!({"containers": [{"ports": {"a": 1}}]})),
            "json: cannot unmarshal object into Go struct field Container.spec.containers.ports of type []v1.ContainerPort",
        ),
        (
            spec(json!({"nodeSelector": {"a": true}})),
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.nodeSelector of type string",
        ),
        (
            spec(json!({"containers": [{"livenessProbe": {"httpGet": {"port": true}}}]})),
            "json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            spec(json!({"volumes": [{"emptyDir": {"medium": 1}}]})),
            "json: cannot unmarshal number into Go struct field EmptyDirVolumeSource.spec.volumes.VolumeSource.emptyDir.medium of type v1.StorageMedium",
        ),
        (
            spec(json!({"volumes": [{"name": 1}]})),
            "json: cannot unmarshal number into Go struct field Volume.spec.volumes.name of type string",
        ),
        (
            spec(json!({"ephemeralContainers": [{"env": "a"}]})),
            "json: cannot unmarshal string into Go struct field EphemeralContainer.spec.ephemeralContainers.EphemeralContainerCommon.env of type []v1.EnvVar",
        ),
        (
            json!({"metadata": {"creationTimestamp": 7}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            json!({"metadata": {"creationTimestamp": "now"}}),
            "parsing time \"now\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"now\" as \"2006\"",
        ),
    ] {
        assert_eq!(decode_value(body, pod()).map(|_| ()).map_err(|e| e.to_string()), Err(want.to_owned()));
    }
    let secret = builtin().named("core.v1.Secret").expect("Secret");
    for (text, at) in [("a", 0), ("!", 0), ("AAAA=", 4)] {
        let error = decode_value(json!({"data": {"k": text}}), secret).expect_err("not base64");
        assert_eq!(error.to_string(), format!("illegal base64 data at input byte {at}"), "{text}");
    }
}

#[test]
fn unknown_and_duplicate_fields_are_told_with_their_paths() {
    let body = br#"{"kind":"Pod","metadata":{"name":"a","labels":{"x":"1","x":"2"}},"zzz":{"a":1},
        "spec":{"containers":[{"name":"c"},{"name":"d","foo":1,"name":"e"}],"volumes":[{"emptyDir":{"bar":1}}]},"kind":"Pod"}"#;
    let decoded = decode(body, pod()).expect("decodes");
    assert_eq!(
        decoded.problems,
        [
            "duplicate field \"kind\"",
            "duplicate field \"metadata.labels.x\"",
            "unknown field \"spec.containers[1].foo\"",
            "duplicate field \"spec.containers[1].name\"",
            "unknown field \"spec.volumes[0].emptyDir.bar\"",
            "unknown field \"zzz\"",
        ]
    );
    assert_eq!(decoded.value["spec"]["containers"][1]["name"], "e");
    assert_eq!(decoded.value["spec"]["volumes"][0], json!({"name": "", "emptyDir": {}}));
    assert!(decoded.value.get("zzz").is_none());
}

#[test]
fn scalars_are_put_in_canonical_form_and_nulls_go() {
    let body = json!({
        "metadata": {"creationTimestamp": null, "deletionTimestamp": "2026-01-02T04:04:05.6+01:00", "labels": {"a": null}, "annotations": {}},
        "spec": {"nodeName": "", "hostPID": false, "terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "args": [], "env": [null], "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}, "claims": null}}]},
    });
    let got = decode_value(body, pod()).expect("decodes").value;
    assert_eq!(
        got,
        json!({
            "metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z", "labels": {"a": ""}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "env": [{"name": ""}], "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]},
            "status": {},
        })
    );
}

#[test]
fn a_null_in_a_secret_is_no_bytes() {
    let secret = builtin().named("core.v1.Secret").expect("Secret");
    let got = decode_value(json!({"data": {"a": null, "b": "QUE9\n"}}), secret).expect("decodes").value;
    assert_eq!(got["data"], json!({"a": "", "b": "QUE9"}));
}

#[test]
fn problems_are_told_in_the_order_of_a_sorted_body() {
    let told = |duplicates: &[&str], unknown: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|p| p.to_string()).collect();
        merge_problems(owned(duplicates), owned(unknown))
    };
    assert_eq!(
        told(
            &[
                "line 3: key \"a\" already set in map",
                "duplicate field \"a[10].x\"",
                "duplicate field \"odd.y\"",
                "duplicate field \"odd\"",
                "duplicate field \"a[9].x\"",
            ],
            &["unknown field \"a[9].w\"", "unknown field \"odd\""],
        ),
        [
            "line 3: key \"a\" already set in map",
            "unknown field \"a[9].w\"",
            "duplicate field \"a[9].x\"",
            "duplicate field \"a[10].x\"",
            "unknown field \"odd\"",
        ]
    );
}

#[test]
fn a_report_shows_a_long_path_in_part() {
    let key = "k".repeat(100_000);
    let body =
        format!("{{\"{key}\":1,\"{key}\":2,\"metadata\":{{\"labels\":{{\"{key}\":\"\",\"{key}\":\"\"}}}}}}");
    let decoded = decode(body.as_bytes(), pod()).expect("decodes");
    assert_eq!(decoded.problems.len(), 2, "that an unknown field comes twice is not said");
    assert!(decoded.problems.iter().all(|p| p.len() < 1_100));
}

#[test]
fn malformed_bodies_are_refused_in_words() {
    for (text, want) in [
        ("", "unexpected end of JSON input"),
        ("{\"a\":", "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{} x", "invalid character 'x' after top-level value"),
        ("{\"a\":}", "invalid character '}' looking for beginning of value"),
    ] {
        assert_eq!(parse(text.as_bytes()).map(|_| ()), Err(DecodeError::Syntax(want.to_owned())), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(parse(deep.as_bytes()).map(|_| ()), Err(DecodeError::Syntax("exceeded max depth".to_owned())));
}

fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.:T-]{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("status"),
        Just("containers"),
        Just("name"),
        Just("ports"),
        Just("labels"),
        Just("resources"),
        Just("limits"),
        Just("volumes"),
        Just("conditions"),
        Just("creationTimestamp"),
        Just("zzz"),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn decoding_never_panics_and_is_idempotent(value in any_json()) {
        if let Ok(first) = decode_value(value, pod()) {
            let second = decode_value(first.value.clone(), pod()).expect("what was decoded decodes");
            proptest::prop_assert_eq!(&second.value, &first.value);
            proptest::prop_assert!(second.problems.is_empty());
        }
    }

    #[test]
    fn our_parser_reads_what_serde_json_reads(value in any_json()) {
        let parsed = parse(value.to_string().as_bytes()).expect("JSON");
        proptest::prop_assert_eq!(parsed.value, serde_json::from_str::<Value>(&value.to_string()).expect("JSON"));
        proptest::prop_assert!(parsed.duplicates.is_empty());
    }
}

#[test]
fn times_are_refused_in_gos_words() {
    let layout = "2006-01-02T15:04:05Z07:00";
    for (text, want) in [
        ("", " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"2006\""),
        ("2026-01-01", " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\""),
        ("2026-1-01", " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"1-01\" as \"01\""),
        ("2026-13-01T00:00:00Z", ": month out of range"),
        ("2026-02-30T00:00:00Z", ": day out of range"),
        ("2026-01-01T24:00:00Z", ": hour out of range"),
        ("2026-01-01T00:00:00", " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\""),
        (
            "2026-01-01T00:00:00.5+0200",
            " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"+0200\" as \"Z07:00\"",
        ),
        ("2026-01-01T00:00:00Zx", ": extra text: \"x\""),
    ] {
        assert_eq!(
            super::time::refusal(text, layout, false),
            format!("parsing time {}{want}", crate::go::quote(text))
        );
    }
    let micros = "2006-01-02T15:04:05.000000Z07:00";
    assert_eq!(
        super::time::refusal("2026-01-01T00:00:00Z", micros, true),
        "parsing time \"2026-01-01T00:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\""
    );
}

#[test]
fn times_with_microseconds_have_six_digits_and_bytes_may_be_numbers() {
    let event = |time: &str| {
        let body = json!({"apiVersion": "v1", "kind": "Event", "eventTime": time});
        decode_value(body, type_named("v1", "Event").unwrap()).map(|d| d.value["eventTime"].clone())
    };
    assert_eq!(event("2026-01-01T00:00:00.123456+02:00"), Ok(json!("2025-12-31T22:00:00.123456Z")));
    for wrong in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123Z", "2026-01-01T00:00:00.1234567Z"] {
        assert!(event(wrong).is_err(), "{wrong}");
    }
    let secret = |data: Value| {
        let body = json!({"apiVersion": "v1", "kind": "Secret", "data": {"k": data}});
        let decoded = decode_value(body, type_named("v1", "Secret").unwrap());
        decoded.map(|d| d.value["data"]["k"].clone()).map_err(|e| e.to_string())
    };
    assert_eq!(secret(json!([104, 105])), Ok(json!("aGk=")));
    let why = |found: &str| {
        format!("json: cannot unmarshal {found} into Go struct field Secret.data of type uint8")
    };
    assert_eq!(secret(json!(["x"])), Err(why("string")));
    assert_eq!(secret(json!([256])), Err(why("number 256")));
}

#[test]
fn an_empty_list_that_is_always_written_is_stored_as_none() {
    let decoded = |version: &str, kind: &str, rest: Value| {
        let mut body = json!({"apiVersion": version, "kind": kind});
        body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        decode_value(body, type_named(version, kind).unwrap()).unwrap().value
    };
    let role = decoded("rbac.authorization.k8s.io/v1", "ClusterRole", json!({"rules": []}));
    assert_eq!(role.get("rules"), Some(&Value::Null));
    // What is stored as text keeps it.
    let definition =
        decoded("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({"spec": {"versions": []}}));
    assert_eq!(definition["spec"]["versions"], json!([]));
}

#[test]
fn an_empty_list_that_is_refused_is_still_there_to_be_refused() {
    let rules = json!({"policies": []});
    let body = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "spec": {"maxReplicas": 1, "metrics": [], "behavior": {"scaleUp": rules}}});
    let ty = type_named("autoscaling/v2", "HorizontalPodAutoscaler").unwrap();
    let spec = decode_value(body, ty).unwrap().value["spec"].take();
    assert_eq!(spec["behavior"]["scaleUp"], rules);
    assert_eq!(spec.get("metrics"), None);
}
