//! The vocabulary of a question to the authorizer: who, what, and the answer, with the stock server's wording of a
//! refusal.

use std::collections::BTreeMap;
use stoa_units::FieldSelector;

/// Members of this group may do everything.
pub const SUPERUSER_GROUP: &str = "system:masters";

/// An authenticated identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's name, `system:serviceaccount:<namespace>:<name>` for a service account.
    pub name: String,
    /// The identity provider's id, often empty.
    pub uid: String,
    /// The groups the user is in, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// What else the identity provider says.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user with a name and groups only.
    pub fn new<G: Into<String>>(name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> User {
        User { name: name.into(), groups: groups.into_iter().map(Into::into).collect(), ..User::default() }
    }

    /// Whether the user is in a group.
    pub fn is_member(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether the user may do everything.
    pub fn is_superuser(&self) -> bool {
        self.is_member(SUPERUSER_GROUP)
    }

    /// The node that this user is, if it is one.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:").filter(|n| !n.is_empty())?;
        self.is_member("system:nodes").then_some(name)
    }
}

/// What the user wants to do. Either `resource` or `path` is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// `get`, `list`, `watch`, `create`, …; for a path the HTTP method in lower case.
    pub verb: &'a str,
    /// The API group, empty for the core group.
    pub group: &'a str,
    /// The plural resource name; empty for a non-resource request.
    pub resource: &'a str,
    /// `log`, `status`, …, or empty.
    pub subresource: &'a str,
    /// The namespace, or empty for cluster scope and requests across all namespaces.
    pub namespace: &'a str,
    /// The object's name, or empty for collections.
    pub name: &'a str,
    /// The path of a non-resource request.
    pub path: &'a str,
    /// The field selector of a list, watch or delete of a collection: a node may list only what it selects by its own name.
    pub fields: Option<&'a FieldSelector>,
}

impl<'a> Attributes<'a> {
    /// A request on a resource.
    pub fn resource(
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Self {
        Attributes { verb, group, resource, namespace, name, ..Attributes::default() }
    }

    /// A request on a path that is no resource, such as `/healthz`.
    pub fn path(verb: &'a str, path: &'a str) -> Self {
        Attributes { verb, path, ..Attributes::default() }
    }

    /// The same request on a subresource.
    #[must_use]
    pub fn with_subresource(mut self, subresource: &'a str) -> Self {
        self.subresource = subresource;
        self
    }

    /// Whether it is a request on a resource.
    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }
}

/// The authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go ahead.
    Allow {
        /// Which binding said so.
        reason: String,
    },
    /// Nobody allows it: refuse.
    NoOpinion {
        /// What stood in the way, often empty.
        reason: String,
    },
    /// Refuse, whatever others say.
    Deny {
        /// Why.
        reason: String,
    },
}

impl Decision {
    /// Whether the request may go ahead.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allow { .. })
    }

    /// The reason, whichever way it went.
    pub fn reason(&self) -> &str {
        match self {
            Decision::Allow { reason } | Decision::NoOpinion { reason } | Decision::Deny { reason } => reason,
        }
    }
}

/// The text of a refusal: `User "x" cannot get resource "pods" in API group "" in the namespace "ns"`, followed by the
/// reason if there is one.
pub fn forbidden_message(user: &User, attributes: &Attributes<'_>, reason: &str) -> String {
    let (who, verb) = (&user.name, attributes.verb);
    let mut text = if attributes.is_resource() {
        let slash = if attributes.subresource.is_empty() { "" } else { "/" };
        let resource = format!("{}{slash}{}", attributes.resource, attributes.subresource);
        let scope = match attributes.namespace {
            "" => "at the cluster scope".to_owned(),
            ns => format!("in the namespace {ns:?}"),
        };
        format!(
            "User {who:?} cannot {verb} resource {resource:?} in API group {:?} {scope}",
            attributes.group
        )
    } else {
        format!("User {who:?} cannot {verb} path {:?}", attributes.path)
    };
    if !reason.is_empty() {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_like_the_stock_servers() {
        let u = User::new("jane", ["dev"]);
        let get = Attributes::resource("get", "", "pods", "ns", "p");
        for (attributes, reason, want) in [
            (get, "", r#"User "jane" cannot get resource "pods" in API group "" in the namespace "ns""#),
            (
                get.with_subresource("log"),
                "no",
                r#"User "jane" cannot get resource "pods/log" in API group "" in the namespace "ns": no"#,
            ),
            (
                Attributes::resource("list", "apps", "deployments", "", ""),
                "",
                r#"User "jane" cannot list resource "deployments" in API group "apps" at the cluster scope"#,
            ),
            (Attributes::path("get", "/metrics"), "", r#"User "jane" cannot get path "/metrics""#),
        ] {
            assert_eq!(forbidden_message(&u, &attributes, reason), want);
        }
    }

    #[test]
    fn a_node_needs_both_the_name_and_the_group() {
        assert_eq!(User::new("system:node:n1", ["system:nodes"]).node_name(), Some("n1"));
        assert_eq!(User::new("system:node:n1", ["other"]).node_name(), None);
        assert_eq!(User::new("system:node:", ["system:nodes"]).node_name(), None);
        assert_eq!(User::new("n1", ["system:nodes"]).node_name(), None);
    }
}
