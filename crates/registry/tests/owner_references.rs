//! Who may name owners where the plugin OwnerReferencesPermissionEnforcement is on.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::sync::Arc;
use stoa_admit::{OwnerReferences, Policy};
use stoa_authz::User;
use stoa_kube::resources;
use stoa_registry::{Context, Options, Patch, PatchKind, Registry, Target};
use stoa_units::SystemClock;

const RBAC: &str = "rbac.authorization.k8s.io";

async fn registry(owner_references: OwnerReferences) -> Arc<Registry> {
    let store = stoa_store::memory(stoa_store::Options::default());
    let policy = Policy { owner_references, ..Policy::default() };
    let registry = Registry::new(store, Arc::new(SystemClock), Options { policy, ..Options::default() });
    registry.bootstrap().await.unwrap();
    registry.start_authorizer().unwrap();
    let create = async |group: &str, plural: &str, object: Value| {
        let resource = resources().find(group, "v1", plural).unwrap();
        let namespace = if resource.namespaced { "default" } else { "" };
        let target = Target::new(resource, namespace, "");
        registry.create(&Context::system("test"), target, object).await.unwrap()
    };
    // The writer may change config maps and set the finalizers of deployments; the keeper may delete config maps, too.
    for (name, verbs) in [("writer", json!(["create", "update", "patch"])), ("keeper", json!(["delete"]))] {
        let mut rules = vec![json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs})];
        if name == "writer" {
            rules.push(
                json!({"apiGroups": ["apps"], "resources": ["deployments/finalizers"], "verbs": ["update"]}),
            );
        }
        create(RBAC, "roles", json!({"metadata": {"name": name}, "rules": rules})).await;
        create(
            RBAC,
            "rolebindings",
            json!({"metadata": {"name": name}, "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
                "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "keeper"},
                    {"apiGroup": RBAC, "kind": "User", "name": if name == "writer" { "writer" } else { "keeper" }}]}),
        )
        .await;
    }
    // The authorizer follows the store's watch: it has seen everything once it knows the last binding.
    let keeper = User::new("keeper", Vec::<String>::new());
    let delete = stoa_authz::Attributes::resource("delete", "", "configmaps", "default", "x");
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while !registry.authorizer().authorize(&keeper, &delete).is_allowed() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    registry
}

fn owner(kind: &str, blocks: Value) -> Value {
    let api_version = if kind == "Deployment" { "apps/v1" } else { "v1" };
    json!({"apiVersion": api_version, "kind": kind, "name": "o", "uid": format!("u-{kind}"), "blockOwnerDeletion": blocks})
}

struct Desk(Arc<Registry>);

impl Desk {
    async fn create(&self, user: &str, name: &str, owners: Value) -> Result<(), String> {
        let resource = resources().find("", "v1", "configmaps").unwrap();
        let object = json!({"metadata": {"name": name, "ownerReferences": owners}});
        let ctx = Context::of(User::new(user, Vec::<String>::new()));
        let done = self.0.create(&ctx, Target::new(resource, "default", ""), object).await;
        done.map(drop).map_err(|s| s.message)
    }

    async fn patch(&self, user: &str, name: &str, owners: Value) -> Result<(), String> {
        let resource = resources().find("", "v1", "configmaps").unwrap();
        let body = json!({"metadata": {"ownerReferences": owners}}).to_string().into();
        let ctx = Context::of(User::new(user, Vec::<String>::new()));
        let patch = Patch { kind: PatchKind::Merge, body };
        let done = self.0.patch(&ctx, Target::new(resource, "default", name), &patch).await;
        done.map(drop).map_err(|s| s.message)
    }
}

