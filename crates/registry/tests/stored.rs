//! What lies in the store already, and what a write makes of it.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::{Resource, Status, resources};
use stoa_registry::{Context, DeleteOptions, Options, Registry, Target};
use stoa_store::{Key, Store, Txn};
use stoa_units::{Stamped, SystemClock};

struct Cluster {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    ctx: Context,
}

fn find(group: &str, plural: &str) -> &'static Resource {
    resources().find(group, "v1", plural).unwrap()
}

impl Cluster {
    async fn start() -> Cluster {
        let store = stoa_store::memory(stoa_store::Options::default());
        let registry = Registry::new(store.clone(), Arc::new(SystemClock), Options::default());
        registry.bootstrap().await.unwrap();
        Cluster { store, registry, ctx: Context::of(stoa_authz::User::new("jane", ["dev"])) }
    }

    async fn create(&self, group: &str, plural: &str, object: Value) -> Result<Value, Status> {
        let resource = find(group, plural);
        let namespace = if resource.namespaced { "default" } else { "" };
        let written = self.registry.create(&self.ctx, Target::new(resource, namespace, ""), object).await;
        written.map(|w| serde_json::from_slice(&w.bytes).unwrap())
    }

    /// Changes what is stored behind the registry's back.
    async fn rewrite(&self, group: &str, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let key = Key::object(group, plural, "default", name);
        let entry = self.store.get(&key).unwrap();
        let mut object: Value = serde_json::from_slice(&entry.value).unwrap();
        change(&mut object);
        let txn = Txn::new().expect(key.clone(), entry.modified);
        self.store.commit(txn.put(key, Stamped::plain(object.to_string()))).await.unwrap();
    }

    async fn label(&self, group: &str, plural: &str, name: &str) -> Result<Value, String> {
        let target = Target::new(find(group, plural), "default", name);
        let label = |object: &mut Value| {
            object["metadata"]["labels"]["a"] = json!("b");
            Ok(())
        };
        let written = self.registry.modify(&self.ctx, target, label).await.map_err(|e| e.message)?;
        Ok(serde_json::from_slice(&written.bytes).unwrap())
    }
}

#[tokio::test]
async fn what_was_stored_before_a_default_was_known_can_be_changed() {
    let c = Cluster::start().await;
    c.create("", "serviceaccounts", json!({"metadata": {"name": "default"}})).await.unwrap();
    let spec = json!({"containers": [{"name": "c", "image": "i"}], "resources": {"limits": {"cpu": "1"}}});
    c.create("", "pods", json!({"metadata": {"name": "p"}, "spec": spec})).await.unwrap();
    c.rewrite("", "pods", "p", |pod| {
        let spec = pod["spec"].as_object_mut().unwrap();
        spec["resources"].as_object_mut().unwrap().remove("requests").unwrap();
        spec.remove("enableServiceLinks").unwrap();
        spec["containers"][0].as_object_mut().unwrap().remove("terminationMessagePath").unwrap();
    })
    .await;
    let pod = c.label("", "pods", "p").await.unwrap();
    assert_eq!(pod["spec"]["resources"]["requests"], json!({"cpu": "1"}));
    assert_eq!(pod["spec"]["enableServiceLinks"], true);
    assert_eq!(pod["metadata"]["generation"], 1, "nothing was specified anew");
    let request = json!({"name": "r", "exactly": {"deviceClassName": "d"}});
    let claim = json!({"metadata": {"name": "c"}, "spec": {"devices": {"requests": [request]}}});
    c.create("resource.k8s.io", "resourceclaims", claim).await.unwrap();
    let forget = |claim: &mut Value| {
        let exactly = claim.pointer_mut("/spec/devices/requests/0/exactly").unwrap();
        exactly.as_object_mut().unwrap().remove("count").unwrap();
    };
    c.rewrite("resource.k8s.io", "resourceclaims", "c", forget).await;
    let claim = c.label("resource.k8s.io", "resourceclaims", "c").await.unwrap();
    assert_eq!(claim["metadata"]["labels"]["a"], "b");
    // What a client changes is refused all the same.
    let target = Target::new(find("", "pods"), "default", "p");
    let moved = |pod: &mut Value| {
        pod["spec"]["hostNetwork"] = json!(true);
        Ok(())
    };
    assert!(c.registry.modify(&c.ctx, target, moved).await.is_err());
}

#[tokio::test]
async fn services_get_addresses_of_ranges_of_any_size() {
    let c = Cluster::start().await;
    for (i, (cidr, address)) in
        [("11.0.0.0/8", "11.200.0.1"), ("12.0.0.0/30", "12.0.0.2")].into_iter().enumerate()
    {
        let range = json!({"metadata": {"name": format!("r{i}")}, "spec": {"cidrs": [cidr]}});
        c.create("networking.k8s.io", "servicecidrs", range).await.unwrap();
        let service = |address: &str| json!({"metadata": {"generateName": "s"}, "spec": {"clusterIP": address, "ports": [{"port": 1}]}});
        let made = c.create("", "services", service(address)).await.unwrap();
        assert_eq!(made["spec"]["clusterIP"], address);
        let outside = cidr.replace("/8", "").replace("/30", "");
        assert!(c.create("", "services", service(&outside)).await.is_err(), "{outside}");
    }
}

/// What is left of the window between looking at a range and writing the service: nothing.
#[tokio::test]
async fn a_range_that_goes_while_a_service_is_on_its_way_gives_no_address() {
    let c = Cluster::start().await;
    let range = json!({"metadata": {"name": "r", "finalizers": ["networking.k8s.io/service-cidr-finalizer"]},
        "spec": {"cidrs": ["12.0.0.0/24"]}});
    c.create("networking.k8s.io", "servicecidrs", range).await.unwrap();
    let service = |name: &str, address: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": [{"port": 1}]}});
    let services = Target::new(find("", "services"), "default", "");
    let prepare = |object| c.registry.prepare_create(&c.ctx, services, object).unwrap();
    let (of_it, of_the_first) = (prepare(service("a", "12.0.0.2")), prepare(service("b", "")));
    let target = Target::new(find("networking.k8s.io", "servicecidrs"), "", "r");
    c.registry.delete(&c.ctx, target, &DeleteOptions::now()).await.unwrap();
    let range = Key::object("networking.k8s.io", "servicecidrs", "", "r");
    match c.store.commit(of_it.to_txn()).await {
        Err(stoa_store::Error::Conflict { key, .. }) => assert_eq!(key, range),
        other => panic!("{other:?}"),
    }
    c.store.commit(of_the_first.to_txn()).await.unwrap();
    // Who looks again sees that the range is going.
    assert!(c.create("", "services", service("a", "12.0.0.2")).await.is_err());
    c.create("", "services", service("a", "")).await.unwrap();
}
