//! Places for mounts where an image has a link that leads to nothing yet: `/etc/resolv.conf` of many a distribution is one.
//! What it names is made, inside the container's root whatever it says, so that the mount finds it there.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::io::Errno;

/// Links followed on one way, as the kernel has it.
const LINKS_MAX: usize = 40;

/// Whether a directory or a file is mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Makes what `destination` leads to in `root` by way of a link, if it is missing. Where no link is on the way it is left
/// to who mounts. Nobody else has the root in hand yet.
pub(super) fn make(root: &Path, destination: &Path, kind: Kind) -> io::Result<()> {
    let base = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let Some(place) = behind_links(root, destination)? else { return Ok(()) };
    let mut at = open_inside(&base, Path::new("."))?;
    let mut way = PathBuf::new();
    let mut parts = place.iter().peekable();
    while let Some(part) = parts.next() {
        way.push(part);
        if parts.peek().is_none() && kind == Kind::File {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
            let made = rustix::fs::openat(&at, part, flags | OFlags::EXCL, Mode::from_raw_mode(0o644));
            return match made {
                Ok(_) | Err(Errno::EXIST) => Ok(()),
                Err(e) => Err(e.into()),
            };
        }
        match mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
        at = open_inside(&base, &way)?;
    }
    Ok(())
}

/// A directory of the root by a path without links.
fn open_inside(base: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(openat2(base, path, flags, Mode::empty(), strict)?)
}

/// The path, relative to the root and without links, that a path with links leads to; none where it has no link.
fn behind_links(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let mut todo: VecDeque<OsString> = parts(path).collect();
    let mut done = PathBuf::new();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            // Above the root is the root.
            done.pop();
            continue;
        }
        let here = root.join(&done).join(&part);
        match std::fs::read_link(&here) {
            Ok(to) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                if to.is_absolute() {
                    done = PathBuf::new();
                }
                for part in parts(&to).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(part);
                }
            }
            // Not there, or no link.
            Err(_) => done.push(part),
        }
    }
    Ok((links > 0).then_some(done))
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|c| match c {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_a_link_leads_to_is_made_inside_and_nothing_outside() {
        let tmp = tempfile::tempdir().unwrap();
        let (root, outside) = (tmp.path().join("root"), tmp.path().join("outside"));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink("../run/systemd/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink(outside.join("hosts"), root.join("etc/hosts")).unwrap();
        symlink("../../../../../../outside", root.join("up")).unwrap();
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        let make = |path: &str, kind| make(&root, Path::new(path), kind);
        make("/etc/resolv.conf", Kind::File).unwrap();
        make("/etc/resolv.conf", Kind::File).unwrap();
        make("/etc/hosts", Kind::File).unwrap();
        make("/up/data", Kind::Directory).unwrap();
        make("/etc/plain", Kind::File).unwrap();
        assert!(make("/a/x", Kind::File).is_err());
        assert!(root.join("run/systemd/resolve/stub.conf").is_file());
        assert!(root.join(outside.strip_prefix("/").unwrap()).join("hosts").is_file());
        assert!(root.join("outside/data").is_dir());
        assert!(!root.join("etc/plain").exists(), "that is not a link's business");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
