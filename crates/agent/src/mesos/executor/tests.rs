use super::super::stream;
use super::*;
use http_body_util::BodyExt as _;
use stoa_mesos::recordio::Decoder;

struct Desk {
    executor: Executor,
    counter: Counter,
    _dir: tempfile::TempDir,
}

fn identity(more: &str) -> Identity {
    let info: ExecutorInfo =
        serde_json::from_str(r#"{"executor_id":{"value":"e"},"framework_id":{"value":"f"}}"#).unwrap();
    let framework_info = serde_json::from_str(&format!(r#"{{"user":"u","name":"n"{more}}}"#)).unwrap();
    Identity { framework: "f".into(), executor: info.executor_id.value.clone(), info, framework_info }
}

impl Desk {
    fn new() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let executor = open(dir.path(), &mut 0);
        Desk { executor, counter: 0, _dir: dir }
    }

    /// Kills the agent: what comes after knows what the journal holds.
    fn restart(&mut self) {
        self.counter = 0;
        self.executor = open(self._dir.path(), &mut self.counter);
    }

    fn launch(&mut self, ids: &[&str]) {
        let task = |id: &&str| {
            serde_json::from_value(
                serde_json::json!({"name": id, "task_id": {"value": id}, "agent_id": {"value": "a"}}),
            )
            .unwrap()
        };
        self.executor.launch(ids.iter().map(task).collect(), &mut self.counter, Time::EPOCH);
    }

    fn subscribe(&mut self, call: &str) -> stream::EventBody {
        let (subscriber, body) = stream::open(stoa_mesos::Encoding::Json);
        let call = serde_json::from_str(call).unwrap();
        self.executor.subscribe(subscriber, call, &mut self.counter, Time::EPOCH);
        body
    }

    fn update(&mut self, id: &str, state: TaskState, uuid: u8) {
        let mut status = TaskStatus::new(id.into(), state);
        status.uuid = Some(Blob(vec![uuid; 16]));
        self.executor.update(status, &mut self.counter, Time::EPOCH);
    }

    fn end(&mut self, reason: &str) {
        let end = End { code: 3, signal: None, reason: reason.into(), message: String::new(), has_run: true };
        self.executor.end(&end, &mut self.counter, Time::EPOCH);
    }

    /// What is to be said: task, state and reason of each update, or the end.
    fn unsaid(&self) -> Vec<String> {
        let word = |up: Up| match up {
            Up::Update { status, .. } => {
                let reason = status.reason.map(|r| r.to_string()).unwrap_or_default();
                format!("{} {} {reason}", status.task_id.value, status.state).trim().to_string()
            }
            Up::Exited { status, .. } => format!("exited {status}"),
            Up::Message { .. } => "message".into(),
        };
        self.executor.unsaid(0).into_iter().map(|(_, up)| word(up)).collect()
    }
}

fn open(dir: &std::path::Path, counter: &mut Counter) -> Executor {
    let journal = Journal::open(&dir.join("u.journal"));
    let mut executor = Executor::open("u", "a", &["10.0.0.1".into()], journal, counter, Time::EPOCH);
    executor.identity = Some(identity(""));
    executor.framework = Some("f".into());
    executor
}

/// The types of the events that are queued, with their tasks.
async fn events(body: &mut stream::EventBody) -> Vec<String> {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    while let Ok(Some(Ok(frame))) =
        tokio::time::timeout(std::time::Duration::from_millis(20), body.frame()).await
    {
        decoder.push(frame.data_ref().unwrap());
        while let Some(record) = decoder.next_record().unwrap() {
            let event: serde_json::Value = serde_json::from_slice(&record).unwrap();
            let kind = event["type"].as_str().unwrap();
            let part = &event[kind.to_lowercase()];
            let id = part["task"]["task_id"]["value"].as_str().or(part["task_id"]["value"].as_str());
            out.push(format!("{kind} {}", id.unwrap_or_default()).trim().to_string());
        }
    }
    out
}

#[tokio::test]
async fn tasks_wait_for_their_executor_and_come_once() {
    let mut d = Desk::new();
    d.launch(&["t1"]);
    let mut body = d.subscribe("{}");
    d.launch(&["t1", "t2"]);
    assert_eq!(events(&mut body).await, ["LAUNCH t1", "LAUNCH t2"]);
}

#[tokio::test]
async fn an_update_is_kept_over_the_agents_death_until_the_scheduler_confirms_it() {
    let mut d = Desk::new();
    d.launch(&["t"]);
    let _body = d.subscribe("{}");
    d.update("t", TaskState::Running, 1);
    d.update("t", TaskState::Running, 1);
    d.update("t", TaskState::Finished, 2);
    assert_eq!(d.unsaid(), ["t TASK_RUNNING", "t TASK_FINISHED"]);
    d.executor.acknowledge(&"t".into(), &[1; 16]);
    d.restart();
    assert_eq!(d.unsaid(), ["t TASK_FINISHED"]);
    // The executor says again what it was not told to be confirmed.
    let mut body = d.subscribe(
        r#"{"unacknowledged_updates":[
            {"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","uuid":"AQEBAQEBAQEBAQEBAQEBAQ=="}},
            {"status":{"task_id":{"value":"t"},"state":"TASK_FINISHED","uuid":"AgICAgICAgICAgICAgICAg=="}}]}"#,
    );
    assert_eq!(d.unsaid(), ["t TASK_FINISHED"]);
    d.executor.acknowledge(&"t".into(), &[2; 16]);
    assert_eq!(events(&mut body).await, ["ACKNOWLEDGED t", "ACKNOWLEDGED t"]);
    d.restart();
    assert!(d.unsaid().is_empty());
}

