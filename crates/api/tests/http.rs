//! What comes from outside and is wrong: each is answered for what it is, and the server goes on.

#![allow(clippy::unwrap_used)]

mod common;
use common::{Server, Who};
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/t/configmaps";
const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn bad_bodies_are_refused_and_the_server_lives() {
    let s = Server::start().await;
    s.namespace("t").await;
    let deep = format!("{{\"data\":{}", "[".repeat(100_000));
    let big = format!("{{\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(4 << 20));
    let wide = format!("{{\"metadata\":{{\"name\":\"w\"}},\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(2 << 20));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for (what, headers, body, code) in [
        ("truncated", JSON, "{\"a\":".to_string(), 400),
        ("empty", JSON, String::new(), 400),
        ("a list", JSON, "[]".to_string(), 400),
        ("no UTF-8", JSON, "{\"metadata\":{\"name\":\"\u{0}\"}}".to_string(), 400),
        ("deep", JSON, deep, 400),
        ("too big", JSON, big, 413),
        ("too big for its kind", JSON, wide, 422),
        ("unknown type", ("content-type", "text/plain"), "{}".to_string(), 415),
        ("no protobuf", ("content-type", "application/vnd.kubernetes.protobuf"), "k8s".to_string(), 400),
        ("a YAML bomb", ("content-type", "application/yaml"), bomb.to_string(), 400),
        ("another kind", JSON, json!({"kind": "Secret", "apiVersion": "v1"}).to_string(), 400),
        ("another version", JSON, json!({"kind": "ConfigMap", "apiVersion": "v2"}).to_string(), 400),
        ("a wrong type", JSON, json!({"metadata": {"name": 1}}).to_string(), 400),
    ] {
        let reply = s.send(Who::Admin, "POST", MAPS, &[headers], body).await;
        assert_eq!(reply.code, code, "{what}: {}", String::from_utf8_lossy(&reply.bytes));
        assert_eq!(reply.json()["kind"], "Status", "{what}");
    }
    let yaml = "metadata:\n  name: y\ndata:\n  a: \"1\"\n";
    let made = s.send(Who::Admin, "POST", MAPS, &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(made.code, 201, "{}", made.json());
}

#[tokio::test]
async fn patches_need_a_type_and_a_meaning() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, json!({"metadata": {"name": "a"}, "data": {"a": "1"}})).await;
    let path = format!("{MAPS}/a");
    for (kind, body, code) in [
        ("application/json", "{}", 415),
        ("application/json-patch+json", "{}", 400),
        ("application/json-patch+json", "[{\"op\":\"test\",\"path\":\"/data/a\",\"value\":\"9\"}]", 422),
        ("application/json-patch+json", "[{\"op\":\"replace\",\"path\":\"/data/a\",\"value\":\"2\"}]", 200),
        ("application/merge-patch+json", "nonsense", 400),
        ("application/merge-patch+json", "{\"data\":{\"a\":null}}", 200),
        ("application/strategic-merge-patch+json", "{\"data\":{\"b\":\"3\"}}", 200),
        ("application/merge-patch+json", "{\"metadata\":{\"resourceVersion\":\"1\"}}", 409),
        ("application/merge-patch+json", "{\"metadata\":{\"name\":\"b\"}}", 400),
        ("application/merge-patch+json", "{\"data\":5}", 422),
    ] {
        let reply = s.send(Who::Admin, "PATCH", &path, &[("content-type", kind)], body).await;
        assert_eq!(reply.code, code, "{kind} {body}: {}", reply.json());
    }
}

