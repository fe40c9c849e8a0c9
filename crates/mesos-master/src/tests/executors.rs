//! Custom executors and task groups, with a scripted agent at the other end of the plane.

use super::fixture::*;
use serde_json::{Value, json};
use std::time::Duration;
use stoa_mesos::recordio::{self, Decoder};
use stoa_streams::Tunnel;
use stoa_streams::wire::{Channel, Frame};
use tokio::sync::mpsc;

fn under(id: &str, executor: &str, cpus: f64) -> Value {
    let mut t = task(id, "a1", cpus);
    t.as_object_mut().unwrap().remove("command");
    t["executor"] = json!({
        "executor_id": {"value": executor}, "command": {"value": "run-executor"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}],
    });
    t
}

/// The agent's end of the way.
struct Agent {
    input: mpsc::Sender<Frame>,
    output: mpsc::Receiver<Frame>,
    decoder: Decoder,
}

impl Agent {
    async fn connect(w: &World) -> Agent {
        let (to_agent, output) = mpsc::channel(64);
        let (input, from_agent) = mpsc::channel(64);
        let master = w.master.clone();
        tokio::spawn(async move {
            master.carry_plane(&"a1".into(), Tunnel { input: to_agent, output: from_agent }).await;
        });
        Agent { input, output, decoder: Decoder::default() }
    }

    async fn hear(&mut self) -> Value {
        loop {
            if let Some(record) = self.decoder.next_record().unwrap() {
                return serde_json::from_slice(&record).unwrap();
            }
            let frame = tokio::time::timeout(Duration::from_secs(60), self.output.recv()).await;
            self.decoder.push(&frame.expect("something to hear").expect("an open way").payload);
        }
    }

    async fn say(&self, what: Value) {
        let record = recordio::encode(what.to_string().as_bytes());
        for frame in Frame::split(Channel::Stdout, record) {
            self.input.send(frame).await.unwrap();
        }
    }

    async fn update(&self, s: &Scheduler, pod: &Value, task: &str, state: &str, uuid: &str) {
        let status = json!({"task_id": {"value": task}, "state": state, "uuid": uuid, "data": "cmVzdWx0",
            "source": "SOURCE_EXECUTOR", "executor_id": {"value": "e"}, "timestamp": 1.5});
        self.say(json!({"update": {"pod": pod["metadata"]["uid"], "framework": s.id, "status": status}}))
            .await;
    }
}

const U1: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";
const U2: &str = "AgICAgICAgICAgICAgICAg==";

fn executor_pod(w: &World) -> Value {
    let pods = w.pods();
    let found: Vec<&Value> =
        pods.iter().filter(|p| p["metadata"]["annotations"]["stoa.dev/executor-info"].is_string()).collect();
    assert_eq!(found.len(), 1, "one executor");
    found[0].clone()
}

#[tokio::test(start_paused = true)]
async fn tasks_of_one_executor_are_one_pod_and_each_has_its_own_claim() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    let mut agent = Agent::connect(&w).await;
    assert_eq!(agent.hear().await, json!({"known": {"pods": []}}));
    s.launch(&w, &offers, vec![under("t1", "e", 1.0), under("t2", "e", 1.0)]).await;
    let pod = executor_pod(&w);
    assert_eq!(pod["metadata"]["annotations"]["stoa.dev/executor-id"], "e");
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    for (name, value) in [
        ("MESOS_EXECUTOR_ID", "e"),
        ("MESOS_CHECKPOINT", "0"),
        ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"),
    ] {
        assert!(env.contains(&json!({"name": name, "value": value})), "{name}");
    }
    assert_eq!(w.milli_cpu_of_pods(), 2500, "the executor's half and each task's one");
    for id in ["t1", "t2"] {
        let launch = agent.hear().await;
        assert_eq!(launch["launch"]["pod"], pod["metadata"]["uid"]);
        assert_eq!(launch["launch"]["tasks"][0]["task_id"]["value"], id);
    }
    agent.update(&s, &pod, "t1", "TASK_RUNNING", U1).await;
    let running = s.update().await;
    assert_eq!(
        (&running["state"], &running["data"], &running["agent_id"]["value"]),
        (&json!("TASK_RUNNING"), &json!("cmVzdWx0"), &json!("a1"))
    );
    s.ack(&w, &running).await;
    assert_eq!(agent.hear().await["acknowledge"]["uuid"], U1);
    let state = w.get_json("/state").await;
    let shown = &state["frameworks"][0]["executors"][0];
    assert_eq!(
        (&shown["executor_id"], &shown["framework_id"], &shown["slave_id"], &shown["resources"]["cpus"]),
        (&json!("e"), &json!(s.id), &json!("a1"), &json!(0.5)),
        "{shown}"
    );
    assert_eq!(state["frameworks"][0]["tasks"][0]["statuses"][0]["state"], "TASK_RUNNING");
    agent.update(&s, &pod, "t1", "TASK_FINISHED", U2).await;
    s.told(&w, "TASK_FINISHED").await;
    w.settle().await;
    assert_eq!(w.milli_cpu_of_pods(), 1500, "a task's end frees its claim");
    // The offers name the executor, and another task joins it.
    let offers = s.find("OFFERS").await;
    assert_eq!(offers["offers"][0]["executor_ids"], json!([{"value": "e"}]));
}

