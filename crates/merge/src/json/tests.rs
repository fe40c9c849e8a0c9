use super::*;
use serde_json::json;

fn refused(document: Value, patch: Value) -> PatchError {
    json_patch(document.clone(), patch.to_string().as_bytes(), Look::Close).expect_err("refused")
}

#[test]
fn a_json_patch_is_applied_in_order() {
    let document = json!({"data": {"a": "1"}, "list": [1, 2, 3], "x/y": {"~": 0}});
    let patch = json!([
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "add", "path": "/data/b", "value": "2"},
        {"op": "remove", "path": "/data/a"},
        {"op": "add", "path": "/list/0", "value": 0},
        {"op": "add", "path": "/list/-", "value": 4},
        {"op": "replace", "path": "/x~1y/~0", "value": 1},
        {"op": "copy", "from": "/data", "path": "/copy"},
        {"op": "move", "from": "/data/b", "path": "/moved"},
    ]);
    assert_eq!(
        json_patch(document.clone(), patch.to_string().as_bytes(), Look::Close),
        Ok(json!({"data": {}, "list": [0, 1, 2, 3, 4], "x/y": {"~": 1}, "copy": {"b": "2"}, "moved": "2"}))
    );
}

#[test]
fn what_does_not_fit_is_refused_as_unprocessable() {
    for patch in [
        json!([{"op": "test", "path": "/data/b", "value": "9"}]),
        json!([{"op": "remove", "path": "/nope"}]),
        json!([{"op": "replace", "path": "/a/b", "value": 1}]),
        json!([{"op": "add", "path": "/list/7", "value": 1}]),
        json!([{"op": "move", "from": "/list", "path": "/list/0"}]),
    ] {
        let error = refused(json!({"data": {"b": "1"}, "list": []}), patch.clone());
        assert!(matches!(error, PatchError::Refused(_)), "{patch}: {error}");
        let status = serde_json::to_value(error.to_status()).expect("JSON");
        assert_eq!(
            (&status["code"], &status["reason"], &status["details"]),
            (&json!(422), &json!("Invalid"), &json!({}))
        );
    }
}

#[test]
fn a_field_that_is_not_there_is_null() {
    let document = json!({"meta": {"name": "a"}, "list": [1, 2, 3]});
    for (patch, result) in [
        // How the `kube` crate sets an object's first finalizer.
        (
            json!([{"op": "test", "path": "/meta/finalizers", "value": null}, {"op": "add", "path": "/meta/finalizers", "value": ["f"]}]),
            json!({"meta": {"name": "a", "finalizers": ["f"]}, "list": [1, 2, 3]}),
        ),
        (
            json!([{"op": "test", "path": "/meta/finalizers"}, {"op": "replace", "path": "/meta/name", "value": "b"}]),
            json!({"meta": {"name": "b"}, "list": [1, 2, 3]}),
        ),
        (
            json!([{"op": "replace", "path": "/meta/labels", "value": {"x": "y"}}]),
            json!({"meta": {"name": "a", "labels": {"x": "y"}}, "list": [1, 2, 3]}),
        ),
        (
            json!([{"op": "copy", "from": "/meta/none", "path": "/meta/copy"}]),
            json!({"meta": {"name": "a", "copy": null}, "list": [1, 2, 3]}),
        ),
        (
            json!([{"op": "replace", "path": "/list/-1", "value": 9}, {"op": "remove", "path": "/list/-3"}]),
            json!({"meta": {"name": "a"}, "list": [2, 9]}),
        ),
        (
            json!([{"op": "add", "path": "/list/-1", "value": 4}]),
            json!({"meta": {"name": "a"}, "list": [1, 2, 3, 4]}),
        ),
        (
            json!([{"op": "add", "path": "/meta/a~1b~01", "value": 1}]),
            json!({"meta": {"name": "a", "a/b~1": 1}, "list": [1, 2, 3]}),
        ),
        (json!([{"op": "replace", "path": "", "value": {"new": true}}]), json!({"new": true})),
    ] {
        assert_eq!(
            json_patch(document.clone(), patch.to_string().as_bytes(), Look::Close),
            Ok(result),
            "{patch}"
        );
    }
    for patch in [
        json!([{"op": "test", "path": "/meta/name", "value": null}]),
        json!([{"op": "test", "path": "/meta/none", "value": "a"}]),
        json!([{"op": "test", "path": "/none/name", "value": null}]),
        json!([{"op": "test", "path": "/meta/name/x", "value": null}]),
        json!([{"op": "remove", "path": "/meta/none"}]),
        json!([{"op": "replace", "path": "/list/3", "value": 1}]),
        json!([{"op": "replace", "path": "/list/-4", "value": 1}]),
        json!([{"op": "replace", "path": "", "value": 1}]),
        json!([{"op": "add", "path": "", "value": {}}]),
        json!([{"op": "move", "from": "/meta/none", "path": "/meta/x"}]),
        json!([null]),
    ] {
        assert!(matches!(refused(document.clone(), patch.clone()), PatchError::Refused(_)), "{patch}");
    }
}

