//! Figures as a kubelet gives them out: the summary in JSON, and the metrics that Prometheus reads. Pure but for the look at
//! the samples.

use crate::shared::{LivePod, Shared};
use crate::stats::{Disk, Sample, read_disk};
use serde_json::{Value, json};
use std::fmt::Write;
use stoa_units::Time;

fn cpu(sample: &Sample) -> Value {
    let mut out =
        json!({"time": sample.at.to_rfc3339_seconds(), "usageCoreNanoSeconds": sample.stats.cpu_usage_ns});
    if let Some(rate) = sample.nano_cores {
        out["usageNanoCores"] = rate.into();
    }
    out
}

fn memory(sample: &Sample) -> Value {
    json!({
        "time": sample.at.to_rfc3339_seconds(), "usageBytes": sample.stats.memory_usage_bytes,
        "workingSetBytes": sample.stats.memory_working_set_bytes, "rssBytes": sample.stats.memory_rss_bytes,
    })
}

fn fs(disk: &Disk, now: Time) -> Value {
    json!({
        "time": now.to_rfc3339_seconds(), "capacityBytes": disk.total, "availableBytes": disk.available,
        "usedBytes": disk.total.saturating_sub(disk.available), "inodes": disk.inodes, "inodesFree": disk.inodes_free,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    })
}

fn live(shared: &Shared) -> Vec<LivePod> {
    let mut pods: Vec<LivePod> = shared.live.lock().values().cloned().collect();
    pods.sort_by(|a, b| a.pod.cmp(&b.pod));
    pods
}

/// `stats/summary`.
pub(crate) fn summary(shared: &Shared) -> Value {
    let now = shared.now();
    let disk = read_disk(&shared.options.data_dir);
    let images = shared.machine.images_size();
    let mut node = json!({"nodeName": shared.options.name, "startTime": shared.begun.to_rfc3339_seconds(),
        "fs": fs(&disk, now), "runtime": {"imageFs": fs(&disk, now), "containerFs": fs(&disk, now)}});
    node["runtime"]["imageFs"]["usedBytes"] = images.into();
    if let Some((at, used, rate)) = shared.sampler.node() {
        let time = at.to_rfc3339_seconds();
        node["cpu"] = json!({"time": time, "usageCoreNanoSeconds": used.cpu_ns});
        if let Some(rate) = rate {
            node["cpu"]["usageNanoCores"] = rate.into();
        }
        let working = used.memory_total.saturating_sub(used.memory_available);
        node["memory"] = json!({"time": time, "availableBytes": used.memory_available, "usageBytes": working,
            "workingSetBytes": working});
        node["rlimit"] = json!({"time": time, "maxpid": used.tasks_max, "curproc": used.tasks});
    }
    let pods: Vec<Value> = live(shared).iter().filter_map(|p| pod(shared, p)).collect();
    json!({"node": node, "pods": pods})
}

fn pod(shared: &Shared, pod: &LivePod) -> Option<Value> {
    let containers: Vec<Value> = pod
        .containers
        .iter()
        .filter_map(|(name, c)| {
            let sample = shared.sampler.of(c.running.as_deref()?)?;
            let start = c.started_at.map(Time::to_rfc3339_seconds);
            Some(json!({"name": name, "startTime": start, "cpu": cpu(&sample), "memory": memory(&sample)}))
        })
        .collect();
    if containers.is_empty() {
        return None;
    }
    let reference = json!({"name": pod.pod.name, "namespace": pod.pod.namespace, "uid": pod.pod.uid});
    let mut out = json!({"podRef": reference, "startTime": pod.started_at.to_rfc3339_seconds(), "containers": containers});
    if let Some(sample) = shared.sampler.of(&pod.pod.uid) {
        out["cpu"] = cpu(&sample);
        out["memory"] = memory(&sample);
        out["process_stats"] = json!({"process_count": sample.stats.pids});
    }
    Some(out)
}

/// How firm a name is, as a kubelet says it of its metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stability {
    Alpha,
    Beta,
    Stable,
}

/// Families of metrics.
#[derive(Default)]
pub(crate) struct Family {
    pub(crate) out: String,
}

