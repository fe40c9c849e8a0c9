//! Every namespace has a config map with the certificate by which its pods know the API server.

use crate::meta::{id, is_deleting, resource};
use crate::world::ROOT_CA;
use crate::{Action, Key, OnExists, World};
use serde_json::json;

const ABOUT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// Looks at one namespace.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(namespace) = world.namespaces.get("", &key.name) else { return Vec::new() };
    if is_deleting(&namespace.metadata) || world.root_ca.is_empty() {
        return Vec::new();
    }
    let maps = resource("", "configmaps");
    let wanted = json!({"ca.crt": world.root_ca});
    let annotations = json!({"kubernetes.io/description": ABOUT});
    match world.root_cas.get(&key.name, ROOT_CA) {
        Some(map) if json!(map.data) == wanted => Vec::new(),
        Some(map) => {
            let mut patch = json!({"data": wanted, "metadata": {"annotations": annotations}});
            // Whatever else somebody put there goes: the map is ours.
            for other in map.data.iter().flatten().map(|(k, _)| k).filter(|k| *k != "ca.crt") {
                patch["data"][other] = json!(null);
            }
            vec![Action::Patch { id: id(maps, &map.metadata), subresource: "", patch }]
        }
        None => vec![Action::Create {
            resource: maps,
            namespace: key.name.clone(),
            object: json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": ROOT_CA, "annotations": annotations}, "data": wanted}),
            on_exists: OnExists::Fine,
            announce: None,
        }],
    }
}
