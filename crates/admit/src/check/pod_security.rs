//! Pod security standards, by the labels of a namespace: `enforce` refuses, `warn` tells.

use serde_json::Value;
use stoa_kube::{Cause, Status};

use crate::default::CONTAINER_LISTS;
use crate::value::{at, flag, has, int, items, pairs, path, text, texts};
use crate::{Operation, Request, World};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    /// An unknown level is the strictest: a slip of the pen must not open a namespace.
    fn read(label: &str) -> Level {
        match label {
            "" | "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            _ => Level::Restricted,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

pub(super) fn check(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if request.operation == Operation::Delete || !matches!(request.subresource, "" | "ephemeralcontainers") {
        return Ok(());
    }
    if request.is_on("", "namespaces") && request.is_main() {
        return namespace(request, object, old, world, warnings);
    }
    let is_pod = request.is_on("", "pods");
    let (meta, spec) = match (request.resource.group, request.resource.plural) {
        ("", "pods") => (at(object, "metadata"), at(object, "spec")),
        ("", "podtemplates") => {
            (path(object, &["template", "metadata"]), path(object, &["template", "spec"]))
        }
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => {
            (path(object, &["spec", "template", "metadata"]), path(object, &["spec", "template", "spec"]))
        }
        ("batch", "cronjobs") => {
            let job = path(object, &["spec", "jobTemplate", "spec", "template"]);
            (at(job, "metadata"), at(job, "spec"))
        }
        _ => return Ok(()),
    };
    // A change that touches nothing of the pod is not judged again.
    if is_pod && old.is_some_and(|o| at(o, "spec") == spec) {
        return Ok(());
    }
    let Some(namespace) = world.get("", "namespaces", "", request.namespace) else { return Ok(()) };
    let labels = path(&namespace, &["metadata", "labels"]);
    let level = |mode: &str| Level::read(text(labels, &format!("pod-security.kubernetes.io/{mode}")));
    let version = |mode: &str| match text(labels, &format!("pod-security.kubernetes.io/{mode}-version")) {
        "" => "latest".to_owned(),
        v => v.to_owned(),
    };
    let (enforce, warn) = (level("enforce"), level("warn"));
    if is_pod && enforce != Level::Privileged {
        let faults = violations(meta, spec, enforce);
        if !faults.is_empty() {
            let why = format!(
                "violates PodSecurity {:?}: {}",
                format!("{}:{}", enforce.as_str(), version("enforce")),
                faults.join(", ")
            );
            return Err(Status::forbidden(request.resource, request.name, &why));
        }
    }
    if warn != Level::Privileged {
        let faults = violations(meta, spec, warn);
        if !faults.is_empty() {
            let policy = format!("{}:{}", warn.as_str(), version("warn"));
            warnings.push(format!("would violate PodSecurity {policy:?}: {}", faults.join(", ")));
        }
    }
    Ok(())
}

/// Prefix of the labels that set a namespace's levels.
const LABEL: &str = "pod-security.kubernetes.io/";
/// Pods that are looked at when a namespace becomes stricter.
const PODS_MAX: usize = 3000;

/// Levels must be known; and what would no longer be let in is told of.
fn namespace(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let labels = path(object, &["metadata", "labels"]);
    let before = old.map_or(&crate::value::NULL, |o| path(o, &["metadata", "labels"]));
    let mut causes = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let (key, version) = (format!("{LABEL}{mode}"), format!("{LABEL}{mode}-version"));
        let place = |key: &str| format!("metadata.labels[{key}]");
        let level = text(labels, &key);
        if has(labels, &key) && !matches!(level, "privileged" | "baseline" | "restricted") {
            let why = "must be one of privileged, baseline, restricted";
            causes.push(Cause::invalid(place(&key), level, why));
        }
        let v = text(labels, &version);
        let minor = v.strip_prefix("v1.").and_then(|n| n.parse::<u32>().ok());
        if has(labels, &version) && v != "latest" && minor.is_none() {
            let why = "must be \"latest\" or \"v1.x\"";
            causes.push(Cause::invalid(place(&version), v, why));
        }
    }
    if !causes.is_empty() && before != labels {
        return Err(Status::invalid_object(request.resource, request.name, causes));
    }
    let enforce = |labels: &Value| Level::read(text(labels, &format!("{LABEL}enforce")));
    let (was, level) = (enforce(before), enforce(labels));
    if old.is_none() || level == Level::Privileged || was == level || was == Level::Restricted {
        return Ok(());
    }
    let mut offending: Vec<(String, Vec<String>)> = Vec::new();
    for pod in world.list("", "pods", request.name).iter().take(PODS_MAX) {
        let faults = violations(at(pod, "metadata"), at(pod, "spec"), level);
        if faults.is_empty() {
            continue;
        }
        let brief: Vec<&str> = faults.iter().map(|f| f.split(" (").next().unwrap_or(f)).collect();
        let (name, brief) = (text(at(pod, "metadata"), "name").to_owned(), brief.join(", "));
        match offending.iter_mut().find(|(b, _)| *b == brief) {
            Some((_, pods)) => pods.push(name),
            None => offending.push((brief, vec![name])),
        }
    }
    if offending.is_empty() {
        return Ok(());
    }
    let version = match text(labels, &format!("{LABEL}enforce-version")) {
        "" => "latest",
        v => v,
    };
    warnings.push(format!(
        "existing pods in namespace {:?} violate the new PodSecurity enforce level {:?}",
        request.name,
        format!("{}:{version}", level.as_str())
    ));
    let mut lines: Vec<String> = offending
        .into_iter()
        .map(|(brief, mut pods)| {
            pods.sort();
            let others = match pods.len() - 1 {
                0 => String::new(),
                1 => " (and 1 other pod)".to_owned(),
                n => format!(" (and {n} other pods)"),
            };
            format!("{}{others}: {brief}", pods[0])
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    Ok(())
}

/// The containers of a pod, of every sort.
fn containers(spec: &Value) -> Vec<&Value> {
    CONTAINER_LISTS.iter().flat_map(|list| items(spec, list)).collect()
}

/// `container "a"` or `containers "a", "b"`.
fn named(list: &[&Value]) -> String {
    let names: Vec<String> = list.iter().map(|c| format!("{:?}", text(c, "name"))).collect();
    let word = if names.len() == 1 { "container" } else { "containers" };
    format!("{word} {}", names.join(", "))
}

fn offenders<'a>(all: &[&'a Value], is_bad: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
    all.iter().copied().filter(|c| is_bad(at(c, "securityContext"))).collect()
}

const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

const SELINUX_TYPES: [&str; 5] =
    ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Volumes whose contents come from the cluster itself.
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn violations(meta: &Value, spec: &Value, level: Level) -> Vec<String> {
    let mut out = baseline(meta, spec, level);
    if level == Level::Restricted {
        restricted(spec, &mut out);
    }
    out
}

/// One rule: the objections to a pod, if there are any.
type Rule = fn(&Value, &Value, Level) -> Option<String>;

/// In the stock server's order, which messages show.
const BASELINE: [Rule; 10] = [
    app_armor,
    capabilities,
    host_namespaces,
    host_paths,
    host_ports,
    privileged,
    proc_mount,
    selinux,
    seccomp,
    sysctls,
];

fn baseline(meta: &Value, spec: &Value, level: Level) -> Vec<String> {
    BASELINE.iter().filter_map(|rule| rule(meta, spec, level)).collect()
}

fn host_namespaces(_: &Value, spec: &Value, _: Level) -> Option<String> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|k| flag(spec, k))
        .map(|k| format!("{k}=true"))
        .collect();
    (!shared.is_empty()).then(|| format!("host namespaces ({})", shared.join(", ")))
}

