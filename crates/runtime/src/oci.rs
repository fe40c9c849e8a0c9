//! From what a caller asks to the configuration file of the OCI library. Users, capabilities, filter and working
//! directory are not in it: the last step is ours (see `launch`), so the library works as root with all we hold. Nor
//! are limits and devices: the cgroup is ours too (see `shim::membership`).

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::capability::Set;
use crate::devices::{Node, node};
use crate::error::Error;
use crate::layout::PodDir;
use crate::spec::{ContainerSpec, Mount, Network, PodSpec, Propagation, Rootfs, Sharing, Source};

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Renders `config.json`. `joined` is the process namespace of another container, where one is to be joined.
pub(crate) fn render(
    spec: &ContainerSpec,
    pod: &PodSpec,
    pod_dir: &PodDir,
    rootfs: &Path,
    joined: Option<&Path>,
) -> Result<Value, Error> {
    let held = Set::held().names();
    let shared = spec.mounts.iter().any(|m| m.propagation == Propagation::Bidirectional);
    let masks = !spec.privileged && !spec.unmasked_proc;
    Ok(json!({
        "ociVersion": "1.0.2",
        "root": { "path": rootfs, "readonly": spec.read_only_rootfs },
        "process": {
            "terminal": spec.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": spec.args,
            // Set, or the library would ask the name service for it, which loads code of the container's choosing
            // into a process that still has every right.
            "env": ["HOME=/"],
            "cwd": "/",
            "capabilities": {
                "bounding": held, "effective": held, "permitted": held, "inheritable": [], "ambient": [],
            },
        },
        "mounts": mounts(spec, pod, pod_dir),
        "linux": {
            "namespaces": namespaces(pod, pod_dir, joined),
            "cgroupsPath": "/",
            "devices": devices(spec)?,
            "maskedPaths": if masks { MASKED } else { &[] },
            "readonlyPaths": if masks { READ_ONLY } else { &[] },
            "rootfsPropagation": if shared { "shared" } else { "slave" },
        },
    }))
}

fn namespaces(pod: &PodSpec, pod_dir: &PodDir, joined: Option<&Path>) -> Value {
    let mut list = vec![json!({ "type": "mount" })];
    if let Network::Namespace(path) = &pod.network {
        list.push(json!({ "type": "network", "path": path }));
        list.push(json!({ "type": "uts", "path": pod_dir.namespace("uts") }));
    }
    if pod.ipc != Sharing::Host {
        list.push(json!({ "type": "ipc", "path": pod_dir.namespace("ipc") }));
    }
    match (joined, pod.pid) {
        (Some(path), _) => list.push(json!({ "type": "pid", "path": path })),
        (None, Sharing::Host) => {}
        (None, Sharing::Pod) => list.push(json!({ "type": "pid", "path": pod_dir.namespace("pid") })),
        (None, Sharing::Container) => list.push(json!({ "type": "pid" })),
    }
    Value::Array(list)
}

fn mounts(spec: &ContainerSpec, pod: &PodSpec, pod_dir: &PodDir) -> Vec<Value> {
    let system = if spec.privileged { "rw" } else { "ro" };
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    // Message queues cannot be marked: the kernel keeps one file system of them for all mounts of a namespace.
    let context = spec.confinement.file_label.as_ref().map(|label| format!("context={label}"));
    let context: Vec<&str> = context.iter().map(String::as_str).collect();
    let marked = |options: &[&'static str]| [options, &context].concat();
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &marked(&["nosuid", "strictatime", "mode=755", "size=65536k"])),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &marked(&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", system]),
        mount(
            "/sys/fs/cgroup",
            "tmpfs",
            "tmpfs",
            &marked(&["nosuid", "noexec", "nodev", "strictatime", "mode=755", "size=64k"]),
        ),
    ];
    let shm = if pod.ipc == Sharing::Host { Path::new("/dev/shm").to_path_buf() } else { pod_dir.shm() };
    list.push(json!({
        "destination": "/dev/shm", "type": "bind", "source": shm,
        "options": ["bind", "nosuid", "noexec", "nodev"],
    }));
    if let Rootfs::Host { sandbox } = &spec.rootfs {
        list.push(json!({ "destination": sandbox, "type": "bind", "source": sandbox, "options": ["rbind"] }));
    }
    list.extend(spec.mounts.iter().map(|m| render_mount(m, &context)));
    list
}

fn render_mount(mount: &Mount, context: &[&str]) -> Value {
    match &mount.source {
        Source::Bind(source) => {
            let mut options = vec!["rbind"];
            if mount.recursive_read_only {
                options.push("rro");
            } else if mount.read_only {
                options.push("ro");
            }
            json!({ "destination": mount.destination, "type": "bind", "source": source, "options": options })
        }
        Source::Tmpfs(bytes) => {
            let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned()];
            options.extend(bytes.map(|b| format!("size={b}")));
            options.extend(mount.read_only.then(|| "ro".to_owned()));
            options.extend(context.iter().map(|c| (*c).to_owned()));
            json!({ "destination": mount.destination, "type": "tmpfs", "source": "tmpfs", "options": options })
        }
    }
}

fn devices(spec: &ContainerSpec) -> Result<Vec<Value>, Error> {
    let render = |destination: &Path, node: Node| {
        json!({
            "path": destination, "type": node.kind.letter(), "major": node.major, "minor": node.minor,
            "fileMode": node.mode, "uid": 0, "gid": 0,
        })
    };
    let mut list = Vec::new();
    for device in &spec.devices {
        list.push(render(&device.destination, node(&device.source)?));
    }
    if spec.privileged {
        // A privileged container sees the machine's devices; terminals and mounts below /dev stay its own.
        for entry in fs::read_dir("/dev").map_err(Error::io("list", "/dev"))?.flatten() {
            let path = entry.path();
            let is_own = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"]
                .iter()
                .any(|own| path.ends_with(own));
            if !is_own
                && entry.file_type().is_ok_and(|t| t.is_char_device() || t.is_block_device())
                && let Ok(node) = node(&path)
            {
                list.push(render(&path, node));
            }
        }
    }
    Ok(list)
}
