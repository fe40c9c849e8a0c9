//! Which of a deployment's ReplicaSets is the newest, making it, and clearing old ones away.

use super::{DESIRED, HASH, MAX, REVISION, REVISION_HISTORY, Rollout, available, wanted};
use crate::meta::{annotation, id, is_deleting, owned_by, owner_reference, resource, safe_hash};
use crate::{Action, OnExists};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stoa_kube::typed::{DeploymentSpec, ReplicaSet};

/// Annotations of a deployment that are not handed down to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// How much of the revision history is kept in the annotation.
const HISTORY_LEN_MAX: usize = 2_000;

/// The oldest set whose template is the deployment's, its hash label aside.
pub(super) fn find_new(spec: &DeploymentSpec, sets: &[Arc<ReplicaSet>]) -> Option<usize> {
    sets.iter().position(|set| {
        let Some(mut template) = set.spec.as_ref().and_then(|s| s.template.clone()) else { return false };
        let mut wanted = spec.template.clone();
        for t in [&mut template, &mut wanted] {
            let meta = t.metadata.get_or_insert_default();
            let labels = meta.labels.get_or_insert_default();
            labels.remove(HASH);
            meta.annotations.get_or_insert_default();
            meta.creation_timestamp = None;
        }
        template == wanted
    })
}

/// The annotations that tell how large the deployment was when a set was scaled.
pub(super) fn sizes(replicas: i32, surge: i32) -> Value {
    let max = replicas.saturating_add(surge);
    json!({DESIRED: replicas.to_string(), MAX: max.to_string()})
}

pub(super) fn has_sizes(set: &ReplicaSet, replicas: i32, surge: i32) -> bool {
    annotation(&set.metadata, DESIRED) == Some(&replicas.to_string())
        && annotation(&set.metadata, MAX) == Some(&replicas.saturating_add(surge).to_string())
}

pub(super) fn revision(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

impl Rollout<'_> {
    fn next_revision(&self) -> i64 {
        self.old_sets().map(|s| revision(s)).max().unwrap_or(0) + 1
    }

    /// What a set's annotations should be besides those that others put there.
    fn handed_down(&self) -> Map<String, Value> {
        let own = self.deployment.metadata.annotations.iter().flatten();
        own.filter(|(k, _)| !NOT_COPIED.contains(&k.as_str())).map(|(k, v)| (k.clone(), json!(v))).collect()
    }

    /// Makes the set for the template as it is now, with `replicas` pods.
    pub(super) fn create_new(&mut self, replicas: i32) {
        let template = json!(self.spec.template);
        let collisions = self.deployment.status.as_ref().and_then(|s| s.collision_count);
        let hash = safe_hash(&template, collisions);
        let name = format!("{}-{hash}", self.id.name);
        let mut template = template;
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selects = json!(self.spec.selector);
        selects["matchLabels"][HASH] = json!(hash);
        let mut annotations = self.handed_down();
        annotations.insert(REVISION.into(), self.next_revision().to_string().into());
        if let Value::Object(sizes) = sizes(self.replicas(), self.max_surge()) {
            annotations.extend(sizes);
        }
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": self.id.namespace, "annotations": annotations,
                "labels": template["metadata"]["labels"], "ownerReferences": [owner_reference(&self.id)]},
            "spec": {"replicas": replicas, "minReadySeconds": self.spec.min_ready_seconds.unwrap_or(0),
                "selector": selects, "template": template},
        });
        // The stock hash collides only when two templates do; the next look takes another name.
        let known = self.world.replica_sets.get(&self.id.namespace, &name);
        let ours = known.is_some_and(|s| owned_by(&s.metadata, &self.id.uid));
        self.actions.push(Action::Create {
            resource: resource("apps", "replicasets"),
            namespace: self.id.namespace.clone(),
            object,
            on_exists: if ours || known.is_some() { OnExists::Collision } else { OnExists::Fine },
            announce: None,
        });
        self.makes = true;
        self.write_created(&name);
        if replicas > 0 {
            self.say_scaled(&name, 0, replicas);
        }
    }

    /// Brings the newest set's annotations up to date: the revision above all others, and what it inherits.
    pub(super) fn annotate_new(&mut self) {
        let Some(set) = self.new_set().cloned() else { return };
        let (now, next) = (revision(&set), self.next_revision());
        let mut annotations = Map::new();
        if now < next {
            if now > 0 {
                let history = annotation(&set.metadata, REVISION_HISTORY).unwrap_or_default();
                let mut all: Vec<String> =
                    history.split(',').filter(|s| !s.is_empty()).map(String::from).collect();
                all.push(now.to_string());
                while all.join(",").len() > HISTORY_LEN_MAX {
                    all.remove(0);
                }
                annotations.insert(REVISION_HISTORY.into(), all.join(",").into());
            }
            annotations.insert(REVISION.into(), next.to_string().into());
        }
        for (key, value) in self.handed_down() {
            if annotation(&set.metadata, &key) != value.as_str() {
                annotations.insert(key, value);
            }
        }
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        let other_wait = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0) != min_ready;
        if annotations.is_empty() && !other_wait {
            return;
        }
        let mut patch = json!({"metadata": {"annotations": annotations}});
        if other_wait {
            patch["spec"]["minReadySeconds"] = min_ready.into();
        }
        let id = id(resource("apps", "replicasets"), &set.metadata);
        self.actions.push(Action::Patch { id, subresource: "", patch });
    }

    /// Deletes old sets beyond what the history may hold.
    pub(super) fn clean_up(&mut self) {
        let limit = self.spec.revision_history_limit.unwrap_or(10);
        if limit == i32::MAX {
            return;
        }
        let idle = |s: &ReplicaSet| {
            let seen = s.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
            wanted(s) == 0
                && super::actual(s) == 0
                && available(s) == 0
                && s.metadata.generation.unwrap_or(0) <= seen
                && !is_deleting(&s.metadata)
        };
        let mut old: Vec<_> = self.old_sets().cloned().collect();
        let excess = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        old.sort_by_key(|s| revision(s));
        for set in old.iter().take(excess).filter(|s| idle(s)) {
            self.actions.push(Action::Delete {
                id: id(resource("apps", "replicasets"), &set.metadata),
                propagation: crate::Propagation::Background,
                grace_seconds: None,
                announce: None,
            });
        }
    }
}
