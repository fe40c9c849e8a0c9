//! The endpoints that tools read.

use super::fixture::*;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

#[tokio::test(start_paused = true)]
async fn the_version_is_plain_dotted_integers() {
    let w = World::new(options()).await;
    for path in ["/version", "/master/version", "/version/", "/version.json"] {
        let version = w.get_json(path).await["version"].as_str().unwrap().to_string();
        assert_eq!(version, "1.11.0");
    }
}

#[tokio::test(start_paused = true)]
async fn the_state_has_every_key_and_shows_both_faces() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    w.create_pod(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"nodeName": "a1", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m"}}}]}}),
    )
    .await;
    let state = w.get_json("/master/state.json").await;
    for key in "version git_sha git_branch git_tag build_date build_time build_user start_time elected_time id pid hostname \
                capabilities activated_slaves deactivated_slaves unreachable_slaves domain leader leader_info cluster log_dir \
                flags slaves recovered_slaves frameworks completed_frameworks orphan_tasks unregistered_frameworks"
        .split_whitespace()
    {
        assert!(state.get(key).is_some(), "{key}");
    }
    let slave = &state["slaves"][0];
    assert_eq!(
        slave["resources"],
        json!({"cpus": 4.0, "mem": 4096.0, "disk": 10240.0, "gpus": 0.0, "ports": "[31000-32000]"})
    );
    assert_eq!(slave["used_resources"]["cpus"], 1.0);
    assert_eq!((&slave["attributes"], &slave["hostname"]), (&json!({"rack": "r1"}), &json!("host-1")));
    let mine = &state["frameworks"][0];
    assert_eq!((&mine["id"], &mine["role"], &mine["active"]), (&json!(s.id), &json!("*"), &json!(true)));
    let shown = &mine["tasks"][0];
    assert_eq!((&shown["id"], &shown["state"]), (&json!("t1"), &json!("TASK_RUNNING")));
    assert_eq!(shown["resources"], json!({"cpus": 1.0, "mem": 64.0, "disk": 0.0, "gpus": 0.0}));
    let kubernetes = &state["frameworks"][1];
    assert_eq!(kubernetes["name"], "kubernetes");
    assert_eq!(kubernetes["tasks"][0]["id"], "default.web");
    assert_eq!(kubernetes["tasks"][0]["resources"]["cpus"], 0.25);

    let summary = w.get_json("/state-summary").await;
    assert_eq!(summary["frameworks"][0]["TASK_RUNNING"], 1);
    assert_eq!(w.get_json("/slaves/").await["slaves"][0]["id"], "a1");
    assert_eq!(w.get_json("/master/frameworks/").await["frameworks"].as_array().unwrap().len(), 2);
    let tasks = w.get_json(&format!("/tasks?framework_id={}", s.id)).await;
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1);
    let roles = w.get_json("/roles").await;
    assert_eq!(roles["roles"][0]["name"], "*");
    let metrics = w.get_json("/metrics/snapshot").await;
    assert_eq!((&metrics["master/tasks_running"], &metrics["master/cpus_total"]), (&json!(1.0), &json!(4.0)));
    let (status, body) = w.get("/version?jsonp=angular.callbacks._0").await;
    assert!(status == 200 && body.starts_with("angular.callbacks._0({") && body.ends_with("});"), "{body}");
    assert_eq!(w.get("/version?jsonp=alert(1)//").await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_master_that_does_not_lead_sends_clients_to_the_one_that_does() {
    let w = World::new(options()).await;
    let ask = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Full::<Bytes>::default()).unwrap();
        let response = w.request(request).await;
        let location = response.headers().get("location").map(|l| l.to_str().unwrap().to_string());
        (response.status().as_u16(), location)
    };
    let to = |rest: &str| (307, Some(format!("//m2.example:5050{rest}")));
    w.master.set_leader(crate::Leader::At("m2.example".into(), 5050));
    for path in ["/master/state", "/state.json?jsonp=x", "/api/v1", "/slave/a1/state", "/tasks?limit=1"] {
        assert_eq!(ask("GET", path).await, to(path), "{path}");
    }
    assert_eq!(ask("POST", "/master/api/v1/scheduler").await, to("/master/api/v1/scheduler"));
    for path in ["/redirect", "/master/redirect", "/redirect/"] {
        assert_eq!(ask("GET", path).await, to(""), "{path}");
    }
    for path in ["/health", "/master/version", "/flags", "/metrics/snapshot"] {
        assert_eq!(ask("GET", path).await, (200, None), "{path}");
    }
    w.master.set_leader(crate::Leader::Nobody);
    assert_eq!(ask("GET", "/state").await, (503, None));
    assert_eq!(ask("GET", "/master/redirect").await, (503, None));
    w.master.set_leader(crate::Leader::Here);
    assert_eq!(ask("GET", "/state").await.0, 200);
    assert_eq!(ask("GET", "/redirect").await, (307, Some("//localhost:5050".into())));
    assert_eq!(ask("GET", "/redirect/x").await, (404, None));
}

