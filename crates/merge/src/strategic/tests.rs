use super::*;
use serde_json::json;
use stoa_kube::schema::builtin;

fn ty(name: &str) -> Type<'static> {
    builtin().named(name).unwrap_or_else(|| panic!("{name}"))
}

fn pod_spec(original: Value, patch: Value) -> Result<Value, PatchError> {
    strategic(original.clone(), &patch, ty("core.v1.PodSpec"))
}

/// Answers of a stock server; see `testdata/`.
fn exchanges() -> Vec<Value> {
    include_str!("../../testdata/exchanges.jsonl")
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect()
}

#[test]
fn recorded_patches_give_the_recorded_answers() {
    let all = exchanges();
    let spec = |name: &str| all.iter().find(|e| e["name"] == name).unwrap_or_else(|| panic!("{name}"));
    // Each was applied to what the one before had left.
    let names = [
        "strategic merge, containers by name",
        "strategic merge, delete directive and order",
        "strategic merge, replace directive",
    ];
    for pair in names.windows(2) {
        let before = &spec(pair[0])["response"];
        let exchange = spec(pair[1]);
        let got = strategic(before.clone(), &exchange["request"]["body"], ty("apps.v1.Deployment"))
            .expect("merges");
        assert_eq!(got["spec"], exchange["response"]["spec"], "{}", pair[1]);
    }
    let first = spec(names[0]);
    let mut before = first["response"].clone();
    let containers = &mut before["spec"]["template"]["spec"]["containers"];
    *containers = json!([{"name": "c", "image": "nginx", "resources": {}, "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]);
    let got = strategic(before.clone(), &first["request"]["body"], ty("apps.v1.Deployment")).expect("merges");
    let containers = &got["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0], first["response"]["spec"]["template"]["spec"]["containers"][0]);
    assert_eq!(containers[1], json!({"name": "c2", "image": "i2"}));
}

#[test]
fn maps_merge_and_null_deletes() {
    let original = json!({"nodeSelector": {"a": "1", "b": "2"}, "hostname": "h", "containers": []});
    let patch =
        json!({"nodeSelector": {"b": null, "c": "3"}, "hostname": null, "affinity": {"nodeAffinity": null}});
    assert_eq!(
        pod_spec(original, patch),
        Ok(json!({"nodeSelector": {"a": "1", "c": "3"}, "affinity": {}, "containers": []}))
    );
}

#[test]
fn lists_merge_by_key_and_keep_their_places() {
    let original =
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]});
    for (patch, want) in [
        (
            json!([{"name": "b", "image": "9"}, {"name": "d"}]),
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "9"}, {"name": "d"}, {"name": "c"}]),
        ),
        (json!([{"name": "a", "$patch": "delete"}]), json!([{"name": "b", "image": "2"}, {"name": "c"}])),
        (json!([{"name": "x"}, {"$patch": "replace"}]), json!([{"name": "x"}])),
        (json!([]), original["containers"].clone()),
        (
            json!([{"name": "b", "$patch": "merge", "command": ["x"]}]),
            json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2", "command": ["x"]}, {"name": "c"}]),
        ),
    ] {
        assert_eq!(
            pod_spec(original.clone(), json!({"containers": patch})),
            Ok(json!({"containers": want})),
            "{patch}"
        );
    }
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let original = json!({"containers": [{"name": "a", "args": ["1", "2"]}], "tolerations": [{"key": "a"}, {"key": "b"}]});
    let patch =
        json!({"containers": [{"name": "a", "args": ["3"]}], "tolerations": [{"key": "c", "value": null}]});
    assert_eq!(
        pod_spec(original, patch),
        Ok(json!({"containers": [{"name": "a", "args": ["3"]}], "tolerations": [{"key": "c"}]}))
    );
}

#[test]
fn element_order_is_set_and_unnamed_elements_keep_theirs() {
    let original = json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]});
    let order = |names: &[&str]| names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>();
    let patch = json!({"$setElementOrder/containers": order(&["c", "e", "a"]), "containers": [{"name": "e", "image": "i"}]});
    let got = pod_spec(original.clone(), patch).expect("merges");
    let names: Vec<&str> =
        got["containers"].as_array().expect("a list").iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["b", "c", "e", "a", "d"]);
    let only_order = json!({"$setElementOrder/containers": order(&["d", "c", "b", "a"])});
    let got = pod_spec(original.clone(), only_order).expect("merges");
    assert_eq!(got["containers"], json!(order(&["d", "c", "b", "a"])));
    assert_eq!(pod_spec(json!({}), json!({"$setElementOrder/containers": order(&["a"])})), Ok(json!({})));
    assert!(pod_spec(original, json!({"$setElementOrder/containers": 1})).is_err());
}

