//! A machine on paper, for tests of everything above the machine.

use crate::container::{FoundImage, FoundUser};
use crate::cpus::Topology;
use crate::machine::{Attached, Machine, PublishedPort};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use stoa_runtime::{
    AttachSession, Container, ContainerSpec, Error as RuntimeError, ExecSession, ExecSpec, Exit, ExitReason,
    Limits, PodSpec, Started, State,
};
use stoa_units::Clock;
use tokio::sync::broadcast;

/// A machine whose containers run until a signal, or until the test says so.
pub(crate) struct Scripted {
    clock: Arc<dyn Clock>,
    pub(crate) containers: Mutex<Vec<Container>>,
    pods: Mutex<HashSet<String>>,
    pod_limits: Mutex<HashMap<String, Limits>>,
    pub(crate) networks: Mutex<HashSet<String>>,
    pub(crate) images: Mutex<HashSet<String>>,
    pub(crate) log: Mutex<Vec<String>>,
    /// Names of containers that ignore every signal but SIGKILL.
    pub(crate) stubborn: Mutex<HashSet<String>>,
    /// Name of a container that ends right after somebody looked, before anybody could hear of it.
    pub(crate) ends_once_seen: Mutex<Option<String>>,
    /// Whether it refuses to limit all containers together.
    pub(crate) is_stubborn_about_limits: std::sync::atomic::AtomicBool,
    /// How long a pod waits for its network.
    pub(crate) network_takes: Mutex<std::time::Duration>,
    /// Bytes of memory that no pod can be limited to.
    pub(crate) refused_pod_memory: Mutex<Option<i64>>,
    exits: broadcast::Sender<Exit>,
}

impl Scripted {
    /// An empty machine with one image, `img`.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Scripted> {
        Arc::new(Scripted {
            clock,
            containers: Mutex::default(),
            pods: Mutex::default(),
            pod_limits: Mutex::default(),
            networks: Mutex::default(),
            images: Mutex::new(["img".to_owned()].into()),
            log: Mutex::default(),
            stubborn: Mutex::default(),
            ends_once_seen: Mutex::default(),
            is_stubborn_about_limits: Default::default(),
            network_takes: Mutex::default(),
            refused_pod_memory: Mutex::default(),
            exits: broadcast::channel(64).0,
        })
    }

    /// How many containers were ever started.
    pub(crate) fn starts(&self) -> usize {
        self.log.lock().iter().filter(|l| l.starts_with("start ")).count()
    }

    fn note(&self, what: String) {
        self.log.lock().push(what);
    }

    /// Ends a container.
    pub(crate) fn end(&self, id: &str, code: i32) {
        if let Some(exit) = self.end_unheard(id, code) {
            let _ = self.exits.send(exit);
        }
    }

    /// Ends a container as long as nobody listens.
    fn end_unheard(&self, id: &str, code: i32) -> Option<Exit> {
        let mut containers = self.containers.lock();
        let container = containers.iter_mut().find(|c| c.spec.id == id)?;
        let State::Running { started_at, .. } = container.state else { return None };
        let exit = Exit {
            id: id.to_owned(),
            pod_uid: container.spec.pod_uid.clone(),
            code,
            signal: None,
            reason: if code == 0 { ExitReason::Completed } else { ExitReason::Error },
            message: String::new(),
            started_at: Some(started_at),
            finished_at: self.clock.now(),
        };
        container.state = State::Exited(exit.clone());
        Some(exit)
    }

    /// The memory that a pod is limited to.
    pub(crate) fn pod_memory(&self, uid: &str) -> Option<i64> {
        self.pod_limits.lock().get(uid)?.memory_bytes
    }

    /// Id of the running container of a name.
    pub(crate) fn running(&self, name: &str) -> Option<String> {
        let containers = self.containers.lock();
        let found =
            containers.iter().find(|c| c.spec.name == name && matches!(c.state, State::Running { .. }));
        found.map(|c| c.spec.id.clone())
    }

    fn name(&self, id: &str) -> String {
        let containers = self.containers.lock();
        containers.iter().find(|c| c.spec.id == id).map(|c| c.spec.name.clone()).unwrap_or_default()
    }
}

