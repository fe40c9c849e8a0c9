//! What may still change of a pod, by the path that it is written through.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::request;
use super::rules::causes;
use crate::{Operation, Request, default, validate_update};

/// What is said of a change to a pod with this specification.
fn said(subresource: &'static str, old: Value, f: impl FnOnce(&mut Value)) -> Vec<String> {
    let r = Request { subresource, ..request(Operation::Update, "", "pods", "ns", "x") };
    let mut old = old;
    for (key, value) in [("name", "x"), ("namespace", "ns"), ("uid", "u")] {
        old["metadata"][key] = value.into();
    }
    default(r.resource, &mut old);
    let mut new = old.clone();
    f(&mut new);
    validate_update(&r, &old, &new).iter().map(Cause::to_string).collect()
}

fn pod(spec: Value) -> Value {
    let mut o = json!({"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (key, value) in spec.as_object().unwrap() {
        o["spec"][key] = value.clone();
    }
    o
}

#[test]
fn a_pod_that_is_held_back_may_only_narrow_where_it_wants_to_run() {
    let demand = |value: &str| json!({"key": "k", "operator": "In", "values": [value]});
    let terms = |list: Value| json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list}}});
    let gated = || {
        pod(json!({"schedulingGates": [{"name": "a.b/c"}], "nodeSelector": {"x": "1"},
            "affinity": terms(json!([{"matchExpressions": [demand("v")]}]))}))
    };
    let nothing = Vec::<String>::new();
    assert_eq!(said("", gated(), |o| o["spec"]["nodeSelector"]["y"] = json!("2")), nothing);
    let more = terms(json!([{"matchExpressions": [demand("v"), demand("w")]}]));
    assert_eq!(said("", gated(), |o| o["spec"]["affinity"] = more), nothing);
    assert_eq!(
        said("", gated(), |o| o["spec"]["nodeSelector"] = json!({"y": "2"})),
        [
            r#"spec.nodeSelector: Invalid value: {"y":"2"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"#
        ]
    );
    let required =
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    assert_eq!(
        said("", gated(), |o| o["spec"]["affinity"] = terms(json!([{"matchExpressions": [demand("w")]}]))),
        [format!(
            r#"{required}[0]: Invalid value: {{"MatchExpressions":[{{"Key":"k","Operator":"In","Values":["w"]}}],"MatchFields":null}}: only additions are allowed (no mutations or deletions)"#
        )]
    );
    let two = terms(json!([{"matchExpressions": [demand("v")]}, {"matchFields": []}]));
    let found = said("", gated(), |o| o["spec"]["affinity"] = two);
    assert!(
        found[0].starts_with(&format!(r#"{required}: Invalid value: [{{"MatchExpressions":"#)),
        "{found:?}"
    );
    assert!(
        found[0].ends_with("no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
        "{found:?}"
    );
    let new_gate = said("", gated(), |o| o["spec"]["schedulingGates"][0]["name"] = json!("d"));
    assert_eq!(
        new_gate,
        [
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'd'"
        ]
    );
}

#[test]
fn a_pod_grows_and_shrinks_by_its_cpu_and_memory_alone() {
    let sized = || {
        pod(
            json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi", "a.b/gpu": "1"}, "limits": {"a.b/gpu": "1"}}}],
            "initContainers": [{"name": "j", "image": "i", "resources": {"requests": {"cpu": "1"}}}]}),
        )
    };
    let resources = |o: &mut Value, list: &str, of: Value| o["spec"][list][0]["resources"] = of;
    let with = |cpu: &str, gpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Gi", "a.b/gpu": gpu}, "limits": {"a.b/gpu": gpu}});
    let nothing = Vec::<String>::new();
    assert_eq!(said("resize", sized(), |o| resources(o, "containers", with("2", "1"))), nothing);
    assert_eq!(
        said("resize", sized(), |o| resources(o, "containers", with("1", "2"))),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
    assert_eq!(
        said("resize", sized(), |o| resources(
            o,
            "containers",
            json!({"requests": {"cpu": "1", "a.b/gpu": "1"}, "limits": {"a.b/gpu": "1"}})
        )),
        ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"]
    );
    assert_eq!(
        said("resize", sized(), |o| resources(o, "initContainers", json!({"requests": {"cpu": "2"}}))),
        nothing
    );
    let image = said("resize", sized(), |o| o["spec"]["initContainers"][0]["image"] = json!("k"));
    assert_eq!(
        image,
        [
            "spec.initContainers[0]: Forbidden: only cpu and memory resources for init or sidecar containers are mutable"
        ]
    );
    let whole = |of: Value| pod(json!({"resources": of, "containers": [{"name": "c", "image": "i"}]}));
    let amount = |cpu: &str, pages: &str| json!({"requests": {"cpu": cpu, "hugepages-2Mi": pages}, "limits": {"cpu": "9", "hugepages-2Mi": pages}});
    let stored = || whole(amount("1", "2Mi"));
    let resized = |of: Value| said("resize", stored(), |o| o["spec"]["resources"] = of);
    assert_eq!(resized(amount("2", "2Mi")), nothing);
    assert_eq!(
        resized(amount("1", "4Mi")),
        ["spec: Forbidden: only cpu and memory resources are mutable at pod-level"]
    );
    let mut less = amount("1", "2Mi");
    less["limits"].as_object_mut().unwrap().remove("cpu");
    assert_eq!(
        resized(less),
        ["spec.resources.limits: Forbidden: pod-level resource limits cannot be removed"]
    );
    let mut still = sized();
    still["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    still["spec"]["nodeName"] = json!("n");
    assert_eq!(said("resize", still.clone(), |_| {}), ["[]: Forbidden: static pods cannot be resized"]);
    assert_eq!(
        said("", still, |o| o["metadata"]["annotations"] = json!({})),
        [
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation"
        ]
    );
}

#[test]
fn annotations_that_mean_something_are_well_formed() {
    let noted = |key: &str, value: &str| {
        let mut o = pod(json!({}));
        o["metadata"]["annotations"] = json!({ key: value });
        causes("", "pods", "ns", o)
    };
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    for good in ["0", "-5", "2147483647"] {
        assert_eq!(noted(cost, good), Vec::<String>::new(), "{good}");
    }
    for bad in ["+1", "007", "", "2147483648", "x"] {
        let want = format!("metadata.annotations[{cost}]: Invalid value: {bad:?}: must be a 32bit integer");
        assert_eq!(noted(cost, bad), [want]);
    }
    assert_eq!(
        noted("kubernetes.io/config.mirror", "x"),
        [
            r#"metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set"#
        ]
    );
}

#[test]
fn a_pods_status_says_what_can_be() {
    let with = |policy: &str, status: Value| {
        let mut o = pod(json!({ "restartPolicy": policy }));
        o["status"] = status;
        o["status"]["qosClass"] = json!("BestEffort");
        o
    };
    let over = |code: i64| json!([{"name": "c", "state": {"terminated": {"exitCode": code}}}]);
    let runs = json!([{"name": "c", "state": {"running": {}}}]);
    let restarted = |policy: &str, key: &'static str, code: i64| {
        let runs = runs.clone();
        said("status", with(policy, json!({ key: over(code) })), |o| o["status"][key] = runs)
    };
    let refused = |key: &str| {
        vec![format!("status.{key}[0].state: Forbidden: may not be transitioned to non-terminated state")]
    };
    let nothing = Vec::<String>::new();
    assert_eq!(restarted("Always", "containerStatuses", 0), nothing);
    assert_eq!(restarted("OnFailure", "containerStatuses", 1), nothing);
    assert_eq!(restarted("OnFailure", "containerStatuses", 0), refused("containerStatuses"));
    assert_eq!(restarted("Never", "initContainerStatuses", 1), refused("initContainerStatuses"));
    assert_eq!(restarted("Always", "ephemeralContainerStatuses", 1), refused("ephemeralContainerStatuses"));
    let odd = json!({"conditions": [{"type": "Ready"}, {"type": "a.b/c"}, {"type": "a b"}], "qosClass": "Burstable",
        "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "hostIPs": [{"ip": "x"}],
        "resourceClaimStatuses": [{"name": "nope"}]});
    let found = said("status", with("Always", json!({})), |o| o["status"] = odd);
    assert!(
        found[0].starts_with(r#"status.conditions[2].Type: Invalid value: "a b": name part must consist"#),
        "{found:?}"
    );
    assert_eq!(
        found[1..],
        [
            r#"status.qosClass: Invalid value: "Burstable": field is immutable"#,
            r#"status.resourceClaimStatuses[0].name: Invalid value: "nope": must match the name of an entry in `spec.resourceClaims`"#,
            r#"status.podIPs: Invalid value: [{"IP":"10.0.0.1"},{"IP":"10.0.0.2"}]: may specify no more than one IP for each IP family"#,
            r#"status.hostIPs[0].ip: Invalid value: "x": must be equal to `hostIP`"#,
            r#"status.hostIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ]
    );
}

#[test]
fn a_body_full_of_faults_is_told_in_part() {
    let gates: Vec<Value> = (0..50_000).map(|i| json!({"name": format!("a.b/{i}")})).collect();
    let told = said("", pod(json!({})), |o| o["spec"]["schedulingGates"] = Value::Array(gates));
    assert!((1..=1_000).contains(&told.len()), "{}", told.len());
    assert!(told[0].starts_with("spec.schedulingGates[0].name: Forbidden:"), "{}", told[0]);
}

#[test]
fn containers_say_as_whom_they_began_and_how_their_devices_are() {
    let mut r = request(Operation::Update, "", "pods", "ns", "x");
    r.subresource = "status";
    let spec = json!({"containers": [{"name": "c", "image": "i", "resources": {
        "requests": {"a.example/gpu": "1"}, "claims": [{"name": "n"}, {"name": "m", "request": "r"}]}}]});
    let old = json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": spec});
    let told = |os: &str, container: Value| {
        let mut new = old.clone();
        new["spec"]["os"] = json!({"name": os});
        new["status"] = json!({"containerStatuses": [container]});
        let mut old = old.clone();
        old["spec"]["os"] = json!({"name": os});
        crate::validate_update(&r, &old, &new).iter().map(|c| c.to_string()).collect::<Vec<_>>()
    };
    let user = |uid: i64, gid: i64, group: i64| json!({"name": "c", "user": {"linux": {"uid": uid, "gid": gid, "supplementalGroups": [group]}}});
    assert_eq!(told("linux", user(0, 1000, 2_147_483_647)), [""; 0]);
    let at_user = "status.containerStatuses[0].user.linux";
    const RANGE: &str = "must be between 0 and 2147483647, inclusive";
    assert_eq!(
        told("linux", user(-1, 2_147_483_648, -2)),
        [
            format!("{at_user}.uid: Invalid value: -1: {RANGE}"),
            format!("{at_user}.gid: Invalid value: 2147483648: {RANGE}"),
            format!("{at_user}.supplementalGroups[0]: Invalid value: -2: {RANGE}"),
        ]
    );
    assert_eq!(
        told("windows", user(0, 0, 0)),
        [format!("{at_user}: Forbidden: cannot be set for a windows pod")]
    );
    let device = |name: &str| json!({"name": name, "resources": [{"resourceID": "a", "health": "Healthy"}]});
    let good = json!([device("a.example/gpu"), device("claim:n"), device("claim:m/r")]);
    assert_eq!(told("linux", json!({"name": "c", "allocatedResourcesStatus": good})), [""; 0]);
    let bad = json!([device("cpu"), device("claim:m"), {"name": "claim:n", "resources": [
        {"resourceID": "a", "health": "Fine"}, {"resourceID": "a", "health": "Unknown"}]}]);
    let at_list = "status.containerStatuses[0].allocatedResourcesStatus";
    assert_eq!(
        told("linux", json!({"name": "c", "allocatedResourcesStatus": bad})),
        [
            format!(
                r#"{at_list}[0].name: Invalid value: "cpu": must match one of the container's resource requests"#
            ),
            format!(
                r#"{at_list}[1].name: Invalid value: "claim:m": must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"#
            ),
            format!(
                r#"{at_list}[2].resources[0].health: Unsupported value: "Fine": supported values: "Healthy", "Unhealthy", "Unknown""#
            ),
            format!(r#"{at_list}[2].resources[1].resourceID: Duplicate value: "a""#),
        ]
    );
    // Of a container that is gone nothing is asked.
    assert_eq!(told("linux", json!({"name": "d", "allocatedResourcesStatus": [device("x")]})), [""; 0]);
}

#[test]
fn of_two_addresses_that_contradict_each_other_the_single_one_is_believed() {
    let r = request(Operation::Update, "", "pods", "ns", "x");
    let status = |status: Value| {
        let mut object = json!({"metadata": {"name": "x"}, "spec": {"containers": []}, "status": status});
        crate::default(r.resource, &mut object);
        object["status"].take()
    };
    let both = json!({"podIP": "1.1.1.1", "podIPs": [{"ip": "1.1.1.1"}, {"ip": "fd00::1"}]});
    assert_eq!(status(both.clone()), both);
    let one = json!({"podIP": "1.1.1.1", "podIPs": [{"ip": "1.1.1.1"}]});
    assert_eq!(status(json!({"podIP": "1.1.1.1"})), one);
    assert_eq!(status(json!({"podIPs": [{"ip": "1.1.1.1"}]})), one);
    assert_eq!(status(json!({"podIP": "1.1.1.1", "podIPs": [{"ip": "2.2.2.2"}, {"ip": "fd00::1"}]})), one);
}

#[test]
fn what_is_no_reference_of_an_image_is_pulled_if_it_is_absent() {
    let r = request(Operation::Create, "", "pods", "ns", "x");
    for (image, want) in [
        ("i", "Always"),
        ("a.example:5000/b/c", "Always"),
        ("../a/b", "IfNotPresent"),
        (&"x".repeat(256), "IfNotPresent"),
    ] {
        let mut object = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        crate::default(r.resource, &mut object);
        assert_eq!(object["spec"]["containers"][0]["imagePullPolicy"], want, "{image}");
    }
}
