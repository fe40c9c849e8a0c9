use super::fit::{Fit, Fits};
use crate::stage::{Stage, pod_status};
use crate::{Controller, Key, reconcile};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn key() -> Key {
    Key::new(Controller::DaemonSet, "d", "log")
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {}})
}

fn set(spec: &Value) -> Value {
    let mut set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "log", "namespace": "d", "uid": "log", "generation": 1,
            "annotations": {"deprecated.daemonset.template.generation": "1"}},
        "spec": {"selector": {"matchLabels": {"app": "log"}}, "revisionHistoryLimit": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": {"app": "log"}},
                "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    for (k, v) in spec.as_object().into_iter().flatten() {
        set["spec"][k] = v.clone();
    }
    set
}

/// A cluster of three nodes with a set.
fn stage(spec: &Value) -> Stage {
    let mut stage = Stage::new();
    for n in ["n1", "n2", "n3"] {
        stage.put(node(n));
    }
    assert!(stage.put(set(spec)).contains(&key()));
    stage
}

fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// What scheduler and agents do: pods are bound, run and get ready; those that are to go, go.
fn agents(stage: &mut Stage, image_that_works: impl Fn(&str) -> bool) -> bool {
    let pods: Vec<Value> = stage.all("pods").into_iter().cloned().collect();
    let mut moved = false;
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        if is_deleting(&pod) {
            stage.remove("", "pods", "d", name);
            moved = true;
        } else if pod["spec"]["nodeName"].is_null() {
            let terms =
                &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
            let node = &terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0];
            let works = image_that_works(pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default());
            let mut patch = pod_status("Running", works, stage.world.now);
            patch["spec"]["nodeName"] = node.clone();
            stage.patch("pods", "d", name, &patch);
            moved = true;
        }
    }
    moved
}

/// Lets set and agents work until nothing happens any more. Returns the most pods that were missing at a time.
fn play(stage: &mut Stage, image_that_works: impl Fn(&str) -> bool + Copy) {
    for _ in 0..100 {
        stage.settle(&key());
        if !agents(stage, image_that_works) {
            return;
        }
    }
    panic!("the set does not come to rest");
}

/// The image on every node.
fn images(stage: &Stage) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in stage.all("pods").into_iter().filter(|p| !is_deleting(p)) {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        out.entry(text(&pod["spec"]["nodeName"]))
            .or_default()
            .push(text(&pod["spec"]["containers"][0]["image"]));
    }
    out
}

fn everywhere(image: &str) -> BTreeMap<String, Vec<String>> {
    ["n1", "n2", "n3"].map(|n| (n.to_string(), vec![image.to_string()])).into()
}

fn new_image(stage: &mut Stage, image: &str) {
    let generation = stage.get("daemonsets", "d", "log")["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    let patch = json!({"metadata": {"generation": generation,
            "annotations": {"deprecated.daemonset.template.generation": generation.to_string()}},
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}});
    stage.patch("daemonsets", "d", "log", &patch);
}

fn status(stage: &Stage) -> Value {
    stage.get("daemonsets", "d", "log")["status"].clone()
}

