//! One container: image, ports, environment, mounts, resources, security context.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::{Quantity, check_label_key};

use super::field::{
    Errors, NOT_NEGATIVE, Path, descending_path, dns_label, in_range, indexed, name_error, one_of,
    optional_one_of, port_name_errors, port_number, required_text,
};
use crate::value::{at, flag, has, int, is_empty, pairs, text};

/// What a container may refer to in its pod.
pub(super) struct PodParts<'a> {
    /// Names of the pod's volumes.
    pub(super) volumes: HashSet<&'a str>,
    /// Names of its claims on devices.
    pub(super) claims: HashSet<&'a str>,
}

/// Rules of every container, initial, regular or ephemeral.
pub(super) fn check(c: &Value, parts: &PodParts<'_>, path: Path<'_>, errors: &mut Errors) {
    if let Some(name) = required_text(c, "name", path, errors) {
        dns_label(name, path.child("name"), errors);
    }
    match text(c, "image") {
        "" => errors.push(Cause::required(path.child("image"), "")),
        image if image.trim() != image => {
            let why = "must not have leading or trailing whitespace";
            errors.push(Cause::invalid(path.child("image"), image, why));
        }
        _ => {}
    }
    one_of(c, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(c, path.child("ports"), errors);
    env(c, path, errors);
    mounts(c, parts, path, errors);
    one_of(c, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    resources(at(c, "resources"), path.child("resources"), errors);
    let at_resources = path.child("resources");
    claims(at(c, "resources"), parts, at_resources.child("claims"), errors);
    security_context(at(c, "securityContext"), path.child("securityContext"), errors);
}

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

fn ports(c: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (i, port) in indexed(c, "ports") {
        let path = list.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = port_name_errors(name);
            if !wrong.is_empty() {
                errors.extend(wrong.into_iter().map(|why| Cause::invalid(path.child("name"), name, why)));
            } else if !names.insert(name) {
                errors.push(Cause::duplicate(path.child("name"), name));
            }
        }
        match int(port, "containerPort").unwrap_or(0) {
            0 => errors.push(Cause::required(path.child("containerPort"), "")),
            n => port_number(n, path.child("containerPort"), errors),
        }
        match int(port, "hostPort").unwrap_or(0) {
            0 => {}
            n => port_number(n, path.child("hostPort"), errors),
        }
        one_of(port, "protocol", &PROTOCOLS, path, errors);
    }
}

fn env(c: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("env");
    for (i, var) in indexed(c, "env") {
        let path = list.index(i);
        if let Some(name) = required_text(var, "name", path, errors) {
            env_name(name, path.child("name"), errors);
        }
        if has(var, "valueFrom") {
            value_from(var, path.child("valueFrom"), errors);
        }
    }
    let list = path.child("envFrom");
    for (i, from) in indexed(c, "envFrom") {
        let path = list.index(i);
        let prefix = text(from, "prefix");
        if !prefix.is_empty() {
            env_name(prefix, path.child("prefix"), errors);
        }
        let sources: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|k| has(from, k)).collect();
        for key in &sources {
            required_text(at(from, key), "name", path.child(key), errors);
        }
        match sources.len() {
            1 => {}
            0 => errors.push(Cause::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
            _ => {
                errors.push(Cause::invalid(path, "", "may not have more than one field specified at a time"))
            }
        }
    }
}

fn env_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        let why = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        errors.push(Cause::invalid(path, name, why));
    }
}

const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

fn value_from(var: &Value, path: Path<'_>, errors: &mut Errors) {
    let from = at(var, "valueFrom");
    let mut count = 0;
    for source in SOURCES.into_iter().filter(|s| has(from, s)) {
        count += 1;
        let (v, path) = (at(from, source), path.child(source));
        match source {
            "fieldRef" => field_ref(v, ENV_FIELDS, path, errors),
            "resourceFieldRef" => resource_field_ref(v, path, errors),
            "fileKeyRef" => {
                for key in ["key", "path", "volumeName"] {
                    required_text(v, key, path, errors);
                }
            }
            _ => {
                required_text(v, "name", path, errors);
                if let Some(key) = required_text(v, "key", path, errors) {
                    config_key(key, path.child("key"), errors);
                }
            }
        }
    }
    let why = match (count, text(var, "value")) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        (_, value) if !value.is_empty() => "may not be specified when `value` is not empty",
        (1, _) => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(Cause::invalid(path, "", why));
}

