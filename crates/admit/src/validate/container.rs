//! One container: image, ports, environment, mounts, resources, security context.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use stoa_kube::Cause;
use stoa_units::{Quantity, check_dns_subdomain, check_label_key};

use super::field::{
    Errors, Path, descending_path, dns_label, dns_subdomain, indexed, name_error, no_backsteps, one_of,
    optional_one_of, port_name_errors, port_number, required_text,
};
use super::{security, source};
use crate::value::{at, flag, has, int, is_empty, items, pairs, text};

/// What a container may refer to in its pod, and what it depends on there.
pub(super) struct PodParts<'a> {
    /// The pod's volumes that are well-formed, by their names.
    pub(super) volumes: HashMap<&'a str, &'a Value>,
    /// Names of its claims on devices.
    pub(super) claims: BTreeSet<&'a str>,
    /// The pod's specification.
    pub(super) spec: &'a Value,
}

/// Rules of every container, initial, regular or ephemeral.
pub(super) fn check(c: &Value, parts: &PodParts<'_>, path: Path<'_>, errors: &mut Errors) {
    if let Some(name) = required_text(c, "name", path, errors) {
        dns_label(name, path.child("name"), errors);
    }
    required_text(c, "image", path, errors);
    one_of(c, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], path, errors);
    ports(c, path.child("ports"), errors);
    env(c, path, errors);
    mounts(c, parts, path.child("volumeMounts"), errors);
    devices(c, parts, path.child("volumeDevices"), errors);
    one_of(c, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    let at_resources = path.child("resources");
    resources(at(c, "resources"), resource_name, at_resources, errors);
    claims(at(c, "resources"), parts, at_resources.child("claims"), errors);
    resize_policy(parts.spec, c, path.child("resizePolicy"), errors);
    security::container(at(c, "securityContext"), parts.spec, path.child("securityContext"), errors);
}

/// What is demanded of a pod's containers, and not of a template's.
pub(super) fn image(c: &Value, path: Path<'_>, errors: &mut Errors) {
    let image = text(c, "image");
    if image.trim() != image {
        let why = "must not have leading or trailing whitespace";
        errors.push(Cause::invalid(path.child("image"), image, why));
    }
}

