//! Network namespaces as bind-mounted files, and threads that enter them. A namespace is a property of a thread, so
//! every entry is a fresh OS thread that ends with the work.

use crate::Error;
use crate::error::file;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The file system magic of namespace files.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Opens a namespace file.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| file("open", path)(e.into()))
}

/// The namespace of the calling thread.
pub(crate) fn own() -> Result<OwnedFd, Error> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Whether `path` is a bind-mounted namespace and not the plain file below one.
pub(crate) fn is_mounted(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type as u64 == NSFS_MAGIC)
}

/// Runs `work` on a thread of its own.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    std::thread::scope(|s| {
        let thread = std::thread::Builder::new().name("stoa-netns".into()).spawn_scoped(s, work);
        thread.map_err(|e| file("start", Path::new("a thread"))(e))?.join().map_err(|_| Error::Thread)?
    })
}

/// Moves the calling thread into a namespace. Only for threads that end with the work.
pub(crate) fn enter(namespace: &OwnedFd, path: &Path) -> Result<(), Error> {
    move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(namespace), ThreadNameSpaceType::NETWORK)
        .map_err(|e| file("enter", path)(e.into()))
}

/// Gives the calling thread a new network namespace and pins it at `path`. Only for threads that end with the work.
pub(crate) fn create(path: &Path) -> Result<(), Error> {
    File::create(path).map_err(file("create", path))?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .map_err(|e| file("make a network namespace for", path)(e.into()))?;
    mount_bind("/proc/thread-self/ns/net", path).map_err(|e| file("mount", path)(e.into()))?;
    Ok(())
}

/// Makes `dir` a private mount point, so that the namespaces pinned in it are not copied into other mount namespaces,
/// where they would outlive us.
pub(crate) fn prepare_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(file("create", dir))?;
    if !is_mount_point(dir)? {
        mount_bind(dir, dir).map_err(|e| file("mount", dir)(e.into()))?;
    }
    mount_change(dir, rustix::mount::MountPropagationFlags::PRIVATE).map_err(|e| file("mount", dir)(e.into()))
}

fn is_mount_point(dir: &Path) -> Result<bool, Error> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(file("read", table))?;
    let wanted = dir.to_string_lossy();
    Ok(text.lines().any(|l| l.split(' ').nth(4) == Some(&*wanted)))
}

/// Unpins a namespace; it goes with its last process.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    while is_mounted(path) {
        unmount(path, UnmountFlags::DETACH).map_err(|e| file("unmount", path)(e.into()))?;
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Undoes [`prepare_dir`] and everything below it.
pub(crate) fn remove_dir(dir: &Path) -> Result<(), Error> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(file("read", dir))?.flatten() {
        remove(&entry.path())?;
    }
    while is_mount_point(dir)? {
        unmount(dir, UnmountFlags::DETACH).map_err(|e| file("unmount", dir)(e.into()))?;
    }
    fs::remove_dir(dir).map_err(file("remove", dir))
}

/// Sets a network sysctl of the calling thread's namespace.
pub(crate) fn sysctl(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys/net").join(name);
    fs::write(&path, value).map_err(file("write", &path))
}

/// Reads a network sysctl of the calling thread's namespace.
pub(crate) fn read_sysctl(name: &str) -> Result<String, Error> {
    let path = Path::new("/proc/sys/net").join(name);
    Ok(fs::read_to_string(&path).map_err(file("read", &path))?.trim().to_string())
}
