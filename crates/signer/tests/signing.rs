//! The signer against a real registry: a request from its making to its certificate.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::User;
use stoa_kube::{Resource, resources};
use stoa_pki::Authority;
use stoa_registry::{Context, Registry, Target};
use stoa_signer::{Handles, Service};
use stoa_units::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

struct World {
    registry: Arc<Registry>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let authority = Arc::new(Authority::load_or_create(dir.path(), clock.now()).unwrap());
    let store = stoa_store::memory(stoa_store::Options::default());
    let registry = Registry::new(store, clock, stoa_registry::Options::default());
    registry.bootstrap().await.unwrap();
    registry.start_authorizer().unwrap();
    let stop = CancellationToken::new();
    let handles = Handles { registry: registry.clone(), authority };
    tokio::spawn(Service::new(handles).run(stop.clone()));
    World { registry, stop, _dir: dir }
}

fn requests() -> &'static Resource {
    resources().find("certificates.k8s.io", "v1", "certificatesigningrequests").unwrap()
}

fn admin() -> Context {
    Context::of(User::new("admin", ["system:masters", "system:authenticated"]))
}

fn request(name: &str, signer: &str, user: &str, groups: &[&str], usages: &[&str]) -> Value {
    let mut p = rcgen::CertificateParams::default();
    p.distinguished_name = rcgen::DistinguishedName::new();
    p.distinguished_name.push(rcgen::DnType::CommonName, user);
    if let Some(group) = groups.first() {
        p.distinguished_name.push(rcgen::DnType::OrganizationName, *group);
    }
    let pem = p.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({"metadata": {"name": name}, "spec": {"signerName": signer, "request": STANDARD.encode(pem), "usages": usages}})
}

impl World {
    fn get(&self, target: Target<'_>) -> Option<Value> {
        self.registry.get(target).ok().map(|e| serde_json::from_slice(&e.value).unwrap())
    }

    /// Asks until it is so, for a bounded while.
    async fn until(&self, target: Target<'_>, is: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let waiting = async {
            loop {
                let found = self.get(target);
                if is(found.as_ref()) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the signer to act")
    }

    async fn approve(&self, ctx: &Context, name: &str, kind: &str) -> Result<(), stoa_kube::Status> {
        let target = Target::new(requests(), "", name);
        let mut object = self.get(target).unwrap();
        object["status"]["conditions"] = json!([{"type": kind, "status": "True", "reason": "Test"}]);
        self.registry.update(ctx, target.sub("approval"), object).await.map(drop)
    }
}

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const USAGES: [&str; 2] = ["client auth", "digital signature"];

#[tokio::test]
async fn an_approved_request_gets_its_certificate() {
    let w = world().await;
    let jane = Context::of(User::new("jane", ["dev", "system:authenticated"]));
    let made = request("r", CLIENT, "jane", &["dev"], &USAGES);
    w.registry.create(&jane, Target::new(requests(), "", ""), made).await.unwrap();
    let target = Target::new(requests(), "", "r");
    assert_eq!(w.get(target).unwrap()["spec"]["username"], "jane");
    let refused = w.approve(&jane, "r", "Approved").await.unwrap_err();
    assert_eq!(refused.code(), 403);
    assert!(refused.message.ends_with(
        "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
    ));
    w.approve(&admin(), "r", "Approved").await.unwrap();
    let signed =
        w.until(target, |o| o.is_some_and(|o| o["status"]["certificate"].is_string())).await.unwrap();
    let pem = String::from_utf8(STANDARD.decode(signed["status"]["certificate"].as_str().unwrap()).unwrap())
        .unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(signed["status"]["conditions"][0]["lastTransitionTime"].is_string());
    let denied = w.approve(&admin(), "r", "Denied").await.unwrap_err();
    assert_eq!(denied.code(), 422, "{}", denied.message);
}

#[tokio::test]
async fn what_no_certificate_may_say_is_refused() {
    let w = world().await;
    let create = |object: Value| {
        let registry = w.registry.clone();
        async move { registry.create(&admin(), Target::new(requests(), "", ""), object).await.map(drop) }
    };
    let root = create(request("root", CLIENT, "x", &["system:masters"], &USAGES)).await.unwrap_err();
    assert_eq!(root.code(), 403);
    assert!(root.message.ends_with(
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    ));
    let mut junk = request("junk", CLIENT, "x", &[], &USAGES);
    junk["spec"]["request"] = json!(STANDARD.encode("junk"));
    assert_eq!(create(junk).await.unwrap_err().code(), 422);
    assert_eq!(create(request("u", CLIENT, "x", &[], &["flying"])).await.unwrap_err().code(), 422);
    assert_eq!(create(request("s", "nodomain", "x", &[], &USAGES)).await.unwrap_err().code(), 422);
    let mut short = request("t", CLIENT, "x", &[], &USAGES);
    short["spec"]["expirationSeconds"] = json!(10);
    assert_eq!(create(short).await.unwrap_err().code(), 422);
    // A server's certificate is not for the signer of clients to give.
    create(request("f", CLIENT, "x", &[], &["server auth"])).await.unwrap();
    w.approve(&admin(), "f", "Approved").await.unwrap();
    let target = Target::new(requests(), "", "f");
    let failed = |o: Option<&Value>| o.is_some_and(|o| o["status"]["conditions"][1]["type"] == "Failed");
    w.until(target, failed).await;
}

#[tokio::test]
async fn a_nodes_own_request_is_approved_and_signed() {
    let w = world().await;
    let node = Context::of(User::new("system:node:n1", ["system:nodes", "system:authenticated"]));
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let made = request("k", signer, "system:node:n1", &["system:nodes"], &USAGES);
    let registry = &w.registry;
    let binding = json!({"metadata": {"name": "own"}, "subjects": [{"kind": "Group", "name": "system:nodes",
            "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole", "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"}});
    let bindings = resources().find("rbac.authorization.k8s.io", "v1", "clusterrolebindings").unwrap();
    registry.create(&admin(), Target::new(bindings, "", ""), binding).await.unwrap();
    // The authorizer follows the store.
    let own = stoa_authz::Attributes::resource(
        "create",
        "certificates.k8s.io",
        "certificatesigningrequests",
        "",
        "",
    );
    let own = own.with_subresource("selfnodeclient");
    let heard = async {
        while !registry.authorizer().authorize(&node.user, &own).is_allowed() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap();
    registry.create(&node, Target::new(requests(), "", ""), made).await.unwrap();
    let target = Target::new(requests(), "", "k");
    let signed =
        w.until(target, |o| o.is_some_and(|o| o["status"]["certificate"].is_string())).await.unwrap();
    assert_eq!(signed["status"]["conditions"][0]["reason"], "AutoApproved");
}
