//! A framework: what the store remembers of it, and what only a running master knows.

use crate::stream::Subscriber;
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use stoa_mesos::FrameworkInfo;
use stoa_mesos::framework::Capability;
use stoa_mesos::resource;
use stoa_offers::{Constraints, Subscription};
use stoa_store::Key;
use stoa_units::{FrameworkId, OfferId, TaskId, Time};
use tokio::time::Instant;

/// The directory of frameworks in the store.
pub(crate) const KIND: &str = "frameworks";

/// What the store remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: FrameworkId,
    pub info: FrameworkInfo,
    /// Whom it authenticated as.
    #[serde(default)]
    pub principal: Option<String>,
    pub registered: Time,
    pub reregistered: Time,
    /// Roles that want no offers.
    #[serde(default)]
    pub suppressed: BTreeSet<String>,
    /// Which agents it wants offers of.
    #[serde(default)]
    pub offer_constraints: Option<serde_json::Value>,
    /// Since when it is no more.
    #[serde(default)]
    pub removed: Option<Time>,
}

impl Record {
    pub fn key(id: &FrameworkId) -> Key {
        Key::internal(KIND, id.as_str())
    }
}

/// A framework.
#[derive(Debug)]
pub(crate) struct Framework {
    pub record: Record,
    pub subscriber: Option<Subscriber>,
    /// When it is given up, while it is not connected.
    pub deadline: Option<Instant>,
    pub tasks: BTreeMap<TaskId, Task>,
    pub offers: BTreeSet<OfferId>,
    /// Ids of tasks that are being accepted: nobody else may use them.
    pub launching: BTreeSet<TaskId>,
    /// Tasks that are over and told, oldest first.
    pub completed: BTreeSet<(Time, TaskId)>,
}

impl Framework {
    pub fn new(record: Record) -> Framework {
        Framework {
            record,
            subscriber: None,
            deadline: None,
            tasks: BTreeMap::new(),
            offers: BTreeSet::new(),
            launching: BTreeSet::new(),
            completed: BTreeSet::new(),
        }
    }

    pub fn has(&self, capability: Capability) -> bool {
        self.record.info.has(capability)
    }

    pub fn is_removed(&self) -> bool {
        self.record.removed.is_some()
    }

    pub fn is_connected(&self) -> bool {
        self.subscriber.is_some()
    }

    /// What the allocator needs to know.
    pub fn subscription(&self) -> Subscription {
        let info = &self.record.info;
        let mut least = BTreeMap::new();
        for (role, filters) in &info.offer_filters {
            if let Some(minimum) = &filters.min_allocatable_resources {
                let amounts = minimum.quantities.iter().map(|q| {
                    let list: Vec<_> = q
                        .quantities
                        .iter()
                        .map(|(name, s)| resource::Resource {
                            scalar: Some(s.clone()),
                            ..resource::Resource::scalar(name, 0)
                        })
                        .collect();
                    resource::amount(&list).map(|a| a.resources).unwrap_or_default()
                });
                least.insert(role.clone(), amounts.collect());
            }
        }
        Subscription {
            roles: info.subscribed_roles().into_iter().collect(),
            suppressed: self.record.suppressed.clone(),
            takes_gpus: info.has(Capability::GpuResources),
            takes_refined: info.has(Capability::ReservationRefinement),
            takes_shared: info.has(Capability::SharedResources),
            takes_revocable: info.has(Capability::RevocableResources),
            takes_remote: info.has(Capability::RegionAware),
            // They were checked when they came.
            constraints: self
                .record
                .offer_constraints
                .as_ref()
                .and_then(|c| Constraints::parse(c).ok())
                .unwrap_or_default(),
            min_allocatable: least,
        }
    }

    /// Tasks that have not ended.
    pub fn live_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().filter(|t| !t.state.is_terminal())
    }
}
