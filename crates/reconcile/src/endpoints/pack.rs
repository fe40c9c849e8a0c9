//! Endpoints into slices: what is where stays there, so that one pod that comes or goes touches one slice.

use crate::meta::{annotation, labels, owner_reference, resource};
use crate::{Action, ObjectId, OnExists, Propagation, World};
use k8s_openapi::api::discovery::v1::Endpoint;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use stoa_kube::typed::EndpointSlice;
use stoa_units::Time;

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Whether a slice stays where there is nothing to publish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// One without endpoints, so that people see that the service is looked after.
    OneEmpty,
    /// None.
    Nothing,
}

/// Whose slices these are.
pub(super) struct Owner<'a> {
    pub id: &'a ObjectId,
    pub manager: &'static str,
    pub labels: BTreeMap<String, String>,
    pub annotations: Vec<(String, String)>,
    /// Endpoints in a slice.
    pub len_max: usize,
    pub kept: Kept,
}

/// What is said about when a change came to be.
pub(super) struct Trigger {
    /// The annotation that says it.
    pub annotation: &'static str,
    /// When what the first slice is for came to be; `None` where nothing is said at all.
    pub first: Option<Time>,
}

/// An endpoint that somebody wants published. What is published already is compared in place: of a service's thousands of
/// endpoints a look writes only those that changed.
pub(super) trait Wanted {
    /// What tells it apart: a pod's uid, an address.
    fn identity(&self) -> &str;
    /// The same of one that is published.
    fn published_identity(published: &Endpoint) -> &str;
    /// Whether it is published as it should be.
    fn is(&self, published: &Endpoint) -> bool;
    /// As it is to be published.
    fn to_value(&self) -> Value;
    /// Since when it is what it is.
    fn since(&self) -> Option<Time>;
    /// Whether what it is since then differs from what is published.
    fn is_news(&self, published: &Endpoint) -> bool;
}

/// Endpoints of one family with the same ports.
struct Group<W> {
    family: String,
    ports: Vec<Value>,
    key: String,
    wanted: Vec<W>,
    slots: Vec<Slot>,
    /// Its one slice stays although it is empty.
    stays_empty: bool,
}

/// A slice, as it is to be.
struct Slot {
    /// None for one that is to be made.
    slice: Option<Arc<EndpointSlice>>,
    /// Which of the wanted.
    members: Vec<usize>,
    changed: bool,
    since: Option<Time>,
}

impl Slot {
    fn add<W: Wanted>(&mut self, wanted: &[W], member: usize) {
        self.since = self.since.into_iter().chain(wanted[member].since()).min();
        self.changed = true;
        self.members.push(member);
    }
}

/// The slices of an owner, as they are and as they are wanted.
pub(super) struct Slices<'a, W> {
    owner: &'a Owner<'a>,
    there: Vec<Arc<EndpointSlice>>,
    groups: Vec<Group<W>>,
}

fn ports_key(ports: &[Value]) -> String {
    let mut all: Vec<String> = ports.iter().map(Value::to_string).collect();
    all.sort();
    all.join(",")
}

