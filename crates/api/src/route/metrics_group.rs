//! `metrics.k8s.io`: what nodes and pods use now, for `kubectl top` and for autoscalers. Nothing of it is stored: each read asks
//! the agents for their figures, those of a moment ago serving whoever asks next.

use super::node_proxy;
use crate::negotiate::{self, Include, View};
use crate::request::{RequestInfo, ResourcePath};
use crate::respond::{Answer, value};
use crate::state::State;
use crate::table;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stoa_kube::{Resource, Status, reason};
use stoa_registry::{ListOptions, Selection};
use stoa_units::{Quantity, Time};
use tokio::time::Instant;

/// The group.
pub(super) const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
/// Agents asked at once.
const ASKED_MAX: usize = 32;
/// Figures younger than this are given out again.
const FRESH: Duration = Duration::from_secs(5);
/// What a rate is the mean of: agents sample at this pace.
const WINDOW: &str = "10s";

/// Figures of nodes, kept for a moment.
#[derive(Default)]
pub(crate) struct Figures(parking_lot::Mutex<HashMap<String, (Instant, Arc<Value>)>>);

/// The group's resources.
pub(crate) fn resources() -> &'static [Resource] {
    static ALL: OnceLock<Vec<Resource>> = OnceLock::new();
    ALL.get_or_init(|| {
        let one = |plural, kind, list_kind, singular, namespaced| Resource {
            group: GROUP,
            version: VERSION,
            plural,
            kind,
            list_kind,
            singular,
            namespaced,
            short_names: &[],
            categories: &[],
            verbs: &["get", "list"],
            subresources: &[],
            storage: GROUP,
            storage_version: VERSION,
        };
        vec![
            one("nodes", "NodeMetrics", "NodeMetricsList", "", false),
            one("pods", "PodMetrics", "PodMetricsList", "", true),
        ]
    })
}

/// Answers a read of the group.
pub(super) async fn answer(
    state: &State,
    path: &ResourcePath,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Result<Answer, Status> {
    let known = resources().iter().find(|r| path.version == VERSION && r.plural == path.resource);
    let resource = known.ok_or_else(Status::unknown_path)?;
    if !path.subresource.is_empty() || !resource.namespaced && !path.namespace.is_empty() {
        return Err(Status::unknown_path());
    }
    if !resource.verbs.contains(&info.verb.as_str()) {
        return Err(Status::method_not_allowed());
    }
    let accepted = negotiate::accept(headers)?;
    let include = negotiate::include(info.query.text("includeObject"))?;
    let body = match resource.plural {
        "nodes" => nodes(state, path, info).await?,
        _ => pods(state, path, info).await?,
    };
    let is_list = path.name.is_empty();
    let shown = match accepted.view {
        View::Object | View::Discovery => body,
        View::Table => table(&body, include),
        View::Partial if !is_list => table::partial_of(body),
        View::PartialList if is_list => partial_list(body),
        View::Partial => {
            return Err(Status::not_so(
                "PartialObjectMetadata",
                &format!("is a list (*metrics.{})", resource.list_kind),
            ));
        }
        View::PartialList => {
            return Err(Status::not_so(
                "PartialObjectMetadataList",
                &format!("is not a list (*metrics.{})", resource.kind),
            ));
        }
    };
    Ok(value(200, accepted.encoding, &shown))
}

fn partial_list(mut list: Value) -> Value {
    let items: Vec<Value> = match list["items"].take() {
        Value::Array(items) => items.into_iter().map(table::partial_of).collect(),
        _ => Vec::new(),
    };
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": items})
}

/// What there is of an object's usage; of a pod's containers, the sum.
fn usage_of(object: &Value) -> BTreeMap<&str, Quantity> {
    let containers = object["containers"].as_array().into_iter().flatten();
    let parts = containers.map(|c| &c["usage"]).chain([&object["usage"]]);
    let mut out = BTreeMap::new();
    for (name, amount) in parts.filter_map(Value::as_object).flatten() {
        let Some(amount) = amount.as_str().and_then(|text| Quantity::parse(text).ok()) else { continue };
        let sum = match out.get(name.as_str()) {
            Some(before) => amount.plus(before),
            None => amount,
        };
        out.insert(name.as_str(), sum);
    }
    out
}

/// A column for each thing that is used, as metrics-server has them: without a row there are none.
fn table(body: &Value, include: Include) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let objects: Vec<&Value> = match body["items"].as_array() {
        Some(items) => items.iter().collect(),
        None => vec![body],
    };
    let names: Vec<&str> =
        objects.first().map(|first| usage_of(first).into_keys().collect()).unwrap_or_default();
    let mut columns = Vec::new();
    if !objects.is_empty() {
        columns.push(column("Name", "name", "Name of the resource"));
        columns.extend(names.iter().map(|name| column(name, "quantity", "")));
        columns.push(column("Window", "duration", ""));
    }
    let rows = objects.iter().map(|object| {
        let usage = usage_of(object);
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend(
            names.iter().map(|name| Value::from(usage.get(name).map_or("0".into(), Quantity::to_string))),
        );
        cells.push(object["window"].clone());
        let mut row = json!({ "cells": cells });
        match include {
            Include::None => {}
            Include::Metadata => row["object"] = table::partial_of((*object).clone()),
            Include::Object => row["object"] = (*object).clone(),
        }
        row
    });
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns,
        "rows": rows.collect::<Vec<_>>()})
}

fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items})
}

fn not_found(resource: &str, name: &str) -> Status {
    Status::failure(404, reason::NOT_FOUND, format!("{resource}.{GROUP} {name:?} not found"))
}

/// Which of the stored objects the request selects.
fn selection(
    resource: &'static Resource,
    path: &ResourcePath,
    info: &RequestInfo,
) -> Result<Selection, Status> {
    let q = &info.query;
    let name = match path.name.as_str() {
        "" => q.text("fieldSelector").to_string(),
        name => format!("metadata.name={name}"),
    };
    Selection::parse(resource, q.text("labelSelector"), &name)
}

/// Stored objects that are selected.
async fn select(
    state: &State,
    resource: &'static Resource,
    namespace: &str,
    selection: Selection,
) -> Result<Vec<Value>, Status> {
    let options = ListOptions { selection, ..ListOptions::default() };
    let list = state.registry.list(resource, namespace, &options).await?;
    Ok(list.entries.iter().filter_map(|e| serde_json::from_slice(&e.value).ok()).collect())
}

fn stored(plural: &str) -> Result<&'static Resource, Status> {
    stoa_kube::resources().find("", "v1", plural).ok_or_else(Status::unknown_path)
}

/// The figures of some nodes, by name.
async fn figures(state: &State, nodes: Vec<String>) -> HashMap<String, Arc<Value>> {
    let asks = nodes.into_iter().map(|node| async move {
        let kept =
            state.figures.0.lock().get(&node).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, v)| v.clone());
        if let Some(kept) = kept {
            return Some((node, kept));
        }
        let text = node_proxy::read(state, &node, "stats/summary").await?;
        let parsed: Arc<Value> = Arc::new(serde_json::from_slice(&text).ok()?);
        let mut all = state.figures.0.lock();
        all.retain(|_, (at, _)| at.elapsed() < FRESH);
        all.insert(node.clone(), (Instant::now(), parsed.clone()));
        Some((node, parsed))
    });
    stream::iter(asks).buffer_unordered(ASKED_MAX).filter_map(std::future::ready).collect().await
}

/// CPU and memory as the group writes them; none before there is a rate.
fn usage(of: &Value) -> Option<Value> {
    let cpu = of["cpu"]["usageNanoCores"].as_u64()?;
    let memory = of["memory"]["workingSetBytes"].as_u64()?;
    let canonical = |text: String| Quantity::parse(&text).map_or(text, |q| q.to_string());
    Some(json!({"cpu": canonical(format!("{cpu}n")), "memory": canonical(format!("{}Ki", memory / 1024))}))
}

