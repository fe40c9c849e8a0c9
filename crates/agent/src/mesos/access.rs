//! Who may use the agent's Mesos API, and what of it: by the agent's own credentials and ACLs where somebody comes to its door,
//! by what the master says of them where it passes somebody on.

use super::tasks::Entry;
use http::HeaderMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use stoa_authz::{Acls, Action, Anonymous, Credential};

/// The door for operators.
#[derive(Clone, Debug)]
pub struct OperatorApi {
    /// Where it is; beside the executors' where none is named.
    pub address: Option<SocketAddr>,
    /// Whether requests without credentials are served.
    pub anonymous: Anonymous,
    /// Who may authenticate.
    pub credentials: Vec<Credential>,
    /// Who may do what.
    pub acls: Arc<Acls>,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// The request is a foreign page's, or names another machine.
    Foreign,
    /// Credentials are wanted, and right ones.
    Unknown,
}

impl OperatorApi {
    /// Finds out who asks.
    pub(crate) fn admit(&self, headers: &HeaderMap, bind: IpAddr, names: &[&str]) -> Result<Asker, Shut> {
        if !stoa_authz::is_addressed(headers, self.anonymous, bind, names) {
            return Err(Shut::Foreign);
        }
        let principal = stoa_authz::authenticate(headers, self.anonymous, &self.credentials);
        match principal.map_err(|_| Shut::Unknown)? {
            None if self.anonymous == Anonymous::Refuse => Err(Shut::Unknown),
            principal => Ok(Asker { principal, acls: Arc::clone(&self.acls) }),
        }
    }
}

/// Somebody, with what they may do.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    principal: Option<String>,
    acls: Arc<Acls>,
}

impl Asker {
    /// Whom the master passes on, with the ACLs that are about them.
    pub(crate) fn of_master(acls: &str) -> Result<Asker, String> {
        let value = serde_json::from_str(acls).map_err(|e| e.to_string())?;
        let acls = Acls::parse(&value).map_err(|e| e.to_string())?;
        Ok(Asker { principal: None, acls: Arc::new(acls) })
    }

    /// Whether they may do something to an object.
    pub(crate) fn may(&self, action: Action, object: &str) -> bool {
        self.acls.may(self.principal.as_deref(), action, Some(object))
    }

    /// Whether they may know of a framework.
    pub(crate) fn may_view_framework(&self, entry: &Entry) -> bool {
        self.may(Action::ViewFramework, &entry.framework_user)
    }

    /// Whether they may know of an executor: its framework must be theirs to see, too.
    pub(crate) fn may_view_executor(&self, entry: &Entry) -> bool {
        self.may_view_framework(entry) && self.may(Action::ViewExecutor, &entry.user)
    }

    /// Whether they may know of its tasks.
    pub(crate) fn may_view_task(&self, entry: &Entry) -> bool {
        self.may_view_framework(entry) && self.may(Action::ViewTask, &entry.user)
    }

    /// Whether they may know of its container.
    pub(crate) fn may_view_container(&self, entry: &Entry) -> bool {
        let action =
            if entry.is_standalone { Action::ViewStandaloneContainer } else { Action::ViewContainer };
        self.may(action, &entry.user)
    }

    /// Whether they may look into its sandbox.
    pub(crate) fn may_access(&self, entry: &Entry) -> bool {
        self.may(Action::AccessSandbox, &entry.user)
    }
}
