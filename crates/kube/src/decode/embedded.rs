//! Structs that Go's types take in whole: a client does not see them, but Go's decoder names them on the way to a field of
//! theirs that has the wrong type (`Volume.spec.volumes.VolumeSource.emptyDir`).

/// The fields of a volume claim's and a volume's own; all others are of its source.
const VOLUME_SPEC: [&str; 9] = [
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
];

/// The structs between a type and one of its fields, the outermost first.
pub(super) fn between(structure: &str, field: &str) -> &'static [&'static str] {
    match (structure, field) {
        ("Volume", field) if field != "name" => &["VolumeSource"],
        ("PersistentVolumeSpec", field) if !VOLUME_SPEC.contains(&field) => &["PersistentVolumeSource"],
        ("EphemeralContainer", field) if field != "targetContainerName" => &["EphemeralContainerCommon"],
        ("Probe", "exec" | "httpGet" | "tcpSocket" | "grpc") => &["ProbeHandler"],
        (
            "SecretProjection"
            | "ConfigMapVolumeSource"
            | "ConfigMapProjection"
            | "ConfigMapKeySelector"
            | "SecretKeySelector"
            | "ConfigMapEnvSource"
            | "SecretEnvSource",
            "name",
        ) => &["LocalObjectReference"],
        ("IngressRule", "http") => &["IngressRuleValue"],
        (
            "DeviceClaimConfiguration" | "DeviceAllocationConfiguration" | "DeviceClassConfiguration",
            "opaque",
        ) => &["DeviceConfiguration"],
        ("RuleWithOperations", field) if field != "operations" => &["Rule"],
        ("NamedRuleWithOperations", "resourceNames") => &[],
        ("NamedRuleWithOperations", "operations") => &["RuleWithOperations"],
        ("NamedRuleWithOperations", _) => &["RuleWithOperations", "Rule"],
        _ => &[],
    }
}
