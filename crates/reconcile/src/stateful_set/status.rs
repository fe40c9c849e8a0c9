//! A stateful set's status: counts by revision, and the two revisions between which it moves.

use super::Troupe;
use crate::Action;
use crate::deployment::differs;
use crate::revisions::name;
use serde_json::{Value, json};

impl Troupe<'_> {
    /// Writes the status if it differs. It comes before anything that may fail: it says what is, not what will be.
    pub(super) fn write_status(&mut self) {
        let (mut replicas, mut ready, mut available, mut current, mut updated) = (0, 0, 0, 0, 0);
        let mut times = Vec::new();
        for pod in self.members.values().chain(self.surplus.values()) {
            replicas += i64::from(!pod.phase.is_empty());
            if self.is_running_and_ready(pod) {
                ready += 1;
                available += i64::from(self.is_running_and_available(pod));
                times.extend(pod.available_at(self.min_ready()));
            }
            if !pod.deleting {
                let revision = Self::revision_label(pod);
                current += i64::from(revision == name(&self.current));
                updated += i64::from(revision == name(&self.update));
            }
        }
        let now = self.world.now;
        if let Some(at) = times.into_iter().filter(|t| *t > now).min() {
            self.actions.push(Action::Again { at });
        }
        let mut revision = name(&self.current).to_string();
        if self.rolls() && [updated, ready, replicas].iter().all(|n| *n == self.replicas()) {
            revision = name(&self.update).to_string();
            current = updated;
        }
        let old = self.set.status.as_ref();
        let count = |n: i64| if n == 0 { Value::Null } else { n.into() };
        let patch = json!({"status": {
            "observedGeneration": self.set.metadata.generation,
            "replicas": replicas,
            "readyReplicas": count(ready),
            "availableReplicas": available,
            "currentReplicas": count(current),
            "updatedReplicas": count(updated),
            "currentRevision": revision,
            "updateRevision": name(&self.update),
            "collisionCount": old.and_then(|s| s.collision_count).unwrap_or(0),
        }});
        // Zero is said where the stock controller says it, so that clients which wait for the field find it.
        let silent = old.is_none_or(|s| s.collision_count.is_none());
        if silent || differs(&json!(self.set.status), &patch["status"]) {
            self.actions.push(Action::Patch { id: self.id.clone(), subresource: "status", patch });
        }
    }
}
