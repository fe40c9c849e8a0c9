//! A pod's specification as Go prints its internal form: every field, set or not, in the order of declaration.
//!
//! The shapes come from the schema table, which is sorted by name; the order of the types that a pod's change can show
//! is written down here.

use serde_json::{Map, Value};
use stoa_kube::schema::{self, Field, Kind, Type};

use crate::value::{at, ensure, remove, set};

/// The fields of a type in Go's order, by their Go names. Other types are printed in the table's order.
pub(in crate::validate) fn order(type_name: &str) -> Option<&'static str> {
    Some(match type_name {
        "PodSpec" => {
            "Volumes InitContainers Containers EphemeralContainers RestartPolicy TerminationGracePeriodSeconds \
             ActiveDeadlineSeconds DNSPolicy NodeSelector ServiceAccountName AutomountServiceAccountToken NodeName \
             SecurityContext ImagePullSecrets Hostname Subdomain SetHostnameAsFQDN Affinity SchedulerName Tolerations \
             HostAliases PriorityClassName Priority PreemptionPolicy DNSConfig ReadinessGates RuntimeClassName Overhead \
             EnableServiceLinks TopologySpreadConstraints OS SchedulingGates ResourceClaims Resources HostnameOverride \
             SchedulingGroup"
        }
        "PodSecurityContext" => {
            "HostNetwork HostPID HostIPC ShareProcessNamespace HostUsers SELinuxOptions WindowsOptions RunAsUser \
             RunAsGroup RunAsNonRoot SupplementalGroups SupplementalGroupsPolicy FSGroup FSGroupChangePolicy Sysctls \
             SeccompProfile AppArmorProfile SELinuxChangePolicy"
        }
        "Container" => {
            "Name Image Command Args WorkingDir Ports EnvFrom Env Resources ResizePolicy RestartPolicy \
             RestartPolicyRules VolumeMounts VolumeDevices LivenessProbe ReadinessProbe StartupProbe Lifecycle \
             TerminationMessagePath TerminationMessagePolicy ImagePullPolicy SecurityContext Stdin StdinOnce TTY"
        }
        "EphemeralContainer" => {
            "Name Image Command Args WorkingDir Ports EnvFrom Env Resources ResizePolicy RestartPolicy \
             RestartPolicyRules VolumeMounts VolumeDevices LivenessProbe ReadinessProbe StartupProbe Lifecycle \
             TerminationMessagePath TerminationMessagePolicy ImagePullPolicy SecurityContext Stdin StdinOnce TTY \
             TargetContainerName"
        }
        "SecurityContext" => {
            "Capabilities Privileged SELinuxOptions WindowsOptions RunAsUser RunAsGroup RunAsNonRoot \
             ReadOnlyRootFilesystem AllowPrivilegeEscalation ProcMount SeccompProfile AppArmorProfile"
        }
        "ResourceRequirements" => "Limits Requests Claims",
        "ContainerPort" => "Name HostPort ContainerPort Protocol HostIP",
        "EnvVar" => "Name Value ValueFrom",
        "EnvVarSource" => "FieldRef ResourceFieldRef ConfigMapKeyRef SecretKeyRef FileKeyRef",
        "EnvFromSource" => "Prefix ConfigMapRef SecretRef",
        "VolumeMount" => "Name ReadOnly RecursiveReadOnly MountPath SubPath MountPropagation SubPathExpr",
        "VolumeDevice" => "Name DevicePath",
        "Probe" => {
            "Exec HTTPGet TCPSocket GRPC InitialDelaySeconds TimeoutSeconds PeriodSeconds SuccessThreshold \
             FailureThreshold TerminationGracePeriodSeconds"
        }
        "HTTPGetAction" => "Path Port Host Scheme HTTPHeaders",
        "TCPSocketAction" => "Port Host",
        "GRPCAction" => "Port Service",
        "Lifecycle" => "PostStart PreStop StopSignal",
        "LifecycleHandler" => "Exec HTTPGet TCPSocket Sleep",
        "Volume" => {
            "Name HostPath EmptyDir GCEPersistentDisk AWSElasticBlockStore GitRepo Secret NFS ISCSI Glusterfs \
             PersistentVolumeClaim RBD Quobyte FlexVolume Cinder CephFS Flocker DownwardAPI FC AzureFile ConfigMap \
             VsphereVolume AzureDisk PhotonPersistentDisk Projected PortworxVolume ScaleIO StorageOS CSI Ephemeral Image"
        }
        "ProjectedVolumeSource" => "Sources DefaultMode",
        "VolumeProjection" => {
            "Secret DownwardAPI ConfigMap ServiceAccountToken ClusterTrustBundle PodCertificate"
        }
        "ServiceAccountTokenProjection" => "Audience ExpirationSeconds Path",
        "ConfigMapProjection" | "SecretProjection" => "Name Items Optional",
        "ConfigMapVolumeSource" => "Name Items DefaultMode Optional",
        "SecretVolumeSource" => "SecretName Items DefaultMode Optional",
        "KeyToPath" => "Key Path Mode",
        "DownwardAPIVolumeFile" => "Path FieldRef ResourceFieldRef Mode",
        "ObjectFieldSelector" => "APIVersion FieldPath",
        "EmptyDirVolumeSource" => "Medium SizeLimit",
        "HostPathVolumeSource" => "Path Type",
        "PersistentVolumeClaimVolumeSource" => "ClaimName ReadOnly",
        "PersistentVolumeClaimSpec" => {
            "AccessModes Selector Resources VolumeName StorageClassName VolumeMode DataSource DataSourceRef \
             VolumeAttributesClassName"
        }
        "VolumeResourceRequirements" => "Limits Requests",
        "TypedLocalObjectReference" => "APIGroup Kind Name",
        "TypedObjectReference" => "APIGroup Kind Name Namespace",
        "PersistentVolumeSource" => {
            "GCEPersistentDisk AWSElasticBlockStore HostPath Glusterfs NFS RBD Quobyte ISCSI FlexVolume Cinder CephFS \
             FC Flocker AzureFile VsphereVolume AzureDisk PhotonPersistentDisk PortworxVolume ScaleIO Local StorageOS CSI"
        }
        "NFSVolumeSource" => "Server Path ReadOnly",
        "LocalVolumeSource" => "Path FSType",
        "CSIPersistentVolumeSource" => {
            "Driver VolumeHandle ReadOnly FSType VolumeAttributes ControllerPublishSecretRef NodeStageSecretRef \
             NodePublishSecretRef ControllerExpandSecretRef NodeExpandSecretRef"
        }
        "GCEPersistentDiskVolumeSource" => "PDName FSType Partition ReadOnly",
        "AWSElasticBlockStoreVolumeSource" => "VolumeID FSType Partition ReadOnly",
        "GlusterfsPersistentVolumeSource" => "EndpointsName Path ReadOnly EndpointsNamespace",
        "RBDVolumeSource" | "RBDPersistentVolumeSource" => {
            "CephMonitors RBDImage FSType RBDPool RadosUser Keyring SecretRef ReadOnly"
        }
        "QuobyteVolumeSource" => "Registry Volume ReadOnly User Group Tenant",
        "ISCSIVolumeSource" | "ISCSIPersistentVolumeSource" => {
            "TargetPortal IQN Lun ISCSIInterface FSType ReadOnly Portals DiscoveryCHAPAuth SessionCHAPAuth SecretRef \
             InitiatorName"
        }
        "FlexVolumeSource" | "FlexPersistentVolumeSource" => "Driver FSType SecretRef ReadOnly Options",
        "CinderVolumeSource" | "CinderPersistentVolumeSource" => "VolumeID FSType ReadOnly SecretRef",
        "CephFSVolumeSource" | "CephFSPersistentVolumeSource" => {
            "Monitors Path User SecretFile SecretRef ReadOnly"
        }
        "FCVolumeSource" => "TargetWWNs Lun FSType ReadOnly WWIDs",
        "AzureFilePersistentVolumeSource" => "SecretName ShareName ReadOnly SecretNamespace",
        "VsphereVirtualDiskVolumeSource" => "VolumePath FSType StoragePolicyName StoragePolicyID",
        "AzureDiskVolumeSource" => "DiskName DataDiskURI CachingMode FSType ReadOnly Kind",
        "PhotonPersistentDiskVolumeSource" => "PdID FSType",
        "PortworxVolumeSource" => "VolumeID FSType ReadOnly",
        "ScaleIOVolumeSource" | "ScaleIOPersistentVolumeSource" => {
            "Gateway System SecretRef SSLEnabled ProtectionDomain StoragePool StorageMode VolumeName FSType ReadOnly"
        }
        "StorageOSVolumeSource" | "StorageOSPersistentVolumeSource" => {
            "VolumeName VolumeNamespace FSType ReadOnly SecretRef"
        }
        "ObjectReference" => "Kind Namespace Name UID APIVersion ResourceVersion FieldPath",
        "SecretReference" => "Name Namespace",
        "Toleration" => "Key Operator Value Effect TolerationSeconds",
        "HostAlias" => "IP Hostnames",
        "PodDNSConfig" => "Nameservers Searches Options",
        "Affinity" => "NodeAffinity PodAffinity PodAntiAffinity",
        "NodeAffinity" | "PodAffinity" | "PodAntiAffinity" => {
            "RequiredDuringSchedulingIgnoredDuringExecution PreferredDuringSchedulingIgnoredDuringExecution"
        }
        "PreferredSchedulingTerm" => "Weight Preference",
        "WeightedPodAffinityTerm" => "Weight PodAffinityTerm",
        "PodAffinityTerm" => {
            "LabelSelector Namespaces TopologyKey NamespaceSelector MatchLabelKeys MismatchLabelKeys"
        }
        "TopologySpreadConstraint" => {
            "MaxSkew TopologyKey WhenUnsatisfiable LabelSelector MinDomains NodeAffinityPolicy NodeTaintsPolicy \
             MatchLabelKeys"
        }
        "AppArmorProfile" | "SeccompProfile" => "Type LocalhostProfile",
        "SELinuxOptions" => "User Role Type Level",
        "WindowsSecurityContextOptions" => {
            "GMSACredentialSpecName GMSACredentialSpec RunAsUserName HostProcess"
        }
        "ConfigMapKeySelector" | "SecretKeySelector" => "Name Key Optional",
        "FileKeySelector" => "VolumeName Path Key Optional",
        "ResourceFieldSelector" => "ContainerName Resource Divisor",
        "AzureFileVolumeSource" => "SecretName ShareName ReadOnly",
        "CSIVolumeSource" => "Driver ReadOnly FSType VolumeAttributes NodePublishSecretRef",
        "DownwardAPIVolumeSource" => "Items DefaultMode",
        "GitRepoVolumeSource" => "Repository Revision Directory",
        "GlusterfsVolumeSource" => "EndpointsName Path ReadOnly",
        "ImageVolumeSource" => "Reference PullPolicy",
        "ClusterTrustBundleProjection" => "Name SignerName LabelSelector Optional Path",
        "PodCertificateProjection" => {
            "SignerName KeyType MaxExpirationSeconds CredentialBundlePath KeyPath CertificateChainPath UserAnnotations"
        }
        _ => return None,
    })
}

