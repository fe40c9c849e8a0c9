//! A runtime of one's own for a test, which leaves nothing behind.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stoa_runtime::{
    ContainerSpec, Limits, Mount, Network, Options, PodSpec, Propagation, Qos, Rootfs, Runtime, Sharing,
    Source, Users,
};
use tokio::io::AsyncReadExt;

/// One runtime in its own directory and cgroup.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub options: Options,
    pub runtime: Runtime,
}

impl Bench {
    pub async fn new(name: &str) -> Bench {
        assert!(nix::unistd::geteuid().is_root(), "these tests make containers: run them as root");
        let directory = tempfile::tempdir().unwrap();
        let mut options =
            Options::new(directory.path().join("state"), format!("stoa-test-{name}-{}", std::process::id()));
        options.exe = helper();
        options.hidden = vec![directory.path().to_path_buf()];
        options.by_pod = vec![directory.path().join("by-pod")];
        make_layer(&directory.path().join("layer"));
        let runtime = Runtime::open(options.clone()).await.unwrap();
        runtime.create_pod(pod("p1")).await.unwrap();
        Bench { directory, options, runtime }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn spec(&self, id: &str, script: &str) -> ContainerSpec {
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let rootfs = Rootfs::Layers { lower: vec![self.path("layer")] };
        ContainerSpec::new(id, "p1", rootfs, args, self.path(&format!("{id}.log")))
    }

    /// Runs to the end; the exit and the log without its stamps.
    pub async fn run(&self, spec: ContainerSpec) -> (stoa_runtime::Exit, Vec<String>) {
        let id = spec.id.clone();
        self.runtime.start(spec).await.unwrap();
        let exit = self.end(&id).await;
        (exit, self.log(&id))
    }

    pub async fn end(&self, id: &str) -> stoa_runtime::Exit {
        tokio::time::timeout(Duration::from_secs(30), self.runtime.wait(id)).await.unwrap().unwrap()
    }

    /// Until something outside is as expected.
    pub async fn until(&self, is_so: impl Fn() -> bool) {
        let wait = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    }

    pub fn log(&self, id: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(&format!("{id}.log"))).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    /// Takes everything down and checks that nothing is left.
    pub async fn close(self) {
        stoa_runtime::destroy_all(&self.options).await.unwrap();
        self.assert_clean();
    }

    fn assert_clean(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.directory.path().to_str().unwrap()), "mounts left:\n{mounts}");
        for controller in ["memory", "pids", "freezer", "unified", "systemd", ""] {
            let path = Path::new("/sys/fs/cgroup").join(controller).join(&self.options.cgroup_parent);
            assert!(!path.exists(), "{} left", path.display());
        }
    }
}

/// A test that fails must not leave its containers running.
impl Drop for Bench {
    fn drop(&mut self) {
        let options = self.options.clone();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(stoa_runtime::destroy_all(&options));
        };
        let _ = std::thread::spawn(work).join();
    }
}

pub fn helper() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent().unwrap().parent().unwrap().join("examples/helper");
    assert!(path.exists(), "{} is missing: cargo builds it with the tests", path.display());
    path
}

pub fn make_layer(layer: &Path) {
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        std::fs::create_dir_all(layer.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "echo", "cat", "sleep", "ls", "id", "hostname", "mount", "unshare", "tty", "stty", "head",
        "dd", "true", "kill", "grep", "ps", "wc", "touch", "tail", "pwd", "readlink", "seq", "test", "env",
        "chroot",
    ] {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    std::fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
    )
    .unwrap();
}

pub fn pod(uid: &str) -> PodSpec {
    PodSpec {
        uid: uid.into(),
        hostname: "web-0".into(),
        network: Network::Host,
        ipc: Sharing::Pod,
        pid: Sharing::Container,
        users: Users::Host,
        sysctls: BTreeMap::new(),
        qos: Qos::Burstable,
        limits: Limits::default(),
        shm_bytes: None,
        selinux: None,
        level: None,
    }
}

pub async fn read_all(stream: &mut stoa_runtime::BoxRead) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

pub fn bind(source: impl Into<PathBuf>, destination: &str, read_only: bool) -> Mount {
    Mount {
        source: Source::Bind(source.into()),
        destination: destination.into(),
        read_only,
        recursive_read_only: false,
        propagation: Propagation::Private,
        relabel: false,
    }
}
