//! What lies below an object and has a kind of its own: bindings, evictions, tokens, scales; and what they are refused for.

#![allow(clippy::unwrap_used)]

mod common;
use common::{Server, Who};
use serde_json::{Value, json};

const NS: &str = "/api/v1/namespaces/t";

async fn pod(s: &Server, name: &str, spec: Value) -> Value {
    let mut body = json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec});
    body["spec"]["containers"] = json!([{"name": "c", "image": "x"}]);
    let made = s.post(&format!("{NS}/pods"), body).await;
    assert_eq!(made.code, 201, "{}", made.json());
    made.json()
}

/// Posts, and expects a refusal: its code, its reason and its words, of which `…` stands for any.
async fn refused(s: &Server, path: &str, body: Value, code: u16, reason: &str, words: &str) {
    let shown = body.to_string();
    let reply = s.post(path, body).await;
    check(&reply, &shown, code, reason, words);
}

#[track_caller]
fn check(reply: &common::Reply, shown: &str, code: u16, reason: &str, words: &str) {
    let said = reply.json();
    assert_eq!(reply.code, code, "{shown}: {said}");
    assert_eq!(said["reason"].as_str().unwrap_or_default(), reason, "{shown}: {said}");
    let message = said["message"].as_str().unwrap_or_default();
    let mut rest = message;
    for (i, part) in words.split('…').enumerate() {
        let found = rest.find(part).filter(|at| i > 0 || *at == 0);
        let at = found.unwrap_or_else(|| panic!("{shown}\nwant {words}\ngot  {message}"));
        rest = &rest[at + part.len()..];
    }
    assert!(rest.is_empty() || words.ends_with('…'), "{shown}\nwant {words}\ngot  {message}");
}

#[tokio::test]
async fn a_binding_is_judged_and_meant_for_one_pod() {
    let s = Server::start().await;
    s.namespace("t").await;
    let uid = pod(&s, "p", json!({})).await["metadata"]["uid"].clone();
    pod(&s, "gated", json!({"schedulingGates": [{"name": "a/b"}]})).await;
    let path = format!("{NS}/pods/p/binding");
    let node = json!({"kind": "Node", "name": "n1"});
    let bind = |meta: Value, target: Value| json!({"metadata": meta, "target": target});
    let p = || json!({"name": "p"});
    let to = |body: Value, code, reason, words| {
        let (s, path) = (&s, &path);
        async move { refused(s, path, body, code, reason, words).await }
    };
    let not_named = "name in URL does not match name in Binding object";
    to(bind(json!({}), node.clone()), 400, "BadRequest", not_named).await;
    to(bind(json!({"name": "q"}), node.clone()), 400, "BadRequest", not_named).await;
    let elsewhere = "the namespace of the provided object does not match the namespace sent on the request";
    to(bind(json!({"name": "p", "namespace": "x"}), node.clone()), 400, "BadRequest", elsewhere).await;
    let wrong = r#"Binding "p" is invalid: [target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>", target.name: Required value]"#;
    to(bind(p(), json!({"kind": "Pod"})), 422, "Invalid", wrong).await;
    to(bind(p(), json!({})), 422, "Invalid", "Binding \"p\" is invalid: target.name: Required value").await;
    let kind = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}});
    let converted = "Pod in version \"v1\" cannot be handled as a Binding: converting (v1.Pod) to (core.Binding): unknown conversion";
    to(kind, 400, "BadRequest", converted).await;
    let other = r#"Operation cannot be fulfilled on pods "p": StorageError: invalid object, Code: 4, Key: /registry/pods/t/p, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: other, UID in object meta: …"#;
    to(bind(json!({"name": "p", "uid": "other"}), node.clone()), 409, "Conflict", other).await;
    let older = r#"Operation cannot be fulfilled on pods "p": …Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: …"#;
    to(bind(json!({"name": "p", "resourceVersion": "1"}), node.clone()), 409, "Conflict", older).await;
    let body = bind(json!({"name": "gated"}), node.clone());
    let gated = r#"Operation cannot be fulfilled on pods/binding "gated": pod gated has non-empty .spec.schedulingGates"#;
    refused(&s, &format!("{NS}/pods/gated/binding"), body, 409, "Conflict", gated).await;
    let body = bind(json!({"name": "none"}), json!({}));
    let wrong = "Binding \"none\" is invalid: target.name: Required value";
    refused(&s, &format!("{NS}/pods/none/binding"), body, 422, "Invalid", wrong).await;
    refused(
        &s,
        &format!("{NS}/bindings"),
        bind(json!({}), node.clone()),
        400,
        "BadRequest",
        "Name parameter required.",
    )
    .await;

    let zone = "topology.kubernetes.io/zone";
    let region = "topology.kubernetes.io/region";
    let labels = json!({"metadata": {"name": "n1", "labels": {zone: "z1", region: "r1"}}});
    assert_eq!(s.post("/api/v1/nodes", labels).await.code, 201);
    let meta =
        json!({"name": "p", "uid": uid, "annotations": {"by": "me"}, "labels": {"app": "b", zone: "z2"}});
    let dry = s.post(&format!("{path}?dryRun=All"), bind(meta.clone(), node.clone())).await;
    assert_eq!(dry.code, 201, "{}", dry.json());
    let done = s.post(&path, bind(meta, node.clone())).await;
    assert_eq!((done.code, &done.json()["status"]), (201, &json!("Success")));
    let bound = s.get(&format!("{NS}/pods/p")).await.json();
    assert_eq!(bound["metadata"]["labels"], json!({"app": "b", zone: "z2", region: "r1"}));
    assert_eq!(bound["metadata"]["annotations"]["by"], "me");
    let condition = bound["status"]["conditions"][0].as_object().unwrap();
    let fields: Vec<&str> = condition.keys().map(String::as_str).collect();
    assert_eq!(fields, ["lastProbeTime", "lastTransitionTime", "status", "type"]);
    let twice =
        r#"Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1""#;
    to(bind(p(), node.clone()), 409, "Conflict", twice).await;
    s.delete(&format!("{NS}/pods/p")).await;
    let ending = r#"Operation cannot be fulfilled on pods/binding "p": pod p is being deleted, cannot be assigned to a host"#;
    to(bind(p(), node), 409, "Conflict", ending).await;
}

