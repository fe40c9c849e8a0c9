//! What the door counts, in Prometheus' text form.

use crate::state::State;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Series of one metric; beyond that a request is counted as `other`, so that made-up names cost no memory.
const SERIES_LEN_MAX: usize = 4096;

type Labels = (String, String, u16);

#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<Labels, u64>>,
    connections: Arc<AtomicU64>,
    inflight: Arc<AtomicU64>,
    watches: Arc<AtomicU64>,
    panics: AtomicU64,
    checks: Mutex<BTreeMap<(&'static str, String), Check>>,
}

/// How one check of health went, the last time and altogether.
#[derive(Clone, Copy, Default)]
struct Check {
    is_well: bool,
    well: u64,
    failed: u64,
}

/// Counts something for as long as it lives.
pub(crate) struct Open(Arc<AtomicU64>);

impl Open {
    fn new(gauge: &Arc<AtomicU64>) -> Open {
        gauge.fetch_add(1, Ordering::Relaxed);
        Open(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A connection opened.
    pub(crate) fn connection(&self) -> Open {
        Open::new(&self.connections)
    }

    /// A request came in.
    pub(crate) fn request(&self) -> Open {
        Open::new(&self.inflight)
    }

    /// A watch opened.
    pub(crate) fn watch(&self) -> Open {
        Open::new(&self.watches)
    }

    /// A handler panicked.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody asked how a kind of health is, and one check of it went well or did not.
    pub(crate) fn checked(&self, name: &'static str, kind: &str, is_well: bool) {
        let mut checks = self.checks.lock();
        let check = checks.entry((name, kind.to_string())).or_default();
        check.is_well = is_well;
        *(if is_well { &mut check.well } else { &mut check.failed }) += 1;
    }

    /// A request was answered.
    pub(crate) fn answered(&self, verb: &str, resource: &str, code: u16) {
        let mut requests = self.requests.lock();
        let key = (verb.to_string(), resource.to_string(), code);
        if requests.len() >= SERIES_LEN_MAX && !requests.contains_key(&key) {
            *requests.entry(("other".into(), "other".into(), code)).or_default() += 1;
        } else {
            *requests.entry(key).or_default() += 1;
        }
    }
}

/// What promises of service are measured by: how checks of health went, for whoever asked for them.
pub(crate) fn slis(state: &State) -> String {
    let checks = state.metrics.checks.lock();
    let mut out = String::new();
    // Writing to a String cannot fail.
    if !checks.is_empty() {
        let name = "kubernetes_healthcheck";
        let help = "[STABLE] This metric records the result of a single healthcheck.";
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for ((check, kind), c) in checks.iter() {
            let _ = writeln!(out, "{name}{{name={check:?},type={kind:?}}} {}", u8::from(c.is_well));
        }
        let name = "kubernetes_healthchecks_total";
        let help = "[STABLE] This metric records the results of all healthcheck.";
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
        for ((check, kind), c) in checks.iter() {
            for (status, n) in [("error", c.failed), ("success", c.well)].into_iter().filter(|(_, n)| *n > 0)
            {
                let _ = writeln!(out, "{name}{{name={check:?},status={status:?},type={kind:?}}} {n}");
            }
        }
    }
    let name = "process_start_time_seconds";
    let help = "[ALPHA] Start time of the process since unix epoch in seconds.";
    let started = state.started.as_secs_f64();
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {started}\n");
    out
}

/// All metrics.
pub(crate) fn render(state: &State) -> String {
    let m = &state.metrics;
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    let load = |a: &AtomicU64| a.load(Ordering::Relaxed);
    put("stoa_api_connections_count", "gauge", "Open connections.", load(&m.connections));
    put("apiserver_current_inflight_requests", "gauge", "Requests being answered.", load(&m.inflight));
    put("apiserver_longrunning_requests", "gauge", "Open watches.", load(&m.watches));
    put("stoa_api_handler_panics_total", "counter", "Handlers that panicked.", load(&m.panics));
    let store = state.registry.store();
    let stats = store.stats();
    put("stoa_store_revision", "counter", "The store's revision.", store.revision().0);
    put("stoa_store_keys_count", "gauge", "Keys that exist.", stats.keys_len as u64);
    put("stoa_store_live_bytes", "gauge", "Bytes of their values.", stats.live_bytes);
    put("stoa_store_history_count", "gauge", "Events that are kept.", stats.history_len as u64);
    put("stoa_store_history_bytes", "gauge", "Bytes of their values.", stats.history_bytes as u64);
    put("stoa_store_watchers_count", "gauge", "Open store watches.", stats.watchers_len as u64);
    put("stoa_store_queue_count", "gauge", "Transactions waiting for the writer.", stats.queue_len as u64);
    put("stoa_store_log_bytes", "gauge", "Bytes of the log on disk.", stats.log_bytes);
    let name = "apiserver_request_total";
    let _ = write!(out, "# HELP {name} Requests answered.\n# TYPE {name} counter\n");
    for ((verb, resource, code), n) in m.requests.lock().iter() {
        let _ = writeln!(out, "{name}{{verb={verb:?},resource={resource:?},code=\"{code}\"}} {n}");
    }
    out
}
