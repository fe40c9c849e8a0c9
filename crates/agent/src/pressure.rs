//! When a machine is short of something, and which pod then has to go. Pure: measures in, a condition or a victim out.

use crate::stats::{Disk, MachineUse};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use stoa_runtime::Qos;
use stoa_units::{Quantity, Time};
use stoa_wire::NodeCondition;

/// Pods of at least this priority are the cluster's own and are never evicted.
pub(crate) const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Memory.
    Memory,
    /// Bytes of the disk that pods and logs are on.
    Disk,
    /// Its inodes.
    Inodes,
    /// Bytes of the disk that images are on: the same one.
    ImageDisk,
    /// Its inodes.
    ImageInodes,
    /// Task ids.
    Tasks,
}

const SIGNALS: [(Signal, &str); 6] = [
    (Signal::Memory, "memory.available"),
    (Signal::Disk, "nodefs.available"),
    (Signal::Inodes, "nodefs.inodesFree"),
    (Signal::ImageDisk, "imagefs.available"),
    (Signal::ImageInodes, "imagefs.inodesFree"),
    (Signal::Tasks, "pid.available"),
];

impl Signal {
    /// A kubelet's name of it.
    pub fn as_str(self) -> &'static str {
        SIGNALS.iter().find(|(s, _)| *s == self).map_or("", |(_, name)| name)
    }

    /// The resource that a message says the node is low on.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Signal::Memory => "memory",
            Signal::Disk | Signal::ImageDisk => "ephemeral-storage",
            Signal::Inodes | Signal::ImageInodes => "inodes",
            Signal::Tasks => "pids",
        }
    }

    /// Whether it is no amount of bytes, and nobody asks for any of it.
    pub(crate) fn is_counted(self) -> bool {
        matches!(self, Signal::Inodes | Signal::ImageInodes | Signal::Tasks)
    }

    fn condition(self) -> Condition {
        match self {
            Signal::Memory => Condition::Memory,
            Signal::Disk | Signal::Inodes | Signal::ImageDisk | Signal::ImageInodes => Condition::Disk,
            Signal::Tasks => Condition::Tasks,
        }
    }
}

/// A condition of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Condition {
    Memory,
    Disk,
    Tasks,
}

/// How much must be left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many bytes, inodes or tasks.
    Absolute(u64),
    /// So much of the whole.
    Percent(f64),
}

impl Amount {
    fn of(self, capacity: u64) -> u64 {
        match self {
            Amount::Absolute(n) => n,
            Amount::Percent(p) => (capacity as f64 * p / 100.0) as u64,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Absolute(n) => f.write_str(&Quantity::from_bytes(*n).to_string()),
            Amount::Percent(p) => write!(f, "{p}%"),
        }
    }
}

/// Below this, the node is under pressure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// How much.
    pub value: Amount,
    /// For how long it must have been crossed before a pod goes; no time for a hard one.
    pub grace: Duration,
}

/// Reads soft thresholds (`memory.available<1Gi`) and their grace periods (`memory.available=1m30s`), of which each needs
/// one.
pub fn parse_soft_thresholds(text: &str, graces: &str) -> Result<Vec<Threshold>, String> {
    let mut soft = parse_thresholds(text)?;
    let mut given = BTreeMap::new();
    for part in graces.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, period) =
            part.split_once('=').ok_or_else(|| format!("grace period {part:?} has no `=`"))?;
        let period = parse_duration(period.trim());
        given.insert(name.trim(), period.ok_or_else(|| format!("grace period {part:?} is no time"))?);
    }
    for threshold in &mut soft {
        let name = threshold.signal.as_str();
        threshold.grace = given.remove(name).filter(|grace| !grace.is_zero()).ok_or_else(|| {
            format!("grace period must be specified for the soft eviction threshold {name}")
        })?;
    }
    match given.keys().next() {
        Some(name) => Err(format!("grace period for {name}, which has no soft threshold")),
        None => Ok(soft),
    }
}

/// `1h`, `1m30s`, `500ms`: whole numbers with the units of Go's durations.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_len = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let ms = match &rest[digits..digits + unit_len] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        whole = whole.checked_add(Duration::from_millis(number.checked_mul(ms)?))?;
        rest = &rest[digits + unit_len..];
    }
    (!text.is_empty()).then_some(whole)
}

