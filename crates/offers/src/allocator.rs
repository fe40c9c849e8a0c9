//! The allocator: frameworks' wishes and filters beside the role tree, and the plan that follows from them.

use crate::constraint::{Constraints, Facts};
use crate::filter::{Filter, Filters, refuse_duration};
use crate::parking::Parking;
use crate::quota::{self, Quota};
use crate::tree::{Hunger, Index, Tree};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use stoa_ledger::{Holder, Ledger, PoolKind, Split};
use stoa_mesos::Mark;
use stoa_units::{AgentId, FrameworkId, OfferId, Resources, Time};

/// Names under which agents have GPUs.
const GPU_NAMES: [&str; 2] = ["gpus", "nvidia.com/gpu"];

/// How the allocator behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often a plan is made at least, if something has changed. No filter expires before that.
    pub interval: Duration,
    /// An offer has at least one of these, unless the framework says otherwise.
    pub min_allocatable: Vec<Resources>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            interval: Duration::from_secs(1),
            min_allocatable: vec![
                Resources { milli_cpu: 10, ..Default::default() },
                Resources { memory_bytes: 32 << 20, ..Default::default() },
            ],
        }
    }
}

/// What a framework wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Its roles.
    pub roles: BTreeSet<String>,
    /// Those of them that want no offers for now.
    pub suppressed: BTreeSet<String>,
    /// Whether it can handle agents with GPUs.
    pub takes_gpus: bool,
    /// Whether it can handle stacked reservations.
    pub takes_refined: bool,
    /// Whether it can handle shared volumes.
    pub takes_shared: bool,
    /// Whether it can handle resources that may be taken back.
    pub takes_revocable: bool,
    /// Whether it can handle agents of other regions.
    pub takes_remote: bool,
    /// Which agents it wants offers of.
    pub constraints: Constraints,
    /// Per role, the least an offer must have, instead of the allocator's own.
    pub min_allocatable: BTreeMap<String, Vec<Resources>>,
}

/// A framework gets an agent's free remainder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Arc<str>,
    /// Of which agent.
    pub agent: AgentId,
    /// How much.
    pub resources: Resources,
    /// What of it is drawn from which pools of the agent, and which volumes are offered beside it.
    pub draws: Vec<(Arc<str>, Resources)>,
}

impl Grant {
    /// The grant as a claim.
    pub fn split(&self) -> Split {
        Split { amount: self.resources.clone(), draws: self.draws.clone() }
    }
}

#[derive(Clone, Debug)]
struct Leaf {
    framework: FrameworkId,
    role: Arc<str>,
    /// Grows when its filters are cleared.
    epoch: u64,
}

#[derive(Clone, Debug, Default)]
struct Framework {
    wants: Subscription,
    is_connected: bool,
}

#[derive(Clone, Debug, Default)]
struct Page {
    filters: HashMap<Index, Filters>,
    /// Nothing is offered before, so that whoever the offers made room for gets it.
    held_until: Option<Time>,
}

/// In which round of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Roles whose guarantee is not met.
    Guarantees,
    /// Everybody.
    Everybody,
}

/// Who is offered what.
#[derive(Clone, Debug)]
pub struct Allocator {
    options: Options,
    tree: Tree,
    frameworks: HashMap<FrameworkId, Framework>,
    leaves: HashMap<Index, Leaf>,
    index: HashMap<FrameworkId, BTreeMap<Arc<str>, Index>>,
    charges: HashMap<Holder, (Index, Resources)>,
    pages: HashMap<AgentId, Page>,
    /// When filters and holds end.
    endings: BinaryHeap<Reverse<(Time, AgentId)>>,
    candidates: HashSet<AgentId>,
    /// Somebody became hungry: every agent is a candidate.
    is_all: bool,
    /// The ledger's generation up to which changes were seen.
    seen: Option<u64>,
    /// Roles with something allocated at the last look, to notice those that have nothing any more.
    charged_roles: HashSet<Arc<str>>,
    epochs: u64,
    quotas: BTreeMap<Arc<str>, Quota>,
    facts: HashMap<AgentId, Facts>,
    /// What pools' names mean.
    marks: HashMap<Arc<str>, Mark>,
    /// The last plan counted grants in the roles' accounts, which the ledger may not have followed.
    is_planned: bool,
    /// How many frameworks say themselves what the least is that an offer must have.
    own_minima: usize,
}

