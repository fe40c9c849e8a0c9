//! The objects that the leader pushed: config maps, secrets and claims, only those that pods of this node refer to, and the
//! handlers of all runtime classes.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::resource::v1::ResourceClaim;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use stoa_volume::{Lookup, Objects};
use stoa_wire::Referent;

type Names = (String, String);

/// What was pushed. An object never named is pending.
#[derive(Default)]
pub(crate) struct Pushed {
    config_maps: Mutex<HashMap<Names, Lookup<ConfigMap>>>,
    secrets: Mutex<HashMap<Names, Lookup<Secret>>>,
    claims: Mutex<HashMap<Names, Lookup<ResourceClaim>>>,
    /// By the class's name.
    handlers: Mutex<HashMap<String, String>>,
}

impl Pushed {
    /// Keeps an object.
    pub(crate) fn put(
        &self,
        kind: Referent,
        namespace: &str,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), serde_json::Error> {
        let names = (namespace.to_owned(), name.to_owned());
        match kind {
            Referent::ConfigMap => {
                let object = Arc::new(serde_json::from_slice(bytes)?);
                self.config_maps.lock().insert(names, Lookup::Found(object));
            }
            Referent::Secret => {
                let object = Arc::new(serde_json::from_slice(bytes)?);
                self.secrets.lock().insert(names, Lookup::Found(object));
            }
            Referent::ResourceClaim => {
                let object = Arc::new(serde_json::from_slice(bytes)?);
                self.claims.lock().insert(names, Lookup::Found(object));
            }
            Referent::RuntimeClass => {
                let class: RuntimeClass = serde_json::from_slice(bytes)?;
                self.handlers.lock().insert(name.to_owned(), class.handler);
            }
            // Of no pod: `services` has them.
            Referent::Service | Referent::EndpointSlice => {}
        }
        Ok(())
    }

    /// Notes that an object does not exist.
    pub(crate) fn absent(&self, kind: Referent, namespace: &str, name: &str) {
        let names = (namespace.to_owned(), name.to_owned());
        match kind {
            Referent::ConfigMap => drop(self.config_maps.lock().insert(names, Lookup::Absent)),
            Referent::Secret => drop(self.secrets.lock().insert(names, Lookup::Absent)),
            Referent::ResourceClaim => drop(self.claims.lock().insert(names, Lookup::Absent)),
            Referent::RuntimeClass => drop(self.handlers.lock().remove(name)),
            Referent::Service | Referent::EndpointSlice => {}
        }
    }

    /// The handler of a runtime class that is known.
    pub(crate) fn handler(&self, class: &str) -> Option<String> {
        self.handlers.lock().get(class).cloned()
    }

    /// A claim on devices that a pod refers to.
    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Lookup<ResourceClaim> {
        let names = (namespace.to_owned(), name.to_owned());
        self.claims.lock().get(&names).cloned().unwrap_or(Lookup::Pending)
    }

    /// Forgets whatever no pod refers to any more.
    pub(crate) fn retain(&self, wanted: impl Fn(Referent, &str, &str) -> bool) {
        self.config_maps.lock().retain(|(ns, n), _| wanted(Referent::ConfigMap, ns, n));
        self.secrets.lock().retain(|(ns, n), _| wanted(Referent::Secret, ns, n));
        self.claims.lock().retain(|(ns, n), _| wanted(Referent::ResourceClaim, ns, n));
        self.handlers.lock().retain(|n, _| wanted(Referent::RuntimeClass, "", n));
    }
}

impl Objects for Pushed {
    fn config_map(&self, namespace: &str, name: &str) -> Lookup<ConfigMap> {
        let names = (namespace.to_owned(), name.to_owned());
        self.config_maps.lock().get(&names).cloned().unwrap_or(Lookup::Pending)
    }

    fn secret(&self, namespace: &str, name: &str) -> Lookup<Secret> {
        let names = (namespace.to_owned(), name.to_owned());
        self.secrets.lock().get(&names).cloned().unwrap_or(Lookup::Pending)
    }
}
