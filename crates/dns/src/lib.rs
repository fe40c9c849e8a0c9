//! The cluster's DNS server on one machine: answers names of the cluster out of a [`Zone`] that its caller keeps, and
//! hands every other question to the machine's own resolvers.
//!
//! The wire is hickory's; which names there are is the caller's. No cache: the zone is in memory, and upstream resolvers
//! have theirs. Questions that wait for upstream are bounded in number and time.

mod forward;
mod server;
mod zone;

pub use server::{Error, serve};
pub use zone::{Answer, Data, Kind, Zone};

/// The name servers that a `resolv.conf` names, in its order.
pub fn upstream_of(resolv_conf: &str) -> Vec<std::net::SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|l| l.trim().strip_prefix("nameserver"));
    servers.filter_map(|s| Some((s.trim().parse::<std::net::IpAddr>().ok()?, 53).into())).take(3).collect()
}
