//! The same API in protobuf: a scheduler that never sees JSON, and the operator's calls.

use super::fixture::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use stoa_mesos::proto;
use stoa_mesos::recordio::Decoder;

use crate::respond::Body;

const PROTOBUF: &str = "application/x-protobuf";

async fn post(w: &World, path: &str, message: &str, stream: Option<&str>, call: &Value) -> Response<Body> {
    let mut request = Request::post(path).header("content-type", PROTOBUF).header("accept", PROTOBUF);
    if let Some(id) = stream {
        request = request.header("mesos-stream-id", id);
    }
    w.request(request.body(Full::new(Bytes::from(proto::encode(message, call)))).unwrap()).await
}

async fn next(body: &mut Body, decoder: &mut Decoder) -> Value {
    loop {
        if let Some(record) = decoder.next_record().unwrap() {
            return proto::decode("scheduler.Event", &record).unwrap();
        }
        decoder.push(body.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_in_protobuf_runs_a_task() {
    let w = World::new(options()).await;
    let path = "/api/v1/scheduler";
    let subscribe = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info()}});
    let response = post(&w, path, "scheduler.Call", None, &subscribe).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let stream = response.headers()["mesos-stream-id"].to_str().unwrap().to_string();
    let (mut body, mut decoder) = (response.into_body(), Decoder::default());
    let subscribed = next(&mut body, &mut decoder).await;
    assert_eq!(subscribed["type"], "SUBSCRIBED", "{subscribed}");
    assert_eq!(subscribed["subscribed"]["heartbeat_interval_seconds"], 15.0);
    assert_eq!(next(&mut body, &mut decoder).await, json!({"type": "HEARTBEAT"}));
    let offers = next(&mut body, &mut decoder).await;
    let offer = &offers["offers"]["offers"][0];
    assert_eq!(offer["agent_id"]["value"], "a1", "{offers}");
    assert_eq!(offer["url"]["address"]["port"], 5051);

    let id = &subscribed["subscribed"]["framework_id"];
    let accept = json!({"type": "ACCEPT", "framework_id": id, "accept": {"offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task("t1", "a1", 1.0)]}}],
        "filters": {"refuse_seconds": 100_000.0}}});
    assert_eq!(post(&w, path, "scheduler.Call", Some(&stream), &accept).await.status(), 202);
    w.report_running("t1").await;
    let mut states = vec![];
    while states.last().is_none_or(|s| s != "TASK_RUNNING") {
        let event = next(&mut body, &mut decoder).await;
        if event["type"] != "UPDATE" {
            continue;
        }
        let status = &event["update"]["status"];
        states.push(status["state"].as_str().unwrap().to_string());
        let ack = json!({"type": "ACKNOWLEDGE", "framework_id": id, "acknowledge": {"agent_id": status["agent_id"],
            "task_id": status["task_id"], "uuid": status["uuid"]}});
        assert_eq!(post(&w, path, "scheduler.Call", Some(&stream), &ack).await.status(), 202);
    }
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING"]);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_call_are_refused() {
    let w = World::new(options()).await;
    for (body, want) in [
        (&b"\x10"[..], "Failed to parse body into Call protobuf"),
        (b"", "Failed to validate scheduler::Call: Expecting 'type' to be present"),
    ] {
        let request = Request::post("/api/v1/scheduler").header("content-type", PROTOBUF);
        let (status, text) = text_of(w.request(request.body(Full::new(body.into())).unwrap()).await).await;
        assert_eq!(status, 400);
        assert!(text.starts_with(want), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_operators_calls_speak_protobuf_too() {
    let w = World::new(options()).await;
    for (kind, part) in
        [("GET_VERSION", "get_version"), ("GET_AGENTS", "get_agents"), ("GET_STATE", "get_state")]
    {
        let response = post(&w, "/api/v1", "master.Call", None, &json!({"type": kind})).await;
        assert_eq!(response.status(), 200, "{kind}");
        assert_eq!(response.headers()["content-type"], PROTOBUF);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer = proto::decode("master.Response", &bytes).unwrap();
        assert_eq!(answer["type"], kind);
        assert!(answer[part].is_object(), "{answer}");
    }
}
