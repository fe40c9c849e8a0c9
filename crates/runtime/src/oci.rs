//! From what a caller asks to the configuration file of the OCI library. Users, capabilities, filter and working
//! directory are not in it: the last step is ours (see `launch`), so the library works as root with all we hold. Nor
//! are limits and devices: the cgroup is ours too (see `shim::membership`).

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

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

/// Folders below `/dev` are not deeper than this.
const DEV_DEPTH_MAX: usize = 8;

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
    // The machine's own stays as the machine mounted it.
    let (shm, options) = match pod.ipc {
        Sharing::Host => (Path::new("/dev/shm").to_path_buf(), vec!["rbind"]),
        _ => (pod_dir.shm(), vec!["bind", "nosuid", "noexec", "nodev"]),
    };
    list.push(json!({ "destination": "/dev/shm", "type": "bind", "source": shm, "options": options }));
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
            "fileMode": node.mode, "uid": node.owner.0, "gid": node.owner.1,
        })
    };
    let mut list = Vec::new();
    for device in &spec.devices {
        let node = node(&device.source)?;
        list.push(render(&device.destination, Node { owner: (0, 0), ..node }));
    }
    if spec.privileged {
        for (path, node) in all_devices(Path::new("/dev"))? {
            list.push(render(&path, node));
        }
    }
    Ok(list)
}

/// What a privileged container sees of the machine's devices: all of them, in their folders and with their owners. Terminals
/// and what is mounted below `/dev` stay its own, and so do the devices that every container has.
fn all_devices(dev: &Path) -> Result<Vec<(PathBuf, Node)>, Error> {
    const OWN: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx"];
    let mut found = Vec::new();
    let mut folders = vec![(dev.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if depth == 0 => return Err(Error::io("list", dev)(e)),
            // A device may be unplugged at any time.
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_str().unwrap_or_default();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                let is_left_out =
                    ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"].contains(&name);
                if !is_left_out && depth < DEV_DEPTH_MAX {
                    folders.push((path, depth + 1));
                }
            } else if (kind.is_char_device() || kind.is_block_device())
                && name != "console"
                && !(depth == 0 && OWN.contains(&name))
                && let Ok(node) = node(&path)
            {
                found.push((path, node));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};

    #[test]
    fn the_devices_of_a_machine_are_found_in_their_folders() {
        assert!(nix::unistd::geteuid().is_root(), "needs root: it makes devices");
        let tmp = tempfile::tempdir().unwrap();
        let dev = tmp.path();
        for (path, kind) in [
            ("null", SFlag::S_IFCHR),
            ("console", SFlag::S_IFCHR),
            ("vda", SFlag::S_IFBLK),
            ("net/tun", SFlag::S_IFCHR),
            ("cpu/0/null", SFlag::S_IFCHR),
            ("pts/0", SFlag::S_IFCHR),
        ] {
            let at = dev.join(path);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            mknod(&at, kind, Mode::from_bits_truncate(0o640), makedev(1, 3)).unwrap();
            std::os::unix::fs::chown(&at, Some(0), Some(7)).unwrap();
        }
        std::os::unix::fs::symlink("../vda", dev.join("cpu/link")).unwrap();
        let found = all_devices(dev).unwrap();
        let names: Vec<_> =
            found.iter().map(|(p, _)| p.strip_prefix(dev).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["cpu/0/null", "net/tun", "vda"]);
        assert!(found.iter().all(|(_, n)| (n.major, n.minor, n.owner) == (1, 3, (0, 7))));
    }
}
