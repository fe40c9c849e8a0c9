//! The operator's calls: each is made, and what it changes is seen where tools look for it.

use super::fixture::*;
use crate::Options;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use std::sync::Arc;
use stoa_authz::Acls;
use stoa_mesos::recordio::Decoder;

async fn call(w: &World, kind: &str, part: Value) -> (u16, Value) {
    let mut call = json!({"type": kind});
    call[kind.to_ascii_lowercase()] = part;
    let request = Request::post("/api/v1").header("content-type", "application/json");
    let (status, text) =
        text_of(w.request(request.body(Full::new(call.to_string().into())).unwrap()).await).await;
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, value)
}

async fn done(w: &World, kind: &str, part: Value) {
    let (status, body) = call(w, kind, part).await;
    assert!(status == 200 || status == 202, "{kind}: {status} {body}");
}

async fn get(w: &World, kind: &str) -> Value {
    let (status, mut body) = call(w, kind, json!({})).await;
    assert_eq!(status, 200, "{kind}: {body}");
    assert_eq!(body["type"], kind);
    body[kind.to_ascii_lowercase()].take()
}

async fn form(w: &World, path: &str, body: &str) -> u16 {
    let request = Request::post(path).body(Full::new(Bytes::from(body.to_string()))).unwrap();
    w.request(request).await.status().as_u16()
}

fn cpus(n: f64, role: &str) -> Value {
    json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": n},
        "reservations": [{"type": "DYNAMIC", "role": role, "principal": "ops"}]})
}

fn multi(roles: &[&str]) -> Value {
    json!({"user": "root", "name": "m", "failover_timeout": 3600, "roles": roles,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}, {"type": "PARTITION_AWARE"}]})
}

#[tokio::test(start_paused = true)]
async fn every_read_out_answers_in_its_own_name() {
    let w = World::new(options()).await;
    let (_s, _) = w.framework(info()).await;
    for kind in [
        "GET_HEALTH",
        "GET_FLAGS",
        "GET_VERSION",
        "GET_METRICS",
        "GET_LOGGING_LEVEL",
        "GET_STATE",
        "GET_AGENTS",
        "GET_FRAMEWORKS",
        "GET_EXECUTORS",
        "GET_OPERATIONS",
        "GET_TASKS",
        "GET_ROLES",
        "GET_WEIGHTS",
        "GET_MASTER",
        "GET_MAINTENANCE_STATUS",
        "GET_MAINTENANCE_SCHEDULE",
        "GET_QUOTA",
    ] {
        assert!(get(&w, kind).await.is_object(), "{kind}");
    }
    for path in [
        "/state",
        "/state-summary",
        "/slaves",
        "/frameworks",
        "/tasks",
        "/roles",
        "/weights",
        "/quota",
        "/metrics/snapshot",
        "/flags",
        "/version",
        "/maintenance/schedule",
        "/maintenance/status",
        "/registrar(1)/registry",
        "/allocator/offer_constraints_debug",
        "/files/debug",
    ] {
        for alias in
            [path.to_string(), format!("/master{path}"), format!("{path}/"), format!("/master{path}.json")]
        {
            w.get_json(&alias).await;
        }
    }
    let (status, body) = call(&w, "TEARDOWN", Value::Null).await;
    assert_eq!(
        (status, body),
        (400, "Failed to validate master::Call: Expecting 'teardown' to be present".into())
    );
}

#[tokio::test(start_paused = true)]
async fn weights_are_kept_and_offers_of_the_old_shares_come_back() {
    let mut w = World::new(options()).await;
    let (mut s, offers) = w.framework(multi(&["web"])).await;
    done(&w, "UPDATE_WEIGHTS", json!({"weight_infos": [{"role": "web", "weight": 2.5}]})).await;
    let rescinded = s.expect("RESCIND").await;
    assert_eq!(rescinded["offer_id"], offers["offers"][0]["id"]);
    s.expect("OFFERS").await;
    w.restart();
    assert_eq!(get(&w, "GET_WEIGHTS").await, json!({"weight_infos": [{"role": "web", "weight": 2.5}]}));
    assert_eq!(w.get_json("/weights").await, json!([{"role": "web", "weight": 2.5}]));
    for bad in [json!({"role": "web", "weight": 0}), json!({"role": "a b", "weight": 1})] {
        assert_eq!(call(&w, "UPDATE_WEIGHTS", json!({"weight_infos": [bad]})).await.0, 400);
    }
}

