//! Sizes by what pods use, the pace and the limits, and what is told of them.

use super::*;
use stoa_kube::typed::Pod;

fn at(seconds: u64) -> Time {
    Time::parse("2026-01-01T00:00:00Z").expect("a time").plus(Duration::from_secs(seconds))
}

const NOW: u64 = 10_000;

/// A pod that asks for 100m of CPU and 1Mi, has been ready for long, and is changed by `patch`.
fn pod(name: &str, patch: &Value) -> Pod {
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": at(10).to_rfc3339_seconds()});
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}}]},
        "status": {"phase": "Running", "startTime": at(0).to_rfc3339_seconds(), "conditions": [ready]}});
    for (path, value) in patch.as_object().into_iter().flatten() {
        *pod.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
    }
    serde_json::from_value(pod).expect("a pod")
}

fn used(pod: &str, cpu: i64) -> Usage {
    let amounts = BTreeMap::from([("cpu".to_string(), cpu), ("memory".to_string(), cpu * 10_000_000)]);
    Usage {
        pod: pod.into(),
        at: at(NOW - 5),
        window: Duration::from_secs(10),
        containers: vec![("c".into(), amounts)],
    }
}

fn autoscaler(spec: &Value) -> HorizontalPodAutoscaler {
    let mut whole = json!({"metadata": {"name": "h", "namespace": "d"}, "spec": {"minReplicas": 1, "maxReplicas": 20,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "metrics": [{"type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        whole["spec"][field] = value.clone();
    }
    serde_json::from_value(whole).expect("an autoscaler")
}

fn size(wanted: i32) -> Size {
    Size { wanted, found: wanted, selector: "app=d".into() }
}

/// Looks once, with nothing remembered.
fn look(spec: &Value, pods: Vec<Pod>, usage: Vec<Usage>) -> (Plan, Value) {
    let autoscaler = autoscaler(spec);
    let wanted = i32::try_from(pods.len()).expect("few");
    let look = Look {
        now: at(NOW),
        autoscaler: &autoscaler,
        size: Ok(size(wanted)),
        pods,
        usage: Ok(usage),
        rivals: vec!["d/h".into()],
    };
    let mut memory = Memory::default();
    let rescale = look.plan(&mut memory);
    let told = look.plan(&mut Memory::default());
    let (status, events) = told.conclude(&look, &mut memory, &json!({}), Ok(()));
    (Plan { events, ..rescale }, status)
}

fn replicas(spec: &Value, pods: Vec<Pod>, usage: Vec<Usage>) -> Option<i32> {
    look(spec, pods, usage).0.rescale.map(|(n, _)| n)
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

#[test]
fn sizes_follow_what_pods_use_of_what_they_ask_for() {
    let plain = json!({});
    let pods = |n: usize| (0..n).map(|i| pod(&format!("p{i}"), &plain)).collect::<Vec<_>>();
    let all =
        |cpus: &[i64]| cpus.iter().enumerate().map(|(i, c)| used(&format!("p{i}"), *c)).collect::<Vec<_>>();
    for (cpus, wanted) in [
        (&[100, 100][..], Some(4)),
        (&[50, 50], None),
        // Within a tenth of the target nothing is done.
        (&[55, 55], None),
        (&[56, 56], Some(3)),
        // Without rules of its own it stays with the highest of what was recommended of late.
        (&[10, 10, 10], None),
        (&[300], Some(4)),
    ] {
        assert_eq!(replicas(&plain, pods(cpus.len()), all(cpus)), wanted, "{cpus:?}");
    }
    let (plan, status) = look(&plain, pods(2), all(&[100, 100]));
    assert_eq!(
        plan.events,
        [(
            Level::Normal,
            "SuccessfulRescale",
            "New size: 4; reason: cpu resource utilization (percentage of request) above target".to_string()
        )]
    );
    let current = json!({"averageUtilization": 100, "averageValue": "100m"});
    assert_eq!(
        status["currentMetrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}])
    );
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(2), &json!(4)));
    assert_eq!(status["lastScaleTime"], at(NOW).to_rfc3339_seconds());
    for (kind, status_is, reason) in [
        (ABLE, "True", "SucceededRescale"),
        (ACTIVE, "True", "ValidMetricFound"),
        (LIMITED, "False", "DesiredWithinRange"),
    ] {
        let c = condition(&status, kind);
        assert_eq!((&c["status"], &c["reason"]), (&json!(status_is), &json!(reason)), "{kind}");
    }
}

#[test]
fn pods_that_are_not_measured_or_not_ready_speak_against_a_change() {
    let plain = json!({});
    let starting = json!({"/status/startTime": at(NOW - 100).to_rfc3339_seconds(),
        "/status/conditions/0/status": "False"});
    let never_ready = json!({"/status/conditions/0/status": "False"});
    let down = json!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 900, "periodSeconds": 15}]}}});
    let three = |third: &Value| vec![pod("a", &plain), pod("b", &plain), pod("c", third)];
    for (what, third, usage, wanted) in [
        ("missing, up", &plain, vec![used("a", 200), used("b", 200)], Some(8)),
        ("missing, a little up", &plain, vec![used("a", 60), used("b", 60)], None),
        // The one that is missing is taken to use all that it asks for.
        ("missing, down", &plain, vec![used("a", 5), used("b", 5)], None),
        ("pending, up", &json!({"/status/phase": "Pending"}), vec![used("a", 200), used("b", 200)], Some(8)),
        ("pending, down", &json!({"/status/phase": "Pending"}), vec![used("a", 5), used("b", 5)], Some(1)),
        ("failed", &json!({"/status/phase": "Failed"}), vec![used("a", 200), used("b", 200)], Some(8)),
        ("starting", &starting, vec![used("a", 200), used("b", 200), used("c", 1_000)], Some(8)),
        ("never ready", &never_ready, vec![used("a", 200), used("b", 200), used("c", 900)], Some(8)),
    ] {
        assert_eq!(replicas(&down, three(third), usage), wanted, "{what}");
    }
    // Memory counts from the first moment.
    let mut memory = down;
    memory["metrics"] = json!([{"type": "Resource", "resource": {"name": "memory",
        "target": {"type": "AverageValue", "averageValue": "1Mi"}}}]);
    let (plan, status) =
        look(&memory, three(&starting), vec![used("a", 200), used("b", 200), used("c", 200)]);
    assert_eq!(plan.rescale, Some((6, "memory resource above target".to_string())));
    assert_eq!(status["currentMetrics"][0]["resource"]["current"], json!({"averageValue": "2000000"}));
}

