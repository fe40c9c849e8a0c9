//! Security contexts, of a pod and of its containers, and the system that a pod is for.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_dns_subdomain;

use super::field::{
    Errors, Path, descending_path, in_range, indexed, name_error, optional_one_of, range_message,
};
use super::shown;
use crate::value::{at, flag, has, items, text, texts};

/// Largest user or group id.
const ID_MAX: i64 = i32::MAX as i64;

/// The lists of a pod's containers, in the order in which a stock server walks through them.
pub(super) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Rules of one container's context.
pub(super) fn container(s: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
    if !s.is_object() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        in_range(s, key, 0, ID_MAX, path, errors);
    }
    optional_one_of(s, "procMount", &["Default", "Unmasked"], path, errors);
    if text(s, "procMount") == "Unmasked" && at(spec, "hostUsers").as_bool() != Some(false) {
        let why = "`hostUsers` must be false to use `Unmasked`";
        errors.push(Cause::invalid(path.child("procMount"), "Unmasked", why));
    }
    seccomp(at(s, "seccompProfile"), path.child("seccompProfile"), errors);
    if at(s, "allowPrivilegeEscalation").as_bool() == Some(false) {
        let refuse = |why: &str| {
            let why = format!("Invalid value: {}: {why}", shown::security_context(s));
            Cause::new("FieldValueInvalid", path, why)
        };
        if flag(s, "privileged") {
            errors.push(refuse("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
        }
        for _ in texts(at(s, "capabilities"), "add").filter(|c| *c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(refuse(why));
        }
    }
    windows(at(s, "windowsOptions"), path.child("windowsOptions"), errors);
    app_armor(at(s, "appArmorProfile"), path.child("appArmorProfile"), errors);
}

/// Rules of a pod's context.
pub(super) fn pod(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let s = at(spec, "securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        in_range(s, key, 0, ID_MAX, path, errors);
    }
    let list = path.child("supplementalGroups");
    for (i, group) in indexed(s, "supplementalGroups") {
        if let Some(id) = group.as_i64().filter(|id| !(0..=ID_MAX).contains(id)) {
            errors.push(Cause::invalid(list.index(i), id, &range_message(0, ID_MAX)));
        }
    }
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Cause::invalid(path.child("shareProcessNamespace"), true, why));
    }
    sysctls(spec, path.child("sysctls"), errors);
    optional_one_of(s, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], path, errors);
    seccomp(at(s, "seccompProfile"), path.child("seccompProfile"), errors);
    windows(at(s, "windowsOptions"), path.child("windowsOptions"), errors);
    app_armor(at(s, "appArmorProfile"), path.child("appArmorProfile"), errors);
    optional_one_of(s, "supplementalGroupsPolicy", &["Merge", "Strict"], path, errors);
    // Relabelling by a mount is off unless somebody turns it on.
    optional_one_of(s, "seLinuxChangePolicy", &["Recursive"], path, errors);
}

