//! Figures as a kubelet gives them out: the summary in JSON, and the metrics that Prometheus reads. Pure but for the look at
//! the samples.

use crate::limits;
use crate::shared::{LivePod, Shared};
use crate::sizes::{Places, Sizes};
use crate::stats::{Disk, Interface, Sample, read_disk};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use stoa_runtime::{DiskIo, Pressure, Stall};
use stoa_units::Time;

/// Where in a sample's pressures the figures of each are.
const CPU: usize = 0;
const MEMORY: usize = 1;
const IO: usize = 2;

/// How those whose sample it is were held up for want of CPU, memory or disk; never, where the kernel does not count it.
fn held_up(sample: &Sample, what: usize) -> Value {
    let pressure = sample.stats.pressure.map(|all| all[what]).unwrap_or_default();
    let figures = |stall: &Stall| {
        let [last_10, last_60, last_300] = stall.averages.map(|n| f64::from(n) / 100.0);
        json!({"total": stall.total_us, "avg10": last_10, "avg60": last_60, "avg300": last_300})
    };
    json!({"full": figures(&pressure.full), "some": figures(&pressure.some)})
}

fn io(sample: &Sample) -> Value {
    json!({"time": sample.at.to_rfc3339_seconds(), "psi": held_up(sample, IO)})
}

fn cpu(sample: &Sample) -> Value {
    let mut out =
        json!({"time": sample.at.to_rfc3339_seconds(), "usageCoreNanoSeconds": sample.stats.cpu_usage_ns});
    if let Some(rate) = sample.nano_cores {
        out["usageNanoCores"] = rate.into();
    }
    out["psi"] = held_up(sample, CPU);
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
    out["psi"] = held_up(sample, MEMORY);
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
            "cpu": cpu(&all), "memory": memory(&all), "io": io(&all),
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
            "io": io(&sample), "logs": share(disk, size(logs), now), "swap": swap(&sample)});
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
        out["io"] = io(&sample);
        out["process_stats"] = json!({"process_count": sample.stats.processes});
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

const OF_CGROUPS: [OfCgroup; 16] = [
    ("container_cpu_cfs_periods_total", "counter", "Periods of the CPU quota that have passed.", &[], |s| {
        s.stats.cpu_periods[0] as f64
    }),
    (
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Periods in which the CPU quota was used up.",
        &[],
        |s| s.stats.cpu_periods[1] as f64,
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Time spent waiting for the next period of the CPU quota.",
        &[],
        |s| seconds(s.stats.cpu_periods[2]),
    ),
    (
        "container_cpu_system_seconds_total",
        "counter",
        "CPU time spent in the kernel, in seconds.",
        &[],
        |s| seconds(s.stats.cpu_system_ns),
    ),
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "CPU time spent, in seconds.",
        &[("cpu", "total")],
        |s| seconds(s.stats.cpu_usage_ns),
    ),
    (
        "container_cpu_user_seconds_total",
        "counter",
        "CPU time spent outside the kernel, in seconds.",
        &[],
        |s| seconds(s.stats.cpu_user_ns),
    ),
    ("container_last_seen", "gauge", "When these figures were taken, in seconds since 1970.", &[], |s| {
        s.at.0.as_second() as f64
    }),
    ("container_memory_cache", "gauge", "Memory that holds contents of files, in bytes.", &[], |s| {
        s.stats.memory_cache_bytes as f64
    }),
    ("container_memory_rss", "gauge", "Memory that holds no contents of files, in bytes.", &[], |s| {
        s.stats.memory_rss_bytes as f64
    }),
    ("container_memory_swap", "gauge", "Memory that was moved to disk, in bytes.", &[], |s| {
        s.stats.memory_swap_bytes as f64
    }),
    (
        "container_memory_usage_bytes",
        "gauge",
        "Memory that is charged, whatever it was last used for, in bytes.",
        &[],
        |s| s.stats.memory_usage_bytes as f64,
    ),
    (
        "container_memory_working_set_bytes",
        "gauge",
        "Memory that cannot be taken back at once, in bytes.",
        &[],
        |s| s.stats.memory_working_set_bytes as f64,
    ),
    (
        "container_oom_events_total",
        "counter",
        "How often something was killed for lack of memory.",
        &[],
        |s| s.stats.oom_kills as f64,
    ),
    ("container_processes", "gauge", "Processes that are there now.", &[], |s| s.stats.processes as f64),
    ("container_threads", "gauge", "Threads that are there now.", &[], |s| s.stats.pids as f64),
    ("container_threads_max", "gauge", "Bound on the threads, 0 for none.", &[], |s| s.stats.pids_max as f64),
];

