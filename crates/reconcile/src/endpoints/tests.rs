use crate::stage::{Stage, pod_status};
use crate::{Controller, Key, reconcile};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn slices_key() -> Key {
    Key::new(Controller::Endpoints, "d", "s")
}

fn legacy_key() -> Key {
    Key::new(Controller::EndpointsLegacy, "d", "s")
}

fn mirror_key() -> Key {
    Key::new(Controller::EndpointsMirror, "d", "s")
}

fn service(spec: &Value) -> Value {
    let mut whole = json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "a"},
        "ports": [{"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]});
    for (k, v) in spec.as_object().into_iter().flatten() {
        whole[k] = v.clone();
    }
    whole.as_object_mut().expect("an object").retain(|_, v| !v.is_null());
    json!({"apiVersion": "v1", "kind": "Service", "spec": whole,
        "metadata": {"name": "s", "namespace": "d", "uid": "s", "labels": {"team": "x"}}})
}

fn stage(spec: &Value) -> Stage {
    let mut stage = Stage::new();
    stage.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n",
        "labels": {"topology.kubernetes.io/zone": "z"}}}));
    let named = stage.put(service(spec));
    assert!([slices_key(), legacy_key(), mirror_key()].iter().all(|k| named.contains(k)));
    stage
}

fn pod(stage: &mut Stage, name: &str, ip: &str, port: u16, ready: bool) {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "d", "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": [{"ports": [
            {"name": "http", "containerPort": port, "protocol": "TCP"},
            {"name": "http", "containerPort": 53, "protocol": "UDP"}]}]}});
    pod["status"] = pod_status("Running", ready, stage.world.now)["status"].clone();
    pod["status"]["podIP"] = json!(ip);
    pod["status"]["podIPs"] = json!([{"ip": ip}]);
    let named = stage.put(pod);
    assert!(named.contains(&slices_key()) && named.contains(&legacy_key()));
}

