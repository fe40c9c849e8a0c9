//! Pools: pieces of an agent that not everybody may use, namely reservations and volumes, and what an agent lends beside itself.

use crate::book::{add_amounts, subtract_amounts};
use crate::ledger::ANY_ROLE;
use crate::{Claim, Holder, Ledger, Short};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use stoa_units::{AgentId, OfferId, Resources};

/// How a pool is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// In parts, each by somebody else: a reservation.
    #[default]
    Divisible,
    /// As a whole by one at a time: a volume. Its space is the volume's whether or not somebody uses it.
    Whole,
    /// As a whole by any number: a shared volume.
    Shared,
    /// In parts, each by somebody else, beside what the agent has: what is lent and may be taken back.
    Spare,
}

/// A pool of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// For whom it is reserved.
    pub role: Arc<str>,
    /// How it is used.
    pub kind: PoolKind,
    /// All of it, drawn or not.
    pub total: Resources,
}

/// Which parts of an amount are drawn from which pools.
type Draws = Vec<(Arc<str>, Resources)>;

/// An amount, and which parts of it are drawn from which pools. Volumes are drawn beside the amount: their space is not the
/// claim's; so is what is lent, which is not the agent's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// How much of the agent, drawn parts of divisible pools included.
    pub amount: Resources,
    /// From which pools.
    pub draws: Vec<(Arc<str>, Resources)>,
}

impl Split {
    /// Nothing of it from a pool.
    pub fn plain(amount: Resources) -> Split {
        Split { amount, draws: vec![] }
    }

    /// The part drawn from a pool.
    pub fn drawn(&self, name: &str) -> Resources {
        self.draws.iter().find(|(n, _)| **n == *name).map(|(_, r)| r.clone()).unwrap_or_default()
    }

    /// Whether `other` is no more in any part.
    pub fn contains(&self, other: &Split) -> bool {
        self.amount.contains(&other.amount) && other.draws.iter().all(|(n, r)| self.drawn(n).contains(r))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.amount.is_empty() && self.draws.is_empty()
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Split) -> Split {
        let mut out = Split { amount: self.amount.plus(&other.amount), draws: self.draws.clone() };
        for (name, part) in &other.draws {
            match out.draws.iter_mut().find(|(n, _)| n == name) {
                Some((_, have)) => *have = have.plus(part),
                None => out.draws.push((name.clone(), part.clone())),
            }
        }
        out
    }
}

impl Ledger {
    /// A pool of an agent.
    pub fn pool(&self, id: &AgentId, name: &str) -> Option<&Pool> {
        self.pools.get(id)?.get(name)
    }

    /// The pools of an agent, by name.
    pub fn pools(&self, id: &AgentId) -> impl Iterator<Item = (&Arc<str>, &Pool)> {
        self.pools.get(id).into_iter().flatten()
    }

    /// What may be drawn of a pool now.
    pub fn pool_free(&self, id: &AgentId, name: &Arc<str>) -> Resources {
        let Some(pool) = self.pool(id, name) else { return Resources::default() };
        match pool.kind {
            PoolKind::Divisible => {
                let holder = Holder::Pool(id.clone(), name.clone());
                self.pages.get(id).and_then(|p| p.claims.get(&holder)).cloned().unwrap_or_default()
            }
            PoolKind::Spare => self.undrawn(id, name, pool),
            PoolKind::Whole if self.pool_users(id, name).next().is_some() => Resources::default(),
            PoolKind::Whole | PoolKind::Shared => pool.total.clone(),
        }
    }

