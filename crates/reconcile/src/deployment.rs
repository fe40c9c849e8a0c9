//! Deployments: one ReplicaSet a template, scaled so that a change rolls through without too many or too few pods.
//! Names, annotations, conditions and their wording are the stock controller's, because kubectl's `rollout` reads them.

mod recreate;
mod rolling;
mod scale;
mod sets;
mod status;

pub(crate) use status::differs;

use crate::claim::Claimer;
use crate::meta::{id, is_deleting, resource, selector};
use crate::{Action, Key, Level, ObjectId, Pod, World};
use serde_json::json;
use std::sync::Arc;
use stoa_kube::typed::{Deployment, DeploymentSpec, IntOrString, ReplicaSet};

const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
/// A deadline of this many seconds means none.
const NO_DEADLINE: i32 = i32::MAX;

/// A deployment with all that is looked at.
pub(crate) struct Rollout<'a> {
    world: &'a World,
    id: ObjectId,
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    /// The sets of this deployment, oldest first.
    sets: Vec<Arc<ReplicaSet>>,
    /// Which of them has the template as it is now.
    new: Option<usize>,
    actions: Vec<Action>,
    /// A set is being made: the status says so and nothing else yet.
    makes: bool,
}

/// Looks at one deployment.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(deployment) = world.deployments.get(&key.namespace, &key.name) else { return Vec::new() };
    let Some(spec) = &deployment.spec else { return Vec::new() };
    let Some(selects) = selector(&spec.selector) else { return Vec::new() };
    let owner = id(resource("apps", "deployments"), &deployment.metadata);
    let claimer = Claimer { world, owner: &owner, meta: &deployment.metadata, selects: &selects };
    let mut actions = Vec::new();
    let sets = claimer.replica_sets(&mut actions);
    let new = sets::find_new(spec, &sets);
    let mut rollout =
        Rollout { world, id: owner.clone(), deployment, spec, sets, new, actions, makes: false };
    if !is_deleting(&deployment.metadata) {
        rollout.act();
    }
    if !rollout.makes {
        rollout.write_status();
    }
    rollout.actions
}

impl Rollout<'_> {
    fn act(&mut self) {
        if self.spec.paused == Some(true) || self.is_scaled() {
            if self.spec.paused == Some(true) && self.new.is_some() {
                self.annotate_new();
            }
            self.scale();
            if self.spec.paused == Some(true) {
                self.clean_up();
            }
            return;
        }
        if self.is_recreate() {
            self.recreate()
        } else {
            self.roll()
        }
        if self.is_complete() {
            self.clean_up();
        }
    }

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn is_recreate(&self) -> bool {
        self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate")
    }

    /// How many pods more than wanted, and how many fewer than wanted may be available, while a change rolls through.
    fn fences(&self) -> (i32, i32) {
        let rolling = self.spec.strategy.as_ref().and_then(|s| s.rolling_update.as_ref());
        if self.is_recreate() {
            return (0, 0);
        }
        let default = IntOrString::String("25%".into());
        let field = |f: Option<&IntOrString>| f.cloned().unwrap_or(default.clone());
        let surge = scaled(&field(rolling.and_then(|r| r.max_surge.as_ref())), self.replicas(), Round::Up);
        let missing =
            scaled(&field(rolling.and_then(|r| r.max_unavailable.as_ref())), self.replicas(), Round::Down);
        // Both zero would forbid every step.
        if surge == 0 && missing == 0 { (0, 1) } else { (surge, missing) }
    }

    fn max_surge(&self) -> i32 {
        self.fences().0
    }

    fn max_unavailable(&self) -> i32 {
        if self.is_recreate() || self.replicas() == 0 { 0 } else { self.fences().1.min(self.replicas()) }
    }

    fn new_set(&self) -> Option<&Arc<ReplicaSet>> {
        self.new.map(|i| &self.sets[i])
    }

    fn old_sets(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.sets.iter().enumerate().filter(|(i, _)| Some(*i) != self.new).map(|(_, s)| s)
    }

    fn pods_of<'b>(&'b self, set: &'b ReplicaSet) -> impl Iterator<Item = &'b Arc<Pod>> {
        self.world.pods.owned_by(set.metadata.uid.as_deref().unwrap_or_default())
    }

    /// Scales a set, writing its annotations along, and says so.
    fn scale_set(&mut self, set: &ReplicaSet, to: i32) {
        let (from, sized) = (wanted(set), sets::sizes(self.replicas(), self.max_surge()));
        if from == to && sets::has_sizes(set, self.replicas(), self.max_surge()) {
            return;
        }
        let set_id = id(resource("apps", "replicasets"), &set.metadata);
        let patch = json!({"metadata": {"annotations": sized}, "spec": {"replicas": to}});
        let name = set_id.name.clone();
        self.actions.push(Action::Patch { id: set_id, subresource: "", patch });
        if from != to {
            self.say_scaled(&name, from, to);
        }
    }

    fn say_scaled(&mut self, set: &str, from: i32, to: i32) {
        let way = if to > from { "up" } else { "down" };
        self.actions.push(Action::Event {
            about: self.id.clone(),
            level: Level::Normal,
            reason: "ScalingReplicaSet",
            message: format!("Scaled {way} replica set {set} from {from} to {to}"),
        });
    }
}

/// Which way a share that is not whole goes.
pub(crate) enum Round {
    Up,
    Down,
}

/// A number, or a share of the total in percent.
pub(crate) fn scaled(value: &IntOrString, total: i32, round: Round) -> i32 {
    let percent = match value {
        IntOrString::Int(n) => return (*n).max(0),
        IntOrString::String(s) => s.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(0).max(0),
    };
    let product = percent.saturating_mul(total.into());
    let share = match round {
        Round::Up => (product + 99) / 100,
        Round::Down => product / 100,
    };
    i32::try_from(share).unwrap_or(i32::MAX)
}

/// How many pods a set is to have.
fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// How many pods of a set are available.
fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

/// How many pods a set has.
fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}

#[cfg(test)]
mod tests;
