//! The promises of revisions and watches, one test for each way in which etcd once broke them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stoa_store::{
    Error, EventKind, Key, Options, Range, Revision, Stamped, Store, Txn, Watch, memory, open_embedded,
};
use stoa_units::{ManualClock, Time};

fn key(name: &str) -> Key {
    Key::object("", "pods", "default", name)
}

async fn put(store: &dyn Store, name: &str) -> Revision {
    store.commit(Txn::new().put(key(name), Stamped::plain("v"))).await.expect("committed").revision
}

async fn delete(store: &dyn Store, name: &str) -> Revision {
    store.commit(Txn::new().delete(key(name), Stamped::plain("last"))).await.expect("committed").revision
}

fn drain(watch: &mut Watch) -> Vec<(String, EventKind, u64)> {
    let mut all = Vec::new();
    while let Some(batch) = watch.try_next().expect("not lagged") {
        all.extend(batch.events.iter().map(|e| (e.key.name().to_owned(), e.kind, e.revision.0)));
    }
    all
}

/// etcd #17780, #14685: after a compaction up to the present and a restart, revisions were given out again.
#[tokio::test]
async fn the_revision_does_not_go_back_when_all_of_history_is_compacted() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || open_embedded(dir.path(), Options::default()).expect("the store opens");
    let store = open();
    put(&*store, "a").await;
    let last = delete(&*store, "a").await;
    store.compact(last).await.expect("compacted");
    drop(store);
    let store = open();
    assert_eq!((store.revision(), store.compacted()), (last, last));
    assert_eq!(put(&*store, "a").await, last.next());
}

/// etcd #18089, #19179: a deletion at the edge of a compaction was not delivered.
#[tokio::test]
async fn a_deletion_just_after_the_compaction_revision_is_delivered() {
    for store in [memory(Options::default())] {
        put(&*store, "a").await;
        let gone = delete(&*store, "a").await;
        put(&*store, "b").await;
        store.compact(Revision(gone.0 - 1)).await.expect("compacted");
        let mut watch = store.watch("/registry/core/pods/", Revision(gone.0 - 1)).expect("just in time");
        assert_eq!(drain(&mut watch)[0], ("a".to_owned(), EventKind::Delete, gone.0));
        store.compact(gone).await.expect("compacted");
        let mut watch = store.watch("/registry/core/pods/", gone).expect("the compaction revision itself");
        assert_eq!(drain(&mut watch), [("b".to_owned(), EventKind::Put, gone.0 + 1)]);
        assert_eq!(store.get_at(&key("a"), gone).expect("readable"), None);
        let missed = store.watch("/registry/core/pods/", Revision(gone.0 - 1));
        assert!(matches!(missed, Err(Error::Compacted { oldest }) if oldest == gone));
    }
}

/// etcd #20221: a watch from the future was given what happened before it.
#[tokio::test]
async fn the_future_cannot_be_read_or_watched() {
    let store = memory(Options::default());
    let now = put(&*store, "a").await;
    assert!(matches!(store.watch("/", now.next()), Err(Error::Future { .. })));
    assert!(matches!(store.get_at(&key("a"), now.next()), Err(Error::Future { .. })));
    let range = Range { prefix: "/", at: Some(now.next()), ..Range::default() };
    assert!(matches!(store.range(range), Err(Error::Future { .. })));
    assert!(matches!(store.compact(now.next()).await, Err(Error::Future { .. })));
}

/// etcd #15220, #15271, #17247: progress ran ahead of events, events came twice, a watch went back in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_each_event_once_in_order_and_never_progress_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open_embedded(dir.path(), Options::default()).expect("the store opens");
    let done = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (0..8)
        .map(|i| {
            // Half of them see every second key only, so that progress goes over what they do not see.
            let prefix =
                if i % 2 == 0 { "/registry/core/pods/" } else { "/registry/core/pods/default/even-" };
            let mut watch = store.watch(prefix, Revision::ZERO).expect("from the beginning");
            tokio::spawn(async move {
                let (mut seen, mut last) = (Vec::new(), Revision::ZERO);
                while last < Revision(2_000) {
                    let progress = watch.synced();
                    let batch = watch.next().await.expect("events");
                    for event in &batch.events {
                        assert!(event.revision > progress, "progress {progress} before {}", event.revision);
                        assert!(event.revision > last, "once and in order");
                        last = event.revision;
                        seen.push(event.revision.0);
                    }
                    assert!(batch.revision >= last);
                    if i % 2 == 1 && last >= Revision(1_999) {
                        break;
                    }
                }
                (i, seen)
            })
        })
        .collect();
    for n in 0..2_000 {
        let name = if n % 2 == 0 { "even-1" } else { "odd-1" };
        put(&*store, name).await;
    }
    done.store(true, Ordering::Relaxed);
    for watcher in watchers {
        let (i, seen) = watcher.await.expect("it ends");
        let expected: Vec<u64> = (1..=2_000).filter(|r| i % 2 == 0 || r % 2 == 1).collect();
        assert_eq!(seen, expected);
    }
}

