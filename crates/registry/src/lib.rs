//! The write path and the read path of API objects, on top of the store.
//!
//! **Writes.** [`Registry::create`], [`Registry::update`], [`Registry::patch`], [`Registry::delete`] take an object through
//! decoding (unknown fields, wrong types), defaulting, the kind's strategy, admission and validation, all of them pure and
//! elsewhere, and commit the outcome in one compare-and-swap transaction, together with whatever must change with it: a
//! service's address and ports, a binding's claim on its node. A create also demands that its namespace has not changed since it was
//! looked at, so that nothing slips into a namespace that is being emptied.
//!
//! **Reads.** [`Registry::get`], [`Registry::list`], [`Registry::watch`] hand out the store's own bytes. An object is
//! serialised once, when it is written; selectors look into the bytes and parse no more than they ask for.
//!
//! **Beside that.** [`Registry::bootstrap`] makes what a new cluster must have, [`Registry::start_authorizer`] keeps the
//! authorizer's view of roles, bindings and pods current.
//!
//! **What not.** No HTTP: a refusal is a `Status`, the door makes an answer of it. No controllers: deleting a namespace or an
//! owner only marks it here.

// A refusal is built once and handed up to the door; boxing it would only add a hop to every signature.
#![allow(clippy::result_large_err)]

mod admission;
mod allocate;
mod authorizer;
mod bind;
mod bootstrap;
mod certificate;
mod context;
mod continue_token;
mod convert;
mod create;
mod decode;
mod delete;
mod error;
mod escalation;
mod evict;
#[doc(hidden)]
pub mod fuzz;
mod list;
mod options;
mod owner_references;
mod patch;
mod prepared;
mod quota;
mod registry;
mod scale;
mod select;
mod tally;
mod token_request;
mod update;
mod watch;
mod world;

pub use allocate::{NODE_PORTS, PortKeeper};
pub use authorizer::SharedAuthorizer;
pub use bind::{Claim, Claimer};
pub use context::{Context, FieldValidation, Persist, Target};
pub use delete::{DeleteOptions, Deleted, Propagation};
pub use list::{List, ListOptions, RevisionMatch, parse_list_revision, parse_revision};
pub use options::{Options, ServiceCidr};
pub use patch::{Patch, PatchKind};
pub use prepared::{Change, Prepared, Written};
pub use registry::Registry;
pub use select::Selection;
pub use token_request::{BoundTo, TokenIssuer, TokenSpec};
pub use watch::{Initial, Watch, WatchEvent, WatchKind, WatchOptions, default_watch_timeout};
pub use world::Snapshot;
