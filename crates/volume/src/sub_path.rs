//! A part of a volume as a mount of its own. The part is opened inside the volume with no way out (a container may be
//! swapping links in it at this moment) and that very descriptor is bound to a place only the agent writes.

use crate::Error;
use crate::remove::unmount_at;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

/// Below the directory, and through no link.
const STRICT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Binds `sub_path` of the volume at `volume` to `target`, which is made; a missing part is made as a directory.
pub(crate) fn bind(volume: &Path, sub_path: &str, target: &Path, group: Option<u32>) -> Result<(), Error> {
    let escapes =
        Path::new(sub_path).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir));
    if sub_path.is_empty() || escapes {
        return Err(Error::Path(sub_path.to_owned()));
    }
    bind_opened(&open_or_create(volume, sub_path, group)?, &volume.join(sub_path), target)
}

/// The same for an image: its links are its own, so that `/` in one of them is the image's root, and nothing is made.
pub(crate) fn bind_of_image(volume: &Path, sub_path: &str, target: &Path) -> Result<(), Error> {
    let failed = |e: Errno| Error::io("open", volume.join(sub_path))(e);
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let part = rustix::fs::openat2(&root, sub_path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside);
    bind_opened(&part.map_err(failed)?, &volume.join(sub_path), target)
}

/// Binds what was opened, whatever its name leads to by now.
fn bind_opened(part: &OwnedFd, name: &Path, target: &Path) -> Result<(), Error> {
    let is_dir = rustix::fs::fstat(part)
        .map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_dir())
        .map_err(Error::io("read", name))?;
    unmount_at(target)?;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    if is_dir {
        fs::create_dir_all(target).map_err(Error::io("create", target))?;
    } else {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(target)
            .map_err(Error::io("create", target))?;
    }
    let source = format!("/proc/self/fd/{}", part.as_raw_fd());
    rustix::mount::mount_bind_recursive(source.as_str(), target).map_err(Error::io("bind", target))
}

fn open_or_create(volume: &Path, sub_path: &str, group: Option<u32>) -> Result<OwnedFd, Error> {
    let failed = |e: Errno| Error::io("open", volume.join(sub_path))(e);
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    // `..data` and its like are links within the volume: they are followed, never out of it.
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&root, sub_path, flags, Mode::empty(), inside) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(e) => return Err(failed(e)),
    }
    // What is made belongs to the volume: it may be used by whom the volume may.
    let like = rustix::fs::fstat(&root).map_err(failed)?.st_mode & 0o7777;
    let mut at =
        rustix::fs::openat2(&root, ".", flags | OFlags::DIRECTORY, Mode::empty(), inside).map_err(failed)?;
    for part in sub_path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                let gid = group.map(rustix::fs::Gid::from_raw);
                let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(&at, part, None, gid, nofollow).map_err(failed)?;
                // A descriptor, not the name: the process's umask must not cut the mode, nor a swapped link lead away.
                let made =
                    rustix::fs::openat2(&at, part, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), STRICT);
                let made = made.map_err(failed)?;
                rustix::fs::fchmod(&made, Mode::from_raw_mode(like)).map_err(failed)?;
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(failed(e)),
        }
        at = rustix::fs::openat2(&at, part, flags | OFlags::DIRECTORY, Mode::empty(), STRICT)
            .map_err(failed)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_swapped_in_while_a_part_is_opened_leads_nowhere() {
        let tmp = tempfile::tempdir().unwrap();
        let (volume, outside) = (tmp.path().join("v"), tmp.path().join("outside"));
        fs::create_dir_all(outside.join("y")).unwrap();
        fs::create_dir_all(volume.join("x/y")).unwrap();
        std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
        let secret = std::os::unix::fs::MetadataExt::ino(&fs::metadata(outside.join("y")).unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let (a, b) = (volume.join("x"), volume.join("link"));
                    rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, exchange).unwrap();
                }
            });
            let mut opened = 0;
            for _ in 0..20_000 {
                if let Ok(part) = open_or_create(&volume, "x/y", None) {
                    opened += 1;
                    assert_ne!(rustix::fs::fstat(&part).unwrap().st_ino, secret);
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(opened > 0);
        });
        // Nothing was made out there either.
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn a_part_never_lies_outside_its_volume() {
        let tmp = tempfile::tempdir().unwrap();
        let volume = tmp.path().join("v");
        fs::create_dir(&volume).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("abs")).unwrap();
        std::os::unix::fs::symlink("../..", volume.join("up")).unwrap();
        fs::create_dir(volume.join("real")).unwrap();
        std::os::unix::fs::symlink("real", volume.join("in")).unwrap();
        for bad in ["abs", "up", "abs/passwd", "up/x"] {
            assert!(open_or_create(&volume, bad, None).is_err(), "{bad}");
        }
        for bad in ["", "../x", "/etc", "a/../../b"] {
            assert!(bind(&volume, bad, &tmp.path().join("t"), None).is_err(), "{bad}");
        }
        open_or_create(&volume, "in", None).unwrap();
        open_or_create(&volume, "new/dir", None).unwrap();
        let mode = |p: &Path| {
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(p).unwrap().permissions()) & 0o777
        };
        assert_eq!(mode(&volume.join("new/dir")), mode(&volume));
    }
}