/// Fields of a pod that its environment may show.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that its files may show.
pub(super) const FILE_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

pub(super) fn field_ref(v: &Value, supported: &[&str], path: Path<'_>, errors: &mut Errors) {
    required_text(v, "apiVersion", path, errors);
    let Some(field) = required_text(v, "fieldPath", path, errors) else { return };
    if let Some((base, subscript)) = field.strip_suffix("']").and_then(|f| f.split_once("['")) {
        match base {
            "metadata.labels" | "metadata.annotations" => {
                name_error(
                    check_label_key(&subscript.to_ascii_lowercase()),
                    subscript,
                    path.child("fieldPath"),
                    errors,
                );
            }
            _ => {
                let why = format!("does not support subscript: {field:?}");
                errors.push(Cause::invalid(path.child("fieldPath"), field, &why));
            }
        }
        return;
    }
    if !supported.contains(&field) {
        errors.push(Cause::not_supported(path.child("fieldPath"), field, supported));
    }
}

pub(super) fn resource_field_ref(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let Some(resource) = required_text(v, "resource", path, errors) else { return };
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let pages = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if !KNOWN.contains(&resource) && !pages {
        errors.push(Cause::not_supported(path.child("resource"), resource, &KNOWN));
    }
}

const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// A key of a config map or secret.
pub(super) fn config_key(key: &str, path: Path<'_>, errors: &mut Errors) {
    let mut say = |why: &str| errors.push(Cause::invalid(path, key, why));
    if key.len() > 253 {
        say("must be no more than 253 characters");
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        say(CONFIG_KEY);
    }
    match key {
        "." => say("must not be '.'"),
        ".." => say("must not be '..'"),
        _ if key.starts_with("..") => say("must not start with '..'"),
        _ => {}
    }
}

/// Which of the pod's claims on devices a container has a part in.
fn claims(resources: &Value, parts: &PodParts<'_>, list: Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, claim) in indexed(resources, "claims") {
        let (path, name, request) = (list.index(i), text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.push(Cause::required(path, ""));
            continue;
        }
        if !request.is_empty() {
            dns_label(request, path.child("request"), errors);
        }
        if !seen.insert((name, request)) {
            errors.push(Cause::duplicate(path, name));
        }
        if !parts.claims.contains(name) {
            let mut known: Vec<&str> = parts.claims.iter().copied().collect();
            known.sort_unstable();
            let why = match known.as_slice() {
                [] => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                known => format!("must be one of the names in pod.spec.resourceClaims: {}", known.join(", ")),
            };
            let mut cause = Cause::not_found(path, name);
            cause.message = format!("{}: {why}", cause.message);
            errors.push(cause);
        }
    }
}

fn mounts(c: &Value, parts: &PodParts<'_>, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("volumeMounts");
    let mut places = HashSet::new();
    let devices: HashSet<&str> = indexed(c, "volumeDevices").map(|(_, d)| text(d, "name")).collect();
    for (i, mount) in indexed(c, "volumeMounts") {
        let path = list.index(i);
        if let Some(name) = required_text(mount, "name", path, errors) {
            if !parts.volumes.contains(name) {
                errors.push(Cause::not_found(path.child("name"), name));
            }
            if devices.contains(name) {
                let why = "must not already exist in volumeDevices";
                errors.push(Cause::invalid(path.child("name"), name, why));
            }
        }
        if let Some(place) = required_text(mount, "mountPath", path, errors)
            && !places.insert(place)
        {
            errors.push(Cause::invalid(path.child("mountPath"), place, "must be unique"));
        }
        for key in ["subPath", "subPathExpr"] {
            if !is_empty(mount, key) {
                descending_path(text(mount, key), path.child(key), errors);
            }
        }
        if !is_empty(mount, "subPath") && !is_empty(mount, "subPathExpr") {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(Cause::invalid(path.child("subPathExpr"), text(mount, "subPathExpr"), why));
        }
        let modes = ["Bidirectional", "HostToContainer", "None"];
        optional_one_of(mount, "mountPropagation", &modes, path, errors);
        if text(mount, "mountPropagation") == "Bidirectional" && !flag(at(c, "securityContext"), "privileged")
        {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Cause::forbidden(path.child("mountPropagation"), why));
        }
    }
    let list = path.child("volumeDevices");
    for (i, device) in indexed(c, "volumeDevices") {
        let path = list.index(i);
        if let Some(name) = required_text(device, "name", path, errors)
            && !parts.volumes.contains(name)
        {
            errors.push(Cause::not_found(path.child("name"), name));
        }
        required_text(device, "devicePath", path, errors);
    }
}

