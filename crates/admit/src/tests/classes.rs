//! Leases and classes of pods and volumes, and what drivers of storage tell: what is said of a bad one, and of a change.

use serde_json::{Value, json};

use super::kinds::table;
use super::rules::{causes, changes};
use super::{Objects, request};
use crate::strategy::{prepare_create, prepare_update};
use crate::{Operation, check};

pub(super) const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

#[test]
fn leases_are_held_for_a_while_and_may_be_let_go() {
    let good = json!({"metadata": {}, "spec": {"holderIdentity": "", "leaseDurationSeconds": 15}});
    let rows: &[(&str, Value, &str)] = &[
        (
            "/spec/leaseDurationSeconds",
            json!(0),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            "/spec/leaseTransitions",
            json!(-1),
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/strategy",
            json!("Any"),
            r#"spec.strategy.strategy: Unsupported value: "Any": supported values: "OldestEmulationVersion""#,
        ),
        ("/spec/strategy", json!("a.example/b"), ""),
        (
            "/spec/preferredHolder",
            json!("b"),
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ),
    ];
    table("coordination.k8s.io", "leases", "ns", &good, rows);
    let r = request(Operation::Create, "coordination.k8s.io", "leases", "ns", "x");
    let mut lease = good.clone();
    lease["spec"]["strategy"] = json!("OldestEmulationVersion");
    lease["spec"]["preferredHolder"] = json!("b");
    let stored = lease.clone();
    prepare_create(&r, &mut lease);
    assert_eq!(lease["spec"], good["spec"], "picking holders is off");
    let r = request(Operation::Update, "coordination.k8s.io", "leases", "ns", "x");
    let mut kept = stored.clone();
    prepare_update(&r, &stored, &mut kept);
    assert_eq!(kept["spec"], stored["spec"], "what is stored may stay");
}