#[test]
fn primitive_lists_lose_and_gain_members() {
    let meta =
        |original: Value, patch: Value| strategic(original.clone(), &patch, ty("apis.meta.v1.ObjectMeta"));
    let original = json!({"finalizers": ["a", "b", "c"]});
    assert_eq!(
        meta(original.clone(), json!({"$deleteFromPrimitiveList/finalizers": ["b", "z"]})),
        Ok(json!({"finalizers": ["a", "c"]}))
    );
    assert_eq!(
        meta(original.clone(), json!({"finalizers": ["d", "a"]})),
        Ok(json!({"finalizers": ["d", "a", "b", "c"]}))
    );
    assert_eq!(
        meta(
            original.clone(),
            json!({"$setElementOrder/finalizers": ["c", "d"], "finalizers": ["d"], "$deleteFromPrimitiveList/finalizers": ["a"]})
        ),
        Ok(json!({"finalizers": ["b", "c", "d"]}))
    );
    assert!(meta(original, json!({"$deleteFromPrimitiveList/finalizers": "a"})).is_err());
}

#[test]
fn retain_keys_drops_the_rest_of_a_union() {
    let original = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}], "strategy": 1});
    let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}]});
    assert_eq!(
        pod_spec(original.clone(), patch),
        Ok(json!({"volumes": [{"name": "v", "emptyDir": {}}], "strategy": 1}))
    );
    let bad = json!({"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {}}]});
    assert_eq!(
        pod_spec(original, bad),
        Err(PatchError::Malformed("invalid patch format of retainKeys".to_owned()))
    );
    let deployment = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}});
    let patch = json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}});
    assert_eq!(
        strategic(deployment.clone(), &patch, ty("apps.v1.DeploymentSpec")),
        Ok(json!({"strategy": {"type": "Recreate"}}))
    );
}

#[test]
fn map_directives_replace_and_delete() {
    let original = json!({"securityContext": {"runAsUser": 1, "fsGroup": 2}});
    let replace = json!({"securityContext": {"$patch": "replace", "runAsUser": 3, "fsGroup": null}});
    assert_eq!(pod_spec(original.clone(), replace), Ok(json!({"securityContext": {"runAsUser": 3}})));
    assert_eq!(
        pod_spec(original.clone(), json!({"securityContext": {"$patch": "delete"}})),
        Ok(json!({"securityContext": {}}))
    );
    assert!(pod_spec(original, json!({"securityContext": {"$patch": "explode"}})).is_err());
}

#[test]
fn what_lacks_its_merge_key_is_refused() {
    let original = json!({"containers": [{"name": "a"}]});
    for list in
        [json!([{"image": "x"}]), json!([{"$patch": "delete"}]), json!(["a"]), json!([{"name": "a"}, 1])]
    {
        assert!(pod_spec(original.clone(), json!({"containers": list})).is_err(), "{list}");
    }
    assert!(strategic(original.clone(), &json!([]), ty("core.v1.PodSpec")).is_err());
}

mod properties {
    use super::*;
    use k8s_openapi::DeepMerge;
    use k8s_openapi::api::core::v1::PodSpec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn containers() -> impl Strategy<Value = Value> {
        let env = proptest::collection::btree_map("[A-C]", "[a-z]{0,2}", 0..3);
        let one = (proptest::option::of("[a-z]{1,3}"), env);
        proptest::collection::btree_map("[a-d]", one, 1..4).prop_map(|all| {
            all.into_iter()
                .map(|(name, (image, env))| {
                    let env: Vec<Value> = env.iter().map(|(k, v)| json!({"name": k, "value": v})).collect();
                    let mut container = json!({"name": name, "env": env});
                    if let Some(image) = image {
                        container["image"] = json!(image);
                    }
                    container
                })
                .collect()
        })
    }

    // No atomic maps here: the typed merge replaces them, strategic merge merges them.
    fn spec() -> impl Strategy<Value = Value> {
        let host = proptest::option::of("[a-z]{1,3}");
        (containers(), host).prop_map(|(containers, host)| {
            let mut spec = json!({"containers": containers});
            if let Some(host) = host {
                spec["hostname"] = json!(host);
            }
            spec
        })
    }

