//! A deployment that is scaled in the middle of a rollout, or while it is paused: all its sets grow or shrink in proportion.

use super::{DESIRED, MAX, Rollout, available, wanted};
use crate::meta::{annotation, created};
use std::cmp::Reverse;
use std::sync::Arc;
use stoa_kube::typed::ReplicaSet;

impl Rollout<'_> {
    /// Whether the deployment's size changed since its sets were last scaled.
    pub(super) fn is_scaled(&self) -> bool {
        let other = |s: &Arc<ReplicaSet>| {
            annotation(&s.metadata, DESIRED)
                .and_then(|d| d.parse::<i32>().ok())
                .is_some_and(|d| d != self.replicas())
        };
        self.sets.iter().filter(|s| wanted(s) > 0).any(other)
    }

    /// Brings all sets to the deployment's size.
    pub(super) fn scale(&mut self) {
        let active: Vec<_> = self.sets.iter().filter(|s| wanted(s) > 0).cloned().collect();
        match active.as_slice() {
            [] => {
                let latest = self.new_set().or(self.sets.last()).cloned();
                if let Some(set) = latest {
                    self.scale_set(&set, self.replicas());
                }
            }
            [only] => {
                let only = only.clone();
                self.scale_set(&only, self.replicas());
            }
            _ if self.is_saturated() => {
                let old: Vec<_> = self.old_sets().filter(|s| wanted(s) > 0).cloned().collect();
                for set in old {
                    self.scale_set(&set, 0);
                }
            }
            _ if self.is_recreate() => {}
            _ => self.scale_in_proportion(active),
        }
    }

    fn is_saturated(&self) -> bool {
        self.new_set().is_some_and(|s| {
            let desired = annotation(&s.metadata, DESIRED).and_then(|d| d.parse().ok());
            wanted(s) == self.replicas()
                && desired == Some(self.replicas())
                && available(s) == self.replicas()
        })
    }

    fn scale_in_proportion(&mut self, mut active: Vec<Arc<ReplicaSet>>) {
        let all: i32 = active.iter().map(|s| wanted(s)).sum();
        let allowed = if self.replicas() > 0 { self.replicas().saturating_add(self.max_surge()) } else { 0 };
        let add = allowed - all;
        // The largest first; of equals the newer when growing, the older when shrinking.
        active.sort_by_key(|s| (Reverse(wanted(s)), created(&s.metadata)));
        if add > 0 {
            active.sort_by_key(|s| (Reverse(wanted(s)), Reverse(created(&s.metadata))));
        }
        let mut sizes: Vec<i32> = active.iter().map(|s| wanted(s)).collect();
        let mut added = 0;
        for (size, set) in sizes.iter_mut().zip(&active) {
            let share = share(set, self.replicas(), self.max_surge(), allowed);
            let left = add - added;
            let part = if add > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
            *size += part;
            added += part;
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + add - added).max(0);
        }
        for (set, size) in active.iter().zip(sizes) {
            self.scale_set(set, size);
        }
    }
}

/// By how much a set should change to keep its part of the whole.
fn share(set: &ReplicaSet, replicas: i32, surge: i32, allowed: i32) -> i32 {
    if replicas == 0 {
        return -wanted(set);
    }
    let before = annotation(&set.metadata, MAX).and_then(|m| m.parse::<f64>().ok()).filter(|m| *m > 0.0);
    let before = before.unwrap_or(f64::from(replicas.saturating_add(surge)));
    let size = (f64::from(wanted(set)) * f64::from(allowed) / before).round();
    size as i32 - wanted(set)
}
