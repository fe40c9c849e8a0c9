//! StatefulSets: pods with names, each with claims of its own, made in order and taken away in reverse. What may not be
//! done before something else is, is simply not done yet: the next look goes on.

mod claims;
mod member;
mod roll;
mod status;

use crate::claim::Claimer;
use crate::meta::{id, is_deleting, resource, selector};
use crate::revisions::{Counts, HASH, Subject, name, template, truncate};
use crate::{Action, Announce, Key, ObjectId, Pod, Propagation, World};
use k8s_openapi::api::apps::v1::StatefulSetSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_kube::typed::{ControllerRevision, PodTemplateSpec, StatefulSet};

/// The label under which a set's revision carries its hash.
const REVISION_HASH: &str = "controller.kubernetes.io/hash";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// Pods made or deleted in one look of a set that needs no order.
const BURST_LEN_MAX: usize = 500;

/// A set with all that is looked at.
pub(crate) struct Troupe<'a> {
    world: &'a World,
    id: ObjectId,
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
    /// The pods that should be there and are, by ordinal.
    members: BTreeMap<i64, Arc<Pod>>,
    /// The pods beyond the wanted ones, by ordinal.
    surplus: BTreeMap<i64, Arc<Pod>>,
    /// The first one, of members and then of the surplus, that is not available.
    first_unavailable: Option<i64>,
    actions: Vec<Action>,
}

/// Whether a step lets the next one be taken.
#[derive(PartialEq)]
enum Then {
    Go,
    Wait,
}

/// Whether pods are made and deleted one after the other.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Strict,
    None,
}

/// The ordinal of a pod of the set; nothing if its name is not one of the set's.
fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse::<i32>().ok().filter(|_| plain)?;
    // `web-01` is nobody: it could never be made again under that name.
    (number.to_string() == digits).then_some(number.into())
}

/// Looks at one StatefulSet.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(set) = world.stateful_sets.get(&key.namespace, &key.name) else { return Vec::new() };
    let Some(spec) = &set.spec else { return Vec::new() };
    let Some(selects) = selector(&spec.selector) else { return Vec::new() };
    let owner = id(resource("apps", "statefulsets"), &set.metadata);
    let claimer = Claimer { world, owner: &owner, meta: &set.metadata, selects: &selects };
    let subject = Subject {
        claimer: &claimer,
        meta: &set.metadata,
        template: &spec.template,
        collisions: set.status.as_ref().and_then(|s| s.collision_count),
        hash_label: REVISION_HASH,
    };
    let mut actions = Vec::new();
    let history = match subject.history(&mut actions) {
        Some(history) => history,
        // One that goes needs no new revision.
        None if is_deleting(&set.metadata) => return Vec::new(),
        None => return actions,
    };
    let Some(update) = history.current.last().cloned() else { return actions };
    let was = set.status.as_ref().and_then(|s| s.current_revision.as_deref());
    let current = history.all.iter().find(|r| Some(name(r)) == was).unwrap_or(&update).clone();
    let pods = claimer.pods(|p| ordinal(&owner.name, &p.id.name).is_some(), &mut actions);
    let mut troupe = Troupe {
        world,
        id: owner.clone(),
        set,
        spec,
        current,
        update,
        members: BTreeMap::new(),
        surplus: BTreeMap::new(),
        first_unavailable: None,
        actions,
    };
    troupe.sort(&pods);
    troupe.write_status();
    if is_deleting(&set.metadata) {
        return troupe.actions;
    }
    troupe.act();
    let mut live = std::collections::BTreeSet::from([name(&troupe.current), name(&troupe.update)]);
    live.extend(pods.iter().filter_map(|p| p.labels.get(HASH)).map(String::as_str));
    let limit = spec.revision_history_limit.unwrap_or(10);
    let old = truncate(&history.all, limit, &live, Counts::Idle);
    troupe.actions.extend(old);
    troupe.actions
}

