//! What an agent answers of itself, for those who may read a node through the API server: nothing listens here, each question
//! comes down the session as a tunnel. Paths, types and words are a kubelet's.

use crate::shared::Shared;
use crate::{node_logs, sizes, summary};
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
        "stats/summary" => {
            let sizes = sizes::measure(shared).await;
            (JSON, summary::summary(shared, &sizes).to_string())
        }
        "metrics/resource" | "metrics" => (METRICS, summary::resource(shared)),
        "metrics/cadvisor" => (METRICS, summary::cadvisor(shared)),
        "metrics/probes" => (METRICS, shared.probes.render(shared.begun)),
        "metrics/slis" => (METRICS, shared.health.render(shared.begun)),
        "pods" => (JSON, pods(shared).to_string()),
        "runningpods" => (JSON, running_pods(shared).to_string()),
        "configz" => (JSON, configz(shared).to_string()),
        "statusz" => (TEXT, statusz(shared)),
        "flagz" => (TEXT, flagz(shared)),
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
        let annotations = &mut pod["metadata"]["annotations"];
        if annotations.get("kubernetes.io/config.source").is_none() {
            annotations["kubernetes.io/config.source"] = "api".into();
            annotations["kubernetes.io/config.seen"] = l.started_at.to_rfc3339_micros().into();
        }
        if let Some(status) = &l.status {
            pod["status"] = json!(status);
        }
        pod
    });
    list(items.collect())
}

/// The pods that have surroundings, with the containers that run: what a runtime knows of them, and no more. It was given each
/// image by its digest.
fn running_pods(shared: &Shared) -> Value {
    let live = shared.live.lock();
    let items = live.values().filter(|l| l.connected).map(|l| {
        let running = l.containers.iter().filter(|(_, c)| c.running.is_some());
        let containers: Vec<Value> =
            running.map(|(name, c)| json!({"name": name, "image": c.image_id, "resources": {}})).collect();
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

/// The settings in the form of a kubelet's configuration: those of this agent, and those that stand as they are.
fn configz(shared: &Shared) -> Value {
    let o = &shared.options;
    let hard: serde_json::Map<String, Value> =
        o.eviction_hard.iter().map(|t| (t.signal.as_str().to_owned(), t.value.to_string().into())).collect();
    let dns = shared.cluster.lock().dns.clone();
    let mut config = json!({
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "podLogsDir": o.logs_dir().display().to_string(), "clusterDomain": dns.domain, "clusterDNS": [dns.address],
        "imageGCHighThresholdPercent": o.image_gc_high_percent, "imageGCLowThresholdPercent": o.image_gc_low_percent,
        "maxPods": o.pods_max, "podPidsLimit": o.pod_pids_max,
        "evictionHard": hard, "evictionPressureTransitionPeriod": format!("{}s", o.pressure_hold.as_secs()),
        "containerLogMaxSize": o.log_bytes_max.to_string(), "containerLogMaxFiles": o.log_files_max,
        "authentication": {"x509": {}, "webhook": {"enabled": true, "cacheTTL": "2m0s"}, "anonymous": {"enabled": false}},
        "authorization": {"mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"}},
        "enforceNodeAllocatable": ["pods"], "memorySwap": {},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "5m0s"},
    });
    let fixed = SETTINGS_TEXT.map(|(name, value)| (name, Value::from(value)));
    let fixed = fixed.into_iter().chain(SETTINGS_NUMBER.map(|(name, value)| (name, value.into())));
    for (name, value) in fixed.chain(SETTINGS_TRUTH.map(|(name, value)| (name, value.into()))) {
        config[name] = value;
    }
    json!({"kubeletconfig": config})
}

/// Settings of a kubelet that are words here, and always these.
const SETTINGS_TEXT: [(&str, &str); 22] = [
    ("syncFrequency", "1m0s"),
    ("fileCheckFrequency", "20s"),
    ("httpCheckFrequency", "20s"),
    ("imagePullCredentialsVerificationPolicy", "NeverVerifyPreloadedImages"),
    ("streamingConnectionIdleTimeout", "4h0m0s"),
    ("nodeStatusUpdateFrequency", "10s"),
    ("nodeStatusReportFrequency", "5m0s"),
    ("imageMinimumGCAge", "2m0s"),
    ("imageMaximumGCAge", "0s"),
    ("volumeStatsAggPeriod", "1m0s"),
    ("cgroupRoot", "/"),
    ("cgroupDriver", "cgroupfs"),
    ("cpuManagerReconcilePeriod", "10s"),
    ("memoryManagerPolicy", "None"),
    ("topologyManagerPolicy", "none"),
    ("topologyManagerScope", "container"),
    ("runtimeRequestTimeout", "2m0s"),
    ("hairpinMode", "promiscuous-bridge"),
    ("resolvConf", "/etc/resolv.conf"),
    ("cpuCFSQuotaPeriod", "100ms"),
    ("containerLogMonitorInterval", "10s"),
    ("configMapAndSecretChangeDetectionStrategy", "Watch"),
];
/// Those that are numbers.
const SETTINGS_NUMBER: [(&str, u32); 5] = [
    ("readOnlyPort", 0),
    ("healthzPort", 0),
    ("nodeLeaseDurationSeconds", 40),
    ("nodeStatusMaxImages", 50),
    ("containerLogMaxWorkers", 1),
];
/// Those that hold or do not.
const SETTINGS_TRUTH: [(&str, bool); 12] = [
    ("enableServer", false),
    ("enableDebuggingHandlers", true),
    ("cgroupsPerQOS", true),
    ("cpuCFSQuota", true),
    ("serializeImagePulls", false),
    ("enableControllerAttachDetach", true),
    ("failSwapOn", false),
    ("enableSystemLogHandler", true),
    ("enableSystemLogQuery", false),
    ("seccompDefault", true),
    ("registerNode", true),
    ("localStorageCapacityIsolation", true),
];

/// The opening lines of a page of the machinery's own, which no program shall read.
fn page(name: &str) -> String {
    format!(
        "\nkubelet {name}\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"
    )
}

/// `statusz`: what runs here, and since when.
fn statusz(shared: &Shared) -> String {
    let begun = shared.begun.0.strftime("%a %b %e %H:%M:%S UTC %Y");
    let up = shared.now().since(shared.begun).as_secs();
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{}\nStarted: {begun}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nBinary version: 1.36.2+stoa.{version}\nEmulation version: 1.36\nPaths: /configz /flagz /healthz /metrics\n",
        page("statusz")
    )
}

/// `flagz`: the settings that a kubelet has as flags too.
fn flagz(shared: &Shared) -> String {
    let o = &shared.options;
    let mut flags = vec![
        ("cgroup-driver", "cgroupfs".to_owned()),
        ("container-log-max-files", o.log_files_max.to_string()),
        ("container-log-max-size", o.log_bytes_max.to_string()),
        ("hostname-override", o.name.clone()),
        ("image-gc-high-threshold", o.image_gc_high_percent.to_string()),
        ("image-gc-low-threshold", o.image_gc_low_percent.to_string()),
        ("max-pods", o.pods_max.to_string()),
        ("node-ip", o.node_ip.clone().unwrap_or_default()),
        ("pod-max-pids", o.pod_pids_max.to_string()),
        ("root-dir", o.data_dir.display().to_string()),
    ];
    flags.sort();
    flags.into_iter().fold(page("flagz"), |out, (name, value)| format!("{out}{name} {value}\n"))
}
