//! Volumes, claims, classes and drivers.

use super::view::{View, at, list, or, shown, text};
use serde_json::Value;

const KINDS: [&str; 7] = [
    "PersistentVolume",
    "PersistentVolumeClaim",
    "StorageClass",
    "CSIDriver",
    "CSINode",
    "VolumeAttachment",
    "VolumeAttributesClass",
];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS_ANNOTATIONS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) fn knows(kind: &str) -> bool {
    KINDS.contains(&kind)
}

pub(super) fn cells(view: View<'_>, kind: &str) -> Vec<Value> {
    match kind {
        "PersistentVolume" => volume(view),
        "PersistentVolumeClaim" => claim(view),
        "StorageClass" => storage_class(view),
        "CSIDriver" => driver(view),
        "CSINode" => vec![view.name(), view.list("spec.drivers").len().into(), view.age()],
        "VolumeAttachment" => attachment(view),
        _ => vec![view.name(), view.text("driverName").into(), view.age()],
    }
}

fn annotation<'a>(view: View<'a>, key: &str) -> &'a str {
    view.at("metadata.annotations").get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Access modes, abbreviated, each once, in their fixed order.
fn access_modes(modes: &[Value]) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let held = known.iter().filter(|(mode, _)| modes.iter().any(|m| m.as_str() == Some(mode)));
    held.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

fn phase<'a>(view: View<'a>) -> &'a str {
    if view.is_deleting() { "Terminating" } else { view.text("status.phase") }
}

fn class(view: View<'_>) -> Value {
    or(annotation(view, CLASS_ANNOTATION), view.text("spec.storageClassName")).into()
}

fn volume(view: View<'_>) -> Vec<Value> {
    let claim = view.at("spec.claimRef");
    let claimed_by = match claim.is_object() {
        true => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
        false => String::new(),
    };
    vec![
        view.name(),
        or(view.text("spec.capacity.storage"), "0").into(),
        access_modes(view.list("spec.accessModes")).into(),
        view.text("spec.persistentVolumeReclaimPolicy").into(),
        phase(view).into(),
        claimed_by.into(),
        class(view),
        shown(view.at("spec.volumeAttributesClassName"), "<unset>").into(),
        view.text("status.reason").into(),
        view.age(),
        shown(view.at("spec.volumeMode"), "<unset>").into(),
    ]
}

fn claim(view: View<'_>) -> Vec<Value> {
    // Before it is bound, what was asked for says nothing about what there is.
    let (capacity, modes) = match view.text("spec.volumeName") {
        "" => (String::new(), String::new()),
        _ => (
            or(view.text("status.capacity.storage"), "0").to_owned(),
            access_modes(view.list("status.accessModes")),
        ),
    };
    vec![
        view.name(),
        phase(view).into(),
        view.text("spec.volumeName").into(),
        capacity.into(),
        modes.into(),
        class(view),
        shown(view.at("spec.volumeAttributesClassName"), "<unset>").into(),
        view.age(),
        shown(view.at("spec.volumeMode"), "<unset>").into(),
    ]
}

fn storage_class(view: View<'_>) -> Vec<Value> {
    let is_default = DEFAULT_CLASS_ANNOTATIONS.iter().any(|key| annotation(view, key) == "true");
    let name = view.text("metadata.name");
    let name = if is_default { format!("{name} (default)") } else { name.to_owned() };
    vec![
        name.into(),
        view.text("provisioner").into(),
        or(view.text("reclaimPolicy"), "Delete").into(),
        or(view.text("volumeBindingMode"), "Immediate").into(),
        view.flag("allowVolumeExpansion").into(),
        view.age(),
    ]
}

fn driver(view: View<'_>) -> Vec<Value> {
    let join = |values: Vec<&str>, absent: &str| or(&values.join(","), absent).to_owned();
    let modes = view.list("spec.volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
    let tokens = list(view.object, "spec.tokenRequests").iter().map(|t| text(t, "audience")).collect();
    vec![
        view.name(),
        at(view.object, "spec.attachRequired").as_bool().unwrap_or(true).into(),
        view.flag("spec.podInfoOnMount").into(),
        view.flag("spec.storageCapacity").into(),
        join(tokens, "<unset>").into(),
        view.flag("spec.requiresRepublish").into(),
        join(modes, "<none>").into(),
        view.age(),
    ]
}

fn attachment(view: View<'_>) -> Vec<Value> {
    vec![
        view.name(),
        view.text("spec.attacher").into(),
        or(view.text("spec.source.persistentVolumeName"), "<unknown>").into(),
        view.text("spec.nodeName").into(),
        view.flag("status.attached").into(),
        view.age(),
    ]
}
