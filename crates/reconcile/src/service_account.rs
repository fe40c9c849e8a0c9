//! Every namespace has a service account named `default`.

use crate::meta::{is_deleting, resource};
use crate::{Action, Key, OnExists, World};
use serde_json::json;

/// Looks at one namespace.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(namespace) = world.namespaces.get("", &key.name) else { return Vec::new() };
    let accounts = resource("", "serviceaccounts");
    if is_deleting(&namespace.metadata) || world.graph.at(accounts, &key.name, "default").is_some() {
        return Vec::new();
    }
    vec![Action::Create {
        resource: accounts,
        namespace: key.name.clone(),
        object: json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        on_exists: OnExists::Fine,
        announce: None,
    }]
}
