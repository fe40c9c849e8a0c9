//! What the kernel remembers of UDP flows. A rewriting is chosen by a flow's first packet, and a client that keeps its socket keeps
//! its flow: without this it would go on talking to a backend that left, or to nobody although there is one now. So a flow to a
//! front (a service's or a host port's address) that does not lead to who stands behind it is forgotten; the next packet chooses anew.

use crate::Error;
use crate::error::file;
use crate::network::{HostPort, Protocol};
use crate::services::{Backend, Services};
use ipnet::Ipv4Net;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Bytes of one answer of the kernel's, which fills no more than 32 KiB at once.
const ANSWER_LEN_MAX: usize = 64 << 10;
/// Flows that are noted and forgotten at once; then the kernel is asked for further ones.
const FORGOTTEN_LEN_MAX: usize = 65_536;
/// How often it is asked: for more flows than any table holds.
const LOOKS_MAX: usize = 1_024;

/// Who may stand behind which front.
#[derive(Debug, Default)]
pub(crate) struct Fronts {
    /// For pods of this machine and itself: another cluster on it may have the same addresses.
    inside: HashMap<Backend, BTreeSet<Backend>>,
    at: HashMap<Backend, BTreeSet<Backend>>,
    /// Ports of any address of this machine.
    here: HashMap<u16, BTreeSet<Backend>>,
}

/// What is near.
#[derive(Debug)]
pub(crate) struct Near {
    /// The machine's addresses.
    pub(crate) own: HashSet<Ipv4Addr>,
    /// Its pods' addresses.
    pub(crate) pods: Ipv4Net,
}

impl Fronts {
    /// The fronts of UDP services that differ between `old` and `new`, with who stands behind them by `new`.
    pub(crate) fn of_services(old: &Services, new: &Services) -> Fronts {
        let mut out = Fronts::default();
        // First those that go, so that what another service took over is the other's.
        let gone = old
            .iter()
            .filter(|(name, s)| new.get(*name) != Some(s))
            .map(|(_, s)| (s, Vec::new(), Vec::new()));
        let came = new.iter().filter(|(name, s)| old.get(*name) != Some(s));
        let came = came.map(|(_, s)| (s, s.inside.clone(), s.outside.clone()));
        for (s, inside, outside) in gone.chain(came).filter(|(s, ..)| s.protocol == Protocol::Udp) {
            out.inside.extend(s.addresses.iter().map(|ip| ((*ip, s.port), inside.iter().copied().collect())));
            out.at.extend(s.external.iter().map(|ip| ((*ip, s.port), outside.iter().copied().collect())));
            out.here.extend(s.node_port.map(|port| (port, outside.into_iter().collect())));
        }
        out
    }

    /// The fronts of UDP host ports that differ between `old` and `new`.
    pub(crate) fn of_host_ports(old: &[HostPort], new: &[HostPort]) -> Fronts {
        let mut out = Fronts::default();
        let gone = old.iter().filter(|p| !new.contains(p)).map(|p| (p, None));
        let came = new.iter().filter(|p| !old.contains(p)).map(|p| (p, Some((p.pod_ip, p.pod_port))));
        for (p, behind) in gone.chain(came).filter(|(p, _)| p.protocol == Protocol::Udp) {
            let behind: BTreeSet<Backend> = behind.into_iter().collect();
            match p.host_ip {
                Some(ip) => drop(out.at.insert((ip, p.host_port), behind)),
                None => drop(out.here.insert(p.host_port, behind)),
            }
        }
        out
    }

    /// Adds others, which hold where both know a front.
    pub(crate) fn extend(&mut self, others: Fronts) {
        self.inside.extend(others.inside);
        self.at.extend(others.at);
        self.here.extend(others.here);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inside.is_empty() && self.at.is_empty() && self.here.is_empty()
    }

    fn is_stale(&self, flow: &Flow, near: &Near) -> bool {
        let comes_from_near = || near.own.contains(&flow.from) || near.pods.contains(&flow.from);
        let behind =
            self.at.get(&flow.to).or_else(|| self.inside.get(&flow.to).filter(|_| comes_from_near()));
        let behind = behind.or_else(|| self.here.get(&flow.to.1).filter(|_| near.own.contains(&flow.to.0)));
        behind.is_some_and(|b| !b.contains(&flow.answered_by))
    }
}

/// A flow as the kernel remembers it.
#[derive(Debug, PartialEq, Eq)]
struct Flow {
    /// Who began it.
    from: Ipv4Addr,
    /// Where its first packet was sent.
    to: Backend,
    /// Who is to answer.
    answered_by: Backend,
    /// What the kernel knows it by: the attributes of its origin, its number and its zone, as they came.
    handle: Vec<u8>,
}

