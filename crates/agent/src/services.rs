//! The cluster's services as this machine sees them: what the leader pushed of Services and EndpointSlices, by service,
//! and what of them the packet filter is to do. Only services that changed are looked at again.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use stoa_net::{Backend, Protocol, Services};
use stoa_wire::Referent;
use tokio::sync::watch;

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// For how long a client keeps its backend where the service does not say.
const STICKY_SECONDS_DEFAULT: u32 = 10_800;

/// Namespace and name.
pub(crate) type Names = (String, String);

/// A service and the slices that name it.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) service: Option<Arc<Service>>,
    pub(crate) slices: BTreeMap<String, Arc<EndpointSlice>>,
}

#[derive(Default)]
struct Inner {
    known: BTreeMap<Names, Known>,
    /// The service that a slice names.
    service_of: HashMap<Names, String>,
    /// The service of an address.
    at: HashMap<Ipv4Addr, Names>,
    /// What an endpoint with a name of its own is called, below the zone of services, and by how many slices.
    called: HashMap<Ipv4Addr, BTreeMap<String, usize>>,
    dirty: BTreeSet<Names>,
}

/// See the module.
pub(crate) struct Book {
    inner: Mutex<Inner>,
    changes: watch::Sender<u64>,
}

impl Default for Book {
    fn default() -> Book {
        Book { inner: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Inner {
    fn touch(&mut self, names: Names, change: impl FnOnce(&mut Known)) {
        let known = self.known.entry(names.clone()).or_default();
        change(known);
        if known.service.is_none() && known.slices.is_empty() {
            self.known.remove(&names);
        }
        self.dirty.insert(names);
    }

    fn set_slice(&mut self, namespace: &str, name: &str, slice: Option<Arc<EndpointSlice>>) {
        let names = (namespace.to_owned(), name.to_owned());
        if let Some(old) = self.service_of.remove(&names) {
            let known = self.known.get(&(namespace.to_owned(), old.clone()));
            if let Some(slice) = known.and_then(|k| k.slices.get(name)).cloned() {
                named(namespace, &old, &slice).for_each(|(ip, name)| self.uncall(ip, &name));
            }
            self.touch((namespace.to_owned(), old), |k| drop(k.slices.remove(name)));
        }
        let Some(slice) = slice else { return };
        let Some(service) = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME)).cloned() else {
            return;
        };
        for (ip, name) in named(namespace, &service, &slice) {
            *self.called.entry(ip).or_default().entry(name).or_default() += 1;
        }
        self.service_of.insert(names, service.clone());
        self.touch((namespace.to_owned(), service), |k| drop(k.slices.insert(name.to_owned(), slice)));
    }

    fn uncall(&mut self, ip: Ipv4Addr, name: &str) {
        let Some(names) = self.called.get_mut(&ip) else { return };
        match names.get_mut(name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(names.remove(name)),
        }
        if names.is_empty() {
            self.called.remove(&ip);
        }
    }

    fn set_service(&mut self, namespace: &str, name: &str, service: Option<Arc<Service>>) {
        let names = (namespace.to_owned(), name.to_owned());
        let spec = |s: &Service| s.spec.as_ref().map(addresses).unwrap_or_default();
        let old = self.known.get(&names).and_then(|k| k.service.as_deref()).map(spec).unwrap_or_default();
        for ip in old {
            if self.at.get(&ip) == Some(&names) {
                self.at.remove(&ip);
            }
        }
        let new = service.as_deref().map(spec).unwrap_or_default();
        self.at.extend(new.into_iter().map(|ip| (ip, names.clone())));
        self.touch(names, |k| k.service = service);
    }
}

impl Book {
    /// Takes in an object, or that it is gone; bytes that cannot be read are an error.
    pub(crate) fn put(
        &self,
        kind: Referent,
        namespace: &str,
        name: &str,
        bytes: Option<&[u8]>,
    ) -> Result<(), serde_json::Error> {
        if kind == Referent::EndpointSlice {
            let slice = bytes.map(serde_json::from_slice).transpose()?.map(Arc::new);
            self.inner.lock().set_slice(namespace, name, slice);
        } else {
            let service = bytes.map(serde_json::from_slice).transpose()?.map(Arc::new);
            self.inner.lock().set_service(namespace, name, service);
        }
        Ok(())
    }

