//! What reads return.

use crate::Key;
use bytes::Bytes;
use stoa_units::Revision;

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its value, shared with every other reader.
    pub value: Bytes,
    /// When it came into being.
    pub created: Revision,
    /// When it was last written.
    pub modified: Revision,
}

/// Which entries to read, in the order of their keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range<'a> {
    /// What the keys begin with.
    pub prefix: &'a str,
    /// Only keys after this one.
    pub after: Option<&'a Key>,
    /// How many at most; 0 means all.
    pub limit: usize,
    /// As of which revision; `None` means now.
    pub at: Option<Revision>,
}

/// What a range held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The entries, in the order of their keys.
    pub entries: Vec<Entry>,
    /// The revision as of which they were read.
    pub revision: Revision,
    /// How many more the range holds beyond the limit.
    pub remaining: u64,
}