/// Fields that the internal form keeps with the security context.
pub(in crate::validate) const HOST_FIELDS: [&str; 5] =
    ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];

/// The lines of a value of a type, one space of indentation a level.
pub(super) fn dump(spec: &Value, type_name: &str) -> Vec<String> {
    // A persistent volume's source is a part of its specification without a name of its own.
    let (holder, shape) = match type_name {
        SOURCE => ("core.v1.PersistentVolumeSpec", "PersistentVolumeSource"),
        name => (name, name.rsplit('.').next().unwrap_or(name)),
    };
    let Some(ty) = schema::builtin().named(holder) else { return Vec::new() };
    let mut spec = spec.clone();
    for key in HOST_FIELDS.into_iter().filter(|_| ty.short_name() == "PodSpec") {
        if let Some(v) = remove(&mut spec, key)
            && let Some(context) = ensure(&mut spec, "securityContext")
        {
            set(context, key, v);
        }
    }
    let mut out = Printer { lines: Vec::new(), depth: 0 };
    out.shaped(&spec, (ty, shape), "", "");
    out.lines
}

const SOURCE: &str = "core.v1.PersistentVolumeSource";

struct Printer {
    lines: Vec<String>,
    depth: usize,
}

impl Printer {
    fn line(&mut self, text: String) {
        self.lines.push(format!("{}{text}", " ".repeat(self.depth)));
    }

