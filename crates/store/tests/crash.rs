//! Kills a process that commits under load, at random moments, and looks at what it left.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use stoa_store::{Event, EventKind, Key, Options, Revision, Stamped, Store, Txn, open_embedded};

const CHILD_DIR: &str = "STOA_STORE_CRASH_DIR";
const WRITERS: usize = 48;
const ROUNDS: usize = 25;

/// So small that segments, compactions and checkpoints happen all the time while the load runs.
fn options() -> Options {
    Options {
        history_len_max: 600,
        history_len_min: 100,
        segment_bytes_max: 16 * 1024,
        log_bytes_max: 32 * 1024,
        ..Options::default()
    }
}

fn key(writer: usize) -> Key {
    Key::object("", "pods", "crash", &format!("w{writer}"))
}

/// The number that the writer stored last. Every seventh write is a deletion, whose successor begins anew.
fn counter(value: &[u8]) -> u64 {
    std::str::from_utf8(value)
        .ok()
        .and_then(|s| s.split(' ').next())
        .and_then(|s| s.parse().ok())
        .expect("a counter")
}

fn stamped(n: u64) -> Stamped {
    let head = format!("{n} ");
    Stamped { slot: Some(head.len()), bytes: format!("{head} {}", "x".repeat(100)).into() }
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let store = open_embedded(Path::new(&dir), options()).expect("the store opens");
        let mut tasks: Vec<_> = (0..WRITERS).map(|w| tokio::spawn(write(store.clone(), w))).collect();
        tasks.push(tokio::spawn(follow(store)));
        for task in tasks {
            task.await.expect("the task runs until it is killed");
        }
    });
}

/// What is said must be on its way before anything else happens: one write, no buffer.
fn say(line: String) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}

async fn write(store: Arc<dyn Store>, writer: usize) {
    let key = key(writer);
    let counter_key = Key::internal("counters", &format!("w{writer}"));
    loop {
        let entry = store.get(&key);
        let modified = entry.as_ref().map_or(Revision::ZERO, |e| e.modified);
        let n = store.get(&counter_key).map_or(0, |e| counter(&e.value)) + 1;
        let txn = Txn::new().expect(key.clone(), modified).put(counter_key.clone(), stamped(n));
        let txn = if n.is_multiple_of(7) && entry.is_some() {
            txn.delete(key.clone(), stamped(n))
        } else {
            txn.put(key.clone(), stamped(n))
        };
        let commit = store.commit(txn).await.expect("nobody else writes this key");
        say(format!("ack {writer} {n} {}\n", commit.revision));
    }
}

/// A watcher must never be told of what a crash can take back.
async fn follow(store: Arc<dyn Store>) {
    let mut watch =
        store.watch("/registry/core/pods/", store.revision()).expect("the present can be watched");
    loop {
        match watch.next().await {
            Ok(batch) => say(format!("saw {}\n", batch.revision)),
            Err(_) => {
                watch = store
                    .watch("/registry/core/pods/", store.revision())
                    .expect("the present can be watched");
            }
        }
    }
}

fn random(below: u64) -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

#[derive(Default)]
struct Told {
    /// By writer: the last number and its revision.
    acknowledged: HashMap<usize, (u64, u64)>,
    revision: u64,
}

/// One life: starts the process, lets it work for a random while, kills it, and returns what it had said.
fn live_and_die(dir: &Path, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the process starts");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut killer = None;
    for line in lines {
        let line = line.expect("UTF-8");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok());
        match (words[0], number(1), number(2), number(3)) {
            ("ack", Some(writer), Some(n), Some(revision)) => {
                told.acknowledged.insert(writer as usize, (n, revision));
                told.revision = told.revision.max(revision);
            }
            ("saw", Some(revision), ..) => told.revision = told.revision.max(revision),
            // The last line may be cut off by the kill.
            ("ack" | "saw" | "", ..) => {}
            _ => panic!("the process said: {line}"),
        }
        killer.get_or_insert_with(|| {
            let id = child.id();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(random(150_000)));
                let kill = Command::new("kill").args(["-9", &id.to_string()]).status().expect("kill runs");
                assert!(kill.success());
            })
        });
    }
    killer.expect("the process said something").join().expect("it was killed");
    assert!(!child.wait().expect("it ended").success());
}

