//! What a new master knows.

use super::fixture::*;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_new_master_knows_frameworks_tasks_and_what_was_confirmed() {
    let mut w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0), task("t2", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    let unconfirmed = s.update().await;
    assert_eq!(unconfirmed["state"], "TASK_RUNNING");
    w.settle().await;
    w.restart();
    let mut again = info();
    again["id"] = json!({"value": s.id});
    let mut new = w.subscribe(again).await;
    new.id = s.id.clone();
    assert_eq!(new.expect("SUBSCRIBED").await["framework_id"]["value"], s.id);
    // STARTING was confirmed and does not come again; RUNNING comes with the uuid it had.
    let repeated = new.told(&w, "TASK_RUNNING").await;
    assert_eq!(repeated["uuid"], unconfirmed["uuid"]);
    // The rest of the agent is offered, the tasks' part is not.
    let offers = new.expect("OFFERS").await;
    assert_eq!(offers["offers"][0]["resources"][0]["scalar"]["value"], 2.0);
    w.settle().await;
    w.restart();
    let mut third = info();
    third["id"] = json!({"value": s.id});
    let (mut new, _) = w.framework(third).await;
    // What was confirmed is not told again, but known.
    new.call(&w, json!({"type": "RECONCILE", "reconcile": {}})).await;
    let mut known = [new.update().await, new.update().await];
    known.sort_by_key(|s| s["task_id"]["value"].to_string());
    assert_eq!((&known[0]["state"], &known[1]["state"]), (&json!("TASK_RUNNING"), &json!("TASK_STAGING")));
    assert_eq!(known[0]["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"], "10.0.0.7");
    assert_eq!(
        w.get_json("/state").await["frameworks"][0]["tasks"][0]["statuses"][0]["state"],
        "TASK_RUNNING"
    );
}

#[tokio::test(start_paused = true)]
async fn an_end_that_came_while_nobody_watched_is_told() {
    let mut w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0), task("t2", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    w.settle().await;
    w.restart();
    w.report_exit("t1", 3).await;
    w.finish_deletion(&w.pod_of("t2")).await;
    w.settle().await;
    // Nobody confirmed anything, and the pods are collected: the records remember.
    w.finish_deletion(&w.pod_of("t1")).await;
    w.settle().await;
    w.restart();
    let mut again = info();
    again["id"] = json!({"value": s.id});
    let mut new = w.subscribe(again).await;
    new.id = s.id.clone();
    let mut told = vec![new.told(&w, "TASK_FAILED").await];
    assert_eq!(told.remove(0)["message"], "Command exited with status 3");
    let killed = new.told(&w, "TASK_KILLED").await;
    assert_eq!(killed["task_id"]["value"], "t2");
    w.settle().await;
    assert_eq!(w.pods(), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn confirmed_ends_are_not_told_again() {
    let mut w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_exit("t1", 0).await;
    for state in ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"] {
        s.told(&w, state).await;
    }
    w.settle().await;
    w.restart();
    let mut again = info();
    again["id"] = json!({"value": s.id});
    let (mut new, _) = w.framework(again).await;
    new.call(&w, json!({"type": "RECONCILE", "reconcile": {"tasks": [{"task_id": {"value": "never"}}]}}))
        .await;
    assert_eq!(new.update().await["task_id"]["value"], "never", "no other update came before");
    // The pod's time is up on the new master, too.
    w.clock.advance(Duration::from_secs(3601));
    w.settle().await;
    assert_eq!(w.pods(), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_framework_that_does_not_come_back_after_a_restart_is_given_up() {
    let mut w = World::new(options()).await;
    let mut me = info();
    me["failover_timeout"] = 0.into();
    let (s, offers) = w.framework(me.clone()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.restart();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(w.pod_of("t1")["metadata"]["deletionTimestamp"].is_null(), "it is given some time");
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(w.pod_of("t1")["metadata"]["deletionTimestamp"].is_string());
    w.restart();
    me["id"] = json!({"value": s.id});
    let mut refused = w.subscribe(me).await;
    assert_eq!(refused.expect("ERROR").await["message"], "Framework has been removed");
}