    /// All was named: forgets what was not, and lets those who follow look.
    pub(crate) fn retain(&self, wanted: impl Fn(Referent, &str, &str) -> bool) {
        let mut inner = self.inner.lock();
        let gone: Vec<Names> = inner
            .service_of
            .keys()
            .filter(|(ns, n)| !wanted(Referent::EndpointSlice, ns, n))
            .cloned()
            .collect();
        for (namespace, name) in gone {
            inner.set_slice(&namespace, &name, None);
        }
        let gone: Vec<Names> = inner
            .known
            .iter()
            .filter(|((ns, n), k)| k.service.is_some() && !wanted(Referent::Service, ns, n))
            .map(|(names, _)| names.clone())
            .collect();
        for (namespace, name) in gone {
            inner.set_service(&namespace, &name, None);
        }
    }

    /// Says that something changed to those who follow.
    pub(crate) fn ring(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Rings when something changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A service of that name, or slices that speak of one.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Known> {
        self.inner.lock().known.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The service that has the address.
    pub(crate) fn at(&self, ip: Ipv4Addr) -> Option<Names> {
        self.inner.lock().at.get(&ip).cloned()
    }

    /// What the endpoint at an address is called, below the zone of services.
    pub(crate) fn called(&self, ip: Ipv4Addr) -> Vec<String> {
        self.inner.lock().called.get(&ip).into_iter().flat_map(|names| names.keys().cloned()).collect()
    }

    /// Whether a namespace has any service.
    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        let inner = self.inner.lock();
        let from = (namespace.to_owned(), String::new());
        inner.known.range(from..).next().is_some_and(|((ns, _), _)| ns == namespace)
    }

    /// The variables by which programs in a namespace find its services, as container links had them.
    pub(crate) fn variables(&self, namespace: &str) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        let inner = self.inner.lock();
        let from = (namespace.to_owned(), String::new());
        for ((_, name), known) in inner.known.range(from..).take_while(|((ns, _), _)| ns == namespace) {
            if let Some(spec) = known.service.as_ref().and_then(|s| s.spec.as_ref()) {
                add_variables(&mut out, name, spec);
            }
        }
        out
    }

    /// What changed since the last call.
    pub(crate) fn take_changed(&self) -> Vec<(Names, Known)> {
        let mut inner = self.inner.lock();
        let dirty = std::mem::take(&mut inner.dirty);
        dirty.into_iter().map(|n| (n.clone(), inner.known.get(&n).cloned().unwrap_or_default())).collect()
    }
}

/// The endpoints of a slice that have names of their own and answer.
fn named(namespace: &str, service: &str, slice: &EndpointSlice) -> impl Iterator<Item = (Ipv4Addr, String)> {
    let answers = |e: &&Endpoint| e.conditions.as_ref().and_then(|c| c.ready) != Some(false);
    slice.endpoints.iter().flatten().filter(answers).filter_map(move |e| {
        let name = e.hostname.as_ref().filter(|n| !n.is_empty())?;
        Some((e.addresses.first()?.parse().ok()?, format!("{name}.{service}.{namespace}")))
    })
}

fn add_variables(out: &mut BTreeMap<String, String>, name: &str, spec: &ServiceSpec) {
    let variable = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (Some(first), Ok(ip)) = (ports.first(), address.parse::<std::net::IpAddr>()) else { return };
    let name = variable(name);
    let url = |p: &ServicePort| {
        let protocol = p.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        match ip {
            std::net::IpAddr::V4(_) => format!("{protocol}://{address}:{}", p.port),
            std::net::IpAddr::V6(_) => format!("{protocol}://[{address}]:{}", p.port),
        }
    };
    out.insert(format!("{name}_SERVICE_HOST"), address.to_owned());
    out.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    out.insert(format!("{name}_PORT"), url(first));
    for port in ports {
        if let Some(named) = port.name.as_deref().filter(|n| !n.is_empty()) {
            out.insert(format!("{name}_SERVICE_PORT_{}", variable(named)), port.port.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
        out.insert(prefix.clone(), url(port));
        out.insert(format!("{prefix}_PROTO"), protocol.to_ascii_lowercase());
        out.insert(format!("{prefix}_PORT"), port.port.to_string());
        out.insert(format!("{prefix}_ADDR"), address.to_owned());
    }
}

/// What this machine is, as far as it decides where a service leads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Here {
    /// The node's name.
    pub(crate) node: String,
    /// Where the API server is reached from here: what the service `default/kubernetes` leads to.
    pub(crate) leader: Option<SocketAddrV4>,
    /// This machine's name server: what the service `kube-system/kube-dns` leads to.
    pub(crate) dns: Option<SocketAddrV4>,
}

/// Puts a changed service in place of what was there of it.
pub(crate) fn render(all: &mut Services, names: &Names, known: &Known, here: &Here) {
    let prefix = format!("{}/{}/", names.0, names.1);
    let old: Vec<String> = all
        .range(prefix.clone()..)
        .take_while(|(name, _)| name.starts_with(&prefix))
        .map(|(name, _)| name.clone())
        .collect();
    old.iter().for_each(|name| drop(all.remove(name)));
    let Some(spec) = known.service.as_ref().and_then(|s| s.spec.as_ref()) else { return };
    if spec.type_.as_deref() == Some("ExternalName") {
        return;
    }
    let addresses = addresses(spec);
    let external = external(known.service.as_deref(), spec);
    if addresses.is_empty() && external.is_empty() {
        return;
    }
    let special = match (&*names.0, &*names.1) {
        ("default", "kubernetes") => here.leader,
        ("kube-system", "kube-dns") => here.dns,
        _ => None,
    };
    for port in spec.ports.iter().flatten() {
        let protocol = match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let Ok(number) = u16::try_from(port.port) else { continue };
        let only_here = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let keeps_source = only_here(&spec.external_traffic_policy);
        let behind = |local: bool| match special {
            Some(address) => vec![(*address.ip(), address.port())],
            None => backends(port, &known.slices, local.then_some(here.node.as_str())),
        };
        let service = stoa_net::Service {
            protocol,
            port: number,
            addresses: addresses.clone(),
            external: external.clone(),
            node_port: port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0),
            sticky_seconds: sticky(spec),
            inside: behind(only_here(&spec.internal_traffic_policy)),
            outside: behind(keeps_source),
            keeps_source,
        };
        all.insert(format!("{prefix}{}-{}", port.port, protocol.name()), service);
    }
}

fn parse<'a>(all: impl IntoIterator<Item = &'a String>) -> BTreeSet<Ipv4Addr> {
    all.into_iter().filter_map(|ip| ip.parse().ok()).collect()
}

