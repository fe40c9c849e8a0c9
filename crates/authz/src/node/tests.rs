//! Claims about what a node sees, the last over random clusters.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn pod(node: &str, ns: &str, name: &str, secret: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": ns}, "spec": {"nodeName": node, "serviceAccountName": "sa",
        "containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]}],
        "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "ca"}}]}},
                    {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}})
}

fn may(g: &NodeGraph, node: &str, a: Attributes<'_>) -> bool {
    g.authorize(node, &a).is_allowed()
}

#[test]
fn a_node_reads_what_its_pods_refer_to() {
    let mut g = NodeGraph::new();
    g.set_pod(&pod("n1", "ns", "p", "s"));
    g.set_persistent_volume(
        &json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"namespace": "ns", "name": "data"},
        "csi": {"nodeStageSecretRef": {"namespace": "csi", "name": "key"}}}}),
    );
    for (group, resource, sub, ns, name, verb) in [
        ("", "secrets", "", "ns", "s", "get"),
        ("", "secrets", "", "csi", "key", "get"),
        ("", "configmaps", "", "ns", "ca", "watch"),
        ("", "persistentvolumeclaims", "", "ns", "data", "get"),
        ("", "persistentvolumes", "", "", "pv", "get"),
        ("", "serviceaccounts", "token", "ns", "sa", "create"),
        ("", "pods", "", "ns", "p", "get"),
        ("", "pods", "", "ns", "p", "delete"),
        ("", "pods", "status", "ns", "p", "patch"),
        ("", "pods", "eviction", "ns", "p", "create"),
    ] {
        let a = Attributes::resource(verb, group, resource, ns, name).with_subresource(sub);
        assert!(may(&g, "n1", a), "{a:?}");
        assert!(!may(&g, "n2", a), "another node: {a:?}");
        let other = Attributes { name: "other", ..a };
        assert!(!may(&g, "n1", other), "another object: {other:?}");
    }
    g.remove_pod("ns", "p");
    assert!(g.readers.is_empty());
}

#[test]
fn a_node_writes_only_itself() {
    let g = NodeGraph::new();
    let r = Attributes::resource;
    for (a, want) in [
        (r("create", "", "nodes", "", ""), true),
        (r("get", "", "nodes", "", "n1"), true),
        (r("get", "", "nodes", "", "n2"), false),
        (r("list", "", "nodes", "", ""), false),
        (r("patch", "", "nodes", "", "n1").with_subresource("status"), true),
        (r("patch", "", "nodes", "", "n2").with_subresource("status"), false),
        (r("delete", "", "nodes", "", "n1"), false),
        (r("get", "", "nodes", "", "n1").with_subresource("proxy"), false),
        (r("update", "coordination.k8s.io", "leases", "kube-node-lease", "n1"), true),
        (r("update", "coordination.k8s.io", "leases", "kube-node-lease", "n2"), false),
        (r("update", "coordination.k8s.io", "leases", "kube-system", "n1"), false),
        (r("update", "storage.k8s.io", "csinodes", "", "n1"), true),
        (r("update", "storage.k8s.io", "csinodes", "", "n2"), false),
        (r("create", "", "events", "ns", ""), true),
        (r("list", "", "services", "", ""), true),
        (r("create", "", "services", "ns", ""), false),
        (r("create", "authorization.k8s.io", "subjectaccessreviews", "", ""), true),
        (r("create", "", "pods", "ns", "p").with_subresource("exec"), false),
        (r("create", "", "pods", "ns", "p").with_subresource("binding"), false),
        (r("update", "", "pods", "ns", "p"), false),
        (r("deletecollection", "", "pods", "ns", ""), false),
        (Attributes::path("get", "/metrics"), false),
    ] {
        assert_eq!(may(&g, "n1", a), want, "{a:?}");
    }
    let own = FieldSelector::parse("spec.nodeName=n1").unwrap();
    let watch = Attributes { fields: Some(&own), ..r("watch", "", "pods", "", "") };
    assert!(may(&g, "n1", watch));
    assert!(!may(&g, "n2", watch));
}

#[test]
fn a_mirror_pod_opens_no_secret() {
    let mut g = NodeGraph::new();
    let mut mirror = pod("n1", "ns", "p", "s");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    g.set_pod(&mirror);
    assert!(!may(&g, "n1", Attributes::resource("get", "", "secrets", "ns", "s")));
    assert!(!may(
        &g,
        "n1",
        Attributes::resource("create", "", "serviceaccounts", "ns", "sa").with_subresource("token")
    ));
    assert!(may(&g, "n1", Attributes::resource("get", "", "pods", "ns", "p")));
}

proptest! {
    /// Pods come, move in name, and go: at every moment a node reads exactly the secrets that some pod of its own,
    /// in the secret's namespace, names.
    #[test]
    fn a_node_never_reads_another_nodes_secret(
        steps in prop::collection::vec((0..3usize, 0..2usize, 0..4usize, 0..3usize, any::<bool>()), 1..60)
    ) {
        let (mut g, mut pods) = (NodeGraph::new(), std::collections::BTreeMap::new());
        for (node, ns, name, secret, remove) in steps {
            let (node, ns) = (format!("n{node}"), format!("ns{ns}"));
            let (name, secret) = (format!("p{name}"), format!("s{secret}"));
            if remove {
                g.remove_pod(&ns, &name);
                pods.remove(&(ns, name));
            } else {
                g.set_pod(&pod(&node, &ns, &name, &secret));
                pods.insert((ns, name), (node, secret));
            }
            for n in ["n0", "n1", "n2"] {
                for ns in ["ns0", "ns1"] {
                    for s in ["s0", "s1", "s2"] {
                        let want = pods.iter().any(|((pns, _), (pn, ps))| pns == ns && pn == n && ps == s);
                        for verb in ["get", "list", "watch"] {
                            prop_assert_eq!(may(&g, n, Attributes::resource(verb, "", "secrets", ns, s)), want);
                        }
                        prop_assert!(!may(&g, n, Attributes::resource("update", "", "secrets", ns, s)));
                    }
                    prop_assert!(!may(&g, n, Attributes::resource("list", "", "secrets", ns, "")));
                }
            }
        }
    }
}
