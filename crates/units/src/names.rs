//! Names and ids: what may be a name, and one type for each thing that is named.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Why a text is no name. The wording is that of Kubernetes' validation messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub &'static str, Vec<&'static str>);

impl NameError {
    /// The one thing that is wrong.
    pub fn new(why: &'static str) -> NameError {
        NameError(why, Vec::new())
    }

    /// Everything that is wrong, in the order in which Kubernetes says it.
    pub fn all(&self) -> impl Iterator<Item = &'static str> + '_ {
        std::iter::once(self.0).chain(self.1.iter().copied())
    }

    /// Everything that is wrong in one line, as selectors say it.
    pub fn joined(&self) -> String {
        self.all().collect::<Vec<_>>().join("; ")
    }

    fn of(faults: impl IntoIterator<Item = Option<&'static str>>) -> Result<(), NameError> {
        let mut faults = faults.into_iter().flatten();
        faults.next().map_or(Ok(()), |first| Err(NameError(first, faults.collect())))
    }
}

/// Longest DNS label.
pub const LABEL_LEN_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_LEN_MAX: usize = 253;

const LABEL_MSG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_MSG: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE_MSG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_MSG: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const QUALIFIED_PARTS_MSG: &str = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";

fn is_label(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty()
        && b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
        && b[0] != b'-'
        && b[b.len() - 1] != b'-'
}

fn is_subdomain(s: &str) -> bool {
    s.split('.').all(is_label)
}

fn is_qualified_part(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty()
        && b.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && b[0].is_ascii_alphanumeric()
        && b[b.len() - 1].is_ascii_alphanumeric()
}

const LABEL_LEN_MSG: &str = "must be no more than 63 characters";

/// RFC 1123 label: namespaces, services, container names.
pub fn check_dns_label(s: &str) -> Result<(), NameError> {
    let form = match s {
        _ if is_label(s) => None,
        _ if is_subdomain(s) => Some("must not contain dots"),
        _ => Some(LABEL_MSG),
    };
    NameError::of([(s.len() > LABEL_LEN_MAX).then_some(LABEL_LEN_MSG), form])
}

/// RFC 1123 subdomain: names of most objects.
pub fn check_dns_subdomain(s: &str) -> Result<(), NameError> {
    let length = (s.len() > SUBDOMAIN_LEN_MAX).then_some("must be no more than 253 characters");
    NameError::of([length, (!is_subdomain(s)).then_some(SUBDOMAIN_MSG)])
}

/// A label's value.
pub fn check_label_value(s: &str) -> Result<(), NameError> {
    let is_formed = s.is_empty() || is_qualified_part(s);
    let length = (s.len() > LABEL_LEN_MAX).then_some("must be no more than 63 bytes");
    NameError::of([length, (!is_formed).then_some(LABEL_VALUE_MSG)])
}

const PREFIX_MSG: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// A label's or annotation's key: an optional DNS subdomain, a slash, and a name of at most 63 characters.
pub fn check_label_key(s: &str) -> Result<(), NameError> {
    let (prefix, name) = match s.split_once('/') {
        Some((_, n)) if n.contains('/') => return Err(NameError::new(QUALIFIED_PARTS_MSG)),
        Some((p, n)) => (Some(p), n),
        None => (None, s),
    };
    let of_prefix = match prefix {
        None => [None, None],
        Some("") => [Some("prefix part must be non-empty"), None],
        Some(p) => [
            (p.len() > SUBDOMAIN_LEN_MAX).then_some("prefix part must be no more than 253 bytes"),
            (!is_subdomain(p)).then_some(PREFIX_MSG),
        ],
    };
    let length = match name.len() {
        0 => Some("name part must be non-empty"),
        n => (n > LABEL_LEN_MAX).then_some("name part must be no more than 63 bytes"),
    };
    let form = (!is_qualified_part(name)).then_some(QUALIFIED_MSG);
    NameError::of(of_prefix.into_iter().chain([length, form]))
}

/// A name that may stand as one segment of a URL path: RBAC objects allow `:` and upper case, yet no `/` or `%`.
pub fn check_path_segment(s: &str) -> Result<(), NameError> {
    match s {
        "." => Err(NameError::new("may not be '.'")),
        ".." => Err(NameError::new("may not be '..'")),
        _ if s.contains('/') => Err(NameError::new("may not contain '/'")),
        _ if s.contains('%') => Err(NameError::new("may not contain '%'")),
        _ => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Arc<str>);

        impl $name {
            /// Wraps a text.
            pub fn new(s: impl Into<Arc<str>>) -> Self {
                $name(s.into())
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                $name(s.into())
            }
        }
        impl From<String> for $name {
            fn from(s: String) -> Self {
                $name(s.into())
            }
        }
    };
}

id!(
    /// A machine: the Kubernetes node's name, and the Mesos agent's id.
    AgentId
);
id!(
    /// A Mesos framework's id.
    FrameworkId
);
id!(
    /// An outstanding resource offer's id.
    OfferId
);
id!(
    /// A Mesos task's id, unique within its framework.
    TaskId
);

/// A namespace and a name; the namespace is empty for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NamespacedName {
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl NamespacedName {
    /// Joins the two.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        NamespacedName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_kubernetes_judges_them() {
        for ok in ["a", "a-b", "0a"] {
            assert!(check_dns_label(ok).is_ok(), "{ok}");
        }
        for bad in ["", "A", "-a", "a-", "a.b", "a_b"] {
            assert!(check_dns_label(bad).is_err(), "{bad}");
        }
        assert!(check_dns_subdomain("a.b-c.d").is_ok());
        assert!(check_dns_subdomain("a..b").is_err());
        assert!(check_label_key("example.com/My_Key.1").is_ok());
        assert!(check_label_key("Example.com/x").is_err());
        assert!(check_label_key("a b").is_err());
        assert!(check_label_value("").is_ok());
        assert!(check_label_value("c d").is_err());
    }
}
