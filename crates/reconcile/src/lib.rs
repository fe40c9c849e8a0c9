//! Controllers as pure functions: a world in, actions out; one file a controller.
//!
//! [`World`] is what the store says, parsed once: typed where a controller looks inside, bare metadata ([`Graph`]) for
//! everything else. [`World::put`] and [`World::remove`] return which [`Key`]s the change may concern; [`reconcile`] looks
//! at the whole world again for one key and says what is missing, with no hint of what changed. So it may be called at
//! any time, any number of times, and always does the same thing.
//!
//! An [`Action`] names the revision that it was computed from wherever doing it twice would hurt; whoever carries it out
//! refuses it when the object has moved on, and the key is simply looked at again. Time is part of the world.
//!
//! Not here: queues, retries, the write path (`control`, `registry`), placement (`sched`).

mod action;
mod graph;
mod index;
mod key;
mod meta;
mod pod;
mod route;
mod table;
mod world;

pub mod autoscaler;
mod binder;
mod claim;
mod cluster_role;
mod collector;
mod cron_job;
mod daemon_set;
mod deployment;
mod device_claim;
mod disruption;
mod endpoints;
mod flow_schema;
mod job;
mod job_pod;
mod namespace;
mod node_lifecycle;
mod node_ttl;
mod pod_collector;
mod protection;
mod quota;
mod replica_set;
mod revisions;
mod root_ca;
mod service_account;
mod service_cidr;
mod stateful_set;
mod taint_eviction;
mod token_secret;

pub use action::{Action, Announce, Level, ObjectId, OnExists, Propagation};
pub use binder::{SELECTED_NODE, claim_ref_of, free_volumes, is_bound, waits_for_consumer};
pub use device_claim::{DeviceClaim, DeviceTemplate, PodDevice};
pub use disruption::selector_of as budget_selector;
pub use graph::{Graph, Member};
pub use key::{Controller, Key};
pub use pod::Pod;
pub use table::Table;
pub use token_secret::TokenSecret;
pub use world::World;

/// What is to be done for one key, given the world.
pub fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    match key.controller {
        // What it goes by is not in the world: whoever knows looks by [`autoscaler::Look`].
        Controller::Autoscaler => Vec::new(),
        Controller::ClaimBinding => binder::reconcile_claim(world, key),
        Controller::VolumeBinding => binder::reconcile_volume(world, key),
        Controller::AttributesProtection => protection::reconcile_attributes(world, key),
        Controller::ClaimProtection => protection::reconcile_claim(world, key),
        Controller::CronJob => cron_job::reconcile(world, key),
        Controller::DaemonSet => daemon_set::reconcile(world, key),
        Controller::StatefulSet => stateful_set::reconcile(world, key),
        Controller::DeviceClaim => device_claim::reconcile_claim(world, key),
        Controller::PodDevices => device_claim::reconcile_pod(world, key),
        Controller::Disruption => disruption::reconcile(world, key),
        Controller::Endpoints => endpoints::reconcile_slices(world, key),
        Controller::EndpointsLegacy => endpoints::reconcile_endpoints(world, key),
        Controller::EndpointsMirror => endpoints::reconcile_mirror(world, key),
        Controller::FlowSchema => flow_schema::reconcile(world, key),
        Controller::IpAddress => service_cidr::reconcile_address(world, key),
        Controller::ServiceCidr => service_cidr::reconcile_range(world, key),
        Controller::Job => job::reconcile(world, key),
        Controller::JobPod => job_pod::reconcile(world, key),
        Controller::JobTtl => job::ttl::reconcile(world, key),
        Controller::Quota => quota::reconcile(world, key),
        Controller::ReplicationController => replica_set::reconcile_controller(world, key),
        Controller::VolumeProtection => protection::reconcile_volume(world, key),
        Controller::ClusterRole => cluster_role::reconcile(world, key),
        Controller::Collector => collector::reconcile(world, key),
        Controller::Deployment => deployment::reconcile(world, key),
        Controller::Namespace => namespace::reconcile(world, key),
        Controller::NodeLifecycle => node_lifecycle::reconcile(world, key),
        Controller::NodeTtl => node_ttl::reconcile(world, key),
        Controller::PodCollector => pod_collector::reconcile(world, key),
        Controller::ReplicaSet => replica_set::reconcile(world, key),
        Controller::RootCa => root_ca::reconcile(world, key),
        Controller::ServiceAccount => service_account::reconcile(world, key),
        Controller::TaintEviction => taint_eviction::reconcile(world, key),
        Controller::TokenSecret => token_secret::reconcile(world, key),
    }
}

#[cfg(test)]
mod stage;
#[cfg(test)]
mod tests;
