//! Services' cluster addresses and node ports: each taken one is a record in the store, made and removed in the very
//! transaction that writes the service, so that two services can never hold the same one and none is leaked.

use crate::Registry;
use crate::options::{ALLOCATE_DRAWS_MAX, ALLOCATE_SEARCH_LEN_MAX, ServiceCidr};
use rand::Rng;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use stoa_admit::service::{
    Address, NodePort, address_exhausted, address_outside, address_taken, needs, node_port_exhausted,
    node_port_outside, node_port_taken, set_address, set_node_port,
};
use stoa_kube::{Cause, Resource, Status};
use stoa_store::{Key, Range};
use stoa_units::{Revision, Stamped};

const ADDRESSES: &str = "clusterips";
/// Where the records of node ports are.
pub const NODE_PORTS: &str = "nodeports";

/// Knows whether a node port is somebody else's: a task's, or offered to frameworks.
pub trait PortKeeper: Send + Sync {
    /// Takes a port for a service that is about to be written. False where it is in use.
    fn take(&self, port: u16) -> bool;
    /// Whether frameworks may be offered it: services get such a port only if they ask for it or there is no other.
    fn is_offerable(&self, port: u16) -> bool;
}

/// Records to make or remove with a service.
pub(crate) type Records = Vec<(Key, Stamped)>;

/// What a write of a service takes and gives back.
#[derive(Default)]
pub(crate) struct Allocation {
    /// Records to make.
    pub(crate) puts: Records,
    /// Records to remove.
    pub(crate) deletes: Records,
    /// The added range that an address was taken of, as it was: once it is being deleted nothing may be taken of it, or its
    /// controller would let it go while a service holds an address of it.
    pub(crate) guards: Vec<(Key, Revision)>,
}

/// A range that was added to the first, and the object that says so.
struct AddedRange {
    cidr: ServiceCidr,
    guard: (Key, Revision),
}

/// An address, and the added range that it is of.
type Drawn = (Ipv4Addr, Option<(Key, Revision)>);

/// Whether objects of the resource hold addresses and ports.
pub(crate) fn is_allocated(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "services"
}

fn address_key(address: Ipv4Addr) -> Key {
    Key::internal(ADDRESSES, &address.to_string())
}

fn port_key(port: u16) -> Key {
    Key::internal(NODE_PORTS, &port.to_string())
}

fn text<'a>(service: &'a Value, field: &str) -> &'a str {
    service["spec"][field].as_str().unwrap_or_default()
}

fn wants_health_port(service: &Value) -> bool {
    text(service, "type") == "LoadBalancer" && text(service, "externalTrafficPolicy") == "Local"
}

fn owner(service: &Value) -> String {
    let meta = &service["metadata"];
    format!(
        "{}/{}",
        meta["namespace"].as_str().unwrap_or_default(),
        meta["name"].as_str().unwrap_or_default()
    )
}

/// What a service holds.
fn held(service: &Value) -> BTreeSet<Key> {
    let address = text(service, "clusterIP").parse().ok().map(address_key);
    let ports = service["spec"]["ports"].as_array().into_iter().flatten().map(|p| &p["nodePort"]);
    let ports = ports.chain([&service["spec"]["healthCheckNodePort"]]);
    let ports = ports.filter_map(|p| p.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0));
    address.into_iter().chain(ports.map(port_key)).collect()
}

impl Registry {
    /// Gives a new service what it asks for or needs.
    pub(crate) fn allocate_new(&self, service: &mut Value) -> Result<Allocation, Status> {
        refuse(service, stoa_admit::validate_addresses(None, service))?;
        self.allocate(service, &BTreeSet::new())
    }

    /// Gives a changed service what it newly needs.
    pub(crate) fn allocate_changed(&self, old: &Value, new: &mut Value) -> Result<Allocation, Status> {
        refuse(new, stoa_admit::validate_addresses(Some(old), new))?;
        keep_health_port(old, new);
        let before = held(old);
        let made = self.allocate(new, &before)?;
        let after = held(new);
        let gone = before.difference(&after).cloned().collect::<Vec<_>>();
        Ok(Allocation { deletes: self.records_of(gone, &owner(old)), ..made })
    }

    /// The records that go with a service.
    pub(crate) fn allocated(&self, service: &Value) -> Records {
        self.records_of(held(service), &owner(service))
    }

