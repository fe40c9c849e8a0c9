//! Logs, from an agent that is not there.

#![allow(clippy::unwrap_used)]

mod common;
use common::{Server, Who};
use serde_json::{Value, json};
use std::sync::Arc;
use stoa_streams::wire::{Channel, Frame, TunnelRequest};
use stoa_streams::{OpenError, Opener, Tunnel};
use stoa_units::AgentId;
use tokio::sync::mpsc;

/// Answers with three frames, or refuses for the container `gone`.
struct Agent;

#[async_trait::async_trait]
impl Opener for Agent {
    async fn open(&self, agent: &AgentId, request: TunnelRequest) -> Result<Tunnel, OpenError> {
        let TunnelRequest::Logs { container, options, .. } = request else {
            return Err(OpenError::NotConnected(agent.clone()));
        };
        if container == "gone" {
            return Err(OpenError::Refused { code: 400, message: "no such container".into() });
        }
        let (input, _) = mpsc::channel(1);
        let (sender, output) = mpsc::channel(8);
        tokio::spawn(async move {
            for text in ["one\n", "two\n"].iter().skip(if options.tail_lines == Some(1) { 1 } else { 0 }) {
                let _ = sender.send(Frame::new(Channel::Stdout, text.as_bytes())).await;
            }
            let _ = sender.send(Frame::new(Channel::Status, json!({"status": "Success"}).to_string())).await;
        });
        Ok(Tunnel { input, output })
    }
}

const PODS: &str = "/api/v1/namespaces/t/pods";

async fn pod(s: &Server, name: &str, containers: &[&str], state: Value) {
    let list: Vec<Value> = containers.iter().map(|c| json!({"name": c, "image": "x"})).collect();
    let body = json!({"metadata": {"name": name}, "spec": {"containers": list, "nodeName": "n1"}});
    let made = s.post(PODS, body).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let states: Vec<Value> = containers
        .iter()
        .map(|c| json!({"name": c, "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state}))
        .collect();
    let status =
        s.merge(&format!("{PODS}/{name}/status"), json!({"status": {"containerStatuses": states}})).await;
    assert_eq!(status.code, 200, "{}", status.json());
}

#[tokio::test]
async fn a_log_is_plain_text_as_it_comes() {
    let s = Server::start_with(Some(Arc::new(Agent)), None).await;
    s.namespace("t").await;
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    pod(&s, "p", &["c"], running.clone()).await;
    let log = s.get(&format!("{PODS}/p/log?follow=true")).await;
    assert_eq!((log.code, log.header("content-type")), (200, "text/plain"));
    assert_eq!(&log.bytes[..], b"one\ntwo\n");
    assert_eq!(&s.get(&format!("{PODS}/p/log?tailLines=1")).await.bytes[..], b"two\n");
    // Those beside it do not make the only container of a pod one of several.
    let beside = json!({"metadata": {"name": "i"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}],
        "initContainers": [{"name": "before", "image": "x"}]}});
    assert_eq!(s.post(PODS, beside).await.code, 201);
    let status = json!({"status": {"containerStatuses": [
        {"name": "c", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": running}]}});
    assert_eq!(s.merge(&format!("{PODS}/i/status"), status).await.code, 200);
    assert_eq!(&s.get(&format!("{PODS}/i/log")).await.bytes[..], b"one\ntwo\n");
    pod(&s, "q", &["gone"], running).await;
    assert_eq!(s.get(&format!("{PODS}/q/log")).await.code, 400);
}

#[tokio::test]
async fn what_has_no_log_is_named() {
    let s = Server::start_with(Some(Arc::new(Agent)), None).await;
    s.namespace("t").await;
    pod(&s, "w", &["c"], json!({"waiting": {"reason": "ImagePullBackOff"}})).await;
    pod(&s, "two", &["a", "b"], json!({"running": {}})).await;
    let unbound = json!({"metadata": {"name": "u"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    s.post(PODS, unbound).await;
    for (path, why) in [
        ("w/log", "container \"c\" in pod \"w\" is waiting to start: trying and failing to pull image"),
        ("two/log", "a container name must be specified for pod two, choose one of: [a b]"),
        ("two/log?container=z", "container z is not valid for pod two"),
        ("u/log", "pod u does not have a host assigned"),
    ] {
        let reply = s.get(&format!("{PODS}/{path}")).await;
        assert_eq!((reply.code, reply.json()["message"].as_str()), (400, Some(why)), "{path}");
    }
    assert_eq!(s.get(&format!("{PODS}/none/log")).await.code, 404);
    let exec = format!("{PODS}/two/exec?command=sh&stdout=true&container=a");
    assert_eq!(s.send(Who::Admin, "POST", &exec, &[], "").await.code, 400, "no upgrade was asked for");
}

#[tokio::test]
async fn what_is_wanted_of_a_log_is_checked_before_the_pod_is_looked_for() {
    let s = Server::start_with(Some(Arc::new(Agent)), None).await;
    s.namespace("t").await;
    let (time, invalid) = ("2006-01-02T15:04:05Z07:00", "PodLogOptions \"p\" is invalid:");
    for (query, code, why) in [
        ("stream=plain", 422, format!("{invalid} stream: Forbidden: may not be specified")),
        ("stream=", 422, format!("{invalid} stream: Forbidden: may not be specified")),
        (
            "sinceTime=abc",
            400,
            format!("parsing time \"abc\" as \"{time}\": cannot parse \"abc\" as \"2006\""),
        ),
        (
            "sinceTime=2020-13-01T00:00:00Z",
            400,
            "parsing time \"2020-13-01T00:00:00Z\": month out of range".into(),
        ),
        ("sinceTime=&tailLines=", 400, "strconv.ParseInt: parsing \"\": invalid syntax".into()),
        (
            "sinceTime=2020-01-01T00:00:00Z&sinceSeconds=5",
            422,
            format!("{invalid} []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"),
        ),
        (
            "tailLines=-1&limitBytes=0&stream=x&sinceSeconds=0",
            422,
            format!(
                "{invalid} [tailLines: Invalid value: -1: must be greater than or equal to 0, limitBytes: Invalid \
                 value: 0: must be greater than 0, sinceSeconds: Invalid value: 0: must be greater than 0, stream: \
                 Forbidden: may not be specified]"
            ),
        ),
        ("sinceTime=", 404, "pods \"p\" not found".into()),
    ] {
        let reply = s.get(&format!("{PODS}/p/log?{query}")).await;
        assert_eq!((reply.code, reply.json()["message"].as_str()), (code, Some(&*why)), "{query}");
    }
}
