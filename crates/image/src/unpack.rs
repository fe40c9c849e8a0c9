//! Unpacks a layer into a directory of its own. Nothing in the tar can reach outside: every path is resolved by the
//! kernel inside the layer's root (`openat2` with `RESOLVE_IN_ROOT`), the last component is never followed, and `..` is
//! refused outright. Whiteouts become overlayfs' own marks.

use crate::Error;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use tar::{Entry, EntryType};

/// Entries of one layer.
const ENTRIES_MAX: u64 = 2_000_000;
/// Bytes of one path.
const PATH_LEN_MAX: usize = 4_096;
/// Directories above one entry.
const DEPTH_MAX: usize = 256;
/// Bytes of one extended attribute.
const XATTR_LEN_MAX: usize = 64 * 1024;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const XATTR_PREFIX: &str = "SCHILY.xattr.";

/// Unpacks the tar `reader` into the empty directory `root`, up to `bytes_max` of file content. Returns the bytes written.
pub(crate) fn unpack<R: Read>(reader: R, root: &Path, bytes_max: u64) -> Result<u64, Error> {
    let root = rfs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| crate::error::file("open", root)(e.into()))?;
    let mut archive = tar::Archive::new(reader);
    let mut written = 0;
    let mut count = 0u64;
    for entry in archive.entries().map_err(Error::Archive)? {
        count += 1;
        if count > ENTRIES_MAX {
            return Err(Error::TooLarge("too many entries in one layer"));
        }
        let mut entry = entry.map_err(Error::Archive)?;
        let path = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&path).into_owned();
        let placed = place(&root, &mut entry, &path, bytes_max - written);
        written += placed.map_err(|e| match e {
            Refusal::Hostile(why) => Error::Hostile { entry: shown.clone(), why },
            Refusal::Io(e) => Error::File { verb: "unpack", path: shown.clone().into(), cause: e },
        })?;
    }
    Ok(written)
}

enum Refusal {
    Hostile(&'static str),
    Io(io::Error),
}

impl From<Errno> for Refusal {
    fn from(e: Errno) -> Self {
        Refusal::Io(e.into())
    }
}

impl From<io::Error> for Refusal {
    fn from(e: io::Error) -> Self {
        Refusal::Io(e)
    }
}

/// The components of a path inside the layer; none for the root itself.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    if path.len() > PATH_LEN_MAX {
        return Err(Refusal::Hostile("its path is too long"));
    }
    if path.contains(&0) {
        return Err(Refusal::Hostile("its path contains a zero byte"));
    }
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(Refusal::Hostile("its path climbs with `..`"));
    }
    if parts.len() > DEPTH_MAX {
        return Err(Refusal::Hostile("its path is too deep"));
    }
    Ok(parts)
}

fn open_in(root: &OwnedFd, parts: &[&[u8]]) -> Result<OwnedFd, Errno> {
    let joined = parts.join(&b"/"[..]);
    let path = if joined.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(&joined) };
    rfs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// The directory `parts`, made with mode 0755 where it is missing.
fn make_dirs(root: &OwnedFd, parts: &[&[u8]]) -> Result<OwnedFd, Refusal> {
    match open_in(root, parts) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => {
            return Err(Refusal::Hostile("its directory is not a directory inside the layer"));
        }
        Err(e) => return Err(e.into()),
    }
    let Some((last, above)) = parts.split_last() else { return Err(Errno::NOENT.into()) };
    let parent = make_dirs(root, above)?;
    match rfs::mkdirat(&parent, OsStr::from_bytes(last), Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    open_in(root, parts).map_err(|e| match e {
        // A dangling link stands where the directory should be.
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR => Refusal::Hostile("its directory is a dangling link"),
        e => e.into(),
    })
}

/// Removes whatever stands at `name`, directories with what is in them.
fn clear(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Refusal> {
    match rfs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            let dir = rfs::openat(
                parent,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let mut names = Vec::new();
            for entry in rfs::Dir::read_from(&dir)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    names.push(entry.file_name().to_owned());
                }
            }
            for n in names {
                clear(dir.as_fd(), OsStr::from_bytes(n.to_bytes()))?;
            }
            Ok(rfs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(e) => Err(e.into()),
    }
}

