//! A world for tests: objects are put in as JSON, and plans are carried out upon it in the simplest way there is.

use crate::{Action, Key, World, reconcile};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stoa_kube::{Resource, resources};
use stoa_units::Time;

type Place = (String, String, String);

/// The world, and the objects in it as they were written.
pub(crate) struct Stage {
    pub world: World,
    pub objects: BTreeMap<Place, Value>,
    /// Reason and message of every event, in order.
    pub events: Vec<(String, String)>,
    revision: u64,
}

fn place(resource: &Resource, namespace: &str, name: &str) -> Place {
    (resource.plural.to_string(), namespace.to_string(), name.to_string())
}

impl Stage {
    pub fn new() -> Stage {
        let now = Time::parse("2026-01-01T00:00:00Z").expect("a time");
        Stage { world: World::new(now, "ca"), objects: BTreeMap::new(), events: Vec::new(), revision: 1_000 }
    }

    /// Time goes by.
    pub fn wait(&mut self, seconds: u64) {
        self.world.now = self.world.now.plus(Duration::from_secs(seconds));
    }

    /// Writes an object; what every stored object has is added. Returns who is to look.
    pub fn put(&mut self, mut object: Value) -> BTreeSet<Key> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let resource = resources()
            .find_object(&text(&object["apiVersion"]), &text(&object["kind"]))
            .expect("a kind that there is");
        self.revision += 1;
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = self.revision.to_string().into();
        if meta["name"].is_null() {
            meta["name"] = format!("{}{}", text(&meta["generateName"]), self.revision).into();
        }
        if meta["uid"].is_null() {
            meta["uid"] = format!("uid-{}", text(&meta["name"])).into();
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = self.world.now.to_rfc3339_seconds().into();
        }
        let at = place(resource, &text(&meta["namespace"]), &text(&meta["name"]));
        let bytes = serde_json::to_vec(&object).expect("JSON");
        self.objects.insert(at, object);
        self.world.put(resource, &bytes).expect("an object that can be read")
    }

    pub fn remove(&mut self, group: &str, plural: &str, namespace: &str, name: &str) -> BTreeSet<Key> {
        let resource = resources().find_stored(group, plural).expect("a resource");
        self.objects.remove(&place(resource, namespace, name));
        self.world.remove(resource, namespace, name)
    }

    /// All objects of a kind, by name.
    #[allow(dead_code)]
    pub fn all(&self, plural: &str) -> Vec<&Value> {
        self.objects.iter().filter(|((p, _, _), _)| p == plural).map(|(_, v)| v).collect()
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> &Value {
        &self.objects[&(plural.to_string(), namespace.to_string(), name.to_string())]
    }

    /// Changes an object by a merge patch.
    pub fn patch(&mut self, plural: &str, namespace: &str, name: &str, patch: &Value) -> BTreeSet<Key> {
        let mut object = self.get(plural, namespace, name).clone();
        merge(&mut object, patch);
        self.put(object)
    }

    /// The patches that one look asks for.
    pub fn patches(&self, key: &Key) -> Vec<Value> {
        let actions = reconcile(&self.world, key).into_iter();
        actions.filter_map(|a| if let Action::Patch { patch, .. } = a { Some(patch) } else { None }).collect()
    }

    /// Looks, does what is wanted, and looks again until nothing is; the moment to look again, if one was named.
    pub fn settle(&mut self, key: &Key) -> Option<Time> {
        for _ in 0..50 {
            let actions = reconcile(&self.world, key);
            let next = actions
                .iter()
                .filter_map(|a| if let Action::Again { at } = a { Some(*at) } else { None })
                .min();
            let mut written = false;
            for action in actions {
                written |= self.act(action);
            }
            if !written {
                return next;
            }
        }
        panic!("{key} does not come to rest");
    }

    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Create { object, announce, resource, namespace, .. } => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                if self.objects.contains_key(&place(resource, &namespace, name)) {
                    return false;
                }
                if let Some(a) = announce {
                    self.events.push((a.reason.into(), a.done.into()));
                }
                self.put(object);
            }
            Action::Patch { id, patch, .. } => {
                let at = place(id.resource, &id.namespace, &id.name);
                let Some(mut object) = self.objects.get(&at).cloned() else { return false };
                merge(&mut object, &patch);
                let meta = &object["metadata"];
                let free = meta["finalizers"].as_array().is_none_or(Vec::is_empty);
                if free && !meta["deletionTimestamp"].is_null() && id.resource.plural != "pods" {
                    self.remove(id.resource.storage, id.resource.plural, &id.namespace, &id.name);
                } else {
                    self.put(object);
                }
            }
            Action::Delete { id, announce, .. } => {
                if let Some(a) = announce {
                    self.events.push((a.reason.into(), a.done.into()));
                }
                let at = place(id.resource, &id.namespace, &id.name);
                let Some(mut object) = self.objects.get(&at).cloned() else { return false };
                let held = object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
                let lingers = id.resource.plural == "pods" && !object["spec"]["nodeName"].is_null();
                if held || lingers {
                    object["metadata"]["deletionTimestamp"] = self.world.now.to_rfc3339_seconds().into();
                    self.put(object);
                } else {
                    self.remove(id.resource.storage, id.resource.plural, &id.namespace, &id.name);
                }
            }
            Action::Event { reason, message, .. } => {
                self.events.push((reason.to_string(), message));
                return false;
            }
            Action::IssueToken { .. } | Action::Recount { .. } | Action::Again { .. } => return false,
        }
        true
    }
}

/// A pod's status as an agent reports it.
pub(crate) fn pod_status(phase: &str, ready: bool, since: Time) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"status": {"phase": phase, "podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": ready,
        "lastTransitionTime": since.to_rfc3339_seconds()}]}})
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|o| o.remove(key));
        } else {
            merge(&mut target[key], value);
        }
    }
}