impl Allocator {
    /// Nobody yet.
    pub fn new(options: Options) -> Allocator {
        Allocator {
            options,
            tree: Tree::default(),
            frameworks: HashMap::new(),
            leaves: HashMap::new(),
            index: HashMap::new(),
            charges: HashMap::new(),
            pages: HashMap::new(),
            endings: BinaryHeap::new(),
            candidates: HashSet::new(),
            is_all: true,
            seen: None,
            charged_roles: HashSet::new(),
            epochs: 0,
            quotas: BTreeMap::new(),
            facts: HashMap::new(),
            marks: HashMap::new(),
            is_planned: false,
            own_minima: 0,
        }
    }

    // ---- roles and frameworks

    /// Sets a role's weight; anything not above zero is ignored.
    pub fn set_weight(&mut self, role: &str, weight: f64) {
        if weight.is_finite() && weight > 0.0 {
            self.tree.set_weight(role, weight);
        }
    }

    /// Sets a role's quota, or ends it.
    pub fn set_quota(&mut self, role: &str, quota: Option<Quota>) {
        match quota.filter(|q| *q != Quota::default()) {
            Some(quota) => drop(self.quotas.insert(role.into(), quota)),
            None => drop(self.quotas.remove(role)),
        }
        self.is_all = true;
    }

    /// Every role that has quota.
    pub fn quotas(&self) -> &BTreeMap<Arc<str>, Quota> {
        &self.quotas
    }

    /// Says what is known of an agent; `None` forgets it.
    pub fn set_facts(&mut self, agent: &AgentId, facts: Option<Facts>) {
        if self.facts.get(agent) == facts.as_ref() {
            return;
        }
        match facts {
            Some(facts) => drop(self.facts.insert(agent.clone(), facts)),
            None => drop(self.facts.remove(agent)),
        }
        self.candidates.insert(agent.clone());
    }

    /// A role's dominant share over its weight.
    pub fn share(&self, role: &str) -> f64 {
        self.tree.share_of_role(role)
    }

    /// Adds a framework, or changes what it wants. Whether it is connected is said by [`Allocator::set_connected`].
    pub fn set_framework(&mut self, id: &FrameworkId, wants: Subscription) {
        for role in &wants.roles {
            self.leaf(id, role);
        }
        let has_own = |f: &Framework| usize::from(!f.wants.min_allocatable.is_empty());
        let framework = self.frameworks.entry(id.clone()).or_default();
        self.own_minima -= has_own(framework);
        framework.wants = wants;
        self.own_minima += has_own(framework);
        self.refresh_hunger(id);
    }

    /// Says whether a framework can be sent offers.
    pub fn set_connected(&mut self, id: &FrameworkId, is_connected: bool) {
        if let Some(f) = self.frameworks.get_mut(id) {
            f.is_connected = is_connected;
        }
        self.refresh_hunger(id);
    }

    /// Forgets a framework. Its charges go with it.
    pub fn remove_framework(&mut self, id: &FrameworkId) {
        let gone = self.frameworks.remove(id);
        self.own_minima -= usize::from(gone.is_some_and(|f| !f.wants.min_allocatable.is_empty()));
        for leaf in self.index.remove(id).into_iter().flat_map(BTreeMap::into_values) {
            self.leaves.remove(&leaf);
            self.tree.remove_leaf(leaf);
            self.charges.retain(|_, (l, _)| *l != leaf);
            for page in self.pages.values_mut() {
                page.filters.remove(&leaf);
            }
        }
    }

    /// Wants no offers in these roles; none named means all. Offers already made stay.
    pub fn suppress(&mut self, id: &FrameworkId, roles: &[String]) {
        if let Some(f) = self.frameworks.get_mut(id) {
            let named: Vec<String> = named_or_all(roles, &f.wants.roles);
            f.wants.suppressed.extend(named);
        }
        self.refresh_hunger(id);
    }

    /// Wants offers again in these roles, none named meaning all, and no longer refuses what it refused there.
    pub fn revive(&mut self, id: &FrameworkId, roles: &[String]) {
        let Some(f) = self.frameworks.get_mut(id) else { return };
        let named = named_or_all(roles, &f.wants.roles);
        for role in &named {
            f.wants.suppressed.remove(role);
            self.epochs += 1;
            let leaf =
                self.index.get(id).and_then(|m| m.get(role.as_str())).and_then(|l| self.leaves.get_mut(l));
            if let Some(leaf) = leaf {
                leaf.epoch = self.epochs;
            }
        }
        self.refresh_hunger(id);
        self.is_all = true;
    }

