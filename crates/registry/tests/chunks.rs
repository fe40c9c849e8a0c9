//! Lists in pages, and how long they show one revision.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::{reason, resources};
use stoa_registry::{Context, ListOptions, Options, Registry, Target};
use stoa_units::{Clock, ManualClock, Time};

#[tokio::test]
async fn a_list_may_be_taken_up_for_five_minutes_and_then_at_another_revision() {
    let hand = Arc::new(ManualClock::new(Time::EPOCH));
    let pass = |seconds| hand.advance(Duration::from_secs(seconds));
    let clock: Arc<dyn Clock> = hand.clone();
    let store =
        stoa_store::memory(stoa_store::Options { clock: clock.clone(), ..stoa_store::Options::default() });
    let registry = Registry::new(store, clock, Options::default());
    registry.bootstrap().await.unwrap();
    let maps = resources().find("", "v1", "configmaps").unwrap();
    let make = async |name: &str| {
        let target = Target::new(maps, "default", "");
        registry.create(&Context::system("test"), target, json!({"metadata": {"name": name}})).await.unwrap();
    };
    for name in ["a", "b", "c", "d", "e", "f"] {
        make(name).await;
    }
    let page = async |token: &Option<String>| {
        let options =
            ListOptions { limit: 2, continue_: token.clone().unwrap_or_default(), ..ListOptions::default() };
        registry.list(maps, "default", &options).await
    };
    let first = page(&None).await.unwrap();
    pass(301);
    let second = page(&first.continue_).await.unwrap();
    assert_eq!(second.revision, first.revision, "nothing has changed: there is nothing newer to show");
    make("g").await;
    for token in [&first.continue_, &second.continue_] {
        let expired = page(token).await.map(|_| ()).unwrap_err();
        assert_eq!((expired.code(), expired.is(reason::EXPIRED)), (410, true));
        let taken_up = Some(expired.metadata.continue_).filter(|t| !t.is_empty());
        let next = page(&taken_up).await.unwrap();
        assert!(next.revision > first.revision && next.entries.len() == 2);
        // From here on it is one revision again.
        make(&format!("late-{}", next.revision.0)).await;
        let last = page(&next.continue_).await.unwrap();
        assert_eq!(last.revision, next.revision);
    }
    let young = page(&None).await.unwrap();
    pass(299);
    make("h").await;
    assert_eq!(page(&young.continue_).await.unwrap().revision, young.revision);
}
