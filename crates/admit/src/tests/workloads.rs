//! What makes pods: how it is updated, what its status may say, and what its containers do when they grow or stop.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::request;
use super::rules::causes;
use crate::{Operation, validate_update};

fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn of(plural: &str, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut o =
        json!({"metadata": {}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template()}});
    change(&mut o["spec"]);
    causes("apps", plural, "ns", o)
}

#[test]
fn a_kind_of_update_is_a_known_one() {
    let strategy = json!({"type": "Blue", "rollingUpdate": {"maxSurge": "10%"}});
    assert_eq!(
        of("deployments", |spec| spec["strategy"] = strategy.clone()),
        [
            r#"spec.strategy: Unsupported value: {"Type":"Blue","RollingUpdate":{"MaxUnavailable":0,"MaxSurge":"10%"}}: supported values: "Recreate", "RollingUpdate""#
        ]
    );
    assert_eq!(
        of("daemonsets", |spec| spec["updateStrategy"] = json!({"type": "Blue"})),
        [
            r#"spec.updateStrategy: Unsupported value: {"Type":"Blue","RollingUpdate":null}: supported values: "RollingUpdate", "OnDelete""#
        ]
    );
    assert_eq!(
        of("statefulsets", |spec| spec["updateStrategy"] = json!({"type": "Blue"})),
        [
            r#"spec.updateStrategy: Invalid value: {"Type":"Blue","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete'"#
        ]
    );
    let rolling = |unavailable: Value, surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
    assert_eq!(
        of("daemonsets", |spec| spec["updateStrategy"] = rolling(json!("200%"), json!(0))),
        [
            r#"spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "200%": must not be greater than 100%"#
        ]
    );
    let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": -1, "maxUnavailable": 0}});
    assert_eq!(
        of("statefulsets", |spec| spec["updateStrategy"] = partition),
        [
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ]
    );
}

#[test]
fn a_stateful_set_names_a_service_that_can_be() {
    for name in ["", "web", "0web"] {
        assert_eq!(
            of("statefulsets", |spec| spec["serviceName"] = name.into()),
            Vec::<String>::new(),
            "{name}"
        );
    }
    let found = of("statefulsets", |spec| spec["serviceName"] = "Web.x".into());
    assert!(
        found[0].starts_with(r#"spec.serviceName: Invalid value: "Web.x": a lowercase RFC 1123 label"#),
        "{found:?}"
    );
    let kept = json!({"whenDeleted": "Lose", "whenScaled": "Retain"});
    assert_eq!(
        of("statefulsets", |spec| spec["persistentVolumeClaimRetentionPolicy"] = kept),
        [
            r#"spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Lose": supported values: "Retain", "Delete""#
        ]
    );
}

#[test]
fn a_stateful_set_mounts_what_its_pods_claim() {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"name": "v"}, "spec": spec});
    let claims = json!([claim]);
    let mounts = |name: &str| {
        let container =
            json!([{"name": "c", "image": "i", "volumeMounts": [{"name": name, "mountPath": "/v"}]}]);
        of("statefulsets", |spec| {
            spec["volumeClaimTemplates"] = claims.clone();
            spec["template"]["spec"]["containers"] = container;
            // A volume of that name gives way, and the set names its pods itself.
            spec["template"]["spec"]["volumes"] = json!([{"name": "v"}]);
            spec["template"]["spec"]["hostname"] = json!("A_b");
            spec["template"]["spec"]["subdomain"] = json!("A_b");
        })
    };
    assert_eq!(mounts("v"), Vec::<String>::new());
    assert_eq!(mounts("w"), [r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "w""#]);
    let twice = of("statefulsets", |spec| {
        spec["volumeClaimTemplates"] = json!([claim, claim]);
        spec["template"]["spec"]["volumes"] =
            json!([{"name": "x", "emptyDir": {}}, {"name": "x", "emptyDir": {}}]);
    });
    assert_eq!(twice, [r#"spec.template.spec.volumes[2].name: Duplicate value: "x""#]);
    let bare = of("statefulsets", |spec| spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "v"}}]));
    let told = [
        "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
        "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
    ];
    assert_eq!(bare, told);
}

#[test]
fn nobody_is_matched_with_a_selector_that_is_none() {
    let selector =
        json!({"matchLabels": {"z": "y"}, "matchExpressions": [{"key": "a", "operator": "Likes"}]});
    let shown = r#"{"matchLabels":{"z":"y"},"matchExpressions":[{"key":"a","operator":"Likes"}]}"#;
    let operator = r#"spec.selector.matchExpressions[0].operator: Invalid value: "Likes": not a valid selector operator"#;
    for (plural, why) in [
        ("deployments", ": invalid label selector"),
        ("replicasets", ": invalid label selector"),
        ("statefulsets", ""),
    ] {
        assert_eq!(
            of(plural, |spec| spec["selector"] = selector.clone()),
            [operator.to_owned(), format!("spec.selector: Invalid value: {shown}{why}")],
            "{plural}"
        );
    }
    assert_eq!(of("daemonsets", |spec| spec["selector"] = selector.clone()), [operator]);
    let old = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template()}});
    let wider = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "Exists"}]});
    assert_eq!(
        super::rules::changes("apps", "deployments", old, |o| o["spec"]["selector"] = wider),
        [
            r#"spec.selector: Invalid value: {"matchLabels":{"a":"b"},"matchExpressions":[{"key":"a","operator":"Exists"}]}: field is immutable"#
        ]
    );
}

