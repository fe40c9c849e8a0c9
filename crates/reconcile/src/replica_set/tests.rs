use crate::stage::{Stage, pod_status};
use crate::{Action, Controller, Key, reconcile};
use serde_json::{Value, json};

/// Both kinds, for they are one: what selects differs.
fn sets(replicas: i64) -> [(Stage, Key, &'static str); 2] {
    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    [
        (
            "apps/v1",
            "ReplicaSet",
            "replicasets",
            json!({"matchLabels": {"app": "a"}}),
            Controller::ReplicaSet,
        ),
        (
            "v1",
            "ReplicationController",
            "replicationcontrollers",
            json!({"app": "a"}),
            Controller::ReplicationController,
        ),
    ]
    .map(|(version, kind, plural, selector, controller)| {
        let mut stage = Stage::new();
        let key = Key::new(controller, "d", "r");
        let named = stage.put(json!({"apiVersion": version, "kind": kind,
            "metadata": {"name": "r", "namespace": "d", "uid": "r", "generation": 1},
            "spec": {"replicas": replicas, "selector": selector, "template": template}}));
        assert!(named.contains(&key));
        (stage, key, plural)
    })
}

fn pod(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d", "labels": labels}, "spec": {}})
}

#[test]
fn a_set_has_as_many_pods_as_wanted_and_says_so() {
    for (mut stage, key, plural) in sets(3) {
        stage.settle(&key);
        assert_eq!(stage.all("pods").len(), 3, "{plural}");
        let names: Vec<String> = stage
            .all("pods")
            .iter()
            .filter_map(|p| p["metadata"]["name"].as_str().map(String::from))
            .collect();
        for name in &names[..2] {
            let mut patch = pod_status("Running", true, stage.world.now);
            patch["spec"]["nodeName"] = "n".into();
            assert!(stage.patch("pods", "d", name, &patch).contains(&key));
        }
        stage.settle(&key);
        let status = stage.get(plural, "d", "r")["status"].clone();
        for (field, n) in
            [("replicas", 3), ("readyReplicas", 2), ("availableReplicas", 2), ("fullyLabeledReplicas", 3)]
        {
            assert_eq!(status[field], n, "{plural} {field}");
        }
        stage.patch(plural, "d", "r", &json!({"spec": {"replicas": 1}}));
        stage.settle(&key);
        let left = stage.all("pods").iter().filter(|p| p["metadata"]["deletionTimestamp"].is_null()).count();
        assert_eq!(left, 1, "{plural}: the one that is not scheduled goes first, then one that is");
        assert_eq!(stage.get(plural, "d", "r")["status"]["replicas"], 1);
    }
}

#[test]
fn pods_are_taken_over_and_let_go_by_their_labels() {
    for (mut stage, key, plural) in sets(1) {
        let named = stage.put(pod("stray", &json!({"app": "a"})));
        assert!(named.contains(&key), "{plural}");
        stage.settle(&key);
        assert_eq!(stage.all("pods").len(), 1, "{plural}: the stray one is enough");
        assert_eq!(stage.get("pods", "d", "stray")["metadata"]["ownerReferences"][0]["name"], "r");
        let named = stage.patch("pods", "d", "stray", &json!({"metadata": {"labels": {"app": "b"}}}));
        assert!(named.contains(&key), "{plural}");
        stage.settle(&key);
        assert!(stage.get("pods", "d", "stray")["metadata"]["ownerReferences"].is_null());
        assert_eq!(stage.all("pods").len(), 2, "{plural}: and another one is made");
    }
}

#[test]
fn a_failure_is_told_first_and_forgotten_when_all_is_well() {
    let failure = json!({"status": {"conditions": [{"type": "ReplicaFailure", "status": "True"}, {"type": "Mine", "status": "True"}]}});
    for (mut stage, key, plural) in sets(2) {
        stage.patch(plural, "d", "r", &failure);
        let plan = reconcile(&stage.world, &key);
        assert!(
            matches!(plan[0], Action::Patch { subresource: "status", .. }),
            "{plural}: what fails again drops the rest"
        );
        assert!(matches!(plan[1], Action::Create { .. }), "{plural}");
        stage.settle(&key);
        let conditions = &stage.get(plural, "d", "r")["status"]["conditions"];
        assert_eq!(
            *conditions,
            json!([{"type": "Mine", "status": "True"}]),
            "{plural}: others' conditions stay"
        );
    }
}
