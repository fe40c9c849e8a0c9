//! The role tree, ordered by weighted dominant share.
//!
//! A role `a/b` is a path of nodes. Every role node has below it its sub-roles and, if it is subscribed to itself, one
//! *direct* node under which the frameworks of that very role stand; so a parent competes with its children as one
//! client, as Mesos' virtual leaf `a/.` does. Only nodes with a hungry framework below them stand in their parent's
//! order: suppressed and absent frameworks cost nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stoa_units::Resources;

/// The index of a node.
pub(crate) type Index = usize;

/// A place in the order of siblings: share, then how often something was allocated, then path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The bits of a non-negative double, which order as the doubles do.
    share: u64,
    allocations: u64,
    path: Arc<str>,
    node: Index,
}

#[derive(Clone, Debug)]
struct Node {
    path: Arc<str>,
    parent: Option<Index>,
    weight: f64,
    /// What is allocated at or below this node, without ports.
    allocated: Resources,
    /// How often something was allocated; it never falls.
    allocations: u64,
    /// Its place in the parent's order, if it is hungry.
    rank: Option<Rank>,
    order: BTreeSet<Rank>,
    /// How many hungry leaves are at or below.
    hungry: usize,
    is_leaf: bool,
    /// It stands aside: hungry, and yet not in its parent's order.
    is_parked: bool,
}

/// The tree.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<Index>,
    /// Role nodes by path.
    roles: HashMap<Arc<str>, Index>,
    /// Direct nodes by the role's path.
    directs: HashMap<Arc<str>, Index>,
    weights: HashMap<Arc<str>, f64>,
    total: Resources,
}

const ROOT: Index = 0;

impl Default for Tree {
    fn default() -> Self {
        let root = Node {
            path: "".into(),
            parent: None,
            weight: 1.0,
            allocated: Resources::default(),
            allocations: 0,
            rank: None,
            order: BTreeSet::new(),
            hungry: 0,
            is_leaf: false,
            is_parked: false,
        };
        Tree {
            nodes: vec![root],
            free: vec![],
            roles: HashMap::new(),
            directs: HashMap::new(),
            weights: HashMap::new(),
            total: Resources::default(),
        }
    }
}

/// The largest fraction of any scalar that `allocated` is of `total`.
pub(crate) fn dominant_share(allocated: &Resources, total: &Resources) -> f64 {
    let part = |a: u64, t: u64| if t == 0 { 0.0 } else { a as f64 / t as f64 };
    let fixed = part(allocated.milli_cpu, total.milli_cpu)
        .max(part(allocated.memory_bytes, total.memory_bytes))
        .max(part(allocated.disk_bytes, total.disk_bytes));
    allocated.extended.iter().fold(fixed, |max, (name, a)| max.max(part(*a, total.extended_milli(name))))
}

