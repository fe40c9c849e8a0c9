use super::*;
use bytes::Bytes;
use serde_json::json;
use stoa_store::Key;
use stoa_units::Revision;

fn pod(name: &str, uid: &str, node: &str, maps: &[&str]) -> Bytes {
    let volumes: Vec<Value> = maps.iter().map(|m| json!({"configMap": {"name": m}})).collect();
    json!({"metadata": {"name": name, "namespace": "ns", "uid": uid},
        "spec": {"nodeName": node, "serviceAccountName": "sa", "volumes": volumes}})
    .to_string()
    .into()
}

fn event(kind: EventKind, value: &Bytes, previous: Option<&Bytes>) -> Event {
    Event {
        key: Key::object("", "pods", "ns", "p"),
        kind,
        value: value.clone(),
        previous: previous.cloned(),
        created: Revision(1),
        revision: Revision(2),
    }
}

fn drain(session: &Session) -> Vec<String> {
    std::iter::from_fn(|| session.take())
        .map(|item| match item {
            Item::Pod(p) => format!("pod {}/{}", p.name, p.uid),
            Item::Object(_, _, name) => format!("object {name}"),
            Item::Synced => "synced".to_string(),
        })
        .collect()
}

#[test]
fn a_session_hears_of_its_own_pods_and_their_objects_and_of_no_others() {
    let hub = Hub::default();
    let (a, b) = (pod("p", "u1", "n1", &["m1"]), pod("q", "u2", "n2", &["m2"]));
    hub.reset([&a[..], &b[..]].into_iter());
    let (n1, _r1) = hub.connect("n1").unwrap();
    let (n2, _r2) = hub.connect("n2").unwrap();
    assert_eq!(drain(&n1), ["object m1", "pod p/u1", "synced"]);
    assert_eq!(drain(&n2), ["object m2", "pod q/u2", "synced"]);
    hub.object_changed(Referent::ConfigMap, "ns", "m1");
    hub.object_changed(Referent::Secret, "ns", "m1");
    hub.object_changed(Referent::ConfigMap, "other", "m1");
    assert_eq!(drain(&n1), ["object m1"]);
    assert_eq!(drain(&n2), Vec::<String>::new());
    assert!(hub.is_needed("n1", Referent::ConfigMap, "ns", "m1"));
    assert!(!hub.is_needed("n2", Referent::ConfigMap, "ns", "m1"));

    let wider = pod("p", "u1", "n1", &["m1", "m3"]);
    hub.pod_changed(&event(EventKind::Put, &wider, Some(&a)));
    assert_eq!(drain(&n1), ["object m3", "pod p/u1"]);
    hub.pod_changed(&event(EventKind::Delete, &wider, Some(&wider)));
    assert_eq!(drain(&n1), ["pod p/u1"]);
    hub.object_changed(Referent::ConfigMap, "ns", "m1");
    assert_eq!(drain(&n1), Vec::<String>::new(), "an object that no pod needs any more is no longer told");
    assert!(!hub.is_bound("n1", &PodRef { namespace: "ns".into(), name: "p".into(), uid: "u1".into() }));
}

#[test]
fn a_namesake_is_another_pod_and_both_are_told() {
    let hub = Hub::default();
    let old = pod("p", "u1", "n1", &[]);
    hub.reset([&old[..]].into_iter());
    let (n1, _r) = hub.connect("n1").unwrap();
    drain(&n1);
    let new = pod("p", "u2", "n1", &[]);
    hub.pod_changed(&event(EventKind::Put, &new, None));
    assert_eq!(drain(&n1), ["pod p/u1", "pod p/u2"]);
}

#[test]
fn marks_coalesce_and_a_second_session_takes_the_first_ones_place() {
    let hub = Hub::default();
    let p = pod("p", "u1", "n1", &["m"]);
    hub.reset([&p[..]].into_iter());
    let (first, _r1) = hub.connect("n1").unwrap();
    for _ in 0..100 {
        hub.object_changed(Referent::ConfigMap, "ns", "m");
    }
    assert_eq!(drain(&first).len(), 3);
    let (second, _r2) = hub.connect("n1").unwrap();
    assert!(*first.closed.borrow());
    assert!(!hub.disconnect(&first), "the first is no longer the node's own");
    assert!(hub.session("n1").is_some_and(|s| s.id == second.id));
    assert!(hub.disconnect(&second));
    assert!(hub.session("n1").is_none());
}