impl<'a, W: Wanted> Slices<'a, W> {
    /// The slices that the owner has.
    pub fn of(world: &World, owner: &'a Owner<'a>) -> Slices<'a, W> {
        let there = world.slices.owned_by(&owner.id.uid).filter(|s| s.metadata.deletion_timestamp.is_none());
        let ours = |s: &&Arc<EndpointSlice>| {
            labels(&s.metadata).get(MANAGED_BY).map(String::as_str) == Some(owner.manager)
        };
        Slices { owner, there: there.filter(ours).cloned().collect(), groups: Vec::new() }
    }

    /// The group of a family and ports.
    pub fn group(&mut self, family: &str, ports: Vec<Value>) -> usize {
        let key = ports_key(&ports);
        let found = self.groups.iter().position(|g| g.family == family && g.key == key);
        found.unwrap_or_else(|| {
            let family = family.to_string();
            self.groups.push(Group {
                family,
                ports,
                key,
                wanted: Vec::new(),
                slots: Vec::new(),
                stays_empty: false,
            });
            self.groups.len() - 1
        })
    }

    /// Asks for an endpoint in a group.
    pub fn want(&mut self, group: usize, wanted: W) {
        self.groups[group].wanted.push(wanted);
    }

    /// What is to be done.
    pub fn plan(mut self, families: &[String], trigger: &Trigger) -> Vec<Action> {
        self.groups.retain(|g| !g.wanted.is_empty());
        if self.owner.kept == Kept::OneEmpty {
            for family in families {
                if !self.groups.iter().any(|g| g.family == *family) {
                    let group = self.group(family, Vec::new());
                    self.groups[group].stays_empty = true;
                }
            }
        }
        let mut spare = self.keep();
        let (mut creates, mut patches) = (Vec::new(), Vec::new());
        for mut group in std::mem::take(&mut self.groups) {
            let slots = std::mem::take(&mut group.slots);
            for slot in slots {
                if slot.members.is_empty() && !group.stays_empty {
                    spare.extend(slot.slice);
                    continue;
                }
                // A slice that nobody needs any more is filled anew rather than deleted beside one that is made.
                let reused = || spare.iter().position(|s| s.address_type == group.family);
                let at = if slot.slice.is_none() { reused() } else { None };
                match slot.slice.clone().or_else(|| at.map(|i| spare.remove(i))) {
                    Some(slice) => patches.extend(self.patch(&slice, &group, &slot, trigger)),
                    None => creates.push(self.create(&group, &slot, trigger)),
                }
            }
        }
        let deletes = spare.iter().map(|s| Action::Delete {
            id: self.id(s),
            propagation: Propagation::Default,
            grace_seconds: None,
            announce: None,
        });
        creates.into_iter().chain(patches).chain(deletes).collect()
    }

    /// Leaves endpoints where they are and places the others. Returns the slices of ports that nobody wants.
    fn keep(&mut self) -> Vec<Arc<EndpointSlice>> {
        let mut spare = Vec::new();
        let mut of: Vec<Vec<Arc<EndpointSlice>>> = self.groups.iter().map(|_| Vec::new()).collect();
        for slice in std::mem::take(&mut self.there) {
            let ports: Vec<Value> = slice.ports.iter().flatten().map(|p| json!(p)).collect();
            let key = ports_key(&ports);
            let at = self.groups.iter().position(|g| g.family == slice.address_type && g.key == key);
            match at.filter(|i| !self.groups[*i].stays_empty || of[*i].is_empty()) {
                Some(i) => of[i].push(slice),
                None => spare.push(slice),
            }
        }
        let max = self.owner.len_max;
        for (group, slices) in self.groups.iter_mut().zip(of) {
            group.slots = settle(&group.wanted, slices, max);
            if group.stays_empty && group.slots.is_empty() {
                group.slots.push(Slot { slice: None, members: Vec::new(), changed: true, since: None });
            }
        }
        spare
    }

    fn id(&self, slice: &EndpointSlice) -> ObjectId {
        crate::meta::id(resource("discovery.k8s.io", "endpointslices"), &slice.metadata)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut out = self.owner.labels.clone();
        out.insert(SERVICE.to_string(), self.owner.id.name.to_string());
        out.insert(MANAGED_BY.to_string(), self.owner.manager.to_string());
        out
    }

    fn create(&self, group: &Group<W>, slot: &Slot, trigger: &Trigger) -> Action {
        let mut notes: Map<String, Value> =
            self.owner.annotations.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        if let Some(since) = slot.since.into_iter().chain(trigger.first).min() {
            notes.insert(trigger.annotation.to_string(), crate::meta::time(since));
        }
        let mut metadata = json!({"generateName": format!("{}-", self.owner.id.name),
            "namespace": self.owner.id.namespace, "labels": self.labels(),
            "ownerReferences": [owner_reference(self.owner.id)]});
        if !notes.is_empty() {
            metadata["annotations"] = notes.into();
        }
        Action::Create {
            resource: resource("discovery.k8s.io", "endpointslices"),
            namespace: self.owner.id.namespace.clone(),
            object: json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
                "addressType": group.family, "endpoints": values(group, slot), "ports": ports(group)}),
            on_exists: OnExists::Fine,
            announce: None,
        }
    }

    fn patch(
        &self,
        slice: &EndpointSlice,
        group: &Group<W>,
        slot: &Slot,
        trigger: &Trigger,
    ) -> Option<Action> {
        let wanted = self.labels();
        let labels = difference(labels(&slice.metadata), &wanted);
        let notes = self.owner.annotations.iter();
        let mut notes: Map<String, Value> = notes
            .filter(|(k, v)| annotation(&slice.metadata, k) != Some(v.as_str()))
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        if !slot.changed && labels.is_empty() && notes.is_empty() {
            return None;
        }
        if slot.changed && trigger.first.is_some() {
            notes.insert(trigger.annotation.to_string(), slot.since.map_or(Value::Null, crate::meta::time));
        }
        let mut patch = json!({"metadata": {"labels": labels, "annotations": notes}});
        if slot.changed {
            patch["endpoints"] = values(group, slot);
            patch["ports"] = ports(group);
        }
        Some(Action::Patch { id: self.id(slice), subresource: "", patch })
    }
}