fn privileged(_: &Value, spec: &Value, _: Level) -> Option<String> {
    let bad = offenders(&containers(spec), |s| flag(s, "privileged"));
    (!bad.is_empty())
        .then(|| format!("privileged ({} must not set securityContext.privileged=true)", named(&bad)))
}

fn capabilities(_: &Value, spec: &Value, level: Level) -> Option<String> {
    // The restricted level has a stricter rule of its own.
    if level != Level::Baseline {
        return None;
    }
    let adds = |s: &Value| texts(at(s, "capabilities"), "add").any(|c| !BASELINE_CAPABILITIES.contains(&c));
    let bad = offenders(&containers(spec), adds);
    (!bad.is_empty()).then(|| {
        format!(
            "non-default capabilities ({} must not include {} in securityContext.capabilities.add)",
            named(&bad),
            added(&bad, &BASELINE_CAPABILITIES)
        )
    })
}

fn host_paths(_: &Value, spec: &Value, level: Level) -> Option<String> {
    let volumes: Vec<String> = items(spec, "volumes")
        .filter(|v| !at(v, "hostPath").is_null())
        .map(|v| format!("{:?}", text(v, "name")))
        .collect();
    let word = if volumes.len() == 1 { "volume" } else { "volumes" };
    // The restricted level has a stricter rule of its own.
    (level == Level::Baseline && !volumes.is_empty())
        .then(|| format!("hostPath volumes ({word} {})", volumes.join(", ")))
}

