//! What reads return.

use crate::Key;
use crate::index::Held;
use bytes::Bytes;
use std::{fmt, vec};
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

/// Entries in the order of their keys. Each is two references until it is looked at: many may read a hundred thousand at once.
#[derive(Clone, Default)]
pub struct Entries(Vec<Held>);

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry> + '_ {
        self.0.iter().map(Held::entry)
    }

    /// The entry with the greatest key.
    pub fn last(&self) -> Option<Entry> {
        self.0.last().map(Held::entry)
    }

    /// Adds those that `matches` to `found` until that holds `limit` of them; 0 is no limit. Returns how many were looked at.
    pub fn select_into(&self, found: &mut Entries, limit: usize, matches: impl Fn(&Entry) -> bool) -> usize {
        for (looked_at, held) in self.0.iter().enumerate() {
            if limit > 0 && found.len() >= limit {
                return looked_at;
            }
            if matches(&held.entry()) {
                found.0.push(held.clone());
            }
        }
        self.len()
    }

    /// Bytes of all values.
    pub fn value_bytes(&self) -> u64 {
        self.0.iter().map(|held| held.value_len() as u64).sum()
    }
}

impl IntoIterator for Entries {
    type Item = Entry;
    type IntoIter = IntoEntries;

    fn into_iter(self) -> IntoEntries {
        IntoEntries(self.0.into_iter())
    }
}

/// Entries that are handed on one by one.
pub struct IntoEntries(vec::IntoIter<Held>);

impl Iterator for IntoEntries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.0.next().map(|held| held.entry())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for IntoEntries {}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Entries {
        entries.into_iter().map(Held::from).collect()
    }
}

impl FromIterator<Held> for Entries {
    fn from_iter<I: IntoIterator<Item = Held>>(held: I) -> Entries {
        let mut held: Vec<Held> = held.into_iter().collect();
        held.shrink_to_fit();
        Entries(held)
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What a range held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<E = Vec<Entry>> {
    /// The entries, in the order of their keys.
    pub entries: E,
    /// The revision as of which they were read.
    pub revision: Revision,
    /// How many more the range holds beyond the limit.
    pub remaining: u64,
}
