//! The kernel's security modules, AppArmor and SELinux: what a container is confined to is decided here, before anything is
//! made, and told to the kernel in the last steps of a process. Where a module is not there nothing is planned for it; what
//! was planned and cannot be told is an error, and the command does not run.

mod apparmor;
mod selinux;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::spec::{AppArmor, ContainerSpec, PodSpec, Rootfs};

pub(crate) use selinux::relabel;

/// What a container is confined to, with nothing left to choose. Kept with the container, so that a process that joins it
/// later is confined as its first one was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Confinement {
    /// Name of a loaded AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label of its processes.
    pub process_label: Option<String>,
    /// SELinux label of its files.
    pub file_label: Option<String>,
}

/// The security modules of a kernel, as seen through the files below a root.
#[derive(Debug)]
pub(crate) struct Kernel {
    root: PathBuf,
    profile: apparmor::Default,
}

impl Kernel {
    /// This machine's.
    pub(crate) fn new() -> Kernel {
        Kernel::at("/")
    }

    fn at(root: impl Into<PathBuf>) -> Kernel {
        Kernel { root: root.into(), profile: apparmor::Default::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    /// What a container is to be confined to. What runs on the machine's own root file system is the machine's own, and
    /// confined only where somebody says so.
    pub(crate) fn plan(&self, pod: &PodSpec, spec: &ContainerSpec) -> Result<Confinement, Error> {
        let failed = |message: String| Error::Create { id: spec.id.clone(), message };
        let is_host = matches!(spec.rootfs, Rootfs::Host { .. });
        let apparmor = match &spec.apparmor {
            AppArmor::Unset if is_host => None,
            asked => self.plan_apparmor(asked, spec.privileged).map_err(failed)?,
        };
        let asked = spec.selinux.as_ref().or(pod.selinux.as_ref());
        let labels = self.plan_labels(asked, pod.level.as_deref()).map_err(failed)?;
        let (process, file) = labels.unzip();
        // A privileged process keeps the runtime's own label; its files are marked all the same.
        Ok(Confinement { apparmor, process_label: process.filter(|_| !spec.privileged), file_label: file })
    }

    /// The label of what all containers of a pod share.
    pub(crate) fn shared_label(&self, pod: &PodSpec) -> Result<Option<String>, Error> {
        let labels = self.plan_labels(pod.selinux.as_ref(), pod.level.as_deref());
        Ok(labels.map_err(|why| Error::Invalid { what: "pod", why })?.map(|(_, file)| file))
    }
}

/// Whether containers of this machine can be confined to AppArmor profiles.
pub fn has_apparmor() -> bool {
    Kernel::new().has_apparmor()
}

impl Confinement {
    /// Tells the kernel what the next exec of this thread leads to. `proc` is the machine's own process file system: the one
    /// of a container may be anything (CVE-2019-16884).
    pub(crate) fn apply(&self, proc: BorrowedFd<'_>) -> io::Result<()> {
        let write = |files: &[&str], word: String| -> io::Result<()> {
            let mut last = io::ErrorKind::NotFound.into();
            for file in files {
                let file = Path::new("thread-self/attr").join(file);
                match openat(proc, &file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
                    Ok(file) => return File::from(file).write_all(word.as_bytes()),
                    Err(error) => last = error.into(),
                }
            }
            Err(last)
        };
        if let Some(profile) = &self.apparmor {
            // Kernels before 5.8 have the second only.
            write(&["apparmor/exec", "exec"], format!("exec {profile}"))
                .map_err(|e| named(&format!("AppArmor profile {profile:?}"), &e))?;
        }
        if let Some(label) = &self.process_label {
            write(&["exec"], label.clone()).map_err(|e| named(&format!("SELinux label {label:?}"), &e))?;
        }
        Ok(())
    }

    /// Whether there is anything to tell the kernel of.
    pub(crate) fn is_empty(&self) -> bool {
        self.apparmor.is_none() && self.process_label.is_none()
    }
}

/// The machine's own process file system, to be opened before a container's is entered.
pub(crate) fn open_proc() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