    /// The roles that a framework suppresses.
    pub fn suppressed(&self, id: &FrameworkId) -> Option<&BTreeSet<String>> {
        self.frameworks.get(id).map(|f| &f.wants.suppressed)
    }

    fn leaf(&mut self, id: &FrameworkId, role: &str) -> Index {
        if let Some(leaf) = self.index.get(id).and_then(|m| m.get(role)) {
            return *leaf;
        }
        let leaf = self.tree.add_leaf(role, id.as_str());
        let role: Arc<str> = role.into();
        self.epochs += 1;
        self.leaves.insert(leaf, Leaf { framework: id.clone(), role: role.clone(), epoch: self.epochs });
        self.index.entry(id.clone()).or_default().insert(role, leaf);
        leaf
    }

    fn refresh_hunger(&mut self, id: &FrameworkId) {
        let Some(f) = self.frameworks.get(id) else { return };
        for (role, leaf) in self.index.get(id).into_iter().flatten() {
            let role: &str = role;
            let wants = f.is_connected && f.wants.roles.contains(role) && !f.wants.suppressed.contains(role);
            self.is_all |= wants && !self.tree.is_hungry(*leaf);
            self.tree.set_hungry(*leaf, if wants { Hunger::Hungry } else { Hunger::Sated });
        }
    }

    // ---- accounts

    /// Books what a holder has to a framework in a role. The same again changes nothing, another amount replaces it.
    pub fn charge(&mut self, holder: Holder, id: &FrameworkId, role: &str, amount: &Resources) {
        let leaf = self.leaf(id, role);
        let amount = scalars(amount);
        if self.charges.get(&holder).is_some_and(|c| *c == (leaf, amount.clone())) {
            return;
        }
        self.discharge(&holder);
        self.tree.charge_leaf(leaf, &amount);
        self.charges.insert(holder, (leaf, amount));
    }

    /// Ends a booking.
    pub fn discharge(&mut self, holder: &Holder) {
        if let Some((leaf, amount)) = self.charges.remove(holder) {
            self.tree.discharge_leaf(leaf, &amount);
        }
    }

    // ---- filters

    /// Refuses resources of an agent. Returns until when.
    pub fn decline(
        &mut self,
        id: &FrameworkId,
        role: &str,
        agent: &AgentId,
        refused: &Split,
        refuse_seconds: Option<f64>,
        now: Time,
    ) -> Option<Time> {
        let leaf = *self.index.get(id)?.get(role)?;
        let epoch = self.leaves.get(&leaf)?.epoch;
        if refused.is_empty() {
            return None;
        }
        let Some(refuse) = refuse_duration(refuse_seconds) else {
            self.candidates.insert(agent.clone());
            return None;
        };
        let expires = now.plus(refuse.max(self.options.interval));
        let filter = Filter { refused: refused.clone(), expires, epoch };
        self.pages.entry(agent.clone()).or_default().filters.entry(leaf).or_default().add(filter, now);
        self.endings.push(Reverse((expires, agent.clone())));
        Some(expires)
    }

    /// Offers nothing of an agent until then: room was made on it for somebody else.
    pub fn hold(&mut self, agent: &AgentId, until: Time) {
        let page = self.pages.entry(agent.clone()).or_default();
        page.held_until = Some(page.held_until.map_or(until, |t| t.max(until)));
        self.endings.push(Reverse((until, agent.clone())));
    }

    /// When the next filter or hold ends: then a plan may differ without any other change.
    pub fn next_ending(&self) -> Option<Time> {
        self.endings.peek().map(|Reverse((t, _))| *t)
    }

    fn end(&mut self, now: Time) {
        while let Some(Reverse((t, _))) = self.endings.peek() {
            if *t > now {
                break;
            }
            let Some(Reverse((_, agent))) = self.endings.pop() else { break };
            if let Some(page) = self.pages.get_mut(&agent) {
                page.filters.retain(|_, f| !f.expire(now));
                page.held_until = page.held_until.filter(|t| *t > now);
                if page.filters.is_empty() && page.held_until.is_none() {
                    self.pages.remove(&agent);
                }
            }
            self.candidates.insert(agent);
        }
    }

    // ---- plans

