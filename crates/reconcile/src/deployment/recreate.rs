//! Recreate: the old pods are gone before the first new one is made.

use super::{Rollout, wanted};

impl Rollout<'_> {
    /// One step.
    pub(super) fn recreate(&mut self) {
        let old: Vec<_> = self.old_sets().cloned().collect();
        let mut scaled = false;
        for set in old.iter().filter(|s| wanted(s) > 0) {
            self.scale_set(set, 0);
            scaled = true;
        }
        let running = old.iter().any(|s| self.pods_of(s).any(|p| !p.is_ended()));
        if scaled || running {
            return;
        }
        match self.new_set().cloned() {
            None => self.create_new(self.replicas()),
            Some(new) => {
                self.annotate_new();
                let to = self.replicas();
                if wanted(&new) != to {
                    self.scale_set(&new, to);
                }
            }
        }
    }
}
