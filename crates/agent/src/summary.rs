//! Figures as a kubelet gives them out: the summary in JSON, and the metrics that Prometheus reads. Pure but for the look at
//! the samples.

use crate::limits;
use crate::shared::{LivePod, Shared};
use crate::sizes::{Places, Sizes};
use crate::stats::{Disk, Interface, Sample, read_disk};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
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
    let stats = &sample.stats;
    let mut out = json!({
        "time": sample.at.to_rfc3339_seconds(), "usageBytes": stats.memory_usage_bytes,
        "workingSetBytes": stats.memory_working_set_bytes, "rssBytes": stats.memory_rss_bytes,
        "pageFaults": stats.page_faults[0], "majorPageFaults": stats.page_faults[1],
    });
    if stats.memory_limit_bytes > 0 {
        out["availableBytes"] =
            stats.memory_limit_bytes.saturating_sub(stats.memory_working_set_bytes).into();
    }
    out
}

/// No pod may swap, so none has any left to use.
fn swap(sample: &Sample) -> Value {
    json!({"time": sample.at.to_rfc3339_seconds(), "swapAvailableBytes": 0, "swapUsageBytes": sample.stats.memory_swap_bytes})
}

/// What went through the interfaces of a network, the first by itself besides.
fn network(interfaces: &[Interface], at: Time) -> Option<Value> {
    let figures = |i: &Interface| json!({"name": i.name, "rxBytes": i.received[0], "rxErrors": i.received[2], "txBytes": i.sent[0], "txErrors": i.sent[2]});
    let main = interfaces.iter().find(|i| i.name == "eth0").or(interfaces.first())?;
    let mut out = figures(main);
    out["time"] = at.to_rfc3339_seconds().into();
    out["interfaces"] = interfaces.iter().map(figures).collect();
    Some(out)
}

fn fs(disk: &Disk, now: Time) -> Value {
    json!({
        "time": now.to_rfc3339_seconds(), "capacityBytes": disk.total, "availableBytes": disk.available,
        "usedBytes": disk.total.saturating_sub(disk.available), "inodes": disk.inodes, "inodesFree": disk.inodes_free,
        "inodesUsed": disk.inodes.saturating_sub(disk.inodes_free),
    })
}

/// What somebody has of a file system: so many bytes in so many files, with the directory itself.
fn share(disk: &Disk, (bytes, files): (u64, u64), now: Time) -> Value {
    let mut out = fs(disk, now);
    (out["usedBytes"], out["inodesUsed"]) = (bytes.into(), (files + 1).into());
    out
}

fn live(shared: &Shared) -> Vec<LivePod> {
    let mut pods: Vec<LivePod> = shared.live.lock().values().cloned().collect();
    pods.sort_by(|a, b| a.pod.cmp(&b.pod));
    pods
}

/// `stats/summary`.
pub(crate) fn summary(shared: &Shared, sizes: &Sizes) -> Value {
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
        node["memory"] = json!({"time": time, "availableBytes": used.memory_available,
            "usageBytes": used.memory_total.saturating_sub(used.memory_free), "workingSetBytes": working,
            "rssBytes": used.memory_rss, "pageFaults": used.page_faults[0], "majorPageFaults": used.page_faults[1]});
        node["rlimit"] = json!({"time": time, "maxpid": used.tasks_max, "curproc": used.tasks});
        node["swap"] = json!({"time": time, "swapAvailableBytes": used.swap_free,
            "swapUsageBytes": used.swap_total.saturating_sub(used.swap_free)});
        if let Some(network) = network(&shared.sampler.network(""), at) {
            node["network"] = network;
        }
    }
    if let Some(all) = shared.sampler.all() {
        node["systemContainers"] = json!([{"name": "pods", "startTime": shared.begun.to_rfc3339_seconds(),
            "cpu": cpu(&all), "memory": memory(&all),
            "swap": {"time": all.at.to_rfc3339_seconds(), "swapUsageBytes": all.stats.memory_swap_bytes}}]);
    }
    let pods: Vec<Value> = live(shared).iter().filter_map(|p| pod(shared, p, &disk, sizes)).collect();
    json!({"node": node, "pods": pods})
}