/// `metrics/cadvisor`: those of its families that dashboards live on.
pub(crate) fn cadvisor(shared: &Shared) -> String {
    let mut f = Family::default();
    let pods = live(shared);
    let mut all: Vec<(Whose, Sample, Option<Time>)> = Vec::new();
    let mut bounds: Vec<(usize, stoa_runtime::Limits)> = Vec::new();
    // By what the machine knows each: a pod, or one of its containers.
    let mut keys: Vec<Key> = Vec::new();
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
            keys.push(Key::Pod(live.pod.uid.clone()));
        }
        for (name, c) in &live.containers {
            let Some(id) = c.running.as_deref() else { continue };
            let Some(sample) = shared.sampler.of(id) else { continue };
            if let Some((_, container)) = crate::pod::find(&live.object, name) {
                bounds.push((all.len(), limits::of_container(&live.object, container)));
            }
            all.push((whose(name, id, &c.image), sample, c.started_at));
            keys.push(Key::Container(id.to_owned()));
        }
    }
    let (kernel, os) = (crate::node::kernel(), crate::node::os_image());
    f.head_of_cadvisor(
        "cadvisor_version_info",
        "gauge",
        "Always 1; the labels say which kernel and which system this machine runs.",
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
        "Page faults, and those of them that read a disk.",
    );
    for (whose, sample, _) in &all {
        for (kind, count) in ["pgfault", "pgmajfault"].iter().zip(sample.stats.page_faults) {
            let labels = whose.labels(&[("failure_type", kind), ("scope", "hierarchy")]);
            f.line("container_memory_failures_total", &labels, count as f64, Some(sample.at));
        }
    }
    pressure_families(&mut f, &all);
    disk_families(&mut f, shared, &all, &keys);
    network_families(&mut f, shared, &pods);
    bound_families(&mut f, &all, &bounds);
    f.head_of_cadvisor(
        "container_start_time_seconds",
        "gauge",
        "When it was started, in seconds since 1970.",
    );
    for (whose, _, started) in &all {
        if let Some(started) = started {
            f.line("container_start_time_seconds", &whose.labels(&[]), started.0.as_second() as f64, None);
        }
    }
    f.head_of_cadvisor("container_scrape_error", "gauge", "Whether figures of containers could not be read.");
    f.line("container_scrape_error", &[], 0.0, None);
    machine_families(&mut f, shared);
    f.out
}

/// A cgroup, as the machine is asked for it.
enum Key {
    Pod(String),
    Container(String),
}

/// How those in a cgroup were held up, where the kernel counts that.
fn pressure_families(f: &mut Family, all: &[(Whose, Sample, Option<Time>)]) {
    type Held = fn(&Pressure) -> u64;
    let kinds: [(&str, &str, Held); 2] = [
        ("stalled", "all of its tasks", |p| p.full.total_us),
        ("waiting", "some of its tasks", |p| p.some.total_us),
    ];
    for (what, name) in [(CPU, "cpu"), (IO, "io"), (MEMORY, "memory")] {
        for (kind, whom, get) in kinds {
            let held: Vec<_> = all
                .iter()
                .filter_map(|(whose, s, _)| Some((whose, s.at, get(&s.stats.pressure?[what]))))
                .collect();
            if held.is_empty() {
                continue;
            }
            let family = format!("container_pressure_{name}_{kind}_seconds_total");
            let help = format!("Time in which {whom} were held up for want of {name}, in seconds.");
            f.head_of_cadvisor(&family, "counter", &help);
            for (whose, at, us) in held {
                f.line(&family, &whose.labels(&[]), us as f64 / 1e6, Some(at));
            }
        }
    }
}

/// What went between cgroups and disks.
fn disk_families(f: &mut Family, shared: &Shared, all: &[(Whose, Sample, Option<Time>)], keys: &[Key]) {
    let machine = &shared.machine;
    let mut names: BTreeMap<(u32, u32), String> = BTreeMap::new();
    let mut found: Vec<(&Whose, Time, DiskIo)> = Vec::new();
    for ((whose, sample, _), key) in all.iter().zip(keys) {
        let io = match key {
            Key::Pod(uid) => machine.pod_disk_io(uid),
            Key::Container(id) => machine.disk_io(id),
        };
        for io in io {
            names.entry(io.device).or_insert_with(|| device_name(io.device));
            found.push((whose, sample.at, io));
        }
    }
    if found.is_empty() {
        return;
    }
    let family = "container_blkio_device_usage_total";
    f.head_of_cadvisor(family, "counter", "Bytes that went between it and a device, by direction.");
    for (whose, at, io) in &found {
        let (major, minor) = (io.device.0.to_string(), io.device.1.to_string());
        for (operation, bytes) in ["Read", "Write"].iter().zip(io.bytes) {
            let more: [(&str, &str); 4] = [
                ("device", &names[&io.device]),
                ("major", &major),
                ("minor", &minor),
                ("operation", operation),
            ];
            f.line(family, &whose.labels(&more), bytes as f64, Some(*at));
        }
    }
    type Count = fn(&DiskIo) -> u64;
    let families: [(&str, &str, Count); 4] = [
        ("reads_bytes", "Bytes read from a device", |io| io.bytes[0]),
        ("reads", "Operations that read from a device", |io| io.operations[0]),
        ("writes_bytes", "Bytes written to a device", |io| io.bytes[1]),
        ("writes", "Operations that wrote to a device", |io| io.operations[1]),
    ];
    for (what, help, get) in families {
        let family = format!("container_fs_{what}_total");
        f.head_of_cadvisor(&family, "counter", help);
        for (whose, at, io) in &found {
            f.line(&family, &whose.labels(&[("device", &names[&io.device])]), get(io) as f64, Some(*at));
        }
    }
}

