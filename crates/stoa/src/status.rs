//! `stoa status`: one page about the cluster as its own API sees it.

use crate::cli::Status;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::printer;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Serialize)]
struct Node {
    name: String,
    ready: String,
    version: String,
    pods: usize,
}

#[derive(Serialize)]
struct Report {
    cluster: String,
    version: String,
    nodes: Vec<Node>,
    pods: BTreeMap<String, usize>,
    tasks: usize,
}

pub async fn run(options: Status) -> Result<()> {
    let cluster = Cluster::find(&options.data.data_dir)?.with_context(|| {
        format!("{} holds no cluster\nhint: start one with `stoa up`", options.data.data_dir.display())
    })?;
    let client = Client::from_kubeconfig(&cluster.kubeconfig())?;
    let version = client.get("/version").await?;
    let nodes = client.get("/api/v1/nodes").await?;
    let pods = client.get("/api/v1/pods").await?;
    let report = report(&cluster.id, &version, &nodes, &pods);
    printer::print(options.output.output, &report, render)
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map_or(&[], Vec::as_slice)
}

fn text(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

fn report(id: &str, version: &Value, nodes: &Value, pods: &Value) -> Report {
    let mut phases = BTreeMap::new();
    let mut tasks = 0;
    for pod in items(pods) {
        *phases.entry(text(&pod["status"]["phase"])).or_insert(0) += 1;
        tasks += usize::from(!pod["metadata"]["labels"]["stoa.dev/framework-id"].is_null());
    }
    let node = |n: &Value| {
        let name = text(&n["metadata"]["name"]);
        let conditions = n["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
        Node {
            ready: conditions
                .iter()
                .find(|c| c["type"] == "Ready")
                .map_or("Unknown".into(), |c| text(&c["status"])),
            version: text(&n["status"]["nodeInfo"]["kubeletVersion"]),
            pods: items(pods).iter().filter(|p| p["spec"]["nodeName"] == name.as_str()).count(),
            name,
        }
    };
    Report {
        cluster: id.to_string(),
        version: text(&version["gitVersion"]),
        nodes: items(nodes).iter().map(node).collect(),
        pods: phases,
        tasks,
    }
}

fn render(r: &Report) -> String {
    let rows: Vec<Vec<String>> = r
        .nodes
        .iter()
        .map(|n| vec![n.name.clone(), n.ready.clone(), n.pods.to_string(), n.version.clone()])
        .collect();
    let mut out = format!("cluster {} · {}\n\n", r.cluster, r.version);
    out += &printer::table(&["NODE", "READY", "PODS", "VERSION"], &rows);
    out.push('\n');
    let total: usize = r.pods.values().sum();
    // Writing into a String cannot fail.
    let _ = write!(out, "{total} pods, {} of them Mesos tasks", r.tasks);
    for (phase, n) in &r.pods {
        let _ = write!(out, " · {n} {phase}");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_report_counts_what_runs_where() {
        let nodes = json!({"items": [{"metadata": {"name": "n1"}, "status": {
            "conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}}}]});
        let pod = |phase: &str, task: bool| {
            let labels = if task { json!({"stoa.dev/framework-id": "f"}) } else { json!({}) };
            json!({"metadata": {"labels": labels}, "spec": {"nodeName": "n1"}, "status": {"phase": phase}})
        };
        let pods = json!({"items": [pod("Running", false), pod("Running", true), pod("Pending", false)]});
        let r = report("abc", &json!({"gitVersion": "v1.36"}), &nodes, &pods);
        assert_eq!((r.tasks, r.nodes[0].pods, r.pods["Running"]), (1, 3, 2));
        assert!(render(&r).contains("3 pods, 1 of them Mesos tasks · 1 Pending · 2 Running"));
    }
}
