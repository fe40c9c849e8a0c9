//! How a container's first process gets into its cgroup, and how it sees it.
//!
//! The library would write the process's number to `cgroup.procs` of every hierarchy, which makes the kernel wait for
//! a grace period of all processors (measured: 10 ms and more, the greater part of a start). On version 1 a thread that
//! moves *itself* through `tasks` is spared that. So the hierarchies are hidden from the library, and the process
//! moves itself through descriptors opened beforehand, in the last hook before it is ready.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::libc;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, mount_change, mount_remount, move_mount,
};

use crate::cgroup::Tree;
use crate::helper::mount_view;
use crate::spec::{ContainerSpec, Propagation};

const ROOT: &str = "/sys/fs/cgroup";

/// Open ends, held by the helper until the container is made.
pub(super) struct Membership {
    tasks: Vec<File>,
    views: Vec<(PathBuf, OwnedFd)>,
    travel: Vec<(PathBuf, MountPropagationFlags)>,
    is_read_only: bool,
}

/// The same, as the process in the container has inherited them.
#[derive(Clone)]
pub(crate) struct Inherited {
    tasks: Vec<RawFd>,
    views: Vec<(PathBuf, RawFd)>,
    travel: Vec<(PathBuf, MountPropagationFlags)>,
    is_read_only: bool,
}

impl Membership {
    /// Opens the container's cgroup, which must exist.
    pub(super) fn open(tree: &Tree, cgroup: &str, spec: &ContainerSpec) -> io::Result<Membership> {
        let is_read_only = !spec.privileged;
        let overrides =
            |destination: &Path| destination.starts_with(ROOT) || Path::new(ROOT).starts_with(destination);
        let mut views = Vec::new();
        if !spec.mounts.iter().any(|m| overrides(&m.destination)) {
            for (inside, directory) in tree.views(cgroup) {
                views.push((Path::new(ROOT).join(inside), mount_view(&directory, is_read_only)?));
            }
        }
        Ok(Membership { tasks: tree.open_members(cgroup)?, views, travel: travel(spec), is_read_only })
    }

    pub(super) fn inherited(&self) -> Inherited {
        Inherited {
            tasks: self.tasks.iter().map(AsRawFd::as_raw_fd).collect(),
            views: self.views.iter().map(|(path, fd)| (path.clone(), fd.as_raw_fd())).collect(),
            travel: self.travel.clone(),
            is_read_only: self.is_read_only,
        }
    }
}

/// How far mounts made below each of a container's own travel. The library gives all of them what one of them wants.
fn travel(spec: &ContainerSpec) -> Vec<(PathBuf, MountPropagationFlags)> {
    let wants = |p: Propagation| spec.mounts.iter().any(|m| m.propagation == p);
    let flags = |p: Propagation| match p {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::HostToContainer => MountPropagationFlags::DOWNSTREAM,
        Propagation::Bidirectional => MountPropagationFlags::SHARED,
    };
    let is_mixed = wants(Propagation::HostToContainer) || wants(Propagation::Bidirectional);
    let less = spec.mounts.iter().filter(|m| is_mixed && m.propagation != Propagation::Bidirectional);
    less.map(|m| (m.destination.clone(), flags(m.propagation) | MountPropagationFlags::REC)).collect()
}

impl Inherited {
    /// In the container's first process: joins the cgroup, shows it, and ties its life to the helper's.
    pub(crate) fn take_effect(&self) -> io::Result<()> {
        // SAFETY: no pointers are passed. A helper that is killed takes its container along, at once.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        for fd in &self.tasks {
            // SAFETY: inherited from the helper, which keeps its own copy open until this process is ready.
            rustix::io::write(unsafe { BorrowedFd::borrow_raw(*fd) }, b"0")?;
        }
        for (path, fd) in &self.views {
            // SAFETY: as above.
            let view = unsafe { BorrowedFd::borrow_raw(*fd) };
            fs::create_dir_all(path)?;
            move_mount(view, "", rustix::fs::CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            // Controllers mounted together are looked for under each name.
            if let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| n.contains(',')) {
                for part in name.split(',') {
                    symlink(name, Path::new(ROOT).join(part))?;
                }
            }
        }
        for (path, flags) in &self.travel {
            mount_change(path, *flags)?;
        }
        let covers_root = self.views.iter().any(|(path, _)| path.as_path() == Path::new(ROOT));
        if self.is_read_only && !self.views.is_empty() && !covers_root {
            let flags = MountFlags::BIND
                | MountFlags::RDONLY
                | MountFlags::NOSUID
                | MountFlags::NODEV
                | MountFlags::NOEXEC;
            mount_remount(ROOT, flags, c"")?;
        }
        let _ = io::stdout().flush();
        Ok(())
    }
}
