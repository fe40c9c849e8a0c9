//! Events that nobody needs any more are removed: they are the only objects that die of age.

use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::resources;
use stoa_registry::{Context, DeleteOptions, Registry, Target};
use stoa_store::{Key, Range};
use stoa_units::{Clock, Time};

/// Events looked at between two breaths.
const PAGE_LEN: usize = 1_000;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Times {
    last_timestamp: Option<Time>,
    event_time: Option<Time>,
    metadata: stoa_kube::Meta,
}

/// Removes events older than `age`.
pub(crate) async fn expire_events(registry: Arc<Registry>, clock: Arc<dyn Clock>, age: Duration) {
    let Some(events) = resources().find("", "v1", "events") else { return };
    let prefix = Key::prefix("", "events", "");
    let ctx = Context::system("event-expiry");
    let mut after: Option<Key> = None;
    loop {
        let range = Range { prefix: &prefix, after: after.as_ref(), limit: PAGE_LEN, at: None };
        let Ok(page) = registry.store().range(range) else { return };
        for entry in &page.entries {
            let Ok(times) = serde_json::from_slice::<Times>(&entry.value) else { continue };
            let last = [times.last_timestamp, times.event_time, times.metadata.creation_timestamp];
            let Some(last) = last.into_iter().flatten().max() else { continue };
            if clock.now().since(last) > age {
                let target = Target::new(events, entry.key.namespace(), entry.key.name());
                if let Err(status) = registry.delete(&ctx, target, &DeleteOptions::now()).await {
                    tracing::debug!(key = %entry.key, error = %status.message, "an old event stays");
                }
            }
        }
        match page.entries.last() {
            Some(last) if page.remaining > 0 => after = Some(last.key.clone()),
            _ => return,
        }
    }
}
