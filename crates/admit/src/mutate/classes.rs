//! Default classes: of storage for claims, of controllers for ingresses.

use serde_json::Value;
use stoa_kube::Status;

use crate::value::{at, has, is_empty, path, set, text};
use crate::{Request, World};

fn is_default(class: &Value, annotation: &str) -> bool {
    path(class, &["metadata", "annotations", annotation]) == "true"
}

/// A claim that names no class gets the newest default one; the empty name asks for none.
pub(super) fn storage(claim: &mut Value, world: &dyn World) {
    let Some(spec) = claim.get_mut("spec").filter(|s| s.is_object()) else { return };
    if has(spec, "storageClassName") {
        return;
    }
    let classes = world.list("storage.k8s.io", "storageclasses", "");
    let newest = classes
        .iter()
        .filter(|c| is_default(c, "storageclass.kubernetes.io/is-default-class"))
        .max_by(|a, b| {
            let made = |c: &Value| text(at(c, "metadata"), "creationTimestamp").to_owned();
            let name = |c: &Value| text(at(c, "metadata"), "name").to_owned();
            made(a).cmp(&made(b)).then_with(|| name(b).cmp(&name(a)))
        });
    if let Some(class) = newest {
        set(spec, "storageClassName", text(at(class, "metadata"), "name"));
    }
}

/// An ingress that names no class, neither by field nor by the old annotation, gets the default one.
pub(super) fn ingress(request: &Request<'_>, ingress: &mut Value, world: &dyn World) -> Result<(), Status> {
    let annotated = path(ingress, &["metadata", "annotations", "kubernetes.io/ingress.class"]).is_string();
    let Some(spec) = ingress.get_mut("spec").filter(|s| s.is_object()) else { return Ok(()) };
    if annotated || !is_empty(spec, "ingressClassName") {
        return Ok(());
    }
    let classes = world.list("networking.k8s.io", "ingressclasses", "");
    let defaults: Vec<&Value> =
        classes.iter().filter(|c| is_default(c, "ingressclass.kubernetes.io/is-default-class")).collect();
    match defaults.as_slice() {
        [] => Ok(()),
        [class] => {
            set(spec, "ingressClassName", text(at(class, "metadata"), "name"));
            Ok(())
        }
        many => Err(Status::forbidden(
            request.resource,
            request.name,
            &format!("{} default IngressClasses were found, only 1 allowed", many.len()),
        )),
    }
}