#[tokio::test(start_paused = true)]
async fn quota_limits_what_a_role_is_offered() {
    let w = World::new(options()).await;
    let limit = |cpus: f64| json!({"quota_configs": [{"role": "web", "limits": {"cpus": {"value": cpus}}}]});
    done(&w, "UPDATE_QUOTA", limit(1.5)).await;
    let (mut s, offers) = w.framework(multi(&["web"])).await;
    assert_eq!(offers["offers"][0]["resources"][0]["scalar"]["value"], 1.5);
    assert_eq!(get(&w, "GET_QUOTA").await["status"]["configs"][0]["limits"]["cpus"]["value"], 1.5);
    let roles = w.get_json("/roles").await;
    assert_eq!(roles["roles"][0]["quota"]["limit"], json!({"cpus": 1.5}));
    s.launch(&w, &offers, vec![task("t", "a1", 1.0)]).await;
    let (status, why) = call(&w, "UPDATE_QUOTA", limit(0.5)).await;
    assert_eq!(status, 400, "{why}");
    assert!(why.as_str().unwrap().contains("already consuming"), "{why}");
    let huge = json!({"quota_configs": [{"role": "ops", "guarantees": {"cpus": {"value": 100}}}]});
    assert_eq!(call(&w, "UPDATE_QUOTA", huge.clone()).await.0, 400);
    let mut forced = huge;
    forced["force"] = true.into();
    done(&w, "UPDATE_QUOTA", forced).await;
    done(&w, "REMOVE_QUOTA", json!({"role": "ops"})).await;
    assert_eq!(call(&w, "REMOVE_QUOTA", json!({"role": "ops"})).await.0, 400);
    let old = json!({"quota_request": {"role": "db", "guarantee": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}]}});
    done(&w, "SET_QUOTA", old).await;
    let quota = w.get_json("/quota").await;
    assert_eq!(quota["infos"][0]["guarantee"][0]["scalar"]["value"], 1.0, "{quota}");
    let removed = w.request(Request::delete("/quota/db").body(Full::default()).unwrap()).await;
    assert_eq!(removed.status(), 200);
    drop(s.told(&w, "TASK_STAGING"));
}

#[tokio::test(start_paused = true)]
async fn an_operator_reserves_what_is_only_offered() {
    let mut w = World::new(options()).await;
    let (mut s, _) = w.framework(info()).await;
    let part = json!({"agent_id": {"value": "a1"}, "resources": [cpus(3.0, "web")]});
    assert_eq!(call(&w, "RESERVE_RESOURCES", part.clone()).await.0, 202);
    s.expect("RESCIND").await;
    let offers = s.expect("OFFERS").await;
    assert_eq!(offers["offers"][0]["resources"][0]["scalar"]["value"], 1.0, "the rest is for everybody");
    w.restart();
    let slave = w.get_json("/slaves").await["slaves"][0].clone();
    assert_eq!(slave["reserved_resources"]["web"]["cpus"], 3.0, "{slave}");
    assert_eq!(slave["unreserved_resources"]["cpus"], 1.0);
    assert_eq!(slave["reserved_resources_full"]["web"][0]["reservations"][0]["principal"], "ops");
    let (_web, offers) = w.framework(multi(&["web"])).await;
    let listed = offers["offers"][0]["resources"].as_array().unwrap();
    let reserved = listed.iter().find(|r| r["reservations"].is_array()).unwrap();
    assert_eq!(reserved["reservations"][0]["role"], "web");
    assert_eq!(reserved["allocation_info"]["role"], "web");
    let (status, why) = call(&w, "RESERVE_RESOURCES", part.clone()).await;
    assert_eq!(status, 409, "{why}");
    assert_eq!(call(&w, "UNRESERVE_RESOURCES", part).await.0, 202);
    assert_eq!(w.get_json("/slaves").await["slaves"][0]["reserved_resources"], json!({}));
    let list = serde_json::to_string(&json!([cpus(1.0, "db")])).unwrap().replace('"', "%22");
    assert_eq!(form(&w, "/reserve", &format!("slaveId=a1&resources={list}")).await, 202);
    assert_eq!(form(&w, "/unreserve", &format!("slaveId=a1&resources={list}")).await, 202);
    assert_eq!(form(&w, "/reserve", "resources=[]").await, 400);
    assert_eq!(form(&w, "/reserve", &format!("slaveId=nowhere&resources={list}")).await, 400);
}

