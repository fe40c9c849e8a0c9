//! One agent under many pods: how fast they start, idle and beside a hundred others, and what five hundred of them cost in
//! memory; and the same number of containers of containerd and runc, driven by `ctr` in the same run. A pod has a network
//! namespace, an address, a volume with a token and a status in the API; a container of `ctr` has none of these.

use crate::clock;
use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::pods::{create_and_wait, make_images};
use crate::report::{Better, beside, figure, section};
use crate::server::{cmdlines, pss_of};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SAMPLES: usize = 20;
const BESIDE: usize = 100;
const MANY: usize = 500;
/// How many `ctr` run at once: so many starts does an agent work on at once, too.
const AT_ONCE: usize = 8;
const PODS: &str = "/api/v1/namespaces/default/pods";

struct Figures {
    start_rate: f64,
    stop_rate: f64,
    kib_each: f64,
    idle_mib: f64,
}

/// Runs both and prints them beside each other.
pub async fn run(stoa: &Path, dir: &Path, images: &Path) -> Result<()> {
    section(&format!("one agent, {MANY} pods"));
    std::fs::create_dir_all(dir)?;
    let ours = pods(stoa, &dir.join("cluster"), images).await?;
    let theirs = match Containerd::start(&dir.join("containerd"), &rootfs(images)?) {
        Ok(containerd) => containerd.measure()?,
        Err(error) => {
            println!("no peer: {error:#}\nhint: scripts/tools.sh bench installs containerd");
            return Ok(());
        }
    };
    beside("pods started, all at once", ours.start_rate, "/s", "containerd", theirs.start_rate, Better::More);
    beside("pods deleted, all at once", ours.stop_rate, "/s", "containerd", theirs.stop_rate, Better::More);
    beside(
        "memory per pod (PSS of the process and its helpers)",
        ours.kib_each,
        "KiB",
        "containerd",
        theirs.kib_each,
        Better::Less,
    );
    beside(
        "idle before (PSS; ours with API and store)",
        ours.idle_mib,
        "MiB",
        "containerd",
        theirs.idle_mib,
        Better::Less,
    );
    Ok(())
}

async fn pods(stoa: &Path, dir: &Path, images: &Path) -> Result<Figures> {
    make_images(stoa, dir, images)?;
    let max = (MANY + 10).to_string();
    let cluster = Cluster::start(stoa, dir, &["--max-pods", &max, "--node-cidr-mask-size", "22"])?;
    let mut c = Connection::open(&cluster.server.credentials).await?;
    // Whatever is made once is made now.
    create_and_wait(&mut c, "first", 1).await?;
    one_by_one(&mut c, "idle").await?;
    let settled = SAMPLES + 1;
    create_and_wait(&mut c, "beside", BESIDE - settled).await?;
    one_by_one(&mut c, "hundred").await?;
    delete_all(&cluster, &mut c).await?;
    let idle = pss_of_all(&cluster.processes()?)?;
    let begun = clock::now();
    create_and_wait(&mut c, "many", MANY).await?;
    let start_rate = MANY as f64 / begun.elapsed().as_secs_f64();
    let full = pss_of_all(&cluster.processes()?)?;
    let begun = clock::now();
    delete_all(&cluster, &mut c).await?;
    let stop_rate = MANY as f64 / begun.elapsed().as_secs_f64();
    Ok(Figures {
        start_rate,
        stop_rate,
        kib_each: full.saturating_sub(idle) as f64 / 1024.0 / MANY as f64,
        idle_mib: idle as f64 / f64::from(1 << 20),
    })
}

/// Starts pods one after the other and prints how long each took to run.
async fn one_by_one(c: &mut Connection, when: &str) -> Result<()> {
    let mut times = Vec::new();
    for i in 0..SAMPLES {
        times.extend(create_and_wait(c, &format!("{when}-{i}"), 1).await?);
    }
    let what = if when == "idle" { "idle".to_owned() } else { format!("beside {BESIDE} pods") };
    figure(&format!("create → Running, one by one, {what}, p50"), clock::quantile_ms(&mut times, 0.5), "ms");
    figure("  p99", clock::quantile_ms(&mut times, 0.99), "ms");
    Ok(())
}

