//! The life of tasks.

use super::fixture::*;
use serde_json::{Value, json};
use std::time::Duration;
use stoa_store::Key;

#[tokio::test(start_paused = true)]
async fn a_task_is_a_pod_and_its_life_is_told_in_order() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    let pod = w.pod_of("t1");
    assert_eq!(pod["metadata"]["namespace"], "mesos");
    assert_eq!(pod["metadata"]["labels"]["stoa.dev/framework-id"], s.id);
    assert_eq!(pod["spec"]["nodeName"], "a1");
    assert_eq!(pod["spec"]["containers"][0]["image"], "stoa.dev/host");
    // The claim moved from the offer to the pod, and the rest is free again.
    assert_eq!(w.milli_cpu_of_pods(), 1000);
    w.report_running("t1").await;
    let starting = s.told(&w, "TASK_STARTING").await;
    assert_eq!(starting["source"], "SOURCE_EXECUTOR");
    assert_eq!(starting["executor_id"]["value"], "t1");
    let running = s.told(&w, "TASK_RUNNING").await;
    assert_eq!(running["agent_id"]["value"], "a1");
    assert_eq!(running["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"], "10.0.0.7");
    assert_ne!(starting["uuid"], running["uuid"]);
    w.report_exit("t1", 0).await;
    let finished = s.told(&w, "TASK_FINISHED").await;
    assert_eq!(finished["message"], "Command exited with status 0");
    w.settle().await;
    assert_eq!(w.milli_cpu_of_pods(), 0);
    // The pod is kept for its output, for a while.
    w.pod_of("t1");
    w.clock.advance(Duration::from_secs(3601));
    w.settle().await;
    assert_eq!(w.pods(), Vec::<Value>::new());
    assert!(w.store().get(&Key::internal("tasks", &format!("{}:t1", s.id))).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_update_is_repeated_until_it_is_acknowledged_and_holds_back_the_next() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    let start = tokio::time::Instant::now();
    w.report_exit("t1", 1).await;
    let first = s.update().await;
    assert_eq!(first["state"], "TASK_STARTING");
    let mut at = vec![];
    for _ in 0..4 {
        let again = s.update().await;
        assert_eq!(again["uuid"], first["uuid"], "only the first is under way");
        at.push(start.elapsed().as_secs());
    }
    // Ten seconds, then twice as long each time; the cycle looks once a second.
    for (got, want) in at.iter().zip([10, 30, 70, 150]) {
        assert!(got.abs_diff(want) <= 4, "{at:?}");
    }
    // An acknowledgement of something else changes nothing.
    let mut wrong = first.clone();
    wrong["uuid"] = "AAAAAAAAAAAAAAAAAAAAAA==".into();
    s.ack(&w, &wrong).await;
    s.ack(&w, &first).await;
    s.told(&w, "TASK_RUNNING").await;
    let failed = s.told(&w, "TASK_FAILED").await;
    assert_eq!(failed["message"], "Command exited with status 1");
    w.settle().await;
    assert!(w.master.state.lock().retries.iter().all(|(due, _)| *due > tokio::time::Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_start_has_failed_and_its_pod_goes() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report(
        &w.pod_of("t1"),
        status("Pending", json!({"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}})),
    )
    .await;
    let failed = s.told(&w, "TASK_FAILED").await;
    assert_eq!(failed["reason"], "REASON_CONTAINER_LAUNCH_FAILED");
    assert_eq!(failed["message"], "Failed to launch container: no image");
    w.settle().await;
    assert_eq!(w.pods(), Vec::<Value>::new());
    assert_eq!(w.milli_cpu_of_pods(), 0);
}

#[tokio::test(start_paused = true)]
async fn killing_ends_with_the_container_and_not_before() {
    let w = World::new(options()).await;
    let mut me = info();
    me["capabilities"] = json!([{"type": "TASK_KILLING_STATE"}]);
    let (mut s, offers) = w.framework(me).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    // Neither agent_id nor kill_policy is needed.
    s.call(&w, json!({"type": "KILL", "kill": {"task_id": {"value": "t1"}}})).await;
    s.told(&w, "TASK_KILLING").await;
    let pod = w.pod_of("t1");
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(w.milli_cpu_of_pods(), 1000, "it still runs");
    let end = json!({"terminated": {"exitCode": 143, "reason": "Error", "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}});
    w.report(&pod, status("Failed", end)).await;
    let killed = s.told(&w, "TASK_KILLED").await;
    assert_eq!(killed["message"], "Command terminated with signal Terminated");
    w.finish_deletion(&pod).await;
    w.settle().await;
    assert_eq!(w.milli_cpu_of_pods(), 0);
}

#[tokio::test(start_paused = true)]
async fn deleting_the_pod_kills_the_task() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    w.finish_deletion(&w.pod_of("t1")).await;
    s.told(&w, "TASK_KILLED").await;
}

#[tokio::test(start_paused = true)]
async fn killing_what_nobody_knows_is_answered_like_a_question() {
    let w = World::new(options()).await;
    let (mut s, _) = w.framework(aware()).await;
    s.call(&w, json!({"type": "KILL", "kill": {"task_id": {"value": "x"}}})).await;
    let status = s.update().await;
    assert_eq!(status["state"], "TASK_UNKNOWN");
    assert_eq!(status["reason"], "REASON_RECONCILIATION");
    assert!(status.get("uuid").is_none());
    s.call(&w, json!({"type": "KILL", "kill": {"task_id": {"value": "x"}, "agent_id": {"value": "a1"}}}))
        .await;
    assert_eq!(s.update().await["state"], "TASK_GONE");
}

#[tokio::test(start_paused = true)]
async fn offers_that_are_no_longer_valid_lose_their_tasks() {
    for (info, state) in [(info(), "TASK_LOST"), (aware(), "TASK_DROPPED")] {
        let w = World::new(options()).await;
        let (mut s, offers) = w.framework(info).await;
        let decline = json!({"type": "DECLINE", "decline": {"offer_ids": [offers["offers"][0]["id"]], "filters": {"refuse_seconds": 1e6}}});
        s.call(&w, decline).await;
        s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
        let status = s.update().await;
        assert_eq!(status["state"], state);
        assert_eq!(status["reason"], "REASON_INVALID_OFFERS");
        assert!(status.get("uuid").is_none());
        assert_eq!(w.pods(), Vec::<Value>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn bad_tasks_are_refused_and_good_ones_beside_them_start() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    let mut executor = task("custom", "a1", 1.0);
    executor["executor"] = json!({"executor_id": {"value": "e"}});
    executor.as_object_mut().unwrap().remove("command");
    s.launch(
        &w,
        &offers,
        vec![task("big", "a1", 40.0), executor, task("ok", "a1", 1.0), task("ok", "a1", 1.0)],
    )
    .await;
    for (id, text) in [
        ("big", "Total resources"),
        ("custom", "'ExecutorInfo.command' must be set"),
        ("ok", "Task has duplicate ID: ok"),
    ] {
        let status = s.update().await;
        assert_eq!(status["task_id"]["value"], id);
        assert_eq!(status["state"], "TASK_ERROR");
        assert_eq!(status["reason"], "REASON_TASK_INVALID");
        assert!(status["message"].as_str().unwrap().starts_with(text), "{status}");
    }
    assert_eq!(w.pods().len(), 1);
    assert_eq!(w.milli_cpu_of_pods(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_roles_tasks_live_in_its_own_namespace_and_in_nobody_elses() {
    let w = World::new(options()).await;
    // `default` is there already, and not the role's.
    for (role, begins) in
        [("*", "mesos"), ("web", "web"), ("eng/dev", "mesos-eng-dev-"), ("default", "mesos-default-")]
    {
        let mut me = info();
        me["role"] = role.into();
        let (s, offers) = w.framework(me).await;
        s.launch(&w, &offers, vec![task(role.split('/').next().unwrap(), "a1", 0.5)]).await;
        let pod =
            w.pods().into_iter().find(|p| p["metadata"]["annotations"]["stoa.dev/role"] == role).unwrap();
        let namespace = pod["metadata"]["namespace"].as_str().unwrap();
        assert!(namespace.starts_with(begins), "{role}: {namespace}");
        // The ledger counts it for the role.
        assert_eq!(w.ledger.lock().usage(role).pods.milli_cpu, 500, "{role}");
        s.call(&w, json!({"type": "SUPPRESS"})).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_tasks_of_one_call_all_start() {
    let w = World::new(options()).await;
    let (s, offers) = w.framework(info()).await;
    let tasks = (0..100).map(|i| {
        let mut t = task(&format!("t{i}"), "a1", 0.01);
        t["resources"][1]["scalar"]["value"] = 1.into();
        t
    });
    s.launch(&w, &offers, tasks.collect()).await;
    assert_eq!(w.pods().len(), 100);
    assert_eq!(w.ledger.lock().used(&"a1".into()).pods, 100);
}

#[tokio::test(start_paused = true)]
async fn reconciliation_answers_for_known_gone_and_unknown() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(aware()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    let ask = |tasks: Value| json!({"type": "RECONCILE", "reconcile": {"tasks": tasks}});
    s.call(
        &w,
        ask(json!([{"task_id": {"value": "t1"}}, {"task_id": {"value": "x"}, "agent_id": {"value": "a1"}},
        {"task_id": {"value": "x"}, "agent_id": {"value": "a9"}}, {"task_id": {"value": "x"}}])),
    )
    .await;
    for state in ["TASK_RUNNING", "TASK_GONE", "TASK_UNKNOWN", "TASK_UNKNOWN"] {
        let status = s.update().await;
        assert_eq!((&status["state"], &status["reason"]), (&json!(state), &json!("REASON_RECONCILIATION")));
        assert!(status.get("uuid").is_none());
    }
    // Implicitly: all that live.
    s.call(&w, ask(json!([]))).await;
    assert_eq!(s.update().await["task_id"]["value"], "t1");
    // On an agent that does not answer.
    w.set_ready("a1", "Unknown").await;
    let told = s.update().await;
    assert_eq!(
        (&told["state"], &told["reason"]),
        (&json!("TASK_UNREACHABLE"), &json!("REASON_AGENT_REMOVED"))
    );
    s.expect("FAILURE").await;
    s.call(
        &w,
        ask(json!([{"task_id": {"value": "t1"}}, {"task_id": {"value": "x"}, "agent_id": {"value": "a1"}}])),
    )
    .await;
    assert_eq!(s.update().await["state"], "TASK_UNREACHABLE");
    let other = s.update().await;
    assert_eq!(other["state"], "TASK_UNREACHABLE");
    assert!(other["unreachable_time"]["nanoseconds"].is_number());
    // And back again.
    w.set_ready("a1", "True").await;
    let back = s.update().await;
    assert_eq!(
        (&back["state"], &back["reason"]),
        (&json!("TASK_RUNNING"), &json!("REASON_AGENT_REREGISTERED"))
    );
}

#[tokio::test(start_paused = true)]
async fn without_partition_awareness_everything_unknown_is_lost() {
    let w = World::new(options()).await;
    let (mut s, _) = w.framework(info()).await;
    let tasks =
        json!([{"task_id": {"value": "x"}, "agent_id": {"value": "a1"}}, {"task_id": {"value": "y"}}]);
    s.call(&w, json!({"type": "RECONCILE", "reconcile": {"tasks": tasks}})).await;
    for _ in 0..2 {
        assert_eq!(s.update().await["state"], "TASK_LOST");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_agent_loses_its_offers_and_tasks() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    s.call(&w, json!({"type": "REVIVE"})).await;
    let offers = s.expect("OFFERS").await;
    w.remove_agent("a1").await;
    assert_eq!(s.expect("RESCIND").await["offer_id"], offers["offers"][0]["id"]);
    let lost = s.told(&w, "TASK_LOST").await;
    assert_eq!(lost["reason"], "REASON_AGENT_REMOVED");
    assert_eq!(s.expect("FAILURE").await, json!({"agent_id": {"value": "a1"}}));
    w.settle().await;
    assert_eq!(w.pods(), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn teardown_kills_every_task() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0), task("t2", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.update().await;
    s.call(&w, json!({"type": "TEARDOWN"})).await;
    let pods = w.pods();
    assert!(pods.iter().all(|p| p["metadata"]["deletionTimestamp"].is_string()), "{pods:?}");
    for pod in &pods {
        w.finish_deletion(pod).await;
    }
    w.settle().await;
    assert_eq!(w.milli_cpu_of_pods(), 0);
    let state = w.get_json("/state").await;
    let completed = &state["completed_frameworks"][0];
    assert_eq!(completed["id"], s.id);
    assert_eq!(completed["completed_tasks"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_framework_that_stays_away_is_given_up_after_its_timeout() {
    let w = World::new(options()).await;
    let mut me = info();
    me["failover_timeout"] = 60.into();
    let (s, offers) = w.framework(me).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    drop(s);
    w.settle().await;
    assert!(w.ledger.lock().offers(&"a1".into()).next().is_none(), "its offers returned");
    assert!(w.pod_of("t1")["metadata"]["deletionTimestamp"].is_null());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(w.pod_of("t1")["metadata"]["deletionTimestamp"].is_string());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_needs_what_is_only_offered_gets_it() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    let need = |milli_cpu| stoa_units::Resources { milli_cpu, pods: 1, ..Default::default() };
    assert!(!w.master.make_room(Some(&"a1".into()), "default", &need(5000)), "more than there is");
    assert!(w.master.make_room(Some(&"a1".into()), "default", &need(2000)));
    assert_eq!(s.expect("RESCIND").await["offer_id"], offers["offers"][0]["id"]);
    assert!(!w.master.make_room(None, "default", &need(2000)), "there is room already");
    // Nothing is offered of that agent while the pod scheduler may take it.
    w.settle().await;
    assert_eq!(w.ledger.lock().free(&"a1".into()).milli_cpu, 4000);
    w.clock.advance(Duration::from_secs(6));
    s.expect("OFFERS").await;
}

#[tokio::test(start_paused = true)]
async fn a_long_reconciliation_waits_for_its_reader() {
    let w = World::new(options()).await;
    let (mut s, _) = w.framework(info()).await;
    // More than the stream's queue holds.
    let tasks: Vec<Value> = (0..10_000).map(|i| json!({"task_id": {"value": format!("t{i}")}})).collect();
    s.call(&w, json!({"type": "RECONCILE", "reconcile": {"tasks": tasks}})).await;
    w.settle().await;
    for i in 0..10_000 {
        let status = s.update().await;
        assert_eq!(status["task_id"]["value"], format!("t{i}"));
    }
    s.call(&w, json!({"type": "SUPPRESS"})).await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_keep_up_is_disconnected() {
    let w = World::new(options()).await;
    let (s, _) = w.framework(info()).await;
    let tasks: Vec<Value> = (0..250).map(|i| json!({"task_id": {"value": format!("t{i}")}})).collect();
    let call = json!({"type": "RECONCILE", "reconcile": {"tasks": tasks}});
    for _ in 0..20 {
        s.try_call(&w, call.clone()).await;
    }
    w.settle().await;
    assert_eq!(s.try_call(&w, call).await, (403, "Framework is not subscribed".into()));
}

#[tokio::test(start_paused = true)]
async fn the_id_of_an_ended_task_may_be_used_again() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_exit("t1", 0).await;
    for state in ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"] {
        s.told(&w, state).await;
    }
    // The whole agent is free again, which is more than was refused.
    let offers = s.expect("OFFERS").await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.settle().await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    w.clock.advance(Duration::from_secs(3601));
    w.settle().await;
    // The old task's time is up; the new one is not touched by that.
    assert_eq!(w.pod_of("t1")["status"]["phase"], "Running");
    let record = w.store().get(&Key::internal("tasks", &format!("{}:t1", s.id))).unwrap();
    assert!(String::from_utf8_lossy(&record.value).contains("\"acked\":\"Running\""));
}