    /// Who draws from a pool.
    pub fn pool_users<'a>(&'a self, id: &'a AgentId, name: &'a str) -> impl Iterator<Item = &'a Holder> {
        let claims = self.pages.get(id).into_iter().flat_map(|p| p.claims.keys());
        claims.filter(move |h| self.draws.get(*h).is_some_and(|d| d.iter().any(|(n, _)| **n == *name)))
    }

    /// What a holder draws.
    pub fn draws(&self, holder: &Holder) -> &[(Arc<str>, Resources)] {
        self.draws.get(holder).map(Vec::as_slice).unwrap_or_default()
    }

    /// Sets a pool, or ends it. What is drawn stays drawn.
    pub fn set_pool(&mut self, id: &AgentId, name: &Arc<str>, pool: Option<Pool>) {
        let all = self.pools.entry(id.clone()).or_default();
        let old = match pool.clone() {
            Some(pool) => all.insert(name.clone(), pool),
            None => all.remove(name),
        };
        if all.is_empty() {
            self.pools.remove(id);
        }
        // What is lent is reserved for nobody.
        let old = old.filter(|p| p.kind != PoolKind::Spare);
        if let Some(old) = old
            && let Some(usage) = self.usage.get_mut(&old.role)
        {
            subtract_amounts(&mut usage.reserved, &old.total);
            if usage.is_empty() {
                self.usage.remove(&old.role);
            }
        }
        if let Some(new) = pool.filter(|p| p.kind != PoolKind::Spare) {
            add_amounts(&mut self.usage.entry(new.role).or_default().reserved, &new.total);
        }
        self.refresh_pool(id, name);
        self.touch(id);
    }

    /// Says what a holder draws, whether or not its claim is known yet.
    pub fn set_draws(&mut self, holder: &Holder, draws: Vec<(Arc<str>, Resources)>) {
        if self.draws(holder) == draws.as_slice() {
            return;
        }
        let claim = self.release(holder);
        if !draws.is_empty() {
            self.draws.insert(holder.clone(), draws);
        }
        if let Some(Claim { agent, amount, role }) = claim {
            self.write(&agent, holder.clone(), role, amount);
        }
    }

    /// The pool's own claim becomes what is not drawn.
    pub(crate) fn refresh_pool(&mut self, id: &AgentId, name: &Arc<str>) {
        let holder = Holder::Pool(id.clone(), name.clone());
        let rest = match self.pool(id, name) {
            None => Resources::default(),
            Some(pool) => match pool.kind {
                PoolKind::Divisible => self.undrawn(id, name, pool),
                PoolKind::Whole | PoolKind::Shared => pool.total.clone(),
                PoolKind::Spare => Resources::default(),
            },
        };
        self.release(&holder);
        if !rest.is_empty() {
            self.write(id, holder, ANY_ROLE.into(), rest);
        }
    }

    fn undrawn(&self, id: &AgentId, name: &Arc<str>, pool: &Pool) -> Resources {
        let claims = self.pages.get(id).into_iter().flat_map(|p| p.claims.keys());
        let parts = claims.flat_map(|h| self.draws(h)).filter(|(n, _)| n == name);
        parts.fold(pool.total.clone(), |rest, (_, part)| rest.minus(part))
    }

    /// What a claim takes of the unreserved part of its agent.
    pub fn unreserved(&self, holder: &Holder) -> Option<Resources> {
        let Claim { agent, amount, .. } = self.claim_of(holder)?;
        let divisible = |name: &str| self.pool(&agent, name).is_some_and(|p| p.kind == PoolKind::Divisible);
        let parts = self.draws(holder).iter().filter(|(n, _)| divisible(n));
        Some(parts.fold(amount, |rest, (_, part)| rest.minus(part)))
    }

    /// Claims for a role what is partly drawn from pools.
    pub fn claim_split(
        &mut self,
        id: &AgentId,
        holder: Holder,
        role: impl Into<Arc<str>>,
        split: &Split,
    ) -> Result<(), Short> {
        let mut unreserved = split.amount.clone();
        for (name, part) in &split.draws {
            let pool = self.pool(id, name).ok_or_else(|| Short::Pool(name.clone()))?;
            if !self.pool_free(id, name).contains(part) {
                return Err(Short::Pool(name.clone()));
            }
            if pool.kind == PoolKind::Divisible {
                unreserved = unreserved.minus(part);
            }
        }
        self.check(id, &holder, &unreserved)?;
        if !split.draws.is_empty() {
            self.draws.insert(holder.clone(), split.draws.clone());
        }
        self.write(id, holder, role.into(), split.amount.clone());
        Ok(())
    }

    /// Offers of one agent become changed pools and claims, or nothing changes. What is left of them is free.
    pub fn settle(
        &mut self,
        offers: &[OfferId],
        pools: &[(Arc<str>, Option<Pool>)],
        parts: &[(Holder, Split)],
    ) -> Result<(), Short> {
        let mut taken: Vec<(Holder, Claim, Draws)> = Vec::new();
        for offer in offers {
            let holder = Holder::Offer(offer.clone());
            let claim = self.claim_of(&holder).ok_or_else(|| Short::UnknownOffer(offer.clone()))?;
            if let Some((Holder::Offer(first), c, _)) = taken.first()
                && c.agent != claim.agent
            {
                return Err(Short::MixedAgents(first.clone(), offer.clone()));
            }
            let draws = self.draws(&holder).to_vec();
            taken.push((holder, claim, draws));
        }
        let Some((_, Claim { agent, role, .. }, _)) = taken.first().cloned() else { return Ok(()) };
        for (holder, ..) in &taken {
            self.release(holder);
        }
        let old: Vec<_> = pools.iter().map(|(n, _)| (n.clone(), self.pool(&agent, n).cloned())).collect();
        for (name, pool) in pools {
            self.set_pool(&agent, name, pool.clone());
        }
        for (i, (holder, split)) in parts.iter().enumerate() {
            if let Err(short) = self.claim_split(&agent, holder.clone(), role.clone(), split) {
                for (done, _) in &parts[..i] {
                    self.release(done);
                }
                for (name, pool) in old {
                    self.set_pool(&agent, &name, pool);
                }
                for (holder, claim, draws) in taken {
                    if !draws.is_empty() {
                        self.draws.insert(holder.clone(), draws);
                    }
                    self.write(&agent, holder, claim.role, claim.amount);
                }
                return Err(short);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
