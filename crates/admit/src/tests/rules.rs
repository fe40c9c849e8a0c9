//! Rules that no exchange was recorded of, as tables: a change to a good object and what is said about it.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::{Objects, request};
use crate::{
    Operation, UserRef, check, default, mutate, validate_addresses, validate_create, validate_update,
};

pub(super) fn causes(group: &str, plural: &str, namespace: &str, mut object: Value) -> Vec<String> {
    let r = request(Operation::Create, group, plural, namespace, "x");
    object["metadata"]["name"] = json!("x");
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    default(r.resource, &mut object);
    if r.is_on("", "services") {
        // Addresses are given out first.
        let early = validate_addresses(None, &object);
        if !early.is_empty() {
            return early.iter().map(Cause::to_string).collect();
        }
    }
    validate_create(&r, &object).iter().map(Cause::to_string).collect()
}

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut o = json!({"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    change(&mut o);
    o
}

#[test]
fn pods_are_judged_field_by_field() {
    let c = |f: fn(&mut Value)| pod(|o| f(&mut o["spec"]["containers"][0]));
    let s = |f: fn(&mut Value)| pod(|o| f(&mut o["spec"]));
    for (object, want) in [
        (pod(|_| {}), ""),
        (
            c(|c| c["env"] = json!([{"name": "A=B"}])),
            "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ),
        (
            c(|c| c["env"] = json!([{"name": "A", "valueFrom": {}}])),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        (
            c(|c| {
                c["env"] =
                    json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}}}])
            }),
            "",
        ),
        (
            c(|c| c["livenessProbe"] = json!({})),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            c(|c| c["livenessProbe"] = json!({"exec": {"command": ["x"]}, "successThreshold": 2})),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            c(|c| c["ports"] = json!([{"containerPort": 1, "name": "Aa"}])),
            "spec.containers[0].ports[0].name: Invalid value: \"Aa\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            c(|c| c["resources"] = json!({"requests": {"cpu": "-1"}})),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            c(|c| c["resources"] = json!({"requests": {"a.b/gpu": "1"}})),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            c(|c| c["image"] = json!(" i")),
            "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
        ),
        (
            c(|c| c["image"] = json!("stoa.dev/host")),
            "spec.containers[0].image: Forbidden: image \"stoa.dev/host\" is reserved for the cluster's own pods",
        ),
        (
            s(|s| s["containers"] = json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}])),
            "spec.containers[1].name: Duplicate value: \"c\"",
        ),
        (
            s(
                |s| s["containers"] = json!([{"name": "a", "image": "i", "ports": [{"containerPort": 1, "hostPort": 9}]}, {"name": "b", "image": "i", "ports": [{"containerPort": 2, "hostPort": 9}]}]),
            ),
            "spec.containers[1].ports[0].hostPort: Duplicate value: \"TCP//9\"",
        ),
        (
            s(|s| {
                s["initContainers"] =
                    json!([{"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["x"]}}}])
            }),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            c(|c| {
                c["restartPolicy"] = json!("Never");
                c["restartPolicyRules"] = json!([
                    {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
                    {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn"}}]);
            }),
            "",
        ),
        (
            c(|c| c["restartPolicy"] = json!("Sometimes")),
            "spec.containers[0].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ),
        (
            c(|c| {
                c["restartPolicyRules"] =
                    json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}])
            }),
            "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        ),
        (
            s(
                |s| s["initContainers"] = json!([{"name": "i", "image": "i", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]),
            ),
            "spec.initContainers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
        ),
        (
            c(|c| {
                c["restartPolicy"] = json!("Never");
                c["restartPolicyRules"] =
                    json!([{"action": "DoNotRestart", "exitCodes": {"operator": "In", "values": [3]}}]);
            }),
            "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"DoNotRestart\": supported values: \"Restart\", \"RestartAllContainers\"",
        ),
        (
            c(|c| {
                c["restartPolicy"] = json!("Never");
                c["restartPolicyRules"] = json!([{"action": "Restart"}]);
            }),
            "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
        ),
        (
            c(|c| {
                c["restartPolicy"] = json!("Never");
                c["restartPolicyRules"] = json!([{"action": "Restart", "exitCodes": {"values": [3]}}]);
            }),
            "spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: \"\": supported values: \"In\", \"NotIn\"",
        ),
        (
            c(|c| {
                let codes: Vec<i32> = (0..256).collect();
                c["restartPolicy"] = json!("Never");
                c["restartPolicyRules"] =
                    json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": codes}}]);
            }),
            "spec.containers[0].restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items",
        ),
        (
            c(|c| {
                let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}});
                c["restartPolicy"] = json!("Never");
                c["restartPolicyRules"] = json!(vec![rule; 21]);
            }),
            "spec.containers[0].restartPolicyRules: Too many: 21: must have at most 20 items",
        ),
        (
            s(|s| s["volumes"] = json!([{"name": "v", "hostPath": {"path": "/a/../b"}}])),
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            s(|s| s["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}, "emptyDir": {}}])),
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
        ),
        (
            s(|s| s["volumes"] = json!([{"name": "v", "configMap": {"name": "c", "defaultMode": 512}}])),
            "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
        ),
        (
            s(|s| {
                s["hostNetwork"] = json!(true);
                s["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": 2}]);
            }),
            "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true",
        ),
        (
            s(|s| s["tolerations"] = json!([{"operator": "Exists", "value": "x"}])),
            "spec.tolerations[0].operator: Invalid value: \"x\": value must be empty when `operator` is 'Exists'",
        ),
        (
            s(|s| s["dnsPolicy"] = json!("None")),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            s(|s| s["activeDeadlineSeconds"] = json!(0)),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            s(
                |s| s["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
            ),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
        ),
    ] {
        assert_eq!(causes("", "pods", "ns", object.clone()).join("; "), want, "{object}");
    }
}

#[test]
fn other_kinds_are_judged_field_by_field() {
    let service = |spec: Value| json!({"metadata": {}, "spec": spec});
    for (group, plural, ns, object, want) in [
        ("", "services", "ns", service(json!({})), "spec.ports: Required value"),
        (
            "",
            "services",
            "ns",
            service(json!({"ports": [{"port": 80}, {"port": 81}]})),
            "spec.ports[0].name: Required value; spec.ports[1].name: Required value",
        ),
        (
            "",
            "services",
            "ns",
            service(json!({"ports": [{"port": 80, "nodePort": 30000}]})),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            "",
            "services",
            "ns",
            service(json!({"ports": [{"port": 80}], "externalIPs": ["127.0.0.1"]})),
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ),
        (
            "",
            "endpoints",
            "ns",
            json!({"metadata": {}, "subsets": [{"addresses": [{"ip": "169.254.169.254"}]}]}),
            "subsets[0].addresses[0].ip: Invalid value: \"169.254.169.254\": may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ),
        (
            "",
            "configmaps",
            "ns",
            json!({"metadata": {}, "data": {"../x": "1"}}),
            "data[../x]: Invalid value: \"../x\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+'); data[../x]: Invalid value: \"../x\": must not start with '..'",
        ),
        (
            "",
            "secrets",
            "ns",
            json!({"metadata": {}, "type": "kubernetes.io/tls"}),
            "data[tls.crt]: Required value; data[tls.key]: Required value",
        ),
        (
            "",
            "secrets",
            "ns",
            json!({"metadata": {}, "data": {"a": "A".repeat(1 << 21)}}),
            "data: Too long: may not be more than 1048576 bytes",
        ),
        (
            "",
            "nodes",
            "",
            json!({"metadata": {}, "spec": {"taints": [{"key": "a", "effect": "Bad"}]}}),
            "metadata.taints[0].effect: Unsupported value: \"Bad\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ),
        (
            "",
            "events",
            "ns",
            json!({"metadata": {}, "involvedObject": {"namespace": "other"}}),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
        ),
        (
            "rbac.authorization.k8s.io",
            "roles",
            "ns",
            json!({"metadata": {}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
        ),
        (
            "scheduling.k8s.io",
            "priorityclasses",
            "",
            json!({"metadata": {}, "value": 1_000_000_001}),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            "apps",
            "deployments",
            "ns",
            json!({"metadata": {}, "spec": {"selector": {}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            "apps",
            "deployments",
            "ns",
            json!({"metadata": {}, "spec": {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "stoa.dev/host"}]}}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0; spec.template.spec.containers[0].image: Forbidden: image \"stoa.dev/host\" is reserved for the cluster's own pods",
        ),
    ] {
        assert_eq!(causes(group, plural, ns, object.clone()).join("; "), want, "{object}");
    }
}

#[test]
fn metadata_is_judged_on_every_kind() {
    let meta = |m: Value| json!({ "metadata": m });
    for (m, want) in [
        (
            json!({"annotations": {"a": "x".repeat(1 << 18)}}),
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        ),
        (
            json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "", "uid": "u"}]}),
            "metadata.ownerReferences.name: Invalid value: \"\": must not be empty",
        ),
        (
            json!({"finalizers": ["a b"]}),
            "metadata.finalizers: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'); metadata.finalizers[0]: Invalid value: \"a b\": name is neither a standard finalizer name nor is it fully qualified",
        ),
        (json!({"finalizers": ["foregroundDeletion", "a.b/c"]}), ""),
    ] {
        assert_eq!(causes("", "configmaps", "ns", meta(m.clone())).join("; "), want, "{m}");
    }
}

pub(super) fn changes(group: &str, plural: &str, old: Value, f: impl FnOnce(&mut Value)) -> Vec<String> {
    let r = request(Operation::Update, group, plural, "ns", "x");
    let mut old = old;
    old["metadata"] = json!({"name": "x", "uid": "u"});
    if r.resource.namespaced {
        old["metadata"]["namespace"] = json!("ns");
    }
    default(r.resource, &mut old);
    let mut new = old.clone();
    f(&mut new);
    validate_update(&r, &old, &new).iter().map(Cause::to_string).collect()
}

#[test]
fn what_may_not_change_is_named() {
    let config = json!({"data": {"a": "1"}, "immutable": true});
    assert_eq!(
        changes("", "configmaps", config, |o| o["data"]["a"] = json!("2")),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let secret = json!({"type": "Opaque"});
    assert_eq!(
        changes("", "secrets", secret, |o| o["type"] = json!("x/y")),
        ["type: Invalid value: \"x/y\": field is immutable"]
    );
    let binding = json!({"roleRef": {"kind": "Role", "name": "a"}, "subjects": []});
    assert_eq!(
        changes("rbac.authorization.k8s.io", "rolebindings", binding, |o| o["roleRef"]["name"] = json!("b")),
        [
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"b\"}: cannot change roleRef"
        ]
    );
    let service =
        json!({"spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 1}]}});
    let moved = changes("", "services", service, |o| {
        o["spec"]["clusterIP"] = json!("10.0.0.2");
        o["spec"]["clusterIPs"] = json!(["10.0.0.2"]);
    });
    assert_eq!(moved, ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]);
    assert_eq!(
        changes("", "pods", pod(|_| {}), |o| o["spec"]["containers"][0]["image"] = json!("j")),
        [""; 0]
    );
    let uid = changes("", "pods", pod(|_| {}), |o| o["metadata"]["uid"] = json!("v"));
    let immutable = "metadata.uid: Invalid value: \"v\": field is immutable";
    assert_eq!(uid, [immutable; 2], "once by the storage, once by the kind");
    let host =
        changes("", "pods", pod(|_| {}), |o| o["spec"]["containers"][0]["image"] = json!("stoa.dev/host:1"));
    assert_eq!(host.len(), 1, "an update is no way around: {host:?}");
    let mirror = changes("", "pods", pod(|o| o["spec"]["nodeName"] = json!("n")), |o| {
        o["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    });
    let at = "metadata.annotations[kubernetes.io/config.mirror]";
    assert_eq!(mirror, [format!("{at}: Forbidden: may not add mirror pod annotation")]);
    let tolerated = changes(
        "",
        "pods",
        pod(|o| o["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}])),
        |o| {
            o["spec"]["tolerations"] = json!([]);
        },
    );
    assert_eq!(
        tolerated,
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

fn namespace(name: &str, phase: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"phase": phase}})
}

#[test]
fn a_namespace_that_goes_away_takes_nothing_in() {
    let mut world = Objects::default();
    world.add("", "namespaces", namespace("ns", "Terminating"));
    let r = request(Operation::Create, "", "configmaps", "ns", "x");
    let status = check(&r, &json!({"metadata": {"name": "x"}}), None, &world).unwrap_err();
    assert_eq!(
        status.message,
        "configmaps \"x\" is forbidden: unable to create new content in namespace ns because it is being terminated"
    );
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("NamespaceTerminating", "metadata.namespace"));
    let delete = request(Operation::Delete, "", "configmaps", "ns", "x");
    assert!(check(&delete, &json!({}), None, &world).is_ok());
}

#[test]
fn some_namespaces_stay() {
    for (name, stays) in [("default", true), ("kube-system", true), ("kube-public", true), ("mine", false)] {
        let r = request(Operation::Delete, "", "namespaces", "", name);
        assert_eq!(
            check(&r, &namespace(name, "Active"), None, &Objects::default()).is_err(),
            stays,
            "{name}"
        );
    }
}

#[test]
fn a_pod_needs_its_account_unless_the_cluster_itself_makes_it() {
    let mut world = Objects::default();
    world.add("", "namespaces", namespace("ns", "Active"));
    let bare = || pod(|o| o["spec"]["automountServiceAccountToken"] = json!(false));
    let mut r = request(Operation::Create, "", "pods", "ns", "x");
    assert_eq!(
        mutate(&r, &mut bare(), &world).unwrap_err().message,
        "pods \"x\" is forbidden: error looking up service account ns/default: serviceaccount \"default\" not found"
    );
    let groups = [crate::INTERNAL_GROUP.to_owned()];
    r.user = UserRef { name: "system:stoa:mesos", groups: &groups };
    assert!(mutate(&r, &mut bare(), &world).is_ok());
    assert!(mutate(&r, &mut pod(|_| {}), &world).is_err(), "a token needs an account");
}

#[test]
fn a_priority_comes_from_a_class_only() {
    let mut world = Objects::default();
    world.add("", "namespaces", namespace("ns", "Active"));
    world.add("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "ns"}}));
    let class =
        json!({"metadata": {"name": "high"}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    world.add("scheduling.k8s.io", "priorityclasses", class);
    let r = request(Operation::Create, "", "pods", "ns", "x");
    let mut plain = pod(|_| {});
    mutate(&r, &mut plain, &world).unwrap();
    let spec = &plain["spec"];
    assert_eq!(
        (&spec["priorityClassName"], &spec["priority"], &spec["preemptionPolicy"]),
        (&json!("high"), &json!(7), &json!("Never"))
    );
    let mut forged = pod(|o| o["spec"]["priority"] = json!(2_000_000_000));
    assert!(mutate(&r, &mut forged, &world).is_err());
    let mut unknown = pod(|o| o["spec"]["priorityClassName"] = json!("nope"));
    assert_eq!(
        mutate(&r, &mut unknown, &world).unwrap_err().message,
        "pods \"x\" is forbidden: no PriorityClass with name nope was found"
    );
}

#[test]
fn what_is_seldom_wrong_is_told_too() {
    let volume = |class: Value, source: &str| {
        let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "volumeAttributesClassName": class});
        spec[source] = match source {
            "csi" => json!({"driver": "d.example", "volumeHandle": "h"}),
            _ => json!({"path": "/a"}),
        };
        json!({"metadata": {}, "spec": spec})
    };
    let claim = json!({"metadata": {}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeAttributesClassName": "A_"}});
    let node = |cidrs: Value| json!({"metadata": {}, "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs}});
    let limits = |kind: &str| json!({"metadata": {}, "spec": {"limits": [{"type": kind}]}});
    let quota = |scope: &str, operator: &str, resource: &str| json!({"metadata": {}, "spec": {"hard": {resource: "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": ["gold"]}]}}});
    let subdomain = "a lowercase RFC 1123 subdomain must consist of";
    for (plural, namespace, object, want) in [
        ("persistentvolumes", "", volume(json!("gold"), "csi"), vec![]),
        (
            "persistentvolumes",
            "",
            volume(json!(""), "hostPath"),
            vec![
                "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
                "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
            ],
        ),
        ("persistentvolumeclaims", "ns", claim, vec![subdomain]),
        ("nodes", "", node(json!(["10.0.0.0/24", "fd00::/64"])), vec![]),
        (
            "nodes",
            "",
            node(json!(["10.0.0.0/24", "10.0.1.0/24"])),
            vec![
                "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family",
            ],
        ),
        ("limitranges", "ns", limits("example.com/Thing"), vec![]),
        (
            "limitranges",
            "ns",
            limits("Thing"),
            vec![
                "spec.limits[0].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified",
            ],
        ),
        ("resourcequotas", "ns", quota("VolumeAttributesClass", "In", "persistentvolumeclaims"), vec![]),
    ] {
        let got = causes("", plural, namespace, object.clone());
        assert_eq!(got.len(), want.len(), "{object}: {got:?}");
        assert!(got.iter().zip(&want).all(|(g, w)| g.contains(w)), "{object}: {got:?}");
    }
}

#[test]
fn a_pod_is_born_without_ephemeral_containers_and_a_service_names_a_family_once() {
    let ephemeral = pod(|o| o["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]));
    assert_eq!(
        causes("", "pods", "ns", ephemeral),
        ["spec.ephemeralContainers: Forbidden: cannot be set on create"]
    );
    let twice = json!({"metadata": {}, "spec": {"ports": [{"port": 80}], "ipFamilies": ["IPv4", "IPv4"]}});
    assert_eq!(causes("", "services", "ns", twice), ["spec.ipFamilies[1]: Duplicate value: \"IPv4\""]);
}
