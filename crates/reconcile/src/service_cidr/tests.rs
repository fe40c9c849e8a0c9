use crate::stage::Stage;
use crate::{Controller, Key};
use serde_json::{Value, json};

fn service(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "d"},
        "spec": {"clusterIP": address}})
}

fn cidr(name: &str, range: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
        "spec": {"cidrs": [range]}})
}

fn address_key(address: &str) -> Key {
    Key::new(Controller::IpAddress, "", address)
}

fn range_key(name: &str) -> Key {
    Key::new(Controller::ServiceCidr, "", name)
}

fn parents(stage: &Stage) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = stage.all("ipaddresses").into_iter();
    all.map(|a| (text(&a["metadata"]["name"]), text(&a["spec"]["parentRef"]["name"]))).collect()
}

#[test]
fn an_address_is_shown_while_a_service_has_it() {
    let mut stage = Stage::new();
    let key = address_key("10.96.0.7");
    assert!(stage.put(service("a", "10.96.0.7")).contains(&key));
    stage.settle(&key);
    assert_eq!(parents(&stage), [("10.96.0.7".into(), "a".into())]);
    let shown = stage.get("ipaddresses", "", "10.96.0.7");
    let labels = json!({"ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    assert_eq!(shown["metadata"]["labels"], labels);

    assert!(
        stage.remove("networking.k8s.io", "ipaddresses", "", "10.96.0.7").contains(&key),
        "it is made again"
    );
    stage.settle(&key);
    assert!(stage.remove("", "services", "d", "a").contains(&key));
    stage.put(service("b", "10.96.0.7"));
    stage.settle(&key);
    assert_eq!(parents(&stage), [("10.96.0.7".into(), "b".into())], "the next one has it");

    assert!(stage.put(service("b", "None")).contains(&key), "a service may let its address go");
    stage.settle(&key);
    assert_eq!(parents(&stage), []);
    assert!(!stage.put(service("b", "None")).iter().any(|k| k.controller == Controller::IpAddress));
}

#[test]
fn what_a_client_made_is_left_alone() {
    let mut stage = Stage::new();
    stage.put(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.9.9.9"},
        "spec": {"parentRef": {"resource": "gateways", "name": "mine"}}}),
    );
    stage.settle(&address_key("10.9.9.9"));
    assert_eq!(parents(&stage), [("10.9.9.9".into(), "mine".into())]);
}

#[test]
fn a_range_is_ready_and_stays_while_it_is_in_use() {
    let mut stage = Stage::new();
    stage.put(cidr("more", "10.150.0.0/24"));
    stage.settle(&range_key("more"));
    let more = |stage: &Stage| stage.get("servicecidrs", "", "more").clone();
    assert_eq!(more(&stage)["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
    let ready = |stage: &Stage| {
        let c = &more(stage)["status"]["conditions"][0];
        (c["status"].clone(), c["reason"].clone())
    };
    assert_eq!(ready(&stage), (json!("True"), json!("")));

    stage.put(service("a", "10.150.0.7"));
    let mut going = more(&stage);
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    stage.put(going);
    stage.settle(&range_key("more"));
    assert_eq!(ready(&stage), (json!("False"), json!("Terminating")));

    stage.put(service("far", "10.96.0.9"));
    assert!(!stage.remove("", "services", "d", "far").contains(&range_key("more")), "it was never in there");
    assert!(stage.remove("", "services", "d", "a").contains(&range_key("more")), "its last address left");
    stage.settle(&range_key("more"));
    assert!(stage.all("servicecidrs").is_empty());
}

#[test]
fn a_range_within_another_may_go_with_its_addresses_in_use() {
    let mut stage = Stage::new();
    let mut small = cidr("small", "10.150.0.0/24");
    small["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    small["metadata"]["finalizers"] = json!(["networking.k8s.io/service-cidr-finalizer"]);
    stage.put(small);
    stage.put(service("a", "10.150.0.7"));
    stage.settle(&range_key("small"));
    assert_eq!(stage.all("servicecidrs").len(), 1);
    assert!(stage.put(cidr("large", "10.150.0.0/16")).contains(&range_key("small")));
    stage.settle(&range_key("small"));
    assert_eq!(stage.all("servicecidrs").len(), 1, "only the large one is left");
}