impl Troupe<'_> {
    fn start(&self) -> i64 {
        self.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0).into()
    }

    fn replicas(&self) -> i64 {
        self.spec.replicas.unwrap_or(1).max(0).into()
    }

    /// The ordinals that there should be.
    fn wanted(&self) -> std::ops::Range<i64> {
        self.start()..self.start() + self.replicas()
    }

    fn order(&self) -> Order {
        let parallel = self.spec.pod_management_policy.as_deref() == Some("Parallel");
        if parallel { Order::None } else { Order::Strict }
    }

    fn rolls(&self) -> bool {
        self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn sort(&mut self, pods: &[Arc<Pod>]) {
        let wanted = self.wanted();
        for pod in pods {
            let Some(n) = ordinal(&self.id.name, &pod.id.name) else { continue };
            let side = if wanted.contains(&n) { &mut self.members } else { &mut self.surplus };
            side.insert(n, pod.clone());
        }
        // The first gap is no further than the members are many.
        let gap = wanted.clone().find(|n| !self.members.contains_key(n));
        let down = self.members.iter().find(|(_, p)| self.is_unavailable(p)).map(|(n, _)| *n);
        let above = self.surplus.iter().find(|(_, p)| self.is_unavailable(p)).map(|(n, _)| *n);
        self.first_unavailable = gap.into_iter().chain(down).min().or(above);
    }

    fn is_running_and_ready(&self, pod: &Pod) -> bool {
        pod.phase == "Running" && pod.is_ready()
    }

    fn is_running_and_available(&self, pod: &Pod) -> bool {
        let at = pod.available_at(self.min_ready());
        pod.phase == "Running" && at.is_some_and(|at| at <= self.world.now)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        !self.is_running_and_available(pod) || pod.deleting
    }

    fn act(&mut self) {
        if self.raise() == Then::Wait {
            return;
        }
        self.settle_claims_of_surplus();
        if self.lower() == Then::Wait {
            return;
        }
        if self.rolls() {
            self.roll();
        }
    }

    /// Every pod that should be there, in order.
    fn raise(&mut self) -> Then {
        let order = self.order();
        let mut made = 0;
        for n in self.wanted() {
            let then = match self.members.get(&n).cloned() {
                Some(pod) => self.tend(n, &pod, order),
                None => {
                    made += 1;
                    self.make(n);
                    Then::Wait
                }
            };
            if order == Order::Strict && then == Then::Wait {
                return Then::Wait;
            }
            if made >= BURST_LEN_MAX {
                return Then::Wait;
            }
        }
        Then::Go
    }

    /// Looks after one pod that is there.
    fn tend(&mut self, n: i64, pod: &Arc<Pod>, order: Order) -> Then {
        if pod.is_ended() {
            // Whatever its end was called, it is made again once it is gone.
            if !pod.deleting {
                self.delete(pod);
            }
            return Then::Wait;
        }
        if matches!(pod.phase.as_str(), "" | "Pending") {
            self.make_claims(n);
        }
        if order == Order::Strict && self.is_unavailable(pod) {
            return Then::Wait;
        }
        self.label(n, pod);
        self.settle_claims(n);
        Then::Go
    }

    /// Deletes the pods beyond the wanted ones, from the last one down.
    fn lower(&mut self) -> Then {
        let surplus: Vec<(i64, Arc<Pod>)> = self.surplus.iter().rev().map(|(n, p)| (*n, p.clone())).collect();
        if self.order() == Order::None {
            for (_, pod) in surplus.iter().filter(|(_, p)| !p.deleting).take(BURST_LEN_MAX) {
                self.delete(pod);
            }
            return Then::Go;
        }
        let Some((n, pod)) = surplus.first() else { return Then::Go };
        let healthy = self.is_running_and_available(pod);
        if !pod.deleting && (healthy || self.first_unavailable == Some(*n)) {
            self.delete(pod);
        }
        Then::Wait
    }

    fn delete(&mut self, pod: &Arc<Pod>) {
        self.actions.push(Action::Delete {
            id: pod.id.clone(),
            propagation: Propagation::Default,
            grace_seconds: None,
            announce: Some(Announce {
                about: self.id.clone(),
                reason: "SuccessfulDelete",
                done: "Delete Pod ".into(),
                end: format!(" in StatefulSet {} successful", self.id.name).into(),
                failed: "FailedDelete",
                error: format!("Delete Pod {} in StatefulSet {} failed error: ", pod.id.name, self.id.name)
                    .into(),
            }),
        });
    }

    /// The revision that a new pod of this ordinal is made from, and its template.
    fn revision_of(&self, n: i64) -> (String, PodTemplateSpec) {
        let revision = if self.is_held_back(n) { &self.current } else { &self.update };
        let template = template(revision).unwrap_or_else(|| self.spec.template.clone());
        (name(revision).to_string(), template)
    }
}

#[cfg(test)]
mod tests;
