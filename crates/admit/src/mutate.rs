//! What the cluster adds to an object: the built-in mutating admission plugins, in the stock server's order.

mod classes;
mod limit_ranger;
mod pod;
mod service_account;

pub(crate) use service_account::mirror_fault;

use serde_json::{Value, json};
use stoa_kube::{Status, decode, schema};

use crate::value::{ensure, ensure_list, text};
use crate::{Operation, Request, World, check};

/// Adds what the cluster adds, and brings the object into the shape that is stored.
pub fn mutate(request: &Request<'_>, object: &mut Value, world: &dyn World) -> Result<(), Status> {
    // A name that leads nowhere is told before anything that depends on it.
    check::namespace_lifecycle(request, world)?;
    if request.is_main() {
        match (request.resource.group, request.resource.plural, request.operation) {
            ("", "pods", Operation::Create) => {
                limit_ranger::fill(request, object, world);
                service_account::admit(request, object, world)?;
                pod::priority(request, object, world)?;
                pod::tolerations(object);
                pod::runtime_class(request, object, world)?;
                pod::requalify(object);
            }
            ("", "pods", Operation::Update) => pod::tolerations(object),
            ("", "nodes", Operation::Create) => taint_not_ready(object),
            ("", "persistentvolumeclaims", Operation::Create) => classes::storage(object, world),
            ("networking.k8s.io", "ingresses", Operation::Create) => classes::ingress(object, world),
            _ => {}
        }
    }
    complete(request, object)
}

/// Writes the zeros that the stock server would write, drops what is empty.
fn complete(request: &Request<'_>, object: &mut Value) -> Result<(), Status> {
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let Some(ty) = schema::builtin().type_of_kind(group, version, text(object, "kind")) else {
        return Ok(());
    };
    decode::complete(object, ty)
        .map_err(|e| Status::internal(format!("admission spoiled the {}: {e}", request.resource.kind)))
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A new node takes no pods until its controller has seen it ready.
fn taint_not_ready(node: &mut Value) {
    let Some(taints) = ensure(node, "spec").and_then(|s| ensure_list(s, "taints")) else { return };
    if !taints.iter().any(|t| text(t, "key") == NOT_READY && text(t, "effect") == "NoSchedule") {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}
