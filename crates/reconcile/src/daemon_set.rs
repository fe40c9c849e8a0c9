//! DaemonSets: one pod on every node that takes it. The pods are bound to their nodes by affinity and placed by the
//! scheduler like any other; a change of the template rolls through node by node.

mod fit;
mod retry;
mod roll;
mod status;

use crate::claim::Claimer;
use crate::meta::{id, is_deleting, resource, selector};
use crate::replica_set::{create_pod, delete, from_template};
use crate::revisions::{Counts, HASH, Subject, hash, truncate};
use crate::{Action, Key, Level, ObjectId, Pod, World};
use fit::{Fit, Fits};
use k8s_openapi::api::apps::v1::DaemonSetSpec;
pub(crate) use retry::Failures;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stoa_kube::typed::{DaemonSet, Node};
use stoa_units::Time;

/// Pods created or deleted in one look, as the stock controller bounds it.
const BURST_LEN_MAX: usize = 250;
/// The annotation in which the API server counts changes of the template, and the label by which pods repeat it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const TEMPLATE_GENERATION_LABEL: &str = "pod-template-generation";

/// A set with all that is looked at.
pub(crate) struct Fleet<'a> {
    world: &'a World,
    id: ObjectId,
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    fit: Fit,
    /// Every node, and what it is to the set.
    nodes: Vec<(&'a Node, Fits)>,
    /// How many of them should have a pod.
    desired: usize,
    /// The hash of the template as it is now, which new pods carry.
    hash: String,
    /// Hashes of revisions with the same template: pods with any of them are up to date.
    hashes: BTreeSet<String>,
    generation: Option<&'a str>,
    /// The pods on every node that has any or should have one.
    by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    actions: Vec<Action>,
    doomed: BTreeMap<Arc<str>, Arc<Pod>>,
    wanting: BTreeSet<String>,
}

/// Looks at one DaemonSet.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(set) = world.daemon_sets.get(&key.namespace, &key.name) else { return Vec::new() };
    let Some(spec) = set.spec.as_ref().filter(|_| !is_deleting(&set.metadata)) else { return Vec::new() };
    let Some(selects) = selector(&spec.selector) else { return Vec::new() };
    let owner = id(resource("apps", "daemonsets"), &set.metadata);
    let claimer = Claimer { world, owner: &owner, meta: &set.metadata, selects: &selects };
    let subject = Subject {
        claimer: &claimer,
        meta: &set.metadata,
        template: &spec.template,
        collisions: set.status.as_ref().and_then(|s| s.collision_count),
        hash_label: HASH,
    };
    let mut actions = Vec::new();
    let Some(history) = subject.history(&mut actions) else { return actions };
    let Some(newest) = history.current.last() else { return actions };
    let pods = claimer.pods(|_| true, &mut actions);
    let fit = Fit::read(&spec.template);
    let nodes: Vec<_> = world.nodes.iter().map(|n| (&**n, fit.judge(n))).collect();
    let mut fleet = Fleet {
        world,
        id: owner.clone(),
        set,
        spec,
        desired: nodes.iter().filter(|(_, f)| *f == Fits::Yes).count(),
        nodes,
        fit,
        hash: hash(newest).to_string(),
        hashes: history.current.iter().map(|r| hash(r).to_string()).collect(),
        generation: crate::meta::annotation(&set.metadata, TEMPLATE_GENERATION),
        by_node: BTreeMap::new(),
        actions,
        doomed: BTreeMap::new(),
        wanting: BTreeSet::new(),
    };
    fleet.sort(&pods);
    fleet.write_status();
    fleet.fill();
    let rolls = spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete");
    if rolls && fleet.doomed.is_empty() && fleet.wanting.is_empty() {
        fleet.roll();
    }
    fleet.carry_out();
    let is_old = |name: Option<&String>| !history.current.iter().any(|r| r.metadata.name.as_ref() == name);
    let old: Vec<_> = history.all.iter().filter(|r| is_old(r.metadata.name.as_ref())).cloned().collect();
    let live = pods.iter().filter_map(|p| p.labels.get(HASH)).map(String::as_str).collect();
    fleet.actions.extend(truncate(&old, spec.revision_history_limit.unwrap_or(10), &live, Counts::All));
    fleet.actions
}

