//! Whose a thing is: controllers take over what they select and nobody controls, and let go of what they do not select
//! any more.

use crate::meta::{created, id, is_deleting, labels, owner_reference, resource};
use crate::{Action, Member, ObjectId, Pod, Table, World};
use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::typed::{ControllerRevision, ObjectMeta, ReplicaSet};
use stoa_kube::{OwnerRef, Resource};
use stoa_units::LabelSelector;

/// Who claims.
pub(crate) struct Claimer<'a> {
    pub world: &'a World,
    pub owner: &'a ObjectId,
    pub meta: &'a ObjectMeta,
    pub selects: &'a LabelSelector,
}

impl Claimer<'_> {
    /// The pods of the owner: those that it has and still selects, and those that it takes over. `is_member` says which pods
    /// may be its at all.
    pub fn pods(&self, is_member: impl Fn(&Pod) -> bool, actions: &mut Vec<Action>) -> Vec<Arc<Pod>> {
        let fits = |p: &Pod| self.selects.matches(&p.labels) && is_member(p);
        let mut out = Vec::new();
        for pod in self.world.pods.owned_by(&self.owner.uid) {
            if fits(pod) {
                out.push(pod.clone());
            } else if !pod.deleting {
                actions.push(self.release(&pod.id));
            }
        }
        if is_deleting(self.meta) {
            return out;
        }
        for pod in self.world.pods_matching(&self.owner.namespace, self.selects) {
            if pod.controller.is_none() && !pod.deleting && is_member(pod) {
                actions.push(self.adopt(&pod.id));
                out.push(pod.clone());
            }
        }
        out
    }

    /// The revisions of the owner, oldest first.
    pub fn revisions(&self, actions: &mut Vec<Action>) -> Vec<Arc<ControllerRevision>> {
        let kind = resource("apps", "controllerrevisions");
        let mut out = self.claim(&self.world.revisions, kind, |r| &r.metadata, actions);
        out.sort_by_cached_key(|r| (r.revision, created(&r.metadata), r.metadata.name.clone()));
        out
    }

    /// The sets of a deployment, oldest first.
    pub fn replica_sets(&self, actions: &mut Vec<Action>) -> Vec<Arc<ReplicaSet>> {
        let kind = resource("apps", "replicasets");
        let mut out = self.claim(&self.world.replica_sets, kind, |s| &s.metadata, actions);
        out.sort_by_cached_key(|s| (created(&s.metadata), s.metadata.name.clone()));
        out
    }

    fn claim<T>(
        &self,
        table: &Table<T>,
        kind: &'static Resource,
        meta_of: impl Fn(&T) -> &ObjectMeta,
        actions: &mut Vec<Action>,
    ) -> Vec<Arc<T>> {
        let mut out = Vec::new();
        for row in table.owned_by(&self.owner.uid) {
            let meta = meta_of(row);
            if self.selects.matches(labels(meta)) {
                out.push(row.clone());
            } else if !is_deleting(meta) {
                actions.push(self.release(&id(kind, meta)));
            }
        }
        if is_deleting(self.meta) {
            return out;
        }
        for row in table.free_in(&self.owner.namespace) {
            let meta = meta_of(row);
            if !is_deleting(meta) && self.selects.matches(labels(meta)) {
                actions.push(self.adopt(&id(kind, meta)));
                out.push(row.clone());
            }
        }
        out
    }

    fn adopt(&self, id: &ObjectId) -> Action {
        let mut owners = self.others(id);
        owners.push(owner_reference(self.owner));
        set_owners(id, owners)
    }

    fn release(&self, id: &ObjectId) -> Action {
        set_owners(id, self.others(id))
    }

    /// The owners of an object besides this one.
    fn others(&self, id: &ObjectId) -> Vec<Value> {
        let owners = self.world.graph.get(&id.uid).map(|m| m.owners.clone()).unwrap_or_default();
        owners.iter().filter(|o| *o.uid != *self.owner.uid).map(to_value).collect()
    }
}

/// An owner reference as it was.
pub(crate) fn to_value(o: &OwnerRef) -> Value {
    let mut out = json!({"apiVersion": o.api_version, "kind": o.kind, "name": o.name, "uid": o.uid});
    for (field, is) in [("controller", o.controller), ("blockOwnerDeletion", o.block_owner_deletion)] {
        if is {
            out[field] = true.into();
        }
    }
    out
}

/// Makes these the owners of an object.
pub(crate) fn set_owners(id: &ObjectId, owners: Vec<Value>) -> Action {
    let owners = if owners.is_empty() { Value::Null } else { owners.into() };
    Action::Patch { id: id.clone(), subresource: "", patch: json!({"metadata": {"ownerReferences": owners}}) }
}

/// The owners of an object that meet a test.
pub(crate) fn owners_but(member: &Member, drop: impl Fn(&OwnerRef) -> bool) -> Vec<Value> {
    member.owners.iter().filter(|o| !drop(o)).map(to_value).collect()
}
