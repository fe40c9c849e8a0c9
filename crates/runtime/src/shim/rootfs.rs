//! Puts a container's root together in the helper's own mount namespace, where it vanishes with the helper's stay
//! there: the machine's mount table never shows it and nothing has to be unmounted.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, mount_bind_recursive, mount_change, move_mount, open_tree, unmount,
};

use super::order::Order;
use super::target::{self, Kind};
use crate::layout::Bundle;
use crate::pod::unmount_all;
use crate::spec::{Propagation, Rootfs, Source};
use crate::users::{self, Users};

/// The helper's way back out of its own mount namespace.
pub(super) struct Detour {
    home: OwnedFd,
    /// What is mounted here is mounted on the machine too.
    is_shared: bool,
}

impl Detour {
    /// Leaves for a mount namespace of its own, in which no cgroup hierarchy is to be seen.
    pub(super) fn enter(order: &Order) -> io::Result<Detour> {
        let wants = |p: Propagation| order.spec.mounts.iter().any(|m| m.propagation == p);
        let home = fs::File::open("/proc/self/ns/mnt")?.into();
        // SAFETY: the helper has one thread and shares its table of mounts with nobody.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
        let is_shared = wants(Propagation::Bidirectional);
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        if is_shared {
            mount_change("/sys", private)?;
        } else if wants(Propagation::HostToContainer) {
            mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        } else {
            mount_change("/", private)?;
            leave_others(order)?;
        }
        // The library finds a machine with version 1 and no controllers, and leaves cgroups alone.
        let _ = unmount("/sys/fs/cgroup", UnmountFlags::DETACH);
        mount("stoa", "/sys/fs/cgroup", "tmpfs", MountFlags::RDONLY, c"size=4k")?;
        Ok(Detour { home, is_shared })
    }

    /// Comes back; what was mounted on the way lives on in the container's namespace alone.
    pub(super) fn leave(self, bundle: &Bundle) -> io::Result<()> {
        let mount_namespace = rustix::thread::LinkNameSpaceType::Mount;
        rustix::thread::move_into_link_name_space(self.home.as_fd(), Some(mount_namespace))?;
        if self.is_shared {
            unmount_all(&bundle.rootfs())?;
        }
        Ok(())
    }
}

