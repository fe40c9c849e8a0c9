//! Revisions: what the template of a daemon or stateful set looked like, kept as a patch that brings it back. `kubectl
//! rollout undo` applies that patch, and compares its bytes with those that it would write itself; so the patch is what the
//! stock controllers write: the whole template with a directive to replace, keys in order.

use crate::claim::Claimer;
use crate::meta::{id, owner_reference, resource, safe_hash};
use crate::{Action, ObjectId, OnExists, Propagation};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use stoa_kube::typed::{ControllerRevision, ObjectMeta, PodTemplateSpec};

/// The label of a pod that says which revision it was made from.
pub(crate) const HASH: &str = "controller-revision-hash";
/// The longest part of an owner's name that a revision's name begins with.
const PREFIX_LEN_MAX: usize = 223;

/// The patch that brings a template back.
pub(crate) fn data(template: &PodTemplateSpec) -> Value {
    let mut template = json!(template);
    template["$patch"] = "replace".into();
    json!({"spec": {"template": template}})
}

/// The template that a revision brings back.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

pub(crate) fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn hash(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|l| l.get(HASH)).map(String::as_str).unwrap_or_else(|| name(revision))
}

/// What a set's template is now and was before.
pub(crate) struct History {
    /// All revisions of the set, oldest first.
    pub all: Vec<Arc<ControllerRevision>>,
    /// Those whose template is the set's, oldest first.
    pub current: Vec<Arc<ControllerRevision>>,
}

/// A set as far as its revisions are concerned.
pub(crate) struct Subject<'a> {
    pub claimer: &'a Claimer<'a>,
    pub meta: &'a ObjectMeta,
    pub template: &'a PodTemplateSpec,
    pub collisions: Option<i32>,
    /// The label under which a revision carries its hash.
    pub hash_label: &'static str,
}

impl Subject<'_> {
    /// Reads the history. Nothing when the newest revision is still to be made or moved to the end: the actions do that, and the
    /// next look goes on from there.
    pub fn history(&self, actions: &mut Vec<Action>) -> Option<History> {
        let all = self.claimer.revisions(actions);
        let wanted = data(self.template);
        let is_current = |r: &&Arc<ControllerRevision>| r.data.as_ref().is_some_and(|d| d.0 == wanted);
        let current: Vec<_> = all.iter().filter(is_current).cloned().collect();
        let newest = all.last().map_or(0, |r| r.revision);
        match current.last() {
            Some(_) if all.last().is_some_and(|r| is_current(&r)) => {}
            Some(last) => {
                // A template of before is wanted again: its revision moves to the end, so that its pods stay as they are.
                let id = id(resource("apps", "controllerrevisions"), &last.metadata);
                actions.push(Action::Patch { id, subresource: "", patch: json!({"revision": newest + 1}) });
                return None;
            }
            None => {
                actions.push(self.create(wanted, newest + 1));
                return None;
            }
        }
        Some(History { all, current })
    }

    fn create(&self, data: Value, revision: i64) -> Action {
        let owner = self.claimer.owner;
        let hash = safe_hash(&data, self.collisions);
        let mut prefix = owner.name.to_string();
        prefix.truncate(PREFIX_LEN_MAX);
        let mut labels = self.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
        labels.insert(self.hash_label.into(), hash.clone());
        let mut metadata = json!({"name": format!("{prefix}-{hash}"), "namespace": owner.namespace, "labels": labels,
            "ownerReferences": [owner_reference(owner)]});
        if let Some(notes) = self.meta.annotations.as_ref().filter(|a| !a.is_empty()) {
            metadata["annotations"] = json!(notes);
        }
        Action::Create {
            resource: resource("apps", "controllerrevisions"),
            namespace: owner.namespace.clone(),
            object: json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "data": data,
                "revision": revision}),
            on_exists: OnExists::Collision,
            announce: None,
        }
    }
}

/// Deletes the oldest revisions beyond the limit, but none that is in use.
pub(crate) fn truncate(
    history: &[Arc<ControllerRevision>],
    limit: i32,
    live: &BTreeSet<&str>,
    counts: Counts,
) -> Vec<Action> {
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let idle = |r: &&Arc<ControllerRevision>| !live.contains(name(r)) && !live.contains(hash(r));
    let len = match counts {
        Counts::All => history.len(),
        Counts::Idle => history.iter().filter(idle).count(),
    };
    history.iter().filter(idle).take(len.saturating_sub(limit)).map(|r| delete(&r.metadata)).collect()
}

/// Which revisions a limit counts.
pub(crate) enum Counts {
    /// All that are passed, as daemon sets do.
    All,
    /// Those that are not in use, as stateful sets do.
    Idle,
}

fn delete(meta: &ObjectMeta) -> Action {
    let id: ObjectId = id(resource("apps", "controllerrevisions"), meta);
    Action::Delete { id, propagation: Propagation::Default, grace_seconds: None, announce: None }
}
