//! What the store makes of damaged, foreign and unfinished files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stoa_store::{Error, Key, Options, Range, Revision, Stamped, Store, Txn, open_embedded};

fn key(i: usize) -> Key {
    Key::object("", "configmaps", "default", &format!("c{i}"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

async fn put(store: &dyn Store, i: usize) -> Revision {
    let value = Stamped::plain(format!("value {i}"));
    store.commit(Txn::new().put(key(i), value)).await.expect("it is committed").revision
}

fn open(dir: &Path) -> Result<Arc<dyn Store>, Error> {
    open_embedded(dir, Options::default())
}

/// A store with `len` transactions in one segment.
fn filled(len: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("the store opens");
    runtime().block_on(async {
        for i in 0..len {
            put(&*store, i).await;
        }
    });
    dir
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("the directory is there").map(|e| e.expect("an entry").path());
    entries.map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
}

fn log(dir: &Path) -> PathBuf {
    let is_log = |p: &&PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("log-"));
    files(dir).keys().find(is_log).cloned().expect("there is a log")
}

#[test]
fn what_is_committed_is_there_again_and_only_the_owner_may_read_it() {
    let dir = filled(3);
    let store = open(dir.path()).expect("the store opens");
    assert_eq!(store.revision(), Revision(3));
    assert_eq!(store.get(&key(1)).expect("it was put").value, "value 1");
    assert_eq!(store.range(Range { prefix: "/", ..Range::default() }).expect("now").entries.len(), 3);
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    for path in files(dir.path()).keys() {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_second_opener_is_told_that_the_store_is_in_use() {
    let dir = filled(1);
    let first = open(dir.path()).expect("the store opens");
    assert!(matches!(open(dir.path()), Err(Error::InUse { .. })));
    drop(first);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_write_cut_short_at_any_byte_is_taken_off_and_the_store_goes_on() {
    let dir = filled(4);
    let path = log(dir.path());
    let whole = fs::read(&path).expect("the log");
    // The last frame holds one transaction: find where it begins by cutting until a revision is gone.
    for cut in 1..60 {
        fs::write(&path, &whole[..whole.len() - cut]).expect("written");
        let store = open(dir.path()).expect("a torn end is no corruption");
        assert_eq!(store.revision(), Revision(3), "cut by {cut}");
        assert_eq!(store.get(&key(3)), None);
        assert_eq!(runtime().block_on(put(&*store, 9)), Revision(4));
        drop(store);
        let store = open(dir.path()).expect("it opens again");
        assert_eq!(store.get(&key(9)).expect("it was committed after the cut").modified, Revision(4));
    }
    // A file system may also have made the file longer and never have written what is in it.
    fs::write(&path, [&whole[..], &[0; 5_000]].concat()).expect("written");
    assert_eq!(open(dir.path()).expect("a hole at the end is no corruption").revision(), Revision(4));
}

#[test]
fn a_damaged_byte_before_the_last_write_is_corruption_and_nothing_is_touched() {
    let dir = filled(6);
    let path = log(dir.path());
    let whole = fs::read(&path).expect("the log");
    // Everything but the last frame, which cannot be told from a torn write.
    for at in (16..whole.len() - 90).step_by(3) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).expect("written");
        let before = files(dir.path());
        match open(dir.path()) {
            Err(Error::Corrupt { path: which, .. } | Error::Foreign { path: which, .. }) => {
                assert_eq!(which, path)
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => panic!("byte {at} was not missed"),
        }
        assert_eq!(files(dir.path()), before, "a refused store was changed");
    }
}

#[test]
fn a_foreign_file_in_the_place_of_the_log_is_refused_and_kept() {
    for content in [&b""[..], b"SQLite format 3\0", b"{}", &[0; 4096]] {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("log-00000000000000000001"), content).expect("written");
        fs::write(dir.path().join("lock"), "").expect("written");
        let before = files(dir.path());
        assert!(matches!(open(dir.path()), Err(Error::Foreign { .. })));
        assert_eq!(files(dir.path()), before);
    }
}

#[test]
fn another_clusters_store_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let of =
        |cluster: &str| open_embedded(dir.path(), Options { cluster: cluster.into(), ..Options::default() });
    drop(of("athens").expect("a new store"));
    assert!(matches!(of("sparta"), Err(Error::Foreign { .. })));
    drop(of("").expect("any cluster will do"));
    drop(of("athens").expect("still the same"));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = filled(1);
    let path = log(dir.path());
    let mut bytes = fs::read(&path).expect("the log");
    bytes[8] = 2;
    fs::write(&path, bytes).expect("written");
    let error = open(dir.path()).err().expect("it is refused");
    assert!(error.to_string().contains("its format is 2, this program knows 1"), "{error}");
}

/// A store with several segments and a checkpoint.
fn checkpointed() -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { segment_bytes_max: 300, log_bytes_max: 1_000, ..Options::default() };
    let store = open_embedded(dir.path(), options.clone()).expect("the store opens");
    runtime().block_on(async {
        for i in 0..10_000 {
            let revision = put(&*store, i % 20).await;
            if i % 50 == 30 {
                store.compact(Revision(revision.0 - 10)).await.expect("it is compacted");
            }
            // Only names: the store removes files while we look.
            let entries = fs::read_dir(dir.path()).expect("the directory is there");
            let names: Vec<_> = entries.map(|e| e.expect("an entry").file_name()).collect();
            let has = |what: &str| names.iter().any(|n| n.to_string_lossy().contains(what));
            if has("checkpoint-") && !has("log-00000000000000000001") && !has(".tmp") && i % 50 == 40 {
                return;
            }
        }
        panic!("no checkpoint was written");
    });
    drop(store);
    (dir, options)
}

#[test]
fn a_checkpoint_brings_back_state_revision_and_history() {
    let (dir, options) = checkpointed();
    let open = || open_embedded(dir.path(), options.clone()).expect("the store opens");
    let store = open();
    let (revision, compacted) = (store.revision(), store.compacted());
    assert_eq!(revision.0 - compacted.0, 20);
    let now = store.range(Range { prefix: "/", ..Range::default() }).expect("now");
    let then = Range { prefix: "/", at: Some(compacted), ..Range::default() };
    let before = store.range(then).expect("the compaction revision can be read");
    assert_eq!((now.entries.len(), before.entries.len()), (20, 20));
    drop(store);
    let store = open();
    assert_eq!((store.revision(), store.compacted()), (revision, compacted), "nothing went back");
    assert_eq!(store.range(then).expect("still readable"), before);
    let mut watch = store.watch("/", compacted).expect("history is there");
    let events = watch.try_next().expect("history is there").expect("events").events;
    assert_eq!(events.len(), 20);
    assert!(events.iter().all(|e| e.previous.is_some() && e.created < compacted));
}

#[test]
fn a_damaged_checkpoint_or_a_missing_piece_is_corruption() {
    let (dir, options) = checkpointed();
    let whole = files(dir.path());
    let refuse = |why: &str| {
        let before = files(dir.path());
        match open_embedded(dir.path(), options.clone()) {
            Err(Error::Corrupt { .. } | Error::Foreign { .. }) => {}
            Err(other) => panic!("{why}: {other}"),
            Ok(_) => panic!("{why} was not noticed"),
        }
        assert_eq!(files(dir.path()), before, "{why}: a refused store was changed");
        for (path, bytes) in &whole {
            fs::write(path, bytes).expect("written");
        }
    };
    let named = |what: &str| {
        let found = whole.keys().filter(|p| p.to_string_lossy().contains(what));
        found.cloned().collect::<Vec<_>>()
    };
    let (checkpoints, logs) = (named("checkpoint-"), named("log-"));
    assert!(logs.len() > 2, "{logs:?}");
    let checkpoint = checkpoints.last().expect("there is one");
    for at in (0..whole[checkpoint].len()).step_by(7) {
        let mut damaged = whole[checkpoint].clone();
        damaged[at] ^= 1;
        fs::write(checkpoint, damaged).expect("written");
        refuse("a damaged checkpoint");
    }
    fs::write(checkpoint, &whole[checkpoint][..whole[checkpoint].len() - 21]).expect("written");
    refuse("a checkpoint without its end");
    for path in &checkpoints {
        fs::remove_file(path).expect("removed");
    }
    refuse("a missing checkpoint");
    fs::remove_file(&logs[logs.len() - 2]).expect("removed");
    refuse("a missing segment");
    let middle = &logs[logs.len() - 2];
    fs::write(middle, &whole[middle][..whole[middle].len() - 1]).expect("written");
    refuse("a torn segment that is not the last one");
    fs::write(middle, vec![0; 4_096]).expect("written");
    refuse("a segment of zeros");
    let mut lost = whole[middle].clone();
    let last = lost.len() - 60;
    lost[last..].fill(0);
    fs::write(middle, lost).expect("written");
    refuse("zeros over a write that others follow");
}

#[test]
fn a_process_that_was_killed_leaves_zeros_which_are_the_end_of_each_segment() {
    let dir = filled(4);
    let store = open(dir.path()).expect("the store opens");
    runtime().block_on(put(&*store, 4));
    let path = log(dir.path());
    let left = fs::read(&path).expect("the log");
    assert!(left.ends_with(&[0; 4_096]), "nothing was put at the end beforehand");
    drop(store);
    let trimmed = fs::read(&path).expect("the log");
    assert!(left.starts_with(&trimmed) && !trimmed.ends_with(&[0; 64]), "an orderly end leaves no zeros");
    for _ in 0..2 {
        fs::write(&path, &left).expect("written");
        assert_eq!(open(dir.path()).expect("zeros are no corruption").revision(), Revision(5));
    }
    // Another segment may have begun since.
    let (dir, options) = checkpointed();
    let before = open_embedded(dir.path(), options.clone()).expect("the store opens").revision();
    for path in files(dir.path()).keys().filter(|p| p.to_string_lossy().contains("log-")) {
        let bytes = fs::read(path).expect("a segment");
        fs::write(path, [&bytes[..], &[0; 5_000]].concat()).expect("written");
    }
    let store = open_embedded(dir.path(), options).expect("zeros are no corruption");
    assert_eq!(store.revision(), before);
}

#[test]
fn an_unfinished_file_of_a_crash_is_swept() {
    let dir = filled(2);
    let unfinished = dir.path().join("checkpoint-00000000000000000002.tmp");
    let stranger = dir.path().join("notes.txt");
    fs::write(&unfinished, "half a checkp").expect("written");
    fs::write(&stranger, "not ours").expect("written");
    let store = open(dir.path()).expect("the store opens");
    assert_eq!(store.revision(), Revision(2));
    assert!(!unfinished.exists());
    assert!(stranger.exists(), "only our own files are swept");
}