#[tokio::test(start_paused = true)]
async fn what_was_not_confirmed_survives_a_new_leader_and_a_broken_way() {
    let mut w = World::new(options()).await;
    let (s, offers) = w.framework(json!({"user": "root", "name": "n", "failover_timeout": 600})).await;
    s.launch(&w, &offers, vec![under("t1", "e", 1.0)]).await;
    let pod = executor_pod(&w);
    w.restart();
    w.settle().await;
    assert_eq!(w.milli_cpu_of_pods(), 1500, "a new leader books what tasks under executors hold");
    // The agent is told of what it may not know, and tells what was not confirmed.
    let mut agent = Agent::connect(&w).await;
    assert_eq!(agent.hear().await, json!({"known": {"pods": [pod["metadata"]["uid"]]}}));
    assert_eq!(agent.hear().await["launch"]["tasks"][0]["name"], "t1");
    agent.update(&s, &pod, "t1", "TASK_RUNNING", U1).await;
    agent.update(&s, &pod, "t1", "TASK_RUNNING", U1).await;
    let mut back = w
        .subscribe(json!({"user": "root", "name": "n", "failover_timeout": 600, "id": {"value": s.id}}))
        .await;
    back.id.clone_from(&s.id);
    let running = back.update().await;
    assert_eq!(running["state"], "TASK_RUNNING");
    back.ack(&w, &running).await;
    assert_eq!(agent.hear().await["acknowledge"]["task"], "t1");
    // What is said again is confirmed again, and the scheduler is not bothered.
    agent.update(&s, &pod, "t1", "TASK_FINISHED", U2).await;
    let finished = back.update().await;
    back.ack(&w, &finished).await;
    assert_eq!(agent.hear().await["acknowledge"]["uuid"], U2);
    agent.update(&s, &pod, "t1", "TASK_FINISHED", U2).await;
    assert_eq!(agent.hear().await["acknowledge"]["uuid"], U2);
}

#[tokio::test(start_paused = true)]
async fn an_executors_end_is_a_failure_event_and_the_next_task_starts_another() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![under("t1", "e", 1.0)]).await;
    let first = executor_pod(&w);
    let agent = Agent::connect(&w).await;
    agent.update(&s, &first, "t1", "TASK_FAILED", U1).await;
    agent
        .say(json!({"exited": {"pod": first["metadata"]["uid"], "framework": s.id, "executor": "e", "status": 768, "at": 2.0}}))
        .await;
    let failed = s.update().await;
    s.ack(&w, &failed).await;
    let failure = s.find("FAILURE").await;
    assert_eq!(failure, json!({"agent_id": {"value": "a1"}, "executor_id": {"value": "e"}, "status": 768}));
    let offers = s.find("OFFERS").await;
    s.launch(&w, &offers, vec![under("t2", "e", 1.0)]).await;
    let uids: Vec<Value> = w.pods().iter().map(|p| p["metadata"]["uid"].clone()).collect();
    assert_eq!(uids.len(), 2, "the old pod is kept for its output: {uids:?}");
}

