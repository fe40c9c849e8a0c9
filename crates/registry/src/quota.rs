//! Writes that a quota counts go one after the other, so that two cannot both take what is left for one.

use crate::{Context, Registry, Target, Written};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use stoa_kube::{Resource, Status};
use stoa_store::{Key, Range};
use tokio::sync::OwnedMutexGuard;

/// Namespaces whose turns are remembered before those that nobody waits for are forgotten.
const TURNS_LEN_MAX: usize = 1024;

/// One turn at a time for each namespace that has quotas.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock();
        if let Some(turn) = turns.get(namespace).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= TURNS_LEN_MAX {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(namespace.to_string(), Arc::downgrade(&turn));
        turn
    }
}

/// Kinds of which an object can come to cost more after it was made.
pub(crate) fn can_grow(target: Target<'_>) -> bool {
    let kinds = ["pods", "services", "persistentvolumeclaims"];
    target.resource.group.is_empty()
        && kinds.contains(&target.resource.plural)
        && matches!(target.subresource, "" | "resize")
}

impl Registry {
    /// The same for a change, where a change can cost.
    pub(crate) async fn quota_update_turn(&self, target: Target<'_>) -> Option<OwnedMutexGuard<()>> {
        if !can_grow(target) {
            return None;
        }
        self.quota_turn(target.resource, target.namespace).await
    }

    /// Waits for the namespace's turn, if anything counts there. It lasts from the count to the commit.
    pub(crate) async fn quota_turn(
        &self,
        resource: &Resource,
        namespace: &str,
    ) -> Option<OwnedMutexGuard<()>> {
        if !resource.namespaced {
            return None;
        }
        let prefix = Key::prefix("", "resourcequotas", namespace);
        let found = self.store().range(Range { prefix: &prefix, limit: 1, ..Range::default() });
        // A read that fails says nothing against a quota: better one turn too many.
        if found.is_ok_and(|page| page.entries.is_empty()) {
            return None;
        }
        Some(self.turns.of(namespace).lock_owned().await)
    }

    /// Counts anew what a quota's namespace uses, and writes the quota's status if it says something else.
    pub async fn recount_quota(
        &self,
        ctx: &Context,
        target: Target<'_>,
        uid: &str,
    ) -> Result<Written, Status> {
        let world = self.world();
        let recount = |quota: &mut Value| {
            if quota["metadata"]["uid"] != uid {
                return Err(Status::not_found(target.resource, target.name));
            }
            let used = stoa_admit::quota::usage(quota, &world);
            let used: BTreeMap<&String, String> = used.iter().map(|(k, v)| (k, v.to_string())).collect();
            quota["status"] = json!({"hard": quota["spec"]["hard"], "used": used});
            Ok(())
        };
        self.modify(ctx, target.sub("status"), recount).await
    }
}
