//! The store's revision, and bytes with a slot into which the revision is written at commit.
//! An object carries its own `resourceVersion`, yet the revision is known only to the store's writer: so the
//! object is serialised once with a gap, and the writer fills the gap.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in the store's history. Every committed transaction gets the next one; 0 means "absent" or "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision before any write; as a compare operand it means that the key must not exist.
    pub const ZERO: Revision = Revision(0);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }

    /// Reads a `resourceVersion` in decimal. Empty text is not a revision.
    pub fn parse(text: &str) -> Option<Revision> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse().ok().map(Revision)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Bytes to be stored, with an optional slot that receives the commit's revision in decimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// The bytes, without the revision's digits.
    pub bytes: Bytes,
    /// Where the digits go: an offset into `bytes`, at most its length.
    pub slot: Option<usize>,
}

impl Stamped {
    /// Bytes that carry no revision.
    pub fn plain(bytes: impl Into<Bytes>) -> Stamped {
        Stamped { bytes: bytes.into(), slot: None }
    }

    /// The final bytes as of `revision`. Without a slot this is a reference-count bump, not a copy.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Bytes {
        let Some(slot) = self.slot.filter(|s| *s <= self.bytes.len()) else {
            return self.bytes.clone();
        };
        let digits = revision.0.to_string();
        let mut out = Vec::with_capacity(self.bytes.len() + digits.len());
        out.extend_from_slice(&self.bytes[..slot]);
        out.extend_from_slice(digits.as_bytes());
        out.extend_from_slice(&self.bytes[slot..]);
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_receives_the_digits_and_plain_bytes_are_shared() {
        let s = Stamped { bytes: Bytes::from_static(b"{\"v\":\"\"}"), slot: Some(6) };
        assert_eq!(&s.at(Revision(42))[..], b"{\"v\":\"42\"}");
        let p = Stamped::plain(&b"x"[..]);
        assert_eq!(p.at(Revision(7)).as_ptr(), p.bytes.as_ptr());
    }

    #[test]
    fn only_plain_decimals_are_revisions() {
        assert_eq!(Revision::parse("12"), Some(Revision(12)));
        for bad in ["", "-1", "+1", "1a", "99999999999999999999999"] {
            assert_eq!(Revision::parse(bad), None, "{bad}");
        }
    }
}
