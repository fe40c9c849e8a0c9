//! What the store's refusals are called by the API.

use crate::Context;
use stoa_kube::{Resource, Status};
use stoa_store::Error;

/// What a write demands of the object that it meets.
#[derive(Clone, Copy)]
pub(crate) enum Demand {
    /// That it is this one.
    Uid,
    /// That nobody has written it since.
    Revision,
}

/// A write met another object than it demands. The words are those of a stock server's storage, with the key under which that
/// keeps the object; what only would be written is looked up above the storage, where keys have no root.
pub(crate) fn precondition(
    ctx: &Context,
    resource: &Resource,
    (namespace, name): (&str, &str),
    demand: Demand,
    wanted: &str,
    found: &str,
) -> Status {
    let what = match demand {
        Demand::Uid => "UID",
        Demand::Revision => "ResourceVersion",
    };
    let place = if resource.namespaced { format!("{namespace}/{name}") } else { name.to_string() };
    let root = if ctx.is_dry_run() { "" } else { "/registry" };
    let key = format!("{root}/{}/{place}", stock_prefix(resource));
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
    );
    Status::conflict(resource, name, &why)
}

/// Where a stock server keeps a kind's objects.
fn stock_prefix(resource: &Resource) -> String {
    match (resource.group, resource.plural) {
        ("", "replicationcontrollers") => "controllers".to_string(),
        ("", "endpoints") => "services/endpoints".to_string(),
        ("", "services") => "services/specs".to_string(),
        ("", "nodes") => "minions".to_string(),
        ("networking.k8s.io", "ingresses") => "ingress".to_string(),
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", plural) => format!("{}/{plural}", resource.group),
        (_, plural) => plural.to_string(),
    }
}

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