#[tokio::test]
async fn methods_paths_and_forms_that_are_not_served_are_named() {
    let s = Server::start().await;
    s.namespace("t").await;
    for (method, path, accept, code) in [
        ("GET", "/nope", "*/*", 404),
        ("GET", "/api/v1/widgets", "*/*", 404),
        ("GET", "/apis/nope.io/v1/widgets", "*/*", 404),
        ("GET", "/api/v1/namespaces/t/nodes", "*/*", 404),
        ("GET", "/api/v1/pods/p", "*/*", 404),
        ("GET", "/api/v1/namespaces/t/pods/p/nope", "*/*", 404),
        ("OPTIONS", "/api/v1/nodes", "*/*", 405),
        ("PUT", MAPS, "*/*", 405),
        ("POST", "/version", "*/*", 405),
        ("DELETE", "/api/v1/namespaces", "*/*", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "*/*", 405),
        ("GET", MAPS, "application/cbor", 406),
        ("GET", MAPS, "application/vnd.kubernetes.protobuf", 200),
        ("GET", MAPS, "application/vnd.kubernetes.protobuf, application/json", 200),
        ("GET", "/api/v1/namespaces/%2e%2e/secrets", "*/*", 400),
        ("GET", "/api/v1/nodes/n/proxy/metrics", "*/*", 404),
    ] {
        let reply = s.send(Who::Admin, method, path, &[("accept", accept)], "").await;
        assert_eq!(reply.code, code, "{method} {path} {accept}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_before_it_is_kept() {
    let s = Server::start().await;
    let long = "x".repeat(60_000);
    let code = s.send(Who::Admin, "GET", "/version", &[("a", &long), ("b", &long)], "").await.code;
    assert_eq!(code, 431);
    let path = format!("/api/v1/{}", "x".repeat(20_000));
    assert_eq!(s.send(Who::Admin, "GET", &path, &[], "").await.code, 414);
    assert_eq!(s.get("/version").await.code, 200);
}

#[tokio::test]
async fn unknown_fields_are_warned_of_or_refused() {
    let s = Server::start().await;
    s.namespace("t").await;
    let body = |name: &str| json!({"metadata": {"name": name}, "bogus": 1});
    let warned = s.post(MAPS, body("a")).await;
    assert_eq!((warned.code, warned.header("warning")), (201, "299 - \"unknown field \\\"bogus\\\"\""));
    assert_eq!(warned.json().get("bogus"), None);
    let silent = s.post(&format!("{MAPS}?fieldValidation=Ignore"), body("b")).await;
    assert_eq!((silent.code, silent.header("warning")), (201, ""));
    let strict = s.post(&format!("{MAPS}?fieldValidation=Strict"), body("c")).await.json();
    assert_eq!(
        strict["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"bogus\""
    );
    assert_eq!(s.post(&format!("{MAPS}?fieldValidation=Nope"), body("d")).await.code, 422);
}

/// Handles whatever it is given by failing.
struct Broken;

#[async_trait::async_trait]
impl stoa_streams::Extension for Broken {
    async fn handle(
        &self,
        _: &str,
        _: &[String],
        _: http::Request<hyper::body::Incoming>,
    ) -> http::Response<stoa_streams::Body> {
        panic!("as a test")
    }
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_own_request_only() {
    let s = Server::start_with(None, Some(std::sync::Arc::new(Broken))).await;
    let reply = s.get("/stoa/v1/x").await;
    assert_eq!((reply.code, &reply.json()["reason"]), (500, &json!("InternalError")));
    assert_eq!(s.get("/api/v1/nodes").await.code, 200);
    let metrics = s.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.bytes).contains("stoa_api_handler_panics_total 1"));
}

#[tokio::test]
async fn one_http2_connection_carries_many_requests() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let s = Server::start().await;
    let stream = s.connect(&Who::Admin, &[b"h2"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let requests = (0..50).map(|_| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let request = http::Request::get("https://127.0.0.1/api/v1/namespaces/default")
                .body(Empty::<bytes::Bytes>::new())
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            let code = response.status().as_u16();
            (code, response.into_body().collect().await.unwrap().to_bytes().len())
        })
    });
    for request in requests.collect::<Vec<_>>() {
        let (code, len) = request.await.unwrap();
        assert!(code == 200 && len > 0);
    }
}

#[tokio::test]
async fn documents_are_sent_once_to_those_who_keep_them() {
    let s = Server::start().await;
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for (path, accept) in [("/apis", aggregated), ("/openapi/v3/api/v1", "*/*"), ("/openapi/v2", "*/*")] {
        let first = s.send(Who::Admin, "GET", path, &[("accept", accept)], "").await;
        assert_eq!(first.code, 200, "{path}");
        let tag = first.header("etag").to_string();
        let again = s.send(Who::Admin, "GET", path, &[("accept", accept), ("if-none-match", &tag)], "").await;
        assert_eq!((again.code, again.bytes.len()), (304, 0), "{path}");
    }
    let list = s.send(Who::Admin, "GET", "/apis", &[("accept", aggregated)], "").await;
    assert_eq!(list.json()["kind"], "APIGroupDiscoveryList");
    assert_eq!(s.get("/apis").await.json()["kind"], "APIGroupList");
    assert_eq!(s.get("/apis/apps/v1").await.json()["kind"], "APIResourceList");
    assert_eq!(s.get("/apis/apps").await.json()["preferredVersion"]["version"], "v1");
    assert_eq!(s.get("/apis/nope").await.code, 404);
}
