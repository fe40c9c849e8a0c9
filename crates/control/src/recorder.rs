//! Says things about objects as Events. The same thing said again raises a count instead of making a new object, and
//! who says too much is silenced for a while: events inform people, they are nobody's duty.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::{Resource, resources};
use stoa_reconcile::{Level, ObjectId};
use stoa_registry::{Context, Registry, Target};
use stoa_units::{Clock, Time};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Events that wait to be written; beyond this they are dropped.
const NOTES_LEN_MAX: usize = 8_192;
/// Events written at the same time.
const WRITES_LEN_MAX: usize = 32;
/// Things said that are remembered, so that a repetition is recognised.
const SAID_LEN_MAX: usize = 8_192;
/// A thing not said for so long is new again.
const SAID_AGE_MAX: Duration = Duration::from_secs(600);
/// Events about one object in a burst, and how long it takes to earn another, as the stock recorder has it.
const BURST_MAX: u32 = 25;
const EARN_ONE_EVERY: Duration = Duration::from_secs(300);

/// Something said about an object.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub about: ObjectId,
    pub level: Level,
    pub reason: &'static str,
    pub message: String,
    pub component: &'static str,
}

/// Takes notes and never waits.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Note>);

impl Recorder {
    /// A recorder and its writer, which is to be run.
    pub fn new(registry: Arc<Registry>, clock: Arc<dyn Clock>) -> (Recorder, Writer) {
        let (tx, rx) = mpsc::channel(NOTES_LEN_MAX);
        let memory = Mutex::new(Memory::default());
        (Recorder(tx), Writer { notes: rx, shared: Arc::new(Shared { registry, clock, memory }) })
    }

    /// Says something. Dropped if too much waits already.
    pub fn say(&self, note: Note) {
        if self.0.try_send(note).is_err() {
            tracing::debug!("an event was dropped");
        }
    }
}

#[derive(Default)]
struct Memory {
    said: HashMap<(Arc<str>, &'static str, String), Said>,
    budgets: HashMap<(Arc<str>, &'static str), (f64, Time)>,
}

#[derive(Clone)]
struct Said {
    name: String,
    first: Time,
    last: Time,
    count: i64,
}

struct Shared {
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
}

pub(crate) struct Writer {
    notes: mpsc::Receiver<Note>,
    shared: Arc<Shared>,
}

impl Writer {
    /// Writes until told to stop.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let Some(events) = resources().find("", "v1", "events") else { return };
        let slots = Arc::new(Semaphore::new(WRITES_LEN_MAX));
        loop {
            let note = tokio::select! {
                () = shutdown.cancelled() => return,
                note = self.notes.recv() => note,
            };
            let Some(note) = note else { return };
            let Some(said) = self.shared.remember(&note) else { continue };
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let shared = self.shared.clone();
            tokio::spawn(async move {
                shared.write(events, note, said).await;
                drop(slot);
            });
        }
    }
}

impl Shared {
    /// Counts the note; nothing if its source has said too much.
    fn remember(&self, note: &Note) -> Option<Said> {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        if memory.said.len() >= SAID_LEN_MAX {
            memory.said.retain(|_, s| now.since(s.last) < SAID_AGE_MAX);
            if memory.said.len() >= SAID_LEN_MAX {
                memory.said.clear();
            }
        }
        if memory.budgets.len() >= SAID_LEN_MAX {
            memory.budgets.retain(|_, (_, at)| now.since(*at) < EARN_ONE_EVERY);
        }
        let budget = memory
            .budgets
            .entry((note.about.uid.clone(), note.component))
            .or_insert((f64::from(BURST_MAX), now));
        let earned = now.since(budget.1).as_secs_f64() / EARN_ONE_EVERY.as_secs_f64();
        *budget = ((budget.0 + earned).min(f64::from(BURST_MAX)), now);
        if budget.0 < 1.0 {
            return None;
        }
        budget.0 -= 1.0;
        let key = (note.about.uid.clone(), note.reason, note.message.clone());
        let said = memory.said.entry(key).or_insert_with(|| Said {
            name: format!("{}.{:x}", note.about.name, now.0.as_nanosecond()),
            first: now,
            last: now,
            count: 0,
        });
        if now.since(said.last) > SAID_AGE_MAX {
            *said = Said {
                name: format!("{}.{:x}", note.about.name, now.0.as_nanosecond()),
                first: now,
                last: now,
                count: 0,
            };
        }
        said.count += 1;
        said.last = now;
        Some(said.clone())
    }

    async fn write(&self, events: &'static Resource, note: Note, said: Said) {
        let ctx = Context::system(note.component);
        let namespace = if note.about.namespace.is_empty() { "default" } else { &note.about.namespace };
        let result = if said.count > 1 {
            let target = Target::new(events, namespace, &said.name);
            let count = |v: &mut Value| {
                v["count"] = said.count.into();
                v["lastTimestamp"] = said.last.to_rfc3339_seconds().into();
                Ok(())
            };
            self.registry.modify(&ctx, target, count).await
        } else {
            let target = Target::new(events, namespace, "");
            self.registry.create(&ctx, target, to_event(&note, &said, namespace)).await
        };
        if let Err(status) = result {
            tracing::debug!(reason = note.reason, error = %status.message, "an event was not written");
        }
    }
}

fn to_event(note: &Note, said: &Said, namespace: &str) -> Value {
    let about = &note.about;
    let mut object = json!({"apiVersion": about.resource.api_version(), "kind": about.resource.kind,
        "name": about.name, "uid": about.uid, "resourceVersion": about.revision.to_string()});
    if !about.namespace.is_empty() {
        object["namespace"] = json!(about.namespace);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": said.name, "namespace": namespace},
        "involvedObject": object,
        "reason": note.reason,
        "message": note.message,
        "source": {"component": note.component},
        "reportingComponent": note.component,
        "reportingInstance": "",
        "firstTimestamp": said.first.to_rfc3339_seconds(),
        "lastTimestamp": said.last.to_rfc3339_seconds(),
        "count": said.count,
        "type": note.level.as_str(),
    })
}
