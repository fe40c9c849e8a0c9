//! What the tests of this crate share, and the recorded exchanges with a stock server.

use serde_json::Value;
use std::collections::BTreeMap;
use stoa_kube::resources;
use stoa_units::Time;

use crate::{Operation, Request, STOCK, UserRef, World};

mod admission;
mod batch;
mod classes;
mod core;
mod devices;
mod events;
mod kinds;
mod large;
mod networking;
mod plugins;
mod pods;
mod recorded;
mod rules;
mod shapes;
mod workloads;

/// A cluster of a few objects.
#[derive(Default)]
pub(crate) struct Objects(BTreeMap<(String, String, String, String), Value>);

impl Objects {
    pub(crate) fn add(&mut self, group: &str, plural: &str, object: Value) {
        let meta = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        self.0.insert((group.into(), plural.into(), meta("namespace"), meta("name")), object);
    }

    pub(crate) fn change(&mut self, group: &str, plural: &str, ns: &str, name: &str, f: impl Fn(&mut Value)) {
        let key = (group.to_owned(), plural.to_owned(), ns.to_owned(), name.to_owned());
        f(self.0.get_mut(&key).unwrap());
    }

    pub(crate) fn remove(&mut self, group: &str, plural: &str, ns: &str, name: &str) {
        self.0.remove(&(group.to_owned(), plural.to_owned(), ns.to_owned(), name.to_owned()));
    }
}

impl World for Objects {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.0.get(&(group.into(), plural.into(), namespace.into(), name.into())).cloned()
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let fits = |k: &(String, String, String, String)| {
            k.0 == group && k.1 == plural && (namespace.is_empty() || k.2 == namespace)
        };
        self.0.iter().filter(|(k, _)| fits(k)).map(|(_, v)| v.clone()).collect()
    }
}

/// A request by an ordinary user.
pub(crate) fn request<'a>(
    operation: Operation,
    group: &str,
    plural: &str,
    namespace: &'a str,
    name: &'a str,
) -> Request<'a> {
    let resource = resources().iter().find(|r| r.group == group && r.plural == plural).unwrap();
    Request {
        operation,
        resource,
        subresource: "",
        namespace,
        name,
        user: UserRef { name: "jane", groups: &[] },
        now: Time::EPOCH,
        dry_run: false,
        seed: 1,
        policy: &STOCK,
        notes: None,
    }
}
