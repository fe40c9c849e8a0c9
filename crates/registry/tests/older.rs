//! What an older version has stored, which set fewer defaults.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::{Object, resources};
use stoa_registry::{Context, Options, Registry, Target};
use stoa_store::{Key, Txn};
use stoa_units::SystemClock;

#[tokio::test]
async fn what_an_older_version_left_open_is_no_change_of_the_writers() {
    let store = stoa_store::memory(stoa_store::Options::default());
    let registry = Registry::new(store, Arc::new(SystemClock), Options::default());
    registry.bootstrap().await.unwrap();
    let ctx = Context::system("test");
    let pods = resources().find("", "v1", "pods").unwrap();
    let accounts = resources().find("", "v1", "serviceaccounts").unwrap();
    let account = json!({"metadata": {"name": "default"}});
    registry.create(&ctx, Target::new(accounts, "default", ""), account).await.unwrap();
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}, "containers": [{"name": "c", "image": "i"}]}});
    registry.create(&ctx, Target::new(pods, "default", ""), pod).await.unwrap();

    let key = Key::object("", "pods", "default", "p");
    let entry = registry.store().get(&key).unwrap();
    let mut older: Value = serde_json::from_slice(&entry.value).unwrap();
    let spec = older["spec"].as_object_mut().unwrap();
    assert!(spec["resources"].as_object_mut().unwrap().remove("requests").is_some());
    assert!(spec.remove("enableServiceLinks").is_some());
    assert!(spec["containers"][0].as_object_mut().unwrap().remove("terminationMessagePath").is_some());
    let txn =
        Txn::new().expect(key.clone(), entry.modified).put(key.clone(), Object(older.clone()).to_stamped());
    registry.store().commit(txn).await.unwrap();

    let target = Target::new(pods, "default", "p");
    let mut labelled = older.clone();
    labelled["metadata"] = json!({"name": "p", "labels": {"a": "b"}});
    let written = registry.update(&ctx, target, labelled.clone()).await.unwrap().to_value();
    assert_eq!(written["metadata"]["labels"]["a"], "b");
    assert_eq!(written["metadata"]["generation"], 1, "nothing was specified anew");
    assert_eq!(written["spec"]["enableServiceLinks"], true);
    // What the writer does change is refused as ever.
    labelled["spec"]["resources"]["limits"]["cpu"] = json!("2");
    assert_eq!(registry.update(&ctx, target, labelled).await.unwrap_err().code(), 422);
}
