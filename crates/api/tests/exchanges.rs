//! What a stock server answered to a series of requests, and what this one answers to the same, in the same order.

#![allow(clippy::unwrap_used)]

mod common;
use common::{Server, Who};
use serde_json::{Value, json};

/// Exchanges of the recording that this server is not meant to answer alike, and why.
const SKIPPED: [(&str, &str); 11] = [
    ("crd", "custom resources are not served yet"),
    ("custom resource, defaulting and pruning", "custom resources are not served yet"),
    ("custom resource, rule violated", "custom resources are not served yet"),
    ("custom resource, schema violated", "custom resources are not served yet"),
    ("custom resource, minimum violated", "custom resources are not served yet"),
    ("custom resource, strict unknown field", "custom resources are not served yet"),
    ("list too old", "a young store has not forgotten revision 1; an old one has"),
    ("service, minimal", "the recorded cluster's address range was another"),
    ("binding", "the recorded cluster had a scheduler that bound the pod before"),
    ("binding twice", "as above"),
    ("bound pod", "as above"),
];

/// How many of those not skipped must match. Raise it with the code; never lower it.
const MATCHES_MIN: usize = 96;

struct Difference {
    name: String,
    what: String,
}

#[tokio::test]
async fn a_stock_servers_answers_are_ours() {
    let s = Server::start().await;
    s.namespace("facts").await;
    let text = include_str!("../testdata/exchanges.jsonl");
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut same = 0;
    let mut differences = Vec::new();
    for row in &rows {
        let name = row["name"].as_str().unwrap();
        let request = &row["request"];
        let body = request.get("body").map(Value::to_string).unwrap_or_default();
        let content = request["contentType"].as_str();
        let headers: Vec<(&str, &str)> = content.map(|c| ("content-type", c)).into_iter().collect();
        let (method, path) = (request["method"].as_str().unwrap(), request["path"].as_str().unwrap());
        let reply = s.send(Who::Admin, method, path, &headers, body).await;
        if SKIPPED.iter().any(|(n, _)| *n == name) {
            continue;
        }
        match difference(row, reply.code, reply.json()) {
            None => same += 1,
            Some(what) => differences.push(Difference { name: name.to_string(), what }),
        }
    }
    let report: String = differences.iter().map(|d| format!("{}: {}\n", d.name, d.what)).collect();
    println!("{same} of {} alike\n{report}", same + differences.len());
    assert!(same >= MATCHES_MIN, "{same} alike; these differ:\n{report}");
}

/// The first difference, if there is one.
fn difference(row: &Value, code: u16, mut found: Value) -> Option<String> {
    let mut wanted = row["response"].clone();
    if row["status"] != code {
        return Some(format!("code {code}, not {}: {found}", row["status"]));
    }
    if let Some(meta) = found["metadata"].as_object_mut() {
        meta.remove("managedFields");
    }
    for value in [&mut wanted, &mut found] {
        if value["kind"] == "Deployment" {
            // The recorded cluster's controller had begun to write it.
            value["status"].take();
        }
        normalize("", value);
    }
    compare("", &wanted, &found)
}

fn compare(path: &str, wanted: &Value, found: &Value) -> Option<String> {
    match (wanted, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|k| match (a.get(k), b.get(k)) {
                (Some(x), Some(y)) => compare(&format!("{path}.{k}"), x, y),
                (x, y) => Some(format!("{path}.{k}: want {}, found {}", shown(x), shown(y))),
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (x, y))| compare(&format!("{path}[{i}]"), x, y))
        }
        (a, b) if a == b => None,
        (a, b) => Some(format!("{path}: want {a}, found {b}")),
    }
}

fn shown(v: Option<&Value>) -> String {
    v.map_or("nothing".to_string(), Value::to_string)
}

/// Replaces what can never be the same twice: times, identities, revisions, drawn names and addresses.
fn normalize(key: &str, value: &mut Value) {
    const DRAWN: [&str; 8] = [
        "clusterIPs",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "token",
        "expirationTimestamp",
        "clusterIP",
    ];
    match value {
        Value::Object(map) => {
            // The recorded cluster had a deployment controller, which writes this.
            map.remove("deployment.kubernetes.io/revision");
            for (k, v) in map.iter_mut() {
                normalize(k, v);
            }
            map.retain(|k, v| k != "annotations" || *v != json!({}));
        }
        Value::Array(list) => {
            for v in list.iter_mut() {
                normalize(key, v);
            }
        }
        Value::String(text) => {
            let drawn = DRAWN.contains(&key) || key.ends_with("controller-uid");
            let placeholder = text.starts_with('<') && text.ends_with('>');
            if placeholder || is_time(text) || (drawn && text != "None") {
                *text = "·".into();
            } else if let Some(at) = text.find("kube-api-access-") {
                text.truncate(at + "kube-api-access-".len());
            } else if key == "name" && text.starts_with("gn-") {
                *text = "gn-".into();
            } else if text.contains("in record (") || text.contains("Too large resource version") {
                let cut = text.find("in record (").or_else(|| text.find("current:")).unwrap_or(text.len());
                text.truncate(cut);
            }
        }
        Value::Number(_) if key == "nodePort" => *value = json!(0),
        _ => {}
    }
}

fn is_time(text: &str) -> bool {
    stoa_units::Time::parse(text).is_some()
}