#[tokio::test]
async fn owners_are_named_by_who_may_delete_and_made_to_wait_by_who_may_finalize() {
    let desk = Desk(registry(OwnerReferences::Enforced).await);
    let (deployment, pod) = (owner("Deployment", json!(true)), owner("Pod", json!(true)));
    let no_finalizers = "is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
    let no_delete = "is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>";

    // A new object may name any owner; only one whose finalizers are the user's to set is made to wait.
    assert_eq!(desk.create("writer", "a", json!([deployment])).await, Ok(()));
    assert_eq!(desk.create("writer", "b", json!([owner("Pod", json!(false))])).await, Ok(()));
    assert_eq!(
        desk.create("writer", "c", json!([pod])).await,
        Err(format!("configmaps \"c\" {no_finalizers}"))
    );
    let odd = json!([{"apiVersion": "odd.example/v1", "kind": "Odd", "name": "o", "uid": "u", "blockOwnerDeletion": true}]);
    assert_eq!(
        desk.create("writer", "c", odd).await,
        Err("configmaps \"c\" is forbidden: cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion odd.example/v1 Kind Odd: no matches for kind \"Odd\" in version \"odd.example/v1\"".to_owned())
    );

    // A change of owners, whichever, takes the right to delete; everything else does not.
    assert_eq!(desk.patch("writer", "a", json!(null)).await, Err(format!("configmaps \"a\" {no_delete}")));
    assert_eq!(desk.patch("writer", "a", json!([deployment])).await, Ok(()));
    assert_eq!(
        desk.patch("keeper", "b", json!([pod])).await,
        Err(format!("configmaps \"b\" {no_finalizers}"))
    );
    assert_eq!(desk.patch("keeper", "b", json!([owner("Pod", json!(false)), deployment])).await, Ok(()));
    assert_eq!(desk.patch("keeper", "a", json!([])).await, Ok(()));

    // What the cluster does for itself is not asked about.
    let resource = resources().find("", "v1", "configmaps").unwrap();
    let object = json!({"metadata": {"name": "own", "ownerReferences": [pod]}});
    desk.0.create(&Context::system("test"), Target::new(resource, "default", ""), object).await.unwrap();
}

#[tokio::test]
async fn owners_are_everybodys_to_name_unless_it_is_enforced() {
    let desk = Desk(registry(OwnerReferences::Free).await);
    assert_eq!(desk.create("writer", "a", json!([owner("Pod", json!(true))])).await, Ok(()));
    assert_eq!(desk.patch("writer", "a", json!(null)).await, Ok(()));
}

#[tokio::test]
async fn an_owner_that_is_named_twice_is_one_and_the_writer_is_told() {
    let registry = registry(OwnerReferences::Free).await;
    let target = |name| Target::new(resources().find("", "v1", "configmaps").unwrap(), "default", name);
    let (twice, other) = (owner("Node", Value::Null), owner("ConfigMap", Value::Null));
    let body = || json!({"metadata": {"name": "a", "ownerReferences": [twice, other, twice]}});
    let ctx = Context::system("test");
    let told = |when: &str| {
        vec![format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: u-Node"
        )]
    };
    let made = registry.create(&ctx, target(""), body()).await.unwrap();
    assert_eq!(made.warnings, told(""));
    assert_eq!(made.to_value()["metadata"]["ownerReferences"].as_array().unwrap().len(), 2);
    let changed = registry.update(&ctx, target("a"), body()).await.unwrap();
    assert_eq!(changed.warnings, told(""));
    let patch = Patch { kind: PatchKind::Merge, body: body().to_string().into() };
    let patched = registry.patch(&ctx, target("a"), &patch).await.unwrap();
    assert_eq!(patched.warnings, told(" after mutating admission happens"));
}

#[tokio::test]
async fn that_an_object_dies_is_not_for_an_update_to_say() {
    let registry = registry(OwnerReferences::Free).await;
    let target = |name| Target::new(resources().find("", "v1", "configmaps").unwrap(), "default", name);
    let ctx = Context::system("test");
    registry.create(&ctx, target(""), json!({"metadata": {"name": "a"}})).await.unwrap();
    for (field, value) in
        [("deletionTimestamp", json!("2026-01-01T00:00:00Z")), ("deletionGracePeriodSeconds", json!(5))]
    {
        let mut body = json!({"metadata": {"name": "a"}});
        body["metadata"][field] = value;
        let refused = registry.update(&ctx, target("a"), body).await.unwrap_err();
        assert_eq!(refused.code, 422, "{}", refused.message);
        assert!(refused.message.contains(&format!("metadata.{field}: Invalid value")), "{}", refused.message);
    }
}
