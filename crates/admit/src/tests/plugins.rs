//! The built-in admission plugins, one test each: what the cluster adds to an object, and what it does not let in.

use serde_json::{Value, json};

use super::{Objects, request};
use crate::{Annotations, Operation, PodSecurity, Policy, UserRef, check, mutate, prepare_create};

fn world() -> Objects {
    let mut world = Objects::default();
    world.add("", "namespaces", json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}}));
    world.add("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "ns"}}));
    world
}

/// A new object as the cluster completes it, or why it is refused.
fn admitted(group: &str, plural: &str, mut object: Value, world: &Objects) -> Result<Value, String> {
    let namespaced = !matches!(plural, "nodes" | "persistentvolumes");
    let r = request(Operation::Create, group, plural, if namespaced { "ns" } else { "" }, "x");
    object["metadata"]["name"] = json!("x");
    prepare_create(&r, &mut object);
    mutate(&r, &mut object, world).map_err(|s| s.message)?;
    check(&r, &object, None, world).map_err(|s| s.message)?;
    Ok(object)
}

fn pod(spec: Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    object
}

#[test]
fn every_pod_tolerates_a_sick_node_for_a_while() {
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let (sick, gone) = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable");
    let everything = json!({"operator": "Exists"});
    let own = json!({"key": sick, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    for (given, want) in [
        (json!([]), json!([toleration(sick), toleration(gone)])),
        (json!([own]), json!([own, toleration(gone)])),
        (json!([everything]), json!([everything])),
    ] {
        let got = admitted("", "pods", pod(json!({"tolerations": given})), &world()).unwrap();
        assert_eq!(got["spec"]["tolerations"], want, "{given}");
    }
}

#[test]
fn a_token_is_mounted_unless_somebody_says_no() {
    let mounted = |pod_says: Value, account_says: Value| {
        let mut world = world();
        world.change("", "serviceaccounts", "ns", "default", |a| {
            a["automountServiceAccountToken"] = account_says.clone();
        });
        let got =
            admitted("", "pods", pod(json!({"automountServiceAccountToken": pod_says})), &world).unwrap();
        let mount = &got["spec"]["containers"][0]["volumeMounts"][0]["mountPath"];
        assert_eq!(got["spec"]["serviceAccountName"], "default");
        mount == "/var/run/secrets/kubernetes.io/serviceaccount"
    };
    let (yes, no, silent) = (json!(true), json!(false), Value::Null);
    assert!(mounted(silent.clone(), silent.clone()));
    assert!(!mounted(silent.clone(), no.clone()));
    assert!(!mounted(no.clone(), yes.clone()));
    assert!(mounted(yes, no), "the pod has the last word");
}

#[test]
fn an_account_lends_its_pull_secrets() {
    let mut world = world();
    world.change("", "serviceaccounts", "ns", "default", |a| a["imagePullSecrets"] = json!([{"name": "p"}]));
    let got = admitted("", "pods", pod(json!({})), &world).unwrap();
    assert_eq!(got["spec"]["imagePullSecrets"], json!([{"name": "p"}]));
    let got = admitted("", "pods", pod(json!({"imagePullSecrets": [{"name": "own"}]})), &world).unwrap();
    assert_eq!(got["spec"]["imagePullSecrets"], json!([{"name": "own"}]));
}

#[test]
fn a_claim_gets_the_newest_default_class() {
    let class = |name: &str, made: &str, is_default: &str| {
        json!({"metadata": {"name": name, "creationTimestamp": made,
            "annotations": {"storageclass.kubernetes.io/is-default-class": is_default}}})
    };
    let mut world = world();
    for c in [
        class("old", "2026-01-01", "true"),
        class("new", "2026-01-02", "true"),
        class("no", "2026-01-03", "false"),
    ] {
        world.add("storage.k8s.io", "storageclasses", c);
    }
    let claim = |spec: Value| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}, "spec": spec});
    for (spec, want) in [
        (json!({}), json!("new")),
        (json!({"storageClassName": "old"}), json!("old")),
        (json!({"storageClassName": ""}), json!("")),
    ] {
        let got = admitted("", "persistentvolumeclaims", claim(spec.clone()), &world).unwrap();
        assert_eq!(got["spec"]["storageClassName"], want, "{spec}");
    }
    let mut noted = claim(json!({}));
    noted["metadata"]["annotations"] = json!({"volume.beta.kubernetes.io/storage-class": "old"});
    let got = admitted("", "persistentvolumeclaims", noted, &world).unwrap();
    assert_eq!(got["spec"]["storageClassName"], Value::Null, "it names one where they were named of old");
}

