use super::*;

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).expect("JSON")
}

/// Every `$ref` in a document must lead somewhere.
fn assert_refs_resolve(document: &Value) {
    fn walk<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                out.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|v| walk(v, out));
            }
            Value::Array(list) => list.iter().for_each(|v| walk(v, out)),
            _ => {}
        }
    }
    let mut refs = Vec::new();
    walk(document, &mut refs);
    assert!(!refs.is_empty());
    for reference in refs {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[test]
fn the_index_leads_to_every_document_by_its_hash() {
    let index = parsed(v3_index());
    let paths = index["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 22);
    for (path, entry) in paths {
        let document = v3_document(path).expect("a document");
        let url = entry["serverRelativeURL"].as_str().expect("a URL");
        assert_eq!(url, format!("/openapi/v3/{path}?hash={}", document.hash));
        assert_eq!(document.hash.len(), 128);
        assert_refs_resolve(&parsed(document));
    }
    assert!(v3_document("apis/nope/v1").is_none());
}

#[test]
fn a_v3_document_carries_what_kubectl_looks_for() {
    let apps = parsed(v3_document("apis/apps/v1").expect("apps"));
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .expect("parameters")
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let schemas = &apps["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(schemas["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]["default"], json!({}));
    assert!(schemas.get("io.k8s.api.apps.v1.DeploymentList").is_some());
    assert!(schemas.get("io.k8s.api.rbac.v1.Role").is_none());
}

#[test]
fn the_v2_document_is_whole() {
    let v2 = parsed(v2());
    assert_refs_resolve(&v2);
    assert!(v2["paths"].get("/api/v1/namespaces/{namespace}/pods/{name}/log").is_some());
    assert_eq!(
        v2["definitions"]["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"][0]["kind"],
        "Pod"
    );
    let mut ids: Vec<&str> = v2["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|p| p.as_object().expect("an item").values())
        .filter_map(|o| o.get("operationId"))
        .filter_map(Value::as_str)
        .collect();
    let total = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), total, "operation ids are unique");
}

#[test]
fn descriptions_describe_what_exists() {
    let rows = include_str!("../../data/descriptions.tsv").lines().filter(|l| !l.starts_with('#'));
    let mut count = 0;
    for row in rows {
        let columns: Vec<&str> = row.split('\t').collect();
        let [ty, field, text] = columns[..] else { panic!("three columns: {row}") };
        let found = schema::builtin().named(ty).unwrap_or_else(|| panic!("{ty}"));
        assert!(field.is_empty() || found.field(field).is_some(), "{ty} {field}");
        assert_eq!(definition::description(ty, field), Some(text), "described once");
        count += 1;
    }
    assert!(count > 100);
}
