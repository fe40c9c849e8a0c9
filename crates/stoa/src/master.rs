//! A master: the store, the registry over it, and the services that stand on both, wired together.

use crate::cli::{Doors, Flags};
use crate::cluster::Cluster;
use crate::join::BootstrapTokens;
use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stoa_ledger::Ledger;
use stoa_mesos_master as mesos;
use stoa_pki::{Authority, Identity, TokenSigner};
use stoa_registry::{Registry, ServiceCidr};
use stoa_units::{Clock, SystemClock, Time};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The group of administrators.
const ADMIN_GROUP: &str = "system:masters";
/// The group of nodes.
const NODE_GROUP: &str = "system:nodes";
/// The administrator's user, as in a stock kubeconfig.
const ADMIN_USER: &str = "kubernetes-admin";
/// Names by which the API server is reached inside the cluster.
const IN_CLUSTER_NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// A running master.
pub struct Master {
    /// Where the Kubernetes API is served.
    pub api: SocketAddr,
    /// Where the Mesos API is served.
    pub mesos: SocketAddr,
    /// The certificate of the cluster's authority.
    pub ca_pem: String,
    /// Of the node on this machine, where one was asked for.
    pub node: Option<Identity>,
    /// The services; each ends when the token is cancelled.
    pub tasks: JoinSet<Result<()>>,
}

/// The host's name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// An address by which clients on this machine reach `bind`.
pub fn reachable(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(a) if a.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(a) if a.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other,
    }
}

/// Starts a master over a data directory, and makes the identity of this machine's node where that is named. When this returns,
/// both doors are open.
pub async fn start(
    cluster: &Cluster,
    doors: &Doors,
    flags: Flags,
    node: Option<&str>,
    shutdown: CancellationToken,
) -> Result<Master> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let service_cidr = ServiceCidr::parse(&doors.service_cidr).with_context(|| {
        format!("--service-cidr: `{}` is no IPv4 network such as 10.96.0.0/16", doors.service_cidr)
    })?;
    // What waits for the disk on behalf of keys, and the tables, need nothing of the store: they are made while it opens.
    drop(tokio::task::spawn_blocking(stoa_api::prepare));
    let asked = KeysAsked {
        pki: cluster.pki(),
        now: clock.now(),
        names: serving_names(doors, service_cidr),
        node: node.map(str::to_owned),
    };
    let keys = tokio::task::spawn_blocking(move || asked.make());
    let registry = open_registry(cluster, doors, service_cidr, clock.clone()).await?;
    let Keys { authority, signer, serving, admin, node } = keys.await.context("making keys failed")??;
    let known = crate::authentication::published(authority.cert_pem(), &doors.authentication)?;
    let published = registry.publish_authentication(known).await;
    published.map_err(|e| anyhow::anyhow!(e.message)).context("cannot write down who is known")?;
    let tokens = stoa_api::ServiceAccountTokens::new(signer.clone(), registry.clone());
    registry.set_token_issuer(tokens.clone());

    let join = BootstrapTokens::new(registry.clone(), authority.clone(), clock.clone(), &cluster.id);
    let session = stoa_session::Service::new(
        registry.clone(),
        stoa_session::Options {
            cluster_id: cluster.id.clone(),
            cluster_cidr: cluster.pod_cidr(doors.pod_cidr.as_deref(), doors.node_cidr_mask_size)?,
            service_cidr: doors.service_cidr.clone(),
            dns: service_cidr.dns().to_string(),
            api_host: service_cidr.nth(0).to_string(),
            api_port: 443,
            node_prefix: doors.node_cidr_mask_size,
            ..Default::default()
        },
        Some(Arc::new(join)),
    );
    let door = Arc::new(session.door());
    let opener = door.clone();
    let api = bind_api(doors, &authority, serving, &signer, flags, registry.clone(), tokens, door).await?;
    let api_address = api.address();

    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let ledger_changed = Arc::new(Notify::new());
    let mut mesos = mesos::Service::new(
        registry.clone(),
        ledger.clone(),
        ledger_changed.clone(),
        clock.clone(),
        mesos_options(cluster, doors)?,
    )?;
    mesos.set_opener(opener);
    let mesos_address = mesos.bind().await?;
    let claimer = stoa_control::LedgerClaimer::new(ledger.clone(), registry.store().clone());
    registry.set_claimer(Arc::new(claimer));
    registry.set_port_keeper(Arc::new(mesos.handle()));
    let control = stoa_control::Service::new(
        stoa_control::Handles {
            registry: registry.clone(),
            ledger,
            ledger_changed,
            clock,
            root_ca: authority.cert_pem().to_string(),
            rescinder: Arc::new(Room(mesos.handle())),
            meter: Arc::new(Figures(api.figures())),
        },
        stoa_control::Options::default(),
    );

    let mut tasks = JoinSet::new();
    let stop = |t: &CancellationToken| {
        let t = t.clone();
        async move { t.cancelled().await }
    };
    let (api_stop, session_stop) = (stop(&shutdown), stop(&shutdown));
    tasks.spawn(async move {
        api.run(api_stop).await;
        Ok(())
    });
    tasks.spawn(async move {
        session.run(session_stop).await;
        Ok(())
    });
    let signing = stoa_signer::Service::new(stoa_signer::Handles {
        registry: registry.clone(),
        authority: authority.clone(),
    });
    let signing_stop = shutdown.clone();
    tasks.spawn(async move {
        signing.run(signing_stop).await;
        Ok(())
    });
    let mesos_stop = shutdown.clone();
    tasks.spawn(async move { mesos.run(mesos_stop).await.context("the Mesos API ended") });
    let control_stop = shutdown.clone();
    tasks.spawn(async move { control.run(control_stop).await.context("the controllers ended") });

    let server = format!("https://{}", SocketAddr::new(reachable(doors.bind), api_address.port()));
    authority.write_kubeconfig(&cluster.kubeconfig(), &server, ADMIN_USER, &admin)?;
    Ok(Master {
        api: api_address,
        mesos: mesos_address,
        ca_pem: authority.cert_pem().to_string(),
        node,
        tasks,
    })
}

