//! Jobs that are over go after the time that they ask for.

use super::finished;
use crate::meta::{id, is_deleting, resource};
use crate::{Action, Key, Propagation, World};
use std::time::Duration;

/// Looks at one job.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(job) = world.jobs.get(&key.namespace, &key.name) else { return Vec::new() };
    let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
    let Some(((_, ended), ttl)) = finished(job).zip(ttl) else { return Vec::new() };
    if is_deleting(&job.metadata) {
        return Vec::new();
    }
    let until = ended.plus(Duration::from_secs(u64::try_from(ttl).unwrap_or(0)));
    if until > world.now {
        return vec![Action::Again { at: until }];
    }
    vec![Action::Delete {
        id: id(resource("batch", "jobs"), &job.metadata),
        propagation: Propagation::Foreground,
        grace_seconds: None,
        announce: None,
    }]
}
