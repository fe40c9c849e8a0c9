//! Nodes that are lost, cordoned and removed.

use super::{Cluster, deployment, run};
use serde_json::{Value, json};

fn taints(c: &Cluster, node: &str) -> Vec<String> {
    let node = c.get("nodes", "", node).unwrap_or_default();
    let text = |t: &Value| {
        format!("{}:{}", t["key"].as_str().unwrap_or_default(), t["effect"].as_str().unwrap_or_default())
    };
    node["spec"]["taints"].as_array().into_iter().flatten().map(text).collect()
}

#[test]
fn a_lost_node_is_tainted_its_pods_are_not_ready_and_leave() {
    run(async {
        let c = Cluster::new().await;
        c.pretend_agents();
        c.node("n1", "8").await;
        let mut d = deployment("web", 2, "a");
        // Pods that tolerate the loss of their node for no time at all.
        d["spec"]["template"]["spec"]["tolerations"] = json!([
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}]);
        c.create("deployments", "default", d).await;
        c.create(
            "pods",
            "default",
            json!({"metadata": {"name": "patient"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
        )
        .await;
        let running = |c: &Cluster, n: &str| {
            c.list("pods", "default")
                .iter()
                .filter(|p| p["spec"]["nodeName"] == n && p["status"]["phase"] == "Running")
                .count()
        };
        c.until("pods", |c| running(c, "n1") == 3).await;
        c.node("n2", "8").await;
        c.modify("nodes", "", "n1", "status", |n| {
            n["status"]["conditions"] = json!([{"type": "Ready", "status": "Unknown"}])
        })
        .await;
        c.until("taints", |c| {
            taints(c, "n1")
                == ["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]
        })
        .await;
        c.until("the move", |c| running(c, "n2") == 2).await;
        c.until("unreadiness", |c| {
            let pod = c.get("pods", "default", "patient").unwrap_or_default();
            let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            all.iter().any(|x| x["type"] == "Ready" && x["status"] == "False")
        })
        .await;
        c.until("no offers of it", |c| !c.ledger.lock().is_active(&"n1".into())).await;
        c.modify("nodes", "", "n1", "status", |n| {
            n["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}])
        })
        .await;
        c.until("recovery", |c| taints(c, "n1").is_empty() && c.ledger.lock().is_active(&"n1".into())).await;
        c.modify("nodes", "", "n1", "", |n| n["spec"]["unschedulable"] = json!(true)).await;
        c.until("the cordon", |c| taints(c, "n1") == ["node.kubernetes.io/unschedulable:NoSchedule"]).await;
    });
}
