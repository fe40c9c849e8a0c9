//! Binding, claims, offers in the way, restarts.

use super::{Cluster, run};
use crate::{NoOffers, Rescinder};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use stoa_ledger::{Holder, Ledger};
use stoa_store::Key;
use stoa_units::{AgentId, OfferId, Resources};
use tokio_util::sync::CancellationToken;

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
}

fn node_of(c: &Cluster, name: &str) -> Option<String> {
    c.get("pods", "default", name)?["spec"]["nodeName"].as_str().map(String::from)
}

#[test]
fn a_pod_that_fits_nowhere_says_why_and_is_placed_once_there_is_room() {
    run(async {
        let c = Cluster::new().await;
        c.node("n1", "1").await;
        // What a pod waits for at first is told as one series, whatever it comes to later.
        c.until("a node without taints", |c| {
            c.get("nodes", "", "n1").is_some_and(|n| n["spec"]["taints"].as_array().is_none_or(Vec::is_empty))
        })
        .await;
        c.create("pods", "default", pod("big", "2")).await;
        let why = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        c.until("the reason", |c| {
            let p = c.get("pods", "default", "big").unwrap_or_default();
            p["status"]["conditions"].as_array().is_some_and(|all| {
                all.iter().any(|x| {
                    x["type"] == "PodScheduled"
                        && x["status"] == "False"
                        && x["reason"] == "Unschedulable"
                        && x["message"] == why
                })
            }) && c.reasons("big").contains(&format!("FailedScheduling {why}"))
        })
        .await;
        c.node("n2", "4").await;
        c.until("the place", |c| node_of(c, "big").as_deref() == Some("n2")).await;
        c.until("the event", |c| {
            c.reasons("big").contains(&"Scheduled Successfully assigned default/big to n2".to_string())
        })
        .await;
        let claim = c
            .ledger
            .lock()
            .claim_of(&Holder::Pod(stoa_units::NamespacedName::new("default", "big")))
            .expect("a claim");
        assert_eq!((claim.amount.milli_cpu, claim.amount.pods), (2_000, 1));
        let key = Key::internal("claims", "n2");
        c.until("the claims key", |c| {
            let stored = c.registry.store().get(&key).map(|e| e.modified);
            stored == Some(c.ledger.lock().revision(&AgentId::from("n2")))
        })
        .await;
    });
}

#[test]
fn many_pods_are_bound_and_no_node_is_over_committed() {
    run(async {
        let c = Cluster::idle().await;
        for n in 0..5 {
            c.node(&format!("n{n}"), "4").await;
        }
        for i in 0..250 {
            c.create("pods", "default", pod(&format!("p{i}"), "100m")).await;
        }
        c.start(Arc::new(NoOffers));
        let bound = |c: &Cluster| {
            c.list("pods", "default").iter().filter(|p| p["spec"]["nodeName"].is_string()).count()
        };
        c.until("a full cluster", |c| bound(c) == 200).await;
        for n in 0..5 {
            let on =
                c.list("pods", "default").iter().filter(|p| p["spec"]["nodeName"] == format!("n{n}")).count();
            assert_eq!(on, 40);
        }
        c.delete("pods", "default", "p0", None).await;
        c.until("the end of one", |c| {
            c.get("pods", "default", "p0").is_none_or(|p| !p["metadata"]["deletionTimestamp"].is_null())
        })
        .await;
        // A pod that ends keeps its room until its agent says that it is gone.
        assert_eq!(c.ledger.lock().usage("kubernetes/default").pods.milli_cpu, 20_000);
        c.registry
            .delete(
                &stoa_registry::Context::system("agent"),
                stoa_registry::Target::new(super::find("pods"), "default", "p0"),
                &stoa_registry::DeleteOptions::now(),
            )
            .await
            .expect("it is there");
        c.until("the next one", |c| bound(c) == 200).await;
    });
}

struct Market(Arc<Mutex<Ledger>>);

impl Rescinder for Market {
    fn make_room(&self, agent: Option<&AgentId>, _namespace: &str, need: &Resources) -> bool {
        let mut ledger = self.0.lock();
        let offers = agent.and_then(|a| ledger.offers_in_the_way(a, need)).unwrap_or_default();
        offers.iter().filter_map(|o| ledger.release(&Holder::Offer(o.clone()))).count() > 0
    }
}

#[test]
fn offers_that_are_in_a_pods_way_are_taken_back() {
    run(async {
        let c = Cluster::idle().await;
        c.start(Arc::new(Market(c.ledger.clone())));
        c.node("n1", "2").await;
        let n1 = AgentId::from("n1");
        c.until("the agent", |c| c.ledger.lock().is_active(&n1)).await;
        {
            let mut ledger = c.ledger.lock();
            let free = ledger.free(&n1);
            ledger.claim_for(&n1, Holder::Offer(OfferId::from("o1")), "*", &free).expect("it is free");
        }
        c.create("pods", "default", pod("p", "1")).await;
        c.until("the place", |c| node_of(c, "p").is_some()).await;
        assert_eq!(c.ledger.lock().usage("*"), Default::default());
    });
}