/// etcd #17529: with many watchers some of them missed events.
#[tokio::test]
async fn ten_thousand_watchers_miss_nothing() {
    let store = memory(Options::default());
    let mut watches: Vec<Watch> =
        (0..10_000).map(|_| store.watch("/registry/core/pods/", Revision::ZERO).expect("open")).collect();
    // And as many that have nothing to do with it.
    let _others: Vec<Watch> = (0..10_000)
        .map(|i| store.watch(&format!("/registry/core/secrets/ns{i}/"), Revision::ZERO).expect("open"))
        .collect();
    for i in 0..100 {
        put(&*store, &format!("p{}", i % 7)).await;
    }
    assert_eq!(store.stats().watchers_len, 20_000);
    for watch in &mut watches {
        assert_eq!(drain(watch).len(), 100);
        assert_eq!(watch.synced(), Revision(100));
    }
    drop(watches);
    assert_eq!(store.stats().watchers_len, 10_000);
}

/// Found by the model: a look-up by the length of one watcher's prefix also found another's that ends in `/`.
#[tokio::test]
async fn prefixes_of_the_same_length_do_not_bring_events_twice() {
    let store = memory(Options::default());
    let mut watch = store.watch("/b/", Revision::ZERO).expect("open");
    let _same_length = store.watch("/zz", Revision::ZERO).expect("open");
    store.commit(Txn::new().put(Key::from_text("/b/1"), Stamped::plain("v"))).await.expect("committed");
    assert_eq!(drain(&mut watch).len(), 1);
}

/// etcd #18667: within one compacted revision some reads worked and some did not.
#[tokio::test]
async fn every_read_of_a_compacted_revision_is_refused() {
    let store = memory(Options::default());
    for name in ["a", "b", "a"] {
        put(&*store, name).await;
    }
    store.compact(Revision(3)).await.expect("compacted");
    for at in [Revision(1), Revision(2)] {
        for name in ["a", "b", "never"] {
            assert!(matches!(store.get_at(&key(name), at), Err(Error::Compacted { .. })));
        }
        let range = Range { prefix: "/none/", at: Some(at), ..Range::default() };
        assert!(matches!(store.range(range), Err(Error::Compacted { .. })));
    }
}

#[tokio::test]
async fn a_watcher_slower_than_history_is_told_so_and_a_quiet_one_is_not() {
    let store = memory(Options { history_len_max: 64, history_len_min: 8, ..Options::default() });
    let mut slow = store.watch("/registry/core/pods/", Revision::ZERO).expect("open");
    let mut quiet = store.watch("/registry/core/nodes/", Revision::ZERO).expect("open");
    for _ in 0..200 {
        put(&*store, "a").await;
    }
    assert!(store.compacted() >= Revision(130), "history is bounded");
    assert!(matches!(slow.next().await, Err(Error::Lagged)));
    assert_eq!(quiet.synced(), Revision(200));
    store
        .commit(Txn::new().put(Key::object("", "nodes", "", "n"), Stamped::plain("n")))
        .await
        .expect("committed");
    assert_eq!(drain(&mut quiet).len(), 1);
}

#[tokio::test]
async fn history_is_kept_by_age_length_and_bytes() {
    let clock = Arc::new(ManualClock::new(Time::EPOCH));
    let options = Options {
        clock: clock.clone(),
        history_age_max: Duration::from_secs(60),
        history_len_min: 2,
        history_len_max: 1_000,
        history_bytes_max: 100_000,
        ..Options::default()
    };
    let store = memory(options);
    for _ in 0..10 {
        put(&*store, "a").await;
        clock.advance(Duration::from_secs(10));
    }
    // 100 s have passed: what happened in the first 40 s is too old.
    put(&*store, "a").await;
    assert_eq!(store.compacted(), Revision(5));
    clock.advance(Duration::from_secs(1_000));
    put(&*store, "a").await;
    assert_eq!(store.stats().history_len, 3, "the least length stays, however old, and one was added");
    for _ in 0..50 {
        let txn = Txn::new().put(key("big"), Stamped::plain(vec![b'x'; 10_000]));
        store.commit(txn).await.expect("committed");
    }
    assert!(store.stats().history_bytes < 115_000, "{:?}", store.stats());
}

