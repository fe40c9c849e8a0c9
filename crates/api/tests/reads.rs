//! What every answer says besides its body, and the ways to read that few clients use.

#![allow(clippy::unwrap_used)]

mod common;
use common::{Server, Who};
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const MAPS: &str = "/api/v1/namespaces/t/configmaps";

#[tokio::test]
async fn every_answer_names_its_request_and_its_flow() {
    let s = Server::start().await;
    for (path, code) in [("/api/v1/nodes", 200), ("/api/v1/nodes/none", 404), ("/nope", 404)] {
        let reply = s.get(path).await;
        assert_eq!(reply.code, code);
        assert_eq!(reply.header("audit-id").len(), 36);
        assert_eq!(reply.header("x-kubernetes-pf-flowschema-uid").len(), 36);
        assert_eq!(reply.header("x-kubernetes-pf-prioritylevel-uid").len(), 36);
    }
    let reply = s.send(Who::Admin, "GET", "/version", &[("audit-id", "mine")], "").await;
    assert_eq!(reply.header("audit-id"), "mine");
    let admin = s.get("/version").await.header("x-kubernetes-pf-flowschema-uid").to_string();
    let jane = s.send(Who::Token("s3cr3t"), "GET", "/version", &[], "").await;
    assert_ne!(jane.header("x-kubernetes-pf-flowschema-uid"), admin);
    // A stock server's routes of objects know no HEAD; what it serves beside them does.
    assert_eq!(s.send(Who::Admin, "HEAD", "/api/v1/nodes", &[], "").await.code, 405);
    assert_eq!(s.send(Who::Admin, "HEAD", "/healthz", &[], "").await.code, 200);
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_refused_by_whom_it_leads_to() {
    let s = Server::start().await;
    for path in ["/api/v1/foos", "/apis/apps/v9", "/apis/apps/v9/deployments", "/api/v9"] {
        let reply = s.get(path).await;
        assert_eq!((reply.code, &reply.json()["reason"]), (404, &json!("NotFound")), "{path}");
    }
    for path in ["/nope", "/apis/foo.io", "/apis/foo.io/v1", "/apis/foo.io/v1/bars"] {
        let reply = s.get(path).await;
        assert_eq!((reply.code, &reply.bytes[..]), (404, &b"404 page not found\n"[..]), "{path}");
    }
}

#[tokio::test]
async fn json_is_set_out_for_people() {
    let s = Server::start().await;
    s.namespace("t").await;
    let path = "/api/v1/namespaces/t";
    let plain = s.get(path).await;
    assert!(!plain.bytes.contains(&b'\n'));
    let asked = s.get(&format!("{path}?pretty=true")).await;
    assert_eq!(asked.json(), plain.json());
    assert!(asked.bytes.starts_with(b"{\n  \"apiVersion\": \"v1\",\n"));
    let curl = [("user-agent", "curl/8.5.0")];
    assert_eq!(s.send(Who::Admin, "GET", path, &curl, "").await.bytes, asked.bytes);
    let not = s.send(Who::Admin, "GET", &format!("{path}?pretty=0"), &curl, "").await;
    assert_eq!(not.bytes, plain.bytes);
    let list = s.get("/api/v1/namespaces?pretty=1").await;
    assert_eq!(list.json()["kind"], "NamespaceList");
    assert!(s.get("/version").await.bytes.starts_with(b"{\n  \""), "always");
}

#[tokio::test]
async fn the_openapi_documents_have_a_protobuf_form() {
    let s = Server::start().await;
    const V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    const V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
    let of = async |path: &str, accept: &str| {
        let headers = [("accept", accept)];
        s.send(Who::Admin, "GET", path, &headers, "").await
    };
    let json = of("/openapi/v2", "*/*").await;
    assert_eq!(json.header("content-type"), "application/json");
    for accept in [
        V2,
        "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
        &format!("application/json;q=0.5,{V2}"),
    ] {
        let reply = of("/openapi/v2", accept).await;
        assert_eq!((reply.code, reply.header("content-type")), (200, V2), "{accept}");
        assert_eq!(reply.header("etag"), json.header("etag"));
        // The first field is the version of OpenAPI.
        assert!(reply.bytes.starts_with(b"\x0a\x032.0"));
    }
    assert_eq!(of("/openapi/v2", "application/yaml").await.code, 406);
    let path = "/openapi/v3/apis/apps/v1";
    let reply = of(path, V3).await;
    assert_eq!((reply.code, reply.header("content-type")), (200, V3));
    let hash = reply.header("etag").trim_matches('"').to_string();
    let named = of(&format!("{path}?hash={hash}"), V3).await;
    assert_eq!(named.header("cache-control"), "public, immutable");
    let moved = of(&format!("{path}?hash=AA"), V3).await;
    assert_eq!((moved.code, moved.header("location")), (301, &*format!("{path}?hash={hash}")));
}

#[tokio::test]
async fn a_large_object_is_compressed_for_who_takes_it() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(200_000)}})).await;
    let plain = s.get(&format!("{MAPS}/big")).await;
    assert_eq!(plain.header("content-encoding"), "");
    let zipped = s.send(Who::Admin, "GET", &format!("{MAPS}/big"), &[("accept-encoding", "gzip")], "").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert!(zipped.bytes.len() < plain.bytes.len() / 10);
}

