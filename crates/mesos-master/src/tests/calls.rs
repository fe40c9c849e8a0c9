//! The transport's rules and the calls that move no task.

use super::fixture::*;
use crate::{Anonymous, Credential, Options};
use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_stream_begins_with_subscribed_heartbeat_offers() {
    let w = World::new(options()).await;
    let mut s = w.subscribe(info()).await;
    let mut kinds = vec![];
    let mut events = vec![];
    for _ in 0..3 {
        let record = s.record().await.unwrap();
        assert!(record.is_ascii() && !record.contains(&b'\n'), "plain records");
        let event: Value = serde_json::from_slice(&record).unwrap();
        kinds.push(event["type"].as_str().unwrap().to_string());
        events.push(event);
    }
    assert_eq!(kinds, ["SUBSCRIBED", "HEARTBEAT", "OFFERS"]);
    let subscribed = &events[0]["subscribed"];
    assert_eq!(subscribed["heartbeat_interval_seconds"], 15.0);
    assert!(subscribed["framework_id"]["value"].as_str().unwrap().ends_with("-0000"));
    let version = subscribed["master_info"]["version"].as_str().unwrap();
    assert!(version.split('.').all(|n| n.parse::<u32>().is_ok()), "{version}");
    let offer = &events[2]["offers"]["offers"][0];
    assert_eq!(offer["hostname"], "host-1");
    assert_eq!(offer["agent_id"]["value"], "a1");
    assert_eq!(offer["attributes"], json!([{"name": "rack", "type": "TEXT", "text": {"value": "r1"}}]));
    assert!(offer["executor_ids"].is_array());
    // Without MULTI_ROLE nothing says to which role it is allocated.
    assert!(offer.get("allocation_info").is_none());
    assert_eq!(
        offer["resources"][0],
        json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 4.0}, "role": "*"})
    );
    // Then a heartbeat every fifteen seconds.
    let before = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(&s.record().await.unwrap()[..], b"{\"type\":\"HEARTBEAT\"}");
    }
    let took = before.elapsed();
    assert!(took > Duration::from_secs(40) && took < Duration::from_secs(50), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_transports_rules_hold() {
    let w = World::new(options()).await;
    let (s, _) = w.framework(info()).await;
    let id = s.id.as_str();
    let decline =
        json!({"type": "DECLINE", "framework_id": {"value": id}, "decline": {"offer_ids": []}}).to_string();
    let subscribe = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info()}}).to_string();
    let unknown = json!({"type": "TEARDOWN", "framework_id": {"value": "nobody"}}).to_string();
    let json_type = ("content-type", "application/json");
    let stale = ("mesos-stream-id", "00000000-0000-4000-8000-000000000000");
    let mine = ("mesos-stream-id", s.stream_id.as_str());
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("GET", vec![], "", 405, "Expecting one of { 'POST' }, but received 'GET'"),
        ("POST", vec![], &decline, 400, "Expecting 'Content-Type' to be present"),
        ("POST", vec![("content-type", "text/plain")], &decline, 415, "Expecting 'Content-Type' of"),
        ("POST", vec![json_type], "{", 400, "Failed to parse body into JSON"),
        ("POST", vec![json_type], r#"{"type":5}"#, 400, "Failed to convert JSON into Call protobuf"),
        (
            "POST",
            vec![json_type],
            "{}",
            400,
            "Failed to validate scheduler::Call: Expecting 'type' to be present",
        ),
        ("POST", vec![json_type, ("accept", "text/html")], &subscribe, 406, "Expecting 'Accept' to allow"),
        (
            "POST",
            vec![json_type, stale],
            &subscribe,
            400,
            "Subscribe calls should not include the 'Mesos-Stream-Id' header",
        ),
        ("POST", vec![json_type, mine], &unknown, 400, "Framework cannot be found"),
        (
            "POST",
            vec![json_type],
            &decline,
            400,
            "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
        ),
        ("POST", vec![json_type, stale], &decline, 400, "The stream ID"),
        ("POST", vec![json_type, mine], &decline, 202, ""),
        (
            "POST",
            vec![("content-type", "application/json; charset=utf-8"), mine, ("accept", "text/html")],
            &decline,
            202,
            "",
        ),
    ];
    for (method, headers, body, status, text) in cases {
        let mut request = Request::builder().method(method).uri("/master/api/v1/scheduler");
        for (k, v) in &headers {
            request = request.header(*k, *v);
        }
        let response = w.request(request.body(Full::new(Bytes::from(body.to_string()))).unwrap()).await;
        let (got, shown) = text_of(response).await;
        assert_eq!(got, status, "{method} {headers:?} {body}: {shown}");
        assert!(shown.starts_with(text), "{shown}");
    }
    let long = Request::post("/api/v1/scheduler").header("content-type", "application/json");
    let long = long.body(Full::new(vec![b' '; (8 << 20) + 1].into())).unwrap();
    assert_eq!(w.request(long).await.status(), 413);
    let deep = "[".repeat(100_000);
    let deep = Request::post("/api/v1/scheduler")
        .header("content-type", "application/json")
        .body(Full::new(deep.into()));
    assert_eq!(w.request(deep.unwrap()).await.status(), 400);
}

