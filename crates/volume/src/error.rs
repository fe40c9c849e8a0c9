//! What can go wrong with a volume, in the words a pod's events repeat.

use std::io;
use std::path::PathBuf;

/// An error of a volume.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object that the volume reads is not there (yet).
    #[error("{kind} \"{name}\" not found")]
    ObjectNotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object that the volume reads was not pushed yet.
    #[error("failed to sync {kind} cache: timed out waiting for the condition")]
    ObjectPending {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The object lacks a key that the volume names.
    #[error("{}references non-existent {kind} key: {key}", if *kind == "config" { "configmap " } else { "" })]
    KeyNotFound {
        /// `config` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// A token that the volume holds was not fetched yet.
    #[error("failed to fetch token: no token for audience {0:?} yet")]
    TokenPending(String),
    /// The image that the volume shows is not on this node.
    #[error("the image of volume {0:?} is not present")]
    ImagePending(String),
    /// A path inside the volume that would leave it.
    #[error("invalid path {0:?} in a volume")]
    Path(String),
    /// A field or resource that the downward API does not know.
    #[error("unsupported downward API reference {0:?}")]
    Downward(String),
    /// A container that the downward API is to tell of and the pod does not have.
    #[error("container {0} not found")]
    NoContainer(String),
    /// What several sources of one volume lack.
    #[error("[{}]", .0.join(", "))]
    Several(Vec<String>),
    /// A driver that nobody registered on this node.
    #[error(
        "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {0} not found in the list of registered CSI drivers"
    )]
    NoDriver(String),
    /// A host path is not what its type says.
    #[error("hostPath type check failed: {path} is not {what}")]
    HostPath {
        /// The path.
        path: String,
        /// `a directory`, `a file`, ….
        what: &'static str,
    },
    /// The machine refused, in the words that a kubelet has for it.
    #[error("{0}")]
    Words(String),
    /// A kind of volume that this agent does not make.
    #[error("volume \"{0}\" is of a kind that this node does not support")]
    Unsupported(String),
    /// No size of huge pages, or several.
    #[error("volume \"{0}\" needs exactly one size of huge pages, in its medium or in the pod's limits")]
    PageSize(String),
    /// A uid or name that is no path segment.
    #[error("{0:?} cannot name a directory")]
    Name(String),
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

impl Error {
    pub(crate) fn io<E: Into<io::Error>>(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Error {
        let path = path.into();
        move |cause| Error::Io { what, path, cause: cause.into() }
    }

    /// Whether something is mounted where a file or directory is to go.
    pub(crate) fn is_mounted(&self) -> bool {
        use rustix::io::Errno;
        let code = |e: Errno| Some(e.raw_os_error());
        matches!(self, Error::Io { cause, .. }
            if [code(Errno::BUSY), code(Errno::XDEV)].contains(&cause.raw_os_error()))
    }

    /// Whether the volume may become possible once something is pushed.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Error::ObjectPending { .. } | Error::TokenPending(_))
    }
}
