//! What authorization cannot see because it depends on the object: a node writes only itself and only its own pods.

use serde_json::Value;
use stoa_kube::Status;

use crate::default::CONTAINER_LISTS;
use crate::mutate::mirror_fault;
use crate::value::{at, is_empty, is_same, items, pairs, path, text};
use crate::{Operation, Request, World};

pub(super) fn check(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
) -> Result<(), Status> {
    let Some(node) = request.user.node_name() else { return Ok(()) };
    let fault = match (request.resource.group, request.resource.plural, request.subresource) {
        ("", "pods", "") => pod(node, request, object, old),
        ("", "pods", "status") => pod_status(node, object, old),
        ("", "pods", "eviction") => eviction(node, request, world),
        ("", "nodes", _) => own_node(node, request, object, old),
        ("", "serviceaccounts", "token") => token(node, request, object, world),
        ("coordination.k8s.io", "leases", _) => lease(node, request),
        ("storage.k8s.io", "csinodes", _) if request.name != node => {
            Some("can only access CSINode with the same name as the requesting node".to_owned())
        }
        _ => None,
    };
    match fault {
        Some(why) => Err(Status::forbidden(request.resource, request.name, &why)),
        None => Ok(()),
    }
}

const MIRROR: &str = "kubernetes.io/config.mirror";

fn runs_on(pod: &Value) -> &str {
    text(at(pod, "spec"), "nodeName")
}

