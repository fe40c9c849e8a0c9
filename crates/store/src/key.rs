//! Keys and their layout.
//!
//! - `/registry/<group or core>/<resource>/<namespace>/<name>` — an API object; cluster-scoped ones leave the namespace out;
//! - `/stoa/<kind>/<name>` — what stoa keeps beside the objects (claims, identities).
//!
//! No part may contain `/`; whoever makes names checks that at the door.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The directory of API objects.
const REGISTRY: &str = "/registry/";
/// The directory of stoa's own records.
const INTERNAL: &str = "/stoa/";
/// What the legacy group, whose name is empty, is called in keys.
const CORE: &str = "core";
/// Room for a usual name, so that `object` need not grow the text it got from `prefix`.
const NAME_LEN_USUAL: usize = 48;

/// A key. Cloning it is a reference-count bump.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of an API object. An empty `namespace` means cluster-scoped.
    pub fn object(group: &str, resource: &str, namespace: &str, name: &str) -> Key {
        let mut text = Key::prefix(group, resource, namespace);
        text.push_str(name);
        Key(text.into())
    }

    /// What all objects of a resource begin with, in one namespace or, if that is empty, in all. Ends in `/`.
    pub fn prefix(group: &str, resource: &str, namespace: &str) -> String {
        let group = if group.is_empty() { CORE } else { group };
        let parts_len = REGISTRY.len() + group.len() + resource.len() + namespace.len() + 3;
        let mut text = String::with_capacity(parts_len + NAME_LEN_USUAL);
        for part in [REGISTRY, group, "/", resource, "/"] {
            text.push_str(part);
        }
        if !namespace.is_empty() {
            text.push_str(namespace);
            text.push('/');
        }
        text
    }

    /// The key of one of stoa's own records.
    pub fn internal(kind: &str, name: &str) -> Key {
        Key(format!("{INTERNAL}{kind}/{name}").into())
    }

    /// What all of stoa's own records of a kind begin with. Ends in `/`.
    pub fn internal_prefix(kind: &str) -> String {
        format!("{INTERNAL}{kind}/")
    }

    /// Takes a key as written.
    pub fn from_text(text: impl Into<Arc<str>>) -> Key {
        Key(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The group of an API object's key; the legacy group is the empty text again.
    pub fn group(&self) -> Option<&str> {
        self.object_part(0).map(|group| if group == CORE { "" } else { group })
    }

    /// The resource (plural) of an API object's key.
    pub fn resource(&self) -> Option<&str> {
        self.object_part(1)
    }

    /// The namespace of an API object's key; empty for a cluster-scoped object and for other keys.
    pub fn namespace(&self) -> &str {
        let Some(rest) = self.0.strip_prefix(REGISTRY) else { return "" };
        let mut parts = rest.splitn(4, '/').skip(2);
        match (parts.next(), parts.next()) {
            (Some(namespace), Some(_name)) => namespace,
            _ => "",
        }
    }

    fn object_part(&self, at: usize) -> Option<&str> {
        self.0.strip_prefix(REGISTRY)?.split('/').nth(at)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The least text greater than every text that begins with `prefix`; `None` if there is none.
pub(crate) fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // Scalar values are ordered as their UTF-8 is; the surrogates' gap is skipped.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            c => char::from_u32(c as u32 + 1),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_apart_as_it_was_put_together() {
        let table = [
            (Key::object("", "pods", "default", "web-0"), "/registry/core/pods/default/web-0", "", "default"),
            (Key::object("apps", "deployments", "a", "b"), "/registry/apps/deployments/a/b", "apps", "a"),
            (Key::object("", "nodes", "", "n1"), "/registry/core/nodes/n1", "", ""),
        ];
        for (key, text, group, namespace) in table {
            assert_eq!(key.as_str(), text);
            assert_eq!(key.group(), Some(group));
            assert_eq!(key.namespace(), namespace);
        }
        assert_eq!(Key::object("", "pods", "default", "web-0").name(), "web-0");
        assert_eq!(Key::object("", "pods", "default", "web-0").resource(), Some("pods"));
        assert_eq!(Key::internal("claims", "a1").as_str(), "/stoa/claims/a1");
        assert_eq!(Key::internal("claims", "a1").group(), None);
        assert_eq!(Key::internal("claims", "a1").namespace(), "");
    }

    #[test]
    fn the_end_of_a_prefix_is_the_least_text_beyond_it() {
        assert_eq!(prefix_end("/a/").as_deref(), Some("/a0"));
        assert_eq!(prefix_end("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(prefix_end("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(prefix_end("\u{10ffff}"), None);
        assert_eq!(prefix_end(""), None);
    }
}
