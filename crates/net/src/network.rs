//! The machine's pod network as the agent sees it: attach, detach, find again, sweep, destroy.

use crate::conntrack::{self, Fronts, Near};
use crate::error::file;
use crate::lease::Leases;
use crate::services::{self, Services};
use crate::{Error, link, namespace, rules};
use ipnet::Ipv4Net;
use parking::Guarded;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The MTU where nothing else is asked.
const MTU_DEFAULT: u32 = 1500;
/// Longest name of a pod's lease: uids have 36 characters.
const POD_NAME_LEN_MAX: usize = 128;

/// How to open a machine's network.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's short id, at most 8 of `[a-z0-9]`: part of every link's and table's name.
    pub id: String,
    /// Where leases and namespaces lie.
    pub dir: PathBuf,
    /// The addresses of this machine's pods; the first is the gateway's.
    pub pod_cidr: Ipv4Net,
    /// The links' MTU; 1500 by default.
    pub mtu: Option<u32>,
}

/// A pod's place in the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNet {
    /// The pinned namespace.
    pub netns: PathBuf,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// Its gateway: the bridge.
    pub gateway: Ipv4Addr,
    /// Hardware address of `eth0`.
    pub mac: [u8; 6],
    /// MTU of `eth0`.
    pub mtu: u32,
}

/// A transport protocol of a host port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As packet filters write it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// A port of the machine that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The pod.
    pub pod_uid: String,
    /// The protocol.
    pub protocol: Protocol,
    /// Only on this address of the machine; on all of them if none.
    pub host_ip: Option<Ipv4Addr>,
    /// The machine's port.
    pub host_port: u16,
    /// The pod's address.
    pub pod_ip: Ipv4Addr,
    /// The pod's port.
    pub pod_port: u16,
}

/// A machine's pod network. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Inner {
    options: Options,
    gateway: Ipv4Addr,
    bridge: u32,
    handle: rtnetlink::Handle,
    leases: Guarded<Leases>,
    /// One attach or detach of a pod at a time; different pods do not wait for each other.
    busy: tokio::sync::Mutex<std::collections::HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    ports: tokio::sync::Mutex<Vec<HostPort>>,
    services: tokio::sync::Mutex<services::Held>,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("options", &self.0.options).finish_non_exhaustive()
    }
}

mod parking {
    //! A mutex that a panic elsewhere does not poison for good: the data behind it is consistent between calls.

    pub(super) struct Guarded<T>(std::sync::Mutex<T>);

    impl<T> Guarded<T> {
        pub(super) fn new(value: T) -> Self {
            Guarded(std::sync::Mutex::new(value))
        }

        pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
            work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        }
    }
}

fn bridge_name(id: &str) -> String {
    format!("st{id}0")
}

/// The host end of a pod's link: at most 15 bytes, found again by the pod's uid.
fn veth_name(id: &str, pod: &str) -> String {
    // FNV-1a: the name must be the same after an upgrade, which the standard library's hasher does not promise.
    let hash =
        pod.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let digits = 15 - 2 - id.len() - 1;
    let hex = format!("{hash:016x}");
    format!("st{id}v{}", &hex[..digits])
}

fn check_options(options: &Options) -> Result<(), Error> {
    let ok = (1..=8).contains(&options.id.len())
        && options.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if ok { Ok(()) } else { Err(Error::BadName(options.id.clone())) }
}

fn check_pod(pod: &str) -> Result<(), Error> {
    let ok = !pod.is_empty()
        && pod.len() <= POD_NAME_LEN_MAX
        && !pod.starts_with('.')
        && pod.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if ok { Ok(()) } else { Err(Error::BadName(pod.to_string())) }
}

impl Options {
    fn netns_dir(&self) -> PathBuf {
        self.dir.join("netns")
    }

    fn leases_dir(&self) -> PathBuf {
        self.dir.join("leases")
    }
}

