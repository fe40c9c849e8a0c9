//! Taking a directory down. A container owned what is in it, so nothing about it is trusted: mounts are detached
//! first, links are never followed, no other file system is entered, and depth costs neither stack nor descriptors.

use crate::Error;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount detached while others appear below it is tried again this often.
const UNMOUNT_ROUNDS_MAX: usize = 8;

/// Detaches every mount at or below `dir`, deepest first.
pub fn unmount_below(dir: &Path) -> Result<(), Error> {
    for _ in 0..UNMOUNT_ROUNDS_MAX {
        let points = mounts_below(dir)?;
        if points.is_empty() {
            return Ok(());
        }
        for point in points.iter().rev() {
            match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(e) => return Err(Error::io("unmount", point)(e)),
            }
        }
    }
    match mounts_below(dir)?.pop() {
        None => Ok(()),
        Some(point) => Err(Error::io("unmount", point)(Errno::BUSY)),
    }
}

/// Detaches what is mounted at `point`, with all that is mounted within. Unlike [`unmount_below`] it does not read of every
/// mount of the machine.
pub(crate) fn unmount_at(point: &Path) -> Result<(), Error> {
    loop {
        match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted there, or it is not there.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::io("unmount", point)(e)),
        }
    }
}

fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(Error::io("read", "/proc/self/mountinfo"))?;
    let points = table.split(|b| *b == b'\n').filter_map(|line| line.split(|b| *b == b' ').nth(4));
    Ok(points
        .map(|p| PathBuf::from(OsString::from_vec(unescape(p))))
        .filter(|p| p.starts_with(dir))
        .collect())
}

/// The kernel writes blanks and backslashes of a path as three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        let octal =
            text.get(i + 1..i + 4).filter(|d| text[i] == b'\\' && d.iter().all(|b| (b'0'..b'8').contains(b)));
        if let Some(d) = octal {
            out.push(((d[0] - b'0') << 6).wrapping_add((d[1] - b'0') << 3).wrapping_add(d[2] - b'0'));
            i += 4;
        } else {
            out.push(text[i]);
            i += 1;
        }
    }
    out
}

/// Removes a directory and all below it; it may be gone already.
pub fn remove_tree(dir: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(Error::Path(dir.display().to_string()));
    };
    let failed = |e: Errno| Error::io("remove", dir)(e);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    let top = match open_below(
        &parent,
        &CString::new(name.as_encoded_bytes()).map_err(|_| failed(Errno::INVAL))?,
    ) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    empty(&top).map_err(failed)?;
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(failed)
}

fn open_below(dir: &OwnedFd, name: &CString) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        dir,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
}

/// Empties `top`. A directory found deeper is first moved up into `top` under a fresh name, so that the walk is
/// two levels deep at most, however deep the tree.
fn empty(top: &OwnedFd) -> Result<(), Errno> {
    let mut moved = 0_u64;
    let mut pending: Vec<CString> = Vec::new();
    sweep(top, |name| pending.push(name))?;
    while let Some(name) = pending.pop() {
        let dir = open_below(top, &name)?;
        let mut deeper = Vec::new();
        sweep(&dir, |inner| deeper.push(inner))?;
        for inner in deeper {
            let fresh = loop {
                moved += 1;
                let fresh = CString::new(format!(".stoa-remove-{moved}")).map_err(|_| Errno::INVAL)?;
                match rustix::fs::renameat_with(
                    dir.as_fd(),
                    &inner,
                    top,
                    &fresh,
                    rustix::fs::RenameFlags::NOREPLACE,
                ) {
                    Ok(()) => break fresh,
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
            };
            pending.push(fresh);
        }
        rustix::fs::unlinkat(top, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Unlinks every file and empty directory in `dir`, and tells of the directories that remain.
fn sweep(dir: &OwnedFd, mut full: impl FnMut(CString)) -> Result<(), Errno> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY) => full(name.to_owned()),
                Err(e) => return Err(e),
            },
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_tree_with_links_out_goes_and_the_outside_stays() {
        let tmp = tempfile::tempdir().unwrap();
        let outside = tmp.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("keep"), "x").unwrap();
        let dir = tmp.path().join("pod");
        std::fs::create_dir(&dir).unwrap();
        let mut deep = rustix::fs::open(&dir, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3_000 {
            rustix::fs::mkdirat(&deep, "d", Mode::from_raw_mode(0o755)).unwrap();
            rustix::fs::symlinkat(&outside, &deep, "link").unwrap();
            deep = rustix::fs::openat(&deep, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(deep);
        remove_tree(&dir).unwrap();
        assert!(!dir.exists());
        assert!(outside.join("keep").exists());
        remove_tree(&dir).unwrap();
    }

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        assert_eq!(unescape(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescape(b"/plain\\"), b"/plain\\");
    }
}
