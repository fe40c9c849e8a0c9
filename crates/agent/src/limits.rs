//! From requests and limits to quality-of-service class, cgroup limits and OOM score, by a kubelet's formulas. Pure.

use crate::pod::{self, Part};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;
use stoa_runtime::{Limits, Qos};
use stoa_units::Quantity;

const CPU_PERIOD_US: u64 = 100_000;
const CPU_QUOTA_US_MIN: u64 = 1_000;
const CPU_SHARES_MIN: u64 = 2;
const CPU_SHARES_MAX: u64 = 262_144;
const SHARES_PER_CPU: u64 = 1_024;

/// CPU (thousandths) and memory (bytes), where given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Amount {
    milli_cpu: Option<u64>,
    memory: Option<u64>,
}

fn amount(map: Option<&BTreeMap<String, Text>>) -> Amount {
    let get = |name: &str| map.and_then(|m| m.get(name)).and_then(|q| Quantity::parse(&q.0).ok());
    Amount {
        milli_cpu: get("cpu").filter(|q| !q.is_zero()).map(|q| q.milli_ceil()),
        memory: get("memory").filter(|q| !q.is_zero()).map(|q| q.value_ceil()),
    }
}

fn requests(container: &Container) -> Amount {
    let own = container.resources.as_ref();
    asked(own.and_then(|r| r.requests.as_ref()), own.and_then(|r| r.limits.as_ref()))
}

/// A limit stands in for a request that is not named; one of nothing is named.
fn asked(requests: Option<&BTreeMap<String, Text>>, limits: Option<&BTreeMap<String, Text>>) -> Amount {
    let names = |name: &str| requests.is_some_and(|r| r.contains_key(name));
    let (own, limit) = (amount(requests), amount(limits));
    Amount {
        milli_cpu: if names("cpu") { own.milli_cpu } else { limit.milli_cpu },
        memory: if names("memory") { own.memory } else { limit.memory },
    }
}

fn limits_of(container: &Container) -> Amount {
    amount(container.resources.as_ref().and_then(|r| r.limits.as_ref()))
}

/// Requests and limits of the pod as a whole, where it names them; a limit stands in for a missing request.
fn pod_level(pod: &Pod) -> (Amount, Amount) {
    let own = pod.spec.as_ref().and_then(|s| s.resources.as_ref());
    let limits = own.and_then(|r| r.limits.as_ref());
    (asked(own.and_then(|r| r.requests.as_ref()), limits), amount(limits))
}

/// What the runtime class of a pod adds.
fn overhead(pod: &Pod) -> Amount {
    amount(pod.spec.as_ref().and_then(|s| s.overhead.as_ref()))
}

impl Amount {
    fn or(self, other: Amount) -> Amount {
        Amount { milli_cpu: self.milli_cpu.or(other.milli_cpu), memory: self.memory.or(other.memory) }
    }

    /// Both together; what neither names stays unnamed.
    fn plus(self, other: Amount) -> Amount {
        let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Amount { milli_cpu: add(self.milli_cpu, other.milli_cpu), memory: add(self.memory, other.memory) }
    }
}

/// The pod's class.
pub(crate) fn qos(pod: &Pod) -> Qos {
    let whole = pod_level(pod);
    if whole != (Amount::default(), Amount::default()) {
        let (asked, limit) = whole;
        let is_full = limit.milli_cpu.is_some() && limit.memory.is_some();
        return if is_full && asked == limit { Qos::Guaranteed } else { Qos::Burstable };
    }
    let mut nothing = true;
    let mut equal = true;
    for (_, c) in pod::containers(pod) {
        let (asked, limit) = (requests(c), limits_of(c));
        nothing &= asked == Amount::default() && limit == Amount::default();
        equal &= limit.milli_cpu.is_some() && limit.memory.is_some() && asked == limit;
    }
    match (nothing, equal) {
        (true, _) => Qos::BestEffort,
        (false, true) => Qos::Guaranteed,
        (false, false) => Qos::Burstable,
    }
}

/// The class in the API's words.
pub(crate) fn qos_name(qos: Qos) -> &'static str {
    match qos {
        Qos::Guaranteed => "Guaranteed",
        Qos::Burstable => "Burstable",
        Qos::BestEffort => "BestEffort",
    }
}

fn shares(milli_cpu: Option<u64>) -> u64 {
    (milli_cpu.unwrap_or(0) * SHARES_PER_CPU / 1_000).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX)
}

fn quota(milli_cpu: Option<u64>) -> Option<i64> {
    let us = (milli_cpu? * CPU_PERIOD_US / 1_000).max(CPU_QUOTA_US_MIN);
    i64::try_from(us).ok()
}

