//! Claims about who may change what.

use super::*;
use crate::Operation;
use crate::tests::request;
use crate::value::items;
use serde_json::json;

fn updated(group: &str, plural: &str, sub: &'static str, old: &Value, mut new: Value) -> Value {
    let mut r = request(Operation::Update, group, plural, "ns", "x");
    r.subresource = sub;
    prepare_update(&r, old, &mut new);
    new
}

fn deployment() -> Value {
    json!({"metadata": {"name": "x", "namespace": "ns", "uid": "u", "generation": 3, "labels": {"a": "b"},
        "creationTimestamp": "t"}, "spec": {"replicas": 1}, "status": {"replicas": 1}})
}

#[test]
fn a_write_of_the_object_keeps_its_status() {
    let old = deployment();
    let new = json!({"metadata": {"name": "x", "generation": 99}, "spec": {"replicas": 2}, "status": {"replicas": 7}});
    let got = updated("apps", "deployments", "", &old, new);
    assert_eq!(got["status"], old["status"]);
    assert_eq!(got["spec"]["replicas"], 2);
    assert_eq!(got["metadata"]["generation"], 4);
    assert_eq!((&got["metadata"]["uid"], &got["metadata"]["creationTimestamp"]), (&json!("u"), &json!("t")));
}

#[test]
fn a_write_of_the_status_keeps_the_specification() {
    let old = deployment();
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(9);
    new["status"]["replicas"] = json!(2);
    new["metadata"]["labels"] = json!({"z": "z"});
    new["metadata"]["annotations"] = json!({"n": "1"});
    let got = updated("apps", "deployments", "status", &old, new);
    assert_eq!(got["spec"], old["spec"]);
    assert_eq!(got["status"]["replicas"], 2);
    assert_eq!(got["metadata"]["labels"], old["metadata"]["labels"]);
    assert_eq!(got["metadata"]["generation"], 3);
}

#[test]
fn some_statuses_are_written_without_a_say_in_the_metadata() {
    for (group, plural) in [
        ("flowcontrol.apiserver.k8s.io", "flowschemas"),
        ("resource.k8s.io", "resourceclaims"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ] {
        let old = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {}, "status": {}});
        let mut new = old.clone();
        new["metadata"] = json!({"name": "x", "annotations": {"n": "1"}, "ownerReferences": [{"uid": "o"}], "managedFields": [1]});
        new["status"] = json!({"conditions": [{"type": "T"}]});
        let got = updated(group, plural, "status", &old, new);
        let want = json!({"name": "x", "labels": {"a": "b"}, "managedFields": [1]});
        assert_eq!(
            (&got["metadata"], &got["status"]["conditions"][0]["type"]),
            (&want, &json!("T")),
            "{plural}"
        );
    }
}

#[test]
fn a_class_of_priorities_does_not_count_its_changes() {
    let old = json!({"metadata": {"name": "x", "generation": 1}, "value": 1});
    let mut new = old.clone();
    new["description"] = json!("d");
    let got = updated("scheduling.k8s.io", "priorityclasses", "", &old, new);
    assert_eq!((&got["metadata"]["generation"], &got["description"]), (&json!(1), &json!("d")));
}

