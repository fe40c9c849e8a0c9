//! Making a pod's surroundings: network, cgroup and namespaces, volumes, the files of `/etc`. Everything here may be
//! done again, which is also how an agent takes over what an earlier one left running.

use crate::container;
use crate::devices::{self, Missing};
use crate::events::Kind;
use crate::machine::{PublishedPort, chain};
use crate::observed::Sandbox;
use crate::pod;
use crate::refuse::sysctl_name;
use crate::worker::{RETRY_AFTER, Worker};
use crate::{etc_files, limits};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stoa_runtime::{Network, PodSpec, Sharing, Users};
use stoa_volume::{Place, Tokens};

/// Longest wait between two attempts to make the surroundings.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// What is pending is looked at again this often, should its push be missed.
const PENDING_AFTER: Duration = Duration::from_secs(10);

impl Worker {
    /// Makes the surroundings, or says why not and when to try again.
    pub(crate) async fn prepare(&mut self) {
        match self.try_prepare().await {
            Ok(ips) => {
                self.prepare_failures = 0;
                (self.early_prepare, self.mount_refusal) = (None, None);
                self.observed.sandbox = Sandbox::Ready { ips };
            }
            Err(wait) => {
                // A try that something pushed brought about does not put off the one that was to come.
                let planned = self.early_prepare.take();
                self.prepare_failures += u32::from(planned.is_none());
                let retry_at = Some(planned.unwrap_or_else(|| self.shared.now().plus(wait)));
                self.observed.sandbox = Sandbox::Missing { retry_at };
            }
        }
    }

