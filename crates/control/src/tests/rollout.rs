//! Deployments from the first pod to the last.

use super::{Cluster, deployment, run};
use serde_json::{Value, json};

fn condition(d: &Value, kind: &str) -> String {
    let all = d["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|c| c["type"] == kind).cloned().unwrap_or_default();
    format!(
        "{} {}",
        found["status"].as_str().unwrap_or_default(),
        found["reason"].as_str().unwrap_or_default()
    )
}

/// Rolled out, as `kubectl rollout status` judges it.
fn is_out(c: &Cluster, name: &str, replicas: i64) -> bool {
    let Some(d) = c.get("deployments", "default", name) else { return false };
    let count = |f: &str| d["status"][f].as_i64().unwrap_or(0);
    d["status"]["observedGeneration"] == d["metadata"]["generation"]
        && [count("replicas"), count("updatedReplicas"), count("readyReplicas"), count("availableReplicas")]
            == [replicas; 4]
        && condition(&d, "Progressing") == "True NewReplicaSetAvailable"
        && condition(&d, "Available") == "True MinimumReplicasAvailable"
}

async fn cluster() -> Cluster {
    let c = Cluster::new().await;
    c.pretend_agents();
    c.node("n1", "8").await;
    c.node("n2", "8").await;
    c
}

fn images(c: &Cluster) -> Vec<String> {
    let mut all: Vec<String> =
        c.list("pods", "default").iter().map(|p| p["spec"]["containers"][0]["image"].to_string()).collect();
    all.sort();
    all
}

#[test]
fn a_deployment_rolls_out_scales_updates_and_goes_back() {
    run(async {
        let c = cluster().await;
        c.create("deployments", "default", deployment("web", 3, "a")).await;
        c.until("the rollout", |c| is_out(c, "web", 3)).await;
        assert_eq!(c.list("replicasets", "default").len(), 1);
        c.until("events", |c| {
            c.reasons("web").iter().any(|r| {
                r.starts_with("ScalingReplicaSet Scaled up replica set web-") && r.ends_with(" from 0 to 3")
            })
        })
        .await;

        c.modify("deployments", "default", "web", "", |d| d["spec"]["replicas"] = json!(5)).await;
        c.until("more", |c| is_out(c, "web", 5)).await;

        c.modify("deployments", "default", "web", "", |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
        })
        .await;
        c.until("the update", |c| is_out(c, "web", 5) && images(c) == vec!["\"b\""; 5]).await;
        let d = c.get("deployments", "default", "web").expect("it is there");
        assert_eq!(d["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");

        // Undo, as kubectl does it: the old template is written back.
        c.modify("deployments", "default", "web", "", |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a");
        })
        .await;
        c.until("the way back", |c| is_out(c, "web", 5) && images(c) == vec!["\"a\""; 5]).await;
        c.until("the revision", |c| {
            let d = c.get("deployments", "default", "web").unwrap_or_default();
            d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
        })
        .await;
        assert_eq!(c.list("replicasets", "default").len(), 2, "the old set was found again");
    });
}

#[test]
fn recreate_lets_no_old_pod_meet_a_new_one() {
    run(async {
        let c = cluster().await;
        let mut d = deployment("db", 3, "a");
        d["spec"]["strategy"] = json!({"type": "Recreate"});
        c.create("deployments", "default", d).await;
        c.until("the rollout", |c| is_out(c, "db", 3)).await;
        let store = c.registry.store().clone();
        let mut watch = store.watch("/registry/core/pods/", store.revision()).expect("a watch");
        c.modify("deployments", "default", "db", "", |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
        })
        .await;
        c.until("the update", |c| is_out(c, "db", 3) && images(c) == vec!["\"b\""; 3]).await;
        let mut old = 3;
        while let Ok(Some(batch)) = watch.try_next() {
            for event in &batch.events {
                let pod: Value = serde_json::from_slice(&event.value).expect("JSON");
                match (event.kind, pod["spec"]["containers"][0]["image"].as_str()) {
                    (stoa_store::EventKind::Delete, Some("a")) => old -= 1,
                    (stoa_store::EventKind::Put, Some("b")) => assert_eq!(old, 0),
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn a_paused_deployment_waits_and_a_stuck_one_says_so() {
    run(async {
        let c = cluster().await;
        c.create("deployments", "default", deployment("web", 2, "a")).await;
        c.until("the rollout", |c| is_out(c, "web", 2)).await;
        c.modify("deployments", "default", "web", "", |d| {
            d["spec"]["paused"] = json!(true);
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
        })
        .await;
        c.until("the pause", |c| {
            condition(&c.get("deployments", "default", "web").unwrap_or_default(), "Progressing")
                == "Unknown DeploymentPaused"
        })
        .await;
        assert_eq!(c.list("replicasets", "default").len(), 1);
        c.modify("deployments", "default", "web", "", |d| d["spec"]["paused"] = json!(false)).await;
        c.until("the update", |c| is_out(c, "web", 2) && images(c) == vec!["\"b\""; 2]).await;

        let mut stuck = deployment("stuck", 1, "a");
        stuck["spec"]["progressDeadlineSeconds"] = json!(1);
        stuck["spec"]["template"]["spec"]["nodeSelector"] = json!({"no": "where"});
        c.create("deployments", "default", stuck).await;
        c.until("the deadline", |c| {
            condition(&c.get("deployments", "default", "stuck").unwrap_or_default(), "Progressing")
                == "False ProgressDeadlineExceeded"
        })
        .await;
    });
}
