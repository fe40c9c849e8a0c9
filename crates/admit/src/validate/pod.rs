//! A pod's specification, its own or a template's.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::address::ip;
use super::container::{self, PodParts};
use super::field::{Errors, Path, dns_label, dns_subdomain, in_range, indexed, name_error, one_of};
use super::{affinity, meta, pod_resources, probe, security, shown, volume};
use crate::value::{at, flag, has, int, is_empty, items, pairs, text, texts};

/// Restart rules of one container.
const RESTART_RULES_MAX: usize = 20;
/// Exit codes of one restart rule.
const EXIT_CODES_MAX: usize = 255;

/// Rules of a pod, apart from those of its metadata.
pub(super) fn pod(object: &Value, errors: &mut Errors) {
    let (object_meta, spec) = (at(object, "metadata"), at(object, "spec"));
    let meta = Path::root("metadata");
    let root = Path::root("spec");
    notes(object_meta, spec, meta.child("annotations"), errors);
    self::spec(spec, Some(object_meta), root, errors);
    if is_empty(spec, "serviceAccountName") {
        let list = root.child("volumes");
        for (i, volume) in indexed(spec, "volumes") {
            let path = list.index(i);
            let path = path.child("projected");
            let list = path.child("sources");
            for (j, source) in indexed(at(volume, "projected"), "sources") {
                if has(source, "serviceAccountToken") {
                    let why = "must not be specified when serviceAccountName is not set";
                    let source = list.index(j);
                    errors.push(Cause::forbidden(source.child("serviceAccountToken"), why));
                }
            }
        }
    }
    for key in ["containers", "initContainers"] {
        let list = root.child(key);
        for (i, c) in indexed(spec, key) {
            container::image(c, list.index(i), errors);
        }
    }
}

/// Rules of a pod that is new.
pub(super) fn create(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    if items(spec, "ephemeralContainers").next().is_some() {
        errors.push(Cause::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && items(spec, "schedulingGates").next().is_some() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(Cause::forbidden("spec.nodeName", why));
    }
}

/// Of a pod that an agent made by itself, and that is shown here.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Annotations that mean something to the cluster.
pub(super) fn notes(meta: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let of = |key: &str| at(at(meta, "annotations"), key).as_str();
    if let Some(mirror) = of(MIRROR).filter(|_| text(spec, "nodeName").is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Cause::invalid(path.key(MIRROR), mirror, why));
    }
    // A number as it would be written: neither a plus nor zeros before it.
    let is_plain =
        |cost: &str| cost == "0" || cost.starts_with(|c: char| c == '-' || ('1'..='9').contains(&c));
    if let Some(cost) = of(DELETION_COST).filter(|cost| !is_plain(cost) || cost.parse::<i32>().is_err()) {
        errors.push(Cause::invalid(path.key(DELETION_COST), cost, "must be a 32bit integer"));
    }
    profiles(meta, spec, path, errors);
}

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(super) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Profiles as they were named before there were fields for them.
fn profiles(meta: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let all = || security::LISTS.iter().flat_map(|list| items(spec, list)).map(|c| text(c, "name"));
    let mut names: Option<HashSet<&str>> = None;
    for (key, value) in pairs(meta, "annotations") {
        let value = value.as_str().unwrap_or_default();
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) {
            match value {
                "runtime/default" | "docker/default" | "unconfined" => {}
                _ => match value.strip_prefix("localhost/") {
                    Some(file) => super::field::descending_path(file, path.child(key), errors),
                    None => {
                        let why = "must be a valid seccomp profile";
                        errors.push(Cause::invalid(path.child(key), value, why));
                    }
                },
            }
        }
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            if !names.get_or_insert_with(|| all().collect()).contains(name) {
                errors.push(Cause::invalid(path.key(key), name, "container not found"));
            }
            let is_known = matches!(value, "" | "runtime/default" | "unconfined");
            if !is_known && !value.starts_with("localhost/") {
                let why = format!("invalid AppArmor profile name: {}", stoa_units::quote(value));
                errors.push(Cause::invalid(path.key(key), value, &why));
            }
        }
    }
}