impl Network {
    /// Makes the bridge and the table if they are missing, and takes up the leases whose namespaces still exist. Call it
    /// within a tokio runtime, which drives its netlink socket.
    pub async fn open(mut options: Options) -> Result<Network, Error> {
        check_options(&options)?;
        fs::create_dir_all(&options.dir).map_err(file("create", &options.dir))?;
        options.dir = options.dir.canonicalize().map_err(file("open", &options.dir))?;
        let netns = options.netns_dir();
        namespace::prepare_dir(&netns)?;
        let leases =
            Leases::load(&options.leases_dir(), options.pod_cidr, |n| namespace::is_mounted(&n.netns))?;
        let held: HashSet<PathBuf> = leases.all().into_iter().map(|(_, n)| n.netns).collect();
        for entry in fs::read_dir(&netns).map_err(file("read", &netns))?.flatten() {
            if !held.contains(&entry.path()) {
                namespace::remove(&entry.path())?;
            }
        }
        let gateway = Ipv4Addr::from(u32::from(options.pod_cidr.network()) + 1);
        let handle = link::connect()?;
        let name = bridge_name(&options.id);
        let mtu = options.mtu.unwrap_or(MTU_DEFAULT);
        let bridge = link::ensure_bridge(&handle, &name, gateway, options.pod_cidr.prefix_len(), mtu).await?;
        let forward = options.dir.join("ip_forward");
        if namespace::read_sysctl("ipv4/ip_forward")? == "0" {
            // `destroy` puts it back.
            fs::write(&forward, "0").map_err(file("write", &forward))?;
            namespace::sysctl("ipv4/ip_forward", "1")?;
        }
        namespace::sysctl(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
        let (id, cidr) = (options.id.clone(), options.pod_cidr);
        blocking(move || rules::apply(&id, &name, cidr, &[])).await?;
        Ok(Network(Arc::new(Inner {
            options,
            gateway,
            bridge,
            handle,
            leases: Guarded::new(leases),
            busy: tokio::sync::Mutex::default(),
            ports: tokio::sync::Mutex::default(),
            services: tokio::sync::Mutex::default(),
        })))
    }

    /// The pods' gateway: this machine's address on the bridge.
    pub fn gateway(&self) -> Ipv4Addr {
        self.0.gateway
    }

    /// A pod's network, if it is attached.
    pub fn get(&self, pod: &str) -> Option<PodNet> {
        self.0.leases.with(|l| l.get(pod).cloned())
    }

    /// Every attached pod.
    pub fn list(&self) -> Vec<(String, PodNet)> {
        self.0.leases.with(|l| l.all())
    }

    async fn turn(&self, pod: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = self.0.busy.lock().await.entry(pod.to_string()).or_default().clone();
        lock.lock_owned().await
    }

    async fn turn_over(&self, pod: &str, guard: tokio::sync::OwnedMutexGuard<()>) {
        drop(guard);
        let mut busy = self.0.busy.lock().await;
        if busy.get(pod).is_some_and(|l| Arc::strong_count(l) == 1) {
            busy.remove(pod);
        }
    }

    /// Gives a pod a namespace with an address. A pod that is attached keeps what it has.
    pub async fn attach(&self, pod: &str) -> Result<PodNet, Error> {
        check_pod(pod)?;
        let turn = self.turn(pod).await;
        let result = self.attach_in_turn(pod).await;
        self.turn_over(pod, turn).await;
        result
    }

    async fn attach_in_turn(&self, pod: &str) -> Result<PodNet, Error> {
        if let Some(net) = self.get(pod) {
            return Ok(net);
        }
        let ip = self.0.leases.with(Leases::reserve)?;
        match self.make(pod, ip).await {
            Ok(net) => Ok(net),
            Err(e) => {
                self.unmake(pod).await.unwrap_or_else(|u| {
                    tracing::warn!(pod, error = %u, "cannot clean up after a failed attach");
                });
                self.0.leases.with(|l| l.give_back(ip));
                Err(e)
            }
        }
    }

    async fn make(&self, pod: &str, ip: Ipv4Addr) -> Result<PodNet, Error> {
        let o = &self.0.options;
        let [a, b, c, d] = ip.octets();
        let net = PodNet {
            netns: o.netns_dir().join(pod),
            ip,
            gateway: self.0.gateway,
            // Locally administered, and derived from the address, so that an address never changes its neighbour entry.
            mac: [0x0a, 0x58, a, b, c, d],
            mtu: o.mtu.unwrap_or(MTU_DEFAULT),
        };
        let (wanted, peer) = (net.clone(), veth_name(&o.id, pod));
        let host_end = peer.clone();
        blocking(move || {
            namespace::on_thread(|| {
                let host = namespace::own()?;
                namespace::create(&wanted.netns)?;
                // The machine may tell a pod of the shorter way to a neighbour, which would be one past its rules.
                for side in ["all", "default"] {
                    namespace::sysctl(&format!("ipv4/conf/{side}/accept_redirects"), "0")?;
                }
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()
                    .map_err(file("start", Path::new("a runtime")))?;
                runtime.block_on(async {
                    let handle = link::connect()?;
                    link::make_pair(&handle, &peer, &host, wanted.mac, wanted.mtu).await?;
                    link::configure_pod(&handle, wanted.ip, wanted.gateway).await
                })
            })
        })
        .await?;
        link::plug(&self.0.handle, &host_end, self.0.bridge).await?;
        // Without hairpin a pod cannot reach itself through its own host port.
        let hairpin = Path::new("/sys/class/net").join(&host_end).join("brport/hairpin_mode");
        fs::write(&hairpin, "1").map_err(file("write", &hairpin))?;
        self.0.leases.with(|l| l.record(pod, &net))?;
        Ok(net)
    }

    async fn unmake(&self, pod: &str) -> Result<(), Error> {
        let o = &self.0.options;
        // The link first: a process that still holds the namespace would otherwise keep the host's end alive.
        link::remove(&self.0.handle, &veth_name(&o.id, pod)).await?;
        namespace::remove(&o.netns_dir().join(pod))
    }

    /// Takes a pod's network away. A pod that has none is no error.
    pub async fn detach(&self, pod: &str) -> Result<(), Error> {
        check_pod(pod)?;
        let turn = self.turn(pod).await;
        let result = match self.unmake(pod).await {
            Ok(()) => self.0.leases.with(|l| l.forget(pod)),
            Err(e) => Err(e),
        };
        self.turn_over(pod, turn).await;
        result
    }

    /// Detaches every pod that is not in `keep`; returns which.
    pub async fn sweep(&self, keep: &HashSet<String>) -> Result<Vec<String>, Error> {
        let mut gone = Vec::new();
        for (pod, _) in self.list() {
            if !keep.contains(&pod) {
                self.detach(&pod).await?;
                gone.push(pod);
            }
        }
        let o = &self.0.options;
        let held: HashSet<String> = self.list().iter().map(|(p, _)| veth_name(&o.id, p)).collect();
        for name in link::with_prefix(&self.0.handle, &format!("st{}v", o.id)).await? {
            // A pod that is being attached has its link before its lease.
            let busy = self.0.busy.lock().await.keys().any(|p| veth_name(&o.id, p) == name);
            if !held.contains(&name) && !busy {
                link::remove(&self.0.handle, &name).await?;
            }
        }
        Ok(gone)
    }

    /// Makes exactly these host ports lead to pods, in one transaction; does nothing if they already do.
    pub async fn set_host_ports(&self, wanted: Vec<HostPort>) -> Result<(), Error> {
        let mut current = self.0.ports.lock().await;
        if *current == wanted {
            return Ok(());
        }
        let (id, cidr, ports) = (self.0.options.id.clone(), self.0.options.pod_cidr, wanted.clone());
        blocking(move || rules::apply(&id, &bridge_name(&id), cidr, &ports)).await?;
        let fronts = Fronts::of_host_ports(&current, &wanted);
        *current = wanted;
        self.forget_flows(fronts).await;
        Ok(())
    }

    /// Makes exactly these services reachable, in one transaction that touches only what changed. Until the first call
    /// those of an earlier process stay.
    pub async fn set_services(&self, wanted: &Services) -> Result<(), Error> {
        let mut table = self.0.services.lock().await;
        let id = self.0.options.id.clone();
        let (transaction, fronts) = table.plan(&id, &bridge_name(&id), wanted);
        if let Some(transaction) = transaction {
            blocking(move || rules::run(services::table(&id), &transaction)).await?;
        }
        table.confirm();
        self.forget_flows(fronts).await;
        Ok(())
    }

    /// Forgets flows that lead elsewhere than the rules now say. The rules hold for everything new either way, so that this
    /// fails is said and no more.
    async fn forget_flows(&self, fronts: Fronts) {
        if fronts.is_empty() {
            return;
        }
        let pods = self.0.options.pod_cidr;
        let forgotten = match link::addresses(&self.0.handle).await {
            Ok(own) => blocking(move || conntrack::forget(&fronts, &Near { own, pods })).await,
            Err(e) => Err(e),
        };
        match forgotten {
            Ok(0) => {}
            Ok(flows) => tracing::debug!(flows, "forgot UDP flows whose backend is no longer there"),
            Err(e) => {
                tracing::warn!(error = %e, cause = ?e, "cannot forget UDP flows: clients may go on talking to who left")
            }
        }
    }

    /// Removes everything this network made.
    pub async fn destroy(&self) -> Result<(), Error> {
        destroy(&self.0.options).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Thread)?
}

/// Removes every link, namespace and rule of a network, whether or not it is open. What is not there is no error.
pub async fn destroy(options: &Options) -> Result<(), Error> {
    check_options(options)?;
    let handle = link::connect()?;
    for name in link::with_prefix(&handle, &format!("st{}v", options.id)).await? {
        link::remove(&handle, &name).await?;
    }
    link::remove(&handle, &bridge_name(&options.id)).await?;
    let id = options.id.clone();
    blocking(move || rules::remove(&rules::table(&id)).and_then(|()| rules::remove(&services::table(&id))))
        .await?;
    let Ok(dir) = options.dir.canonicalize() else { return Ok(()) };
    let forward = dir.join("ip_forward");
    if forward.exists() {
        // Another cluster on this machine may rely on it meanwhile: only the last one turns it off.
        if link::with_prefix(&handle, "st").await?.is_empty() {
            namespace::sysctl("ipv4/ip_forward", "0")?;
        }
        fs::remove_file(&forward).map_err(file("remove", &forward))?;
    }
    let options = Options { dir, ..options.clone() };
    namespace::remove_dir(&options.netns_dir())?;
    let leases = options.leases_dir();
    match fs::remove_dir_all(&leases) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file("remove", &leases)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