#[test]
fn what_cannot_be_told_is_told_so() {
    let plain = json!({});
    let metrics = |all: Value| json!({ "metrics": all });
    let bare = json!({"/spec/containers/0/resources": {}});
    let hits = json!({"name": "hits", "selector": {"matchLabels": {"a": "b"}}});
    let external = json!([{"type": "External", "external": {"metric": hits, "target": {"type": "AverageValue", "averageValue": "10"}}}]);
    let object = json!([{"type": "Object", "object": {"metric": hits, "target": {"type": "Value", "value": "10"},
        "describedObject": {"apiVersion": "v1", "kind": "Service", "name": "s"}}}]);
    let container = json!([{"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "x",
        "target": {"type": "Utilization", "averageUtilization": 50}}}]);
    let selector =
        "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{},}";
    for (spec, pods, usage, reason, why) in [
        (plain.clone(), vec![pod("a", &plain)], vec![], "FailedGetResourceMetric",
            "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API".to_string()),
        (plain.clone(), vec![pod("a", &bare)], vec![used("a", 1)], "FailedGetResourceMetric",
            "failed to get cpu utilization: missing request for cpu in container c of Pod a".into()),
        (plain.clone(), vec![pod("a", &json!({"/status/phase": "Pending"}))], vec![used("a", 1)], "FailedGetResourceMetric",
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)".into()),
        (metrics(container), vec![pod("a", &plain)], vec![used("a", 1)], "FailedGetContainerResourceMetric",
            "failed to get cpu utilization: did not receive metrics for targeted pods (pods might be unready)".into()),
        (metrics(external), vec![pod("a", &plain)], vec![], "FailedGetExternalMetric",
            format!("unable to get external metric d/hits/{selector}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get hits.external.metrics.k8s.io)")),
        (metrics(object), vec![pod("a", &plain)], vec![], "FailedGetObjectMetric",
            "unable to get metric hits: Service on d s/unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered".into()),
    ] {
        let (plan, status) = look(&spec, pods, usage);
        assert_eq!(plan.rescale, None);
        assert_eq!((plan.events[0].1, &plan.events[0].2), (reason, &why));
        let (_, sum, text) = &plan.events[1];
        assert_eq!(*sum, "FailedComputeMetricsReplicas");
        assert!(text.starts_with("invalid metrics (1 invalid out of 1), first error is: failed to get ") && text.ends_with(&why), "{text}");
        let active = condition(&status, ACTIVE);
        assert_eq!((&active["status"], &active["reason"]), (&json!("False"), &json!(reason)));
        assert_eq!(active["message"], format!("the HPA was unable to compute the replica count: {why}"));
        assert_eq!((&status["currentMetrics"], &status["desiredReplicas"]), (&json!([{"type": ""}]), &json!(0)));
    }
}

