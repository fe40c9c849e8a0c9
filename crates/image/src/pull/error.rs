//! Why a pull failed, in the words that people know from containerd.

use crate::Digest;

/// A pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// What the archive importer refuses, a pull refuses too.
    #[error(transparent)]
    Image(#[from] crate::Error),
    /// The file of registries cannot be used.
    #[error("cannot read the registries file {path}: {why}")]
    Registries {
        /// Which file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No connection, no TLS, no answer.
    #[error("failed to do request: {method} \"{url}\": {why}")]
    Request {
        /// `Get` or `Head`.
        method: &'static str,
        /// Where to.
        url: String,
        /// Why not.
        why: String,
    },
    /// Whoever listens there does not speak TLS at all.
    #[error("failed to do request: {method} \"{url}\": http: server gave HTTP response to HTTPS client")]
    NotTls {
        /// `Get` or `Head`.
        method: &'static str,
        /// Where to.
        url: String,
    },
    /// The registry does not know the image, or not for this caller.
    #[error("{0}: not found")]
    NotFound(String),
    /// The registry wants other credentials, or any.
    #[error("pull access denied, repository does not exist or may require authorization: {0}")]
    Denied(String),
    /// The registry answered something else than what was asked for.
    #[error("unexpected status from GET request to {url}: {status}{detail}")]
    Status {
        /// Where to.
        url: String,
        /// The status line's code and words.
        status: String,
        /// What the registry said about it, with a colon before; empty where nothing.
        detail: String,
    },
    /// The answer breaks the protocol or a bound.
    #[error("the registry's answer is not to be trusted: {0}")]
    Hostile(String),
    /// Bytes are not what their digest says.
    #[error("failed to verify {what}: got digest {found}, expected {wanted}")]
    Digest {
        /// What was fetched.
        what: &'static str,
        /// What it should be.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// Nothing in the index fits this machine.
    #[error("no match for platform in manifest {0}: not found")]
    NoPlatform(String),
    /// The disk has no room.
    #[error("no space left on device: the image's layers take {wanted} bytes, {free} are free")]
    NoSpace {
        /// What the manifest says.
        wanted: u64,
        /// What the file system has.
        free: u64,
    },
    /// The name could not be resolved at any endpoint.
    #[error("failed to resolve reference \"{reference}\"")]
    Resolve {
        /// The canonical name.
        reference: String,
        /// What the registry said.
        #[source]
        cause: Box<PullError>,
    },
    /// The whole pull took too long.
    #[error("the pull did not end within {0} s")]
    TooSlow(u64),
}

impl PullError {
    /// Whether the same question may be answered another time, or by another mirror with other words.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            PullError::Request { .. } => true,
            PullError::Status { status, .. } => {
                ["408", "425", "429", "500", "502", "503", "504"].iter().any(|s| status.starts_with(s))
            }
            _ => false,
        }
    }
}
