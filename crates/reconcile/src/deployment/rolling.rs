//! The rolling update: the new set grows as far as the surge allows, the old ones shrink as far as availability allows.

use super::{Rollout, available, wanted};

impl Rollout<'_> {
    /// One step. Scaling up and scaling down are separate steps, as the stock controller takes them.
    pub(super) fn roll(&mut self) {
        let Some(new) = self.new_set().cloned() else {
            let replicas = self.new_size(0);
            return self.create_new(replicas);
        };
        let before = self.actions.len();
        self.annotate_new();
        if self.actions.len() > before {
            return;
        }
        let size = if wanted(&new) > self.replicas() { self.replicas() } else { self.new_size(wanted(&new)) };
        if size != wanted(&new) {
            return self.scale_set(&new, size);
        }
        self.shrink_old();
    }

    /// How large the new set may be, given that it has `now`.
    fn new_size(&self, now: i32) -> i32 {
        let all: i32 = self.sets.iter().map(|s| wanted(s)).sum();
        let most = self.replicas().saturating_add(self.max_surge());
        if all >= most || now >= self.replicas() {
            return now;
        }
        now + (most - all).min(self.replicas() - now)
    }

    fn shrink_old(&mut self) {
        let old: Vec<_> = self.old_sets().cloned().collect();
        let all: i32 = self.sets.iter().map(|s| wanted(s)).sum();
        let least = self.replicas() - self.max_unavailable();
        let new_missing = self.new_set().map_or(0, |s| wanted(s) - available(s));
        let may_go = all - least - new_missing;
        if may_go <= 0 || old.iter().all(|s| wanted(s) == 0) {
            return;
        }
        let mut sizes: Vec<i32> = old.iter().map(|s| wanted(s)).collect();
        // First those that do not work anyway.
        let mut gone = 0;
        for (size, set) in sizes.iter_mut().zip(&old) {
            let broken = (*size - available(set)).max(0).min(may_go - gone);
            *size -= broken;
            gone += broken;
        }
        let up: i32 = self.sets.iter().map(|s| available(s)).sum();
        let mut spare = (up - least).max(0);
        for size in &mut sizes {
            let down = spare.min(*size);
            *size -= down;
            spare -= down;
        }
        for (set, size) in old.iter().zip(sizes) {
            if size != wanted(set) {
                self.scale_set(set, size);
            }
        }
    }
}
