//! Claims about who may change what.

use super::*;
use crate::Operation;
use crate::tests::request;
use serde_json::json;

fn updated(group: &str, plural: &str, sub: &'static str, old: &Value, mut new: Value) -> Value {
    let mut r = request(Operation::Update, group, plural, "ns", "x");
    r.subresource = sub;
    prepare_update(&r, old, &mut new);
    new
}

fn deployment() -> Value {
    json!({"metadata": {"name": "x", "namespace": "ns", "uid": "u", "generation": 3, "labels": {"a": "b"},
        "creationTimestamp": "t"}, "spec": {"replicas": 1}, "status": {"replicas": 1}})
}

#[test]
fn a_write_of_the_object_keeps_its_status() {
    let old = deployment();
    let new = json!({"metadata": {"name": "x", "generation": 99}, "spec": {"replicas": 2}, "status": {"replicas": 7}});
    let got = updated("apps", "deployments", "", &old, new);
    assert_eq!(got["status"], old["status"]);
    assert_eq!(got["spec"]["replicas"], 2);
    assert_eq!(got["metadata"]["generation"], 4);
    assert_eq!((&got["metadata"]["uid"], &got["metadata"]["creationTimestamp"]), (&json!("u"), &json!("t")));
}

#[test]
fn a_write_of_the_status_keeps_the_specification() {
    let old = deployment();
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(9);
    new["status"]["replicas"] = json!(2);
    new["metadata"]["labels"] = json!({"z": "z"});
    new["metadata"]["annotations"] = json!({"n": "1"});
    let got = updated("apps", "deployments", "status", &old, new);
    assert_eq!(got["spec"], old["spec"]);
    assert_eq!(got["status"]["replicas"], 2);
    assert_eq!(got["metadata"]["labels"], old["metadata"]["labels"]);
    assert_eq!(got["metadata"]["generation"], 3);
}

#[test]
fn a_namespace_wears_its_name_and_its_finalizer() {
    let mut o = json!({"metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "y"}}, "status": {"phase": "Terminating"}});
    prepare_create(&request(Operation::Create, "", "namespaces", "", "x"), &mut o);
    assert_eq!(o["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    assert_eq!(
        (&o["spec"]["finalizers"], &o["status"]),
        (&json!(["kubernetes"]), &json!({"phase": "Active"}))
    );
    let mut new = o.clone();
    new["spec"]["finalizers"] = json!([]);
    assert_eq!(
        updated("", "namespaces", "", &o, new.clone())["spec"],
        o["spec"],
        "only `finalize` takes it off"
    );
    assert_eq!(updated("", "namespaces", "finalize", &o, new)["spec"]["finalizers"], json!([]));
}

#[test]
fn the_requester_of_a_certificate_is_who_was_authenticated() {
    let mut o = json!({"metadata": {"name": "x"}, "spec": {"username": "admin", "groups": ["system:masters"], "uid": "0"}});
    prepare_create(
        &request(Operation::Create, "certificates.k8s.io", "certificatesigningrequests", "", "x"),
        &mut o,
    );
    assert_eq!(o["spec"], json!({"username": "jane", "groups": []}));
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": spec})
}

#[test]
fn a_service_keeps_its_address_and_ports_when_they_are_left_out() {
    let old = service(json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}));
    let new = service(
        json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}),
    );
    let got = updated("", "services", "", &old, new);
    assert_eq!(got["spec"]["clusterIP"], "10.0.0.1");
    assert_eq!(got["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(got["spec"]["ports"][0]["nodePort"], 30000);
    assert_eq!(got["spec"]["ports"][1]["nodePort"], Value::Null);
}

#[test]
fn a_service_that_changes_its_type_drops_what_the_new_type_has_not() {
    let old = service(json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}));
    let mut new = old.clone();
    new["spec"]["type"] = json!("ClusterIP");
    let got = updated("", "services", "", &old, new);
    assert_eq!(got["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    assert_eq!(got["spec"]["externalTrafficPolicy"], Value::Null);
    let mut new = old.clone();
    new["spec"]["type"] = json!("ExternalName");
    let got = updated("", "services", "", &old, new);
    assert_eq!((&got["spec"]["clusterIP"], &got["spec"]["clusterIPs"]), (&Value::Null, &Value::Null));
}

#[test]
fn only_the_pods_own_wishes_count_as_a_new_generation() {
    let old = json!({"metadata": {"name": "x", "generation": 1}, "spec": {"containers": [{"name": "c", "image": "a"}]}});
    let mut new = old.clone();
    new["spec"]["nodeName"] = json!("n");
    assert_eq!(updated("", "pods", "binding", &old, new)["metadata"]["generation"], 1);
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("b");
    assert_eq!(updated("", "pods", "", &old, new)["metadata"]["generation"], 2);
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "e"}]);
    new["spec"]["containers"][0]["image"] = json!("b");
    let got = updated("", "pods", "ephemeralcontainers", &old, new);
    assert_eq!(got["spec"]["containers"], old["spec"]["containers"]);
    assert_eq!(got["metadata"]["generation"], 2);
}
