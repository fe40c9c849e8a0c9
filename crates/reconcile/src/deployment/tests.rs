use crate::stage::{Stage, pod_status};
use crate::{Controller, Key};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn key() -> Key {
    Key::new(Controller::Deployment, "d", "web")
}

fn stage(spec: &Value) -> Stage {
    let mut deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "d", "uid": "web", "generation": 1},
        "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "one"}]}}}});
    for (k, v) in spec.as_object().into_iter().flatten() {
        deployment["spec"][k] = v.clone();
    }
    let mut stage = Stage::new();
    assert!(stage.put(deployment).contains(&key()));
    stage
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The deployment and its sets look until nothing is to be done.
fn settle(stage: &mut Stage) {
    for _ in 0..50 {
        let before = stage.objects.clone();
        stage.settle(&key());
        let sets: Vec<String> =
            stage.all("replicasets").iter().map(|s| text(&s["metadata"]["name"])).collect();
        for set in sets {
            stage.settle(&Key::new(Controller::ReplicaSet, "d", set));
        }
        if stage.objects == before {
            return;
        }
    }
    panic!("the deployment does not come to rest");
}

/// What scheduler and agents do: each pod that waits gets ready if its image works; each that is to go, goes.
fn agents(stage: &mut Stage, works: impl Fn(&str) -> bool) -> bool {
    let pods: Vec<Value> = stage.all("pods").into_iter().cloned().collect();
    let mut moved = false;
    for pod in pods {
        let name = text(&pod["metadata"]["name"]);
        if is_deleting(&pod) {
            stage.remove("", "pods", "d", &name);
            moved = true;
        } else if pod["spec"]["nodeName"].is_null() {
            let mut patch =
                pod_status("Running", works(&text(&pod["spec"]["containers"][0]["image"])), stage.world.now);
            patch["spec"]["nodeName"] = "n".into();
            stage.patch("pods", "d", &name, &patch);
            moved = true;
        }
    }
    moved
}

/// All work until nothing happens any more; returns the most and the fewest pods, and the fewest ready ones, on the way.
fn play(stage: &mut Stage, works: impl Fn(&str) -> bool + Copy) -> (usize, usize) {
    let (mut most, mut fewest_ready) = (0, usize::MAX);
    for _ in 0..100 {
        settle(stage);
        let live: Vec<&Value> = stage.all("pods").into_iter().filter(|p| !is_deleting(p)).collect();
        most = most.max(live.len());
        let ready = live.iter().filter(|p| p["status"]["conditions"][0]["status"] == "True").count();
        fewest_ready = fewest_ready.min(ready);
        if !agents(stage, works) {
            return (most, fewest_ready);
        }
    }
    panic!("the pods do not come to rest");
}

/// How many pods each image has.
fn images(stage: &Stage) -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for pod in stage.all("pods").into_iter().filter(|p| !is_deleting(p)) {
        *out.entry(text(&pod["spec"]["containers"][0]["image"])).or_default() += 1;
    }
    out
}

fn sizes(stage: &Stage) -> Vec<(String, i64)> {
    let mut out: Vec<(String, i64)> = stage
        .all("replicasets")
        .iter()
        .map(|s| {
            let image = text(&s["spec"]["template"]["spec"]["containers"][0]["image"]);
            (image, s["spec"]["replicas"].as_i64().unwrap_or(-1))
        })
        .collect();
    out.sort();
    out
}

fn patch(stage: &mut Stage, spec: Value) {
    let generation = stage.get("deployments", "d", "web")["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    stage.patch("deployments", "d", "web", &json!({"metadata": {"generation": generation}, "spec": spec}));
}

fn image(image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}})
}