    /// Only records that exist and are the service's own: others are not its to remove.
    fn records_of(&self, keys: impl IntoIterator<Item = Key>, owner: &str) -> Records {
        let own = |key: &Key| self.store().get(key).filter(|e| e.value == owner.as_bytes());
        keys.into_iter().filter_map(|key| own(&key).map(|e| (key, Stamped::plain(e.value)))).collect()
    }

    fn allocate(&self, service: &mut Value, before: &BTreeSet<Key>) -> Result<Allocation, Status> {
        let mut taken: BTreeSet<Key> = BTreeSet::new();
        let mut guards = Vec::new();
        let mut causes = Vec::new();
        let mut needs = needs(service);
        // What is asked for by number goes first, so that no draw takes it.
        needs.node_ports.sort_by_key(|n| n.port.is_none());
        match self.address(service, &needs.address, before) {
            Ok(None) => {}
            Ok(Some((address, guard))) => {
                guards.extend(guard);
                taken.insert(address_key(address));
                set_address(service, IpAddr::V4(address));
            }
            Err(cause) => causes.push(cause),
        }
        for need in &needs.node_ports {
            match self.node_port(need, before, &taken) {
                Ok(port) => {
                    taken.insert(port_key(port));
                    set_node_port(service, need.index, port);
                }
                Err(cause) => causes.push(cause),
            }
        }
        if wants_health_port(service) {
            match self.health_port(service, before, &taken) {
                Ok(port) => {
                    taken.insert(port_key(port));
                    service["spec"]["healthCheckNodePort"] = port.into();
                }
                Err(cause) => causes.push(cause),
            }
        }
        refuse(service, causes)?;
        let value = Stamped::plain(owner(service));
        let puts = taken.into_iter().filter(|k| !before.contains(k)).map(|k| (k, value.clone())).collect();
        Ok(Allocation { puts, deletes: Vec::new(), guards })
    }

    fn address(
        &self,
        service: &Value,
        wanted: &Address,
        before: &BTreeSet<Key>,
    ) -> Result<Option<Drawn>, Cause> {
        let asked = match wanted {
            Address::None => return Ok(None),
            Address::Any => return self.draw_address().map(Some).ok_or_else(address_exhausted),
            Address::Exactly(asked) => *asked,
        };
        let IpAddr::V4(address) = asked else { return Err(address_outside(service, asked)) };
        if before.contains(&address_key(address)) {
            return Ok(Some((address, None)));
        }
        let guard = match self.options().service_cidr.contains(address) {
            true => None,
            false => match self.more_ranges().into_iter().find(|r| r.cidr.contains(address)) {
                Some(range) => Some(range.guard),
                None => return Err(address_outside(service, asked)),
            },
        };
        if !self.is_free(address) {
            return Err(address_taken(service, asked));
        }
        Ok(Some((address, guard)))
    }

    fn node_port(
        &self,
        need: &NodePort,
        before: &BTreeSet<Key>,
        taken: &BTreeSet<Key>,
    ) -> Result<u16, Cause> {
        let Some(port) = need.port else {
            return self.draw_port(taken).ok_or_else(|| node_port_exhausted(need.index));
        };
        let (first, last) = self.options().node_ports;
        if !(first..=last).contains(&port) {
            return Err(node_port_outside(need.index, port, first, last));
        }
        // The same number may serve two protocols of one service.
        let key = port_key(port);
        let ours = before.contains(&key) || taken.contains(&key);
        if !ours && (self.store().get(&key).is_some() || !self.take_port(port)) {
            return Err(node_port_taken(need.index, port));
        }
        Ok(port)
    }

    /// The port on which a load balancer asks whether a node has endpoints.
    fn health_port(
        &self,
        service: &Value,
        before: &BTreeSet<Key>,
        taken: &BTreeSet<Key>,
    ) -> Result<u16, Cause> {
        let field = "spec.healthCheckNodePort";
        let asked = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
        if asked == 0 {
            let full = || Cause::internal(field, "failed to allocate a nodePort: range is full");
            return self.draw_port(taken).ok_or_else(full);
        }
        let (first, last) = self.options().node_ports;
        let port = u16::try_from(asked).ok().filter(|p| (first..=last).contains(p));
        let port = port.ok_or_else(|| {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            Cause::invalid(field, asked, &why)
        })?;
        let key = port_key(port);
        let is_ours = before.contains(&key);
        if !is_ours && (taken.contains(&key) || self.store().get(&key).is_some() || !self.take_port(port)) {
            return Err(Cause::invalid(field, asked, "provided port is already allocated"));
        }
        Ok(port)
    }

