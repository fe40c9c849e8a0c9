//! Durable puts per second of 1 KiB at 1, 100 and 1,000 writers, beside two bounds measured in the same run: *group commit*
//! is the least that any store could do for as many writers, namely queue their bytes, append and sync what waits, and tell
//! them; *disk* is a bare loop that appends and syncs the bytes of all writers at once, with nobody waiting.
//!
//! `cargo run --release -p stoa-store --example store_bench [-- SECONDS [DIR]]`

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use stoa_store::{Error, Key, Options, Revision, Stamped, Store, Txn, open_embedded};
use stoa_units::{Clock, SystemClock};
use tokio::sync::oneshot;

const VALUE_BYTES: usize = 1024;
/// How many keys the writers share: as many objects as a busy cluster has.
const KEYS: u64 = 20_000;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(3), |s| s.parse())?;
    let within = args.next().map(PathBuf::from);
    let dir = match within {
        Some(path) => tempfile::tempdir_in(path)?,
        None => tempfile::tempdir()?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{VALUE_BYTES} B values, {KEYS} keys, {seconds} s each, {}", dir.path().display());
    println!(
        "{:>7}  {:>9} {:>8} {:>8}  {:>14} {:>6}  {:>9} {:>6}",
        "writers", "puts/s", "p50 ms", "p99 ms", "group commit/s", "ratio", "disk/s", "ratio"
    );
    for writers in [1, 100, 1000] {
        let time = Duration::from_secs(seconds);
        // The bounds before and after, so that another tenant of the disk shows up in both.
        let mut least = runtime.block_on(group_commit(dir.path(), writers, time / 2))?;
        let mut disk = disk(dir.path(), writers, time / 2)?;
        let (puts, latencies) = runtime.block_on(puts(&dir.path().join("store"), writers, time))?;
        least = (least + runtime.block_on(group_commit(dir.path(), writers, time / 2))?) / 2.0;
        disk = (disk + self::disk(dir.path(), writers, time / 2)?) / 2.0;
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let (of_least, of_disk) = (100.0 * puts / least, 100.0 * puts / disk);
        println!(
            "{writers:>7}  {puts:>9.0} {:>8.2} {:>8.2}  {least:>14.0} {of_least:>5.0}%  {disk:>9.0} {of_disk:>5.0}%",
            at(0.5),
            at(0.99),
        );
        std::fs::remove_dir_all(dir.path().join("store"))?;
    }
    Ok(())
}

/// Queues, appends, syncs and answers, and nothing else.
async fn group_commit(dir: &Path, writers: usize, time: Duration) -> anyhow::Result<f64> {
    let path = dir.join("group");
    let mut file = File::create(&path)?;
    let (queue, waiting) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>();
    let thread = std::thread::spawn(move || -> std::io::Result<()> {
        while let Ok(first) = waiting.recv() {
            let (mut batch, mut replies) = (Vec::new(), Vec::new());
            for (bytes, reply) in std::iter::once(first).chain(waiting.try_iter()) {
                batch.extend_from_slice(&bytes);
                replies.push(reply);
            }
            file.write_all(&batch)?;
            file.sync_data()?;
            for reply in replies {
                let _ = reply.send(());
            }
        }
        Ok(())
    });
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let start = SystemClock.now();
    let write = async |queue: mpsc::Sender<_>, stop: Arc<AtomicBool>, count: Arc<AtomicU64>| {
        while !stop.load(Ordering::Relaxed) {
            let (reply, synced) = oneshot::channel();
            if queue.send((vec![b'v'; VALUE_BYTES + 64], reply)).is_err() || synced.await.is_err() {
                return;
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (queue, stop, count) = (queue.clone(), stop.clone(), count.clone());
            tokio::spawn(async move { write(queue, stop, count).await })
        })
        .collect();
    drop(queue);
    tokio::time::sleep(time).await;
    let rate = count.load(Ordering::Relaxed) as f64 / SystemClock.now().since(start).as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }
    thread.join().map_err(|_| anyhow::anyhow!("the bare writer panicked"))??;
    std::fs::remove_file(&path)?;
    Ok(rate)
}

/// Appends and syncs one record a writer at once, with nothing else done.
fn disk(dir: &Path, writers: usize, time: Duration) -> anyhow::Result<f64> {
    let path = dir.join("disk");
    let mut file = File::create(&path)?;
    let batch = vec![b'x'; writers * (VALUE_BYTES + 64)];
    let start = SystemClock.now();
    let mut records = 0;
    while SystemClock.now().since(start) < time {
        file.write_all(&batch)?;
        file.sync_data()?;
        records += writers;
    }
    let rate = records as f64 / SystemClock.now().since(start).as_secs_f64();
    std::fs::remove_file(&path)?;
    Ok(rate)
}

async fn puts(dir: &Path, writers: usize, time: Duration) -> anyhow::Result<(f64, Vec<Duration>)> {
    let store = open_embedded(dir, Options::default())?;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let start = SystemClock.now();
    let tasks: Vec<_> = (0..writers as u64)
        .map(|seed| tokio::spawn(write(store.clone(), seed, stop.clone(), count.clone())))
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let rate = count.load(Ordering::Relaxed) as f64 / SystemClock.now().since(start).as_secs_f64();
    anyhow::ensure!(store.revision() == Revision(count.load(Ordering::Relaxed)), "a put went missing");
    latencies.sort();
    Ok((rate, latencies))
}

async fn write(
    store: Arc<dyn Store>,
    seed: u64,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Result<Vec<Duration>, Error> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = Key::object("", "pods", "bench", &format!("p{}", random % KEYS));
        let value = Stamped { bytes: vec![b'v'; VALUE_BYTES].into(), slot: Some(100) };
        let begun = SystemClock.now();
        store.commit(Txn::new().put(key, value)).await?;
        latencies.push(SystemClock.now().since(begun));
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(latencies)
}
