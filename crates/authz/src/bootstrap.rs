//! The stock server's roles and bindings, which a new cluster starts with.

use serde_json::{Value, json};

use crate::RBAC_GROUP;

/// One object a line, recorded from a stock v1.36 server.
const RECORDED: &str = include_str!("../data/bootstrap-rbac.json");

/// The cluster roles, roles and bindings of a new cluster, as objects ready to be created.
pub fn bootstrap_objects() -> Vec<Value> {
    let mut recorded: Value = serde_json::from_str(RECORDED).unwrap_or_default();
    // Roles before the bindings that name them.
    let kinds = ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    let mut out = Vec::new();
    for kind in kinds {
        let Value::Array(recorded) = recorded[kind].take() else { continue };
        out.extend(recorded.into_iter().map(|flat| to_object(kind, flat)));
    }
    out
}

/// The recorded form keeps metadata flat beside the rules.
fn to_object(kind: &str, flat: Value) -> Value {
    let mut object = json!({ "apiVersion": format!("{RBAC_GROUP}/v1"), "kind": kind, "metadata": {} });
    let Value::Object(flat) = flat else { return object };
    for (key, value) in flat {
        match key.as_str() {
            "name" | "namespace" | "labels" | "annotations" => object["metadata"][key] = value,
            _ => object[key] = value,
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_names_a_role_that_is_there() {
        let all = bootstrap_objects();
        assert!(all.len() > 120, "{}", all.len());
        for o in &all {
            let Some(role) = o.get("roleRef") else { continue };
            let ns = if role["kind"] == "Role" { &o["metadata"]["namespace"] } else { &Value::Null };
            let found = all.iter().any(|r| {
                r["kind"] == role["kind"]
                    && r["metadata"]["name"] == role["name"]
                    && &r["metadata"]["namespace"] == ns
            });
            assert!(found, "{o}");
        }
    }
}
