//! The verbs on objects, over TLS, as clients use them.

#![allow(clippy::unwrap_used)]

mod common;
use common::{Server, Who};
use serde_json::{Value, json};

fn config_map(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"}})
}

const MAPS: &str = "/api/v1/namespaces/t/configmaps";

#[tokio::test]
async fn an_object_lives_and_dies() {
    let s = Server::start().await;
    s.namespace("t").await;
    let made = s.post(MAPS, config_map("a", json!({}))).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let path = format!("{MAPS}/a");
    let got = s.get(&path).await.json();
    assert_eq!(got, made.json());
    let mut changed = got.clone();
    changed["data"]["a"] = "2".into();
    let put = s.put(&path, changed.clone()).await;
    assert_eq!((put.code, &put.json()["data"]["a"]), (200, &json!("2")));
    let stale = s.put(&path, changed).await;
    assert_eq!((stale.code, &stale.json()["reason"]), (409, &json!("Conflict")));
    let same = s.merge(&path, json!({"data": {"a": "2"}})).await.json();
    assert_eq!(same, put.json(), "a change that changes nothing writes nothing");
    assert_eq!(s.delete(&path).await.json()["status"], "Success");
    assert_eq!(s.get(&path).await.code, 404);
}

#[tokio::test]
async fn generated_names_differ_and_dry_runs_leave_no_trace() {
    let s = Server::start().await;
    s.namespace("t").await;
    let body = json!({"metadata": {"generateName": "x-"}});
    let names = [s.post(MAPS, body.clone()).await.json(), s.post(MAPS, body.clone()).await.json()];
    assert_ne!(names[0]["metadata"]["name"], names[1]["metadata"]["name"]);
    let dry = s.post(&format!("{MAPS}?dryRun=All"), config_map("dry", json!({}))).await;
    assert_eq!(dry.code, 201);
    assert_eq!(s.get(&format!("{MAPS}/dry")).await.code, 404);
    assert_eq!(s.post(&format!("{MAPS}?dryRun=Some"), config_map("dry", json!({}))).await.code, 422);
}

