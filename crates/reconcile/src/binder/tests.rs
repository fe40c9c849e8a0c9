use crate::stage::Stage;
use crate::{Controller, Key};
use serde_json::{Value, json};

fn claim(name: &str, size: &str, more: &Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
        "resources": {"requests": {"storage": size}}});
    for (k, v) in more.as_object().into_iter().flatten() {
        spec[k] = v.clone();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "d"},
        "spec": spec, "status": {"phase": "Pending"}})
}

fn volume(name: &str, size: &str, more: &Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "storageClassName": "slow",
        "capacity": {"storage": size}, "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/x"}});
    for (k, v) in more.as_object().into_iter().flatten() {
        spec[k] = v.clone();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "labels": {"v": name}},
        "spec": spec, "status": {"phase": "Pending"}})
}

fn claim_key(name: &str) -> Key {
    Key::new(Controller::ClaimBinding, "d", name)
}

fn volume_key(name: &str) -> Key {
    Key::new(Controller::VolumeBinding, "", name)
}

fn bound(stage: &Stage, claim: &str) -> Option<String> {
    let claim = stage.get("persistentvolumeclaims", "d", claim);
    let volume = claim["spec"]["volumeName"].as_str()?.to_string();
    assert_eq!(claim["status"]["phase"], "Bound");
    let other = stage.get("persistentvolumes", "", &volume);
    assert_eq!(other["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
    assert_eq!(other["status"]["phase"], "Bound");
    Some(volume)
}

#[test]
fn the_smallest_volume_that_is_enough_is_taken() {
    for (wants, more, taken) in [
        ("1Gi", json!({}), Some("small")),
        ("2Gi", json!({}), Some("large")),
        ("9Gi", json!({}), None),
        ("1Gi", json!({"storageClassName": "fast"}), Some("fast")),
        ("1Gi", json!({"accessModes": ["ReadWriteMany"]}), None),
        ("1Gi", json!({"volumeMode": "Block"}), None),
        ("1Gi", json!({"selector": {"matchLabels": {"v": "large"}}}), Some("large")),
    ] {
        let mut s = Stage::new();
        s.put(volume("large", "4Gi", &json!({})));
        s.put(volume("small", "1Gi", &json!({})));
        s.put(volume("fast", "1Gi", &json!({"storageClassName": "fast"})));
        assert!(s.put(claim("c", wants, &more)).contains(&claim_key("c")));
        s.settle(&claim_key("c"));
        assert_eq!(bound(&s, "c").as_deref(), taken, "{wants} {more}");
        let got = s.get("persistentvolumeclaims", "d", "c");
        if taken.is_some() {
            assert_eq!(got["status"]["accessModes"], json!(["ReadWriteOnce", "ReadOnlyMany"]));
            assert_eq!(got["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"], "yes");
        } else {
            assert_eq!(got["status"]["phase"], "Pending");
        }
    }
}

#[test]
fn a_volume_that_comes_later_is_taken_by_whoever_waits() {
    let mut s = Stage::new();
    s.put(claim("c", "1Gi", &json!({})));
    s.settle(&claim_key("c"));
    let named = s.put(volume("v", "1Gi", &json!({})));
    assert!(named.contains(&claim_key("c")) && named.contains(&volume_key("v")));
    s.settle(&volume_key("v"));
    assert_eq!(s.get("persistentvolumes", "", "v")["status"]["phase"], "Available");
    s.settle(&claim_key("c"));
    assert_eq!(bound(&s, "c").as_deref(), Some("v"));
    s.put(claim("late", "1Gi", &json!({})));
    s.settle(&claim_key("late"));
    assert_eq!(bound(&s, "late"), None, "it is taken");
}

#[test]
fn volumes_and_claims_may_name_each_other_beforehand() {
    let mut s = Stage::new();
    s.put(volume("kept", "1Gi", &json!({"claimRef": {"namespace": "d", "name": "c"}})));
    s.put(volume("other", "1Gi", &json!({})));
    for (name, more, taken) in [("o", json!({}), "other"), ("c", json!({}), "kept")] {
        s.put(claim(name, "1Gi", &more));
        s.settle(&claim_key(name));
        assert_eq!(bound(&s, name).as_deref(), Some(taken));
    }
    s.put(claim("named", "1Gi", &json!({"volumeName": "soon"})));
    s.settle(&claim_key("named"));
    assert_eq!(s.get("persistentvolumeclaims", "d", "named")["status"]["phase"], "Pending");
    assert!(s.put(volume("soon", "1Gi", &json!({}))).contains(&claim_key("named")));
    s.settle(&claim_key("named"));
    assert_eq!(bound(&s, "named").as_deref(), Some("soon"));
}

#[test]
fn a_volume_is_released_with_its_claim_and_a_claim_is_lost_with_its_volume() {
    let mut s = Stage::new();
    s.put(volume("v", "1Gi", &json!({})));
    s.put(claim("c", "1Gi", &json!({})));
    s.settle(&claim_key("c"));
    s.settle(&volume_key("v"));
    assert_eq!(s.get("persistentvolumes", "", "v")["status"]["phase"], "Bound");
    assert!(s.remove("", "persistentvolumeclaims", "d", "c").contains(&volume_key("v")));
    s.settle(&volume_key("v"));
    assert_eq!(s.get("persistentvolumes", "", "v")["status"]["phase"], "Released");
    let mut again = claim("c", "1Gi", &json!({}));
    again["metadata"]["uid"] = json!("another");
    s.put(again);
    s.settle(&claim_key("c"));
    assert_eq!(bound(&s, "c"), None, "what another wrote is not handed on");

    let mut s = Stage::new();
    s.put(volume("v", "1Gi", &json!({})));
    s.put(claim("c", "1Gi", &json!({})));
    s.settle(&claim_key("c"));
    assert!(s.remove("", "persistentvolumes", "", "v").contains(&claim_key("c")));
    s.settle(&claim_key("c"));
    assert_eq!(s.get("persistentvolumeclaims", "d", "c")["status"]["phase"], "Lost");
    assert_eq!(s.events.iter().filter(|(r, _)| r == "ClaimLost").count(), 1);
}

#[test]
fn a_class_may_want_the_first_user_to_come_first() {
    let mut s = Stage::new();
    s.put(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "slow"},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"}));
    s.put(volume("v", "1Gi", &json!({})));
    s.put(claim("c", "1Gi", &json!({})));
    s.settle(&claim_key("c"));
    assert_eq!(bound(&s, "c"), None);
    assert_eq!(s.events[0].0, "WaitForFirstConsumer");
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}});
    s.patch("persistentvolumeclaims", "d", "c", &chosen);
    s.settle(&claim_key("c"));
    assert_eq!(bound(&s, "c").as_deref(), Some("v"));
}

