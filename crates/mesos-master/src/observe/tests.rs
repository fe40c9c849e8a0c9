use super::*;

fn record(is_killed: bool) -> Record {
    serde_json::from_value(serde_json::json!({
        "framework": "f", "role": "*", "namespace": "mesos", "pod": "p", "uid": "u", "agent": "a1", "is_killed": is_killed,
        "launched": "2026-01-01T00:00:00Z",
        "task": {"name": "n", "task_id": {"value": "t"}, "agent_id": {"value": "a1"}},
        "resources": stoa_units::Resources::default(),
    }))
    .unwrap()
}

fn see(status: &str, is_killed: bool) -> (Rank, TaskState, String, Option<Reason>) {
    let pod: Pod = serde_json::from_str(&format!(r#"{{"metadata":{{}},"status":{status}}}"#)).unwrap();
    let seen = observe(&record(is_killed), &pod);
    (seen.rank, seen.state, seen.message.unwrap_or_default(), seen.reason)
}

#[test]
fn a_pods_status_is_read_as_mesos_would_say_it() {
    let ended = |end: &str| {
        format!(
            r#"{{"phase":"Failed","containerStatuses":[{{"name":"task","ready":false,"restartCount":0,"image":"","imageID":"","state":{{"terminated":{end}}}}}]}}"#
        )
    };
    let waiting = |why: &str| {
        format!(
            r#"{{"phase":"Pending","containerStatuses":[{{"name":"task","ready":false,"restartCount":0,"image":"","imageID":"","state":{{"waiting":{{"reason":"{why}"}}}}}}]}}"#
        )
    };
    use Rank::{Ended, Killing, Running, Staging, Starting};
    use TaskState as S;
    let running = r#"{"phase":"Running","containerStatuses":[{"name":"task","ready":true,"restartCount":0,"image":"","imageID":"","state":{"running":{}}}]}"#;
    for (status, killed, want) in [
        ("{}".to_string(), false, (Staging, S::Staging, "", None)),
        (
            r#"{"phase":"Pending","startTime":"2026-01-01T00:00:00Z"}"#.into(),
            false,
            (Starting, S::Staging, "", None),
        ),
        (waiting("ContainerCreating"), false, (Starting, S::Staging, "", None)),
        (running.into(), false, (Running, S::Staging, "", None)),
        (running.into(), true, (Killing, S::Staging, "", None)),
        (ended(r#"{"exitCode":0}"#), false, (Ended, S::Finished, "Command exited with status 0", None)),
        (ended(r#"{"exitCode":1}"#), false, (Ended, S::Failed, "Command exited with status 1", None)),
        (
            ended(r#"{"exitCode":139,"signal":11}"#),
            false,
            (Ended, S::Failed, "Command terminated with signal Segmentation fault", None),
        ),
        (
            ended(r#"{"exitCode":143}"#),
            true,
            (Ended, S::Killed, "Command terminated with signal Terminated", None),
        ),
        (
            ended(r#"{"exitCode":137}"#),
            true,
            (Ended, S::Killed, "Command terminated with signal Killed", None),
        ),
        (ended(r#"{"exitCode":137}"#), false, (Ended, S::Failed, "Command exited with status 137", None)),
        (ended(r#"{"exitCode":0}"#), true, (Ended, S::Finished, "Command exited with status 0", None)),
        (
            ended(r#"{"exitCode":137,"reason":"OOMKilled"}"#),
            false,
            (Ended, S::Failed, "Memory limit exceeded", Some(Reason::ContainerLimitationMemory)),
        ),
        (
            ended(r#"{"exitCode":128,"reason":"StartError","message":"no such file"}"#),
            false,
            (Ended, S::Failed, "no such file", Some(Reason::ContainerLaunchFailed)),
        ),
        (
            waiting("ErrImageNeverPull"),
            false,
            (
                Ended,
                S::Failed,
                "Failed to launch container: ErrImageNeverPull",
                Some(Reason::ContainerLaunchFailed),
            ),
        ),
        (
            r#"{"phase":"Failed","reason":"DeadlineExceeded","message":"late"}"#.into(),
            false,
            (Ended, S::Failed, "late", Some(Reason::MaxCompletionTimeReached)),
        ),
        (
            r#"{"phase":"Failed","reason":"OutOfcpu","message":"no"}"#.into(),
            false,
            (Ended, S::Failed, "no", Some(Reason::ContainerLaunchFailed)),
        ),
    ] {
        let (rank, state, message, reason) = want;
        assert_eq!(see(&status, killed), (rank, state, message.to_string(), reason), "{status}");
    }
}

#[test]
fn a_pod_that_is_gone_was_killed_or_lost_with_its_agent() {
    let gone = |has_agent, knows: bool| {
        let fate = if knows { TaskState::Gone } else { TaskState::Lost };
        observe_gone(&record(false), None, has_agent, fate).state
    };
    assert_eq!(gone(true, false), TaskState::Killed);
    assert_eq!(gone(false, false), TaskState::Lost);
    assert_eq!(gone(false, true), TaskState::Gone);
    let done: Pod = serde_json::from_str(
        r#"{"metadata":{},"status":{"phase":"Succeeded","containerStatuses":[{"name":"task","ready":false,"restartCount":0,"image":"","imageID":"","state":{"terminated":{"exitCode":0}}}]}}"#,
    )
    .unwrap();
    assert_eq!(observe_gone(&record(false), Some(&done), true, TaskState::Lost).state, TaskState::Finished);
}
