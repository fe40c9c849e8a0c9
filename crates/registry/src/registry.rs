//! The registry itself: the store, the clock, and what the binary plugs in later.

use crate::{Claimer, Options, PortKeeper, SharedAuthorizer, TokenIssuer};
use std::sync::{Arc, OnceLock};
use stoa_store::Store;
use stoa_units::{Clock, Time};

/// Objects, their reads and writes. Cheap to share, safe to call from anywhere.
pub struct Registry {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    options: Options,
    pub(crate) authorizer: SharedAuthorizer,
    pub(crate) turns: crate::quota::Turns,
    pub(crate) tallies: crate::tally::Tallies,
    pub(crate) namespaces: crate::world::Namespaces,
    claimer: OnceLock<Arc<dyn Claimer>>,
    port_keeper: OnceLock<Arc<dyn PortKeeper>>,
    token_issuer: OnceLock<Arc<dyn TokenIssuer>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry over a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, options: Options) -> Arc<Registry> {
        Arc::new(Registry {
            store,
            clock,
            options,
            authorizer: SharedAuthorizer::default(),
            turns: Default::default(),
            tallies: Default::default(),
            namespaces: Default::default(),
            claimer: OnceLock::new(),
            port_keeper: OnceLock::new(),
            token_issuer: OnceLock::new(),
        })
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Now.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// What it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The live view of who may do what; see [`Registry::start_authorizer`].
    pub fn authorizer(&self) -> &SharedAuthorizer {
        &self.authorizer
    }

    /// Plugs in who claims room on a node when a pod is bound through the API. Only the first call counts.
    pub fn set_claimer(&self, claimer: Arc<dyn Claimer>) {
        let _ = self.claimer.set(claimer);
    }

    /// Plugs in who knows which node ports are in use otherwise.
    pub fn set_port_keeper(&self, keeper: Arc<dyn PortKeeper>) {
        let _ = self.port_keeper.set(keeper);
    }

    pub(crate) fn port_keeper(&self) -> Option<&Arc<dyn PortKeeper>> {
        self.port_keeper.get()
    }

    pub(crate) fn claimer(&self) -> Option<&Arc<dyn Claimer>> {
        self.claimer.get()
    }

    /// Plugs in who signs service-account tokens. Only the first call counts.
    pub fn set_token_issuer(&self, issuer: Arc<dyn TokenIssuer>) {
        let _ = self.token_issuer.set(issuer);
    }

    pub(crate) fn token_issuer(&self) -> Option<&Arc<dyn TokenIssuer>> {
        self.token_issuer.get()
    }
}
