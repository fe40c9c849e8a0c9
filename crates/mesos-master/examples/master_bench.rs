//! The master under the fixtures of Mesos' own benchmarks of it, with the figures that Mesos published beside ours:
//! `cargo run --release -p stoa-mesos-master --example master_bench [agents-max]`. A store is filled with what a cluster of a
//! size leaves there; the real service starts over it and is asked over TCP. Where Mesos' agents register again, ours are
//! in the store: what is measured is the same, from nothing until all agents and tasks are known.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stoa_ledger::{Agent, Holder, Ledger};
use stoa_mesos_master::{Anonymous, Options, Service};
use stoa_registry::Registry;
use stoa_store::{Key, Store, Txn};
use stoa_units::{AgentId, NamespacedName, Resources, Stamped, SystemClock};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Of one completed framework, Mesos remembers so many tasks unless told otherwise. So do we here.
const COMPLETED_TASKS_MAX: usize = 1000;
/// Records in one transaction.
const BATCH_LEN: usize = 100;
const NAMESPACE: &str = "mesos";
const THEN: &str = "2026-01-01T00:00:00Z";

/// A cluster.
#[derive(Clone, Copy)]
struct Shape {
    agents: usize,
    /// Each has tasks on every agent.
    frameworks: usize,
    /// Of each framework on each agent.
    tasks: usize,
    /// Frameworks that are over, and how many tasks each had on each agent.
    completed: (usize, usize),
}

impl Shape {
    fn running(&self) -> usize {
        self.agents * self.frameworks * self.tasks
    }

    fn completed_of_one(&self) -> usize {
        (self.agents * self.completed.1).min(COMPLETED_TASKS_MAX)
    }

    fn all_tasks(&self) -> impl Iterator<Item = Task> {
        let (shape, live) = (*self, self.frameworks);
        let running = (0..live).flat_map(move |f| {
            (0..shape.agents * shape.tasks).map(move |n| Task::new(f, n, n % shape.agents, true))
        });
        let over = (live..live + shape.completed.0).flat_map(move |f| {
            (0..shape.completed_of_one()).map(move |n| Task::new(f, n, n % shape.agents, false))
        });
        running.chain(over)
    }
}

/// A task, as far as it differs from the others.
struct Task {
    id: String,
    framework: String,
    agent: String,
    pod: String,
    is_running: bool,
}

impl Task {
    fn new(framework: usize, number: usize, agent: usize, is_running: bool) -> Task {
        Task {
            id: format!("{framework:08x}-0000-4000-8000-{number:012x}"),
            framework: format!("framework{framework}"),
            agent: format!("agent{agent}"),
            pod: format!("task-{framework}-{number}"),
            is_running,
        }
    }

    fn amount() -> Resources {
        Resources { milli_cpu: 100, memory_bytes: 5 << 20, pods: 1, ..Resources::default() }
    }

    fn record(&self) -> Value {
        let labels: Vec<Value> =
            (0..10).map(|i| json!({"key": format!("key{i}"), "value": format!("value{i}")})).collect();
        let mut out = json!({
            "framework": self.framework, "role": "*", "resources": Self::amount(),
            "namespace": NAMESPACE, "pod": self.pod, "uid": self.id, "agent": self.agent,
            "launched": THEN, "has_run": true, "acked": if self.is_running { "Running" } else { "Ended" },
            "task": {
                "name": "test-task", "task_id": {"value": self.id}, "agent_id": {"value": self.agent},
                "command": {"value": "dummy command"}, "labels": {"labels": labels},
                "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                              {"name": "mem", "type": "SCALAR", "scalar": {"value": 5.0}}],
            },
        });
        if !self.is_running {
            // Over just now: nothing is forgotten while we measure.
            let now = stoa_units::Clock::now(&SystemClock);
            out["completed"] = json!(now);
            out["ended"] = json!({"task_id": {"value": self.id}, "state": "TASK_FINISHED",
                "agent_id": {"value": self.agent}, "timestamp": now.as_secs_f64()});
        }
        out
    }

