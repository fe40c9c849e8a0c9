//! Whether this node takes a pod at all: what its kernel cannot enforce is refused clearly, as is what does not fit
//! beside the pods that run; a critical pod may have lesser ones make room. Pure.

use crate::limits;
use crate::observed::Doom;
use crate::pod;
use k8s_openapi::api::core::v1::{AppArmorProfile, Pod, PodSpec, Taint};
use std::collections::BTreeMap;
use stoa_runtime::Qos;
use stoa_sched::plugins::{node_affinity, node_ports, taint_toleration};
use stoa_units::{PortSet, Quantity};
use stoa_wire::NodeTaint;

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

/// A kubelet's word for what it did not see coming.
const UNEXPECTED: &str = "UnexpectedAdmissionError";

/// What this node can do.
pub(crate) struct Ability<'a> {
    pub(crate) unsafe_sysctls: &'a [String],
    pub(crate) has_apparmor: bool,
}

/// What the leader says of this node, by which it is judged whether a pod belongs here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Marks {
    pub(crate) labels: BTreeMap<String, String>,
    /// Those that let nobody run who does not tolerate them.
    pub(crate) taints: Vec<NodeTaint>,
}

/// This node, as far as room on it is concerned.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) name: &'a str,
    pub(crate) marks: &'a Marks,
    pub(crate) allocatable: &'a BTreeMap<String, String>,
    pub(crate) pods_max: u32,
}

/// The label that names an operating system, and the one that all nodes of ours have.
const OS_LABEL: &str = "kubernetes.io/os";
const OS: &str = "linux";

/// Whether the pod is for another operating system: by its own label, which a kubelet reads as a wish, or by its spec.
pub(crate) fn check_os(pod: &Pod) -> Option<Doom> {
    let refused = |reason: &str, message: &str| {
        Some(Doom::Rejected { reason: reason.to_owned(), message: message.to_owned() })
    };
    if pod.metadata.labels.as_ref().and_then(|l| l.get(OS_LABEL)).is_some_and(|os| os != OS) {
        return refused(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    if pod.spec.as_ref().and_then(|s| s.os.as_ref()).is_some_and(|os| os.name != OS) {
        return refused("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS");
    }
    None
}

/// Why the pod does not belong on this node, whatever room there is: name and reason of what rules it out. The scheduler sees
/// to that; whoever binds a pod past it is told here.
fn mismatch<'a>(
    pod: &Pod,
    new: &Claim,
    node: &Node<'_>,
    mut held: impl Iterator<Item = &'a Claim>,
) -> Option<(&'static str, &'static str)> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    if !node_affinity::asks_for(spec, node.name, &node.marks.labels) {
        return Some(("NodeAffinity", node_affinity::MISMATCH));
    }
    if !new.ports.is_empty() && held.any(|h| h.ports.intersects(&new.ports)) {
        return Some(("NodePorts", node_ports::TAKEN));
    }
    // What the machine's own folder asks for is not driven out by a taint either.
    let is_kept_off = |taint: &NodeTaint| {
        let taint = Taint {
            effect: "NoExecute".to_owned(),
            key: taint.key.clone(),
            value: Some(taint.value.clone()),
            time_added: None,
        };
        !taint_toleration::is_tolerated(spec, &taint)
    };
    (!is_static(pod) && node.marks.taints.iter().any(is_kept_off))
        .then_some(("TaintToleration", taint_toleration::UNTOLERATED))
}

/// What could not be given although it was there when somebody looked.
pub(crate) fn unexpected(why: String) -> Doom {
    Doom::Rejected {
        reason: UNEXPECTED.to_owned(),
        message: format!("Allocate failed due to {why}, which is unexpected"),
    }
}

/// What is asked of it that it cannot do.
pub(crate) fn check_ability(pod: &Pod, ability: &Ability<'_>) -> Option<Doom> {
    let refused = |reason: &str, message: String| Some(Doom::Rejected { reason: reason.to_owned(), message });
    if let Some(name) = forbidden_sysctl(pod, ability.unsafe_sysctls) {
        return refused("SysctlForbidden", format!("forbidden sysctl: \"{name}\" not allowlisted"));
    }
    // Where the kernel has no SELinux its options mean nothing, as to every engine.
    if !ability.has_apparmor && wants_apparmor(pod) {
        return refused(
            "AppArmor",
            "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned(),
        );
    }
    None
}