#[tokio::test(start_paused = true)]
async fn a_framework_reserves_makes_a_volume_and_hears_of_it() {
    let mut w = World::new(options()).await;
    let (mut s, offers) = w.framework(multi(&["web"])).await;
    let disk = |volume: bool| {
        let mut r = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 64},
            "reservations": [{"type": "DYNAMIC", "role": "web"}]});
        if volume {
            r["disk"] =
                json!({"persistence": {"id": "v1"}, "volume": {"container_path": "data", "mode": "RW"}});
        }
        r
    };
    let mut t = task("t1", "a1", 1.0);
    t["resources"].as_array_mut().unwrap().push(disk(true));
    let accept = json!({"type": "ACCEPT", "accept": {"offer_ids": [offers["offers"][0]["id"]], "operations": [
        {"type": "RESERVE", "id": {"value": "op1"}, "reserve": {"resources": [disk(false)]}},
        {"type": "CREATE", "id": {"value": "op2"}, "create": {"volumes": [disk(true)]}},
        {"type": "UNRESERVE", "id": {"value": "op3"}, "unreserve": {"resources": [disk(false)]}},
        {"type": "LAUNCH", "launch": {"task_infos": [t]}}], "filters": {"refuse_seconds": 0}}});
    s.call(&w, accept).await;
    let mut states = vec![];
    for _ in 0..3 {
        let status = s.expect("UPDATE_OPERATION_STATUS").await["status"].clone();
        states.push((status["operation_id"]["value"].clone(), status["state"].clone()));
        if status["uuid"].is_object() {
            assert_eq!(get(&w, "GET_OPERATIONS").await["operations"].as_array().unwrap().len(), 2);
        }
    }
    states.sort_by_key(|(id, _)| id.to_string());
    let want = [("op1", "OPERATION_FINISHED"), ("op2", "OPERATION_FINISHED"), ("op3", "OPERATION_ERROR")];
    assert_eq!(states, want.map(|(i, s)| (json!(i), json!(s))));
    // The volume is not offered while it is used, and is again when the task has ended, even by another master.
    let volumes = |offers: &Value| {
        let all = offers["offers"][0]["resources"].as_array().unwrap().clone();
        all.into_iter().filter(|r| r["disk"].is_object()).count()
    };
    assert_eq!(volumes(&s.expect("OFFERS").await), 0);
    w.report_running("t1").await;
    w.restart();
    let mut again = multi(&["web"]);
    again["id"] = json!({"value": s.id});
    let mut s = w.subscribe(again).await;
    let offers = loop {
        let event = s.next().await;
        if event["type"] == "OFFERS" {
            break event["offers"].clone();
        }
    };
    assert_eq!(volumes(&offers), 0, "{offers}");
    w.report_exit("t1", 0).await;
    let mut seen = 0;
    for _ in 0..8 {
        let event = s.next().await;
        if event["type"] == "OFFERS" {
            seen = volumes(&event["offers"]);
            if seen > 0 {
                break;
            }
        }
    }
    assert_eq!(seen, 1);
}