#[tokio::test]
async fn an_eviction_names_its_pod_and_says_how_to_delete_it() {
    let s = Server::start().await;
    s.namespace("t").await;
    pod(&s, "p", json!({})).await;
    let path = format!("{NS}/pods/p/eviction");
    let to = |path: String, body: Value, code, reason, words| {
        let s = &s;
        async move { refused(s, &path, body, code, reason, words).await }
    };
    let p = json!({"name": "p"});
    let not_named = "name in URL does not match name in Eviction object";
    to(path.clone(), json!({}), 400, "BadRequest", not_named).await;
    let lost =
        json!({"metadata": p, "deleteOptions": {"ignoreStoreReadErrorWithClusterBreakingPotential": true}});
    let cannot = "Eviction.policy \"p\" is invalid: deleteOptions.ignoreStoreReadErrorWithClusterBreakingPotential: Invalid value: true: can not be set for pod eviction, try after removing the option";
    to(path.clone(), lost, 422, "Invalid", cannot).await;
    let odd = json!({"metadata": p, "deleteOptions": {"dryRun": ["Some"]}});
    let unlike = "Non-matching dry-run options in request and content: [All] and [Some]";
    to(format!("{path}?dryRun=All"), odd.clone(), 400, "BadRequest", unlike).await;
    to(path.clone(), odd, 422, "Invalid", "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: …").await;
    let old = json!({"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": p});
    assert_eq!(s.post(&format!("{path}?dryRun=All"), old.clone()).await.code, 201);
    assert_eq!(s.get(&format!("{NS}/pods/p")).await.code, 200);
    assert_eq!(s.post(&path, old).await.code, 201);
    assert_eq!(s.get(&format!("{NS}/pods/p")).await.code, 404);
    to(path, json!({"metadata": p}), 404, "NotFound", "pods \"p\" not found").await;
}

