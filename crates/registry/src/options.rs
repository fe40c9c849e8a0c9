//! What a registry is told when it is made, and the bounds it keeps.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Objects that one page of a list reads from the store at a time.
pub const RANGE_PAGE_LEN: usize = 500;
/// Longest `continue` token that is looked at.
pub const CONTINUE_LEN_MAX: usize = 4 * 1024;
/// For how long the pages of a list show the revision of the first, if there is a newer one: as long as a stock server keeps history.
pub const CONTINUE_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// How often a generated name is drawn again when it is taken.
pub const GENERATE_NAME_TRIES_MAX: usize = 8;
/// How often a patch is applied to a newer object before the conflict is told to the client.
pub const PATCH_TRIES_MAX: usize = 5;
/// How often an internal change is applied to a newer object before it gives up.
pub const MODIFY_TRIES_MAX: usize = 16;
/// How often an address or port is drawn before the range is searched in order.
pub const ALLOCATE_DRAWS_MAX: usize = 16;
/// How many addresses in a row are then looked at: all that a first range can have.
pub const ALLOCATE_SEARCH_LEN_MAX: u32 = 1 << 20;
/// How long a read waits for a revision that the store has not reached.
pub const FUTURE_REVISION_WAIT: Duration = Duration::from_secs(3);
/// How often an idle watch is told how far it has come.
pub const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
/// Shortest life of a watch that asks for no timeout; the longest is twice that.
pub const WATCH_TIMEOUT_MIN: Duration = Duration::from_secs(1800);
/// Longest life of a watch, whatever it asks for.
pub const WATCH_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Objects that one `deletecollection` removes at most before it answers.
pub const DELETE_COLLECTION_LEN_MAX: usize = 100_000;

/// A range of IPv4 addresses for services, as a base and a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    base: u32,
    prefix: u8,
}

impl ServiceCidr {
    /// Reads `10.96.0.0/16`. Prefixes shorter than /12 or longer than /30 are refused, as a stock server does.
    pub fn parse(text: &str) -> Option<ServiceCidr> {
        ServiceCidr::of_any_size(text).filter(|cidr| cidr.prefix >= 12)
    }

    /// Reads a range that is added to the first, and may be larger. Those that hold no address to hand out are none.
    pub(crate) fn of_any_size(text: &str) -> Option<ServiceCidr> {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok().filter(|p| (1..=30).contains(p))?;
        let mask = u32::MAX << (32 - prefix);
        Some(ServiceCidr { base: u32::from(address) & mask, prefix })
    }

    /// How many addresses may be handed out: all but the network's and the broadcast address.
    pub fn len(&self) -> u32 {
        (1u32 << (32 - self.prefix)) - 2
    }

    /// Never true: the smallest range holds two addresses.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The range's own address, which nobody gets.
    pub(crate) fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base)
    }

    /// The address at `index`, counted from the first that may be handed out.
    pub fn nth(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1 + index % self.len())
    }

    /// The address by which pods ask for names: customarily the tenth.
    pub fn dns(&self) -> Ipv4Addr {
        self.nth(9)
    }

    /// Whether the address is one that may be handed out.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let a = u32::from(address);
        a > self.base && a - self.base <= self.len()
    }
}

impl fmt::Display for ServiceCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

/// The registry's configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where services' cluster addresses come from. Its first address is that of the `kubernetes` service.
    pub service_cidr: ServiceCidr,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// The address and port under which pods reach this API server, for the `kubernetes` service's endpoints.
    pub advertise: Option<(Ipv4Addr, u16)>,
    /// What the operator has decided about admission.
    pub policy: stoa_admit::Policy,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            service_cidr: ServiceCidr { base: u32::from(Ipv4Addr::new(10, 96, 0, 0)), prefix: 16 },
            node_ports: (30000, 32767),
            advertise: None,
            policy: stoa_admit::Policy::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cidr_hands_out_all_but_its_ends() {
        let c = ServiceCidr::parse("10.96.0.0/30").unwrap();
        assert_eq!((c.len(), c.to_string().as_str()), (2, "10.96.0.0/30"));
        assert_eq!([c.nth(0), c.nth(1)], [Ipv4Addr::new(10, 96, 0, 1), Ipv4Addr::new(10, 96, 0, 2)]);
        assert!(!c.contains(Ipv4Addr::new(10, 96, 0, 0)));
        assert!(c.contains(Ipv4Addr::new(10, 96, 0, 2)));
        assert!(!c.contains(Ipv4Addr::new(10, 96, 0, 3)));
        for bad in ["", "10.0.0.0", "10.0.0.0/8", "10.0.0.0/31", "x/16", "10.0.0.0/x"] {
            assert_eq!(ServiceCidr::parse(bad), None, "{bad}");
        }
    }
}