/// Forgets the flows that `fronts` do not allow; returns how many.
pub(crate) fn forget(fronts: &Fronts, near: &Near) -> Result<usize, Error> {
    let socket = connect()?;
    let find = |len_max| {
        let mut stale = Vec::new();
        ask(&socket, GET, DUMP, &[], |flow| {
            if let Some(flow) = read_flow(flow).filter(|f| fronts.is_stale(f, near))
                && stale.len() < len_max
            {
                stale.push(flow.handle);
            }
        })?;
        Ok(stale)
    };
    let delete = |handle: &[u8]| match ask(&socket, DELETE, ACKNOWLEDGE, handle, |_| {}) {
        // It ended meanwhile.
        Err(nix::Error::ENOENT) => Ok(()),
        other => Ok(other?),
    };
    forget_all(FORGOTTEN_LEN_MAX, find, delete)
}

/// Finds some and deletes them, until there are fewer than it looks for.
fn forget_all(
    len_max: usize,
    find: impl Fn(usize) -> Result<Vec<Vec<u8>>, Error>,
    delete: impl Fn(&[u8]) -> Result<(), Error>,
) -> Result<usize, Error> {
    let mut forgotten = 0;
    for _ in 0..LOOKS_MAX {
        let stale = find(len_max)?;
        stale.iter().try_for_each(|handle| delete(handle))?;
        forgotten += stale.len();
        if stale.len() < len_max {
            break;
        }
    }
    Ok(forgotten)
}

impl From<nix::Error> for Error {
    fn from(e: nix::Error) -> Error {
        file("ask", Path::new("the kernel's table of flows"))(e.into())
    }
}

/// `NFNL_SUBSYS_CTNETLINK << 8` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
/// `NLM_F_REQUEST` with `NLM_F_DUMP` and with `NLM_F_ACK`.
const DUMP: u16 = 0x301;
const ACKNOWLEDGE: u16 = 0x5;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes of a message's header, and of what every message about IPv4 flows begins with.
const HEADER_LEN: usize = 16;
const FAMILY: [u8; 4] = [2, 0, 0, 0];
/// Attributes of a flow (`CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`, `CTA_ID`, `CTA_ZONE`), of a tuple (`CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`), of
/// its addresses and of its ports.
const ORIGIN: u16 = 1;
const REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const ADDRESSES: u16 = 1;
const PORTS: u16 = 2;
const FROM_ADDRESS: u16 = 1;
const TO_ADDRESS: u16 = 2;
const PROTOCOL: u16 = 1;
const FROM_PORT: u16 = 2;
const TO_PORT: u16 = 3;
/// Bits of an attribute's kind that are not about which it is.
const KIND_MASK: u16 = 0x3fff;
const UDP: u8 = 17;

fn connect() -> Result<OwnedFd, nix::Error> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends one request and hands what comes of it to `each`, until the kernel says that this was all.
fn ask(
    socket: &OwnedFd,
    kind: u16,
    flags: u16,
    attributes: &[u8],
    mut each: impl FnMut(&[u8]),
) -> Result<(), nix::Error> {
    let len =
        u32::try_from(HEADER_LEN + FAMILY.len() + attributes.len()).map_err(|_| nix::Error::EMSGSIZE)?;
    let mut request = len.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(FAMILY);
    request.extend(attributes);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = vec![0; ANSWER_LEN_MAX];
    loop {
        let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let mut rest = &answer[..len];
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return if code == 0 { Ok(()) } else { Err(nix::Error::from_raw(-code)) };
                }
                _ => each(body.get(FAMILY.len()..).unwrap_or_default()),
            }
            rest = next;
        }
    }
}

/// The first message of several: its kind, its body, what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_LEN..len)?;
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// Attributes one after the other: kind, value, and the whole with its padding.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & KIND_MASK;
        let value = bytes.get(4..len)?;
        let whole = &bytes[..len.next_multiple_of(4).min(bytes.len())];
        bytes = &bytes[whole.len()..];
        Some((kind, value, whole))
    })
}

fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, ..)| *kind == wanted).map(|(_, value, _)| value)
}

/// One end of a UDP tuple.
fn end(tuple: &[u8], address: u16, port: u16) -> Option<Backend> {
    let ports = attribute(tuple, PORTS)?;
    if attribute(ports, PROTOCOL)? != [UDP] {
        return None;
    }
    let ip: [u8; 4] = attribute(attribute(tuple, ADDRESSES)?, address)?.try_into().ok()?;
    Some((Ipv4Addr::from(ip), u16::from_be_bytes(attribute(ports, port)?.try_into().ok()?)))
}

fn read_flow(bytes: &[u8]) -> Option<Flow> {
    let origin = attribute(bytes, ORIGIN)?;
    let (from, _) = end(origin, FROM_ADDRESS, FROM_PORT)?;
    let to = end(origin, TO_ADDRESS, TO_PORT)?;
    let answered_by = end(attribute(bytes, REPLY)?, FROM_ADDRESS, FROM_PORT)?;
    let named = attributes(bytes).filter(|(kind, ..)| matches!(*kind, ORIGIN | ID | ZONE));
    Some(Flow {
        from,
        to,
        answered_by,
        handle: named.flat_map(|(.., whole)| whole.iter().copied()).collect(),
    })
}

#[cfg(test)]
mod tests;
