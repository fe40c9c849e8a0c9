//! The service: one task that owns all that is known, and workers that carry out what was decided.

use crate::autoscale::Autoscaling;
use crate::bind::{Binder, Binding, Bound};
use crate::execute::{Executor, Outcome};
use crate::expire::{expire_events, move_on};
use crate::flights::{Crashed, Flights};
use crate::recorder::Recorder;
use crate::schedule::Evicted;
use crate::volumes::Promise;
use crate::work::Work;
use crate::{Error, Meter, Options, Rescinder};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::resources;
use stoa_ledger::Ledger;
use stoa_reconcile::{Action, Controller, Key as WorkKey, World, reconcile};
use stoa_registry::Registry;
use stoa_sched::{Frontiers, PodInfo, Queue, Snapshot};
use stoa_store::{Batch, Key, Range, Watch};
use stoa_units::{AgentId, Clock, NamespacedName, Revision, Time};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What all objects' keys begin with.
const OBJECTS: &str = "/registry/";
/// Keys looked at before the watch gets its turn again.
const LOOKS_LEN_MAX: usize = 1_024;
/// The longest sleep: a clock that was set is noticed after this.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How often events are looked through for old ones, and the revision moves on if nothing else moves it.
const EXPIRE_EVERY: Duration = Duration::from_secs(300);

/// What the service works with.
pub struct Handles {
    /// The write path, and below it the store.
    pub registry: Arc<Registry>,
    /// The book of capacity and claims, shared with whoever makes offers.
    pub ledger: Arc<Mutex<Ledger>>,
    /// Told whenever the book changed.
    pub ledger_changed: Arc<Notify>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// The cluster's CA certificate in PEM, published in every namespace.
    pub root_ca: String,
    /// Whoever makes offers.
    pub rescinder: Arc<dyn Rescinder>,
    /// Whoever knows what pods use.
    pub meter: Arc<dyn Meter>,
}

/// The service. Runs on the leader only.
pub struct Service {
    handles: Handles,
    options: Options,
}

/// All that is known, owned by the one task.
pub(crate) struct Core {
    pub registry: Arc<Registry>,
    pub ledger: Arc<Mutex<Ledger>>,
    pub clock: Arc<dyn Clock>,
    pub rescinder: Arc<dyn Rescinder>,
    pub meter: Arc<dyn Meter>,
    pub autoscaling: Autoscaling,
    pub options: Options,
    pub recorder: Recorder,
    pub world: World,
    /// The world is as the store was at this revision.
    pub revision: Revision,
    /// The highest revision that a binding got.
    pub written: Revision,
    pub work: Work,
    pub snapshot: Snapshot,
    pub frontiers: Frontiers,
    pub queue: Queue,
    pub pending: HashMap<NamespacedName, Arc<PodInfo>>,
    /// Pods that are placed and claimed for while their binding is being written.
    pub in_flight: HashSet<NamespacedName>,
    /// Pods that hold a claim as far as the store says.
    pub bound: BTreeSet<NamespacedName>,
    pub roles: HashMap<String, String>,
    /// The ledger changed by our doing: others are to be told.
    pub ledger_touched: bool,
    /// Something was freed: pods that fitted nowhere may fit now.
    pub room_freed: bool,
    /// The ledger's generation up to which freed room was noticed.
    pub seen_generation: u64,
    pub chores: JoinSet<()>,
    /// Evictions on their way.
    pub evictions: JoinSet<Evicted>,
    /// Pods for which others are being evicted; up to which revision that is done, if it is.
    pub preempting: HashMap<NamespacedName, Option<Revision>>,
    /// What claims get that wait for a pod which has its node by now.
    pub promised: HashMap<NamespacedName, Vec<Promise>>,
}

/// Work on its way.
#[derive(Default)]
struct Flight {
    plans: Flights<Outcome>,
    bindings: JoinSet<Vec<(Binding, Bound)>>,
    expiry: JoinSet<()>,
}

impl Service {
    /// A service over what the binary has made.
    pub fn new(handles: Handles, options: Options) -> Service {
        Service { handles, options }
    }