    /// Takes over what the ledger says since the last look: changed agents, the total, what each role holds.
    fn look(&mut self, ledger: &Ledger) {
        let generation = ledger.generation();
        if self.seen == Some(generation) && !self.is_planned {
            return;
        }
        self.is_planned = false;
        match self.seen.and_then(|s| ledger.changes_since(s)) {
            Some(changed) => self.candidates.extend(changed),
            None => self.is_all = true,
        }
        self.seen = Some(generation);
        self.tree.set_total(&scalars(ledger.total()));
        let mut charged = HashSet::with_capacity(self.charged_roles.len());
        for (role, usage) in ledger.usages() {
            self.tree.set_role_allocated(role, scalars(&usage.pods.plus(&usage.offers)));
            charged.insert(role.clone());
        }
        for role in self.charged_roles.difference(&charged) {
            self.tree.set_role_allocated(role, Resources::default());
        }
        self.charged_roles = charged;
    }

    /// Who gets the free remainder of which agent. `seed` shuffles the agents, so that no framework always sees the same
    /// ones first. Nothing is booked: the caller claims each grant in the ledger, charges it here, and drops those that
    /// fail.
    pub fn plan_offers(&mut self, ledger: &Ledger, now: Time, seed: u64) -> Vec<Grant> {
        self.end(now);
        self.look(ledger);
        if !self.tree.is_anybody_hungry() {
            // Whoever becomes hungry makes every agent a candidate.
            self.candidates.clear();
            return vec![];
        }
        if std::mem::take(&mut self.is_all) {
            self.candidates.extend(ledger.agents().cloned());
        }
        let mut agents: Vec<(u64, AgentId)> =
            self.candidates.drain().map(|a| (scatter(a.as_str(), seed), a)).collect();
        agents.sort_unstable();
        let quotas = std::mem::take(&mut self.quotas);
        let mut quota = quota::Plan::new(&quotas, ledger);
        let mut parking = self.new_parking();
        for role in quotas.keys() {
            parking.park_if_spent(role, &quota, &mut self.tree);
        }
        let mut grants: Vec<Grant> = Vec::new();
        let mut charged: HashMap<Index, Resources> = HashMap::new();
        // What guarantees ask for is shared out first, over all agents, then the rest.
        let mut taken: HashMap<AgentId, usize> = HashMap::new();
        let stages: &[Stage] = if quota.is_anybody_first() {
            &[Stage::Guarantees, Stage::Everybody]
        } else {
            &[Stage::Everybody]
        };
        for stage in stages {
            for (_, agent) in &agents {
                if taken.contains_key(agent) || (*stage == Stage::Guarantees && !quota.is_anybody_first()) {
                    continue;
                }
                let Some((leaf, split)) = self.plan_agent(ledger, agent, now, &quota, &parking, *stage)
                else {
                    continue;
                };
                let Some(l) = self.leaves.get(&leaf) else { continue };
                let amount = scalars(&split.amount);
                let reserved =
                    |name: &str| ledger.pool(agent, name).is_some_and(|p| p.kind == PoolKind::Divisible);
                let drawn = split.draws.iter().filter(|(name, _)| reserved(name));
                let drawn = drawn.fold(Resources::default(), |sum, (_, r)| sum.plus(r));
                quota.grant(&l.role, &amount.minus(&drawn));
                parking.park_if_spent(&l.role, &quota, &mut self.tree);
                taken.insert(agent.clone(), grants.len());
                grants.push(Grant {
                    framework: l.framework.clone(),
                    role: l.role.clone(),
                    agent: agent.clone(),
                    resources: split.amount,
                    draws: split.draws,
                });
                self.tree.charge_leaf(leaf, &amount);
                self.tree.grant(leaf, &amount);
                let sum = charged.entry(leaf).or_default();
                *sum = sum.plus(&amount);
            }
        }
        parking.end(&mut self.tree);
        drop(quota);
        self.quotas = quotas;
        self.is_planned = !grants.is_empty();
        // The leaves' accounts follow charges; the roles' are set anew at the next look, since claims change the ledger.
        for (leaf, amount) in &charged {
            self.tree.discharge_leaf(*leaf, amount);
        }
        grants
    }

    /// For one plan: who would take how little is known, and nobody stands aside.
    fn new_parking(&self) -> Parking {
        let own = self.frameworks.values().filter(|_| self.own_minima > 0);
        Parking::new(&self.options.min_allocatable, own.flat_map(|f| &f.wants.min_allocatable))
    }

