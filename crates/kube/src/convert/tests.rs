use super::*;
use crate::resource::resources;
use serde_json::json;

fn gv(group: &str, version: &str) -> GroupVersion {
    let found = resources().group_versions().iter().find(|g| g.group == group && g.version == version);
    *found.unwrap_or_else(|| panic!("{group}/{version}"))
}

#[test]
fn an_autoscaler_of_v2_reads_as_v1() {
    let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h1"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d1", "apiVersion": "apps/v1"}, "minReplicas": 1, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]},
        "status": {"desiredReplicas": 0, "currentMetrics": null}});
    let v1 = convert(v2.clone(), gv("autoscaling", "v2"), gv("autoscaling", "v1")).expect("v1");
    assert_eq!(
        v1,
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h1"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d1", "apiVersion": "apps/v1"}, "minReplicas": 1,
                "maxReplicas": 3, "targetCPUUtilizationPercentage": 80},
            "status": {"currentReplicas": 0, "desiredReplicas": 0}})
    );
    assert_eq!(convert(v1, gv("autoscaling", "v1"), gv("autoscaling", "v2")).expect("v2"), v2);
}

#[test]
fn what_v1_cannot_say_survives_the_way_there_and_back() {
    let target = |t: Value| t;
    let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "annotations": {"a": "b"}},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 50}}},
                {"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": target(json!({"type": "AverageValue", "averageValue": "5"}))}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "x"}, "target": {"type": "Value", "value": "7"}}},
                {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "AverageValue", "averageValue": "2"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            ]},
        "status": {"desiredReplicas": 2, "currentReplicas": 1,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "1m"}}}],
            "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let v1 = convert(v2.clone(), gv("autoscaling", "v2"), gv("autoscaling", "v1")).expect("v1");
    assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 7);
    assert_eq!(convert(v1, gv("autoscaling", "v1"), gv("autoscaling", "v2")).expect("v2"), v2);
}

#[test]
fn what_v1_cannot_say_is_written_as_go_writes_it() {
    let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3,
            "behavior": {"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}},
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}},
                {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s", "apiVersion": "v1"},
                    "metric": {"name": "x", "selector": {"matchLabels": {"type": "z", "kind": "z"}}}, "target": {"type": "AverageValue", "averageValue": "7"}}},
            ]},
        "status": {"desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True", "message": "a < b"}]}});
    let v1 = convert(v2, gv("autoscaling", "v2"), gv("autoscaling", "v1")).expect("v1");
    let note = |name: &str| {
        v1["metadata"]["annotations"][format!("autoscaling.alpha.kubernetes.io/{name}")].as_str()
    };
    assert_eq!(
        note("behavior"),
        Some(
            r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}"#
        )
    );
    assert_eq!(
        note("metrics"),
        Some(
            r#"[{"type":"Object","object":{"target":{"kind":"Service","name":"s","apiVersion":"v1"},"metricName":"x","targetValue":"0","selector":{"matchLabels":{"kind":"z","type":"z"}},"averageValue":"7"}}]"#
        )
    );
    assert_eq!(
        note("conditions"),
        Some(r#"[{"type":"AbleToScale","status":"True","lastTransitionTime":null,"message":"a \u003c b"}]"#)
    );
    let back = convert(v1, gv("autoscaling", "v1"), gv("autoscaling", "v2")).expect("v2");
    assert_eq!(
        back["spec"]["metrics"][0]["object"]["target"],
        json!({"type": "AverageValue", "averageValue": "7"})
    );
    assert_eq!(back["spec"]["metrics"][1]["resource"]["target"]["averageUtilization"], 80);
    assert_eq!(back["spec"]["behavior"]["scaleUp"]["policies"][0]["value"], 4);
}

#[test]
fn an_event_reads_the_same_in_both_groups() {
    let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"},
        "reason": "X", "message": "m", "source": {"component": "c"}, "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": null, "count": 3, "type": "Normal", "eventTime": null, "reportingComponent": "", "reportingInstance": ""});
    let new = convert(core.clone(), gv("", "v1"), gv("events.k8s.io", "v1")).expect("events.k8s.io");
    assert_eq!(
        (&new["note"], &new["deprecatedCount"], &new["regarding"]["name"]),
        (&json!("m"), &json!(3), &json!("p"))
    );
    assert_eq!(new["deprecatedSource"], json!({"component": "c"}));
    assert_eq!(convert(new, gv("events.k8s.io", "v1"), gv("", "v1")).expect("core"), core);
}

#[test]
fn other_conversions_are_refused() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod"});
    assert!(convert(pod, gv("", "v1"), gv("apps", "v1")).is_err());
}
