//! The one book of every agent's capacity and every claim on it: bound pods and outstanding Mesos offers, host ports
//! included. Whoever wants a piece of an agent claims it here first; the book refuses what does not fit, so the pod
//! scheduler's binding and a framework's accept can never both win the same piece.
//!
//! What it is not: it stores nothing and decides nothing about fairness or placement. It is rebuilt from the store
//! ([`Ledger::force_claim`]) and read by `sched` and `offers`.
//!
//! A piece of an agent that is reserved, or is a volume, is a *pool*: what is not drawn of it is held by the pool itself, so
//! that everybody else sees it as taken, and whoever draws gives it back to the pool and not to the agent.
//!
//! The flow of a claim: `claim` (or `accept`) under the lock → one store transaction that writes the pods and, guarded
//! by [`Ledger::revision`], the agent's claims key ([`claim_key`]) → [`Ledger::committed`]; or, if the transaction
//! fails, `release`. The claims key makes two leaders exclude each other: a deposed one bases its transaction
//! on a revision that the new one has already moved.

mod book;
mod holder;
mod ledger;
mod offered;
mod pool;
mod short;

pub use holder::{Agent, Claim, Holder};
pub use ledger::{Ledger, Usage, claim_key};
pub use pool::{Pool, PoolKind, Split};
pub use short::Short;

#[cfg(test)]
mod tests;
