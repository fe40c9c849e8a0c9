//! The world of the stories: one agent `a1`, a master without sockets, and a scheduler.

use crate::{Anonymous, Options, Service};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::resources;
use stoa_ledger::{Agent, Ledger};
use stoa_mesos::recordio::Decoder;
use stoa_registry::{Context, Registry, Target};
use stoa_store::{Key, Range, Store};
use stoa_units::{AgentId, ManualClock, PortRange, PortSet, Resources, Time};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::command::Pending;
use crate::master::Master;
use crate::respond::Body;

pub(super) struct World {
    pub registry: Arc<Registry>,
    pub ledger: Arc<Mutex<Ledger>>,
    pub clock: Arc<ManualClock>,
    pub master: Arc<Master>,
    options: Options,
    running: Vec<JoinHandle<()>>,
}

pub(super) fn options() -> Options {
    Options { anonymous: Anonymous::Allow, ..Options::default() }
}

pub(super) fn capacity() -> Resources {
    Resources {
        milli_cpu: 4000,
        memory_bytes: 4 << 30,
        disk_bytes: 10 << 30,
        pods: 110,
        ports: PortSet::from_ranges([PortRange { begin: 31000, end: 32000 }]),
        ..Default::default()
    }
}

/// Each story ends with a look at what is looked up by agent: it is what there is.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let state = self.master.state.lock();
        let mut tasks: BTreeMap<AgentId, BTreeSet<_>> = BTreeMap::new();
        for task in state.frameworks.values().flat_map(|f| f.tasks.values()) {
            let key = (task.record.framework.clone(), task.record.id().clone());
            tasks.entry(task.record.agent.clone()).or_default().insert(key);
        }
        let mut offers: BTreeMap<AgentId, BTreeSet<_>> = BTreeMap::new();
        for (id, offer) in &state.offers {
            offers.entry(offer.agent.clone()).or_default().insert(id.clone());
        }
        assert_eq!(state.tasks_on.all(), &tasks.into_iter().collect());
        assert_eq!(state.offers_on.all(), &offers.into_iter().collect());
    }
}

impl World {
    pub async fn new(options: Options) -> World {
        let clock = Arc::new(ManualClock::new(Time::parse("2026-01-01T00:00:00Z").unwrap()));
        let store = stoa_store::memory(stoa_store::Options { clock: clock.clone(), ..Default::default() });
        let registry = Registry::new(store, clock.clone(), stoa_registry::Options::default());
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (master, pending) = Self::master(&registry, &ledger, &clock, &options);
        let mut world = World { registry, ledger, clock, master, options, running: vec![] };
        world.registry.bootstrap().await.unwrap();
        let accounts = resources().find("", "v1", "serviceaccounts").unwrap();
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let target = Target::new(accounts, "default", "default");
        world.registry.create(&world.context(), target, account).await.unwrap();
        world.add_agent("a1").await;
        world.start(pending);
        world
    }

    fn master(
        registry: &Arc<Registry>,
        ledger: &Arc<Mutex<Ledger>>,
        clock: &Arc<ManualClock>,
        options: &Options,
    ) -> (Arc<Master>, mpsc::Receiver<Pending>) {
        let changed = Arc::new(Notify::new());
        Service::new(registry.clone(), ledger.clone(), changed, clock.clone(), options.clone())
            .unwrap()
            .into_parts()
    }

    fn start(&mut self, pending: mpsc::Receiver<Pending>) {
        let from = self.master.start().unwrap();
        let (a, b, c) = (self.master.clone(), self.master.clone(), self.master.clone());
        self.running.push(tokio::spawn(async move { a.run_cycle().await }));
        self.running.push(tokio::spawn(async move { b.run_watch(from).await }));
        self.running.push(tokio::spawn(async move { c.run_writer().await }));
        self.running.push(tokio::spawn(self.master.clone().run_pacer(pending)));
    }

    /// Kills the master and starts another one over the same store and ledger, as a new leader would.
    pub fn restart(&mut self) {
        for task in self.running.drain(..) {
            task.abort();
        }
        {
            // A new leader's ledger is rebuilt from pods; offers die with the old one.
            let mut ledger = self.ledger.lock();
            let offers: Vec<_> = ledger.offers(&"a1".into()).cloned().collect();
            for offer in offers {
                ledger.release(&stoa_ledger::Holder::Offer(offer));
            }
        }
        let (master, pending) = Self::master(&self.registry, &self.ledger, &self.clock, &self.options);
        self.master = master;
        self.start(pending);
    }

    /// Thousandths of CPUs that pods hold on the agent; offers come and go.
    pub fn milli_cpu_of_pods(&self) -> u64 {
        let ledger = self.ledger.lock();
        let agent = "a1".into();
        let claims = ledger.claims(&agent);
        claims.filter(|(h, _)| matches!(h, stoa_ledger::Holder::Pod(_))).map(|(_, r)| r.milli_cpu).sum()
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        self.registry.store()
    }

    fn context(&self) -> Context {
        Context::system("test")
    }

