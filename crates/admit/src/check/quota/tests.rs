//! Claims about quotas, over worlds of a few objects.

use super::*;
use crate::tests::{Objects, request};
use crate::{Operation, World};
use serde_json::json;

fn world(hard: Value, extra: &[Value]) -> Objects {
    let mut objects = Objects::default();
    objects.add("", "namespaces", json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}}));
    let quota = json!({"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": hard}});
    objects.add("", "resourcequotas", quota);
    for pod in extra {
        objects.add("", "pods", pod.clone());
    }
    objects
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn refusal(world: &dyn World, pod: &Value) -> Option<String> {
    let request = request(Operation::Create, "", "pods", "ns", "p");
    check(&request, pod, None, world).err().map(|s| s.message)
}

#[test]
fn one_too_many_is_told_in_the_stock_servers_words() {
    let w = world(json!({"pods": "1", "requests.cpu": "1500m"}), &[pod("a", "1")]);
    assert_eq!(
        refusal(&w, &pod("p", "1")).as_deref(),
        Some(
            "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=1, used: pods=1,requests.cpu=1, limited: pods=1,requests.cpu=1500m"
        )
    );
}

#[test]
fn what_has_ended_costs_nothing() {
    let mut done = pod("a", "1");
    done["status"] = json!({"phase": "Succeeded"});
    assert_eq!(refusal(&world(json!({"pods": "1"}), &[done]), &pod("p", "1")), None);
}

#[test]
fn a_limited_resource_must_be_spoken_of() {
    let w = world(json!({"memory": "1Gi", "limits.cpu": "1"}), &[]);
    assert_eq!(
        refusal(&w, &pod("p", "1")).as_deref(),
        Some("pods \"p\" is forbidden: failed quota: q: must specify limits.cpu for: c; memory for: c")
    );
}

#[test]
fn scopes_choose_the_pods_that_count() {
    let mut w = world(json!({"pods": "0"}), &[]);
    w.change("", "resourcequotas", "ns", "q", |q| q["spec"]["scopes"] = json!(["BestEffort"]));
    assert_eq!(refusal(&w, &pod("p", "1")), None);
    let best_effort =
        json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [{"name": "c"}]}});
    assert!(refusal(&w, &best_effort).is_some());
}

#[test]
fn init_containers_count_by_their_peak_and_sidecars_always() {
    let r = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let spec = json!({
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": r("1")},
            {"name": "i", "resources": r("5")},
        ],
        "containers": [{"name": "c", "resources": r("2")}],
        "overhead": {"cpu": "250m"},
    });
    assert_eq!(pod_resources(&spec, "requests")["cpu"].to_string(), "6250m");
}

#[test]
fn a_scope_can_choose_by_class() {
    let mut w = world(json!({"pods": "0"}), &[]);
    let of_class = |name: &str| {
        let mut p = pod("p", "1");
        p["spec"]["priorityClassName"] = json!(name);
        p
    };
    for (operator, values, counts) in [
        ("In", json!(["high"]), [true, false, false]),
        ("NotIn", json!(["high"]), [false, true, true]),
        ("Exists", json!([]), [true, true, false]),
        ("DoesNotExist", json!([]), [false, false, true]),
    ] {
        w.change("", "resourcequotas", "ns", "q", |q| {
            q["spec"]["scopeSelector"] = json!({"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": operator, "values": values}]});
        });
        for (pod, counted) in [of_class("high"), of_class("low"), pod("p", "1")].iter().zip(counts) {
            assert_eq!(refusal(&w, pod).is_some(), counted, "{operator} {pod}");
        }
    }
}

#[test]
fn claims_are_counted_by_the_class_of_their_attributes() {
    let mut w = world(json!({"persistentvolumeclaims": "0"}), &[]);
    let claim = |wants: &str, has: &str| {
        let mut c = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {}});
        if !wants.is_empty() {
            c["spec"]["volumeAttributesClassName"] = json!(wants);
        }
        if !has.is_empty() {
            c["status"]["currentVolumeAttributesClassName"] = json!(has);
        }
        c
    };
    let counted = |w: &Objects, claim: &Value| {
        let request = request(Operation::Create, "", "persistentvolumeclaims", "ns", "p");
        check(&request, claim, None, w).is_err()
    };
    let claims = [claim("gold", ""), claim("silver", "gold"), claim("silver", ""), claim("", "")];
    for (operator, values, want) in [
        ("In", json!(["gold"]), [true, true, false, false]),
        ("NotIn", json!(["gold"]), [false, true, true, true]),
        ("Exists", json!([]), [true, true, true, false]),
        ("DoesNotExist", json!([]), [false, false, false, true]),
    ] {
        w.change("", "resourcequotas", "ns", "q", |q| {
            q["spec"]["scopeSelector"] = json!({"matchExpressions": [
                {"scopeName": "VolumeAttributesClass", "operator": operator, "values": values}]});
        });
        assert_eq!(claims.each_ref().map(|c| counted(&w, c)), want, "{operator}");
    }
    // Scopes of pods say nothing of claims.
    w.change("", "resourcequotas", "ns", "q", |q| {
        q["spec"]["scopeSelector"] =
            json!({"matchExpressions": [{"scopeName": "Terminating", "operator": "Exists"}]});
    });
    assert!(!counted(&w, &claims[0]));
}

#[test]
fn a_pod_of_many_amounts_costs_what_its_largest_moment_does() {
    let amounts = |of: &[(&str, &str)]| -> Value {
        of.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect::<serde_json::Map<_, _>>().into()
    };
    let container = |of: &[(&str, &str)], policy: &str| json!({"resources": {"requests": amounts(of)}, "restartPolicy": policy});
    let spec = json!({
        "containers": [container(&[("cpu", "1"), ("a.b/c", "1")], "")],
        "initContainers": [
            container(&[("cpu", "3"), ("a.b/c", "1")], ""),
            container(&[("cpu", "1"), ("memory", "1"), ("a.b/d", "2")], "Always"),
            container(&[("cpu", "4"), ("a.b/d", "1")], ""),
            container(&[("cpu", "1")], "Always"),
        ],
    });
    let cost: Vec<String> =
        evaluate::pod_resources(&spec, "requests").iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(cost, ["a.b/c=1", "a.b/d=3", "cpu=5", "memory=1"]);
    // Held against each other they would take minutes.
    let many: serde_json::Map<String, Value> = (0..LEN).map(|i| (format!("a.b/{i}"), "1".into())).collect();
    let mut inits = vec![json!({"resources": {"requests": many}, "restartPolicy": "Always"})];
    inits.extend((0..LEN).map(|_| json!({"name": "i"})));
    let spec = json!({"containers": [{}], "initContainers": inits});
    assert_eq!(evaluate::pod_resources(&spec, "requests").len(), LEN);
}

const LEN: usize = 20_000;
