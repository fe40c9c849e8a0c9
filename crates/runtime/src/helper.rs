//! The executable that is started again as a helper, in a form that no container can write to.
//!
//! A process in a container can open `/proc/<pid>/exe` of whatever enters it, and with enough rights write to it
//! (CVE-2019-5736). So helpers are run from a private read-only mount of the file, made once and seen in no mount
//! table; a write to it fails with EROFS whoever asks. Where the kernel cannot do that, from a sealed copy in memory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Helper {
    executable: OwnedFd,
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// How the allocator is told what it may keep, and that of a process of one thread that does little: there is one for each
/// container.
const ALLOCATOR: &str = "_RJEM_MALLOC_CONF";
const SMALL: &str = "percpu_arena:disabled,narenas:1,tcache:false,dirty_decay_ms:0";
/// While a helper makes a container it may keep what it freed: given back and faulted in again, line by line of the mount table,
/// that memory took a tenth of the time. [`give_back`] ends it.
const BUSY: &str = "percpu_arena:disabled,narenas:1,tcache:false,dirty_decay_ms:10000";

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_NOEXEC: u64 = 8;

impl Helper {
    pub(crate) fn open(executable: &Path) -> Result<Helper, Error> {
        let sealed = read_only_view(executable).or_else(|error| {
            tracing::debug!(%error, "no read-only view of the helper, sealing a copy");
            sealed_copy(executable)
        });
        Ok(Helper { executable: sealed.map_err(Error::io("seal helper", executable))? })
    }

    /// A command that runs the helper's subcommand; of its environment there is only what keeps it small.
    pub(crate) fn command(&self, subcommand: &str, args: &[&OsStr]) -> Command {
        let path = PathBuf::from(format!("/proc/self/fd/{}", self.executable.as_raw_fd()));
        let mut command = Command::new(path);
        let memory = if subcommand == "shim" { BUSY } else { SMALL };
        command.arg0("stoa").arg(OsString::from(subcommand)).args(args).env_clear().env(ALLOCATOR, memory);
        command
    }
}

/// From here on the process is to be small: what is freed goes back to the machine at once, and what was freed goes now.
pub(crate) fn give_back() {
    let now: libc::ssize_t = 0;
    // SAFETY: the name ends with a NUL; the value has the type that this setting has, and lives through the call. A process that
    // has another allocator changes one that it does not use.
    unsafe {
        tikv_jemalloc_sys::mallctl(
            c"arena.0.dirty_decay_ms".as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            (&raw const now).cast_mut().cast(),
            size_of_val(&now),
        )
    };
}

fn read_only_view(executable: &Path) -> io::Result<OwnedFd> {
    view(executable, MOUNT_ATTR_RDONLY)
}

/// A view of a directory that can be mounted elsewhere, without devices, set-uid programs or programs at all.
pub(crate) fn mount_view(directory: &Path, is_read_only: bool) -> io::Result<OwnedFd> {
    let write = if is_read_only { MOUNT_ATTR_RDONLY } else { 0 };
    view(directory, write | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
}

fn view(path: &Path, set: u64) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = open_tree(rustix::fs::CWD, path, flags)?;
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor; the structure has the kernel's first layout.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            view.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(view) } else { Err(io::Error::last_os_error()) }
}

fn sealed_copy(executable: &Path) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("stoa", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(memory);
    io::copy(&mut File::open(executable)?, &mut copy)?;
    rustix::fs::fcntl_add_seals(
        copy.as_fd(),
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_form_can_be_written() {
        assert!(nix::unistd::geteuid().is_root(), "needs root");
        for seal in [read_only_view, sealed_copy] {
            let sealed = seal(Path::new("/bin/true")).unwrap();
            let path = format!("/proc/self/fd/{}", sealed.as_raw_fd());
            assert!(Command::new(&path).status().unwrap().success());
            let write = File::options().write(true).open(&path);
            let refused = match write {
                Err(_) => true,
                Ok(mut file) => io::Write::write(&mut file, b"x").is_err(),
            };
            assert!(refused);
        }
    }
}
