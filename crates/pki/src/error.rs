//! What can go wrong with keys and certificates.

use std::path::PathBuf;

/// An identity could not be made, loaded or judged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// A private key is readable by others than its owner.
    #[error("{0} is readable by other users; run `chmod 600` on it, and consider the key leaked")]
    Exposed(PathBuf),
    /// A certificate or key could not be made or parsed.
    #[error("cannot {0}")]
    Certificate(&'static str, #[source] rcgen::Error),
    /// A text is no certificate request, or asks for what cannot be.
    #[error("not a certificate request: {0}")]
    NotARequest(String),
    /// Bytes are no certificate.
    #[error("not a certificate: {0}")]
    NotACertificate(String),
    /// A token is malformed, forged, expired or for someone else. The reason is safe to show.
    #[error("invalid bearer token: {0}")]
    Token(&'static str),
    /// A token could not be signed.
    #[error("cannot sign a token")]
    Sign(#[source] jsonwebtoken::errors::Error),
}