#[tokio::test]
async fn a_token_is_for_the_account_that_was_meant() {
    let s = Server::start().await;
    s.namespace("t").await;
    let made = pod(&s, "p", json!({})).await;
    let path = format!("{NS}/serviceaccounts/default/token");
    let to = |body: Value, code, reason, words| {
        let (s, path) = (&s, &path);
        async move { refused(s, path, body, code, reason, words).await }
    };
    let named = r#"TokenRequest.authentication.k8s.io "default" is invalid: metadata.name: Invalid value: "other": must match the service account name if specified"#;
    to(json!({"metadata": {"name": "other"}}), 422, "Invalid", named).await;
    let other = r#"Operation cannot be fulfilled on TokenRequest.authentication.k8s.io "default": the UID in the token request (x) does not match the UID of the service account (…)"#;
    to(json!({"metadata": {"uid": "x"}}), 409, "Conflict", other).await;
    for (seconds, why) in [
        (599_i64, "599: may not specify a duration less than 10 minutes"),
        (4_294_967_297, "4294967297: may not specify a duration larger than 2^32 seconds"),
    ] {
        let words = format!(
            r#"TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: {why}"#
        );
        refused(&s, &path, json!({"spec": {"expirationSeconds": seconds}}), 422, "Invalid", &words).await;
    }
    let bound = |reference: Value| json!({"spec": {"boundObjectRef": reference}});
    let unknown = "cannot bind token to object of type apps/v1, Kind=Deployment";
    to(
        bound(json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"})),
        400,
        "BadRequest",
        unknown,
    )
    .await;
    let gone = json!({"apiVersion": "v1", "kind": "Secret", "name": "none"});
    to(bound(gone), 404, "NotFound", "secrets \"none\" not found").await;
    let recreated = r#"Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated"#;
    to(
        bound(json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "x"})),
        409,
        "Conflict",
        recreated,
    )
    .await;
    let account = json!({"metadata": {"name": "other"}});
    assert_eq!(s.post(&format!("{NS}/serviceaccounts"), account).await.code, 201);
    let theirs = bound(json!({"apiVersion": "v1", "kind": "Pod", "name": "p"}));
    let not_theirs =
        r#"cannot bind token for serviceaccount "other" to pod running with different serviceaccount name."#;
    refused(&s, &format!("{NS}/serviceaccounts/other/token"), theirs, 400, "BadRequest", not_theirs).await;
    let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": made["metadata"]["uid"]});
    let done = s.post(&path, bound(reference.clone())).await;
    let said = done.json();
    assert_eq!(done.code, 201, "{said}");
    let audiences = json!([s.signer.issuer()]);
    assert_eq!(
        said["spec"],
        json!({"audiences": audiences, "expirationSeconds": 3600, "boundObjectRef": reference})
    );
    assert_eq!((&said["metadata"]["name"], &said["metadata"]["namespace"]), (&json!("default"), &json!("t")));
    let nowhere = format!("{NS}/serviceaccounts/none/token");
    refused(&s, &nowhere, json!({}), 404, "NotFound", "serviceaccounts \"none\" not found").await;
}

#[tokio::test]
async fn a_scale_is_of_the_object_that_was_read() {
    let s = Server::start().await;
    s.namespace("t").await;
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let labels = json!({"matchLabels": {"a": "b"}});
    let exprs = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["2", "1"]}]});
    for (base, plural, selector, shown) in [
        ("/apis/apps/v1/namespaces/t", "deployments", exprs.clone(), "a=b,x notin (1,2)"),
        ("/apis/apps/v1/namespaces/t", "replicasets", labels.clone(), "a=b"),
        ("/apis/apps/v1/namespaces/t", "statefulsets", labels, "a=b"),
        (NS, "replicationcontrollers", json!({"a": "b"}), "a=b"),
    ] {
        let spec = json!({"replicas": 0, "selector": selector, "template": template, "serviceName": "s"});
        let made =
            s.post(&format!("{base}/{plural}"), json!({"metadata": {"name": "d"}, "spec": spec})).await;
        assert_eq!(made.code, 201, "{}", made.json());
        let path = format!("{base}/{plural}/d/scale");
        let now = s.get(&path).await.json();
        assert_eq!(now["status"], json!({"replicas": 0, "selector": shown}), "{plural}");
        let group = if base == NS { "" } else { ".apps" };
        let put = |change: Value| {
            let mut body = now.clone();
            for (k, v) in change.as_object().unwrap() {
                if k == "spec" { body[k] = v.clone() } else { body["metadata"][k] = v.clone() }
            }
            let (s, path) = (&s, &path);
            let json = [("content-type", "application/json")];
            async move { s.send(Who::Admin, "PUT", path, &json, body.to_string()).await }
        };
        let unnamed = "the name of the object (d based on URL) was undeterminable: name must be provided";
        check(&put(json!({"name": ""})).await, plural, 400, "BadRequest", unnamed);
        let other = "the name of the object (e) does not match the name on the URL (d)";
        check(&put(json!({"name": "e"})).await, plural, 400, "BadRequest", other);
        let uid = format!(
            "Operation cannot be fulfilled on {plural}{group} \"d\": StorageError: invalid object, Code: 4, Key: /registry/…/t/d, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: x, UID in object meta: …"
        );
        check(&put(json!({"uid": "x"})).await, plural, 409, "Conflict", &uid);
        let negative = "Scale.autoscaling \"d\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0";
        check(&put(json!({"spec": {"replicas": -1}})).await, plural, 422, "Invalid", negative);
        let label = "Scale.autoscaling \"d\" is invalid: metadata.labels: Invalid value: \"a b\": …";
        check(&put(json!({"labels": {"a": "a b"}})).await, plural, 422, "Invalid", label);
        let older = format!(
            "Operation cannot be fulfilled on {plural}{group} \"d\": the object has been modified; please apply your changes to the latest version and try again"
        );
        check(&put(json!({"resourceVersion": "1"})).await, plural, 409, "Conflict", &older);
        let merge = [("content-type", "application/merge-patch+json")];
        let patched = s.send(Who::Admin, "PATCH", &path, &merge, r#"{"metadata": {"uid": "x"}}"#).await;
        let uid = format!(
            "Operation cannot be fulfilled on {plural}/scale{group} \"d\": Precondition failed: UID in precondition: x, UID in object meta: …"
        );
        check(&patched, plural, 409, "Conflict", &uid);
        let done = put(json!({"spec": {"replicas": 3}})).await;
        assert_eq!((done.code, &done.json()["spec"]["replicas"]), (200, &json!(3)), "{plural}");
        let as_ = |view: &str| format!("application/json;as={view};v=v1;g=meta.k8s.io");
        let shown = async |view: &str| {
            let accept = as_(view);
            s.send(Who::Admin, "GET", &path, &[("accept", accept.as_str())], "").await
        };
        let table = shown("Table").await.json();
        let heads: Vec<_> =
            table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
        assert_eq!(heads, ["Name", "Desired", "Available", "Age"], "{plural}");
        let cells = &table["rows"][0]["cells"];
        assert_eq!((&cells[0], &cells[1], &cells[2]), (&json!("d"), &json!(3), &json!(0)), "{plural}");
        let partial = shown("PartialObjectMetadata").await.json();
        assert_eq!(
            (&partial["kind"], &partial["metadata"]["name"]),
            (&json!("PartialObjectMetadata"), &json!("d"))
        );
        let list = "you requested PartialObjectMetadataList, but the requested object is not a list (*autoscaling.Scale)";
        check(&shown("PartialObjectMetadataList").await, plural, 406, "NotAcceptable", list);
    }
}

