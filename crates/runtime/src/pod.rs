//! What the containers of a pod share, made and undone: the cgroup, host name and IPC namespaces kept by a bind mount
//! (no process has to stay for them), and `/dev/shm`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::cgroup::{Tree, pod_path};
use crate::error::Error;
use crate::helper::Helper;
use crate::layout::{Layout, PodDir, remove_tree, write_json};
use crate::pause;
use crate::spec::{Limits, Network, PodSpec, Qos, Sharing, Users};
use crate::users;

/// The least that the kernel takes.
const CPU_SHARES_MIN: u64 = 2;
const SHM_BYTES_DEFAULT: u64 = 64 << 20;

/// Makes a pod's surroundings; `label` is that of its files. What was made before an error stays for [`remove`].
pub(crate) fn create(
    layout: &Layout,
    helper: &Helper,
    tree: &Tree,
    parent: &str,
    spec: &PodSpec,
    label: Option<&str>,
) -> Result<(), Error> {
    let dir = layout.pod(&spec.uid);
    fs::create_dir_all(dir.dir().join("ns")).map_err(Error::io("make pod directory", dir.dir()))?;
    write_json(&dir.spec(), spec).map_err(Error::io("write", dir.spec()))?;
    let cgroup = pod_path(parent, spec.qos, &spec.uid);
    if spec.qos == Qos::BestEffort {
        // All of them together yield to everyone else.
        let class = format!("/{parent}/{}", spec.qos.directory());
        let weight = Limits { cpu_shares: Some(CPU_SHARES_MIN), ..Limits::default() };
        tree.create(&class, &weight).map_err(Error::io("make cgroup", class))?;
    }
    tree.create(&cgroup, &spec.limits).map_err(Error::io("make cgroup", &cgroup))?;
    if spec.ipc != Sharing::Host {
        let shm = dir.shm();
        fs::create_dir_all(&shm).map_err(Error::io("make", &shm))?;
        let options = render_shm_options(spec, label).map_err(Error::io("mount", &shm))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("shm", &shm, "tmpfs", flags, options.as_c_str())
            .map_err(|e| Error::io("mount", &shm)(e.into()))?;
    }
    if let Users::From(first) = spec.users {
        users::create(helper, &dir, first)?;
    }
    if spec.pid == Sharing::Pod {
        pause::ensure(helper, tree, &dir, &cgroup)?;
    }
    // A namespace belongs to a thread while it is made, so the thread is one of its own.
    let (spec, made) = (spec.clone(), dir.made());
    let maker =
        std::thread::Builder::new().name("stoa-pod".into()).spawn(move || make_namespaces(&dir, &spec));
    match maker.map_err(Error::io("start a thread for", layout.root()))?.join() {
        Ok(result) => result?,
        Err(_) => {
            return Err(Error::Invalid { what: "pod", why: "the thread making its namespaces died".into() });
        }
    }
    // The last step: without it a later agent takes the pod for one that was interrupted.
    fs::write(&made, "").map_err(Error::io("write", made))
}

/// Without them the file system would be as large as it likes, and not marked: what cannot be said is an error.
fn render_shm_options(spec: &PodSpec, label: Option<&str>) -> io::Result<CString> {
    let mut options = format!("mode=1777,size={}", spec.shm_bytes.unwrap_or(SHM_BYTES_DEFAULT));
    options.extend(label.map(|label| format!(",context=\"{label}\"")));
    CString::new(options).map_err(io::Error::other)
}