    pub async fn add_agent(&self, name: &str) {
        let nodes = resources().find("", "v1", "nodes").unwrap();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name,
            "annotations": {"stoa.dev/volumes-dir": "/var/lib/volumes"},
            "labels": {"attribute.stoa.dev/rack": "r1"}}});
        self.registry.create(&self.context(), Target::new(nodes, "", name), node).await.unwrap();
        self.set_ready(name, "True").await;
        self.ledger.lock().set_agent(Agent { id: name.into(), capacity: capacity(), active: true });
    }

    pub async fn set_ready(&self, name: &str, ready: &str) {
        let nodes = resources().find("", "v1", "nodes").unwrap();
        let target = Target::new(nodes, "", name).sub("status");
        let status = json!({"conditions": [{"type": "Ready", "status": ready, "reason": "x", "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "addresses": [{"type": "Hostname", "address": "host-1"}, {"type": "InternalIP", "address": "10.0.0.1"}]});
        let set = |node: &mut Value| {
            node["status"] = status.clone();
            Ok(())
        };
        self.registry.modify(&self.context(), target, set).await.unwrap();
    }

    pub fn node(&self, name: &str) -> Value {
        let key = Key::object("", "nodes", "", name);
        serde_json::from_slice(&self.store().get(&key).unwrap().value).unwrap()
    }

    pub async fn remove_agent(&self, name: &str) {
        let nodes = resources().find("", "v1", "nodes").unwrap();
        let target = Target::new(nodes, "", name);
        self.registry
            .delete(&self.context(), target, &stoa_registry::DeleteOptions::default())
            .await
            .unwrap();
        self.ledger.lock().remove_agent(&name.into());
    }

    /// The pods of all namespaces.
    pub fn pods(&self) -> Vec<Value> {
        let prefix = Key::prefix("", "pods", "");
        let page = self.store().range(Range { prefix: &prefix, ..Range::default() }).unwrap();
        page.entries.iter().map(|e| serde_json::from_slice(&e.value).unwrap()).collect()
    }

    /// The pod of a task.
    pub fn pod_of(&self, task: &str) -> Value {
        let mut pods = self.pods();
        pods.retain(|p| p["metadata"]["annotations"]["stoa.dev/task-id"] == task);
        assert_eq!(pods.len(), 1, "pods of {task}");
        pods.remove(0)
    }

    /// Plays the agent: writes a pod's status.
    pub async fn report(&self, pod: &Value, status: Value) {
        let (ns, name) =
            (pod["metadata"]["namespace"].as_str().unwrap(), pod["metadata"]["name"].as_str().unwrap());
        let pods = resources().find("", "v1", "pods").unwrap();
        let set = |pod: &mut Value| {
            pod["status"] = status.clone();
            Ok(())
        };
        self.registry.modify(&self.context(), Target::new(pods, ns, name).sub("status"), set).await.unwrap();
    }

    pub async fn report_running(&self, task: &str) {
        self.report(
            &self.pod_of(task),
            status("Running", json!({"running": {"startedAt": "2026-01-01T00:00:01Z"}})),
        )
        .await;
    }

    pub async fn report_exit(&self, task: &str, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let state = json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
            "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}});
        self.report(&self.pod_of(task), status(phase, state)).await;
    }

    /// Plays the agent: the container of a pod that is being deleted has ended, and the pod goes.
    pub async fn finish_deletion(&self, pod: &Value) {
        let (ns, name) =
            (pod["metadata"]["namespace"].as_str().unwrap(), pod["metadata"]["name"].as_str().unwrap());
        let pods = resources().find("", "v1", "pods").unwrap();
        let now = stoa_registry::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
        self.registry.delete(&self.context(), Target::new(pods, ns, name), &now).await.unwrap();
    }

    pub async fn create_pod(&self, pod: Value) {
        let pods = resources().find("", "v1", "pods").unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap().to_string();
        self.registry.create(&self.context(), Target::new(pods, "default", &name), pod).await.unwrap();
    }

    // ---- HTTP

    pub async fn request(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        self.master.handle(request).await
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Full::default()).unwrap();
        text_of(self.request(request).await).await
    }

    pub async fn get_json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// A scheduler's call.
    pub async fn call(&self, stream_id: Option<&str>, call: &Value) -> (u16, String) {
        let mut request = Request::post("/api/v1/scheduler").header("content-type", "application/json");
        if let Some(id) = stream_id {
            request = request.header("mesos-stream-id", id);
        }
        text_of(self.request(request.body(Full::new(call.to_string().into())).unwrap()).await).await
    }

    pub async fn subscribe(&self, info: Value) -> Scheduler {
        let mut call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        if let Some(id) = info.get("id") {
            call["framework_id"] = id.clone();
        }
        let request = Request::post("/api/v1/scheduler")
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(call.to_string().into()))
            .unwrap();
        let response = self.request(request).await;
        assert_eq!(response.status(), 200);
        let stream_id = response.headers()["mesos-stream-id"].to_str().unwrap().to_string();
        Scheduler {
            body: response.into_body(),
            decoder: Decoder::default(),
            passed: VecDeque::new(),
            stream_id,
            id: String::new(),
        }
    }

    /// Subscribes and reads up to the first offers.
    pub async fn framework(&self, info: Value) -> (Scheduler, Value) {
        let mut s = self.subscribe(info).await;
        let subscribed = s.next().await;
        assert_eq!(subscribed["type"], "SUBSCRIBED", "{subscribed}");
        s.id = subscribed["subscribed"]["framework_id"]["value"].as_str().unwrap().into();
        let offers = s.expect("OFFERS").await;
        (s, offers)
    }

    /// Lets everybody do what there is to do.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

pub(super) fn info() -> Value {
    json!({"user": "root", "name": "test", "failover_timeout": 3600})
}

pub(super) fn aware() -> Value {
    json!({"user": "root", "name": "test", "failover_timeout": 3600, "capabilities": [{"type": "PARTITION_AWARE"}]})
}

pub(super) fn status(phase: &str, state: Value) -> Value {
    json!({"phase": phase, "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}], "hostIP": "10.0.0.1",
        "startTime": "2026-01-01T00:00:00Z",
        "containerStatuses": [{"name": "task", "ready": false, "restartCount": 0, "image": "x", "imageID": "x",
            "containerID": "stoa://abc", "state": state}]})
}

pub(super) async fn text_of(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

pub(super) fn task(id: &str, agent: &str, cpus: f64) -> Value {
    json!({"name": id, "task_id": {"value": id}, "agent_id": {"value": agent}, "command": {"value": "true"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]})
}

/// A scheduler's end of an event stream.
pub(super) struct Scheduler {
    body: Body,
    decoder: Decoder,
    /// Events that were passed over while an update was looked for.
    passed: VecDeque<Value>,
    pub stream_id: String,
    pub id: String,
}

impl Scheduler {
    /// The next record as it is; `None` at the end of the stream.
    pub async fn record(&mut self) -> Option<Bytes> {
        let read = async {
            loop {
                if let Some(record) = self.decoder.next_record().unwrap() {
                    return Some(record);
                }
                let frame = self.body.frame().await?.unwrap();
                self.decoder.push(frame.data_ref().unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), read).await.expect("an event within an hour")
    }

    /// The next event that is no heartbeat.
    pub async fn next(&mut self) -> Value {
        for _ in 0..1000 {
            let record = self.record().await.expect("the stream goes on");
            let event: Value = serde_json::from_slice(&record).unwrap();
            if event["type"] != "HEARTBEAT" {
                return event;
            }
        }
        panic!("nothing but heartbeats");
    }

    /// The next event, which must be of a type; returns the part of that type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let event = match self.passed.pop_front() {
            Some(event) => event,
            None => self.next().await,
        };
        assert_eq!(event["type"], kind, "{event}");
        event[kind.to_ascii_lowercase()].clone()
    }

    /// The next event of a type, others passed over; returns the part of that type.
    pub async fn find(&mut self, kind: &str) -> Value {
        if let Some(at) = self.passed.iter().position(|e| e["type"] == kind) {
            return self.passed.remove(at).unwrap_or_default()[kind.to_ascii_lowercase()].clone();
        }
        loop {
            let event = self.next().await;
            if event["type"] == kind {
                return event[kind.to_ascii_lowercase()].clone();
            }
            self.passed.push_back(event);
        }
    }

    /// The next update, other events passed over: its status.
    pub async fn update(&mut self) -> Value {
        loop {
            let event = self.next().await;
            if event["type"] == "UPDATE" {
                return event["update"]["status"].clone();
            }
            self.passed.push_back(event);
        }
    }

    /// The next update, which must be of a state; it is acknowledged.
    pub async fn told(&mut self, world: &World, state: &str) -> Value {
        let status = self.update().await;
        assert_eq!(status["state"], state, "{status}");
        self.ack(world, &status).await;
        status
    }

    pub async fn ack(&self, world: &World, status: &Value) {
        let ack =
            json!({"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"]});
        self.call(world, json!({"type": "ACKNOWLEDGE", "acknowledge": ack})).await;
    }

    /// A call that must be accepted.
    pub async fn call(&self, world: &World, call: Value) {
        let (status, body) = self.try_call(world, call).await;
        assert_eq!(status, 202, "{body}");
    }

    pub async fn try_call(&self, world: &World, mut call: Value) -> (u16, String) {
        call["framework_id"] = json!({"value": self.id});
        world.call(Some(&self.stream_id), &call).await
    }

    pub async fn launch(&self, world: &World, offers: &Value, tasks: Vec<Value>) {
        let launch = json!({"type": "LAUNCH", "launch": {"task_infos": tasks}});
        self.accept(world, offers, vec![launch]).await;
    }

    pub async fn accept(&self, world: &World, offers: &Value, operations: Vec<Value>) {
        let call = json!({"type": "ACCEPT", "accept": {"offer_ids": [offers["offers"][0]["id"]],
            "operations": operations, "filters": {"refuse_seconds": 100_000}}});
        self.call(world, call).await;
    }
}
