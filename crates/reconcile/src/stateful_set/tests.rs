use crate::stage::{Stage, pod_status};
use crate::{Controller, Key, reconcile};
use serde_json::{Value, json};

fn key() -> Key {
    Key::new(Controller::StatefulSet, "d", "web")
}

fn stage(spec: &Value) -> Stage {
    let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": "d", "uid": "web", "generation": 1},
        "spec": {"replicas": 3, "serviceName": "svc", "selector": {"matchLabels": {"app": "web"}},
            "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    for (k, v) in spec.as_object().into_iter().flatten() {
        set["spec"][k] = v.clone();
    }
    let mut stage = Stage::new();
    assert!(stage.put(set).contains(&key()));
    stage
}

fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// What scheduler and agents do. Returns what happened, in words.
fn agents(stage: &mut Stage, works: impl Fn(&Value) -> bool) -> Vec<String> {
    let pods: Vec<Value> = stage.all("pods").into_iter().cloned().collect();
    let mut out = Vec::new();
    for pod in pods {
        if is_deleting(&pod) {
            stage.remove("", "pods", "d", name(&pod));
            out.push(format!("-{}", name(&pod)));
        } else if pod["spec"]["nodeName"].is_null() {
            let mut patch = pod_status("Running", works(&pod), stage.world.now);
            patch["spec"]["nodeName"] = "n1".into();
            stage.patch("pods", "d", name(&pod), &patch);
            out.push(format!("+{}", name(&pod)));
        }
    }
    out
}

/// Lets set and agents work until nothing happens any more; what happened together is one text.
fn play(stage: &mut Stage, works: impl Fn(&Value) -> bool + Copy) -> Vec<String> {
    let mut out = Vec::new();
    for _ in 0..100 {
        stage.settle(&key());
        let happened = agents(stage, works);
        if happened.is_empty() {
            return out;
        }
        out.push(happened.join(" "));
    }
    panic!("the set does not come to rest: {out:?}");
}

fn set_spec(stage: &mut Stage, spec: Value) {
    let generation =
        stage.get("statefulsets", "d", "web")["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    stage.patch("statefulsets", "d", "web", &json!({"metadata": {"generation": generation}, "spec": spec}));
}

fn image(image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}})
}

fn status(stage: &Stage) -> Value {
    stage.get("statefulsets", "d", "web")["status"].clone()
}

fn images(stage: &Stage) -> Vec<String> {
    let live = stage.all("pods").into_iter().filter(|p| !is_deleting(p));
    live.map(|p| format!("{}={}", name(p), p["spec"]["containers"][0]["image"].as_str().unwrap_or_default()))
        .collect()
}

#[test]
fn pods_come_in_order_each_once_the_one_before_is_ready() {
    let mut stage = stage(&json!({}));
    assert_eq!(play(&mut stage, |_| true), ["+web-0", "+web-1", "+web-2"]);
    let pod = stage.get("pods", "d", "web-1").clone();
    let revision = name(stage.all("controllerrevisions")[0]).to_string();
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "web", "statefulset.kubernetes.io/pod-name": "web-1", "apps.kubernetes.io/pod-index": "1",
            "controller-revision-hash": revision})
    );
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-1"), &json!("svc")));
    assert_eq!(
        status(&stage),
        json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3,
            "updatedReplicas": 3, "currentRevision": revision, "updateRevision": revision, "collisionCount": 0})
    );
    assert!(reconcile(&stage.world, &key()).is_empty(), "a set at rest stays so");
}

