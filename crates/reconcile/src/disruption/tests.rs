use crate::stage::{Stage, pod_status};
use crate::{Controller, Key};
use serde_json::{Value, json};

fn stage(limits: &Value, replicas: i64, ready: usize) -> (Stage, Key) {
    let mut stage = Stage::new();
    stage.put(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "r", "namespace": "d", "uid": "r"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}}}}));
    for i in 0..replicas {
        stage.put(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("p{i}"), "namespace": "d", "labels": {"app": "a"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]},
            "spec": {"nodeName": "n"}}));
        let since = stage.world.now;
        let is_ready = usize::try_from(i).is_ok_and(|i| i < ready);
        stage.patch("pods", "d", &format!("p{i}"), &pod_status("Running", is_ready, since));
    }
    let mut spec = limits.clone();
    spec["selector"] = json!({"matchLabels": {"app": "a"}});
    let key = Key::new(Controller::Disruption, "d", "b");
    let named = stage.put(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "d", "generation": 1}, "spec": spec}));
    assert!(named.contains(&key));
    (stage, key)
}

#[test]
fn a_budget_allows_what_it_can_spare() {
    for (limits, replicas, ready, wanted) in [
        (json!({"minAvailable": 2}), 3, 3, [3, 2, 3, 1]),
        (json!({"minAvailable": 2}), 3, 1, [1, 2, 3, 0]),
        (json!({"minAvailable": "50%"}), 5, 5, [5, 3, 5, 2]),
        (json!({"maxUnavailable": 1}), 3, 3, [3, 2, 3, 1]),
        (json!({"maxUnavailable": "34%"}), 3, 3, [3, 1, 3, 2]),
        (json!({"maxUnavailable": 1}), 0, 0, [0, 0, 0, 0]),
    ] {
        let (mut stage, key) = stage(&limits, replicas, ready);
        stage.settle(&key);
        let s = &stage.get("poddisruptionbudgets", "d", "b")["status"];
        let got =
            ["currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed"].map(|f| s[f].clone());
        assert_eq!(json!(got), json!(wanted), "{limits} of {replicas}, {ready} ready");
        assert_eq!(s["observedGeneration"], 1);
        let reason = if wanted[3] > 0 { "SufficientPods" } else { "InsufficientPods" };
        assert_eq!(s["conditions"][0]["reason"], reason);
    }
}

#[test]
fn an_eviction_counts_until_its_pod_goes_or_its_time_is_up() {
    let (mut stage, key) = stage(&json!({"minAvailable": 2}), 3, 3);
    stage.settle(&key);
    let spent = json!({"status": {"disruptionsAllowed": 0, "disruptedPods": {"p0": "2026-01-01T00:00:00Z"}}});
    stage.patch("poddisruptionbudgets", "d", "b", &spent);
    assert!(stage.settle(&key).is_some(), "it is looked at again when the eviction is forgotten");
    assert_eq!(stage.get("poddisruptionbudgets", "d", "b")["status"]["disruptionsAllowed"], 0);
    stage.wait(121);
    stage.settle(&key);
    assert_eq!(stage.get("poddisruptionbudgets", "d", "b")["status"]["disruptionsAllowed"], 1);
}

#[test]
fn where_the_number_of_pods_is_unknown_none_may_go() {
    let (mut stage, key) = stage(&json!({"maxUnavailable": 1}), 2, 2);
    stage.settle(&key);
    assert_eq!(stage.get("poddisruptionbudgets", "d", "b")["status"]["disruptionsAllowed"], 1);
    stage.put(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "d", "uid": "j"}}));
    let named = stage.put(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "namespace": "d", "labels": {"app": "a"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": true}]}}));
    assert!(named.contains(&key));
    stage.settle(&key);
    let status = stage.get("poddisruptionbudgets", "d", "b")["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(status["conditions"][0]["reason"], "SyncFailed");
    assert_eq!(status["conditions"][0]["message"], "jobs.batch does not implement the scale subresource");
    assert_eq!(stage.events.len(), 1);
}

#[test]
fn what_a_budget_cannot_count_is_told() {
    let (mut empty, key) = stage(&json!({"minAvailable": 1}), 0, 0);
    empty.settle(&key);
    assert_eq!(empty.events, [("NoPods".to_string(), "No matching pods found".to_string())]);
    let (mut own, key) = stage(&json!({"maxUnavailable": 1}), 1, 1);
    own.patch("pods", "d", "p0", &json!({"metadata": {"ownerReferences": null}}));
    own.settle(&key);
    assert_eq!(own.events.len(), 1);
    let (reason, message) = &own.events[0];
    assert_eq!(reason, "UnmanagedPods");
    let shown = "(selector: &LabelSelector{MatchLabels:map[string]string{app: a,},MatchExpressions:[]LabelSelectorRequirement{},}) were found to be unmanaged.";
    assert!(message.contains(shown), "{message}");
    let (mut counted, key) = stage(&json!({"minAvailable": 1}), 1, 1);
    counted.settle(&key);
    assert!(counted.events.is_empty());
}

#[test]
fn a_pod_that_several_budgets_mean_is_told_of_by_one() {
    let (mut stage, key) = stage(&json!({"minAvailable": 1}), 1, 1);
    let other = Key::new(Controller::Disruption, "d", "c");
    stage.put(json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "c", "namespace": "d", "generation": 1}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}));
    stage.settle(&key);
    stage.settle(&other);
    let told = "Pod \"d\"/\"p0\" matches multiple PodDisruptionBudgets.  Chose \"b\" arbitrarily.";
    assert_eq!(stage.events, [("MultiplePodDisruptionBudgets".to_string(), told.to_string())]);
}
