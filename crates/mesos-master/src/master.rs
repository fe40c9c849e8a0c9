//! What all parts of the master share.

use crate::command::Pending;
use crate::options::Options;
use crate::state::State;
use crate::stream::Closings;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use stoa_kube::{Resource, resources};
use stoa_ledger::Ledger;
use stoa_mesos::MasterInfo;
use stoa_offers::Allocator;
use stoa_registry::{Context, Registry, Target};
use stoa_store::Store;
use stoa_streams::Opener;
use stoa_units::{Clock, Time};
use tokio::sync::{Notify, mpsc};

/// Long reconciliations that wait to be taken up.
const PENDING_LEN_MAX: usize = 64;

/// Which master leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Leader {
    /// This one: it answers.
    #[default]
    Here,
    /// Another one, by name or address and port: clients are sent there.
    At(String, u16),
    /// Nobody, or nobody knows: clients must come again.
    Nobody,
}

/// The master. The order of locks is state, then ledger; neither is held across an await.
pub(crate) struct Master {
    pub registry: Arc<Registry>,
    pub ledger: Arc<Mutex<Ledger>>,
    pub ledger_changed: Arc<Notify>,
    pub clock: Arc<dyn Clock>,
    pub options: Options,
    pub state: Mutex<State>,
    /// Wakes the cycle.
    pub wake: Arc<Notify>,
    /// Wakes the writer.
    pub work: Notify,
    /// Wakes whoever keeps the ways to agents' executors.
    pub planes_wanted: Notify,
    /// By which agents are reached.
    pub opener: OnceLock<Arc<dyn Opener>>,
    /// Held by whoever writes records.
    pub flushing: tokio::sync::Mutex<()>,
    pub closings: Closings,
    /// Takes reconciliations that are too long to be answered at once.
    pub pacer: mpsc::Sender<Pending>,
    /// A new one at each start; the stem of framework and offer ids.
    pub id: String,
    pub started: Time,
    info: OnceLock<MasterInfo>,
    leader: Mutex<Leader>,
    pub taken_ports: crate::node_ports::Taken,
    is_recovered: AtomicBool,
    pub context: Context,
    pub pods: &'static Resource,
    pub namespaces: &'static Resource,
    pub accounts: &'static Resource,
    pub nodes: &'static Resource,
}

impl Master {
    pub fn new(
        registry: Arc<Registry>,
        ledger: Arc<Mutex<Ledger>>,
        ledger_changed: Arc<Notify>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Option<(Master, mpsc::Receiver<Pending>)> {
        let (pacer, pending) = mpsc::channel(PENDING_LEN_MAX);
        let mut allocator = Allocator::new(stoa_offers::Options::default());
        for (role, weight) in &options.weights {
            allocator.set_weight(role, *weight);
        }
        let wake = Arc::new(Notify::new());
        let closings = Closings::new(wake.clone());
        let retention = options.completed_task_retention;
        let mut state = State::new(allocator, retention, options.completed_tasks_max, closings.clone());
        state.watchers = crate::feed::Watchers::new(options.acls.clone());
        let master = Master {
            registry,
            ledger,
            ledger_changed,
            started: clock.now(),
            clock,
            state: Mutex::new(state),
            closings,
            pacer,
            wake,
            work: Notify::new(),
            planes_wanted: Notify::new(),
            opener: OnceLock::new(),
            flushing: tokio::sync::Mutex::new(()),
            id: uuid::Uuid::new_v4().to_string(),
            info: OnceLock::new(),
            leader: Mutex::default(),
            taken_ports: crate::node_ports::Taken::default(),
            is_recovered: AtomicBool::new(false),
            context: Context::system("mesos"),
            pods: resources().find("", "v1", "pods")?,
            namespaces: resources().find("", "v1", "namespaces")?,
            accounts: resources().find("", "v1", "serviceaccounts")?,
            nodes: resources().find("", "v1", "nodes")?,
            options,
        };
        Some((master, pending))
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        self.registry.store()
    }

    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// What the master says of itself; its port is known once it listens.
    pub fn info(&self) -> &MasterInfo {
        self.info.get_or_init(|| {
            MasterInfo::new(
                &*self.id,
                self.options.bind.ip(),
                self.options.bind.port(),
                &*self.options.hostname,
            )
        })
    }

    /// Sets the port that was actually bound.
    pub fn set_address(&self, address: std::net::SocketAddr) {
        // Bound to every address, it is announced under the one that it is called by.
        let called = self.options.hostname.parse().ok();
        let ip = if address.ip().is_unspecified() { called.unwrap_or(address.ip()) } else { address.ip() };
        let info = MasterInfo::new(&*self.id, ip, address.port(), &*self.options.hostname);
        // Nobody asks before the listener is bound, and it is bound once.
        let _ = self.info.set(info);
    }

    /// Where the leading master is, if there is one: its host and port.
    pub fn leader(&self) -> Option<(String, u16)> {
        match &*self.leader.lock() {
            Leader::Here => {
                let info = self.info();
                let host = info.address.as_ref().and_then(|a| a.hostname.clone()).unwrap_or_default();
                Some((host, u16::try_from(info.port).unwrap_or_default()))
            }
            Leader::At(host, port) => Some((host.clone(), *port)),
            Leader::Nobody => None,
        }
    }

    pub fn set_leader(&self, leader: Leader) {
        *self.leader.lock() = leader;
    }

    /// Whether this master answers itself.
    pub fn is_leading(&self) -> bool {
        *self.leader.lock() == Leader::Here
    }

    pub fn is_recovered(&self) -> bool {
        self.is_recovered.load(Ordering::Acquire)
    }

    pub fn set_recovered(&self) {
        self.is_recovered.store(true, Ordering::Release);
    }

    pub fn pod_target<'a>(&self, namespace: &'a str, name: &'a str) -> Target<'a> {
        Target::new(self.pods, namespace, name)
    }

    /// Something changed that the cycle or the writer may act on.
    pub fn nudge(&self) {
        self.wake.notify_one();
        self.work.notify_one();
    }

    /// The ledger changed by our hand: the others look at it too.
    pub fn tell_ledger(&self) {
        self.ledger_changed.notify_waiters();
        // Whoever was not waiting just then finds this one.
        self.ledger_changed.notify_one();
        self.nudge();
    }
}
