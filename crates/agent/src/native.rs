//! The machine that this process runs on: our own runtime, network and image store behind the [`Machine`] trait.

use crate::collect::StoredImage;
use crate::container::{FoundImage, FoundUser};
use crate::cpus::{CpuSet, Topology};
use crate::error::Error;
use crate::machine::{Attached, Machine, PublishedPort, chain};
use crate::options::Options;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use stoa_image::Keyring;
use stoa_runtime::{
    AttachSession, Container, ContainerSpec, DiskIo, Error as RuntimeError, ExecSession, ExecSpec, Exit,
    Limits, PodSpec, Started, Stats,
};
use tokio::sync::{OnceCell, broadcast};

/// The machine that this process runs on.
pub struct Native {
    runtime: stoa_runtime::Runtime,
    images: stoa_image::Store,
    puller: stoa_image::Puller,
    /// Opened when the leader has said which addresses this node's pods get, or at once where it did so before.
    network: OnceCell<stoa_net::Network>,
    network_id: String,
    network_dir: PathBuf,
    /// What the leader said last; where opening failed, the next pod tries again.
    wanted_cidr: Mutex<Option<String>>,
}

/// Remembers the node's pod addresses over restarts without a leader.
const CIDR_FILE: &str = "pod-cidr";

impl Native {
    /// Opens the machine: containers and networks of an earlier agent are found again.
    pub async fn open(options: &Options) -> Result<Native, Error> {
        let runtime = stoa_runtime::Runtime::open(options.runtime_options()).await?;
        let images = stoa_image::Store::open(&options.images_dir())?;
        let puller = stoa_image::Puller::new(images.clone(), &options.registries);
        let native = Native {
            runtime,
            images,
            puller,
            network: OnceCell::new(),
            network_id: options.short_id(),
            network_dir: options.network_dir(),
            wanted_cidr: Mutex::new(None),
        };
        if let Ok(cidr) = std::fs::read_to_string(native.network_dir.join(CIDR_FILE)) {
            native.open_network(cidr.trim()).await.map_err(Error::Network)?;
        }
        Ok(native)
    }

    async fn open_network(&self, cidr: &str) -> Result<&stoa_net::Network, String> {
        let open = || async {
            let pod_cidr = cidr.parse().map_err(|_| format!("{cidr:?} is no network"))?;
            let dir = self.network_dir.clone();
            std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
            let options =
                stoa_net::Options { id: self.network_id.clone(), dir: dir.clone(), pod_cidr, mtu: None };
            let network = stoa_net::Network::open(options).await.map_err(|e| chain(&e))?;
            std::fs::write(dir.join(CIDR_FILE), cidr).map_err(|e| e.to_string())?;
            Ok(network)
        };
        self.network.get_or_try_init(open).await
    }

    async fn network(&self) -> Result<&stoa_net::Network, String> {
        let wanted = self.wanted_cidr.lock().clone();
        if let (None, Some(cidr)) = (self.network.get(), wanted) {
            return self.open_network(&cidr).await;
        }
        self.network.get().ok_or_else(|| {
            "the pod network is not ready: no addresses were assigned to this node yet".to_owned()
        })
    }

    async fn with_images<T: Send + 'static>(
        &self,
        work: impl FnOnce(&stoa_image::Store) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let images = self.images.clone();
        tokio::task::spawn_blocking(move || work(&images)).await.map_err(|e| e.to_string())?
    }
}

fn found(images: &stoa_image::Store, image: &stoa_image::Image, reference: &str) -> FoundImage {
    let config = &image.config;
    FoundImage {
        id: image.repo_digest(reference).map_or_else(|| image.id.to_string(), str::to_owned),
        is_local: image.is_local(reference),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        stop_signal: Some(config.stop_signal.clone()).filter(|s| !s.is_empty()),
        layers: images.layer_dirs(image),
    }
}

#[async_trait::async_trait]
impl Machine for Native {
    async fn set_pod_cidr(&self, cidr: &str, _around: &[String]) -> Result<(), String> {
        *self.wanted_cidr.lock() = Some(cidr.to_owned());
        self.open_network(cidr).await?;
        // The addresses of running pods cannot change under them: another range waits until the node was emptied.
        let kept = std::fs::read_to_string(self.network_dir.join(CIDR_FILE)).unwrap_or_default();
        if kept.trim() != cidr {
            tracing::warn!(assigned = cidr, kept = kept.trim(), "this node keeps the pod addresses it has");
        }
        Ok(())
    }

    async fn attach_network(&self, uid: &str) -> Result<Attached, String> {
        let pod = self.network().await?.attach(uid).await.map_err(|e| chain(&e))?;
        Ok(Attached { netns: pod.netns, ips: vec![pod.ip.to_string()] })
    }

    async fn detach_network(&self, uid: &str) -> Result<(), String> {
        match self.network.get() {
            Some(network) => network.detach(uid).await.map_err(|e| chain(&e)),
            None => Ok(()),
        }
    }

    fn gateway(&self) -> Option<std::net::Ipv4Addr> {
        self.network.get().map(stoa_net::Network::gateway)
    }

    async fn set_services(&self, services: &stoa_net::Services) -> Result<(), String> {
        self.network().await?.set_services(services).await.map_err(|e| chain(&e))
    }

    async fn publish_ports(&self, ports: Vec<PublishedPort>) -> Result<(), String> {
        let ports = ports.into_iter().filter_map(|p| {
            Some(stoa_net::HostPort {
                pod_uid: p.pod_uid,
                protocol: match p.protocol.as_str() {
                    "UDP" => stoa_net::Protocol::Udp,
                    "SCTP" => stoa_net::Protocol::Sctp,
                    _ => stoa_net::Protocol::Tcp,
                },
                host_ip: p.host_ip.and_then(|ip| ip.parse().ok()),
                host_port: p.host_port,
                pod_ip: p.pod_ip.parse().ok()?,
                pod_port: p.pod_port,
            })
        });
        self.network().await?.set_host_ports(ports.collect()).await.map_err(|e| chain(&e))
    }