impl Family {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.head_at(Stability::Stable, name, kind, help);
    }

    pub(crate) fn head_at(&mut self, stability: Stability, name: &str, kind: &str, help: &str) {
        let word = match stability {
            Stability::Alpha => "ALPHA",
            Stability::Beta => "BETA",
            Stability::Stable => "STABLE",
        };
        let _ = write!(self.out, "# HELP {name} [{word}] {help}\n# TYPE {name} {kind}\n");
    }

    pub(crate) fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: Option<Time>) {
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let at = at.map_or(String::new(), |t| format!(" {}", t.0.as_millisecond()));
        let _ = writeln!(self.out, "{name}{labels} {value}{at}");
    }

    /// What each of a kubelet's registries ends with.
    pub(crate) fn start(&mut self, begun: Time) {
        let name = "process_start_time_seconds";
        let help = "Start time of the process since unix epoch in seconds.";
        self.head_at(Stability::Alpha, name, "gauge", help);
        self.line(name, &[], begun.0.as_millisecond() as f64 / 1e3, None);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// `metrics/resource`.
pub(crate) fn resource(shared: &Shared) -> String {
    let mut f = Family::default();
    let pods = live(shared);
    let containers = || {
        pods.iter().flat_map(|p| {
            p.containers.iter().filter_map(move |(name, c)| {
                let sample = shared.sampler.of(c.running.as_deref()?)?;
                let labels = [
                    ("container", name.as_str()),
                    ("namespace", p.pod.namespace.as_str()),
                    ("pod", p.pod.name.as_str()),
                ];
                Some((labels, sample, c.started_at))
            })
        })
    };
    f.head(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    for (labels, s, _) in containers() {
        f.line("container_cpu_usage_seconds_total", &labels, seconds(s.stats.cpu_usage_ns), Some(s.at));
    }
    f.head("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes");
    for (labels, s, _) in containers() {
        f.line(
            "container_memory_working_set_bytes",
            &labels,
            s.stats.memory_working_set_bytes as f64,
            Some(s.at),
        );
    }
    f.head(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    );
    for (labels, _, started) in containers() {
        if let Some(started) = started {
            f.line("container_start_time_seconds", &labels, started.0.as_millisecond() as f64 / 1e3, None);
        }
    }
    if let Some((at, used, _)) = shared.sampler.node() {
        f.head(
            "node_cpu_usage_seconds_total",
            "counter",
            "Cumulative cpu time consumed by the node in core-seconds",
        );
        f.line("node_cpu_usage_seconds_total", &[], seconds(used.cpu_ns), Some(at));
        f.head("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes");
        let working = used.memory_total.saturating_sub(used.memory_available);
        f.line("node_memory_working_set_bytes", &[], working as f64, Some(at));
    }
    let of_pods = || pods.iter().filter_map(|p| Some((p, shared.sampler.of(&p.pod.uid)?)));
    f.head(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    );
    for (p, s) in of_pods() {
        let labels = [("namespace", p.pod.namespace.as_str()), ("pod", p.pod.name.as_str())];
        f.line("pod_cpu_usage_seconds_total", &labels, seconds(s.stats.cpu_usage_ns), Some(s.at));
    }
    f.head("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    for (p, s) in of_pods() {
        let labels = [("namespace", p.pod.namespace.as_str()), ("pod", p.pod.name.as_str())];
        f.line("pod_memory_working_set_bytes", &labels, s.stats.memory_working_set_bytes as f64, Some(s.at));
    }
    f.head(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    f.line("resource_scrape_error", &[], 0.0, None);
    f.out
}

/// `metrics/cadvisor`: the few families of it that dashboards live on.
pub(crate) fn cadvisor(shared: &Shared) -> String {
    let mut f = Family::default();
    type Get = fn(&Sample) -> f64;
    let families: [(&str, &str, &str, Get); 5] = [
        ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", |s| {
            seconds(s.stats.cpu_usage_ns)
        }),
        (
            "container_memory_usage_bytes",
            "gauge",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            |s| s.stats.memory_usage_bytes as f64,
        ),
        ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", |s| {
            s.stats.memory_working_set_bytes as f64
        }),
        ("container_memory_rss", "gauge", "Size of RSS in bytes.", |s| s.stats.memory_rss_bytes as f64),
        ("container_processes", "gauge", "Number of processes running inside the container.", |s| {
            s.stats.pids as f64
        }),
    ];
    let pods = live(shared);
    for (name, kind, help, get) in families {
        f.head(name, kind, help);
        for pod in &pods {
            let (namespace, pod_name) = (pod.pod.namespace.as_str(), pod.pod.name.as_str());
            for (container, c) in &pod.containers {
                let Some(id) = c.running.as_deref() else { continue };
                let Some(sample) = shared.sampler.of(id) else { continue };
                let labels = [
                    ("container", container.as_str()),
                    ("id", id),
                    ("image", c.image.as_str()),
                    ("name", id),
                    ("namespace", namespace),
                    ("pod", pod_name),
                ];
                f.line(name, &labels, get(&sample), Some(sample.at));
            }
            if let Some(sample) = shared.sampler.of(&pod.pod.uid) {
                let labels = [
                    ("container", ""),
                    ("id", pod.pod.uid.as_str()),
                    ("image", ""),
                    ("name", ""),
                    ("namespace", namespace),
                    ("pod", pod_name),
                ];
                f.line(name, &labels, get(&sample), Some(sample.at));
            }
        }
    }
    if let Some((_, used, _)) = shared.sampler.node() {
        f.head("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
        f.line("machine_memory_bytes", &[], used.memory_total as f64, None);
        f.head("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
        f.line(
            "machine_cpu_cores",
            &[],
            std::thread::available_parallelism().map_or(1, |n| n.get()) as f64,
            None,
        );
    }
    f.out
}
