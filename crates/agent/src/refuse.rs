//! Whether this node takes a pod at all: what its kernel cannot enforce is refused clearly, as is what does not fit
//! beside the pods that run; a critical pod may have lesser ones make room. Pure.

use crate::limits;
use crate::observed::Doom;
use crate::pod;
use k8s_openapi::api::core::v1::{AppArmorProfile, Pod};
use std::collections::BTreeMap;
use stoa_runtime::Qos;
use stoa_sched::plugins::node_affinity;
use stoa_units::Quantity;

/// Kernel parameters of a pod's own namespaces that can hurt nobody else.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// From this priority on a pod is critical to the cluster.
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// What this node can do.
pub(crate) struct Ability<'a> {
    pub(crate) unsafe_sysctls: &'a [String],
    pub(crate) has_apparmor: bool,
    pub(crate) has_selinux: bool,
}

/// Whether this node is one that the pod asks for. The scheduler sees to that; whoever binds a pod past it is told here.
pub(crate) fn check_affinity(pod: &Pod, node: &str, labels: &BTreeMap<String, String>) -> Option<Doom> {
    let spec = pod.spec.as_ref()?;
    (!node_affinity::asks_for(spec, node, labels)).then(|| Doom::Rejected {
        reason: "NodeAffinity".to_owned(),
        message: format!("Predicate NodeAffinity failed: {}", node_affinity::MISMATCH),
    })
}

/// What could not be given although it was there when somebody looked.
pub(crate) fn unexpected(why: String) -> Doom {
    Doom::Rejected {
        reason: "UnexpectedAdmissionError".to_owned(),
        message: format!("Allocate failed due to {why}, which is unexpected"),
    }
}

/// What is asked of it that it cannot do.
pub(crate) fn check_ability(pod: &Pod, ability: &Ability<'_>) -> Option<Doom> {
    let refused = |reason: &str, message: String| Some(Doom::Rejected { reason: reason.to_owned(), message });
    if let Some(name) = forbidden_sysctl(pod, ability.unsafe_sysctls) {
        return refused("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted"));
    }
    if wants_apparmor(pod) {
        // A pod that asks for a profile must not run without: the native runtime applies none.
        let why = if ability.has_apparmor {
            "this runtime applies no profiles"
        } else {
            "AppArmor is not enabled on the host"
        };
        return refused("AppArmor", format!("Cannot enforce AppArmor: {why}"));
    }
    // Where the kernel has no SELinux its options mean nothing, as to every engine.
    if ability.has_selinux && wants_selinux(pod) {
        return refused(
            "SELinux",
            "Cannot enforce SELinux options: this runtime applies no labels".to_owned(),
        );
    }
    None
}

fn forbidden_sysctl<'a>(pod: &'a Pod, allowed: &[String]) -> Option<&'a str> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    let fits = |name: &str| {
        let name = name.replace('/', ".");
        SAFE_SYSCTLS.contains(&name.as_str())
            || allowed.iter().any(|a| match a.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => *a == name,
            })
    };
    let mut names = context.sysctls.iter().flatten().map(|s| s.name.as_str());
    names.find(|name| !fits(name))
}

/// Whether any profile but `Unconfined` is asked for.
fn wants_apparmor(pod: &Pod) -> bool {
    let is_real = |p: Option<&AppArmorProfile>| p.is_some_and(|p| p.type_ != "Unconfined");
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    is_real(context.and_then(|c| c.app_armor_profile.as_ref()))
        || pod::containers(pod)
            .any(|(_, c)| is_real(c.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref())))
}

/// Whether processes or files are to have labels of their own.
fn wants_selinux(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    context.is_some_and(|c| c.se_linux_options.is_some())
        || pod::containers(pod)
            .any(|(_, c)| c.security_context.as_ref().is_some_and(|s| s.se_linux_options.is_some()))
}

/// A pod that runs here, as far as room is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claim {
    pub(crate) milli_cpu: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) priority: i32,
    pub(crate) qos: Qos,
    /// Bytes of huge pages by the size of the pages.
    pub(crate) pages: BTreeMap<u64, u64>,
}

/// What a pod takes.
pub(crate) fn claim(pod: &Pod) -> Claim {
    let (milli_cpu, memory_bytes) = limits::claim(pod);
    Claim {
        milli_cpu,
        memory_bytes,
        priority: priority(pod),
        qos: limits::qos(pod),
        pages: limits::pages_of_pod(pod),
    }
}