impl Fleet<'_> {
    /// Sorts pods by node, the one that counts first on each. Pods that ended and are being deleted are as good as gone.
    fn sort(&mut self, pods: &[Arc<Pod>]) {
        for pod in pods.iter().filter(|p| !(p.is_ended() && p.deleting)) {
            let node = pod.target_node();
            if node.is_empty() {
                continue;
            }
            if pod.node.is_empty() && self.world.nodes.get("", node).is_none() {
                // It waits for a node that is gone.
                if !pod.deleting {
                    self.doom(pod);
                }
                continue;
            }
            self.by_node.entry(node.to_string()).or_default().push(pod.clone());
        }
        for pods in self.by_node.values_mut() {
            pods.sort_by_key(|p| (p.node.is_empty(), p.created, p.id.name.clone()));
        }
    }

    fn doom(&mut self, pod: &Arc<Pod>) {
        self.doomed.insert(pod.id.name.clone(), pod.clone());
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        let same_generation = || {
            self.generation.is_some_and(|g| pod.labels.get(TEMPLATE_GENERATION_LABEL).is_some_and(|l| l == g))
        };
        pod.labels.get(HASH).is_some_and(|h| self.hashes.contains(h)) || same_generation()
    }

    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.available_at(self.min_ready()).is_some_and(|at| at <= self.world.now)
    }

    /// A pod on every node that should have one and has none; none on those that should not; no failed ones; no second ones.
    fn fill(&mut self) {
        for (node, fits) in std::mem::take(&mut self.nodes) {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            let pods = self.by_node.get(name).cloned();
            match (fits, pods) {
                (Fits::Yes, None) => {
                    self.wanting.insert(name.to_string());
                }
                (Fits::No, Some(pods)) => pods.iter().filter(|p| !p.deleting).for_each(|p| self.doom(p)),
                (Fits::Yes | Fits::Stay, Some(pods)) => self.tidy(name, &pods),
                (Fits::Stay | Fits::No, None) => {}
            }
        }
    }

    /// Removes what ended on a node, and what is too much.
    fn tidy(&mut self, node: &str, pods: &[Arc<Pod>]) {
        let mut running = Vec::new();
        for pod in pods.iter().filter(|p| !p.deleting) {
            match pod.phase.as_str() {
                "Failed" => {
                    let at = self.world.daemon_failures.next(&self.id.uid, node);
                    if at > self.world.now {
                        self.actions.push(Action::Again { at });
                        continue;
                    }
                    let (what, end) = ("FailedDaemonPod", "will try to kill it");
                    self.say_ended(
                        pod,
                        Level::Warning,
                        what,
                        &format!("Found failed daemon pod {{}} on node {node}, {end}"),
                    );
                    self.doom(pod);
                }
                "Succeeded" => {
                    let (what, end) = ("SucceededDaemonPod", "will try to delete it");
                    self.say_ended(
                        pod,
                        Level::Normal,
                        what,
                        &format!("Found succeeded daemon pod {{}} on node {node}, {end}"),
                    );
                    self.doom(pod);
                }
                _ => running.push(pod.clone()),
            }
        }
        if running.len() > 1 {
            self.drop_surplus(&running);
        }
    }

    fn say_ended(&mut self, pod: &Pod, level: Level, reason: &'static str, text: &str) {
        let name = format!("{}/{}", pod.id.namespace, pod.id.name);
        let message = text.replace("{}", &name);
        self.actions.push(Action::Event { about: self.id.clone(), level, reason, message });
    }

    /// Of several running pods on one node the oldest stays; while surging, the oldest of the old and of the new template, until
    /// the new one is good enough.
    fn drop_surplus(&mut self, running: &[Arc<Pod>]) {
        if !self.may_surge() {
            return running.iter().skip(1).for_each(|p| self.doom(p));
        }
        let (new, old): (Vec<_>, Vec<_>) = running.iter().partition(|p| self.is_updated(p));
        for pod in new.iter().skip(1).chain(old.iter().skip(1)) {
            self.doom(pod);
        }
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!old.is_ready() || self.is_available(new))
        {
            self.doom(old);
        }
    }

    /// Deletes and creates what was decided, so much at once.
    fn carry_out(&mut self) {
        let deletes = self.doomed.values().take(BURST_LEN_MAX).map(|p| delete(p, &self.id));
        self.actions.extend(deletes);
        let creates = self.wanting.iter().take(BURST_LEN_MAX).map(|node| self.create(node));
        let creates: Vec<Action> = creates.collect();
        self.actions.extend(creates);
    }

    fn create(&self, node: &str) -> Action {
        let mut pod = from_template(&self.id, &self.spec.template);
        pod["metadata"]["labels"][HASH] = json!(self.hash);
        if let Some(generation) = self.generation {
            pod["metadata"]["labels"][TEMPLATE_GENERATION_LABEL] = json!(generation);
        }
        let to_node =
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]);
        // What the template requires of nodes was judged here; other affinities stay.
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
            json!({"nodeSelectorTerms": to_node});
        pod["spec"]["tolerations"] = json!(self.fit.tolerations);
        create_pod(&self.id, pod)
    }

    fn look_again(&mut self, times: impl Iterator<Item = Time>) {
        let now = self.world.now;
        if let Some(at) = times.filter(|t| *t > now).min() {
            self.actions.push(Action::Again { at });
        }
    }
}

#[cfg(test)]
mod tests;
