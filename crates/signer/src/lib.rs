//! Signs the certificates that the cluster's authority grants on request.
//!
//! **What.** Requests of the stock signers: a node's own are approved where an access review says so, approved ones are signed if they
//! ask for what their signer grants and marked as failed otherwise, old ones are removed.
//!
//! **Flow.** One task watches requests ([`Service::run`]); what to do with one of them is a pure function (`request`), carried out
//! through the registry. Nothing is remembered: whatever was missed is seen at the next start.
//!
//! **What not.** Who may approve or sign by hand is the registry's check. Other signers' requests are left alone. Tokens that Secrets
//! hold are the controllers'.

// A refusal is built once and handed up; boxing it would only add a hop.
#![allow(clippy::result_large_err)]

mod request;
mod service;

pub use service::{Handles, Service};
