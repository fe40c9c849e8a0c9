//! The service against a real registry over the memory store, with agents that only pretend: they mark pods running and
//! let go of those that are to end.

mod batch;
mod collect;
mod nodes;
mod placement;
mod rollout;

use crate::{Handles, NoMeter, NoOffers, Options, Rescinder, Service};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::{Resource, resources};
use stoa_ledger::Ledger;
use stoa_registry::{Context, DeleteOptions, Registry, Selection, Target, WatchOptions};
use stoa_store::{Key, Range};
use stoa_units::{PortSet, SystemClock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Everything must have come about within this; it is no measure of speed.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    pub registry: Arc<Registry>,
    pub ledger: Arc<Mutex<Ledger>>,
    pub changed: Arc<Notify>,
    pub shutdown: CancellationToken,
    ctx: Context,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn find(plural: &str) -> &'static Resource {
    resources().iter().find(|r| r.plural == plural && r.group != "events.k8s.io").expect("a known resource")
}

impl Cluster {
    pub async fn new() -> Cluster {
        let cluster = Cluster::idle().await;
        cluster.start(Arc::new(NoOffers));
        cluster
    }

    /// Without the service, which is to be started.
    pub async fn idle() -> Cluster {
        let store = stoa_store::memory(stoa_store::Options::default());
        let registry = Registry::new(store, Arc::new(SystemClock), stoa_registry::Options::default());
        registry.bootstrap().await.expect("a cluster begins");
        let cluster = Cluster {
            registry,
            ledger: Arc::new(Mutex::new(Ledger::new(PortSet::EMPTY))),
            changed: Arc::new(Notify::new()),
            shutdown: CancellationToken::new(),
            ctx: Context::system("test"),
        };
        // A namespace takes pods once it has its account; who would make that does not run yet.
        cluster.create("serviceaccounts", "default", json!({"metadata": {"name": "default"}})).await;
        cluster
    }

    pub fn start(&self, rescinder: Arc<dyn Rescinder>) {
        let handles = Handles {
            registry: self.registry.clone(),
            ledger: self.ledger.clone(),
            ledger_changed: self.changed.clone(),
            clock: Arc::new(SystemClock),
            root_ca: "CA".to_string(),
            rescinder,
            meter: Arc::new(NoMeter),
        };
        tokio::spawn(Service::new(handles, Options::default()).run(self.shutdown.clone()));
    }

    pub async fn node(&self, name: &str, cpu: &str) {
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"},
                "capacity": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}});
        self.create("nodes", "", node.clone()).await;
        self.modify("nodes", "", name, "status", |v| {
            v["status"] = node["status"].clone();
            v["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        })
        .await;
    }

    /// An agent that marks pods of every node running, and removes those that are to end.
    pub fn pretend_agents(&self) {
        let (registry, shutdown) = (self.registry.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let pods = find("pods");
            let mut watch = registry
                .watch(pods, "", WatchOptions::from_now(Selection::default()))
                .await
                .expect("a watch");
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = watch.next() => event,
                };
                let Some(Ok(event)) = event else { return };
                let Ok(pod) = serde_json::from_slice::<Value>(&event.object) else { continue };
                attend(&registry, pods, &pod).await;
            }
        });
    }

    pub async fn create(&self, plural: &str, namespace: &str, object: Value) -> Value {
        let target = Target::new(find(plural), namespace, "");
        self.registry.create(&self.ctx, target, object).await.expect("it is valid").to_value()
    }

    pub async fn modify(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        sub: &str,
        change: impl Fn(&mut Value),
    ) {
        let target = Target::new(find(plural), namespace, name).sub(sub);
        let change = |v: &mut Value| {
            change(v);
            Ok(())
        };
        self.registry.modify(&self.ctx, target, change).await.expect("it is valid");
    }

    pub async fn delete(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        propagation: Option<stoa_registry::Propagation>,
    ) {
        let options = DeleteOptions { propagation, ..DeleteOptions::default() };
        let target = Target::new(find(plural), namespace, name);
        self.registry.delete(&self.ctx, target, &options).await.expect("it is there");
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = find(plural);
        let entry = self.registry.store().get(&Key::object(resource.storage, plural, namespace, name))?;
        serde_json::from_slice(&entry.value).ok()
    }

    pub fn list(&self, plural: &str, namespace: &str) -> Vec<Value> {
        let prefix = Key::prefix(find(plural).storage, plural, namespace);
        let page =
            self.registry.store().range(Range { prefix: &prefix, ..Range::default() }).expect("readable");
        page.entries.iter().map(|e| serde_json::from_slice(&e.value).expect("JSON")).collect()
    }

    /// Waits until the store says so.
    pub async fn until(&self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        let mut watch =
            self.registry.store().watch("/registry/", self.registry.store().revision()).expect("a watch");
        let wait = async {
            while !holds(self) {
                // Woken by any change; now and then without one, for what is not in the store.
                drop(tokio::time::timeout(Duration::from_millis(50), watch.next()).await);
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let text = |o: &Value| match o["kind"] == "Event" {
                true => format!("{} {}", o["reason"], o["message"]),
                false => o["status"].to_string(),
            };
            let seen: Vec<String> = ["deployments", "replicasets", "pods", "namespaces", "events"]
                .iter()
                .flat_map(|p| self.list(p, ""))
                .map(|o| format!("{} {} {}", o["kind"], o["metadata"]["name"], text(&o)))
                .collect();
            panic!("never came about: {what}\n{}", seen.join("\n"));
        }
    }

    pub fn reasons(&self, name: &str) -> Vec<String> {
        let about = |e: &Value| e["involvedObject"]["name"] == name;
        let text = |e: Value| {
            format!(
                "{} {}",
                e["reason"].as_str().unwrap_or_default(),
                e["message"].as_str().unwrap_or_default()
            )
        };
        self.list("events", "").into_iter().filter(about).map(text).collect()
    }
}

async fn attend(registry: &Arc<Registry>, pods: &'static Resource, pod: &Value) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    if text(&pod["spec"]["nodeName"]).is_empty() {
        return;
    }
    let (ctx, target) = (Context::system("agent"), Target::new(pods, &namespace, &name));
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        drop(registry.delete(&ctx, target, &DeleteOptions::now()).await);
    } else if pod["status"]["phase"] == "Pending" {
        let run = |v: &mut Value| {
            v["status"]["phase"] = json!("Running");
            v["status"]["podIP"] = json!("10.0.0.9");
            v["status"]["podIPs"] = json!([{"ip": "10.0.0.9"}]);
            let at = "2026-01-01T00:00:00Z";
            if let Some(all) = v["status"]["conditions"].as_array_mut() {
                all.retain(|c| c["type"] != "Ready");
                all.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": at}));
            }
            Ok(())
        };
        drop(registry.modify(&ctx, target.sub("status"), run).await);
    }
}

pub(crate) fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": image, "resources": {"requests": {"cpu": "100m"}}}]}}}})
}

/// Runs a test of a cluster on a runtime of its own.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}
