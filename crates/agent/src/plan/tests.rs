use super::*;
use crate::observed::{Doom, Ended};
use serde_json::{Value, json};

const READY: &str = "ready";

fn at(s: u64) -> Time {
    Time::EPOCH.plus(Duration::from_secs(s))
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn ended(code: i32, finished: u64) -> Life {
    Life::Ended(Ended {
        id: "x".into(),
        code,
        signal: None,
        reason: String::new(),
        message: String::new(),
        started_at: Some(at(finished)),
        finished_at: at(finished),
    })
}

/// `"name=run name=ok name=fail"`, and where the sandbox stands.
fn observed(sandbox: &str, containers: &str) -> Observed {
    let mut o = Observed::new(at(0));
    o.sandbox = match sandbox {
        READY => Sandbox::Ready { ips: vec![] },
        "removed" => Sandbox::Removed,
        _ => Sandbox::Missing { retry_at: None },
    };
    for word in containers.split_whitespace() {
        let (name, state) = word.split_once('=').unwrap();
        let seen = o.seen_mut(name);
        seen.attempts = 1;
        match state {
            "run" => {
                seen.life = Life::Running { id: "x".into(), started_at: at(0) };
                seen.started = true;
            }
            "starting" => seen.life = Life::Running { id: "x".into(), started_at: at(0) },
            "ok" => seen.life = ended(0, 100),
            "fail" => seen.life = ended(1, 100),
            "resting" => {
                seen.life = ended(1, 100);
                seen.backoff = Duration::from_secs(10);
            }
            other => panic!("{other}"),
        }
    }
    o
}

fn show(plan: Plan) -> String {
    let mut words: Vec<String> = plan
        .actions
        .iter()
        .map(|a| match a {
            Action::Start(name) => format!("start {name}"),
            Action::Kill { container, grace, turn } => {
                let waits = if *turn == Turn::AfterOthers { " later" } else { "" };
                format!("kill {container} {}{waits}", grace.as_secs())
            }
            Action::Fail { reason, .. } => format!("fail {reason}"),
            other => format!("{other:?}").to_lowercase(),
        })
        .collect();
    words.extend(plan.wake.map(|w| format!("wake {}", w.since(Time::EPOCH).as_secs())));
    words.join(", ")
}

#[test]
fn a_pod_advances_by_what_is_seen() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let never = json!({"restartPolicy": "Never", "containers": [{"name": "a"}]});
    let on_failure = json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}]});
    let row = json!({
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
        "containers": [{"name": "a"}]});
    let row_never =
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let table = [
        (&two, "missing", "", "prepare"),
        (&two, READY, "", "start a, start b"),
        (&two, READY, "a=run", "start b"),
        (&two, READY, "a=run b=run", ""),
        (&two, READY, "a=run b=fail", "start b"),
        (&two, READY, "a=run b=resting", "wake 110"),
        (&never, READY, "a=fail", "teardown"),
        (&never, READY, "a=ok", "teardown"),
        (&never, "removed", "a=ok", ""),
        (&on_failure, READY, "a=ok", "teardown"),
        (&on_failure, READY, "a=fail", "start a"),
        (&row, READY, "", "start i"),
        (&row, READY, "i=run", ""),
        (&row, READY, "i=fail", "start i"),
        (&row, READY, "i=ok", "start s"),
        (&row, READY, "i=ok s=starting", ""),
        (&row, READY, "i=ok s=run", "start j"),
        (&row, READY, "i=ok s=run j=run", ""),
        (&row, READY, "i=ok s=run j=ok", "start a"),
        (&row, READY, "i=ok s=run j=ok a=run", ""),
        (&row, READY, "i=ok s=resting j=ok a=run", "wake 110"),
        (&row, READY, "a=run", "start s"),
        (&row_never, READY, "i=fail", "teardown"),
    ];
    for (spec, sandbox, containers, want) in table {
        let got = show(plan(&pod(spec.clone()), &observed(sandbox, containers), at(105)));
        assert_eq!(got, want, "{spec} with {sandbox}: {containers}");
    }
}

#[test]
fn a_doomed_pods_sidecars_wait_for_the_main_containers_and_then_end_in_reverse() {
    let spec = json!({
        "terminationGracePeriodSeconds": 7,
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}, {"name": "b"}]});
    for (containers, want) in [
        ("s=run t=run a=run b=run", "kill s 7 later, kill t 7 later, kill a 7, kill b 7"),
        ("s=run t=run a=ok b=run", "kill s 7 later, kill t 7 later, kill b 7"),
        ("s=run t=run a=ok b=fail", "kill s 7 later, kill t 7"),
        ("s=run t=ok a=ok b=ok", "kill s 7"),
        ("s=ok t=run a=ok b=ok", "kill t 7"),
        ("s=ok t=ok a=ok b=ok", "teardown"),
        ("stranger=run", "kill stranger 7"),
        ("", "teardown"),
    ] {
        for doom in [Doom::Deleted, Doom::Gone] {
            let mut o = observed(READY, containers);
            o.doom = Some(doom);
            assert_eq!(show(plan(&pod(spec.clone()), &o, at(105))), want, "{containers}");
        }
    }
}

#[test]
fn a_deadline_fails_the_pod_and_is_waited_for() {
    let spec = json!({"activeDeadlineSeconds": 60, "containers": [{"name": "a"}]});
    assert_eq!(show(plan(&pod(spec.clone()), &observed(READY, "a=run"), at(59))), "wake 60");
    assert_eq!(show(plan(&pod(spec), &observed(READY, "a=run"), at(60))), "fail DeadlineExceeded");
}

#[test]
fn a_deletion_shortens_the_grace_period() {
    let mut p = pod(json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "a"}]}));
    p.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1).0));
    p.metadata.deletion_grace_period_seconds = Some(0);
    let mut o = observed(READY, "a=run");
    o.doom = Some(Doom::Deleted);
    assert_eq!(show(plan(&p, &o, at(2))), "kill a 1");
}

#[test]
fn a_rule_sends_the_whole_pod_back_to_its_beginning() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]);
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}, {"name": "b"}]});
    for (containers, want) in [
        ("i=ok s=run a=fail b=run", "kill s 0, kill b 0"),
        // However often it did so before.
        ("i=ok s=fail a=fail b=fail", "startover"),
        ("i=ok s=fail a=resting b=fail", "startover"),
        // Another code is no cause, and the pod ends as its policy says.
        ("i=ok s=run a=ok b=ok", "kill s 30"),
        ("i=ok s=run a=ok b=fail", "kill s 30"),
    ] {
        assert_eq!(
            show(plan(&pod(spec.clone()), &observed(READY, containers), at(105))),
            want,
            "{containers}"
        );
    }
    let mut o = observed(READY, "i=ok s=fail a=fail b=fail");
    o.containers.values_mut().for_each(Seen::start_over);
    assert_eq!(show(plan(&pod(spec.clone()), &o, at(105))), "start i");
    // What ends while the pod is being ended begins nothing again.
    let rules =
        json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0]}}]);
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always", "restartPolicyRules": rules}],
        "containers": [{"name": "a"}]});
    let mut o = observed(READY, "s=fail a=ok");
    assert_eq!(show(plan(&pod(spec.clone()), &o, at(105))), "startover");
    o.ending_since = Some(at(100));
    assert_eq!(show(plan(&pod(spec), &o, at(105))), "teardown");
}
