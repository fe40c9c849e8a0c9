//! Sets of ports as sorted, disjoint, non-adjacent inclusive ranges: the form of Mesos `ports`, and the ledger's book of
//! host ports and node ports.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub begin: u16,
    /// Last port, at least `begin`.
    pub end: u16,
}

/// A port with one protocol, on one address of the machine or on all of them: what a pod's `hostPort` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Transport,
    /// The address; `None` for all.
    pub ip: Option<IpAddr>,
}

/// Protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl HostPort {
    /// What both take.
    fn both(&self, other: &HostPort) -> Option<HostPort> {
        let ip = match (self.ip, other.ip) {
            (Some(a), Some(b)) if a != b => return None,
            (a, b) => a.or(b),
        };
        ((self.port, self.protocol) == (other.port, other.protocol)).then_some(HostPort { ip, ..*self })
    }

    fn covers(&self, other: &HostPort) -> bool {
        self.both(other) == Some(*other)
    }
}

/// A set of ports, kept normal: whole ports (every protocol, every address; all that Mesos knows) as sorted, disjoint
/// ranges, merged where adjacent, and beside them ports of which only one protocol or address is in the set. Written down
/// as ranges: what outlives a process is Mesos' and whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<PortRange>", into = "Vec<PortRange>")]
pub struct PortSet {
    whole: Vec<PortRange>,
    /// Sorted; none of a whole port, none covered by another.
    parts: Vec<HostPort>,
}

impl PortSet {
    /// No ports.
    pub const EMPTY: PortSet = PortSet { whole: Vec::new(), parts: Vec::new() };

    /// Any ranges, in any order; those that end before they begin are dropped.
    pub fn from_ranges(ranges: impl IntoIterator<Item = PortRange>) -> PortSet {
        let mut v: Vec<PortRange> = ranges.into_iter().filter(|r| r.begin <= r.end).collect();
        v.sort_unstable();
        let mut out: Vec<PortRange> = Vec::with_capacity(v.len());
        for r in v {
            match out.last_mut() {
                Some(last) if u32::from(r.begin) <= u32::from(last.end) + 1 => last.end = last.end.max(r.end),
                _ => out.push(r),
            }
        }
        PortSet { whole: out, parts: Vec::new() }
    }

    /// Parts of ports.
    pub fn from_parts(parts: impl IntoIterator<Item = HostPort>) -> PortSet {
        PortSet::EMPTY.with_parts(parts.into_iter().collect())
    }

    fn with_parts(mut self, mut parts: Vec<HostPort>) -> PortSet {
        parts.retain(|p| !self.has_whole(p.port));
        parts.sort_unstable();
        parts.dedup();
        self.parts = match parts.iter().any(|p| p.ip.is_none()) {
            false => parts,
            true => {
                let is_kept = |p: &&HostPort| !parts.iter().any(|o| o != *p && o.covers(p));
                parts.iter().filter(is_kept).copied().collect()
            }
        };
        self
    }

    /// One port.
    pub fn one(port: u16) -> PortSet {
        PortSet::from_ranges([PortRange { begin: port, end: port }])
    }

    /// The ranges of whole ports.
    pub fn ranges(&self) -> &[PortRange] {
        &self.whole
    }

    /// All ports of which at least a part is here, as whole ones.
    #[must_use]
    pub fn widened(&self) -> PortSet {
        let parts = self.parts.iter().map(|p| PortRange { begin: p.port, end: p.port });
        PortSet::from_ranges(self.whole.iter().copied().chain(parts))
    }

