use super::*;
use serde_json::{Value, json};
use std::sync::Arc;

struct Fixed;

impl Objects for Fixed {
    fn config_map(&self, _: &str, name: &str) -> Lookup<ConfigMap> {
        match name {
            "cm" => Lookup::Found(Arc::new(
                serde_json::from_value(
                    json!({"metadata": {}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "Aw=="}}),
                )
                .unwrap(),
            )),
            "late" => Lookup::Pending,
            _ => Lookup::Absent,
        }
    }
    fn secret(&self, _: &str, name: &str) -> Lookup<Secret> {
        match name {
            "s" => Lookup::Found(Arc::new(
                serde_json::from_value(json!({"metadata": {}, "data": {"k": "djE="}})).unwrap(),
            )),
            _ => Lookup::Absent,
        }
    }
}

fn show(pod: Value, volume: Value) -> String {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let volume: Volume = serde_json::from_value(volume).unwrap();
    let tokens =
        Tokens::from([(TokenKey { audience: String::new(), expiration_seconds: 3607 }, "tok".to_owned())]);
    let tree = match render(&pod, &volume, &Fixed, &Place::default(), &tokens) {
        Ok(Wanted::Files(tree) | Wanted::SecretFiles(tree)) => tree,
        Ok(other) => return format!("{other:?}"),
        Err(e) => return format!("error: {e}"),
    };
    let lines: Vec<String> = tree
        .iter()
        .map(|(p, f)| {
            let owner = f.owner.map_or(String::new(), |o| format!(" owner {o}"));
            format!("{p} {:o} {}{owner}", f.mode, f.bytes.escape_ascii())
        })
        .collect();
    lines.join("; ")
}

#[test]
fn volumes_render_as_their_sources_say() {
    let pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": []}});
    let table = [
        (json!({"name": "v", "emptyDir": {}}), "Directory"),
        (json!({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}), "Memory(Some(1048576))"),
        (json!({"name": "v", "configMap": {"name": "cm"}}), "a 644 1; b 644 2; c 644 \\x03"),
        (
            json!({"name": "v", "configMap": {"name": "cm", "defaultMode": 256, "items": [{"key": "a", "path": "x/y", "mode": 384}, {"key": "b", "path": "z"}]}}),
            "x/y 600 1; z 400 2",
        ),
        (json!({"name": "v", "configMap": {"name": "none"}}), "error: configmap \"none\" not found"),
        (json!({"name": "v", "configMap": {"name": "none", "optional": true}}), ""),
        (
            json!({"name": "v", "configMap": {"name": "late", "optional": true}}),
            "error: failed to sync configmap cache: timed out waiting for the condition",
        ),
        (
            json!({"name": "v", "configMap": {"name": "cm", "items": [{"key": "q", "path": "q"}]}}),
            "error: configmap references non-existent config key: q",
        ),
        (
            json!({"name": "v", "configMap": {"name": "cm", "items": [{"key": "a", "path": "../etc/passwd"}]}}),
            "error: invalid path \"../etc/passwd\" in a volume",
        ),
        (json!({"name": "v", "secret": {"secretName": "s"}}), "k 644 v1"),
        (
            json!({"name": "v", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "cm", "items": [{"key": "a", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}}),
            "ca.crt 644 1; namespace 644 ns; token 644 tok",
        ),
        (
            json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "x"}}]}}),
            "error: failed to fetch token: no token for audience \"x\" yet",
        ),
        (
            json!({"name": "v", "projected": {"sources": [
                {"secret": {"name": "none"}}, {"configMap": {"name": "none"}}, {"secret": {"name": "none"}}]}}),
            "error: [secret \"none\" not found, configmap \"none\" not found]",
        ),
        (
            json!({"name": "v", "csi": {"driver": "d"}}),
            "error: kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name d not found in the list of registered CSI drivers",
        ),
        (
            json!({"name": "v", "nfs": {"server": "a", "path": "/"}}),
            "error: volume \"v\" is of a kind that this node does not support",
        ),
    ];
    for (volume, want) in table {
        assert_eq!(show(pod.clone(), volume.clone()), want, "{volume}");
    }
}

#[test]
fn a_token_belongs_to_the_one_user_of_the_pod() {
    let volume = json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3607}}]}});
    let pod = |spec: Value| json!({"metadata": {}, "spec": spec});
    for (spec, want) in [
        (json!({"securityContext": {"runAsUser": 7}, "containers": [{"name": "a"}]}), "t 600 tok owner 7"),
        (
            json!({"containers": [{"name": "a", "securityContext": {"runAsUser": 7}}, {"name": "b"}]}),
            "t 644 tok",
        ),
        (json!({"securityContext": {"fsGroup": 9}, "containers": [{"name": "a"}]}), "t 600 tok"),
        (
            json!({"securityContext": {"runAsUser": 7, "fsGroup": 9}, "containers": [{"name": "a"}]}),
            "t 600 tok owner 7",
        ),
    ] {
        assert_eq!(show(pod(spec), volume.clone()), want);
    }
}