fn host_ports(_: &Value, spec: &Value, _: Level) -> Option<String> {
    let all = containers(spec);
    let held = |c: &Value| items(c, "ports").any(|p| int(p, "hostPort").unwrap_or(0) != 0);
    let bad: Vec<&Value> = all.into_iter().filter(|c| held(c)).collect();
    if bad.is_empty() {
        return None;
    }
    let numbers: Vec<String> = bad
        .iter()
        .flat_map(|c| items(c, "ports"))
        .filter_map(|p| int(p, "hostPort").filter(|n| *n != 0))
        .map(|n| n.to_string())
        .collect();
    let word = if numbers.len() == 1 { "hostPort" } else { "hostPorts" };
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    Some(format!("hostPort ({} {verb} {word} {})", named(&bad), numbers.join(", ")))
}

fn proc_mount(_: &Value, spec: &Value, _: Level) -> Option<String> {
    let bad = offenders(&containers(spec), |s| !matches!(text(s, "procMount"), "" | "Default"));
    let shown = |list: &[&Value]| -> Vec<String> {
        let mounts = list.iter().map(|c| text(at(c, "securityContext"), "procMount"));
        mounts.map(|m| format!("{m:?}")).collect()
    };
    (!bad.is_empty()).then(|| {
        format!(
            "procMount ({} must not set securityContext.procMount to {})",
            named(&bad),
            shown(&bad).join(", ")
        )
    })
}

/// Whose security context offends: the pod's, some containers', or both.
fn culprits(spec: &Value, is_bad: impl Fn(&Value) -> bool) -> Option<String> {
    let bad = offenders(&containers(spec), &is_bad);
    match (is_bad(at(spec, "securityContext")), bad.is_empty()) {
        (true, true) => Some("pod".to_owned()),
        (true, false) => Some(format!("pod and {}", named(&bad))),
        (false, false) => Some(named(&bad)),
        (false, true) => None,
    }
}

fn seccomp(_: &Value, spec: &Value, level: Level) -> Option<String> {
    if level != Level::Baseline {
        return None;
    }
    let who = culprits(spec, |s| text(at(s, "seccompProfile"), "type") == "Unconfined")?;
    Some(format!("seccompProfile ({who} must not set securityContext.seccompProfile.type to \"Unconfined\")"))
}