fn condition(stage: &Stage, kind: &str) -> (String, String) {
    let all =
        stage.get("deployments", "d", "web")["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|c| c["type"] == kind).unwrap_or_default();
    (text(&found["status"]), text(&found["reason"]))
}

fn annotation(stage: &Stage, image: &str, key: &str) -> String {
    let sets = stage.all("replicasets");
    let set = sets.iter().find(|s| s["spec"]["template"]["spec"]["containers"][0]["image"] == image);
    set.map(|s| text(&s["metadata"]["annotations"][key])).unwrap_or_default()
}

const REVISION: &str = "deployment.kubernetes.io/revision";

#[test]
fn a_change_rolls_through_within_its_fences() {
    for (surge, unavailable, most, fewest) in [
        (json!(1), json!(1), 5, 3),
        (json!(0), json!(1), 4, 3),
        (json!(2), json!(0), 6, 4),
        (json!("25%"), json!("25%"), 5, 3),
        (json!(0), json!(0), 4, 3),
        (json!("100%"), json!("100%"), 8, 0),
    ] {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut stage = stage(&json!({"strategy": strategy}));
        play(&mut stage, |_| true);
        assert_eq!(images(&stage), BTreeMap::from([("one".to_string(), 4)]));
        patch(&mut stage, image("two"));
        let (saw_most, saw_fewest) = play(&mut stage, |_| true);
        assert!(saw_most <= most && saw_fewest >= fewest, "{surge} {unavailable}: {saw_most} {saw_fewest}");
        assert_eq!(images(&stage), BTreeMap::from([("two".to_string(), 4)]), "{surge} {unavailable}");
        assert_eq!(condition(&stage, "Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
        assert_eq!(condition(&stage, "Available"), ("True".into(), "MinimumReplicasAvailable".into()));
    }
}

#[test]
fn recreate_never_runs_old_beside_new() {
    let mut stage = stage(&json!({"strategy": {"type": "Recreate"}}));
    play(&mut stage, |_| true);
    patch(&mut stage, image("two"));
    for _ in 0..20 {
        settle(&mut stage);
        let images: std::collections::BTreeSet<String> =
            stage.all("pods").iter().map(|p| text(&p["spec"]["containers"][0]["image"])).collect();
        assert!(images.len() <= 1, "{images:?}");
        agents(&mut stage, |_| true);
    }
    assert_eq!(images(&stage), BTreeMap::from([("two".to_string(), 4)]));
}

#[test]
fn a_deployment_scaled_in_the_middle_of_a_rollout_keeps_the_proportions() {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    let mut stage = stage(&json!({"replicas": 10, "strategy": strategy}));
    play(&mut stage, |_| true);
    patch(&mut stage, image("broken"));
    play(&mut stage, |image| image != "broken");
    assert_eq!(sizes(&stage), [("broken".to_string(), 5), ("one".to_string(), 8)]);
    patch(&mut stage, json!({"replicas": 30}));
    settle(&mut stage);
    // The shares of 13 become shares of 33.
    assert_eq!(sizes(&stage), [("broken".to_string(), 13), ("one".to_string(), 20)]);
    let max = annotation(&stage, "one", "deployment.kubernetes.io/max-replicas");
    assert_eq!(
        (max, annotation(&stage, "one", "deployment.kubernetes.io/desired-replicas")),
        ("33".into(), "30".into())
    );
}

#[test]
fn a_change_of_mind_rolls_over_what_was_on_its_way() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    patch(&mut stage, image("broken"));
    play(&mut stage, |image| image != "broken");
    patch(&mut stage, image("three"));
    play(&mut stage, |image| image != "broken");
    assert_eq!(sizes(&stage), [("broken".into(), 0), ("one".into(), 0), ("three".into(), 4)]);
    // Back to the first template: its set is used again, under the next number.
    patch(&mut stage, image("one"));
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), BTreeMap::from([("one".to_string(), 4)]));
    assert_eq!(annotation(&stage, "one", REVISION), "4");
    assert_eq!(annotation(&stage, "one", "deployment.kubernetes.io/revision-history"), "1");
    assert_eq!(text(&stage.get("deployments", "d", "web")["metadata"]["annotations"][REVISION]), "4");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    let mut change = image("two");
    change["paused"] = true.into();
    patch(&mut stage, change);
    play(&mut stage, |_| true);
    assert_eq!(sizes(&stage), [("one".to_string(), 4)]);
    assert_eq!(condition(&stage, "Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    patch(&mut stage, json!({"replicas": 6}));
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), BTreeMap::from([("one".to_string(), 6)]));
    patch(&mut stage, json!({"paused": null}));
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), BTreeMap::from([("two".to_string(), 6)]));
}

#[test]
fn old_sets_go_beyond_the_history_that_may_be_kept() {
    for (limit, kept) in [(0, 1), (1, 2), (10, 4)] {
        let mut stage = stage(&json!({"revisionHistoryLimit": limit}));
        for name in ["one", "two", "three", "four"] {
            patch(&mut stage, image(name));
            play(&mut stage, |_| true);
        }
        play(&mut stage, |_| true);
        assert_eq!(stage.all("replicasets").len(), kept, "a limit of {limit}");
        assert_eq!(annotation(&stage, "four", REVISION), "4");
    }
}

