//! What happens with time alone: events that nobody needs any more are removed (they are the only objects that die of age), and the
//! revision moves on.

use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::resources;
use stoa_registry::{Context, DeleteOptions, Registry, Target};
use stoa_store::{Key, Range, Store, Txn};
use stoa_units::{Clock, Stamped, Time};

/// Events looked at between two breaths.
const PAGE_LEN: usize = 1_000;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<Time>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Times {
    last_timestamp: Option<Time>,
    event_time: Option<Time>,
    series: Series,
    metadata: stoa_kube::Meta,
}

/// Moves the store's revision on. A quiet cluster writes nothing for hours, and who waits for its state to be another one, such as
/// a client whose list is to be taken up at a newer revision, would wait as long; a stock server's store is compacted by
/// such a write.
pub(crate) async fn move_on(store: &dyn Store, now: Time) {
    let mark = Stamped::plain(now.to_string().into_bytes());
    if let Err(error) = store.commit(Txn::new().put(Key::internal("marks", "time"), mark)).await {
        tracing::debug!(%error, "the revision did not move on");
    }
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
            let series = times.series.last_observed_time;
            let last = [times.last_timestamp, times.event_time, series, times.metadata.creation_timestamp];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_moves_the_revision_on_and_is_no_object() {
        let store = stoa_store::memory(stoa_store::Options::default());
        let mut objects = store.watch("/registry/", store.revision()).expect("a watch");
        let before = store.revision();
        move_on(&*store, Time::EPOCH).await;
        move_on(&*store, Time::EPOCH).await;
        assert_eq!(store.revision().0, before.0 + 2);
        assert!(objects.try_next().expect("it goes on").is_none_or(|batch| batch.events.is_empty()));
    }
}