/// Reads thresholds as a kubelet's flag has them: `memory.available<100Mi,nodefs.available<10%`.
pub fn parse_thresholds(text: &str) -> Result<Vec<Threshold>, String> {
    let mut all = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once('<').ok_or_else(|| format!("threshold {part:?} has no `<`"))?;
        let known = SIGNALS.iter().find(|(_, n)| *n == name.trim());
        let Some((signal, _)) = known else {
            let names: Vec<&str> = SIGNALS.iter().map(|(_, n)| *n).collect();
            return Err(format!("threshold {part:?}: the signals are {}", names.join(", ")));
        };
        let value = value.trim();
        // As a kubelet reads them: none at all.
        if matches!(value, "0%" | "100%") {
            continue;
        }
        let amount = match value.strip_suffix('%') {
            Some(p) => p.parse().ok().filter(|p| (0.0..=100.0).contains(p)).map(Amount::Percent),
            None => {
                let given = Quantity::parse(value).ok();
                if given.is_some_and(|q| q.is_zero() || q.is_negative()) {
                    return Err(format!("eviction threshold {} must be positive: {value}", name.trim()));
                }
                given.map(|q| Amount::Absolute(q.value_ceil()))
            }
        };
        all.insert(*signal, amount.ok_or_else(|| format!("threshold {part:?} has no amount"))?);
    }
    Ok(all.into_iter().map(|(signal, value)| Threshold { signal, value, grace: Duration::ZERO }).collect())
}

/// What was measured: left, and whole.
pub(crate) type Measures = BTreeMap<Signal, (u64, u64)>;

/// The measures of a machine whose pods may use `allotted` bytes of memory in all and use `used` of them.
pub(crate) fn measure(machine: &MachineUse, disk: &Disk, allotted: u64, used: u64) -> Measures {
    let (whole, left) = if allotted > 0 && allotted < machine.memory_total {
        (allotted, machine.memory_available.min(allotted.saturating_sub(used)))
    } else {
        (machine.memory_total, machine.memory_available)
    };
    [
        (Signal::Memory, (left, whole)),
        (Signal::Disk, (disk.available, disk.total)),
        (Signal::ImageDisk, (disk.available, disk.total)),
        (Signal::Inodes, (disk.inodes_free, disk.inodes)),
        (Signal::ImageInodes, (disk.inodes_free, disk.inodes)),
        (Signal::Tasks, (machine.tasks_max.saturating_sub(machine.tasks), machine.tasks_max)),
    ]
    .into_iter()
    // Some file systems count no inodes; what has no whole cannot run short.
    .filter(|(_, (_, whole))| *whole > 0)
    .collect()
}

/// A threshold that was crossed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Crossed {
    pub(crate) threshold: Threshold,
    pub(crate) left: u64,
    pub(crate) wanted: u64,
}

/// The thresholds that are crossed now, the gravest first: memory kills soonest.
pub(crate) fn crossed(thresholds: &[Threshold], measures: &Measures) -> Vec<Crossed> {
    let mut all: Vec<Crossed> = thresholds
        .iter()
        .filter_map(|t| {
            let (left, whole) = *measures.get(&t.signal)?;
            let wanted = t.value.of(whole);
            (left < wanted).then_some(Crossed { threshold: *t, left, wanted })
        })
        .collect();
    all.sort_by_key(|c| c.threshold.signal);
    all
}

/// Since when each threshold has been crossed, so that a soft one is acted on only when its time is over.
#[derive(Default)]
pub(crate) struct Since(BTreeMap<(Signal, Duration), Time>);

impl Since {
    /// Of what is crossed now, what has been crossed for as long as it may.
    pub(crate) fn due(&mut self, crossed: &[Crossed], now: Time) -> Vec<Crossed> {
        let key = |c: &Crossed| (c.threshold.signal, c.threshold.grace);
        self.0.retain(|k, _| crossed.iter().any(|c| key(c) == *k));
        let due = |c: &&Crossed| now.since(*self.0.entry(key(c)).or_insert(now)) >= c.threshold.grace;
        crossed.iter().filter(due).copied().collect()
    }
}

/// Which conditions hold: as long as a threshold is crossed and a while after, so that pods do not come and go.
#[derive(Default)]
pub(crate) struct Conditions {
    last: BTreeMap<Condition, Time>,
}

impl Conditions {
    /// Notes what is crossed now.
    pub(crate) fn note(&mut self, crossed: &[Crossed], now: Time) {
        for c in crossed {
            self.last.insert(c.threshold.signal.condition(), now);
        }
    }

    pub(crate) fn holds(&self, condition: Condition, now: Time, hold: Duration) -> bool {
        self.last.get(&condition).is_some_and(|at| *at == now || now.since(*at) < hold)
    }