fn sysctls(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (i, sysctl) in indexed(at(spec, "securityContext"), "sysctls") {
        let path = list.index(i);
        let path = path.child("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            errors.push(Cause::required(path, ""));
        } else if !is_sysctl(name) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(Cause::invalid(path, name, why));
        } else if !names.insert(name) {
            errors.push(Cause::duplicate(path, name));
        }
        // What a namespace has for its own cannot be set where the pod has the host's.
        let dotted = name.replace('/', ".");
        let of = |prefixes: &[&str]| prefixes.iter().any(|p| dotted.starts_with(p));
        let why = if flag(spec, "hostNetwork") && of(&["net."]) {
            "may not be specified when 'hostNetwork' is true"
        } else if flag(spec, "hostIPC") && of(&["kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue."]) {
            "may not be specified when 'hostIPC' is true"
        } else {
            continue;
        };
        errors.push(Cause::invalid(path, name, why));
    }
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

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(p: &Value, path: Path<'_>, errors: &mut Errors) {
    if !p.is_object() {
        return;
    }
    let kind = text(p, "type");
    match kind {
        "" => errors.push(Cause::required(path.child("type"), "type is required when seccompProfile is set")),
        _ if !PROFILES.contains(&kind) => {
            errors.push(Cause::not_supported(path.child("type"), kind, &PROFILES));
        }
        _ => {}
    }
    let place = path.child("localhostProfile");
    match (kind, at(p, "localhostProfile").as_str()) {
        ("Localhost", None) => {
            errors.push(Cause::required(place, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(profile)) => descending_path(profile, place, errors),
        (_, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(shown::invalid(place, p, shown::SECCOMP, why));
        }
        (_, None) => {}
    }
}

/// Longest path that a kernel takes.
const APP_ARMOR_LEN_MAX: usize = 4095;

fn app_armor(p: &Value, path: Path<'_>, errors: &mut Errors) {
    if !p.is_object() {
        return;
    }
    let place = path.child("localhostProfile");
    let must = "must be set when AppArmor type is Localhost";
    match (text(p, "type"), at(p, "localhostProfile").as_str()) {
        ("Localhost", None) => errors.push(Cause::required(place, must)),
        ("Localhost", Some(profile)) => {
            if profile.trim() != profile {
                errors.push(Cause::invalid(place, profile, "must not be padded with whitespace"));
            } else if profile.is_empty() {
                errors.push(Cause::required(place, must));
            }
            if profile.len() > APP_ARMOR_LEN_MAX {
                errors.push(Cause::too_long(place, APP_ARMOR_LEN_MAX));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(profile)) => {
            let why = "can only be set when AppArmor type is Localhost";
            errors.push(Cause::invalid(place, profile, why));
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => {
            let why = "type is required when appArmorProfile is set";
            errors.push(Cause::required(path.child("type"), why));
        }
        (other, _) => errors.push(Cause::not_supported(path.child("type"), other, &PROFILES)),
    }
}

const CREDENTIAL_SPEC_KIB_MAX: usize = 64;
const DOMAIN_LEN: usize = 256;
const USER_LEN_MAX: usize = 104;

fn windows(o: &Value, path: Path<'_>, errors: &mut Errors) {
    if let Some(name) = at(o, "gmsaCredentialSpecName").as_str() {
        name_error(check_dns_subdomain(name), name, path.child("gmsaCredentialSpecName"), errors);
    }
    if let Some(spec) = at(o, "gmsaCredentialSpec").as_str() {
        let why = match spec.len() {
            0 => "gmsaCredentialSpec cannot be an empty string".to_owned(),
            n if n > CREDENTIAL_SPEC_KIB_MAX * 1024 => {
                format!("gmsaCredentialSpec size must be under {CREDENTIAL_SPEC_KIB_MAX} KiB")
            }
            _ => String::new(),
        };
        if !why.is_empty() {
            errors.push(Cause::invalid(path.child("gmsaCredentialSpec"), spec, &why));
        }
    }
    if let Some(name) = at(o, "runAsUserName").as_str() {
        for why in user_faults(name) {
            errors.push(Cause::invalid(path.child("runAsUserName"), name, &why));
        }
    }
}

/// What is wrong with a user of Windows: `DOMAIN\user`, the domain being optional.
fn user_faults(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return vec!["runAsUserName cannot contain more than one backslash".to_owned()];
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut out = Vec::new();
    if domain.is_some_and(|d| d.len() >= DOMAIN_LEN) {
        out.push(format!("runAsUserName's Domain length must be under {DOMAIN_LEN} characters"));
    }
    if domain.is_some_and(|d| !is_domain(d)) {
        out.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        out.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > USER_LEN_MAX {
        out.push(format!("runAsUserName's User length must not be longer than {USER_LEN_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        out.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c| "\"/\\:;|=,+*?<>@[]".contains(c)) {
        let why = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        out.push(why.to_owned());
    }
    out
}

/// A name of NetBIOS or of DNS.
fn is_domain(domain: &str) -> bool {
    let is_netbios = (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(|c| "\\/:*?\"<>|".contains(c));
    let is_dns = domain.split('.').all(|label| {
        let b = label.as_bytes();
        let end = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
        b.len() <= 63
            && end(b.first())
            && end(b.last())
            && b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
    });
    is_netbios || is_dns
}

/// Calls `each` with every container and its path.
pub(super) fn each_container(
    spec: &Value,
    path: Path<'_>,
    errors: &mut Errors,
    mut each: impl FnMut(&Value, Path<'_>, &mut Errors),
) {
    for list in LISTS {
        let at_list = path.child(list);
        for (i, c) in indexed(spec, list) {
            each(c, at_list.index(i), errors);
        }
    }
}

/// A pod whose containers are processes of a Windows host: all of them or none, in the host's network.
pub(super) fn host_process(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let of =
        |holder: &Value| at(at(at(holder, "securityContext"), "windowsOptions"), "hostProcess").as_bool();
    let of_pod = of(spec);
    let (mut all, mut host) = (0, 0);
    each_container(spec, path, errors, |c, path, errors| {
        all += 1;
        let own = of(c);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let context = path.child("securityContext");
            let options = context.child("windowsOptions");
            errors.push(Cause::invalid(options.child("hostProcess"), own, &why));
        }
        host += usize::from(own.or(of_pod) == Some(true));
    });
    if host == 0 {
        return;
    }
    if host != all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Cause::invalid(path, "", why));
    }
    if !flag(spec, "hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Cause::invalid(path.child("hostNetwork"), false, why));
    }
}

/// What only the one system has is refused in a pod for the other.
pub(super) fn system(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let os = at(spec, "os");
    if !os.is_object() {
        return;
    }
    let at_context = path.child("securityContext");
    match text(os, "name") {
        "" => errors.push(Cause::required(path.child("os").child("name"), "")),
        "linux" => {
            let why = "windows options cannot be set for a linux pod";
            if has(at(spec, "securityContext"), "windowsOptions") {
                errors.push(Cause::forbidden(at_context.child("windowsOptions"), why));
            }
            each_container(spec, path, errors, |c, path, errors| {
                if has(at(c, "securityContext"), "windowsOptions") {
                    let context = path.child("securityContext");
                    errors.push(Cause::forbidden(context.child("windowsOptions"), why));
                }
            });
        }
        "windows" => for_windows(spec, path, errors),
        other => errors.push(Cause::not_supported(path.child("os"), other, &["linux", "windows"])),
    }
}

fn for_windows(spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let why = "cannot be set for a windows pod";
    let at_context = path.child("securityContext");
    let s = at(spec, "securityContext");
    for key in ["appArmorProfile", "seLinuxOptions"].into_iter().filter(|k| has(s, k)) {
        errors.push(Cause::forbidden(at_context.child(key), why));
    }
    if has(spec, "hostUsers") {
        errors.push(Cause::forbidden(path.child("hostUsers"), why));
    }
    for key in ["hostPID", "hostIPC"].into_iter().filter(|k| flag(spec, k)) {
        errors.push(Cause::forbidden(path.child(key), why));
    }
    for key in ["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"] {
        if has(s, key) && (key != "sysctls" || items(s, key).next().is_some()) {
            errors.push(Cause::forbidden(at_context.child(key), why));
        }
    }
    if has(spec, "shareProcessNamespace") {
        errors.push(Cause::forbidden(path.child("shareProcessNamespace"), why));
    }
    for key in
        ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"]
    {
        if has(s, key) {
            errors.push(Cause::forbidden(at_context.child(key), why));
        }
    }
    each_container(spec, path, errors, |c, path, errors| {
        let context = path.child("securityContext");
        for key in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            if has(at(c, "securityContext"), key) {
                errors.push(Cause::forbidden(context.child(key), why));
            }
        }
    });
}
