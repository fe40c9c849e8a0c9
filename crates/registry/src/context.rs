//! Who asks, for what, and how strictly: what every call of the registry carries besides the object.

use std::sync::Arc;
use stoa_admit::{Annotations, INTERNAL_GROUP};
use stoa_authz::{SUPERUSER_GROUP, User};
use stoa_kube::Resource;

/// What happens to fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped silently.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// Whether a write is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persist {
    /// It is committed to the store.
    #[default]
    Commit,
    /// Everything but the commit happens (`dryRun=All`).
    DryRun,
}

/// Who asks and how.
#[derive(Clone, Debug)]
pub struct Context {
    /// The authenticated user.
    pub user: User,
    /// Whether the write is carried out.
    pub persist: Persist,
    /// The name under which field ownership is recorded.
    pub field_manager: String,
    /// What happens to unknown fields.
    pub field_validation: FieldValidation,
    /// What the parser found odd about the body: fields that it names twice.
    pub body_problems: Vec<String>,
    /// Whether server-side apply takes fields that another manager owns.
    pub force: bool,
    /// Whether the write needs no escalation check: the system's own components.
    pub privileged: bool,
    /// What is noted of the request though it be refused.
    pub notes: Arc<Annotations>,
}

impl Context {
    /// A request of a user with everything else at its default.
    pub fn of(user: User) -> Context {
        Context {
            user,
            persist: Persist::Commit,
            field_manager: String::new(),
            field_validation: FieldValidation::default(),
            body_problems: Vec::new(),
            force: false,
            privileged: false,
            notes: Arc::default(),
        }
    }

    /// A component of the cluster itself, such as `controller` or `mesos`; its user is `system:stoa:<component>`.
    pub fn system(component: &str) -> Context {
        Context {
            user: User {
                name: format!("system:stoa:{component}"),
                uid: String::new(),
                groups: [INTERNAL_GROUP, SUPERUSER_GROUP, "system:authenticated"].map(String::from).to_vec(),
                extra: Default::default(),
            },
            persist: Persist::Commit,
            field_manager: format!("stoa-{component}"),
            field_validation: FieldValidation::Ignore,
            body_problems: Vec::new(),
            force: false,
            privileged: true,
            notes: Arc::default(),
        }
    }

    /// Whether a part of the cluster itself asks.
    pub fn is_internal(&self) -> bool {
        self.user.groups.iter().any(|g| g == INTERNAL_GROUP)
    }

    /// Whether nothing is to be committed.
    pub fn is_dry_run(&self) -> bool {
        self.persist == Persist::DryRun
    }
}

/// One object or one of its subresources. For creates the name may be empty: the object names itself.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The resource as the client addresses it.
    pub resource: &'a Resource,
    /// Empty for cluster-scoped resources.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// Empty, or `status`, `scale`, ….
    pub subresource: &'a str,
}

impl<'a> Target<'a> {
    /// The object itself.
    pub fn new(resource: &'a Resource, namespace: &'a str, name: &'a str) -> Target<'a> {
        Target { resource, namespace, name, subresource: "" }
    }

    /// One of the object's subresources.
    #[must_use]
    #[allow(clippy::should_implement_trait)] // no number would be meant
    pub fn sub(self, subresource: &'a str) -> Target<'a> {
        Target { subresource, ..self }
    }
}