#[tokio::test(start_paused = true)]
async fn a_framework_that_is_away_is_told_that_it_is_not_subscribed() {
    let w = World::new(options()).await;
    let (s, _) = w.framework(info()).await;
    let (id, stream) = (s.id.clone(), s.stream_id.clone());
    drop(s);
    w.settle().await;
    let call = json!({"type": "SUPPRESS", "framework_id": {"value": id}});
    assert_eq!(w.call(Some(&stream), &call).await, (403, "Framework is not subscribed".into()));
}

#[tokio::test(start_paused = true)]
async fn a_second_subscription_takes_the_framework_over() {
    let w = World::new(options()).await;
    let (mut old, _) = w.framework(info()).await;
    let mut again = info();
    again["id"] = json!({"value": old.id});
    let (new, offers) = w.framework(again).await;
    assert_eq!(new.id, old.id);
    assert_eq!(offers["offers"].as_array().unwrap().len(), 1, "its offers were taken back and made anew");
    assert_eq!(old.expect("ERROR").await["message"], "Framework failed over");
    assert!(old.record().await.is_none(), "the old stream ends");
    assert_eq!(old.try_call(&w, json!({"type": "SUPPRESS"})).await.0, 400);
    new.call(&w, json!({"type": "SUPPRESS"})).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_framework_cannot_come_back() {
    let w = World::new(options()).await;
    let (mut s, _) = w.framework(info()).await;
    s.call(&w, json!({"type": "TEARDOWN"})).await;
    assert!(s.record().await.is_none(), "the stream ends");
    let mut again = info();
    again["id"] = json!({"value": s.id});
    let mut refused = w.subscribe(again).await;
    assert_eq!(refused.expect("ERROR").await["message"], "Framework has been removed");
    assert!(refused.record().await.is_none());
    assert!(w.ledger.lock().offers(&"a1".into()).next().is_none());
}

#[tokio::test(start_paused = true)]
async fn bad_descriptions_are_refused_on_the_stream() {
    let w = World::new(options()).await;
    for (info, why) in [
        (json!({"user": "u", "name": "n", "role": "a b"}), "Role 'a b' cannot contain whitespace"),
        (json!({"user": "u", "name": "n", "roles": ["a"]}), "'FrameworkInfo.roles' must not be set"),
        (json!({"user": "u", "name": "n", "id": {"value": "a/b"}}), "'a/b' is not a valid framework id"),
    ] {
        let mut s = w.subscribe(info).await;
        let error = s.expect("ERROR").await;
        assert!(error["message"].as_str().unwrap().starts_with(why), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_nobody_knows_is_taken_as_it_is() {
    let w = World::new(options()).await;
    let mut mine = info();
    mine["id"] = json!({"value": "from-another-life-0007"});
    let (s, _) = w.framework(mine).await;
    assert_eq!(s.id, "from-another-life-0007");
}

#[tokio::test(start_paused = true)]
async fn declined_offers_return_when_their_filter_has_expired_or_is_revived() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    let decline = |offers: &Value, seconds: f64| json!({"type": "DECLINE", "decline": {"offer_ids": [offers["offers"][0]["id"]], "filters": {"refuse_seconds": seconds}}});
    s.call(&w, decline(&offers, 4_294_967_295.0)).await;
    w.settle().await;
    assert!(w.ledger.lock().offers(&"a1".into()).next().is_none());
    s.call(&w, json!({"type": "REVIVE"})).await;
    let offers = s.expect("OFFERS").await;
    s.call(&w, decline(&offers, 5.0)).await;
    w.settle().await;
    assert!(w.ledger.lock().offers(&"a1".into()).next().is_none());
    w.clock.advance(Duration::from_secs(5));
    let offers = s.expect("OFFERS").await;
    // Suppressed, it gets nothing until it revives.
    s.call(&w, json!({"type": "SUPPRESS", "suppress": {}})).await;
    s.call(&w, decline(&offers, 0.0)).await;
    w.settle().await;
    assert!(w.ledger.lock().offers(&"a1".into()).next().is_none());
    s.call(&w, json!({"type": "REVIVE", "revive": {"roles": ["*"]}})).await;
    s.expect("OFFERS").await;
    assert_eq!(s.try_call(&w, json!({"type": "REVIVE", "revive": {"roles": ["x"]}})).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_multi_role_framework_sees_the_role_of_each_offer() {
    let w = World::new(options()).await;
    let info = json!({"user": "root", "name": "m", "roles": ["web", "batch"], "capabilities": [{"type": "MULTI_ROLE"}]});
    let (mut s, offers) = w.framework(info).await;
    let offer = &offers["offers"][0];
    assert_eq!(offer["allocation_info"]["role"], "batch");
    assert!(offer["resources"].as_array().unwrap().iter().all(|r| r["allocation_info"]["role"] == "batch"));
    // Roles that are dropped lose their offers at once.
    let mut new =
        json!({"user": "root", "name": "m", "roles": ["web"], "capabilities": [{"type": "MULTI_ROLE"}]});
    new["id"] = json!({"value": s.id});
    let update = json!({"type": "UPDATE_FRAMEWORK", "update_framework": {"framework_info": new}});
    assert_eq!(s.try_call(&w, update.clone()).await.0, 200);
    assert_eq!(s.expect("RESCIND").await["offer_id"], offer["id"]);
    let offers = s.expect("OFFERS").await;
    assert_eq!(offers["offers"][0]["allocation_info"]["role"], "web");
    let mut bad = update;
    bad["update_framework"]["framework_info"]["user"] = "someone".into();
    let (status, why) = s.try_call(&w, bad).await;
    assert_eq!((status, why.as_str()), (400, "Updating 'FrameworkInfo.user' is unsupported"));
}

#[tokio::test(start_paused = true)]
async fn credentials_are_asked_for_unless_anybody_may_come() {
    let credential = |p: &str, s: &str| Credential { principal: p.into(), secret: s.into() };
    let strict = Options {
        anonymous: Anonymous::Refuse,
        credentials: vec![credential("alice", "wonder"), credential("bob", "builder")],
        ..Options::default()
    };
    let w = World::new(strict).await;
    let basic = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let subscribe = |principal: &str| {
        json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "u", "name": "n", "principal": principal}}}).to_string()
    };
    let post = |auth: Option<String>, body: String| {
        let mut request = Request::post("/api/v1/scheduler").header("content-type", "application/json");
        if let Some(auth) = auth {
            request = request.header("authorization", auth);
        }
        request.body(Full::new(body.into())).unwrap()
    };
    let refused = w.request(post(None, subscribe("alice"))).await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.headers()["www-authenticate"], r#"Basic realm="mesos-master-scheduler""#);
    for auth in ["alice:wrong", "nobody:wonder", "alice"] {
        assert_eq!(w.request(post(Some(basic(auth)), subscribe("alice"))).await.status(), 401, "{auth}");
    }
    assert_eq!(w.get("/state").await.0, 401);
    assert_eq!(w.get("/version").await.0, 200);
    assert_eq!(w.get("/health").await.0, 200);
    let mut stream = w.request(post(Some(basic("alice:wonder")), subscribe("alice"))).await;
    assert_eq!(stream.status(), 200);
    let first = stream.body_mut().frame().await.unwrap().unwrap();
    let text = String::from_utf8(first.data_ref().unwrap().to_vec()).unwrap();
    let event: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    let id = event["subscribed"]["framework_id"].clone();
    // One principal cannot act for another's framework, nor claim to be another.
    let id_header = stream.headers()["mesos-stream-id"].to_str().unwrap().to_string();
    let mut theft =
        post(Some(basic("bob:builder")), json!({"type": "TEARDOWN", "framework_id": id}).to_string());
    theft.headers_mut().insert("mesos-stream-id", id_header.parse().unwrap());
    let (status, why) = text_of(w.request(theft).await).await;
    assert_eq!(status, 400);
    assert!(why.starts_with("Authenticated principal 'bob' does not match"), "{why}");
    let (_, lie) = text_of(w.request(post(Some(basic("bob:builder")), subscribe("alice"))).await).await;
    assert!(lie.contains("does not match principal"), "{lie}");
}

#[tokio::test]
async fn over_tcp_the_stream_is_chunked_even_if_the_connection_is_to_close() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let w = World::new(options()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(w.master.clone().run_server(listener));
    let body = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info()}}).to_string();
    let head = format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAccept: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("OFFERS") {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the stream stays open: {}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..n]);
    }
    let text = String::from_utf8(got).unwrap().to_lowercase();
    assert!(text.starts_with("http/1.1 200 ok"), "{text}");
    assert!(text.contains("transfer-encoding: chunked"), "{text}");
    assert!(text.contains("mesos-stream-id: "), "{text}");
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_ours_is_refused() {
    let w = World::new(options()).await;
    for (host, status) in [
        ("127.0.0.1:5050", 200),
        ("[::1]:5050", 200),
        ("localhost:5050", 200),
        ("LOCALHOST", 200),
        ("evil.example:5050", 403),
    ] {
        let request = Request::get("/version").header("host", host).body(Full::default()).unwrap();
        assert_eq!(w.request(request).await.status(), status, "{host}");
    }
}