    /// A place with a name (`"Key": ` or empty) and what follows it (a comma or nothing).
    fn value(&mut self, v: &Value, kind: Kind<'_>, is_pointer: bool, key: &str, comma: &str) {
        match kind {
            Kind::Struct(ty) if !(v.is_null() && is_pointer) => self.structure(v, ty, key, comma),
            Kind::List(element) if v.is_array() => {
                let items: Vec<&Value> = v.as_array().into_iter().flatten().collect();
                self.nested(key, comma, ['[', ']'], items.len(), |out, i, comma| {
                    out.value(items[i], element.kind(), false, "", comma);
                });
            }
            Kind::Map(element) if v.is_object() => {
                let entries: Vec<(&String, &Value)> = v.as_object().into_iter().flatten().collect();
                self.nested(key, comma, ['{', '}'], entries.len(), |out, i, comma| {
                    let (name, v) = entries[i];
                    out.value(v, element.kind(), false, &format!("{}: ", Value::from(name.as_str())), comma);
                });
            }
            _ => {
                let shown = if v.is_null() && !is_pointer { zero(kind) } else { v.to_string() };
                self.line(format!("{key}{shown}{comma}"));
            }
        }
    }

    fn structure(&mut self, v: &Value, ty: Type<'_>, key: &str, comma: &str) {
        self.shaped(v, (ty, ty.short_name()), key, comma);
    }

