//! Directories that are mount points of themselves, so that all that is mounted below one can be left behind at once; and the
//! machine's table of mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

/// A line of the table.
pub(crate) struct MountPoint {
    pub(crate) path: PathBuf,
    is_shared: bool,
}

/// Everything mounted where this process is.
pub(crate) fn table() -> io::Result<Vec<MountPoint>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().filter_map(parse).collect())
}

/// Makes `directory` a mount point, and of the propagation that what is mounted there had before; returns its path without
/// links. Where something is mounted below already it stays as it is: that would be hidden.
pub(crate) fn ensure(directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    let table = table()?;
    if table.iter().any(|m| m.path.starts_with(&directory)) {
        return Ok(directory);
    }
    let around = table.iter().filter(|m| directory.starts_with(&m.path));
    // Of several on one place the last covers the others.
    let parent = around.max_by_key(|m| m.path.as_os_str().len());
    mount_bind(&directory, &directory)?;
    // Out of its parent's group first: what is mounted below would else appear below the parent, too.
    mount_change(&directory, MountPropagationFlags::PRIVATE)?;
    if parent.is_some_and(|m| m.is_shared) {
        mount_change(&directory, MountPropagationFlags::SHARED)?;
    }
    Ok(directory)
}

fn parse(line: &str) -> Option<MountPoint> {
    let (before, _) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let path = PathBuf::from(unescape(fields.nth(4)?));
    Some(MountPoint { path, is_shared: fields.any(|f| f.starts_with("shared:")) })
}

/// The table writes blanks and the like as `\040`.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).and_then(|d| std::str::from_utf8(d).ok());
        match (bytes[at], digits.and_then(|d| u8::from_str_radix(d, 8).ok())) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_mount_points_are_read_back() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape("/plain"), "/plain");
        assert_eq!(unescape("/end\\"), "/end\\");
    }

    #[test]
    fn a_line_tells_where_and_whether_it_is_shared() {
        let line =
            |optional: &str| format!("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime {optional}- ext3 /dev/root rw");
        for (optional, is_shared) in [("", false), ("master:1 ", false), ("shared:7 master:1 ", true)] {
            let found = parse(&line(optional)).unwrap();
            assert_eq!((found.path.to_str(), found.is_shared), (Some("/mnt 2"), is_shared), "{optional}");
        }
        assert!(parse("").is_none());
    }
}
