//! Every pod runs as a service account, whose token it finds under a well-known path.

use serde_json::{Value, json};
use stoa_kube::Status;

use crate::default::CONTAINER_LISTS;
use crate::value::{NULL, at, ensure_list, is_empty, items, items_mut, path, set, text};
use crate::{Request, World, random_suffix};

const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Where every client library looks.
pub(crate) const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour, and the seven seconds by which the stock server tells its own tokens from others.
const TOKEN_SECONDS: i64 = 3607;

pub(super) fn admit(request: &Request<'_>, pod: &mut Value, world: &dyn World) -> Result<(), Status> {
    let refuse = |why: &str| Err(Status::forbidden(request.resource, request.name, why));
    if path(pod, &["metadata", "annotations"]).get("kubernetes.io/config.mirror").is_some() {
        return match mirror_fault(at(pod, "spec")) {
            Some(why) => refuse(why),
            None => Ok(()),
        };
    }
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return Ok(()) };
    if is_empty(spec, "serviceAccountName") {
        set(spec, "serviceAccountName", DEFAULT);
    }
    let name = text(spec, "serviceAccountName").to_owned();
    set(spec, "serviceAccount", name.as_str());
    let namespace = request.namespace;
    let account = match world.get("", "serviceaccounts", namespace, &name) {
        Some(account) => account,
        // The cluster's own pods may come before the controller that makes accounts, if they need none.
        None if request.user.is_internal() && !should_mount(&NULL, spec) => return Ok(()),
        None => {
            return refuse(&format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            ));
        }
    };
    if should_mount(&account, spec) {
        mount_token(spec, request.seed);
    }
    if is_empty(spec, "imagePullSecrets") && !is_empty(&account, "imagePullSecrets") {
        set(spec, "imagePullSecrets", at(&account, "imagePullSecrets").clone());
    }
    Ok(())
}

/// A node writes mirror pods itself: they must not lead it to anything.
pub(crate) fn mirror_fault(spec: &Value) -> Option<&'static str> {
    if !is_empty(spec, "serviceAccountName") {
        return Some("a mirror pod may not reference service accounts");
    }
    let names_secret = |c: &Value| {
        items(c, "env").any(|e| path(e, &["valueFrom", "secretKeyRef"]).is_object())
            || items(c, "envFrom").any(|e| at(e, "secretRef").is_object())
    };
    let containers = CONTAINER_LISTS.iter().flat_map(|list| items(spec, list));
    let volumes = || items(spec, "volumes");
    let sources = || volumes().flat_map(|v| items(at(v, "projected"), "sources"));
    if !is_empty(spec, "imagePullSecrets")
        || containers.into_iter().any(names_secret)
        || volumes().any(|v| at(v, "secret").is_object())
        || sources().any(|s| at(s, "secret").is_object())
    {
        return Some("a mirror pod may not reference secrets");
    }
    if sources().any(|s| at(s, "serviceAccountToken").is_object()) {
        return Some("a mirror pod may not use ServiceAccountToken volume projections");
    }
    None
}

fn should_mount(account: &Value, spec: &Value) -> bool {
    let says = |v: &Value| at(v, "automountServiceAccountToken").as_bool();
    says(spec).or_else(|| says(account)).unwrap_or(true)
}

fn mount_token(spec: &mut Value, seed: u64) {
    let existing = items(spec, "volumes").map(|v| text(v, "name")).find(|n| n.starts_with(VOLUME_PREFIX));
    let has_volume = existing.is_some();
    let name = match existing {
        Some(name) => name.to_owned(),
        None => format!("{VOLUME_PREFIX}{}", random_suffix(seed, crate::SUFFIX_LEN)),
    };
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            if items(container, "volumeMounts").any(|m| text(m, "mountPath") == TOKEN_PATH) {
                continue;
            }
            if let Some(mounts) = ensure_list(container, "volumeMounts") {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
                needed = true;
            }
        }
    }
    if needed
        && !has_volume
        && let Some(volumes) = ensure_list(spec, "volumes")
    {
        volumes.push(token_volume(&name));
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}