#[tokio::test(start_paused = true)]
async fn maintenance_is_announced_asked_about_and_done() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    let machine = json!({"hostname": "host-1", "ip": "10.0.0.1"});
    let schedule =
        json!({"windows": [{"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 5}}}]});
    assert_eq!(call(&w, "START_MAINTENANCE", json!({"machines": [machine]})).await.0, 400, "not scheduled");
    done(&w, "UPDATE_MAINTENANCE_SCHEDULE", json!({"schedule": schedule})).await;
    assert_eq!(w.get_json("/maintenance/schedule").await, schedule);
    let inverse = loop {
        let event = s.next().await;
        if event["type"] == "INVERSE_OFFERS" {
            break event["inverse_offers"]["inverse_offers"][0].clone();
        }
    };
    assert_eq!(inverse["unavailability"]["start"]["nanoseconds"], 5);
    assert_eq!(inverse["agent_id"]["value"], "a1");
    s.call(&w, json!({"type": "DECLINE_INVERSE_OFFERS", "decline_inverse_offers": {"inverse_offer_ids": [inverse["id"]],
        "filters": {"refuse_seconds": 1e9}}})).await;
    let status = get(&w, "GET_MAINTENANCE_STATUS").await;
    assert_eq!(status["status"]["draining_machines"][0]["statuses"][0]["status"], "DECLINE", "{status}");
    done(&w, "START_MAINTENANCE", json!({"machines": [machine]})).await;
    assert_eq!(get(&w, "GET_MAINTENANCE_STATUS").await["status"]["down_machines"], json!([machine]));
    assert_eq!(w.node("a1")["spec"]["unschedulable"], true);
    assert!(w.pod_of("t1")["metadata"]["deletionTimestamp"].is_string(), "what runs there ends");
    assert_eq!(form(&w, "/machine/up", &json!([machine]).to_string()).await, 200);
    assert!(w.node("a1")["spec"].get("unschedulable").is_none());
    assert_eq!(w.get_json("/maintenance/schedule").await, json!({"windows": []}));
}

#[tokio::test(start_paused = true)]
async fn a_drained_agent_is_emptied_and_comes_back_when_it_is_told_to() {
    let mut w = World::new(options()).await;
    let (mut s, offers) = w.framework(aware()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    let agent = json!({"agent_id": {"value": "a1"}});
    assert_eq!(call(&w, "REACTIVATE_AGENT", agent.clone()).await.0, 400);
    let mut part = agent.clone();
    part["max_grace_period"] = "1s".into();
    done(&w, "DRAIN_AGENT", part).await;
    let info = |w: &Value| w["agents"][0]["drain_info"]["state"].clone();
    assert_eq!(info(&get(&w, "GET_AGENTS").await), "DRAINING");
    w.restart();
    let mut again = aware();
    again["id"] = json!({"value": s.id});
    let mut s = w.subscribe(again).await;
    s.expect("SUBSCRIBED").await;
    s.id = offers["offers"][0]["framework_id"]["value"].as_str().unwrap().into();
    assert_eq!(call(&w, "REACTIVATE_AGENT", agent.clone()).await.0, 400, "still draining");
    let pod = w.pod_of("t1");
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 1, "{pod}");
    w.report_exit("t1", 143).await;
    let status = s.told(&w, "TASK_KILLED").await;
    assert_eq!(status["reason"], "REASON_AGENT_DRAINING");
    w.settle().await;
    let agents = get(&w, "GET_AGENTS").await;
    assert_eq!(info(&agents), "DRAINED");
    assert_eq!(agents["agents"][0]["deactivated"], true);
    done(&w, "REACTIVATE_AGENT", agent).await;
    assert!(get(&w, "GET_AGENTS").await["agents"][0].get("drain_info").is_none());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_declared_gone_takes_its_tasks_with_it() {
    let w = World::new(options()).await;
    let (mut s, offers) = w.framework(aware()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    s.told(&w, "TASK_STARTING").await;
    s.told(&w, "TASK_RUNNING").await;
    let agent = json!({"agent_id": {"value": "a1"}});
    assert_eq!(call(&w, "MARK_AGENT_GONE", json!({"agent_id": {"value": "x"}})).await.0, 404);
    done(&w, "MARK_AGENT_GONE", agent.clone()).await;
    let status = s.told(&w, "TASK_GONE_BY_OPERATOR").await;
    assert_eq!(status["reason"], "REASON_AGENT_REMOVED_BY_OPERATOR");
    done(&w, "MARK_AGENT_GONE", agent).await;
    let ask = json!({"type": "RECONCILE", "reconcile": {"tasks": [{"task_id": {"value": "?"}, "agent_id": {"value": "a1"}}]}});
    s.call(&w, ask).await;
    assert_eq!(s.update().await["state"], "TASK_GONE_BY_OPERATOR");
}

#[tokio::test(start_paused = true)]
async fn the_event_stream_begins_with_everything_and_goes_on_with_changes() {
    let w = World::new(options()).await;
    let request = Request::post("/api/v1/operator").header("content-type", "application/json");
    let response = w.request(request.body(Full::new(r#"{"type":"SUBSCRIBE"}"#.into())).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("mesos-stream-id"));
    let (mut body, mut decoder) = (response.into_body(), Decoder::default());
    let mut kinds: Vec<String> = vec![];
    let (s, offers) = w.framework(info()).await;
    s.launch(&w, &offers, vec![task("t1", "a1", 1.0)]).await;
    w.report_running("t1").await;
    w.create_pod(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a1", "containers": [{"name": "c", "image": "x"}]}})).await;
    w.add_agent("a2").await;
    w.settle().await;
    s.call(&w, json!({"type": "TEARDOWN"})).await;
    w.settle().await;
    while !kinds.iter().any(|k| k == "FRAMEWORK_REMOVED") {
        match decoder.next_record().unwrap() {
            Some(record) => {
                let event: Value = serde_json::from_slice(&record).unwrap();
                let kind = event["type"].as_str().unwrap().to_string();
                if kind == "SUBSCRIBED" {
                    assert_eq!(
                        event["subscribed"]["get_state"]["get_agents"]["agents"][0]["agent_info"]["hostname"],
                        "host-1"
                    );
                }
                if kind == "TASK_UPDATED" {
                    assert_eq!(event["task_updated"]["framework_id"]["value"], s.id.as_str(), "{event}");
                }
                if kinds.last() != Some(&kind) {
                    kinds.push(kind);
                }
            }
            None => decoder.push(body.frame().await.unwrap().unwrap().data_ref().unwrap()),
        }
    }
    assert_eq!(&kinds[..3], ["SUBSCRIBED", "HEARTBEAT", "FRAMEWORK_ADDED"]);
    for kind in ["TASK_ADDED", "TASK_UPDATED", "AGENT_ADDED"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind} in {kinds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_is_a_file_and_its_level_reverts() {
    let w = World::new(options()).await;
    done(&w, "SET_LOGGING_LEVEL", json!({"level": 2, "duration": {"nanoseconds": 60_000_000_000i64}})).await;
    assert_eq!(get(&w, "GET_LOGGING_LEVEL").await["level"], 2);
    w.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(get(&w, "GET_LOGGING_LEVEL").await["level"], 0);
    assert_eq!(form(&w, "/logging/toggle?level=1&duration=10secs", "").await, 200);
    assert_eq!(get(&w, "GET_LOGGING_LEVEL").await["level"], 1);
    let (status, files) = call(&w, "LIST_FILES", json!({"path": "/master"})).await;
    assert_eq!((status, files["list_files"]["file_infos"][0]["path"].as_str()), (200, Some("/master/log")));
    let (_, read) = call(&w, "READ_FILE", json!({"path": "/master/log", "offset": 0})).await;
    assert!(read["read_file"]["size"].as_u64().unwrap() > 20, "{read}");
    assert_eq!(call(&w, "READ_FILE", json!({"path": "/etc/passwd", "offset": 0})).await.0, 404);
    assert_eq!(w.get_json("/files/read?path=/master/log&offset=-1").await["data"], "");
    let text = w.get_json("/files/read.json?path=/master/log&offset=0").await["data"].to_string();
    assert!(text.contains("SET_LOGGING_LEVEL"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn acls_decide_over_every_call() {
    let acls = json!({"permissive": false,
        "register_frameworks": [{"principals": {"type": "ANY"}, "roles": {"values": ["*"]}}],
        "run_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["nobody"]}}],
        "get_endpoints": [{"principals": {"type": "ANY"}, "paths": {"type": "ANY"}}]});
    let acls = Arc::new(Acls::parse(&acls).unwrap());
    let w = World::new(Options { acls, ..options() }).await;
    let mut refused = w.subscribe(multi(&["web"])).await;
    assert_eq!(refused.expect("ERROR").await["message"], "Not authorized to use role 'web'");
    let (mut s, offers) = w.framework(info()).await;
    let mut good = task("good", "a1", 1.0);
    good["command"]["user"] = "nobody".into();
    s.launch(&w, &offers, vec![task("bad", "a1", 1.0), good]).await;
    let status = s.update().await;
    assert_eq!(
        (status["state"].as_str(), status["reason"].as_str()),
        (Some("TASK_ERROR"), Some("REASON_TASK_UNAUTHORIZED"))
    );
    w.pod_of("good");
    let (mut g, offers) = w.framework(info()).await;
    let group = json!({"type": "LAUNCH_GROUP", "launch_group": {
        "executor": {"type": "DEFAULT", "executor_id": {"value": "g"}, "framework_id": {"value": g.id}},
        "task_group": {"tasks": [task("in-group", "a1", 0.5)]}}});
    g.accept(&w, &offers, vec![group]).await;
    let status = g.update().await;
    assert_eq!(status["reason"], "REASON_TASK_GROUP_UNAUTHORIZED", "{status}");
    let agent = json!({"value": "a1"});
    for (kind, part) in [
        ("UPDATE_WEIGHTS", json!({"weight_infos": [{"role": "a", "weight": 1}]})),
        ("UPDATE_QUOTA", json!({"quota_configs": [{"role": "a"}]})),
        ("RESERVE_RESOURCES", json!({"agent_id": agent, "resources": [cpus(1.0, "web")]})),
        ("UNRESERVE_RESOURCES", json!({"agent_id": agent, "resources": [cpus(1.0, "web")]})),
        ("CREATE_VOLUMES", json!({"agent_id": agent, "volumes": [cpus(1.0, "web")]})),
        ("DESTROY_VOLUMES", json!({"agent_id": agent, "volumes": [cpus(1.0, "web")]})),
        ("DRAIN_AGENT", json!({"agent_id": agent})),
        ("DEACTIVATE_AGENT", json!({"agent_id": agent})),
        ("REACTIVATE_AGENT", json!({"agent_id": agent})),
        ("MARK_AGENT_GONE", json!({"agent_id": agent})),
        ("SET_LOGGING_LEVEL", json!({"level": 1, "duration": "5s"})),
        ("LIST_FILES", json!({"path": "/"})),
        ("READ_FILE", json!({"path": "/master/log"})),
        ("TEARDOWN", json!({"framework_id": {"value": s.id}})),
        (
            "UPDATE_MAINTENANCE_SCHEDULE",
            json!({"schedule": {"windows": [{"machine_ids": [{"hostname": "h"}],
            "unavailability": {"start": {"nanoseconds": 1}}}]}}),
        ),
        ("START_MAINTENANCE", json!({"machines": [{"hostname": "h"}]})),
        ("STOP_MAINTENANCE", json!({"machines": [{"hostname": "h"}]})),
    ] {
        assert_eq!(call(&w, kind, part).await.0, 403, "{kind}");
    }
    // What may not be seen is not there.
    let state = w.get_json("/state").await;
    assert_eq!(state["frameworks"], json!([]));
    assert_eq!(get(&w, "GET_TASKS").await["tasks"], json!([]));
    assert_eq!(get(&w, "GET_FLAGS").await["flags"], json!([]));
    assert_eq!(get(&w, "GET_ROLES").await["roles"], json!([]));
    assert_eq!(get(&w, "GET_FRAMEWORKS").await["frameworks"], json!([]));
    assert_eq!(get(&w, "GET_EXECUTORS").await["executors"], json!([]));
    assert_eq!(get(&w, "GET_WEIGHTS").await["weight_infos"], json!([]));
    assert_eq!(get(&w, "GET_QUOTA").await["status"]["infos"], json!([]));
    assert_eq!(w.get_json("/tasks").await["tasks"], json!([]));
    assert_eq!(w.get_json("/roles").await["roles"], json!([]));
    assert_eq!(w.get("/flags").await.0, 403);
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_show_all_are_judged_by_their_path_and_no_others() {
    let acls = json!({"get_endpoints": [{"principals": {"type": "ANY"}, "paths": {"type": "NONE"}}]});
    let acls = Arc::new(Acls::parse(&acls).unwrap());
    let w = World::new(Options { acls, ..options() }).await;
    for (path, status) in [
        ("/metrics/snapshot", 403),
        ("/files/debug", 403),
        ("/logging/toggle", 403),
        ("/state", 200),
        ("/slaves", 200),
        ("/tasks?limit=-1", 200),
    ] {
        assert_eq!(w.get(path).await.0, status, "{path}");
    }
}