#[test]
fn an_ingress_gets_the_newest_default_class() {
    let class = |name: &str| json!({"metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
    let ingress = |meta: Value, spec: Value| json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec});
    let mut world = world();
    world.add("networking.k8s.io", "ingressclasses", class("a"));
    let get = |meta: Value, spec: Value, world: &Objects| {
        admitted("networking.k8s.io", "ingresses", ingress(meta, spec), world)
            .map(|i| i["spec"]["ingressClassName"].clone())
    };
    assert_eq!(get(json!({}), json!({}), &world), Ok(json!("a")));
    assert_eq!(get(json!({}), json!({"ingressClassName": "b"}), &world), Ok(json!("b")));
    let old = json!({"annotations": {"kubernetes.io/ingress.class": "b"}});
    assert_eq!(get(old, json!({}), &world), Ok(Value::Null));
    let mut newer = class("b");
    newer["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.add("networking.k8s.io", "ingressclasses", newer);
    assert_eq!(get(json!({}), json!({}), &world), Ok(json!("b")));
}

#[test]
fn a_runtime_class_costs_and_places() {
    let mut world = world();
    world.add(
        "node.k8s.io",
        "runtimeclasses",
        json!({"metadata": {"name": "r"}, "handler": "h",
        "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"nodeSelector": {"k": "v"}, "tolerations": [{"key": "t", "operator": "Exists"}]}}),
    );
    let got = admitted("", "pods", pod(json!({"runtimeClassName": "r", "nodeSelector": {"a": "b"}})), &world)
        .unwrap();
    assert_eq!(got["spec"]["overhead"], json!({"cpu": "10m"}));
    assert_eq!(got["spec"]["nodeSelector"], json!({"a": "b", "k": "v"}));
    assert!(
        got["spec"]["tolerations"].as_array().unwrap().contains(&json!({"key": "t", "operator": "Exists"}))
    );
    for (spec, word) in [
        (json!({"runtimeClassName": "r", "nodeSelector": {"k": "w"}}), "conflict"),
        (json!({"runtimeClassName": "r", "overhead": {"cpu": "1"}}), "Pod's Overhead doesn't match"),
        (json!({"overhead": {"cpu": "1"}}), "Pod Overhead set without corresponding"),
        (json!({"runtimeClassName": "gone"}), "RuntimeClass \"gone\" not found"),
    ] {
        let why = admitted("", "pods", pod(spec.clone()), &world).unwrap_err();
        assert!(why.contains(word), "{spec}: {why}");
    }
}

#[test]
fn a_new_node_takes_no_pods_yet() {
    let node = |spec: Value| json!({"apiVersion": "v1", "kind": "Node", "metadata": {}, "spec": spec});
    let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let got = admitted("", "nodes", node(json!({})), &world()).unwrap();
    assert_eq!(got["spec"]["taints"], json!([not_ready]));
    let got = admitted("", "nodes", node(json!({"taints": [not_ready]})), &world()).unwrap();
    assert_eq!(got["spec"]["taints"], json!([not_ready]));
}

#[test]
fn volumes_and_claims_are_protected_from_their_birth() {
    for (plural, kind, finalizer) in [
        ("persistentvolumes", "PersistentVolume", "kubernetes.io/pv-protection"),
        ("persistentvolumeclaims", "PersistentVolumeClaim", "kubernetes.io/pvc-protection"),
    ] {
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "spec": {}});
        let got = admitted("", plural, object, &world()).unwrap();
        assert_eq!(got["metadata"]["finalizers"], json!([finalizer]));
    }
}

#[test]
fn limit_ranges_fill_in_and_bound() {
    let mut world = world();
    let limits = json!([
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"},
            "min": {"cpu": "50m"}, "maxLimitRequestRatio": {"cpu": "10"}},
        {"type": "Pod", "max": {"cpu": "1500m"}},
    ]);
    world.add(
        "",
        "limitranges",
        json!({"metadata": {"name": "l", "namespace": "ns"}, "spec": {"limits": limits}}),
    );
    let of =
        |resources: Value| pod(json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}));
    let got = admitted("", "pods", of(json!({})), &world).unwrap();
    assert_eq!(
        got["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        got["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    for (resources, word) in [
        (json!({"limits": {"cpu": "2"}}), "maximum cpu usage per Container is 1, but limit is 2"),
        (
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "10m"}}),
            "minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "50m"}}),
            "cpu max limit to request ratio per Container is 10, but provided ratio is 20",
        ),
    ] {
        let why = admitted("", "pods", of(resources.clone()), &world).unwrap_err();
        assert!(why.contains(word), "{resources}: {why}");
    }
}