#[test]
fn one_metric_that_fails_keeps_it_from_shrinking_only() {
    let two = json!({"metrics": [
        {"type": "Pods", "pods": {"metric": {"name": "hits"}, "target": {"type": "AverageValue", "averageValue": "1"}}},
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]});
    let pods = || vec![pod("a", &json!({})), pod("b", &json!({}))];
    let (plan, status) = look(&two, pods(), vec![used("a", 100), used("b", 100)]);
    assert_eq!(plan.rescale.map(|(n, _)| n), Some(4));
    assert_eq!(status["currentMetrics"][0], json!({"type": ""}));
    let (plan, status) = look(&two, pods(), vec![used("a", 10), used("b", 10)]);
    assert_eq!(plan.rescale, None);
    assert_eq!(condition(&status, ACTIVE)["reason"], "FailedGetPodsMetric");
}

#[test]
fn whose_size_or_pods_are_in_doubt_is_left_alone() {
    let autoscaler = autoscaler(&json!({}));
    let with = |size: Result<Size, String>, rivals: &[&str]| {
        let look = Look {
            now: at(NOW),
            autoscaler: &autoscaler,
            size,
            pods: vec![pod("a", &json!({}))],
            usage: Ok(vec![used("a", 500)]),
            rivals: rivals.iter().map(ToString::to_string).collect(),
        };
        let plan = look.plan(&mut Memory::default());
        let asked = plan.rescale.clone();
        let (status, events) = plan.conclude(&look, &mut Memory::default(), &json!({}), Err("no".into()));
        (asked, status, events.into_iter().map(|(_, reason, _)| reason).collect::<Vec<_>>())
    };
    let (asked, status, events) = with(Err("gone".into()), &[]);
    assert_eq!((asked, events), (None, vec!["FailedGetScale"]));
    assert_eq!(
        condition(&status, ABLE)["message"],
        "the HPA controller was unable to get the target's current scale: gone"
    );
    let (asked, status, events) = with(Ok(size(1)), &["d/g", "d/h"]);
    assert_eq!((asked, events), (None, vec!["AmbiguousSelector", "FailedComputeMetricsReplicas"]));
    assert_eq!(
        condition(&status, ACTIVE)["message"],
        "pods by selector app=d are controlled by multiple HPAs: [d/g d/h]"
    );
    let (asked, status, events) = with(Ok(Size { selector: String::new(), ..size(1) }), &[]);
    assert_eq!((asked, events), (None, vec!["SelectorRequired", "FailedComputeMetricsReplicas"]));
    assert_eq!(condition(&status, ACTIVE)["reason"], "InvalidSelector");
    let (asked, status, events) = with(Ok(size(0)), &["d/h"]);
    assert_eq!((asked, events.len()), (None, 0));
    assert_eq!(condition(&status, ACTIVE)["reason"], "ScalingDisabled");
    assert!(status["currentMetrics"].is_null() && status["currentReplicas"].is_null());
    let (asked, status, events) = with(Ok(size(25)), &["d/h"]);
    assert_eq!((asked.map(|(n, _)| n), events), (Some(20), vec!["FailedRescale"]));
    let able = condition(&status, ABLE);
    assert_eq!((&able["status"], &able["reason"]), (&json!("False"), &json!("FailedUpdateScale")));
    assert!(status["lastScaleTime"].is_null());
}

