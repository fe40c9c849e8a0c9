//! Evictions against disruption budgets.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::{Resource, Status, resources};
use stoa_registry::{Context, DeleteOptions, Options, Registry, Target};
use stoa_store::Key;
use stoa_units::SystemClock;

struct Stage {
    registry: Arc<Registry>,
    ctx: Context,
}

fn find(group: &str, plural: &str) -> &'static Resource {
    resources().find(group, "v1", plural).unwrap()
}

impl Stage {
    async fn new() -> Stage {
        let store = stoa_store::memory(stoa_store::Options::default());
        let registry = Registry::new(store, Arc::new(SystemClock), Options::default());
        registry.bootstrap().await.unwrap();
        let stage = Stage { registry, ctx: Context::system("test") };
        stage.create("", "serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        stage
    }

    async fn create(&self, group: &str, plural: &str, object: Value) {
        let target = Target::new(find(group, plural), "default", "");
        self.registry.create(&self.ctx, target, object).await.unwrap();
    }

    async fn status(&self, group: &str, plural: &str, name: &str, status: Value) {
        let target = Target::new(find(group, plural), "default", name).sub("status");
        let set = |v: &mut Value| {
            let fields = status.as_object().cloned().unwrap_or_default();
            fields.into_iter().for_each(|(k, f)| v["status"][k] = f);
            Ok(())
        };
        self.registry.modify(&self.ctx, target, set).await.unwrap();
    }

    /// A pod on a node that no agent looks after: it lingers when it is deleted.
    async fn pod(&self, name: &str, phase: &str, ready: &str) {
        let pod = json!({"metadata": {"name": name, "labels": {"app": "a"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
        self.create("", "pods", pod).await;
        let status = json!({"phase": phase, "conditions": [{"type": "Ready", "status": ready}]});
        self.status("", "pods", name, status).await;
    }

    async fn evict(&self, name: &str, mut body: Value) -> Result<Vec<String>, Status> {
        let target = Target::new(find("", "pods"), "default", name).sub("eviction");
        if body["metadata"].is_null() {
            body["metadata"] = json!({"name": name});
        }
        self.registry.evict(&self.ctx, target, body).await
    }

    fn get(&self, group: &str, plural: &str, name: &str) -> Value {
        let entry = self.registry.store().get(&Key::object(group, plural, "default", name));
        entry.map(|e| serde_json::from_slice(&e.value).unwrap()).unwrap_or_default()
    }

    fn is_leaving(&self, name: &str) -> bool {
        !self.get("", "pods", name)["metadata"]["deletionTimestamp"].is_null()
    }
}

fn budget(policy: Option<&str>) -> Value {
    json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "unhealthyPodEvictionPolicy": policy,
        "selector": {"matchLabels": {"app": "a"}}}})
}

#[tokio::test]
async fn an_eviction_spends_the_budget_and_tells_the_pod_why() {
    let s = Stage::new().await;
    s.create("policy", "poddisruptionbudgets", budget(None)).await;
    for name in ["p0", "p1"] {
        s.pod(name, "Running", "True").await;
    }
    let unseen = s.evict("p0", json!({})).await.unwrap_err();
    assert_eq!((unseen.code(), unseen.retry_after_seconds()), (429, Some(10)));
    let seen = json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1,
        "expectedPods": 2});
    s.status("policy", "poddisruptionbudgets", "b", seen).await;
    let named = s.evict("p0", json!({"metadata": {"name": "p9"}})).await.unwrap_err();
    assert_eq!(named.code(), 400);
    let odd = s.evict("p0", json!({"deleteOptions": {"propagationPolicy": "Sideways"}})).await.unwrap_err();
    assert_eq!(odd.code(), 422);
    s.evict("p0", json!({"deleteOptions": {"dryRun": ["All"]}})).await.unwrap();
    assert!(!s.is_leaving("p0"));
    assert_eq!(s.get("policy", "poddisruptionbudgets", "b")["status"]["disruptionsAllowed"], 1);
    s.evict("p0", json!({"metadata": {"name": "p0"}})).await.unwrap();
    assert!(s.is_leaving("p0"));
    let conditions = s.get("", "pods", "p0")["status"]["conditions"].clone();
    assert!(
        conditions.as_array().unwrap().iter().any(|c| c["reason"] == "EvictionByEvictionAPI"),
        "{conditions}"
    );
    let status = s.get("policy", "poddisruptionbudgets", "b")["status"].clone();
    assert_eq!(status["disruptionsAllowed"], 0);
    assert_eq!(status["conditions"][0]["reason"], "InsufficientPods", "{status}");
    assert!(status["disruptedPods"]["p0"].is_string());
    let refused = s.evict("p1", json!({})).await.unwrap_err();
    assert_eq!(refused.code(), 429);
    assert_eq!(refused.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = json!(refused.details.unwrap().causes);
    assert_eq!(cause[0]["message"], "The disruption budget b does not allow evicting pods currently");
    // One that leaves anyway costs nothing.
    s.evict("p0", json!({})).await.unwrap();
}

#[tokio::test]
async fn pods_that_are_not_ready_go_as_the_budget_says() {
    for (policy, healthy, phase, goes) in [
        (None, 1, "Running", true),
        (None, 0, "Running", false),
        (Some("IfHealthyBudget"), 0, "Running", false),
        (Some("AlwaysAllow"), 0, "Running", true),
        (None, 0, "Pending", true),
        (None, 0, "Failed", true),
    ] {
        let s = Stage::new().await;
        s.create("policy", "poddisruptionbudgets", budget(policy)).await;
        let status = json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": healthy,
            "desiredHealthy": 1, "expectedPods": 1});
        s.status("policy", "poddisruptionbudgets", "b", status).await;
        s.pod("p", phase, "False").await;
        let done = s.evict("p", json!({})).await;
        assert_eq!(done.is_ok(), goes, "{policy:?} {healthy} {phase}");
    }
}