    async fn create_pod(&self, spec: PodSpec) -> Result<(), RuntimeError> {
        self.runtime.create_pod(spec).await
    }

    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        self.runtime.start(spec).await
    }

    async fn kill(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        self.runtime.kill(id, signal).await
    }

    async fn kill_all(&self, id: &str) -> Result<(), RuntimeError> {
        self.runtime.kill_all(id).await
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        self.runtime.remove(id).await
    }

    async fn limit_all(&self, limits: Limits) -> Result<(), RuntimeError> {
        self.runtime.limit_all(limits).await
    }

    async fn update_pod(&self, uid: &str, limits: Limits) -> Result<(), RuntimeError> {
        self.runtime.update_pod(uid, limits).await
    }

    async fn update(
        &self,
        id: &str,
        limits: Limits,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), RuntimeError> {
        self.runtime.update(id, limits, annotations).await
    }

    async fn topology(&self) -> Result<Topology, String> {
        let cpus = self.runtime.cpus().await.map_err(|e| chain(&e))?;
        let cpus = CpuSet::parse(&cpus)?;
        Ok(Topology::read(Path::new("/sys/devices/system/cpu"), &cpus))
    }

    async fn update_cpus(&self, id: &str, cpus: &str) -> Result<(), RuntimeError> {
        self.runtime.update_cpus(id, cpus).await
    }

    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        self.runtime.remove_pod(uid).await
    }

    fn list(&self) -> Vec<Container> {
        self.runtime.list()
    }

    fn pods(&self) -> HashSet<String> {
        let mut uids: HashSet<String> = self.runtime.pods().into_iter().map(|p| p.uid).collect();
        uids.extend(self.network.get().into_iter().flat_map(|n| n.list()).map(|(uid, _)| uid));
        uids
    }

    fn exits(&self) -> broadcast::Receiver<Exit> {
        self.runtime.exits()
    }

    async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, RuntimeError> {
        self.runtime.exec(id, spec).await
    }

    async fn attach(&self, id: &str) -> Result<AttachSession, RuntimeError> {
        self.runtime.attach(id).await
    }

    async fn dial(&self, netns: Option<&Path>, port: u16) -> std::io::Result<tokio::net::TcpStream> {
        stoa_net::dial(netns, port).await
    }

    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, String> {
        let reference = reference.to_owned();
        self.with_images(move |images| {
            let image = images.resolve(&reference).map_err(|e| chain(&e))?;
            Ok(image.map(|i| found(images, &i, &reference)))
        })
        .await
    }

    async fn pull(&self, reference: &str, ring: Keyring) -> Result<(FoundImage, u64), String> {
        let canonical = stoa_image::Reference::parse(reference).map_err(|e| e.to_string())?;
        let pulled = self.puller.pull(reference, &ring).await;
        let pulled =
            pulled.map_err(|e| format!("failed to pull and unpack image \"{canonical}\": {}", chain(&e)))?;
        Ok((found(&self.images, &pulled.image, reference), pulled.compressed_size))
    }

    fn admits(&self, reference: &str, ring: &Keyring) -> bool {
        // The index is in memory unless it changed.
        let image = self.images.resolve(reference).ok().flatten();
        image.is_none_or(|i| i.admits(reference, ring))
    }

    async fn user(&self, reference: &str, words: &str) -> Result<FoundUser, String> {
        let (reference, words) = (reference.to_owned(), words.to_owned());
        self.with_images(move |images| {
            let image = images.resolve(&reference).map_err(|e| chain(&e))?;
            let image = image.ok_or_else(|| format!("no image {reference:?}"))?;
            let user = images.lookup_user(&image, &words).map_err(|e| chain(&e))?;
            Ok(FoundUser { uid: user.uid, gid: user.gid, groups: user.additional_gids, home: user.home })
        })
        .await
    }

    async fn stored_images(&self) -> Vec<StoredImage> {
        let list = self.with_images(|images| images.list().map_err(|e| chain(&e))).await;
        let list = list.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list images");
            Vec::new()
        });
        list.into_iter()
            .map(|i| StoredImage {
                id: i.id.to_string(),
                is_replaceable: i.is_replaceable(),
                size: i.size,
                names: i.tags.into_iter().chain(i.repo_digests).collect(),
            })
            .collect()
    }

    async fn remove_image(&self, id: &str) -> Result<(), String> {
        let id = id.to_owned();
        self.with_images(move |images| images.remove(&id).map(drop).map_err(|e| chain(&e))).await
    }

    fn images_size(&self) -> u64 {
        self.images.size()
    }

    fn stats(&self, id: &str) -> Option<Stats> {
        self.runtime.stats(id).ok()
    }

    fn pod_stats(&self, uid: &str) -> Option<Stats> {
        self.runtime.pod_stats(uid).ok()
    }

    fn disk_io(&self, id: &str) -> Vec<DiskIo> {
        self.runtime.disk_io(id)
    }

    fn pod_disk_io(&self, uid: &str) -> Vec<DiskIo> {
        self.runtime.pod_disk_io(uid)
    }

    fn all_stats(&self) -> Option<Stats> {
        Some(self.runtime.total_stats())
    }

    fn memory_used(&self) -> u64 {
        self.runtime.total_stats().memory_working_set_bytes
    }

    fn upper_dir(&self, id: &str) -> Option<PathBuf> {
        Some(self.runtime.upper_dir(id))
    }
}