    /// Nobody's: neither a service's, nor one that a client has written down as something else's.
    fn is_free(&self, address: Ipv4Addr) -> bool {
        self.store().get(&address_key(address)).is_none() && !self.is_claimed(address)
    }

    fn is_claimed(&self, address: Ipv4Addr) -> bool {
        let entry =
            self.store().get(&Key::object("networking.k8s.io", "ipaddresses", "", &address.to_string()));
        let object = entry.and_then(|e| serde_json::from_slice::<Value>(&e.value).ok());
        object.is_some_and(|a| {
            a["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"] != "ipallocator.k8s.io"
        })
    }

    /// The ranges that were added to the first, but for those that are being deleted. Few clusters have any: they are looked at
    /// when the first range is of no use.
    fn more_ranges(&self) -> Vec<AddedRange> {
        let prefix = Key::prefix("networking.k8s.io", "servicecidrs", "");
        let found = self.store().range(Range { prefix: &prefix, ..Range::default() });
        let mut ranges = Vec::new();
        for entry in found.map(|page| page.entries).unwrap_or_default() {
            let object = serde_json::from_slice::<Value>(&entry.value).unwrap_or_default();
            if !object["metadata"]["deletionTimestamp"].is_null() {
                continue;
            }
            let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten();
            let cidrs = cidrs.filter_map(|c| ServiceCidr::of_any_size(c.as_str()?));
            let added = cidrs.filter(|c| *c != self.options().service_cidr);
            ranges.extend(added.map(|cidr| AddedRange { cidr, guard: (entry.key.clone(), entry.modified) }));
        }
        ranges
    }

    fn draw_address(&self) -> Option<Drawn> {
        let first = self.options().service_cidr;
        // Its first address is the `kubernetes` service's.
        let never = first.nth(0);
        if let Some(address) = self.draw_from(first, never) {
            return Some((address, None));
        }
        let mut added = self.more_ranges().into_iter();
        added.find_map(|range| Some((self.draw_from(range.cidr, never)?, Some(range.guard))))
    }

    fn draw_from(&self, cidr: ServiceCidr, never: Ipv4Addr) -> Option<Ipv4Addr> {
        let free = |i: u32| {
            let address = cidr.nth(i);
            (address != never && self.is_free(address)).then_some(address)
        };
        let start = rand::rng().random_range(0..cidr.len());
        let drawn = (0..ALLOCATE_DRAWS_MAX).find_map(|_| free(rand::rng().random_range(0..cidr.len())));
        let rest = 0..cidr.len().min(ALLOCATE_SEARCH_LEN_MAX);
        drawn.or_else(|| rest.into_iter().find_map(|i| free((start + i) % cidr.len())))
    }

    fn draw_port(&self, taken: &BTreeSet<Key>) -> Option<u16> {
        let (first, last) = self.options().node_ports;
        let is_free = |port: &u16| {
            let key = port_key(*port);
            !taken.contains(&key) && self.store().get(&key).is_none()
        };
        let is_offerable = |port: u16| self.port_keeper().is_some_and(|k| k.is_offerable(port));
        let draw = |_| rand::rng().random_range(first..=last);
        let mut drawn = (0..ALLOCATE_DRAWS_MAX).map(draw).filter(is_free);
        let apart = |port: &u16| !is_offerable(*port) && self.take_port(*port);
        let found = drawn.find(apart).or_else(|| (first..=last).filter(is_free).find(apart));
        found.or_else(|| (first..=last).filter(is_free).find(|port| self.take_port(*port)))
    }

    fn take_port(&self, port: u16) -> bool {
        self.port_keeper().is_none_or(|k| k.take(port))
    }
}

/// Refuses a service for what is wrong with it, if anything is.
fn refuse(service: &Value, causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    Err(Status::invalid("Service", "", name, causes))
}

/// The health port stays what it was while the service wants one; its client seldom knows it.
fn keep_health_port(old: &Value, new: &mut Value) {
    let was = &old["spec"]["healthCheckNodePort"];
    let asked = new["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
    if wants_health_port(new) && asked == 0 && was.as_u64() > Some(0) {
        new["spec"]["healthCheckNodePort"] = was.clone();
    }
}