    /// Whether no port is in the set.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.parts.is_empty()
    }

    /// How many whole ports are in the set.
    pub fn len(&self) -> u32 {
        self.whole.iter().map(|r| u32::from(r.end - r.begin) + 1).sum()
    }

    fn has_whole(&self, port: u16) -> bool {
        let i = self.whole.partition_point(|r| r.end < port);
        self.whole.get(i).is_some_and(|r| r.begin <= port)
    }

    /// Whether all of `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.has_whole(port)
    }

    /// Whether every port of `other` is here.
    pub fn contains_all(&self, other: &PortSet) -> bool {
        let whole = other.whole.iter().all(|o| {
            let i = self.whole.partition_point(|r| r.end < o.begin);
            self.whole.get(i).is_some_and(|r| r.begin <= o.begin && o.end <= r.end)
        });
        whole && other.parts.iter().all(|o| self.has_whole(o.port) || self.parts.iter().any(|p| p.covers(o)))
    }

    /// Whether the two have a port in common.
    pub fn intersects(&self, other: &PortSet) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Ports in either.
    #[must_use]
    pub fn union(&self, other: &PortSet) -> PortSet {
        let whole = PortSet::from_ranges(self.whole.iter().chain(&other.whole).copied());
        match self.parts.is_empty() && other.parts.is_empty() {
            true => whole,
            false => whole.with_parts(self.parts.iter().chain(&other.parts).copied().collect()),
        }
    }

    /// Ports in both.
    #[must_use]
    pub fn intersection(&self, other: &PortSet) -> PortSet {
        let (mut i, mut j, mut out) = (0, 0, Vec::new());
        while let (Some(a), Some(b)) = (self.whole.get(i), other.whole.get(j)) {
            let (begin, end) = (a.begin.max(b.begin), a.end.min(b.end));
            if begin <= end {
                out.push(PortRange { begin, end });
            }
            if a.end < b.end { i += 1 } else { j += 1 }
        }
        let whole = PortSet { whole: out, parts: Vec::new() };
        if self.parts.is_empty() && other.parts.is_empty() {
            return whole;
        }
        let mine = self.parts.iter().filter(|p| other.has_whole(p.port)).copied();
        let theirs = other.parts.iter().filter(|p| self.has_whole(p.port)).copied();
        let shared = self.parts.iter().flat_map(|p| other.parts.iter().filter_map(|o| p.both(o)));
        whole.with_parts(mine.chain(theirs).chain(shared).collect())
    }

    /// Ports here of which nothing is in `other`: what is left to give away.
    #[must_use]
    pub fn difference(&self, other: &PortSet) -> PortSet {
        if !other.parts.is_empty() {
            let parts = self.parts.iter().filter(|p| !other.has_whole(p.port));
            let parts = parts.filter(|p| !other.parts.iter().any(|o| p.both(o).is_some()));
            let left = PortSet { whole: self.whole.clone(), parts: Vec::new() }.difference(&other.widened());
            return left.with_parts(parts.copied().collect());
        }
        let mut out = Vec::with_capacity(self.whole.len());
        for r in &self.whole {
            let mut begin = u32::from(r.begin);
            let end = u32::from(r.end);
            let first = other.whole.partition_point(|o| o.end < r.begin);
            for o in other.whole[first..].iter().take_while(|o| u32::from(o.begin) <= end) {
                if begin < u32::from(o.begin) {
                    out.push(PortRange { begin: begin as u16, end: o.begin - 1 });
                }
                begin = begin.max(u32::from(o.end) + 1);
            }
            if begin <= end {
                out.push(PortRange { begin: begin as u16, end: r.end });
            }
        }
        let parts = self.parts.iter().filter(|p| !other.has_whole(p.port)).copied().collect();
        PortSet { whole: out, parts }
    }
}

impl From<Vec<PortRange>> for PortSet {
    fn from(ranges: Vec<PortRange>) -> PortSet {
        PortSet::from_ranges(ranges)
    }
}

impl From<PortSet> for Vec<PortRange> {
    fn from(set: PortSet) -> Vec<PortRange> {
        set.widened().whole
    }
}