/// An empty list is none, as a stock server stores it.
fn values<W: Wanted>(group: &Group<W>, slot: &Slot) -> Value {
    let all: Vec<Value> = slot.members.iter().map(|m| group.wanted[*m].to_value()).collect();
    if all.is_empty() { Value::Null } else { all.into() }
}

fn ports<W>(group: &Group<W>) -> Value {
    if group.ports.is_empty() { Value::Null } else { json!(group.ports) }
}

/// Which of the wanted are in which slice: where they are, then in slices that change anyway, then in the fullest that takes
/// all the rest, then in new ones.
fn settle<W: Wanted>(wanted: &[W], slices: Vec<Arc<EndpointSlice>>, max: usize) -> Vec<Slot> {
    let mut rest: HashMap<&str, usize> = wanted.iter().enumerate().map(|(i, w)| (w.identity(), i)).collect();
    let mut slots: Vec<Slot> = Vec::new();
    for slice in slices {
        let mut slot = Slot { slice: None, members: Vec::new(), changed: false, since: None };
        for endpoint in slice.endpoints.iter().flatten() {
            match rest.remove(W::published_identity(endpoint)) {
                Some(i) if wanted[i].is(endpoint) => slot.members.push(i),
                Some(i) if wanted[i].is_news(endpoint) => slot.add(wanted, i),
                Some(i) => {
                    slot.changed = true;
                    slot.members.push(i);
                }
                None => slot.changed = true,
            }
        }
        slot.slice = Some(slice);
        slots.push(slot);
    }
    let mut rest: Vec<usize> = rest.into_values().collect();
    rest.sort_unstable_by(|a, b| b.cmp(a));
    // One that is empty by now goes if it is not needed.
    for slot in slots.iter_mut().filter(|s| s.changed && !s.members.is_empty()) {
        while slot.members.len() < max {
            let Some(next) = rest.pop() else { break };
            slot.add(wanted, next);
        }
    }
    let roomy = slots.iter_mut().filter(|s| !rest.is_empty() && s.members.len() + rest.len() <= max);
    if let Some(slot) = roomy.max_by_key(|s| s.members.len()) {
        while let Some(next) = rest.pop() {
            slot.add(wanted, next);
        }
    }
    while !rest.is_empty() {
        let mut slot = Slot { slice: None, members: Vec::new(), changed: true, since: None };
        for next in rest.drain(rest.len().saturating_sub(max)..).rev() {
            slot.add(wanted, next);
        }
        slots.push(slot);
    }
    slots
}

/// What to merge into labels so that they become the wanted ones.
pub(super) fn difference(
    now: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Map<String, Value> {
    let gone = now.keys().filter(|k| !wanted.contains_key(*k)).map(|k| (k.clone(), Value::Null));
    let set = wanted.iter().filter(|(k, v)| now.get(*k) != Some(v)).map(|(k, v)| (k.clone(), json!(v)));
    gone.chain(set).collect()
}