/// How a device is called below `/dev`; nothing where it has no name.
fn device_name((major, minor): (u32, u32)) -> String {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map(|name| format!("/dev/{name}")).unwrap_or_default()
}

/// What went through the networks of pods that have one.
fn network_families(f: &mut Family, shared: &Shared, pods: &[LivePod]) {
    type Count = fn(&Interface) -> u64;
    let families: [(&str, &str, Count); 8] = [
        ("receive_bytes", "Bytes that came in", |i| i.received[0]),
        ("receive_errors", "Errors on what came in", |i| i.received[2]),
        ("receive_packets_dropped", "Packets that came in and were dropped", |i| i.received[3]),
        ("receive_packets", "Packets that came in", |i| i.received[1]),
        ("transmit_bytes", "Bytes that went out", |i| i.sent[0]),
        ("transmit_errors", "Errors on what went out", |i| i.sent[2]),
        ("transmit_packets_dropped", "Packets that were to go out and were dropped", |i| i.sent[3]),
        ("transmit_packets", "Packets that went out", |i| i.sent[1]),
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
        ("container_spec_cpu_period", "Length of a period of the CPU quota, in microseconds.", |l| {
            Some(l.cpu_period_us.unwrap_or(100_000) as f64)
        }),
        ("container_spec_cpu_quota", "CPU time there is in each period, in microseconds.", |l| {
            l.cpu_quota_us.map(|q| q as f64)
        }),
        ("container_spec_cpu_shares", "Weight among those that want the same CPU.", |l| {
            l.cpu_shares.map(|s| s as f64)
        }),
        ("container_spec_memory_limit_bytes", "Bound on the memory, 0 for none, in bytes.", |l| {
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
    f.head_of_cadvisor("machine_cpu_cores", "gauge", "CPUs that programs see.");
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    f.line("machine_cpu_cores", &labels, cores as f64, None);
    if let Some((_, used, _)) = shared.sampler.node() {
        f.head_of_cadvisor("machine_memory_bytes", "gauge", "Memory of the machine, in bytes.");
        f.line("machine_memory_bytes", &labels, used.memory_total as f64, None);
        f.head_of_cadvisor("machine_swap_bytes", "gauge", "Disk on which memory can be put, in bytes.");
        f.line("machine_swap_bytes", &labels, used.swap_total as f64, None);
    }
    f.head_of_cadvisor("machine_scrape_error", "gauge", "Whether the machine's figures could not be read.");
    f.line("machine_scrape_error", &[], 0.0, None);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pressure: Option<[Pressure; 3]>) -> Sample {
        let stats = stoa_runtime::Stats { pressure, ..Default::default() };
        Sample { at: Time::EPOCH, stats, nano_cores: None }
    }

    fn stall(total_us: u64) -> Stall {
        Stall { averages: [1, 250, 10_000], total_us }
    }

    #[test]
    fn how_long_somebody_was_held_up_is_told_where_the_kernel_counts_it() {
        let whose = || Whose {
            container: "c".to_owned(),
            id: "/x".to_owned(),
            image: String::new(),
            name: String::new(),
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
        };
        let mut f = Family::default();
        pressure_families(&mut f, &[(whose(), sample(None), None)]);
        assert_eq!(f.out, "");
        let of = |n| Pressure { some: stall(n), full: stall(n + 1) };
        let counted = sample(Some([of(1_500_000), of(2), of(3)]));
        pressure_families(&mut f, &[(whose(), sample(None), None), (whose(), counted, None)]);
        let labels = r#"{container="c",id="/x",image="",name="",namespace="n",pod="p"}"#;
        assert!(
            f.out.contains(&format!("\ncontainer_pressure_cpu_waiting_seconds_total{labels} 1.5 0\n")),
            "{}",
            f.out
        );
        assert!(
            f.out.contains(&format!("\ncontainer_pressure_io_stalled_seconds_total{labels} 0.000004 0\n"))
        );
        assert_eq!(f.out.matches("# TYPE ").count(), 6);
    }

    #[test]
    fn the_summary_tells_of_being_held_up_in_per_cent_and_microseconds() {
        let counted = sample(Some([
            Pressure { some: stall(7), full: Stall::default() },
            Pressure::default(),
            Pressure::default(),
        ]));
        let none = json!({"total": 0, "avg10": 0.0, "avg60": 0.0, "avg300": 0.0});
        let some = json!({"total": 7, "avg10": 0.01, "avg60": 2.5, "avg300": 100.0});
        assert_eq!(cpu(&counted)["psi"], json!({"full": none, "some": some}));
        assert_eq!(memory(&sample(None))["psi"], json!({"full": none, "some": none}));
    }
}
