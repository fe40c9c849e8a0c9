//! Every recorded create goes the whole way, decode to check, and must come out as the stock server answered; a few
//! recorded changes likewise.

use serde_json::{Value, json};
use stoa_kube::{Resource, Status, decode, resources, schema};

use super::Objects;
use crate::{
    Operation, Request, STOCK, UserRef, check, default, mutate, prepare_create, prepare_update, service,
    validate_create, validate_update,
};
use stoa_units::Time;

const RECORDED: &str = include_str!("../../testdata/exchanges.jsonl");
const UID: &str = "00000000-0000-0000-0000-000000000001";

struct Exchange {
    name: String,
    method: String,
    path: String,
    body: Value,
    status: u64,
    response: Value,
}

fn exchanges() -> Vec<Exchange> {
    RECORDED
        .lines()
        .map(|line| {
            let v: Value = serde_json::from_str(line).unwrap();
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            Exchange {
                name: text(&v["name"]),
                method: text(&v["request"]["method"]),
                path: text(&v["request"]["path"]),
                body: v["request"]["body"].clone(),
                status: v["status"].as_u64().unwrap(),
                response: v["response"].clone(),
            }
        })
        .collect()
}

/// Resource, namespace and name of a path.
fn target(path: &str) -> (&'static Resource, String, String) {
    let path = path.split('?').next().unwrap();
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    let (group, version) = match parts.remove(0) {
        "api" => ("", parts.remove(0)),
        _ => (parts.remove(0), parts.remove(0)),
    };
    let namespace = if parts[0] == "namespaces" && parts.len() > 2 {
        parts.remove(0);
        parts.remove(0).to_owned()
    } else {
        String::new()
    };
    let resource = resources().find(group, version, parts[0]).unwrap();
    (resource, namespace, parts.get(1).copied().unwrap_or_default().to_owned())
}

fn world() -> Objects {
    let mut w = Objects::default();
    w.add("", "namespaces", json!({"metadata": {"name": "facts"}, "status": {"phase": "Active"}}));
    w.add("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "facts"}}));
    w.add(
        "scheduling.k8s.io",
        "priorityclasses",
        json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000, "preemptionPolicy": "PreemptLowerPriority"}),
    );
    w
}

fn user() -> UserRef<'static> {
    UserRef { name: "jane", groups: &[] }
}

fn create(exchange: &Exchange, world: &Objects) -> Result<Value, Status> {
    let (resource, namespace, _) = target(&exchange.path);
    let ty = schema::builtin().type_of(resource);
    let decoded = decode::decode(exchange.body.to_string().as_bytes(), ty)
        .map_err(|e| Status::undecodable(resource, &e.to_string()))?;
    if exchange.path.contains("fieldValidation=Strict") && !decoded.problems.is_empty() {
        return Err(Status::undecodable(resource, &decode::strict_error(&decoded.problems)));
    }
    let mut object = decoded.value;
    default(resource, &mut object);
    // What the registry does around admission.
    let name = match object["metadata"]["name"].as_str() {
        Some(name) => name.to_owned(),
        None => match object["metadata"]["generateName"].as_str() {
            Some(base) => crate::generated_name(base, 5),
            None => String::new(),
        },
    };
    if !name.is_empty() {
        object["metadata"]["name"] = json!(name);
    }
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object["metadata"]["uid"] = json!(UID);
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let request = Request {
        operation: Operation::Create,
        resource,
        subresource: "",
        namespace: &namespace,
        name: &name,
        user: user(),
        now: Time::EPOCH,
        dry_run: false,
        seed: 1,
        policy: &STOCK,
        notes: None,
    };
    prepare_create(&request, &mut object);
    mutate(&request, &mut object, world)?;
    let mut causes = Vec::new();
    if resource.plural == "services" {
        allocate(&mut object, &mut causes);
    }
    causes.extend(validate_create(&request, &object));
    if !causes.is_empty() {
        return Err(Status::invalid_object(resource, &name, causes));
    }
    check(&request, &object, None, world)?;
    Ok(object)
}

/// The allocator of the recorded server, as far as the exchanges show it.
fn allocate(object: &mut Value, causes: &mut Vec<stoa_kube::Cause>) {
    let needs = service::needs(object);
    match needs.address {
        service::Address::None => {}
        service::Address::Any => service::set_address(object, "10.96.0.10".parse().unwrap()),
        service::Address::Exactly(ip) => {
            let range: ipnet::IpNet = "10.96.0.0/16".parse().unwrap();
            if !range.contains(&ip) {
                causes.push(service::address_outside(object, ip));
            }
        }
    }
    for need in needs.node_ports {
        match need.asked {
            0 => service::set_node_port(object, need.index, 31000),
            port if !(30000..=32767).contains(&port) => {
                causes.push(service::node_port_outside(need.index, port, 30000, 32767));
            }
            30123 if object["metadata"]["name"] == "s9" => {
                causes.push(service::node_port_taken(need.index, 30123));
            }
            _ => {}
        }
    }
}

