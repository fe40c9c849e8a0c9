//! Joining: a machine with a join token and a certificate request becomes a node. Who judges tokens and signs is plugged in.

use stoa_wire::{JoinRequest, JoinResponse};

/// Why a machine may not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is unknown, expired or not for this.
    #[error("the join token is not valid: make one with `stoa token create`")]
    Token,
    /// The request is malformed.
    #[error("the join request is malformed: {0}")]
    Malformed(String),
    /// The certificate could not be signed.
    #[error("the certificate cannot be signed: {0}")]
    Signing(String),
}

/// Judges join tokens and signs node certificates.
pub trait JoinAuthority: Send + Sync {
    /// Signs the request's key as `system:node:<node>` if the token is good.
    fn join(&self, request: &JoinRequest) -> Result<JoinResponse, JoinError>;
}
