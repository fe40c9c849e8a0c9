//! Why a patch was not applied, and the `Status` that says so.

use stoa_kube::{Status, reason};

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// The patch makes sense and does not fit this document: a `test` failed, a path leads nowhere.
    #[error("the patch does not fit the document: {0}")]
    Refused(String),
    /// The patch is of a form that the stock server does not foresee, and answers as its own failure.
    #[error("{0}")]
    Unforeseen(String),
    /// The patch is larger than we are willing to work through.
    #[error("{0}")]
    TooLarge(String),
}

impl PatchError {
    /// The refusal to answer with.
    pub fn to_status(&self) -> Status {
        match self {
            PatchError::Malformed(why) => Status::bad_request(why.clone()),
            PatchError::Unforeseen(why) => Status::failure(500, "", why.clone()),
            // The stock server keeps the reason to itself.
            PatchError::Refused(_) => Status::patch_refused(),
            PatchError::TooLarge(why) => Status::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, why.clone()),
        }
    }
}