/// What a cluster's keys are to be made for.
struct KeysAsked {
    pki: PathBuf,
    now: Time,
    names: (Vec<String>, Vec<IpAddr>),
    node: Option<String>,
}

/// The keys of a master, and of the node beside it.
struct Keys {
    authority: Arc<Authority>,
    signer: Arc<TokenSigner>,
    serving: Identity,
    admin: Identity,
    node: Option<Identity>,
}

impl KeysAsked {
    /// Reads what is there and makes what lacks. Each new file waits for the disk.
    fn make(self) -> Result<Keys> {
        let KeysAsked { pki, now, names: (names, addresses), node } = self;
        let authority =
            Authority::load_or_create(&pki, now).context("cannot load the cluster's authority")?;
        let signer = TokenSigner::load_or_create(&pki).context("cannot load the token key")?;
        let serving = authority.server_identity(&pki, now, &names, &addresses)?;
        let admin = authority.client_identity(&pki, "admin", now, ADMIN_USER, ADMIN_GROUP)?;
        let node = node.map(|name| {
            let user = format!("system:node:{name}");
            authority.client_identity(&pki.join("agent"), "node", now, &user, NODE_GROUP)
        });
        let node = node.transpose()?;
        Ok(Keys { authority: Arc::new(authority), signer: Arc::new(signer), serving, admin, node })
    }
}

/// Opens the store and the registry over it, with what every cluster has.
async fn open_registry(
    cluster: &Cluster,
    doors: &Doors,
    service_cidr: ServiceCidr,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Registry>> {
    let store = stoa_store::open_embedded(&cluster.store(), stoa_store::Options::default())
        .with_context(|| format!("cannot open the store in {}", cluster.store().display()))?;
    let advertise = match doors.bind {
        IpAddr::V4(a) if !a.is_unspecified() => Some((a, doors.api_port)),
        _ => None,
    };
    let policy = crate::admission::policy(&doors.admission)?;
    let options = stoa_registry::Options { service_cidr, advertise, policy, ..Default::default() };
    let registry = Registry::new(store, clock, options);
    let status = |e: stoa_kube::Status| anyhow::anyhow!(e.message);
    registry.bootstrap().await.map_err(status).context("cannot make what every cluster has")?;
    registry.start_authorizer().map_err(status).context("cannot read the roles")?;
    Ok(registry)
}

/// By which names and addresses the API is served.
fn serving_names(doors: &Doors, service_cidr: ServiceCidr) -> (Vec<String>, Vec<IpAddr>) {
    let mut names: Vec<String> = IN_CLUSTER_NAMES.map(String::from).to_vec();
    names.push(hostname());
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), reachable(doors.bind)];
    addresses.push(IpAddr::V4(service_cidr.nth(0)));
    for san in &doors.api_san {
        match san.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(san.clone()),
        }
    }
    (names, addresses)
}

/// Frameworks give up offers when a pod needs the room.
struct Room(mesos::Handle);

impl stoa_control::Rescinder for Room {
    fn make_room(
        &self,
        agent: Option<&stoa_units::AgentId>,
        namespace: &str,
        need: &stoa_units::Resources,
    ) -> bool {
        self.0.make_room(agent, namespace, need)
    }
}

/// Autoscalers go by what the API says that pods use.
struct Figures(stoa_api::PodFigures);