    fn pod(&self) -> Value {
        let (phase, state) = match self.is_running {
            true => ("Running", json!({"running": {"startedAt": THEN}})),
            false => (
                "Succeeded",
                json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": THEN}}),
            ),
        };
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": self.pod, "namespace": NAMESPACE, "uid": self.id, "creationTimestamp": THEN,
                "labels": {"stoa.dev/framework-id": self.framework, "stoa.dev/task-id": self.id},
                "annotations": {
                    "stoa.dev/framework-id": self.framework, "stoa.dev/role": "*", "stoa.dev/user": "root",
                    "stoa.dev/task-id": self.id, "stoa.dev/task-name": "test-task",
                    "stoa.dev/framework-info": framework_info(&self.framework).to_string(),
                },
            },
            "spec": {
                "nodeName": self.agent, "restartPolicy": "Never", "hostNetwork": true, "dnsPolicy": "Default",
                "automountServiceAccountToken": false, "enableServiceLinks": false, "schedulerName": "default-scheduler",
                "serviceAccountName": "default", "terminationGracePeriodSeconds": 3,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "task", "image": "stoa.dev/host", "command": ["/bin/sh", "-c", "dummy command"],
                    "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log",
                    "env": [{"name": "MESOS_TASK_ID", "value": self.id}, {"name": "MESOS_SLAVE_ID", "value": self.agent},
                            {"name": "MESOS_FRAMEWORK_ID", "value": self.framework}],
                    "resources": {"limits": {"memory": "5Mi"}, "requests": {"cpu": "100m", "memory": "5Mi"}},
                }],
            },
            "status": {
                "phase": phase, "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}], "hostIP": "10.0.0.1", "startTime": THEN,
                "containerStatuses": [{"name": "task", "ready": self.is_running, "restartCount": 0, "image": "stoa.dev/host",
                    "imageID": "stoa.dev/host", "containerID": format!("stoa://{}", self.id), "state": state}],
            },
        })
    }
}

fn framework_info(id: &str) -> Value {
    json!({"user": "root", "name": "default", "id": {"value": id}, "principal": "test-principal", "role": "*",
        "failover_timeout": 604_800.0, "checkpoint": true})
}

fn framework(number: usize, is_over: bool) -> (Key, Value) {
    let id = format!("framework{number}");
    let mut out = json!({"id": id, "info": framework_info(&id), "registered": THEN, "reregistered": THEN});
    if is_over {
        out["removed"] = json!(THEN);
    }
    (Key::internal("frameworks", &id), out)
}

fn node(number: usize) -> (Key, Value) {
    let name = format!("agent{number}");
    let out = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "creationTimestamp": THEN, "labels": {"attribute.stoa.dev/rack": "r1"}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "20", "memory": "10Gi", "pods": "110"},
            "capacity": {"cpu": "20", "memory": "10Gi", "pods": "110"},
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady", "message": "",
                "lastHeartbeatTime": THEN, "lastTransitionTime": THEN}],
        },
    });
    (Key::object("", "nodes", "", &name), out)
}

/// Writes what a cluster leaves in its store.
async fn fill(store: &Arc<dyn Store>, shape: Shape) {
    let live = shape.frameworks;
    let frameworks = (0..live + shape.completed.0).map(|f| framework(f, f >= live));
    let nodes = (0..shape.agents).map(node);
    let tasks = shape.all_tasks().flat_map(|t| {
        let record = Key::internal("tasks", &format!("{}:{}", t.framework, t.id));
        [(record, t.record()), (Key::object("", "pods", NAMESPACE, &t.pod), t.pod())]
    });
    let mut txn = Txn::new();
    for (key, value) in frameworks.chain(nodes).chain(tasks) {
        txn = txn.put(key, Stamped::plain(value.to_string()));
        if txn.ops().len() >= BATCH_LEN {
            store.commit(std::mem::take(&mut txn)).await.unwrap();
        }
    }
    store.commit(txn).await.unwrap();
}

/// The ledger as the scheduler's side of a master fills it from the same store.
fn ledger(shape: Shape) -> Ledger {
    let capacity =
        Resources { milli_cpu: 20_000, memory_bytes: 10 << 30, pods: 1_000_000, ..Resources::default() };
    let mut ledger = Ledger::default();
    ledger.set_namespace_role(NAMESPACE, Some("*"));
    for i in 0..shape.agents {
        let id = AgentId::from(format!("agent{i}"));
        ledger.set_agent(Agent { id, capacity: capacity.clone(), active: true });
    }
    for task in shape.all_tasks().filter(|t| t.is_running) {
        let holder = Holder::Pod(NamespacedName::new(NAMESPACE, &*task.pod));
        ledger.force_claim(&AgentId::from(&*task.agent), holder, &Task::amount());
    }
    ledger
}

