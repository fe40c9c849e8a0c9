//! What is on which agent: looked up when an agent comes, goes or is drained, without a look at what is on all the others.

use std::collections::{BTreeSet, HashMap};
use stoa_units::AgentId;

/// Sets of things by the agent that they are on.
#[derive(Debug)]
pub(crate) struct ByAgent<T>(HashMap<AgentId, BTreeSet<T>>);

impl<T> Default for ByAgent<T> {
    fn default() -> ByAgent<T> {
        ByAgent(HashMap::new())
    }
}

impl<T: Ord> ByAgent<T> {
    pub fn insert(&mut self, agent: &AgentId, thing: T) {
        match self.0.get_mut(agent) {
            Some(set) => drop(set.insert(thing)),
            None => drop(self.0.insert(agent.clone(), BTreeSet::from([thing]))),
        }
    }

    pub fn remove(&mut self, agent: &AgentId, thing: &T) {
        if let Some(set) = self.0.get_mut(agent) {
            set.remove(thing);
            if set.is_empty() {
                self.0.remove(agent);
            }
        }
    }

    #[cfg(test)]
    pub fn all(&self) -> &HashMap<AgentId, BTreeSet<T>> {
        &self.0
    }

    /// What is on an agent, in order.
    pub fn on(&self, agent: &AgentId) -> impl Iterator<Item = &T> {
        self.0.get(agent).into_iter().flatten()
    }
}