/// Rules of a template: its metadata, which a stock server leaves out of the paths, and its specification.
pub(super) fn template(template: &Value, path: Path<'_>, errors: &mut Errors) {
    let (template_meta, template_spec) = (at(template, "metadata"), at(template, "spec"));
    meta::check_maps(template_meta, path, errors);
    notes(template_meta, template_spec, path.child("annotations"), errors);
    let at_spec = path.child("spec");
    spec(template_spec, None, at_spec, errors);
    if items(template_spec, "ephemeralContainers").next().is_some() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(Cause::forbidden(at_spec.child("ephemeralContainers"), why));
    }
}

/// Rules of a specification: a pod's own, of which the metadata is there, or a template's.
fn spec(spec: &Value, meta: Option<&Value>, path: Path<'_>, errors: &mut Errors) {
    let volumes = volume::check(spec, meta.map(|m| text(m, "name")), path.child("volumes"), errors);
    let is_mirror = meta.is_some_and(|m| at(at(m, "annotations"), MIRROR).is_string());
    if is_mirror {
        for _ in items(spec, "resourceClaims") {
            errors.push(Cause::forbidden("[]", "static pods do not support resource claims"));
        }
    } else {
        resource_claims(spec, path.child("resourceClaims"), errors);
    }
    let claims = items(spec, "resourceClaims").map(|c| text(c, "name")).filter(|n| !n.is_empty()).collect();
    let parts = PodParts { volumes, claims, spec };
    containers(spec, &parts, path, errors);
    pod_resources::check(&parts, path, errors);
    if flag(spec, "hostNetwork") {
        host_network_ports(spec, meta.is_some(), path.child("containers"), errors);
    }
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    one_of(spec, "dnsPolicy", &policies, path, errors);
    meta::labels(at(spec, "nodeSelector"), path.child("nodeSelector"), errors);
    security::pod(spec, path.child("securityContext"), errors);
    affinity::check(at(spec, "affinity"), path.child("affinity"), errors);
    dns(spec, path.child("dnsConfig"), errors);
    let list = path.child("readinessGates");
    for (i, gate) in indexed(spec, "readinessGates") {
        let kind = text(gate, "conditionType");
        name_error(check_label_key(kind), kind, list.index(i).child("conditionType"), errors);
    }
    gates(spec, path.child("schedulingGates"), errors);
    affinity::spread(spec, path.child("topologySpreadConstraints"), errors);
    security::host_process(spec, path, errors);
    host_users(spec, path, errors);
    host_name(spec, path, errors);
    names(spec, path, errors);
    affinity::tolerations(spec, path.child("tolerations"), errors);
    aliases(spec, path.child("hostAliases"), errors);
    if !is_empty(spec, "priorityClassName") {
        dns_subdomain(text(spec, "priorityClassName"), path.child("priorityClassName"), errors);
    }
    if has(spec, "runtimeClassName") {
        dns_subdomain(text(spec, "runtimeClassName"), path.child("runtimeClassName"), errors);
    }
    if has(spec, "preemptionPolicy") {
        one_of(spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], path, errors);
    }
    if has(spec, "overhead") {
        pod_resources::overhead(at(spec, "overhead"), path.child("overhead"), errors);
    }
    security::system(spec, path, errors);
    variable_files(spec, path, errors);
}

/// Names that a pod bears or goes by, and how long it may run.
fn names(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["serviceAccountName", "nodeName"].into_iter().filter(|k| !is_empty(spec, k)) {
        dns_subdomain(text(spec, key), path.child(key), errors);
    }
    in_range(spec, "activeDeadlineSeconds", 1, i32::MAX.into(), path, errors);
    for key in ["hostname", "subdomain"].into_iter().filter(|k| !is_empty(spec, k)) {
        dns_label(text(spec, key), path.child(key), errors);
    }
}

/// As much as a kernel takes for a host's name.
const HOST_NAME_LEN_MAX: usize = 64;