#[test]
fn quotas_count_what_their_scopes_say() {
    let quota =
        |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec});
    let refused = |spec: Value, object: Value| {
        let mut world = world();
        world.add("scheduling.k8s.io", "priorityclasses", json!({"metadata": {"name": "high"}, "value": 10}));
        world.add("", "resourcequotas", quota("q", spec));
        let plural = if object["kind"] == "Pod" { "pods" } else { "configmaps" };
        admitted("", plural, object, &world).err().unwrap_or_default()
    };
    let none = json!({"pods": "0"});
    let priority = |operator: &str, values: Value| {
        json!({"hard": none, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
    };
    let high = || pod(json!({"priorityClassName": "high"}));
    let short = || pod(json!({"activeDeadlineSeconds": 5}));
    let sized =
        || pod(json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}));
    for (spec, object, counts) in [
        (json!({"hard": none}), pod(json!({})), true),
        (json!({"hard": none, "scopes": ["Terminating"]}), short(), true),
        (json!({"hard": none, "scopes": ["Terminating"]}), pod(json!({})), false),
        (json!({"hard": none, "scopes": ["NotTerminating"]}), short(), false),
        (json!({"hard": none, "scopes": ["BestEffort"]}), pod(json!({})), true),
        (json!({"hard": none, "scopes": ["BestEffort"]}), sized(), false),
        (json!({"hard": none, "scopes": ["NotBestEffort"]}), sized(), true),
        (priority("In", json!(["high"])), high(), true),
        (priority("In", json!(["low"])), high(), false),
        (priority("NotIn", json!(["low"])), high(), true),
        (priority("Exists", json!([])), high(), true),
        (priority("DoesNotExist", json!([])), high(), false),
        (json!({"hard": {"count/pods": "0"}}), pod(json!({})), true),
        (
            json!({"hard": {"count/configmaps": "0"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
            true,
        ),
        (
            json!({"hard": {"configmaps": "0"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
            true,
        ),
    ] {
        let why = refused(spec.clone(), object);
        assert_eq!(why.contains("exceeded quota: q"), counts, "{spec}: {why:?}");
    }
    let why = refused(json!({"hard": {"limits.cpu": "1"}}), pod(json!({})));
    assert_eq!(why, "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: c");
}

#[test]
fn pod_security_warns_of_templates_and_refuses_pods_only() {
    let mut world = world();
    world.change("", "namespaces", "", "ns", |n| {
        n["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "baseline"});
    });
    let spec = json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i"}]});
    let object = json!({"metadata": {"name": "x"}, "spec": {"template": {"spec": spec}}});
    let r = request(Operation::Create, "apps", "deployments", "ns", "x");
    assert_eq!(
        check(&r, &object, None, &world).unwrap(),
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"]
    );
    let why = admitted("", "pods", pod(json!({"hostNetwork": true})), &world).unwrap_err();
    assert!(
        why.starts_with(
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces"
        ),
        "{why}"
    );
}

#[test]
fn only_one_class_counts_unnamed() {
    let mut world = world();
    let class = |name: &str| json!({"metadata": {"name": name}, "value": 1, "globalDefault": true});
    world.add("scheduling.k8s.io", "priorityclasses", class("first"));
    let r = request(Operation::Create, "scheduling.k8s.io", "priorityclasses", "", "x");
    assert_eq!(
        check(&r, &class("x"), None, &world).unwrap_err().message,
        "priorityclasses.scheduling.k8s.io \"x\" is forbidden: PriorityClass first is already marked as default. Only one default can exist"
    );
}

#[test]
fn a_node_may_not_speak_for_another() {
    let groups = ["system:nodes".to_owned()];
    let mut r = request(Operation::Update, "", "nodes", "", "n2");
    r.user = UserRef { name: "system:node:n1", groups: &groups };
    let node = json!({"metadata": {"name": "n2"}});
    assert_eq!(
        check(&r, &node, Some(&node), &world()).unwrap_err().message,
        "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
}

/// What becomes of a pod under a configuration: refused or not, the warnings, the notes for an audit.
fn judged(
    config: &Value,
    labels: Value,
    plural: &str,
    user: &str,
    class: &str,
) -> (bool, Vec<String>, Value) {
    let mut world = world();
    world.change("", "namespaces", "", "ns", |n| n["metadata"]["labels"] = labels.clone());
    let policy = Policy { pod_security: PodSecurity::parse(config).unwrap(), ..Policy::default() };
    let notes = Annotations::default();
    let group = if plural == "pods" { "" } else { "apps" };
    let mut r = request(Operation::Create, group, plural, "ns", "x");
    (r.user.name, r.policy, r.notes) = (user, &policy, Some(&notes));
    let spec =
        json!({"runtimeClassName": class, "hostPID": true, "containers": [{"name": "c", "image": "i"}]});
    let object = match plural {
        "pods" => json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}),
        _ => {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"template": {"spec": spec}}})
        }
    };
    let done = check(&r, &object, None, &world);
    (done.is_err(), done.unwrap_or_default(), json!(notes.take()))
}

fn configuration(defaults: Value, exemptions: Value) -> Value {
    json!({"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
        "defaults": defaults, "exemptions": exemptions})
}

#[test]
fn the_clusters_levels_count_where_a_namespace_says_nothing() {
    let baseline = r#"PodSecurity "baseline:v1.34": host namespaces (hostPID=true)"#;
    let defaults = json!({"enforce": "baseline", "enforce-version": "v1.34", "audit": "baseline", "audit-version": "v1.34", "warn": "baseline", "warn-version": "v1.34"});
    let config = configuration(defaults, json!({}));
    let violates = format!("would violate {baseline}");
    let (refused, warnings, notes) = judged(&config, json!({}), "pods", "jane", "");
    assert!(refused && warnings.is_empty());
    assert_eq!(
        notes,
        json!({"pod-security.kubernetes.io/enforce-policy": "baseline:v1.34", "pod-security.kubernetes.io/audit-violations": violates})
    );
    // What makes pods is not refused, but told of.
    let (refused, warnings, notes) = judged(&config, json!({}), "deployments", "jane", "");
    assert!(!refused);
    assert_eq!(warnings, std::slice::from_ref(&violates));
    assert_eq!(notes, json!({"pod-security.kubernetes.io/audit-violations": violates}));
    // A namespace's own labels come first, mode by mode.
    let labels = json!({"pod-security.kubernetes.io/enforce": "privileged", "pod-security.kubernetes.io/audit": "privileged"});
    let (refused, warnings, notes) = judged(&config, labels, "pods", "jane", "");
    assert!(!refused);
    assert_eq!(warnings, [violates]);
    assert_eq!(notes, json!({"pod-security.kubernetes.io/enforce-policy": "privileged:v1.34"}));
    // Labels that cannot be read enforce the strictest, and tell nobody.
    let labels = json!({"pod-security.kubernetes.io/enforce": "basline", "pod-security.kubernetes.io/audit": "x", "pod-security.kubernetes.io/warn": "x"});
    let (refused, warnings, notes) = judged(&configuration(json!({}), json!({})), labels, "pods", "jane", "");
    assert!(refused && warnings.is_empty());
    assert_eq!(notes["pod-security.kubernetes.io/enforce-policy"], "restricted:latest");
    assert!(
        notes["pod-security.kubernetes.io/error"].as_str().unwrap().starts_with("Failed to parse policy: ")
    );
}

#[test]
fn who_is_exempt_from_pod_security_is_noted() {
    let defaults = json!({"enforce": "restricted", "audit": "restricted", "warn": "restricted"});
    let exemptions = json!({"usernames": ["root"], "runtimeClasses": ["vm"], "namespaces": ["kube-system"]});
    let config = configuration(defaults.clone(), exemptions);
    let exempt = |why: &str| json!({"pod-security.kubernetes.io/exempt": why});
    for plural in ["pods", "deployments"] {
        assert_eq!(
            judged(&config, json!({}), plural, "root", ""),
            (false, vec![], exempt("user")),
            "{plural}"
        );
        assert_eq!(judged(&config, json!({}), plural, "jane", "vm"), (false, vec![], exempt("runtimeClass")));
        let (refused, warnings, _) = judged(&config, json!({}), plural, "jane", "other");
        assert_eq!((refused, warnings.is_empty()), (plural == "pods", plural == "pods"), "{plural}");
    }
    let whole = configuration(defaults, json!({"namespaces": ["ns"]}));
    assert_eq!(judged(&whole, json!({}), "pods", "jane", ""), (false, vec![], exempt("namespace")));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_whole() {
    let faults = |config: &Value| -> Vec<String> {
        let causes = PodSecurity::parse(config).expect_err("refused");
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    };
    let defaults = json!({"enforce": "strict", "warn-version": "1.30", "audit": 1, "wran": "baseline"});
    let exemptions = json!({"namespaces": ["a_b", "a", "a"], "usernames": [""], "runtimeClasses": "vm"});
    assert_eq!(
        faults(&configuration(defaults, exemptions)).join("\n"),
        r#"defaults.wran: Forbidden: unknown field
defaults.enforce: Invalid value: "strict": must be one of privileged, baseline, restricted
defaults.audit: Invalid value: 1: must be one of privileged, baseline, restricted
defaults.warn-version: Invalid value: "1.30": must be "latest" or "v1.x"
exemptions.namespaces[0]: Invalid value: "a_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
exemptions.namespaces[2]: Duplicate value: "a"
exemptions.runtimeClasses: Invalid value: "vm": must be a list
exemptions.usernames[0]: Required value"#
    );
    assert_eq!(faults(&json!({"kind": "PodSecurityConfiguration", "apiVersion": "v1"})).len(), 1);
}
