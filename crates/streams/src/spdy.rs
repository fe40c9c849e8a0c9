//! SPDY/3.1, as much of it as Kubernetes' clients speak: streams with headers, data both ways, half-close, reset, ping.
//!
//! **Flow control.** Received bytes are credited to the peer when they are taken. What we send is held back by the
//! connection alone: the SPDY library of Kubernetes' clients neither opens nor minds windows, and a server that waited for
//! its credits would stop after 64 KiB.

pub(crate) mod connection;
pub(crate) mod dictionary;
pub(crate) mod frame;
pub(crate) mod headers;

pub(crate) use connection::{Connection, Input, StreamInput, StreamOutput};
