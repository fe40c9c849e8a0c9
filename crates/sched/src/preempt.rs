//! DefaultPreemption: which pods of lower priority to evict, and where, so that a pod that fits nowhere fits.

use crate::frontier::{fits, reasons};
use crate::place::{company, each_verdict};
use crate::plugins::inter_pod_affinity;
use crate::snapshot::Without;
use crate::{NodeInfo, Placed, PodInfo, Reason, Room, Snapshot, Tried};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stoa_units::{AgentId, LabelSelector, NamespacedName, PortSet, Time};

/// Nodes on which evictions are tried out for a pod whose fate depends on other pods: each try counts those anew.
const COMPANY_NODES_LEN_MAX: usize = 100;

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// What to evict; nobody, where those that are going already make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preemption {
    /// Where the pod will fit then.
    pub node: AgentId,
    /// Which pods go, by name and uid.
    pub victims: Vec<(NamespacedName, String)>,
}

/// A budget of disruptions, which evictions should not exceed if there is another way.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Whose disruptions it counts; an empty selector is nobody's here.
    pub selector: LabelSelector,
    /// How many are allowed now.
    pub allowed: i32,
    /// Pods whose disruption is counted already, by name.
    pub disrupted: BTreeSet<String>,
}

/// The cheapest set of victims on one node: that breaks the fewest budgets, then the lowest highest priority, then the lowest
/// sum, then the fewest, then those that started last.
pub fn preempt(snapshot: &Snapshot, pod: &PodInfo, budgets: &[Budget]) -> Tried {
    if !pod.may_preempt {
        return Tried::NotEligible("not eligible due to preemptionPolicy=Never.");
    }
    let constrained = pod.is_constrained() || inter_pod_affinity::is_guarded_against(snapshot, pod);
    let nominated = snapshot.nomination(&pod.name);
    let mut waits = false;
    let mut rest: BTreeMap<Cow<'static, str>, usize> = BTreeMap::new();
    let mut candidates: Vec<(&NodeInfo, Room)> = Vec::new();
    each_verdict(snapshot, pod, |node, room, why| {
        let hopeless = why.is_empty() || why.iter().any(|r| !r.resolvable);
        if !hopeless && nominated == Some(&node.id) {
            let going = |p: &Placed| p.terminating && p.pod.priority < pod.priority;
            waits |= snapshot.pods_on(&node.id).any(going);
        }
        if hopeless || (constrained && candidates.len() >= COMPANY_NODES_LEN_MAX) {
            *rest.entry(NOT_HELPFUL.into()).or_default() += 1;
        } else {
            candidates.push((node, room.clone()));
        }
    });
    if waits {
        return Tried::NotEligible("not eligible due to a terminating pod on the nominated node.");
    }
    let mut best: Option<(Cost, Preemption)> = None;
    for (node, room) in candidates {
        let look = Look { snapshot, pod, node, budgets, constrained };
        match look.victims(room) {
            Ok((broken, victims)) => {
                let cost = cost(broken, &victims);
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    // Victims that are going already need no second eviction: their room comes by itself.
                    let victims = victims.iter().filter(|p| !p.terminating);
                    let victims = victims.map(|p| (p.pod.name.clone(), p.pod.uid.to_string())).collect();
                    best = Some((cost, Preemption { node: node.id.clone(), victims }));
                }
            }
            Err(why) => why.into_iter().for_each(|r| *rest.entry(r.text).or_default() += 1),
        }
    }
    best.map_or(Tried::Nowhere(rest), |(_, plan)| Tried::Found(plan))
}

type Cost = (usize, i32, i64, usize, Reverse<Time>);

fn cost(broken: usize, victims: &[&Placed]) -> Cost {
    let highest = victims.iter().map(|v| v.pod.priority).max().unwrap_or(i32::MIN);
    // Shifted so that more victims of negative priority are not cheaper than fewer.
    let sum = victims.iter().map(|v| i64::from(v.pod.priority) + i64::from(i32::MAX) + 1).sum();
    let foremost = victims.iter().filter(|v| v.pod.priority == highest);
    let earliest = foremost.map(|v| v.pod.started).min().unwrap_or(Time::EPOCH);
    (broken, highest, sum, victims.len(), Reverse(earliest))
}

/// One node on which evictions are tried out.
struct Look<'a> {
    snapshot: &'a Snapshot,
    pod: &'a PodInfo,
    node: &'a NodeInfo,
    budgets: &'a [Budget],
    /// Whether other pods matter for more than the room that they take.
    constrained: bool,
}

impl<'a> Look<'a> {
    /// Takes all pods of lower priority away, then puts back, those first whose eviction would break a budget and of these the
    /// most important first, whatever still fits. Returns how many budgets are broken, and by whom; or what speaks against
    /// the node even without them.
    fn victims(&self, mut room: Room) -> Result<(usize, Vec<&'a Placed>), Vec<Reason>> {
        let on = self.snapshot.pods_on(&self.node.id);
        let mut lower: Vec<&Placed> = on.filter(|p| p.pod.priority < self.pod.priority).collect();
        if lower.is_empty() {
            return Err(vec![Reason::fixed(NO_VICTIMS)]);
        }
        lower.sort_by_key(|p| (Reverse(p.pod.priority), p.pod.started));
        let mut without = Without::default();
        for p in &lower {
            take(&mut room, p);
            without.add(p);
        }
        let mut why = reasons(&self.pod.shape, self.node, &room);
        if why.is_empty() && self.constrained {
            why.extend(company(self.snapshot, self.pod, self.node, &without));
        }
        if !why.is_empty() {
            return Err(why);
        }
        let (breaking, others) = self.split(lower);
        let (mut broken, mut chosen) = (0, Vec::new());
        let all = breaking.into_iter().map(|p| (p, 1)).chain(others.into_iter().map(|p| (p, 0)));
        for (p, breaks) in all {
            let before = room.clone();
            room.used = room.used.plus(&amounts(p));
            room.ports = room.ports.union(&p.pod.shape.requests.ports);
            without.remove(p);
            let alone = || company(self.snapshot, self.pod, self.node, &without).is_none();
            if fits(&self.pod.shape, &room) && (!self.constrained || alone()) {
                continue;
            }
            room = before;
            without.add(p);
            broken += breaks;
            chosen.push(p);
        }
        Ok((broken, chosen))
    }

    /// Those whose eviction would break a budget, and the others.
    fn split(&self, pods: Vec<&'a Placed>) -> (Vec<&'a Placed>, Vec<&'a Placed>) {
        let mut left: Vec<i32> = self.budgets.iter().map(|b| b.allowed).collect();
        pods.into_iter().partition(|p| {
            let name = &p.pod.name;
            let mut breaks = false;
            for (budget, left) in self.budgets.iter().zip(&mut left) {
                let counts = !budget.selector.0.is_empty()
                    && budget.namespace == name.namespace
                    && !p.pod.labels.is_empty()
                    && budget.selector.matches(&p.pod.labels)
                    && !budget.disrupted.contains(&*name.name);
                if counts {
                    *left -= 1;
                    breaks |= *left < 0;
                }
            }
            breaks
        })
    }
}

fn amounts(p: &Placed) -> stoa_units::Resources {
    stoa_units::Resources { ports: PortSet::EMPTY, ..p.pod.shape.requests.clone() }
}

fn take(room: &mut Room, p: &Placed) {
    room.used = room.used.minus(&amounts(p));
    room.ports = room.ports.difference(&p.pod.shape.requests.ports);
}