fn head(kind: &str, of: &Value, stamp: &Value, now: Time) -> Value {
    let mut metadata = json!({"name": of["metadata"]["name"], "creationTimestamp": now.to_rfc3339_seconds()});
    for field in ["namespace", "labels"] {
        if !of["metadata"][field].is_null() {
            metadata[field] = of["metadata"][field].clone();
        }
    }
    json!({"kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata, "timestamp": stamp, "window": WINDOW})
}

async fn nodes(state: &State, path: &ResourcePath, info: &RequestInfo) -> Result<Value, Status> {
    let resource = stored("nodes")?;
    let nodes = select(state, resource, "", selection(resource, path, info)?).await?;
    let names = nodes.iter().filter_map(|n| n["metadata"]["name"].as_str().map(String::from)).collect();
    let figures = figures(state, names).await;
    let now = state.registry.clock().now();
    let mut items: Vec<Value> = nodes
        .iter()
        .filter_map(|node| {
            let summary = &figures.get(node["metadata"]["name"].as_str()?)?["node"];
            let mut out = head("NodeMetrics", node, &summary["cpu"]["time"], now);
            out["usage"] = usage(summary)?;
            Some(out)
        })
        .collect();
    if path.name.is_empty() {
        return Ok(list("NodeMetricsList", items));
    }
    items.pop().ok_or_else(|| not_found("nodes", &path.name))
}

async fn pods(state: &State, path: &ResourcePath, info: &RequestInfo) -> Result<Value, Status> {
    let selection = selection(stored("pods")?, path, info)?;
    let mut items = usage_of_pods(state, &path.namespace, selection).await?;
    if path.name.is_empty() {
        return Ok(list("PodMetricsList", items));
    }
    items.pop().ok_or_else(|| not_found("pods", &format!("{}/{}", path.namespace, path.name)))
}

/// What selected pods use, those of which it is known.
pub(crate) async fn usage_of_pods(
    state: &State,
    namespace: &str,
    selection: Selection,
) -> Result<Vec<Value>, Status> {
    let pods = select(state, stored("pods")?, namespace, selection).await?;
    let mut names: Vec<String> =
        pods.iter().filter_map(|p| p["spec"]["nodeName"].as_str().map(String::from)).collect();
    names.sort();
    names.dedup();
    let figures = figures(state, names).await;
    let by_uid: HashMap<&str, &Value> = figures
        .values()
        .flat_map(|s| s["pods"].as_array().into_iter().flatten())
        .filter_map(|p| Some((p["podRef"]["uid"].as_str()?, p)))
        .collect();
    let now = state.registry.clock().now();
    let of = |pod: &Value| pod_metrics(pod, by_uid.get(pod["metadata"]["uid"].as_str()?)?, now);
    Ok(pods.iter().filter_map(of).collect())
}

fn pod_metrics(pod: &Value, figures: &Value, now: Time) -> Option<Value> {
    let containers = figures["containers"].as_array()?;
    // A pod of which one container has no rate yet would seem to use less than it does.
    let parts: Vec<Value> = containers
        .iter()
        .map(|c| usage(c).map(|u| json!({"name": c["name"], "usage": u})))
        .collect::<Option<_>>()?;
    let mut out = head("PodMetrics", pod, &containers.first()?["cpu"]["time"], now);
    out["containers"] = parts.into();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_become_quantities_and_none_are_made_up() {
        let part = |name: &str| json!({"name": name, "cpu": {"time": "t", "usageNanoCores": 1_500_000}, "memory": {"workingSetBytes": 2048}});
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}}});
        let whole = json!({"containers": [part("a"), part("b")]});
        let out = pod_metrics(&pod, &whole, Time::EPOCH).unwrap();
        assert_eq!(out["containers"][1], json!({"name": "b", "usage": {"cpu": "1500u", "memory": "2Ki"}}));
        assert_eq!((&out["metadata"]["labels"]["a"], &out["timestamp"]), (&json!("b"), &json!("t")));
        let list = list("PodMetricsList", vec![out.clone()]);
        let shown = table(&list, Include::Metadata);
        let heads: Vec<&Value> =
            shown["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
        assert_eq!(heads, ["Name", "cpu", "memory", "Window"]);
        assert_eq!(shown["rows"][0]["cells"], json!(["p", "3m", "4Ki", "10s"]));
        assert_eq!(shown["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        let mut said = list.clone();
        said["items"][0]["timestamp"] = "2026-01-02T03:04:05Z".into();
        let read = stoa_kube::protobuf::decode(&stoa_kube::protobuf::encode(&said).unwrap()).unwrap();
        assert_eq!(read["items"][0]["containers"], said["items"][0]["containers"]);
        assert_eq!(read["items"][0]["window"], "10s");
        let fresh = json!({"containers": [part("a"), {"name": "b", "cpu": {"time": "t"}, "memory": {"workingSetBytes": 1}}]});
        assert!(pod_metrics(&pod, &fresh, Time::EPOCH).is_none());
    }
}