impl fmt::Display for PortSet {
    /// Mesos' flat form: `[31000-31004, 31010-31010]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, r) in self.widened().whole.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}-{}", r.begin, r.end)?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set() -> impl Strategy<Value = PortSet> {
        prop::collection::vec((0u16..60, 0u16..8), 0..6).prop_map(|v| {
            PortSet::from_ranges(v.into_iter().map(|(b, n)| PortRange { begin: b, end: b + n }))
        })
    }

    fn naive(s: &PortSet) -> BTreeSet<u16> {
        s.ranges().iter().flat_map(|r| r.begin..=r.end).collect()
    }

    proptest! {
        #[test]
        fn set_algebra_agrees_with_a_naive_set(a in set(), b in set()) {
            let (na, nb) = (naive(&a), naive(&b));
            prop_assert_eq!(naive(&a.union(&b)), na.union(&nb).copied().collect());
            prop_assert_eq!(naive(&a.intersection(&b)), na.intersection(&nb).copied().collect());
            prop_assert_eq!(naive(&a.difference(&b)), na.difference(&nb).copied().collect());
            prop_assert_eq!(a.contains_all(&b), nb.is_subset(&na));
            prop_assert_eq!(a.len() as usize, na.len());
            for p in 0..70 { prop_assert_eq!(a.contains(p), na.contains(&p)); }
        }
    }

    const IPS: [Option<IpAddr>; 3] = [
        None,
        Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1))),
        Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2))),
    ];

    fn mixed() -> impl Strategy<Value = PortSet> {
        let part = (0u16..6, any::<bool>(), 0usize..3).prop_map(|(port, udp, ip)| HostPort {
            port,
            protocol: if udp { Transport::Udp } else { Transport::Tcp },
            ip: IPS[ip],
        });
        let whole = prop::collection::vec(0u16..6, 0..3);
        (whole, prop::collection::vec(part, 0..6)).prop_map(|(whole, parts)| {
            let whole = whole.into_iter().fold(PortSet::EMPTY, |s, p| s.union(&PortSet::one(p)));
            whole.union(&PortSet::from_parts(parts))
        })
    }

    /// Every protocol on three addresses, the third of which nobody names.
    fn sockets(s: &PortSet) -> BTreeSet<(u16, Transport, u8)> {
        let all = (0u16..8).flat_map(|port| {
            [Transport::Tcp, Transport::Udp, Transport::Sctp].map(|t| [1, 2, 3].map(|ip| (port, t, ip)))
        });
        let is_in = |(port, transport, ip): &(u16, Transport, u8)| {
            s.contains(*port)
                || s.parts.iter().any(|p| {
                    (p.port, p.protocol) == (*port, *transport)
                        && IPS
                            .iter()
                            .position(|i| *i == p.ip)
                            .is_some_and(|i| i == 0 || i == usize::from(*ip))
                })
        };
        all.flatten().filter(is_in).collect()
    }

    proptest! {
        #[test]
        fn parts_of_ports_agree_with_a_set_of_sockets(a in mixed(), b in mixed()) {
            let (na, nb) = (sockets(&a), sockets(&b));
            prop_assert_eq!(sockets(&a.union(&b)), na.union(&nb).copied().collect());
            prop_assert_eq!(sockets(&a.intersection(&b)), na.intersection(&nb).copied().collect());
            prop_assert_eq!(a.intersects(&b), !na.is_disjoint(&nb));
            prop_assert_eq!(a.contains_all(&b), nb.is_subset(&na));
            prop_assert!(sockets(&a.difference(&b)).is_disjoint(&nb), "something taken is given away");
            prop_assert!(sockets(&a.difference(&b)).is_subset(&na));
        }
    }

    #[test]
    fn one_port_serves_several_addresses_and_protocols() {
        let part = |protocol, ip| PortSet::from_parts([HostPort { port: 80, protocol, ip }]);
        let used = part(Transport::Tcp, IPS[1]).union(&part(Transport::Udp, None));
        assert!(!used.intersects(&part(Transport::Tcp, IPS[2])));
        assert!(used.intersects(&part(Transport::Tcp, None)));
        assert!(used.intersects(&part(Transport::Udp, IPS[1])));
        assert!(used.intersects(&PortSet::one(80)), "Mesos takes all of it");
        assert!(PortSet::one(80).difference(&used).is_empty());
        assert_eq!(used.difference(&part(Transport::Udp, None)), part(Transport::Tcp, IPS[1]));
        assert_eq!((used.to_string(), used.len()), ("[80-80]".into(), 0));
    }

    #[test]
    fn the_whole_port_space_does_not_overflow() {
        let all = PortSet::from_ranges([PortRange { begin: 0, end: u16::MAX }]);
        assert!(all.difference(&all).is_empty());
        assert_eq!(all.difference(&PortSet::one(u16::MAX)).len(), 65_535);
    }
}