fn forbidden_sysctl<'a>(pod: &'a Pod, allowed: &[String]) -> Option<&'a str> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    let fits = |name: &str| {
        let name = sysctl_name(name);
        SAFE_SYSCTLS.contains(&name.as_str())
            || allowed.iter().any(|a| match a.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => *a == name,
            })
    };
    let mut names = context.sysctls.iter().flatten().map(|s| s.name.as_str());
    names.find(|name| !fits(name))
}

/// A kernel parameter's name with dots between its parts, which may have been given with slashes.
pub(crate) fn sysctl_name(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    }
}

/// Whether any profile but `Unconfined` is asked for.
fn wants_apparmor(pod: &Pod) -> bool {
    let is_real = |p: Option<&AppArmorProfile>| p.is_some_and(|p| p.type_ != "Unconfined");
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    is_real(context.and_then(|c| c.app_armor_profile.as_ref()))
        || pod::containers(pod)
            .any(|(_, c)| is_real(c.security_context.as_ref().and_then(|s| s.app_armor_profile.as_ref())))
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
    /// Bytes of the disk.
    pub(crate) disk_bytes: u64,
    /// Ports of the node.
    pub(crate) ports: PortSet,
}

/// What a pod takes.
pub(crate) fn claim(pod: &Pod) -> Claim {
    let (milli_cpu, memory_bytes) = limits::claim(pod);
    let more = pod.spec.as_ref().map(stoa_sched::requests).unwrap_or_default();
    Claim {
        disk_bytes: more.disk_bytes,
        ports: more.ports,
        milli_cpu,
        memory_bytes,
        priority: priority(pod),
        qos: limits::qos(pod),
        pages: limits::pages_of_pod(pod),
    }
}

/// Whether it is of the machine's own folder.
fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|a| a.get(crate::statics::SOURCE));
    source.is_some_and(|s| s != "api")
}

fn priority(pod: &Pod) -> i32 {
    // An operator's container is none of the machine's own needs: it comes where there is room.
    if is_static(pod) && !crate::mesos::is_standalone(pod) {
        // What the machine's own folder asks for comes before what others send.
        return CRITICAL_PRIORITY;
    }
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

/// Whether others make room for it, and nothing drives it out.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    priority(pod) >= CRITICAL_PRIORITY
}

/// Whether it comes to a machine that is short of memory although it asks for none.
pub(crate) fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let taint = Taint {
        effect: "NoSchedule".to_owned(),
        key: "node.kubernetes.io/memory-pressure".to_owned(),
        ..Taint::default()
    };
    pod.spec.as_ref().is_some_and(|spec| taint_toleration::is_tolerated(spec, &taint))
}

/// What becomes of a new pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Room {
    /// It fits, once these have gone.
    After(Vec<String>),
    /// It does not.
    None { reason: String, message: String },
}

/// Something of which there is too little.
#[derive(Debug)]
struct Shortage {
    resource: String,
    requested: u64,
    used: u64,
    capacity: u64,
}

impl Shortage {
    /// How much is missing.
    fn amount(&self) -> u64 {
        (self.used + self.requested).saturating_sub(self.capacity)
    }
}

/// All of which there is too little for `new` beside those that are here, in a kubelet's order.
fn shortages(new: &Claim, held: &[(&String, &Claim)], node: &Node<'_>) -> Vec<Shortage> {
    let capacity = |name: &str| node.allocatable.get(name).and_then(|q| Quantity::parse(q).ok());
    let sum = |of: fn(&Claim) -> u64| held.iter().map(|(_, h)| of(h)).sum::<u64>();
    let whole = |name: &str| capacity(name).map_or(0, |q| q.value_ceil());
    let all = [
        ("pods", 1, held.len() as u64, u64::from(node.pods_max)),
        ("cpu", new.milli_cpu, sum(|h| h.milli_cpu), capacity("cpu").map_or(0, |q| q.milli_ceil())),
        ("memory", new.memory_bytes, sum(|h| h.memory_bytes), whole("memory")),
        ("ephemeral-storage", new.disk_bytes, sum(|h| h.disk_bytes), whole("ephemeral-storage")),
    ];
    let all =
        all.into_iter().map(|(name, requested, used, capacity)| (name.to_owned(), requested, used, capacity));
    let pages = new.pages.iter().map(|(size, requested)| {
        let name = format!("{}{}", limits::HUGE_PAGES, Quantity::from_bytes(*size));
        let used = held.iter().filter_map(|(_, h)| h.pages.get(size)).sum();
        let capacity = whole(&name);
        (name, *requested, used, capacity)
    });
    all.chain(pages)
        .map(|(resource, requested, used, capacity)| Shortage { resource, requested, used, capacity })
        .filter(|s| s.requested > 0 && s.amount() > 0)
        .collect()
}