#[test]
fn priority_classes_do_not_change_what_they_are_worth() {
    let good = json!({"metadata": {}, "value": 1});
    let rows: &[(&str, Value, &str)] = &[
        (
            "/value",
            json!(1_000_000_001),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        ("/value", json!(-2_000_000_000), ""),
        ("/preemptionPolicy", json!(""), "preemptionPolicy: Required value"),
        (
            "/preemptionPolicy",
            json!("Maybe"),
            r#"preemptionPolicy: Unsupported value: "Maybe": supported values: "PreemptLowerPriority", "Never""#,
        ),
    ];
    table("scheduling.k8s.io", "priorityclasses", "", &good, rows);
    let changed = changes("scheduling.k8s.io", "priorityclasses", good, |o| {
        o["value"] = json!(2_000_000_000);
        o["preemptionPolicy"] = json!("Never");
    });
    assert_eq!(
        changed,
        [
            "value: Forbidden: may not be changed in an update.",
            "preemptionPolicy: Invalid value: \"Never\": field is immutable"
        ]
    );
    let named = |name: &str, value: i64, default: bool| {
        let r = request(Operation::Create, "scheduling.k8s.io", "priorityclasses", "", name);
        let class = json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
        crate::validate_create(&r, &class).iter().map(|c| c.to_string()).collect::<Vec<_>>().join("; ")
    };
    const RESERVED: &str = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";
    assert_eq!(named("system-node-critical", 2_000_001_000, false), "");
    assert_eq!(
        named("system-node-critical", 5, true),
        format!("{RESERVED}value of system-node-critical PriorityClass must be 2000001000")
    );
    assert_eq!(
        named("system-node-critical", 2_000_001_000, true),
        format!("{RESERVED}globalDefault of system-node-critical PriorityClass must be false")
    );
    assert_eq!(
        named("system-mine", 5, false),
        format!("{RESERVED}system-mine is not a known system priority class")
    );
}

#[test]
fn runtime_classes_say_what_a_pod_costs_besides() {
    let toleration = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
    let good = json!({
        "metadata": {},
        "handler": "gv",
        "overhead": {"podFixed": {"cpu": "10m"}},
        "scheduling": {"tolerations": [toleration]},
    });
    let rows: &[(&str, Value, &str)] = &[
        (
            "/overhead/podFixed",
            json!({"cpu": "-1"}),
            r#"overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0"#,
        ),
        (
            "/scheduling/tolerations",
            json!([toleration, {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]),
            r#"scheduling.tolerations[1]: Duplicate value: {"Key":"a","Operator":"Exists","Value":"","Effect":"NoExecute","TolerationSeconds":5}"#,
        ),
    ];
    table("node.k8s.io", "runtimeclasses", "", &good, rows);
    // Finalizers of nobody's domain are fine in the groups that are held to the general rules.
    let mut odd = good.clone();
    odd["metadata"]["finalizers"] = json!(["x"]);
    assert_eq!(causes("node.k8s.io", "runtimeclasses", "", odd), [""; 0]);
    let moved = changes("node.k8s.io", "runtimeclasses", good, |o| o["handler"] = json!("other"));
    assert_eq!(moved, ["handler: Invalid value: \"other\": field is immutable"]);
}

#[test]
fn storage_classes_are_of_a_named_provisioner_and_differ_in_their_topologies() {
    let good = json!({"metadata": {}, "provisioner": "CSI.example/Disk"});
    let zone = |values: Value| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
    let long = "x".repeat(256 * 1024);
    let wrong = format!("provisioner: Invalid value: \"a b\": {QUALIFIED}");
    let rows: &[(&str, Value, &str)] = &[
        ("/provisioner", json!(""), "provisioner: Required value"),
        ("/provisioner", json!("A B"), &wrong),
        ("/parameters", json!({"": "x"}), r#"parameters: Invalid value: "": field can not be empty."#),
        ("/parameters", json!({"a": long}), "parameters: Too long: may not be more than 262144 bytes"),
        ("/reclaimPolicy", json!(""), ""),
        (
            "/reclaimPolicy",
            json!("Recycle"),
            r#"reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain""#,
        ),
        (
            "/volumeBindingMode",
            json!(""),
            r#"volumeBindingMode: Unsupported value: "": supported values: "Immediate", "WaitForFirstConsumer""#,
        ),
        ("/allowedTopologies", json!([zone(json!(["a"])), zone(json!(["b"]))]), ""),
        (
            "/allowedTopologies",
            json!([zone(json!(["a", "b"])), zone(json!(["b", "a"]))]),
            r#"allowedTopologies[1].matchLabelExpressions: Duplicate value: """#,
        ),
        (
            "/allowedTopologies",
            json!([{}]),
            r#"allowedTopologies[0].matchLabelExpressions: Duplicate value: """#,
        ),
        (
            "/allowedTopologies",
            json!([{"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}, {"key": "zone"}]}]),
            r#"allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a"; allowedTopologies[0].matchLabelExpressions[1].values: Required value; allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "zone""#,
        ),
    ];
    table("storage.k8s.io", "storageclasses", "", &good, rows);
    let changed = changes("storage.k8s.io", "storageclasses", good, |o| {
        o["provisioner"] = json!("other");
        o["parameters"] = json!({"a": "b"});
        o["reclaimPolicy"] = json!("Retain");
        o["volumeBindingMode"] = json!("WaitForFirstConsumer");
        o["allowVolumeExpansion"] = json!(true);
        o["mountOptions"] = json!(["ro"]);
    });
    assert_eq!(
        changed,
        [
            r#"parameters: Invalid value: {"a":"b"}: field is immutable"#,
            r#"provisioner: Invalid value: "other": field is immutable"#,
            r#"reclaimPolicy: Invalid value: "Retain": field is immutable"#,
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ]
    );
}

#[test]
fn many_topologies_alike_are_found_in_time_in_proportion_to_them() {
    let all: Vec<Value> = (0..20_000).map(|_| json!({})).collect();
    let class = json!({"metadata": {}, "provisioner": "p", "allowedTopologies": all});
    assert_eq!(causes("storage.k8s.io", "storageclasses", "", class).len(), 1_000);
}

#[test]
fn drivers_say_what_they_ask_for() {
    let good = json!({"metadata": {}, "spec": {}});
    let rows: &[(&str, Value, &str)] = &[
        (
            "/spec/serviceAccountTokenInSecrets",
            json!(false),
            "spec.serviceAccountTokenInSecrets: Invalid value: false: serviceAccountTokenInSecrets is set but no tokenRequests are specified",
        ),
        (
            "/spec/tokenRequests",
            json!([{"audience": "a"}, {"audience": "a", "expirationSeconds": 1}, {"audience": "b", "expirationSeconds": 599}]),
            r#"spec.tokenRequests[1].audience: Duplicate value: "a"; spec.tokenRequests[2].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"#,
        ),
        (
            "/spec/nodeAllocatableUpdatePeriodSeconds",
            json!(9),
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
        ),
    ];
    table("storage.k8s.io", "csidrivers", "", &good, rows);
    // A driver's generation counts changes, and there is none before the first.
    let r = request(Operation::Create, "storage.k8s.io", "csidrivers", "", "x");
    let mut stored = json!({"metadata": {"name": "x"}, "spec": {"requiresRepublish": false}});
    prepare_create(&r, &mut stored);
    assert!(stored["metadata"]["generation"].is_null());
    let mut changed = stored.clone();
    changed["spec"]["requiresRepublish"] = json!(true);
    prepare_update(
        &request(Operation::Update, "storage.k8s.io", "csidrivers", "", "x"),
        &stored,
        &mut changed,
    );
    assert_eq!(changed["metadata"]["generation"], 1);
}

#[test]
fn nodes_of_drivers_are_judged_once_where_they_change() {
    let good = json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}});
    let found = changes("storage.k8s.io", "csinodes", good, |o| o["spec"]["drivers"][0]["name"] = json!(""));
    assert_eq!(found, ["spec.drivers[0].name: Required value"]);
}

#[test]
fn attachments_bring_volumes_along_and_tell_what_became_of_them() {
    let spec = json!({"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}});
    let good = json!({"metadata": {}, "spec": spec});
    let inline = |change: &dyn Fn(&mut Value)| {
        let mut volume =
            json!({"accessModes": ["ReadWriteOnce"], "csi": {"driver": "d", "volumeHandle": "h"}});
        change(&mut volume);
        json!({"inlineVolumeSpec": volume})
    };
    let rows: &[(&str, Value, &str)] = &[
        ("/spec/source", inline(&|_| {}), ""),
        (
            "/spec/source",
            inline(&|v| {
                v["claimRef"] = json!({});
                v["capacity"] = json!({"storage": "1"});
                v["persistentVolumeReclaimPolicy"] = json!("Delete");
                v["nodeAffinity"] = json!({});
                v["storageClassName"] = json!("c");
                v["volumeMode"] = json!("Block");
            }),
            "spec.source.inlineVolumeSpec.claimRef: Forbidden: may not be specified in the context of inline volumes; spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes; spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes; spec.source.inlineVolumeSpec.nodeAffinity: Forbidden: may not be specified in the context of inline volumes; spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes; spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes",
        ),
        (
            "/spec/source",
            json!({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"]}}),
            "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes; spec.source.inlineVolumeSpec: Required value: must specify a volume type",
        ),
        ("/spec/attacher", json!(""), "spec.attacher: Required value"),
        ("/spec/attacher", json!("a".repeat(64)), "spec.attacher: Too long: may not be more than 63 bytes"),
    ];
    table("storage.k8s.io", "volumeattachments", "", &good, rows);
    let mut r = request(Operation::Update, "storage.k8s.io", "volumeattachments", "", "x");
    r.subresource = "status";
    let old = json!({"metadata": {"name": "x"}, "spec": spec, "status": {"attached": false}});
    let told = |error: Value, metadata: Value| {
        let mut new = old.clone();
        new["status"]["attachError"] = error;
        new["status"]["attachmentMetadata"] = metadata;
        crate::validate_update(&r, &old, &new).iter().map(|c| c.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(json!({"message": "m", "errorCode": 1}), json!({})), [""; 0]);
    let long = "status.attachError.message: Too long: may not be more than 262144 bytes";
    assert_eq!(told(json!({"message": "m".repeat(1025)}), Value::Null), [long]);
    let much = "status.attachmentMetadata: Too long: may not be more than 262144 bytes";
    assert_eq!(told(Value::Null, json!({"a": "m".repeat(256 * 1024)})), [much]);
}

#[test]
fn a_bad_label_is_told_as_often_as_a_stock_server_looks() {
    let bad = format!("metadata.labels: Invalid value: \"a b\": {QUALIFIED}");
    for (group, plural, good, count) in [
        // Twice before the kind's own judge, and then as that one goes about it.
        ("apps", "deployments", json!(null), 3),
        ("", "configmaps", json!({}), 4),
        ("policy", "poddisruptionbudgets", json!({"spec": {"minAvailable": 1}}), 2),
        ("rbac.authorization.k8s.io", "clusterroles", json!({"rules": null}), 4),
        ("coordination.k8s.io", "leases", json!({}), 3),
        ("scheduling.k8s.io", "priorityclasses", json!({"value": 1}), 3),
        ("node.k8s.io", "runtimeclasses", json!({"handler": "h"}), 4),
        ("storage.k8s.io", "storageclasses", json!({"provisioner": "p"}), 4),
        ("storage.k8s.io", "csinodes", json!({"spec": {"drivers": []}}), 3),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", json!({}), 3),
    ] {
        let good = if good.is_null() {
            let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
            json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}})
        } else {
            good
        };
        let found = changes(group, plural, good, |o| o["metadata"]["labels"] = json!({"a b": "c"}));
        assert_eq!(found, vec![bad.clone(); count], "{plural}");
    }
}

#[test]
fn old_labels_of_nodes_are_warned_of_wherever_they_are_chosen_by() {
    let r = |group: &str, plural: &str| request(Operation::Create, group, plural, "", "x");
    let zone = "failure-domain.beta.kubernetes.io/zone";
    let why = "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead";
    for (group, plural, object, want) in [
        (
            "node.k8s.io",
            "runtimeclasses",
            json!({"handler": "h", "scheduling": {"nodeSelector": {zone: "a"}}}),
            format!("scheduling.nodeSelector: {why}"),
        ),
        (
            "storage.k8s.io",
            "storageclasses",
            json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": zone, "values": ["a"]}]}]}),
            format!("allowedTopologies[0].matchLabelExpressions[0].key: {why}"),
        ),
        (
            "storage.k8s.io",
            "csistoragecapacities",
            json!({"nodeTopology": {"matchLabels": {zone: "a"}, "matchExpressions": [{"key": zone, "operator": "Exists"}]}}),
            format!(
                "nodeTopology.matchExpressions[0].key: {zone} is {why}; nodeTopology.matchLabels.{zone}: {why}"
            ),
        ),
    ] {
        let told = check(&r(group, plural), &object, None, &Objects::default()).unwrap();
        assert_eq!(told.join("; "), want, "{plural}");
    }
}

#[test]
fn what_a_selector_came_to_is_shown_though_it_is_nothing() {
    let bad = json!({"metadata": {}, "rules": null, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}},
        {"matchExpressions": [{"key": "x", "operator": "x"}]}]}});
    assert_eq!(
        causes("rbac.authorization.k8s.io", "clusterroles", "", bad),
        [
            r#"aggregationRule.clusterRoleSelectors[1].matchExpressions[0].operator: Invalid value: "x": not a valid selector operator"#,
            "aggregationRule.clusterRoleSelectors[1]: Invalid value: null: invalid label selector.",
        ]
    );
}

#[test]
fn tokens_for_drivers_are_better_kept_secret() {
    let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
    let driver = |secrets: Value| json!({"metadata": {"name": "x"}, "spec": {"tokenRequests": [{"audience": "a"}], "serviceAccountTokenInSecrets": secrets}});
    let warned = |operation, new: &Value, old: Option<&Value>| {
        let r = request(operation, "storage.k8s.io", "csidrivers", "", "x");
        check(&r, new, old, &Objects::default()).unwrap()
    };
    let open = driver(Value::Null);
    assert_eq!(warned(Operation::Create, &open, None), [why]);
    assert_eq!(warned(Operation::Create, &driver(json!(true)), None), [""; 0]);
    assert_eq!(warned(Operation::Update, &open, Some(&open)), [""; 0], "nothing has changed");
    assert_eq!(warned(Operation::Update, &open, Some(&json!({"spec": {}}))), [why]);
}

#[test]
fn a_claims_class_of_attributes_stays_once_it_is_there() {
    let claim = |wished: Value, current: Value| {
        json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem", "volumeAttributesClassName": wished},
            "status": {"phase": "Bound", "currentVolumeAttributesClassName": current}})
    };
    let r = request(Operation::Update, "", "persistentvolumeclaims", "ns", "x");
    for (current, wished, want) in [
        (
            json!("a"),
            Value::Null,
            "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
        ),
        (
            json!("a"),
            json!(""),
            "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil",
        ),
        (json!("a"), json!("b"), ""),
        (Value::Null, Value::Null, ""),
    ] {
        let found = crate::validate_update(&r, &claim(json!("a"), current.clone()), &claim(wished, current));
        let found: Vec<String> = found.iter().map(|c| c.to_string()).collect();
        let want = if want.is_empty() {
            String::new()
        } else {
            format!("spec.volumeAttributesClassName: Forbidden: {want}")
        };
        assert_eq!(found.join("; "), want);
    }
}