fn make_namespaces(dir: &PodDir, spec: &PodSpec) -> Result<(), Error> {
    let mut flags = UnshareFlags::empty();
    let mut kinds = Vec::new();
    let has_own_network = matches!(spec.network, Network::Namespace(_));
    if has_own_network {
        flags |= UnshareFlags::NEWUTS;
        kinds.push("uts");
    }
    if spec.ipc != Sharing::Host {
        flags |= UnshareFlags::NEWIPC;
        kinds.push("ipc");
    }
    let failed = |what: &'static str| {
        let path = dir.dir().to_path_buf();
        move |e: rustix::io::Errno| Error::io(what, path)(e.into())
    };
    // SAFETY: this thread was started for this and ends right after; neither flag concerns its descriptors or memory.
    unsafe { unshare_unsafe(flags) }.map_err(failed("make namespaces of"))?;
    if has_own_network && !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).map_err(failed("set the host name of"))?;
    }
    for kind in kinds {
        let path = dir.namespace(kind);
        fs::write(&path, "").map_err(Error::io("make", &path))?;
        mount_bind(format!("/proc/thread-self/ns/{kind}"), &path)
            .map_err(|e| Error::io("keep namespace at", &path)(e.into()))?;
    }
    if let (Network::Namespace(path), false) = (&spec.network, spec.sysctls.is_empty()) {
        let netns = fs::File::open(path).map_err(Error::io("open network namespace", path))?;
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), Some(LinkNameSpaceType::Network))
            .map_err(failed("enter the network of"))?;
    }
    for (name, value) in &spec.sysctls {
        write_sysctl(name, value, has_own_network, spec.ipc != Sharing::Host)?;
    }
    Ok(())
}

/// Only parameters that belong to a namespace of the pod: anything else would change the machine.
fn write_sysctl(name: &str, value: &str, own_network: bool, own_ipc: bool) -> Result<(), Error> {
    let is_ipc = name.starts_with("kernel.shm")
        || name.starts_with("kernel.msg")
        || name == "kernel.sem"
        || name.starts_with("fs.mqueue.");
    let file = sysctl_file(name)
        .filter(|_| (own_network && name.starts_with("net.")) || (own_ipc && is_ipc))
        .ok_or_else(|| Error::Invalid {
            what: "sysctl",
            why: format!("`{name}` is not one of the pod's own namespaces"),
        })?;
    let path = Path::new("/proc/sys").join(file);
    fs::write(&path, value).map_err(Error::io("set sysctl", path))
}

/// Where a parameter is below `/proc/sys`. Dots part its name; a slash in it is a dot of the file's name, as in that of a VLAN's
/// device.
fn sysctl_file(name: &str) -> Option<String> {
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let file: String = name.chars().map(swap).collect();
    (is_plain && file.split('/').all(|part| !part.is_empty() && !part.contains(".."))).then_some(file)
}

/// Undoes [`create`]; what is not there is no error. The pod's containers must have been removed.
pub(crate) fn remove(layout: &Layout, tree: &Tree, parent: &str, spec: &PodSpec) -> Result<(), Error> {
    let dir = layout.pod(&spec.uid);
    for path in
        [dir.namespace("uts"), dir.namespace("ipc"), dir.namespace("pid"), dir.namespace("user"), dir.shm()]
    {
        unmount_all(&path).map_err(Error::io("unmount", &path))?;
    }
    let cgroup = pod_path(parent, spec.qos, &spec.uid);
    tree.kill(&cgroup);
    tree.remove(&cgroup).map_err(Error::io("remove cgroup", &cgroup))?;
    remove_tree(dir.dir()).map_err(Error::io("remove", dir.dir()))
}

/// Unmounts a path as often as something is mounted there.
pub(crate) fn unmount_all(path: &Path) -> io::Result<()> {
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or not there.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_is_never_mounted_without_its_options() {
        let spec: PodSpec =
            serde_json::from_value(serde_json::json!({"uid": "u", "network": Network::Host})).unwrap();
        let options = render_shm_options(&spec, Some("a:b:c:s0:c1,c2")).unwrap();
        assert_eq!(options.to_str().unwrap(), "mode=1777,size=67108864,context=\"a:b:c:s0:c1,c2\"");
        assert!(render_shm_options(&spec, Some("a:b:c:s0\0")).is_err());
    }

    #[test]
    fn a_parameter_is_a_file_below_its_own_folder() {
        for (name, file) in [
            ("net.ipv4.ip_local_port_range", Some("net/ipv4/ip_local_port_range")),
            ("net.ipv4.conf.eth0/1.forwarding", Some("net/ipv4/conf/eth0.1/forwarding")),
            ("net.//.kernel.core_pattern", None),
            ("net..kernel", None),
            (".net", None),
            ("net.a b", None),
        ] {
            assert_eq!(sysctl_file(name).as_deref(), file, "{name}");
        }
    }
}
