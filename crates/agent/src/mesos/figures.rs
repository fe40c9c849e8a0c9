//! What containers and the machine use, by the names that Mesos' exporters read.

use super::tasks::Entry;
use super::view;
use crate::shared::Shared;
use serde_json::{Map, Value, json};
use stoa_mesos::TaskState;
use stoa_units::Resources;

const MIB: f64 = 1_048_576.0;

/// A pod's `ResourceStatistics`; the container's own time is not told apart by user and system.
pub(crate) fn statistics(shared: &Shared, entry: &Entry) -> Value {
    let limit = entry.resources();
    let mut out = json!({
        "timestamp": shared.now().as_secs_f64(), "cpus_limit": limit.milli_cpu as f64 / 1000.0,
        "mem_limit_bytes": limit.memory_bytes, "disk_limit_bytes": limit.disk_bytes,
    });
    if let Some(sample) = shared.sampler.of(&entry.uid) {
        let stats = sample.stats;
        for (key, value) in [
            ("timestamp", json!(sample.at.as_secs_f64())),
            ("cpus_user_time_secs", json!(stats.cpu_usage_ns as f64 / 1e9)),
            ("cpus_system_time_secs", json!(0.0)),
            ("mem_total_bytes", json!(stats.memory_usage_bytes)),
            ("mem_rss_bytes", json!(stats.memory_rss_bytes)),
            ("mem_anon_bytes", json!(stats.memory_rss_bytes)),
            ("processes", json!(stats.pids)),
        ] {
            out[key] = value;
        }
    }
    out
}

/// `/metrics/snapshot`.
pub(crate) fn metrics(shared: &Shared) -> Map<String, Value> {
    let mut out = Map::new();
    let mut put = |name: &str, value: f64| drop(out.insert(name.into(), value.into()));
    let all = shared.tasks.list();
    put("slave/uptime_secs", shared.now().since(shared.started).as_secs_f64());
    put("slave/registered", 1.0);
    put("slave/recovery_errors", 0.0);
    let live: Vec<&Entry> = all.iter().filter(|e| e.is_live()).collect();
    let frameworks: std::collections::BTreeSet<&str> = live.iter().map(|e| e.framework.as_str()).collect();
    put("slave/frameworks_active", frameworks.len() as f64);
    let executors = |want: bool| live.iter().filter(|e| e.is_running() == want).count() as f64;
    put("slave/executors_running", executors(true));
    put("slave/executors_registering", executors(false));
    put("slave/executors_terminating", 0.0);
    put("slave/executors_terminated", (all.len() - live.len()) as f64);
    let tasks: Vec<TaskState> = all.iter().flat_map(|e| view::tasks_of(shared, e)).map(|t| t.state).collect();
    for state in TaskState::COUNTED {
        put(&format!("slave/{}", state.metric()), tasks.iter().filter(|s| **s == state).count() as f64);
    }
    let total = view::resources(shared);
    let used = live.iter().fold(Resources::default(), |sum, e| sum.plus(&e.resources()));
    for (name, total, used) in [
        ("cpus", total.milli_cpu as f64 / 1000.0, used.milli_cpu as f64 / 1000.0),
        ("mem", total.memory_bytes as f64 / MIB, used.memory_bytes as f64 / MIB),
        ("disk", total.disk_bytes as f64 / MIB, used.disk_bytes as f64 / MIB),
        ("gpus", total.extended_milli("gpus") as f64 / 1000.0, used.extended_milli("gpus") as f64 / 1000.0),
    ] {
        put(&format!("slave/{name}_total"), total);
        put(&format!("slave/{name}_used"), used);
        put(&format!("slave/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
    }
    if let Some((_, machine, _)) = shared.sampler.node() {
        put("system/mem_total_bytes", machine.memory_total as f64);
        put("system/mem_free_bytes", machine.memory_available as f64);
    }
    put("system/cpus_total", std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let loads = ["1min", "5min", "15min"].into_iter().zip(load.split_whitespace());
    for (name, value) in loads.filter_map(|(name, v)| Some((name, v.parse::<f64>().ok()?))) {
        put(&format!("system/load_{name}"), value);
    }
    out
}