#[tokio::test]
async fn two_budgets_over_one_pod_are_too_many() {
    let s = Stage::new().await;
    s.create("policy", "poddisruptionbudgets", budget(None)).await;
    let mut other = budget(None);
    other["metadata"]["name"] = json!("c");
    s.create("policy", "poddisruptionbudgets", other).await;
    s.pod("p", "Running", "True").await;
    let refused = s.evict("p", json!({})).await.unwrap_err();
    assert_eq!((refused.code(), &*refused.reason), (500, ""));
    assert_eq!(
        refused.message,
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    assert!(!s.is_leaving("p"));
    let target = Target::new(find("", "pods"), "default", "p");
    s.registry.delete(&s.ctx, target, &DeleteOptions::now()).await.unwrap();
}

#[tokio::test]
async fn a_budget_that_allows_nothing_says_why() {
    let condition = |reason: &str, message: &str| {
        json!([{"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    };
    let broken = "The disruption budget b does not allow evicting pods currently: ";
    let cases = [
        (
            json!({"currentHealthy": 1}),
            429,
            "The disruption budget b needs 1 healthy pods and has 1 currently",
        ),
        (
            json!({"currentHealthy": 1, "conditions": condition("SyncFailed", "no such scale")}),
            429,
            "The disruption budget b does not allow evicting pods currently because it failed sync: no such scale",
        ),
        (
            json!({"currentHealthy": 2, "conditions": condition("Paused", "by hand")}),
            429,
            "The disruption budget b does not allow evicting pods currently (Paused): by hand",
        ),
        (
            json!({"disruptedPods": (0..2001).map(|i| (format!("p{i}"), json!("2026-01-01T00:00:00Z"))).collect::<serde_json::Map<_, _>>(),
                "disruptionsAllowed": 1}),
            403,
            &format!("{broken}too many pending evictions not confirmed by PDB controller"),
        ),
    ];
    for (status, code, why) in cases {
        let s = Stage::new().await;
        s.create("policy", "poddisruptionbudgets", budget(None)).await;
        let seen =
            json!({"observedGeneration": 1, "disruptionsAllowed": 0, "desiredHealthy": 1, "expectedPods": 1});
        s.status("policy", "poddisruptionbudgets", "b", seen).await;
        s.status("policy", "poddisruptionbudgets", "b", status).await;
        s.pod("p", "Running", "True").await;
        let refused = s.evict("p", json!({})).await.unwrap_err();
        assert_eq!(refused.code(), code, "{}", refused.message);
        assert_eq!(refused.details.unwrap().causes[0].message, why);
        assert!(!s.is_leaving("p"));
    }
}

#[tokio::test]
async fn an_eviction_is_of_the_pod_that_was_meant() {
    let s = Stage::new().await;
    s.pod("p", "Running", "True").await;
    let meta = s.get("", "pods", "p")["metadata"].clone();
    let refused = |field: &str, value: Value| {
        let options = json!({"preconditions": {field: value}});
        let s = &s;
        async move { s.evict("p", json!({"deleteOptions": options})).await.unwrap_err() }
    };
    let other = refused("uid", json!("other")).await;
    assert_eq!(other.code(), 409);
    assert!(
        other.message.starts_with(
            "Operation cannot be fulfilled on Pod \"p\": the UID in the precondition (other) does not match"
        ),
        "{}",
        other.message
    );
    let older = refused("resourceVersion", json!("1")).await;
    assert!(older.message.contains("the ResourceVersion in the precondition (1)"), "{}", older.message);
    assert_eq!(s.get("", "pods", "p")["metadata"], meta, "nothing was told to a pod that was not meant");
    let bad = s.evict("p", json!({"deleteOptions": {"propagationPolicy": "Never"}})).await.unwrap_err();
    assert_eq!(bad.code(), 422);
    let now = s.get("", "pods", "p")["metadata"].clone();
    let same = json!({"uid": now["uid"], "resourceVersion": now["resourceVersion"]});
    s.evict("p", json!({"deleteOptions": {"preconditions": same}})).await.unwrap();
    assert!(s.is_leaving("p"));
    s.pod("waiting", "Pending", "False").await;
    let options = json!({"preconditions": {"uid": "other"}});
    let other = s.evict("waiting", json!({"deleteOptions": options})).await.unwrap_err();
    assert!(other.message.contains("the UID in the precondition (other)"), "{}", other.message);
    let gone = s.evict("q", json!({})).await.unwrap_err();
    assert_eq!((gone.code(), gone.message.as_str()), (404, "pods \"q\" not found"));
}
