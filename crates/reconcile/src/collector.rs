//! The garbage collector: what is owned goes with its owners, before them (foreground), after them (background), or not at
//! all (orphan). It works on bare metadata and knows no kinds.

use crate::{Action, Key, Member, Propagation, World};
use serde_json::{Value, json};
use std::collections::HashSet;
use stoa_kube::{OwnerRef, resources};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// Looks at one object; the key's name is its uid.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(member) = world.graph.get(&key.name) else { return Vec::new() };
    if member.deleting {
        return match () {
            () if member.has_finalizer(ORPHAN) => orphan(world, member),
            () if member.has_finalizer(FOREGROUND) => wait_for_dependents(world, member),
            () => Vec::new(),
        };
    }
    if member.owners.is_empty() { Vec::new() } else { collect(world, member) }
}

/// What has become of an owner.
#[derive(PartialEq)]
enum Fate {
    /// It is there.
    Solid,
    /// It goes once what it owns is gone.
    Waiting,
    /// It is gone.
    Absent,
}

fn fate(world: &World, owner: &OwnerRef) -> Fate {
    match world.graph.get(&owner.uid) {
        Some(o) if o.deleting && o.has_finalizer(FOREGROUND) => Fate::Waiting,
        Some(_) => Fate::Solid,
        // An owner of a kind that nobody here knows may well exist elsewhere.
        None if resources().find_object(&owner.api_version, &owner.kind).is_none() => Fate::Solid,
        None => Fate::Absent,
    }
}

/// Decides about an object by its owners.
fn collect(world: &World, member: &Member) -> Vec<Action> {
    let fates: Vec<Fate> = member.owners.iter().map(|o| fate(world, o)).collect();
    let waiting = fates.contains(&Fate::Waiting);
    if fates.contains(&Fate::Solid) {
        let keep: Vec<Value> = member
            .owners
            .iter()
            .zip(&fates)
            .filter(|(_, f)| **f == Fate::Solid)
            .map(|(o, _)| to_value(o))
            .collect();
        if keep.len() == member.owners.len() {
            return Vec::new();
        }
        return vec![set_owners(member, keep)];
    }
    let has_dependents = world.graph.dependents(&member.id.uid).next().is_some();
    let propagation = match () {
        () if waiting && has_dependents => Propagation::Foreground,
        () if member.has_finalizer(ORPHAN) => Propagation::Orphan,
        () if member.has_finalizer(FOREGROUND) => Propagation::Foreground,
        () => Propagation::Background,
    };
    vec![Action::Delete { id: member.id.clone(), propagation, grace_seconds: None, announce: None }]
}

/// Frees what the object owns, then the object.
fn orphan(world: &World, member: &Member) -> Vec<Action> {
    let owned: Vec<&Member> = world.graph.dependents(&member.id.uid).collect();
    if owned.is_empty() {
        return vec![drop_finalizer(member, ORPHAN)];
    }
    let free = |d: &&Member| {
        let keep = d.owners.iter().filter(|o| *o.uid != *member.id.uid).map(to_value).collect();
        set_owners(d, keep)
    };
    owned.iter().map(free).collect()
}

/// Deletes what the object owns; the object may go when nothing that blocks it is left.
fn wait_for_dependents(world: &World, member: &Member) -> Vec<Action> {
    let blocks = |d: &&Member| is_blocked_by(member, d) && !waits_for(world, d, member);
    let owned: Vec<&Member> = world.graph.dependents(&member.id.uid).collect();
    if !owned.iter().any(blocks) {
        return vec![drop_finalizer(member, FOREGROUND)];
    }
    // Those that are being deleted are waited for; of the others each decides by all of its owners.
    owned.iter().filter(|d| !d.deleting).flat_map(|d| collect(world, d)).collect()
}

fn is_blocked_by(owner: &Member, dependent: &Member) -> bool {
    dependent.owners.iter().any(|o| *o.uid == *owner.id.uid && o.block_owner_deletion)
}

/// Whether an object that goes after what it owns waits, at however many removes, for `last`: then they own each other in a circle, and
/// would wait for ever.
fn waits_for(world: &World, object: &Member, last: &Member) -> bool {
    let (mut seen, mut next) = (HashSet::new(), vec![object]);
    while let Some(object) = next.pop() {
        if !object.deleting || !object.has_finalizer(FOREGROUND) {
            continue;
        }
        for dependent in world.graph.dependents(&object.id.uid).filter(|d| is_blocked_by(object, d)) {
            if dependent.id.uid == last.id.uid {
                return true;
            }
            if seen.insert(&dependent.id.uid) {
                next.push(dependent);
            }
        }
    }
    false
}

fn to_value(o: &OwnerRef) -> Value {
    let mut out = json!({"apiVersion": o.api_version, "kind": o.kind, "name": o.name, "uid": o.uid});
    for (field, is) in [("controller", o.controller), ("blockOwnerDeletion", o.block_owner_deletion)] {
        if is {
            out[field] = true.into();
        }
    }
    out
}

fn set_owners(member: &Member, owners: Vec<Value>) -> Action {
    let owners = if owners.is_empty() { Value::Null } else { owners.into() };
    let patch = json!({"metadata": {"ownerReferences": owners}});
    Action::Patch { id: member.id.clone(), subresource: "", patch }
}

/// Takes one finalizer off an object.
pub(crate) fn drop_finalizer(member: &Member, name: &str) -> Action {
    let left: Vec<&String> = member.finalizers.iter().filter(|f| *f != name).collect();
    let left = if left.is_empty() { Value::Null } else { json!(left) };
    Action::Patch { id: member.id.clone(), subresource: "", patch: json!({"metadata": {"finalizers": left}}) }
}
