//! A daemon set's status: counts of nodes, not of pods.

use super::Fleet;
use super::fit::Fits;
use crate::Action;
use crate::deployment::differs;
use serde_json::{Value, json};

impl Fleet<'_> {
    /// Writes the status if it differs. It comes before anything that may fail: it says what is, not what will be.
    pub(super) fn write_status(&mut self) {
        let (mut desired, mut current, mut misplaced) = (0, 0, 0);
        let (mut ready, mut available, mut updated) = (0, 0, 0);
        let mut times = Vec::new();
        for (node, fits) in &self.nodes {
            let pods = self.by_node.get(node.metadata.name.as_deref().unwrap_or_default());
            // The oldest speaks for the node.
            let first = pods.and_then(|p| p.first());
            if *fits != Fits::Yes {
                misplaced += i32::from(first.is_some());
                continue;
            }
            desired += 1;
            let Some(pod) = first else { continue };
            current += 1;
            ready += i32::from(pod.is_ready());
            available += i32::from(self.is_available(pod));
            updated += i32::from(self.is_updated(pod));
            times.extend(pod.available_at(self.min_ready()));
        }
        self.look_again(times.into_iter());
        let count = |n: i32| if n == 0 { Value::Null } else { n.into() };
        let patch = json!({"status": {
            "currentNumberScheduled": current,
            "numberMisscheduled": misplaced,
            "desiredNumberScheduled": desired,
            "numberReady": ready,
            "observedGeneration": self.set.metadata.generation,
            "updatedNumberScheduled": count(updated),
            "numberAvailable": count(available),
            "numberUnavailable": count(desired - available),
        }});
        if differs(&json!(self.set.status), &patch["status"]) {
            self.actions.push(Action::Patch { id: self.id.clone(), subresource: "status", patch });
        }
    }
}
