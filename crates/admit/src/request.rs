//! What is asked of admission, and the view of the cluster that it may consult.

use serde_json::Value;
use std::sync::Arc;
use stoa_kube::Resource;
use stoa_units::Time;

use crate::{Annotations, Policy};

/// Users in this group are parts of the cluster itself: they may do what no tenant may.
pub const INTERNAL_GROUP: &str = "system:stoa";

/// The stored objects, as far as admission looks at them.
pub trait World {
    /// One object in its stored form.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value>;
    /// All objects of a kind in a namespace, or with an empty namespace everywhere.
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value>;
    /// A namespace: nearly every write asks for one, so that whoever can should keep it at hand.
    fn namespace(&self, name: &str) -> Option<Arc<Value>> {
        self.get("", "namespaces", "", name).map(Arc::new)
    }
    /// What a quota's namespace uses, if somebody keeps count of it.
    fn kept_usage(&self, _quota: &Value) -> Option<crate::quota::Amounts> {
        None
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed one.
    Update,
    /// A removal.
    Delete,
}

/// Who is doing it.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserRef<'a> {
    /// The user's name.
    pub name: &'a str,
    /// The groups the user is in.
    pub groups: &'a [String],
}

impl<'a> UserRef<'a> {
    /// Whether the user is in a group.
    pub fn is_member(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether the user is a part of the cluster itself.
    pub fn is_internal(&self) -> bool {
        self.is_member(INTERNAL_GROUP)
    }

    /// The node that this user is, if it is one.
    pub fn node_name(&self) -> Option<&'a str> {
        let name = self.name.strip_prefix("system:node:").filter(|n| !n.is_empty())?;
        self.is_member("system:nodes").then_some(name)
    }
}

/// One write, as admission sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is being done.
    pub operation: Operation,
    /// To which kind of object.
    pub resource: &'a Resource,
    /// `status`, `scale`, … or empty.
    pub subresource: &'a str,
    /// The object's namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// The object's name; empty while `generateName` is not resolved.
    pub name: &'a str,
    /// By whom.
    pub user: UserRef<'a>,
    /// When.
    pub now: Time,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// Chance, for the one name that admission makes up (the token volume's).
    pub seed: u64,
    /// What the operator has decided.
    pub policy: &'a Policy,
    /// Where notes for an audit go, if somebody keeps them.
    pub notes: Option<&'a Annotations>,
}

impl Request<'_> {
    /// Whether the request is on objects of this kind, whichever version and subresource.
    pub(crate) fn is_on(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    /// Notes something for an audit.
    pub(crate) fn note(&self, key: String, value: String) {
        if let Some(notes) = self.notes {
            notes.note(key, value);
        }
    }

    /// Whether the request is on the object itself rather than on a subresource.
    pub(crate) fn is_main(&self) -> bool {
        self.subresource.is_empty()
    }
}

/// Letters of generated names: no vowels, so no words; none that are easily misread.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// `len` characters as the stock server appends them to generated names, decided by the seed alone.
pub fn random_suffix(seed: u64, len: usize) -> String {
    let mut state = seed;
    (0..len)
        .map(|_| {
            // splitmix64: every seed, zero too, gives well-mixed output.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            char::from(ALPHABET[(z % ALPHABET.len() as u64) as usize])
        })
        .collect()
}

/// Longest part of `generateName` that is kept before the suffix of [`SUFFIX_LEN`] characters.
const GENERATED_BASE_LEN_MAX: usize = 63 - SUFFIX_LEN;
/// Length of a generated suffix.
pub const SUFFIX_LEN: usize = 5;

/// A name from `generateName`, as the stock server makes it.
pub fn generated_name(base: &str, seed: u64) -> String {
    let mut end = base.len().min(GENERATED_BASE_LEN_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix(seed, SUFFIX_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_cut_to_fit_and_depend_on_the_seed_alone() {
        assert_eq!(generated_name("gn-", 7), generated_name("gn-", 7));
        assert_ne!(generated_name("gn-", 7), generated_name("gn-", 8));
        assert_eq!(generated_name(&"x".repeat(80), 1).len(), 63);
        assert!(random_suffix(0, 200).bytes().all(|b| ALPHABET.contains(&b)));
    }
}
