//! What a placement comes to, and its wording.

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
    /// Nodes on which evictions might help.
    pub curable: usize,
    /// Whether the pod names claims of devices.
    pub claims_devices: bool,
    /// Set when the pod may not preempt at all: why not.
    pub not_eligible: Option<&'static str>,
}

impl Diagnosis {
    /// Counts one node that is ruled out.
    pub fn add(&mut self, reasons: &[Reason]) {
        self.nodes += 1;
        // A node is worth looking at for preemption only if everything against it can be cured.
        self.curable += usize::from(!reasons.is_empty() && reasons.iter().all(|r| r.resolvable));
        for reason in reasons {
            *self.reasons.entry(reason.text.clone()).or_default() += 1;
        }
    }

    /// The message of the `FailedScheduling` event and of the `PodScheduled` condition.
    pub fn message(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".to_string();
        }
        let counts = |reasons: Vec<(usize, &str)>| {
            let mut texts: Vec<String> = reasons.iter().map(|(n, r)| format!("{n} {r}")).collect();
            texts.sort();
            format!("0/{} nodes are available: {}.", self.nodes, texts.join(", "))
        };
        let filter = counts(self.reasons.iter().map(|(r, n)| (*n, &**r)).collect());
        // What would help after the fact is asked of the claims first.
        let claims = match self.claims_devices {
            true => "still not schedulable",
            false => "no new claims to deallocate",
        };
        if let Some(why) = self.not_eligible {
            return format!("{filter} {claims}, preemption: {why}");
        }
        let mut after = Vec::new();
        if self.curable > 0 {
            after.push((self.curable, "No preemption victims found for incoming pod"));
        }
        if self.nodes > self.curable {
            after.push((self.nodes - self.curable, "Preemption is not helpful for scheduling"));
        }
        format!("{filter} {claims}, preemption: {}", counts(after))
    }
}
