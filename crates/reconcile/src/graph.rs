//! Every object of the cluster by its bare metadata: who owns whom, and what is in a namespace. Kept current with each
//! change, never built anew.

use crate::ObjectId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stoa_kube::{Meta, OwnerRef, Resource};
use stoa_units::Revision;

/// One object.
#[derive(Clone, Debug)]
pub struct Member {
    /// Which one.
    pub id: ObjectId,
    /// Who owns it.
    pub owners: Vec<OwnerRef>,
    /// What must happen before it goes.
    pub finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl Member {
    /// Whether it has the finalizer.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|f| f == name)
    }
}

type Place = (&'static str, &'static str, Arc<str>, Arc<str>);

/// All objects.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    members: HashMap<Arc<str>, Member>,
    places: HashMap<Place, Arc<str>>,
    dependents: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    by_namespace: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl Graph {
    /// Adds or replaces an object. Returns what was at its place before: an older state of it, or another object.
    pub fn put(&mut self, resource: &'static Resource, meta: &Meta) -> Option<Member> {
        let (namespace, name): (Arc<str>, Arc<str>) =
            (meta.namespace.as_str().into(), meta.name.as_str().into());
        let uid: Arc<str> = meta.uid.as_str().into();
        let place = (resource.storage, resource.plural, namespace.clone(), name.clone());
        let there = self.places.get(&place).cloned();
        let is_known = there.as_ref() == Some(&uid);
        let replaced = there.filter(|_| !is_known).and_then(|old| self.remove_uid(&old));
        // Most writes change neither where an object is nor who owns it.
        let is_linked = is_known && self.members.get(&uid).is_some_and(|m| m.owners == meta.owner_references);
        if !is_linked {
            self.unlink(&uid);
            for owner in &meta.owner_references {
                self.dependents.entry(owner.uid.as_str().into()).or_default().insert(uid.clone());
            }
            if resource.namespaced {
                self.by_namespace.entry(namespace.clone()).or_default().insert(uid.clone());
            }
            self.places.insert(place, uid.clone());
        }
        let id = ObjectId {
            resource,
            namespace,
            name,
            uid: uid.clone(),
            revision: meta.revision().unwrap_or(Revision::ZERO),
        };
        let member = Member {
            id,
            owners: meta.owner_references.clone(),
            finalizers: meta.finalizers.clone(),
            deleting: meta.is_deleting(),
        };
        let before = self.members.insert(uid, member);
        if is_known { before } else { replaced }
    }

    /// Removes what is at a place. Returns it.
    pub fn remove(&mut self, resource: &'static Resource, namespace: &str, name: &str) -> Option<Member> {
        let place = (resource.storage, resource.plural, namespace.into(), name.into());
        let uid = self.places.remove(&place)?;
        self.remove_uid(&uid)
    }

    fn remove_uid(&mut self, uid: &Arc<str>) -> Option<Member> {
        self.unlink(uid);
        self.members.remove(uid)
    }

    fn unlink(&mut self, uid: &Arc<str>) {
        let Some(member) = self.members.get(uid) else { return };
        for owner in &member.owners {
            if let Some(set) = self.dependents.get_mut(owner.uid.as_str()) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(owner.uid.as_str());
                }
            }
        }
        if let Some(set) = self.by_namespace.get_mut(&member.id.namespace) {
            set.remove(uid);
            if set.is_empty() {
                self.by_namespace.remove(&member.id.namespace);
            }
        }
    }

    /// The object of that uid.
    pub fn get(&self, uid: &str) -> Option<&Member> {
        self.members.get(uid)
    }

    /// The object at a place.
    pub fn at(&self, resource: &'static Resource, namespace: &str, name: &str) -> Option<&Member> {
        let place = (resource.storage, resource.plural, Arc::from(namespace), Arc::from(name));
        self.members.get(self.places.get(&place)?)
    }

    /// What names the object as an owner.
    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Member> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|u| self.members.get(u))
    }

    /// What is in a namespace.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Member> {
        self.by_namespace.get(namespace).into_iter().flatten().filter_map(|u| self.members.get(u))
    }

    /// All objects, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}
