//! Values as messages show them that the stock server knows in a form of its own: its names of the fields, in its order, with
//! what is not set.

use serde_json::Value;
use stoa_kube::Cause;

use super::field::Path;
use crate::value::at;

/// A field: its internal name, its name in the API, and what is printed where it is not set.
pub(super) type Field = (&'static str, &'static str, &'static str);

pub(super) const TOLERATION: &[Field] = &[
    ("Key", "key", "\"\""),
    ("Operator", "operator", "\"\""),
    ("Value", "value", "\"\""),
    ("Effect", "effect", "\"\""),
    ("TolerationSeconds", "tolerationSeconds", "null"),
];
pub(super) const TAINT: &[Field] = &[
    ("Key", "key", "\"\""),
    ("Value", "value", "\"\""),
    ("Effect", "effect", "\"\""),
    ("TimeAdded", "timeAdded", "null"),
];
pub(super) const ADDRESS: &[Field] = &[("Type", "type", "\"\""), ("Address", "address", "\"\"")];
pub(super) const POD_CLAIM: &[Field] = &[
    ("Name", "name", "\"\""),
    ("ResourceClaimName", "resourceClaimName", "null"),
    ("ResourceClaimTemplateName", "resourceClaimTemplateName", "null"),
];
pub(super) const ROLE_REF: &[Field] =
    &[("APIGroup", "apiGroup", "\"\""), ("Kind", "kind", "\"\""), ("Name", "name", "\"\"")];
pub(super) const BUDGET: &[Field] = &[
    ("MinAvailable", "minAvailable", "null"),
    ("Selector", "selector", "null"),
    ("MaxUnavailable", "maxUnavailable", "null"),
    ("UnhealthyPodEvictionPolicy", "unhealthyPodEvictionPolicy", "null"),
];
pub(super) const SET_UPDATE: &[Field] =
    &[("Partition", "partition", "0"), ("MaxUnavailable", "maxUnavailable", "null")];
pub(super) const SPREAD_UPDATE: &[Field] =
    &[("MaxUnavailable", "maxUnavailable", "0"), ("MaxSurge", "maxSurge", "0")];
pub(super) const OBJECT_REFERENCE: &[Field] = &[
    ("Kind", "kind", "\"\""),
    ("Namespace", "namespace", "\"\""),
    ("Name", "name", "\"\""),
    ("UID", "uid", "\"\""),
    ("APIVersion", "apiVersion", "\"\""),
    ("ResourceVersion", "resourceVersion", "\"\""),
    ("FieldPath", "fieldPath", "\"\""),
];
pub(super) const EVENT_SOURCE: &[Field] = &[("Component", "component", "\"\""), ("Host", "host", "\"\"")];
pub(super) const SECCOMP: &[Field] =
    &[("Type", "type", "\"\""), ("LocalhostProfile", "localhostProfile", "null")];
const SELINUX: &[Field] = &[
    ("User", "user", "\"\""),
    ("Role", "role", "\"\""),
    ("Type", "type", "\"\""),
    ("Level", "level", "\"\""),
];
const WINDOWS: &[Field] = &[
    ("GMSACredentialSpecName", "gmsaCredentialSpecName", "null"),
    ("GMSACredentialSpec", "gmsaCredentialSpec", "null"),
    ("RunAsUserName", "runAsUserName", "null"),
    ("HostProcess", "hostProcess", "null"),
];
const CAPABILITIES: &[Field] = &[("Add", "add", "null"), ("Drop", "drop", "null")];

/// The security context of a container.
pub(super) fn security_context(s: &Value) -> String {
    let part = |go: &str, key: &str, fields: &[Field]| match at(s, key) {
        Value::Null => format!("{go:?}:null"),
        v => format!("{go:?}:{}", print(v, fields)),
    };
    let plain = |go: &str, key: &str| format!("{go:?}:{}", at(s, key));
    let shown = [
        part("Capabilities", "capabilities", CAPABILITIES),
        plain("Privileged", "privileged"),
        part("SELinuxOptions", "seLinuxOptions", SELINUX),
        part("WindowsOptions", "windowsOptions", WINDOWS),
        plain("RunAsUser", "runAsUser"),
        plain("RunAsGroup", "runAsGroup"),
        plain("RunAsNonRoot", "runAsNonRoot"),
        plain("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
        plain("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
        plain("ProcMount", "procMount"),
        part("SeccompProfile", "seccompProfile", SECCOMP),
        part("AppArmorProfile", "appArmorProfile", SECCOMP),
    ];
    format!("{{{}}}", shown.join(","))
}

pub(super) const SCOPE_DEMAND: &[Field] =
    &[("ScopeName", "scopeName", "\"\""), ("Operator", "operator", "\"\""), ("Values", "values", "null")];
/// A service's port as far as it tells ports apart.
pub(super) const PORT: &[Field] = &[
    ("Name", "", "\"\""),
    ("Protocol", "protocol", "\"\""),
    ("AppProtocol", "", "null"),
    ("Port", "port", "0"),
    ("TargetPort", "", "0"),
    ("NodePort", "", "0"),
];

pub(super) fn print(v: &Value, fields: &[Field]) -> String {
    let shown: Vec<String> = fields
        .iter()
        .map(|(go, json, zero)| match at(v, json) {
            Value::Null => format!("{go:?}:{zero}"),
            set => format!("{go:?}:{set}"),
        })
        .collect();
    format!("{{{}}}", shown.join(","))
}

/// A value is malformed.
pub(super) fn invalid(path: Path<'_>, v: &Value, fields: &[Field], why: &str) -> Cause {
    Cause::new("FieldValueInvalid", path, format!("Invalid value: {}: {why}", print(v, fields)))
}

/// A value that must be unique occurs twice.
pub(super) fn duplicate(path: Path<'_>, v: &Value, fields: &[Field]) -> Cause {
    Cause::new("FieldValueDuplicate", path, format!("Duplicate value: {}", print(v, fields)))
}

const REQUIREMENT: &[Field] =
    &[("Key", "key", "\"\""), ("Operator", "operator", "\"\""), ("Values", "values", "null")];

/// A term of which a node must fulfil every demand.
pub(super) fn node_term(term: &Value) -> String {
    let list = |key: &str| match at(term, key).as_array() {
        Some(demands) if !demands.is_empty() => {
            let shown: Vec<String> = demands.iter().map(|d| print(d, REQUIREMENT)).collect();
            format!("[{}]", shown.join(","))
        }
        _ => "null".to_owned(),
    };
    format!("{{\"MatchExpressions\":{},\"MatchFields\":{}}}", list("matchExpressions"), list("matchFields"))
}
