//! The Kubernetes door: HTTPS, authentication, authorization, and a route to the registry for every request.
//!
//! **Flow.** A connection is accepted and shaken hands with ([`Service`]); each request is parsed once into what it asks for
//! (`request`: the authorizer and the handler read the same parse, so they can never disagree), the caller is identified
//! (`authn`), asked about (`authz`), and the request goes to its handler below `route`. Answers are the store's own bytes:
//! a list is streamed out of shared buffers, a watch hands on shared events.
//!
//! **Limits.** All in [`options`]: connections, handshakes, headers, bodies, streams, times. A handler that panics costs its
//! own request an answer of 500 and nothing else.
//!
//! **What not.** No storage, no admission, no controllers: those are below. This is the one crate of the Kubernetes face that
//! knows HTTP status codes.

// A refusal is built once and becomes the answer; boxing it would only add a hop to every signature.
#![allow(clippy::result_large_err)]

mod authn;
mod authz;
mod body;
mod cork;
mod discovery;
mod encode;
mod error;
mod flow;
#[doc(hidden)]
pub mod fuzz;
mod gzip;
mod impersonate;
mod indent;
mod list;
mod metrics;
mod negotiate;
pub mod options;
mod query;
mod request;
mod respond;
mod review;
mod route;
mod service;
mod state;
mod table;
mod tls;
mod tokens;
mod watch;
mod yaml;

pub use authn::{Authenticated, OidcOptions, RequestHeader, TokenAuthenticator};
pub use error::Error;
pub use options::Options;
pub use request::{RequestInfo, Target};
pub use service::{Handles, PodFigures, Service};
pub use tokens::ServiceAccountTokens;

/// Makes the tables and documents that every server has, which otherwise whoever asks first waits for. It takes some
/// milliseconds and needs nothing: a thread can do it while a server starts.
pub fn prepare() {
    stoa_kube::schema::builtin();
    discovery::prepare();
}
