//! Default classes: of storage for claims, of controllers for ingresses.

use serde_json::Value;

use crate::World;
use crate::value::{at, has, is_empty, path, set, text};

fn is_default(class: &Value, annotation: &str) -> bool {
    path(class, &["metadata", "annotations", annotation]) == "true"
}

/// The newest of the default classes; of those made at once the first by name.
fn newest<'v>(classes: &'v [Value], annotation: &str) -> Option<&'v Value> {
    classes.iter().filter(|c| is_default(c, annotation)).max_by(|a, b| {
        let made = |c: &Value| text(at(c, "metadata"), "creationTimestamp").to_owned();
        let name = |c: &Value| text(at(c, "metadata"), "name").to_owned();
        made(a).cmp(&made(b)).then_with(|| name(b).cmp(&name(a)))
    })
}

/// A claim that names no class, neither by field nor by the old annotation, gets the newest default one; the empty name asks for
/// none.
pub(super) fn storage(claim: &mut Value, world: &dyn World) {
    let annotated = path(claim, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]);
    let is_annotated = annotated.is_string();
    let Some(spec) = claim.get_mut("spec").filter(|s| s.is_object()) else { return };
    if is_annotated || has(spec, "storageClassName") {
        return;
    }
    let classes = world.list("storage.k8s.io", "storageclasses", "");
    if let Some(class) = newest(&classes, "storageclass.kubernetes.io/is-default-class") {
        set(spec, "storageClassName", text(at(class, "metadata"), "name"));
    }
}

/// An ingress that names no class, neither by field nor by the old annotation, gets the newest default one.
pub(super) fn ingress(ingress: &mut Value, world: &dyn World) {
    let annotated = path(ingress, &["metadata", "annotations", "kubernetes.io/ingress.class"]).is_string();
    let Some(spec) = ingress.get_mut("spec").filter(|s| s.is_object()) else { return };
    if annotated || !is_empty(spec, "ingressClassName") {
        return;
    }
    let classes = world.list("networking.k8s.io", "ingressclasses", "");
    if let Some(class) = newest(&classes, "ingressclass.kubernetes.io/is-default-class") {
        set(spec, "ingressClassName", text(at(class, "metadata"), "name"));
    }
}
