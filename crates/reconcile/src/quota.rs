//! Resource quotas: their status tells people what is used. What an object costs is admission's knowledge, which enforces the
//! quota too, so a look only says that it is to be counted again; a count that finds the same writes nothing.

use crate::meta::{id, is_deleting, resource};
use crate::{Action, Key, World};

/// Looks at one quota.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(quota) = world.quotas.get(&key.namespace, &key.name) else { return Vec::new() };
    if is_deleting(&quota.metadata) {
        return Vec::new();
    }
    vec![Action::Recount { id: id(resource("", "resourcequotas"), &quota.metadata) }]
}

#[cfg(test)]
mod tests {
    use crate::stage::Stage;
    use crate::{Action, Controller, Key, reconcile};
    use serde_json::json;

    #[test]
    fn what_may_cost_something_has_the_quotas_of_its_namespace_counted() {
        let mut stage = Stage::new();
        let key = Key::new(Controller::Quota, "d", "q");
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": "d"}, "spec": {"hard": {"pods": "2"}}});
        assert!(stage.put(quota).contains(&key));
        let object = |kind: &str, namespace: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        for (kind, namespace, first, second) in [
            ("Pod", "d", true, false),
            ("Secret", "d", true, false),
            ("Event", "d", false, false),
            ("Pod", "other", false, false),
        ] {
            let named = [first, second].map(|_| stage.put(object(kind, namespace, "x")).contains(&key));
            assert_eq!(named, [first, second], "{kind} in {namespace}");
        }
        for (patch, counts) in [
            (json!({"status": {"phase": "Running"}}), false),
            (json!({"metadata": {"generation": 2}}), true),
            (json!({"status": {"phase": "Succeeded"}}), true),
        ] {
            assert_eq!(stage.patch("pods", "d", "x", &patch).contains(&key), counts, "{patch}");
        }
        assert!(stage.remove("", "pods", "d", "x").contains(&key));
        assert!(matches!(reconcile(&stage.world, &key)[..], [Action::Recount { .. }]));
    }
}