#[test]
fn a_namespace_wears_its_name_and_its_finalizer() {
    let mut o = json!({"metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "y"}}, "status": {"phase": "Terminating"}});
    prepare_create(&request(Operation::Create, "", "namespaces", "", "x"), &mut o);
    assert_eq!(o["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    assert_eq!(
        (&o["spec"]["finalizers"], &o["status"]),
        (&json!(["kubernetes"]), &json!({"phase": "Active"}))
    );
    let mut new = o.clone();
    new["spec"]["finalizers"] = json!([]);
    assert_eq!(
        updated("", "namespaces", "", &o, new.clone())["spec"],
        o["spec"],
        "only `finalize` takes it off"
    );
    assert_eq!(updated("", "namespaces", "finalize", &o, new)["spec"]["finalizers"], json!([]));
}

#[test]
fn the_requester_of_a_certificate_is_who_was_authenticated() {
    let mut o = json!({"metadata": {"name": "x"}, "spec": {"username": "admin", "groups": ["system:masters"], "uid": "0"}});
    prepare_create(
        &request(Operation::Create, "certificates.k8s.io", "certificatesigningrequests", "", "x"),
        &mut o,
    );
    assert_eq!(o["spec"], json!({"username": "jane", "groups": []}));
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": spec})
}

#[test]
fn a_service_keeps_its_address_and_ports_when_they_are_left_out() {
    let old = service(json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ports": [{"name": "a", "port": 80, "nodePort": 30000}, {"name": "b", "port": 81, "nodePort": 30001}]}));
    let new = service(json!({"type": "NodePort", "ports": [
        {"name": "a", "port": 90}, {"name": "c", "port": 82}, {"name": "b", "port": 81}, {"name": "d", "port": 83, "nodePort": 30001}]}));
    let got = updated("", "services", "", &old, new);
    assert_eq!(got["spec"]["clusterIP"], "10.0.0.1");
    assert_eq!(got["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(got["spec"]["ports"][0]["nodePort"], 30000);
    for i in [1, 2] {
        assert!(
            got["spec"]["ports"][i]["nodePort"].as_i64().unwrap_or(0) == 0,
            "{i}: new, or taken by another"
        );
    }
}

#[test]
fn a_service_that_changes_its_type_drops_what_the_new_type_has_not() {
    let old = service(json!({"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "externalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}));
    let mut new = old.clone();
    new["spec"]["type"] = json!("ClusterIP");
    let got = updated("", "services", "", &old, new);
    assert_eq!(got["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    assert_eq!(got["spec"]["externalTrafficPolicy"], Value::Null);
    let mut new = old.clone();
    new["spec"]["type"] = json!("ExternalName");
    let got = updated("", "services", "", &old, new);
    assert_eq!((&got["spec"]["clusterIP"], &got["spec"]["clusterIPs"]), (&Value::Null, &Value::Null));
}

#[test]
fn only_the_pods_own_wishes_count_as_a_new_generation() {
    let old = json!({"metadata": {"name": "x", "generation": 1}, "spec": {"containers": [{"name": "c", "image": "a"}]}});
    let mut new = old.clone();
    new["spec"]["nodeName"] = json!("n");
    assert_eq!(updated("", "pods", "binding", &old, new)["metadata"]["generation"], 1);
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("b");
    assert_eq!(updated("", "pods", "", &old, new)["metadata"]["generation"], 2);
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "e"}]);
    new["spec"]["containers"][0]["image"] = json!("b");
    let got = updated("", "pods", "ephemeralcontainers", &old, new);
    assert_eq!(got["spec"]["containers"], old["spec"]["containers"]);
    assert_eq!(got["metadata"]["generation"], 2);
}

#[test]
fn what_was_observed_of_a_pod_is_not_taken_back_by_who_knows_nothing_of_it() {
    let old = json!({"metadata": {"name": "x"}, "spec": {}, "status": {"observedGeneration": 4, "conditions": [
        {"type": "Ready", "status": "True", "observedGeneration": 3}, {"type": "A", "status": "True"}]}});
    let mut new = old.clone();
    new["status"] = json!({"conditions": [
        {"type": "Ready", "status": "False"}, {"type": "A", "status": "False"}, {"type": "B", "status": "True"}]});
    let status = updated("", "pods", "status", &old, new)["status"].clone();
    assert_eq!(status["observedGeneration"], 4);
    let seen: Vec<_> = items(&status, "conditions").map(|c| c["observedGeneration"].clone()).collect();
    assert_eq!(seen, [json!(3), Value::Null, Value::Null]);
    let mut newer = old.clone();
    newer["status"]["observedGeneration"] = json!(5);
    newer["status"]["conditions"][0]["observedGeneration"] = json!(5);
    assert_eq!(updated("", "pods", "status", &old, newer.clone())["status"], newer["status"]);
}

#[test]
fn the_annotation_that_asked_for_a_profile_fills_the_field() {
    let key = |name: &str| format!("container.apparmor.security.beta.kubernetes.io/{name}");
    let own = json!({"appArmorProfile": {"type": "Unconfined"}});
    let mut pod = json!({"metadata": {"name": "x", "annotations": {
            key("a"): "localhost/k8s-nginx", key("b"): "runtime/default", key("c"): "unconfined", key("d"): "localhost/",
            key("i"): "runtime/default", key("nobody"): "runtime/default"}},
        "spec": {"initContainers": [{"name": "i", "securityContext": own}],
            "containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "e"}],
            "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}});
    prepare_create(&request(Operation::Create, "", "pods", "ns", "x"), &mut pod);
    let profile = |c: &Value| path(c, &["securityContext", "appArmorProfile"]).clone();
    let all: Vec<Value> = items(&pod["spec"], "containers").map(profile).collect();
    // What the pod says already needs no word of the container's.
    let localhost = json!({"type": "Localhost", "localhostProfile": "k8s-nginx"});
    assert_eq!(all, [localhost, Value::Null, json!({"type": "Unconfined"}), Value::Null, Value::Null]);
    assert_eq!(profile(&pod["spec"]["initContainers"][0])["type"], "Unconfined");
}

#[test]
fn what_a_stock_server_has_switched_off_is_not_stored() {
    let mut pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [], "volumes": [
        {"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"name": "b", "path": "p"}},
            {"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519"}}, {"secret": {"name": "s"}}]}}]}});
    prepare_create(&request(Operation::Create, "", "pods", "ns", "x"), &mut pod);
    assert_eq!(pod["spec"]["volumes"][0]["projected"]["sources"], json!([{}, {}, {"secret": {"name": "s"}}]));
    // In a template neither, save where it is stored already.
    let on = json!({"schedulingGroup": {"podGroupName": "g"}, "containers": [
        {"name": "a", "lifecycle": {"stopSignal": "SIGTERM"}},
        {"name": "b", "lifecycle": {"stopSignal": "SIGTERM", "preStop": {"sleep": {"seconds": 1}}}}]});
    let off = json!({"containers": [{"name": "a"}, {"name": "b", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]});
    let mut set = json!({"metadata": {"name": "x"}, "spec": {"template": {"spec": on}}});
    let stored = set.clone();
    prepare_create(&request(Operation::Create, "apps", "deployments", "ns", "x"), &mut set);
    assert_eq!(set["spec"]["template"]["spec"], off);
    let update = request(Operation::Update, "apps", "deployments", "ns", "x");
    let mut kept = stored.clone();
    prepare_update(&update, &stored, &mut kept);
    assert_eq!(kept["spec"]["template"]["spec"], on);
    let mut added = stored;
    prepare_update(&update, &set, &mut added);
    assert_eq!(added["spec"]["template"]["spec"], off);
}

#[test]
fn how_many_of_a_set_may_be_away_is_switched_off() {
    let with = |rolling: Value| json!({"metadata": {"name": "x"}, "spec": {"updateStrategy": {"rollingUpdate": rolling}}});
    let both = with(json!({"partition": 1, "maxUnavailable": 2}));
    let mut set = both.clone();
    prepare_create(&request(Operation::Create, "apps", "statefulsets", "ns", "x"), &mut set);
    assert_eq!(set["spec"]["updateStrategy"]["rollingUpdate"], json!({"partition": 1}));
    let kept = updated("apps", "statefulsets", "", &both, both.clone());
    assert_eq!(kept["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 2);
}

#[test]
fn who_resizes_a_pod_or_looks_into_it_says_nothing_else_of_it() {
    let old = json!({"metadata": {"name": "x", "labels": {"a": "b"}}, "spec": {"nodeName": "n",
        "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "r"}]}}, {"name": "d"}]}});
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"z": "y"});
    new["spec"]["nodeName"] = json!("other");
    new["spec"]["containers"][0] = json!({"name": "c", "image": "j", "resources": {"limits": {"cpu": "1"}}});
    new["spec"]["ephemeralContainers"] = json!([{"name": "e"}]);
    let resized = updated("", "pods", "resize", &old, new.clone());
    assert_eq!(resized["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(resized["spec"]["nodeName"], "n");
    assert_eq!(
        resized["spec"]["containers"],
        json!([{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}}, {"name": "d"}])
    );
    assert_eq!(resized["spec"]["ephemeralContainers"], Value::Null);
    let looked = updated("", "pods", "ephemeralcontainers", &old, new.clone());
    assert_eq!(looked["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(looked["spec"]["containers"], old["spec"]["containers"]);
    assert_eq!(looked["spec"]["ephemeralContainers"], json!([{"name": "e"}]));
    // Containers that come, go or change places are left for the rules to refuse.
    for list in [json!([{"name": "c"}]), json!([{"name": "d"}, {"name": "c"}])] {
        new["spec"]["containers"] = list.clone();
        assert_eq!(updated("", "pods", "resize", &old, new.clone())["spec"]["containers"], list);
    }
}

#[test]
fn keys_of_a_pods_own_labels_become_demands() {
    let mut pod = json!({"metadata": {"name": "x", "labels": {"a": "1", "b": "2"}}, "spec": {
        "topologySpreadConstraints": [{"labelSelector": {}, "matchLabelKeys": ["a", "none"]}, {"matchLabelKeys": ["a"]}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"podAffinityTerm": {"labelSelector": {}, "mismatchLabelKeys": ["b"]}}]}}}});
    prepare_create(&request(Operation::Create, "", "pods", "ns", "x"), &mut pod);
    let spread = &pod["spec"]["topologySpreadConstraints"];
    assert_eq!(
        spread[0]["labelSelector"],
        json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]})
    );
    assert_eq!(spread[1]["labelSelector"], Value::Null, "a selector that is not there matches nothing");
    let term =
        &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(
        term["podAffinityTerm"]["labelSelector"],
        json!({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["2"]}]})
    );
}

#[test]
fn a_claim_says_where_it_is_filled_from_in_both_fields() {
    let made = |spec: Value| {
        let mut o = json!({"metadata": {"name": "x"}, "spec": spec});
        prepare_create(&request(Operation::Create, "", "persistentvolumeclaims", "ns", "x"), &mut o);
        (o["spec"]["dataSource"].clone(), o["spec"]["dataSourceRef"].clone())
    };
    let claim = json!({"kind": "PersistentVolumeClaim", "name": "c"});
    let own = json!({"apiGroup": "a.b", "kind": "Thing", "name": "c"});
    for (spec, want) in [
        (json!({"dataSource": claim}), (claim.clone(), claim.clone())),
        (json!({"dataSourceRef": own}), (own.clone(), own.clone())),
        (json!({"dataSource": own}), (Value::Null, Value::Null)),
        (
            json!({"dataSourceRef": {"kind": "K", "name": "c", "namespace": "other"}}),
            (Value::Null, Value::Null),
        ),
    ] {
        assert_eq!(made(spec.clone()), want, "{spec}");
    }
}

#[test]
fn a_balancer_that_needs_no_node_ports_keeps_those_it_has_and_another_type_forgets_what_it_was_told() {
    let old = json!({"metadata": {"name": "s", "namespace": "ns"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}, "conditions": [{"type": "a"}]},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "allocateLoadBalancerNodePorts": true,
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}});
    let mut new = old.clone();
    new["spec"]["allocateLoadBalancerNodePorts"] = json!(false);
    let got = updated("", "services", "", &old, new);
    assert_eq!(got["spec"]["ports"][0]["nodePort"], 30000);
    assert_eq!(got["status"], old["status"]);
    let mut new = old.clone();
    new["spec"]["type"] = json!("NodePort");
    let got = updated("", "services", "", &old, new);
    assert_eq!(got["status"], json!({"loadBalancer": {}, "conditions": [{"type": "a"}]}));
}