    /// What is free of an agent's pools, with what their names mean.
    fn pools_of(&mut self, ledger: &Ledger, agent: &AgentId) -> Vec<(Arc<str>, Mark, Resources)> {
        let mut out = Vec::new();
        for (name, _) in ledger.pools(agent) {
            let free = ledger.pool_free(agent, name);
            if free.is_empty() {
                continue;
            }
            let mark = match self.marks.get(name) {
                Some(mark) => mark.clone(),
                None => {
                    let Some(mark) = Mark::parse(name) else { continue };
                    self.marks.insert(name.clone(), mark.clone());
                    mark
                }
            };
            out.push((name.clone(), mark, free));
        }
        out
    }

    fn plan_agent(
        &mut self,
        ledger: &Ledger,
        agent: &AgentId,
        now: Time,
        quota: &quota::Plan<'_>,
        parking: &Parking,
        stage: Stage,
    ) -> Option<(Index, Split)> {
        if !ledger.is_active(agent) {
            return None;
        }
        let mut free = ledger.free(agent);
        // Mesos does not count pods: a full agent is not offered, yet an offer takes none from others.
        if std::mem::take(&mut free.pods) == 0 {
            return None;
        }
        if self.pages.get(agent).and_then(|p| p.held_until).is_some_and(|t| t > now) {
            return None;
        }
        let pools = self.pools_of(ledger, agent);
        // Most agents that changed were given away whole: nobody has to be asked about the crumbs.
        if pools.is_empty() && !self.is_worth_offering(&free) {
            return None;
        }
        let page = self.pages.get(agent);
        let facts = self.facts.get(agent);
        let has_gpus = || {
            ledger.agent(agent).is_some_and(|a| GPU_NAMES.iter().any(|n| a.capacity.extended_milli(n) > 0))
        };
        let mut gpus: Option<bool> = None;
        // Without quota and pools everybody is offered the same: it is made once.
        let is_same_for_all = quota.is_idle() && pools.is_empty();
        let whole = is_same_for_all.then(|| Split::plain(free.clone()));
        let mut offered = None;
        let lends = pools.iter().any(|(_, mark, _)| mark.revocable.is_some());
        let woken = match lends {
            true => parking.wake_all(&mut self.tree),
            false => parking.wake(pools.iter().map(|(_, mark, _)| mark.role()), &mut self.tree),
        };
        let leaf = self.tree.pick(&mut |index| {
            let Some(leaf) = self.leaves.get(&index) else { return false };
            let Some(f) = self.frameworks.get(&leaf.framework) else { return false };
            if stage == Stage::Guarantees && !quota.is_first(&leaf.role) {
                return false;
            }
            let made;
            let split = match &whole {
                Some(whole) => whole,
                None => {
                    made = offerable(&free, &pools, leaf, &f.wants, quota);
                    &made
                }
            };
            let filters = page.and_then(|p| p.filters.get(&index));
            let least = f.wants.min_allocatable.get(&*leaf.role).unwrap_or(&self.options.min_allocatable);
            let is_enough = |l: &Resources| {
                split.amount.contains(l)
                    || (lends && f.wants.takes_revocable && with_lent(split, &pools).contains(l))
            };
            let takes = (least.is_empty() || least.iter().any(is_enough))
                && !filters.is_some_and(|x| x.block(split, leaf.epoch, now))
                && (f.wants.takes_remote || !facts.is_some_and(|f| f.is_remote))
                && f.wants.constraints.admit(&leaf.role, facts)
                && (f.wants.takes_gpus || !*gpus.get_or_insert_with(has_gpus));
            if takes {
                offered = Some(split.clone());
            }
            takes
        });
        parking.settle(&woken, &mut self.tree);
        Some((leaf?, offered?))
    }

    /// Whether somebody might take so little.
    fn is_worth_offering(&self, free: &Resources) -> bool {
        let least = &self.options.min_allocatable;
        !free.is_empty()
            && (least.is_empty() || self.own_minima > 0 || least.iter().any(|l| free.contains(l)))
    }

    /// Which outstanding offers to take back so that `need` fits on an agent: those of the roles furthest above their
    /// share first, and no more than are needed. `None` if even all would not do.
    pub fn plan_rescind(&self, ledger: &Ledger, agent: &AgentId, need: &Resources) -> Option<Vec<OfferId>> {
        self.plan_rescind_from(ledger, agent, need, &|_, _| true)
    }

