//! What a placement comes to, and its wording.

use crate::Preemption;
use std::borrow::Cow;
use std::collections::BTreeMap;
use stoa_units::AgentId;

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reason {
    /// The stock scheduler's wording.
    pub text: Cow<'static, str>,
    /// Whether evicting pods from the node could help.
    pub resolvable: bool,
}

impl Reason {
    /// One that no eviction cures.
    pub const fn fixed(text: &'static str) -> Reason {
        Reason { text: Cow::Borrowed(text), resolvable: false }
    }

    /// One that an eviction may cure.
    pub const fn curable(text: &'static str) -> Reason {
        Reason { text: Cow::Borrowed(text), resolvable: true }
    }
}

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the best of the nodes that fit.
    Node {
        /// The node.
        node: AgentId,
        /// Its score.
        score: i64,
    },
    /// Nowhere.
    Unschedulable(Diagnosis),
}

/// Why no node takes the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many nodes each reason rules out.
    pub reasons: BTreeMap<Cow<'static, str>, usize>,
    /// Why no node was even looked at.
    pub blocked: Option<String>,
    /// Whether the pod names claims of devices.
    pub claims_devices: bool,
}

/// What looking for pods to evict has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// Evictions make room.
    Found(Preemption),
    /// The pod may evict none now: why not.
    NotEligible(&'static str),
    /// No eviction helps: how many nodes each reason rules out.
    Nowhere(BTreeMap<Cow<'static, str>, usize>),
}

impl Diagnosis {
    /// Counts one node that is ruled out.
    pub fn add(&mut self, reasons: &[Reason]) {
        self.nodes += 1;
        for reason in reasons {
            *self.reasons.entry(reason.text.clone()).or_default() += 1;
        }
    }

    /// The message of the `FailedScheduling` event and of the `PodScheduled` condition.
    pub fn message(&self, tried: &Tried) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_string();
        }
        let counts = |reasons: &BTreeMap<Cow<'static, str>, usize>| {
            let mut texts: Vec<String> = reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
            texts.sort();
            format!("0/{} nodes are available: {}.", self.nodes, texts.join(", "))
        };
        if let Some(why) = &self.blocked {
            // What would be asked about claims of devices has not been prepared then, and that is what the stock scheduler says.
            return format!("0/{} nodes are available: {why}. not found", self.nodes);
        }
        let filter = counts(&self.reasons);
        // What would help after the fact is asked of the claims first.
        let claims = match self.claims_devices {
            true => "still not schedulable",
            false => "no new claims to deallocate",
        };
        match tried {
            // Help is on its way.
            Tried::Found(_) => filter,
            Tried::NotEligible(why) => format!("{filter} {claims}, preemption: {why}"),
            Tried::Nowhere(reasons) => format!("{filter} {claims}, preemption: {}", counts(reasons)),
        }
    }
}
