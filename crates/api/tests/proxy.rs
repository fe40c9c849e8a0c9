//! Requests that are handed on to pods, whose agent here is this test.

#![allow(clippy::unwrap_used)]

mod common;
use bytes::Bytes;
use common::{Server, Who};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use stoa_streams::wire::{Channel, Frame, TunnelRequest};
use stoa_streams::{OpenError, Opener, Tunnel};
use stoa_units::AgentId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// A node whose pods serve a web page that says what was asked of it.
struct Node;

async fn page(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if parts.uri.path() == "/moved" {
        let moved = Response::builder().status(302).header("location", "/there").body(Full::default());
        return Ok(moved.unwrap());
    }
    let headers: Value = parts
        .headers
        .iter()
        .map(|(k, v)| (k.to_string(), json!(v.to_str().unwrap())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let said = json!({"method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body)});
    let answer =
        Response::builder().status(418).header("x-page", "1").header("access-control-allow-origin", "*");
    Ok(answer.body(Full::from(said.to_string())).unwrap())
}

#[async_trait::async_trait]
impl Opener for Node {
    async fn open(&self, agent: &AgentId, request: TunnelRequest) -> Result<Tunnel, OpenError> {
        let TunnelRequest::PortForward { port, .. } = request else {
            return Err(OpenError::NotConnected(agent.clone()));
        };
        if port != 8080 {
            return Err(OpenError::Refused {
                code: 500,
                message: format!("failed to connect to port {port}"),
            });
        }
        let (input, mut from_client) = mpsc::channel::<Frame>(16);
        let (to_client, output) = mpsc::channel(16);
        let (near, far) = tokio::io::duplex(1 << 16);
        let (mut read, mut write) = tokio::io::split(near);
        tokio::spawn(async move {
            while let Some(frame) = from_client.recv().await {
                if frame.channel == Channel::Stdin && write.write_all(&frame.payload).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(n @ 1..) = read.read(&mut buffer).await {
                let _ =
                    to_client.send(Frame::new(Channel::Stdout, Bytes::copy_from_slice(&buffer[..n]))).await;
            }
        });
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new();
            let _ = served.serve_connection(TokioIo::new(far), hyper::service::service_fn(page)).await;
        });
        Ok(Tunnel { input, output })
    }
}

async fn server() -> Server {
    let s = Server::start_with(Some(Arc::new(Node)), None).await;
    s.namespace("t").await;
    let pods = "/api/v1/namespaces/t/pods";
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": {"nodeName": "n1", "containers": [
        {"name": "c", "image": "x", "ports": [{"name": "web", "containerPort": 8080}]}]}});
    assert_eq!(s.post(pods, pod).await.code, 201);
    let ready = json!({"status": {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}], "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let set = s.merge(&format!("{pods}/p/status"), ready).await;
    assert_eq!(set.code, 200, "{}", set.json());
    s
}

#[tokio::test]
async fn a_request_reaches_the_pod_whole_and_without_our_secrets() {
    let s = server().await;
    let path = "/api/v1/namespaces/t/pods/p:8080/proxy/a%2Fb/?x=1&y=";
    let headers = [("authorization", "Bearer s3cr3t"), ("x-mine", "yes"), ("x-remote-user", "root")];
    let reply = s.send(Who::Admin, "PUT", path, &headers, "hello").await;
    assert_eq!((reply.code, reply.header("x-page")), (418, "1"));
    assert_eq!(reply.header("access-control-allow-origin"), "");
    let said = reply.json();
    assert_eq!(
        (&said["method"], &said["uri"], &said["body"]),
        (&json!("PUT"), &json!("/a%2Fb/?x=1&y="), &json!("hello"))
    );
    assert_eq!(
        (&said["headers"]["x-mine"], &said["headers"]["host"]),
        (&json!("yes"), &json!("10.0.0.9:8080"))
    );
    assert!(said["headers"]["authorization"].is_null() && said["headers"]["x-remote-user"].is_null());
    for method in ["GET", "POST", "PATCH", "DELETE", "OPTIONS"] {
        let reply = s.send(Who::Admin, method, "/api/v1/namespaces/t/pods/p/proxy/", &[], "").await;
        assert_eq!(reply.json()["method"], method);
    }
    let bare = s.get("/api/v1/namespaces/t/pods/p/proxy?a=b").await;
    assert_eq!((bare.code, bare.header("location")), (301, "/api/v1/namespaces/t/pods/p/proxy/?a=b"));
    let moved = s.get("/api/v1/namespaces/t/pods/p/proxy/moved").await;
    assert_eq!((moved.code, moved.header("location")), (302, "/api/v1/namespaces/t/pods/p/proxy/there"));
    let other = s.get("/api/v1/namespaces/t/pods/p:81/proxy/").await;
    assert_eq!((other.code, &other.json()["reason"]), (503, &json!("ServiceUnavailable")));
    assert_eq!(s.get("/api/v1/namespaces/t/pods/none/proxy/").await.code, 404);
    let refused = s.send(Who::Token("s3cr3t"), "GET", "/api/v1/namespaces/t/pods/p/proxy/", &[], "").await;
    assert_eq!(refused.code, 403);
}

#[tokio::test]
async fn a_service_is_any_of_its_ready_pods() {
    let s = server().await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [
        {"name": "http", "port": 80, "targetPort": "web"}, {"name": "other", "port": 81}]}});
    assert_eq!(s.post("/api/v1/namespaces/t/services", service).await.code, 201);
    let base = "/api/v1/namespaces/t/services";
    for name in ["web:http", "web:80", "http:web:http"] {
        assert_eq!(s.get(&format!("{base}/{name}/proxy/x")).await.json()["uri"], "/x", "{name}");
    }
    let unclear = s.get(&format!("{base}/web/proxy/")).await;
    assert_eq!(unclear.json()["message"], "no service port \"\" found for service \"web\"");
    s.post(
        base,
        json!({"metadata": {"name": "idle"}, "spec": {"selector": {"app": "none"}, "ports": [{"port": 80}]}}),
    )
    .await;
    let idle = s.get(&format!("{base}/idle/proxy/")).await;
    assert_eq!(
        (idle.code, &idle.json()["message"]),
        (503, &json!("no endpoints available for service \"idle\""))
    );
}