#[test]
fn an_unhealthy_pod_halts_scaling_unless_order_does_not_matter() {
    let one_is_down = |p: &Value| name(p) != "web-1";
    let mut ordered = stage(&json!({}));
    assert_eq!(play(&mut ordered, one_is_down), ["+web-0", "+web-1"]);
    set_spec(&mut ordered, json!({"replicas": 0}));
    // The one that is down is the last one, and in nobody's way.
    assert_eq!(play(&mut ordered, one_is_down), ["-web-1", "-web-0"]);

    let mut down_in_the_middle = stage(&json!({}));
    play(&mut down_in_the_middle, |_| true);
    let since = down_in_the_middle.world.now;
    down_in_the_middle.patch("pods", "d", "web-0", &pod_status("Running", false, since));
    set_spec(&mut down_in_the_middle, json!({"replicas": 1}));
    assert!(play(&mut down_in_the_middle, |_| true).is_empty(), "nothing goes while web-0 is down");
    down_in_the_middle.patch("pods", "d", "web-0", &pod_status("Running", true, since));
    assert_eq!(play(&mut down_in_the_middle, |_| true), ["-web-2", "-web-1"]);

    let mut parallel = stage(&json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(play(&mut parallel, one_is_down), ["+web-0 +web-1 +web-2"]);
    set_spec(&mut parallel, json!({"replicas": 0}));
    assert_eq!(play(&mut parallel, one_is_down), ["-web-0 -web-1 -web-2"]);
}

#[test]
fn ordinals_start_where_they_are_told_to() {
    let mut stage = stage(&json!({"ordinals": {"start": 5}, "replicas": 2}));
    assert_eq!(play(&mut stage, |_| true), ["+web-5", "+web-6"]);
    set_spec(&mut stage, json!({"ordinals": {"start": 4}}));
    assert_eq!(play(&mut stage, |_| true), ["+web-4", "-web-6"]);
    for (pod, wanted) in [
        ("web-0", Some(0)),
        ("web-12", Some(12)),
        ("web-01", None),
        ("web-", None),
        ("web-x", None),
        ("webb-1", None),
    ] {
        assert_eq!(super::ordinal("web", pod), wanted, "{pod}");
    }
}

#[test]
fn a_change_rolls_from_the_last_pod_to_the_first_and_may_be_undone() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    let first = status(&stage)["currentRevision"].clone();
    set_spec(&mut stage, image("two"));
    stage.settle(&key());
    let now = status(&stage);
    assert_eq!(now["currentRevision"], first);
    assert_ne!(now["updateRevision"], first);
    assert_eq!(play(&mut stage, |_| true), ["-web-2", "+web-2", "-web-1", "+web-1", "-web-0", "+web-0"]);
    assert_eq!(images(&stage), ["web-0=two", "web-1=two", "web-2=two"]);
    let done = status(&stage);
    assert_eq!(done["currentRevision"], done["updateRevision"]);
    assert_eq!((&done["currentReplicas"], &done["updatedReplicas"]), (&json!(3), &json!(3)));
    set_spec(&mut stage, image("one"));
    play(&mut stage, |_| true);
    assert_eq!(status(&stage)["currentRevision"], first, "the revision of before is used again");
    let mut revisions: Vec<i64> =
        stage.all("controllerrevisions").iter().filter_map(|r| r["revision"].as_i64()).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, [2, 3]);
}

#[test]
fn a_partition_holds_pods_back_even_when_they_are_made_anew() {
    let mut stage =
        stage(&json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}}));
    play(&mut stage, |_| true);
    let first = status(&stage)["currentRevision"].clone();
    set_spec(&mut stage, image("two"));
    assert!(play(&mut stage, |_| true).is_empty(), "the partition is beyond every pod");
    set_spec(&mut stage, json!({"updateStrategy": {"rollingUpdate": {"partition": 2}}}));
    assert_eq!(play(&mut stage, |_| true), ["-web-2", "+web-2"]);
    let now = status(&stage);
    assert_eq!((&now["currentReplicas"], &now["updatedReplicas"]), (&json!(2), &json!(1)));
    assert_eq!(now["currentRevision"], first);
    // Pods that are deleted come back as they were.
    for pod in ["web-0", "web-2"] {
        stage.remove("", "pods", "d", pod);
    }
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), ["web-0=one", "web-1=one", "web-2=two"]);
    set_spec(&mut stage, json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}}));
    assert_eq!(play(&mut stage, |_| true), ["-web-1", "+web-1", "-web-0", "+web-0"]);
}

#[test]
fn as_many_pods_at_a_time_as_may_be_unavailable() {
    for (max, first) in
        [(json!(2), "-web-2 -web-3"), (json!("75%"), "-web-1 -web-2 -web-3"), (json!("1%"), "-web-3")]
    {
        let strategy =
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": max}});
        let mut stage =
            stage(&json!({"replicas": 4, "updateStrategy": strategy, "podManagementPolicy": "Parallel"}));
        play(&mut stage, |_| true);
        set_spec(&mut stage, image("two"));
        assert_eq!(play(&mut stage, |_| true)[0], first, "{max}");
        assert!(images(&stage).iter().all(|i| i.ends_with("=two")));
    }
}

#[test]
fn on_delete_leaves_pods_until_somebody_deletes_them() {
    let mut stage = stage(&json!({"updateStrategy": {"type": "OnDelete"}}));
    play(&mut stage, |_| true);
    set_spec(&mut stage, image("two"));
    assert!(play(&mut stage, |_| true).is_empty());
    stage.remove("", "pods", "d", "web-1");
    assert_eq!(play(&mut stage, |_| true), ["+web-1"]);
    assert_eq!(images(&stage), ["web-0=one", "web-1=two", "web-2=one"]);
}

#[test]
fn a_pod_that_ended_is_made_again_under_its_name() {
    for phase in ["Failed", "Succeeded"] {
        let mut stage = stage(&json!({}));
        play(&mut stage, |_| true);
        stage.patch("pods", "d", "web-0", &json!({"status": {"phase": phase}}));
        assert_eq!(play(&mut stage, |_| true), ["-web-0", "+web-0"], "{phase}");
    }
}

#[test]
fn a_broken_change_is_undone_by_the_next_one() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    set_spec(&mut stage, image("broken"));
    let works = |p: &Value| p["spec"]["containers"][0]["image"] != "broken";
    assert_eq!(play(&mut stage, works), ["-web-2", "+web-2"], "it stops at the first pod");
    set_spec(&mut stage, image("one"));
    // As the stock controller: a pod that is down is waited for, somebody has to delete it.
    assert!(play(&mut stage, works).is_empty());
    stage.remove("", "pods", "d", "web-2");
    assert_eq!(play(&mut stage, works), ["+web-2"]);
    assert_eq!(images(&stage), ["web-0=one", "web-1=one", "web-2=one"]);
}