#[tokio::test]
async fn pages_show_one_revision() {
    let s = Server::start().await;
    s.namespace("t").await;
    for i in 0..5 {
        s.post(MAPS, config_map(&format!("c{i}"), json!({"odd": (i % 2).to_string()}))).await;
    }
    let first = s.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    s.delete(&format!("{MAPS}/c4")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = s.get(&format!("{MAPS}?limit=9&continue={token}")).await.json();
    let names: Vec<_> = rest["items"].as_array().unwrap().iter().map(|o| &o["metadata"]["name"]).collect();
    assert_eq!(names, ["c2", "c3", "c4"], "the page is of the list's own revision");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let odd = s.get(&format!("{MAPS}?labelSelector=odd%3D1&limit=1")).await.json();
    assert_eq!(odd["items"][0]["metadata"]["name"], "c1");
    assert_eq!(odd["metadata"].get("remainingItemCount"), None);
    let one = s.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dc3")).await.json();
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn list_parameters_that_contradict_each_other_are_refused() {
    let s = Server::start().await;
    s.namespace("t").await;
    for (query, code) in [
        ("resourceVersion=0", 200),
        ("resourceVersion=1&resourceVersionMatch=NotOlderThan", 200),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=0&resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Nope", 422),
        ("resourceVersion=abc", 400),
        ("continue=abc", 400),
        ("limit=x", 400),
        ("sendInitialEvents=true", 422),
        ("limit=", 400),
        ("limit=-5", 200),
        ("timeoutSeconds=", 400),
        ("timeoutSeconds=-1", 200),
        ("pretty=x", 200),
        ("sendInitialEvents=", 422),
        // What cannot be read is told before what may not be said.
        ("sendInitialEvents=true&labelSelector=((", 400),
        ("sendInitialEvents=true&fieldSelector=spec.x%3Dy", 422),
        ("watch=true&timeoutSeconds=abc", 400),
        ("watch=true&sendInitialEvents=", 422),
        ("labelSelector=a%3D%3D%3D", 400),
        ("fieldSelector=spec.x%3Dy", 400),
    ] {
        let reply = s.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(reply.code, code, "{query}: {}", reply.json());
    }
    let message = async |query: &str| s.get(&format!("{MAPS}?{query}")).await.json()["message"].clone();
    for (query, why) in [
        (
            "resourceVersion=abc",
            r#"invalid resource version: resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax"#,
        ),
        (
            "timeoutSeconds=99999999999999999999",
            r#"strconv.ParseInt: parsing "99999999999999999999": value out of range"#,
        ),
        ("fieldSelector=%3F%3F%3F", "invalid selector: '???'; can't understand '???'"),
        (
            "continue=abc&resourceVersionMatch=Exact&resourceVersion=1",
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
    ] {
        assert_eq!(message(query).await, why, "{query}");
    }
    let mut over = s.watch(&format!("{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=-1")).await;
    assert_eq!(over.next().await, None, "a time that is over ends a watch at once");
    s.post(MAPS, config_map("kept", json!({}))).await;
    let kept = format!("{MAPS}/kept");
    for (query, code) in [("export=1", 400), ("export=false", 200)] {
        assert_eq!(s.get(&format!("{kept}?{query}")).await.code, code, "{query}");
    }
    for (query, code) in [
        ("gracePeriodSeconds=x", 400),
        ("propagationPolicy=X", 422),
        ("dryRun=", 422),
        ("uid=other", 409),
        ("resourceVersion=1", 409),
        ("fieldValidation=Foo&gracePeriodSeconds=-1", 200),
    ] {
        assert_eq!(s.delete(&format!("{kept}?{query}")).await.code, code, "{query}");
    }
    let future = s.get(&format!("{MAPS}?resourceVersion=99999999")).await;
    assert_eq!(future.code, 504);
    assert_eq!(future.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(future.header("retry-after"), "1");
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let s = Server::start().await;
    s.namespace("t").await;
    let mut body = config_map("f", json!({}));
    body["metadata"]["finalizers"] = json!(["a.b/c", "a.b/d"]);
    s.post(MAPS, body).await;
    let path = format!("{MAPS}/f");
    let marked = s.delete(&path).await.json();
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    assert_eq!(s.delete(&path).await.json(), marked, "a second delete changes nothing");
    s.merge(&path, json!({"metadata": {"finalizers": ["a.b/d"]}})).await;
    assert_eq!(s.get(&path).await.code, 200);
    assert_eq!(s.merge(&path, json!({"metadata": {"finalizers": null}})).await.code, 200);
    assert_eq!(s.get(&path).await.code, 404);
    s.post(MAPS, config_map("o", json!({}))).await;
    let orphaned = s.delete(&format!("{MAPS}/o?propagationPolicy=Orphan")).await.json();
    assert_eq!(orphaned["metadata"]["finalizers"], json!(["orphan"]));
}

#[tokio::test]
async fn preconditions_are_kept() {
    let s = Server::start().await;
    s.namespace("t").await;
    let made = s.post(MAPS, config_map("p", json!({}))).await.json();
    let path = format!("{MAPS}/p");
    let delete = |preconditions: Value| {
        let body =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}).to_string();
        let (s, path) = (&s, path.clone());
        async move {
            s.send(Who::Admin, "DELETE", &path, &[("content-type", "application/json")], body).await.code
        }
    };
    assert_eq!(delete(json!({"uid": "wrong"})).await, 409);
    assert_eq!(delete(json!({"resourceVersion": "1"})).await, 409);
    let meta = &made["metadata"];
    assert_eq!(delete(json!({"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]})).await, 200);
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let s = Server::start().await;
    s.namespace("t").await;
    for i in 0..4 {
        s.post(MAPS, config_map(&format!("c{i}"), json!({"odd": (i % 2).to_string()}))).await;
    }
    let gone = s.delete(&format!("{MAPS}?labelSelector=odd%3D1")).await.json();
    assert_eq!(gone["items"].as_array().unwrap().len(), 2, "{gone}");
    assert_eq!(s.get(MAPS).await.json()["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized_and_takes_nothing_new_meanwhile() {
    let s = Server::start().await;
    s.namespace("t").await;
    let marked = s.delete("/api/v1/namespaces/t").await.json();
    assert_eq!(marked["status"]["phase"], "Terminating", "{marked}");
    assert_eq!(s.post(MAPS, config_map("late", json!({}))).await.code, 403);
    assert_eq!(marked["metadata"].get("deletionGracePeriodSeconds"), None);
    let again = s.delete("/api/v1/namespaces/t").await;
    assert_eq!((again.code, &again.json()["metadata"]["uid"]), (200, &marked["metadata"]["uid"]));
    let taken = s.post("/api/v1/namespaces", json!({"metadata": {"name": "t"}})).await.json();
    assert_eq!(taken["message"], r#"object is being deleted: namespaces "t" already exists"#);
    let mut object = s.get("/api/v1/namespaces/t").await.json();
    object["spec"]["finalizers"] = json!([]);
    assert_eq!(s.put("/api/v1/namespaces/t/finalize", object).await.code, 200);
    assert_eq!(s.get("/api/v1/namespaces/t").await.code, 404);
}

#[tokio::test]
async fn services_hold_their_addresses_and_ports_alone() {
    let s = Server::start().await;
    s.namespace("t").await;
    let path = "/api/v1/namespaces/t/services";
    let service = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let a = s.post(path, service("a", json!({"type": "NodePort", "clusterIP": "10.96.7.7", "ports": [{"port": 80, "nodePort": 30080}]}))).await;
    assert_eq!(a.code, 201, "{}", a.json());
    let taken =
        s.post(path, service("b", json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}))).await.json();
    assert!(
        taken["message"]
            .as_str()
            .unwrap()
            .ends_with("failed to allocate IP 10.96.7.7: provided IP is already allocated"),
        "{taken}"
    );
    let taken = s
        .post(path, service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})))
        .await
        .json();
    assert!(taken["message"].as_str().unwrap().ends_with("provided port is already allocated"), "{taken}");
    let back = s.merge(&format!("{path}/a"), json!({"spec": {"type": "ClusterIP"}})).await;
    assert_eq!(back.code, 200, "{}", back.json());
    assert_eq!(back.json()["spec"]["ports"][0].get("nodePort"), None);
    let b = s
        .post(path, service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})))
        .await;
    assert_eq!(b.code, 201, "the port is free again: {}", b.json());
    s.delete(&format!("{path}/a")).await;
    let again = s.post(path, service("c", json!({"clusterIP": "10.96.7.7", "ports": [{"port": 80}]}))).await;
    assert_eq!(again.code, 201, "the address is free again: {}", again.json());
}

/// Node ports as a stock server gives them out: one for each port whatever its protocols, and none of a number that is none.
#[tokio::test]
async fn node_ports_are_given_out_by_port() {
    let s = Server::start().await;
    s.namespace("t").await;
    let path = "/api/v1/namespaces/t/services";
    let service = |name: &str, ports: Value| json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": ports}});
    let port = |name: &str, number: u16, protocol: &str, node: i64| json!({"name": name, "port": number, "protocol": protocol, "nodePort": node});
    let told = |answer: &Value| {
        answer["message"].as_str().unwrap_or_default().rsplit(": ").next().unwrap().to_owned()
    };
    let shared =
        s.post(path, service("a", json!([port("t", 53, "TCP", 0), port("u", 53, "UDP", 0)]))).await.json();
    let ports = &shared["spec"]["ports"];
    assert!(ports[0]["nodePort"].as_i64() >= Some(30000), "{shared}");
    assert_eq!(ports[0]["nodePort"], ports[1]["nodePort"]);
    let asked = s
        .post(path, service("b", json!([port("t", 53, "TCP", 0), port("u", 53, "UDP", 30123)])))
        .await
        .json();
    assert_eq!(asked["spec"]["ports"][0]["nodePort"], 30123, "{asked}");
    let twice = s
        .post(path, service("c", json!([port("t", 1, "TCP", 30124), port("u", 2, "UDP", 30124)])))
        .await
        .json();
    assert_eq!(told(&twice), "provided port is already allocated");
    let outside = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    for number in [-1, 2, 65536] {
        let refused = s.post(path, service("d", json!([port("t", 1, "TCP", number)]))).await.json();
        let said = &refused["details"]["causes"][0]["message"];
        assert_eq!(said, &format!("Invalid value: {number}: {outside}"), "{refused}");
    }
}

/// What changes nothing takes nothing: such a service is shown ports that nobody gets, and the range's own address.
#[tokio::test]
async fn a_service_that_is_only_shown_takes_nothing() {
    let s = Server::start().await;
    s.namespace("t").await;
    let path = "/api/v1/namespaces/t/services?dryRun=All";
    let shown = json!({"metadata": {"name": "a"}, "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 40000}, {"name": "c", "port": 82}]}});
    let spec = s.post(path, shown).await.json()["spec"].clone();
    let ports: Vec<i64> =
        spec["ports"].as_array().unwrap().iter().filter_map(|p| p["nodePort"].as_i64()).collect();
    assert_eq!(ports, [32769, 40000, 40001]);
    assert_eq!((&spec["healthCheckNodePort"], &spec["clusterIP"]), (&json!(40002), &json!("10.96.0.0")));
    let outside =
        json!({"metadata": {"name": "a"}, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}});
    let refused = s.post(path, outside).await.json();
    assert!(
        refused["message"].as_str().unwrap().ends_with(
            "the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn many_creates_at_once_never_share_an_address() {
    let s = std::sync::Arc::new(Server::start().await);
    s.namespace("t").await;
    let ctx = stoa_registry::Context::system("test");
    let creates = (0..100).map(|i| {
        let (s, ctx) = (s.clone(), ctx.clone());
        tokio::spawn(async move {
            let body = json!({"metadata": {"name": format!("s{i}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            s.registry.create(&ctx, s.target("services", "t", ""), body).await.unwrap().to_value()
        })
    });
    let mut seen = std::collections::HashSet::new();
    for create in creates.collect::<Vec<_>>() {
        let service = create.await.unwrap();
        assert!(seen.insert(service["spec"]["clusterIP"].to_string()), "{service}");
        assert!(seen.insert(service["spec"]["ports"][0]["nodePort"].to_string()), "{service}");
    }
}

#[tokio::test]
async fn a_pod_is_bound_once_and_ends_by_its_grace() {
    let s = Server::start().await;
    s.namespace("t").await;
    let pods = "/api/v1/namespaces/t/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let made = s.post(pods, pod.clone()).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let bind = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    assert_eq!(s.post(&format!("{pods}/p/binding"), bind.clone()).await.code, 201);
    let twice = s.post(&format!("{pods}/p/binding"), bind).await;
    assert_eq!(twice.code, 409);
    let bound = s.get(&format!("{pods}/p")).await.json();
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let marked = s.delete(&format!("{pods}/p")).await.json();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = s.delete(&format!("{pods}/p?gracePeriodSeconds=5")).await.json();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    assert_eq!(s.delete(&format!("{pods}/p?gracePeriodSeconds=9")).await.json(), shorter);
    s.delete(&format!("{pods}/p?gracePeriodSeconds=0")).await;
    assert_eq!(s.get(&format!("{pods}/p")).await.code, 404);
    s.post(pods, pod).await;
    let gone = s.delete(&format!("{pods}/p")).await.json();
    assert_eq!(gone["metadata"]["deletionGracePeriodSeconds"], 0, "its last state says that it has ended");
    assert_eq!(s.get(&format!("{pods}/p")).await.code, 404, "a pod that runs nowhere goes at once");
}

#[tokio::test]
async fn tables_and_metadata_come_by_accept() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, config_map("a", json!({}))).await;
    let get = |path: String, accept: &'static str| {
        let s = &s;
        async move { s.send(Who::Admin, "GET", &path, &[("accept", accept)], "").await }
    };
    let table = get(MAPS.into(), "application/json;as=Table;v=v1;g=meta.k8s.io").await.json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a", "{table}");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let bare = get(format!("{MAPS}?includeObject=None"), "application/json;as=Table;v=v1;g=meta.k8s.io")
        .await
        .json();
    assert_eq!(bare["rows"][0].get("object"), Some(&json!(null)));
    let partial =
        get(MAPS.into(), "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await.json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][0].get("data"), None);
    for (path, accept, code) in [
        ("/apis/apps/v1", "application/json;as=Table;v=v1;g=meta.k8s.io", 406),
        ("/apis", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", 406),
        ("/apis", "application/*", 200),
        ("/api", "application/*", 406),
        ("/version", "text/html", 406),
    ] {
        assert_eq!(get(path.into(), accept).await.code, code, "{path} {accept}");
    }
    let yaml = get(format!("{MAPS}/a"), "application/yaml").await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert!(String::from_utf8_lossy(&yaml.bytes).contains("kind: ConfigMap"));
}

#[tokio::test]
async fn a_large_list_is_compressed_for_those_who_take_it() {
    let s = Server::start().await;
    s.namespace("t").await;
    for i in 0..3 {
        let body = json!({"metadata": {"name": format!("big{i}")}, "data": {"x": "y".repeat(100_000)}});
        s.post(MAPS, body).await;
    }
    let zipped = s.send(Who::Admin, "GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&zipped.bytes[..]), &mut text).unwrap();
    let list: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 3);
    let plain = s.get(MAPS).await;
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(plain.bytes.len(), text.len());
}

/// Sends a body as it is, and returns the code, the message of a refusal and the warnings.
async fn sent(
    s: &Server,
    method: &str,
    path: &str,
    media: &str,
    body: &'static str,
) -> (u16, String, Vec<String>) {
    let reply = s.send(Who::Admin, method, path, &[("content-type", media)], body).await;
    let warnings = reply.headers.get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    (reply.code, reply.json()["message"].as_str().unwrap_or_default().to_owned(), warnings)
}

#[tokio::test]
async fn what_is_named_twice_is_told_and_refused_only_by_strict_validation() {
    let s = Server::start().await;
    s.namespace("t").await;
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: \"1\"\n  k: \"2\"\n  l: x\n  l: y\n";
    let places = [r#"line 7: key "k" already set in map"#, r#"line 9: key "l" already set in map"#];
    let warned = places.map(|text| format!("299 - \"{}\"", text.replace('"', "\\\""))).to_vec();
    let lines = format!("yaml: unmarshal errors:\n  {}", places.join("\n  "));
    let apply = |mode: &str| format!("{MAPS}/a?fieldManager=m&fieldValidation={mode}");
    let apply_media = "application/apply-patch+yaml";
    let strict = sent(&s, "PATCH", &apply("Strict"), apply_media, twice).await;
    let told = format!("error strict decoding YAML: error converting YAML to JSON: {lines}");
    assert_eq!(strict, (400, told, Vec::new()));
    let made = sent(&s, "PATCH", &apply(""), apply_media, twice).await;
    assert_eq!(made, (201, String::new(), warned.clone()));
    let ignored = sent(&s, "PATCH", &apply("Ignore"), apply_media, twice).await;
    assert_eq!(ignored, (200, String::new(), Vec::new()));
    assert_eq!(s.get(&format!("{MAPS}/a")).await.json()["data"], json!({"k": "2", "l": "y"}));

    let put = |mode: &str| format!("{MAPS}/a?fieldValidation={mode}");
    let put_strict = sent(&s, "PUT", &put("Strict"), "application/yaml", twice).await;
    let before = r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: "#;
    assert_eq!(put_strict, (400, format!("{before}{lines}"), Vec::new()));
    assert_eq!(sent(&s, "PUT", &put("Warn"), "application/yaml", twice).await, (200, String::new(), warned));

    let merge = r#"{"data":{"k":"3","k":"4"}}"#;
    let merged = sent(&s, "PATCH", &put("Warn"), "application/merge-patch+json", merge).await;
    assert_eq!(merged, (200, String::new(), vec![r#"299 - "duplicate field \"data.k\"""#.to_owned()]));
    let refused = sent(&s, "PATCH", &put("Strict"), "application/merge-patch+json", merge).await;
    assert!(
        refused.0 == 422 && refused.1.contains(r#"strict decoding error: duplicate field "data.k""#),
        "{refused:?}"
    );
    let json_patch = r#"[{"op":"add","path":"/data/k","value":"5","vlaue":1}]"#;
    let patched = sent(&s, "PATCH", &put("Warn"), "application/json-patch+json", json_patch).await;
    assert_eq!(patched.2, [r#"299 - "json patch unknown field \"[0].vlaue\"""#]);
}

#[tokio::test]
async fn an_apply_says_what_it_applies() {
    let s = Server::start().await;
    s.namespace("t").await;
    let path = format!("{MAPS}/a?fieldManager=m");
    for (body, why) in [
        ("", "invalid object type: /, Kind="),
        ("kind: ConfigMap", "invalid object type: /, Kind=ConfigMap"),
        ("apiVersion: v1", "invalid object type: /v1, Kind="),
        ("apiVersion: apps/v1\nkind: ConfigMap", "invalid object type: apps/v1, Kind=ConfigMap"),
        ("apiVersion: a/b/c\nkind: ConfigMap", "invalid object type: /, Kind="),
        (
            "[1]",
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
    ] {
        let refused = sent(&s, "PATCH", &path, "application/apply-patch+yaml", body).await;
        assert_eq!(refused, (400, why.to_owned(), Vec::new()), "{body}");
    }
    // What is meant for one object makes no other.
    let other = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, uid: u}}";
    let refused = sent(&s, "PATCH", &path, "application/apply-patch+yaml", other).await;
    let why = "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid u, and no existing object was found";
    assert_eq!((refused.0, refused.1.as_str()), (409, why));
    // Who applies is asked before what.
    let nobody = sent(&s, "PATCH", &format!("{MAPS}/a?dryRun=x"), "application/apply-patch+yaml", "").await;
    assert_eq!(
        nobody.1,
        "PatchOptions.meta.k8s.io \"\" is invalid: [fieldManager: Required value: is required for apply patch, dryRun: Unsupported value: [\"x\"]: supported values: \"All\"]"
    );
}

#[tokio::test]
async fn only_an_apply_is_forced() {
    let s = Server::start().await;
    s.namespace("t").await;
    s.post(MAPS, config_map("a", json!({}))).await;
    let refused = s.merge(&format!("{MAPS}/a?force=true"), json!({"data": {"a": "2"}})).await;
    assert_eq!(refused.code, 422);
    let causes = &refused.json()["details"]["causes"];
    assert_eq!(
        causes,
        &json!([{"reason": "FieldValueForbidden", "field": "force", "message": "Forbidden: may not be specified for non-apply patch"}])
    );
    assert_eq!(s.get(&format!("{MAPS}/a")).await.json()["data"]["a"], "1");
}

#[tokio::test]
async fn a_delete_takes_its_options_from_its_body_or_from_the_query() {
    let s = Server::start().await;
    s.namespace("t").await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    assert_eq!(s.post(MAPS, map).await.code, 201);
    let path = format!("{MAPS}/a?dryRun=All");
    let json = [("content-type", "application/json")];
    for (body, code, why) in [
        (
            r#"{"kind":"Secret","apiVersion":"v1"}"#,
            400,
            "no kind \"Secret\" is registered for version \"v1\" in scheme",
        ),
        (r#"{"kind":"Foo"}"#, 400, "no kind \"Foo\" is registered for version \"meta.k8s.io/v1\" in scheme"),
        (r#"{"apiVersion":"a/b/c"}"#, 400, "unexpected GroupVersion string: a/b/c"),
        (r#"{"dryRun":["All"]}"#, 200, ""),
        ("", 200, ""),
        ("{}", 200, ""),
        ("", 404, "configmaps \"a\" not found"),
    ] {
        let reply = s.send(Who::Admin, "DELETE", &path, &json, body).await;
        let message = reply.json()["message"].as_str().unwrap_or_default().to_string();
        assert_eq!(reply.code, code, "{body}: {message}");
        assert!(message.starts_with(why), "{body}: {message}");
    }
}

#[tokio::test]
async fn what_has_a_namespace_is_only_listed_without_it() {
    let s = Server::start().await;
    let json = [("content-type", "application/json")];
    for (method, path, code) in [
        ("GET", "/api/v1/configmaps", 200),
        ("POST", "/api/v1/configmaps", 405),
        ("DELETE", "/api/v1/configmaps", 405),
        ("GET", "/api/v1/configmaps/a", 404),
        ("PUT", "/api/v1/configmaps/a", 404),
        ("DELETE", "/api/v1/configmaps/a", 404),
        ("PATCH", MAPS, 405),
        ("PUT", MAPS, 405),
        ("POST", "/api/v1/bindings", 404),
        ("POST", "/apis/authorization.k8s.io/v1/localsubjectaccessreviews", 404),
    ] {
        assert_eq!(s.send(Who::Admin, method, path, &json, "{}").await.code, code, "{method} {path}");
    }
}

#[tokio::test]
async fn who_is_refused_hears_of_odd_fields_too() {
    let s = Server::start().await;
    s.namespace("t").await;
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"A_"},"foo":{"a":1,"a":2},"foo":1,"data":{"a":"1","a":"2"}}"#;
    let reply = s.send(Who::Admin, "POST", MAPS, &[("content-type", "application/json")], body).await;
    assert_eq!(reply.code, 422);
    let warnings: Vec<_> = reply.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(warnings, [r#"299 - "duplicate field \"data.a\"""#, r#"299 - "unknown field \"foo\"""#]);
}

#[tokio::test]
async fn who_is_refused_hears_of_an_old_resource_first() {
    let s = Server::start().await;
    s.namespace("t").await;
    let old = r#"299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice""#;
    let odd = r#"299 - "unknown field \"foo\"""#;
    let path = "/api/v1/namespaces/t/endpoints";
    for (name, code) in [("A_", 422), ("a", 201)] {
        let body = json!({"metadata": {"name": name}, "foo": 1}).to_string();
        let reply = s.send(Who::Admin, "POST", path, &[("content-type", "application/json")], body).await;
        let said: Vec<_> = reply.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!((reply.code, said), (code, vec![old, odd]), "{name}");
    }
    assert_eq!(sent(&s, "GET", &format!("{path}/none"), "", "").await.2, [old]);
}

#[tokio::test]
async fn an_update_appoints_no_end_and_an_owner_is_named_once() {
    let s = Server::start().await;
    s.namespace("t").await;
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": uid});
    let json = [("content-type", "application/json")];
    let told = |reply: &common::Reply| {
        let all = reply.headers.get_all("warning").iter();
        all.map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let body = json!({"metadata": {"name": "a", "ownerReferences": [owner("u"), owner("u"), owner("v")]}});
    let made = s.send(Who::Admin, "POST", MAPS, &json, body.to_string()).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.json()["metadata"]["ownerReferences"], json!([owner("u"), owner("v")]));
    let why = "; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: u\"";
    assert_eq!(told(&made), [format!("299 - \".metadata.ownerReferences contains duplicate entries{why}")]);
    let patch = json!({"metadata": {"ownerReferences": [owner("u"), owner("u")]}}).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    let patched = s.send(Who::Admin, "PATCH", &format!("{MAPS}/a"), &merge, patch).await;
    let when = " after mutating admission happens";
    assert_eq!(
        told(&patched),
        [format!("299 - \".metadata.ownerReferences contains duplicate entries{when}{why}")]
    );
    for (field, value) in
        [("deletionTimestamp", json!("2026-01-01T00:00:00Z")), ("deletionGracePeriodSeconds", json!(5))]
    {
        let mut body = json!({"metadata": {"name": "a"}});
        body["metadata"][field] = value.clone();
        let refused = s.send(Who::Admin, "PUT", &format!("{MAPS}/a"), &json, body.to_string()).await;
        let first = &refused.json()["details"]["causes"][0];
        assert_eq!(refused.code, 422, "{field}");
        assert_eq!(first["message"], json!(format!("Invalid value: {value}: field is immutable")));
    }
    // What lives in no namespace loses one that it is said to live in, and limits need no name.
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    for (method, path) in [("POST", roles.to_owned()), ("PUT", format!("{roles}/r"))] {
        let body = json!({"metadata": {"name": "r", "namespace": "t"}, "rules": []}).to_string();
        let reply = s.send(Who::Admin, method, &path, &json, body).await;
        assert!(reply.code < 300, "{method}: {}", reply.code);
        assert_eq!(
            (&reply.json()["metadata"]["namespace"], &reply.json()["rules"]),
            (&Value::Null, &Value::Null)
        );
    }
    let limits = s
        .send(Who::Admin, "POST", "/api/v1/namespaces/t/limitranges", &json, r#"{"spec":{"limits":[]}}"#)
        .await;
    assert_eq!(limits.json()["metadata"]["name"].as_str().map(str::len), Some(36));
}

#[tokio::test]
async fn what_is_older_than_the_collector_leaves_behind_what_it_owns() {
    let s = Server::start().await;
    s.namespace("t").await;
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]});
    let job = json!({"metadata": {"name": "j"}, "spec": {"suspend": true, "template": {"spec": pod}}});
    let jobs = "/apis/batch/v1/namespaces/t/jobs";
    let warning = "299 - \"child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning\"";
    for (query, code, finalizers, warned) in [
        ("", 200, json!(["orphan"]), warning),
        ("?propagationPolicy=Foreground", 200, json!(["foregroundDeletion"]), ""),
        ("?orphanDependents=false", 202, json!(["a.example/held"]), ""),
    ] {
        let mut job = job.clone();
        let name = format!("j{code}{}", query.len());
        job["metadata"]["name"] = json!(name);
        if code == 202 {
            job["metadata"]["finalizers"] = finalizers.clone();
        }
        assert_eq!(s.post(jobs, job).await.code, 201);
        let gone = s.send(Who::Admin, "DELETE", &format!("{jobs}/{name}{query}"), &[], "").await;
        assert_eq!((gone.code, &gone.json()["metadata"]["finalizers"]), (code, &finalizers), "{query}");
        assert_eq!(gone.header("warning"), warned, "{query}");
    }
}

#[tokio::test]
async fn a_service_is_shown_when_it_is_gone_and_warned_of_where_nothing_changes() {
    let s = Server::start().await;
    s.namespace("t").await;
    let spec = json!({"ports": [{"port": 80}], "externalIPs": ["1.2.3.4"]});
    let service = json!({"metadata": {"name": "s"}, "spec": spec});
    let services = "/api/v1/namespaces/t/services";
    let warning =
        "299 - \"spec.externalIPs is deprecated and may no longer be implemented in some clusters\"";
    assert_eq!(s.post(services, service.clone()).await.header("warning"), warning);
    let path = format!("{services}/s");
    let as_json = [("content-type", "application/json")];
    let same = s.send(Who::Admin, "PUT", &path, &as_json, service.to_string()).await;
    assert_eq!((same.code, same.header("warning")), (200, warning));
    let gone = s.send(Who::Admin, "DELETE", &path, &[], "").await;
    assert_eq!((gone.code, &gone.json()["kind"]), (200, &json!("Service")));
}