/// Checks what is found against what was told; from then on what was found counts as told.
fn check(store: &dyn Store, told: &mut Told) {
    assert!(store.revision().0 >= told.revision, "the revision went back");
    for (writer, (n, revision)) in &mut told.acknowledged {
        let entry =
            store.get(&Key::internal("counters", &format!("w{writer}"))).expect("it was acknowledged");
        let found = counter(&entry.value);
        assert!(found == *n || found == *n + 1, "writer {writer}: {n} was acknowledged, {found} is stored");
        assert!(entry.modified.0 >= *revision);
        assert!(found > *n || entry.modified.0 == *revision, "the acknowledged revision is another one");
        // One write may have become durable without a word getting out; the next life goes on from there.
        (*n, *revision) = (found, entry.modified.0);
    }
    check_watches(store);
}

fn drain(store: &dyn Store, after: Revision) -> Vec<Arc<Event>> {
    let mut watch = store.watch("/", after).expect("history is there");
    let mut events = Vec::new();
    while let Some(batch) = watch.try_next().expect("history is there") {
        events.extend(batch.events);
    }
    assert_eq!(watch.synced(), store.revision());
    events
}

/// From whatever revision one watches, every event after it comes once and in order, with the value before it.
fn check_watches(store: &dyn Store) {
    let (oldest, newest) = (store.compacted(), store.revision());
    let all = drain(store, oldest);
    let revisions: Vec<u64> = all.iter().map(|e| e.revision.0).collect();
    // Every transaction of the load changes two keys.
    let expected: Vec<u64> = (oldest.0 + 1..=newest.0).flat_map(|r| [r, r]).collect();
    assert_eq!(revisions, expected, "an event is missing, repeated or out of order");
    for after in oldest.0..=newest.0 {
        let seen = drain(store, Revision(after));
        assert!(
            seen.iter().map(Arc::as_ptr).eq(all.iter().filter(|e| e.revision.0 > after).map(Arc::as_ptr))
        );
    }
    let mut state: HashMap<Key, Option<Arc<Event>>> = HashMap::new();
    for event in all {
        let before = match state.get(&event.key) {
            Some(last) => last.as_ref().filter(|e| e.kind == EventKind::Put).map(|e| e.value.clone()),
            None => store.get_at(&event.key, oldest).expect("history is there").map(|e| e.value),
        };
        assert_eq!(event.previous, before, "the value before {} at {}", event.key, event.revision);
        state.insert(event.key.clone(), Some(event));
    }
    for (key, last) in state {
        let last = last.filter(|e| e.kind == EventKind::Put).map(|e| (e.value.clone(), e.revision));
        assert_eq!(store.get(&key).map(|e| (e.value, e.modified)), last, "the present is the last event");
    }
}

#[test]
fn no_kill_loses_an_acknowledged_write_or_turns_the_revision_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut told = Told::default();
    for _ in 0..ROUNDS {
        live_and_die(dir.path(), &mut told);
        let store = open_embedded(dir.path(), options()).expect("what a kill leaves can be opened");
        check(&*store, &mut told);
        told.revision = store.revision().0;
    }
    assert!(told.acknowledged.len() == WRITERS, "not every writer got a word in");
    let checkpoints = std::fs::read_dir(dir.path()).expect("the directory is there").filter(|entry| {
        entry.as_ref().is_ok_and(|e| e.file_name().to_string_lossy().starts_with("checkpoint-"))
    });
    assert!(checkpoints.count() > 0, "the load was too light to reach a checkpoint");
}