    /// The same on behalf of a role: only what the role may have within its fair share and its quota, or what has been
    /// out for so long (`is_stale`) that nobody seems to want it.
    pub fn plan_rescind_for(
        &self,
        ledger: &Ledger,
        agent: &AgentId,
        need: &Resources,
        role: &str,
        is_stale: &dyn Fn(&OfferId) -> bool,
    ) -> Option<Vec<OfferId>> {
        if let Some(quota) = self.quotas.get(quota::top(role)) {
            let consumed = quota::consumption(ledger).remove(quota::top(role)).unwrap_or_default().plus(need);
            if quota.limits.iter().any(|(name, limit)| quota::scalar(&consumed, name) > *limit) {
                return None;
            }
        }
        let need_scalars = scalars(need);
        self.plan_rescind_from(ledger, agent, need, &|giver, offer| {
            self.tree.may_take(role, &need_scalars, giver) || is_stale(offer)
        })
    }

    fn plan_rescind_from(
        &self,
        ledger: &Ledger,
        agent: &AgentId,
        need: &Resources,
        may: &dyn Fn(&str, &OfferId) -> bool,
    ) -> Option<Vec<OfferId>> {
        let capacity = ledger.agent(agent)?.capacity;
        // Host ports outside the offered range are free unless somebody holds them.
        let fits = |used: &Resources| {
            let amounts = Resources { ports: Default::default(), ..need.clone() };
            capacity.minus(used).contains(&amounts) && !need.ports.intersects(&used.ports)
        };
        let mut offers: Vec<(f64, OfferId, Resources)> = ledger
            .offers(agent)
            .filter_map(|o| {
                let claim = ledger.claim_of(&Holder::Offer(o.clone())).filter(|c| may(&c.role, o))?;
                Some((self.share(&claim.role), o.clone(), claim.amount))
            })
            .collect();
        offers.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let (mut used, mut chosen) = (ledger.used(agent), Vec::new());
        for (_, offer, amount) in offers {
            if fits(&used) {
                break;
            }
            let freed = ledger.unreserved(&Holder::Offer(offer.clone())).unwrap_or(amount);
            used = used.minus(&freed);
            chosen.push((offer, freed));
        }
        if !fits(&used) {
            return None;
        }
        // An early choice may have become unnecessary through a later, larger one.
        let mut kept = Vec::new();
        for (offer, amount) in chosen {
            let with = used.plus(&amount);
            if fits(&with) { used = with } else { kept.push(offer) }
        }
        Some(kept)
    }
}

fn named_or_all(named: &[String], all: &BTreeSet<String>) -> Vec<String> {
    if named.is_empty() {
        all.iter().cloned().collect()
    } else {
        named.iter().filter(|r| all.contains(*r)).cloned().collect()
    }
}

/// What of an agent a framework may be offered in a role: the unreserved part as far as quota allows, and the pools of the
/// role and of those above it that it can handle.
fn offerable(
    free: &Resources,
    pools: &[(Arc<str>, Mark, Resources)],
    leaf: &Leaf,
    wants: &Subscription,
    quota: &quota::Plan<'_>,
) -> Split {
    let mut out = Split::plain(quota.chop(&leaf.role, free));
    for (name, mark, amount) in pools {
        let owner = mark.role();
        let is_ours = mark.revocable.is_some()
            || *owner == *leaf.role
            || leaf.role.strip_prefix(owner).is_some_and(|r| r.starts_with('/'));
        if !is_ours
            || (mark.reservations.len() > 1 && !wants.takes_refined)
            || (mark.shared.is_some() && !wants.takes_shared)
            || (mark.revocable.is_some() && !wants.takes_revocable)
        {
            continue;
        }
        // A volume's space is its own whoever uses it, and what is lent is not the agent's.
        if !mark.is_beside() {
            out.amount = out.amount.plus(amount);
        }
        out.draws.push((name.clone(), amount.clone()));
    }
    out
}

/// All that is offered, what is lent included.
fn with_lent(split: &Split, pools: &[(Arc<str>, Mark, Resources)]) -> Resources {
    let lent = pools.iter().filter(|(_, mark, _)| mark.revocable.is_some());
    lent.fold(split.amount.clone(), |sum, (_, _, amount)| sum.plus(amount))
}

/// What counts for shares: everything but ports and the number of pods.
fn scalars(r: &Resources) -> Resources {
    Resources { ports: Default::default(), pods: 0, ..r.clone() }
}

/// A number that is the same for the same agent and seed, and otherwise as good as random (FNV-1a, then a multiply-shift):
/// sorting by it shuffles.
fn scatter(agent: &str, seed: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let hash = agent.bytes().fold(start, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;