#[tokio::test(start_paused = true)]
async fn an_executor_must_be_the_same_for_all_its_tasks() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    let mut other = under("t2", "e", 1.0);
    other["executor"]["command"]["value"] = "another".into();
    s.launch(&w, &offers, vec![under("t1", "e", 1.0), other]).await;
    let error = s.update().await;
    assert_eq!((&error["state"], &error["task_id"]["value"]), (&json!("TASK_ERROR"), &json!("t2")));
    assert_eq!(
        error["message"],
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID 'e'"
    );
}

#[tokio::test(start_paused = true)]
async fn tasks_of_an_executor_whose_pod_is_gone_are_ended_even_if_the_agent_stays_silent() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![under("t1", "e", 1.0)]).await;
    w.finish_deletion(&executor_pod(&w)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let killed = s.told(&w, "TASK_KILLED").await;
    assert_eq!(killed["reason"], "REASON_EXECUTOR_TERMINATED");
    w.settle().await;
    assert_eq!(w.milli_cpu_of_pods(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_group_is_one_pod_and_lives_and_dies_together() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    let offer = &offers["offers"][0]["id"];
    s.call(
        &w,
        json!({"type": "ACCEPT", "accept": {"offer_ids": [offer], "operations": [{"type": "LAUNCH_GROUP",
            "launch_group": {"executor": {"type": "DEFAULT", "executor_id": {"value": "group"},
                "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}]},
                "task_group": {"tasks": [task("web", "a1", 1.0), task("log", "a1", 0.5)]}}}]}}),
    )
    .await;
    let pods = w.pods();
    assert_eq!(pods.len(), 1);
    let names: Vec<&str> = pods[0]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["web", "log"]);
    assert_eq!(w.milli_cpu_of_pods(), 2000);
    let state = |running: &str, other: Value| {
        json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "podIP": "10.0.0.7", "containerStatuses": [
            {"name": running, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "ready": true,
             "restartCount": 0, "image": "i", "imageID": "i"},
            {"name": if running == "web" { "log" } else { "web" }, "state": other, "ready": false,
             "restartCount": 0, "image": "i", "imageID": "i"}]})
    };
    w.report(&pods[0], state("web", json!({"terminated": {"exitCode": 3, "reason": "Error"}}))).await;
    let mut seen = vec![];
    while seen.len() < 5 {
        let update = s.update().await;
        s.ack(&w, &update).await;
        seen.push(format!(
            "{} {}",
            update["task_id"]["value"].as_str().unwrap(),
            update["state"].as_str().unwrap()
        ));
    }
    seen.sort();
    assert_eq!(
        seen,
        ["log TASK_FAILED", "log TASK_RUNNING", "log TASK_STARTING", "web TASK_RUNNING", "web TASK_STARTING"]
    );
    // The group's pod was told to go; the rest of it is killed.
    w.settle().await;
    let pod = w.pods()[0].clone();
    assert!(pod["metadata"]["deletionTimestamp"].is_string(), "one failure ends the group");
    w.finish_deletion(&pod).await;
    s.told(&w, "TASK_KILLED").await;
}

#[tokio::test(start_paused = true)]
async fn a_group_with_one_bad_task_starts_none() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    let offer = &offers["offers"][0]["id"];
    s.call(
        &w,
        json!({"type": "ACCEPT", "accept": {"offer_ids": [offer], "operations": [{"type": "LAUNCH_GROUP",
            "launch_group": {"executor": {"type": "DEFAULT", "executor_id": {"value": "group"}},
                "task_group": {"tasks": [task("good", "a1", 1.0), task("bad", "a2", 0.5)]}}}]}}),
    )
    .await;
    for _ in 0..2 {
        let error = s.update().await;
        assert_eq!(
            (&error["state"], &error["reason"]),
            (&json!("TASK_ERROR"), &json!("REASON_TASK_GROUP_INVALID"))
        );
    }
    assert!(w.pods().is_empty());
}