#[tokio::test(start_paused = true)]
async fn small_endpoints_answer() {
    let w = World::new(options()).await;
    for (path, status) in [
        ("/", 200),
        ("/health", 200),
        ("/master/health", 200),
        ("/redirect", 307),
        ("/master/redirect", 307),
        ("/nothing", 404),
        ("/redirect/x", 404),
    ] {
        assert_eq!(w.get(path).await.0, status, "{path}");
    }
    let redirect = Request::get("/redirect").body(Full::default()).unwrap();
    assert_eq!(w.request(redirect).await.headers()["location"], "//localhost:5050");
    let post = Request::post("/state").body(Full::default()).unwrap();
    assert_eq!(w.request(post).await.status(), 405);
}

#[tokio::test(start_paused = true)]
async fn operator_calls_answer_under_both_paths() {
    let w = World::new(options()).await;
    let (s, _) = w.framework(info()).await;
    let call = async |path: &str, call: Value| {
        let request = Request::post(path).header("content-type", "application/json");
        text_of(w.request(request.body(Full::new(Bytes::from(call.to_string()))).unwrap()).await).await
    };
    for path in ["/api/v1", "/master/api/v1", "/api/v1/operator"] {
        let (status, body) = call(path, json!({"type": "GET_HEALTH"})).await;
        let want = json!({"type": "GET_HEALTH", "get_health": {"healthy": true}});
        assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, want));
    }
    for kind in [
        "GET_VERSION",
        "GET_STATE",
        "GET_AGENTS",
        "GET_FRAMEWORKS",
        "GET_TASKS",
        "GET_ROLES",
        "GET_MASTER",
        "GET_METRICS",
    ] {
        let (status, body) = call("/api/v1", json!({"type": kind})).await;
        assert_eq!(status, 200, "{kind}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(body[kind.to_ascii_lowercase()].is_object(), "{kind}");
    }
    assert_eq!(call("/api/v1", json!({"type": "MARK_AGENT_GONE"})).await.0, 400);
    assert_eq!(call("/api/v1", json!({"type": "DO_MAGIC"})).await.0, 400);
    assert_eq!(call("/api/v1", json!({})).await.0, 400);
    let teardown = json!({"type": "TEARDOWN", "teardown": {"framework_id": {"value": s.id}}});
    assert_eq!(call("/api/v1", teardown.clone()).await.0, 200);
    assert_eq!(call("/api/v1", teardown).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_site_cannot_use_an_open_door() {
    let w = World::new(options()).await;
    let status = async |headers: &[(&str, &str)]| {
        let mut request = Request::get("/state").header("host", "127.0.0.1:5050");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        w.request(request.body(Full::default()).unwrap()).await.status().as_u16()
    };
    for (headers, want) in [
        (&[][..], 200),
        (&[("sec-fetch-site", "none")], 200),
        (&[("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:5050")], 200),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("origin", "https://example.com")], 403),
        (&[("origin", "http://127.0.0.1:8080")], 403),
        (&[("origin", "null")], 403),
    ] {
        assert_eq!(status(headers).await, want, "{headers:?}");
    }
}
