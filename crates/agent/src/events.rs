//! What people are told: events, counted where the same thing happens again, and held to a rate where it happens often.

use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use stoa_units::{Clock, Time};
use stoa_wire::{Occurrence, PodRef};
use tokio::sync::mpsc;

/// Different occurrences remembered; the oldest are forgotten, and counted anew should they come back.
const OCCURRENCES_MAX: usize = 4_096;
/// Occurrences that wait for the session; more are dropped, since events are a courtesy.
pub(crate) const QUEUE_LEN_MAX: usize = 1_024;
/// A pod's burst of events, …
const BURST: f64 = 25.0;
/// … refilled at one in five minutes, as a kubelet's spam filter has it.
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// How grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// None where it is about the node.
    pod: Option<PodRef>,
    field_path: String,
    kind: Kind,
    reason: Cow<'static, str>,
    message: String,
}

struct Counted {
    count: u32,
    first: Time,
    last: Time,
    name: String,
}

#[derive(Default)]
struct State {
    seen: HashMap<Key, Counted>,
    tokens: HashMap<String, (f64, Time)>,
}

/// Records events.
#[derive(Clone)]
pub(crate) struct Recorder {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    out: mpsc::Sender<Occurrence>,
}

impl Recorder {
    pub(crate) fn new(clock: Arc<dyn Clock>, out: mpsc::Sender<Occurrence>) -> Recorder {
        Recorder { state: Arc::default(), clock, out }
    }

    /// Records that something happened to a pod, or to one of its containers.
    pub(crate) fn record(
        &self,
        pod: &PodRef,
        container: Option<Place<'_>>,
        kind: Kind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        let field_path = container.map_or(String::new(), |c| c.path());
        let (reason, message) = (reason.into(), message.into());
        let key = Key { pod: Some(pod.clone()), field_path, kind, reason, message };
        self.put(key, &pod.name, BTreeMap::new());
    }

    /// Records that something happened to a pod, with notes for programs.
    pub(crate) fn record_noted(
        &self,
        pod: &PodRef,
        kind: Kind,
        reason: &'static str,
        message: impl Into<String>,
        notes: BTreeMap<String, String>,
    ) {
        let (reason, message) = (reason.into(), message.into());
        let key = Key { pod: Some(pod.clone()), field_path: String::new(), kind, reason, message };
        self.put(key, &pod.name, notes);
    }

    /// Records that something happened to the node itself.
    pub(crate) fn record_node(
        &self,
        node: &str,
        kind: Kind,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let (reason, message) = (reason.into(), message.into());
        let key = Key { pod: None, field_path: String::new(), kind, reason, message };
        self.put(key, node, BTreeMap::new());
    }

    fn put(&self, key: Key, whose: &str, annotations: BTreeMap<String, String>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        // The node itself has no uid among those of pods.
        let uid = key.pod.as_ref().map_or("", |pod| pod.uid.as_str());
        if !take_token(&mut state.tokens, uid, now) {
            return;
        }
        if state.seen.len() >= OCCURRENCES_MAX && !state.seen.contains_key(&key) {
            let oldest = state.seen.iter().min_by_key(|(_, c)| c.last).map(|(k, _)| k.clone());
            oldest.and_then(|k| state.seen.remove(&k));
        }
        let counted = state.seen.entry(key.clone()).or_insert_with(|| {
            let nanos = now.0.as_nanosecond() as u64;
            let salt = uuid::Uuid::new_v4().as_u128() as u16;
            Counted { count: 0, first: now, last: now, name: format!("{whose}.{nanos:x}{salt:04x}") }
        });
        counted.count += 1;
        counted.last = now;
        let occurrence = Occurrence {
            pod: key.pod,
            field_path: key.field_path,
            kind: if key.kind == Kind::Normal { "Normal" } else { "Warning" }.to_owned(),
            reason: key.reason.into_owned(),
            message: key.message,
            count: counted.count,
            first: counted.first.to_rfc3339_seconds(),
            last: counted.last.to_rfc3339_seconds(),
            name: counted.name.clone(),
            annotations,
        };
        drop(state);
        tracing::debug!(%whose, reason = %occurrence.reason, message = %occurrence.message, "event");
        let _ = self.out.try_send(occurrence);
    }

    /// Forgets a pod.
    pub(crate) fn forget(&self, pod: &PodRef) {
        let mut state = self.state.lock();
        state.seen.retain(|k, _| k.pod.as_ref() != Some(pod));
        state.tokens.remove(&pod.uid);
    }
}

fn take_token(tokens: &mut HashMap<String, (f64, Time)>, uid: &str, now: Time) -> bool {
    let (left, at) = tokens.get(uid).copied().unwrap_or((BURST, now));
    let left = (left + now.since(at).as_secs_f64() * REFILL_PER_SECOND).min(BURST);
    let granted = left >= 1.0;
    tokens.insert(uid.to_owned(), (if granted { left - 1.0 } else { left }, now));
    granted
}

/// Names a container in an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) list: &'static str,
    pub(crate) name: &'a str,
}

impl Place<'_> {
    fn path(self) -> String {
        format!("spec.{}{{{}}}", self.list, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_units::ManualClock;

    #[test]
    fn the_same_again_is_counted_and_a_flood_is_cut() {
        let (tx, mut rx) = mpsc::channel(100);
        let recorder = Recorder::new(Arc::new(ManualClock::new(Time::EPOCH)), tx);
        let pod = PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        let place = Place { list: "containers", name: "c" };
        for _ in 0..40 {
            recorder.record(&pod, Some(place), Kind::Warning, "BackOff", "m");
        }
        let mut got = Vec::new();
        while let Ok(o) = rx.try_recv() {
            got.push(o);
        }
        assert_eq!(got.len(), 25);
        assert_eq!((got[0].count, got[24].count), (1, 25));
        assert_eq!(got[0].name, got[24].name);
        assert_eq!(got[0].field_path, "spec.containers{c}");
    }

    #[test]
    fn what_happens_to_the_node_is_counted_too() {
        let (tx, mut rx) = mpsc::channel(100);
        let recorder = Recorder::new(Arc::new(ManualClock::new(Time::EPOCH)), tx);
        for message in ["a", "b", "a"] {
            recorder.record_node("n1", Kind::Warning, "EvictionThresholdMet", message);
        }
        recorder.forget(&PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() });
        recorder.record_node("n1", Kind::Warning, "EvictionThresholdMet", "a");
        let got: Vec<Occurrence> = std::iter::from_fn(|| rx.try_recv().ok()).collect();
        assert_eq!(got.iter().map(|o| o.count).collect::<Vec<_>>(), [1, 1, 2, 3]);
        assert!(got[0].name == got[3].name && got[0].name != got[1].name);
        assert!(got.iter().all(|o| o.pod.is_none() && o.name.starts_with("n1.")));
    }
}