fn app_armor(meta: &Value, spec: &Value, _: Level) -> Option<String> {
    let notes: Vec<String> = pairs(meta, "annotations")
        .filter(|(k, v)| {
            k.starts_with("container.apparmor.security.beta.kubernetes.io/") && *v == "unconfined"
        })
        .map(|(k, _)| format!("{k}=\"unconfined\""))
        .collect();
    if !notes.is_empty() {
        let word = if notes.len() == 1 { "annotation" } else { "annotations" };
        return Some(format!("forbidden AppArmor profile ({word} {})", notes.join(", ")));
    }
    let who = culprits(spec, |s| text(at(s, "appArmorProfile"), "type") == "Unconfined")?;
    Some(format!("forbidden AppArmor profile ({who} must not set AppArmor profile type to \"Unconfined\")"))
}

fn selinux(_: &Value, spec: &Value, _: Level) -> Option<String> {
    let options = |s: &Value| at(s, "seLinuxOptions").clone();
    let is_bad = |s: &Value| {
        let o = options(s);
        !SELINUX_TYPES.contains(&text(&o, "type"))
            || !text(&o, "user").is_empty()
            || !text(&o, "role").is_empty()
    };
    let who = culprits(spec, is_bad)?;
    let all = containers(spec);
    let contexts =
        || std::iter::once(at(spec, "securityContext")).chain(all.iter().map(|c| at(c, "securityContext")));
    let mut types: Vec<String> = contexts()
        .map(|s| text(at(s, "seLinuxOptions"), "type"))
        .filter(|t| !SELINUX_TYPES.contains(t))
        .map(|t| format!("{t:?}"))
        .collect();
    types.dedup();
    let mut set = Vec::new();
    if !types.is_empty() {
        let word = if types.len() == 1 { "type" } else { "types" };
        set.push(format!("{word} {}", types.join(", ")));
    }
    for key in ["user", "role"] {
        if contexts().any(|s| !text(at(s, "seLinuxOptions"), key).is_empty()) {
            set.push(format!("{key} may not be set"));
        }
    }
    Some(format!("seLinuxOptions ({who} set forbidden securityContext.seLinuxOptions: {})", set.join("; ")))
}

fn sysctls(_: &Value, spec: &Value, _: Level) -> Option<String> {
    let bad: Vec<&str> = items(at(spec, "securityContext"), "sysctls")
        .map(|s| text(s, "name"))
        .filter(|n| !SAFE_SYSCTLS.contains(n))
        .collect();
    (!bad.is_empty()).then(|| format!("forbidden sysctls ({})", bad.join(", ")))
}