fn place<R: Read>(root: &OwnedFd, entry: &mut Entry<'_, R>, path: &[u8], room: u64) -> Result<u64, Refusal> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(0);
    }
    let parts = components(path)?;
    let Some((last, above)) = parts.split_last() else {
        // The root directory itself: only its mode and owner matter.
        let dir =
            rfs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        set_owner_and_mode(&dir, entry)?;
        return Ok(0);
    };
    let parent = make_dirs(root, above)?;
    if *last == OPAQUE {
        let dir =
            rfs::openat(&parent, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rfs::fsetxattr(&dir, "trusted.overlay.opaque", b"y", rfs::XattrFlags::empty())?;
        return Ok(0);
    }
    if let Some(hidden) = last.strip_prefix(WHITEOUT) {
        if hidden.is_empty() || hidden.starts_with(WHITEOUT) {
            return Err(Refusal::Hostile("a whiteout of nothing"));
        }
        let name = OsStr::from_bytes(hidden);
        clear(parent.as_fd(), name)?;
        rfs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
        return Ok(0);
    }
    let name = OsStr::from_bytes(last);
    match kind {
        EntryType::Directory => place_directory(&parent, name, entry).map(|()| 0),
        EntryType::Symlink => {
            let target = entry.link_name_bytes().ok_or(Refusal::Hostile("a link to nothing"))?.into_owned();
            if target.is_empty() || target.len() > PATH_LEN_MAX {
                return Err(Refusal::Hostile("a link to nothing"));
            }
            clear(parent.as_fd(), name)?;
            rfs::symlinkat(OsStr::from_bytes(&target), &parent, name)?;
            let (uid, gid) = owner(entry)?;
            rfs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(0)
        }
        EntryType::Link => {
            let target = entry.link_name_bytes().ok_or(Refusal::Hostile("a link to nothing"))?.into_owned();
            let target = components(&target)?;
            let (source, dirs) = target.split_last().ok_or(Refusal::Hostile("a hard link to the root"))?;
            let dir = open_in(root, dirs).map_err(|_| Refusal::Hostile("a hard link out of the layer"))?;
            let source = OsStr::from_bytes(source);
            let stat = rfs::statat(&dir, source, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|_| Refusal::Hostile("a hard link to what is not in the layer"))?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                return Err(Refusal::Hostile("a hard link to a directory"));
            }
            let here = rfs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok();
            if here.is_some_and(|h| (h.st_dev, h.st_ino) == (stat.st_dev, stat.st_ino)) {
                return Ok(0);
            }
            clear(parent.as_fd(), name)?;
            rfs::linkat(&dir, source, &parent, name, AtFlags::empty())?;
            Ok(0)
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            clear(parent.as_fd(), name)?;
            let header = entry.header();
            let major = header.device_major().ok().flatten().unwrap_or(0);
            let minor = header.device_minor().ok().flatten().unwrap_or(0);
            let (file_type, device) = match kind {
                EntryType::Char => (FileType::CharacterDevice, rfs::makedev(major, minor)),
                EntryType::Block => (FileType::BlockDevice, rfs::makedev(major, minor)),
                _ => (FileType::Fifo, 0),
            };
            if file_type == FileType::CharacterDevice && device == 0 {
                return Err(Refusal::Hostile("an overlayfs whiteout in disguise"));
            }
            let mode = Mode::from_raw_mode(header.mode().map_err(Refusal::Io)? & 0o7777);
            rfs::mknodat(&parent, name, file_type, mode, device)?;
            let (uid, gid) = owner(entry)?;
            rfs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(0)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            place_file(&parent, name, entry, room)
        }
        _ => Err(Refusal::Hostile("an entry of unknown kind")),
    }
}

fn place_directory<R: Read>(parent: &OwnedFd, name: &OsStr, entry: &mut Entry<'_, R>) -> Result<(), Refusal> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rfs::openat(parent, name, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => {
            rfs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            rfs::openat(parent, name, flags, Mode::empty())?
        }
        Err(Errno::NOTDIR | Errno::LOOP) => {
            clear(parent.as_fd(), name)?;
            rfs::mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
            rfs::openat(parent, name, flags, Mode::empty())?
        }
        Err(e) => return Err(e.into()),
    };
    set_xattrs(&dir, entry)?;
    set_owner_and_mode(&dir, entry)
}

fn place_file<R: Read>(
    parent: &OwnedFd,
    name: &OsStr,
    entry: &mut Entry<'_, R>,
    room: u64,
) -> Result<u64, Refusal> {
    clear(parent.as_fd(), name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rfs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
    let mut out = std::fs::File::from(fd);
    // The holes of a sparse file are no bytes of the archive, whose length is bounded elsewhere.
    let n = io::copy(&mut entry.by_ref().take(room + 1), &mut out)?;
    if n > room {
        return Err(Refusal::Hostile("its files are too large when unpacked"));
    }
    out.flush()?;
    // Owner before attributes and mode: changing the owner clears set-user-id bits and file capabilities.
    let (uid, gid) = owner(entry)?;
    rfs::fchown(&out, Some(uid), Some(gid))?;
    set_xattrs(&out, entry)?;
    rfs::fchmod(&out, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?;
    let mtime = rfs::Timespec { tv_sec: entry.header().mtime()?.min(i64::MAX as u64) as i64, tv_nsec: 0 };
    rfs::futimens(&out, &rfs::Timestamps { last_access: mtime, last_modification: mtime })?;
    Ok(n)
}

fn owner<R: Read>(entry: &Entry<'_, R>) -> Result<(rfs::Uid, rfs::Gid), Refusal> {
    let narrow = |v: u64| u32::try_from(v).ok().filter(|v| *v != u32::MAX);
    let bad = Refusal::Hostile("its owner is not a user id");
    let uid = narrow(entry.header().uid()?).ok_or(bad)?;
    let gid = narrow(entry.header().gid()?).ok_or(Refusal::Hostile("its group is not a group id"))?;
    Ok((rfs::Uid::from_raw(uid), rfs::Gid::from_raw(gid)))
}

fn set_owner_and_mode<R: Read>(fd: &OwnedFd, entry: &Entry<'_, R>) -> Result<(), Refusal> {
    let (uid, gid) = owner(entry)?;
    rfs::fchown(fd, Some(uid), Some(gid))?;
    Ok(rfs::fchmod(fd, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?)
}

fn set_xattrs<R: Read>(fd: impl AsFd, entry: &mut Entry<'_, R>) -> Result<(), Refusal> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let Some(name) = extension.key().ok().and_then(|k| k.strip_prefix(XATTR_PREFIX)) else { continue };
        if name.starts_with("trusted.") {
            return Err(Refusal::Hostile("it sets a `trusted.` attribute, which is overlayfs' own"));
        }
        let value = extension.value_bytes();
        if value.len() > XATTR_LEN_MAX {
            return Err(Refusal::Hostile("an extended attribute is too long"));
        }
        match rfs::fsetxattr(&fd, name, value, rfs::XattrFlags::empty()) {
            // A file system without this kind of attribute is no reason to refuse an image.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
