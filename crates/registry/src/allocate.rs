//! Services' cluster addresses and node ports: each taken one is a record in the store, made and removed in the very
//! transaction that writes the service, so that two services can never hold the same one and none is leaked.

use crate::context::Persist;
use crate::options::{ALLOCATE_DRAWS_MAX, ALLOCATE_SEARCH_LEN_MAX, ServiceCidr};
use crate::{Context, Registry};
use rand::Rng;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use stoa_admit::service::{
    Address, Needs, address_exhausted, address_not_in, address_outside, address_taken, needs,
    node_port_exhausted, node_port_outside, node_port_taken, set_address, set_node_port,
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
    pub(crate) fn allocate_new(&self, ctx: &Context, service: &mut Value) -> Result<Allocation, Status> {
        refuse(service, stoa_admit::validate_addresses(None, service))?;
        let before = BTreeSet::new();
        let mut ports = Ports::new(self, ctx.persist, &before);
        let needs = needs(service);
        let drawn = self.address(ctx.persist, service, &needs.address);
        let drawn = told(service, drawn)?;
        let given = ports.give_new(service, &needs).and_then(|()| ports.give_health_port(service));
        told(service, given)?;
        Ok(ports.into_allocation(service, drawn))
    }

    /// Gives a changed service what it newly needs.
    pub(crate) fn allocate_changed(
        &self,
        ctx: &Context,
        old: &Value,
        new: &mut Value,
    ) -> Result<Allocation, Status> {
        refuse(new, stoa_admit::validate_addresses(Some(old), new))?;
        keep_health_port(old, new);
        let before = held(old);
        let mut ports = Ports::new(self, ctx.persist, &before);
        let needs = needs(new);
        // An address is a service's for life, unless it was a mere name: validation tells who would change it.
        let drawn = match text(old, "type") {
            "ExternalName" => told(new, self.address(ctx.persist, new, &needs.address))?,
            _ => None,
        };
        let given = ports.give_changed(new, &needs).and_then(|()| match wants_health_port(old) {
            true => Ok(()),
            false => ports.give_health_port(new),
        });
        told(new, given)?;
        let made = ports.into_allocation(new, drawn);
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

    fn address(&self, persist: Persist, service: &Value, wanted: &Address) -> Result<Option<Drawn>, Cause> {
        let shown = persist == Persist::DryRun;
        let first = self.options().service_cidr;
        let asked = match wanted {
            Address::None => return Ok(None),
            // What is only shown need not be free: a stock server shows the range's own.
            Address::Any if shown => return Ok(Some((first.network(), None))),
            Address::Any => return self.draw_address().map(Some).ok_or_else(address_exhausted),
            Address::Exactly(asked) => *asked,
        };
        let outside = || match shown {
            true => address_not_in(service, asked, &first.to_string()),
            false => address_outside(service, asked),
        };
        let IpAddr::V4(address) = asked else { return Err(outside()) };
        let guard = match first.contains(address) {
            true => None,
            false => match self.more_ranges().into_iter().find(|r| r.cidr.contains(address)) {
                Some(range) => Some(range.guard),
                None => return Err(outside()),
            },
        };
        if !shown && !self.is_free(address) {
            return Err(address_taken(service, asked));
        }
        Ok(Some((address, guard)))
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

    fn draw_port(&self, taken: &BTreeSet<i64>) -> Option<u16> {
        let (first, last) = self.options().node_ports;
        let is_free =
            |port: &u16| !taken.contains(&i64::from(*port)) && self.store().get(&port_key(*port)).is_none();
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

/// Why a node port is not given out.
enum Refused {
    Outside,
    Taken,
}

/// What a request that changes nothing is shown begins above this, as a stock server has it: no port of the range is drawn for it.
const SHOWN_PORT: i64 = 32_768;

/// Gives out node ports for one service.
struct Ports<'a> {
    registry: &'a Registry,
    persist: Persist,
    /// What the service holds already.
    before: &'a BTreeSet<Key>,
    taken: BTreeSet<i64>,
    /// That, and what the service asks for by number: no draw takes these.
    unfree: BTreeSet<i64>,
}

impl<'a> Ports<'a> {
    fn new(registry: &'a Registry, persist: Persist, before: &'a BTreeSet<Key>) -> Ports<'a> {
        Ports { registry, persist, before, taken: BTreeSet::new(), unfree: BTreeSet::new() }
    }

    fn reserve(&mut self, service: &Value, needs: &Needs) {
        self.unfree.extend(needs.node_ports.iter().map(|p| p.asked).filter(|p| *p != 0));
        self.unfree.extend(service["spec"]["healthCheckNodePort"].as_i64().filter(|p| *p != 0));
    }

    /// Takes a port by its number.
    fn ask(&mut self, number: i64) -> Result<(), Refused> {
        let (first, last) = self.registry.options().node_ports;
        let shown = self.persist == Persist::DryRun;
        let port = u16::try_from(number).ok().filter(|p| (first..=last).contains(p));
        // Of what nobody gives out nothing is known where nothing is taken.
        let is_free = match port {
            Some(port) => {
                self.registry.store().get(&port_key(port)).is_none()
                    && (shown || self.registry.take_port(port))
            }
            None if shown => true,
            None => return Err(Refused::Outside),
        };
        if !is_free || !self.taken.insert(number) {
            return Err(Refused::Taken);
        }
        Ok(())
    }

    /// Takes any.
    fn draw(&mut self) -> Option<i64> {
        let port = match self.persist {
            Persist::DryRun => self.taken.last().copied().unwrap_or(SHOWN_PORT) + 1,
            Persist::Commit => self.registry.draw_port(&self.unfree)?.into(),
        };
        self.taken.insert(port);
        self.unfree.insert(port);
        Some(port)
    }

    fn refusal(&self, index: usize, number: i64, refused: Refused) -> Cause {
        let (first, last) = self.registry.options().node_ports;
        match refused {
            Refused::Outside => node_port_outside(index, number, first, last),
            Refused::Taken => node_port_taken(index, number),
        }
    }

    /// Those of a new service: one for each of its ports, whatever the protocol.
    fn give_new(&mut self, service: &mut Value, needs: &Needs) -> Result<(), Cause> {
        self.reserve(service, needs);
        let mut asked: HashMap<i64, i64> = HashMap::new();
        for need in needs.node_ports.iter().filter(|n| n.asked != 0) {
            asked.entry(need.port).or_insert(need.asked);
        }
        let mut given: HashMap<i64, i64> = HashMap::new();
        for need in &needs.node_ports {
            let number = match (given.get(&need.port), asked.get(&need.port)) {
                (Some(shared), _) if need.asked == 0 || need.asked == *shared => *shared,
                (Some(_), _) => {
                    self.ask(need.asked).map_err(|why| self.refusal(need.index, need.asked, why))?;
                    need.asked
                }
                (None, Some(number)) => {
                    self.ask(*number).map_err(|why| self.refusal(need.index, *number, why))?;
                    *number
                }
                (None, None) => self.draw().ok_or_else(|| node_port_exhausted(need.index))?,
            };
            given.entry(need.port).or_insert(number);
            set_node_port(service, need.index, number);
        }
        Ok(())
    }

    /// Those of a changed service. The same number may serve two protocols of it.
    fn give_changed(&mut self, service: &mut Value, needs: &Needs) -> Result<(), Cause> {
        self.reserve(service, needs);
        for need in &needs.node_ports {
            if need.asked == 0 {
                let number = self.draw().ok_or_else(|| node_port_exhausted(need.index))?;
                set_node_port(service, need.index, number);
                continue;
            }
            let key = u16::try_from(need.asked).ok().map(port_key);
            let is_ours = key.is_some_and(|k| self.before.contains(&k)) || self.taken.contains(&need.asked);
            if !is_ours {
                self.ask(need.asked).map_err(|why| self.refusal(need.index, need.asked, why))?;
            }
        }
        Ok(())
    }

    /// The port on which a load balancer asks whether a node has endpoints.
    fn give_health_port(&mut self, service: &mut Value) -> Result<(), Cause> {
        if !wants_health_port(service) {
            return Ok(());
        }
        let field = "spec.healthCheckNodePort";
        let asked = service["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0);
        if asked == 0 {
            let full = || Cause::internal(field, "failed to allocate a nodePort: range is full");
            service["spec"]["healthCheckNodePort"] = self.draw().ok_or_else(full)?.into();
            return Ok(());
        }
        let (first, last) = self.registry.options().node_ports;
        self.ask(asked).map_err(|refused| {
            let why = match refused {
                Refused::Outside => format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                ),
                Refused::Taken => "provided port is already allocated".to_owned(),
            };
            Cause::invalid(field, asked, &why)
        })
    }

    /// What is written with the service, which is told its address.
    fn into_allocation(self, service: &mut Value, drawn: Option<Drawn>) -> Allocation {
        let mut keys: BTreeSet<Key> =
            self.taken.iter().filter_map(|p| u16::try_from(*p).ok()).map(port_key).collect();
        let mut guards = Vec::new();
        if let Some((address, guard)) = drawn {
            guards.extend(guard);
            keys.insert(address_key(address));
            set_address(service, IpAddr::V4(address));
        }
        let value = Stamped::plain(owner(service));
        let puts = keys.into_iter().filter(|k| !self.before.contains(k)).map(|k| (k, value.clone()));
        Allocation { puts: puts.collect(), deletes: Vec::new(), guards }
    }
}

/// The answer for a service that does not get what it needs.
fn told<T>(service: &Value, given: Result<T, Cause>) -> Result<T, Status> {
    given.map_err(|cause| {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        Status::invalid("Service", "", name, vec![cause])
    })
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
