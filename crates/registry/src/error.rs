//! What the store's refusals are called by the API.

use stoa_kube::Status;
use stoa_store::Error;

/// A store error that no caller treats specially.
pub(crate) fn status(error: Error) -> Status {
    match error {
        Error::Compacted { oldest } => Status::too_old_revision(0, oldest.0),
        Error::Future { requested, current } => Status::too_large_revision(requested.0, current.0),
        Error::TooLarge { max, .. } => Status::too_large(max),
        Error::Lagged => Status::expired("the watcher fell behind; list again"),
        Error::Closed => Status::service_unavailable("the store is closed"),
        other => {
            tracing::error!(error = %other, "the store failed");
            Status::internal(other.to_string())
        }
    }
}
