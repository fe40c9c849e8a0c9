//! Images on one machine: pulls from registries, import of archives, build from directories, safe unpacking, listing, removal.
//!
//! A store directory holds one unpacked directory per layer (named by the digest of its tar, ready to be an overlayfs
//! lower directory), the images' configurations, and an index that is replaced atomically. Several processes may use one
//! store: writers take a lock file, readers read the index again when it changed. What an archive contains is hostile
//! until proven otherwise: no entry leaves its layer's directory, every digest is verified, every size is bounded.
//! A pull takes a lease on its layers, so that nobody collects what it has not recorded yet.

mod archive;
mod build;
mod config;
mod digest;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod index;
mod lease;
mod pull;
mod reference;
mod store;
mod unpack;
mod user;

pub use config::{BuildConfig, Config};
pub use digest::Digest;
pub use error::Error;
pub use pull::{Credentials, Keyring, KeyringError, PullError, Pulled, Puller, Registries};
pub use reference::{Reference, ReferenceError};
pub use store::{Image, ImportOptions, Removed, Store};
pub use user::ResolvedUser;
