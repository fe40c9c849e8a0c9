use super::*;
use serde_json::{Value, json};

fn put(book: &Book, kind: Referent, name: &str, object: Value) {
    book.put(kind, "default", name, Some(object.to_string().as_bytes())).unwrap();
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec})
}

fn slice(name: &str, endpoints: Value, port: u16) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}], "endpoints": endpoints})
}

fn follow(book: &Book, all: &mut Services) {
    let here = Here { node: "n1".into(), leader: Some("127.0.0.1:6443".parse().unwrap()), dns: None };
    for (names, known) in book.take_changed() {
        render(all, &names, &known, &here);
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 0, last)
}

#[test]
fn a_service_leads_to_the_ready_and_changes_with_its_slices() {
    let (book, mut all) = (Book::default(), Services::new());
    put(
        &book,
        Referent::Service,
        "web",
        service(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
        "type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]})),
    );
    follow(&book, &mut all);
    assert_eq!(all["default/web/80-tcp"].inside, [], "nobody is behind it yet");
    let endpoints = json!([
        {"addresses": ["10.244.0.2"], "conditions": {"ready": true}},
        {"addresses": ["10.244.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["10.244.0.2"]},
    ]);
    put(&book, Referent::EndpointSlice, "web-1", slice("web-1", endpoints, 8080));
    put(
        &book,
        Referent::EndpointSlice,
        "web-2",
        slice("web-2", json!([{"addresses": ["10.244.0.4"]}]), 8081),
    );
    follow(&book, &mut all);
    let web = &all["default/web/80-tcp"];
    assert_eq!(web.inside, [(ip(2), 8080), (ip(4), 8081)]);
    assert_eq!((web.node_port, web.addresses.clone()), (Some(30_080), vec![Ipv4Addr::new(10, 96, 0, 9)]));
    book.put(Referent::EndpointSlice, "default", "web-2", None).unwrap();
    let leaving = json!([{"addresses": ["10.244.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}}]);
    put(&book, Referent::EndpointSlice, "web-1", slice("web-1", leaving, 8080));
    follow(&book, &mut all);
    assert_eq!(all["default/web/80-tcp"].inside, [(ip(3), 8080)], "better one that leaves than none");
    book.retain(|kind, _, _| kind == Referent::EndpointSlice);
    follow(&book, &mut all);
    assert!(all.is_empty(), "a service that was not named is gone");
}

#[test]
fn local_policies_keep_to_this_node() {
    let (book, mut all) = (Book::default(), Services::new());
    put(
        &book,
        Referent::Service,
        "web",
        service(json!({"clusterIP": "10.96.0.9", "type": "LoadBalancer",
        "externalTrafficPolicy": "Local", "externalIPs": ["198.51.100.1"], "sessionAffinity": "ClientIP",
        "ports": [{"name": "http", "port": 80}]})),
    );
    let endpoints = json!([{"addresses": ["10.244.0.2"], "nodeName": "n1"}, {"addresses": ["10.244.1.2"], "nodeName": "n2"}]);
    put(&book, Referent::EndpointSlice, "web-1", slice("web-1", endpoints, 8080));
    follow(&book, &mut all);
    let web = &all["default/web/80-tcp"];
    assert_eq!((web.inside.len(), web.outside.clone(), web.keeps_source), (2, vec![(ip(2), 8080)], true));
    assert_eq!((web.sticky_seconds, web.external.len()), (Some(STICKY_SECONDS_DEFAULT), 1));
}

#[test]
fn what_has_no_address_is_not_led_anywhere_and_the_api_is_the_leader() {
    let (book, mut all) = (Book::default(), Services::new());
    put(&book, Referent::Service, "web", service(json!({"clusterIP": "None", "ports": [{"port": 80}]})));
    put(
        &book,
        Referent::Service,
        "away",
        service(json!({"type": "ExternalName", "externalName": "example.com"})),
    );
    put(
        &book,
        Referent::Service,
        "kubernetes",
        service(json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]})),
    );
    follow(&book, &mut all);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["default/kubernetes/443-tcp"]);
    assert_eq!(all["default/kubernetes/443-tcp"].inside, [(Ipv4Addr::LOCALHOST, 6443)]);
}

#[test]
fn programs_find_the_services_of_their_namespace() {
    let book = Book::default();
    put(
        &book,
        Referent::Service,
        "my-web",
        json!({"spec": {"clusterIP": "10.96.0.9",
        "ports": [{"name": "http", "port": 80}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]}}),
    );
    put(
        &book,
        Referent::Service,
        "headless",
        json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}}),
    );
    assert!(book.variables("other").is_empty());
    let found = book.variables("default");
    let want = [
        ("MY_WEB_PORT", "tcp://10.96.0.9:80"),
        ("MY_WEB_PORT_53_UDP", "udp://10.96.0.9:53"),
        ("MY_WEB_PORT_53_UDP_ADDR", "10.96.0.9"),
        ("MY_WEB_PORT_53_UDP_PORT", "53"),
        ("MY_WEB_PORT_53_UDP_PROTO", "udp"),
        ("MY_WEB_PORT_80_TCP", "tcp://10.96.0.9:80"),
        ("MY_WEB_PORT_80_TCP_ADDR", "10.96.0.9"),
        ("MY_WEB_PORT_80_TCP_PORT", "80"),
        ("MY_WEB_PORT_80_TCP_PROTO", "tcp"),
        ("MY_WEB_SERVICE_HOST", "10.96.0.9"),
        ("MY_WEB_SERVICE_PORT", "80"),
        ("MY_WEB_SERVICE_PORT_DNS_UDP", "53"),
        ("MY_WEB_SERVICE_PORT_HTTP", "80"),
    ];
    assert_eq!(found.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(), want);
}