#[test]
fn a_status_counts_nothing_below_nothing() {
    let told = |group: &str, plural: &str, old: Value, new: Value| -> Vec<String> {
        let meta = json!({"name": "x", "namespace": "ns"});
        let with = |status: Value| json!({"metadata": meta, "spec": {"type": "ClusterIP"}, "status": status});
        let r =
            crate::Request { subresource: "status", ..request(Operation::Update, group, plural, "ns", "x") };
        validate_update(&r, &with(old), &with(new)).iter().map(Cause::to_string).collect()
    };
    let none = || json!({});
    assert_eq!(
        told(
            "apps",
            "statefulsets",
            json!({"collisionCount": 2}),
            json!({"replicas": 1, "currentReplicas": 2, "availableReplicas": 1, "collisionCount": 1})
        ),
        [
            "status.currentReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas",
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ]
    );
    let at_least_0 = "must be greater than or equal to 0";
    for (group, plural, key) in [
        ("apps", "daemonsets", "numberReady"),
        ("batch", "jobs", "ready"),
        ("autoscaling", "horizontalpodautoscalers", "desiredReplicas"),
        ("policy", "poddisruptionbudgets", "expectedPods"),
    ] {
        let found = told(group, plural, none(), json!({ key: -1 }));
        assert_eq!(found, [format!("status.{key}: Invalid value: -1: {at_least_0}")]);
    }
    assert_eq!(
        told(
            "batch",
            "jobs",
            none(),
            json!({"uncountedTerminatedPods": {"succeeded": ["u"], "failed": ["", "u"]}})
        ),
        [
            r#"status.uncountedTerminatedPods.failed[0]: Invalid value: "": must not be empty"#,
            r#"status.uncountedTerminatedPods.failed[1]: Duplicate value: "u""#,
        ]
    );
    let reached = json!({"loadBalancer": {"ingress": [{"hostname": "10.0.0.1"}, {"ip": "x"}]}});
    assert_eq!(
        told("networking.k8s.io", "ingresses", none(), reached.clone()),
        [
            r#"status.loadBalancer.ingress[0].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
            r#"status.loadBalancer.ingress[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ]
    );
    assert_eq!(
        told("", "services", none(), reached),
        [r#"status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"#]
    );
}

#[test]
fn a_container_stops_by_a_signal_of_its_system_and_grows_by_a_policy_a_resource() {
    let pod = |os: Value, container: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"});
        spec["os"] = os;
        for (key, value) in container.as_object().unwrap() {
            spec["containers"][0][key] = value.clone();
        }
        causes("", "pods", "ns", json!({"metadata": {}, "spec": spec}))
    };
    let stop = |signal: &str| json!({"lifecycle": {"stopSignal": signal}});
    for signal in ["SIGUSR1", "SIGRTMIN+15", "SIGRTMAX-14"] {
        assert_eq!(pod(json!({"name": "linux"}), stop(signal)), Vec::<String>::new(), "{signal}");
    }
    assert_eq!(
        pod(Value::Null, stop("SIGTERM")),
        [
            "spec.containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"
        ]
    );
    assert_eq!(
        pod(json!({"name": "windows"}), stop("SIGHUP")),
        [
            r#"spec.containers[0].lifecycle.stopSignal: Unsupported value: "SIGHUP": supported values: "SIGKILL", "SIGTERM""#
        ]
    );
    let found = pod(json!({"name": "linux"}), stop("SIGRTMIN+16"));
    assert!(
        found[0].contains(r#"supported values: "SIGABRT", "SIGALRM""#) && found[0].ends_with(r#""SIGXFSZ""#),
        "{found:?}"
    );
    let policies = json!({"resizePolicy": [
        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "cpu", "restartPolicy": "RestartContainer"},
        {"resourceName": "disk", "restartPolicy": "NotRequired"},
    ]});
    assert_eq!(
        pod(Value::Null, policies),
        [
            r#"spec.containers[0].resizePolicy[1]: Duplicate value: "cpu""#,
            r#"spec.containers[0].resizePolicy: Invalid value: "RestartContainer": must be 'NotRequired' when pod `restartPolicy` is 'Never'"#,
            r#"spec.containers[0].resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory""#,
        ]
    );
}

#[test]
fn what_changes_of_a_workload_is_judged_once() {
    for (group, plural, selector, want) in [
        (
            "apps",
            "daemonsets",
            json!({"matchLabels": {"c": "d"}}),
            ["spec.selector", "spec.template.metadata.labels", "spec.minReadySeconds"].as_slice(),
        ),
        (
            "apps",
            "replicasets",
            json!({"matchLabels": {"c": "d"}}),
            &["spec.minReadySeconds", "spec.template.metadata.labels", "spec.selector"],
        ),
        (
            "",
            "replicationcontrollers",
            json!({"c": "d"}),
            &["spec.minReadySeconds", "spec.template.metadata.labels"],
        ),
    ] {
        let r = request(Operation::Update, group, plural, "ns", "x");
        let with = |selector: &Value, seconds: i64| {
            let spec = json!({"selector": selector, "minReadySeconds": seconds, "template": template()});
            let mut object = json!({"metadata": {"name": "x", "namespace": "ns", "uid": "u"}, "spec": spec});
            crate::default(r.resource, &mut object);
            object
        };
        let own = if group.is_empty() { json!({"a": "b"}) } else { json!({"matchLabels": {"a": "b"}}) };
        let found = validate_update(&r, &with(&own, 0), &with(&selector, -1));
        let fields: Vec<&str> = found.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(fields, want, "{plural}");
    }
}

#[test]
fn a_share_that_is_none_is_none() {
    let rolling =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "some", "maxSurge": 0}});
    let found = of("daemonsets", |spec| spec["updateStrategy"] = rolling);
    let last =
        "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0";
    assert_eq!(found.last().map(String::as_str), Some(last), "{found:?}");
}
