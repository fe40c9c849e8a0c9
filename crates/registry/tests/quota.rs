//! A quota against creates that overlap.

#![allow(clippy::unwrap_used)]

use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stoa_kube::resources;
use stoa_registry::{Context, DeleteOptions, ListOptions, Options, Registry, Target};
use stoa_store::{Commit, Entries, Entry, Error, Key, Page, Range, Stats, Store, Txn, Watch};
use stoa_units::{Clock, Revision, SystemClock};

/// A store whose commits take their time, so that everything that can overlap does; it counts how often config maps are listed.
struct Slow(Arc<dyn Store>, AtomicUsize);

#[async_trait::async_trait]
impl Store for Slow {
    async fn commit(&self, txn: Txn) -> Result<Commit, Error> {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.0.commit(txn).await
    }
    fn get(&self, key: &Key) -> Option<Entry> {
        self.0.get(key)
    }
    fn get_at(&self, key: &Key, at: Revision) -> Result<Option<Entry>, Error> {
        self.0.get_at(key, at)
    }
    fn hold(&self, range: Range<'_>) -> Result<Page<Entries>, Error> {
        self.1.fetch_add(usize::from(range.prefix.contains("/configmaps/")), Ordering::Relaxed);
        self.0.hold(range)
    }
    fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, Error> {
        self.0.watch(prefix, after)
    }
    fn revision(&self) -> Revision {
        self.0.revision()
    }
    fn compacted(&self) -> Revision {
        self.0.compacted()
    }
    async fn compact(&self, before: Revision) -> Result<(), Error> {
        self.0.compact(before).await
    }
    async fn barrier(&self) -> Result<(), Error> {
        self.0.barrier().await
    }
    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

#[tokio::test]
async fn a_quota_holds_against_creates_at_once() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::new(Slow(stoa_store::memory(stoa_store::Options::default()), AtomicUsize::new(0)));
    let registry = Registry::new(store.clone(), clock, Options::default());
    registry.bootstrap().await.unwrap();
    let find = |plural: &str| resources().find("", "v1", plural).unwrap();
    let ctx = Context::of(stoa_authz::User::new("jane", ["dev"]));
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "10"}}});
    registry.create(&ctx, Target::new(find("resourcequotas"), "default", ""), quota).await.unwrap();
    let creates = (0..60).map(|i| {
        let (registry, ctx) = (registry.clone(), ctx.clone());
        tokio::spawn(async move {
            let body = json!({"metadata": {"name": format!("c{i}")}});
            let target = Target::new(resources().find("", "v1", "configmaps").unwrap(), "default", "");
            registry.create(&ctx, target, body).await.is_ok()
        })
    });
    let mut made = 0;
    for create in creates.collect::<Vec<_>>() {
        made += usize::from(create.await.unwrap());
    }
    assert_eq!(made, 10);
    assert_eq!(store.1.load(Ordering::Relaxed), 1, "what is there is counted once, then what changes");

    // What goes makes room, and what the quota says now is what counts.
    let target = Target::new(find("configmaps"), "default", "");
    let page = registry.list(find("configmaps"), "default", &ListOptions::all()).await.unwrap();
    let name = page.entries.last().expect("one").key.name().to_string();
    registry.delete(&ctx, Target { name: &name, ..target }, &DeleteOptions::default()).await.unwrap();
    let make = async |name: &str| {
        let made = registry.create(&ctx, target, json!({"metadata": {"name": name}})).await;
        made.map(|_| ()).map_err(|refused| refused.message)
    };
    assert_eq!(make("again").await, Ok(()));
    assert!(make("more").await.unwrap_err().contains("used: configmaps=10, limited: configmaps=10"));
    let quota = Target::new(find("resourcequotas"), "default", "q");
    registry
        .modify(&ctx, quota, |quota| {
            quota["spec"]["hard"] = json!({"configmaps": "11", "count/configmaps": "11"});
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(make("more").await, Ok(()));
    let refused = make("yet-more").await.unwrap_err();
    assert!(refused.contains("used: configmaps=11,count/configmaps=11"), "{refused}");
}
