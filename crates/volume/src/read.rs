//! Reads a small file that a container left in a volume. The path is walked inside the volume as if that were the whole
//! machine: whatever links lie there, and however fast they change, nothing outside is opened.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The contents of the regular file at `path` in `volume`, if there are no more than `len_max` bytes.
pub fn read_file(volume: &Path, path: &str, len_max: u64) -> io::Result<Vec<u8>> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    if path.is_empty() || path.contains('\0') {
        return Err(bad("invalid path"));
    }
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A FIFO must not hold the reader up, nor a terminal become its own.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), inside)?;
    let stat = rustix::fs::fstat(&found)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(bad("not a regular file"));
    }
    let mut bytes = Vec::new();
    // The size may have grown since it was asked for: what counts is what is read.
    File::from(found).take(len_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > len_max {
        return Err(bad("file is too long"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_volumes_own_regular_files_are_read() {
        let tmp = tempfile::tempdir().unwrap();
        let volume = tmp.path().join("v");
        fs::create_dir_all(volume.join("d")).unwrap();
        fs::write(volume.join("d/f"), "inside").unwrap();
        fs::write(tmp.path().join("secret"), "outside").unwrap();
        symlink("../secret", volume.join("up")).unwrap();
        symlink(tmp.path().join("secret"), volume.join("abs")).unwrap();
        symlink("/d/f", volume.join("in")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, volume.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let read = |path: &str| read_file(&volume, path, 6).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(read("d/f").unwrap(), "inside");
        // An absolute link starts at the volume, as it does in a container that has the volume for its root.
        assert_eq!(read("in").unwrap(), "inside");
        for bad in ["up", "abs", "../secret", "d", "fifo", "", "none"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read_file(&volume, "d/f", 5).is_err());
    }
}
