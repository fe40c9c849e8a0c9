//! Users of a pod's own: its ids 0 to 65535 are a range of the machine's ids that nothing else has, so that root inside is
//! nobody outside. The namespace is kept by a bind mount, as the others of a pod are; files come in through mounts that
//! translate owners, and a process enters the namespace in its last steps, when all that needs the machine's root is done.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use nix::libc;
use nix::unistd::{ForkResult, fork};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, mount_bind, move_mount, open_tree};

use crate::error::Error;
use crate::helper::Helper;
use crate::layout::PodDir;
use crate::pod::unmount_all;

/// Ids that a pod has.
pub(crate) const LEN: u32 = 65_536;
/// Ranges that may be handed out; the machine's own users are below the first.
const SLOTS: u32 = 32_767;

/// The first id of a range that none of `taken` begins with.
pub(crate) fn choose(taken: &HashSet<u32>) -> Result<u32, Error> {
    let free = (1..=SLOTS).map(|slot| slot * LEN).find(|first| !taken.contains(first));
    free.ok_or_else(|| Error::Invalid { what: "pod", why: "all ranges of user ids are taken".into() })
}

/// Makes the namespace of a pod.
pub(crate) fn create(helper: &Helper, dir: &PodDir, first: u32) -> Result<(), Error> {
    let path = dir.namespace("user");
    unmount_all(&path).map_err(Error::io("unmount", &path))?;
    fs::write(&path, "").map_err(Error::io("make", &path))?;
    let first = first.to_string();
    let mut command = helper.command("users", &[path.as_os_str(), first.as_ref()]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(Error::io("start the helper for", &path))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::io("make a user namespace at", path)(io::Error::other(why)))
}

/// Runs the helper: `users PATH FIRST`. To be called first thing in `main`, before any thread.
pub fn main(args: &[OsString]) -> ExitCode {
    let made = match args {
        [path, first] => match first.to_str().and_then(|f| f.parse().ok()) {
            Some(first) => make(Path::new(path), first),
            None => Err(io::ErrorKind::InvalidInput.into()),
        },
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn make(path: &Path, first: u32) -> io::Result<()> {
    let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (done, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread, so its copy may do anything.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((ready, go));
            // SAFETY: a plain system call; this process has one thread and goes away after it.
            let entered = unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
            let _ = File::from(tell).write_all(if entered { b"+" } else { b"-" });
            // Until the other side has taken hold of the namespace.
            let _ = File::from(done).read(&mut [0]);
            // SAFETY: ends the copy without running exit handlers of its parent.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop((tell, done));
            let mut word = [0];
            File::from(ready).read_exact(&mut word)?;
            let held = if word == *b"+" {
                hold(child.as_raw(), path, first)
            } else {
                Err(io::ErrorKind::PermissionDenied.into())
            };
            drop(go);
            let _ = nix::sys::wait::waitpid(child, None);
            held
        }
    }
}

fn hold(child: i32, path: &Path, first: u32) -> io::Result<()> {
    let map = format!("0 {first} {LEN}\n");
    fs::write(format!("/proc/{child}/uid_map"), &map)?;
    fs::write(format!("/proc/{child}/gid_map"), &map)?;
    Ok(mount_bind(format!("/proc/{child}/ns/user"), path)?)
}

/// The pod's users as the helper of a container needs them.
pub(crate) struct Users {
    pub(crate) namespace: OwnedFd,
    pub(crate) first: u32,
}

impl Users {
    /// Opens the namespace of a pod.
    pub(crate) fn open(dir: &PodDir, first: u32) -> io::Result<Users> {
        Ok(Users { namespace: File::open(dir.namespace("user"))?.into(), first })
    }

    /// Mounts a view of `source` at `target` in which the pod's ids own what the same ids of the machine own outside.
    pub(crate) fn mount_view(&self, source: &Path, target: &Path) -> io::Result<()> {
        if fs::metadata(source)?.is_dir() {
            fs::create_dir_all(target)?;
        } else {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(target, "")?;
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let view = open_tree(rustix::fs::CWD, source, flags)?;
        translate(&view, self.namespace.as_fd())
            .map_err(|e| io::Error::new(e.kind(), format!("its file system cannot translate owners: {e}")))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(&view, "", rustix::fs::CWD, target, flags)?)
    }
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

fn translate(view: &OwnedFd, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = MountAttributes {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: namespace.as_raw_fd() as u64,
    };
    // SAFETY: an empty path with AT_EMPTY_PATH names the descriptor; the structure has the kernel's first layout.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            view.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Paths below which a container's helper puts translated views, in its own mount namespace.
pub(crate) fn view_path(bundle: &Path, kind: &str, index: usize) -> PathBuf {
    bundle.join("views").join(format!("{kind}{index}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_never_touch_the_machines_own_users() {
        let mut taken = HashSet::new();
        for _ in 0..3 {
            taken.insert(choose(&taken).unwrap());
        }
        assert_eq!(taken, [LEN, 2 * LEN, 3 * LEN].into());
        taken.remove(&(2 * LEN));
        assert_eq!(choose(&taken).unwrap(), 2 * LEN);
        assert!(choose(&(1..=SLOTS).map(|s| s * LEN).collect()).is_err());
        assert!((SLOTS * LEN).checked_add(LEN).is_some());
    }
}