    /// Runs until told to stop, or until the store is closed.
    ///
    /// # Errors
    /// When the store cannot be read or watched; falling behind its history is no error, everything is read again then.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let (recorder, writer) = Recorder::new(self.handles.registry.clone(), self.handles.clock.clone());
        let writing = tokio::spawn(writer.run(shutdown.clone()));
        let mut known = (BTreeSet::new(), Vec::new());
        let result = loop {
            let mut core = self.core(recorder.clone());
            let watch = core.load();
            core.settle(known.0, known.1);
            let ended = match watch {
                Ok(watch) => self.follow(&mut core, watch, &shutdown).await,
                Err(e) => Err(e),
            };
            known = (
                core.bound,
                core.world
                    .nodes
                    .iter()
                    .filter_map(|n| Some(AgentId::from(n.metadata.name.as_deref()?)))
                    .collect(),
            );
            match ended {
                Ok(()) => break Ok(()),
                Err(stoa_store::Error::Lagged | stoa_store::Error::Compacted { .. }) => {
                    tracing::warn!("fell behind the store's history; reading everything again");
                }
                Err(stoa_store::Error::Closed) => break Ok(()),
                Err(e) => break Err(e.into()),
            }
        };
        shutdown.cancel();
        if let Err(e) = writing.await {
            tracing::warn!(error = %e, "the event writer ended badly");
        }
        result
    }

    fn core(&self, recorder: Recorder) -> Core {
        let h = &self.handles;
        Core {
            registry: h.registry.clone(),
            ledger: h.ledger.clone(),
            clock: h.clock.clone(),
            rescinder: h.rescinder.clone(),
            meter: h.meter.clone(),
            autoscaling: Autoscaling::default(),
            options: self.options.clone(),
            recorder,
            world: World::new(h.clock.now(), h.root_ca.clone()),
            revision: Revision::ZERO,
            written: Revision::ZERO,
            work: Work::default(),
            snapshot: Snapshot::new(),
            frontiers: Frontiers::new(),
            queue: Queue::new(),
            pending: HashMap::new(),
            in_flight: HashSet::new(),
            bound: BTreeSet::new(),
            roles: HashMap::new(),
            ledger_touched: true,
            room_freed: false,
            seen_generation: 0,
            chores: JoinSet::new(),
            evictions: JoinSet::new(),
            preempting: HashMap::new(),
            promised: HashMap::new(),
        }
    }

    async fn follow(
        &self,
        core: &mut Core,
        mut watch: Watch,
        shutdown: &CancellationToken,
    ) -> Result<(), stoa_store::Error> {
        let mut flight = Flight::default();
        let mut sweep = tokio::time::interval(self.options.sweep_every);
        let mut expire = tokio::time::interval(EXPIRE_EVERY);
        sweep.reset();
        loop {
            let executor = Executor {
                registry: core.registry.clone(),
                recorder: core.recorder.clone(),
                clock: core.clock.clone(),
            };
            core.start_plans(&executor, &mut flight.plans);
            core.start_bindings(&mut flight.bindings);
            if std::mem::take(&mut core.ledger_touched) {
                self.tell_ledger_changed();
            }
            let sleep = tokio::time::sleep(core.sleep_for());
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                batch = watch.next() => core.take(batch?, &mut watch)?,
                Some(done) = flight.plans.next() => core.settle_plan(done),
                Some(done) = flight.bindings.join_next() => match done {
                    Ok(results) => core.settle_bindings(results),
                    // A panic in the writer: what was on its way is in doubt, so everything is read again.
                    Err(_) => return Err(stoa_store::Error::Lagged),
                },
                Some(done) = core.autoscaling.next() => core.settle_autoscaling(done),
                Some(_) = core.chores.join_next() => {}
                Some(done) = core.evictions.join_next() => core.settle_evictions(done),
                Some(_) = flight.expiry.join_next() => {}
                () = self.handles.ledger_changed.notified() => core.look_at_ledger(),
                () = sleep => {}
                _ = sweep.tick() => core.sweep(),
                _ = expire.tick() => {
                    if flight.expiry.is_empty() {
                        let age = self.options.event_age_max;
                        let (registry, clock) = (core.registry.clone(), core.clock.clone());
                        flight.expiry.spawn(async move {
                            move_on(&**registry.store(), clock.now()).await;
                            expire_events(registry, clock, age).await;
                        });
                    }
                }
            }
        }
    }

    fn tell_ledger_changed(&self) {
        // Those who wait now are woken; one who is about to wait finds the permit.
        self.handles.ledger_changed.notify_waiters();
        self.handles.ledger_changed.notify_one();
    }
}

