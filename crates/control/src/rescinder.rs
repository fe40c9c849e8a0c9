//! Taking back offers so that a pod fits.

use stoa_units::{AgentId, Resources};

/// Whoever makes offers.
pub trait Rescinder: Send + Sync {
    /// Takes back the offers that keep `need` from fitting on the agent (on any, without one), in the ledger too, before
    /// this returns, as far as the namespace's fair share and quota allow. True if some were taken back. Called without the
    /// ledger's lock.
    fn make_room(&self, agent: Option<&AgentId>, namespace: &str, need: &Resources) -> bool;
}

/// Nobody makes offers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOffers;

impl Rescinder for NoOffers {
    fn make_room(&self, _agent: Option<&AgentId>, _namespace: &str, _need: &Resources) -> bool {
        false
    }
}