#[test]
fn a_new_leader_knows_every_claim_from_the_store() {
    run(async {
        let mut c = Cluster::new().await;
        c.node("n1", "1").await;
        for i in 0..8 {
            c.create("pods", "default", pod(&format!("p{i}"), "100m")).await;
        }
        c.until("bindings", |c| (0..8).all(|i| node_of(c, &format!("p{i}")).is_some())).await;
        // The leader dies with everything it knew.
        c.shutdown.cancel();
        c.shutdown = CancellationToken::new();
        c.ledger = Arc::new(Mutex::new(Ledger::new(stoa_units::PortSet::EMPTY)));
        c.start(Arc::new(NoOffers));
        for i in 8..12 {
            c.create("pods", "default", pod(&format!("p{i}"), "100m")).await;
        }
        c.until("two more", |c| (8..12).filter(|i| node_of(c, &format!("p{i}")).is_some()).count() == 2)
            .await;
        assert_eq!(c.ledger.lock().used(&"n1".into()).milli_cpu, 1_000);
    });
}

#[test]
fn a_pod_of_higher_priority_takes_the_place_of_lesser_ones() {
    run(async {
        let c = Cluster::new().await;
        c.pretend_agents();
        c.node("n1", "1").await;
        c.create("priorityclasses", "", json!({"metadata": {"name": "high"}, "value": 1000})).await;
        c.create("pods", "default", pod("low", "800m")).await;
        c.until("the low one", |c| node_of(c, "low").is_some()).await;
        let mut high = pod("high", "800m");
        high["spec"]["priorityClassName"] = json!("high");
        c.create("pods", "default", high).await;
        c.until("the high one", |c| {
            node_of(c, "high").is_some() && c.get("pods", "default", "low").is_none()
        })
        .await;
    });
}

#[test]
fn a_pod_waits_for_its_claims_and_the_one_that_waits_for_it_gets_a_volume_of_its_node() {
    run(async {
        let c = Cluster::new().await;
        c.node("n1", "1").await;
        c.node("n2", "1").await;
        let class = json!({"metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer"});
        c.create("storageclasses", "", class).await;
        let claim = |name: &str, class: &str| {
            json!({"metadata": {"name": name}, "spec": {"storageClassName": class,
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        };
        c.create("persistentvolumeclaims", "default", claim("late", "local")).await;
        c.create("persistentvolumeclaims", "default", claim("never", "none")).await;
        let user = |name: &str, claim: &str| {
            json!({"metadata": {"name": name}, "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}})
        };
        c.create("pods", "default", user("waits", "late")).await;
        c.create("pods", "default", user("blocked", "never")).await;
        let said = |c: &Cluster, pod: &str, why: &str| {
            c.reasons(pod).iter().any(|r| r == &format!("FailedScheduling 0/2 nodes are available: {why}"))
        };
        c.until("the reasons", |c| {
            said(c, "blocked", "pod has unbound immediate PersistentVolumeClaims. not found")
                && said(c, "waits", "2 node(s) didn't find available persistent volumes to bind. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.")
        })
        .await;
        let volume = json!({"metadata": {"name": "disk"}, "spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "storageClassName": "local", "local": {"path": "/disk"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions":
                [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}}}});
        c.create("persistentvolumes", "", volume).await;
        c.until("the place", |c| node_of(c, "waits").as_deref() == Some("n2")).await;
        c.until("the volume", |c| {
            let claim = c.get("persistentvolumeclaims", "default", "late").unwrap_or_default();
            claim["spec"]["volumeName"] == "disk" && claim["status"]["phase"] == "Bound"
        })
        .await;
        assert_eq!(node_of(&c, "blocked"), None);
    });
}

#[test]
fn each_victim_of_a_preemption_is_evicted_once_and_nobody_else() {
    run(async {
        let c = Cluster::new().await;
        c.pretend_agents();
        c.node("n1", "40").await;
        for (name, value) in [("low", 1), ("high", 1_000)] {
            let class = json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "PreemptLowerPriority"});
            c.create("priorityclasses", "", class).await;
        }
        let of_class = |name: &str, cpu: &str, class: &str| {
            let mut pod = pod(name, cpu);
            pod["spec"]["priorityClassName"] = class.into();
            // Gone as soon as it is evicted: what is left of the victims must not look like a new choice.
            pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
            pod
        };
        for i in 0..39 {
            c.create("pods", "default", of_class(&format!("p{i}"), "1", "low")).await;
        }
        c.until("the crowd", |c| (0..39).all(|i| node_of(c, &format!("p{i}")).is_some())).await;
        c.create("pods", "default", of_class("guest", "30", "high")).await;
        c.until("the guest", |c| node_of(c, "guest").is_some()).await;
        c.until("the events", |c| {
            c.reasons("guest").iter().any(|r| r.starts_with("Scheduled"))
                && c.list("events", "").iter().filter(|e| e["reason"] == "Preempted").count() >= 29
        })
        .await;
        let told: Vec<Value> =
            c.list("events", "").into_iter().filter(|e| e["reason"] == "Preempted").collect();
        assert_eq!((c.list("pods", "default").len(), told.len()), (11, 29));
        assert!(told.iter().all(|e| e["series"].is_null()), "{told:?}");
    });
}