#[tokio::test]
async fn a_transaction_beyond_a_limit_is_refused_before_it_is_queued() {
    let store = memory(Options::default());
    let big = Txn::new().put(key("a"), Stamped::plain(vec![0; stoa_store::TXN_BYTES_MAX]));
    assert!(matches!(store.commit(big).await, Err(Error::TooLarge { .. })));
    let long = Txn::new().put(key(&"n".repeat(stoa_store::KEY_BYTES_MAX)), Stamped::plain("v"));
    assert!(matches!(store.commit(long).await, Err(Error::TooLarge { .. })));
    let many = (0..=stoa_store::TXN_OPS_MAX)
        .fold(Txn::new(), |txn, i| txn.put(key(&format!("k{i}")), Stamped::plain("v")));
    assert!(matches!(store.commit(many).await, Err(Error::TooLarge { .. })));
    assert_eq!(store.revision(), Revision::ZERO);
}

#[tokio::test]
async fn closing_the_store_ends_its_watches() {
    let dir = tempfile::tempdir().expect("a directory");
    for store in [memory(Options::default()), open_embedded(dir.path(), Options::default()).expect("open")] {
        let mut watch = store.watch("/", Revision::ZERO).expect("open");
        put(&*store, "a").await;
        drop(store);
        assert_eq!(watch.next().await.expect("what happened is still delivered").events.len(), 1);
        assert!(matches!(watch.next().await, Err(Error::Closed)));
    }
}

/// Each transaction gets its own verdict, in order, though many share one sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_that_expect_the_same_revision_exactly_one_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open_embedded(dir.path(), Options::default()).expect("the store opens");
    for round in 0..10 {
        let expected = store.get(&key("claim")).map_or(Revision::ZERO, |e| e.modified);
        let writers: Vec<_> = (0..50)
            .map(|i| {
                let store = store.clone();
                let txn = Txn::new()
                    .expect(key("claim"), expected)
                    .put(key("claim"), Stamped::plain(format!("{i}")));
                tokio::spawn(async move { store.commit(txn).await })
            })
            .collect();
        let (mut won, mut lost) = (0, 0);
        for writer in writers {
            match writer.await.expect("it ends") {
                Ok(_) => won += 1,
                Err(Error::Conflict { current, .. }) => {
                    // The loser is shown the winner, which by then is durable and visible.
                    assert_eq!(current, store.get(&key("claim")));
                    lost += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((won, lost), (1, 49), "round {round}");
    }
}

/// A range is of one revision, however the writer and compaction run beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_of_one_revision_while_keys_are_moved_and_history_is_compacted() {
    let options = Options { history_len_max: 40, history_len_min: 4, ..Options::default() };
    let store = memory(options);
    // One token lies under exactly one of 64 keys; each transaction moves it to the next.
    let place = |i: u64| key(&format!("p{:02}", i % 64));
    store.commit(Txn::new().put(place(0), Stamped::plain("token"))).await.expect("committed");
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for i in 0..20_000 {
                let txn = Txn::new()
                    .delete(place(i), Stamped::plain("gone"))
                    .put(place(i + 1), Stamped::plain("token"));
                store.commit(txn).await.expect("committed");
            }
        })
    };
    let mut read = 0;
    while !writer.is_finished() {
        let page = store.range(Range { prefix: "/", ..Range::default() }).expect("the present");
        assert_eq!(page.entries.len(), 1, "at {}", page.revision);
        assert_eq!(page.entries[0].modified, page.revision);
        let at = Revision(page.revision.0.saturating_sub(10).max(1));
        match store.range(Range { prefix: "/", at: Some(at), ..Range::default() }) {
            Ok(page) => assert_eq!((page.entries.len(), page.entries[0].modified), (1, at)),
            Err(Error::Compacted { oldest }) => assert!(oldest > at),
            Err(other) => panic!("{other}"),
        }
        let entry = store.get(&page.entries[0].key);
        assert!(entry.is_none_or(|e| e.modified <= store.revision()), "newer than the store");
        read += 1;
        tokio::task::yield_now().await;
    }
    writer.await.expect("it ends");
    assert!(read > 0);
    assert_eq!(store.stats().keys_len, 1);
}

/// What a batch has to tell is told from within the runtime in which the store was opened: when that is gone, whoever waits
/// elsewhere hears it all the same.
#[test]
fn who_waits_is_told_though_the_first_runtime_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let first = runtime();
    let store = first.block_on(async { open_embedded(dir.path(), Options::default()) }).expect("it opens");
    drop(first);
    let second = runtime();
    second.block_on(async {
        let mut watch = store.watch("/registry/core/pods/", Revision::ZERO).expect("from the beginning");
        let writers: Vec<_> = (0..200)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { put(&*store, &format!("p{n}")).await })
            })
            .collect();
        for writer in writers {
            writer.await.expect("told");
        }
        let mut seen = 0;
        while seen < 200 {
            seen += watch.next().await.expect("events").events.len();
        }
    });
}