/// A running master.
struct Master {
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Master {
    async fn start(store: Arc<dyn Store>, ledger: Arc<Mutex<Ledger>>) -> Master {
        let clock = Arc::new(SystemClock);
        let registry = Registry::new(store, clock.clone(), stoa_registry::Options::default());
        let options = Options {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            anonymous: Anonymous::Allow,
            completed_tasks_max: COMPLETED_TASKS_MAX,
            ..Options::default()
        };
        let changed = Arc::new(Notify::new());
        let mut service = Service::new(registry, ledger, changed, clock, options).unwrap();
        let address = service.bind().await.unwrap();
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let running = tokio::spawn(async move { service.run(shutdown).await.unwrap() });
        Master { address, stop, running }
    }

    async fn ask(&self, request: http::request::Builder, body: &str) -> (StatusCode, Bytes) {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = request.header("host", "localhost").header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        (status, bytes)
    }

    /// The time until the whole answer is here, and its length.
    async fn time(&self, request: http::request::Builder, body: &str) -> (Duration, usize) {
        let start = Instant::now();
        let (status, bytes) = self.ask(request, body).await;
        let took = start.elapsed();
        assert_eq!(status, StatusCode::OK);
        (took, bytes.len())
    }

    /// Waits until the master answers, and sees to it that it knows everything.
    async fn knows_all(&self, shape: Shape) {
        while self.ask(Request::get("/metrics/snapshot"), "").await.0 != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (_, bytes) = self.ask(Request::get("/metrics/snapshot"), "").await;
        let metrics: Value = serde_json::from_slice(&bytes).unwrap();
        let is = |name: &str| metrics[format!("master/{name}")].as_f64().unwrap() as usize;
        assert_eq!(is("slaves_active"), shape.agents);
        assert_eq!(is("tasks_running"), shape.running());
        assert_eq!(is("tasks_finished"), shape.completed.0 * shape.completed_of_one());
    }

    async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

/// What Mesos published for the same size.
enum Mesos {
    /// So many seconds, measured as the words say.
    Seconds(f64, &'static str),
    Unpublished,
}

fn line(what: &str, ours: Duration, published: &Mesos) {
    let beside = match published {
        Mesos::Seconds(theirs, how) => {
            format!("   Mesos {theirs:.1} s, {how}: {:.1} times ours", theirs / ours.as_secs_f64())
        }
        Mesos::Unpublished => String::new(),
    };
    println!("{what:<66} {:>8.2} s{beside}", ours.as_secs_f64());
}

#[tokio::main]
async fn main() {
    let agents_max = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(20_000);
    get_state(agents_max).await;
    let dir = std::env::temp_dir().join(format!("stoa-master-bench-{}", std::process::id()));
    reregistration(agents_max, &dir).await;
}

/// Everything that the master knows, in the old form and in both new ones.
async fn get_state(agents_max: usize) {
    use Mesos::{Seconds, Unpublished};
    println!("\nMasterStateQuery.GetState");
    // Which size it is of was not said.
    println!(
        "  (Mesos 1.10 published 8.0 s for /state, 5.7 s for protobuf and 9.6 s for JSON, of one of these sizes)"
    );
    for (agents, published) in
        [(1_000, Unpublished), (10_000, Unpublished), (20_000, Unpublished), (40_000, Seconds(3.4, "1.7"))]
    {
        if agents > agents_max {
            continue;
        }
        let shape = Shape { agents, frameworks: 5, tasks: 2, completed: (5, 2) };
        let store = stoa_store::memory(stoa_store::Options::default());
        fill(&store, shape).await;
        let master = Master::start(store, Arc::new(Mutex::new(ledger(shape)))).await;
        master.knows_all(shape).await;
        println!(
            "{agents} agents, {} running and {} completed tasks",
            shape.running(),
            shape.completed.0 * shape.completed_of_one()
        );
        let mib = |len: usize| len >> 20;
        let (took, len) = master.time(Request::get("/state"), "").await;
        line(&format!("  v0 /state, {} MiB", mib(len)), took, &published);
        for (name, accept) in [("protobuf", "application/x-protobuf"), ("JSON", "application/json")] {
            let request = Request::post("/api/v1").header("accept", accept);
            let (took, len) = master.time(request, r#"{"type": "GET_STATE"}"#).await;
            line(&format!("  v1 GET_STATE in {name}, {} MiB", mib(len)), took, &Unpublished);
        }
        master.stop().await;
    }
}

/// A master starts over the store of one that is gone.
async fn reregistration(agents_max: usize, dir: &Path) {
    use Mesos::{Seconds, Unpublished};
    println!("\nAgentReregistrationDelay");
    for (agents, frameworks, tasks, completed, published) in [
        (2_000, 5, 10, (5, 10), Unpublished),
        (2_000, 5, 20, (0, 0), Unpublished),
        (20_000, 1, 5, (0, 0), Unpublished),
        (20_000, 1, 10, (0, 0), Seconds(9.0, "1.5.0 on a laptop")),
        (40_000, 1, 10, (0, 0), Seconds(19.0, "1.5.0 on a laptop")),
    ] {
        if agents > agents_max {
            continue;
        }
        let shape = Shape { agents, frameworks, tasks, completed };
        let open = || stoa_store::open_embedded(dir, stoa_store::Options::default()).unwrap();
        let store = open();
        fill(&store, shape).await;
        drop(store);
        let ledger = Arc::new(Mutex::new(ledger(shape)));
        let start = Instant::now();
        let store = open();
        let opened = start.elapsed();
        let kept = Arc::downgrade(&store);
        let master = Master::start(store, ledger).await;
        master.knows_all(shape).await;
        let what = format!("{agents} agents, {frameworks} frameworks, {} running tasks", shape.running());
        line(&what, start.elapsed(), &published);
        line("  of it, until the store is open", opened, &Unpublished);
        master.stop().await;
        // Whoever was last to hold the store ends its writer, and that is a task of the server's.
        while kept.strong_count() > 0 || std::fs::remove_dir_all(dir).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