fn pod(shared: &Shared, pod: &LivePod, disk: &Disk, sizes: &Sizes) -> Option<Value> {
    let (now, places) = (shared.now(), Places::of(shared, pod));
    let size = |path: &Path| sizes.get(path).copied().unwrap_or_default();
    let mut whole = places.shared.iter().map(|p| size(p)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1 + 1));
    let mut add = |of: (u64, u64)| whole = (whole.0 + of.0, whole.1 + of.1 + 1);
    let mut containers: Vec<Value> = Vec::new();
    for (name, upper, logs) in &places.containers {
        let Some(c) = pod.containers.get(name) else { continue };
        let Some(sample) = c.running.as_deref().and_then(|id| shared.sampler.of(id)) else { continue };
        let start = c.started_at.map(Time::to_rfc3339_seconds);
        let mut out = json!({"name": name, "startTime": start, "cpu": cpu(&sample), "memory": memory(&sample),
            "logs": share(disk, size(logs), now), "swap": swap(&sample)});
        add(size(logs));
        if let Some(upper) = upper {
            out["rootfs"] = share(disk, size(upper), now);
            add(size(upper));
        }
        containers.push(out);
    }
    if containers.is_empty() {
        return None;
    }
    let mut volumes: Vec<Value> = Vec::new();
    for (name, path) in &places.volumes {
        // One in memory is a file system by itself, and nothing of the disk.
        let own = read_disk(path);
        if own.total == disk.total {
            add(size(path));
        }
        let mut out = share(&own, size(path), now);
        out["name"] = name.as_str().into();
        volumes.push(out);
    }
    let reference = json!({"name": pod.pod.name, "namespace": pod.pod.namespace, "uid": pod.pod.uid});
    let mut out = json!({"podRef": reference, "startTime": pod.started_at.to_rfc3339_seconds(), "containers": containers,
        "ephemeral-storage": share(disk, whole, now)});
    if !volumes.is_empty() {
        out["volume"] = volumes.into();
    }
    if let Some(sample) = shared.sampler.of(&pod.pod.uid) {
        out["cpu"] = cpu(&sample);
        out["memory"] = memory(&sample);
        out["swap"] = swap(&sample);
        out["process_stats"] = json!({"process_count": sample.stats.pids});
        if pod.netns.is_some()
            && let Some(network) = network(&shared.sampler.network(&pod.pod.uid), sample.at)
        {
            out["network"] = network;
        }
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

    /// cAdvisor's names have no word about how firm they are.
    fn head_of_cadvisor(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
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
    let swap = |what: &str| format!("Current {what} in bytes. Reported only on non-windows systems");
    f.head_at(
        Stability::Alpha,
        "container_swap_limit_bytes",
        "gauge",
        &swap("amount of the container swap limit"),
    );
    for (labels, s, _) in containers() {
        f.line("container_swap_limit_bytes", &labels, 0.0, Some(s.at));
    }
    f.head_at(
        Stability::Alpha,
        "container_swap_usage_bytes",
        "gauge",
        &swap("amount of the container swap usage"),
    );
    for (labels, s, _) in containers() {
        f.line("container_swap_usage_bytes", &labels, s.stats.memory_swap_bytes as f64, Some(s.at));
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
        let help = "Current swap usage of the node in bytes. Reported only on non-windows systems";
        f.head_at(Stability::Alpha, "node_swap_usage_bytes", "gauge", help);
        let swapped = used.swap_total.saturating_sub(used.swap_free);
        f.line("node_swap_usage_bytes", &[], swapped as f64, Some(at));
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
    let help = "Current amount of the pod swap usage in bytes. Reported only on non-windows systems";
    f.head_at(Stability::Alpha, "pod_swap_usage_bytes", "gauge", help);
    for (p, s) in of_pods() {
        let labels = [("namespace", p.pod.namespace.as_str()), ("pod", p.pod.name.as_str())];
        f.line("pod_swap_usage_bytes", &labels, s.stats.memory_swap_bytes as f64, Some(s.at));
    }
    f.head(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    f.line("resource_scrape_error", &[], 0.0, None);
    f.out
}

/// Whose figures a line gives: the labels by which cAdvisor tells them apart.
struct Whose {
    container: String,
    id: String,
    image: String,
    name: String,
    namespace: String,
    pod: String,
}

impl Whose {
    /// With further labels, in the order of their names.
    fn labels<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own: [(&str, &str); 6] = [
            ("container", &self.container),
            ("id", &self.id),
            ("image", &self.image),
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("pod", &self.pod),
        ];
        let mut all: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
        all.sort_by_key(|(name, _)| *name);
        all
    }
}

/// One figure of a cgroup.
type Get = fn(&Sample) -> f64;

/// A family that has one line a cgroup: its name, type and help, the labels that it adds, and the figure.
type OfCgroup = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)], Get);

