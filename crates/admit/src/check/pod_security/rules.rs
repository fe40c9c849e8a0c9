//! The rules of the pod security standards, in the stock server's order and words, as they stood in each version.

use serde_json::Value;

use crate::default::CONTAINER_LISTS;
use crate::policy::{Level, Version};
use crate::value::{at, flag, int, items, pairs, path, text, texts};

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

/// Parameters that reach no further than the pod, and the version since which that is said of them.
const SAFE_SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.tcp_wmem", 32),
];

/// Types of SELinux for containers, and the version since which they may be used.
const SELINUX_TYPES: [(&str, u32); 5] = [
    ("", 0),
    ("container_t", 0),
    ("container_init_t", 0),
    ("container_kvm_t", 0),
    ("container_engine_t", 31),
];

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

/// A pod as the rules see it.
struct Pod<'a> {
    meta: &'a Value,
    spec: &'a Value,
    version: Version,
}

impl Pod<'_> {
    /// Whether the policy's version is `v1.minor` or newer.
    fn since(&self, minor: u32) -> bool {
        self.version.is_since(minor)
    }

    /// Whether users of the pod are users of its own, which are nobody on the machine.
    fn has_own_users(&self) -> bool {
        at(self.spec, "hostUsers") == &Value::Bool(false)
    }

    fn is_windows(&self) -> bool {
        path(self.spec, &["os", "name"]) == "windows"
    }
}

/// What a pod does that its level does not allow.
pub(super) fn violations(meta: &Value, spec: &Value, level: Level, version: Version) -> Vec<String> {
    let pod = Pod { meta, spec, version };
    let strict = level == Level::Restricted;
    let mut out: Vec<String> = match level {
        Level::Privileged => return Vec::new(),
        // Where the restricted level has a stricter rule of its own, that one speaks alone.
        Level::Baseline | Level::Restricted => BASELINE
            .iter()
            .filter(|(_, stricter_since)| !(strict && stricter_since.is_some_and(|v| pod.since(v))))
            .filter_map(|(rule, _)| rule(&pod))
            .collect(),
    };
    if strict {
        let rules = RESTRICTED.iter().filter(|(_, applies)| applies(&pod));
        out.extend(rules.filter_map(|(rule, _)| rule(&pod)));
    }
    out
}

