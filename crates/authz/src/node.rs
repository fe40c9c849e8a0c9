//! The node authorizer: a node may touch itself, the pods bound to it, and what those pods refer to, nothing else.
//!
//! The graph is kept as counts from object to node, so that a question costs two hash look-ups and a pod's removal
//! costs as much as the pod refers to. Mirror pods (written by a node itself) grant nothing: a node could otherwise
//! name any secret in one and then read it.

mod refs;

use serde_json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;
use stoa_units::{FieldSelector, Operator};

use crate::rbac::{object_name, object_namespace, text};
use crate::{Attributes, Decision, Rule};
use refs::{Kind, pod_refs, volume_secrets};

/// The namespace of the nodes' leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";

type Object = (Kind, String, String);

#[derive(Debug)]
struct Pod {
    node: String,
    refs: Vec<Object>,
}

/// Which objects which node's pods refer to.
#[derive(Debug, Default)]
pub struct NodeGraph {
    pods: HashMap<(String, String), Pod>,
    /// How many pods of each node refer to an object.
    readers: HashMap<Object, HashMap<String, u32>>,
    volumes: HashMap<String, Volume>,
    /// A volume's credentials → the volumes that need them.
    credentials: HashMap<(String, String), Vec<String>>,
}

#[derive(Debug)]
struct Volume {
    claim: (String, String),
    secrets: Vec<(String, String)>,
}

impl NodeGraph {
    /// No node runs anything.
    pub fn new() -> NodeGraph {
        NodeGraph::default()
    }

    /// Adds or replaces a pod; one that is bound to no node is only forgotten.
    pub fn set_pod(&mut self, pod: &Value) {
        let key = (object_namespace(pod).to_owned(), object_name(pod).to_owned());
        let node = pod.get("spec").map(|s| text(s, "nodeName")).unwrap_or_default();
        // Most pod writes are status writes: when nothing relevant moved, nothing is rebuilt.
        let refs: Vec<Object> = if node.is_empty() { Vec::new() } else { pod_refs(pod) };
        if self.pods.get(&key).is_some_and(|p| p.node == node && p.refs == refs) {
            return;
        }
        self.remove_pod(&key.0, &key.1);
        if node.is_empty() {
            return;
        }
        for object in &refs {
            let counts = self.readers.entry(object.clone()).or_default();
            *counts.entry(node.to_owned()).or_default() += 1;
        }
        self.pods.insert(key, Pod { node: node.to_owned(), refs });
    }

