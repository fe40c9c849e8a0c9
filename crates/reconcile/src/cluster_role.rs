//! Aggregated cluster roles: their rules are those of all roles that their selectors mean.

use crate::meta::{id, labels, resource, selector};
use crate::{Action, Key, World};
use serde_json::{Value, json};

/// Looks at all aggregated roles: one role's change may concern any of them.
pub(crate) fn reconcile(world: &World, _key: &Key) -> Vec<Action> {
    let mut roles: Vec<_> = world.cluster_roles.iter().collect();
    roles.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut actions = Vec::new();
    for role in &roles {
        let Some(aggregation) = &role.aggregation_rule else { continue };
        let selectors: Vec<_> =
            aggregation.cluster_role_selectors.iter().flatten().filter_map(selector).collect();
        let mut rules: Vec<Value> = Vec::new();
        for other in roles.iter().filter(|o| o.metadata.name != role.metadata.name) {
            if !selectors.iter().any(|s| s.matches(labels(&other.metadata))) {
                continue;
            }
            for rule in other.rules.iter().flatten().map(|r| json!(r)) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
        let now: Vec<Value> = role.rules.iter().flatten().map(|r| json!(r)).collect();
        if now != rules {
            let id = id(resource("rbac.authorization.k8s.io", "clusterroles"), &role.metadata);
            actions.push(Action::Patch { id, subresource: "", patch: json!({"rules": rules}) });
        }
    }
    actions
}
