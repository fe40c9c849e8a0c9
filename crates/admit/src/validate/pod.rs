//! A pod's specification, its own or a template's.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::container::{self, PodParts};
use super::field::{Errors, Path, dns_label, dns_subdomain, in_range, indexed, ip, one_of, range_message};
use super::{affinity, meta, probe, shown, volume};
use crate::value::{at, flag, has, int, items, text, texts};

/// Restart rules of one container.
const RESTART_RULES_MAX: usize = 20;
/// Exit codes of one restart rule.
const EXIT_CODES_MAX: usize = 255;

/// Rules of a pod's specification.
pub(super) fn pod(object: &Value, errors: &mut Errors) {
    let meta = Path::root("metadata");
    notes(at(object, "metadata"), at(object, "spec"), meta.child("annotations"), errors);
    spec(at(object, "spec"), Path::root("spec"), errors);
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
fn notes(meta: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
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
}

/// Rules of a template: its metadata and its specification.
pub(super) fn template(template: &Value, path: Path<'_>, errors: &mut Errors) {
    meta::check_maps(at(template, "metadata"), path.child("metadata"), errors);
    // The stock server leaves the metadata out of this path.
    notes(at(template, "metadata"), at(template, "spec"), path.child("annotations"), errors);
    let at_spec = path.child("spec");
    spec(at(template, "spec"), at_spec, errors);
    if indexed(at(template, "spec"), "ephemeralContainers").next().is_some() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(Cause::forbidden(at_spec.child("ephemeralContainers"), why));
    }
}

fn spec(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    volume::check(spec, path.child("volumes"), errors);
    resource_claims(spec, path.child("resourceClaims"), errors);
    let names = |list| items(spec, list).map(|v| text(v, "name")).collect();
    let parts = PodParts { volumes: names("volumes"), claims: names("resourceClaims") };
    containers(spec, &parts, path, errors);
    if flag(spec, "hostNetwork") {
        host_network_ports(spec, path, errors);
    }
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec, "dnsPolicy", &policies, path, errors);
    meta::labels(at(spec, "nodeSelector"), path.child("nodeSelector"), errors);
    security_context(at(spec, "securityContext"), path.child("securityContext"), errors);
    affinity::check(at(spec, "affinity"), path.child("affinity"), errors);
    dns(spec, path.child("dnsConfig"), errors);
    let list = path.child("readinessGates");
    for (i, gate) in indexed(spec, "readinessGates") {
        affinity::qualified(gate, "conditionType", list.index(i), errors);
    }
    gates(spec, path.child("schedulingGates"), errors);
    affinity::spread(spec, path.child("topologySpreadConstraints"), errors);
    for (key, check) in [
        ("serviceAccountName", dns_subdomain as fn(&str, Path<'_>, &mut Errors)),
        ("nodeName", dns_subdomain),
        ("hostname", dns_label),
        ("subdomain", dns_label),
        ("priorityClassName", dns_subdomain),
        ("runtimeClassName", dns_subdomain),
    ] {
        if !text(spec, key).is_empty() {
            check(text(spec, key), path.child(key), errors);
        }
    }
    in_range(spec, "activeDeadlineSeconds", 1, i32::MAX.into(), path, errors);
    affinity::tolerations(spec, path.child("tolerations"), errors);
    aliases(spec, path.child("hostAliases"), errors);
    super::field::optional_one_of(spec, "preemptionPolicy", &["Never", "PreemptLowerPriority"], path, errors);
    system(spec, path, errors);
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

/// What a pod may share with its host when it has users of its own, and the system that it is made for.
fn system(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Cause::invalid(path.child("shareProcessNamespace"), true, why));
    }
    if at(spec, "hostUsers").as_bool() == Some(false) {
        for key in ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|k| flag(spec, k)) {
            errors.push(Cause::forbidden(path.child(key), "when `hostUsers` is false"));
        }
    }
    if at(spec, "os").is_object() {
        one_of(at(spec, "os"), "name", &["linux", "windows"], path.child("os"), errors);
    }
}

fn containers(spec: &Value, parts: &PodParts<'_>, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("containers");
    if indexed(spec, "containers").next().is_none() {
        errors.push(Cause::required(list, ""));
    }
    let os = text(at(spec, "os"), "name");
    let mut names = HashSet::new();
    for (i, c) in indexed(spec, "containers") {
        let path = list.index(i);
        container::check(c, parts, path, errors);
        unique(c, &mut names, path, errors);
        probe::check(c, os, path, errors);
        resize_policy(spec, c, path.child("resizePolicy"), errors);
        restarts(c, path, errors);
    }
    host_port_conflicts(spec, "containers", list, errors);
    let list = path.child("initContainers");
    for (i, c) in indexed(spec, "initContainers") {
        let path = list.index(i);
        container::check(c, parts, path, errors);
        init_container(c, os, path, errors);
        resize_policy(spec, c, path.child("resizePolicy"), errors);
        unique(c, &mut names, path, errors);
    }
    let list = path.child("ephemeralContainers");
    for (i, c) in indexed(spec, "ephemeralContainers") {
        let path = list.index(i);
        container::check(c, parts, path, errors);
        unique(c, &mut names, path, errors);
        let target = text(c, "targetContainerName");
        if !target.is_empty() && !items(spec, "containers").any(|c| text(c, "name") == target) {
            errors.push(Cause::not_found(path.child("targetContainerName"), target));
        }
        let forbidden = [
            "lifecycle",
            "livenessProbe",
            "ports",
            "readinessProbe",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "startupProbe",
        ];
        for key in forbidden {
            if has(c, key) {
                let why = "cannot be set for an Ephemeral Container";
                errors.push(Cause::forbidden(path.child(key), why));
            }
        }
        if !crate::value::is_empty(at(c, "resources"), "limits")
            || !crate::value::is_empty(at(c, "resources"), "requests")
        {
            let why = "cannot be set for an Ephemeral Container";
            errors.push(Cause::forbidden(path.child("resources"), why));
        }
        let mounts = path.child("volumeMounts");
        for (j, mount) in indexed(c, "volumeMounts") {
            for key in ["subPath", "subPathExpr"].into_iter().filter(|k| !text(mount, k).is_empty()) {
                let why = "cannot be set for an Ephemeral Container";
                errors.push(Cause::forbidden(mounts.index(j).child(key), why));
            }
        }
    }
}