#[tokio::test]
async fn nothing_is_done_by_a_subresource_where_a_namespace_ends() {
    let s = Server::start().await;
    s.namespace("t").await;
    pod(&s, "p", json!({})).await;
    s.delete(NS).await;
    for (path, plural, name) in [
        ("pods/p/binding", "pods", "p"),
        ("pods/p/eviction", "pods", "p"),
        ("serviceaccounts/default/token", "serviceaccounts", "default"),
    ] {
        let body = json!({"metadata": {"name": name}, "target": {"name": "n"}});
        let ending = format!(
            "{plural} {name:?} is forbidden: unable to create new content in namespace t because it is being terminated"
        );
        refused(&s, &format!("{NS}/{path}"), body, 403, "Forbidden", &ending).await;
    }
}

#[tokio::test]
async fn metadata_is_what_a_stock_server_leaves_of_it() {
    let s = Server::start().await;
    s.namespace("t").await;
    let maps = format!("{NS}/configmaps");
    let made = s.post(&maps, json!({"metadata": {"generateName": "a-", "generation": 7}})).await.json();
    assert_eq!(made["metadata"]["generation"], 7, "a number that nobody counts on stays");
    let below = "ConfigMap \"b\" is invalid: metadata.generation: Invalid value: -1: must be greater than or equal to 0";
    refused(&s, &maps, json!({"metadata": {"name": "b", "generation": -1}}), 422, "Invalid", below).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    let json = [("content-type", "application/json")];
    let put = |path: String, body: Value| {
        let s = &s;
        async move { s.send(Who::Admin, "PUT", &path, &json, body.to_string()).await }
    };
    let replaced =
        put(format!("{maps}/{name}"), json!({"metadata": {"name": name, "generation": 9}})).await.json();
    assert_eq!(replaced["metadata"]["generation"], 7);
    assert_eq!(replaced["metadata"].get("generateName"), None, "what is replaced is replaced");
    let leases = "/apis/coordination.k8s.io/v1/namespaces/t/leases";
    assert_eq!(s.post(leases, json!({"metadata": {"name": "l"}, "spec": {}})).await.code, 201);
    let endpoints = put(format!("{NS}/endpoints/e"), json!({"metadata": {"name": "e", "uid": "x"}})).await;
    let nobody = "Operation cannot be fulfilled on endpoints \"e\": StorageError: invalid object, Code: 4, Key: /registry/services/endpoints/t/e, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: x, UID in object meta: ";
    check(&endpoints, "endpoints", 409, "Conflict", nobody);
    let budgets = "/apis/policy/v1/namespaces/t/poddisruptionbudgets";
    assert_eq!(
        s.post(budgets, json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1}})).await.code,
        201
    );
    let blind =
        put(format!("{budgets}/b"), json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 2}})).await;
    let unread = "poddisruptionbudgets.policy \"b\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update";
    check(&blind, "budgets", 422, "Invalid", unread);
    let question = json!({"spec": {"user": "x"}});
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let nameless = ".authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified";
    refused(&s, reviews, question, 422, "Invalid", nameless).await;
}