/// Whether a request may lie below the limit of this resource.
fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(super) fn resources(r: &Value, path: Path<'_>, errors: &mut Errors) {
    let (limit_path, request_path) = (path.child("limits"), path.child("requests"));
    for (name, value) in pairs(r, "limits") {
        resource_amount(name, value, limit_path.key(name), errors);
    }
    let limits = at(r, "limits");
    for (name, value) in pairs(r, "requests") {
        resource_amount(name, value, request_path.key(name), errors);
        let Some(request) = read(value) else { continue };
        let Some(limit) = limits.get(name).and_then(read) else {
            if !may_overcommit(name) {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(Cause::required(limit_path, why));
            }
            continue;
        };
        let shown = value.as_str().unwrap_or_default();
        if request.nano() != limit.nano() && !may_overcommit(name) {
            let why = format!("must be equal to {name} limit of {limit}");
            errors.push(Cause::invalid(request_path, shown, &why));
        } else if request.nano() > limit.nano() {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(Cause::invalid(request_path, shown, &why));
        }
    }
}

fn read(v: &Value) -> Option<Quantity> {
    v.as_str().and_then(|s| Quantity::parse(s).ok())
}

fn resource_amount(name: &str, value: &Value, path: Path<'_>, errors: &mut Errors) {
    name_error(check_label_key(name), name, path, errors);
    let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        // What only a quota counts is a standard resource all the same.
        if check_label_key(name).is_ok() && !super::quota::is_standard(name) {
            errors.push(Cause::invalid(path, name, super::quota::NOT_STANDARD));
        }
        errors.push(Cause::invalid(path, name, "must be a standard resource for containers"));
    }
    let Some(amount) = read(value) else { return };
    if amount.is_negative() {
        errors.push(Cause::invalid(path, value.clone(), NOT_NEGATIVE));
    }
    if !is_native(name) && amount.nano() % 1_000_000_000 != 0 {
        errors.push(Cause::invalid(path, value.clone(), "must be an integer"));
    }
}

/// Largest user or group id.
const ID_MAX: i64 = i32::MAX as i64;

fn security_context(s: &Value, path: Path<'_>, errors: &mut Errors) {
    if !s.is_object() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        in_range(s, key, 0, ID_MAX, path, errors);
    }
    optional_one_of(s, "procMount", &["Default", "Unmasked"], path, errors);
    profile(at(s, "seccompProfile"), path.child("seccompProfile"), errors);
    profile(at(s, "appArmorProfile"), path.child("appArmorProfile"), errors);
    if at(s, "allowPrivilegeEscalation").as_bool() == Some(false) {
        let place = path.child("allowPrivilegeEscalation");
        if flag(s, "privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Cause::invalid(place, false, why));
        }
        let added = indexed(at(s, "capabilities"), "add");
        if added.into_iter().any(|(_, c)| matches!(c.as_str(), Some("CAP_SYS_ADMIN" | "SYS_ADMIN"))) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Cause::invalid(place, false, why));
        }
    }
}

/// A seccomp or AppArmor profile.
pub(super) fn profile(p: &Value, path: Path<'_>, errors: &mut Errors) {
    if !p.is_object() {
        return;
    }
    one_of(p, "type", &["Localhost", "RuntimeDefault", "Unconfined"], path, errors);
    let local = text(p, "localhostProfile");
    match text(p, "type") {
        "Localhost" if local.is_empty() => {
            let why = "must be set when seccomp type is Localhost";
            errors.push(Cause::required(path.child("localhostProfile"), why));
        }
        "Localhost" => descending_path(local, path.child("localhostProfile"), errors),
        _ if !local.is_empty() => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(Cause::invalid(path.child("localhostProfile"), local, why));
        }
        _ => {}
    }
}