/// Addresses by slice, with `ready,serving,terminating` in letters.
fn shown(stage: &Stage) -> Vec<String> {
    let letter = |v: &Value, l: &str| if v == true { l.to_string() } else { "-".to_string() };
    let all = stage.all("endpointslices");
    let line = |s: &&Value| {
        let endpoints = s["endpoints"].as_array().cloned().unwrap_or_default();
        let mut shown: Vec<String> = endpoints
            .iter()
            .map(|e| {
                let c = &e["conditions"];
                let state =
                    [("ready", "r"), ("serving", "s"), ("terminating", "t")].map(|(f, l)| letter(&c[f], l));
                format!("{} {}", e["addresses"][0].as_str().unwrap_or_default(), state.concat())
            })
            .collect();
        shown.sort();
        let ports: Vec<String> =
            s["ports"].as_array().into_iter().flatten().map(|p| p["port"].to_string()).collect();
        format!(
            "{} [{}] {}",
            s["addressType"].as_str().unwrap_or_default(),
            ports.join(","),
            shown.join("; ")
        )
    };
    let mut lines: Vec<String> = all.iter().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn a_slice_tells_who_is_ready_who_serves_and_who_ends() {
    let mut s = stage(&json!({}));
    s.settle(&slices_key());
    assert_eq!(
        shown(&s),
        ["IPv4 []  "].map(|t| t.trim_end().to_string() + " "),
        "one is there although nobody is"
    );
    pod(&mut s, "a", "10.1.0.1", 8080, true);
    pod(&mut s, "b", "10.1.0.2", 8080, false);
    pod(&mut s, "c", "10.1.0.3", 8080, true);
    pod(&mut s, "d", "10.1.0.4", 9090, true);
    pod(&mut s, "e", "10.1.0.5", 8080, true);
    pod(&mut s, "f", "", 8080, true);
    s.patch("pods", "d", "c", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    s.patch("pods", "d", "e", &json!({"status": {"phase": "Failed"}}));
    s.patch("pods", "d", "f", &json!({"status": {"podIPs": null, "podIP": null}}));
    s.settle(&slices_key());
    assert_eq!(
        shown(&s),
        ["IPv4 [8080] 10.1.0.1 rs-; 10.1.0.2 ---; 10.1.0.3 -st", "IPv4 [9090] 10.1.0.4 rs-"]
    );
    let slice = s.all("endpointslices")[0];
    let labels = &slice["metadata"]["labels"];
    assert_eq!(
        *labels,
        json!({"team": "x", "kubernetes.io/service-name": "s",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    let owner = &slice["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["controller"]), (&json!("Service"), &json!(true)));
    assert!(slice["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"].is_string());
    let ports = json!([{"name": "web", "port": 8080, "protocol": "TCP"}]);
    let of = |ip: &str| {
        let all = s.all("endpointslices");
        let found = all.iter().flat_map(|x| {
            x["endpoints"].as_array().into_iter().flatten().map(move |e| (x["ports"].clone(), e.clone()))
        });
        found.into_iter().find(|(_, e)| e["addresses"][0] == ip).expect("an endpoint")
    };
    let (named, endpoint) = of("10.1.0.1");
    assert_eq!(named, ports);
    assert_eq!(
        endpoint,
        json!({"addresses": ["10.1.0.1"], "nodeName": "n", "zone": "z",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "d", "name": "a", "uid": "uid-a"}})
    );
}

#[test]
fn services_say_what_else_is_published() {
    // Whoever is not ready, where the service says so.
    let mut s = stage(
        &json!({"publishNotReadyAddresses": true, "clusterIP": "None", "trafficDistribution": "PreferClose"}),
    );
    pod(&mut s, "b", "10.1.0.2", 8080, false);
    s.patch("pods", "d", "b", &json!({"spec": {"hostname": "h", "subdomain": "s"}}));
    s.settle(&slices_key());
    assert_eq!(shown(&s), ["IPv4 [8080] 10.1.0.2 r--"]);
    let slice = s.all("endpointslices")[0];
    assert_eq!(slice["metadata"]["labels"]["service.kubernetes.io/headless"], "");
    assert_eq!(slice["endpoints"][0]["hostname"], "h");
    assert_eq!(slice["endpoints"][0]["hints"], json!({"forZones": [{"name": "z"}]}));
    // Both families, and a number for a port.
    let mut s = stage(&json!({"ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "web", "port": 80, "targetPort": 81}, {"name": "dns", "port": 5, "targetPort": "http", "protocol": "UDP"}]}));
    pod(&mut s, "a", "10.1.0.1", 8080, true);
    s.patch("pods", "d", "a", &json!({"status": {"podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]}}));
    s.settle(&slices_key());
    assert_eq!(shown(&s), ["IPv4 [81,53] 10.1.0.1 rs-", "IPv6 [81,53] fd00::1 rs-"]);
    // A headless service may have no ports; one without a selector has no slices from here.
    let mut s = stage(&json!({"clusterIP": "None", "ports": null}));
    pod(&mut s, "a", "10.1.0.1", 8080, true);
    s.settle(&slices_key());
    assert_eq!(shown(&s), ["IPv4 [] 10.1.0.1 rs-"]);
    for spec in [json!({"selector": null}), json!({"type": "ExternalName"})] {
        let s = stage(&spec);
        assert!(
            reconcile(&s.world, &slices_key()).is_empty() && reconcile(&s.world, &legacy_key()).is_empty()
        );
    }
}

#[test]
fn one_pod_that_changes_touches_one_slice() {
    let mut s = stage(&json!({}));
    for i in 0..250 {
        pod(&mut s, &format!("p{i:03}"), &format!("10.1.{}.{}", i / 200, i % 200 + 1), 8080, true);
    }
    s.settle(&slices_key());
    let sizes = |s: &Stage| {
        let mut all: Vec<usize> =
            s.all("endpointslices").iter().map(|x| x["endpoints"].as_array().map_or(0, Vec::len)).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(sizes(&s), [50, 100, 100]);
    let unready = pod_status("Running", false, s.world.now);
    s.patch("pods", "d", "p000", &json!({"status": {"conditions": unready["status"]["conditions"]}}));
    assert_eq!(s.patches(&slices_key()).len(), 1);
    s.settle(&slices_key());
    s.remove("", "pods", "d", "p120");
    assert_eq!(reconcile(&s.world, &slices_key()).len(), 1);
    s.settle(&slices_key());
    assert_eq!(sizes(&s).iter().sum::<usize>(), 249);
    pod(&mut s, "new", "10.1.9.9", 8080, true);
    assert_eq!(reconcile(&s.world, &slices_key()).len(), 1, "it goes where there is room");
    s.settle(&slices_key());
    // With all pods gone one slice stays, and is empty.
    let names: Vec<String> = s
        .all("pods")
        .iter()
        .map(|p| p["metadata"]["name"].as_str().unwrap_or_default().to_string())
        .collect();
    for name in names {
        s.remove("", "pods", "d", &name);
    }
    s.settle(&slices_key());
    assert_eq!(sizes(&s), [0]);
    assert!(reconcile(&s.world, &slices_key()).is_empty());
}

#[test]
fn a_pod_whose_node_is_gone_is_not_published_until_it_is_back() {
    let mut s = stage(&json!({}));
    pod(&mut s, "a", "10.1.0.1", 8080, true);
    s.settle(&slices_key());
    assert!(s.remove("", "nodes", "", "n").contains(&slices_key()));
    s.settle(&slices_key());
    assert_eq!(shown(&s), ["IPv4 [] "]);
    let back = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "m"}});
    assert!(s.put(back).contains(&slices_key()));
    s.settle(&slices_key());
    assert_eq!(shown(&s), ["IPv4 [8080] 10.1.0.1 rs-"]);
}

#[test]
fn a_changed_service_relabels_its_slices() {
    let mut s = stage(&json!({}));
    pod(&mut s, "a", "10.1.0.1", 8080, true);
    s.settle(&slices_key());
    s.patch("services", "d", "s", &json!({"metadata": {"labels": {"team": null, "new": "y"}}}));
    s.settle(&slices_key());
    let labels = &s.all("endpointslices")[0]["metadata"]["labels"];
    assert_eq!((&labels["team"], &labels["new"]), (&Value::Null, &json!("y")));
}

#[test]
fn endpoints_group_addresses_by_the_ports_that_they_share() {
    let mut s = stage(
        &json!({"ports": [{"name": "web", "port": 80, "targetPort": "http"}, {"name": "two", "port": 81, "targetPort": 82}]}),
    );
    pod(&mut s, "a", "10.1.0.1", 8080, true);
    pod(&mut s, "b", "10.1.0.2", 8080, false);
    s.settle(&legacy_key());
    let made = s.get("endpoints", "d", "s").clone();
    let at = |ip: &str, name: &str| json!({"ip": ip, "nodeName": "n", "targetRef": {"kind": "Pod", "namespace": "d", "name": name, "uid": format!("uid-{name}")}});
    assert_eq!(
        made["subsets"],
        json!([{"addresses": [at("10.1.0.1", "a")], "notReadyAddresses": [at("10.1.0.2", "b")],
            "ports": [{"name": "two", "port": 82, "protocol": "TCP"}, {"name": "web", "port": 8080, "protocol": "TCP"}]}])
    );
    assert_eq!(
        made["metadata"]["labels"],
        json!({"team": "x", "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
    );
    s.patch("pods", "d", "a", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    s.remove("", "pods", "d", "b");
    s.settle(&legacy_key());
    assert!(s.get("endpoints", "d", "s")["subsets"].is_null(), "one that ends is not in the older form");
    assert!(s.remove("", "services", "d", "s").contains(&legacy_key()));
    s.settle(&legacy_key());
    assert!(s.all("endpoints").is_empty());
}

#[test]
fn too_many_addresses_are_left_out_of_the_older_form_and_it_says_so() {
    let mut s = stage(&json!({}));
    for i in 0..1_003 {
        pod(&mut s, &format!("p{i:04}"), &format!("10.1.{}.{}", i / 200, i % 200 + 1), 8080, i > 2);
    }
    s.settle(&legacy_key());
    let made = s.get("endpoints", "d", "s");
    assert_eq!(made["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"], "truncated");
    let subset = &made["subsets"][0];
    assert_eq!(subset["addresses"].as_array().map(Vec::len), Some(1_000));
    assert!(subset["notReadyAddresses"].is_null(), "who is ready comes first");
    s.remove("", "pods", "d", "p0000");
    s.remove("", "pods", "d", "p0001");
    s.remove("", "pods", "d", "p0002");
    s.settle(&legacy_key());
    let notes = &s.get("endpoints", "d", "s")["metadata"]["annotations"];
    assert!(notes["endpoints.kubernetes.io/over-capacity"].is_null());
}

#[test]
fn endpoints_that_people_write_are_mirrored_and_theirs() {
    let mut s = stage(&json!({"selector": null}));
    let written = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "s", "namespace": "d", "uid": "e", "labels": {"l": "1"}, "annotations": {"note": "n"}},
        "subsets": [{"addresses": [{"ip": "10.9.0.1", "hostname": "h"}], "notReadyAddresses": [{"ip": "10.9.0.2"}],
            "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]},
            {"addresses": [{"ip": "fd00::9"}], "ports": [{"port": 1, "protocol": "UDP"}]}]});
    assert!(s.put(written).contains(&mirror_key()));
    s.settle(&mirror_key());
    assert_eq!(shown(&s), ["IPv4 [80] 10.9.0.1 r--; 10.9.0.2 ---", "IPv6 [1] fd00::9 r--"]);
    let slice = s.all("endpointslices")[0];
    let by: BTreeMap<String, String> =
        serde_json::from_value(slice["metadata"]["labels"].clone()).expect("labels");
    assert_eq!(by["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!((by["l"].as_str(), by["kubernetes.io/service-name"].as_str()), ("1", "s"));
    assert_eq!(slice["metadata"]["annotations"], json!({"note": "n"}));
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    s.patch("endpoints", "d", "s", &json!({"subsets": [{"addresses": [{"ip": "10.9.0.3"}], "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}]}));
    s.settle(&mirror_key());
    assert_eq!(shown(&s), ["IPv4 [80] 10.9.0.3 r--"]);
    s.settle(&legacy_key());
    assert_eq!(s.all("endpoints").len(), 1);
    s.patch(
        "endpoints",
        "d",
        "s",
        &json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}}),
    );
    s.settle(&mirror_key());
    assert!(shown(&s).is_empty());
    s.remove("", "services", "d", "s");
    s.settle(&legacy_key());
    assert_eq!(s.all("endpoints").len(), 1, "nobody here has made it");
}

#[test]
fn a_look_at_a_large_service_writes_little() {
    let mut s = stage(&json!({}));
    for i in 0..2_000 {
        pod(&mut s, &format!("p{i:04}"), &format!("10.1.{}.{}", i / 200, i % 200 + 1), 8080, true);
    }
    s.settle(&slices_key());
    assert_eq!(s.all("endpointslices").len(), 20);
    let unready = pod_status("Running", false, s.world.now);
    s.patch("pods", "d", "p1234", &json!({"status": {"conditions": unready["status"]["conditions"]}}));
    assert_eq!(reconcile(&s.world, &slices_key()).len(), 1);
}

#[test]
fn only_what_readiness_changed_has_a_moment() {
    const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
    let mut s = stage(&json!({}));
    s.settle(&slices_key());
    let slice = s.all("endpointslices")[0].clone();
    assert!(slice["endpoints"].is_null() && slice["ports"].is_null(), "nothing is no empty list");
    let told = |s: &Stage| {
        let notes = |o: &Value| o["metadata"]["annotations"][TRIGGERED].is_string();
        (notes(s.all("endpointslices")[0]), notes(s.get("endpoints", "d", "s")))
    };
    pod(&mut s, "a", "10.1.0.1", 8080, true);
    pod(&mut s, "b", "10.1.0.2", 8080, true);
    let look = |s: &mut Stage| {
        s.settle(&slices_key());
        s.settle(&legacy_key());
    };
    look(&mut s);
    assert_eq!(told(&s), (true, true));
    s.patch("pods", "d", "a", &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    look(&mut s);
    assert_eq!(told(&s), (false, false), "that a pod ends came without a change of its readiness");
    let since = s.world.now;
    let mut unready = crate::stage::pod_status("Running", false, since);
    unready["status"]["podIP"] = json!("10.1.0.2");
    s.patch("pods", "d", "b", &unready);
    look(&mut s);
    assert_eq!(told(&s), (true, true));
}
