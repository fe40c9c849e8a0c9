//! Keeps the machine fit: what the [`crate::evict`] keeper finds is told to the leader, and whoever has to go is ended.

use super::Agent;
use crate::events::Kind;
use crate::evict::{Cause, MEASURE_EVERY, Victim};
use crate::plan;
use crate::worker::Nudge;

impl Agent {
    /// Measures the machine, and acts where it runs short of something.
    pub(super) async fn keep_fit(&self) {
        let mut ticks = tokio::time::interval(MEASURE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let verdict = self.keeper.tick(&self.shared).await;
            if verdict.changed {
                self.report.lock().conditions = self.conditions();
                self.report_changed.notify_one();
            }
            for victim in verdict.victims {
                self.evict(victim);
            }
        }
    }

    /// Ends a pod for the sake of the machine.
    fn evict(&self, victim: Victim) {
        let Victim { uid, message, notes, cause, grace } = victim;
        let uid = uid.as_str();
        tracing::warn!(%uid, %message, "evicting a pod");
        let live = self.shared.live.lock().get(uid).map(|l| l.pod.clone());
        if let Some(pod) = live {
            let recorder = &self.shared.recorder;
            recorder.record_noted(&pod, Kind::Warning, plan::EVICTED, message.as_str(), notes);
        }
        let Some(nudge) = self.nudge_of(uid) else { return };
        let condition = (cause == Cause::Others).then(|| message.clone());
        let reason = plan::EVICTED.to_owned();
        let nudged = Nudge::Disrupt { reason, message, condition, grace: Some(grace) };
        if nudge.try_send(nudged).is_err() {
            tracing::warn!(%uid, "a pod that has to go does not listen");
        }
    }
}
