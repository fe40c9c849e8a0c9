//! Kinds and fields that are asked for less often: a good object, a change to it, and what is said.

use serde_json::{Value, json};

use super::rules::{causes, changes};
use super::{Objects, request};
use crate::{Operation, Request, check};

/// The rows of a kind: group, plural, namespace, a good object, and changes with the refusals that they bring.
pub(super) fn table(group: &str, plural: &str, namespace: &str, good: &Value, rows: &[(&str, Value, &str)]) {
    assert_eq!(causes(group, plural, namespace, good.clone()).join("; "), "", "{plural}: the good one");
    let mut wrong = Vec::new();
    for (pointer, value, want) in rows {
        let mut object = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match object.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
            other => other[key] = value.clone(),
        }
        let found = causes(group, plural, namespace, object).join("; ");
        if found != *want {
            wrong.push(format!("{plural} {pointer} {value}\n  found {found}\n  want  {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn services_say_what_belongs_to_their_type() {
    let good = json!({"metadata": {}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    table(
        "",
        "services",
        "ns",
        &good,
        &[
            (
                "/spec/externalTrafficPolicy",
                json!("Local"),
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ),
            (
                "/spec/healthCheckNodePort",
                json!(30001),
                "spec.healthCheckNodePort: Invalid value: 30001: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ),
            (
                "/spec/trafficDistribution",
                json!("Far"),
                "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
            ),
            (
                "/spec/ipFamilies",
                json!(["IPv6"]),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                "/spec/ipFamilyPolicy",
                json!("RequireDualStack"),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (
                "/spec/loadBalancerClass",
                json!("a/b"),
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ),
        ],
    );
}

#[test]
fn ingresses_and_policies_are_judged() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let good = json!({"metadata": {}, "spec": {"rules": [
        {"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}});
    table(
        "networking.k8s.io",
        "ingresses",
        "ns",
        &good,
        &[
            (
                "/spec/rules/0/host",
                json!("a.*.b"),
                "spec.rules[0].host: Invalid value: \"a.*.b\": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            ("/spec/rules/0/host", json!("*.b.c"), ""),
            (
                "/spec/rules/0/http/paths/0/path",
                json!("/a/.."),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'",
            ),
            (
                "/spec/rules",
                json!([]),
                "spec: Invalid value: []: either `defaultBackend` or `rules` must be specified",
            ),
            (
                "/spec/rules/0/http/paths/0/backend",
                json!({"resource": {"kind": "K"}}),
                "spec.rules[0].http.paths[0].backend.resource.name: Required value",
            ),
        ],
    );
    let good =
        json!({"metadata": {}, "spec": {"controller": "a.b/c", "parameters": {"kind": "K", "name": "n"}}});
    table(
        "networking.k8s.io",
        "ingressclasses",
        "",
        &good,
        &[
            (
                "/spec/parameters/scope",
                json!("Namespace"),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                "/spec/parameters/namespace",
                json!("x"),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
        ],
    );
    let good = json!({"metadata": {}, "spec": {"podSelector": {}, "egress": [
        {"ports": [{"port": 80, "endPort": 90}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}});
    table(
        "networking.k8s.io",
        "networkpolicies",
        "ns",
        &good,
        &[
            (
                "/spec/egress/0/ports/0/endPort",
                json!(79),
                "spec.egress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
            ),
            (
                "/spec/egress/0/ports/0/port",
                json!("http"),
                "spec.egress[0].ports[0].endPort: Invalid value: 90: may not be specified when `port` is non-numeric",
            ),
            (
                "/spec/egress/0/to/0/ipBlock/except",
                json!(["11.0.0.0/8"]),
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`",
            ),
        ],
    );
}

#[test]
fn jobs_are_judged_whole() {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let good = json!({"metadata": {}, "spec": {"completions": 2, "parallelism": 2, "completionMode": "Indexed",
        "manualSelector": true, "selector": {"matchLabels": {}}, "backoffLimitPerIndex": 1, "template": template,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}}]}}});
    table(
        "batch",
        "jobs",
        "ns",
        &good,
        &[
            (
                "/spec/podReplacementPolicy",
                json!("TerminatingOrFailed"),
                "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
            ),
            (
                "/spec/podFailurePolicy/rules/0/onExitCodes/values",
                json!([2, 1]),
                "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered",
            ),
            (
                "/spec/podFailurePolicy/rules/0/onExitCodes/values",
                json!([0]),
                "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
            ),
            (
                "/spec/podFailurePolicy/rules/0/onExitCodes/containerName",
                json!("x"),
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer names in the pod template",
            ),
            (
                "/spec/podFailurePolicy/rules/0",
                json!({"action": "Ignore"}),
                "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ),
            (
                "/spec/successPolicy",
                json!({"rules": [{}]}),
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
            ),
            (
                "/spec/maxFailedIndexes",
                json!(3),
                "spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions",
            ),
        ],
    );
}

#[test]
fn autoscalers_are_judged_whole() {
    let resource = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let good = json!({"metadata": {}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [resource], "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}}}});
    table(
        "autoscaling",
        "horizontalpodautoscalers",
        "ns",
        &good,
        &[
            (
                "/spec/maxReplicas",
                json!(0),
                "spec.maxReplicas: Required value: must be set and greater than 0; spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
            ),
            (
                "/spec/metrics/0/resource/target",
                json!({"type": "Utilization"}),
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            ),
            (
                "/spec/metrics/0/type",
                json!("Pods"),
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ),
            (
                "/spec/behavior/scaleUp/stabilizationWindowSeconds",
                json!(3601),
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
            ),
            (
                "/spec/behavior/scaleUp/policies/0/periodSeconds",
                json!(0),
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
            ),
        ],
    );
}

#[test]
fn quotas_and_limits_are_judged_whole() {
    let good = json!({"metadata": {}, "spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"]}});
    table(
        "",
        "resourcequotas",
        "ns",
        &good,
        &[
            (
                "/spec/scopes",
                json!(["BestEffort", "NotBestEffort"]),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                "/spec/hard",
                json!({"services": "1"}),
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ),
            (
                "/spec/scopeSelector",
                json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ),
        ],
    );
    let changed = changes("", "resourcequotas", good, |o| o["spec"]["scopes"] = json!(["Terminating"]));
    assert_eq!(changed, ["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"]);
    let good = json!({"metadata": {}, "spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}]}});
    table(
        "",
        "limitranges",
        "ns",
        &good,
        &[
            (
                "/spec/limits/0/max",
                json!({}),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
            (
                "/spec/limits/0/maxLimitRequestRatio",
                json!({"storage": "500m"}),
                "spec.limits[0].maxLimitRequestRatio[storage]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
        ],
    );
}

#[test]
fn what_drivers_tell_is_judged() {
    let good = json!({"metadata": {}, "spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}});
    table(
        "storage.k8s.io",
        "volumeattachments",
        "",
        &good,
        &[(
            "/spec/source",
            json!({}),
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        )],
    );
    let moved = changes("storage.k8s.io", "volumeattachments", good, |o| o["spec"]["nodeName"] = json!("m"));
    assert!(
        moved[0].starts_with("spec: Invalid value: ") && moved[0].ends_with(": field is immutable"),
        "{moved:?}"
    );
    let good = json!({"metadata": {}, "driverName": "a.b", "parameters": {"iops": "1"}});
    table(
        "storage.k8s.io",
        "volumeattributesclasses",
        "",
        &good,
        &[("/parameters", json!({}), "parameters: Required value: must contain at least one key/value pair")],
    );
    let changed =
        changes("storage.k8s.io", "volumeattributesclasses", good, |o| o["parameters"]["iops"] = json!("2"));
    assert_eq!(changed, ["parameters: Forbidden: updates to parameters are forbidden."]);
    let good = json!({"metadata": {}, "spec": {"drivers": [{"name": "a.b", "nodeID": "n"}]}});
    table(
        "storage.k8s.io",
        "csinodes",
        "",
        &good,
        &[(
            "/spec/drivers",
            json!([{"name": "a", "nodeID": "n"}, {"name": "a", "nodeID": "n"}]),
            "spec.drivers[1].name: Duplicate value: \"a\"",
        )],
    );
    let good = json!({"metadata": {}, "spec": {}});
    table(
        "storage.k8s.io",
        "csidrivers",
        "",
        &good,
        &[(
            "/spec/fsGroupPolicy",
            json!("Some"),
            "spec.fsGroupPolicy: Unsupported value: \"Some\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
        )],
    );
    let good = json!({"metadata": {}, "spec": {"cidrs": ["10.0.0.0/24"]}});
    table(
        "networking.k8s.io",
        "servicecidrs",
        "",
        &good,
        &[
            ("/spec/cidrs", json!([]), "spec.cidrs: Required value: at least one CIDR required"),
            (
                "/spec/cidrs",
                json!(["x"]),
                "spec.cidrs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
        ],
    );
}

#[test]
fn keys_have_at_most_one_prefix() {
    let qualified = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
    let got = causes("", "configmaps", "ns", json!({"metadata": {"labels": {"a/b/c": "x"}}}));
    assert_eq!(got, [format!("metadata.labels: Invalid value: \"a/b/c\": {qualified}")]);
    let got = causes("", "configmaps", "ns", json!({"metadata": {"labels": {"a/": "x"}}}));
    assert_eq!(got.len(), 2, "an empty name is empty and malformed: {got:?}");
}

pub(super) fn warned(
    group: &str,
    plural: &str,
    object: &Value,
    old: Option<&Value>,
    world: &Objects,
) -> Vec<String> {
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let ns = if plural == "namespaces" { "" } else { "ns" };
    let name = object["metadata"]["name"].as_str().unwrap_or("x");
    check(&request(operation, group, plural, ns, name), object, old, world).unwrap()
}

pub(super) fn world() -> Objects {
    let mut world = Objects::default();
    world.add("", "namespaces", json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}}));
    world
}

#[test]
fn what_is_odd_is_taken_with_a_warning() {
    let pod = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
    let env =
        json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A) 3"}]);
    for (object, want) in [
        (
            pod(json!({"containers": [{"name": "c", "env": env}]})),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ),
        (
            pod(json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}})),
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ),
        (
            pod(json!({"containers": [{"resources": {"limits": {"memory": "100m"}}}]})),
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
        ),
        (
            pod(json!({"containers": [{"ports": [{"containerPort": 1}, {"containerPort": 1}]}]})),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            pod(json!({"terminationGracePeriodSeconds": -1})),
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ),
    ] {
        assert_eq!(warned("", "pods", &object, None, &world()).join("; "), want, "{object}");
    }
    let mut dotted = pod(json!({}));
    dotted["metadata"]["name"] = json!("a.b");
    let got = warned("", "pods", &dotted, None, &world());
    assert!(
        got[0].starts_with("metadata.name: this is used in the Pod's hostname, which can result in"),
        "{got:?}"
    );
    let old = pod(json!({"terminationGracePeriodSeconds": -1}));
    assert!(warned("", "pods", &old.clone(), Some(&old), &world()).is_empty(), "nothing changes");
}

#[test]
fn a_namespace_that_becomes_strict_tells_of_its_pods() {
    let mut world = world();
    let host = |name: &str| json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"hostNetwork": true, "containers": []}});
    world.add("", "pods", host("b"));
    world.add("", "pods", host("a"));
    let namespace = |labels: Value| json!({"metadata": {"name": "ns", "labels": labels}});
    let old = namespace(json!({}));
    let strict = namespace(json!({"pod-security.kubernetes.io/enforce": "baseline"}));
    assert_eq!(
        warned("", "namespaces", &strict, Some(&old), &world),
        [
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces"
        ]
    );
    let slip = namespace(
        json!({"pod-security.kubernetes.io/warn": "strict", "pod-security.kubernetes.io/warn-version": "1.2"}),
    );
    let r = request(Operation::Update, "", "namespaces", "", "ns");
    assert_eq!(
        check(&r, &slip, Some(&old), &world).unwrap_err().message,
        "Namespace \"ns\" is invalid: [metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"strict\": must be one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.2\": must be \"latest\" or \"v1.x\"]"
    );
}

#[test]
fn a_claim_grows_where_its_class_lets_it() {
    let mut world = world();
    let class = |name: &str, grows: bool| json!({"metadata": {"name": name}, "allowVolumeExpansion": grows});
    world.add("storage.k8s.io", "storageclasses", class("firm", false));
    world.add("storage.k8s.io", "storageclasses", class("elastic", true));
    let claim = |class: &str, size: &str, phase: &str| {
        json!({"metadata": {"name": "x"}, "status": {"phase": phase},
            "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}})
    };
    let r = request(Operation::Update, "", "persistentvolumeclaims", "ns", "x");
    let grown = |class: &str, phase: &str| {
        check(&r, &claim(class, "2Gi", phase), Some(&claim(class, "1Gi", phase)), &world)
            .map_err(|s| s.message)
    };
    assert!(grown("elastic", "Bound").is_ok());
    assert_eq!(
        grown("firm", "Bound").unwrap_err(),
        "persistentvolumeclaims \"x\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
    assert_eq!(
        grown("elastic", "Pending").unwrap_err(),
        "persistentvolumeclaims \"x\" is forbidden: Only bound persistent volume claims can be expanded"
    );
}

#[test]
fn a_pod_is_resized_to_no_more_than_its_node_has() {
    let mut world = world();
    let allocatable = json!({"cpu": "2", "memory": "1Gi"});
    world.add("", "nodes", json!({"metadata": {"name": "n"}, "status": {"allocatable": allocatable}}));
    let labels = json!({"kubernetes.io/os": "windows"});
    world.add("", "nodes", json!({"metadata": {"name": "w", "labels": labels}}));
    let pod = |node: &str, cpu: &str, memory: &str| {
        json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": {"nodeName": node, "containers": [
            {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}})
    };
    let resized = |node: &str, cpu: &str, memory: &str| {
        let r = Request { subresource: "resize", ..request(Operation::Update, "", "pods", "ns", "x") };
        let old = pod(node, "1", "1Mi");
        let said = check(&r, &pod(node, cpu, memory), Some(&old), &world);
        said.map(drop).map_err(|s| s.message.split_once("forbidden: ").unwrap().1.to_owned())
    };
    for (node, cpu, memory, want) in [
        ("n", "2", "1Gi", Ok(())),
        ("", "9", "9Gi", Ok(())),
        ("gone", "1", "1Mi", Ok(())),
        ("gone", "2", "1Mi", Err("node \"gone\" not found")),
        ("w", "2", "1Mi", Err("pod resize is only supported on linux nodes, node \"w\" is \"windows\"")),
        (
            "n",
            "2001m",
            "2Gi",
            Err(
                "node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000; memory, requested: 2147483648, allocatable: 1073741824",
            ),
        ),
    ] {
        assert_eq!(resized(node, cpu, memory), want.map_err(str::to_owned), "{node} {cpu} {memory}");
    }
}