/// What a container does when it grows or shrinks, a resource once.
fn resize_policy(spec: &Value, c: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, policy) in indexed(c, "resizePolicy") {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(resource) {
            errors.push(Cause::duplicate(list.index(i), resource));
        }
        for (value, known) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])]
        {
            if value.is_empty() {
                errors.push(Cause::required(list, ""));
            } else if !known.contains(&value) {
                errors.push(Cause::not_supported(list, value, &known));
            }
        }
        if text(spec, "restartPolicy") == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Cause::invalid(list, restart, why));
        }
    }
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
    // What comes from where, a stock server says of the list as a whole.
    let list = path.child("envFrom");
    for (i, from) in indexed(c, "envFrom") {
        let path = list.index(i);
        let prefix = text(from, "prefix");
        if !prefix.is_empty() {
            env_name(prefix, path.child("prefix"), errors);
        }
        let sources: Vec<&str> = ["configMapRef", "secretRef"].into_iter().filter(|k| has(from, k)).collect();
        for key in &sources {
            let path = path.child(key);
            if let Some(name) = required_text(at(from, key), "name", path, errors) {
                let stem = name.strip_suffix('-').unwrap_or(name);
                name_error(check_dns_subdomain(stem), name, path.child("name"), errors);
            }
        }
        let why = match sources.len() {
            1 => continue,
            0 => "must specify one of: `configMapRef` or `secretRef`",
            _ => "may not have more than one field specified at a time",
        };
        errors.push(Cause::invalid(list, "", why));
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
            "resourceFieldRef" => resource_field_ref(v, Of::Environment, path, errors),
            "fileKeyRef" => file_key(v, path, errors),
            _ => {
                dns_subdomain(text(v, "name"), path.child("name"), errors);
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

/// Fields of a pod that can be named at all; some of them nothing shows.
const NAMED_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// A key of a file that holds variables.
fn file_key(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if let Some(key) = required_text(v, "key", path, errors) {
        env_name(key, path.child("key"), errors);
    }
    if let Some(name) = required_text(v, "volumeName", path, errors) {
        dns_label(name, path.child("volumeName"), errors);
    }
    if let Some(place) = required_text(v, "path", path, errors) {
        no_backsteps(place, path.child("path"), errors);
    }
}

pub(super) fn field_ref(v: &Value, supported: &[&str], path: Path<'_>, errors: &mut Errors) {
    let Some(version) = required_text(v, "apiVersion", path, errors) else { return };
    let Some(field) = required_text(v, "fieldPath", path, errors) else { return };
    let subscripted =
        field.strip_suffix("']").and_then(|f| f.split_once("['")).filter(|(f, _)| !f.is_empty());
    let unknown = match subscripted {
        _ if version != "v1" => Some(format!("unsupported pod version: {version}")),
        Some(("metadata.labels" | "metadata.annotations", _)) => None,
        Some(_) => Some(format!("field label does not support subscript: {field}")),
        None if NAMED_FIELDS.contains(&field) || field == "spec.host" => None,
        None => Some(format!("field label not supported: {field}")),
    };
    if let Some(why) = unknown {
        let why = format!("error converting fieldPath: {why}");
        return errors.push(Cause::invalid(path.child("fieldPath"), field, &why));
    }
    match subscripted {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            name_error(check_label_key(&key), &key, path, errors);
        }
        Some((_, key)) => name_error(check_label_key(key), key, path, errors),
        None => {
            let field = if field == "spec.host" { "spec.nodeName" } else { field };
            if !supported.contains(&field) {
                errors.push(Cause::not_supported(path.child("fieldPath"), field, supported));
            }
        }
    }
}

/// Who shows a container's resources: it in its environment, or a volume, which must say whose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Environment,
    Volume,
}

