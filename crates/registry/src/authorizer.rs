//! Keeps the authorizer current: it is loaded whole before the first request and then follows the store's watch.

use crate::Registry;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::{Attributes, Authorizer, Decision, User};
use stoa_kube::Status;
use stoa_store::{Event, EventKind, Key, Range, Watch};
use stoa_units::Revision;

/// The group and resource of everything that authorization depends on.
const SOURCES: [(&str, &str); 6] = [
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("", "persistentvolumes"),
    ("", "pods"),
];

/// How long to wait before a list that failed is tried again.
const LIST_RETRY: Duration = Duration::from_millis(200);

/// The live authorizer, shared by whoever asks it.
#[derive(Clone, Debug, Default)]
pub struct SharedAuthorizer(Arc<RwLock<Authorizer>>);

impl SharedAuthorizer {
    /// May `user` do this?
    pub fn authorize(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        self.0.read().authorize(user, attributes)
    }

    /// Looks at it under its read lock, which must not be held long.
    pub fn read<T>(&self, look: impl FnOnce(&Authorizer) -> T) -> T {
        look(&self.0.read())
    }

    pub(crate) fn observe(&self, key: &Key, value: &[u8]) {
        let (Some(group), Some(resource)) = (key.group(), key.resource()) else { return };
        match serde_json::from_slice(value) {
            Ok(object) => self.0.write().observe(group, resource, &object),
            Err(e) => tracing::error!(%key, error = %e, "a stored object is no JSON"),
        }
    }

    fn forget(&self, key: &Key) {
        let (Some(group), Some(resource)) = (key.group(), key.resource()) else { return };
        self.0.write().forget(group, resource, key.namespace(), key.name());
    }

    fn see(&self, event: &Event) {
        match event.kind {
            EventKind::Put => self.observe(&event.key, &event.value),
            EventKind::Delete => self.forget(&event.key),
        }
    }
}

/// One source of the view: what of it is known, and its watch.
struct Source {
    prefix: String,
    known: HashSet<Key>,
    watch: Watch,
}

impl Source {
    /// Reads everything and watches from there. What was known before and is gone by now is forgotten.
    fn load(registry: &Registry, prefix: String, known: &HashSet<Key>) -> Result<Source, stoa_store::Error> {
        let page = registry.store().range(Range { prefix: &prefix, ..Range::default() })?;
        let now: HashSet<Key> = page.entries.iter().map(|e| e.key.clone()).collect();
        for gone in known.difference(&now) {
            registry.authorizer.forget(gone);
        }
        for entry in &page.entries {
            registry.authorizer.observe(&entry.key, &entry.value);
        }
        let watch = registry.store().watch(&prefix, page.revision)?;
        Ok(Source { prefix, known: now, watch })
    }

    async fn follow(mut self, registry: Arc<Registry>) {
        loop {
            match self.watch.next().await {
                Ok(batch) => {
                    for event in &batch.events {
                        registry.authorizer.see(event);
                        match event.kind {
                            EventKind::Put => self.known.insert(event.key.clone()),
                            EventKind::Delete => self.known.remove(&event.key),
                        };
                    }
                }
                Err(stoa_store::Error::Closed) => return,
                Err(e) => {
                    tracing::warn!(prefix = %self.prefix, error = %e, "the authorizer lists again");
                    match Source::load(&registry, self.prefix.clone(), &self.known) {
                        Ok(fresh) => self = fresh,
                        Err(stoa_store::Error::Closed) => return,
                        Err(e) => {
                            // Never to give up: rights that were withdrawn would be held for ever.
                            tracing::error!(prefix = %self.prefix, error = %e, "the authorizer cannot list: trying again");
                            tokio::time::sleep(LIST_RETRY).await;
                        }
                    }
                }
            }
        }
    }
}

impl Registry {
    /// Loads the authorizer whole, then keeps it current in the background. When this returns it is complete.
    pub fn start_authorizer(self: &Arc<Registry>) -> Result<(), Status> {
        for (group, resource) in SOURCES {
            let prefix = Key::prefix(group, resource, "");
            let source = Source::load(self, prefix, &HashSet::new()).map_err(crate::error::status)?;
            tokio::spawn(source.follow(self.clone()));
        }
        Ok(())
    }

    /// How far the store had come when this was called; a write at or before it is in the store's reads.
    pub fn revision(&self) -> Revision {
        self.store().revision()
    }
}
