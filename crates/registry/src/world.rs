//! What admission may look at besides the object: the store as it stands.

use crate::Registry;
use crate::tally::Tallies;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use stoa_store::{Key, Range, Store};
use stoa_units::Revision;

/// How many namespaces are kept at hand, and how large one of them may be.
const NAMESPACES_LEN_MAX: usize = 1_024;
const NAMESPACE_BYTES_MAX: usize = 16 * 1024;

/// Namespaces as they were last read, each with its revision: a write asks for its namespace more than once, and reading it
/// anew each time cost a twentieth of the write.
#[derive(Default)]
pub(crate) struct Namespaces(Mutex<HashMap<String, (Revision, Arc<Value>)>>);

impl Namespaces {
    fn get(&self, store: &Arc<dyn Store>, name: &str) -> Option<Arc<Value>> {
        let entry = store.get(&Key::object("", "namespaces", "", name))?;
        if let Some((at, value)) = self.0.lock().get(name)
            && *at == entry.modified
        {
            return Some(value.clone());
        }
        let value: Arc<Value> = Arc::new(serde_json::from_slice(&entry.value).ok()?);
        if entry.value.len() > NAMESPACE_BYTES_MAX {
            return Some(value);
        }
        let mut kept = self.0.lock();
        if kept.len() >= NAMESPACES_LEN_MAX {
            kept.clear();
        }
        kept.insert(name.to_owned(), (entry.modified, value.clone()));
        Some(value)
    }
}

/// Reads other objects for admission.
pub struct Snapshot<'a> {
    store: &'a Arc<dyn Store>,
    tallies: Option<&'a Tallies>,
    namespaces: Option<&'a Namespaces>,
}

impl<'a> Snapshot<'a> {
    /// Over a store.
    pub fn new(store: &'a Arc<dyn Store>) -> Snapshot<'a> {
        Snapshot { store, tallies: None, namespaces: None }
    }
}

impl Registry {
    /// Over the store, with what is kept of it.
    pub(crate) fn world(&self) -> Snapshot<'_> {
        Snapshot { store: self.store(), tallies: Some(&self.tallies), namespaces: Some(&self.namespaces) }
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

    fn namespace(&self, name: &str) -> Option<Arc<Value>> {
        match self.namespaces {
            Some(kept) => kept.get(self.store, name),
            None => self.get("", "namespaces", "", name).map(Arc::new),
        }
    }

    fn kept_usage(&self, quota: &Value) -> Option<stoa_admit::quota::Amounts> {
        self.tallies?.used(self.store, quota)
    }
}