#[test]
fn a_node_is_judged_by_name_labels_and_taints() {
    let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
    let template = |spec: Value| serde_json::from_value(json!({"spec": spec})).expect("a template");
    let bare = json!({"containers": []});
    let with = |field: &str, value: Value| {
        let mut spec = bare.clone();
        spec[field] = value;
        spec
    };
    let affinity = |terms: Value| {
        with(
            "affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}),
        )
    };
    for (spec, node_patch, wanted) in [
        (bare.clone(), json!({}), Fits::Yes),
        (with("nodeName", json!("n1")), json!({}), Fits::Yes),
        (with("nodeName", json!("n2")), json!({}), Fits::No),
        (with("nodeSelector", json!({"disk": "ssd"})), json!({}), Fits::No),
        (
            with("nodeSelector", json!({"disk": "ssd"})),
            json!({"metadata": {"labels": {"disk": "ssd"}}}),
            Fits::Yes,
        ),
        (
            affinity(json!([{"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}])),
            json!({}),
            Fits::Yes,
        ),
        (affinity(json!([{"matchExpressions": [{"key": "a", "operator": "Exists"}]}])), json!({}), Fits::No),
        (
            affinity(
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
            ),
            json!({}),
            Fits::Yes,
        ),
        (affinity(json!([{}])), json!({}), Fits::No),
        (bare.clone(), json!({"spec": {"taints": taint("mine", "NoSchedule")}}), Fits::Stay),
        (bare.clone(), json!({"spec": {"taints": taint("mine", "NoExecute")}}), Fits::No),
        (bare.clone(), json!({"spec": {"taints": taint("mine", "PreferNoSchedule")}}), Fits::Yes),
        (
            bare.clone(),
            json!({"spec": {"taints": taint("node.kubernetes.io/unschedulable", "NoSchedule")}}),
            Fits::Yes,
        ),
        (
            bare.clone(),
            json!({"spec": {"taints": taint("node.kubernetes.io/not-ready", "NoExecute")}}),
            Fits::Yes,
        ),
        (
            bare.clone(),
            json!({"spec": {"taints": taint("node.kubernetes.io/not-ready", "NoSchedule")}}),
            Fits::Stay,
        ),
        (
            bare.clone(),
            json!({"spec": {"taints": taint("node.kubernetes.io/network-unavailable", "NoSchedule")}}),
            Fits::Stay,
        ),
        (
            with("hostNetwork", json!(true)),
            json!({"spec": {"taints": taint("node.kubernetes.io/network-unavailable", "NoSchedule")}}),
            Fits::Yes,
        ),
        (
            with("tolerations", json!([{"key": "mine", "operator": "Exists"}])),
            json!({"spec": {"taints": taint("mine", "NoExecute")}}),
            Fits::Yes,
        ),
    ] {
        let mut stage = Stage::new();
        stage.put(node("n1"));
        stage.patch("nodes", "", "n1", &node_patch);
        let node = stage.world.nodes.get("", "n1").expect("the node");
        assert_eq!(Fit::read(&template(spec.clone())).judge(node), wanted, "{spec} {node_patch}");
    }
}

#[test]
fn every_node_gets_a_pod_that_is_bound_to_it_and_tolerates_its_troubles() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), everywhere("one"));
    let pod = stage.all("pods")[0].clone();
    let revision = stage.all("controllerrevisions")[0].clone();
    let hash = &revision["metadata"]["labels"]["controller-revision-hash"];
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "log", "controller-revision-hash": hash, "pod-template-generation": "1"})
    );
    assert_eq!(revision["metadata"]["name"], format!("log-{}", hash.as_str().expect("a hash")));
    let tolerated: Vec<&str> = pod["spec"]["tolerations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|t| t["key"].as_str())
        .collect();
    assert_eq!(
        tolerated,
        ["not-ready", "unreachable", "disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"]
            .map(|t| format!("node.kubernetes.io/{t}"))
    );
    assert_eq!(
        status(&stage),
        json!({"currentNumberScheduled": 3, "desiredNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 3,
            "numberAvailable": 3, "updatedNumberScheduled": 3, "observedGeneration": 1})
    );
    assert_eq!(stage.events.iter().filter(|(r, _)| r == "SuccessfulCreate").count(), 3);
    assert!(reconcile(&stage.world, &key()).is_empty(), "a set at rest stays so");
}

#[test]
fn a_revision_is_the_patch_that_kubectl_compares_byte_by_byte() {
    let mut stage = stage(&json!({}));
    stage.settle(&key());
    let revision = stage.all("controllerrevisions")[0];
    assert_eq!(
        revision["data"].to_string(),
        r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"log"}},"spec":{"containers":[{"image":"one","name":"c"}]}}}}"#
    );
    assert_eq!(revision["revision"], 1);
}