/// Deletes all pods, and waits until they are gone from the API and their helpers from the machine.
async fn delete_all(cluster: &Cluster, c: &mut Connection) -> Result<()> {
    c.call("DELETE", &format!("{PODS}?gracePeriodSeconds=0"), Bytes::new()).await?;
    let deadline = clock::now() + Duration::from_secs(120);
    loop {
        let list: Value =
            serde_json::from_slice(&c.call("GET", &format!("{PODS}?limit=1"), Bytes::new()).await?)?;
        if list["items"].as_array().is_some_and(Vec::is_empty) && cluster.processes()?.len() == 1 {
            return Ok(());
        }
        if clock::now() > deadline {
            bail!("pods were not gone in two minutes");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn pss_of_all(pids: &[u32]) -> Result<u64> {
    // A helper that ended meanwhile has no memory.
    pids.iter().map(|pid| pss_of(*pid).or(Ok(0))).sum()
}

/// The files that `make_images` made `busybox` of.
fn rootfs(images: &Path) -> Result<PathBuf> {
    let root = images.ancestors().nth(2).context("the script is in no project")?;
    Ok(root.join(".stoa/images/busybox"))
}

/// Debian's containerd with its state in a directory of ours.
struct Containerd {
    child: Child,
    dir: PathBuf,
}

impl Containerd {
    fn start(dir: &Path, rootfs: &Path) -> Result<Containerd> {
        std::fs::create_dir_all(dir)?;
        let at = dir.display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n[grpc]\n  address = \"{at}/c.sock\"\n"
        );
        std::fs::write(dir.join("config.toml"), config)?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(dir.join("config.toml"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            .spawn()
            .context("cannot start containerd")?;
        let it = Containerd { child, dir: dir.to_owned() };
        let deadline = clock::now() + Duration::from_secs(30);
        while !it.ctr(&["version"]).is_ok_and(|o| o.status.success()) {
            if clock::now() > deadline {
                bail!("containerd does not answer; see {at}/log");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let archive = docker_archive(dir, rootfs)?;
        it.done(&["images", "import", &archive.to_string_lossy()])?;
        Ok(it)
    }

    fn ctr(&self, args: &[&str]) -> Result<std::process::Output> {
        Ok(Command::new("ctr").arg("--address").arg(self.dir.join("c.sock")).args(args).output()?)
    }

    fn done(&self, args: &[&str]) -> Result<()> {
        let out = self.ctr(args)?;
        if !out.status.success() {
            bail!("ctr {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(())
    }

    /// Does something to each container, several at a time.
    fn each(&self, n: usize, work: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
        std::thread::scope(|scope| {
            let work = &work;
            let workers: Vec<_> = (0..AT_ONCE)
                .map(|w| {
                    scope.spawn(move || (w..n).step_by(AT_ONCE).try_for_each(|i| work(&format!("c{i}"))))
                })
                .collect();
            workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| bail!("a worker panicked")))
        })
    }

    fn run(&self, id: &str) -> Result<()> {
        self.done(&["run", "-d", "--null-io", "docker.io/library/busybox:latest", id, "sleep", "3600"])
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.done(&["tasks", "rm", "--force", id])?;
        self.done(&["containers", "rm", id])
    }

    /// The daemon and the shims of its containers.
    fn processes(&self) -> Result<Vec<u32>> {
        let at = self.dir.to_string_lossy().into_owned();
        Ok(cmdlines()?.into_iter().filter(|(_, line)| line.contains(&at)).map(|(pid, _)| pid).collect())
    }

    fn measure(self) -> Result<Figures> {
        self.run("first")?;
        self.remove("first")?;
        let idle = pss_of_all(&self.processes()?)?;
        let begun = clock::now();
        self.each(MANY, |id| self.run(id))?;
        let start_rate = MANY as f64 / begun.elapsed().as_secs_f64();
        let full = pss_of_all(&self.processes()?)?;
        let begun = clock::now();
        self.each(MANY, |id| self.remove(id))?;
        let stop_rate = MANY as f64 / begun.elapsed().as_secs_f64();
        Ok(Figures {
            start_rate,
            stop_rate,
            kib_each: full.saturating_sub(idle) as f64 / 1024.0 / MANY as f64,
            idle_mib: idle as f64 / f64::from(1 << 20),
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let left = self.ctr(&["tasks", "ls", "-q"]).map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        for id in left.unwrap_or_default().lines() {
            let _ = self.remove(id);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `docker save` would write of an image of one layer.
fn docker_archive(dir: &Path, rootfs: &Path) -> Result<PathBuf> {
    let run = |program: &str, args: &[&std::ffi::OsStr]| -> Result<String> {
        let out = Command::new(program).args(args).output()?;
        if !out.status.success() {
            bail!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let layer = dir.join("layer.tar");
    run("tar", &["-C".as_ref(), rootfs.as_os_str(), "-cf".as_ref(), layer.as_os_str(), ".".as_ref()])?;
    let sum = run("sha256sum", &[layer.as_os_str()])?;
    let digest = sum.split_whitespace().next().context("sha256sum said nothing")?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({"architecture": architecture, "os": "linux", "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}});
    std::fs::write(dir.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": ["docker.io/library/busybox:latest"], "Layers": ["layer.tar"]}]);
    std::fs::write(dir.join("manifest.json"), manifest.to_string())?;
    let archive = dir.join("busybox.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    let mut args: Vec<&std::ffi::OsStr> =
        vec!["-C".as_ref(), dir.as_os_str(), "-cf".as_ref(), archive.as_os_str()];
    args.extend(files.iter().map(|f| std::ffi::OsStr::new(*f)));
    run("tar", &args)?;
    Ok(archive)
}
