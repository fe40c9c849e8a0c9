//! What is to be said to the leader. Statuses are kept by pod, the latest and at most one that passes before it, so that
//! neither a slow leader nor a long absence makes them pile up; all but what passed is said again on a new session.

use bytes::Bytes;
use indexmap::IndexSet;
use k8s_openapi::api::core::v1::PodStatus;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use stoa_wire::PodRef;
use tokio::sync::Notify;

#[derive(Default)]
struct State {
    /// Older than the latest of the same pod.
    passing: BTreeMap<PodRef, Bytes>,
    latest: BTreeMap<PodRef, Bytes>,
    stopped: BTreeSet<PodRef>,
    dirty: IndexSet<PodRef>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) pod: PodRef,
    /// To be said before `status`.
    pub(crate) passing: Option<Bytes>,
    pub(crate) status: Option<Bytes>,
    pub(crate) stopped: bool,
}

impl Outbox {
    /// A pod's status is now this.
    pub(crate) fn put_status(&self, pod: &PodRef, status: &PodStatus) {
        let Ok(bytes) = serde_json::to_vec(status) else { return };
        let mut state = self.state.lock();
        state.latest.insert(pod.clone(), Bytes::from(bytes));
        state.dirty.insert(pod.clone());
        drop(state);
        self.changed.notify_one();
    }

    /// A pod's status is this for a moment that nobody shall miss.
    pub(crate) fn put_passing(&self, pod: &PodRef, status: &PodStatus) {
        let Ok(bytes) = serde_json::to_vec(status) else { return };
        let bytes = Bytes::from(bytes);
        let mut state = self.state.lock();
        state.passing.insert(pod.clone(), bytes.clone());
        state.latest.insert(pod.clone(), bytes);
        state.dirty.insert(pod.clone());
        drop(state);
        self.changed.notify_one();
    }

    /// A pod that is to be deleted has stopped.
    pub(crate) fn put_stopped(&self, pod: &PodRef) {
        let mut state = self.state.lock();
        if state.stopped.insert(pod.clone()) {
            state.dirty.insert(pod.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Nobody wants to hear any more of whichever pod has this uid.
    pub(crate) fn forget_uid(&self, uid: &str) {
        let mut state = self.state.lock();
        state.passing.retain(|p, _| p.uid != uid);
        state.latest.retain(|p, _| p.uid != uid);
        state.stopped.retain(|p| p.uid != uid);
        state.dirty.retain(|p| p.uid != uid);
    }

    /// Nobody wants to hear of a pod any more.
    pub(crate) fn forget(&self, pod: &PodRef) {
        let mut state = self.state.lock();
        state.passing.remove(pod);
        state.latest.remove(pod);
        state.stopped.remove(pod);
        state.dirty.shift_remove(pod);
    }

    /// A pod's status is said again: the leader knows now whom it is about.
    pub(crate) fn say_again(&self, pod: &PodRef) {
        let mut state = self.state.lock();
        if state.latest.contains_key(pod) {
            state.dirty.insert(pod.clone());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A new session: everything is said again that still holds.
    pub(crate) fn repeat(&self) {
        let mut state = self.state.lock();
        state.passing.clear();
        let all: Vec<PodRef> = state.latest.keys().chain(&state.stopped).cloned().collect();
        state.dirty.extend(all);
        drop(state);
        self.changed.notify_one();
    }

    /// The next thing to say.
    pub(crate) fn take(&self) -> Option<Report> {
        let mut state = self.state.lock();
        let pod = state.dirty.shift_remove_index(0)?;
        let passing = state.passing.remove(&pod);
        // What passes may be the latest still: it is not said twice.
        let status = state.latest.get(&pod).filter(|s| passing.as_ref() != Some(*s)).cloned();
        let stopped = state.stopped.contains(&pod);
        Some(Report { pod, passing, status, stopped })
    }

    /// Waits until there may be something to say.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_status_is_said_and_all_again_on_a_new_session() {
        let outbox = Outbox::default();
        let pod = PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        let status = |phase: &str| PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() };
        outbox.put_status(&pod, &status("Pending"));
        outbox.put_status(&pod, &status("Running"));
        let report = outbox.take().unwrap();
        assert_eq!(report.status.as_deref(), Some(&br#"{"phase":"Running"}"#[..]));
        assert!(!report.stopped && outbox.take().is_none());
        outbox.put_passing(&pod, &status("Over"));
        let passed = outbox.take().unwrap();
        assert_eq!(passed.passing.as_deref(), Some(&br#"{"phase":"Over"}"#[..]));
        assert!(passed.status.is_none());
        outbox.put_passing(&pod, &status("Over"));
        outbox.put_status(&pod, &status("Running"));
        let both = outbox.take().unwrap();
        assert_eq!((both.passing, &both.status), (passed.passing, &report.status));
        outbox.put_passing(&pod, &status("Missed"));
        outbox.put_status(&pod, &status("Running"));
        outbox.put_stopped(&pod);
        outbox.repeat();
        assert_eq!(outbox.take().unwrap(), Report { stopped: true, ..report });
        outbox.forget(&pod);
        outbox.repeat();
        assert!(outbox.take().is_none());
    }
}
