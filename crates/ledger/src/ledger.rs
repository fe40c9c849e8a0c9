//! The book itself: agents, claims, totals by role, and the log of what changed.

use crate::book::{Book, add_amounts, subtract_amounts};
use crate::offered::Offered;
use crate::pool::{Pool, PoolKind};
use crate::short::lacking;
use crate::{Agent, Claim, Holder, Short};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use stoa_units::{AgentId, NamespacedName, OfferId, PortSet, Resources, Revision};

/// Pages of agents that are gone are kept this many, so that readers of the change log learn that they went.
const BLANK_PAGES_MAX: usize = 4_096;

/// The role that pays for an offer made without naming one.
pub(crate) const ANY_ROLE: &str = "*";

/// The name of an agent's claims key below the store's internal `claims` keys.
pub fn claim_key(agent: &AgentId) -> String {
    agent.to_string()
}

/// What a role holds all over the cluster. Ports are not summed: they mean nothing across agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Held by bound pods (and tasks).
    pub pods: Resources,
    /// Held by outstanding offers.
    pub offers: Resources,
    /// Reserved for it, drawn or not.
    pub reserved: Resources,
    /// The part of what pods and offers hold that is drawn from reservations.
    pub drawn: Resources,
}

impl Usage {
    pub(crate) fn is_empty(&self) -> bool {
        let all = [&self.pods, &self.offers, &self.reserved, &self.drawn];
        all.into_iter().all(Resources::is_empty)
    }

    /// What counts against a quota: reservations, drawn or not, and what is held besides.
    pub fn consumed(&self) -> Resources {
        self.pods.plus(&self.offers).minus(&self.drawn).plus(&self.reserved)
    }

