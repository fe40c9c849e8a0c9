//! Claims about the index, the last one against an evaluator that scans everything.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn stock() -> Rbac {
    let mut rbac = Rbac::new();
    for o in crate::bootstrap_objects() {
        match o["kind"].as_str().unwrap() {
            "ClusterRole" => rbac.set_cluster_role(&o),
            "Role" => rbac.set_role(&o),
            _ => rbac.set_binding(&o),
        }
    }
    rbac
}

#[test]
fn the_reason_names_the_binding() {
    let rbac = stock();
    let admin = User::new("a", ["system:masters", "system:authenticated"]);
    let d = rbac.authorize(&admin, &Attributes::resource("get", "", "pods", "x", "p"));
    assert_eq!(
        d.reason(),
        r#"RBAC: allowed by ClusterRoleBinding "cluster-admin" of ClusterRole "cluster-admin" to Group "system:masters""#
    );
    let mut rbac = rbac;
    rbac.set_binding(&json!({"metadata": {"name": "b", "namespace": "ns"},
        "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}));
    let sa = User::new("system:serviceaccount:ns:sa", ["system:serviceaccounts"]);
    let d = rbac.authorize(&sa, &Attributes::resource("list", "apps", "deployments", "ns", ""));
    assert_eq!(
        d.reason(),
        r#"RBAC: allowed by RoleBinding "b/ns" of ClusterRole "view" to ServiceAccount "sa/ns""#
    );
    assert!(!rbac.authorize(&sa, &Attributes::resource("list", "apps", "deployments", "", "")).is_allowed());
}

#[test]
fn the_anonymous_see_health_and_version_only() {
    let (rbac, anonymous) = (stock(), User::new("system:anonymous", ["system:unauthenticated"]));
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert!(rbac.authorize(&anonymous, &Attributes::path("get", path)).is_allowed(), "{path}");
    }
    for path in ["/api", "/apis", "/metrics", "/openapi/v2"] {
        assert!(!rbac.authorize(&anonymous, &Attributes::path("get", path)).is_allowed(), "{path}");
    }
    assert!(
        !rbac.authorize(&anonymous, &Attributes::resource("list", "", "namespaces", "", "")).is_allowed()
    );
}

#[test]
fn a_binding_without_its_role_says_so() {
    let mut rbac = stock();
    rbac.set_binding(&json!({"metadata": {"name": "b", "namespace": "ns"},
        "roleRef": {"kind": "Role", "name": "gone"}, "subjects": [{"kind": "User", "name": "u"}]}));
    let d = rbac.authorize(&User::new("u", [""; 0]), &Attributes::resource("get", "", "pods", "ns", "p"));
    assert_eq!(d.reason(), r#"RBAC: role.rbac.authorization.k8s.io "gone" not found"#);
}

#[test]
fn aggregated_rules_are_those_that_the_stock_server_recorded() {
    let rbac = stock();
    for o in crate::bootstrap_objects() {
        if o.get("aggregationRule").is_none() {
            continue;
        }
        let name = object_name(&o);
        let mut got = rbac.aggregated_rules(name).unwrap().to_vec();
        let mut want = Rule::list_of(&o);
        got.sort();
        want.sort();
        want.dedup();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn a_label_joins_a_role_to_those_that_aggregate_it() {
    let mut rbac = stock();
    rbac.set_binding(&json!({"metadata": {"name": "b", "namespace": "ns"},
        "roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [{"kind": "User", "name": "u"}]}));
    let (u, get) = (User::new("u", [""; 0]), Attributes::resource("get", "x.io", "foos", "ns", ""));
    assert!(!rbac.authorize(&u, &get).is_allowed());
    rbac.set_cluster_role(&json!({"metadata": {"name": "foos", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["x.io"], "resources": ["foos"], "verbs": ["get"]}]}));
    assert!(rbac.authorize(&u, &get).is_allowed(), "admin gathers edit, which gathers view");
    rbac.remove_cluster_role("foos");
    assert!(!rbac.authorize(&u, &get).is_allowed());
}

#[test]
fn a_review_lists_what_the_recorded_server_lists() {
    let rules = stock().rules_for(&User::new("admin", ["system:masters", "system:authenticated"]), "default");
    let got = serde_json::to_value(&rules).unwrap();
    assert_eq!(got["resourceRules"][0], json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
    assert_eq!(got["nonResourceRules"][0], json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    assert_eq!(got["resourceRules"].as_array().unwrap().len(), 3);
    assert_eq!(got["nonResourceRules"].as_array().unwrap().len(), 3);
}

/// Everything in plain lists, scanned for every question.
#[derive(Default)]
struct Naive {
    roles: Vec<Value>,
    bindings: Vec<Value>,
}

fn same(a: &Value, b: &Value) -> bool {
    object_name(a) == object_name(b) && object_namespace(a) == object_namespace(b)
}

impl Naive {
    fn set(list: &mut Vec<Value>, o: &Value) {
        list.retain(|x| !same(x, o));
        list.push(o.clone());
    }

    fn allows(&self, user: &User, a: &Attributes<'_>) -> bool {
        self.bindings.iter().any(|b| {
            let ns = object_namespace(b);
            let subject = b["subjects"].as_array().unwrap().iter().any(|s| match text(s, "kind") {
                "User" => text(s, "name") == user.name,
                "Group" => user.is_member(text(s, "name")),
                _ => {
                    let n = if text(s, "namespace").is_empty() { ns } else { text(s, "namespace") };
                    user.name == format!("system:serviceaccount:{n}:{}", text(s, "name")) && !n.is_empty()
                }
            });
            let role_ns = if b["roleRef"]["kind"] == "Role" { ns } else { "" };
            (ns.is_empty() || ns == a.namespace)
                && subject
                && self.roles.iter().any(|r| {
                    object_name(r) == text(&b["roleRef"], "name")
                        && object_namespace(r) == role_ns
                        && Rule::list_of(r).iter().any(|rule| rule.allows(a))
                })
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    SetRole(Value),
    RemoveRole(String, String),
    SetBinding(Value),
    RemoveBinding(String, String),
}

fn one_of(items: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(items).prop_map(str::to_owned)
}

const NAMESPACES: &[&str] = &["", "a", "b"];
const NAMES: &[&str] = &["r1", "r2", "r3"];

fn step() -> impl Strategy<Value = Step> {
    let rule = (
        one_of(&["get", "list", "*"]),
        one_of(&["", "apps", "*"]),
        one_of(&["pods", "pods/log", "*/scale", "*"]),
        prop::option::of(one_of(&["x", "y"])),
    )
        .prop_map(|(v, g, r, n)| {
            json!({"verbs": [v], "apiGroups": [g], "resources": [r], "resourceNames": Vec::from_iter(n)})
        });
    let subject = (one_of(&["User", "Group", "ServiceAccount"]), one_of(&["u", "g", "s"]), one_of(NAMESPACES))
        .prop_map(|(k, n, ns)| json!({"kind": k, "name": n, "namespace": if k == "ServiceAccount" { ns } else { String::new() }}));
    let role =
        (one_of(NAMESPACES), one_of(NAMES), prop::collection::vec(rule, 0..3)).prop_map(|(ns, n, rules)| {
            Step::SetRole(json!({"metadata": {"name": n, "namespace": ns}, "rules": rules}))
        });
    let binding = (
        one_of(NAMESPACES),
        one_of(NAMES),
        any::<bool>(),
        one_of(NAMES),
        prop::collection::vec(subject, 0..3),
    )
        .prop_map(|(ns, n, cluster, role, subjects)| {
            let kind = if cluster || ns.is_empty() { "ClusterRole" } else { "Role" };
            Step::SetBinding(json!({"metadata": {"name": n, "namespace": ns},
                "roleRef": {"kind": kind, "name": role}, "subjects": subjects}))
        });
    prop_oneof![
        3 => role,
        3 => binding,
        1 => (one_of(NAMESPACES), one_of(NAMES)).prop_map(|(ns, n)| Step::RemoveRole(ns, n)),
        1 => (one_of(NAMESPACES), one_of(NAMES)).prop_map(|(ns, n)| Step::RemoveBinding(ns, n)),
    ]
}

/// Cluster roles of which some gather what carries a label, in chains and circles: `None` removes one.
fn aggregating() -> impl Strategy<Value = (String, Option<Value>)> {
    let names = one_of(&["r1", "r2", "r3", "r4"]);
    let labels = prop::collection::vec(one_of(&["a", "b"]), 0..2);
    let selects = prop::option::of(prop::collection::vec(one_of(&["a", "b"]), 0..2));
    (names, prop::option::weighted(0.8, (labels, selects, one_of(&["get", "list"])))).prop_map(
        |(name, role)| {
            let role = role.map(|(labels, selects, verb)| {
                let labels: serde_json::Map<String, Value> =
                    labels.into_iter().map(|l| (l, json!("y"))).collect();
                let mut role = json!({"metadata": {"name": name, "labels": labels},
                "rules": [{"apiGroups": [""], "resources": [name], "verbs": [verb]}]});
                if let Some(selects) = selects {
                    let selectors: Vec<Value> =
                        selects.into_iter().map(|l| json!({"matchLabels": {l: "y"}})).collect();
                    role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
                }
                role
            });
            (name, role)
        },
    )
}

proptest! {
    #[test]
    fn what_roles_gather_does_not_depend_on_how_they_came(steps in prop::collection::vec(aggregating(), 1..30)) {
        let (mut rbac, mut last) = (Rbac::new(), BTreeMap::new());
        for (name, role) in steps {
            match role {
                Some(role) => {
                    rbac.set_cluster_role(&role);
                    last.insert(name, role);
                }
                None => {
                    rbac.remove_cluster_role(&name);
                    last.remove(&name);
                }
            }
        }
        let mut fresh = Rbac::new();
        for role in last.values() {
            fresh.set_cluster_role(role);
        }
        prop_assert_eq!(rbac.cluster_roles, fresh.cluster_roles);
    }

    #[test]
    fn the_index_decides_as_a_scan_does(steps in prop::collection::vec(step(), 1..40)) {
        let (mut rbac, mut naive) = (Rbac::new(), Naive::default());
        for step in steps {
            match step {
                Step::SetRole(r) => {
                    if object_namespace(&r).is_empty() { rbac.set_cluster_role(&r) } else { rbac.set_role(&r) }
                    Naive::set(&mut naive.roles, &r);
                }
                Step::RemoveRole(ns, n) => {
                    if ns.is_empty() { rbac.remove_cluster_role(&n) } else { rbac.remove_role(&ns, &n) }
                    naive.roles.retain(|x| object_name(x) != n || object_namespace(x) != ns);
                }
                Step::SetBinding(b) => { rbac.set_binding(&b); Naive::set(&mut naive.bindings, &b); }
                Step::RemoveBinding(ns, n) => {
                    rbac.remove_binding(&ns, &n);
                    naive.bindings.retain(|x| object_name(x) != n || object_namespace(x) != ns);
                }
            }
        }
        for user in [User::new("u", ["g"]), User::new("g", [""; 0]), User::new("system:serviceaccount:a:s", ["u"])] {
            for ns in NAMESPACES {
                for (verb, group, resource, sub, name) in [
                    ("get", "", "pods", "", "x"), ("list", "", "pods", "", ""), ("get", "", "pods", "log", "y"),
                    ("get", "apps", "deployments", "scale", "z"), ("delete", "apps", "deployments", "", "x"),
                ] {
                    let a = Attributes::resource(verb, group, resource, ns, name).with_subresource(sub);
                    prop_assert_eq!(rbac.authorize(&user, &a).is_allowed(), naive.allows(&user, &a), "{:?} {:?}", user, a);
                }
            }
        }
        // Nothing is left behind by what was removed.
        let names: Vec<(String, String)> = rbac.bindings.keys().cloned().collect();
        for (ns, n) in names { rbac.remove_binding(&ns, &n); }
        prop_assert!(rbac.users.is_empty() && rbac.groups.is_empty());
    }
}