/// What huge pages are called in resources: `hugepages-2Mi`.
pub(crate) const HUGE_PAGES: &str = "hugepages-";

/// Bytes of huge pages of a container, by the size of the pages.
fn pages_of(container: &Container) -> BTreeMap<u64, u64> {
    let limits = container.resources.iter().flat_map(|r| r.limits.iter().flatten());
    let bytes = |text: &str| Quantity::parse(text).ok().map(|q| q.value_ceil());
    limits.filter_map(|(name, n)| Some((bytes(name.strip_prefix(HUGE_PAGES)?)?, bytes(&n.0)?))).collect()
}

/// The same of a pod: of what runs together, or of one init container where that is more.
pub(crate) fn pages_of_pod(pod: &Pod) -> BTreeMap<u64, u64> {
    let (mut together, mut alone) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, u64>::new());
    for (part, container) in pod::containers(pod).filter(|(part, _)| *part != Part::Ephemeral) {
        for (size, bytes) in pages_of(container) {
            if part == Part::Init {
                let most = alone.entry(size).or_default();
                *most = bytes.max(*most);
            } else {
                let sum = together.entry(size).or_default();
                *sum = sum.saturating_add(bytes);
            }
        }
    }
    for (size, bytes) in alone {
        let most = together.entry(size).or_default();
        *most = bytes.max(*most);
    }
    together
}

/// The limits of a container's cgroup. What the pod names for itself bounds a container that names nothing.
pub(crate) fn of_container(pod: &Pod, container: &Container) -> Limits {
    let limit = limits_of(container).or(pod_level(pod).1);
    let quota = quota(limit.milli_cpu);
    let names = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let asked = match names.is_some_and(|r| r.contains_key("cpu")) {
        true => requests(container).milli_cpu,
        false => limit.milli_cpu,
    };
    Limits {
        cpu_shares: Some(shares(asked)),
        cpu_quota_us: quota,
        cpu_period_us: quota.map(|_| CPU_PERIOD_US),
        memory_bytes: limit.memory.and_then(|m| i64::try_from(m).ok()),
        pids: None,
        cpuset_cpus: None,
        huge_pages: Some(pages_of(container)),
    }
}

/// The limits of a pod's cgroup: the larger of what runs together and of any one init container.
pub(crate) fn of_pod(pod: &Pod, pids_max: Option<i64>) -> Limits {
    let limit = limit_of_pod(pod);
    let quota = quota(limit.milli_cpu);
    let (milli_cpu, _) = claim(pod);
    Limits {
        cpu_shares: Some(shares(Some(milli_cpu))),
        cpu_quota_us: quota,
        cpu_period_us: quota.map(|_| CPU_PERIOD_US),
        memory_bytes: limit.memory.and_then(|m| i64::try_from(m).ok()),
        pids: pids_max,
        cpuset_cpus: None,
        huge_pages: Some(pages_of_pod(pod)),
    }
}

/// The limits of all pods together: what the machine has, less what is kept for it. Memory only where it was measured; what an
/// operator gave is kept to by eviction, which ends whole pods and not what happens to ask last.
pub(crate) fn of_all(milli_cpu: u64, memory_bytes: Option<u64>) -> Limits {
    Limits {
        cpu_shares: Some(shares(Some(milli_cpu))),
        memory_bytes: memory_bytes.and_then(|m| i64::try_from(m).ok()),
        ..Limits::default()
    }
}

/// The same without a bound on CPU time.
pub(crate) fn without_quota(limits: Limits) -> Limits {
    Limits { cpu_quota_us: None, cpu_period_us: None, ..limits }
}

/// The limit of the whole pod: its own, else what its containers may use together if each is limited.
fn limit_of_pod(pod: &Pod) -> Amount {
    let all = |get: fn(Amount) -> Option<u64>| {
        pod::containers(pod).all(|(part, c)| part == Part::Ephemeral || get(limits_of(c)).is_some())
    };
    let sum = total(pod, limits_of);
    let sum = Amount {
        milli_cpu: sum.milli_cpu.filter(|_| all(|a| a.milli_cpu)),
        memory: sum.memory.filter(|_| all(|a| a.memory)),
    };
    let own = pod_level(pod).1.or(sum);
    let more = overhead(pod);
    Amount {
        milli_cpu: own.milli_cpu.map(|n| n.saturating_add(more.milli_cpu.unwrap_or(0))),
        memory: own.memory.map(|n| n.saturating_add(more.memory.unwrap_or(0))),
    }
}

/// CPU in thousandths that a container asks for.
pub(crate) fn milli_cpu_of(container: &Container) -> u64 {
    requests(container).milli_cpu.unwrap_or(0)
}

