//! What the namespaces of quotas use, kept as objects come and go: counted once, and then only what has changed since. The store's
//! watches are the truth of it; where one of them cannot go on, everything is counted again.

use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use stoa_admit::quota::{self, Amounts};
use stoa_store::{Event, EventKind, Key, Range, Store, Watch};

/// Quotas whose usage is kept at once; of more, the rest is counted when it is asked for.
const TALLIES_LEN_MAX: usize = 1024;

/// The usage of quotas by their keys.
#[derive(Default)]
pub(crate) struct Tallies(Mutex<HashMap<Key, Tally>>);

/// One quota's usage, as far as its watches have been read.
struct Tally {
    /// What it was counted for: another scope counts other objects.
    uid: Value,
    spec: Value,
    used: Amounts,
    sources: Vec<Source>,
}

/// A kind that the quota counts.
struct Source {
    group: String,
    plural: String,
    watch: Watch,
}

impl Tallies {
    /// What the quota's namespace uses by now; `None` where it cannot be said, and must be counted.
    pub(crate) fn used(&self, store: &Arc<dyn Store>, quota: &Value) -> Option<Amounts> {
        let meta = &quota["metadata"];
        let (namespace, name) = (meta["namespace"].as_str()?, meta["name"].as_str()?);
        let key = Key::object("", "resourcequotas", namespace, name);
        let mut tallies = self.0.lock();
        if let Some(tally) = tallies.get_mut(&key)
            && tally.uid == meta["uid"]
            && tally.spec == quota["spec"]
            && tally.catch_up(quota)
        {
            return Some(tally.used.clone());
        }
        tallies.remove(&key);
        if tallies.len() >= TALLIES_LEN_MAX {
            // Those whose quota is gone make room.
            tallies.retain(|key, _| store.get(key).is_some());
        }
        let tally = Tally::count(store, quota, namespace)?;
        let used = tally.used.clone();
        if tallies.len() < TALLIES_LEN_MAX {
            tallies.insert(key, tally);
        }
        Some(used)
    }
}

impl Tally {
    fn count(store: &Arc<dyn Store>, quota: &Value, namespace: &str) -> Option<Tally> {
        let mut tally = Tally {
            uid: quota["metadata"]["uid"].clone(),
            spec: quota["spec"].clone(),
            used: quota::nothing(quota),
            sources: Vec::new(),
        };
        for (group, plural) in quota::counted(quota) {
            let prefix = Key::prefix(&group, &plural, namespace);
            let page = store.range(Range { prefix: &prefix, ..Range::default() }).ok()?;
            for entry in &page.entries {
                let object = serde_json::from_slice(&entry.value).ok()?;
                quota::charge(quota, &group, &plural, &object, &mut tally.used);
            }
            let watch = store.watch(&prefix, page.revision).ok()?;
            tally.sources.push(Source { group, plural, watch });
        }
        Some(tally)
    }

    /// Takes in what has happened. `false`: some of it is lost.
    fn catch_up(&mut self, quota: &Value) -> bool {
        let Tally { used, sources, .. } = self;
        sources.iter_mut().all(|source| source.catch_up(quota, used).is_some())
    }
}

impl Source {
    fn catch_up(&mut self, quota: &Value, used: &mut Amounts) -> Option<()> {
        while let Some(batch) = self.watch.try_next().ok()? {
            for event in &batch.events {
                self.take(quota, event, used)?;
            }
        }
        Some(())
    }

    fn take(&self, quota: &Value, event: &Event, used: &mut Amounts) -> Option<()> {
        if let Some(previous) = &event.previous {
            let object = serde_json::from_slice(previous).ok()?;
            quota::discharge(quota, &self.group, &self.plural, &object, used);
        }
        if event.kind == EventKind::Put {
            let object = serde_json::from_slice(&event.value).ok()?;
            quota::charge(quota, &self.group, &self.plural, &object, used);
        }
        Some(())
    }
}