#[test]
fn what_is_known_of_old_is_not_taken_anew() {
    let create = |group: &str, plural: &str, mut object: Value| {
        prepare_create(&request(Operation::Create, group, plural, "", "x"), &mut object);
        object
    };
    let node =
        create("", "nodes", json!({"metadata": {}, "spec": {"configSource": {}}, "status": {"config": {}}}));
    assert_eq!((&node["spec"], &node["status"]), (&json!({}), &json!({})));
    let driver = create(
        "storage.k8s.io",
        "csidrivers",
        json!({"metadata": {}, "spec": {"preventPodSchedulingIfMissing": true}}),
    );
    assert_eq!(driver["spec"], json!({}));
    let account = json!({"metadata": {}, "secrets": [{"name": "s", "kind": "Secret", "uid": "u"}]});
    assert_eq!(create("", "serviceaccounts", account)["secrets"], json!([{"name": "s"}]));
    let topology = |host: &str| json!({"addresses": ["1.2.3.4"], "deprecatedTopology": {"kubernetes.io/hostname": host}});
    let slice = |endpoints: Value| json!({"metadata": {}, "endpoints": endpoints});
    let made = create("discovery.k8s.io", "endpointslices", slice(json!([topology("n")])));
    assert_eq!(made["endpoints"], json!([{"addresses": ["1.2.3.4"]}]));
    let old = slice(json!([topology("n")]));
    let got =
        updated("discovery.k8s.io", "endpointslices", "", &old, slice(json!([topology("n"), topology("m")])));
    let want = json!([{"addresses": ["1.2.3.4"], "nodeName": "n"}, {"addresses": ["1.2.3.4"]}]);
    assert_eq!(got["endpoints"], want);
    assert_eq!(
        updated("discovery.k8s.io", "endpointslices", "", &old, old.clone())["endpoints"],
        old["endpoints"]
    );
}

