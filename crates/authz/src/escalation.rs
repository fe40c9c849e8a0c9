//! No one may hand out what they do not hold: the checks before a role or a binding is written.
//!
//! The verbs `escalate` (on a role) and `bind` (on the role that a binding names) are the ways around it.

use serde_json::Value;

use crate::rbac::{RoleKind, RoleRef, missing_role, object_name, object_namespace};
use crate::rule::{covers, describe, quote_list};
use crate::{Attributes, RBAC_GROUP, Rbac, Rule, User};

/// Why a role or binding may not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would grant more than the writer holds; the text is the stock server's.
    #[error("{0}")]
    Forbidden(String),
    /// The binding names a role that is not there, and the writer may not bind roles unseen.
    #[error("{0}")]
    RoleNotFound(String),
}

impl Rbac {
    /// Whether `user` may write the rules of a Role or ClusterRole (`object`, with its `kind`). `old` is the stored
    /// object of an update: rules that stay as they were are not judged again.
    pub fn check_role(&self, user: &User, object: &Value, old: Option<&Value>) -> Result<(), Refusal> {
        let namespace = object_namespace(object);
        let unchanged = |o: &Value| {
            o.get("rules") == object.get("rules") && o.get("aggregationRule") == object.get("aggregationRule")
        };
        if user.is_superuser() || old.is_some_and(unchanged) {
            return Ok(());
        }
        let resource = if namespace.is_empty() { "clusterroles" } else { "roles" };
        let escalate = Attributes::resource("escalate", RBAC_GROUP, resource, namespace, object_name(object));
        if self.authorize(user, &escalate).is_allowed() {
            return Ok(());
        }
        if object.get("aggregationRule").is_some_and(|r| !r.is_null()) {
            // It can gather anything, later too.
            self.check_held(user, namespace, &everything()).map_err(|_| {
                Refusal::Forbidden("must have cluster-admin privileges to use the aggregationRule".to_owned())
            })?;
        }
        self.check_held(user, namespace, &Rule::list_of(object))
    }

    /// Whether `user` may write a RoleBinding or ClusterRoleBinding. `old` is the stored object of an update: a change
    /// that leaves subjects and role as they were grants nothing new.
    pub fn check_binding(&self, user: &User, object: &Value, old: Option<&Value>) -> Result<(), Refusal> {
        let namespace = object_namespace(object);
        let unchanged = |o: &Value| {
            o.get("subjects") == object.get("subjects") && o.get("roleRef") == object.get("roleRef")
        };
        if user.is_superuser() || old.is_some_and(unchanged) {
            return Ok(());
        }
        let Some(role) = RoleRef::of(object) else { return Ok(()) }; // validation refuses it
        let resource = match role.kind {
            RoleKind::ClusterRole => "clusterroles",
            RoleKind::Role => "roles",
        };
        let bind = Attributes::resource("bind", RBAC_GROUP, resource, namespace, &role.name);
        if self.authorize(user, &bind).is_allowed() {
            return Ok(());
        }
        match self.rules_of(&role, namespace) {
            Some(rules) => self.check_held(user, namespace, rules),
            None => Err(Refusal::RoleNotFound(missing_role(&role))),
        }
    }

    /// Whether `user` holds all of `rules` in a namespace.
    pub fn check_held(&self, user: &User, namespace: &str, rules: &[Rule]) -> Result<(), Refusal> {
        let owned: Vec<Rule> = self.held(user, namespace).cloned().collect();
        covers(&owned, rules).map_err(|missing| {
            Refusal::Forbidden(format!(
                "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
                user.name,
                quote_list(&user.groups),
                describe(missing).join("\n")
            ))
        })
    }
}

fn everything() -> [Rule; 2] {
    let star = || vec!["*".to_owned()];
    [
        Rule { verbs: star(), api_groups: star(), resources: star(), ..Rule::default() },
        Rule { verbs: star(), non_resource_urls: star(), ..Rule::default() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn world() -> Rbac {
        let mut rbac = Rbac::new();
        for o in crate::bootstrap_objects() {
            match o["kind"].as_str().unwrap() {
                "ClusterRole" => rbac.set_cluster_role(&o),
                "Role" => rbac.set_role(&o),
                _ => rbac.set_binding(&o),
            }
        }
        rbac.set_binding(&json!({
            "metadata": {"name": "e", "namespace": "ns"},
            "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": "User", "name": "ed"}],
        }));
        rbac
    }

    fn role(rules: Value) -> Value {
        json!({"metadata": {"name": "r", "namespace": "ns"}, "rules": rules})
    }

    #[test]
    fn nobody_grants_what_they_do_not_hold() {
        let (rbac, ed) = (world(), User::new("ed", ["dev", "system:authenticated"]));
        let held = role(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}]));
        assert_eq!(rbac.check_role(&ed, &held, None), Ok(()));
        let more = role(json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "delete"]}]));
        assert_eq!(
            rbac.check_role(&ed, &more, None),
            Err(Refusal::Forbidden(
                "user \"ed\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"delete\"]}".to_owned()
            ))
        );
        assert_eq!(rbac.check_role(&ed, &more, Some(&more)), Ok(()), "what was there may stay");
        assert_eq!(rbac.check_role(&User::new("root", ["system:masters"]), &more, None), Ok(()));
        let elsewhere = json!({"metadata": {"name": "r", "namespace": "other"}, "rules": held["rules"]});
        assert!(rbac.check_role(&ed, &elsewhere, None).is_err());
    }

    #[test]
    fn aggregation_needs_everything() {
        let (rbac, ed) = (world(), User::new("ed", ["dev"]));
        let gathers = json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
        assert_eq!(
            rbac.check_role(&ed, &gathers, None).unwrap_err().to_string(),
            "must have cluster-admin privileges to use the aggregationRule"
        );
    }

    #[test]
    fn a_binding_is_judged_by_the_role_it_names_and_bind_lets_it_pass() {
        let (mut rbac, ed) = (world(), User::new("ed", ["dev"]));
        let binding = |role: &str| {
            json!({"metadata": {"name": "b", "namespace": "ns"}, "roleRef": {"kind": "ClusterRole", "name": role},
                   "subjects": [{"kind": "User", "name": "friend"}]})
        };
        assert_eq!(rbac.check_binding(&ed, &binding("view"), None), Ok(()));
        assert!(matches!(
            rbac.check_binding(&ed, &binding("cluster-admin"), None),
            Err(Refusal::Forbidden(_))
        ));
        assert_eq!(
            rbac.check_binding(&ed, &binding("nope"), None).unwrap_err().to_string(),
            "clusterrole.rbac.authorization.k8s.io \"nope\" not found"
        );
        rbac.set_cluster_role(&json!({"metadata": {"name": "binder"}, "rules": [
            {"apiGroups": [RBAC_GROUP], "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": ["cluster-admin"]}
        ]}));
        rbac.set_binding(
            &json!({"metadata": {"name": "binder"}, "roleRef": {"kind": "ClusterRole", "name": "binder"},
            "subjects": [{"kind": "Group", "name": "dev"}]}),
        );
        assert_eq!(rbac.check_binding(&ed, &binding("cluster-admin"), None), Ok(()));
    }
}