#[test]
fn pods_follow_the_labels_and_taints_of_nodes() {
    let template = json!({"metadata": {"labels": {"app": "log"}},
        "spec": {"nodeSelector": {"colour": "blue"}, "containers": [{"name": "c", "image": "one"}]}});
    let mut stage = stage(&json!({"template": template}));
    play(&mut stage, |_| true);
    assert!(images(&stage).is_empty());
    let named = stage.patch("nodes", "", "n2", &json!({"metadata": {"labels": {"colour": "blue"}}}));
    assert!(named.contains(&key()), "a node's labels concern the sets");
    play(&mut stage, |_| true);
    assert_eq!(images(&stage).keys().collect::<Vec<_>>(), ["n2"]);
    // A taint that keeps pods off leaves those that run; then the node is one where the pod should not be.
    stage.patch("nodes", "", "n2", &json!({"spec": {"taints": [{"key": "mine", "effect": "NoSchedule"}]}}));
    play(&mut stage, |_| true);
    assert_eq!(images(&stage).len(), 1);
    assert_eq!(
        (&status(&stage)["numberMisscheduled"], &status(&stage)["desiredNumberScheduled"]),
        (&json!(1), &json!(0))
    );
    stage.patch("nodes", "", "n2", &json!({"metadata": {"labels": {"colour": "green"}}}));
    play(&mut stage, |_| true);
    assert!(images(&stage).is_empty());
    stage.remove("", "nodes", "", "n2");
    play(&mut stage, |_| true);
    assert_eq!(status(&stage)["numberMisscheduled"], 0);
}

#[test]
fn a_change_replaces_as_many_pods_at_a_time_as_may_be_unavailable() {
    for (max, at_once) in [(json!(1), 1), (json!(2), 2), (json!("50%"), 2), (json!(0), 1)] {
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": max, "maxSurge": 0}});
        let mut stage = stage(&json!({"updateStrategy": strategy}));
        play(&mut stage, |_| true);
        new_image(&mut stage, "two");
        stage.settle(&key());
        let going = stage.all("pods").into_iter().filter(|p| is_deleting(p)).count();
        assert_eq!(going, at_once, "{max}");
        play(&mut stage, |_| true);
        assert_eq!(images(&stage), everywhere("two"), "{max}");
        assert_eq!(status(&stage)["updatedNumberScheduled"], 3);
        assert_eq!(status(&stage)["observedGeneration"], 2);
    }
}

#[test]
fn a_change_that_does_not_work_stops_at_the_first_node_and_is_undone_without_touching_the_others() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    new_image(&mut stage, "broken");
    play(&mut stage, |image| image != "broken");
    assert_eq!(images(&stage).values().filter(|i| **i == ["broken"]).count(), 1);
    let good: Vec<String> = stage
        .all("pods")
        .into_iter()
        .filter(|p| p["spec"]["containers"][0]["image"] == "one")
        .map(|p| p["metadata"]["uid"].to_string())
        .collect();
    new_image(&mut stage, "one");
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), everywhere("one"));
    let now: Vec<String> = stage.all("pods").into_iter().map(|p| p["metadata"]["uid"].to_string()).collect();
    assert!(good.iter().all(|uid| now.contains(uid)), "pods of the template that is back stay");
    let mut revisions: Vec<i64> =
        stage.all("controllerrevisions").iter().filter_map(|r| r["revision"].as_i64()).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [2, 3], "the old revision moves to the end");
}

#[test]
fn a_surge_makes_the_new_pod_before_the_old_one_goes() {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}});
    let mut stage = stage(&json!({"updateStrategy": strategy}));
    play(&mut stage, |_| true);
    new_image(&mut stage, "two");
    stage.settle(&key());
    assert_eq!(stage.all("pods").len(), 4, "one more");
    assert!(!stage.all("pods").into_iter().any(is_deleting), "and none less");
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), everywhere("two"));
}

#[test]
fn on_delete_leaves_pods_until_somebody_deletes_them() {
    let mut stage = stage(&json!({"updateStrategy": {"type": "OnDelete"}}));
    play(&mut stage, |_| true);
    new_image(&mut stage, "two");
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), everywhere("one"));
    let name = stage.all("pods")[0]["metadata"]["name"].as_str().expect("a name").to_string();
    stage.remove("", "pods", "d", &name);
    play(&mut stage, |_| true);
    assert_eq!(images(&stage).values().filter(|i| **i == ["two"]).count(), 1);
}