/// Leaves the mounts of other pods behind. The library reads the whole table of mounts a dozen times for each container: with
/// hundreds of pods that took longer than all else.
fn leave_others(order: &Order) -> io::Result<()> {
    let sources: Vec<PathBuf> = order
        .spec
        .mounts
        .iter()
        .filter_map(|m| match &m.source {
            Source::Bind(path) => Some(path.canonicalize().unwrap_or_else(|_| path.clone())),
            Source::Tmpfs(_) => None,
        })
        .collect();
    for directory in &order.by_pod {
        let own = directory.join(&order.pod.uid);
        let is_asked_for = |source: &PathBuf| {
            directory.starts_with(source) || (source.starts_with(directory) && !source.starts_with(&own))
        };
        if sources.iter().any(is_asked_for) {
            continue;
        }
        let copy =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let kept = match open_tree(rustix::fs::CWD, &own, copy) {
            Ok(kept) => Some(kept),
            Err(rustix::io::Errno::NOENT) => None,
            Err(_) => continue,
        };
        if unmount(directory, UnmountFlags::DETACH).is_err() {
            // It is no mount point: others were at work in it when the agent came.
            continue;
        }
        if let Some(kept) = kept {
            move_mount(kept.as_fd(), "", rustix::fs::CWD, &own, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
    }
    Ok(())
}

/// Makes places for the container's mounts where links of its image lead to nothing.
pub(super) fn make_targets(order: &Order, bundle: &Bundle) -> io::Result<()> {
    if matches!(order.spec.rootfs, Rootfs::Host { .. }) {
        return Ok(());
    }
    // Of these the container gets its own.
    let is_own = |path: &Path| ["/dev", "/proc", "/sys"].iter().any(|own| path.starts_with(own));
    for mount in order.spec.mounts.iter().filter(|m| !is_own(&m.destination)) {
        let kind = match &mount.source {
            Source::Bind(path) if !path.is_dir() => Kind::File,
            Source::Bind(_) | Source::Tmpfs(_) => Kind::Directory,
        };
        target::make(&bundle.rootfs(), &mount.destination, kind)?;
    }
    Ok(())
}

/// Mounts the root at the bundle's `rootfs`.
pub(super) fn mount_root(order: &Order, bundle: &Bundle, users: Option<&Users>) -> io::Result<()> {
    let root = bundle.rootfs();
    fs::create_dir_all(&root)?;
    match &order.spec.rootfs {
        Rootfs::Layers { lower } => {
            let empty = [bundle.empty()];
            let writable = Writable { upper: order.layer.join("upper"), work: order.layer.join("work") };
            fs::create_dir_all(&writable.upper)?;
            fs::create_dir_all(&writable.work)?;
            if lower.is_empty() {
                fs::create_dir_all(&empty[0])?;
            }
            let lower = if lower.is_empty() { &empty[..] } else { lower };
            let label = order.spec.confinement.file_label.as_deref();
            let Some(users) = users else { return mount_overlay(lower, &writable, label, &root) };
            // What it writes, the writable layer keeps under the machine's ids.
            std::os::unix::fs::chown(&writable.upper, Some(users.first), Some(users.first))?;
            let mut views = Vec::new();
            for (index, layer) in lower.iter().enumerate() {
                let view = users::view_path(bundle.dir(), "layer", index);
                users.mount_view(layer, &view)?;
                views.push(view);
            }
            mount_overlay(&views, &writable, label, &root)
        }
        Rootfs::Host { sandbox } => {
            fs::create_dir_all(sandbox)?;
            mount_bind_recursive("/", &root)?;
            mount_change(&root, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            for hidden in &order.hidden {
                let inside = root.join(hidden.strip_prefix("/").unwrap_or(hidden));
                if inside.is_dir() {
                    mount(
                        "stoa",
                        &inside,
                        "tmpfs",
                        MountFlags::NOSUID | MountFlags::NODEV,
                        c"size=1m,mode=0755",
                    )?;
                }
            }
            Ok(())
        }
    }
}

/// The two directories of a writable layer.
struct Writable {
    upper: PathBuf,
    work: PathBuf,
}

fn mount_overlay(
    lower: &[impl AsRef<Path>],
    writable: &Writable,
    label: Option<&str>,
    target: &Path,
) -> io::Result<()> {
    let configure = |volatile: bool| -> io::Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(fs.as_fd(), "source", "stoa")?;
        for layer in lower {
            fsconfig_set_string(fs.as_fd(), "lowerdir+", layer.as_ref())?;
        }
        fsconfig_set_string(fs.as_fd(), "upperdir", &writable.upper)?;
        fsconfig_set_string(fs.as_fd(), "workdir", &writable.work)?;
        if let Some(label) = label {
            fsconfig_set_string(fs.as_fd(), "context", label)?;
        }
        if volatile {
            // The writable layer dies with the container, so nothing in it is worth a sync.
            fsconfig_set_flag(fs.as_fd(), "volatile")?;
        }
        fsconfig_create(fs.as_fd())?;
        Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
    };
    match configure(true).or_else(|_| configure(false)) {
        Ok(mounted) => {
            move_mount(mounted.as_fd(), "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                .map_err(io::Error::from)
        }
        Err(_) => mount_overlay_legacy(lower, writable, label, target),
    }
}

/// Kernels before 6.5 know no `lowerdir+`: one string, with the characters that mean something escaped.
fn mount_overlay_legacy(
    lower: &[impl AsRef<Path>],
    writable: &Writable,
    label: Option<&str>,
    target: &Path,
) -> io::Result<()> {
    let escape = |path: &Path, set: &[char]| {
        let mut out = String::new();
        for c in path.to_string_lossy().chars() {
            if set.contains(&c) {
                out.push('\\');
            }
            out.push(c);
        }
        out
    };
    let layers: Vec<String> = lower.iter().map(|l| escape(l.as_ref(), &['\\', ':', ','])).collect();
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={}",
        layers.join(":"),
        escape(&writable.upper, &['\\', ',']),
        escape(&writable.work, &['\\', ','])
    );
    options.extend(label.map(|label| format!(",context=\"{label}\"")));
    let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
    Ok(mount("stoa", target, "overlay", MountFlags::empty(), options.as_c_str())?)
}
