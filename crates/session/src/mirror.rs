//! Mirrors: objects that show pods which a node runs on its own account. The node's own user writes them, so that
//! admission holds it to what a node may say.

use serde_json::Value;
use stoa_authz::User;
use stoa_kube::{Resource, Status, resources};
use stoa_registry::{Context, DeleteOptions, Registry, Target};
use stoa_wire::PodRef;

/// Which edition of a pod a mirror shows.
const MIRROR: &str = "/metadata/annotations/kubernetes.io~1config.mirror";

fn context(node: &str) -> Context {
    let groups = ["system:nodes", "system:authenticated"].map(String::from).to_vec();
    let name = format!("system:node:{node}");
    Context::of(User { name, uid: String::new(), groups, extra: Default::default() })
}

fn pods() -> Result<&'static Resource, Status> {
    resources().find("", "v1", "pods").ok_or_else(|| Status::internal("the registry does not know pods"))
}

fn stored(registry: &Registry, target: Target<'_>) -> Option<Value> {
    serde_json::from_slice(&registry.get(target).ok()?.value).ok()
}

/// Whether an object is a mirror that this node wrote.
fn is_mirror(object: &Value, node: &str) -> bool {
    object.pointer(MIRROR).is_some() && object["spec"]["nodeName"] == node
}

/// Which edition of a pod an object shows, if it is a mirror that this node wrote.
pub(crate) fn edition(registry: &Registry, node: &str, pod: &PodRef) -> Option<String> {
    let entry = registry.get(Target::new(pods().ok()?, &pod.namespace, &pod.name)).ok()?;
    // Few pods are mirrors: the others need not be read for every event.
    let word = b"config.mirror";
    if !entry.value.windows(word.len()).any(|bytes| bytes == word) {
        return None;
    }
    let object: Value = serde_json::from_slice(&entry.value).ok()?;
    let edition = object.pointer(MIRROR).filter(|_| is_mirror(&object, node))?;
    edition.as_str().map(str::to_owned)
}

/// Shows a pod; an older edition of it goes.
pub(crate) async fn show(registry: &Registry, node: &str, pod: &PodRef, bytes: &[u8]) -> Result<(), Status> {
    let mut object: Value = serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()))?;
    object["metadata"]["namespace"] = pod.namespace.as_str().into();
    object["metadata"]["name"] = pod.name.as_str().into();
    object["metadata"]["ownerReferences"] = owner(registry, node)?;
    let (resource, ctx) = (pods()?, context(node));
    let target = Target::new(resource, &pod.namespace, &pod.name);
    if let Some(old) = stored(registry, target) {
        if old.pointer(MIRROR) == object.pointer(MIRROR) && old["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        if !is_mirror(&old, node) {
            return Err(Status::already_exists(resource, &pod.name));
        }
        delete(registry, node, target, &old).await?;
    }
    registry.create(&ctx, Target::new(resource, &pod.namespace, ""), object).await.map(drop)
}

/// A pod is gone, and so shall be its mirror.
pub(crate) async fn hide(registry: &Registry, node: &str, pod: &PodRef) -> Result<(), Status> {
    let target = Target::new(pods()?, &pod.namespace, &pod.name);
    match stored(registry, target) {
        Some(old) if is_mirror(&old, node) => delete(registry, node, target, &old).await,
        _ => Ok(()),
    }
}

async fn delete(registry: &Registry, node: &str, target: Target<'_>, old: &Value) -> Result<(), Status> {
    let uid = old["metadata"]["uid"].as_str().map(str::to_owned);
    let options = DeleteOptions { uid, ..DeleteOptions::now() };
    match registry.delete(&context(node), target, &options).await {
        Err(e) if e.is("NotFound") => Ok(()),
        other => other.map(drop),
    }
}

/// The node is what a mirror belongs to.
fn owner(registry: &Registry, node: &str) -> Result<Value, Status> {
    let resource = resources().find("", "v1", "nodes");
    let resource = resource.ok_or_else(|| Status::internal("the registry does not know nodes"))?;
    let entry = registry.get(Target::new(resource, "", node))?;
    let object: Value = serde_json::from_slice(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
    Ok(serde_json::json!([{"apiVersion": "v1", "kind": "Node", "name": node,
        "uid": object["metadata"]["uid"], "controller": true}]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_is_told_of_a_mirror_is_about_the_edition_that_it_shows() {
        let store = stoa_store::memory(stoa_store::Options::default());
        let clock = std::sync::Arc::new(stoa_units::SystemClock);
        let registry = Registry::new(store.clone(), clock, stoa_registry::Options::default());
        for (name, annotations) in [
            ("mirror", json!({"kubernetes.io/config.mirror": "hash"})),
            ("other", json!({"note": "no config.mirror"})),
        ] {
            let object = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "n", "uid": "u", "annotations": annotations},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
            let key = stoa_store::Key::object("", "pods", "n", name);
            let txn = stoa_store::Txn::new().put(key, stoa_kube::Object(object).to_stamped());
            store.commit(txn).await.unwrap();
        }
        for (node, name, want) in [
            ("n1", "mirror", Some("hash")),
            ("n2", "mirror", None),
            ("n1", "other", None),
            ("n1", "gone", None),
        ] {
            let pod = PodRef { namespace: "n".into(), name: name.into(), uid: "u".into() };
            assert_eq!(edition(&registry, node, &pod).as_deref(), want, "{node} {name}");
        }
    }
}