/// Bytes of memory that the whole pod may use, where it is limited.
pub(crate) fn memory_of_pod(pod: &Pod) -> Option<u64> {
    limit_of_pod(pod).memory
}

/// Limits under which both of two hold.
pub(crate) fn wider(a: &Limits, b: &Limits) -> Limits {
    fn most<T: Ord + Copy>(a: Option<T>, b: Option<T>) -> Option<T> {
        Some(a?.max(b?))
    }
    let quota = most(a.cpu_quota_us, b.cpu_quota_us);
    Limits {
        cpu_shares: most(a.cpu_shares, b.cpu_shares),
        cpu_quota_us: quota,
        cpu_period_us: quota.map(|_| CPU_PERIOD_US),
        memory_bytes: most(a.memory_bytes, b.memory_bytes),
        ..b.clone()
    }
}

fn total(pod: &Pod, of: fn(&Container) -> Amount) -> Amount {
    let one = |get: fn(Amount) -> Option<u64>| {
        let (mut beside, mut peak, mut main) = (0_u64, 0_u64, 0_u64);
        for (part, c) in pod::containers(pod) {
            let n = get(of(c)).unwrap_or(0);
            match part {
                Part::Sidecar => {
                    beside = beside.saturating_add(n);
                    peak = peak.max(beside);
                }
                Part::Init => peak = peak.max(beside.saturating_add(n)),
                Part::Main => main = main.saturating_add(n),
                Part::Ephemeral => {}
            }
        }
        Some(peak.max(beside.saturating_add(main))).filter(|n| *n > 0)
    };
    Amount { milli_cpu: one(|a| a.milli_cpu), memory: one(|a| a.memory) }
}

/// Which of two amounts of a resource is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// What is asked for.
    Requests,
    /// What may be used.
    Limits,
}

impl Side {
    fn of(self, resources: &ResourceRequirements) -> Option<&BTreeMap<String, Text>> {
        match self {
            Side::Requests => resources.requests.as_ref(),
            Side::Limits => resources.limits.as_ref(),
        }
    }
}

/// What a pod has of every resource that it names, by the formula of [`total`]. `own` is what it names for itself, which counts
/// before its containers' sums.
pub(crate) fn totals(pod: &Pod, own: &ResourceRequirements, side: Side) -> BTreeMap<String, Text> {
    type Sums = BTreeMap<String, Quantity>;
    let add = |to: &mut Sums, name: &str, n: &Quantity| {
        let sum = to.get(name).map_or_else(|| *n, |old| old.plus(n));
        to.insert(name.to_owned(), sum);
    };
    let raise = |to: &mut Sums, name: &str, n: Quantity| {
        if to.get(name).is_none_or(|old| old.nano() < n.nano()) {
            to.insert(name.to_owned(), n);
        }
    };
    let (mut beside, mut peak, mut sum) = (Sums::new(), Sums::new(), Sums::new());
    for (part, container) in pod::containers(pod) {
        for (name, text) in container.resources.as_ref().and_then(|r| side.of(r)).into_iter().flatten() {
            let Ok(n) = Quantity::parse(&text.0) else { continue };
            match part {
                Part::Main => add(&mut sum, name, &n),
                Part::Sidecar => {
                    add(&mut sum, name, &n);
                    add(&mut beside, name, &n);
                }
                Part::Init => {
                    let with = beside.get(name).map_or_else(|| n, |old| old.plus(&n));
                    raise(&mut peak, name, with);
                }
                Part::Ephemeral => {}
            }
        }
    }
    for (name, n) in peak {
        raise(&mut sum, &name, n);
    }
    let parsed = |map: Option<&BTreeMap<String, Text>>| -> Vec<(String, Quantity)> {
        let all = map.into_iter().flatten();
        all.filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
    };
    sum.extend(parsed(side.of(own)));
    for (name, n) in parsed(pod.spec.as_ref().and_then(|s| s.overhead.as_ref())) {
        // Without a limit there is none, whatever the runtime takes.
        if side == Side::Requests || sum.get(&name).is_some_and(|limit| !limit.is_zero()) {
            add(&mut sum, &name, &n);
        }
    }
    sum.into_iter().map(|(name, n)| (name, Text(n.to_string()))).collect()
}

/// CPU in thousandths and memory in bytes that a pod claims.
pub(crate) fn claim(pod: &Pod) -> (u64, u64) {
    let asked = pod_level(pod).0.or(total(pod, requests)).plus(overhead(pod));
    (asked.milli_cpu.unwrap_or(0), asked.memory.unwrap_or(0))
}

