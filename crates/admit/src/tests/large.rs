//! Objects as large as a body may be: how long they are judged grows with them, and no faster. Where each part is held against
//! every other one, a test here takes minutes.

use serde_json::{Value, json};

use super::request;
use super::rules::{causes, changes};
use crate::strategy::prepare_update;
use crate::{Operation, Request, default, validate_update};

const LEN: usize = 20_000;

fn list(part: impl Fn(usize) -> Value) -> Value {
    (0..LEN).map(part).collect()
}

fn map(prefix: &str, value: &str) -> Value {
    Value::Object((0..LEN).map(|i| (format!("{prefix}{i}"), value.into())).collect())
}

/// Containers with one letter before their number.
fn named(letter: &str) -> Value {
    list(|i| json!({"name": format!("{letter}{i}"), "image": "i"}))
}

fn said(causes: &[String], first: &str) {
    assert!(causes.len() <= 1_000, "{}", causes.len());
    assert!(causes.iter().any(|c| c.starts_with(first)), "{:?}", &causes[..causes.len().min(3)]);
}

/// What is said of a write of a pod's status.
fn of_status(spec: Value, old: Value, new: Value) -> Vec<String> {
    let r = Request { subresource: "status", ..request(Operation::Update, "", "pods", "ns", "x") };
    let pod = |status| json!({"metadata": {"name": "x", "namespace": "ns", "uid": "u"}, "spec": spec, "status": status});
    let (old, mut new) = (pod(old), pod(new));
    prepare_update(&r, &old, &mut new);
    validate_update(&r, &old, &new).iter().map(ToString::to_string).collect()
}

#[test]
fn owners_of_whom_each_controls() {
    let owner = |i| json!({"apiVersion": "v1", "kind": "Pod", "name": format!("o{i}"), "uid": "u", "controller": true});
    let found = causes("", "configmaps", "ns", json!({"metadata": {"ownerReferences": list(owner)}}));
    said(&found, "metadata.ownerReferences: Invalid value: [{");
}

#[test]
fn containers_that_are_named_elsewhere() {
    let looks =
        list(|i| json!({"name": format!("e{i}"), "image": "i", "targetContainerName": format!("x{i}")}));
    let spec = json!({"containers": named("c"), "ephemeralContainers": looks});
    let found = causes("", "pods", "ns", json!({"metadata": {}, "spec": spec}));
    said(&found, "spec.ephemeralContainers[0].targetContainerName: Not found");
    let notes = map("container.apparmor.security.beta.kubernetes.io/x", "unconfined");
    let pod = json!({"metadata": {"annotations": notes}, "spec": {"containers": named("c")}});
    said(&causes("", "pods", "ns", pod), "metadata.annotations[");
    let rule = |i| json!({"action": "FailJob", "onExitCodes": {"containerName": format!("x{i}"), "operator": "In", "values": [1]}});
    let template = json!({"spec": {"containers": named("c"), "restartPolicy": "Never"}});
    let job =
        json!({"metadata": {}, "spec": {"template": template, "podFailurePolicy": {"rules": list(rule)}}});
    said(
        &causes("batch", "jobs", "ns", job),
        "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid",
    );
}

#[test]
fn amounts_of_a_pod_as_a_whole() {
    let sidecar = json!({"name": "s", "image": "i", "restartPolicy": "Always", "resources": {"requests": map("a.b/", "1")}});
    let mut inits = named("i");
    inits.as_array_mut().unwrap().insert(0, sidecar);
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "initContainers": inits, "resources": {"limits": {"cpu": "1"}}});
    let mut pod = json!({"metadata": {}, "spec": spec});
    default(request(Operation::Create, "", "pods", "ns", "x").resource, &mut pod);
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "1"}));
}

#[test]
fn ports_of_a_service() {
    let ports = list(|i| json!({"name": format!("p{i}"), "port": 80, "nodePort": i + 1}));
    let service = |kind: &str, ports: &Value| json!({"metadata": {}, "spec": {"type": kind, "clusterIP": "10.96.0.9", "ports": ports}});
    let old = service("NodePort", &ports);
    let unset = list(|i| json!({"name": format!("p{i}"), "port": 80}));
    let r = request(Operation::Update, "", "services", "ns", "x");
    let mut kept = service("NodePort", &unset);
    prepare_update(&r, &old, &mut kept);
    assert_eq!(kept["spec"]["ports"], ports);
    let mut gone = old.clone();
    gone["spec"]["type"] = json!("ClusterIP");
    prepare_update(&r, &old, &mut gone);
    assert_eq!(gone["spec"]["ports"], unset);
    let old = json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": list(|i| json!({"ip": format!("x{i}")}))}}});
    let r = Request { subresource: "status", ..r };
    let mut new = old.clone();
    new["status"]["loadBalancer"]["ingress"] = list(|i| json!({"ip": format!("y{i}"), "ipMode": "VIP"}));
    let found: Vec<String> = validate_update(&r, &old, &new).iter().map(ToString::to_string).collect();
    said(&found, "status.loadBalancer.ingress[0].ip: Invalid value");
}