#[test]
fn what_is_no_patch_is_a_bad_request() {
    for text in ["", "{}", "[1]"] {
        let error = json_patch(json!({}), text.as_bytes(), Look::Close).expect_err("refused");
        assert_eq!(error.to_status().code(), 400, "{text}: {error}");
    }
    // What is an operation and makes no sense cannot be carried out.
    for text in [
        "[{\"op\":\"jump\",\"path\":\"/a\"}]",
        "[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]",
        "[{\"op\":\"add\"}]",
    ] {
        let error = json_patch(json!({}), text.as_bytes(), Look::Close).expect_err("refused");
        assert_eq!(error.to_status().code(), 422, "{text}: {error}");
    }
    let null = json_patch(json!({}), b"[{\"op\":\"add\",\"path\":\"/a\"}]", Look::Close);
    assert_eq!(null.expect("a value that is not there is null"), json!({"a": null}));
}

#[test]
fn a_patch_can_exhaust_neither_memory_nor_stack() {
    let many = Value::Array(vec![json!({"op": "add", "path": "/a", "value": 1}); OPERATIONS_MAX + 1]);
    let error = refused(json!({}), many);
    assert_eq!(error.to_status().code(), 413);
    assert_eq!(error.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
    let doubling: Vec<Value> =
        (0..100).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a/{i}")})).collect();
    assert!(matches!(
        refused(json!({"a": {"x": "y".repeat(100)}}), Value::Array(doubling)),
        PatchError::Refused(_)
    ));
    let wide: Vec<Value> = (0..100).map(|_| json!({"op": "copy", "from": "", "path": "/a/-"})).collect();
    assert!(matches!(refused(json!({"a": []}), Value::Array(wide)), PatchError::Refused(_)));
    let bulky: Vec<Value> =
        (0..100).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/b/{i}")})).collect();
    assert!(matches!(
        refused(json!({"a": "y".repeat(100_000), "b": {}}), Value::Array(bulky)),
        PatchError::Refused(_)
    ));
}

#[test]
fn a_merge_patch_merges_maps_and_replaces_the_rest() {
    let document = json!({"data": {"a": "1", "b": "2"}, "list": [1], "gone": {"x": 1}});
    let patch = json!({"data": {"b": null, "c": "3"}, "list": [2], "gone": null, "new": {"a": null, "b": 1}});
    assert_eq!(
        merge_patch(document.clone(), patch.to_string().as_bytes(), Look::Close),
        Ok(json!({"data": {"a": "1", "c": "3"}, "list": [2], "new": {"b": 1}}))
    );
}

#[test]
fn what_cannot_be_read_is_told_as_closely_as_it_was_looked_at() {
    let odd = "error decoding patch: json: cannot unmarshal ";
    for (look, text, json, merge) in [
        (Look::Close, "{}", Some(format!("{odd}object into Go value of type []handlers.jsonPatchOp")), None),
        (
            Look::Plain,
            "{}",
            Some("json: cannot unmarshal object into Go value of type jsonpatch.Patch".into()),
            None,
        ),
        (
            Look::Close,
            "[1]",
            Some(format!("{odd}number into Go value of type handlers.jsonPatchOp")),
            Some(format!("{odd}array into Go value of type map[string]interface {{}}")),
        ),
        (
            Look::Plain,
            "[1]",
            Some("json: cannot unmarshal number into Go value of type jsonpatch.Operation".into()),
            None,
        ),
        (Look::Close, "null", None, Some("Invalid JSON Patch".into())),
        (
            Look::Close,
            "x",
            Some("error decoding patch: invalid character 'x' looking for beginning of value".into()),
            Some("error decoding patch: invalid character 'x' looking for beginning of value".into()),
        ),
        (
            Look::Plain,
            "x",
            Some("invalid character 'x' looking for beginning of value".into()),
            Some("Invalid JSON Patch".into()),
        ),
    ] {
        let said = |result: Result<Value, PatchError>| result.err().map(|e| e.to_string());
        assert_eq!(said(json_patch(json!({}), text.as_bytes(), look)), json, "{text} {look:?}");
        assert_eq!(said(merge_patch(json!({}), text.as_bytes(), look)), merge, "{text} {look:?}");
    }
}

#[test]
fn what_a_list_in_a_merge_patch_says_is_null_is_not_there() {
    let patch = br#"{"a": [{"b": null, "c": 1}, null, [{"d": null}]], "e": {"f": null}}"#;
    let merged = merge_patch(json!({"a": [{"b": 1}], "e": {"f": 1, "g": 2}}), patch, Look::Plain);
    assert_eq!(merged, Ok(json!({"a": [{"c": 1}, null, [{}]], "e": {"g": 2}})));
}
