//! The machine is about to go down: pods are ended in order while there is time, the cluster's own last, and their statuses
//! say why.

use super::Agent;
use crate::events::Kind;
use crate::pressure::CRITICAL_PRIORITY;
use crate::worker::Nudge;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stoa_wire::NodeCondition;

/// Of the time there is, the part that is kept for critical pods.
const CRITICAL_SHARE: f64 = 1.0 / 3.0;
/// How often it is looked whether all have ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the last statuses get to reach the leader.
const FAREWELL: Duration = Duration::from_millis(500);

impl Agent {
    /// Waits for the word that the machine goes down, then ends every pod within the time that there is.
    pub(super) async fn power_off(&self) {
        self.shared.options.power_off.cancelled().await;
        let grace = self.shared.options.shutdown_grace;
        self.goes_down.store(true, Ordering::SeqCst);
        tracing::warn!(seconds = grace.as_secs(), "this machine goes down: pods are ended");
        let (recorder, node) = (&self.shared.recorder, &self.shared.options.name);
        recorder.record_node(node, Kind::Normal, "Shutdown", "Shutdown manager detected shutdown event");
        self.report.lock().conditions = self.conditions();
        self.report_changed.notify_one();
        let critical = grace.mul_f64(CRITICAL_SHARE);
        self.end_all(|priority| priority < CRITICAL_PRIORITY, grace - critical).await;
        self.end_all(|priority| priority >= CRITICAL_PRIORITY, critical).await;
        tokio::time::sleep(FAREWELL).await;
    }

    /// The node's conditions, with its readiness where that is over.
    pub(super) fn conditions(&self) -> Vec<NodeCondition> {
        let mut all = self.keeper.conditions();
        if self.goes_down.load(Ordering::SeqCst) {
            all.push(NodeCondition {
                kind: "Ready".to_owned(),
                status: "False".to_owned(),
                reason: "KubeletNotReady".to_owned(),
                message: "node is shutting down".to_owned(),
            });
        }
        all
    }

    /// Ends all pods of these priorities, also those of which nothing was made yet, each within what there is of time.
    async fn end_all(&self, is_one: impl Fn(i32) -> bool, grace: Duration) {
        let priority =
            |live: &crate::shared::LivePod| live.object.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
        let wanted: Vec<String> = {
            let live = self.shared.live.lock();
            let of_class = live.values().filter(|l| l.is_active && is_one(priority(l)));
            of_class.map(|l| l.pod.uid.clone()).collect()
        };
        for uid in &wanted {
            let Some(nudge) = self.nudge_of(uid) else { continue };
            let message = "Pod was terminated in response to imminent node shutdown.".to_owned();
            let (reason, condition) = ("Terminated".to_owned(), Some(message.clone()));
            let _ = nudge.send(Nudge::Disrupt { reason, message, condition, grace: Some(grace) }).await;
        }
        let all_ended = async {
            while self.shared.live.lock().iter().any(|(uid, l)| l.connected && wanted.contains(uid)) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(grace, all_ended).await.is_err() {
            tracing::warn!("some pods did not end in time; what is left of them is swept at the next start");
        }
    }
}
