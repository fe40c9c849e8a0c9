//! Watches over TLS.

#![allow(clippy::unwrap_used)]

mod common;
use common::Server;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/t/configmaps";

fn map(name: &str, label: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"l": label}}})
}

#[tokio::test]
async fn a_watch_from_nowhere_begins_with_what_exists() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, map("a", "1")).await;
    let mut events = s.watch(&format!("{MAPS}?watch=1&allowWatchBookmarks=true")).await;
    assert_eq!(events.short().await, "ADDED a");
    let bookmark = events.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    s.post(MAPS, map("b", "1")).await;
    assert_eq!(events.short().await, "ADDED b");
    s.merge(&format!("{MAPS}/b"), json!({"data": {"x": "y"}})).await;
    assert_eq!(events.short().await, "MODIFIED b");
    s.delete(&format!("{MAPS}/b")).await;
    let gone = events.next().await.unwrap();
    assert_eq!((gone["type"].as_str(), gone["object"]["data"]["x"].as_str()), (Some("DELETED"), Some("y")));
}

#[tokio::test]
async fn a_watch_after_a_revision_misses_and_repeats_nothing() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, map("a", "1")).await;
    let list = s.get(MAPS).await.json();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    s.post(MAPS, map("b", "1")).await;
    s.delete(&format!("{MAPS}/a")).await;
    let mut events = s.watch(&format!("{MAPS}?watch=1&resourceVersion={revision}")).await;
    assert_eq!(events.short().await, "ADDED b");
    assert_eq!(events.short().await, "DELETED a");
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, map("a", "no")).await;
    let mut events = s.watch(&format!("{MAPS}?watch=1&labelSelector=l%3Dyes")).await;
    s.merge(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"l": "yes"}}})).await;
    assert_eq!(events.short().await, "ADDED a");
    let left = s.merge(&format!("{MAPS}/a"), json!({"metadata": {"labels": {"l": "no"}}})).await.json();
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["labels"]["l"], "yes", "as it was last known");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_watch_of_one_name_sees_no_namesakes() {
    let s = Server::start().await;
    s.namespace("t").await;
    let mut events = s.watch(&format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Da")).await;
    s.post(MAPS, map("ab", "1")).await;
    s.post(MAPS, map("a", "1")).await;
    assert_eq!(events.short().await, "ADDED a");
}

#[tokio::test]
async fn a_revision_that_is_gone_is_an_error_event_and_a_410() {
    let s = Server::start().await;
    s.namespace("t").await;
    for i in 0..5 {
        s.post(MAPS, map(&format!("c{i}"), "1")).await;
    }
    let page = s.get(&format!("{MAPS}?limit=1")).await.json();
    s.post(MAPS, map("late", "1")).await;
    let store = s.registry.store();
    store.compact(store.revision()).await.unwrap();
    let mut events = s.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)), "{event}");
    assert!(events.next().await.is_none());
    let exact = s.get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")).await;
    assert_eq!((exact.code, &exact.json()["reason"]), (410, &json!("Expired")));
    let token = page["metadata"]["continue"].as_str().unwrap();
    let old = s.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!(old.code, 410);
    let on = old.json()["metadata"]["continue"].as_str().unwrap().to_string();
    assert_eq!(s.get(&format!("{MAPS}?continue={on}")).await.json()["items"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn watches_end_by_their_timeout_and_by_the_doors_closing() {
    let s = Server::start().await;
    s.namespace("t").await;
    let mut short = s.watch(&format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    assert_eq!(short.short().await, "end");
    let mut long = s.watch(&format!("{MAPS}?watch=1")).await;
    s.stop();
    assert_eq!(long.short().await, "end");
}

#[tokio::test]
async fn initial_events_need_their_match_rule() {
    let s = Server::start().await;
    s.namespace("t").await;
    for (query, code) in [
        ("watch=1&sendInitialEvents=true", 422),
        ("watch=1&resourceVersionMatch=NotOlderThan", 422),
        ("watch=1&resourceVersion=x", 400),
    ] {
        assert_eq!(s.get(&format!("{MAPS}?{query}")).await.code, code, "{query}");
    }
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = s.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(events.short().await, "BOOKMARK ");
}

#[tokio::test]
async fn a_watched_table_names_its_columns_once() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, map("a", "1")).await;
    s.post(MAPS, map("b", "1")).await;
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let reply = s.send(common::Who::Admin, "GET", &path, &headers, "").await;
    let lines: Vec<Value> = reply
        .bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0]["object"]["columnDefinitions"].is_array());
    assert!(lines[1]["object"]["columnDefinitions"].is_null());
    assert_eq!(lines[1]["object"]["rows"][0]["cells"][0], "b");
}
