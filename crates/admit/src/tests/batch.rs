//! Jobs, cron jobs and autoscalers: a good object, a change to it, and what is said.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::kinds::table;
use super::request;
use super::rules::{causes, changes};
use crate::{Operation, Request, default, validate_update};

fn template() -> Value {
    json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn jobs_are_bounded() {
    let good = json!({"metadata": {}, "spec": {"completions": 200_000, "parallelism": 2, "completionMode": "Indexed",
        "manualSelector": true, "selector": {}, "template": template()}});
    table(
        "batch",
        "jobs",
        "ns",
        &good,
        &[
            (
                "/spec/parallelism",
                json!(100_001),
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ),
            (
                "/spec/backoffLimitPerIndex",
                json!(1),
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
            ),
            (
                "/spec/maxFailedIndexes",
                json!(1),
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            ),
            (
                "/spec/completionMode",
                json!("Some"),
                "spec.completionMode: Unsupported value: \"Some\": supported values: \"NonIndexed\", \"Indexed\"",
            ),
            (
                "/spec/managedBy",
                json!("acme.io/a b"),
                "spec.managedBy: Invalid value: \"a b\": Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
            ),
            (
                "/spec/managedBy",
                json!("me"),
                "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Always"),
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [{"onPodConditions": [{"type": "A", "status": "Maybe"}]}]}),
                "spec.podFailurePolicy.rules[0].action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]; spec.podFailurePolicy.rules[0].onPodConditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            ),
            (
                "/spec/successPolicy",
                json!({"rules": [{"succeededIndexes": "0,2-4", "succeededCount": 5}]}),
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 5: must be less than or equal to 4 (the number of indexes in the specified succeededIndexes field)",
            ),
            (
                "/spec/successPolicy",
                json!({"rules": [{"succeededIndexes": "3-2"}]}),
                "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"3-2\": error parsing succeededIndexes: non-increasing order, previous: 3, current: 2",
            ),
        ],
    );
    let mut plain = good.clone();
    plain["spec"]["completionMode"] = json!("NonIndexed");
    plain["spec"]["successPolicy"] = json!({"rules": [{"succeededCount": 1}]});
    assert_eq!(
        causes("batch", "jobs", "ns", plain),
        [
            r#"spec.successPolicy: Invalid value: {"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}: requires indexed completion mode"#
        ]
    );
    let mut unselected = good.clone();
    unselected["spec"]["selector"] = Value::Null;
    assert_eq!(
        causes("batch", "jobs", "ns", unselected),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
        ]
    );
}

