//! What admission may look at besides the object: the store as it stands.

use crate::Registry;
use crate::tally::Tallies;
use serde_json::Value;
use std::sync::Arc;
use stoa_store::{Key, Range, Store};

/// Reads other objects for admission.
pub struct Snapshot<'a> {
    store: &'a Arc<dyn Store>,
    tallies: Option<&'a Tallies>,
}

impl<'a> Snapshot<'a> {
    /// Over a store.
    pub fn new(store: &'a Arc<dyn Store>) -> Snapshot<'a> {
        Snapshot { store, tallies: None }
    }
}

impl Registry {
    /// Over the store, with what is kept of it.
    pub(crate) fn world(&self) -> Snapshot<'_> {
        Snapshot { store: self.store(), tallies: Some(&self.tallies) }
    }
}

impl std::fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl stoa_admit::World for Snapshot<'_> {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let entry = self.store.get(&Key::object(group, plural, namespace, name))?;
        serde_json::from_slice(&entry.value).ok()
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let prefix = Key::prefix(group, plural, namespace);
        let page = self.store.range(Range { prefix: &prefix, ..Range::default() });
        let entries = page.map(|p| p.entries).unwrap_or_default();
        entries.iter().filter_map(|e| serde_json::from_slice(&e.value).ok()).collect()
    }

    fn kept_usage(&self, quota: &Value) -> Option<stoa_admit::quota::Amounts> {
        self.tallies?.used(self.store, quota)
    }
}