/// Looks for room for `pod` on `node` beside `claims`.
pub(crate) fn find_room<'a>(
    pod: &Pod,
    node: &Node<'_>,
    claims: impl Iterator<Item = (&'a String, &'a Claim)>,
) -> Room {
    let new = claim(pod);
    let mut held: Vec<_> = claims.collect();
    let short = shortages(&new, &held, node);
    let mismatch = mismatch(pod, &new, node, held.iter().map(|(_, h)| *h)).map(|(name, why)| Room::None {
        reason: name.to_owned(),
        message: format!("Predicate {name} failed: {why}"),
    });
    let Some(first) = short.first() else { return mismatch.unwrap_or(Room::After(Vec::new())) };
    if new.priority < CRITICAL_PRIORITY {
        let Shortage { resource, requested, used, capacity } = first;
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        return Room::None { reason: format!("OutOf{resource}"), message };
    }
    // Nobody makes room for what does not belong here.
    if let Some(mismatch) = mismatch {
        return mismatch;
    }
    held.retain(|(_, c)| c.priority < new.priority);
    let missing: Missing = short.iter().map(|s| (s.resource.clone(), s.amount())).collect();
    match find_victims(&held, &missing) {
        Ok(victims) => Room::After(victims),
        Err(missing) => {
            let missing = missing.iter().map(|(name, amount)| format!("(res: {name}, q: {amount}), "));
            let message = format!(
                "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods \
                 to preempt: no set of running pods found to reclaim resources: [{}]",
                missing.collect::<String>()
            );
            Room::None { reason: UNEXPECTED.to_owned(), message }
        }
    }
}

/// What is missing, and how much of it.
type Missing = Vec<(String, u64)>;
/// Pods that may go, by uid.
type Held<'a> = Vec<(&'a String, &'a Claim)>;

/// What a pod would give back of a resource.
fn gives(claim: &Claim, resource: &str) -> u64 {
    match resource {
        "pods" => 1,
        "cpu" => claim.milli_cpu,
        "memory" => claim.memory_bytes,
        "ephemeral-storage" => claim.disk_bytes,
        pages => {
            let size = pages.strip_prefix(limits::HUGE_PAGES).and_then(|s| Quantity::parse(s).ok());
            size.and_then(|size| claim.pages.get(&size.value_ceil())).copied().unwrap_or(0)
        }
    }
}

/// What is missing still once these have gone.
fn without<'a>(missing: &Missing, gone: impl Iterator<Item = &'a Claim> + Clone) -> Missing {
    let left = |(name, amount): &(String, u64)| {
        let given = gone.clone().fold(0_u64, |sum, claim| sum.saturating_add(gives(claim, name)));
        (name.clone(), amount.saturating_sub(given))
    };
    missing.iter().map(left).filter(|(_, amount)| *amount > 0).collect()
}

/// Who goes, as a kubelet chooses: of those whom much was promised only what all others together could not give, and so on; and
/// among the like those that come nearest to what is missing. The error is what nobody could give.
fn find_victims(held: &Held<'_>, missing: &Missing) -> Result<Vec<String>, Missing> {
    let of = |qos: Qos| -> Held<'_> { held.iter().filter(|(_, c)| c.qos == qos).copied().collect() };
    let (best_effort, burstable, guaranteed) = (of(Qos::BestEffort), of(Qos::Burstable), of(Qos::Guaranteed));
    let beside = |a: &Held<'_>, b: &Held<'_>| without(missing, a.iter().chain(b).map(|(_, c)| *c));
    let lacking = without(missing, held.iter().map(|(_, c)| *c));
    if !lacking.is_empty() {
        return Err(lacking);
    }
    let of_guaranteed = nearest(guaranteed, beside(&best_effort, &burstable))?;
    let of_burstable = nearest(burstable, beside(&best_effort, &of_guaranteed))?;
    let of_best_effort = nearest(best_effort, beside(&of_burstable, &of_guaranteed))?;
    let all = of_best_effort.into_iter().chain(of_burstable).chain(of_guaranteed);
    Ok(all.map(|(uid, _)| uid.clone()).collect())
}

