//! The node agent: makes the pods the leader desires, and reports what is.
//!
//! One session to the leader ([`link`](crate::Service::run)) brings pods and the objects they refer to; one worker a pod
//! takes nudges, asks a pure plan what to do next, does it through the [`Machine`], and says what came of it. Plans and
//! statuses are functions of the spec, what is seen, and the time: nothing is remembered between two of them.
//! Without a leader everything keeps running; without the agent too, and the next one takes over.
//!
//! Not here: how a container is made (`runtime`), its network (`net`), its files (`image`, `volume`), and any decision
//! about other nodes.

mod collect;
mod container;
mod cpus;
mod desired;
mod destroy;
mod devices;
mod durable;
mod env;
mod env_file;
mod error;
mod etc_files;
mod events;
mod evict;
mod finished;
mod grpc;
mod hooks;
mod images;
mod kill;
mod limits;
mod link;
mod logs;
mod machine;
mod mesos;
mod names;
mod native;
mod node;
mod node_api;
mod node_logs;
mod observed;
mod options;
mod outbox;
mod plan;
mod pod;
mod pressure;
mod probe;
mod probe_counts;
mod refuse;
mod resize;
mod restore;
mod sandbox;
mod service;
mod services;
mod shared;
mod sizes;
mod start;
mod statics;
mod stats;
mod status;
mod storage_limit;
mod summary;
#[cfg(test)]
mod testing;
mod tls;
mod tokens;
mod tunnels;
mod worker;

pub use collect::StoredImage;
pub use container::{FoundImage, FoundUser};
pub use cpus::{CpuPolicy, CpuSet, Topology};
pub use destroy::destroy;
pub use error::Error;
pub use machine::{Attached, Machine, PublishedPort};
pub use mesos::OperatorApi;
pub use native::Native;
pub use options::Options;
pub use pressure::{Amount, Signal, Threshold, parse_soft_thresholds, parse_thresholds};
pub use service::Service;