#[tokio::test]
async fn health_is_told_whole_or_by_the_check() {
    let s = Server::start().await;
    let text = |reply: common::Reply| String::from_utf8(reply.bytes.to_vec()).unwrap();
    assert_eq!(text(s.get("/livez").await), "ok");
    for path in
        ["/livez/ping", "/readyz/etcd", "/healthz/poststarthook/rbac/bootstrap-roles", "/readyz/shutdown"]
    {
        assert_eq!(text(s.get(path).await), "ok", "{path}");
    }
    for path in ["/livez/nope", "/livez/shutdown"] {
        let reply = s.get(path).await;
        assert_eq!((reply.code, text(reply)), (404, "404 page not found\n".to_owned()), "{path}");
    }
    let whole = text(s.get("/readyz?verbose&exclude=etcd&exclude=nope&exclude=a&exclude=nope").await);
    assert!(whole.starts_with("[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n"), "{whole}");
    assert!(whole.contains("no matches for \"a\",\"nope\"\n"), "{whole}");
    assert!(whole.ends_with("readyz check passed\n"), "{whole}");
    let list = s.get("/api/v1/componentstatuses").await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 3);
    assert_eq!(s.get("/api/v1/componentstatuses/etcd-0").await.json()["conditions"][0]["type"], "Healthy");
    assert_eq!(s.get("/api/v1/componentstatuses/nope").await.code, 404);
}

#[tokio::test]
async fn checks_of_health_are_counted_for_whoever_asked() {
    let s = Server::start().await;
    let text = |reply: common::Reply| String::from_utf8(reply.bytes.to_vec()).unwrap();
    assert!(!text(s.get("/metrics/slis").await).contains("kubernetes_healthcheck"));
    for path in ["/livez", "/livez?exclude=etcd", "/readyz", "/livez/etcd"] {
        assert_eq!(s.get(path).await.code, 200, "{path}");
    }
    let slis = text(s.get("/metrics/slis").await);
    for line in [
        "# TYPE kubernetes_healthcheck gauge",
        r#"kubernetes_healthcheck{name="etcd",type="livez"} 1"#,
        "# TYPE kubernetes_healthchecks_total counter",
        r#"kubernetes_healthchecks_total{name="etcd",status="success",type="livez"} 1"#,
        r#"kubernetes_healthchecks_total{name="ping",status="success",type="livez"} 2"#,
        r#"kubernetes_healthchecks_total{name="shutdown",status="success",type="readyz"} 1"#,
    ] {
        assert!(slis.lines().any(|l| l == line), "{line}: {slis}");
    }
    assert!(!slis.contains("healthz"), "{slis}");
}

#[tokio::test]
async fn pages_about_the_server_are_text_unless_an_object_is_named() {
    let flags = [("api-port", "6443"), ("bind", "127.0.0.1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let s = Server::start_options(|options, _| options.flags = flags.into()).await;
    let page = async |path: &str, accept: &str| {
        let headers = [("accept", accept)];
        s.send(Who::Admin, "GET", path, &headers[usize::from(accept.is_empty())..], "").await
    };
    let text = |reply: &common::Reply| String::from_utf8(reply.bytes.to_vec()).unwrap();
    for accept in ["", "*/*", "text/plain", "application/json, text/*;q=0.1"] {
        let flags = page("/flagz", accept).await;
        assert_eq!(
            (flags.code, flags.header("content-type")),
            (200, "text/plain; charset=utf-8"),
            "{accept}"
        );
        assert!(
            text(&flags).starts_with("\napiserver flagz\nWarning: This endpoint is not meant"),
            "{accept}"
        );
        assert!(text(&flags).ends_with("only.\napi-port=6443\nbind=127.0.0.1\n"), "{}", text(&flags));
    }
    let status = text(&page("/statusz", "").await);
    assert!(status.starts_with("\napiserver statusz\nWarning: "), "{status}");
    for line in ["Up: 0 hr 00 min ", "Binary version: 1.36.2\n", "Emulation version: 1.36\n"] {
        assert!(status.contains(line), "{status}");
    }
    assert!(status.ends_with("\nPaths: /flagz /healthz /livez /metrics /readyz /version\n"), "{status}");
    let object = page("/statusz", "application/json;as=Statusz;v=v1beta1;g=config.k8s.io").await;
    let of = object.json();
    assert_eq!(
        (&of["apiVersion"], &of["metadata"]["name"]),
        (&json!("config.k8s.io/v1beta1"), &json!("apiserver"))
    );
    assert_eq!((&of["emulationVersion"], object.header("warning")), (&json!("1.36"), ""));
    let old = page("/flagz", "application/json;as=Flagz;v=v1alpha1;g=config.k8s.io").await;
    assert_eq!(old.json()["flags"], json!({"api-port": "6443", "bind": "127.0.0.1"}));
    assert!(old.header("warning").contains("This version of the flagz endpoint is deprecated"));
    for accept in ["application/json", "application/cbor", "application/json;as=Statusz;v=v1;g=config.k8s.io"]
    {
        let refused = page("/flagz", accept).await;
        assert_eq!(refused.code, 406, "{accept}");
        assert_eq!(
            refused.json()["message"],
            "only the following media types are accepted: application/json, application/yaml, text/plain"
        );
    }
    for path in ["/statusz", "/flagz", "/metrics/slis"] {
        assert_eq!(s.send(Who::Nobody, "GET", path, &[], "").await.code, 403, "{path}");
        assert!(s.get("/").await.json()["paths"].as_array().unwrap().contains(&json!(path)));
    }
}

#[tokio::test]
async fn a_watch_over_a_web_socket_is_a_message_an_event() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, json!({"metadata": {"name": "a"}})).await;
    let path = format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da");
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let mut response = s.open(Who::Admin, "GET", &path, &headers, "").await;
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            let event: Value = serde_json::from_str(&text).unwrap();
            seen.push(format!("{} {}", event["type"].as_str().unwrap(), event["object"]["metadata"]["name"]));
            s.delete(&format!("{MAPS}/a")).await;
        }
    }
    assert_eq!(seen, ["ADDED \"a\"", "DELETED \"a\""]);
}
