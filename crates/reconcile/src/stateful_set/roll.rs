//! The rolling update of a stateful set: from the highest ordinal down to the partition, one pod after the other, or as many
//! as may be unavailable. Nothing is remembered between looks: a pod that is not as the template says and may go, goes.

use super::Troupe;
use crate::Pod;
use crate::deployment::{Round, scaled};
use crate::revisions::name;
use std::sync::Arc;

impl Troupe<'_> {
    /// The index below which pods keep the revision that they have.
    fn partition(&self) -> i64 {
        let strategy = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        strategy.and_then(|r| r.partition).unwrap_or(0).max(0).into()
    }

    /// Whether a pod of this ordinal, made now, is still one of the current revision.
    pub(super) fn is_held_back(&self, n: i64) -> bool {
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let status = self.set.status.as_ref();
        let held = match rolling {
            Some(_) => self.partition(),
            None => status.and_then(|s| s.current_replicas).unwrap_or(0).into(),
        };
        self.rolls() && n < self.start() + held
    }

    /// How many may be unavailable at a time, where that was said.
    fn unavailable_max(&self) -> Option<usize> {
        let strategy = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let max = strategy.and_then(|r| r.max_unavailable.as_ref())?;
        let total = i32::try_from(self.replicas()).unwrap_or(i32::MAX);
        // A share that comes to nothing is one: otherwise no step could be taken.
        Some(usize::try_from(scaled(max, total, Round::Up)).unwrap_or(0).max(1))
    }

    /// One step.
    pub(super) fn roll(&mut self) {
        match self.unavailable_max() {
            Some(max) => self.roll_many(max),
            None => self.roll_one(),
        }
    }

    fn is_old(&self, pod: &Pod) -> bool {
        Self::revision_label(pod) != name(&self.update)
    }

    fn roll_one(&mut self) {
        let least = self.start() + self.partition();
        for n in (least..self.wanted().end).rev() {
            // A gap in the row is a pod that is not up yet.
            let Some(pod) = self.members.get(&n).cloned() else { return };
            if self.is_old(&pod) && !pod.deleting {
                return self.delete(&pod);
            }
            if self.is_unavailable(&pod) {
                return;
            }
        }
    }

    fn roll_many(&mut self, max: usize) {
        let missing =
            usize::try_from(self.replicas()).unwrap_or(usize::MAX).saturating_sub(self.members.len());
        let down = self.members.values().filter(|p| self.is_unavailable(p)).count();
        let spare = max.saturating_sub(down.saturating_add(missing));
        let least = self.start() + self.partition();
        let candidates = self.members.range(least..).rev().map(|(_, p)| p);
        let old: Vec<Arc<Pod>> =
            candidates.filter(|p| self.is_old(p) && !p.deleting).take(spare).cloned().collect();
        for pod in &old {
            self.delete(pod);
        }
    }
}
