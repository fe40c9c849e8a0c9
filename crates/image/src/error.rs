//! Why an image could not be had. Each says what was tried on what.

use crate::{Digest, ReferenceError};
use std::path::PathBuf;

/// An image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The archive cannot be read as a tar, gzip or zstd stream.
    #[error("cannot read the archive")]
    Archive(#[source] std::io::Error),
    /// The archive is neither an OCI layout nor a `docker save` archive, or part of it is missing.
    #[error("not an image archive: {0}")]
    NotAnImage(String),
    /// A JSON document of the archive or the store is malformed.
    #[error("{what} is malformed")]
    Json {
        /// Which document.
        what: String,
        /// Why.
        #[source]
        cause: serde_json::Error,
    },
    /// Bytes are not what their digest says.
    #[error("{what} has digest {found}, not {wanted}")]
    DigestMismatch {
        /// What was hashed.
        what: &'static str,
        /// What it should be.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// A layer's entry tries to leave the layer, or is of a kind that no layer may have.
    #[error("the archive holds a hostile entry `{entry}`: {why}")]
    Hostile {
        /// The entry's path, as it stands in the archive.
        entry: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The archive is larger than what this store takes.
    #[error("the archive exceeds a limit: {0}")]
    TooLarge(&'static str),
    /// No manifest fits this machine.
    #[error("the archive has no image for {0}")]
    NoPlatform(String),
    /// The reference is not one.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No such image.
    #[error("no image `{0}` on this machine")]
    Absent(String),
    /// A container runs from the image.
    #[error("image `{0}` is in use by a container")]
    InUse(String),
    /// The user that an image or pod names is not in the image.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// The group that an image or pod names is not in the image.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
}

pub(crate) fn file<'a>(
    verb: &'static str,
    path: &'a std::path::Path,
) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |cause| Error::File { verb, path: path.to_path_buf(), cause }
}
