//! Drives controllers, the pod scheduler and the ledger on the leader.
//!
//! One task owns everything that is known: the [`stoa_reconcile::World`], the scheduler's snapshot, the queues. A watch over
//! all objects keeps it current; each change names keys to look at, a look is a pure function, and what it wants done is carried
//! out by workers through the registry. A key is not looked at again before the world has caught up with what was written
//! for it, so nothing is ever done twice; and no state lives here that a restart would miss: all is read from the store
//! at the start, and again if the watch falls behind.
//!
//! The scheduler claims in the shared ledger first, then binds in transactions that also move the claims keys of the
//! agents; when that fails, the claim is given back and the pod waits for its next turn.
//!
//! Not here: decisions. Those are in `reconcile`, `sched` and `ledger`.

// A refusal is built once and handed up; boxing it would only add a hop.
#![allow(clippy::result_large_err)]

mod autoscale;
mod bind;
mod claimer;
mod error;
mod execute;
mod expire;
mod feed;
mod flights;
mod meter;
mod options;
mod recorder;
mod rescinder;
mod schedule;
mod service;
mod volumes;
mod work;

pub use claimer::LedgerClaimer;
pub use error::Error;
pub use meter::{Meter, NoMeter, Told};
pub use options::Options;
pub use rescinder::{NoOffers, Rescinder};
pub use service::{Handles, Service};

#[cfg(test)]
mod tests;