const OF_CGROUPS: [OfCgroup; 14] = [
    (
        "container_cpu_cfs_periods_total",
        "counter",
        "Number of elapsed enforcement period intervals.",
        &[],
        |s| s.stats.cpu_periods[0] as f64,
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
        &[],
        |s| s.stats.cpu_periods[1] as f64,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        &[],
        |s| seconds(s.stats.cpu_periods[2]),
    ),
    (
        "container_cpu_system_seconds_total",
        "counter",
        "Cumulative system cpu time consumed in seconds.",
        &[],
        |s| seconds(s.stats.cpu_system_ns),
    ),
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        &[("cpu", "total")],
        |s| seconds(s.stats.cpu_usage_ns),
    ),
    (
        "container_cpu_user_seconds_total",
        "counter",
        "Cumulative user cpu time consumed in seconds.",
        &[],
        |s| seconds(s.stats.cpu_user_ns),
    ),
    ("container_last_seen", "gauge", "Last time a container was seen by the exporter", &[], |s| {
        s.at.0.as_second() as f64
    }),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", &[], |s| {
        s.stats.memory_cache_bytes as f64
    }),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", &[], |s| s.stats.memory_rss_bytes as f64),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", &[], |s| {
        s.stats.memory_swap_bytes as f64
    }),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        &[],
        |s| s.stats.memory_usage_bytes as f64,
    ),
    ("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", &[], |s| {
        s.stats.memory_working_set_bytes as f64
    }),
    (
        "container_oom_events_total",
        "counter",
        "Count of out of memory events observed for the container",
        &[],
        |s| s.stats.oom_kills as f64,
    ),
    ("container_processes", "gauge", "Number of processes running inside the container.", &[], |s| {
        s.stats.pids as f64
    }),
];