fn claims(policy: &Value) -> Stage {
    stage(&json!({"replicas": 2, "persistentVolumeClaimRetentionPolicy": policy,
        "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"kind": "disk"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}))
}

#[test]
fn every_pod_has_claims_that_outlive_it() {
    let mut stage = claims(&json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    play(&mut stage, |_| true);
    let names: Vec<&str> = stage.all("persistentvolumeclaims").into_iter().map(name).collect();
    assert_eq!(names, ["data-web-0", "data-web-1"]);
    let claim = stage.get("persistentvolumeclaims", "d", "data-web-1");
    assert_eq!(claim["metadata"]["labels"], json!({"app": "web", "kind": "disk"}));
    assert!(claim["metadata"]["ownerReferences"].is_null());
    assert_eq!(
        stage.get("pods", "d", "web-1")["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}}])
    );
    set_spec(&mut stage, json!({"replicas": 0}));
    play(&mut stage, |_| true);
    assert_eq!(stage.all("persistentvolumeclaims").len(), 2);
}

#[test]
fn claims_belong_to_whom_they_go_with() {
    let owner = |stage: &Stage, claim: &str| {
        let owners = &stage.get("persistentvolumeclaims", "d", claim)["metadata"]["ownerReferences"];
        owners[0]["kind"].as_str().unwrap_or("nobody").to_string()
    };
    for (deleted, scaled, stays, goes) in [
        ("Retain", "Retain", "nobody", "nobody"),
        ("Delete", "Retain", "StatefulSet", "StatefulSet"),
        ("Retain", "Delete", "nobody", "Pod"),
        ("Delete", "Delete", "StatefulSet", "Pod"),
    ] {
        let mut stage = claims(&json!({"whenDeleted": deleted, "whenScaled": scaled}));
        play(&mut stage, |_| true);
        assert_eq!(owner(&stage, "data-web-1"), stays, "{deleted} {scaled}");
        set_spec(&mut stage, json!({"replicas": 1}));
        stage.settle(&key());
        assert_eq!(owner(&stage, "data-web-1"), goes, "{deleted} {scaled}");
        assert_eq!(owner(&stage, "data-web-0"), stays, "{deleted} {scaled}");
        // Scaled up again before the old claim is gone, the new pod waits for a new one.
        agents(&mut stage, |_| true);
        set_spec(&mut stage, json!({"replicas": 2}));
        let again = stage.settle(&key());
        let made = stage.all("pods").iter().any(|p| name(p) == "web-1");
        assert_eq!((made, again.is_some()), (goes != "Pod", goes == "Pod"), "{deleted} {scaled}");
    }
    let mut stage = claims(&json!({"whenDeleted": "Retain", "whenScaled": "Retain"}));
    play(&mut stage, |_| true);
    set_spec(&mut stage, json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}));
    play(&mut stage, |_| true);
    assert_eq!(owner(&stage, "data-web-0"), "StatefulSet", "a new policy holds for old claims");
}

#[test]
fn pods_with_the_sets_names_are_taken_over_and_others_are_not() {
    let mut stage = stage(&json!({"replicas": 1}));
    play(&mut stage, |_| true);
    stage.patch("pods", "d", "web-0", &json!({"metadata": {"labels": {"app": "other"}}}));
    stage.settle(&key());
    assert!(stage.get("pods", "d", "web-0")["metadata"]["ownerReferences"].is_null());
    stage.patch("pods", "d", "web-0", &json!({"metadata": {"labels": {"app": "web"}}}));
    stage.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray", "namespace": "d", "labels": {"app": "web"}},
        "spec": {}}));
    stage.settle(&key());
    assert_eq!(stage.get("pods", "d", "web-0")["metadata"]["ownerReferences"][0]["name"], "web");
    assert!(stage.get("pods", "d", "stray")["metadata"]["ownerReferences"].is_null());
}

#[test]
fn a_pod_counts_after_min_ready_seconds_and_the_next_one_waits_for_that() {
    let mut stage = stage(&json!({"minReadySeconds": 5, "replicas": 2}));
    stage.settle(&key());
    agents(&mut stage, |_| true);
    let again = stage.settle(&key()).expect("a time to look again");
    assert_eq!((stage.all("pods").len(), again.since(stage.world.now).as_secs()), (1, 5));
    assert_eq!(
        (&status(&stage)["readyReplicas"], &status(&stage)["availableReplicas"]),
        (&json!(1), &json!(0))
    );
    stage.wait(5);
    stage.settle(&key());
    assert_eq!(stage.all("pods").len(), 2);
}

#[test]
fn pods_and_events_look_as_the_stock_controllers_do() {
    let mut s = stage(&json!({"replicas": 1}));
    s.settle(&key());
    let pod = s.all("pods")[0].clone();
    assert_eq!((name(&pod), &pod["metadata"]["generateName"]), ("web-0", &json!("web-")));
    assert_eq!(s.events, [("SuccessfulCreate".to_string(), "Create Pod ".to_string())]);
}