    /// Lists that merge by key are sets as far as this comparison goes.
    fn sorted(mut value: Value) -> Value {
        fn walk(value: &mut Value) {
            match value {
                Value::Array(list) => {
                    list.iter_mut().for_each(walk);
                    list.sort_by_key(|v| v["name"].as_str().unwrap_or_default().to_owned());
                }
                Value::Object(map) => {
                    map.values_mut().for_each(walk);
                    map.retain(|_, v| v.as_array().is_none_or(|l| !l.is_empty()));
                    map.retain(|_, v| v.as_object().is_none_or(|m| !m.is_empty()));
                }
                _ => {}
            }
        }
        walk(&mut value);
        value
    }

    proptest! {
        #[test]
        fn merging_agrees_with_the_typed_merge(original in spec(), patch in spec()) {
            let ours = pod_spec(original.clone(), patch.clone()).expect("merges");
            let mut typed: PodSpec = serde_json::from_value(original).expect("a spec");
            typed.merge_from(serde_json::from_value(patch).expect("a spec"));
            prop_assert_eq!(sorted(ours), sorted(serde_json::to_value(typed).expect("JSON")));
        }

        #[test]
        fn merging_twice_changes_nothing_more(original in spec(), patch in spec()) {
            let once = pod_spec(original, patch.clone()).expect("merges");
            prop_assert_eq!(pod_spec(once.clone(), patch).expect("merges"), once);
        }

        #[test]
        fn merged_lists_hold_each_name_once(original in spec(), patch in spec()) {
            let merged = pod_spec(original, patch).expect("merges");
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for container in merged["containers"].as_array().expect("a list") {
                *seen.entry(container["name"].to_string()).or_default() += 1;
            }
            prop_assert!(seen.values().all(|n| *n == 1));
        }

        #[test]
        fn no_patch_panics(patch in proptest::collection::btree_map(
            prop_oneof![Just("containers"), Just("$setElementOrder/containers"), Just("$patch"), Just("$retainKeys"), Just("volumes"),
                Just("$deleteFromPrimitiveList/containers"), Just("nodeSelector")],
            prop_oneof![Just(json!(null)), Just(json!([])), Just(json!({})), Just(json!("replace")), Just(json!(["a"])),
                Just(json!([{"name": "a"}])), Just(json!([{"$patch": "delete"}])), Just(json!([{"name": "a", "$patch": "delete"}])), Just(json!([null]))],
            0..5,
        )) {
            let patch: Map<String, Value> = patch.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            let original = json!({"containers": [{"name": "a"}, {"name": "b"}], "nodeSelector": {"a": "b"}});
            drop(pod_spec(original, Value::Object(patch)));
        }
    }
}

#[test]
fn long_lists_merge_in_reasonable_time() {
    // Quadratic work on these would take minutes, and the test runner would give up.
    let names =
        |from: usize, to: usize| (from..to).map(|i| json!({"name": format!("c{i}")})).collect::<Vec<_>>();
    let original = json!({"containers": names(0, 40_000)});
    let patch = json!({"containers": names(20_000, 60_000), "$setElementOrder/containers": names(0, 60_000)});
    let got = pod_spec(original, patch).expect("merges");
    assert_eq!(got["containers"].as_array().map(Vec::len), Some(60_000));
    let numbers = |from: usize, to: usize| (from..to).map(|i| i.to_string()).collect::<Vec<_>>();
    let meta = json!({"finalizers": numbers(0, 50_000)});
    let patch = json!({"finalizers": numbers(40_000, 90_000), "$deleteFromPrimitiveList/finalizers": numbers(0, 30_000)});
    let got = strategic(meta.clone(), &patch, ty("apis.meta.v1.ObjectMeta")).expect("merges");
    assert_eq!(got["finalizers"].as_array().map(Vec::len), Some(60_000));
}

#[test]
fn lists_whose_elements_are_of_several_types_do_not_merge() {
    let patch = json!({"containers": [null]});
    let refused = pod_spec(json!({"containers": [{"name": "a"}]}), patch).expect_err("refused");
    assert_eq!(refused.to_string(), "list element types are not identical: [[map[name:a]] [<nil>]]");
    assert_eq!(refused.to_status().code(), 500);
}
