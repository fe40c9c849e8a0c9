//! What can go wrong, in the words a pod's status repeats.

use std::io;
use std::path::PathBuf;

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container could not be set up.
    #[error("failed to create container: {message}")]
    Create {
        /// Which.
        id: String,
        /// Why.
        message: String,
    },
    /// The container was set up but its command could not be run; what a pod's status calls `StartError`.
    #[error(
        "OCI runtime create failed: unable to start container process: error during container init: {message}"
    )]
    Start {
        /// Which.
        id: String,
        /// Why, in the form `exec: "x": executable file not found in $PATH`.
        message: String,
        /// 127 when the command is missing, 126 when it cannot be run.
        code: i32,
    },
    /// The process to be run in a container could not be.
    #[error(
        "failed to exec in container: failed to start exec \"{id}\": OCI runtime exec failed: exec failed: unable to start container process: {message}"
    )]
    Exec {
        /// Which.
        id: String,
        /// Why.
        message: String,
        /// 127 when the command is missing, 126 when it cannot be run.
        code: i32,
    },
    /// No such container.
    #[error("no container `{0}`")]
    NotFound(String),
    /// No such pod.
    #[error("no pod `{0}`")]
    PodNotFound(String),
    /// It exists already.
    #[error("container `{0}` exists already")]
    Exists(String),
    /// It is not running.
    #[error("container `{0}` is not running")]
    NotRunning(String),
    /// It is running.
    #[error("container `{0}` is still running")]
    Running(String),
    /// The request makes no sense.
    #[error("invalid {what}: {why}")]
    Invalid {
        /// Of what.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The machine refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { what, path, source }
    }

    /// The word a container's status carries as its reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Error::Create { .. } | Error::Invalid { .. } => "CreateContainerError",
            Error::Start { .. } => "StartError",
            Error::Exec { .. } => "ExecError",
            _ => "RunContainerError",
        }
    }
}