#[test]
fn a_job_keeps_what_its_pods_are_made_from() {
    let job = |suspend: bool| {
        json!({"spec": {"completions": 2, "parallelism": 2, "manualSelector": true, "selector": {},
            "suspend": suspend, "template": template()}})
    };
    let changed = |suspend: bool, f: fn(&mut Value)| changes("batch", "jobs", job(suspend), f);
    assert_eq!(
        changed(false, |o| o["spec"]["completions"] = json!(3)),
        ["spec.completions: Invalid value: 3: field is immutable"]
    );
    let found = changed(false, |o| o["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(r#"spec.template: Invalid value: {"Spec":{"Volumes":null,"#), "{found:?}");
    assert!(found[0].ends_with(r#""SchedulingGroup":null}}: field is immutable"#), "{found:?}");
    for f in [
        (|o: &mut Value| o["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"})) as fn(&mut Value),
        |o| o["spec"]["template"]["metadata"] = json!({"labels": {"a": "b"}}),
        |o| o["spec"]["template"]["metadata"] = json!({"name": "n", "finalizers": ["a/b"]}),
        |o| o["spec"]["template"]["spec"]["schedulingGates"] = json!([{"name": "g"}]),
        |o| o["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {}}),
        |o| {
            o["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
        },
    ] {
        assert_eq!(changed(true, f), Vec::<String>::new());
    }
    let found = changed(true, |o| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j"));
    assert!(found[0].starts_with(r#"spec.template.spec: Invalid value: {"Volumes":null,"#), "{found:?}");
    assert!(found[0].ends_with("field is immutable"), "{found:?}");
    // Once it had pods it must have been suspended again, and lost them.
    let mut started = job(true);
    for (status, may) in [
        (json!({"startTime": "2026-01-01T00:00:00Z"}), false),
        (
            json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]}),
            true,
        ),
        (json!({"active": 1}), false),
    ] {
        started["status"] = status;
        let select = |o: &mut Value| o["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
        assert_eq!(
            changes("batch", "jobs", started.clone(), select).is_empty(),
            may,
            "{}",
            started["status"]
        );
    }
    // What is wrong with a changed job is said twice.
    let found = changed(false, |o| o["spec"]["parallelism"] = json!(-1));
    assert_eq!(found, ["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"; 2]);
}

#[test]
fn a_job_that_has_ended_has_ended() {
    let told = |spec: Value, old: Value, new: Value| -> Vec<String> {
        let r = Request { subresource: "status", ..request(Operation::Update, "batch", "jobs", "ns", "x") };
        let with = |status: Value| {
            let mut o = json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": spec, "status": status});
            default(r.resource, &mut o);
            o
        };
        validate_update(&r, &with(old), &with(new)).iter().map(Cause::to_string).collect()
    };
    let is =
        |kinds: &[&str]| -> Value { kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect() };
    let plain = || json!({"template": template()});
    let at = "2026-01-01T00:00:00Z";
    let done = || json!({"startTime": at, "completionTime": at, "conditions": is(&["SuccessCriteriaMet", "Complete"])});
    assert_eq!(told(plain(), json!({"startTime": at}), done()), Vec::<String>::new());
    assert_eq!(
        told(plain(), json!({}), json!({"conditions": is(&["Complete"])})),
        [
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.startTime: Required value: startTime is required for finished job",
        ]
    );
    assert_eq!(
        told(plain(), json!({"startTime": at}), json!({"startTime": at, "conditions": is(&["Failed"])})),
        [
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition"
        ]
    );
    let mut undone = done();
    undone["conditions"] = json!([]);
    undone["completionTime"] = Value::Null;
    assert_eq!(
        told(plain(), done(), undone),
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
    assert_eq!(
        told(plain(), json!({"failed": 2}), json!({"failed": 1, "ready": 1})),
        [
            "status.ready: Invalid value: 1: cannot set more ready pods than active",
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
        ]
    );
    let indexed = json!({"template": template(), "completionMode": "Indexed", "completions": 4, "backoffLimitPerIndex": 1});
    assert_eq!(
        told(indexed, json!({}), json!({"completedIndexes": "0-2", "failedIndexes": "2,3"})),
        [
            "status.failedIndexes: Invalid value: \"2,3\": failedIndexes and completedIndexes overlap at index: 2"
        ]
    );
}

#[test]
fn cron_jobs_are_judged_whole() {
    let good = json!({"metadata": {}, "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template()}}}});
    table(
        "batch",
        "cronjobs",
        "ns",
        &good,
        &[
            ("/spec/schedule", json!(""), "spec.schedule: Required value"),
            ("/spec/timeZone", json!("Europe/Berlin"), ""),
            (
                "/spec/timeZone",
                json!("europe/berlin"),
                "spec.timeZone: Invalid value: \"europe/berlin\": unknown time zone europe/berlin",
            ),
            (
                "/spec/timeZone",
                json!("Local"),
                "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
            ),
            (
                "/spec/timeZone",
                json!(""),
                "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string",
            ),
            (
                "/spec/schedule",
                json!("TZ=UTC * * * * *"),
                "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            ),
            (
                "/spec/concurrencyPolicy",
                json!("Maybe"),
                "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ),
            (
                "/spec/jobTemplate/spec/selector",
                json!({"matchLabels": {"a": "b"}}),
                "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated",
            ),
            (
                "/spec/jobTemplate/spec/manualSelector",
                json!(true),
                "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
            ),
        ],
    );
    let mut zoned = good.clone();
    zoned["spec"]["schedule"] = json!("CRON_TZ=UTC * * * * *");
    assert_eq!(
        changes("batch", "cronjobs", zoned, |o| o["spec"]["timeZone"] = json!("Etc/UTC")),
        [
            "spec.schedule: Invalid value: \"CRON_TZ=UTC * * * * *\": cannot use both timeZone field and TZ or CRON_TZ in schedule"
        ]
    );
}

#[test]
fn an_autoscaler_says_which_version_of_what_it_scales() {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let good = json!({"metadata": {}, "spec": {"maxReplicas": 3, "scaleTargetRef": target}});
    table(
        "autoscaling",
        "horizontalpodautoscalers",
        "ns",
        &good,
        &[
            (
                "/spec/scaleTargetRef/apiVersion",
                json!("v1"),
                "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            ),
            (
                "/spec/scaleTargetRef/apiVersion",
                json!("a/b/c"),
                "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            ),
            (
                "/spec/scaleTargetRef",
                json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "r"}),
                "",
            ),
            (
                "/spec/minReplicas",
                json!(0),
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1; spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ),
            (
                "/spec/maxReplicas",
                json!(-1),
                "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1; spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`",
            ),
            (
                "/spec/metrics",
                json!([{"type": "Some"}]),
                "spec.metrics[0].type: Unsupported value: \"Some\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"; spec.metrics[0].type: Unsupported value: \"Some\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
            ),
            (
                "/spec/metrics",
                json!([{"type": "ContainerResource", "containerResource": {"name": "disk", "container": "C",
                    "target": {"type": "Utilization", "averageUtilization": 50}}}]),
                "spec.metrics[0].containerResource.name: Invalid value: \"disk\": must be a standard resource type or fully qualified; spec.metrics[0].containerResource.name: Invalid value: \"disk\": must be a standard resource for containers; spec.metrics[0].containerResource.container: Invalid value: \"C\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                "/spec/metrics",
                json!([{"type": "ContainerResource", "containerResource": {"name": "A_", "container": "c",
                    "target": {"type": "Utilization", "averageUtilization": 50}}}]),
                "spec.metrics[0].containerResource.name: Invalid value: \"A_\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'); spec.metrics[0].containerResource.name: Invalid value: \"A_\": must be a standard resource for containers",
            ),
            (
                "/spec/behavior",
                json!({"scaleUp": {"policies": []}}),
                "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
            ),
            (
                "/spec/behavior",
                json!({"scaleUp": {"tolerance": "-1"}}),
                "spec.behavior.scaleUp.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
        ],
    );
    let old = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    assert_eq!(
        changes("autoscaling", "horizontalpodautoscalers", old, |o| o["spec"]["maxReplicas"] = json!(4)),
        Vec::<String>::new(),
        "what it was made with stays"
    );
}

#[test]
fn conditions_have_a_type_a_status_and_a_reason() {
    let r = Request {
        subresource: "status",
        ..request(Operation::Update, "policy", "poddisruptionbudgets", "ns", "x")
    };
    let with = |conditions: Value| json!({"metadata": {"name": "x", "namespace": "ns"}, "status": {"conditions": conditions}});
    let condition = json!({"type": "a b", "status": "Maybe", "reason": "no reason"});
    let found: Vec<String> = validate_update(&r, &with(json!([])), &with(json!([condition, condition])))
        .iter()
        .map(|c| format!("{} {}", c.field, c.reason))
        .collect();
    assert_eq!(
        found[..4],
        [
            "status.conditions[0].type FieldValueInvalid",
            "status.conditions[0].status FieldValueNotSupported",
            "status.conditions[0].lastTransitionTime FieldValueRequired",
            "status.conditions[0].reason FieldValueInvalid",
        ]
    );
    assert_eq!(found[4], "status.conditions[1].type FieldValueDuplicate");
}
