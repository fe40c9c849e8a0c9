//! The pod network of one machine: a bridge with the pods' gateway address, a network namespace with an address for each
//! pod, masquerade for what leaves, and host ports.
//!
//! Links, addresses and routes go through netlink; masquerade and host ports are one nftables table, replaced in one
//! transaction; services are another, of which only what changed is touched. Flows of UDP that they no longer allow are forgotten (`conntrack`). Everything carries the cluster's short id in its name, so that several clusters share a machine, and
//! everything can be found again after a crash: leases are files, namespaces are bind mounts. A namespace belongs to a
//! thread, so whatever enters one does so on a thread of its own, never on a worker of the async runtime.

mod conntrack;
mod dial;
mod error;
mod lease;
mod link;
mod namespace;
mod network;
mod rules;
mod services;

pub use dial::dial;
pub use error::Error;
pub use network::{HostPort, Network, Options, PodNet, Protocol, destroy};
pub use services::{Backend, Service, Services};