pub(super) fn resource_field_ref(v: &Value, of: Of, path: Path<'_>, errors: &mut Errors) {
    const KNOWN: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = text(v, "resource");
    let is_pages = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if of == Of::Volume && is_empty(v, "containerName") {
        errors.push(Cause::required(path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Cause::required(path.child("resource"), ""));
    } else if !KNOWN.contains(&resource) && !is_pages {
        errors.push(Cause::not_supported(path.child("resource"), resource, &KNOWN));
    }
    divisor(v, resource, is_pages, path, errors);
}

const BYTES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// In which unit an amount is shown.
fn divisor(v: &Value, resource: &str, is_pages: bool, path: Path<'_>, errors: &mut Errors) {
    let Some(divisor) = super::field::quantity(v, "divisor").filter(|q| !q.is_zero()) else { return };
    let of = match resource {
        "limits.cpu" | "requests.cpu" => {
            if !["1m", "1"].contains(&divisor.to_string().as_str()) {
                let why = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(Cause::invalid(path.child("divisor"), resource, why));
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if is_pages => "hugepages",
        _ => return,
    };
    if !BYTES.contains(&divisor.to_string().as_str()) {
        let why = format!("only divisor's values {} are supported with the {of} resource", BYTES.join(", "));
        errors.push(Cause::invalid(path.child("divisor"), resource, &why));
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

/// Which of the pod's claims on devices a container has a part in. A whole claim includes each of its requests.
pub(super) fn claims(resources: &Value, parts: &PodParts<'_>, list: Path<'_>, errors: &mut Errors) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (i, claim) in indexed(resources, "claims") {
        let (path, name, request) = (list.index(i), text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.push(Cause::required(path, ""));
            continue;
        }
        if seen.contains(&(name, "")) {
            errors.push(Cause::duplicate(path, name));
        } else {
            if !request.is_empty() {
                dns_label(request, path.child("request"), errors);
            }
            if seen.contains(&(name, request)) {
                errors.push(Cause::duplicate(path, format!("{name}/{request}")));
            } else if request.is_empty() {
                let of_it = seen.range((name, "")..).take_while(|(n, _)| *n == name).count();
                errors.extend((0..of_it).map(|_| Cause::duplicate(path, name)));
            }
            seen.insert((name, request));
        }
        // Each is told with all that there are.
        if !parts.claims.contains(name) && !errors.is_full() {
            let known: Vec<&str> = parts.claims.iter().copied().collect();
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

/// Names and places of the entries of a list, the last of a name.
fn places<'a>(c: &'a Value, list: &str, place: &str) -> HashMap<&'a str, &'a str> {
    items(c, list).map(|e| (text(e, "name"), text(e, place))).collect()
}

fn mounts(c: &Value, parts: &PodParts<'_>, list: Path<'_>, errors: &mut Errors) {
    let devices = places(c, "volumeDevices", "devicePath");
    let device_paths: HashSet<&str> = devices.values().copied().collect();
    let mut seen = HashSet::new();
    for (i, mount) in indexed(c, "volumeMounts") {
        let path = list.index(i);
        let (name, place) = (text(mount, "name"), text(mount, "mountPath"));
        required_text(mount, "name", path, errors);
        if !parts.volumes.contains_key(name) {
            errors.push(Cause::not_found(path.child("name"), name));
        }
        required_text(mount, "mountPath", path, errors);
        if !seen.insert(place) {
            errors.push(Cause::invalid(path.child("mountPath"), place, "must be unique"));
        }
        if devices.contains_key(name) {
            let why = "must not already exist in volumeDevices";
            errors.push(Cause::invalid(path.child("name"), name, why));
        }
        if device_paths.contains(place) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(Cause::invalid(path.child("mountPath"), place, why));
        }
        mounted_part(mount, path, list, errors);
        propagation(c, mount, list, errors);
    }
}

/// A part of a volume. A stock server tells of it without the mount's place in the list.
fn mounted_part(mount: &Value, path: Path<'_>, list: Path<'_>, errors: &mut Errors) {
    if !is_empty(mount, "subPath") {
        descending_path(text(mount, "subPath"), list.child("subPath"), errors);
    }
    if !is_empty(mount, "subPathExpr") {
        let part = text(mount, "subPathExpr");
        if !is_empty(mount, "subPath") {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(Cause::invalid(path.child("subPathExpr"), part, why));
        }
        descending_path(part, list.child("subPathExpr"), errors);
    }
}

fn propagation(c: &Value, mount: &Value, list: Path<'_>, errors: &mut Errors) {
    let mode = text(mount, "mountPropagation");
    optional_one_of(mount, "mountPropagation", &["Bidirectional", "HostToContainer", "None"], list, errors);
    if mode == "Bidirectional" && !flag(at(c, "securityContext"), "privileged") {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Cause::forbidden(list.child("mountPropagation"), why));
    }
    let path = list.child("recursiveReadOnly");
    match at(mount, "recursiveReadOnly").as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                errors.push(Cause::forbidden(path, "may only be specified when readOnly is true"));
            }
            if has(mount, "mountPropagation") && mode != "None" {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(Cause::forbidden(path, why));
            }
        }
        Some(other) => {
            errors.push(Cause::not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]));
        }
    }
}

