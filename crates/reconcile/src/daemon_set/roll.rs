//! The rolling update of a daemon set. Without a surge old pods go, as many at a time as may be unavailable, and
//! [`Fleet::fill`] puts new ones in their place; with a surge new pods come beside the old ones, which go when the new ones
//! are available.

use super::Fleet;
use super::fit::Fits;
use crate::Pod;
use crate::deployment::{Round, scaled};
use std::sync::Arc;
use stoa_kube::typed::IntOrString;

/// The pods of one node that are not being deleted.
enum Pair {
    /// More than one of a kind: [`Fleet::fill`] tidies that up first.
    Many,
    /// At most one of the new template and one of an old one.
    Of(Option<Arc<Pod>>, Option<Arc<Pod>>),
}

/// How much a rolling update may do at a time.
struct Limits {
    surge: usize,
    unavailable: usize,
    desired: usize,
}

impl Fleet<'_> {
    pub(super) fn may_surge(&self) -> bool {
        let zero = |v: &IntOrString| match v {
            IntOrString::Int(n) => *n == 0,
            IntOrString::String(s) => s.trim_end_matches('%') == "0",
        };
        let strategy = self.spec.update_strategy.as_ref();
        let rolls = strategy.is_some_and(|s| s.type_.as_deref() != Some("OnDelete"));
        let surge = strategy.and_then(|s| s.rolling_update.as_ref()?.max_surge.as_ref());
        rolls && surge.is_some_and(|s| !zero(s))
    }

    fn limits(&self) -> Limits {
        let desired = self.desired;
        let total = i32::try_from(desired).unwrap_or(i32::MAX);
        let rolling = self.spec.update_strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        let count = |v: Option<&IntOrString>, default: i32| {
            let n = v.map_or(default, |v| scaled(v, total, Round::Up));
            usize::try_from(n).unwrap_or(0)
        };
        let surge = count(rolling.and_then(|r| r.max_surge.as_ref()), 0);
        let unavailable = count(rolling.and_then(|r| r.max_unavailable.as_ref()), 1);
        // Both zero would forbid every step.
        let unavailable = if surge == 0 && unavailable == 0 && desired > 0 { 1 } else { unavailable };
        Limits { surge, unavailable, desired }
    }

    fn pair(&self, pods: &[Arc<Pod>]) -> Pair {
        let (new, old): (Vec<_>, Vec<_>) =
            pods.iter().filter(|p| !p.deleting).cloned().partition(|p| self.is_updated(p));
        if new.len() > 1 || old.len() > 1 {
            return Pair::Many;
        }
        Pair::Of(new.into_iter().next(), old.into_iter().next())
    }

    /// One step.
    pub(super) fn roll(&mut self) {
        let limits = self.limits();
        if limits.surge == 0 { self.replace(&limits) } else { self.surge(&limits) }
    }

    fn replace(&mut self, limits: &Limits) {
        let mut unavailable = 0;
        let (mut broken, mut candidates) = (Vec::new(), Vec::new());
        for pods in self.by_node.values() {
            match self.pair(pods) {
                Pair::Of(None, Some(old)) if self.is_available(&old) => candidates.push(old),
                Pair::Of(None, Some(old)) => {
                    unavailable += 1;
                    broken.push(old);
                }
                Pair::Of(Some(new), None) if self.is_available(&new) => {}
                _ => unavailable += 1,
            }
        }
        let spare = limits.unavailable.saturating_sub(unavailable);
        for pod in broken.iter().chain(candidates.iter().take(spare)) {
            self.doom(pod);
        }
    }

    fn surge(&mut self, limits: &Limits) {
        let (mut surging, mut available) = (0, 0usize);
        let (mut doomed, mut misplaced) = (Vec::new(), Vec::new());
        let (mut at_once, mut candidates) = (Vec::new(), Vec::new());
        for (name, pods) in &self.by_node {
            let Pair::Of(new, old) = self.pair(pods) else {
                surging += 1;
                continue;
            };
            if old.as_ref().or(new.as_ref()).is_some_and(|p| self.is_available(p)) {
                available += 1;
            }
            match (new, old) {
                (_, None) => {}
                (Some(new), Some(old)) if self.is_available(&new) => doomed.push(old),
                (Some(_), Some(_)) => surging += 1,
                (None, Some(old)) => {
                    let stays =
                        self.world.nodes.get("", name).is_some_and(|n| self.fit.judge(n) == Fits::Yes);
                    match (self.is_available(&old), stays) {
                        (true, true) => candidates.push(name.clone()),
                        (true, false) => misplaced.push(old),
                        (false, true) => at_once.push(name.clone()),
                        (false, false) => doomed.push(old),
                    }
                }
            }
        }
        // Who surges expects no gap: a pod where none belongs any more goes only once another one has taken over.
        let spare = available.saturating_sub(limits.desired);
        for pod in doomed.iter().chain(misplaced.iter().take(spare)) {
            self.doom(pod);
        }
        let room = limits.surge.saturating_sub(surging);
        self.wanting.extend(at_once.into_iter().chain(candidates.into_iter().take(room)));
    }
}