    fn shaped(&mut self, v: &Value, (ty, shape): (Type<'_>, &str), key: &str, comma: &str) {
        if ty.name().starts_with("apis.meta.") {
            return self.written(v, ty, key, comma);
        }
        if shape == "PersistentVolumeClaimTemplate" {
            return self.template(v, ty, key, comma);
        }
        let fields: Vec<(String, Option<Field<'_>>)> = match order(shape) {
            Some(names) => names.split_whitespace().map(|go| (go.to_owned(), find(ty, go))).collect(),
            None => ty.fields().map(|f| (go_name(f.name()), Some(f))).collect(),
        };
        self.nested(key, comma, ['{', '}'], fields.len(), |out, i, comma| {
            let (go, field) = &fields[i];
            let key = format!("\"{go}\": ");
            match field {
                Some(f) => out.value(at(v, f.name()), f.kind(), f.is_pointer(), &key, comma),
                None => out.line(format!("{key}null{comma}")),
            }
        });
    }

    /// A template of claims, whose metadata is a part of it without a name of its own.
    fn template(&mut self, v: &Value, ty: Type<'_>, key: &str, comma: &str) {
        let meta = at(v, "metadata");
        let of_meta = match ty.field("metadata").map(Field::kind) {
            Some(Kind::Struct(meta_type)) => written_fields(meta, meta_type),
            _ => Vec::new(),
        };
        self.nested(key, comma, ['{', '}'], of_meta.len() + 1, |out, i, comma| match of_meta.get(i) {
            Some(f) => {
                out.value(at(meta, f.name()), f.kind(), f.is_pointer(), &format!("{:?}: ", f.name()), comma);
            }
            None => {
                if let Some(f) = ty.field("spec") {
                    out.value(at(v, "spec"), f.kind(), f.is_pointer(), "\"Spec\": ", comma);
                }
            }
        });
    }

    /// A type of the meta group, which has one form only: as it is written, without what is not there.
    fn written(&mut self, v: &Value, ty: Type<'_>, key: &str, comma: &str) {
        let fields = written_fields(v, ty);
        self.nested(key, comma, ['{', '}'], fields.len(), |out, i, comma| {
            let f = fields[i];
            out.value(at(v, f.name()), f.kind(), f.is_pointer(), &format!("{:?}: ", f.name()), comma);
        });
    }

    fn nested(
        &mut self,
        key: &str,
        comma: &str,
        brackets: [char; 2],
        count: usize,
        mut each: impl FnMut(&mut Printer, usize, &str),
    ) {
        let [open, close] = brackets;
        if count == 0 {
            return self.line(format!("{key}{open}{close}{comma}"));
        }
        self.line(format!("{key}{open}"));
        self.depth += 1;
        for i in 0..count {
            each(self, i, if i + 1 < count { "," } else { "" });
        }
        self.depth -= 1;
        self.line(format!("{close}{comma}"));
    }
}

/// The fields of a type of the meta group that are there. Whatever is no option of it is a part of it always.
fn written_fields<'a>(v: &Value, ty: Type<'a>) -> Vec<Field<'a>> {
    let always = |f: &Field<'_>| matches!(f.name(), "key" | "operator");
    let mut fields: Vec<Field<'_>> =
        ty.fields().filter(|f| always(f) || has_entries(at(v, f.name()))).collect();
    fields.sort_by_key(|f| f.name() == "matchExpressions");
    fields
}