#[test]
fn a_pod_that_grows() {
    let old = json!({"metadata": {}, "spec": {"containers": named("c")}, "status": {}});
    let mut new = old.clone();
    new["spec"]["containers"][LEN - 1]["resources"] = json!({"requests": {"cpu": "1"}});
    let r = Request { subresource: "resize", ..request(Operation::Update, "", "pods", "ns", "x") };
    prepare_update(&r, &old, &mut new);
    assert_eq!(new["spec"]["containers"][LEN - 1]["resources"]["requests"]["cpu"], "1");
    let reserved = |o: &mut Value| {
        for c in o["spec"]["containers"].as_array_mut().unwrap() {
            c["image"] = json!("stoa.dev/host");
        }
    };
    let found = changes("", "pods", json!({"spec": {"containers": named("c")}}), reserved);
    assert!(found.len() <= 1_000);
}

#[test]
fn drivers_of_a_node_and_scopes_of_a_quota() {
    let drivers =
        |id: &str| json!({"spec": {"drivers": list(|i| json!({"name": format!("d{i}"), "nodeID": id}))}});
    let moved =
        changes("storage.k8s.io", "csinodes", drivers("a"), |o| o["spec"] = drivers("b")["spec"].take());
    said(&moved, "spec.drivers: Invalid value");
    let hard = json!({"persistentvolumeclaims": "1", "services": "1"});
    let quota = |spec: Value| causes("", "resourcequotas", "ns", json!({"metadata": {}, "spec": spec}));
    for scope in ["Unheard", "Terminating"] {
        let found = quota(json!({"hard": hard, "scopes": list(|_| json!(scope))}));
        said(&found, "spec.scopes: Invalid value");
        let demands = list(|_| json!({"scopeName": scope, "operator": "Exists"}));
        let found = quota(json!({"hard": hard, "scopeSelector": {"matchExpressions": demands}}));
        said(&found, "spec.scopeSelector.matchExpressions");
    }
}

#[test]
fn what_is_told_of_a_pods_containers() {
    let state = |state: Value| list(|i| json!({"name": format!("c{i}"), "state": state}));
    let spec = json!({"restartPolicy": "Never", "containers": named("c")});
    let over = json!({"containerStatuses": state(json!({"terminated": {"exitCode": 0}}))});
    let runs = json!({"containerStatuses": state(json!({"running": {}}))});
    said(&of_status(spec.clone(), over, runs), "status.containerStatuses[0].state: Forbidden");
    let all = json!({"containers": named("c"), "resourceClaims": list(|i| json!({"name": format!("c{i}")}))});
    let claims = json!({"resourceClaimStatuses": list(|i| json!({"name": format!("x{i}")}))});
    said(&of_status(all, json!({}), claims), "status.resourceClaimStatuses[0].name: Invalid value");
    let mapping = |i| json!({"containerName": format!("x{i}"), "resourceName": "a.b/c", "requestName": "r"});
    let extended =
        json!({"extendedResourceClaimStatus": {"resourceClaimName": "c", "requestMappings": list(mapping)}});
    let found = of_status(spec.clone(), json!({}), extended);
    said(&found, "status.extendedResourceClaimStatus.requestMappings[0].containerName: Invalid");
    let greedy = json!({"containers": [{"name": "c", "resources": {"claims": list(|i| json!({"name": format!("c{i}")}))}}]});
    let status = json!({"name": "c", "allocatedResourcesStatus": [{"name": "claim:x"}]});
    let found = of_status(greedy, json!({}), json!({"containerStatuses": list(|_| status.clone())}));
    said(&found, "status.containerStatuses[0].allocatedResourcesStatus[0].name: Invalid");
    let conditions = |prefix: &str| json!({"conditions": list(|i| json!({"type": format!("{prefix}{i}"), "observedGeneration": 1}))});
    assert_eq!(of_status(spec, conditions("a"), conditions("b")), [""; 0]);
}