/// What the OOM killer adds to a container's badness.
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container, node_memory: u64) -> i32 {
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let asked = requests(container).memory.unwrap_or(0);
            let used = u128::from(asked) * 1000 / u128::from(node_memory.max(1));
            (1000 - i32::try_from(used).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn a_request_of_nothing_claims_nothing_whatever_the_limit() {
        let p = pod(
            json!([{"name": "c", "resources": {"requests": {"cpu": "0"}, "limits": {"cpu": "1", "memory": "1Gi"}}}]),
        );
        assert_eq!((claim(&p), qos(&p)), ((0, 1 << 30), Qos::Burstable));
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let full =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        let some = json!({"requests": {"cpu": "100m"}});
        for (containers, want) in [
            (json!([{"name": "a"}]), Qos::BestEffort),
            (json!([{"name": "a", "resources": full}]), Qos::Guaranteed),
            (json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]), Qos::Guaranteed),
            (json!([{"name": "a", "resources": full}, {"name": "b"}]), Qos::Burstable),
            (json!([{"name": "a", "resources": some}]), Qos::Burstable),
        ] {
            assert_eq!(qos(&pod(containers.clone())), want, "{containers}");
        }
    }

    #[test]
    fn cgroup_limits_follow_the_kubelets_formulas() {
        let p = pod(json!([
            {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
            {"name": "b"}]));
        let a = of_container(&p, pod::find(&p, "a").unwrap().1);
        assert_eq!((a.cpu_shares, a.cpu_quota_us, a.memory_bytes), (Some(256), Some(50_000), Some(64 << 20)));
        let b = of_container(&p, pod::find(&p, "b").unwrap().1);
        assert_eq!((b.cpu_shares, b.cpu_quota_us, b.memory_bytes), (Some(2), None, None));
        let whole = of_pod(&p, Some(100));
        assert_eq!(
            (whole.cpu_shares, whole.cpu_quota_us, whole.memory_bytes, whole.pids),
            (Some(256), None, None, Some(100))
        );
    }

    #[test]
    fn what_a_pod_names_for_itself_counts_before_its_containers_sums() {
        let p: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}},
            "overhead": {"cpu": "100m", "memory": "16Mi"},
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "300m"}}}, {"name": "b"}]}}))
        .unwrap();
        assert_eq!((qos(&p), claim(&p)), (Qos::Burstable, (1100, (1 << 30) + (16 << 20))));
        let whole = of_pod(&p, None);
        assert_eq!((whole.cpu_quota_us, whole.memory_bytes), (Some(210_000), Some((1 << 30) + (16 << 20))));
        assert_eq!(memory_of_pod(&p), Some((1 << 30) + (16 << 20)));
        let of = |name: &str| of_container(&p, pod::find(&p, name).unwrap().1);
        let (a, b) = (of("a"), of("b"));
        assert_eq!((a.cpu_shares, a.cpu_quota_us, a.memory_bytes), (Some(307), Some(200_000), Some(1 << 30)));
        assert_eq!(
            (b.cpu_shares, b.cpu_quota_us, b.memory_bytes),
            (Some(2048), Some(200_000), Some(1 << 30))
        );
    }

    #[test]
    fn huge_pages_are_counted_by_their_size() {
        let p: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "initContainers": [{"name": "i", "resources": {"limits": {"hugepages-1Gi": "1Gi", "hugepages-2Mi": "4Mi"}}}],
            "containers": [{"name": "a", "resources": {"limits": {"hugepages-2Mi": "4Mi", "memory": "1Mi"}}},
                {"name": "b", "resources": {"limits": {"hugepages-2Mi": "2Mi"}}}]}}))
        .unwrap();
        assert_eq!(pages_of_pod(&p), [(2 << 20, 6 << 20), (1 << 30, 1 << 30)].into());
        assert_eq!(
            of_container(&p, &p.spec.as_ref().unwrap().containers[1]).huge_pages,
            Some([(2 << 20, 2 << 20)].into())
        );
    }

    #[test]
    fn between_two_sizes_the_wider_holds() {
        let (a, b) = (
            Limits {
                cpu_shares: Some(100),
                cpu_quota_us: Some(5),
                memory_bytes: Some(10),
                ..Limits::default()
            },
            Limits { cpu_shares: Some(50), memory_bytes: Some(20), ..Limits::default() },
        );
        let w = wider(&a, &b);
        assert_eq!((w.cpu_shares, w.cpu_quota_us, w.memory_bytes), (Some(100), None, Some(20)));
    }

    #[test]
    fn an_init_container_counts_only_where_it_is_the_larger() {
        let p: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "1"}}}],
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "300m", "memory": "1Mi"}}}]}}))
        .unwrap();
        assert_eq!(claim(&p), (1100, 1 << 20));
    }
}