    /// Forgets a pod.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        let Some(pod) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        for object in pod.refs {
            let Some(counts) = self.readers.get_mut(&object) else { continue };
            if let Some(n) = counts.get_mut(&pod.node) {
                *n -= 1;
                if *n == 0 {
                    counts.remove(&pod.node);
                }
            }
            if counts.is_empty() {
                self.readers.remove(&object);
            }
        }
    }

    /// Adds or replaces a PersistentVolume.
    pub fn set_persistent_volume(&mut self, volume: &Value) {
        let name = object_name(volume).to_owned();
        self.remove_persistent_volume(&name);
        let Some(claim) = volume.pointer("/spec/claimRef") else { return };
        let claim = (text(claim, "namespace").to_owned(), text(claim, "name").to_owned());
        let secrets = volume_secrets(&volume["spec"], &claim.0);
        for secret in &secrets {
            self.credentials.entry(secret.clone()).or_default().push(name.clone());
        }
        self.volumes.insert(name, Volume { claim, secrets });
    }

    /// Forgets a PersistentVolume.
    pub fn remove_persistent_volume(&mut self, name: &str) {
        let Some(volume) = self.volumes.remove(name) else { return };
        for secret in volume.secrets {
            let Some(names) = self.credentials.get_mut(&secret) else { continue };
            names.retain(|n| n != name);
            if names.is_empty() {
                self.credentials.remove(&secret);
            }
        }
    }

    /// The node that a pod is bound to.
    pub fn node_of(&self, namespace: &str, pod: &str) -> Option<&str> {
        self.pods.get(&(namespace.to_owned(), pod.to_owned())).map(|p| p.node.as_str())
    }

    fn is_referred(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let object = (kind, namespace.to_owned(), name.to_owned());
        self.readers.get(&object).is_some_and(|nodes| nodes.contains_key(node))
    }

    fn may_read_volume(&self, node: &str, name: &str) -> bool {
        self.volumes.get(name).is_some_and(|v| self.is_referred(node, Kind::Claim, &v.claim.0, &v.claim.1))
    }

    /// A secret that a bound volume of one of the node's pods needs.
    fn may_read_volume_secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        let volumes = self.credentials.get(&(namespace.to_owned(), name.to_owned()));
        volumes.into_iter().flatten().any(|volume| self.may_read_volume(node, volume))
    }

    /// May `node` do this?
    pub fn authorize(&self, node: &str, a: &Attributes<'_>) -> Decision {
        match self.judge(node, a) {
            Ok(()) => Decision::Allow { reason: String::new() },
            Err(reason) => Decision::NoOpinion { reason },
        }
    }

    fn judge(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        if !a.is_resource() {
            return Err(String::new());
        }
        match (a.group, a.resource) {
            ("", "secrets") => self.judge_read(node, Kind::Secret, a),
            ("", "configmaps") => self.judge_read(node, Kind::ConfigMap, a),
            ("", "persistentvolumeclaims") if a.subresource == "status" => {
                only(a, &["get", "update", "patch"], "can only update PVC status")?;
                self.judge_relation(node, Kind::Claim, a)
            }
            ("", "persistentvolumeclaims") => {
                self.judge_get(node, a, |g| g.is_referred(node, Kind::Claim, a.namespace, a.name))
            }
            ("", "persistentvolumes") => self.judge_get(node, a, |g| g.may_read_volume(node, a.name)),
            ("", "serviceaccounts") => self.judge_service_account(node, a),
            ("", "nodes") => judge_node(node, a),
            ("", "pods") => self.judge_pod(node, a),
            ("coordination.k8s.io", "leases") => judge_lease(node, a),
            ("storage.k8s.io", "csinodes") => judge_csi_node(node, a),
            _ if NODE_RULES.iter().any(|r| r.allows(a)) => Ok(()),
            _ => Err(String::new()),
        }
    }

    fn judge_read(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        only(a, &["get", "list", "watch"], "can only read resources of this type")?;
        no_subresource(a, "cannot read subresource")?;
        if a.namespace.is_empty() {
            return Err("can only read namespaced object of this type".to_owned());
        }
        self.judge_relation(node, kind, a)
    }

    fn judge_relation(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Result<(), String> {
        // A list or watch of one object names it by a field selector.
        let name = if a.name.is_empty() { selected(a, "metadata.name") } else { Some(a.name) };
        let Some(name) = name else { return Err("No Object name found".to_owned()) };
        let related = self.is_referred(node, kind, a.namespace, name)
            || (kind == Kind::Secret && self.may_read_volume_secret(node, a.namespace, name));
        if related { Ok(()) } else { Err(unrelated(node)) }
    }

    fn judge_get(
        &self,
        node: &str,
        a: &Attributes<'_>,
        related: impl Fn(&NodeGraph) -> bool,
    ) -> Result<(), String> {
        only(a, &["get"], "can only get individual resources of this type")?;
        no_subresource(a, "cannot get subresource")?;
        if related(self) { Ok(()) } else { Err(unrelated(node)) }
    }

    fn judge_service_account(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        match (a.verb, a.subresource) {
            ("get", "") | ("create", "token") if !a.name.is_empty() => {
                self.judge_relation(node, Kind::ServiceAccount, a)
            }
            ("create", _) if !a.name.is_empty() => {
                Err("can only create token subresource of service account".to_owned())
            }
            _ => Err("can only create tokens for individual service accounts".to_owned()),
        }
    }

    fn judge_pod(&self, node: &str, a: &Attributes<'_>) -> Result<(), String> {
        let own = || match self.node_of(a.namespace, a.name) {
            Some(n) if n == node => Ok(()),
            _ => Err(unrelated(node)),
        };
        match (a.subresource, a.verb) {
            ("", "get" | "delete") | ("status", "get" | "update" | "patch") | ("eviction", "create")
                if !a.name.is_empty() =>
            {
                own()
            }
            ("", "list" | "watch") if !a.name.is_empty() => own(),
            ("", "list" | "watch") if selected(a, "spec.nodeName") == Some(node) => Ok(()),
            ("", "list" | "watch") => {
                Err(format!("can only list/watch pods with spec.nodeName field selector of node '{node}'"))
            }
            // Admission lets only mirror pods bound to the node itself pass.
            ("", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }
}

fn judge_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    match (a.subresource, a.verb) {
        // A POST does not carry the name; admission compares it.
        ("", "create") if a.name.is_empty() || a.name == node => Ok(()),
        ("", "get" | "update" | "patch") | ("status", "get" | "update" | "patch") if a.name == node => Ok(()),
        ("", "list" | "watch") if a.name == node || selected(a, "metadata.name") == Some(node) => Ok(()),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            Err(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        // Admission would refuse the others on a stock server.
        ("", "update" | "patch") => {
            Err(format!("node '{node}' cannot {} '{}', only its own Node object", a.verb, a.name))
        }
        _ => Err(String::new()),
    }
}

fn judge_lease(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    only(
        a,
        &["get", "create", "update", "patch", "delete"],
        "can only get, create, update, patch, or delete a node lease",
    )?;
    no_subresource(a, "cannot authorize lease subresources")?;
    if a.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    if a.name == node || (a.verb == "create" && a.name.is_empty()) {
        return Ok(());
    }
    Err("can only access node lease with the same name as the requesting node".to_owned())
}

fn judge_csi_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    only(
        a,
        &["get", "create", "update", "patch", "delete"],
        "can only get, create, update, patch, or delete a CSINode",
    )?;
    no_subresource(a, "cannot authorize CSINode subresources")?;
    if a.name == node || (a.verb == "create" && a.name.is_empty()) {
        return Ok(());
    }
    Err("can only access CSINode with the same name as the requesting node".to_owned())
}

fn only(a: &Attributes<'_>, verbs: &[&str], otherwise: &str) -> Result<(), String> {
    if verbs.contains(&a.verb) { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn no_subresource(a: &Attributes<'_>, otherwise: &str) -> Result<(), String> {
    if a.subresource.is_empty() { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// The value that the request's field selector demands of a field.
fn selected<'a>(a: &Attributes<'a>, field: &str) -> Option<&'a str> {
    let FieldSelector(terms) = a.fields?;
    terms.iter().find(|t| t.field == field && t.operator == Operator::In).map(|t| t.value.as_str())
}

/// What every node may do, whatever it runs: the stock `system:node` role less the kinds judged one by one above.
static NODE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    const RULES: &[(&[&str], &[&str], &[&str])] = &[
        (&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        (&["authorization.k8s.io"], &["localsubjectaccessreviews", "subjectaccessreviews"], &["create"]),
        (&[""], &["services"], &["get", "list", "watch"]),
        (&["", "events.k8s.io"], &["events"], &["create", "update", "patch"]),
        (&[""], &["endpoints"], &["get"]),
        (&["certificates.k8s.io"], &["certificatesigningrequests"], &["create", "get", "list", "watch"]),
        (&["storage.k8s.io"], &["csidrivers"], &["get", "list", "watch"]),
        (&["node.k8s.io"], &["runtimeclasses"], &["get", "list", "watch"]),
    ];
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    RULES
        .iter()
        .map(|(groups, resources, verbs)| Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            ..Rule::default()
        })
        .collect()
});

#[cfg(test)]
mod tests;