/// `metrics/cadvisor`: those of its families that dashboards live on.
pub(crate) fn cadvisor(shared: &Shared) -> String {
    let mut f = Family::default();
    let pods = live(shared);
    let mut all: Vec<(Whose, Sample, Option<Time>)> = Vec::new();
    let mut bounds: Vec<(usize, stoa_runtime::Limits)> = Vec::new();
    for live in &pods {
        let class = limits::qos(&live.object).directory();
        let class = if class.is_empty() { String::new() } else { format!("/{class}") };
        let parent = format!("/{}{class}/pod{}", shared.options.cgroup_parent(), live.pod.uid);
        let (namespace, pod) = (&live.pod.namespace, &live.pod.name);
        let whose = |container: &str, id: &str, image: &str| Whose {
            container: container.to_owned(),
            id: if id.is_empty() { parent.clone() } else { format!("{parent}/{id}") },
            image: image.to_owned(),
            name: id.to_owned(),
            namespace: namespace.clone(),
            pod: pod.clone(),
        };
        if let Some(sample) = shared.sampler.of(&live.pod.uid) {
            bounds.push((all.len(), limits::of_pod(&live.object, None)));
            all.push((whose("", "", ""), sample, Some(live.started_at)));
        }
        for (name, c) in &live.containers {
            let Some(id) = c.running.as_deref() else { continue };
            let Some(sample) = shared.sampler.of(id) else { continue };
            if let Some((_, container)) = crate::pod::find(&live.object, name) {
                bounds.push((all.len(), limits::of_container(&live.object, container)));
            }
            all.push((whose(name, id, &c.image), sample, c.started_at));
        }
    }
    let (kernel, os) = (crate::node::kernel(), crate::node::os_image());
    f.head_of_cadvisor(
        "cadvisor_version_info",
        "gauge",
        "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.",
    );
    let versions = [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", kernel.as_str()),
        ("osVersion", os.as_str()),
    ];
    f.line("cadvisor_version_info", &versions, 1.0, None);
    for (name, kind, help, more, get) in OF_CGROUPS {
        f.head_of_cadvisor(name, kind, help);
        for (whose, sample, _) in &all {
            f.line(name, &whose.labels(more), get(sample), Some(sample.at));
        }
    }
    f.head_of_cadvisor(
        "container_memory_failures_total",
        "counter",
        "Cumulative count of memory allocation failures.",
    );
    for (whose, sample, _) in &all {
        for (kind, count) in ["pgfault", "pgmajfault"].iter().zip(sample.stats.page_faults) {
            let labels = whose.labels(&[("failure_type", kind), ("scope", "hierarchy")]);
            f.line("container_memory_failures_total", &labels, count as f64, Some(sample.at));
        }
    }
    network_families(&mut f, shared, &pods);
    bound_families(&mut f, &all, &bounds);
    f.head_of_cadvisor(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
    );
    for (whose, _, started) in &all {
        if let Some(started) = started {
            f.line("container_start_time_seconds", &whose.labels(&[]), started.0.as_second() as f64, None);
        }
    }
    f.head_of_cadvisor(
        "container_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    );
    f.line("container_scrape_error", &[], 0.0, None);
    machine_families(&mut f, shared);
    f.out
}

/// What went through the networks of pods that have one.
fn network_families(f: &mut Family, shared: &Shared, pods: &[LivePod]) {
    type Count = fn(&Interface) -> u64;
    let families: [(&str, &str, Count); 8] = [
        ("receive_bytes", "Cumulative count of bytes received", |i| i.received[0]),
        ("receive_errors", "Cumulative count of errors encountered while receiving", |i| i.received[2]),
        ("receive_packets_dropped", "Cumulative count of packets dropped while receiving", |i| i.received[3]),
        ("receive_packets", "Cumulative count of packets received", |i| i.received[1]),
        ("transmit_bytes", "Cumulative count of bytes transmitted", |i| i.sent[0]),
        ("transmit_errors", "Cumulative count of errors encountered while transmitting", |i| i.sent[2]),
        ("transmit_packets_dropped", "Cumulative count of packets dropped while transmitting", |i| i.sent[3]),
        ("transmit_packets", "Cumulative count of packets transmitted", |i| i.sent[1]),
    ];
    let networks: Vec<_> = pods
        .iter()
        .filter(|p| p.netns.is_some())
        .filter_map(|p| Some((p, shared.sampler.of(&p.pod.uid)?.at, shared.sampler.network(&p.pod.uid))))
        .collect();
    for (what, help, get) in families {
        let name = format!("container_network_{what}_total");
        f.head_of_cadvisor(&name, "counter", help);
        for (p, at, interfaces) in &networks {
            for i in interfaces {
                let labels = [
                    ("container", ""),
                    ("id", p.pod.uid.as_str()),
                    ("image", ""),
                    ("interface", i.name.as_str()),
                    ("name", ""),
                    ("namespace", p.pod.namespace.as_str()),
                    ("pod", p.pod.name.as_str()),
                ];
                f.line(&name, &labels, get(i) as f64, Some(*at));
            }
        }
    }
}

/// What cgroups may use.
fn bound_families(
    f: &mut Family,
    all: &[(Whose, Sample, Option<Time>)],
    bounds: &[(usize, stoa_runtime::Limits)],
) {
    type Bound = fn(&stoa_runtime::Limits) -> Option<f64>;
    let families: [(&str, &str, Bound); 4] = [
        ("container_spec_cpu_period", "CPU period of the container.", |l| {
            Some(l.cpu_period_us.unwrap_or(100_000) as f64)
        }),
        ("container_spec_cpu_quota", "CPU quota of the container.", |l| l.cpu_quota_us.map(|q| q as f64)),
        ("container_spec_cpu_shares", "CPU share of the container.", |l| l.cpu_shares.map(|s| s as f64)),
        ("container_spec_memory_limit_bytes", "Memory limit for the container.", |l| {
            Some(l.memory_bytes.unwrap_or(0) as f64)
        }),
    ];
    for (name, help, get) in families {
        f.head_of_cadvisor(name, "gauge", help);
        for (at, limits) in bounds {
            if let (Some((whose, _, _)), Some(value)) = (all.get(*at), get(limits)) {
                f.line(name, &whose.labels(&[]), value, None);
            }
        }
    }
}

/// What the machine has.
fn machine_families(f: &mut Family, shared: &Shared) {
    let ids = crate::node::ids();
    let labels = [
        ("boot_id", ids.boot.as_str()),
        ("machine_id", ids.machine.as_str()),
        ("system_uuid", ids.system.as_str()),
    ];
    f.head_of_cadvisor("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    f.line("machine_cpu_cores", &labels, cores as f64, None);
    if let Some((_, used, _)) = shared.sampler.node() {
        f.head_of_cadvisor("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
        f.line("machine_memory_bytes", &labels, used.memory_total as f64, None);
        f.head_of_cadvisor("machine_swap_bytes", "gauge", "Amount of swap memory available on the machine.");
        f.line("machine_swap_bytes", &labels, used.swap_total as f64, None);
    }
    f.head_of_cadvisor(
        "machine_scrape_error",
        "gauge",
        "1 if there was an error while getting machine metrics, 0 otherwise.",
    );
    f.line("machine_scrape_error", &[], 0.0, None);
}