#[test]
fn it_goes_no_faster_than_its_policies_and_not_back_within_its_window() {
    let rules =
        |up: Value, down: Value| json!({"behavior": {"scaleUp": up, "scaleDown": down}, "maxReplicas": 100});
    let policy = |kind: &str, value: i32, seconds: i32| json!({"type": kind, "value": value, "periodSeconds": seconds});
    let side = |window: i32, select: &str, policies: Vec<Value>| json!({"stabilizationWindowSeconds": window, "selectPolicy": select, "policies": policies});
    // A look every quarter of a minute: what CPU each pod uses, and how many pods there are then.
    let run = |spec: &Value, begin: i32, cpus: &[i64]| -> Vec<(i32, String)> {
        let autoscaler = autoscaler(spec);
        let (mut memory, mut n, mut old, mut out) = (Memory::default(), begin, json!({}), Vec::new());
        for (step, cpu) in cpus.iter().enumerate() {
            let names: Vec<String> = (0..n).map(|i| format!("p{i}")).collect();
            let look = Look {
                now: at(NOW + 15 * step as u64),
                autoscaler: &autoscaler,
                size: Ok(size(n)),
                pods: names.iter().map(|p| pod(p, &json!({}))).collect(),
                usage: Ok(names.iter().map(|p| used(p, *cpu)).collect()),
                rivals: vec!["d/h".into()],
            };
            let plan = look.plan(&mut memory);
            let rescale = plan.rescale.clone();
            old = plan.conclude(&look, &mut memory, &old, Ok(())).0;
            n = rescale.map_or(n, |(to, _)| to);
            out.push((n, condition(&old, LIMITED)["reason"].as_str().unwrap_or_default().to_string()));
        }
        out
    };
    let sizes = |spec: &Value, begin, cpus: &[i64]| {
        run(spec, begin, cpus).into_iter().map(|(n, _)| n).collect::<Vec<_>>()
    };
    let none = side(0, "Disabled", vec![]);
    let four = side(0, "Max", vec![policy("Pods", 4, 60)]);
    assert_eq!(sizes(&rules(four.clone(), none.clone()), 2, &[500, 500, 500, 500, 500]), [6, 6, 6, 6, 10]);
    assert_eq!(run(&rules(four.clone(), none.clone()), 2, &[500])[0].1, "ScaleUpLimit");
    let least = side(0, "Min", vec![policy("Pods", 4, 15), policy("Percent", 10, 15)]);
    assert_eq!(sizes(&rules(least, none.clone()), 10, &[500, 500]), [11, 13]);
    let half = side(0, "Max", vec![policy("Percent", 50, 15)]);
    assert_eq!(sizes(&rules(none.clone(), half.clone()), 9, &[1, 1, 1]), [4, 2, 1]);
    assert_eq!(sizes(&rules(none.clone(), none.clone()), 9, &[1, 500]), [9, 9]);
    // Half a minute's window: it shrinks once what it grew by is that old.
    let later = side(30, "Max", vec![policy("Percent", 100, 15)]);
    assert_eq!(sizes(&rules(four, later), 4, &[50, 5, 5, 5]), [4, 4, 1, 1]);
    // Tolerance of its own.
    let mut close = rules(none.clone(), half);
    close["behavior"]["scaleDown"]["tolerance"] = json!("500m");
    assert_eq!(sizes(&close, 9, &[26, 24]), [9, 5]);
    // Without rules: twice as many at most, and for five minutes what was most recommended.
    assert_eq!(sizes(&json!({"maxReplicas": 100}), 3, &[500, 500, 500, 500, 500]), [6, 12, 24, 48, 96]);
    let mut cpus = vec![100];
    cpus.extend([5; 22]);
    let out = sizes(&json!({"maxReplicas": 100}), 3, &cpus);
    assert_eq!((out[0], out[20], out[21]), (6, 6, 1), "{out:?}");
}
