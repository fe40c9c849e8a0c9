use crate::stage::Stage;
use crate::{Controller, Key, reconcile};
use serde_json::{Value, json};

fn claim(deleting: bool) -> Value {
    let mut meta = json!({"name": "data", "namespace": "d", "uid": "c", "resourceVersion": "5",
        "finalizers": ["kubernetes.io/pvc-protection", "other"]});
    if deleting {
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta})
}

fn pod(node: &str, phase: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "d", "uid": "p", "resourceVersion": "6"},
        "spec": {"nodeName": node, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]},
        "status": {"phase": phase}})
}

#[test]
fn a_claim_is_let_go_when_no_pod_that_runs_uses_it() {
    let key = Key::new(Controller::ClaimProtection, "d", "data");
    let freed = json!({"metadata": {"finalizers": ["other"]}});
    for (deleting, pods, wanted) in [
        (false, vec![], None),
        (true, vec![], Some(&freed)),
        (true, vec![pod("n1", "Running")], None),
        (true, vec![pod("n1", "Succeeded")], Some(&freed)),
        (true, vec![pod("", "Pending")], Some(&freed)),
    ] {
        let mut stage = Stage::new();
        stage.put(claim(deleting));
        for pod in &pods {
            assert!(stage.put(pod.clone()).contains(&key), "a pod names the claims that it uses");
        }
        assert_eq!(stage.patches(&key), Vec::from_iter(wanted.cloned()), "{deleting} {pods:?}");
    }
}

#[test]
fn a_claim_is_looked_at_when_the_last_pod_goes() {
    let mut stage = Stage::new();
    let key = Key::new(Controller::ClaimProtection, "d", "data");
    stage.put(claim(true));
    stage.put(pod("n1", "Running"));
    assert!(reconcile(&stage.world, &key).is_empty());
    assert!(stage.remove("", "pods", "d", "p").contains(&key));
    assert_eq!(stage.patches(&key).len(), 1);
}

#[test]
fn a_volume_is_let_go_unless_it_is_bound() {
    for (phase, patches) in [("Bound", 0), ("Released", 1), ("Available", 1)] {
        let mut stage = Stage::new();
        stage.put(json!({"apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": "v", "uid": "v", "resourceVersion": "3", "deletionTimestamp": "2026-01-01T00:00:00Z",
                "finalizers": ["kubernetes.io/pv-protection"]},
            "spec": {}, "status": {"phase": phase}}));
        let key = Key::new(Controller::VolumeProtection, "", "v");
        assert_eq!(stage.patches(&key).len(), patches, "{phase}");
    }
}

#[test]
fn a_class_of_attributes_stays_while_a_claim_or_a_volume_names_it() {
    let mut stage = Stage::new();
    let key = Key::new(Controller::AttributesProtection, "", "gold");
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "gold"}, "driverName": "d"});
    assert!(stage.put(class).contains(&key));
    stage.settle(&key);
    let finalizers =
        |stage: &Stage| stage.get("volumeattributesclasses", "", "gold")["metadata"]["finalizers"].clone();
    assert_eq!(finalizers(&stage), json!(["kubernetes.io/vac-protection"]));
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "d"},
        "spec": {"volumeAttributesClassName": "gold"}, "status": {"currentVolumeAttributesClassName": "gold"}});
    stage.put(claim);
    stage.put(json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"volumeAttributesClassName": "gold"}}));
    stage.patch(
        "volumeattributesclasses",
        "",
        "gold",
        &json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    );
    stage.settle(&key);
    assert_eq!(finalizers(&stage), json!(["kubernetes.io/vac-protection"]));
    let keys =
        stage.patch("persistentvolumes", "", "v", &json!({"spec": {"volumeAttributesClassName": "tin"}}));
    assert!(keys.contains(&key), "{keys:?}");
    let keys = stage.patch(
        "persistentvolumeclaims",
        "d",
        "c",
        &json!({"spec": {"volumeAttributesClassName": "tin"}}),
    );
    assert!(!keys.contains(&key), "its volume has it still");
    stage.settle(&key);
    let keys = stage.remove("", "persistentvolumeclaims", "d", "c");
    assert!(keys.contains(&key), "{keys:?}");
    stage.settle(&key);
    assert!(stage.all("volumeattributesclasses").is_empty());
}