fn host_name(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let Some(name) = at(spec, "hostnameOverride").as_str() else { return };
    let path = path.child("hostnameOverride");
    for (key, why) in [
        ("setHostnameAsFQDN", "may not be specified when setHostnameAsFQDN is true"),
        ("hostNetwork", "may not be specified when hostNetwork is true"),
    ] {
        if flag(spec, key) {
            errors.push(Cause::forbidden(path, why));
        }
    }
    if name.len() > HOST_NAME_LEN_MAX {
        errors.push(Cause::too_long(path, HOST_NAME_LEN_MAX));
    }
    dns_subdomain(name, path, errors);
}

/// Files of variables lie in a volume that is the pod's own and starts empty.
fn variable_files(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let volume = |name: &str| items(spec, "volumes").rfind(|v| text(v, "name") == name);
    security::each_container(spec, path, errors, |c, path, errors| {
        let list = path.child("env");
        for (i, var) in indexed(c, "env") {
            let file = at(at(var, "valueFrom"), "fileKeyRef");
            let name = text(file, "volumeName");
            let var = list.index(i);
            let from = var.child("valueFrom");
            let file_path = from.child("fileKeyRef");
            let path = file_path.child("volumeName");
            match volume(name) {
                _ if file.is_null() => {}
                None => errors.push(Cause::not_found(path, name)),
                Some(v) if !has(v, "emptyDir") => {
                    let why = "referenced volume must be of type emptyDir";
                    errors.push(Cause::invalid(path, name, why));
                }
                Some(_) => {}
            }
        }
    });
}

/// Claims on devices: each by its own name, and either there already or made for the pod.
fn resource_claims(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, claim) in indexed(spec, "resourceClaims") {
        let path = list.index(i);
        match super::field::required_text(claim, "name", path, errors) {
            Some(name) if !seen.insert(name) => errors.push(Cause::duplicate(path.child("name"), name)),
            Some(name) => dns_label(name, path.child("name"), errors),
            None => {}
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let why = match sources.iter().filter(|k| has(claim, k)).count() {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
        };
        if !why.is_empty() {
            errors.push(shown::invalid(path, claim, shown::POD_CLAIM, why));
        }
        for key in sources.into_iter().filter(|k| has(claim, k)) {
            dns_subdomain(text(claim, key), path.child(key), errors);
        }
    }
}

/// What a pod may share with its host when it has users of its own.
fn host_users(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    if at(spec, "hostUsers").as_bool() != Some(false) {
        return;
    }
    let why = "when `hostUsers` is false";
    for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if flag(spec, key) {
            errors.push(Cause::forbidden(path.child(shown), why));
        }
    }
    security::each_container(spec, path, errors, |c, path, errors| {
        if items(c, "volumeDevices").next().is_some() {
            errors.push(Cause::forbidden(path.child("volumeDevices"), why));
        }
    });
}

fn containers(spec: &Value, parts: &PodParts<'_>, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("containers");
    if is_empty(spec, "containers") {
        errors.push(Cause::required(list, ""));
    }
    let mut names = HashSet::new();
    for (i, c) in indexed(spec, "containers") {
        let path = list.index(i);
        container::check(c, parts, path, errors);
        if !names.insert(text(c, "name")) {
            errors.push(Cause::duplicate(path.child("name"), text(c, "name")));
        }
        probe::check(c, spec, path, errors);
        restarts(c, path, Place::Main, errors);
    }
    host_port_conflicts(items(spec, "containers"), list, errors);
    let list = path.child("initContainers");
    for (i, c) in indexed(spec, "initContainers") {
        let path = list.index(i);
        container::check(c, parts, path, errors);
        restarts(c, path, Place::Init, errors);
        let name = text(c, "name");
        if names.contains(name) {
            errors.push(Cause::duplicate(path.child("name"), name));
        } else if !name.is_empty() {
            names.insert(name);
        }
        // They run one after the other: each is looked at alone, and so each is the first.
        host_port_conflicts(std::iter::once(c), list, errors);
        init_container(c, spec, path, errors);
    }
    let list = path.child("ephemeralContainers");
    // None of them looks into another.
    let targets = if is_empty(spec, "ephemeralContainers") { HashSet::new() } else { names.clone() };
    for (i, c) in indexed(spec, "ephemeralContainers") {
        let path = list.index(i);
        container::check(c, parts, path, errors);
        container::image(c, path, errors);
        if !names.insert(text(c, "name")) {
            errors.push(Cause::duplicate(path.child("name"), text(c, "name")));
        }
        ephemeral_container(c, &targets, path, errors);
    }
}

