//! What every cluster has from its first moment.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use stoa_kube::resources;
use stoa_registry::{Context, Options, Registry, Target};
use stoa_store::{Key, Store};
use stoa_units::SystemClock;

struct Cluster {
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
}

async fn start() -> Cluster {
    let store = stoa_store::memory(stoa_store::Options::default());
    let registry = Registry::new(store.clone(), Arc::new(SystemClock), Options::default());
    registry.bootstrap().await.unwrap();
    Cluster { store, registry }
}

impl Cluster {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let entry = self.store.get(&Key::object(group, plural, namespace, name))?;
        Some(serde_json::from_slice(&entry.value).unwrap())
    }
}

#[tokio::test]
async fn what_the_server_says_of_itself_is_there_and_comes_back_at_the_next_start() {
    const FLOW: &str = "flowcontrol.apiserver.k8s.io";
    let c = start().await;
    let schema = c.get(FLOW, "flowschemas", "", "system-nodes").unwrap();
    assert_eq!(schema["spec"]["priorityLevelConfiguration"]["name"], "system");
    assert_eq!(schema["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"], "true");
    assert_eq!(schema["status"]["conditions"][0]["reason"], "Found");
    let service = c.get("apiregistration.k8s.io", "apiservices", "", "v1.apps").unwrap();
    assert_eq!(
        service["spec"],
        json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15})
    );
    assert_eq!(service["status"]["conditions"][0]["reason"], "Local");
    // Every group that is served is named, save that of the names.
    for gv in resources().group_versions().iter().filter(|gv| gv.group != "apiregistration.k8s.io") {
        let name = format!("{}.{}", gv.version, gv.group);
        assert!(c.get("apiregistration.k8s.io", "apiservices", "", &name).is_some(), "{name}");
    }
    let since = "kube-apiserver-legacy-service-account-token-tracking";
    assert!(c.get("", "configmaps", "kube-system", since).unwrap()["data"]["since"].is_string());

    // What was changed by hand is as it was at the next start, unless somebody wants it so.
    let flow = resources().find(FLOW, "v1", "prioritylevelconfigurations").unwrap();
    let ctx = Context::system("tests");
    for (name, keeps) in [("system", "true"), ("workload-low", "false")] {
        let change = |level: &mut Value| {
            level["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] = keeps.into();
            level["spec"]["limited"]["lendablePercent"] = 7.into();
            Ok(())
        };
        c.registry.modify(&ctx, Target::new(flow, "", name), change).await.unwrap();
    }
    c.registry.bootstrap().await.unwrap();
    let lent = |name| {
        c.get(FLOW, "prioritylevelconfigurations", "", name).unwrap()["spec"]["limited"]["lendablePercent"]
            .clone()
    };
    assert_eq!([lent("system"), lent("workload-low")], [json!(33), json!(7)]);
}

#[tokio::test]
async fn by_whom_users_are_known_is_written_down_for_servers_behind_this_one() {
    let c = start().await;
    for ca in ["one", "two"] {
        let data = json!({"client-ca-file": ca}).as_object().unwrap().clone();
        c.registry.publish_authentication(data).await.unwrap();
        let map = c.get("", "configmaps", "kube-system", "extension-apiserver-authentication").unwrap();
        assert_eq!(map["data"], json!({"client-ca-file": ca}));
    }
}
