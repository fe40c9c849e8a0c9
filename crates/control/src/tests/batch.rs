//! Jobs, cron jobs' children, budgets, quotas and claims, driven by the service.

use super::{Cluster, deployment, find, run};
use serde_json::{Value, json};
use stoa_registry::{Context, Target};

fn names(c: &Cluster, phase: &str) -> Vec<String> {
    let pods = c.list("pods", "default").into_iter().filter(|p| p["status"]["phase"] == phase);
    pods.map(|p| p["metadata"]["name"].as_str().unwrap_or_default().to_string()).collect()
}

fn is(object: &Value, kind: &str) -> bool {
    let all = object["status"]["conditions"].as_array();
    all.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}

async fn evict(c: &Cluster, pod: &str) -> Result<(), u16> {
    let target = Target::new(find("pods"), "default", pod).sub("eviction");
    let eviction = json!({"metadata": {"name": pod}});
    let done = c.registry.evict(&Context::system("test"), target, eviction).await;
    done.map(|_| ()).map_err(|s| s.code())
}

#[test]
fn a_job_runs_to_its_end_and_its_pods_are_let_go() {
    run(async {
        let c = Cluster::new().await;
        c.pretend_agents();
        c.node("n1", "8").await;
        let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 6, "parallelism": 3,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
        c.create("jobs", "default", job).await;
        for round in 1..=2 {
            c.until("three pods", |c| names(c, "Running").len() == 3).await;
            for name in names(&c, "Running") {
                c.modify("pods", "default", &name, "status", |p| p["status"]["phase"] = json!("Succeeded"))
                    .await;
            }
            c.until("their count", |c| {
                c.get("jobs", "default", "j").is_some_and(|j| j["status"]["succeeded"] == 3 * round)
            })
            .await;
        }
        c.until("its end", |c| c.get("jobs", "default", "j").is_some_and(|j| is(&j, "Complete"))).await;
        let pods = c.list("pods", "default");
        assert_eq!(pods.len(), 6);
        assert!(pods.iter().all(|p| p["metadata"]["finalizers"].is_null()));
        c.until("the news", |c| c.reasons("j").iter().any(|r| r == "Completed Job completed")).await;
        c.delete("jobs", "default", "j", Some(stoa_registry::Propagation::Background)).await;
        c.until("nothing left", |c| c.list("pods", "default").is_empty()).await;
    });
}

#[test]
fn a_budget_follows_its_pods_and_an_eviction_heeds_it() {
    run(async {
        let c = Cluster::new().await;
        c.pretend_agents();
        c.node("n1", "8").await;
        c.create("deployments", "default", deployment("web", 2, "a")).await;
        let budget = json!({"metadata": {"name": "b"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
        c.create("poddisruptionbudgets", "default", budget).await;
        let allowed = |c: &Cluster| {
            let b = c.get("poddisruptionbudgets", "default", "b").unwrap_or_default();
            (b["status"]["currentHealthy"].clone(), b["status"]["disruptionsAllowed"].clone())
        };
        c.until("both to be healthy", |c| allowed(c) == (json!(2), json!(1))).await;
        c.create("nodes", "", json!({"metadata": {"name": "n2"}})).await;
        let pods = names(&c, "Running");
        assert_eq!(evict(&c, &pods[0]).await, Ok(()));
        assert_eq!(evict(&c, &pods[1]).await, Err(429));
        c.until("the replacement to be healthy", |c| allowed(c) == (json!(2), json!(1))).await;
    });
}

#[test]
fn quotas_are_counted_and_claims_let_go() {
    run(async {
        let c = Cluster::new().await;
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "9", "persistentvolumeclaims": "3"}}});
        c.create("resourcequotas", "default", quota).await;
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}});
        c.create("persistentvolumeclaims", "default", claim).await;
        let used = |c: &Cluster, what: &str| {
            c.get("resourcequotas", "default", "q").unwrap_or_default()["status"]["used"][what].clone()
        };
        c.until("the count", |c| used(c, "persistentvolumeclaims") == "1" && used(c, "configmaps") == "1")
            .await;
        c.delete("persistentvolumeclaims", "default", "data", None).await;
        c.until("the claim's end", |c| c.get("persistentvolumeclaims", "default", "data").is_none()).await;
        c.until("the count after it", |c| used(c, "persistentvolumeclaims") == "0").await;
        c.create("configmaps", "default", json!({"metadata": {"name": "one"}})).await;
        c.until("the next count", |c| used(c, "configmaps") == "2").await;
    });
}

#[test]
fn endpoints_of_both_forms_follow_a_service() {
    run(async {
        let c = Cluster::new().await;
        c.pretend_agents();
        c.node("n1", "8").await;
        c.create("deployments", "default", deployment("web", 2, "a")).await;
        let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
        c.create("services", "default", service).await;
        let count = |c: &Cluster| {
            let ready = |e: &&Value| e["conditions"]["ready"] == true;
            let slices = c.list("endpointslices", "default");
            let ours =
                slices.iter().filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "web");
            let slices: usize =
                ours.map(|s| s["endpoints"].as_array().into_iter().flatten().filter(ready).count()).sum();
            let legacy = c.get("endpoints", "default", "web").unwrap_or_default();
            (slices, legacy["subsets"][0]["addresses"].as_array().map_or(0, Vec::len))
        };
        c.until("both pods", |c| count(c) == (2, 2)).await;
        c.delete("deployments", "default", "web", None).await;
        c.until("no pod", |c| count(c) == (0, 0)).await;
        c.delete("services", "default", "web", None).await;
        c.until("nothing left", |c| {
            c.get("endpoints", "default", "web").is_none()
                && c.list("endpointslices", "default").iter().all(|s| s["metadata"]["name"] == "kubernetes")
        })
        .await;
    });
}
