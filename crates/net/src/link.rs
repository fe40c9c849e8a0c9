//! Netlink: the bridge, a pod's veth pair, addresses and routes.

use crate::Error;
use crate::error::netlink;
use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

/// `EEXIST`.
const EXISTS: i32 = 17;
/// `ENODEV`.
const NO_DEVICE: i32 = 19;

/// Opens a netlink socket in the calling thread's namespace; its driver runs on the current runtime.
pub(crate) fn connect() -> Result<Handle, Error> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|e| crate::error::file("open", std::path::Path::new("a netlink socket"))(e))?;
    tokio::spawn(connection);
    Ok(handle)
}

fn code(e: &rtnetlink::Error) -> Option<i32> {
    match e {
        rtnetlink::Error::NetlinkError(m) => m.code.map(|c| -c.get()),
        _ => None,
    }
}

fn unless(wanted: i32, result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(e) if code(&e) == Some(wanted) => Ok(()),
        other => other,
    }
}

/// The index of a link; `None` if there is no such link.
pub(crate) async fn index(handle: &Handle, name: &str) -> Result<Option<u32>, Error> {
    match handle.link().get().match_name(name.to_string()).execute().try_next().await {
        Ok(found) => Ok(found.map(|l| l.header.index)),
        Err(e) if code(&e) == Some(NO_DEVICE) => Ok(None),
        Err(e) => Err(netlink(format!("find the link {name}"))(e)),
    }
}

async fn must_index(handle: &Handle, name: &str) -> Result<u32, Error> {
    let gone = || rtnetlink::Error::RequestFailed;
    index(handle, name).await?.ok_or_else(|| netlink(format!("find the link {name}"))(gone()))
}

/// The machine's own IPv4 addresses.
pub(crate) async fn addresses(handle: &Handle) -> Result<HashSet<Ipv4Addr>, Error> {
    let mut all = handle.address().get().execute();
    let mut found = HashSet::new();
    while let Some(address) = all.try_next().await.map_err(netlink("list addresses"))? {
        found.extend(address.attributes.into_iter().filter_map(|a| match a {
            AddressAttribute::Local(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        }));
    }
    Ok(found)
}

/// Makes the bridge if it is missing, gives it the gateway address and takes it up. Returns its index.
pub(crate) async fn ensure_bridge(
    handle: &Handle,
    name: &str,
    gateway: Ipv4Addr,
    prefix: u8,
    mtu: u32,
) -> Result<u32, Error> {
    let made = handle.link().add(LinkBridge::new(name).mtu(mtu).up().build()).execute().await;
    unless(EXISTS, made).map_err(netlink(format!("make the bridge {name}")))?;
    let index = must_index(handle, name).await?;
    let added = handle.address().add(index, IpAddr::V4(gateway), prefix).execute().await;
    unless(EXISTS, added).map_err(netlink(format!("give {name} the address {gateway}/{prefix}")))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(netlink(format!("take {name} up")))?;
    Ok(index)
}

/// Makes a veth pair from inside the pod's namespace: `eth0` here, `peer` in the namespace `host`, so that no link is
/// ever moved (a move waits for the kernel's grace period).
pub(crate) async fn make_pair(
    handle: &Handle,
    peer: &str,
    host: &OwnedFd,
    mac: [u8; 6],
    mtu: u32,
) -> Result<(), Error> {
    let mut other = LinkMessage::default();
    other.attributes = vec![
        LinkAttribute::IfName(peer.to_string()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NetNsFd(host.as_raw_fd()),
    ];
    let pair = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0")
        .mtu(mtu)
        .address(mac.to_vec())
        .append_extra_attribute(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]))
        .build();
    handle.link().add(pair).execute().await.map_err(netlink(format!("make the link pair of {peer}")))
}

/// Takes `lo` and `eth0` up in the pod's namespace, with address and default route. The pod is alone on its link: what it
/// sends to a neighbour passes the machine's routing too, or answers from behind a service would go past the rewriting.
pub(crate) async fn configure_pod(handle: &Handle, ip: Ipv4Addr, gateway: Ipv4Addr) -> Result<(), Error> {
    let lo = must_index(handle, "lo").await?;
    let eth0 = must_index(handle, "eth0").await?;
    for link in [lo, eth0] {
        let up = LinkUnspec::new_with_index(link).up().build();
        handle.link().set(up).execute().await.map_err(netlink("take a pod's link up"))?;
    }
    let address = handle.address().add(eth0, IpAddr::V4(ip), 32).execute().await;
    address.map_err(netlink(format!("give a pod the address {ip}")))?;
    let near = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(gateway, 32)
        .output_interface(eth0)
        .scope(RouteScope::Link)
        .build();
    handle.route().add(near).execute().await.map_err(netlink("give a pod the route to its gateway"))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    handle.route().add(route).execute().await.map_err(netlink("give a pod its default route"))
}

/// Plugs a pod's host end into the bridge and takes it up.
pub(crate) async fn plug(handle: &Handle, name: &str, bridge: u32) -> Result<(), Error> {
    let set = LinkUnspec::new_with_name(name).controller(bridge).up().build();
    handle.link().set(set).execute().await.map_err(netlink(format!("plug {name} into the bridge")))
}

/// Removes a link; none is as good.
pub(crate) async fn remove(handle: &Handle, name: &str) -> Result<(), Error> {
    let Some(index) = index(handle, name).await? else { return Ok(()) };
    let gone = handle.link().del(index).execute().await;
    unless(NO_DEVICE, gone).map_err(netlink(format!("remove the link {name}")))
}

/// The names of all links that begin with `prefix`.
pub(crate) async fn with_prefix(handle: &Handle, prefix: &str) -> Result<Vec<String>, Error> {
    let mut links = handle.link().get().execute();
    let mut found = Vec::new();
    while let Some(link) = links.try_next().await.map_err(netlink("list links"))? {
        found.extend(link.attributes.into_iter().find_map(|a| match a {
            LinkAttribute::IfName(n) if n.starts_with(prefix) => Some(n),
            _ => None,
        }));
    }
    Ok(found)
}
