//! What a controller wants done.

use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use stoa_kube::Resource;
use stoa_units::{Revision, Time};

/// One object, as it was seen.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectId {
    /// Its resource.
    pub resource: &'static Resource,
    /// Its namespace, empty if it has none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its identity: another object of the same name is left alone.
    pub uid: Arc<str>,
    /// The revision at which it was seen.
    pub revision: Revision,
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.resource.plural, self.namespace, self.name)
    }
}

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For information.
    Normal,
    /// Something may go wrong.
    Warning,
}

impl Level {
    /// The event's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Normal => "Normal",
            Level::Warning => "Warning",
        }
    }
}

/// What becomes of what a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// It is collected later.
    Background,
    /// It goes first.
    Foreground,
    /// It stays.
    Orphan,
    /// Whatever the object's finalizers and kind say.
    Default,
}

/// Events about an action whose outcome the plan cannot know.
#[derive(Clone, Debug, PartialEq)]
pub struct Announce {
    /// Whom the events are about.
    pub about: ObjectId,
    /// The reason on success, such as `SuccessfulCreate`, or nothing where success is not told; the message is `done`, the object's name, and `end`.
    pub reason: &'static str,
    /// The message before the name: `Created pod: `.
    pub done: Cow<'static, str>,
    /// The message after the name.
    pub end: Cow<'static, str>,
    /// The reason on failure, such as `FailedCreate`.
    pub failed: &'static str,
    /// The message before the error: `Error creating: `.
    pub error: Cow<'static, str>,
}

/// What it means that an object to be created exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExists {
    /// All is well, or will be seen to be otherwise at the next look.
    Fine,
    /// The name's hash collided: the owner's `status.collisionCount` is raised, so that the next name differs.
    Collision,
}

/// One thing to do. Actions of a plan are carried out in order, creates and deletes that follow each other at once; after
/// a failure the rest is dropped and the key looked at again.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates an object.
    Create {
        /// What it is.
        resource: &'static Resource,
        /// Where.
        namespace: Arc<str>,
        /// The object.
        object: Value,
        /// What if it exists.
        on_exists: OnExists,
        /// What to say about it.
        announce: Option<Announce>,
    },
    /// Merges a patch (RFC 7396) into an object that is still as it was seen.
    Patch {
        /// The object.
        id: ObjectId,
        /// Empty, `status` or `finalize`.
        subresource: &'static str,
        /// What to merge in.
        patch: Value,
    },
    /// Deletes an object if it is still the same one.
    Delete {
        /// The object.
        id: ObjectId,
        /// What becomes of what it owns.
        propagation: Propagation,
        /// How long it may take; `None` as it says itself.
        grace_seconds: Option<i64>,
        /// What to say about it.
        announce: Option<Announce>,
    },
    /// Says something about an object.
    Event {
        /// About what.
        about: ObjectId,
        /// How loud.
        level: Level,
        /// In one word.
        reason: &'static str,
        /// In a sentence.
        message: String,
    },
    /// Puts a token of a service account into a secret.
    IssueToken {
        /// The secret.
        secret: ObjectId,
        /// The account's name.
        account: Arc<str>,
    },
    /// Counts anew what a quota's namespace uses, and writes the quota's status if that differs.
    Recount {
        /// The quota.
        id: ObjectId,
    },
    /// Look again then, even if nothing changes.
    Again {
        /// When.
        at: Time,
    },
}