    fn side(&mut self, holder: &Holder) -> Option<&mut Resources> {
        match holder {
            Holder::Pod(_) => Some(&mut self.pods),
            Holder::Offer(_) => Some(&mut self.offers),
            // What is reserved and not drawn is nobody's use.
            Holder::Pool(..) => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Held {
    agent: AgentId,
    role: Arc<str>,
    /// What the role's account was charged: the claim, and volumes in use.
    counted: Resources,
    /// How much of that is drawn from pools.
    drawn: Resources,
}

/// The book. Shared behind a lock that is never held across an await.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(crate) pages: HashMap<AgentId, Book>,
    holders: HashMap<Holder, Held>,
    pub(crate) usage: BTreeMap<Arc<str>, Usage>,
    roles: HashMap<Arc<str>, Arc<str>>,
    pub(crate) pools: HashMap<AgentId, BTreeMap<Arc<str>, Pool>>,
    /// What holders draw from the pools of their agents. It may be known before the claim is.
    pub(crate) draws: HashMap<Holder, Vec<(Arc<str>, Resources)>>,
    total: Resources,
    reserved_ports: PortSet,
    offered: Offered,
    generation: u64,
    /// Every page under the generation of its last change, so that readers cost O(changes).
    log: BTreeMap<u64, AgentId>,
    blank: VecDeque<AgentId>,
    /// Changes up to here may have been forgotten.
    floor: u64,
}

impl Ledger {
    /// An empty book. `reserved_ports` (services' node ports) are never part of an offer.
    pub fn new(reserved_ports: PortSet) -> Ledger {
        Ledger { reserved_ports, ..Ledger::default() }
    }

    // ---- agents

    /// Adds an agent or replaces its capacity. Claims stay; an agent may so become over-committed, and is then full.
    pub fn set_agent(&mut self, agent: Agent) {
        let page = self.pages.entry(agent.id.clone()).or_default();
        if page.capacity.as_ref() == Some(&agent.capacity) && page.active == agent.active {
            return;
        }
        let old = page.capacity.replace(agent.capacity);
        let ports =
            |capacity: &Option<Resources>| capacity.as_ref().map(|c| c.ports.clone()).unwrap_or_default();
        let (before, after) = (ports(&old), ports(&page.capacity));
        if before != after {
            self.offered.remove(&before);
            self.offered.add(&after);
        }
        if let Some(old) = old {
            subtract_amounts(&mut self.total, &old);
        }
        page.active = agent.active;
        if let Some(new) = &page.capacity {
            add_amounts(&mut self.total, new);
        }
        self.touch(&agent.id);
    }

    /// Forgets an agent. Its outstanding offers are withdrawn and returned; claims of pods stay until they are released,
    /// so that an agent that registers again finds them.
    pub fn remove_agent(&mut self, id: &AgentId) -> Vec<OfferId> {
        let Some(page) = self.pages.get_mut(id) else { return Vec::new() };
        let Some(old) = page.capacity.take() else { return Vec::new() };
        page.active = false;
        subtract_amounts(&mut self.total, &old);
        self.offered.remove(&old.ports);
        let offers: Vec<OfferId> = offers_of(page).cloned().collect();
        for offer in &offers {
            self.release(&Holder::Offer(offer.clone()));
        }
        self.touch(id);
        offers
    }

    /// The agent as it was last set.
    pub fn agent(&self, id: &AgentId) -> Option<Agent> {
        let page = self.pages.get(id)?;
        Some(Agent { id: id.clone(), capacity: page.capacity.clone()?, active: page.active })
    }

    /// The registered agents, in no order.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        self.pages.iter().filter(|(_, p)| p.capacity.is_some()).map(|(id, _)| id)
    }

    /// Whether offers may be made of the agent.
    pub fn is_active(&self, id: &AgentId) -> bool {
        self.pages.get(id).is_some_and(|p| p.active)
    }

    /// What is free on the agent. `ports` are those that may be offered: the agent's, less claimed and reserved ones.
    pub fn free(&self, id: &AgentId) -> Resources {
        self.pages.get(id).map(|p| p.free(&self.reserved_ports)).unwrap_or_default()
    }

    /// The sum of claims on the agent; `ports` is every host port that somebody holds.
    pub fn used(&self, id: &AgentId) -> Resources {
        self.pages.get(id).map(|p| p.used.clone()).unwrap_or_default()
    }

    /// The sum of all agents' capacities, without ports.
    pub fn total(&self) -> &Resources {
        &self.total
    }

    /// The claims on an agent.
    pub fn claims(&self, id: &AgentId) -> impl Iterator<Item = (&Holder, &Resources)> {
        self.pages.get(id).into_iter().flat_map(|p| &p.claims)
    }

    /// The ports that are never offered.
    pub fn reserved_ports(&self) -> &PortSet {
        &self.reserved_ports
    }

    /// A port of every agent becomes a service's: no offer has it from now on. Refused where somebody holds it but by an offer;
    /// the offers that have it are returned, and are to be taken back.
    pub fn reserve_port(&mut self, port: u16) -> Result<Vec<OfferId>, Short> {
        let (mut offers, one) = (Vec::new(), PortSet::one(port));
        for page in self.pages.values().filter(|p| p.used.ports.intersects(&one)) {
            for (holder, _) in page.claims.iter().filter(|(_, amount)| amount.ports.intersects(&one)) {
                match holder {
                    Holder::Offer(id) => offers.push(id.clone()),
                    Holder::Pod(_) | Holder::Pool(..) => return Err(Short::Ports(one)),
                }
            }
        }
        self.reserved_ports = self.reserved_ports.union(&one);
        self.touch_offerers(port);
        Ok(offers)
    }

    /// The service is gone: the port may be offered again.
    pub fn unreserve_port(&mut self, port: u16) {
        self.reserved_ports = self.reserved_ports.difference(&PortSet::one(port));
        self.touch_offerers(port);
    }

    /// Whether some agent gives a port to frameworks.
    pub fn is_offerable(&self, port: u16) -> bool {
        self.offered.has(port)
    }

    fn touch_offerers(&mut self, port: u16) {
        let has = |p: &Book| p.capacity.as_ref().is_some_and(|c| c.ports.contains(port));
        let ids: Vec<AgentId> = self.pages.iter().filter(|(_, p)| has(p)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.touch(&id);
        }
    }

    // ---- claims

    /// A holder's claim.
    pub fn claim_of(&self, holder: &Holder) -> Option<Claim> {
        let held = self.holders.get(holder)?;
        let amount = self.pages.get(&held.agent)?.claims.get(holder)?.clone();
        Some(Claim { agent: held.agent.clone(), amount, role: held.role.clone() })
    }

    /// Whether a claim of this size would succeed.
    pub fn check(&self, id: &AgentId, holder: &Holder, amount: &Resources) -> Result<(), Short> {
        if self.holders.contains_key(holder) {
            return Err(Short::Held(holder.clone()));
        }
        let page = self.pages.get(id).ok_or_else(|| Short::UnknownAgent(id.clone()))?;
        let Some(capacity) = &page.capacity else { return Err(Short::UnknownAgent(id.clone())) };
        let names = lacking(&capacity.minus(&page.used), amount);
        if !names.is_empty() {
            return Err(Short::Lacks { names });
        }
        let mut taken = amount.ports.intersection(&page.used.ports);
        if let Holder::Offer(_) = holder {
            if !page.active {
                return Err(Short::Inactive(id.clone()));
            }
            let offerable = capacity.ports.difference(&self.reserved_ports);
            taken = taken.union(&amount.ports.difference(&offerable));
        }
        if taken.is_empty() { Ok(()) } else { Err(Short::Ports(taken)) }
    }

    /// Claims a piece of an agent, all of it or nothing. A pod is paid for by its namespace's role.
    pub fn claim(&mut self, id: &AgentId, holder: Holder, amount: &Resources) -> Result<(), Short> {
        let role = self.role_of(&holder);
        self.claim_for(id, holder, role, amount)
    }

    /// Claims on behalf of a role: what an offer is made to.
    pub fn claim_for(
        &mut self,
        id: &AgentId,
        holder: Holder,
        role: impl Into<Arc<str>>,
        amount: &Resources,
    ) -> Result<(), Short> {
        self.check(id, &holder, amount)?;
        self.write(id, holder, role.into(), amount.clone());
        Ok(())
    }

    /// Records what the store already says, fitting or not: a pod that is bound. The same claim again changes nothing;
    /// another amount or agent replaces the old claim.
    pub fn force_claim(&mut self, id: &AgentId, holder: Holder, amount: &Resources) {
        let role = match self.holders.get(&holder) {
            Some(held) => {
                let same = held.agent == *id
                    && self.pages.get(id).and_then(|p| p.claims.get(&holder)) == Some(amount);
                if same {
                    return;
                }
                let role = held.role.clone();
                let draws = self.draws.get(&holder).cloned();
                self.release(&holder);
                self.draws.extend(draws.map(|d| (holder.clone(), d)));
                role
            }
            None => self.role_of(&holder),
        };
        self.write(id, holder, role, amount.clone());
    }

    /// Ends a claim. Returns what it held, or nothing if there was none.
    pub fn release(&mut self, holder: &Holder) -> Option<Claim> {
        let draws = self.draws.remove(holder);
        let held = self.holders.remove(holder)?;
        let page = self.pages.get_mut(&held.agent)?;
        let amount = page.remove(holder)?;
        self.uncount(&held, holder);
        self.touch(&held.agent);
        for (name, _) in draws.into_iter().flatten() {
            self.refresh_pool(&held.agent, &name);
        }
        Some(Claim { agent: held.agent, amount, role: held.role })
    }

    /// Turns an offer into claims of its parts; the rest of the offer is freed and returned.
    pub fn accept(&mut self, offer: &OfferId, parts: Vec<(Holder, Resources)>) -> Result<Resources, Short> {
        self.accept_all(std::slice::from_ref(offer), parts)
    }

    /// Turns several offers of one agent, taken together, into claims; the rest is freed and returned.
    pub fn accept_all(
        &mut self,
        offers: &[OfferId],
        parts: Vec<(Holder, Resources)>,
    ) -> Result<Resources, Short> {
        let mut sum = Resources::default();
        let mut first: Option<(&OfferId, Claim)> = None;
        for offer in offers {
            let claim = self
                .claim_of(&Holder::Offer(offer.clone()))
                .ok_or_else(|| Short::UnknownOffer(offer.clone()))?;
            sum = sum.plus(&claim.amount);
            match &first {
                Some((other, f)) if f.agent != claim.agent => {
                    return Err(Short::MixedAgents((*other).clone(), offer.clone()));
                }
                Some(_) => {}
                None => first = Some((offer, claim)),
            }
        }
        let Some((_, Claim { agent, role, .. })) = first else { return Ok(sum) };
        let rest = self.check_parts(&sum, &parts)?;
        for offer in offers {
            self.release(&Holder::Offer(offer.clone()));
        }
        for (holder, amount) in parts {
            self.write(&agent, holder, role.clone(), amount);
        }
        Ok(rest)
    }

    /// What is left of `have` after all parts, none of which may be held already or share a port with another.
    fn check_parts(&self, have: &Resources, parts: &[(Holder, Resources)]) -> Result<Resources, Short> {
        let mut rest = have.clone();
        for (i, (holder, amount)) in parts.iter().enumerate() {
            if self.holders.contains_key(holder) || parts[..i].iter().any(|(h, _)| h == holder) {
                return Err(Short::Held(holder.clone()));
            }
            let names = lacking(&rest, amount);
            if !names.is_empty() {
                return Err(Short::Lacks { names });
            }
            let missing = amount.ports.difference(&rest.ports);
            if !missing.is_empty() {
                return Err(Short::Ports(missing));
            }
            rest = rest.minus(amount);
        }
        Ok(rest)
    }

    /// The outstanding offers on an agent.
    pub fn offers(&self, id: &AgentId) -> impl Iterator<Item = &OfferId> {
        self.pages.get(id).into_iter().flat_map(offers_of)
    }

    /// Which outstanding offers to rescind so that `amount` fits on the agent; nothing if not even that would help.
    pub fn offers_in_the_way(&self, id: &AgentId, amount: &Resources) -> Option<Vec<OfferId>> {
        let page = self.pages.get(id)?;
        let capacity = page.capacity.as_ref()?;
        let (mut used, mut chosen) = (page.used.clone(), Vec::new());
        let fits = |used: &Resources| {
            lacking(&capacity.minus(used), amount).is_empty() && !amount.ports.intersects(&used.ports)
        };
        let mut offers = offers_of(page);
        while !fits(&used) {
            let offer = offers.next()?;
            used = used.minus(&self.unreserved(&Holder::Offer(offer.clone()))?);
            chosen.push(offer.clone());
        }
        Some(chosen)
    }

    // ---- roles

    /// Says which role pays for a namespace's pods; `None` for its own, `kubernetes/<namespace>`.
    pub fn set_namespace_role(&mut self, namespace: &str, role: Option<&str>) {
        match role {
            Some(role) => drop(self.roles.insert(namespace.into(), role.into())),
            None => drop(self.roles.remove(namespace)),
        }
        let moved: Vec<(Holder, Resources)> = self
            .holders
            .iter()
            .filter(|(h, _)| matches!(h, Holder::Pod(p) if &*p.namespace == namespace))
            .filter_map(|(h, held)| Some((h.clone(), self.pages.get(&held.agent)?.claims.get(h)?.clone())))
            .collect();
        for (holder, amount) in moved {
            let draws = self.draws.get(&holder).cloned();
            if let Some(Claim { agent, .. }) = self.release(&holder) {
                let role = self.role_of(&holder);
                self.draws.extend(draws.map(|d| (holder.clone(), d)));
                self.write(&agent, holder, role, amount);
            }
        }
    }

    /// The role that pays for a namespace's pods.
    pub fn namespace_role(&self, namespace: &str) -> Arc<str> {
        self.roles.get(namespace).cloned().unwrap_or_else(|| format!("kubernetes/{namespace}").into())
    }

    /// What a role holds.
    pub fn usage(&self, role: &str) -> Usage {
        self.usage.get(role).cloned().unwrap_or_default()
    }

    /// Every role that holds something, by name.
    pub fn usages(&self) -> impl Iterator<Item = (&Arc<str>, &Usage)> {
        self.usage.iter()
    }

    fn role_of(&self, holder: &Holder) -> Arc<str> {
        match holder {
            Holder::Pod(NamespacedName { namespace, .. }) => self.namespace_role(namespace),
            Holder::Offer(_) | Holder::Pool(..) => ANY_ROLE.into(),
        }
    }

    // ---- the claims key and the change log

    /// The claims key's revision that the agent's page is based on: what a transaction expects.
    pub fn revision(&self, id: &AgentId) -> Revision {
        self.pages.get(id).map(|p| p.revision).unwrap_or_default()
    }

    /// The agent's claims key was written at `revision`: by us, or as the store's watch says. Never goes back.
    pub fn committed(&mut self, id: &AgentId, revision: Revision) {
        let page = self.pages.entry(id.clone()).or_default();
        page.revision = page.revision.max(revision);
    }

    /// Grows with every change of the book.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The agents that changed after generation `since`; `None` if that is so long ago that the reader must read all.
    pub fn changes_since(&self, since: u64) -> Option<Vec<AgentId>> {
        (since >= self.floor).then(|| self.log.range(since + 1..).map(|(_, id)| id.clone()).collect())
    }

    pub(crate) fn write(&mut self, id: &AgentId, holder: Holder, role: Arc<str>, amount: Resources) {
        let (mut counted, mut drawn) = (amount.clone(), Resources::default());
        let names = self.count_draws(id, &holder, &mut counted, &mut drawn);
        if !matches!(holder, Holder::Pool(..)) {
            let usage = self.usage.entry(role.clone()).or_default();
            if let Some(side) = usage.side(&holder) {
                add_amounts(side, &counted);
            }
            add_amounts(&mut usage.drawn, &drawn);
        }
        self.holders.insert(holder.clone(), Held { agent: id.clone(), role, counted, drawn });
        self.pages.entry(id.clone()).or_default().add(holder, amount);
        self.touch(id);
        for name in names {
            self.refresh_pool(id, &name);
        }
    }

    fn uncount(&mut self, held: &Held, holder: &Holder) {
        let Some(usage) = self.usage.get_mut(&held.role) else { return };
        if let Some(side) = usage.side(holder) {
            subtract_amounts(side, &held.counted);
            subtract_amounts(&mut usage.drawn, &held.drawn);
        }
        if usage.is_empty() {
            self.usage.remove(&held.role);
        }
    }

    /// Adds up what a holder draws, volumes to `counted` too, and says from which pools.
    fn count_draws(
        &self,
        id: &AgentId,
        holder: &Holder,
        counted: &mut Resources,
        drawn: &mut Resources,
    ) -> Vec<Arc<str>> {
        let Some(draws) = self.draws.get(holder) else { return vec![] };
        for (name, part) in draws {
            add_amounts(drawn, part);
            if self.pool(id, name).is_some_and(|p| p.kind != PoolKind::Divisible) {
                add_amounts(counted, part);
            }
        }
        draws.iter().map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn touch(&mut self, id: &AgentId) {
        let Some(page) = self.pages.get_mut(id) else { return };
        self.generation += 1;
        self.log.remove(&page.generation);
        page.generation = self.generation;
        self.log.insert(self.generation, id.clone());
        if page.is_blank() {
            self.blank.push_back(id.clone());
            self.forget_oldest_blank();
        }
    }

    fn forget_oldest_blank(&mut self) {
        while self.blank.len() > BLANK_PAGES_MAX {
            let Some(id) = self.blank.pop_front() else { return };
            if let Some(page) = self.pages.get(&id).filter(|p| p.is_blank()) {
                self.floor = self.floor.max(page.generation);
                self.log.remove(&page.generation);
                self.pages.remove(&id);
            }
        }
    }
}

fn offers_of(page: &Book) -> impl Iterator<Item = &OfferId> {
    page.claims.keys().filter_map(|h| match h {
        Holder::Offer(o) => Some(o),
        Holder::Pod(_) | Holder::Pool(..) => None,
    })
}
