//! What a pod that is bound is resized to must fit its node, whatever else runs there.

use serde_json::Value;
use stoa_kube::{Cause, Status};
use stoa_units::{Quantity, quote};

use super::quota::pod_resources;
use crate::value::{at, path, text};
use crate::{Operation, Request, World};

pub(super) fn check(
    request: &Request<'_>,
    pod: &Value,
    old: Option<&Value>,
    world: &dyn World,
) -> Result<(), Status> {
    let is_resize = request.is_on("", "pods")
        && request.operation == Operation::Update
        && request.subresource == "resize";
    let spec = at(pod, "spec");
    let node = text(spec, "nodeName");
    // What asks for nothing new is let through, as whoever writes only status is.
    if !is_resize || node.is_empty() || old.is_none_or(|old| at(old, "spec") == spec) {
        return Ok(());
    }
    let refuse = |why: &str, cause: Option<&str>| {
        let status = Status::forbidden(request.resource, request.name, why);
        let Some(cause) = cause else { return Err(status) };
        let mut details = status.details.as_deref().cloned().unwrap_or_default();
        details.causes.push(Cause::new(cause, "", ""));
        Err(status.with_details(details))
    };
    let Some(found) = world.get("", "nodes", "", node) else {
        return refuse(&format!("node {} not found", quote(node)), None);
    };
    let os = path(&found, &["metadata", "labels", "kubernetes.io/os"]).as_str().unwrap_or("linux");
    if os != "linux" {
        let why =
            format!("pod resize is only supported on linux nodes, node {} is {}", quote(node), quote(os));
        return refuse(&why, Some("UnsupportedPlatform"));
    }
    let allocatable = |name: &str| {
        let text = path(&found, &["status", "allocatable", name]).as_str();
        text.and_then(|t| Quantity::parse(t).ok()).unwrap_or(Quantity::from_value(0))
    };
    let asked = pod_resources(spec, "requests");
    let mut short = Vec::new();
    for name in ["cpu", "memory"] {
        let (Some(asked), has) = (asked.get(name), allocatable(name)) else { continue };
        let unit = |q: &Quantity| if name == "cpu" { q.milli_ceil() } else { q.value_ceil() };
        if asked.nano() > has.nano() {
            short.push(format!("{name}, requested: {}, allocatable: {}", unit(asked), unit(&has)));
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    let why = format!("node didn't have enough allocatable resources: {}", short.join("; "));
    refuse(&why, Some("NodeCapacity"))
}