#[tokio::test]
async fn a_launch_that_never_arrived_is_sent_again_and_one_that_did_is_not() {
    let mut d = Desk::new();
    d.launch(&["lost", "held"]);
    let mut body = d.subscribe("{}");
    assert_eq!(events(&mut body).await.len(), 2);
    drop(body);
    let held =
        r#"{"unacknowledged_tasks":[{"name":"held","task_id":{"value":"held"},"agent_id":{"value":"a"}}]}"#;
    let mut body = d.subscribe(held);
    assert_eq!(events(&mut body).await, ["LAUNCH lost"]);
}

#[tokio::test]
async fn a_kill_reaches_a_task_whenever_its_executor_is_there() {
    let mut d = Desk::new();
    d.launch(&["t", "early"]);
    d.executor.kill(&"early".into(), None, &mut d.counter, Time::EPOCH);
    assert_eq!(d.unsaid(), ["early TASK_KILLED REASON_TASK_KILLED_DURING_LAUNCH"]);
    let mut body = d.subscribe("{}");
    assert_eq!(events(&mut body).await, ["LAUNCH t"]);
    drop(body);
    d.executor.life = Life::Away;
    d.executor.kill(&"t".into(), None, &mut d.counter, Time::EPOCH);
    let held = r#"{"unacknowledged_tasks":[{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"}}]}"#;
    let mut body = d.subscribe(held);
    assert_eq!(events(&mut body).await, ["KILL t"]);
}

#[tokio::test]
async fn what_lived_under_an_executor_ends_with_it_and_says_why() {
    for (wanted, aware, container, want) in [
        (Wanted::Nobody, false, "Error", "t TASK_FAILED REASON_EXECUTOR_TERMINATED"),
        (Wanted::Nobody, false, "OOMKilled", "t TASK_FAILED REASON_CONTAINER_LIMITATION_MEMORY"),
        (Wanted::Timeout, false, "Error", "t TASK_FAILED REASON_EXECUTOR_REGISTRATION_TIMEOUT"),
        (Wanted::Pod, false, "Error", "t TASK_KILLED REASON_EXECUTOR_TERMINATED"),
        (Wanted::Framework, false, "Error", "t TASK_LOST REASON_EXECUTOR_TERMINATED"),
        (Wanted::Framework, true, "Error", "t TASK_GONE REASON_EXECUTOR_TERMINATED"),
    ] {
        let mut d = Desk::new();
        if aware {
            d.executor.identity = Some(identity(r#","capabilities":[{"type":"PARTITION_AWARE"}]"#));
        }
        d.launch(&["t", "done"]);
        let _body = d.subscribe("{}");
        d.update("done", TaskState::Finished, 1);
        d.executor.wanted = wanted;
        d.end(container);
        d.end(container);
        assert_eq!(d.unsaid(), ["done TASK_FINISHED", want, "exited 768"], "{wanted:?}");
        d.restart();
        assert_eq!(d.unsaid(), ["done TASK_FINISHED", want, "exited 768"], "{wanted:?} after a restart");
    }
}

#[test]
fn a_task_for_an_executor_that_is_over_is_lost() {
    let mut d = Desk::new();
    d.end("Error");
    d.launch(&["late"]);
    assert_eq!(d.unsaid()[0], "late TASK_LOST REASON_EXECUTOR_TERMINATED");
}

#[tokio::test]
async fn an_executor_is_told_to_end_once() {
    let mut d = Desk::new();
    let mut body = d.subscribe("{}");
    d.executor.shut_down(Wanted::Framework);
    d.executor.shut_down(Wanted::Pod);
    assert_eq!(events(&mut body).await, ["SHUTDOWN"]);
    assert_eq!(d.executor.wanted, Wanted::Framework);
}
