//! What depends on other objects: the built-in validating admission plugins, in the stock server's order. Quota comes
//! last, for it counts what everything else has let pass.

mod limits;
mod node_restriction;
mod pod_resize;
mod pod_security;
pub mod quota;

use serde_json::Value;
use stoa_kube::{Cause, Status};
use stoa_units::Quantity;

use crate::value::{at, flag, path, text};
use crate::{Operation, Request, World, warn};

/// Whether the cluster admits this write. Returns warnings for the user.
pub fn check(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
) -> Result<Vec<String>, Status> {
    namespace_lifecycle(request, world)?;
    system_class(request)?;
    let mut warnings = warn::warnings(request, object, old);
    let sized =
        (request.operation == Operation::Create && request.is_main()) || request.subresource == "resize";
    if request.is_on("", "pods") && sized {
        limits::check_pod(request, object, world)?;
    }
    if request.is_on("", "persistentvolumeclaims") && request.operation != Operation::Delete {
        limits::check_claim(request, object, world)?;
    }
    node_restriction::check(request, object, old, world)?;
    pod_security::check(request, object, old, world, &mut warnings)?;
    only_default_class(request, object, world)?;
    resize(request, object, old, world)?;
    pod_resize::check(request, object, old, world)?;
    if request.operation != Operation::Delete && matches!(request.subresource, "" | "resize") {
        quota::check(request, object, old, world)?;
    }
    Ok(warnings)
}

/// Whether the cluster admits what is done to an object by creating a body of another kind under it.
pub fn check_subresource(request: &Request<'_>, body: &Value, world: &dyn World) -> Result<(), Status> {
    namespace_lifecycle(request, world)?;
    node_restriction::check(request, body, None, world)
}

/// Namespaces that the cluster cannot do without.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The classes by which the cluster itself lives.
const SYSTEM_CLASSES: [&str; 2] = ["system-cluster-critical", "system-node-critical"];

/// What the cluster lives by is not deleted.
fn system_class(request: &Request<'_>) -> Result<(), Status> {
    let is_theirs = request.is_on("scheduling.k8s.io", "priorityclasses")
        && request.operation == Operation::Delete
        && SYSTEM_CLASSES.contains(&request.name);
    let why = "this is a system priority class and cannot be deleted";
    if is_theirs { Err(Status::forbidden(request.resource, request.name, why)) } else { Ok(()) }
}

/// Nothing is created in a namespace that is not there or is going away.
pub(crate) fn namespace_lifecycle(request: &Request<'_>, world: &dyn World) -> Result<(), Status> {
    if request.is_on("", "namespaces") {
        if request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
            return Err(Status::forbidden(
                request.resource,
                request.name,
                "this namespace may not be deleted",
            ));
        }
        return Ok(());
    }
    let review = request.resource.group == "authorization.k8s.io";
    if request.namespace.is_empty() || request.operation == Operation::Delete || review {
        return Ok(());
    }
    let Some(namespace) = world.namespace(request.namespace) else {
        return Err(Status::not_found_named("namespaces", "", request.namespace));
    };
    let terminating = path(&namespace, &["status", "phase"]) == "Terminating"
        || !path(&namespace, &["metadata", "deletionTimestamp"]).is_null();
    if request.operation == Operation::Create && terminating {
        let name = request.namespace;
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        let mut status = Status::forbidden(request.resource, request.name, &why);
        let cause = Cause::new(
            "NamespaceTerminating",
            "metadata.namespace",
            format!("namespace {name} is being terminated"),
        );
        status.details.get_or_insert_default().causes.push(cause);
        return Err(status);
    }
    Ok(())
}

/// A bound claim grows only where its class says that its volumes can.
fn resize(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
) -> Result<(), Status> {
    let Some(old) = old else { return Ok(()) };
    if !request.is_on("", "persistentvolumeclaims")
        || request.operation != Operation::Update
        || !request.is_main()
    {
        return Ok(());
    }
    let size = |o: &Value| {
        let text = path(o, &["spec", "resources", "requests", "storage"]).as_str().unwrap_or_default();
        Quantity::parse(text).map_or(0, |q| q.nano())
    };
    if size(object) <= size(old) {
        return Ok(());
    }
    let refuse = |why: &str| Err(Status::forbidden(request.resource, request.name, why));
    if path(old, &["status", "phase"]) != "Bound" {
        return refuse("Only bound persistent volume claims can be expanded");
    }
    let class = path(object, &["spec", "storageClassName"]).as_str().unwrap_or_default();
    let class = world.get("storage.k8s.io", "storageclasses", "", class).unwrap_or_default();
    if !flag(&class, "allowVolumeExpansion") {
        return refuse(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        );
    }
    Ok(())
}

/// Only one priority class can be the one that counts without being named.
fn only_default_class(request: &Request<'_>, object: &Value, world: &dyn World) -> Result<(), Status> {
    let relevant = request.is_on("scheduling.k8s.io", "priorityclasses")
        && request.operation != Operation::Delete
        && flag(object, "globalDefault");
    if !relevant {
        return Ok(());
    }
    let name = |c: &Value| text(at(c, "metadata"), "name").to_owned();
    let classes = world.list("scheduling.k8s.io", "priorityclasses", "");
    match classes.iter().find(|c| flag(c, "globalDefault") && name(c) != name(object)) {
        Some(other) => Err(Status::forbidden(
            request.resource,
            request.name,
            &format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                name(other)
            ),
        )),
        None => Ok(()),
    }
}
