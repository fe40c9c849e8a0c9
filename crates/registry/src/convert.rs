//! One stored form for resources that are served in two. Everything else is served exactly as it is stored.

use bytes::Bytes;
use serde_json::Value;
use stoa_kube::{Object, Resource, Status, resources};

/// The resource whose form is stored.
pub(crate) fn stored(resource: &Resource) -> Option<&'static Resource> {
    resources().find(resource.storage, resource.storage_version, resource.plural)
}

/// Turns an object as clients of `resource` see it into its stored form.
pub(crate) fn to_stored(resource: &Resource, object: Value) -> Result<Value, Status> {
    stoa_kube::convert(object, resource.group_version(), resource.storage_group_version())
        .map_err(|e| Status::bad_request(e.to_string()))
}

/// Turns a stored object into what clients of `resource` see.
pub(crate) fn to_served(resource: &Resource, object: Value) -> Result<Value, Status> {
    stoa_kube::convert(object, resource.storage_group_version(), resource.group_version())
        .map_err(|e| Status::internal(e.to_string()))
}

/// Stored bytes as clients of `resource` see them: the same bytes unless the forms differ.
pub(crate) fn serve(resource: &Resource, bytes: Bytes) -> Bytes {
    if !resource.is_converted() {
        return bytes;
    }
    let Ok(object) = serde_json::from_slice::<Value>(&bytes) else { return bytes };
    to_served(resource, object).map_or(bytes, |object| Object(object).into_text().into())
}
