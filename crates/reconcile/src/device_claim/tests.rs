use super::*;
use crate::Controller;
use crate::stage::Stage;

const TEMPLATE: &str = r#"{"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
    "metadata": {"name": "t", "namespace": "d"},
    "spec": {"metadata": {"labels": {"a": "b"}, "annotations": {"x": "z"}},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "k"}}]}}}}"#;

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d"},
        "spec": {"containers": [], "resourceClaims": [{"name": "one", "resourceClaimTemplateName": "t"},
            {"name": "two", "resourceClaimTemplateName": "t"}, {"name": "own", "resourceClaimName": "mine"}]},
        "status": {"phase": "Pending"}})
}

fn of_pod() -> Key {
    Key::new(Controller::PodDevices, "d", "p")
}

fn of_claim(name: &str) -> Key {
    Key::new(Controller::DeviceClaim, "d", name)
}

fn staged() -> (Stage, String) {
    let mut stage = Stage::new();
    stage.put(serde_json::from_str(TEMPLATE).expect("JSON"));
    stage.put(pod());
    stage.settle(&of_pod());
    let name = stage.get("pods", "d", "p")["status"]["resourceClaimStatuses"][0]["resourceClaimName"].clone();
    (stage, name.as_str().expect("a claim").to_string())
}

#[test]
fn a_pod_gets_a_claim_of_each_template_and_its_status_names_them() {
    let mut stage = Stage::new();
    stage.put(pod());
    stage.settle(&of_pod());
    let why = "PodResourceClaim one: resource claim template \"t\": resourceclaimtemplate.resource.k8s.io \"t\" not found";
    assert_eq!(stage.events, [("FailedResourceClaimCreation".to_string(), why.to_string())]);
    let keys = stage.put(serde_json::from_str(TEMPLATE).expect("JSON"));
    assert!(keys.contains(&of_pod()), "{keys:?}");
    stage.settle(&of_pod());
    let claims = stage.all("resourceclaims");
    assert_eq!(claims.len(), 2);
    let meta = &claims[0]["metadata"];
    assert_eq!(meta["generateName"], "p-one-");
    assert_eq!(meta["annotations"], json!({"x": "z", "resource.kubernetes.io/pod-claim-name": "one"}));
    assert_eq!(meta["labels"], json!({"a": "b"}));
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true});
    assert_eq!(meta["ownerReferences"], json!([owner]));
    assert_eq!(claims[0]["spec"]["devices"]["requests"][0]["name"], "r");
    let names: Vec<Value> = claims.iter().map(|c| c["metadata"]["name"].clone()).collect();
    let said = &stage.get("pods", "d", "p")["status"]["resourceClaimStatuses"];
    assert_eq!(
        *said,
        json!([{"name": "one", "resourceClaimName": names[0]}, {"name": "two", "resourceClaimName": names[1]}])
    );
    // One that was deleted is made anew.
    let (first, second) = (names[0].as_str().expect("text"), names[1].as_str().expect("text"));
    let keys = stage.remove("resource.k8s.io", "resourceclaims", "d", first);
    assert!(keys.contains(&of_pod()), "{keys:?}");
    stage.settle(&of_pod());
    let said = &stage.get("pods", "d", "p")["status"]["resourceClaimStatuses"];
    assert!(said[0]["resourceClaimName"] != *first && said[1]["resourceClaimName"] == *second, "{said}");
    let long = base(&"p".repeat(60), &"c".repeat(20));
    assert_eq!(long, format!("{}-{}", "p".repeat(41), "c".repeat(13)));
}

#[test]
fn a_claim_is_held_by_who_is_bound_and_given_back_by_who_has_ended() {
    let (mut stage, name) = staged();
    let allocated =
        json!({"metadata": {"finalizers": [PROTECTION, "other"]}, "status": {"allocation": {"devices": {}}}});
    let keys = stage.patch("resourceclaims", "d", &name, &allocated);
    assert!(keys.contains(&of_pod()) && keys.contains(&of_claim(&name)), "{keys:?}");
    stage.settle(&of_pod());
    assert!(stage.get("resourceclaims", "d", &name)["status"]["reservedFor"].is_null());
    stage.patch("pods", "d", "p", &json!({"spec": {"nodeName": "n"}}));
    stage.settle(&of_pod());
    let holder = json!({"resource": "pods", "name": "p", "uid": "uid-p"});
    assert_eq!(stage.get("resourceclaims", "d", &name)["status"]["reservedFor"], json!([holder]));
    assert_eq!(stage.patches(&of_claim(&name)), Vec::<Value>::new());
    // A pod that is replaced holds nothing, and others that nobody knows stay.
    let stranger = json!({"apiGroup": "x.io", "resource": "things", "name": "q", "uid": "u"});
    let gone = json!({"resource": "pods", "name": "q", "uid": "u"});
    stage.patch("resourceclaims", "d", &name, &json!({"status": {"reservedFor": [gone, holder, stranger]}}));
    stage.settle(&of_claim(&name));
    assert_eq!(stage.get("resourceclaims", "d", &name)["status"]["reservedFor"], json!([holder, stranger]));
    stage.patch("resourceclaims", "d", &name, &json!({"status": {"reservedFor": [holder]}}));
    let keys = stage.patch("pods", "d", "p", &json!({"status": {"phase": "Succeeded"}}));
    assert!(keys.contains(&of_claim(&name)), "{keys:?}");
    stage.settle(&of_claim(&name));
    let left = stage.get("resourceclaims", "d", &name);
    assert_eq!(left["metadata"]["finalizers"], json!(["other"]));
    assert!(left["status"]["allocation"].is_null() && left["status"]["reservedFor"].is_null());
    assert!(!left["metadata"]["deletionTimestamp"].is_null(), "it was made for the pod");
    assert_eq!(stage.all("resourceclaims").len(), 2, "the other is looked at by itself");
}

#[test]
fn a_claim_of_ones_own_outlives_the_pods_that_used_it() {
    let mut stage = Stage::new();
    let holder = json!({"resource": "pods", "name": "p", "uid": "uid-p"});
    stage.put(json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "mine",
        "namespace": "d", "finalizers": [PROTECTION]}, "spec": {}, "status": {"allocation": {}, "reservedFor": [holder]}}));
    let keys = stage.put(pod());
    assert!(keys.contains(&of_pod()), "{keys:?}");
    let keys = stage.remove("", "pods", "d", "p");
    assert!(keys.contains(&of_claim("mine")), "{keys:?}");
    stage.settle(&of_claim("mine"));
    let left = stage.get("resourceclaims", "d", "mine");
    assert!(left["status"]["allocation"].is_null() && left["metadata"]["finalizers"] == json!([]), "{left}");
}