#[test]
fn a_claims_selector_is_shown_as_it_is_written() {
    let claim =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let shown = |selector: Value| {
        changes("", "persistentvolumeclaims", claim.clone(), |o| o["spec"]["selector"] = selector).remove(0)
    };
    let selector =
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]});
    let lines = "+ \"Selector\": {\n+  \"matchLabels\": {\n+   \"a\": \"b\"\n+  },\n+  \"matchExpressions\": [\n+   {\n+    \"key\": \"k\",\n+    \"operator\": \"Exists\"\n+   }\n+  ]\n+ },";
    assert!(shown(selector.clone()).contains(lines), "{}", shown(selector));
    assert!(shown(json!({})).contains("+ \"Selector\": {},"), "{}", shown(json!({})));
}

#[test]
fn nothing_is_counted_in_less_than_thousandths() {
    let rounded = |group: &str, plural: &str, mut object: Value| {
        crate::default(request(Operation::Create, group, plural, "", "x").resource, &mut object);
        object
    };
    let (fine, round) = (json!({"cpu": "100u"}), json!({"cpu": "1m"}));
    let node = rounded("", "nodes", json!({"status": {"capacity": fine}}));
    assert_eq!((&node["status"]["capacity"], &node["status"]["allocatable"]), (&round, &round));
    assert_eq!(
        rounded("", "persistentvolumes", json!({"spec": {"capacity": fine}}))["spec"]["capacity"],
        round
    );
    let claim = rounded("", "persistentvolumeclaims", json!({"spec": {"resources": {"limits": fine}}}));
    assert_eq!(claim["spec"]["resources"], json!({"limits": round}), "a claim's limit is no request");
    assert_eq!(rounded("", "resourcequotas", json!({"spec": {"hard": fine}}))["spec"]["hard"], round);
    let range = rounded("", "limitranges", json!({"spec": {"limits": [{"type": "Pod", "max": fine}]}}));
    assert_eq!(range["spec"]["limits"][0]["max"], round);
}
