//! Who may do what: a pure evaluator that is fed with RBAC objects, pods and volumes as they change and answers
//! one question per request.
//!
//! Three authorizers are asked in turn and the first that allows wins: members of `system:masters` may do everything;
//! a node (`system:node:<name>` in group `system:nodes`) may touch itself, its pods and what those pods refer to
//! ([`NodeGraph`]); everybody may do what role bindings say ([`Rbac`]). Nothing here can deny what another one allows.
//! The Mesos face has rules of its own kind ([`Acls`]): lists of principals and objects by action; and who comes in by its
//! doors is judged here, too ([`authenticate`], [`is_addressed`]), since masters and agents have them.
//!
//! Who the user of the other face *is* (certificates, tokens) is not decided here, nor which HTTP status a refusal becomes.

mod acls;
mod authorizer;
mod bootstrap;
mod door;
mod escalation;
mod node;
mod rbac;
mod rule;
mod user;

pub use acls::{AclError, Acls, Action};
pub use authorizer::Authorizer;
pub use bootstrap::bootstrap_objects;
pub use door::{Anonymous, Credential, Wrong, authenticate, is_addressed};
pub use escalation::Refusal;
pub use node::NodeGraph;
pub use rbac::{NonResourceRule, Rbac, ResourceRule, Rules};
pub use rule::{Rule, covers};
pub use user::{Attributes, Decision, SUPERUSER_GROUP, User, forbidden_message};

/// The API group of roles and bindings.
pub const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