fn has_entries(v: &Value) -> bool {
    match v {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Null => false,
        v => v != "",
    }
}

/// What Go prints of a value that was never set.
fn zero(kind: Kind<'_>) -> String {
    match kind {
        Kind::Bool => "false".to_owned(),
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::IntOrString => "0".to_owned(),
        Kind::Text => "\"\"".to_owned(),
        Kind::Quantity => "\"0\"".to_owned(),
        Kind::Struct(_) => Value::Object(Map::new()).to_string(),
        _ => "null".to_owned(),
    }
}

/// The field with a Go name; the host fields are found where the external form has them.
pub(in crate::validate) fn find<'a>(ty: Type<'a>, go: &str) -> Option<Field<'a>> {
    let json = match go {
        "CephFS" => "cephfs".to_owned(),
        "StorageOS" => "storageos".to_owned(),
        "CephMonitors" => "monitors".to_owned(),
        "RBDImage" => "image".to_owned(),
        "RBDPool" => "pool".to_owned(),
        "RadosUser" => "user".to_owned(),
        "DataDiskURI" => "diskURI".to_owned(),
        "EndpointsName" => "endpoints".to_owned(),
        "WWIDs" => "wwids".to_owned(),
        "DiscoveryCHAPAuth" => "chapAuthDiscovery".to_owned(),
        "SessionCHAPAuth" => "chapAuthSession".to_owned(),
        _ => json_name(go),
    };
    match ty.field(&json) {
        None if HOST_FIELDS.contains(&json.as_str()) => {
            schema::builtin().named("core.v1.PodSpec").and_then(|spec| spec.field(&json))
        }
        found => found,
    }
}

/// `DNSPolicy` → `dnsPolicy`, `TTY` → `tty`, `NodeName` → `nodeName`.
fn json_name(go: &str) -> String {
    let capitals = go.chars().take_while(char::is_ascii_uppercase).count();
    let lowered = if capitals == go.len() { capitals } else { capitals.saturating_sub(1).max(1) };
    format!("{}{}", go[..lowered].to_ascii_lowercase(), &go[lowered..])
}

fn go_name(json: &str) -> String {
    let mut chars = json.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}", first.to_ascii_uppercase(), chars.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_of_claims_has_its_metadata_beside_its_specification() {
        let template =
            serde_json::json!({"metadata": {"labels": {"a": "b"}}, "spec": {"storageClassName": "s"}});
        let shown = dump(&template, "core.v1.PersistentVolumeClaimTemplate");
        assert_eq!(shown[..4], ["{", " \"labels\": {", "  \"a\": \"b\"", " },"]);
        assert_eq!(shown[4..6], [" \"Spec\": {", "  \"AccessModes\": null,"]);
        let spread = serde_json::json!({"maxSkew": 1, "topologyKey": "k"});
        let shown = dump(&spread, "core.v1.TopologySpreadConstraint");
        assert_eq!(
            shown[1..4],
            [" \"MaxSkew\": 1,", " \"TopologyKey\": \"k\",", " \"WhenUnsatisfiable\": \"\","]
        );
    }

    #[test]
    fn every_name_in_the_order_is_a_field_of_its_type() {
        for ty in schema::builtin().types().filter(|t| t.name().starts_with("core.v1.")) {
            for go in order(ty.short_name()).unwrap_or_default().split_whitespace() {
                assert!(find(ty, go).is_some(), "{}.{go}", ty.name());
            }
        }
    }
}
