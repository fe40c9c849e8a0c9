//! How often probes were made and how long they took: `metrics/probes`; and how checks of the agent's own health went:
//! `metrics/slis`. With a kubelet's names and labels.

use crate::summary::{Family, Stability};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stoa_units::Time;
use stoa_wire::PodRef;

/// Upper ends of the buckets that durations are counted in, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const TOTAL: &str = "prober_probe_total";
const SECONDS: &str = "prober_probe_duration_seconds";

#[derive(Default)]
struct Histogram {
    /// How many took no longer than each end.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct State {
    /// By container, namespace, pod, its uid, which probe, and result.
    results: BTreeMap<[String; 6], u64>,
    /// By container, namespace, pod, and which probe.
    durations: BTreeMap<[String; 4], Histogram>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct ProbeCounts(Mutex<State>);

impl ProbeCounts {
    /// Counts a probe; how long it took is of interest where it succeeded.
    pub(crate) fn count(&self, pod: &PodRef, container: &str, which: &str, took: Option<Duration>) {
        let result = if took.is_some() { "successful" } else { "failed" };
        let mut state = self.0.lock();
        let key = [container, &pod.namespace, &pod.name, &pod.uid, which, result].map(str::to_owned);
        *state.results.entry(key).or_default() += 1;
        let Some(took) = took.map(|d| d.as_secs_f64()) else { return };
        let key = [container, &pod.namespace, &pod.name, which].map(str::to_owned);
        let histogram = state.durations.entry(key).or_default();
        let ends = histogram.buckets.iter_mut().zip(BUCKETS);
        ends.filter(|(_, end)| took <= *end).for_each(|(bucket, _)| *bucket += 1);
        histogram.count += 1;
        histogram.sum += took;
    }

    /// Forgets a pod that is gone.
    pub(crate) fn forget(&self, pod: &PodRef) {
        let mut state = self.0.lock();
        state.results.retain(|[_, _, _, uid, ..], _| *uid != pod.uid);
        state.durations.retain(|[_, namespace, name, _], _| (namespace, name) != (&pod.namespace, &pod.name));
    }

    /// All of it, as Prometheus reads it.
    pub(crate) fn render(&self, begun: Time) -> String {
        let state = self.0.lock();
        let mut f = Family::default();
        if !state.durations.is_empty() {
            f.head_at(Stability::Alpha, SECONDS, "histogram", "Duration in seconds for a probe response.");
        }
        for ([container, namespace, pod, which], histogram) in &state.durations {
            let labels = [
                ("container", container.as_str()),
                ("namespace", namespace),
                ("pod", pod),
                ("probe_type", which),
            ];
            let bucket = format!("{SECONDS}_bucket");
            for (count, end) in histogram.buckets.iter().zip(BUCKETS) {
                let end = end.to_string();
                f.line(&bucket, &[&labels[..], &[("le", &end)]].concat(), *count as f64, None);
            }
            f.line(&bucket, &[&labels[..], &[("le", "+Inf")]].concat(), histogram.count as f64, None);
            f.line(&format!("{SECONDS}_sum"), &labels, histogram.sum, None);
            f.line(&format!("{SECONDS}_count"), &labels, histogram.count as f64, None);
        }
        if !state.results.is_empty() {
            let help =
                "Cumulative number of a liveness, readiness or startup probe for a container by result.";
            f.head_at(Stability::Beta, TOTAL, "counter", help);
        }
        for ([container, namespace, pod, uid, which, result], count) in &state.results {
            let labels = [
                ("container", container.as_str()),
                ("namespace", namespace),
                ("pod", pod),
                ("pod_uid", uid),
                ("probe_type", which),
                ("result", result),
            ];
            f.line(TOTAL, &labels, *count as f64, None);
        }
        f.start(begun);
        f.out
    }
}

/// What `/healthz` looks at, as a kubelet names it.
const CHECKS: [&str; 3] = ["log", "ping", "syncloop"];

/// How checks of health went, each time that somebody asked for all of them: `metrics/slis`. An agent that answers is well.
#[derive(Debug, Default)]
pub(crate) struct HealthCounts(AtomicU64);

impl HealthCounts {
    /// Somebody asked.
    pub(crate) fn asked(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it, as Prometheus reads it.
    pub(crate) fn render(&self, begun: Time) -> String {
        let times = self.0.load(Ordering::Relaxed);
        let mut f = Family::default();
        if times > 0 {
            let name = "kubernetes_healthcheck";
            f.head_at(
                Stability::Stable,
                name,
                "gauge",
                "This metric records the result of a single healthcheck.",
            );
            for check in CHECKS {
                f.line(name, &[("name", check), ("type", "healthz")], 1.0, None);
            }
            let name = "kubernetes_healthchecks_total";
            f.head_at(
                Stability::Stable,
                name,
                "counter",
                "This metric records the results of all healthcheck.",
            );
            for check in CHECKS {
                let labels = [("name", check), ("status", "success"), ("type", "healthz")];
                f.line(name, &labels, times as f64, None);
            }
        }
        f.start(begun);
        f.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_counted_until_their_pod_is_gone() {
        let counts = ProbeCounts::default();
        let pod = PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        counts.count(&pod, "c", "Liveness", Some(Duration::from_millis(20)));
        counts.count(&pod, "c", "Liveness", Some(Duration::from_millis(300)));
        counts.count(&pod, "c", "Liveness", None);
        let text = counts.render(Time::EPOCH);
        let of = "container=\"c\",namespace=\"n\",pod=\"p\",";
        for line in [
            format!("{SECONDS}_bucket{{{of}probe_type=\"Liveness\",le=\"0.01\"}} 0\n"),
            format!("{SECONDS}_bucket{{{of}probe_type=\"Liveness\",le=\"0.25\"}} 1\n"),
            format!("{SECONDS}_bucket{{{of}probe_type=\"Liveness\",le=\"1\"}} 2\n"),
            format!("{SECONDS}_bucket{{{of}probe_type=\"Liveness\",le=\"+Inf\"}} 2\n"),
            format!("{SECONDS}_sum{{{of}probe_type=\"Liveness\"}} 0.32\n"),
            format!("{SECONDS}_count{{{of}probe_type=\"Liveness\"}} 2\n"),
            format!("{TOTAL}{{{of}pod_uid=\"u\",probe_type=\"Liveness\",result=\"successful\"}} 2\n"),
            format!("{TOTAL}{{{of}pod_uid=\"u\",probe_type=\"Liveness\",result=\"failed\"}} 1\n"),
            format!("# TYPE {SECONDS} histogram\n"),
            format!("# HELP {TOTAL} [BETA] Cumulative number of a liveness"),
        ] {
            assert!(text.contains(&line), "{line}{text}");
        }
        counts.forget(&pod);
        assert!(!counts.render(Time::EPOCH).contains("prober"));
    }
}
