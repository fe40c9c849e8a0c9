//! What an agent answers of itself, for those who may read a node through the API server: nothing listens here, each question
//! comes down the session as a tunnel. Paths, types and words are a kubelet's.

use crate::shared::Shared;
use crate::{node_logs, summary};
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::Path;
use stoa_wire::NodeHead;

/// Where a machine keeps its logs.
const LOGS_DIR: &str = "/var/log";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) head: NodeHead,
    pub(crate) body: Body,
}

/// What follows the head.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Bytes),
    /// So many bytes of a file.
    File(std::fs::File, u64),
}

impl Page {
    pub(crate) fn new(code: u16, media_type: &str, body: impl Into<Bytes>) -> Page {
        let headers = [("content-type".to_owned(), media_type.to_owned())].into();
        Page { head: NodeHead { code, headers }, body: Body::Bytes(body.into()) }
    }

    pub(crate) fn with(mut self, header: &str, value: impl Into<String>) -> Page {
        self.head.headers.insert(header.to_owned(), value.into());
        self
    }

    /// An error in words alone, which nobody shall take for more.
    pub(crate) fn error(code: u16, words: &str) -> Page {
        Page::new(code, TEXT, format!("{words}\n")).with("x-content-type-options", "nosniff")
    }

    pub(crate) fn not_found() -> Page {
        Page::error(404, "404 page not found")
    }
}

/// Answers a path, which keeps the slash at its end.
pub(crate) async fn answer(shared: &Shared, method: &str, path: &str, query: &str) -> Page {
    let is_read = matches!(method, "" | "GET" | "HEAD");
    let path = path.trim_start_matches('/');
    let (first, below) = path.split_once('/').map_or((path, None), |(first, below)| (first, Some(below)));
    if first == "checkpoint" {
        return checkpoint(shared, method, below.unwrap_or_default(), query);
    }
    if !is_read {
        return Page::new(405, TEXT, "Method Not Allowed").with("allow", "GET");
    }
    if let ("logs", Some(below)) = (first, below) {
        let (below, query) = (below.to_owned(), query.to_owned());
        let page =
            tokio::task::spawn_blocking(move || node_logs::serve(Path::new(LOGS_DIR), &below, &query)).await;
        return page.unwrap_or_else(|_| Page::error(500, "500 Internal Server Error"));
    }
    let (media_type, text) = match path.trim_end_matches('/') {
        "stats/summary" => (JSON, summary::summary(shared).to_string()),
        "metrics/resource" | "metrics" => (METRICS, summary::resource(shared)),
        "metrics/cadvisor" => (METRICS, summary::cadvisor(shared)),
        "metrics/probes" => (METRICS, shared.probes.render(shared.begun)),
        "metrics/slis" => (METRICS, shared.health.render(shared.begun)),
        "pods" => (JSON, pods(shared).to_string()),
        "runningpods" => (JSON, running_pods(shared).to_string()),
        "configz" => (JSON, configz(shared).to_string()),
        "healthz" => {
            shared.health.asked();
            (TEXT, "ok".to_owned())
        }
        "healthz/ping" | "healthz/log" | "healthz/syncloop" => (TEXT, "ok".to_owned()),
        _ => return Page::not_found(),
    };
    Page::new(200, media_type, text)
}

/// Every pod that this agent holds, as it knows it.
fn pods(shared: &Shared) -> Value {
    let live = shared.live.lock();
    let items = live.values().map(|l| {
        let mut pod = json!(&*l.object);
        if let Some(status) = &l.status {
            pod["status"] = json!(status);
        }
        pod
    });
    list(items.collect())
}

/// The pods that have surroundings, with the containers that run: what a runtime knows of them, and no more.
fn running_pods(shared: &Shared) -> Value {
    let live = shared.live.lock();
    let items = live.values().filter(|l| l.connected).map(|l| {
        let running = l.containers.iter().filter(|(_, c)| c.running.is_some());
        let containers: Vec<Value> =
            running.map(|(name, c)| json!({"name": name, "image": c.image, "resources": {}})).collect();
        let containers = if containers.is_empty() { Value::Null } else { containers.into() };
        json!({
            "metadata": {"name": l.pod.name, "namespace": l.pod.namespace, "uid": l.pod.uid},
            "spec": {"containers": containers}, "status": {},
        })
    });
    list(items.collect())
}

fn list(mut items: Vec<Value>) -> Value {
    items.sort_by_key(|p| p["metadata"]["uid"].as_str().map(str::to_owned));
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// `checkpoint/<namespace>/<pod>/<container>`: found or not, and then refused, since the runtime cannot do it.
fn checkpoint(shared: &Shared, method: &str, path: &str, query: &str) -> Page {
    let words = |code, words: String| Page::new(code, TEXT, words);
    let [namespace, name, container] = path.split('/').collect::<Vec<_>>()[..] else {
        return words(404, "404: Page Not Found".to_owned());
    };
    if method != "POST" {
        return words(405, "405: Method Not Allowed".to_owned()).with("allow", "POST");
    }
    let found = {
        let live = shared.live.lock();
        let pod = live.values().find(|l| (&*l.pod.namespace, &*l.pod.name) == (namespace, name));
        pod.map(|l| l.containers.get(container).map(|c| c.running.is_some()))
    };
    let runs = match found {
        None => return words(404, "pod does not exist".to_owned()),
        Some(None) => return words(404, format!("container {container} does not exist")),
        Some(Some(runs)) => runs,
    };
    let timeout = query.split('&').filter_map(|pair| pair.strip_prefix("timeout=")).next_back();
    if timeout.is_some_and(|t| t.parse::<i64>().is_err()) {
        return words(404, "cannot parse value of timeout parameter".to_owned());
    }
    let why = match runs {
        true => "this node's runtime does not checkpoint containers".to_owned(),
        false => format!("container {container} not found"),
    };
    words(500, format!("checkpointing of {namespace}/{name}/{container} failed ({why})"))
}

/// The settings in the form of a kubelet's configuration.
fn configz(shared: &Shared) -> Value {
    let o = &shared.options;
    let hard: serde_json::Map<String, Value> =
        o.eviction_hard.iter().map(|t| (t.signal.as_str().to_owned(), t.value.to_string().into())).collect();
    json!({"kubeletconfig": {
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "maxPods": o.pods_max, "podPidsLimit": o.pod_pids_max, "cgroupDriver": "cgroupfs", "serializeImagePulls": false,
        "imageGCHighThresholdPercent": o.image_gc_high_percent, "imageGCLowThresholdPercent": o.image_gc_low_percent,
        "evictionHard": hard, "evictionPressureTransitionPeriod": format!("{}s", o.pressure_hold.as_secs()),
        "containerLogMaxSize": o.log_bytes_max.to_string(), "containerLogMaxFiles": o.log_files_max,
        "authentication": {"anonymous": {"enabled": false}}, "readOnlyPort": 0, "enableServer": false,
        "seccompDefault": true, "failSwapOn": false,
    }})
}