fn priority(pod: &Pod) -> i32 {
    let source = pod.metadata.annotations.as_ref().and_then(|a| a.get(crate::statics::SOURCE));
    if source.is_some_and(|s| s != "api") {
        // What the machine's own folder asks for comes before what others send.
        return CRITICAL_PRIORITY;
    }
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

/// What becomes of a new pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Room {
    /// It fits, once these have gone.
    After(Vec<String>),
    /// It does not.
    None { reason: String, message: String },
}

/// Looks for room for `pod` beside `claims`.
pub(crate) fn find_room<'a>(
    pod: &Pod,
    claims: impl Iterator<Item = (&'a String, &'a Claim)>,
    allocatable: &BTreeMap<String, String>,
    pods_max: u32,
) -> Room {
    let capacity = |name: &str| allocatable.get(name).and_then(|q| Quantity::parse(q).ok());
    let cpu_max = capacity("cpu").map_or(0, |q| q.milli_ceil());
    let memory_max = capacity("memory").map_or(0, |q| q.value_ceil());
    let new = claim(pod);
    let mut held: Vec<_> = claims.collect();
    let short = |held: &[(&String, &Claim)]| {
        let (cpu, memory) =
            held.iter().fold((0_u64, 0_u64), |(c, m), (_, h)| (c + h.milli_cpu, m + h.memory_bytes));
        let all = [
            ("cpu".to_owned(), new.milli_cpu, cpu, cpu_max),
            ("memory".to_owned(), new.memory_bytes, memory, memory_max),
            ("pods".to_owned(), 1, held.len() as u64, u64::from(pods_max)),
        ];
        let pages = new.pages.iter().map(|(size, wanted)| {
            let name = format!("{}{}", limits::HUGE_PAGES, Quantity::from_bytes(*size));
            let used = held.iter().filter_map(|(_, h)| h.pages.get(size)).sum();
            let whole = capacity(&name).map_or(0, |q| q.value_ceil());
            (name, *wanted, used, whole)
        });
        all.into_iter()
            .chain(pages)
            .find(|(_, wanted, used, capacity)| *wanted > 0 && used + wanted > *capacity)
    };
    let Some((resource, wanted, used, capacity)) = short(&held) else { return Room::After(Vec::new()) };
    if new.priority >= CRITICAL_PRIORITY {
        // The least harm first: whom nobody promised anything, then whom little was promised.
        let rank = |c: &Claim| match c.qos {
            Qos::BestEffort => 0,
            Qos::Burstable => 1,
            Qos::Guaranteed => 2,
        };
        held.sort_by_key(|(uid, c)| (std::cmp::Reverse((rank(c), c.priority)), (*uid).clone()));
        let mut victims = Vec::new();
        while short(&held).is_some() {
            match held.iter().rposition(|(_, c)| c.priority < new.priority) {
                Some(at) => victims.push(held.remove(at).0.clone()),
                None => break,
            }
        }
        if short(&held).is_none() {
            return Room::After(victims);
        }
    }
    let message = format!(
        "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
    );
    Room::None { reason: format!("OutOf{resource}"), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_safe_kernel_parameters_are_taken_unless_the_node_allows_more() {
        let with = |name: &str| {
            pod(json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}))
        };
        let allowed = ["net.core.*".to_owned()];
        let ability = Ability { unsafe_sysctls: &allowed, has_apparmor: false, has_selinux: false };
        for (name, fits) in [
            ("kernel.shm_rmid_forced", true),
            ("net/ipv4/tcp_syncookies", true),
            ("net.core.somaxconn", true),
            ("kernel.msgmax", false),
            ("kernel.core_pattern", false),
        ] {
            assert_eq!(check_ability(&with(name), &ability).is_none(), fits, "{name}");
        }
        let Some(Doom::Rejected { reason, message }) = check_ability(&with("kernel.msgmax"), &ability) else {
            panic!()
        };
        assert_eq!(
            (reason.as_str(), message.as_str()),
            ("SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted")
        );
    }

    #[test]
    fn a_node_that_the_pod_does_not_ask_for_is_refused_by_name_and_by_label() {
        let labels: BTreeMap<String, String> =
            [("disk", "ssd"), ("cores", "8")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let check = |spec: Value| check_affinity(&pod(spec), "n1", &labels);
        let required = |terms: Value| {
            json!({"containers": [], "affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        let by = |list: &str, key: &str, operator: &str, values: &[&str]| json!({list: [{"key": key, "operator": operator, "values": values}]});
        for fits in [
            json!({"containers": []}),
            json!({"containers": [], "nodeSelector": {"disk": "ssd"}}),
            required(json!([
                by("matchExpressions", "cores", "Gt", &["16"]),
                by("matchExpressions", "cores", "Lt", &["16"])
            ])),
            required(json!([by("matchFields", "metadata.name", "In", &["n1"])])),
        ] {
            assert_eq!(check(fits.clone()), None, "{fits}");
        }
        for other in [
            json!({"containers": [], "nodeSelector": {"disk": "ssd", "zone": "z"}}),
            required(json!([by("matchExpressions", "disk", "NotIn", &["ssd"])])),
            required(json!([by("matchFields", "metadata.name", "In", &["n2"])])),
            required(json!([{}])),
        ] {
            let message =
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned();
            let refused = Doom::Rejected { reason: "NodeAffinity".to_owned(), message };
            assert_eq!(check(other.clone()), Some(refused), "{other}");
        }
    }

    #[test]
    fn a_profile_that_the_kernel_cannot_enforce_is_refused() {
        let with = |kind: &str| {
            pod(
                json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": {"type": kind}}}]}),
            )
        };
        let ability = Ability { unsafe_sysctls: &[], has_apparmor: false, has_selinux: false };
        assert!(check_ability(&with("RuntimeDefault"), &ability).is_some());
        assert!(check_ability(&with("Unconfined"), &ability).is_none());
        let able = Ability { unsafe_sysctls: &[], has_apparmor: true, has_selinux: true };
        assert!(check_ability(&with("RuntimeDefault"), &able).is_some());
        assert!(check_ability(&with("Unconfined"), &able).is_none());
        let labelled =
            pod(json!({"containers": [], "securityContext": {"seLinuxOptions": {"level": "s0:c0,c1"}}}));
        assert!(check_ability(&labelled, &ability).is_none());
        assert!(check_ability(&labelled, &able).is_some());
    }

    #[test]
    fn a_critical_pod_displaces_the_least_and_as_few_as_needed() {
        let of = |milli_cpu, priority, qos| Claim {
            milli_cpu,
            memory_bytes: 0,
            priority,
            qos,
            pages: BTreeMap::new(),
        };
        let claims: BTreeMap<String, Claim> = [
            ("a".to_owned(), of(400, 0, Qos::Guaranteed)),
            ("b".to_owned(), of(300, 5, Qos::Burstable)),
            ("c".to_owned(), of(300, 0, Qos::Burstable)),
            ("d".to_owned(), of(0, CRITICAL_PRIORITY, Qos::BestEffort)),
        ]
        .into();
        let allocatable =
            [("cpu".to_owned(), "1".to_owned()), ("memory".to_owned(), "1Gi".to_owned())].into();
        let wants = |cpu: &str, priority: i32| {
            let p = pod(
                json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}),
            );
            find_room(&p, claims.iter(), &allocatable, 10)
        };
        assert_eq!(wants("200m", CRITICAL_PRIORITY), Room::After(vec!["c".into()]));
        assert_eq!(wants("500m", CRITICAL_PRIORITY), Room::After(vec!["c".into(), "b".into()]));
        assert!(matches!(wants("1100m", CRITICAL_PRIORITY), Room::None { .. }));
        assert!(matches!(wants("200m", 7), Room::None { reason, .. } if reason == "OutOfcpu"));
        let pages =
            pod(json!({"containers": [{"name": "c", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}]}));
        let room = |have: &str| {
            let node =
                [("memory", "1Gi"), ("hugepages-2Mi", have)].map(|(k, v)| (k.to_owned(), v.to_owned()));
            find_room(&pages, std::iter::empty(), &node.into(), 10)
        };
        assert_eq!(room("4Mi"), Room::After(vec![]));
        assert!(matches!(room("2Mi"), Room::None { reason, .. } if reason == "OutOfhugepages-2Mi"));
    }
}
