//! Roles that can be given nothing more in a plan stand aside, so that no agent asks their frameworks in vain.
//!
//! A role is *spent* when its limits leave less than every least offer that anybody below it would take. What a role
//! consumes only grows during a plan, so a spent role stays spent until the plan's end, on every agent alike: it leaves
//! the tree's order, and each agent walks past the others only. Reservations are not unreserved resources and have room
//! in the limit already: an agent with pools of a parked role wakes it for that one agent.

use crate::quota::{self, Plan};
use crate::tree::Tree;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stoa_units::Resources;

/// Which roles stand aside. The default parks nobody.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parking {
    /// What an offer must have at least one of.
    common: Vec<Resources>,
    /// The same by top-level role, where a framework has its own.
    own: HashMap<String, Vec<Resources>>,
    parked: BTreeSet<Arc<str>>,
}

/// A list of least offers; an empty one means that anything will do.
fn any_of(least: &[Resources]) -> Vec<Resources> {
    if least.is_empty() { vec![Resources::default()] } else { least.to_vec() }
}

impl Parking {
    /// Nobody parked yet; `own` are the least offers of those frameworks that have their own, by role.
    pub fn new<'a>(
        common: &[Resources],
        own: impl Iterator<Item = (&'a String, &'a Vec<Resources>)>,
    ) -> Self {
        let mut out = Parking { common: any_of(common), ..Parking::default() };
        for (role, least) in own {
            let all = out.own.entry(quota::top(role).to_string()).or_insert_with(|| out.common.clone());
            all.extend(any_of(least));
        }
        out
    }

    /// Parks the role on top of this one if it is spent.
    pub fn park_if_spent(&mut self, role: &str, quota: &Plan<'_>, tree: &mut Tree) {
        let top = quota::top(role);
        let least = self.own.get(top).unwrap_or(&self.common);
        if !self.parked.contains(top) && quota.is_spent(top, least) {
            tree.park(top);
            self.parked.insert(top.into());
        }
    }

    /// Lets those parked roles stand in the order again that own pools. Returns them, for [`Parking::settle`].
    pub fn wake<'a>(&self, owners: impl Iterator<Item = &'a str>, tree: &mut Tree) -> Vec<Arc<str>> {
        let mut woken = Vec::new();
        for top in owners.map(quota::top) {
            if let Some(top) = self.parked.get(top) {
                tree.unpark(top);
                woken.push(top.clone());
            }
        }
        woken
    }

    /// Lets all of them stand in the order again: what an agent lends is in nobody's limit.
    pub fn wake_all(&self, tree: &mut Tree) -> Vec<Arc<str>> {
        self.parked.iter().for_each(|top| tree.unpark(top));
        self.parked.iter().cloned().collect()
    }

    /// Parks again what was woken.
    pub fn settle(&self, woken: &[Arc<str>], tree: &mut Tree) {
        for top in woken {
            tree.park(top);
        }
    }

    /// The plan is made: everybody stands in the order again.
    pub fn end(self, tree: &mut Tree) {
        for top in &self.parked {
            tree.unpark(top);
        }
    }
}