/// Takes out what differs from run to run.
fn normalise(v: &mut Value) {
    match v {
        Value::Object(map) => {
            map.remove("managedFields");
            for (key, value) in map.iter_mut() {
                match key.as_str() {
                    "uid"
                    | "resourceVersion"
                    | "creationTimestamp"
                    | "clusterIP"
                    | "lastPhaseTransitionTime"
                    | "controller-uid"
                    | "batch.kubernetes.io/controller-uid"
                        if value.as_str().is_some_and(|s| s != "None") =>
                    {
                        *value = json!("<...>");
                    }
                    "clusterIPs" if value[0] != "None" => *value = json!(["<...>"]),
                    _ => normalise(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(normalise),
        Value::String(s) => {
            for prefix in ["kube-api-access-", "gn-"] {
                if s.starts_with(prefix) && s.len() > prefix.len() {
                    *s = format!("{prefix}<...>");
                }
            }
        }
        _ => {}
    }
}

/// Answers that are not this crate's: they are given before an object gets here, or after.
const OTHERS: &[&str] = &["create twice", "namespace mismatch", "kind mismatch"];

#[test]
fn every_recorded_create_comes_out_as_the_stock_server_answered() {
    let mut world = world();
    let mut failures = Vec::new();
    for exchange in exchanges() {
        if exchange.name == "delete limitrange" {
            world.remove("", "limitranges", "facts", "lr1");
        }
        if exchange.method != "POST" || OTHERS.contains(&exchange.name.as_str()) {
            continue;
        }
        let (resource, ..) = target(&exchange.path);
        let mut got = match create(&exchange, &world) {
            Ok(object) => {
                world.add(resource.group, resource.plural, object.clone());
                object
            }
            Err(status) => serde_json::to_value(&status).unwrap(),
        };
        if exchange.status == 201 {
            got["metadata"]["resourceVersion"] = json!("1");
        }
        let mut want = exchange.response.clone();
        normalise(&mut got);
        normalise(&mut want);
        if got != want {
            failures.push(format!("{}\n  got  {got}\n  want {want}\n", exchange.name));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// What was created under a name.
fn created(name: &str) -> Value {
    let exchange = exchanges().into_iter().find(|e| e.name == name).unwrap();
    let mut object = exchange.response;
    object["metadata"]["uid"] = json!(UID);
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    object
}

fn update(old: &Value, path: &str, change: impl FnOnce(&mut Value)) -> Result<Value, Status> {
    let (resource, namespace, name) = target(path);
    let mut object = old.clone();
    change(&mut object);
    default(resource, &mut object);
    let request = Request {
        operation: Operation::Update,
        resource,
        subresource: "",
        namespace: &namespace,
        name: &name,
        user: user(),
        now: Time::EPOCH,
        dry_run: false,
        seed: 1,
        policy: &STOCK,
        notes: None,
    };
    prepare_update(&request, old, &mut object);
    mutate(&request, &mut object, &world())?;
    let causes = validate_update(&request, old, &object);
    if causes.is_empty() { Ok(object) } else { Err(Status::invalid_object(resource, &name, causes)) }
}

fn recorded(name: &str) -> Exchange {
    exchanges().into_iter().find(|e| e.name == name).unwrap()
}

#[test]
fn a_selector_cannot_change() {
    let exchange = recorded("immutable selector");
    let got = update(&created("deployment, minimal"), &exchange.path, |o| {
        o["spec"]["selector"]["matchLabels"]["z"] = json!("z");
    });
    assert_eq!(serde_json::to_value(got.unwrap_err()).unwrap(), exchange.response);
}

#[test]
fn a_pod_keeps_its_node_and_network() {
    let exchange = recorded("pod immutable field");
    let got = update(&created("pod, minimal"), &exchange.path, |o| {
        o["spec"]["nodeName"] = json!("x");
        o["spec"]["hostNetwork"] = json!(true);
    });
    assert_eq!(serde_json::to_value(got.unwrap_err()).unwrap(), exchange.response);
}

#[test]
fn a_key_lives_in_data_or_in_binary_data() {
    let exchange = recorded("json patch");
    let got = update(&created("configmap"), &exchange.path, |o| o["data"] = json!({"b": "2"}));
    assert_eq!(serde_json::to_value(got.unwrap_err()).unwrap(), exchange.response);
}

#[test]
fn a_changed_template_is_a_new_generation() {
    let old = created("deployment, minimal");
    let exchange = recorded("strategic merge, containers by name");
    let got = update(&old, &exchange.path, |o| {
        o["spec"]["template"]["spec"]["containers"] =
            json!([{"name": "c", "image": "nginx", "env": [{"name": "E", "value": "1"}]}, {"name": "c2", "image": "i2"}]);
    })
    .unwrap();
    assert_eq!(got["spec"], exchange.response["spec"]);
    assert_eq!(got["metadata"]["generation"], 2);
    let same = update(&got, &exchange.path, |_| {}).unwrap();
    assert_eq!(same["metadata"]["generation"], 2);
}

#[test]
fn stored_objects_pass_through_defaulting_unchanged() {
    for exchange in exchanges().into_iter().filter(|e| e.method == "POST" && e.status == 201) {
        let (resource, ..) = target(&exchange.path);
        let mut object = exchange.response.clone();
        default(resource, &mut object);
        assert_eq!(object, exchange.response, "{}", exchange.name);
    }
}
