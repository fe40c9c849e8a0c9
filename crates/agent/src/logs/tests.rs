use super::*;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const LINES: &str = "\
2026-01-01T00:00:00.000000001Z stdout F one
2026-01-01T00:00:01.000000001Z stderr F two
2026-01-01T00:00:02.000000001Z stdout P thr
2026-01-01T00:00:03.000000001Z stdout F ee
";

async fn read(path: &Path, options: LogOptions) -> String {
    let (tx, mut rx) = mpsc::channel(100);
    let now = Time::parse("2026-01-01T00:00:04Z").unwrap();
    stream(path.to_owned(), &options, now, || true, tx).await.unwrap();
    let mut out = Vec::new();
    while let Some(frame) = rx.recv().await {
        out.extend_from_slice(&frame.payload);
    }
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn a_log_reads_as_asked() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("0.log");
    std::fs::write(&path, LINES).unwrap();
    let with = |f: fn(&mut LogOptions)| {
        let mut o = LogOptions::default();
        f(&mut o);
        o
    };
    for (options, want) in [
        (with(|_| {}), "one\ntwo\nthree\n"),
        (with(|o| o.tail_lines = Some(2)), "three\n"),
        (with(|o| o.tail_lines = Some(0)), ""),
        (with(|o| o.tail_lines = Some(99)), "one\ntwo\nthree\n"),
        (with(|o| o.stream = Some("Stderr".into())), "two\n"),
        (with(|o| o.since_seconds = Some(3)), "two\nthree\n"),
        (with(|o| o.since_time = Some("2026-01-01T00:00:02Z".into())), "three\n"),
        (with(|o| o.limit_bytes = Some(6)), "one\ntw"),
        (
            with(|o| {
                o.timestamps = true;
                o.tail_lines = Some(1);
            }),
            "2026-01-01T00:00:03.000000001Z ee\n",
        ),
    ] {
        assert_eq!(read(&path, options.clone()).await, want, "{options:?}");
    }
    assert_eq!(read_end(&path, 5).unwrap(), b"hree\n");
}

#[tokio::test]
async fn rotated_parts_are_read_oldest_first_and_count_towards_the_tail() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("0.log");
    for (name, text) in [
        ("0.log.2", "t stdout F 1\n"),
        ("0.log.1", "t stdout F 2\nt stdout F 3\n"),
        ("0.log", "t stdout F 4\n"),
    ] {
        std::fs::write(tmp.path().join(name), text).unwrap();
    }
    assert_eq!(read(&path, LogOptions::default()).await, "1\n2\n3\n4\n");
    for (n, want) in [(1, "4\n"), (2, "3\n4\n"), (3, "2\n3\n4\n"), (4, "1\n2\n3\n4\n")] {
        assert_eq!(
            read(&path, LogOptions { tail_lines: Some(n), ..LogOptions::default() }).await,
            want,
            "{n}"
        );
    }
}

#[tokio::test]
async fn a_part_made_just_now_holds_no_line() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("0.log");
    std::fs::write(tmp.path().join("0.log.1"), "t stdout F 1\nt stdout F 2\n").unwrap();
    let tail = |n| LogOptions { tail_lines: Some(n), ..LogOptions::default() };
    // For a moment there is not even the empty part.
    assert_eq!(read(&path, tail(1)).await, "2\n");
    std::fs::write(&path, "").unwrap();
    assert_eq!(read(&path, tail(1)).await, "2\n");
    assert_eq!(read(&path, tail(2)).await, "1\n2\n");
    assert_eq!(read_end(&path, 100).unwrap(), b"1\n2\n");
}

/// A writer as the helper of a container is one: it rotates at every third line, while a reader follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_misses_no_line_of_many_rotations() {
    const LINES: usize = 3_000;
    const FILES: usize = 90;
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("0.log");
    std::fs::write(&path, "").unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (p, o, s) = (path.clone(), Arc::clone(&over), Arc::clone(&seen));
    let writer = std::thread::spawn(move || {
        let numbered = |n: usize| PathBuf::from(format!("{}.{n}", p.display()));
        for line in 0..LINES {
            // What the reader has yet to see must still be there.
            while line > s.load(Ordering::SeqCst) + FILES {
                std::thread::yield_now();
            }
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&p).unwrap();
            file.write_all(format!("t stdout F {line}\n").as_bytes()).unwrap();
            if line % 3 == 2 {
                for n in (1..FILES).rev() {
                    let _ = std::fs::rename(numbered(n), numbered(n + 1));
                }
                std::fs::rename(&p, numbered(1)).unwrap();
                std::fs::write(&p, "").unwrap();
            }
        }
        o.store(true, Ordering::SeqCst);
    });
    let (tx, mut rx) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        stream(path, &options, Time::EPOCH, || over.load(Ordering::SeqCst), tx).await
    });
    let mut text = String::new();
    while let Some(frame) = rx.recv().await {
        text.push_str(std::str::from_utf8(&frame.payload).unwrap());
        seen.store(text.lines().count(), Ordering::SeqCst);
    }
    writer.join().unwrap();
    reader.await.unwrap().unwrap();
    let want: String = (0..LINES).map(|n| format!("{n}\n")).collect();
    assert_eq!(text, want);
}

#[tokio::test]
async fn following_goes_on_over_a_rotation_until_the_container_is_over() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("0.log");
    std::fs::write(&path, "t stdout F 1\n").unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let (tx, mut rx) = mpsc::channel(1);
    let (p, o) = (path.clone(), Arc::clone(&over));
    let task = tokio::spawn(async move {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        stream(p, &options, Time::EPOCH, || o.load(Ordering::SeqCst), tx).await
    });
    assert_eq!(&rx.recv().await.unwrap().payload[..], b"1\n");
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"t stdout F 2\n").unwrap();
    assert_eq!(&rx.recv().await.unwrap().payload[..], b"2\n");
    std::fs::rename(&path, tmp.path().join("0.log.1")).unwrap();
    std::fs::write(&path, "t stdout F 3\n").unwrap();
    assert_eq!(&rx.recv().await.unwrap().payload[..], b"3\n");
    over.store(true, Ordering::SeqCst);
    assert!(rx.recv().await.is_none());
    task.await.unwrap().unwrap();
}

#[test]
fn lives_are_found_by_number() {
    let tmp = tempfile::tempdir().unwrap();
    for name in ["0.log", "0.log.1", "2.log", "10.log", "x.log"] {
        std::fs::write(tmp.path().join(name), "").unwrap();
    }
    assert_eq!(lives(tmp.path()), [0, 2, 10]);
}