impl Core {
    /// Reads everything and watches from there.
    fn load(&mut self) -> Result<Watch, stoa_store::Error> {
        let store = self.registry.store().clone();
        let claims = store.range(Range { prefix: &Key::internal_prefix("claims"), ..Range::default() })?;
        for entry in &claims.entries {
            self.ledger.lock().committed(&AgentId::from(entry.key.name()), entry.modified);
        }
        let page = store.range(Range { prefix: OBJECTS, ..Range::default() })?;
        // Namespaces and nodes first: claims are booked on roles and agents that are known.
        let rank = |k: &Key| match (k.group(), k.resource()) {
            (Some(""), Some("namespaces")) => 0,
            (Some(""), Some("nodes")) => 1,
            _ => 2,
        };
        let mut entries: Vec<_> = page.entries.iter().collect();
        entries.sort_by_key(|e| rank(&e.key));
        for entry in entries {
            let (Some(group), Some(plural)) = (entry.key.group(), entry.key.resource()) else { continue };
            let Some(resource) = resources().find_stored(group, plural) else { continue };
            self.put(resource, entry.key.namespace(), entry.key.name(), &entry.value);
        }
        self.revision = page.revision;
        self.sweep();
        store.watch(OBJECTS, page.revision)
    }

    /// Takes over a batch, and what else is there already.
    fn take(&mut self, batch: Batch, watch: &mut Watch) -> Result<(), stoa_store::Error> {
        self.world.now = self.clock.now();
        let mut next = Some(batch);
        while let Some(batch) = next {
            for event in &batch.events {
                self.observe(event);
            }
            self.revision = batch.revision;
            next = watch.try_next()?;
        }
        self.work.reached(self.revision);
        self.look_at_preemptions();
        Ok(())
    }

    fn sweep(&mut self) {
        for key in self.world.all_keys() {
            self.name(key);
        }
        self.queue.sweep(self.clock.now());
    }

    /// Looks at keys and has done what is to be done.
    fn start_plans(&mut self, executor: &Executor, plans: &mut Flights<Outcome>) {
        let now = self.clock.now();
        self.world.now = now;
        self.work.wake(now);
        for _ in 0..LOOKS_LEN_MAX {
            if plans.len() >= self.options.workers_len_max {
                return;
            }
            let Some(key) = self.work.pop() else { return };
            if key.controller == Controller::Autoscaler {
                self.start_autoscaling(key, executor);
                continue;
            }
            let mut actions = reconcile(&self.world, &key);
            actions.retain(|action| match action {
                Action::Again { at } => {
                    self.work.add_at(key.clone(), *at);
                    false
                }
                _ => true,
            });
            if actions.is_empty() {
                continue;
            }
            self.work.start(key.clone());
            plans.start(key.clone(), executor.clone().carry_out(key, actions));
        }
    }

    fn settle_plan(&mut self, done: Result<Outcome, Crashed>) {
        let outcome = match done {
            Ok(outcome) => outcome,
            Err(Crashed(key)) => return self.look_again(key),
        };
        let now = self.clock.now();
        if let Some(at) = outcome.again {
            self.work.add_at(outcome.key.clone(), at);
        }
        if outcome.failed {
            self.work.fail(outcome.key, outcome.written, self.revision, now);
        } else {
            self.work.finish(outcome.key, outcome.written, self.revision);
        }
    }

    /// Whatever was done for a key came to a bad end: it is looked at again, ever later while that goes on.
    pub(crate) fn look_again(&mut self, key: WorkKey) {
        let now = self.clock.now();
        self.work.fail(key, Revision::ZERO, self.revision, now);
    }

    /// Places pods, unless bindings are on their way: they share claims keys.
    fn start_bindings(&mut self, bindings: &mut JoinSet<Vec<(Binding, Bound)>>) {
        if std::mem::take(&mut self.room_freed) {
            self.queue.move_parked(self.clock.now());
        }
        if !bindings.is_empty() {
            return;
        }
        let placed = self.place_waiting();
        if !placed.is_empty() {
            let binder = Binder { registry: self.registry.clone(), ledger: self.ledger.clone() };
            bindings.spawn(binder.bind(placed));
        }
    }

    /// Somebody changed the ledger: an offer was declined, a task ended, and pods may fit that did not.
    fn look_at_ledger(&mut self) {
        let generation = self.ledger.lock().generation();
        if generation != self.seen_generation {
            self.seen_generation = generation;
            self.room_freed = true;
        }
    }

    fn sleep_for(&self) -> Duration {
        let now = self.clock.now();
        let next: Option<Time> = [self.work.next_due(), self.queue.next_wake()].into_iter().flatten().min();
        // A little later than due, so that rounding does not wake it a moment too early.
        next.map_or(SLEEP_MAX, |at| (at.since(now) + Duration::from_millis(1)).min(SLEEP_MAX))
    }
}