/// What looks into a running pod, and is no part of what it does.
fn ephemeral_container(c: &Value, targets: &HashSet<&str>, path: Path<'_>, errors: &mut Errors) {
    let target = text(c, "targetContainerName");
    if !target.is_empty() && !targets.contains(target) {
        errors.push(Cause::not_found(path.child("targetContainerName"), target));
    }
    let why = "cannot be set for an Ephemeral Container";
    for key in [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ] {
        let is_set = match key {
            "resources" => ["limits", "requests", "claims"].iter().any(|k| has(at(c, key), k)),
            _ => has(c, key),
        };
        if is_set {
            errors.push(Cause::forbidden(path.child(key), why));
        }
    }
    let mounts = path.child("volumeMounts");
    for (i, mount) in indexed(c, "volumeMounts") {
        for key in ["subPath", "subPathExpr"].into_iter().filter(|k| !is_empty(mount, k)) {
            errors.push(Cause::forbidden(mounts.index(i).child(key), why));
        }
    }
}

/// An init container that restarts is a sidecar and may be probed; others run to their end.
fn init_container(c: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
    if text(c, "restartPolicy") == "Always" {
        return probe::check(c, spec, path, errors);
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if has(c, key) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(Cause::forbidden(path.child(key), why));
        }
    }
    let list = path.child("resizePolicy");
    for (i, policy) in indexed(c, "resizePolicy") {
        let restart = text(policy, "restartPolicy");
        if restart == "RestartContainer" {
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(Cause::invalid(list.index(i).child("restartPolicy"), restart, why));
        }
    }
}

/// Among which containers one stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Init,
    Main,
}

/// When a container starts again, by its own policy and by its exit codes. Rules stand on a policy for what they do not
/// cover; a rule without values is allowed and says nothing (`In`) or everything (`NotIn`).
fn restarts(c: &Value, path: Path<'_>, place: Place, errors: &mut Errors) {
    let list = path.child("restartPolicyRules");
    let count = items(c, "restartPolicyRules").count();
    match text(c, "restartPolicy") {
        "" if count > 0 => {
            let why = "must specify restartPolicy when restart rules are used";
            errors.push(Cause::required(path.child("restartPolicy"), why));
            // Rules of an init container that stand on no policy are not looked at.
            if place == Place::Init {
                return;
            }
        }
        "" | "Always" | "Never" | "OnFailure" => {}
        other => {
            let known = ["Always", "Never", "OnFailure"];
            errors.push(Cause::not_supported(path.child("restartPolicy"), other, &known));
        }
    }
    if count > RESTART_RULES_MAX {
        errors.push(Cause::too_many(list, count, RESTART_RULES_MAX));
    }
    for (i, rule) in indexed(c, "restartPolicyRules") {
        let path = list.index(i);
        must_be(rule, "action", &["Restart", "RestartAllContainers"], path, errors);
        let codes = at(rule, "exitCodes");
        if !codes.is_object() {
            errors.push(Cause::required(path.child("exitCodes"), "must be specified"));
            continue;
        }
        let path = path.child("exitCodes");
        must_be(codes, "operator", &["In", "NotIn"], path, errors);
        let values = items(codes, "values").count();
        if values > EXIT_CODES_MAX {
            errors.push(Cause::too_many(path.child("values"), values, EXIT_CODES_MAX));
        }
    }
}

/// One of these; none at all is told like a strange one.
fn must_be(of: &Value, key: &str, known: &[&str], path: Path<'_>, errors: &mut Errors) {
    let value = text(of, key);
    if !known.contains(&value) {
        errors.push(Cause::not_supported(path.child(key), value, known));
    }
}

