//! What watches yield.

use crate::Key;
use bytes::Bytes;
use std::sync::Arc;
use stoa_units::Revision;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was set.
    Put,
    /// It was removed.
    Delete,
}

/// One change of one key. All watchers share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Key,
    /// What happened.
    pub kind: EventKind,
    /// The new value; of a removal, the last state stamped with the removal's revision.
    pub value: Bytes,
    /// The value before, if there was one.
    pub previous: Option<Bytes>,
    /// When the key came into being.
    pub created: Revision,
    /// When this happened.
    pub revision: Revision,
}

/// Events in order. The events of one transaction are never split over two batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The events, never empty.
    pub events: Vec<Arc<Event>>,
    /// Everything up to here has now been delivered or does not match.
    pub revision: Revision,
}
