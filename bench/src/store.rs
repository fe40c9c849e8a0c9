//! Durable 1 KiB puts by 1, 100 and 1,000 writers: our embedded store, the disk's own group-commit bound (append and
//! fdatasync of everything that waits), and Debian's etcd over its gRPC API.

use crate::clock;
use crate::connection::Connection;
use crate::report::{Better, beside, figure, section};
use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use stoa_store::{Key, Txn};
use stoa_units::Stamped;

const SECONDS: f64 = 3.0;
const VALUE_LEN: usize = 1024;
const WRITERS: [usize; 3] = [1, 100, 1000];
/// design.md's budget for 1,000 writers.
const PUTS_BUDGET: f64 = 50_000.0;

/// Runs the comparison in `dir`, which decides the disk.
pub async fn run(dir: &Path) -> Result<()> {
    section("durable puts of 1 KiB, puts/s");
    for writers in WRITERS {
        let ours = embedded(&dir.join(format!("store-{writers}")), writers).await?;
        let bound = disk_bound(&dir.join(format!("log-{writers}")), writers)?;
        let what = format!("embedded store, {writers} writers");
        beside(&what, ours, "puts/s", "disk's group-commit bound", bound, Better::More);
        if writers == 1000 {
            beside(&what, ours, "puts/s", "budget", PUTS_BUDGET, Better::More);
        }
        match etcd(&dir.join(format!("etcd-{writers}")), writers).await {
            Ok(peer) => beside(&what, ours, "puts/s", "etcd (gRPC on loopback)", peer, Better::More),
            Err(e) => println!("  no figure for etcd: {e:#}"),
        }
    }
    Ok(())
}

async fn embedded(dir: &Path, writers: usize) -> Result<f64> {
    let store = stoa_store::open_embedded(dir, stoa_store::Options::default())?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = clock::now();
    let mut tasks = Vec::with_capacity(writers);
    for w in 0..writers {
        let (store, stop, done) = (store.clone(), stop.clone(), done.clone());
        tasks.push(tokio::spawn(async move {
            let value = Stamped::plain(vec![b'v'; VALUE_LEN]);
            let mut i = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let key = Key::object("", "configmaps", "bench", &format!("w{w}-{i}"));
                if store.commit(Txn::new().put(key, value.clone())).await.is_err() {
                    return;
                }
                done.fetch_add(1, Ordering::Relaxed);
                i += 1;
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs_f64(SECONDS)).await;
    let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for t in tasks {
        t.await?;
    }
    Ok(rate)
}

/// The least that a durable store must do: one thread appends what waits and syncs once; writers wait for their sync.
fn disk_bound(path: &Path, writers: usize) -> Result<f64> {
    struct Shared {
        waiting: Mutex<(u64, u64)>,
        wake: Condvar,
        synced: Condvar,
    }
    let shared =
        Arc::new(Shared { waiting: Mutex::new((0, 0)), wake: Condvar::new(), synced: Condvar::new() });
    let stop = Arc::new(AtomicBool::new(false));
    let lock =
        |m: &Mutex<(u64, u64)>| m.lock().map_err(|_| anyhow::anyhow!("a bench thread panicked")).map(|g| *g);
    let mut threads = Vec::new();
    for _ in 0..writers {
        let (s, stop) = (shared.clone(), stop.clone());
        threads.push(std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok(mut g) = s.waiting.lock() else { return };
                g.0 += 1;
                let ticket = g.0;
                s.wake.notify_one();
                while g.1 < ticket && !stop.load(Ordering::Relaxed) {
                    let Ok((next, _)) = s.synced.wait_timeout(g, Duration::from_millis(50)) else { return };
                    g = next;
                }
            }
        })?);
    }
    let mut file = std::fs::File::create(path)?;
    let record = vec![b'v'; VALUE_LEN];
    let begun = clock::now();
    while begun.elapsed().as_secs_f64() < SECONDS {
        let upto = {
            let mut g = shared.waiting.lock().map_err(|_| anyhow::anyhow!("a bench thread panicked"))?;
            while g.0 == g.1 {
                g = shared.wake.wait(g).map_err(|_| anyhow::anyhow!("a bench thread panicked"))?;
            }
            *g
        };
        let batch = record.repeat((upto.0 - upto.1) as usize);
        file.write_all(&batch)?;
        file.sync_data()?;
        shared.waiting.lock().map_err(|_| anyhow::anyhow!("a bench thread panicked"))?.1 = upto.0;
        shared.synced.notify_all();
    }
    let rate = lock(&shared.waiting)?.1 as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    shared.synced.notify_all();
    for t in threads {
        t.join().map_err(|_| anyhow::anyhow!("a bench thread panicked"))?;
    }
    Ok(rate)
}

async fn etcd(dir: &Path, writers: usize) -> Result<f64> {
    let port = || -> Result<u16> { Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
    let (client, peer) = (format!("http://127.0.0.1:{}", port()?), format!("http://127.0.0.1:{}", port()?));
    let mut server = Command::new("etcd")
        .args(["--data-dir", &dir.display().to_string(), "--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client, "--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
        .args(["--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("etcd is not installed")?;
    let rate = etcd_puts(client.trim_start_matches("http://"), writers).await;
    server.kill()?;
    server.wait()?;
    rate
}

/// A gRPC message: no compression, a length, and a `PutRequest` with key (1) and value (2).
fn put_request(key: &str, value: &[u8]) -> Bytes {
    fn field(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
        out.put_u8(tag);
        let mut n = bytes.len();
        while n >= 0x80 {
            out.put_u8((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.put_u8(n as u8);
        out.put_slice(bytes);
    }
    let mut message = BytesMut::with_capacity(value.len() + key.len() + 16);
    field(&mut message, 0x0a, key.as_bytes());
    field(&mut message, 0x12, value);
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(&message);
    out.freeze()
}

async fn etcd_puts(authority: &str, writers: usize) -> Result<f64> {
    let mut tries = 0;
    let first = loop {
        match Connection::open_plain(authority).await {
            Ok(c) => break c,
            Err(_) if tries < 200 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(e) => return Err(e.context("etcd did not start")),
        }
    };
    // etcd allows 250 streams a connection or fewer; spread the writers.
    let mut connections = vec![first];
    while connections.len() * 50 < writers {
        connections.push(Connection::open_plain(authority).await?);
    }
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::with_capacity(writers);
    let begun = clock::now();
    for w in 0..writers {
        let mut c = connections[w % connections.len()].clone();
        let (stop, done) = (stop.clone(), done.clone());
        tasks.push(tokio::spawn(async move {
            let value = vec![b'v'; VALUE_LEN];
            let mut i = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let body = put_request(&format!("/bench/w{w}-{i}"), &value);
                let answer = c.send("POST", "/etcdserverpb.KV/Put", "application/grpc", body).await?;
                let trailers = answer.into_body().collect().await?.trailers().cloned().unwrap_or_default();
                if trailers.get("grpc-status").is_none_or(|s| s == "0") {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                i += 1;
            }
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(Duration::from_secs_f64(SECONDS)).await;
    let rate = done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for t in tasks {
        t.await??;
    }
    if rate == 0.0 {
        figure("etcd answered no put", 0.0, "puts/s");
    }
    Ok(rate)
}
