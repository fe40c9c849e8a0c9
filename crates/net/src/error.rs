//! What can go wrong with a machine's network.

use std::path::PathBuf;

/// A network operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a change of links, addresses or routes.
    #[error("cannot {0}")]
    Netlink(String, #[source] rtnetlink::Error),
    /// A file or mount could not be handled.
    #[error("cannot {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The packet filter refused a transaction, or `nft` is not installed.
    #[error("cannot change the nftables table {table}: {why}\nhint: is the package `nftables` installed?")]
    Rules {
        /// Which table.
        table: String,
        /// What `nft` said.
        why: String,
    },
    /// Every address of the pod network is taken.
    #[error("no free address in {0}")]
    Exhausted(ipnet::Ipv4Net),
    /// The pod network is too small to hold a gateway and a pod.
    #[error("{0} is too small for a pod network: at least a /30 is needed")]
    TooSmall(ipnet::Ipv4Net),
    /// A name cannot be part of a path or link name.
    #[error("`{0}` cannot name a pod's network")]
    BadName(String),
    /// A thread of ours died.
    #[error("a network thread panicked")]
    Thread,
}

pub(crate) fn file<'a>(
    verb: &'static str,
    path: &'a std::path::Path,
) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |cause| Error::File { verb, path: path.to_path_buf(), cause }
}

pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Error {
    let what = what.into();
    move |cause| Error::Netlink(what, cause)
}
