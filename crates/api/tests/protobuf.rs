//! The server as a client sees it that speaks protobuf, as client-go does unless told otherwise.

#![allow(clippy::unwrap_used)]

mod common;
use bytes::{Buf, BytesMut};
use common::{Reply, Server, Who};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use stoa_kube::protobuf;

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
const PB: &str = "application/vnd.kubernetes.protobuf";
/// What client-go's typed clients accept.
const TYPED: &str = "application/vnd.kubernetes.protobuf,application/json";

async fn ask(s: &Server, method: &str, path: &str, accept: &str, body: Option<Value>) -> Reply {
    let bytes = body.map(|b| protobuf::encode(&b).unwrap()).unwrap_or_default();
    s.send(Who::Admin, method, path, &[("accept", accept), ("content-type", PB)], bytes).await
}

fn read(reply: &Reply) -> Value {
    assert!(reply.header("content-type").starts_with(PB), "{}", reply.header("content-type"));
    protobuf::decode(&reply.bytes).unwrap()
}

fn map(name: &str, value: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"a": value}})
}

#[tokio::test]
async fn an_object_lives_its_life_in_protobuf() {
    let s = Server::start().await;
    s.namespace("t").await;
    let made = ask(&s, "POST", MAPS, TYPED, Some(map("m", "1"))).await;
    assert_eq!(made.code, 201);
    let mut object = read(&made);
    assert_eq!((&object["kind"], &object["data"]["a"]), (&json!("ConfigMap"), &json!("1")));
    // What one form shows, the other shows too.
    let as_json = s.get(&format!("{MAPS}/m")).await.json();
    assert_eq!(object, as_json);
    object["data"]["a"] = json!("2");
    let path = format!("{MAPS}/m");
    let updated = ask(&s, "PUT", &path, TYPED, Some(object.clone())).await;
    assert_eq!((updated.code, &read(&updated)["data"]["a"]), (200, &json!("2")));
    let stale = ask(&s, "PUT", &path, TYPED, Some(object)).await;
    assert_eq!((stale.code, &read(&stale)["reason"]), (409, &json!("Conflict")));
    let headers = [("accept", TYPED), ("content-type", "application/merge-patch+json")];
    let patched = s.send(Who::Admin, "PATCH", &path, &headers, r#"{"data":{"a":"3"}}"#).await;
    assert_eq!(read(&patched)["data"]["a"], "3");
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    let refused = ask(&s, "DELETE", &path, TYPED, Some(options)).await;
    assert_eq!((refused.code, &read(&refused)["kind"]), (409, &json!("Status")));
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    let deleted = ask(&s, "DELETE", &path, TYPED, Some(options)).await;
    assert_eq!((deleted.code, &read(&deleted)["details"]["name"]), (200, &json!("m")));
    let gone = ask(&s, "GET", &path, TYPED, None).await;
    let status = read(&gone);
    assert_eq!((gone.code, &status["reason"], &status["code"]), (404, &json!("NotFound"), &json!(404)));
}

#[tokio::test]
async fn lists_and_documents_have_a_protobuf_form() {
    let s = Server::start().await;
    s.namespace("t").await;
    for i in 0..5 {
        s.post(MAPS, map(&format!("m{i}"), &"x".repeat(50_000))).await;
    }
    let list = ask(&s, "GET", &format!("{MAPS}?limit=3"), TYPED, None).await;
    let value = read(&list);
    assert_eq!((&value["kind"], value["items"].as_array().unwrap().len()), (&json!("ConfigMapList"), 3));
    assert_eq!(value["metadata"]["remainingItemCount"], 2);
    let partial = format!("{PB};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = read(&ask(&s, "GET", MAPS, &partial, None).await);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("PartialObjectMetadataList"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(
        (&list["items"][4]["metadata"]["name"], &list["items"][4]["data"]),
        (&json!("m4"), &Value::Null)
    );
    let zipped = [("accept", PB), ("accept-encoding", "gzip")];
    let zipped = s.send(Who::Admin, "GET", MAPS, &zipped, "").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let table = ask(&s, "GET", MAPS, &format!("{PB};as=Table;g=meta.k8s.io;v=v1"), None).await;
    assert_eq!(table.code, 406);
    for (path, kind) in [
        ("/api", "APIVersions"),
        ("/apis", "APIGroupList"),
        ("/apis/apps", "APIGroup"),
        ("/apis/apps/v1", "APIResourceList"),
    ] {
        assert_eq!(read(&ask(&s, "GET", path, PB, None).await)["kind"], kind);
    }
    let aggregated = format!("{PB};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let found = ask(&s, "GET", "/apis", &aggregated, None).await;
    assert!(!found.header("etag").is_empty());
    let json = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let mut json = s.send(Who::Admin, "GET", "/apis", &json, "").await.json();
    for group in json["items"].as_array_mut().unwrap() {
        group["metadata"].as_object_mut().unwrap().remove("creationTimestamp");
        for version in group["versions"].as_array_mut().unwrap() {
            for resource in version["resources"].as_array_mut().unwrap() {
                // An empty text is not on the wire.
                resource.as_object_mut().unwrap().retain(|_, v| *v != "");
            }
        }
    }
    let mut found = read(&found);
    for group in found["items"].as_array_mut().unwrap() {
        group["metadata"].as_object_mut().unwrap().remove("creationTimestamp");
    }
    assert_eq!(found, json);
    let review = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = read(&ask(&s, "POST", path, PB, Some(review)).await);
    assert_eq!(review["status"]["userInfo"]["username"], "admin");
}

#[tokio::test]
async fn a_watch_in_protobuf_is_a_frame_an_event() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, map("m", "1")).await;
    let headers =
        [("accept", "application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch")];
    let path = format!("{MAPS}?watch=1&allowWatchBookmarks=true&fieldSelector=metadata.name%3Dm");
    let response = s.open(Who::Admin, "GET", &path, &headers, "").await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    s.delete(&format!("{MAPS}/m")).await;
    let mut body = response.into_body();
    let mut read = BytesMut::new();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let frame = body.frame().await.unwrap().unwrap();
        read.extend_from_slice(frame.data_ref().unwrap());
        while read.len() >= 4 && read.len() >= 4 + (&read[..4]).get_u32() as usize {
            let len = read.get_u32() as usize;
            let event = read.split_to(len);
            // An event: its type, and an extension that holds an envelope.
            let kind_len = usize::from(event[1]);
            let kind = String::from_utf8(event[2..2 + kind_len].to_vec()).unwrap();
            let at = event.windows(4).position(|w| w == b"k8s\0").unwrap();
            let object = protobuf::decode(&event[at..]).unwrap();
            seen.push(format!("{kind} {} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"]));
        }
    }
    assert_eq!(seen, ["ADDED ConfigMap \"m\"", "BOOKMARK ConfigMap null", "DELETED ConfigMap \"m\""]);
    let yaml = s.send(Who::Admin, "GET", &path, &[("accept", "application/yaml")], "").await;
    assert_eq!(yaml.code, 406);
    let status = yaml.bytes;
    assert!(String::from_utf8_lossy(&status).contains("NotAcceptable"));
}

#[tokio::test]
async fn cbor_is_refused_as_a_server_does_that_has_it_off() {
    let s = Server::start().await;
    let reply = s.send(Who::Admin, "GET", "/api/v1/nodes", &[("accept", "application/cbor")], "").await;
    assert_eq!(reply.code, 406);
    let want = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    assert_eq!(reply.json()["message"], want);
    let headers = [("content-type", "application/cbor")];
    let reply = s.send(Who::Admin, "POST", "/api/v1/nodes", &headers, "x").await;
    assert_eq!((reply.code, &reply.json()["reason"]), (415, &json!("UnsupportedMediaType")));
    let headers = [("content-type", "application/apply-patch+cbor")];
    assert_eq!(s.send(Who::Admin, "PATCH", "/api/v1/nodes/n", &headers, "x").await.code, 415);
}
