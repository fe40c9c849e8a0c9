//! What a pod or a persistent volume refers to.

use serde_json::Value;

use crate::rbac::{object_namespace, text};

/// The kinds that a node reads only through its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ServiceAccount,
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The objects that a pod's containers and volumes need, each once. Mirror pods refer to nothing.
pub(super) fn pod_refs(pod: &Value) -> Vec<(Kind, String, String)> {
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Vec::new();
    }
    let namespace = object_namespace(pod);
    let pod_name = crate::rbac::object_name(pod);
    let Some(spec) = pod.get("spec") else { return Vec::new() };
    let mut out: Vec<(Kind, String, String)> = Vec::new();
    let mut add = |kind: Kind, name: &str| {
        if !name.is_empty() {
            out.push((kind, namespace.to_owned(), name.to_owned()));
        }
    };
    add(Kind::ServiceAccount, text(spec, "serviceAccountName"));
    for secret in items(spec, "imagePullSecrets") {
        add(Kind::Secret, text(secret, "name"));
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in items(spec, list) {
            for from in items(container, "envFrom") {
                add(Kind::ConfigMap, text(&from["configMapRef"], "name"));
                add(Kind::Secret, text(&from["secretRef"], "name"));
            }
            for env in items(container, "env") {
                let from = &env["valueFrom"];
                add(Kind::ConfigMap, text(&from["configMapKeyRef"], "name"));
                add(Kind::Secret, text(&from["secretKeyRef"], "name"));
            }
        }
    }
    for volume in items(spec, "volumes") {
        add(Kind::Secret, text(&volume["secret"], "secretName"));
        add(Kind::ConfigMap, text(&volume["configMap"], "name"));
        add(Kind::Claim, text(&volume["persistentVolumeClaim"], "claimName"));
        if volume.get("ephemeral").is_some() {
            add(Kind::Claim, &format!("{pod_name}-{}", text(volume, "name")));
        }
        for source in items(&volume["projected"], "sources") {
            add(Kind::Secret, text(&source["secret"], "name"));
            add(Kind::ConfigMap, text(&source["configMap"], "name"));
        }
        for (_, name) in volume_secrets(volume, namespace) {
            add(Kind::Secret, &name);
        }
    }
    out.sort();
    out.dedup();
    out
}

/// Where a storage plugin's source keeps the reference to its credentials.
const CREDENTIALS: &[(&str, &str)] = &[
    ("azureFile", "secretName"),
    ("cephfs", "secretRef"),
    ("cinder", "secretRef"),
    ("flexVolume", "secretRef"),
    ("iscsi", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("storageos", "secretRef"),
    ("csi", "nodePublishSecretRef"),
    ("csi", "nodeStageSecretRef"),
    ("csi", "nodeExpandSecretRef"),
];

/// Namespace and name of the secrets that a volume source needs.
pub(super) fn volume_secrets(source: &Value, namespace: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (plugin, field) in CREDENTIALS {
        let Some(reference) = source.get(*plugin).and_then(|p| p.get(*field)) else { continue };
        let (ns, name) = match reference {
            Value::String(name) => (text(&source[*plugin], "secretNamespace"), name.as_str()),
            object => (text(object, "namespace"), text(object, "name")),
        };
        if !name.is_empty() {
            out.push((if ns.is_empty() { namespace } else { ns }.to_owned(), name.to_owned()));
        }
    }
    out
}
