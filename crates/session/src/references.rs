//! Which ConfigMaps, Secrets and ResourceClaims a pod refers to: exactly those its node may see.

use serde_json::Value;
use std::collections::BTreeSet;
use stoa_wire::Referent;

/// A kind and a name; the namespace is the pod's.
pub(crate) type Reference = (Referent, String);

/// Everything that the pod's spec refers to by name, and the claims that were made for it.
pub(crate) fn of(pod: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let spec = &pod["spec"];
    let mut add = |kind: Referent, name: &Value| {
        if let Some(name) = name.as_str().filter(|n| !n.is_empty()) {
            found.insert((kind, name.to_string()));
        }
    };
    for secret in list(&spec["imagePullSecrets"]) {
        add(Referent::Secret, &secret["name"]);
    }
    for claim in list(&spec["resourceClaims"]).chain(list(&pod["status"]["resourceClaimStatuses"])) {
        add(Referent::ResourceClaim, &claim["resourceClaimName"]);
    }
    for volume in list(&spec["volumes"]) {
        add(Referent::ConfigMap, &volume["configMap"]["name"]);
        add(Referent::Secret, &volume["secret"]["secretName"]);
        for source in list(&volume["projected"]["sources"]) {
            add(Referent::ConfigMap, &source["configMap"]["name"]);
            add(Referent::Secret, &source["secret"]["name"]);
        }
    }
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(&spec[containers]) {
            for variable in list(&container["env"]) {
                add(Referent::ConfigMap, &variable["valueFrom"]["configMapKeyRef"]["name"]);
                add(Referent::Secret, &variable["valueFrom"]["secretKeyRef"]["name"]);
            }
            for source in list(&container["envFrom"]) {
                add(Referent::ConfigMap, &source["configMapRef"]["name"]);
                add(Referent::Secret, &source["secretRef"]["name"]);
            }
        }
    }
    found
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_place_that_can_name_an_object_is_seen() {
        let pod = json!({"spec": {
            "imagePullSecrets": [{"name": "s1"}],
            "volumes": [{"configMap": {"name": "c1"}}, {"secret": {"secretName": "s2"}},
                {"projected": {"sources": [{"configMap": {"name": "c2"}}, {"secret": {"name": "s3"}}]}}, {"emptyDir": {}}],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "c3"}}, {"secretRef": {"name": "s4"}}]}],
            "containers": [{"env": [{"name": "A", "value": "x"}, {"valueFrom": {"configMapKeyRef": {"name": "c4", "key": "k"}}},
                {"valueFrom": {"secretKeyRef": {"name": "s5", "key": "k"}}}]}],
            "resourceClaims": [{"name": "a", "resourceClaimName": "r1"}, {"name": "b", "resourceClaimTemplateName": "t"}],
        }, "status": {"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "r2"}]}});
        let names: Vec<String> = of(&pod).into_iter().map(|(_, n)| n).collect();
        assert_eq!(names, ["c1", "c2", "c3", "c4", "s1", "s2", "s3", "s4", "s5", "r1", "r2"]);
        assert!(of(&json!({"spec": {"containers": "odd"}})).is_empty());
    }
}
