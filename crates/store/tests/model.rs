//! Random programs against a model that keeps every state whole: whatever the store answers, the model must answer too, on
//! either engine, across compactions and, where there is a disk, across restarts.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_store::{
    Commit, Error, EventKind, Key, Options, Range, Revision, Stamped, Store, Txn, Watch, memory,
    open_embedded,
};

/// What may be demanded of a key.
#[derive(Clone, Copy, Debug)]
enum Demand {
    Nothing,
    Current,
    Absent,
    Stale,
}

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, value: u8, demand: Demand },
    Delete { key: u8, demand: Demand },
    Both { put: u8, delete: u8 },
    Compact { share: u8 },
    GetAt { key: u8, share: u8 },
    Range { prefix: u8, after: Option<u8>, limit: u8, share: u8 },
    Watch { prefix: u8, share: u8 },
    Drain,
    Reopen,
}

const KEYS: [&str; 7] = ["/a/1", "/a/10", "/a/2", "/a/b/1", "/b/1", "/b/ä", "/c"];
const PREFIXES: [&str; 6] = ["", "/", "/a/", "/a/1", "/b/", "/zz"];

fn key(i: u8) -> Key {
    Key::from_text(KEYS[i as usize % KEYS.len()])
}

fn step() -> impl Strategy<Value = Step> {
    let demand = prop_oneof![
        3 => Just(Demand::Nothing),
        3 => Just(Demand::Current),
        1 => Just(Demand::Absent),
        1 => Just(Demand::Stale)
    ];
    prop_oneof![
        6 => (any::<u8>(), any::<u8>(), demand.clone()).prop_map(|(key, value, demand)| Step::Put { key, value, demand }),
        3 => (any::<u8>(), demand).prop_map(|(key, demand)| Step::Delete { key, demand }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(put, delete)| Step::Both { put, delete }),
        1 => any::<u8>().prop_map(|share| Step::Compact { share }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(key, share)| Step::GetAt { key, share }),
        3 => (any::<u8>(), any::<Option<u8>>(), 0u8..4, any::<u8>())
            .prop_map(|(prefix, after, limit, share)| Step::Range { prefix, after, limit, share }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(prefix, share)| Step::Watch { prefix, share }),
        1 => Just(Step::Drain),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    bytes: Vec<u8>,
    created: u64,
    modified: u64,
}

type State = BTreeMap<String, Value>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Happened {
    key: String,
    kind: EventKind,
    value: Vec<u8>,
    previous: Option<Vec<u8>>,
    created: u64,
    revision: u64,
}

/// Every state there ever was.
struct Model {
    states: Vec<State>,
    events: Vec<Happened>,
    compacted: u64,
}

impl Model {
    fn now(&self) -> &State {
        self.states.last().expect("there is a first state")
    }

    fn revision(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn modified(&self, key: &Key) -> u64 {
        self.now().get(key.as_str()).map_or(0, |v| v.modified)
    }

    fn commit(&mut self, puts: &[(Key, Vec<u8>)], deletes: &[Key]) {
        let revision = self.revision() + 1;
        let mut state = self.now().clone();
        for (key, bytes) in puts {
            let old = state.get(key.as_str()).cloned();
            let created = old.as_ref().map_or(revision, |v| v.created);
            let value = Value { bytes: bytes.clone(), created, modified: revision };
            state.insert(key.to_string(), value);
            self.events.push(Happened {
                key: key.to_string(),
                kind: EventKind::Put,
                value: bytes.clone(),
                previous: old.map(|v| v.bytes),
                created,
                revision,
            });
        }
        for key in deletes {
            let old = state.remove(key.as_str()).expect("only what exists is deleted");
            self.events.push(Happened {
                key: key.to_string(),
                kind: EventKind::Delete,
                value: format!("gone {revision}!").into_bytes(),
                previous: Some(old.bytes),
                created: old.created,
                revision,
            });
        }
        self.states.push(state);
    }

    /// A revision somewhere between just before the compaction and just after the present.
    fn pick(&self, share: u8) -> u64 {
        let low = self.compacted.saturating_sub(1);
        low + u64::from(share) % (self.revision() + 2 - low)
    }
}

struct Watcher {
    watch: Watch,
    prefix: &'static str,
    seen: u64,
}

struct Run {
    store: Option<Arc<dyn Store>>,
    reopen: Option<Box<dyn Fn() -> Arc<dyn Store>>>,
    model: Model,
    watchers: Vec<Watcher>,
}

impl Run {
    fn store(&self) -> &Arc<dyn Store> {
        self.store.as_ref().expect("the store is open")
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Put { key: k, value, demand } => self.put(key(k), value, demand).await,
            Step::Delete { key: k, demand } => self.delete(key(k), demand).await,
            Step::Both { put, delete } => self.both(key(put), key(delete)).await,
            Step::Compact { share } => self.compact(share).await,
            Step::GetAt { key: k, share } => self.get_at(&key(k), share),
            Step::Range { prefix, after, limit, share } => self.range(prefix, after, limit, share),
            Step::Watch { prefix, share } => self.watch(prefix, share),
            Step::Drain => self.drain(),
            Step::Reopen => self.reopen(),
        }
        let (store, model) = (self.store(), &self.model);
        assert_eq!(store.revision().0, model.revision());
        assert_eq!(store.compacted().0, model.compacted);
    }

    fn demand(&self, txn: Txn, key: &Key, demand: Demand) -> (Txn, bool) {
        let current = self.model.modified(key);
        match demand {
            Demand::Nothing => (txn, true),
            Demand::Current => (txn.expect(key.clone(), Revision(current)), true),
            Demand::Absent => (txn.expect(key.clone(), Revision::ZERO), current == 0),
            Demand::Stale => (txn.expect(key.clone(), Revision(current + 1)), false),
        }
    }

    async fn put(&mut self, key: Key, value: u8, demand: Demand) {
        let revision = self.model.revision() + 1;
        let stamped = Stamped {
            bytes: format!("{value} at !").into_bytes().into(),
            slot: Some(format!("{value} at ").len()),
        };
        let (txn, holds) = self.demand(Txn::new().put(key.clone(), stamped), &key, demand);
        let verdict = self.store().commit(txn).await;
        let bytes = format!("{value} at {revision}!").into_bytes();
        if holds {
            let expected = Commit { revision: Revision(revision), values: vec![bytes.clone().into()] };
            assert_eq!(verdict.expect("the demands hold"), expected);
            self.model.commit(&[(key, bytes)], &[]);
        } else {
            self.conflicts(verdict, &key);
        }
    }

    async fn delete(&mut self, key: Key, demand: Demand) {
        let last = Stamped { bytes: "gone !".into(), slot: Some(5) };
        let (txn, holds) = self.demand(Txn::new().delete(key.clone(), last), &key, demand);
        let verdict = self.store().commit(txn).await;
        if holds && self.model.modified(&key) > 0 {
            verdict.expect("the key exists");
            self.model.commit(&[], &[key]);
        } else {
            self.conflicts(verdict, &key);
        }
    }

    async fn both(&mut self, put: Key, delete: Key) {
        let txn = Txn::new()
            .put(put.clone(), Stamped::plain("both"))
            .delete(delete.clone(), Stamped { bytes: "gone !".into(), slot: Some(5) });
        let verdict = self.store().commit(txn).await;
        if put == delete {
            assert!(matches!(verdict, Err(Error::Twice { .. })));
        } else if self.model.modified(&delete) > 0 {
            verdict.expect("the key exists");
            self.model.commit(&[(put, b"both".to_vec())], &[delete]);
        } else {
            self.conflicts(verdict, &delete);
        }
    }

    fn conflicts(&self, verdict: Result<Commit, Error>, key: &Key) {
        match verdict {
            Err(Error::Conflict { key: which, current }) => {
                assert_eq!(&which, key);
                assert_eq!(current.map_or(0, |e| e.modified.0), self.model.modified(key));
            }
            other => panic!("no conflict but {other:?}"),
        }
    }

    async fn compact(&mut self, share: u8) {
        let to = self.model.pick(share);
        let verdict = self.store().compact(Revision(to)).await;
        if to > self.model.revision() {
            assert!(matches!(verdict, Err(Error::Future { .. })));
        } else if to < self.model.compacted {
            assert!(matches!(verdict, Err(Error::Compacted { .. })));
        } else {
            verdict.expect("there is something to compact");
            self.model.compacted = to;
        }
    }

    /// True if the revision can be read; else checks that the error says why not.
    fn readable<T: std::fmt::Debug>(&self, at: u64, read: &Result<T, Error>) -> bool {
        if at > self.model.revision() {
            assert!(matches!(read, Err(Error::Future { .. })), "{read:?}");
        } else if at < self.model.compacted {
            assert!(matches!(read, Err(Error::Compacted { oldest }) if oldest.0 == self.model.compacted));
        } else {
            assert!(read.is_ok(), "{read:?}");
        }
        read.is_ok()
    }

    fn get_at(&self, key: &Key, share: u8) {
        let at = self.model.pick(share);
        let read = self.store().get_at(key, Revision(at));
        if self.readable(at, &read) {
            let expected = self.model.states[at as usize].get(key.as_str());
            let got = read.expect("readable");
            assert_eq!(got.as_ref().map(|e| e.value.to_vec()), expected.map(|v| v.bytes.clone()));
            assert_eq!(got.map(|e| (e.created.0, e.modified.0)), expected.map(|v| (v.created, v.modified)));
        }
        assert_eq!(self.store().get(key).map_or(0, |e| e.modified.0), self.model.modified(key));
    }

    fn range(&self, prefix: u8, after: Option<u8>, limit: u8, share: u8) {
        let (prefix, after) = (PREFIXES[prefix as usize % PREFIXES.len()], after.map(key));
        let at = (!share.is_multiple_of(3)).then(|| self.model.pick(share));
        let range = Range { prefix, after: after.as_ref(), limit: limit as usize, at: at.map(Revision) };
        let read = self.store().range(range);
        let at = at.unwrap_or(self.model.revision());
        if !self.readable(at, &read) {
            return;
        }
        let page = read.expect("readable");
        let all: Vec<_> = self.model.states[at as usize]
            .iter()
            .filter(|(k, _)| k.starts_with(prefix) && after.as_ref().is_none_or(|a| k.as_str() > a.as_str()))
            .collect();
        let shown = if limit == 0 { all.len() } else { all.len().min(limit as usize) };
        assert_eq!(page.revision.0, at);
        assert_eq!(page.remaining as usize, all.len() - shown);
        assert_eq!(page.entries.len(), shown);
        for (entry, (key, value)) in page.entries.iter().zip(all) {
            let got =
                Value { bytes: entry.value.to_vec(), created: entry.created.0, modified: entry.modified.0 };
            assert_eq!((entry.key.as_str(), &got), (key.as_str(), value));
        }
    }

    fn watch(&mut self, prefix: u8, share: u8) {
        let (prefix, after) = (PREFIXES[prefix as usize % PREFIXES.len()], self.model.pick(share));
        let watch = self.store().watch(prefix, Revision(after));
        if self.readable(after, &watch) {
            self.watchers.push(Watcher { watch: watch.expect("readable"), prefix, seen: after });
        }
    }

    fn drain(&mut self) {
        let model = &self.model;
        self.watchers.retain_mut(|watcher| {
            let missed = |e: &&Happened| e.revision > watcher.seen && e.key.starts_with(watcher.prefix);
            let expected: Vec<_> = model.events.iter().filter(missed).cloned().collect();
            let mut got = Vec::new();
            loop {
                let before = watcher.watch.synced();
                match watcher.watch.try_next() {
                    Ok(Some(batch)) => {
                        assert!(batch.events.iter().all(|e| e.revision > before), "progress ahead of events");
                        got.extend(batch.events.iter().map(|e| Happened {
                            key: e.key.to_string(),
                            kind: e.kind,
                            value: e.value.to_vec(),
                            previous: e.previous.as_ref().map(|p| p.to_vec()),
                            created: e.created.0,
                            revision: e.revision.0,
                        }));
                    }
                    Ok(None) => break,
                    Err(Error::Lagged) => {
                        assert!(
                            expected.iter().any(|e| e.revision <= model.compacted),
                            "lagged for no reason"
                        );
                        return false;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(got, expected);
            assert_eq!(watcher.watch.synced().0, model.revision());
            watcher.seen = model.revision();
            true
        });
    }

    fn reopen(&mut self) {
        let Some(reopen) = &self.reopen else { return };
        let seen: Vec<_> = self.watchers.drain(..).map(|w| (w.prefix, w.seen)).collect();
        self.store = None;
        let store = reopen();
        for (prefix, seen) in seen {
            if seen >= self.model.compacted {
                let watch = store.watch(prefix, Revision(seen)).expect("not compacted");
                self.watchers.push(Watcher { watch, prefix, seen });
            }
        }
        self.store = Some(store);
    }
}

fn check(store: Arc<dyn Store>, reopen: Option<Box<dyn Fn() -> Arc<dyn Store>>>, steps: Vec<Step>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let model = Model { states: vec![State::new()], events: Vec::new(), compacted: 0 };
    let mut run = Run { store: Some(store), reopen, model, watchers: Vec::new() };
    runtime.block_on(async {
        for step in steps {
            run.step(step).await;
        }
        run.drain();
        run.reopen();
        run.drain();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_memory_engine_answers_as_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
        check(memory(Options::default()), None, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn the_embedded_engine_answers_as_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().expect("a directory");
        // So small that segments are begun and checkpoints are written all the time.
        let options = Options { segment_bytes_max: 200, log_bytes_max: 300, ..Options::default() };
        let path = dir.path().to_owned();
        let open = move || open_embedded(&path, options.clone()).expect("the store opens");
        check(open(), Some(Box::new(open)), steps);
    }
}