impl Tree {
    fn add_node(&mut self, path: Arc<str>, parent: Index, weight: f64, is_leaf: bool) -> Index {
        let node = Node {
            path,
            parent: Some(parent),
            weight,
            allocated: Resources::default(),
            allocations: 0,
            rank: None,
            order: BTreeSet::new(),
            hungry: 0,
            is_leaf,
            is_parked: false,
        };
        match self.free.pop() {
            Some(i) => {
                self.nodes[i] = node;
                i
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    fn weight_of(&self, role: &str) -> f64 {
        self.weights.get(role).copied().unwrap_or(1.0)
    }

    fn role(&mut self, path: &str) -> Index {
        if let Some(i) = self.roles.get(path) {
            return *i;
        }
        let parent = match path.rsplit_once('/') {
            Some((above, _)) => self.role(above),
            None => ROOT,
        };
        let path: Arc<str> = path.into();
        let i = self.add_node(path.clone(), parent, self.weight_of(&path), false);
        self.roles.insert(path, i);
        i
    }

    /// The direct node of a role, made if need be.
    pub fn direct(&mut self, role: &str) -> Index {
        if let Some(i) = self.directs.get(role) {
            return *i;
        }
        let parent = self.role(role);
        let i = self.add_node(format!("{role}/.").into(), parent, self.weight_of(role), false);
        self.directs.insert(role.into(), i);
        i
    }

    /// A leaf for a framework in a role.
    pub fn add_leaf(&mut self, role: &str, framework: &str) -> Index {
        let direct = self.direct(role);
        self.add_node(framework.into(), direct, 1.0, true)
    }

    /// Removes a leaf. Roles stay: their number is bounded by those that ever had a framework or a claim.
    pub fn remove_leaf(&mut self, leaf: Index) {
        self.set_hungry(leaf, Hunger::Sated);
        self.nodes[leaf].allocated = Resources::default();
        self.free.push(leaf);
    }

    /// Sets a role's weight.
    pub fn set_weight(&mut self, role: &str, weight: f64) {
        self.weights.insert(role.into(), weight);
        for i in
            [self.roles.get(role), self.directs.get(role)].into_iter().flatten().copied().collect::<Vec<_>>()
        {
            self.nodes[i].weight = weight;
            self.rerank(i);
        }
    }

    /// Sets what there is in all; every share changes with it.
    pub fn set_total(&mut self, total: &Resources) {
        if self.total == *total {
            return;
        }
        self.total = total.clone();
        for i in 1..self.nodes.len() {
            self.rerank(i);
        }
    }

    /// Says whether a leaf wants offers.
    pub fn set_hungry(&mut self, leaf: Index, hunger: Hunger) {
        let want = usize::from(hunger == Hunger::Hungry);
        if self.nodes[leaf].hungry == want {
            return;
        }
        let mut at = Some(leaf);
        while let Some(i) = at {
            let node = &mut self.nodes[i];
            node.hungry = if want == 1 { node.hungry + 1 } else { node.hungry - 1 };
            at = node.parent;
            self.rerank(i);
        }
    }

    pub fn is_hungry(&self, leaf: Index) -> bool {
        self.nodes[leaf].hungry > 0
    }

    /// Takes a role with all that is below it out of the order, for a while.
    pub fn park(&mut self, role: &str) {
        if let Some(i) = self.roles.get(role).copied() {
            self.nodes[i].is_parked = true;
            self.rerank(i);
        }
    }

    /// Lets a parked role stand in the order again.
    pub fn unpark(&mut self, role: &str) {
        if let Some(i) = self.roles.get(role).copied() {
            self.nodes[i].is_parked = false;
            self.rerank(i);
        }
    }

    /// How many roles stand aside.
    #[cfg(test)]
    pub fn parked(&self) -> usize {
        self.nodes.iter().filter(|n| n.is_parked).count()
    }

    /// Sets what a role itself (not its sub-roles) has allocated, as the ledger says.
    pub fn set_role_allocated(&mut self, role: &str, allocated: Resources) {
        if allocated.is_empty() && !self.directs.contains_key(role) {
            return;
        }
        let direct = self.direct(role);
        if self.nodes[direct].allocated == allocated {
            return;
        }
        let old = std::mem::replace(&mut self.nodes[direct].allocated, allocated.clone());
        self.rerank(direct);
        let mut at = self.nodes[direct].parent;
        while let Some(i) = at {
            let sum = self.nodes[i].allocated.minus(&old).plus(&allocated);
            self.nodes[i].allocated = sum;
            at = self.nodes[i].parent;
            self.rerank(i);
        }
    }

    /// Adds to a leaf's own account. The role's account is the ledger's business.
    pub fn charge_leaf(&mut self, leaf: Index, amount: &Resources) {
        let node = &mut self.nodes[leaf];
        node.allocated = node.allocated.plus(amount);
        node.allocations += 1;
        self.rerank(leaf);
    }

    /// Takes from a leaf's own account.
    pub fn discharge_leaf(&mut self, leaf: Index, amount: &Resources) {
        let node = &mut self.nodes[leaf];
        node.allocated = node.allocated.minus(amount);
        self.rerank(leaf);
    }

    /// Counts a grant along the whole path, so that the rest of the plan sees it.
    pub fn grant(&mut self, leaf: Index, amount: &Resources) {
        let mut at = self.nodes[leaf].parent;
        while let Some(i) = at {
            let node = &mut self.nodes[i];
            node.allocated = node.allocated.plus(amount);
            node.allocations += 1;
            at = node.parent;
            self.rerank(i);
        }
    }

    /// The first leaf in fair order that `takes` accepts.
    pub fn pick(&self, takes: &mut dyn FnMut(Index) -> bool) -> Option<Index> {
        self.pick_below(ROOT, takes)
    }

    fn pick_below(&self, node: Index, takes: &mut dyn FnMut(Index) -> bool) -> Option<Index> {
        for rank in &self.nodes[node].order {
            let child = rank.node;
            let found = match self.nodes[child].is_leaf {
                true => takes(child).then_some(child),
                false => self.pick_below(child, takes),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Whether anybody wants offers.
    pub fn is_anybody_hungry(&self) -> bool {
        self.nodes[ROOT].hungry > 0
    }

    /// A role's dominant share over its weight, sub-roles included.
    pub fn share_of_role(&self, role: &str) -> f64 {
        self.roles.get(role).map_or(0.0, |i| self.share(*i))
    }

    /// Whether `taker` may have `need` of what `giver` holds: both are followed down to where their ways part, and there the
    /// taker must not come to stand above the giver.
    pub fn may_take(&self, taker: &str, need: &Resources, giver: &str) -> bool {
        let ends = |role: &str| -> Vec<usize> {
            let inner = role.match_indices('/').map(|(i, _)| i);
            inner.chain([role.len()]).collect()
        };
        let (of_taker, of_giver) = (ends(taker), ends(giver));
        let same = of_taker.iter().zip(&of_giver).take_while(|(a, b)| taker[..**a] == giver[..**b]).count();
        let node = |role: &str, ends: &[usize]| ends.get(same).and_then(|end| self.roles.get(&role[..*end]));
        let held = |i: Option<&Index>| i.map(|i| self.nodes[*i].allocated.clone()).unwrap_or_default();
        let (a, b) = (node(taker, &of_taker), node(giver, &of_giver));
        let weight =
            |role: &str, ends: &[usize]| ends.get(same).map_or(1.0, |end| self.weight_of(&role[..*end]));
        let after = dominant_share(&held(a).plus(need), &self.total) / weight(taker, &of_taker);
        let now = dominant_share(&held(b), &self.total) / weight(giver, &of_giver);
        // Within one role nobody stands above anybody.
        taker == giver || after <= now
    }

    fn share(&self, i: Index) -> f64 {
        let node = &self.nodes[i];
        dominant_share(&node.allocated, &self.total) / node.weight
    }

    fn rerank(&mut self, i: Index) {
        let Some(parent) = self.nodes[i].parent else { return };
        if let Some(old) = self.nodes[i].rank.take() {
            self.nodes[parent].order.remove(&old);
        }
        if self.nodes[i].hungry == 0 || self.nodes[i].is_parked {
            return;
        }
        let rank = Rank {
            share: self.share(i).to_bits(),
            allocations: self.nodes[i].allocations,
            path: self.nodes[i].path.clone(),
            node: i,
        };
        self.nodes[parent].order.insert(rank.clone());
        self.nodes[i].rank = Some(rank);
    }
}

/// Whether a leaf wants offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hunger {
    /// It does.
    Hungry,
    /// It does not.
    Sated,
}