/// One rule: the objections to a pod, if there are any.
type Rule = fn(&Pod<'_>) -> Option<String>;
/// Whether a rule is one for a pod.
type When = fn(&Pod<'_>) -> bool;

/// In the stock server's order, which messages show; and since which version the restricted level has a stricter rule.
const BASELINE: [(Rule, Option<u32>); 12] = [
    (app_armor, None),
    (capabilities, Some(22)),
    (host_namespaces, None),
    (host_paths, Some(0)),
    (host_ports, None),
    (probe_hosts, None),
    (privileged, None),
    (proc_mount_of_baseline, Some(35)),
    (selinux, None),
    (seccomp, Some(19)),
    (sysctls, None),
    (host_process, None),
];

/// The rules of the restricted level alone, and when they apply.
const RESTRICTED: [(Rule, When); 7] = [
    (escalation, |p| p.since(8) && !(p.since(25) && p.is_windows())),
    (capabilities_of_restricted, |p| p.since(22) && !(p.since(25) && p.is_windows())),
    (proc_mount, |p| p.since(35)),
    (volume_types, |_| true),
    (non_root, |p| !(p.since(35) && p.has_own_users())),
    (root_user, |p| p.since(23) && !(p.since(35) && p.has_own_users())),
    (seccomp_of_restricted, |p| p.since(19) && !(p.since(25) && p.is_windows())),
];

fn host_namespaces(pod: &Pod<'_>) -> Option<String> {
    let spec = pod.spec;
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|k| flag(spec, k))
        .map(|k| format!("{k}=true"))
        .collect();
    (!shared.is_empty()).then(|| format!("host namespaces ({})", shared.join(", ")))
}

fn privileged(pod: &Pod<'_>) -> Option<String> {
    let spec = pod.spec;
    let bad = offenders(&containers(spec), |s| flag(s, "privileged"));
    (!bad.is_empty())
        .then(|| format!("privileged ({} must not set securityContext.privileged=true)", named(&bad)))
}

fn capabilities(pod: &Pod<'_>) -> Option<String> {
    let spec = pod.spec;
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

fn host_paths(pod: &Pod<'_>) -> Option<String> {
    let volumes: Vec<String> = items(pod.spec, "volumes")
        .filter(|v| !at(v, "hostPath").is_null())
        .map(|v| format!("{:?}", text(v, "name")))
        .collect();
    let word = if volumes.len() == 1 { "volume" } else { "volumes" };
    (!volumes.is_empty()).then(|| format!("hostPath volumes ({word} {})", volumes.join(", ")))
}

fn host_ports(pod: &Pod<'_>) -> Option<String> {
    let spec = pod.spec;
    let all = containers(spec);
    let held = |c: &Value| items(c, "ports").any(|p| int(p, "hostPort").unwrap_or(0) != 0);
    let bad: Vec<&Value> = all.into_iter().filter(|c| held(c)).collect();
    if bad.is_empty() {
        return None;
    }
    let mut numbers: Vec<String> = bad
        .iter()
        .flat_map(|c| items(c, "ports"))
        .filter_map(|p| int(p, "hostPort").filter(|n| *n != 0))
        .map(|n| n.to_string())
        .collect();
    numbers.sort();
    numbers.dedup();
    let word = if numbers.len() == 1 { "hostPort" } else { "hostPorts" };
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    Some(format!("hostPort ({} {verb} {word} {})", named(&bad), numbers.join(", ")))
}

fn proc_mount(pod: &Pod<'_>) -> Option<String> {
    let spec = pod.spec;
    let bad = offenders(&containers(spec), |s| !matches!(text(s, "procMount"), "" | "Default"));
    let shown = |list: &[&Value]| -> Vec<String> {
        let mounts = list.iter().map(|c| text(at(c, "securityContext"), "procMount"));
        let mut all: Vec<String> = mounts.map(|m| format!("{m:?}")).collect();
        all.sort();
        all.dedup();
        all
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

fn seccomp(pod: &Pod<'_>) -> Option<String> {
    let who = culprits(pod.spec, |s| text(at(s, "seccompProfile"), "type") == "Unconfined")?;
    Some(format!("seccompProfile ({who} must not set securityContext.seccompProfile.type to \"Unconfined\")"))
}

fn app_armor(pod: &Pod<'_>) -> Option<String> {
    let (meta, spec) = (pod.meta, pod.spec);
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

fn selinux(pod: &Pod<'_>) -> Option<String> {
    let spec = pod.spec;
    let is_known = |ty: &str| SELINUX_TYPES.iter().any(|(known, minor)| *known == ty && pod.since(*minor));
    let options = |s: &Value| at(s, "seLinuxOptions").clone();
    let is_bad = |s: &Value| {
        let o = options(s);
        !is_known(text(&o, "type")) || !text(&o, "user").is_empty() || !text(&o, "role").is_empty()
    };
    let who = culprits(spec, is_bad)?;
    let all = containers(spec);
    let contexts =
        || std::iter::once(at(spec, "securityContext")).chain(all.iter().map(|c| at(c, "securityContext")));
    let mut types: Vec<String> = contexts()
        .map(|s| text(at(s, "seLinuxOptions"), "type"))
        .filter(|t| !is_known(t))
        .map(|t| format!("{t:?}"))
        .collect();
    types.sort();
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

fn sysctls(pod: &Pod<'_>) -> Option<String> {
    let is_safe = |name: &str| SAFE_SYSCTLS.iter().any(|(safe, minor)| *safe == name && pod.since(*minor));
    let bad: Vec<&str> = items(at(pod.spec, "securityContext"), "sysctls")
        .map(|s| text(s, "name"))
        .filter(|n| !is_safe(n))
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
fn volume_types(pod: &Pod<'_>) -> Option<String> {
    let mut bad: Vec<(&str, &str)> = Vec::new();
    for volume in items(pod.spec, "volumes") {
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

fn escalation(pod: &Pod<'_>) -> Option<String> {
    let all = containers(pod.spec);
    let bad = offenders(&all, |s| at(s, "allowPrivilegeEscalation") != &Value::Bool(false));
    (!bad.is_empty()).then(|| {
        format!(
            "allowPrivilegeEscalation != false ({} must set securityContext.allowPrivilegeEscalation=false)",
            named(&bad)
        )
    })
}

fn capabilities_of_restricted(pod: &Pod<'_>) -> Option<String> {
    let all = containers(pod.spec);
    let keeps = |s: &Value| !texts(at(s, "capabilities"), "drop").any(|c| c == "ALL");
    let bad = offenders(&all, keeps);
    let extra = offenders(&all, |s| texts(at(s, "capabilities"), "add").any(|c| c != "NET_BIND_SERVICE"));
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
    (!parts.is_empty()).then(|| format!("unrestricted capabilities ({})", parts.join("; ")))
}

/// Containers that say nothing of a field themselves, where the pod does not say it well either.
fn heirs<'a>(pod: &Pod<'a>, key: &str, is_good: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
    if is_good(path(pod.spec, &["securityContext", key])) {
        return Vec::new();
    }
    offenders(&containers(pod.spec), |s| at(s, key).is_null())
}

fn non_root(pod: &Pod<'_>) -> Option<String> {
    let says_no = |s: &Value| at(s, "runAsNonRoot") == &Value::Bool(false);
    if let Some(who) = culprits(pod.spec, says_no) {
        return Some(format!("runAsNonRoot != true ({who} must not set securityContext.runAsNonRoot=false)"));
    }
    let silent = heirs(pod, "runAsNonRoot", |v| v == &Value::Bool(true));
    (!silent.is_empty()).then(|| {
        format!("runAsNonRoot != true (pod or {} must set securityContext.runAsNonRoot=true)", named(&silent))
    })
}

fn root_user(pod: &Pod<'_>) -> Option<String> {
    let who = culprits(pod.spec, |s| int(s, "runAsUser") == Some(0))?;
    Some(format!("runAsUser=0 ({who} must not set runAsUser=0)"))
}

fn seccomp_of_restricted(pod: &Pod<'_>) -> Option<String> {
    let ty = |s: &Value| text(at(s, "seccompProfile"), "type").to_owned();
    let is_good = |t: &str| matches!(t, "RuntimeDefault" | "Localhost");
    let is_bad = |s: &Value| !at(s, "seccompProfile").is_null() && !is_good(&ty(s));
    if let Some(who) = culprits(pod.spec, is_bad) {
        let all = containers(pod.spec);
        let contexts = std::iter::once(at(pod.spec, "securityContext"));
        let contexts = contexts.chain(all.iter().map(|c| at(c, "securityContext")));
        let mut types: Vec<String> = contexts.filter(|s| is_bad(s)).map(|s| format!("{:?}", ty(s))).collect();
        types.sort();
        types.dedup();
        let types = types.join(", ");
        return Some(format!(
            "seccompProfile ({who} must not set securityContext.seccompProfile.type to {types})"
        ));
    }
    let silent = heirs(pod, "seccompProfile", |v| is_good(text(v, "type")));
    (!silent.is_empty()).then(|| {
        format!(
            "seccompProfile (pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            named(&silent)
        )
    })
}

fn host_process(pod: &Pod<'_>) -> Option<String> {
    let who = culprits(pod.spec, |s| flag(at(s, "windowsOptions"), "hostProcess"))?;
    Some(format!("hostProcess ({who} must not set securityContext.windowsOptions.hostProcess=true)"))
}

/// Where the unmasked /proc is a user namespace's own, the baseline lets it be.
fn proc_mount_of_baseline(pod: &Pod<'_>) -> Option<String> {
    if pod.since(35) && pod.has_own_users() { None } else { proc_mount(pod) }
}

/// Probes and hooks that name a host make the agent call where the pod could not.
fn probe_hosts(pod: &Pod<'_>) -> Option<String> {
    if !pod.since(34) {
        return None;
    }
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let hosts = |c: &Value| -> Vec<String> {
        let handlers = HANDLERS.iter().map(|place| path(c, place));
        let named = handlers.flat_map(|h| ["httpGet", "tcpSocket"].map(|kind| text(at(h, kind), "host")));
        named.filter(|h| !h.is_empty()).map(|h| format!("{h:?}")).collect()
    };
    let mut bad: Vec<&Value> = containers(pod.spec).into_iter().filter(|c| !hosts(c).is_empty()).collect();
    bad.sort_by_key(|c| text(c, "name"));
    let mut all: Vec<String> = bad.iter().flat_map(|c| hosts(c)).collect();
    all.sort();
    all.dedup();
    let verb = if bad.len() == 1 { "uses" } else { "use" };
    let word = if all.len() == 1 { "probe or lifecycle host" } else { "probe or lifecycle hosts" };
    (!bad.is_empty())
        .then(|| format!("probe or lifecycle host ({} {verb} {word} {})", named(&bad), all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        let spec = json!({"containers": [{"name": "c", "image": "x"}]});
        assert!(violations(&Value::Null, &spec, Level::Baseline, Version::Latest).is_empty());
        assert_eq!(
            violations(&Value::Null, &spec, Level::Restricted, Version::Latest).join(", "),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn a_hardened_pod_is_restricted() {
        let spec = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
            "volumes": [{"name": "v", "emptyDir": {}}]});
        assert!(violations(&Value::Null, &spec, Level::Restricted, Version::Latest).is_empty());
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
            let got = violations(&Value::Null, &spec, Level::Baseline, Version::Latest);
            assert!(got.len() == 1 && got[0].starts_with(word), "{spec}: {got:?}");
        }
    }

    #[test]
    fn a_policy_is_that_of_its_version() {
        let pod = |more: Value| {
            let mut spec = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]});
            json_merge(&mut spec, &more);
            spec
        };
        fn json_merge(into: &mut Value, more: &Value) {
            match (into, more) {
                (Value::Object(into), Value::Object(more)) => {
                    for (k, v) in more {
                        json_merge(into.entry(k.clone()).or_insert(Value::Null), v);
                    }
                }
                (into, more) => *into = more.clone(),
            }
        }
        let container = |c: Value| {
            let mut all = pod(json!({}));
            json_merge(&mut all["containers"][0], &c);
            all
        };
        // What is refused, by which level, since or until which version, and in which words.
        for (spec, level, good, bad, words) in [
            (
                container(
                    json!({"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}, "lifecycle": {"preStop": {"tcpSocket": {"host": "a"}}}}),
                ),
                Level::Baseline,
                33,
                34,
                r#"probe or lifecycle host (container "c" uses probe or lifecycle hosts "10.0.0.1", "a")"#,
            ),
            (
                pod(json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}})),
                Level::Baseline,
                32,
                31,
                "forbidden sysctls (net.ipv4.tcp_rmem)",
            ),
            (
                pod(json!({"securityContext": {"seLinuxOptions": {"type": "container_engine_t"}}})),
                Level::Baseline,
                31,
                30,
                r#"seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "container_engine_t")"#,
            ),
            (
                pod(
                    json!({"hostUsers": false, "containers": [{"name": "c", "securityContext": {"procMount": "Unmasked"}}]}),
                ),
                Level::Baseline,
                35,
                34,
                r#"procMount (container "c" must not set securityContext.procMount to "Unmasked")"#,
            ),
            (
                pod(json!({"hostUsers": false, "securityContext": {"runAsUser": 0}})),
                Level::Restricted,
                35,
                34,
                "runAsUser=0 (pod must not set runAsUser=0)",
            ),
            (
                pod(json!({"securityContext": {"runAsUser": 0}})),
                Level::Restricted,
                22,
                23,
                "runAsUser=0 (pod must not set runAsUser=0)",
            ),
            (
                container(json!({"securityContext": {"capabilities": {"drop": null}}})),
                Level::Restricted,
                21,
                22,
                r#"unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])"#,
            ),
        ] {
            let at = |minor| violations(&Value::Null, &spec, level, Version::Minor(minor));
            assert_eq!(at(good), Vec::<String>::new(), "v1.{good}: {spec}");
            assert_eq!(at(bad), [words], "v1.{bad}: {spec}");
        }
    }

    #[test]
    fn who_says_it_wrong_and_who_says_nothing_are_told_apart() {
        let restricted = |pod: Value, container: Value| {
            let spec =
                json!({"securityContext": pod, "containers": [{"name": "c", "securityContext": container}]});
            let all = violations(&Value::Null, &spec, Level::Restricted, Version::Latest);
            all.into_iter()
                .filter(|v| v.starts_with("runAs") || v.starts_with("secc"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let good = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(restricted(json!({}), good.clone()), "");
        assert_eq!(
            restricted(
                good,
                json!({"runAsNonRoot": false, "runAsUser": 0, "seccompProfile": {"type": "Unconfined"}})
            ),
            "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false), runAsUser=0 (container \"c\" must not set runAsUser=0), seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")"
        );
        assert_eq!(
            restricted(json!({"runAsNonRoot": false, "runAsUser": 0}), json!({"runAsUser": 0})),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod and container \"c\" must not set runAsUser=0), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }
}