    /// As the node's status tells them.
    pub(crate) fn render(&self, now: Time, hold: Duration) -> Vec<NodeCondition> {
        [
            (
                Condition::Memory,
                "MemoryPressure",
                ["KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
                ["KubeletHasInsufficientMemory", "kubelet has insufficient memory available"],
            ),
            (
                Condition::Disk,
                "DiskPressure",
                ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
                ["KubeletHasDiskPressure", "kubelet has disk pressure"],
            ),
            (
                Condition::Tasks,
                "PIDPressure",
                ["KubeletHasSufficientPID", "kubelet has sufficient PID available"],
                ["KubeletHasInsufficientPID", "kubelet has insufficient PID available"],
            ),
        ]
        .map(|(condition, kind, fine, short)| {
            let holds = self.holds(condition, now, hold);
            let [reason, message] = if holds { short } else { fine };
            NodeCondition {
                kind: kind.to_owned(),
                status: if holds { "True" } else { "False" }.to_owned(),
                reason: reason.to_owned(),
                message: message.to_owned(),
            }
        })
        .into()
    }
}

/// A pod that might go.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) uid: String,
    pub(crate) priority: i32,
    /// What it uses of the thing that is short, …
    pub(crate) used: u64,
    /// … and what it asked for.
    pub(crate) requested: u64,
    /// The pod, where it names for itself what it asks for of the thing.
    pub(crate) own: Option<Share>,
    /// The containers that may name it for themselves.
    pub(crate) containers: Vec<Share>,
}

/// What a pod or one of its containers uses, and what it asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) name: String,
    pub(crate) used: u64,
    pub(crate) requested: Quantity,
}

/// Whether a new pod is turned away while these conditions hold, in a kubelet's words: `The node had condition: …`. Short of
/// memory alone, it is only who asks for nothing, and does not tolerate that.
pub(crate) fn refuse(shown: &[NodeCondition], qos: Qos, tolerates_memory_pressure: bool) -> Option<String> {
    let held: Vec<&str> = shown.iter().filter(|c| c.status == "True").map(|c| c.kind.as_str()).collect();
    let is_welcome = match &held[..] {
        [] => true,
        ["MemoryPressure"] => qos != Qos::BestEffort || tolerates_memory_pressure,
        _ => false,
    };
    (!is_welcome).then(|| format!("The node had condition: [{}]. ", held.join(" ")))
}

/// Who goes first: whoever uses more than asked for, then the less important, then who uses most beyond.
pub(crate) fn rank(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.retain(|c| c.priority < CRITICAL_PRIORITY);
    candidates.sort_by(|a, b| {
        let exceeds = |c: &Candidate| c.used > c.requested;
        let beyond = |c: &Candidate| i128::from(c.used) - i128::from(c.requested);
        (exceeds(b), a.priority, beyond(b), &a.uid).cmp(&(exceeds(a), b.priority, beyond(a), &b.uid))
    });
    candidates
}

/// What the pod's status says of it.
pub(crate) fn words(crossed: &Crossed, victim: &Candidate) -> String {
    let signal = crossed.threshold.signal;
    let resource = signal.resource();
    let is_counted = signal.is_counted();
    let left = match is_counted {
        true => Quantity::from_value(i64::try_from(crossed.left).unwrap_or(i64::MAX)),
        false => Quantity::from_bytes(crossed.left),
    };
    // A part of a whole is told as bytes are, whatever it is a part of; an amount as it was given.
    let wanted = match crossed.threshold.value {
        Amount::Absolute(n) if is_counted => Quantity::from_value(i64::try_from(n).unwrap_or(i64::MAX)),
        _ => Quantity::from_bytes(crossed.wanted),
    };
    let mut out = format!(
        "The node was low on resource: {resource}. Threshold quantity: {wanted}, available: {left}. "
    );
    let mut blame = |kind: &str, share: &Share| {
        let Share { name, used, requested } = share;
        let used = Quantity::from_bytes(*used);
        out.push_str(&format!(
            "{kind} {name} was using {used}, request is {requested}, has larger consumption of {resource}. "
        ));
    };
    if let Some(own) = &victim.own {
        blame("Pod", own);
    }
    offenders(signal, victim).for_each(|c| blame("Container", c));
    out
}