fn host_port_conflicts<'v>(containers: impl Iterator<Item = &'v Value>, list: Path<'_>, errors: &mut Errors) {
    let mut taken = HashSet::new();
    for (i, c) in containers.enumerate() {
        let path = list.index(i);
        let ports = path.child("ports");
        for (j, port) in indexed(c, "ports") {
            let Some(number) = int(port, "hostPort").filter(|n| *n != 0) else { continue };
            let place = format!("{}/{}/{number}", text(port, "protocol"), text(port, "hostIP"));
            if taken.contains(&place) {
                errors.push(Cause::duplicate(ports.index(j).child("hostPort"), place));
            } else {
                taken.insert(place);
            }
        }
    }
}

/// In the host's network a container's port is the host's; in a template it may be left to be so.
fn host_network_ports(spec: &Value, is_pod: bool, list: Path<'_>, errors: &mut Errors) {
    for (i, c) in indexed(spec, "containers") {
        let path = list.index(i);
        let ports = path.child("ports");
        for (j, port) in indexed(c, "ports") {
            let number = |key: &str| int(port, key).unwrap_or(0);
            let (host, own) = (number("hostPort"), number("containerPort"));
            if (is_pod || host != 0) && host != own {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Cause::invalid(ports.index(j).child("hostPort"), host, why));
            }
        }
    }
}

/// As many as resolvers take.
const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

fn dns(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let config = at(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        if !config.is_object() {
            let why = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(Cause::required(path, why));
            return;
        }
        if indexed(config, "nameservers").next().is_none() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Cause::required(path.child("nameservers"), why));
            return;
        }
    }
    let servers = path.child("nameservers");
    if texts(config, "nameservers").count() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(Cause::invalid(servers, at(config, "nameservers").clone(), &why));
    }
    for (i, server) in texts(config, "nameservers").enumerate() {
        ip(server, servers.index(i), errors);
    }
    let searches = path.child("searches");
    if texts(config, "searches").count() > SEARCH_PATHS_MAX {
        let why = format!("must not have more than {SEARCH_PATHS_MAX} search paths");
        errors.push(Cause::invalid(searches, at(config, "searches").clone(), &why));
    }
    let length: usize = texts(config, "searches").map(|s| s.len() + 1).sum();
    if length > SEARCH_CHARS_MAX + 1 {
        let why = format!(
            "must not have more than {SEARCH_CHARS_MAX} characters (including spaces) in the search list"
        );
        errors.push(Cause::invalid(searches, at(config, "searches").clone(), &why));
    }
    for (i, search) in texts(config, "searches").enumerate().filter(|(_, s)| *s != ".") {
        search_path(search.strip_suffix('.').unwrap_or(search), searches.index(i), errors);
    }
    let options = path.child("options");
    for (i, option) in indexed(config, "options") {
        if text(option, "name").is_empty() {
            errors.push(Cause::required(options.index(i), "must not be empty"));
        }
    }
}

const SEARCH_LEN_MAX: usize = 253;
const SEARCH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";

/// A domain to look in; those of other systems may hold underscores.
fn search_path(search: &str, path: Path<'_>, errors: &mut Errors) {
    if search.len() > SEARCH_LEN_MAX {
        let why = format!("must be no more than {SEARCH_LEN_MAX} characters");
        errors.push(Cause::invalid(path, search, &why));
    }
    let is_part = |part: &str| {
        let b = part.strip_prefix('_').unwrap_or(part).as_bytes();
        let end = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
        end(b.first()) && end(b.last()) && b.iter().all(inner)
    };
    if !search.split('.').all(is_part) {
        errors.push(Cause::invalid(path, search, SEARCH));
    }
}

fn gates(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, gate) in indexed(spec, "schedulingGates") {
        let path = list.index(i);
        let name = text(gate, "name");
        name_error(check_label_key(name), name, path, errors);
        if !seen.insert(name) {
            errors.push(Cause::duplicate(path, name));
        }
    }
}

fn aliases(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    for (i, alias) in indexed(spec, "hostAliases") {
        let path = list.index(i);
        ip(text(alias, "ip"), path.child("ip"), errors);
        let hostnames = path.child("hostnames");
        for (j, name) in texts(alias, "hostnames").enumerate() {
            dns_subdomain(name, hostnames.index(j), errors);
        }
    }
}