fn devices(c: &Value, parts: &PodParts<'_>, list: Path<'_>, errors: &mut Errors) {
    let mounts = places(c, "volumeMounts", "mountPath");
    let mount_paths: HashSet<&str> = mounts.values().copied().collect();
    let (mut names, mut seen) = (HashSet::new(), HashSet::new());
    for (i, device) in indexed(c, "volumeDevices") {
        let path = list.index(i);
        let (name, place) = (text(device, "name"), text(device, "devicePath"));
        let (at_name, at_place) = (path.child("name"), path.child("devicePath"));
        required_text(device, "name", path, errors);
        if names.contains(name) {
            errors.push(Cause::invalid(at_name, name, "must be unique"));
        }
        match parts.volumes.get(name) {
            None => errors.push(Cause::not_found(at_name, name)),
            Some(volume) if !source::is_claim(volume) => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Cause::invalid(at_name, name, why));
            }
            Some(_) => {}
        }
        required_text(device, "devicePath", path, errors);
        if seen.contains(place) {
            errors.push(Cause::invalid(at_place, place, "must be unique"));
        }
        if place.split('/').any(|part| part == "..") {
            errors.push(Cause::invalid(at_place, place, "can not contain backsteps ('..')"));
        } else {
            seen.insert(place);
        }
        if mounts.contains_key(name) {
            errors.push(Cause::invalid(at_name, name, "must not already exist in volumeMounts"));
        }
        if mount_paths.contains(place) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(Cause::invalid(at_place, place, why));
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

/// Whether a request may lie below the limit of this resource.
pub(super) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(PAGES)
}

const PAGES: &str = "hugepages-";

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// The name of a resource that a container can have.
pub(super) fn resource_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    super::quota::resource_name(name, path, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !name.starts_with(PAGES) {
            errors.push(Cause::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !super::quota::is_extended(name) {
        errors.push(Cause::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// Judges the name of a resource.
pub(super) type NameRule = fn(&str, Path<'_>, &mut Errors);

/// Requests and limits, of a container or of a pod as a whole.
pub(super) fn resources(r: &Value, name_rule: NameRule, path: Path<'_>, errors: &mut Errors) {
    let (limit_path, request_path) = (path.child("limits"), path.child("requests"));
    let limits = at(r, "limits");
    let one = |name: &str, value: &Value, path: Path<'_>, errors: &mut Errors| {
        name_rule(name, path, errors);
        super::quota::amount(name, value, path, errors);
    };
    for (name, value) in pairs(r, "limits") {
        one(name, value, limit_path.key(name), errors);
        pages(name, value, limit_path.key(name), errors);
    }
    for (name, value) in pairs(r, "requests") {
        one(name, value, request_path.key(name), errors);
        exceeds(name, value, limits.get(name), (limit_path, request_path), errors);
        pages(name, value, request_path.key(name), errors);
    }
    let any = |wanted: fn(&str) -> bool| {
        ["limits", "requests"].iter().any(|side| pairs(r, side).any(|(name, _)| wanted(name)))
    };
    if any(|name| name.starts_with(PAGES)) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(Cause::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// A request beyond its limit; of what cannot be lent twice, one that is not its limit.
fn exceeds(
    name: &str,
    value: &Value,
    limit: Option<&Value>,
    (limit_path, request_path): (Path<'_>, Path<'_>),
    errors: &mut Errors,
) {
    let Some(request) = read(value) else { return };
    let Some(limit) = limit.and_then(read) else {
        if !may_overcommit(name) {
            let why = "Limit must be set for non overcommitable resources";
            errors.push(Cause::required(limit_path, why));
        }
        return;
    };
    let why = if request.nano() != limit.nano() && !may_overcommit(name) {
        format!("must be equal to {name} limit of {limit}")
    } else if request.nano() > limit.nano() {
        format!("must be less than or equal to {name} limit of {limit}")
    } else {
        return;
    };
    errors.push(Cause::invalid(request_path, value.clone(), &why));
}

/// Huge pages come as a number of whole ones.
fn pages(name: &str, value: &Value, path: Path<'_>, errors: &mut Errors) {
    let Some(size) = name.strip_prefix(PAGES) else { return };
    let Some(amount) = read(value) else { return };
    let size = Quantity::parse(size).map_or(0, |q| q.nano());
    if size <= 0 || amount.nano() <= 0 || amount.nano() % size != 0 {
        let why = format!("{amount} is not positive integer multiple of {name}");
        errors.push(Cause::invalid(path, value.clone(), &why));
    }
}

pub(super) fn read(v: &Value) -> Option<Quantity> {
    v.as_str().and_then(|s| Quantity::parse(s).ok())
}