#[async_trait::async_trait]
impl Machine for Scripted {
    async fn set_pod_cidr(&self, _: &str, _: &[String]) -> Result<(), String> {
        Ok(())
    }
    async fn attach_network(&self, uid: &str) -> Result<Attached, String> {
        let takes = *self.network_takes.lock();
        tokio::time::sleep(takes).await;
        self.networks.lock().insert(uid.to_owned());
        Ok(Attached { netns: "/netns".into(), ips: vec!["10.0.0.2".to_owned()] })
    }
    async fn detach_network(&self, uid: &str) -> Result<(), String> {
        self.networks.lock().remove(uid);
        Ok(())
    }
    async fn publish_ports(&self, ports: Vec<PublishedPort>) -> Result<(), String> {
        self.note(format!("ports {}", ports.len()));
        Ok(())
    }
    fn gateway(&self) -> Option<std::net::Ipv4Addr> {
        None
    }
    async fn set_services(&self, services: &stoa_net::Services) -> Result<(), String> {
        self.note(format!("services {}", services.len()));
        Ok(())
    }
    async fn create_pod(&self, spec: PodSpec) -> Result<(), RuntimeError> {
        self.pod_limits.lock().entry(spec.uid.clone()).or_insert(spec.limits);
        self.pods.lock().insert(spec.uid);
        Ok(())
    }
    async fn start(&self, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        self.note(format!("start {} {}", spec.name, spec.attempt));
        let started_at = self.clock.now();
        self.containers
            .lock()
            .push(Container { spec: Arc::new(spec), state: State::Running { pid: 1, started_at } });
        Ok(Started { pid: 1, started_at })
    }
    async fn kill(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        let name = self.name(id);
        self.note(format!("signal {name} {signal}"));
        if !self.stubborn.lock().contains(&name) {
            self.end(id, 143);
        }
        Ok(())
    }
    async fn kill_all(&self, id: &str) -> Result<(), RuntimeError> {
        self.note(format!("kill {}", self.name(id)));
        self.end(id, 137);
        Ok(())
    }
    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        self.containers.lock().retain(|c| c.spec.id != id);
        Ok(())
    }
    async fn limit_all(&self, limits: Limits) -> Result<(), RuntimeError> {
        self.note(format!("all shares {}", limits.cpu_shares.unwrap_or(0)));
        if self.is_stubborn_about_limits.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(RuntimeError::NotFound("the cgroup".to_owned()));
        }
        Ok(())
    }
    async fn update_pod(&self, uid: &str, limits: Limits) -> Result<(), RuntimeError> {
        if limits.memory_bytes.is_some() && limits.memory_bytes == *self.refused_pod_memory.lock() {
            self.note(format!("refused {uid}"));
            return Err(RuntimeError::PodNotFound(uid.to_owned()));
        }
        if self.pod_limits.lock().insert(uid.to_owned(), limits.clone()).as_ref() == Some(&limits) {
            return Ok(());
        }
        self.note(format!("pod memory {}", limits.memory_bytes.unwrap_or(0)));
        Ok(())
    }
    async fn update(
        &self,
        id: &str,
        limits: Limits,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), RuntimeError> {
        self.note(format!("update {} memory {}", self.name(id), limits.memory_bytes.unwrap_or(0)));
        let mut containers = self.containers.lock();
        let Some(found) = containers.iter_mut().find(|c| c.spec.id == id) else {
            return Err(RuntimeError::NotFound(id.to_owned()));
        };
        let spec = Arc::make_mut(&mut found.spec);
        spec.limits = limits;
        spec.annotations.extend(annotations);
        Ok(())
    }
    async fn topology(&self) -> Result<Topology, String> {
        Ok(Topology::of(1, 4, 1))
    }
    async fn update_cpus(&self, id: &str, cpus: &str) -> Result<(), RuntimeError> {
        self.note(format!("move {} to {cpus}", self.name(id)));
        let mut containers = self.containers.lock();
        let found = containers.iter_mut().find(|c| c.spec.id == id);
        let found = found.ok_or_else(|| RuntimeError::NotFound(id.to_owned()))?;
        Arc::make_mut(&mut found.spec).limits.cpuset_cpus = Some(cpus.to_owned());
        Ok(())
    }
    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        self.pods.lock().remove(uid);
        self.pod_limits.lock().remove(uid);
        self.containers.lock().retain(|c| c.spec.pod_uid != uid);
        Ok(())
    }
    fn list(&self) -> Vec<Container> {
        let found = self.containers.lock().clone();
        if let Some(name) = self.ends_once_seen.lock().take()
            && let Some(id) = self.running(&name)
        {
            self.end_unheard(&id, 0);
        }
        found
    }
    fn pods(&self) -> HashSet<String> {
        self.pods.lock().clone()
    }
    fn exits(&self) -> broadcast::Receiver<Exit> {
        self.exits.subscribe()
    }
    async fn exec(&self, id: &str, _: ExecSpec) -> Result<ExecSession, RuntimeError> {
        Err(RuntimeError::NotRunning(id.to_owned()))
    }
    async fn attach(&self, id: &str) -> Result<AttachSession, RuntimeError> {
        Err(RuntimeError::NotRunning(id.to_owned()))
    }
    async fn dial(&self, _: Option<&Path>, _: u16) -> std::io::Result<tokio::net::TcpStream> {
        Err(std::io::ErrorKind::ConnectionRefused.into())
    }
    async fn image(&self, reference: &str) -> Result<Option<FoundImage>, String> {
        let found = self.images.lock().contains(reference);
        Ok(found.then(|| FoundImage {
            id: "sha256:1".into(),
            cmd: vec!["run".into()],
            ..FoundImage::default()
        }))
    }
    async fn user(&self, _: &str, _: &str) -> Result<FoundUser, String> {
        Ok(FoundUser::default())
    }
    async fn stored_images(&self) -> Vec<crate::collect::StoredImage> {
        Vec::new()
    }
}