#[test]
fn a_service_that_is_no_mere_name_any_more_may_ask_for_its_address_in_the_older_field() {
    let old = service(json!({"type": "ExternalName", "externalName": "a"}));
    let new = service(
        json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"port": 80, "protocol": "TCP"}]}),
    );
    assert_eq!(updated("", "services", "", &old, new)["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    // What such a service had of its own type is not another one's.
    let stored = service(
        json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "internalTrafficPolicy": "Local"}),
    );
    let mut named = stored.clone();
    named["spec"]["type"] = json!("ExternalName");
    assert_eq!(updated("", "services", "", &stored, named)["spec"]["internalTrafficPolicy"], Value::Null);
    // What is no policy is judged as it is.
    let new = service(json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ipFamilyPolicy": ""}));
    assert_eq!(updated("", "services", "", &old, new)["spec"]["ipFamilyPolicy"], "");
}

#[test]
fn a_namespace_wears_its_name_whatever_is_written() {
    let old = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    for sub in ["", "status", "finalize"] {
        let got = updated("", "namespaces", sub, &old, json!({"metadata": {"name": "a"}}));
        assert_eq!(got["metadata"]["labels"]["kubernetes.io/metadata.name"], "a", "{sub}");
    }
}

#[test]
fn what_the_cluster_notes_of_a_new_object_is_there_before_anybody_looks() {
    let created = |group: &str, plural: &str, mut object: Value| {
        let r = request(Operation::Create, group, plural, "", "x");
        crate::default(r.resource, &mut object);
        let said = object.clone();
        prepare_create(&r, &mut object);
        (said, object)
    };
    let note = "deprecated.daemonset.template.generation";
    let (said, made) = created("apps", "daemonsets", json!({"metadata": {"name": "x"}, "spec": {}}));
    assert_eq!(said["metadata"]["annotations"][note], "0");
    assert_eq!(made["metadata"]["annotations"][note], "1");
    let (said, _) = created("", "namespaces", json!({"metadata": {"name": "x"}}));
    assert_eq!(said["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "x"}));
    let (_, made) = created("storage.k8s.io", "volumeattributesclasses", json!({"metadata": {"name": "x"}}));
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/vac-protection"]));
    let spec = json!({"containers": [{"name": "c"}], "schedulingGates": [{"name": "g"}]});
    let (_, made) = created("", "pods", json!({"metadata": {"name": "x"}, "spec": spec}));
    let condition = &made["status"]["conditions"][0];
    assert!(condition["lastTransitionTime"].is_string(), "{condition}");
    assert!(condition["observedGeneration"].is_null(), "{condition}");
}