impl stoa_control::Meter for Figures {
    fn usage<'a>(&'a self, namespace: &'a str, selector: &'a str) -> stoa_control::Told<'a> {
        Box::pin(async move { self.0.of(namespace, selector).await.map_err(|status| status.message) })
    }
}

#[allow(clippy::too_many_arguments, reason = "the wiring of one listener, called once")]
async fn bind_api(
    doors: &Doors,
    authority: &Authority,
    serving: Identity,
    signer: &TokenSigner,
    flags: Flags,
    registry: Arc<Registry>,
    tokens: Arc<stoa_api::ServiceAccountTokens>,
    door: Arc<stoa_session::Door>,
) -> Result<stoa_api::Service> {
    // The authority goes along, so that a joining agent can recognise it by the hash in its token.
    let chain = format!("{}{}", serving.cert_pem, authority.cert_pem());
    let mut options =
        stoa_api::Options::new(SocketAddr::new(doors.bind, doors.api_port), chain, serving.key_pem);
    options.client_ca_pem = Some(authority.cert_pem().to_string());
    crate::authentication::configure(&mut options, &doors.authentication)?;
    options.version = env!("CARGO_PKG_VERSION").to_string();
    options.jwks = Some(signer.jwks().to_string());
    options.token_issuer = Some(signer.issuer().to_string());
    options.flags = flags;
    let handles = stoa_api::Handles {
        registry,
        tokens: vec![tokens],
        opener: Some(door.clone()),
        extension: Some(door),
    };
    Ok(stoa_api::Service::bind(&options, handles).await?)
}

fn mesos_options(cluster: &Cluster, doors: &Doors) -> Result<mesos::Options> {
    let credentials =
        doors.mesos_credentials.as_deref().map(read_credentials).transpose()?.unwrap_or_default();
    let acls = doors.mesos_acls.as_deref().map(read_acls).transpose()?.unwrap_or_default();
    let domain = doors.mesos_domain.as_deref().map(parse_domain).transpose()?;
    let anonymous = if doors.mesos_anonymous { mesos::Anonymous::Allow } else { mesos::Anonymous::Refuse };
    Ok(mesos::Options {
        bind: SocketAddr::new(doors.bind, doors.mesos_port),
        hostname: reachable(doors.bind).to_string(),
        cluster: cluster.id.clone(),
        anonymous,
        credentials,
        acls: Arc::new(acls),
        domain,
        verbosity: crate::logging::verbosity("master"),
        ..Default::default()
    })
}

/// Reads ACLs in Mesos' JSON.
pub fn read_acls(path: &Path) -> Result<mesos::Acls> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
    mesos::Acls::parse(&value).with_context(|| format!("cannot use {}", path.display()))
}

/// `region/zone`.
fn parse_domain(text: &str) -> Result<(String, String)> {
    match text.split_once('/') {
        Some((region, zone)) if !region.is_empty() && !zone.is_empty() => Ok((region.into(), zone.into())),
        _ => bail!("{text:?} is no REGION/ZONE"),
    }
}

/// Reads credentials in both of Mesos' formats: `principal secret` lines, or JSON.
pub fn read_credentials(path: &Path) -> Result<Vec<mesos::Credential>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if text.trim_start().starts_with('{') {
        let value: serde_json::Value =
            serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        let all = value["credentials"].as_array().map(Vec::as_slice).unwrap_or_default();
        let one = |c: &serde_json::Value| {
            let text = |name: &str| c[name].as_str().map(String::from);
            match (text("principal"), text("secret")) {
                (Some(principal), Some(secret)) => Ok(mesos::Credential { principal, secret }),
                _ => bail!("{}: a credential lacks its principal or secret", path.display()),
            }
        };
        return all.iter().map(one).collect();
    }
    let mut credentials = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [principal, secret] => {
                credentials.push(mesos::Credential { principal: principal.into(), secret: secret.into() });
            }
            _ => bail!("{}:{}: expected `principal secret`", path.display(), i + 1),
        }
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        std::fs::write(&path, "# who\n\nmarathon s3cret\n spark  x \n").unwrap();
        let read: Vec<String> = read_credentials(&path).unwrap().into_iter().map(|c| c.principal).collect();
        assert_eq!(read, ["marathon", "spark"]);
        std::fs::write(&path, r#"{"credentials":[{"principal":"a","secret":"b c"}]}"#).unwrap();
        assert_eq!(read_credentials(&path).unwrap()[0].secret, "b c");
        assert_eq!(parse_domain("eu/a").unwrap(), ("eu".into(), "a".into()));
        assert!(parse_domain("eu").is_err());
        std::fs::write(&path, "only-one-word\n").unwrap();
        assert!(read_credentials(&path).unwrap_err().to_string().contains(":1: expected"));
    }
}
