//! What keeps an agent from running at all.

use std::io;
use std::path::PathBuf;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option makes no sense.
    #[error("{0}")]
    Options(String),
    /// The container runtime does not open.
    #[error("cannot open the container runtime")]
    Runtime(#[from] stoa_runtime::Error),
    /// The image store does not open.
    #[error("cannot open the image store")]
    Images(#[from] stoa_image::Error),
    /// The pod network does not open.
    #[error("cannot open the pod network: {0}")]
    Network(String),
    /// A pod's volumes cannot be removed.
    #[error("cannot remove the volumes of pods")]
    Volumes(#[from] stoa_volume::Error),
    /// The machine refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}