/// The containers that use more than they asked for.
fn offenders(signal: Signal, victim: &Candidate) -> impl Iterator<Item = &Share> {
    let of_amount = victim.containers.iter().filter(move |_| !signal.is_counted());
    of_amount.filter(|c| c.used > c.requested.value_ceil())
}

/// What the event of it tells programs.
pub(crate) fn notes(signal: Signal, victim: &Candidate) -> BTreeMap<String, String> {
    let used = |share: &Share| Quantity::from_bytes(share.used).to_string();
    let names: Vec<&str> = offenders(signal, victim).map(|c| c.name.as_str()).collect();
    let usage: Vec<String> = offenders(signal, victim).map(used).collect();
    let mut notes = vec![
        ("offending_containers", names.join(",")),
        ("offending_containers_usage", usage.join(",")),
        ("starved_resource", signal.resource().to_owned()),
    ];
    if let Some(own) = &victim.own {
        notes.extend([("offending_pod", own.name.clone()), ("offending_pod_usage", used(own))]);
    }
    notes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::EPOCH.plus(Duration::from_secs(s))
    }

    #[test]
    fn thresholds_are_read_as_a_kubelets_flag_has_them() {
        let all = parse_thresholds("memory.available<100Mi, nodefs.available<10%").unwrap();
        assert_eq!(
            all,
            [
                Threshold {
                    signal: Signal::Memory,
                    value: Amount::Absolute(100 << 20),
                    grace: Duration::ZERO
                },
                Threshold { signal: Signal::Disk, value: Amount::Percent(10.0), grace: Duration::ZERO },
            ]
        );
        for bad in [
            "memory.available",
            "cpu.available<1",
            "nodefs.available<x",
            "nodefs.available<101%",
            "pid.available<0",
        ] {
            assert!(parse_thresholds(bad).is_err(), "{bad}");
        }
        assert!(parse_thresholds("memory.available<0%,imagefs.inodesFree<100%").unwrap().is_empty());
        assert!(parse_thresholds("").unwrap().is_empty());
    }

    #[test]
    fn a_soft_threshold_has_a_grace_period_and_is_acted_on_when_it_is_over() {
        let soft = parse_soft_thresholds("memory.available<300", "memory.available=1m30s").unwrap();
        assert_eq!(soft[0].grace, Duration::from_secs(90));
        for (text, graces) in [
            ("memory.available<300", ""),
            ("memory.available<300", "memory.available=0s"),
            ("memory.available<300", "memory.available=soon"),
            ("memory.available<300", "memory.available=1m,pid.available=1m"),
        ] {
            assert!(parse_soft_thresholds(text, graces).is_err(), "{graces}");
        }
        let all: Vec<Threshold> =
            soft.into_iter().chain(parse_thresholds("memory.available<100").unwrap()).collect();
        let mut since = Since::default();
        let mut due = |left: u64, now: u64| {
            let found = crossed(&all, &[(Signal::Memory, (left, 1_000))].into());
            since.due(&found, at(now)).iter().map(|c| c.wanted).collect::<Vec<_>>()
        };
        assert!(due(200, 0).is_empty() && due(200, 89).is_empty());
        assert_eq!(due(200, 90), [300]);
        assert!(due(400, 91).is_empty() && due(200, 92).is_empty(), "relief begins it anew");
        assert_eq!(due(50, 93), [100], "a hard one does not wait");
    }

    #[test]
    fn pods_may_use_what_the_machine_was_told_to_give_and_no_more() {
        let machine = MachineUse {
            memory_total: 1_000,
            memory_available: 900,
            tasks: 1,
            tasks_max: 10,
            ..MachineUse::default()
        };
        let left = |allotted, used| measure(&machine, &Disk::default(), allotted, used)[&Signal::Memory];
        assert_eq!(left(0, 100), (900, 1_000));
        assert_eq!(left(500, 450), (50, 500));
        assert_eq!(left(500, 600), (0, 500));
        assert_eq!(left(2_000, 100), (900, 1_000));
    }

    #[test]
    fn a_condition_stays_a_while_after_its_cause() {
        let thresholds = parse_thresholds("memory.available<100,nodefs.available<10%").unwrap();
        let measures: Measures = [(Signal::Memory, (50, 1_000)), (Signal::Disk, (200, 1_000))].into();
        let found = crossed(&thresholds, &measures);
        assert_eq!(found.len(), 1);
        let mut conditions = Conditions::default();
        conditions.note(&found, at(10));
        let hold = Duration::from_secs(300);
        let status = |now| conditions.render(now, hold).iter().map(|c| c.status.clone()).collect::<Vec<_>>();
        assert_eq!(status(at(10)), ["True", "False", "False"]);
        assert_eq!(status(at(309)), ["True", "False", "False"]);
        assert_eq!(status(at(310)), ["False", "False", "False"]);
        assert!(conditions.holds(Condition::Memory, at(10), Duration::ZERO), "also where nothing is held");
    }

    #[test]
    fn a_machine_in_want_takes_no_pod_that_would_be_the_first_to_go() {
        let holding = |kinds: &[&str]| -> Vec<NodeCondition> {
            let mut all = Conditions::default().render(at(0), Duration::ZERO);
            for c in all.iter_mut().filter(|c| kinds.contains(&c.kind.as_str())) {
                c.status = "True".to_owned();
            }
            all
        };
        let said = |kinds: &[&str], qos, tolerates| refuse(&holding(kinds), qos, tolerates);
        assert_eq!(said(&[], Qos::BestEffort, false), None);
        let words = Some("The node had condition: [MemoryPressure]. ".to_owned());
        assert_eq!(said(&["MemoryPressure"], Qos::BestEffort, false), words);
        assert_eq!(said(&["MemoryPressure"], Qos::BestEffort, true), None);
        assert_eq!(said(&["MemoryPressure"], Qos::Burstable, false), None);
        let words = Some("The node had condition: [MemoryPressure DiskPressure]. ".to_owned());
        assert_eq!(said(&["MemoryPressure", "DiskPressure"], Qos::Guaranteed, true), words);
    }

    #[test]
    fn who_exceeds_what_it_asked_for_goes_first_and_the_clusters_own_never() {
        let c = |uid: &str, priority, used, requested| Candidate {
            uid: uid.into(),
            priority,
            used,
            requested,
            ..Candidate::default()
        };
        let order: Vec<String> = rank(vec![
            c("guaranteed", 0, 100, 100),
            c("important-greedy", 10, 900, 100),
            c("best-effort", 0, 50, 0),
            c("greedy", 0, 300, 100),
            c("critical", CRITICAL_PRIORITY, 9_000, 0),
            c("important-modest", 10, 10, 100),
        ])
        .into_iter()
        .map(|c| c.uid)
        .collect();
        assert_eq!(order, ["greedy", "best-effort", "important-greedy", "guaranteed", "important-modest"]);
    }

    #[test]
    fn the_words_are_a_kubelets() {
        let crossed = Crossed {
            threshold: parse_thresholds("memory.available<100Mi").unwrap()[0],
            left: 20 << 20,
            wanted: 100 << 20,
        };
        let share = |name: &str, used, requested: &str| Share {
            name: name.to_owned(),
            used,
            requested: Quantity::parse(requested).unwrap(),
        };
        let mut victim = Candidate {
            containers: vec![share("c", 400 << 20, "0"), share("d", 1, "2"), share("e", 9 << 20, "1M")],
            ..Candidate::default()
        };
        assert_eq!(
            words(&crossed, &victim),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 20Mi. Container c was using 400Mi, request is 0, has larger consumption of memory. Container e was using 9Mi, request is 1M, has larger consumption of memory. "
        );
        let told = |signal, victim: &Candidate| notes(signal, victim).into_values().collect::<Vec<_>>();
        assert_eq!(told(Signal::Memory, &victim), ["c,e", "400Mi,9Mi", "memory"]);
        assert_eq!(told(Signal::ImageInodes, &victim), ["", "", "inodes"]);
        victim.own = Some(share("p", 1 << 20, "2Mi"));
        victim.containers.truncate(1);
        assert_eq!(told(Signal::Memory, &victim), ["c", "400Mi", "p", "1Mi", "memory"]);
        assert_eq!(
            words(&crossed, &victim),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 20Mi. Pod p was using 1Mi, request is 2Mi, has larger consumption of memory. Container c was using 400Mi, request is 0, has larger consumption of memory. "
        );
        victim.own = None;
        let inodes = |text: &str, wanted| Crossed {
            threshold: parse_thresholds(text).unwrap()[0],
            left: 123_000,
            wanted,
        };
        assert_eq!(
            words(&inodes("nodefs.inodesFree<5%", 327_680), &victim),
            "The node was low on resource: inodes. Threshold quantity: 320Ki, available: 123k. "
        );
        assert_eq!(
            words(&inodes("nodefs.inodesFree<327680", 327_680), &victim),
            "The node was low on resource: inodes. Threshold quantity: 327680, available: 123k. "
        );
    }
}