fn unique<'a>(c: &'a Value, names: &mut HashSet<&'a str>, path: Path<'_>, errors: &mut Errors) {
    let name = text(c, "name");
    if !name.is_empty() && !names.insert(name) {
        errors.push(Cause::duplicate(path.child("name"), name));
    }
}

/// An init container that restarts is a sidecar and may be probed; others run to their end.
fn init_container(c: &Value, os: &str, path: Path<'_>, errors: &mut Errors) {
    restarts(c, path, errors);
    if text(c, "restartPolicy") == "Always" {
        return probe::check(c, os, path, errors);
    }
    if items(c, "resizePolicy").next().is_some() {
        let shown: Vec<String> =
            items(c, "resizePolicy").map(|policy| shown::print(policy, shown::RESIZE_POLICY)).collect();
        let why = format!("Invalid value: [{}]: must not be set for init containers", shown.join(","));
        errors.push(Cause::new("FieldValueInvalid", path.child("resizePolicy"), why));
    }
    for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if has(c, key) {
            let why = "may not be set for init containers without restartPolicy=Always";
            errors.push(Cause::forbidden(path.child(key), why));
        }
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
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(Cause::invalid(list, restart, why));
        }
    }
}

/// When a container starts again, by its own policy and by its exit codes. Rules stand on a policy for what they do not
/// cover; a rule without values is allowed and says nothing (`In`) or everything (`NotIn`).
fn restarts(c: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("restartPolicyRules");
    let count = items(c, "restartPolicyRules").count();
    match text(c, "restartPolicy") {
        "" if count > 0 => {
            let why = "must specify restartPolicy when restart rules are used";
            errors.push(Cause::required(path.child("restartPolicy"), why));
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

fn host_port_conflicts(spec: &Value, key: &str, list: Path<'_>, errors: &mut Errors) {
    let mut taken = HashSet::new();
    for (i, c) in indexed(spec, key) {
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

/// In the host's network a container's port is the host's.
fn host_network_ports(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["containers", "initContainers", "ephemeralContainers"] {
        let list = path.child(key);
        for (i, c) in indexed(spec, key) {
            let path = list.index(i);
            let ports = path.child("ports");
            for (j, port) in indexed(c, "ports") {
                let (host, own) =
                    (int(port, "hostPort").unwrap_or(0), int(port, "containerPort").unwrap_or(0));
                if host != own && host != 0 {
                    let why = "must match `hostPort` when `hostNetwork` is true";
                    errors.push(Cause::invalid(ports.index(j).child("containerPort"), own, why));
                }
            }
        }
    }
}

fn security_context(s: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        in_range(s, key, 0, i32::MAX.into(), path, errors);
    }
    let list = path.child("supplementalGroups");
    for (i, group) in indexed(s, "supplementalGroups") {
        if let Some(id) = group.as_i64().filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
            errors.push(Cause::invalid(list.index(i), id, &range_message(0, i32::MAX.into())));
        }
    }
    super::field::optional_one_of(s, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    container::profile(at(s, "seccompProfile"), path.child("seccompProfile"), errors);
    let list = path.child("sysctls");
    let mut names = HashSet::new();
    for (i, sysctl) in indexed(s, "sysctls") {
        let path = list.index(i);
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.push(Cause::required(path.child("name"), ""));
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Cause::invalid(path.child("name"), name, why));
        } else if !names.insert(name) {
            errors.push(Cause::duplicate(path.child("name"), name));
        }
    }
    super::field::optional_one_of(s, "supplementalGroupsPolicy", &["Merge", "Strict"], path, errors);
}

fn is_sysctl(name: &str) -> bool {
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let b = part.as_bytes();
            let end = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            end(b.first())
                && end(b.last())
                && b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_'))
        })
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
    for (i, search) in texts(config, "searches").enumerate() {
        let bare = search.strip_suffix('.').unwrap_or(search);
        if bare.is_empty() && search == "." {
            continue;
        }
        // Names of other systems may hold underscores.
        dns_subdomain(&bare.replace('_', "-"), searches.index(i), errors);
    }
    let options = path.child("options");
    for (i, option) in indexed(config, "options") {
        if text(option, "name").is_empty() {
            errors.push(Cause::required(options.index(i), "must not be empty"));
        }
    }
}

fn gates(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, gate) in indexed(spec, "schedulingGates") {
        let path = list.index(i);
        let name = text(gate, "name");
        super::field::name_error(stoa_units::check_label_key(name), name, path, errors);
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
