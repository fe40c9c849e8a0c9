//! Why the service stopped.

/// What ends [`crate::Service::run`] before it is told to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be read or watched.
    #[error("cannot follow the store")]
    Store(#[from] stoa_store::Error),
}
