use super::*;
use crate::resource::resources;
use serde_json::{Value, json};

fn answer(name: &str) -> Value {
    let text = include_str!("../../testdata/exchanges.jsonl");
    let all = text.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let found = all.into_iter().find(|e| e["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(found["status"], found["response"].get("code").unwrap_or(&json!(200)).clone(), "{name}");
    found["response"].clone()
}

fn resource(group: &str, plural: &str) -> &'static Resource {
    resources().find(group, "v1", plural).expect("a resource")
}

#[test]
fn refusals_read_as_a_stock_server_words_them() {
    let (pods, config_maps) = (resource("", "pods"), resource("", "configmaps"));
    let bodies = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
    let cases = [
        ("get missing", Status::not_found(pods, "nope")),
        ("create twice", Status::already_exists(config_maps, "cm1")),
        (
            "no name",
            Status::invalid_object(
                config_maps,
                "",
                vec![Cause::required("metadata.name", "name or generateName is required")],
            ),
        ),
        (
            "namespace mismatch",
            Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
        ),
        (
            "kind mismatch",
            Status::undecodable_kind(
                "Secret",
                "v1",
                "ConfigMap",
                "converting (v1.Secret) to (core.ConfigMap): unknown conversion",
            ),
        ),
        ("missing namespace", Status::not_found(resource("", "namespaces"), "absent")),
        (
            "pod without containers",
            Status::invalid_object(pods, "x", vec![Cause::required("spec.containers", "")]),
        ),
        ("conflict", Status::conflict_modified(config_maps, "cm1")),
        (
            "precondition uid",
            Status::conflict_uid(config_maps, "cm1", "wrong", "9fd132a8-55c6-47cd-b14c-f0d12f277b73"),
        ),
        (
            "role escalation target missing",
            Status::invalid_object(
                resource("rbac.authorization.k8s.io", "rolebindings"),
                "x",
                vec![
                    Cause::not_supported("roleRef.apiGroup", "x", &["rbac.authorization.k8s.io"]),
                    Cause::not_supported("roleRef.kind", "Foo", &["Role", "ClusterRole"]),
                ],
            ),
        ),
        (
            "immutable selector",
            Status::invalid_object(
                resource("apps", "deployments"),
                "d1",
                vec![
                    Cause::invalid(
                        "spec.template.metadata.labels",
                        json!({"a": "b"}),
                        "`selector` does not match template `labels`",
                    ),
                    Cause::immutable("spec.selector", json!({"matchLabels": {"a": "b", "z": "z"}})),
                ],
            ),
        ),
        ("unsupported media type", Status::unsupported_media_type(&bodies)),
        ("unknown resource", Status::unknown_path()),
        ("list future", Status::too_large_revision(99_999_999_999, 22754)),
        ("json patch, failing test", Status::patch_refused()),
        (
            "apply conflict",
            Status::apply_conflict(vec![Cause::new(
                "FieldManagerConflict",
                ".spec.replicas",
                "conflict with \"a\"",
            )]),
        ),
        ("binding to absent pod", Status::not_found(pods, "none")),
        (
            "binding twice",
            Status::conflict_named(
                "pods/binding",
                "",
                "p1",
                "pod p1 is already assigned to node \"fake-00146\"",
            ),
        ),
        ("delete returns status", Status::deleted(config_maps, "cm1", "<uid>")),
        ("eviction", Status::success(201)),
    ];
    for (name, status) in cases {
        let got = serde_json::to_value(&status).expect("JSON");
        assert_eq!(got, answer(name), "{name}");
        assert_eq!(serde_json::from_value::<Status>(got).expect("reads back"), status, "{name}");
        assert_eq!(status.code(), status.code.max(200), "{name}");
    }
}

#[test]
fn every_recorded_status_reads_and_writes_unchanged() {
    let text = include_str!("../../testdata/exchanges.jsonl");
    let mut count = 0;
    for line in text.lines() {
        let exchange: Value = serde_json::from_str(line).expect("JSON");
        if exchange["response"]["kind"] == "Status" {
            let status: Status = serde_json::from_value(exchange["response"].clone()).expect("a Status");
            assert_eq!(
                serde_json::to_value(status).expect("JSON"),
                exchange["response"],
                "{}",
                exchange["name"]
            );
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn a_message_names_each_cause_once_and_conflicts_by_manager() {
    let cause = Cause::required("a", "");
    let status = Status::invalid("Pod", "", "x", vec![cause.clone(), cause]);
    assert_eq!(status.message, "Pod \"x\" is invalid: a: Required value");
    assert_eq!(status.details.expect("details").causes.len(), 2);
    let conflict = |manager: &str, field: &str| {
        Cause::new("FieldManagerConflict", field, format!("conflict with {manager:?}"))
    };
    let status = Status::apply_conflict(vec![conflict("a", ".x"), conflict("a", ".y"), conflict("b", ".z")]);
    assert_eq!(
        status.message,
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .x\n- .y\nconflicts with \"b\":\n- .z"
    );
}

#[test]
fn forbidden_says_who_may_not_do_what() {
    let why = "User \"u\" cannot list resource \"pods\" in API group \"\" in the namespace \"n\"";
    let pods = resource("", "pods");
    assert_eq!(Status::forbidden(pods, "", why).message, format!("pods is forbidden: {why}"));
    assert_eq!(Status::forbidden(pods, "p", why).message, format!("pods \"p\" is forbidden: {why}"));
    assert_eq!(
        Status::forbidden_path("u", "get", "/x").message,
        "forbidden: User \"u\" cannot get path \"/x\""
    );
    assert_eq!(Status::too_many_requests("slow down", 3).retry_after_seconds(), Some(3));
}
