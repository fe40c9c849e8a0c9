//! Role-based access: roles and bindings indexed by subject, so that a request looks only at the bindings of its own
//! user and groups, however many others there are.

mod aggregate;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::{Attributes, Decision, RBAC_GROUP, Rule, User};
use aggregate::Aggregation;

/// What a binding refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoleRef {
    pub(crate) kind: RoleKind,
    pub(crate) name: String,
}

/// Which kind of role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RoleKind {
    Role,
    ClusterRole,
}

impl RoleKind {
    fn as_str(self) -> &'static str {
        match self {
            RoleKind::Role => "Role",
            RoleKind::ClusterRole => "ClusterRole",
        }
    }
}

impl RoleRef {
    pub(crate) fn of(binding: &Value) -> Option<RoleRef> {
        let reference = binding.get("roleRef")?;
        let kind = match text(reference, "kind") {
            "Role" => RoleKind::Role,
            "ClusterRole" => RoleKind::ClusterRole,
            _ => return None,
        };
        Some(RoleRef { kind, name: text(reference, "name").to_owned() })
    }
}

/// Whom a binding grants to, as the index sees it: a service account is a user with a long name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// One subject's share in one binding.
#[derive(Debug)]
struct Grant {
    binding: String,
    namespace: String,
    role: RoleRef,
    /// The subject as messages name it: `Group "dev"`.
    subject: String,
}

impl Grant {
    fn describe(&self) -> String {
        let (kind, binding) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.binding.clone()),
            ns => ("RoleBinding", format!("{}/{ns}", self.binding)),
        };
        let (role_kind, role) = (self.role.kind.as_str(), &self.role.name);
        format!("{kind} {binding:?} of {role_kind} {role:?} to {}", self.subject)
    }
}

/// A subject's grants, by the binding's namespace (empty: cluster-wide) and name.
type Grants = HashMap<String, BTreeMap<String, Arc<Grant>>>;

/// Roles and bindings, kept current by `set_*` and `remove_*`.
#[derive(Debug, Default)]
pub struct Rbac {
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    roles: HashMap<String, HashMap<String, Arc<[Rule]>>>,
    aggregation: Aggregation,
    /// Namespace and name of each binding → its subjects, to find them again at its removal.
    bindings: HashMap<(String, String), Vec<Subject>>,
    users: HashMap<String, Grants>,
    groups: HashMap<String, Grants>,
}

impl Rbac {
    /// Nobody may do anything.
    pub fn new() -> Rbac {
        Rbac::default()
    }

    /// Adds or replaces a ClusterRole.
    pub fn set_cluster_role(&mut self, role: &Value) {
        let name = object_name(role).to_owned();
        let own: Arc<[Rule]> = Rule::list_of(role).into();
        let stale = self.aggregation.set(&name, role, own.clone());
        if !self.aggregation.aggregates(&name) {
            self.cluster_roles.insert(name, own);
        }
        self.gather(stale);
    }

    /// Removes a ClusterRole.
    pub fn remove_cluster_role(&mut self, name: &str) {
        self.cluster_roles.remove(name);
        let stale = self.aggregation.remove(name);
        self.gather(stale);
    }

    fn gather(&mut self, stale: Vec<String>) {
        for name in stale {
            let rules = self.aggregation.gathered(&name);
            self.cluster_roles.insert(name, rules);
        }
    }

    /// Adds or replaces a Role.
    pub fn set_role(&mut self, role: &Value) {
        let rules = Rule::list_of(role).into();
        self.roles
            .entry(object_namespace(role).to_owned())
            .or_default()
            .insert(object_name(role).to_owned(), rules);
    }

    /// Removes a Role.
    pub fn remove_role(&mut self, namespace: &str, name: &str) {
        if let Some(roles) = self.roles.get_mut(namespace) {
            roles.remove(name);
            if roles.is_empty() {
                self.roles.remove(namespace);
            }
        }
    }

    /// Adds or replaces a RoleBinding, or a ClusterRoleBinding (which has no namespace).
    pub fn set_binding(&mut self, binding: &Value) {
        let (namespace, name) = (object_namespace(binding), object_name(binding));
        self.remove_binding(namespace, name);
        let Some(role) = RoleRef::of(binding) else { return };
        let mut subjects = Vec::new();
        for subject in binding.get("subjects").and_then(Value::as_array).into_iter().flatten() {
            let Some((key, described)) = read_subject(subject, namespace) else { continue };
            let grant = Arc::new(Grant {
                binding: name.to_owned(),
                namespace: namespace.to_owned(),
                role: role.clone(),
                subject: described,
            });
            let index = match &key {
                Subject::User(n) => self.users.entry(n.clone()),
                Subject::Group(n) => self.groups.entry(n.clone()),
            };
            index
                .or_default()
                .entry(namespace.to_owned())
                .or_default()
                .entry(name.to_owned())
                .or_insert(grant);
            subjects.push(key);
        }
        self.bindings.insert((namespace.to_owned(), name.to_owned()), subjects);
    }