fn addresses(spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    parse(spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip)).into_iter().collect()
}

fn external(service: Option<&Service>, spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    let balancer = service.and_then(|s| s.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref());
    let ingress = balancer.into_iter().flatten().filter_map(|i| i.ip.as_ref());
    parse(spec.external_ips.iter().flatten().chain(ingress)).into_iter().collect()
}

fn sticky(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let seconds = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
    Some(seconds.and_then(|s| u32::try_from(s).ok()).unwrap_or(STICKY_SECONDS_DEFAULT))
}

/// Who stands behind a service port, on one node or on all: those that are ready, or, where none is, those that still
/// serve while they end.
fn backends(
    port: &ServicePort,
    slices: &BTreeMap<String, Arc<EndpointSlice>>,
    node: Option<&str>,
) -> Vec<Backend> {
    let protocol = |p: &Option<String>| p.clone().unwrap_or_else(|| "TCP".to_owned());
    let name = |n: &Option<String>| n.clone().unwrap_or_default();
    let found: Vec<(&Endpoint, u16)> = slices
        .values()
        .filter(|s| s.address_type == "IPv4")
        .flat_map(|slice| {
            let number = slice.ports.iter().flatten().find_map(|p| {
                let same =
                    name(&p.name) == name(&port.name) && protocol(&p.protocol) == protocol(&port.protocol);
                same.then_some(p.port).flatten().and_then(|n| u16::try_from(n).ok())
            });
            number.into_iter().flat_map(|n| slice.endpoints.iter().flatten().map(move |e| (e, n)))
        })
        .filter(|(e, _)| node.is_none_or(|n| e.node_name.as_deref() == Some(n)))
        .collect();
    let of = |is: &dyn Fn(&Endpoint) -> bool| -> Vec<Backend> {
        let chosen = found.iter().filter(|(e, _)| is(e));
        let pairs = chosen.filter_map(|(e, n)| Some((e.addresses.first()?.parse::<Ipv4Addr>().ok()?, *n)));
        pairs.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let says =
        |e: &Endpoint, what: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>| {
            e.conditions.as_ref().and_then(what)
        };
    let ready = of(&|e| says(e, |c| c.ready) != Some(false));
    if !ready.is_empty() {
        return ready;
    }
    of(&|e| says(e, |c| c.serving) == Some(true) && says(e, |c| c.terminating) == Some(true))
}

#[cfg(test)]
mod tests;