/// As few as give what is missing: always the one after which the least of it is, by its parts; among equals the smallest.
fn nearest<'a>(mut held: Held<'a>, mut missing: Missing) -> Result<Held<'a>, Missing> {
    let mut chosen = Held::new();
    while !missing.is_empty() {
        let distance = |claim: &Claim| -> f64 {
            let part = |(name, amount): &(String, u64)| {
                amount.saturating_sub(gives(claim, name)) as f64 / *amount as f64
            };
            missing.iter().map(|of| part(of).powi(2)).sum()
        };
        let order = |(_, a): &&(usize, &Claim), (_, b): &&(usize, &Claim)| {
            let size = |c: &Claim| (c.memory_bytes, c.milli_cpu);
            distance(a).total_cmp(&distance(b)).then_with(|| size(a).cmp(&size(b)))
        };
        let places: Vec<(usize, &Claim)> = held.iter().map(|(_, c)| *c).enumerate().collect();
        let Some((at, _)) = places.iter().min_by(order).copied() else { return Err(missing) };
        let next = held.remove(at);
        missing = without(&missing, std::iter::once(next.1));
        chosen.push(next);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn amounts<const N: usize>(of: [(&str, &str); N]) -> BTreeMap<String, String> {
        of.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    /// Why a node with these marks and these pods does not take a pod.
    fn refusal(pod: &Pod, marks: &Marks, others: &[Pod]) -> Option<(String, String)> {
        let allocatable = amounts([("cpu", "1"), ("memory", "1Gi"), ("ephemeral-storage", "1Gi")]);
        let held: Vec<_> = others.iter().map(|o| ("uid".to_owned(), claim(o))).collect();
        let node = Node { name: "n1", marks, allocatable: &allocatable, pods_max: 10 };
        match find_room(pod, &node, held.iter().map(|(uid, c)| (uid, c))) {
            Room::After(victims) if victims.is_empty() => None,
            Room::After(victims) => panic!("{victims:?}"),
            Room::None { reason, message } => Some((reason, message)),
        }
    }

    fn predicate(name: &str, why: &str) -> Option<(String, String)> {
        Some((name.to_owned(), format!("Predicate {name} failed: {why}")))
    }

    #[test]
    fn a_port_of_the_node_is_one_pods() {
        let on = |port: Value| pod(json!({"containers": [{"name": "c", "ports": [port]}]}));
        let held = [on(json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}))];
        let taken = predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports");
        for (port, expected) in [
            (json!({"containerPort": 90, "hostPort": 8080}), &taken),
            (json!({"containerPort": 90, "hostPort": 8080, "hostIP": "0.0.0.0"}), &taken),
            (json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}), &taken),
            (json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.2"}), &None),
            (json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}), &None),
            (json!({"containerPort": 80, "hostPort": 8081}), &None),
            (json!({"containerPort": 8080}), &None),
        ] {
            assert_eq!(&refusal(&on(port.clone()), &Marks::default(), &held), expected, "{port}");
        }
    }

    #[test]
    fn a_taint_keeps_off_who_does_not_tolerate_it_save_the_machines_own() {
        let taint = |key: &str, value: &str| NodeTaint { key: key.to_owned(), value: value.to_owned() };
        let marks = Marks { taints: vec![taint("out", "of-order"), taint("old", "")], ..Marks::default() };
        let tolerating = |tolerations: Value| pod(json!({"containers": [], "tolerations": tolerations}));
        let kept_off = predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate");
        for (tolerations, expected) in [
            (json!([]), &kept_off),
            (json!([{"key": "old", "operator": "Exists"}]), &kept_off),
            (json!([{"key": "old", "operator": "Exists"}, {"key": "out", "value": "of-service"}]), &kept_off),
            (json!([{"operator": "Exists", "effect": "NoSchedule"}]), &kept_off),
            (json!([{"operator": "Exists"}]), &None),
            (
                json!([{"key": "old", "operator": "Exists"}, {"key": "out", "value": "of-order", "effect": "NoExecute"}]),
                &None,
            ),
        ] {
            assert_eq!(&refusal(&tolerating(tolerations.clone()), &marks, &[]), expected, "{tolerations}");
        }
        let mut own = tolerating(json!([]));
        own.metadata.annotations = Some(amounts([(crate::statics::SOURCE, "file")]));
        assert_eq!(refusal(&own, &marks, &[]), None);
    }

    #[test]
    fn a_pod_for_another_system_is_refused() {
        let check = |labels: Value, spec: Value| {
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": spec})).unwrap();
            match check_os(&pod) {
                Some(Doom::Rejected { reason, message }) => Some((reason, message)),
                _ => None,
            }
        };
        let plain = json!({"containers": []});
        let of = |os: &str| json!({"containers": [], "os": {"name": os}});
        assert_eq!(check(json!({}), plain.clone()), None);
        assert_eq!(check(json!({"kubernetes.io/os": "linux"}), of("linux")), None);
        let said = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
        assert_eq!(
            check(json!({"kubernetes.io/os": "windows"}), plain),
            said(
                "PodOSSelectorNodeLabelDoesNotMatch",
                "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
            )
        );
        assert_eq!(
            check(json!({}), of("windows")),
            said("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
        );
    }

    #[test]
    fn what_is_short_is_named_in_a_kubelets_order_and_before_what_does_not_fit() {
        let asking = |requests: Value, priority: i32| {
            pod(json!({"priority": priority, "nodeSelector": {"disk": "ssd"},
                "containers": [{"name": "c", "resources": {"requests": requests}}]}))
        };
        let here = Marks { labels: amounts([("disk", "ssd")]), taints: vec![] };
        let elsewhere = Marks::default();
        let held = [pod(json!({"priority": CRITICAL_PRIORITY, "containers": [
            {"name": "c", "resources": {"requests": {"ephemeral-storage": "900Mi", "cpu": "900m"}}}]}))];
        let disk = asking(json!({"ephemeral-storage": "200Mi"}), 0);
        let words = "Node didn't have enough resource: ephemeral-storage, requested: 209715200, used: 943718400, capacity: 1073741824";
        let out = Some(("OutOfephemeral-storage".to_owned(), words.to_owned()));
        assert_eq!(refusal(&disk, &here, &held), out);
        assert_eq!(refusal(&disk, &elsewhere, &held), out);
        assert_eq!(refusal(&asking(json!({"ephemeral-storage": "100Mi"}), 0), &here, &held), None);
        let both = json!({"ephemeral-storage": "200Mi", "cpu": "200m"});
        assert_eq!(refusal(&asking(both.clone(), 0), &here, &held).unwrap().0, "OutOfcpu");
        // Of a critical pod it is said first that it does not belong here, and then what nobody can give back.
        let critical = asking(both, CRITICAL_PRIORITY);
        assert_eq!(refusal(&critical, &elsewhere, &held).unwrap().0, "NodeAffinity");
        let words = "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of \
            pods to preempt: no set of running pods found to reclaim resources: [(res: cpu, q: 100), (res: ephemeral-storage, q: 79691776), ]";
        assert_eq!(refusal(&critical, &here, &held), Some((UNEXPECTED.to_owned(), words.to_owned())));
    }

    #[test]
    fn only_safe_kernel_parameters_are_taken_unless_the_node_allows_more() {
        let with = |name: &str| {
            pod(json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}))
        };
        let allowed = ["net.core.*".to_owned()];
        let ability = Ability { unsafe_sysctls: &allowed, has_apparmor: false };
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
    fn kernel_parameters_may_be_named_with_slashes() {
        for (given, name) in [
            ("net/ipv4/ip_local_port_range", "net.ipv4.ip_local_port_range"),
            ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding"),
            ("plain", "plain"),
        ] {
            assert_eq!(sysctl_name(given), name);
        }
    }

    #[test]
    fn a_node_that_the_pod_does_not_ask_for_is_refused_by_name_and_by_label() {
        let labels = [("disk", "ssd"), ("cores", "8")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let marks = Marks { labels, taints: vec![] };
        let check = |spec: Value| refusal(&pod(spec), &marks, &[]);
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
            assert_eq!(check(other.clone()), Some(("NodeAffinity".to_owned(), message)), "{other}");
        }
    }

    #[test]
    fn a_profile_that_the_kernel_cannot_enforce_is_refused() {
        let with = |kind: &str| {
            pod(
                json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": {"type": kind}}}]}),
            )
        };
        let ability = Ability { unsafe_sysctls: &[], has_apparmor: false };
        assert!(check_ability(&with("RuntimeDefault"), &ability).is_some());
        assert!(check_ability(&with("Unconfined"), &ability).is_none());
        let able = Ability { unsafe_sysctls: &[], has_apparmor: true };
        assert!(check_ability(&with("RuntimeDefault"), &able).is_none());
        assert!(check_ability(&with("Unconfined"), &able).is_none());
    }

    #[test]
    fn a_critical_pod_displaces_the_least_and_as_few_as_needed() {
        let of = |milli_cpu, priority, qos| Claim {
            milli_cpu,
            memory_bytes: 0,
            priority,
            qos,
            pages: BTreeMap::new(),
            disk_bytes: 0,
            ports: PortSet::EMPTY,
        };
        let claims: BTreeMap<String, Claim> = [
            ("a".to_owned(), of(400, 0, Qos::Guaranteed)),
            ("b".to_owned(), of(300, 5, Qos::Burstable)),
            ("c".to_owned(), of(300, 0, Qos::Burstable)),
            ("d".to_owned(), of(0, CRITICAL_PRIORITY, Qos::BestEffort)),
        ]
        .into();
        let allocatable = amounts([("cpu", "1"), ("memory", "1Gi")]);
        let marks = Marks::default();
        let node = Node { name: "n1", marks: &marks, allocatable: &allocatable, pods_max: 10 };
        let wants = |cpu: &str, priority: i32| {
            let p = pod(
                json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}),
            );
            find_room(&p, &node, claims.iter())
        };
        assert_eq!(wants("200m", CRITICAL_PRIORITY), Room::After(vec!["b".into()]));
        assert_eq!(wants("500m", CRITICAL_PRIORITY), Room::After(vec!["b".into(), "c".into()]));
        assert_eq!(wants("700m", CRITICAL_PRIORITY), Room::After(vec!["b".into(), "a".into()]));
        assert!(
            matches!(wants("1100m", CRITICAL_PRIORITY), Room::None { reason, .. } if reason == UNEXPECTED)
        );
        assert!(matches!(wants("200m", 7), Room::None { reason, .. } if reason == "OutOfcpu"));
        // Whom little was promised and who gives just what is missing, not whoever is the least important.
        let claims: BTreeMap<String, Claim> = [
            ("large".to_owned(), of(600, 0, Qos::Burstable)),
            ("just".to_owned(), of(250, 9, Qos::Burstable)),
            ("small".to_owned(), of(50, 0, Qos::Burstable)),
            ("firm".to_owned(), of(100, 0, Qos::Guaranteed)),
        ]
        .into();
        let room = |cpu: &str| {
            let asked = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
            let p = pod(json!({"priority": CRITICAL_PRIORITY, "containers": [asked]}));
            find_room(&p, &node, claims.iter())
        };
        assert_eq!(room("200m"), Room::After(vec!["just".into()]));
        assert_eq!(room("50m"), Room::After(vec!["small".into()]));
        assert_eq!(room("300m"), Room::After(vec!["large".into()]));
        assert_eq!(room("1000m"), Room::After(["large", "just", "small", "firm"].map(String::from).into()));
        let pages =
            pod(json!({"containers": [{"name": "c", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}]}));
        let room = |have: &str| {
            let allocatable = amounts([("memory", "1Gi"), ("hugepages-2Mi", have)]);
            find_room(&pages, &Node { allocatable: &allocatable, ..node }, std::iter::empty())
        };
        assert_eq!(room("4Mi"), Room::After(vec![]));
        assert!(matches!(room("2Mi"), Room::None { reason, .. } if reason == "OutOfhugepages-2Mi"));
    }
}