#[test]
fn pods_count_once_they_were_ready_for_long_enough() {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    let mut stage = stage(&json!({"replicas": 2, "minReadySeconds": 10, "strategy": strategy}));
    play(&mut stage, |_| true);
    assert_eq!(condition(&stage, "Available"), ("False".into(), "MinimumReplicasUnavailable".into()));
    stage.wait(10);
    play(&mut stage, |_| true);
    assert_eq!(condition(&stage, "Available").0, "True");
    patch(&mut stage, image("two"));
    play(&mut stage, |_| true);
    assert_eq!(
        images(&stage),
        BTreeMap::from([("one".to_string(), 1), ("two".to_string(), 1)]),
        "the second waits"
    );
    stage.wait(10);
    play(&mut stage, |_| true);
    stage.wait(10);
    play(&mut stage, |_| true);
    assert_eq!(images(&stage), BTreeMap::from([("two".to_string(), 2)]));
}

#[test]
fn a_rollout_that_gets_nowhere_says_so_when_its_time_is_up() {
    let mut stage = stage(&json!({"progressDeadlineSeconds": 60}));
    play(&mut stage, |_| true);
    patch(&mut stage, image("broken"));
    play(&mut stage, |image| image != "broken");
    assert_eq!(condition(&stage, "Progressing"), ("True".into(), "ReplicaSetUpdated".into()));
    let again = stage.settle(&key()).expect("a time to look again");
    assert!(again.since(stage.world.now).as_secs() <= 60);
    stage.wait(61);
    play(&mut stage, |image| image != "broken");
    assert_eq!(condition(&stage, "Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
    patch(&mut stage, image("one"));
    play(&mut stage, |_| true);
    assert_eq!(condition(&stage, "Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
}

#[test]
fn what_keeps_a_set_from_its_pods_is_the_deployments_trouble_too() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    let set = text(&stage.all("replicasets")[0]["metadata"]["name"]);
    let failure =
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "no"});
    stage.patch("replicasets", "d", &set, &json!({"status": {"conditions": [failure]}}));
    stage.settle(&key());
    assert_eq!(condition(&stage, "ReplicaFailure"), ("True".into(), "FailedCreate".into()));
    settle(&mut stage);
    assert_eq!(condition(&stage, "ReplicaFailure").0, "", "and forgotten when it is over");
}

#[test]
fn sets_that_match_are_taken_over_and_others_let_go() {
    let mut stage = stage(&json!({}));
    play(&mut stage, |_| true);
    let set = text(&stage.all("replicasets")[0]["metadata"]["name"]);
    let named = stage.patch("replicasets", "d", &set, &json!({"metadata": {"ownerReferences": null}}));
    assert!(named.contains(&key()), "a set that nobody controls concerns those who select it");
    settle(&mut stage);
    assert_eq!(stage.get("replicasets", "d", &set)["metadata"]["ownerReferences"][0]["name"], "web");
    assert_eq!(stage.all("replicasets").len(), 1);
    stage.patch("replicasets", "d", &set, &json!({"metadata": {"labels": {"app": "other"}}}));
    stage.settle(&key());
    assert!(stage.get("replicasets", "d", &set)["metadata"]["ownerReferences"].is_null());
}

#[test]
fn a_name_that_is_taken_is_a_collision_and_the_next_one_differs() {
    let mut stage = stage(&json!({}));
    stage.settle(&key());
    let taken = text(&stage.all("replicasets")[0]["metadata"]["name"]);
    stage.patch("deployments", "d", "web", &json!({"status": {"collisionCount": 1}}));
    stage.remove("apps", "replicasets", "d", &taken);
    stage.settle(&key());
    assert_ne!(text(&stage.all("replicasets")[0]["metadata"]["name"]), taken);
}

#[test]
fn a_set_that_is_being_made_is_told_before_what_it_does() {
    let progress = |s: &Value| s["conditions"][0]["message"].clone();
    let mut s = stage(&json!({"replicas": 2}));
    let plan = s.patches(&key());
    assert_eq!(plan.len(), 1, "the rest of the status is told when the set is there");
    let made = text(&progress(&plan[0]["status"]));
    assert!(made.starts_with("Created new replica set \"web-"), "{made}");
    play(&mut s, |_| true);
    assert_eq!(condition(&s, "Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    let mut with_none = stage(&json!({"progressDeadlineSeconds": i32::MAX}));
    with_none.settle(&key());
    assert_eq!(condition(&with_none, "Progressing").0, "");
}