fn added(list: &[&Value], allowed: &[&str]) -> String {
    let mut names: Vec<String> = list
        .iter()
        .flat_map(|c| texts(path(c, &["securityContext", "capabilities"]), "add"))
        .filter(|c| !allowed.contains(c))
        .map(|c| format!("{c:?}"))
        .collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

/// Volumes whose contents do not come from the cluster.
fn volume_types(spec: &Value) -> Option<String> {
    let mut bad: Vec<(&str, &str)> = Vec::new();
    for volume in items(spec, "volumes") {
        let kinds = volume.as_object().into_iter().flatten().map(|(k, _)| k.as_str());
        let kind = kinds.filter(|k| *k != "name").find(|k| !RESTRICTED_VOLUMES.contains(k));
        bad.extend(kind.map(|k| (text(volume, "name"), k)));
    }
    if bad.is_empty() {
        return None;
    }
    let quoted = |list: Vec<&str>| list.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(", ");
    let names = quoted(bad.iter().map(|b| b.0).collect());
    let mut kinds: Vec<&str> = bad.iter().map(|b| b.1).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let (volume, verb) = if bad.len() == 1 { ("volume", "uses") } else { ("volumes", "use") };
    let word = if kinds.len() == 1 { "type" } else { "types" };
    Some(format!(
        "restricted volume types ({volume} {names} {verb} restricted volume {word} {})",
        quoted(kinds)
    ))
}

fn restricted(spec: &Value, out: &mut Vec<String>) {
    let all = containers(spec);
    let pod = at(spec, "securityContext");
    let bad = offenders(&all, |s| at(s, "allowPrivilegeEscalation") != &Value::Bool(false));
    if !bad.is_empty() {
        out.push(format!(
            "allowPrivilegeEscalation != false ({} must set securityContext.allowPrivilegeEscalation=false)",
            named(&bad)
        ));
    }
    let keeps = |s: &Value| !texts(at(s, "capabilities"), "drop").any(|c| c == "ALL");
    let bad = offenders(&all, keeps);
    let extra = offenders(&all, |s| texts(at(s, "capabilities"), "add").any(|c| c != "NET_BIND_SERVICE"));
    if !bad.is_empty() || !extra.is_empty() {
        let mut parts = Vec::new();
        if !bad.is_empty() {
            parts.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&bad)));
        }
        if !extra.is_empty() {
            parts.push(format!(
                "{} must not include {} in securityContext.capabilities.add",
                named(&extra),
                added(&extra, &["NET_BIND_SERVICE"])
            ));
        }
        out.push(format!("unrestricted capabilities ({})", parts.join("; ")));
    }
    out.extend(volume_types(spec));
    let inherits = |key: &str, good: fn(&Value) -> bool| -> Vec<&Value> {
        offenders(&all, |s| match at(s, key) {
            Value::Null => !good(at(pod, key)),
            own => !good(own),
        })
    };
    let bad = inherits("runAsNonRoot", |v| v == &Value::Bool(true));
    if !bad.is_empty() {
        out.push(format!(
            "runAsNonRoot != true (pod or {} must set securityContext.runAsNonRoot=true)",
            named(&bad)
        ));
    }
    let root = |s: &Value| int(s, "runAsUser") == Some(0);
    if root(pod) {
        out.push("runAsUser=0 (pod must not set runAsUser=0)".to_owned());
    } else {
        let bad = offenders(&all, root);
        if !bad.is_empty() {
            out.push(format!("runAsUser=0 ({} must not set runAsUser=0)", named(&bad)));
        }
    }
    let bad = inherits("seccompProfile", |v| matches!(text(v, "type"), "RuntimeDefault" | "Localhost"));
    if !bad.is_empty() {
        out.push(format!(
            "seccompProfile (pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            named(&bad)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        let spec = json!({"containers": [{"name": "c", "image": "x"}]});
        assert!(violations(&Value::Null, &spec, Level::Baseline).is_empty());
        assert_eq!(
            violations(&Value::Null, &spec, Level::Restricted).join(", "),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn a_hardened_pod_is_restricted() {
        let spec = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}]});
        assert!(violations(&Value::Null, &spec, Level::Restricted).is_empty());
    }

    #[test]
    fn what_reaches_for_the_host_is_not_baseline() {
        for (spec, word) in [
            (json!({"hostNetwork": true}), "host namespaces (hostNetwork=true)"),
            (json!({"containers": [{"name": "c", "securityContext": {"privileged": true}}]}), "privileged"),
            (
                json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}),
                "hostPort (container \"c\" uses hostPort 80)",
            ),
            (
                json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
                "hostPath volumes (volume \"v\")",
            ),
            (
                json!({"containers": [{"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]}),
                "non-default capabilities",
            ),
            (
                json!({"initContainers": [{"name": "c", "securityContext": {"privileged": true}}]}),
                "privileged",
            ),
            (
                json!({"ephemeralContainers": [{"name": "c", "securityContext": {"privileged": true}}]}),
                "privileged",
            ),
        ] {
            let got = violations(&Value::Null, &spec, Level::Baseline);
            assert!(got.len() == 1 && got[0].starts_with(word), "{spec}: {got:?}");
        }
    }
}