    async fn try_prepare(&mut self) -> Result<Vec<String>, Duration> {
        let backoff = (RETRY_AFTER * 2_u32.saturating_pow(self.prepare_failures.min(8))).min(RETRY_MAX);
        let failed = |worker: &Worker, error: String| {
            tracing::warn!(pod = %worker.reference.name, %error, "cannot make a pod's surroundings");
            let message = format!("Failed to create pod sandbox: {error}");
            worker.shared.recorder.record(
                &worker.reference,
                None,
                Kind::Warning,
                "FailedCreatePodSandBox",
                message,
            );
            backoff
        };
        let uid = self.reference.uid.clone();
        if let Err(why) = self.check_handler() {
            // The class may be on its way still: what was made a moment before the pod is heard of beside it.
            let is_first = self.prepare_failures == 0;
            return Err(if is_first { RETRY_AFTER } else { failed(self, why) });
        }
        self.check_claims().map_err(|is_pending| if is_pending { PENDING_AFTER } else { backoff })?;
        let pod_dir = self.shared.volumes.pod_dir(&uid).map_err(|e| failed(self, chain(&e)))?;
        let (network, ips) = if pod::is_host_network(&self.pod) {
            (Network::Host, self.shared.host_ips.clone())
        } else {
            let attached = self.shared.machine.attach_network(&uid).await.map_err(|e| failed(self, e))?;
            self.netns = Some(attached.netns.clone());
            (Network::Namespace(attached.netns), attached.ips)
        };
        let dns = self.shared.cluster.lock().dns.clone();
        self.hostname = etc_files::hostname(&self.pod, &machine_name(), &dns);
        let length = self.hostname.len();
        if length > etc_files::KERNEL_HOSTNAME_LEN_MAX {
            let (name, max) = (&self.hostname, etc_files::KERNEL_HOSTNAME_LEN_MAX);
            let why = format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({max} characters is the max, {length} characters requested)"
            );
            return Err(failed(self, why));
        }
        self.write_etc(&pod_dir, &dns).map_err(|e| failed(self, e.to_string()))?;
        let spec = self.pod_spec(network);
        self.pod_limits = spec.limits.clone();
        self.shared.machine.create_pod(spec).await.map_err(|e| failed(self, chain(&e)))?;
        // One that an earlier agent made may have been given other resources since.
        match self.shared.machine.update_pod(&uid, self.pod_limits.clone()).await {
            Ok(()) => self.observed.resources = Some(pod::resources(&self.pod)),
            Err(error) => self.resize_failed(chain(&error)),
        }
        if let Some(ip) = ips.first().filter(|_| !pod::is_host_network(&self.pod)) {
            let ports = self.host_ports(ip);
            if !ports.is_empty() {
                self.shared.publish_ports(&uid, ports).await.map_err(|e| failed(self, e))?;
            }
        }
        self.make_volumes(&ips).await.map_err(|waiting| if waiting { PENDING_AFTER } else { backoff })?;
        Ok(ips)
    }

    /// Whether this machine has what the pod's runtime class asks for. A pod that is here already was once found fit.
    fn check_handler(&self) -> Result<(), String> {
        let class = self.pod.spec.as_ref().and_then(|s| s.runtime_class_name.as_deref());
        let Some(class) = class.filter(|c| !c.is_empty()) else { return Ok(()) };
        if self.shared.machine.pods().contains(&self.reference.uid) {
            return Ok(());
        }
        let handler = self.shared.pushed.handler(class);
        let handler = handler.ok_or_else(|| format!("RuntimeClass.node.k8s.io \"{class}\" not found"))?;
        if self.shared.options.runtime_handlers.contains(&handler) {
            return Ok(());
        }
        Err(format!("failed to get sandbox runtime: no runtime for \"{handler}\" is configured"))
    }

    /// Whether the pod has the devices that it claims. The error says whether a claim is merely awaited.
    fn check_claims(&self) -> Result<(), bool> {
        let claims = self.pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref());
        if claims.is_none_or(Vec::is_empty) || self.shared.machine.pods().contains(&self.reference.uid) {
            return Ok(());
        }
        let (pushed, namespace) = (&self.shared.pushed, &self.reference.namespace);
        devices::check(&self.pod, |name| pushed.claim(namespace, name)).map_err(|missing| match missing {
            Missing::Pending => true,
            Missing::Claim(why) => {
                tracing::warn!(pod = %self.reference.name, %why, "a pod does not have what it claims");
                let message =
                    format!("Failed to prepare dynamic resources: prepare dynamic resources: {why}");
                let reason = "FailedPrepareDynamicResources";
                self.shared.recorder.record(&self.reference, None, Kind::Warning, reason, message);
                false
            }
        })
    }

    fn pod_spec(&self, network: Network) -> PodSpec {
        let spec = self.pod.spec.as_ref();
        let flag =
            |get: fn(&k8s_openapi::api::core::v1::PodSpec) -> Option<bool>| spec.and_then(get) == Some(true);
        let sysctls = spec.and_then(|s| s.security_context.as_ref()).and_then(|c| c.sysctls.as_ref());
        let own_users = spec.and_then(|s| s.host_users) == Some(false);
        let mut sysctls: BTreeMap<String, String> =
            sysctls.into_iter().flatten().map(|s| (sysctl_name(&s.name), s.value.clone())).collect();
        if own_users {
            // The network belongs to the machine, so root of the pod's own ids has no privilege in it. These two are
            // what containers use it for.
            for (name, value) in
                [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
            {
                sysctls.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        PodSpec {
            uid: self.reference.uid.clone(),
            hostname: self.hostname.clone(),
            network,
            ipc: if flag(|s| s.host_ipc) { Sharing::Host } else { Sharing::Pod },
            pid: match (flag(|s| s.host_pid), flag(|s| s.share_process_namespace)) {
                (true, _) => Sharing::Host,
                (false, true) => Sharing::Pod,
                (false, false) => Sharing::Container,
            },
            users: if own_users { Users::Own } else { Users::Host },
            sysctls,
            qos: limits::qos(&self.pod),
            limits: self.limits_of_pod(),
            shm_bytes: None,
            selinux: spec
                .and_then(|s| s.security_context.as_ref())
                .and_then(|c| c.se_linux_options.as_ref())
                .map(container::selinux),
            level: None,
        }
    }

    fn host_ports(&self, pod_ip: &str) -> Vec<PublishedPort> {
        pod::containers(&self.pod)
            .flat_map(|(_, c)| c.ports.iter().flatten())
            .filter_map(|port| {
                let host_port = u16::try_from(port.host_port?).ok().filter(|p| *p > 0)?;
                Some(PublishedPort {
                    pod_uid: self.reference.uid.clone(),
                    protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                    host_ip: port.host_ip.clone().filter(|ip| !ip.is_empty() && ip != "0.0.0.0"),
                    host_port,
                    pod_ip: pod_ip.to_owned(),
                    pod_port: u16::try_from(port.container_port).ok()?,
                })
            })
            .collect()
    }

    /// `hostname` and `resolv.conf` belong to the surroundings: a pod that changed them keeps them until those are made anew.
    fn write_etc(&self, pod_dir: &Path, dns: &etc_files::ClusterDns) -> std::io::Result<()> {
        let etc = pod_dir.join("etc");
        std::fs::create_dir_all(&etc)?;
        let (hostname, resolv_conf) = (etc.join("hostname"), etc.join("resolv.conf"));
        if self.shared.machine.pods().contains(&self.reference.uid)
            && hostname.exists()
            && resolv_conf.exists()
        {
            return Ok(());
        }
        std::fs::write(hostname, format!("{}\n", self.hostname))?;
        let node = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        std::fs::write(resolv_conf, etc_files::resolv_conf(&self.pod, &node, dns))
    }

    /// `hosts` is written at every start of a container, as a kubelet does: what a pod changed in it holds until then. In place,
    /// for the pod's other containers have it mounted.
    pub(crate) fn write_hosts(&self, pod_dir: &Path, ips: &[String]) -> std::io::Result<()> {
        let dns = self.shared.cluster.lock().dns.clone();
        let node = match pod::is_host_network(&self.pod) {
            true => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
            false => String::new(),
        };
        std::fs::create_dir_all(pod_dir.join("etc"))?;
        let text = etc_files::hosts(&self.pod, ips, &node, &dns);
        let path = pod_dir.join("etc/hosts");
        if std::fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        std::fs::write(path, text)
    }

    /// What the downward API tells of this pod.
    pub(crate) fn downward_place(&self, ips: &[String]) -> Place {
        Place {
            host_ips: self.shared.host_ips.clone(),
            pod_ips: ips.to_vec(),
            allocatable: self.shared.allocatable.clone(),
            memory_bytes: limits::memory_of_pod(&self.pod),
            images: self.volume_images.clone(),
        }
    }

    /// Makes or renews the volumes. The error says whether something is merely awaited.
    pub(crate) async fn make_volumes(&mut self, ips: &[String]) -> Result<(), bool> {
        let mut tokens = Tokens::new();
        let mut refresh_at = None;
        let account = self.pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default();
        for key in stoa_volume::token_keys(&self.pod) {
            let now = self.shared.now();
            match self.shared.tokens.get(&self.reference, &account, &key, now).await {
                Ok(token) => {
                    let at = token.renew_at().max(now.plus(RETRY_AFTER));
                    refresh_at = Some(refresh_at.map_or(at, |r: stoa_units::Time| r.min(at)));
                    tokens.insert(key, token.text);
                }
                Err(error) => {
                    let volume = stoa_volume::token_volume(&self.pod, &key).unwrap_or_default();
                    let message = format!(
                        "MountVolume.SetUp failed for volume \"{volume}\" : failed to fetch token: {error}"
                    );
                    self.shared.recorder.record(&self.reference, None, Kind::Warning, "FailedMount", message);
                    return Err(false);
                }
            }
        }
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let (place, now) = (self.downward_place(ips), self.shared.now());
        let made = tokio::task::spawn_blocking(move || {
            shared.volumes.make(&pod, &shared.pushed, &place, &tokens, now)
        });
        match made.await {
            Ok(Ok(made)) => {
                self.volumes = made;
                self.refresh_at = refresh_at;
                Ok(())
            }
            Ok(Err((volume, error))) => {
                let waiting = error.is_waiting();
                let message = format!("MountVolume.SetUp failed for volume \"{volume}\" : {}", chain(&error));
                // Events of a pod are few: not one for every push of something else.
                let is_told = self.early_prepare.is_some() && self.mount_refusal.as_ref() == Some(&message);
                if !waiting && !is_told {
                    self.mount_refusal = Some(message.clone());
                    self.shared.recorder.record(&self.reference, None, Kind::Warning, "FailedMount", message);
                }
                Err(waiting)
            }
            Err(error) => {
                tracing::error!(%error, "making volumes failed");
                Err(false)
            }
        }
    }

    /// Brings files of volumes up to date with changed objects, labels or tokens.
    pub(crate) async fn refresh_volumes(&mut self) {
        let Sandbox::Ready { ips } = &self.observed.sandbox else { return };
        let ips = ips.clone();
        if self.make_volumes(&ips).await.is_err() {
            self.refresh_at = Some(self.shared.now().plus(PENDING_AFTER));
        }
    }

    /// Objects came or changed: what waited for them need wait no more.
    pub(crate) async fn objects_changed(&mut self) {
        let now = self.shared.now();
        if let Sandbox::Missing { retry_at } = &mut self.observed.sandbox
            && let Some(at) = retry_at.take()
            && at > now
        {
            self.early_prepare = Some(at);
        }
        self.retry_config(now);
        self.refresh_volumes().await;
    }
}

/// What the machine calls itself, which need not be what its node is called.
fn machine_name() -> String {
    nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}