#[test]
fn a_claim_says_who_is_to_make_its_volume_or_what_it_waits_for() {
    let mut s = Stage::new();
    let class = |name: &str, provisioner: &str, mode: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": provisioner, "volumeBindingMode": mode})
    };
    s.put(class("made", "d.io/x", "Immediate"));
    s.put(class("none", "kubernetes.io/no-provisioner", "Immediate"));
    s.put(class("late", "d.io/x", "WaitForFirstConsumer"));
    let of = |name: &str, class: &str| {
        let mut claim = claim(name, "1Gi", &json!({}));
        claim["spec"]["storageClassName"] = class.into();
        claim
    };
    for name in ["made", "none", "late"] {
        s.put(of(name, name));
        s.settle(&claim_key(name));
    }
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d"}, "spec": {
            "containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "late"}}]}})
    };
    for name in ["p", "q"] {
        assert!(s.put(pod(name)).contains(&claim_key("late")));
        s.settle(&claim_key("late"));
    }
    let notes = &s.get("persistentvolumeclaims", "d", "made")["metadata"]["annotations"];
    for note in ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"]
    {
        assert_eq!(notes[note], "d.io/x", "{note}");
    }
    let said: Vec<(&str, &str)> = s.events.iter().map(|(r, m)| (r.as_str(), m.as_str())).collect();
    assert_eq!(
        said,
        [
            (
                "ExternalProvisioning",
                "Waiting for a volume to be created either by the external provisioner 'd.io/x' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            ),
            ("ProvisioningFailed", "no volume plugin matched name: kubernetes.io/no-provisioner"),
            ("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
            ("WaitForPodScheduled", "waiting for pod p to be scheduled"),
            ("WaitForPodScheduled", "waiting for pods p,q to be scheduled"),
        ]
    );
}
