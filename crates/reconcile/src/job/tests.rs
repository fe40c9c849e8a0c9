use crate::stage::Stage;
use crate::{Controller, Key};
use serde_json::{Value, json};

const TRACKING: &str = "batch.kubernetes.io/job-tracking";

fn key() -> Key {
    Key::new(Controller::Job, "d", "j")
}

fn stage(spec: Value) -> Play {
    let mut stage = Stage::new();
    let mut whole = json!({"selector": {"matchLabels": {"job": "j"}}, "parallelism": 1,
        "template": {"metadata": {"labels": {"job": "j"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    for (k, v) in spec.as_object().expect("an object") {
        whole[k] = v.clone();
    }
    let job = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "j", "namespace": "d", "uid": "j"}, "spec": whole});
    assert!(stage.put(job).contains(&key()));
    Play(stage)
}

struct Play(Stage);

impl std::ops::Deref for Play {
    type Target = Stage;
    fn deref(&self) -> &Stage {
        &self.0
    }
}

impl std::ops::DerefMut for Play {
    fn deref_mut(&mut self) -> &mut Stage {
        &mut self.0
    }
}

impl Play {
    fn look(&mut self) -> Option<stoa_units::Time> {
        self.settle(&key())
    }

    fn job(&self) -> &Value {
        &self.get("jobs", "d", "j")["status"]
    }

    fn pods(&self) -> Vec<String> {
        self.all("pods")
            .iter()
            .map(|p| p["metadata"]["name"].as_str().unwrap_or_default().to_string())
            .collect()
    }

    /// Pods that neither ended nor are ending.
    fn running(&self) -> Vec<String> {
        let live = |p: &&&Value| {
            !matches!(p["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
                && p["metadata"]["deletionTimestamp"].is_null()
        };
        let all = self.all("pods");
        all.iter()
            .filter(live)
            .map(|p| p["metadata"]["name"].as_str().unwrap_or_default().to_string())
            .collect()
    }

    fn end(&mut self, pod: &str, phase: &str, code: i32) {
        let at = self.world.now.to_rfc3339_seconds();
        let status = json!({"status": {"phase": phase, "containerStatuses": [{"name": "c",
            "state": {"terminated": {"exitCode": code, "finishedAt": at}}}]}});
        self.patch("pods", "d", pod, &status);
    }

    fn conditions(&self) -> Vec<(String, String, String)> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let all = self.job()["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().map(|c| (text(&c["type"]), text(&c["status"]), text(&c["reason"]))).collect()
    }

    fn holds(&self, kind: &str, reason: &str) -> bool {
        self.conditions().iter().any(|(k, s, r)| k == kind && s == "True" && r == reason)
    }

    fn index_of(&self, pod: &str) -> Value {
        self.get("pods", "d", pod)["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
            .clone()
    }
}

#[test]
fn a_job_runs_its_pods_counts_each_once_and_completes() {
    let mut s = stage(json!({"completions": 3, "parallelism": 2}));
    s.look();
    assert_eq!(s.running().len(), 2);
    assert_eq!((&s.job()["active"], &s.job()["ready"]), (&json!(2), &json!(0)));
    assert!(s.job()["startTime"].is_string());
    let pod = s.get("pods", "d", &s.pods()[0]);
    assert_eq!(pod["metadata"]["finalizers"], json!([TRACKING]));
    assert_eq!(pod["metadata"]["ownerReferences"][0]["controller"], true);
    let first = s.pods()[0].clone();
    s.end(&first, "Succeeded", 0);
    s.look();
    assert_eq!((&s.job()["succeeded"], &s.job()["active"]), (&json!(1), &json!(2)));
    assert_eq!(s.job()["uncountedTerminatedPods"], json!({}));
    assert!(s.get("pods", "d", &first)["metadata"]["finalizers"].is_null(), "one that is counted is let go");
    s.remove("", "pods", "d", &first);
    for _ in 0..2 {
        let next = s.running()[0].clone();
        s.end(&next, "Succeeded", 0);
        s.look();
    }
    assert_eq!((&s.job()["succeeded"], s.running().len()), (&json!(3), 0));
    assert!(s.holds("SuccessCriteriaMet", "CompletionsReached") && s.holds("Complete", "CompletionsReached"));
    assert!(s.job()["completionTime"].is_string());
    assert_eq!(s.events.iter().filter(|(r, _)| r == "Completed").count(), 1);
    assert!(s.job()["active"].is_null());
}

#[test]
fn who_is_counted_is_on_paper_before_it_is_let_go() {
    let mut s = stage(json!({"completions": 2}));
    s.look();
    let pod = s.pods()[0].clone();
    s.end(&pod, "Succeeded", 0);
    let patches = s.patches(&key());
    let uid = format!("uid-{pod}");
    assert_eq!(patches[0]["status"]["uncountedTerminatedPods"]["succeeded"], json!([uid]));
    assert_eq!(patches[1], json!({"metadata": {"finalizers": null}}));
    // A crash after the first: the pod is on paper and still held, and counts once.
    s.patch("jobs", "d", "j", &patches[0]);
    s.look();
    assert_eq!(s.job()["succeeded"], 1);
}

#[test]
fn however_many_end_at_once_few_are_on_paper_and_all_are_counted() {
    let mut s = stage(json!({"completions": 600, "parallelism": 600}));
    s.look();
    assert_eq!(s.running().len(), 600, "a burst is bounded, and the next look goes on");
    for pod in s.pods() {
        s.end(&pod, "Succeeded", 0);
    }
    let patch = s.patches(&key()).remove(0);
    let paper = patch["status"]["uncountedTerminatedPods"]["succeeded"].as_array().map(Vec::len);
    assert_eq!(paper, Some(500));
    s.look();
    assert_eq!(s.job()["succeeded"], 600);
    assert!(s.holds("Complete", "CompletionsReached"));
}

#[test]
fn without_completions_one_success_ends_the_queue() {
    let mut s = stage(json!({"parallelism": 2}));
    s.look();
    let pods = s.pods();
    s.end(&pods[0], "Succeeded", 0);
    s.look();
    assert_eq!(s.running().len(), 1, "no new worker comes");
    assert!(s.conditions().is_empty());
    s.end(&pods[1], "Succeeded", 0);
    s.look();
    assert!(s.holds("Complete", "CompletionsReached"));
    assert_eq!(s.job()["succeeded"], 2);
}

#[test]
fn failures_are_retried_after_a_pause_up_to_the_limit() {
    let mut s = stage(json!({"completions": 1, "backoffLimit": 1}));
    s.look();
    let first = s.pods()[0].clone();
    s.end(&first, "Failed", 1);
    let again = s.look().expect("a pause");
    assert_eq!(again.since(s.world.now).as_secs(), 10);
    assert_eq!((&s.job()["failed"], s.running().len()), (&json!(1), 0));
    s.wait(10);
    s.look();
    assert_eq!(s.running().len(), 1);
    let second = s.running()[0].clone();
    s.end(&second, "Failed", 1);
    s.look();
    assert!(s.holds("FailureTarget", "BackoffLimitExceeded") && s.holds("Failed", "BackoffLimitExceeded"));
    assert_eq!(s.job()["failed"], 2);
    assert_eq!(s.events.iter().filter(|(r, _)| r == "BackoffLimitExceeded").count(), 1);
    assert!(s.job()["completionTime"].is_null());
}

#[test]
fn restarts_in_place_count_where_containers_restart() {
    for (limit, restarts, fails) in [(0, 0, false), (0, 1, true), (2, 1, false), (2, 2, true)] {
        let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]});
        let mut s = stage(json!({"completions": 1, "backoffLimit": limit,
            "template": {"metadata": {"labels": {"job": "j"}}, "spec": spec}}));
        s.look();
        let pod = s.pods()[0].clone();
        let status =
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": restarts}]});
        s.patch("pods", "d", &pod, &json!({"status": status}));
        s.look();
        assert_eq!(s.holds("Failed", "BackoffLimitExceeded"), fails, "{restarts} of {limit}");
        assert_eq!(s.running().is_empty(), fails);
    }
}

#[test]
fn a_job_that_takes_too_long_fails_and_its_pods_end_first() {
    let mut s = stage(json!({"completions": 1, "activeDeadlineSeconds": 60}));
    let again = s.look();
    assert_eq!(again.map(|t| t.since(s.world.now).as_secs()), Some(60));
    let pod = s.pods()[0].clone();
    s.patch("pods", "d", &pod, &json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running"}}));
    s.wait(60);
    s.look();
    assert!(s.holds("FailureTarget", "DeadlineExceeded"));
    assert!(!s.holds("Failed", "DeadlineExceeded"), "a pod is still ending");
    assert_eq!((&s.job()["terminating"], &s.job()["failed"]), (&json!(1), &json!(1)));
    s.remove("", "pods", "d", &pod);
    s.look();
    assert!(s.holds("Failed", "DeadlineExceeded"));
    assert_eq!(s.job()["terminating"], 0);
}

#[test]
fn a_suspended_job_rests_and_begins_anew() {
    let mut s = stage(json!({"completions": 2, "parallelism": 2, "suspend": true}));
    s.look();
    assert!(s.running().is_empty() && s.job()["startTime"].is_null());
    assert!(s.holds("Suspended", "JobSuspended"));
    s.wait(100);
    s.patch("jobs", "d", "j", &json!({"spec": {"suspend": false}}));
    s.look();
    assert_eq!(s.running().len(), 2);
    assert_eq!(s.conditions(), [("Suspended".into(), "False".into(), "JobResumed".into())]);
    assert_eq!(s.job()["startTime"], s.world.now.to_rfc3339_seconds());
    s.patch("jobs", "d", "j", &json!({"spec": {"suspend": true}}));
    s.look();
    assert!(s.pods().is_empty());
    assert!(s.job()["failed"].is_null(), "pods that rest have not failed");
    assert!(s.job()["startTime"].is_null(), "it will begin anew");
    let told: Vec<&str> =
        s.events.iter().map(|(r, _)| r.as_str()).filter(|r| !r.starts_with("Successful")).collect();
    assert_eq!(told, ["Suspended", "Resumed", "Suspended"]);
}

#[test]
fn less_parallelism_takes_pods_away_that_count_for_nothing() {
    let mut s = stage(json!({"completions": 5, "parallelism": 4}));
    s.look();
    s.patch("jobs", "d", "j", &json!({"spec": {"parallelism": 1}}));
    s.look();
    assert_eq!((s.running().len(), &s.job()["active"]), (1, &json!(1)));
    assert!(s.job()["failed"].is_null());
}

#[test]
fn indexed_pods_are_numbered_and_each_index_succeeds_once() {
    let mut s = stage(json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"}));
    s.look();
    let pods = s.pods();
    assert_eq!([s.index_of(&pods[0]), s.index_of(&pods[1])], ["0", "1"]);
    let pod = s.get("pods", "d", &pods[1]);
    assert_eq!(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"], "1");
    assert_eq!(pod["metadata"]["generateName"], "j-1-");
    assert_eq!(pod["spec"]["hostname"], "j-1");
    let env = &pod["spec"]["containers"][0]["env"][0];
    assert_eq!(env["name"], "JOB_COMPLETION_INDEX");
    assert_eq!(
        env["valueFrom"]["fieldRef"]["fieldPath"],
        "metadata.labels['batch.kubernetes.io/job-completion-index']"
    );
    s.end(&pods[1], "Succeeded", 0);
    s.look();
    assert_eq!(s.job()["completedIndexes"], "1");
    let next = s.running().into_iter().find(|p| *p != pods[0]).expect("the next index");
    assert_eq!(s.index_of(&next), "2");
    s.end(&pods[0], "Failed", 1);
    s.look();
    s.wait(10);
    s.look();
    let retry = s.running().into_iter().find(|p| *p != next).expect("another try");
    assert_eq!(s.index_of(&retry), "0");
    s.end(&next, "Succeeded", 0);
    s.end(&retry, "Succeeded", 0);
    s.look();
    assert!(s.holds("Complete", "CompletionsReached"));
    assert_eq!(
        (&s.job()["completedIndexes"], &s.job()["succeeded"], &s.job()["failed"]),
        (&json!("0-2"), &json!(3), &json!(1))
    );
}

#[test]
fn an_index_that_runs_twice_loses_one_pod() {
    let mut s = stage(json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed"}));
    s.look();
    let mut twin = s.get("pods", "d", &s.pods()[0]).clone();
    twin["metadata"]["name"] = json!("twin");
    twin["metadata"]["uid"] = json!("twin");
    s.put(twin);
    s.look();
    let mut indexes: Vec<Value> = s.running().iter().map(|p| s.index_of(p)).collect();
    indexes.sort_by_key(Value::to_string);
    assert_eq!(indexes, ["0", "1"]);
}

#[test]
fn each_index_has_its_own_limit() {
    let mut s = stage(json!({"completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "backoffLimitPerIndex": 1, "backoffLimit": i32::MAX}));
    s.look();
    let pods = s.pods();
    s.end(&pods[0], "Failed", 1);
    assert_eq!(s.look().map(|t| t.since(s.world.now).as_secs()), Some(10));
    let held = &s.get("pods", "d", &pods[0])["metadata"]["finalizers"];
    assert!(held.is_array(), "it tells how often its index failed");
    s.wait(10);
    s.look();
    let retry = s.running().into_iter().find(|p| *p != pods[1]).expect("another try");
    let notes = &s.get("pods", "d", &retry)["metadata"]["annotations"];
    assert_eq!(notes["batch.kubernetes.io/job-index-failure-count"], "1");
    assert_eq!(s.job()["failed"], 1);
    s.end(&retry, "Failed", 1);
    s.look();
    assert_eq!(s.job()["failedIndexes"], "0");
    assert_eq!(s.running().len(), 1, "the other index goes on");
    s.end(&pods[1], "Succeeded", 0);
    s.look();
    assert!(s.holds("Failed", "FailedIndexes"));
    assert_eq!(s.job()["completedIndexes"], "1");
}

#[test]
fn more_lost_indexes_than_allowed_end_the_job() {
    let mut s = stage(json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimitPerIndex": 0, "maxFailedIndexes": 1, "backoffLimit": i32::MAX}));
    s.look();
    for pod in s.pods().iter().take(2) {
        assert!(s.conditions().is_empty());
        s.end(pod, "Failed", 1);
        s.look();
    }
    assert!(s.holds("Failed", "MaxFailedIndexesExceeded"));
    assert_eq!(s.job()["failedIndexes"], "0,1");
}

#[test]
fn a_policy_says_what_a_failure_means() {
    let policy = json!({"rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
        {"action": "Count", "onExitCodes": {"operator": "NotIn", "values": [42]}},
    ]});
    let spec = json!({"completions": 1, "backoffLimit": 0, "podFailurePolicy": policy, "podReplacementPolicy": "Failed"});
    let mut s = stage(spec.clone());
    s.look();
    let pod = s.pods()[0].clone();
    let target = json!({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}});
    s.patch("pods", "d", &pod, &target);
    s.end(&pod, "Failed", 137);
    s.look();
    s.wait(10);
    s.look();
    assert_eq!(s.running().len(), 1, "it is replaced and counts for nothing");
    assert!(s.job()["failed"].is_null());
    let pod = s.running()[0].clone();
    s.end(&pod, "Failed", 42);
    s.look();
    assert!(s.holds("FailureTarget", "PodFailurePolicy") && s.holds("Failed", "PodFailurePolicy"));
    let wanted =
        format!("Container c for pod d/{pod} failed with exit code 42 matching FailJob rule at index 1");
    assert!(
        s.job()["conditions"].as_array().expect("a list").iter().all(|c| c["message"] == wanted.as_str())
    );

    let mut s = stage(spec);
    s.look();
    let pod = s.pods()[0].clone();
    s.end(&pod, "Failed", 1);
    s.look();
    assert!(s.holds("Failed", "BackoffLimitExceeded"));
}

#[test]
fn a_success_policy_ends_a_job_early() {
    for (rule, ends_after) in [
        (json!({"succeededIndexes": "1-2"}), 3),
        (json!({"succeededCount": 1}), 1),
        (json!({"succeededIndexes": "1-2", "succeededCount": 1}), 2),
    ] {
        let mut s = stage(json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed",
            "successPolicy": {"rules": [rule]}}));
        s.look();
        for (i, pod) in s.pods().iter().take(3).enumerate() {
            s.end(pod, "Succeeded", 0);
            s.look();
            let over = s.holds("SuccessCriteriaMet", "SuccessPolicy");
            assert_eq!(over, i + 1 >= ends_after, "{rule} after {}", i + 1);
            if over {
                break;
            }
        }
        assert!(s.holds("Complete", "SuccessPolicy") && s.running().is_empty());
        assert!(s.job()["failed"].is_null(), "those that are not needed any more have not failed");
    }
}

#[test]
fn a_pod_is_replaced_when_it_ends_or_as_soon_as_it_is_told_to() {
    for (policy, at_once) in [("TerminatingOrFailed", true), ("Failed", false)] {
        let mut s = stage(json!({"completions": 1, "podReplacementPolicy": policy}));
        s.look();
        let pod = s.pods()[0].clone();
        s.patch("pods", "d", &pod, &json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running"}}));
        let told = s.world.now.to_rfc3339_seconds();
        s.patch("pods", "d", &pod, &json!({"metadata": {"deletionTimestamp": told}}));
        s.look();
        s.wait(20);
        s.look();
        assert_eq!(s.running().len(), usize::from(at_once), "{policy}");
        assert_eq!(s.job()["terminating"], 1);
        s.end(&pod, "Failed", 143);
        s.look();
        s.wait(10);
        s.look();
        assert_eq!((s.running().len(), &s.job()["failed"]), (1, &json!(1)), "{policy}");
    }
}

#[test]
fn somebody_elses_job_is_left_alone_and_orphans_are_taken_over() {
    let mut s = stage(json!({"completions": 1, "managedBy": "example.com/queue"}));
    s.look();
    assert!(s.pods().is_empty() && s.job().is_null());
    let mut s = stage(json!({"completions": 1}));
    s.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "o", "namespace": "d", "labels": {"job": "j"}}}));
    s.look();
    assert_eq!(s.pods(), ["o"]);
    let meta = &s.get("pods", "d", "o")["metadata"];
    assert_eq!((&meta["ownerReferences"][0]["name"], &meta["finalizers"]), (&json!("j"), &json!([TRACKING])));
    s.patch("pods", "d", "o", &json!({"metadata": {"labels": {"job": "other"}}}));
    s.look();
    let meta = &s.get("pods", "d", "o")["metadata"];
    assert!(meta["ownerReferences"].is_null() && meta["finalizers"].is_null());
    assert_eq!(s.running().len(), 2);
}

#[test]
fn a_job_that_is_over_goes_in_its_time() {
    let mut s = stage(json!({"completions": 0, "ttlSecondsAfterFinished": 30}));
    s.look();
    assert!(s.holds("Complete", "CompletionsReached"));
    let ttl = Key::new(Controller::JobTtl, "d", "j");
    assert_eq!(s.settle(&ttl).map(|t| t.since(s.world.now).as_secs()), Some(30));
    s.wait(30);
    s.settle(&ttl);
    assert!(s.all("jobs").is_empty());
}

#[test]
fn pods_of_a_job_that_is_gone_are_let_go() {
    let mut s = stage(json!({"completions": 1}));
    s.look();
    let pod = s.pods()[0].clone();
    let named = s.remove("batch", "jobs", "d", "j");
    let key = Key::new(Controller::JobPod, "d", pod.as_str());
    assert!(named.contains(&key));
    s.settle(&key);
    assert!(s.get("pods", "d", &pod)["metadata"]["finalizers"].is_null());
}