fn pod(node: &str, request: &Request<'_>, object: &Value, old: Option<&Value>) -> Option<String> {
    match request.operation {
        Operation::Create => {
            if path(object, &["metadata", "annotations", MIRROR]).is_null() {
                return Some(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            if runs_on(object) != node {
                return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
            }
            let owners: Vec<&Value> = items(at(object, "metadata"), "ownerReferences").collect();
            let own = |o: &&Value| text(o, "kind") == "Node" && text(o, "name") == node;
            if !owners.iter().all(own) || owners.len() > 1 {
                return Some(format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            let spec = at(object, "spec");
            if let Some(why) = mirror_fault(spec) {
                return Some(why.to_owned());
            }
            referred_to(spec).map(|what| format!("node {node:?} can not create pods that reference {what}"))
        }
        Operation::Delete => {
            let stored = old.unwrap_or(object);
            (runs_on(stored) != node)
                .then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        Operation::Update => {
            Some(format!("unexpected operation UPDATE, node {node:?} can only create and delete mirror pods"))
        }
    }
}

fn pod_status(node: &str, object: &Value, old: Option<&Value>) -> Option<String> {
    let stored = old?;
    if runs_on(stored) != node {
        return Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    // Labels are what others select by, and by the claims that were made for a pod its node may read them.
    let own_by_others: [(&[&str], &str); 3] = [
        (&["metadata", "labels"], "labels through pod status"),
        (&["status", "resourceClaimStatuses"], "resource claim statues"),
        (&["status", "extendedResourceClaimStatus"], "extended resource claim status"),
    ];
    // A list that is empty is one that is not there.
    let changed = own_by_others.iter().find(|(place, _)| !is_same(path(stored, place), path(object, place)));
    changed.map(|(_, what)| format!("node {node:?} cannot update {what}"))
}

/// What a pod refers to that its node could read by it, besides secrets and accounts.
fn referred_to(spec: &Value) -> Option<&'static str> {
    let names_config = |c: &Value| {
        items(c, "env").any(|e| path(e, &["valueFrom", "configMapKeyRef"]).is_object())
            || items(c, "envFrom").any(|e| at(e, "configMapRef").is_object())
    };
    let mut containers = CONTAINER_LISTS.iter().flat_map(|list| items(spec, list));
    let volumes = || items(spec, "volumes");
    let mut sources = volumes().flat_map(|v| items(at(v, "projected"), "sources"));
    if containers.any(names_config)
        || volumes().any(|v| at(v, "configMap").is_object())
        || sources.any(|s| at(s, "configMap").is_object())
    {
        return Some("configmaps");
    }
    if volumes().any(|v| at(v, "persistentVolumeClaim").is_object()) {
        return Some("persistentvolumeclaims");
    }
    items(spec, "resourceClaims").next().map(|_| "resourceclaims")
}

fn eviction(node: &str, request: &Request<'_>, world: &dyn World) -> Option<String> {
    let pod = world.get("", "pods", request.namespace, request.name);
    pod.is_some_and(|p| runs_on(&p) != node)
        .then(|| format!("node {node} can only evict pods with spec.nodeName set to itself"))
}

/// Labels that say where a node belongs; tenants trust them, so a node may not choose them for itself.
fn is_restricted(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else { return false };
    if prefix == "node-restriction.kubernetes.io" || prefix.ends_with(".node-restriction.kubernetes.io") {
        return true;
    }
    let reserved = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if !(reserved("kubernetes.io") || reserved("k8s.io")) {
        return false;
    }
    let agents_own = ["kubelet.kubernetes.io", "node.kubernetes.io"];
    let known = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    ];
    let own = agents_own.iter().any(|d| prefix == *d || prefix.ends_with(&format!(".{d}")));
    !own && !known.contains(&label)
}

fn own_node(node: &str, request: &Request<'_>, object: &Value, old: Option<&Value>) -> Option<String> {
    let target = if request.name.is_empty() { text(at(object, "metadata"), "name") } else { request.name };
    if target != node {
        return Some(format!("node {node:?} is not allowed to modify node {target:?}"));
    }
    if request.operation == Operation::Delete {
        return Some(format!("node {node:?} is not allowed to delete itself"));
    }
    // An owner that is not there would have the garbage collector remove the node.
    let owners = |o: &Value| path(o, &["metadata", "ownerReferences"]).clone();
    let stored = old.unwrap_or(&crate::value::NULL);
    if old.is_some()
        && owners(object) != owners(stored)
        && !(owners(object).is_null() && owners(stored).is_null())
    {
        return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    let labels = at(object, "metadata");
    let mut set: Vec<&str> = pairs(labels, "labels")
        .filter(|(k, v)| is_restricted(k) && at(at(at(stored, "metadata"), "labels"), k) != *v)
        .map(|(k, _)| k.as_str())
        .collect();
    set.extend(
        pairs(at(stored, "metadata"), "labels")
            .filter(|(k, _)| is_restricted(k) && at(at(labels, "labels"), k).is_null())
            .map(|(k, _)| k.as_str()),
    );
    if !set.is_empty() {
        set.sort_unstable();
        let set = set.join(", ");
        return Some(match old {
            Some(_) => format!("is not allowed to modify labels: {set}"),
            None => format!("node {node:?} is not allowed to set the following labels: {set}"),
        });
    }
    // Taints may come with the registration; later they are the controllers'.
    let taints = |o: &Value| path(o, &["spec", "taints"]).clone();
    (old.is_some() && taints(stored) != taints(object))
        .then(|| format!("node {node:?} is not allowed to modify taints"))
}

/// A node gets tokens for the pods that it runs, bound to them.
fn token(node: &str, request: &Request<'_>, object: &Value, world: &dyn World) -> Option<String> {
    let bound = path(object, &["spec", "boundObjectRef"]);
    let is_pod = (text(bound, "apiVersion"), text(bound, "kind")) == ("v1", "Pod");
    if !is_pod || text(bound, "name").is_empty() {
        return Some("node requested token not bound to a pod".to_owned());
    }
    if is_empty(bound, "uid") {
        return Some("node requested token with a pod binding without a uid".to_owned());
    }
    // That there is no such pod is told to everybody alike.
    let pod = world.get("", "pods", request.namespace, text(bound, "name"))?;
    if text(at(&pod, "metadata"), "uid") != text(bound, "uid") {
        return Some(format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text(bound, "uid")
        ));
    }
    // So is that the pod runs under another account.
    (runs_on(&pod) != node)
        .then(|| "node requested token bound to a pod scheduled on a different node".to_owned())
}

fn lease(node: &str, request: &Request<'_>) -> Option<String> {
    if request.namespace != "kube-node-lease" {
        return Some("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    (request.name != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserRef;
    use crate::tests::{Objects, request};
    use serde_json::json;

    fn judge(
        operation: Operation,
        resource: &str,
        sub: &str,
        name: &str,
        o: Value,
        old: Option<Value>,
    ) -> bool {
        let groups = ["system:nodes".to_owned()];
        let mut world = Objects::default();
        world.add(
            "",
            "pods",
            json!({"metadata": {"name": "mine", "namespace": "ns", "uid": "u"},
            "spec": {"nodeName": "n1", "serviceAccountName": "sa"}}),
        );
        let ns = if resource == "nodes" { "" } else { "ns" };
        let mut r = request(operation, "", resource, ns, name);
        r.subresource = sub;
        r.user = UserRef { name: "system:node:n1", groups: &groups };
        check(&r, &o, old.as_ref(), &world).is_ok()
    }

    #[test]
    fn a_node_writes_itself_and_its_own_pods_only() {
        use Operation::{Create, Delete, Update};
        let mirror = |node: &str| json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}}, "spec": {"nodeName": node}});
        let node = |labels: Value| json!({"metadata": {"name": "n1", "labels": labels}});
        assert!(judge(Create, "pods", "", "m", mirror("n1"), None));
        assert!(!judge(Create, "pods", "", "m", mirror("n2"), None));
        assert!(!judge(Create, "pods", "", "p", json!({"spec": {"nodeName": "n1"}}), None));
        let mut secret = mirror("n1");
        secret["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
        assert!(!judge(Create, "pods", "", "m", secret, None));
        let config = json!([{"name": "v", "configMap": {"name": "c"}}]);
        let projected = json!([{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}}]);
        let env = json!([{"name": "c", "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]}]);
        let claims = json!([{"name": "r", "resourceClaimName": "c"}]);
        for (field, refers) in [
            ("volumes", config),
            ("volumes", projected),
            ("containers", env),
            ("resourceClaims", claims.clone()),
        ] {
            let mut pod = mirror("n1");
            pod["spec"][field] = refers;
            assert!(!judge(Create, "pods", "", "m", pod, None), "{field}");
        }
        let mut claiming = mirror("n1");
        let mut none = mirror("n1");
        none["status"] = json!({"resourceClaimStatuses": []});
        assert!(judge(Update, "pods", "status", "m", none.clone(), Some(mirror("n1"))));
        assert!(judge(Update, "pods", "status", "m", mirror("n1"), Some(none.clone())));
        claiming["status"] = json!({"resourceClaimStatuses": claims});
        assert!(!judge(Update, "pods", "status", "m", none, Some(claiming.clone())));
        assert!(judge(Update, "pods", "status", "m", claiming.clone(), Some(claiming.clone())));
        assert!(!judge(Update, "pods", "status", "m", claiming, Some(mirror("n1"))));
        assert!(judge(Delete, "pods", "", "m", mirror("n1"), Some(mirror("n1"))));
        assert!(!judge(Delete, "pods", "", "m", mirror("n2"), Some(mirror("n2"))));
        assert!(judge(Update, "pods", "status", "m", mirror("n1"), Some(mirror("n1"))));
        assert!(!judge(Update, "pods", "status", "m", mirror("n2"), Some(mirror("n2"))));
        assert!(judge(Create, "nodes", "", "n1", node(json!({"kubernetes.io/hostname": "n1"})), None));
        assert!(!judge(Create, "nodes", "", "n2", json!({"metadata": {"name": "n2"}}), None));
        let zone = json!({"node-restriction.kubernetes.io/trusted": "yes"});
        assert!(!judge(Create, "nodes", "", "n1", node(zone), None));
        let mut owned = node(json!({}));
        owned["metadata"]["ownerReferences"] = json!([{"kind": "X", "name": "gone"}]);
        assert!(!judge(Update, "nodes", "", "n1", owned.clone(), Some(node(json!({})))));
        assert!(judge(Create, "nodes", "", "n1", owned, None), "whoever registers may say whose it is");
    }

    #[test]
    fn a_node_gets_tokens_for_its_own_pods_only() {
        let ask = |account: &str, pod: &str, uid: &str| {
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
            let asked = json!({"spec": {"boundObjectRef": bound}});
            judge(Operation::Create, "serviceaccounts", "token", account, asked, None)
        };
        assert!(ask("sa", "mine", "u"));
        assert!(!ask("sa", "mine", "other"));
        assert!(!ask("sa", "mine", ""));
    }
}
