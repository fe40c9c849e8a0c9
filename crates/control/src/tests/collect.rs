//! What goes when an owner goes, and when a namespace goes.

use super::{Cluster, deployment, find, run};
use serde_json::json;
use stoa_registry::{Context, Propagation, Target};

async fn cluster() -> Cluster {
    let c = Cluster::new().await;
    c.pretend_agents();
    c.node("n1", "8").await;
    c.create("deployments", "default", deployment("web", 2, "a")).await;
    c.until("pods", |c| {
        c.list("pods", "default").iter().filter(|p| p["status"]["phase"] == "Running").count() == 2
    })
    .await;
    c
}

#[test]
fn in_the_background_everything_owned_goes_after_its_owner() {
    run(async {
        let c = cluster().await;
        c.delete("deployments", "default", "web", Some(Propagation::Background)).await;
        assert!(c.get("deployments", "default", "web").is_none(), "it goes at once");
        c.until("the end", |c| {
            c.list("replicasets", "default").is_empty() && c.list("pods", "default").is_empty()
        })
        .await;
        // The ledger follows the store.
        c.until("free room", |c| c.ledger.lock().usage("kubernetes/default") == Default::default()).await;
    });
}

#[test]
fn in_the_foreground_the_owner_goes_last() {
    run(async {
        let c = cluster().await;
        c.delete("deployments", "default", "web", Some(Propagation::Foreground)).await;
        c.until("the end", |c| {
            let gone = c.get("deployments", "default", "web").is_none();
            let empty = c.list("replicasets", "default").is_empty() && c.list("pods", "default").is_empty();
            assert!(!gone || empty, "the owner went before what it owns");
            gone
        })
        .await;
    });
}

#[test]
fn orphans_stay_and_are_adopted_by_the_next_of_that_selector() {
    run(async {
        let c = cluster().await;
        let sets = c.list("replicasets", "default");
        c.delete("deployments", "default", "web", Some(Propagation::Orphan)).await;
        c.until("freedom", |c| {
            c.get("deployments", "default", "web").is_none()
                && c.list("replicasets", "default").iter().all(|s| s["metadata"]["ownerReferences"].is_null())
        })
        .await;
        let left = c.list("replicasets", "default");
        assert_eq!(left.len(), 1);
        assert_eq!(left[0]["metadata"]["uid"], sets[0]["metadata"]["uid"]);
        assert_eq!(c.list("pods", "default").len(), 2);
        let next = c.create("deployments", "default", deployment("web", 2, "a")).await;
        c.until("adoption", |c| {
            let sets = c.list("replicasets", "default");
            sets.len() == 1 && sets[0]["metadata"]["ownerReferences"][0]["uid"] == next["metadata"]["uid"]
        })
        .await;
    });
}

#[test]
fn a_namespace_has_what_every_one_has_and_goes_with_all_that_is_in_it() {
    run(async {
        let c = cluster().await;
        c.create("namespaces", "", json!({"metadata": {"name": "team"}})).await;
        c.until("its account and CA", |c| {
            c.get("serviceaccounts", "team", "default").is_some()
                && c.get("configmaps", "team", "kube-root-ca.crt")
                    .is_some_and(|m| m["data"]["ca.crt"] == "CA")
        })
        .await;
        c.delete("serviceaccounts", "team", "default", None).await;
        c.delete("configmaps", "team", "kube-root-ca.crt", None).await;
        c.until("both again", |c| {
            c.get("serviceaccounts", "team", "default").is_some()
                && c.get("configmaps", "team", "kube-root-ca.crt").is_some()
        })
        .await;
        c.create("deployments", "team", deployment("web", 2, "a")).await;
        c.create(
            "configmaps",
            "team",
            json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}),
        )
        .await;
        c.until("pods", |c| c.list("pods", "team").len() == 2).await;
        c.delete("namespaces", "", "team", None).await;
        c.until("what is left", |c| {
            let n = c.get("namespaces", "", "team").unwrap_or_default();
            let all = n["status"]["conditions"].as_array().cloned().unwrap_or_default();
            all.iter().any(|x| {
                x["type"] == "NamespaceFinalizersRemaining"
                    && x["message"] == "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
            }) && c.list("pods", "team").is_empty()
        })
        .await;
        let refused = c
            .registry
            .create(
                &Context::system("test"),
                Target::new(find("configmaps"), "team", ""),
                json!({"metadata": {"name": "late"}}),
            )
            .await;
        assert_eq!(refused.map(|_| ()).map_err(|s| s.code()), Err(403));
        c.modify("configmaps", "team", "held", "", |m| m["metadata"]["finalizers"] = json!(null)).await;
        c.until("the end", |c| c.get("namespaces", "", "team").is_none()).await;
        for plural in ["pods", "replicasets", "deployments", "configmaps", "serviceaccounts", "events"] {
            assert!(c.list(plural, "team").is_empty(), "{plural}");
        }
    });
}

#[test]
fn a_circle_of_owners_keeps_nobody() {
    run(async {
        let c = Cluster::new().await;
        let mut uids = Vec::new();
        for name in ["one", "two", "three"] {
            let made = c.create("configmaps", "default", json!({"metadata": {"name": name}})).await;
            uids.push(made["metadata"]["uid"].clone());
        }
        for (i, (name, owner)) in [("one", "three"), ("two", "one"), ("three", "two")].into_iter().enumerate()
        {
            let uid = &uids[(i + 2) % 3];
            let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid,
                "controller": true, "blockOwnerDeletion": true}]);
            c.modify("configmaps", "default", name, "", |m| m["metadata"]["ownerReferences"] = owner.clone())
                .await;
        }
        c.delete("configmaps", "default", "one", Some(Propagation::Foreground)).await;
        c.until("the end", |c| {
            ["one", "two", "three"].iter().all(|n| c.get("configmaps", "default", n).is_none())
        })
        .await;
    });
}

#[test]
fn the_pods_of_a_namespace_go_before_everything_else_in_it() {
    run(async {
        let c = cluster().await;
        c.create("namespaces", "", json!({"metadata": {"name": "team"}})).await;
        c.until("its account", |c| c.get("serviceaccounts", "team", "default").is_some()).await;
        c.create("configmaps", "team", json!({"metadata": {"name": "kept"}})).await;
        let pod = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        c.create("pods", "team", pod).await;
        c.delete("namespaces", "", "team", None).await;
        c.until("the pod's turn", |c| {
            let n = c.get("namespaces", "", "team").unwrap_or_default();
            let all = n["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let pod = c.get("pods", "team", "held").unwrap_or_default();
            !pod["metadata"]["deletionTimestamp"].is_null()
                && all.iter().any(|x| {
                    x["type"] == "NamespaceContentRemaining"
                        && x["message"] == "Some resources are remaining: pods. has 1 resource instances"
                })
        })
        .await;
        let kept = c.get("configmaps", "team", "kept").expect("it goes after the pods");
        assert!(kept["metadata"]["deletionTimestamp"].is_null());
        c.modify("pods", "team", "held", "", |p| p["metadata"]["finalizers"] = json!(null)).await;
        c.until("the end", |c| c.get("namespaces", "", "team").is_none()).await;
    });
}
