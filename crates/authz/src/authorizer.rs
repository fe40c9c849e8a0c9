//! The three authorizers as one, and one way to feed them from the store's watch.

use serde_json::Value;

use crate::{Attributes, Decision, NodeGraph, RBAC_GROUP, Rbac, User};

/// Superusers, nodes and role bindings, asked in this order.
#[derive(Debug, Default)]
pub struct Authorizer {
    /// Roles and bindings.
    pub rbac: Rbac,
    /// Which node runs what, and what that refers to.
    pub nodes: NodeGraph,
}

impl Authorizer {
    /// Knows nothing yet: only superusers may act.
    pub fn new() -> Authorizer {
        Authorizer::default()
    }

    /// May `user` do this?
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        if user.is_superuser() {
            return Decision::Allow { reason: String::new() };
        }
        let node = match user.node_name() {
            Some(node) => self.nodes.authorize(node, attributes),
            None => Decision::NoOpinion { reason: String::new() },
        };
        if node.is_allowed() {
            return node;
        }
        match self.rbac.authorize(user, attributes) {
            Decision::NoOpinion { reason } => Decision::NoOpinion { reason: join(node.reason(), &reason) },
            allowed => allowed,
        }
    }

    /// Takes in an object that was created or changed; kinds that authorization does not depend on are ignored.
    pub fn observe(&mut self, group: &str, resource: &str, object: &Value) {
        match (group, resource) {
            (RBAC_GROUP, "clusterroles") => self.rbac.set_cluster_role(object),
            (RBAC_GROUP, "roles") => self.rbac.set_role(object),
            (RBAC_GROUP, "clusterrolebindings" | "rolebindings") => self.rbac.set_binding(object),
            ("", "pods") => self.nodes.set_pod(object),
            ("", "persistentvolumes") => self.nodes.set_persistent_volume(object),
            _ => {}
        }
    }

    /// Takes in that an object is gone.
    pub fn forget(&mut self, group: &str, resource: &str, namespace: &str, name: &str) {
        match (group, resource) {
            (RBAC_GROUP, "clusterroles") => self.rbac.remove_cluster_role(name),
            (RBAC_GROUP, "roles") => self.rbac.remove_role(namespace, name),
            (RBAC_GROUP, "clusterrolebindings" | "rolebindings") => {
                self.rbac.remove_binding(namespace, name);
            }
            ("", "pods") => self.nodes.remove_pod(namespace, name),
            ("", "persistentvolumes") => self.nodes.remove_persistent_volume(name),
            _ => {}
        }
    }
}

fn join(a: &str, b: &str) -> String {
    let parts: Vec<&str> = [a, b].into_iter().filter(|p| !p.is_empty()).collect();
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_authorizer_that_allows_wins() {
        let mut a = Authorizer::new();
        for o in crate::bootstrap_objects() {
            let plural = format!("{}s", o["kind"].as_str().unwrap().to_lowercase());
            a.observe(RBAC_GROUP, &plural, &o);
        }
        let secret = Attributes::resource("get", "", "secrets", "ns", "s");
        assert!(a.authorize(&User::new("root", ["system:masters"]), &secret).is_allowed());
        let node = User::new("system:node:n1", ["system:nodes", "system:authenticated"]);
        assert_eq!(
            a.authorize(&node, &secret).reason(),
            "no relationship found between node 'n1' and this object"
        );
        a.observe(
            "",
            "pods",
            &json!({"metadata": {"name": "p", "namespace": "ns"},
            "spec": {"nodeName": "n1", "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}),
        );
        assert!(a.authorize(&node, &secret).is_allowed());
        a.forget("", "pods", "ns", "p");
        assert!(!a.authorize(&node, &secret).is_allowed());
        // What roles grant, a node has too.
        assert!(a.authorize(&node, &Attributes::path("get", "/version")).is_allowed());
    }
}
