//! Why the door cannot be opened.

use std::net::SocketAddr;

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A certificate or key cannot be read.
    #[error("cannot read the {what}: {why}")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The TLS library refuses the configuration.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The client authority is unusable.
    #[error("cannot verify client certificates: {0}")]
    Verifier(String),
}