    /// Removes a RoleBinding, or with an empty namespace a ClusterRoleBinding.
    pub fn remove_binding(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        for subject in self.bindings.remove(&key).unwrap_or_default() {
            let (index, who) = match &subject {
                Subject::User(n) => (&mut self.users, n),
                Subject::Group(n) => (&mut self.groups, n),
            };
            let Some(grants) = index.get_mut(who) else { continue };
            if let Some(scoped) = grants.get_mut(namespace) {
                scoped.remove(name);
                if scoped.is_empty() {
                    grants.remove(namespace);
                }
            }
            if grants.is_empty() {
                index.remove(who);
            }
        }
    }

    /// Whether some role bound to the user allows the request. Cluster-wide bindings are looked at first.
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        let mut dangling: Vec<String> = Vec::new();
        for grant in self.grants(user, attributes.namespace) {
            match self.rules_of(&grant.role, &grant.namespace) {
                Some(rules) if rules.iter().any(|r| r.allows(attributes)) => {
                    return Decision::Allow { reason: format!("RBAC: allowed by {}", grant.describe()) };
                }
                Some(_) => {}
                None => dangling.push(missing_role(&grant.role)),
            }
        }
        dangling.dedup();
        let reason = match dangling.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision::NoOpinion { reason }
    }

    /// What the user may do in a namespace, for a SelfSubjectRulesReview.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut out = Rules::default();
        for rule in self.held(user, namespace) {
            if !rule.resources.is_empty() {
                out.resource_rules.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    api_groups: rule.api_groups.clone(),
                    resources: rule.resources.clone(),
                    resource_names: rule.resource_names.clone(),
                });
            }
            if !rule.non_resource_urls.is_empty() {
                out.non_resource_rules.push(NonResourceRule {
                    verbs: rule.verbs.clone(),
                    non_resource_urls: rule.non_resource_urls.clone(),
                });
            }
        }
        out
    }

    /// The rules that an aggregating ClusterRole gathers, for the controller that writes them back into the object;
    /// `None` where the role does not aggregate.
    pub fn aggregated_rules(&self, cluster_role: &str) -> Option<&[Rule]> {
        self.aggregation.aggregates(cluster_role).then(|| self.cluster_roles.get(cluster_role))?.map(|r| &**r)
    }

    /// Every rule that the user holds in a namespace.
    pub(crate) fn held(&self, user: &User, namespace: &str) -> impl Iterator<Item = &Rule> {
        self.grants(user, namespace)
            .filter_map(|g| self.rules_of(&g.role, &g.namespace))
            .flat_map(|rules| rules.iter())
    }

    /// The rules of a role as seen from a namespace.
    pub(crate) fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<&Arc<[Rule]>> {
        match role.kind {
            RoleKind::ClusterRole => self.cluster_roles.get(&role.name),
            RoleKind::Role => self.roles.get(namespace)?.get(&role.name),
        }
    }

    /// The user's grants that count in a namespace: cluster-wide ones, then the namespace's own.
    fn grants(&self, user: &User, namespace: &str) -> impl Iterator<Item = &Arc<Grant>> {
        let scopes = [Some(""), (!namespace.is_empty()).then_some(namespace)];
        let indexes: Vec<&Grants> = std::iter::once(self.users.get(&user.name))
            .chain(user.groups.iter().map(|g| self.groups.get(g)))
            .flatten()
            .collect();
        scopes.into_iter().flatten().flat_map(move |scope| {
            let scoped: Vec<_> = indexes.iter().filter_map(|grants| grants.get(scope)).collect();
            scoped.into_iter().flat_map(|bindings| bindings.values())
        })
    }
}

/// How the stock server says that a binding's role is not there.
pub(crate) fn missing_role(role: &RoleRef) -> String {
    format!("{}.{RBAC_GROUP} {:?} not found", role.kind.as_str().to_lowercase(), role.name)
}

/// The subject's key in the index and its name in messages.
fn read_subject(subject: &Value, binding_namespace: &str) -> Option<(Subject, String)> {
    let (kind, name) = (text(subject, "kind"), text(subject, "name"));
    match kind {
        "User" => Some((Subject::User(name.to_owned()), format!("User {name:?}"))),
        "Group" => Some((Subject::Group(name.to_owned()), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let namespace = match text(subject, "namespace") {
                "" => binding_namespace,
                ns => ns,
            };
            // An account without a namespace is nobody.
            (!namespace.is_empty()).then(|| {
                let user = format!("system:serviceaccount:{namespace}:{name}");
                (Subject::User(user), format!("ServiceAccount {:?}", format!("{name}/{namespace}")))
            })
        }
        _ => None,
    }
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn object_name(object: &Value) -> &str {
    object.get("metadata").map(|m| text(m, "name")).unwrap_or_default()
}

pub(crate) fn object_namespace(object: &Value) -> &str {
    object.get("metadata").map(|m| text(m, "namespace")).unwrap_or_default()
}

/// A resource rule of a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRule {
    /// The verbs.
    pub verbs: Vec<String>,
    /// The API groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// The resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Single objects' names, or empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
}

/// A path rule of a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NonResourceRule {
    /// The verbs.
    pub verbs: Vec<String>,
    /// The paths.
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

/// What a user may do: the `status` of a SelfSubjectRulesReview, less `incomplete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    /// On resources.
    pub resource_rules: Vec<ResourceRule>,
    /// On paths.
    pub non_resource_rules: Vec<NonResourceRule>,
}

#[cfg(test)]
mod tests;