#[test]
fn a_failed_pod_is_replaced_and_one_that_fails_again_waits() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    let fail = |stage: &mut Stage| {
        let first =
            stage.all("pods").into_iter().find(|p| p["spec"]["nodeName"] == "n1").cloned().expect("a pod");
        let name = first["metadata"]["name"].as_str().unwrap_or_default().to_string();
        stage.patch("pods", "d", &name, &json!({"status": {"phase": "Failed"}}));
        name
    };
    let first = fail(&mut stage);
    play(&mut stage, |_| true);
    assert!(!stage.all("pods").iter().any(|p| p["metadata"]["name"] == first.as_str()));
    assert_eq!(images(&stage), everywhere("one"));
    assert!(stage.events.iter().any(|(r, m)| r == "FailedDaemonPod"
        && *m == format!("Found failed daemon pod d/{first} on node n1, will try to kill it")));
    let second = fail(&mut stage);
    let again = stage.settle(&key()).expect("a time to look again");
    assert!(stage.all("pods").iter().any(|p| p["metadata"]["name"] == second.as_str()), "it waits");
    assert_eq!(again.since(stage.world.now).as_secs(), 1);
    stage.wait(1);
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), everywhere("one"));
}

#[test]
fn the_history_is_as_long_as_it_may_be() {
    let mut stage = stage(&json!({"revisionHistoryLimit": 1}));
    for image in ["one", "two", "three", "four"] {
        new_image(&mut stage, image);
        play(&mut stage, |_| true);
    }
    play(&mut stage, |_| true);
    let mut revisions: Vec<i64> =
        stage.all("controllerrevisions").iter().filter_map(|r| r["revision"].as_i64()).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [3, 4]);
}

#[test]
fn pods_and_revisions_that_match_are_taken_over_and_others_let_go() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    // The set goes, its pods stay, and a set of the same name comes.
    let orphan = json!({"metadata": {"ownerReferences": null}});
    for plural in ["pods", "controllerrevisions"] {
        let names: Vec<String> = stage
            .all(plural)
            .iter()
            .filter_map(|o| o["metadata"]["name"].as_str().map(String::from))
            .collect();
        for name in names {
            stage.patch(plural, "d", &name, &orphan);
        }
    }
    stage.remove("apps", "daemonsets", "d", "log");
    let before: Vec<Value> = stage.all("pods").iter().map(|p| p["metadata"]["uid"].clone()).collect();
    let mut again = set(&json!({}));
    again["metadata"]["uid"] = "another".into();
    stage.put(again);
    play(&mut stage, |_| true);
    let after: Vec<Value> = stage.all("pods").iter().map(|p| p["metadata"]["uid"].clone()).collect();
    assert_eq!(before, after, "no pod was made anew");
    assert_eq!(stage.all("controllerrevisions").len(), 1);
    assert!(stage.all("pods").iter().all(|p| p["metadata"]["ownerReferences"][0]["uid"] == "another"));
    let name = stage.all("pods")[0]["metadata"]["name"].as_str().expect("a name").to_string();
    stage.patch("pods", "d", &name, &json!({"metadata": {"labels": {"app": "other"}}}));
    play(&mut stage, |_| true);
    assert!(stage.get("pods", "d", &name)["metadata"]["ownerReferences"].is_null(), "it was let go");
    assert_eq!(stage.all("pods").len(), 4, "and replaced");
}

#[test]
fn a_pod_counts_as_available_after_min_ready_seconds() {
    let mut stage = stage(&json!({"minReadySeconds": 5}));
    for _ in 0..5 {
        stage.settle(&key());
        agents(&mut stage, |_| true);
    }
    let again = stage.settle(&key()).expect("a time to look again");
    assert_eq!(
        (&status(&stage)["numberReady"], &status(&stage)["numberUnavailable"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(again.since(stage.world.now).as_secs(), 5);
    stage.wait(5);
    stage.settle(&key());
    assert_eq!(status(&stage)["numberAvailable"], 3);
}
