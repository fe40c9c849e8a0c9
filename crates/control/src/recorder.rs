//! Says things about objects as Events. The same thing said again raises a count instead of making a new object, and
//! who says too much is silenced for a while: events inform people, they are nobody's duty.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
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
/// Different messages of one reason about one object from which on they share an event, as the stock recorder has it.
const SIMILAR_LEN_MAX: usize = 10;
const COMBINED: &str = "(combined from similar events): ";
/// An event with an action that is not said again for so long ends its series.
const SERIES_AGE_MAX: Duration = Duration::from_secs(360);
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
    /// What was being done, of those who report by the newer form of events; empty for the others.
    pub action: &'static str,
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
    /// Of each object and reason: what was said of late.
    similar: HashMap<(Arc<str>, &'static str), Similar>,
    budgets: HashMap<(Arc<str>, &'static str), (f64, Time)>,
}

/// Messages that differ, and when the last of them was said.
type Similar = (HashSet<String>, Time);

#[derive(Clone)]
struct Said {
    name: String,
    first: Time,
    last: Time,
    count: i64,
    /// Whether it stands for messages that differ.
    combined: bool,
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
        let (about, combined) = match note.action {
            "" => memory.similar_to(note, now),
            // Whoever reports an action tells attempts apart by what they saw, not by what they say.
            action => (format!("{action}/{}", note.about.revision), false),
        };
        let age_max = if note.action.is_empty() { SAID_AGE_MAX } else { SERIES_AGE_MAX };
        let fresh = || Said {
            name: format!("{}.{:x}", note.about.name, now.0.as_nanosecond()),
            first: now,
            last: now,
            count: 0,
            combined,
        };
        let said = memory.said.entry((note.about.uid.clone(), note.reason, about)).or_insert_with(fresh);
        if now.since(said.last) > age_max {
            *said = fresh();
        }
        said.count += 1;
        said.last = now;
        // A series is told once: how long it goes on is known well enough.
        (note.action.is_empty() || said.count <= 2).then(|| said.clone())
    }

    async fn write(&self, events: &'static Resource, note: Note, said: Said) {
        let ctx = Context::system(note.component);
        let namespace = if note.about.namespace.is_empty() { "default" } else { &note.about.namespace };
        let result = if said.count > 1 {
            let target = Target::new(events, namespace, &said.name);
            let count = |v: &mut Value| {
                if note.action.is_empty() {
                    v["count"] = said.count.into();
                    v["lastTimestamp"] = said.last.to_rfc3339_seconds().into();
                    v["message"] = text(&note, &said).into();
                } else {
                    v["series"] =
                        json!({"count": said.count, "lastObservedTime": said.last.to_rfc3339_micros()});
                }
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
    let mut event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": said.name, "namespace": namespace},
        "involvedObject": object,
        "reason": note.reason,
        "message": text(note, said),
        "type": note.level.as_str(),
        "reportingComponent": if said.combined { "" } else { note.component },
        "reportingInstance": "",
    });
    if note.action.is_empty() {
        event["source"] = json!({"component": note.component});
        event["firstTimestamp"] = said.first.to_rfc3339_seconds().into();
        event["lastTimestamp"] = said.last.to_rfc3339_seconds().into();
        event["count"] = said.count.into();
    } else {
        event["action"] = note.action.into();
        event["eventTime"] = said.first.to_rfc3339_micros().into();
        event["reportingInstance"] = format!("{}-stoa", note.component).into();
    }
    event
}

fn text(note: &Note, said: &Said) -> String {
    if said.combined { format!("{COMBINED}{}", note.message) } else { note.message.clone() }
}

impl Memory {
    /// Under what a note is counted, and whether others that say something else are counted there too.
    fn similar_to(&mut self, note: &Note, now: Time) -> (String, bool) {
        if self.similar.len() >= SAID_LEN_MAX {
            self.similar.retain(|_, (_, at)| now.since(*at) < SAID_AGE_MAX);
            if self.similar.len() >= SAID_LEN_MAX {
                self.similar.clear();
            }
        }
        let key = (note.about.uid.clone(), note.reason);
        let (texts, last) = self.similar.entry(key).or_insert_with(|| (HashSet::new(), now));
        if now.since(*last) > SAID_AGE_MAX {
            texts.clear();
        }
        *last = now;
        if texts.len() < SIMILAR_LEN_MAX {
            texts.insert(note.message.clone());
        }
        if texts.len() < SIMILAR_LEN_MAX { (note.message.clone(), false) } else { (COMBINED.into(), true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_units::{Revision, SystemClock};

    fn shared() -> Shared {
        let store = stoa_store::memory(stoa_store::Options::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let registry = Registry::new(store, clock.clone(), stoa_registry::Options::default());
        Shared { registry, clock, memory: Mutex::new(Memory::default()) }
    }

    fn note(message: &str, action: &'static str) -> Note {
        let resource = resources().find("", "v1", "pods").expect("pods");
        let about = ObjectId {
            resource,
            namespace: "d".into(),
            name: "p".into(),
            uid: "u".into(),
            revision: Revision(7),
        };
        Note { about, level: Level::Normal, reason: "Made", message: message.into(), component: "c", action }
    }

    #[test]
    fn what_is_said_in_many_ways_is_combined() {
        let shared = shared();
        let mut last = None;
        for i in 0..12 {
            let note = note(&format!("made {i}"), "");
            let said = shared.remember(&note).expect("it may speak");
            assert_eq!(said.combined, i >= 9, "{i}");
            last = Some((to_event(&note, &said, "d"), said.count));
        }
        let (event, count) = last.expect("twelve");
        assert_eq!(count, 3);
        assert_eq!(event["message"], "(combined from similar events): made 11");
        assert_eq!((&event["reportingComponent"], &event["source"]["component"]), (&json!(""), &json!("c")));
        let again = shared.remember(&note("made 3", "")).expect("it may speak");
        assert!(again.combined, "it is one of many by now");
    }

    #[test]
    fn who_reports_an_action_reports_by_the_newer_form() {
        let shared = shared();
        let first = note("bound", "Binding");
        let event = to_event(&first, &shared.remember(&first).expect("the first"), "d");
        assert_eq!((&event["action"], &event["reportingComponent"]), (&json!("Binding"), &json!("c")));
        assert!(event["eventTime"].is_string() && event["count"].is_null() && event["source"].is_null());
        assert_eq!(shared.remember(&note("bound again", "Binding")).expect("a series").count, 2);
        assert!(shared.remember(&note("bound again", "Binding")).is_none(), "a series is told once");
        let mut moved = note("bound", "Binding");
        moved.about.revision = Revision(8);
        assert_eq!(shared.remember(&moved).expect("another").count, 1);
    }
}
