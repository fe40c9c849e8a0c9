use super::*;
use serde_json::{Value, json};
use stoa_wire::Referent;

fn book() -> Book {
    let book = Book::default();
    let put = |kind, name: &str, object: Value| {
        book.put(kind, "shop", name, Some(object.to_string().as_bytes())).unwrap();
    };
    let service =
        |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let slice = |service: &str| {
        json!({"metadata": {"name": service, "namespace": "shop",
        "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.244.0.3"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.4"], "conditions": {"ready": false}}]})
    };
    put(
        Referent::Service,
        "web",
        service("web", json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]})),
    );
    put(
        Referent::Service,
        "db",
        service("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
    );
    put(
        Referent::Service,
        "away",
        service("away", json!({"type": "ExternalName", "externalName": "far.example."})),
    );
    put(Referent::EndpointSlice, "web", slice("web"));
    put(Referent::EndpointSlice, "db", slice("db"));
    book
}

fn ask(name: &str, kind: Kind) -> Answer {
    look_up(&book(), "cluster.local", name, kind)
}

fn a(last: &[u8]) -> Answer {
    Answer::Records(last.iter().map(|n| Data::A(Ipv4Addr::new(10, 244, 0, *n))).collect())
}

fn srv(port: u16, targets: &[&str]) -> Answer {
    Answer::Records(targets.iter().map(|t| Data::Srv { port, target: (*t).to_owned() }).collect())
}

fn ptr(names: &[&str]) -> Answer {
    Answer::Records(names.iter().map(|n| Data::Ptr(format!("{n}.svc.cluster.local"))).collect())
}

#[test]
fn an_address_is_called_as_its_endpoints_are_and_no_longer() {
    let book = book();
    let ask = || look_up(&book, "cluster.local", "2.0.244.10.in-addr.arpa", Kind::Ptr);
    book.put(Referent::EndpointSlice, "shop", "web", None).unwrap();
    assert_eq!(ask(), ptr(&["db-0.db.shop"]));
    let moved = json!({"metadata": {"name": "db", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4", "endpoints": [
            {"addresses": ["10.244.0.2"], "hostname": "db-1", "conditions": {"ready": true}},
            {"addresses": ["10.244.0.2"], "hostname": "late", "conditions": {"ready": false}}]});
    book.put(Referent::EndpointSlice, "shop", "db", Some(moved.to_string().as_bytes())).unwrap();
    assert_eq!(ask(), ptr(&["db-1.db.shop"]));
    book.put(Referent::EndpointSlice, "shop", "db", None).unwrap();
    assert_eq!(ask(), Answer::Elsewhere);
}

#[test]
fn services_endpoints_and_pods_have_their_names() {
    let nothing = Answer::Records(Vec::new());
    for (name, kind, want) in [
        ("web.shop.svc.cluster.local", Kind::A, Answer::Records(vec![Data::A(Ipv4Addr::new(10, 96, 0, 9))])),
        ("web.shop.svc.cluster.local", Kind::Other, nothing.clone()),
        ("_http._tcp.web.shop.svc.cluster.local", Kind::Srv, srv(80, &["web.shop.svc.cluster.local"])),
        ("web.shop.svc.cluster.local", Kind::Srv, srv(80, &["web.shop.svc.cluster.local"])),
        ("_ftp._tcp.web.shop.svc.cluster.local", Kind::Srv, Answer::NoName),
        ("db.shop.svc.cluster.local", Kind::A, a(&[2, 3])),
        ("db-0.db.shop.svc.cluster.local", Kind::A, a(&[2])),
        ("10-244-0-3.db.shop.svc.cluster.local", Kind::A, a(&[3])),
        ("10-244-0-4.db.shop.svc.cluster.local", Kind::A, Answer::NoName),
        (
            "_http._tcp.db.shop.svc.cluster.local",
            Kind::Srv,
            srv(8080, &["db-0.db.shop.svc.cluster.local", "10-244-0-3.db.shop.svc.cluster.local"]),
        ),
        ("away.shop.svc.cluster.local", Kind::A, Answer::Alias("far.example".into())),
        ("10-244-0-7.shop.pod.cluster.local", Kind::A, a(&[7])),
        ("nobody.shop.svc.cluster.local", Kind::A, Answer::NoName),
        ("web.empty.svc.cluster.local", Kind::A, Answer::NoName),
        ("shop.svc.cluster.local", Kind::A, nothing.clone()),
        ("cluster.local", Kind::A, nothing),
        ("dns-version.cluster.local", Kind::Txt, Answer::Records(vec![Data::Txt("1.1.0".into())])),
        ("example.com", Kind::A, Answer::Elsewhere),
        ("notcluster.local", Kind::A, Answer::Elsewhere),
        ("9.0.96.10.in-addr.arpa", Kind::Ptr, ptr(&["web.shop"])),
        ("2.0.244.10.in-addr.arpa", Kind::Ptr, ptr(&["db-0.db.shop", "db-0.web.shop"])),
        ("3.0.244.10.in-addr.arpa", Kind::Ptr, Answer::Elsewhere),
        ("1.1.1.1.in-addr.arpa", Kind::Ptr, Answer::Elsewhere),
    ] {
        assert_eq!(ask(name, kind), want, "{name} {kind:?}");
    }
}
