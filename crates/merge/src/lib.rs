//! Patches, as pure functions from a document and a patch to a new document: JSON patch (RFC 6902), merge patch (RFC 7386),
//! Kubernetes' strategic merge and server-side apply, the last two driven by the schema table.
//!
//! None of them checks the result against its kind: whoever calls decodes it afterwards, as it would a client's body.
//! No clock, no I/O; what a patch may cost is bounded, because it comes from outside.

mod apply;
mod error;
mod go;
mod json;
mod strategic;

pub use apply::{ApplyError, Force, Manager, apply, track_create, track_update};
pub use error::PatchError;
pub use go::print as printed;
pub use json::{COPIED_BYTES_MAX, Look, OPERATIONS_MAX, json_patch, merge_patch};
pub use strategic::strategic;
