//! Makes an image of a directory: one layer, entries in sorted order, times zeroed, so that the same files give the same
//! digest.

use crate::Error;
use crate::error::file;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Directories above one entry.
const DEPTH_MAX: usize = 256;

/// Writes the tar of `dir` to `out`.
pub(crate) fn write_layer(dir: &Path, out: File) -> Result<(), Error> {
    let mut builder = tar::Builder::new(BufWriter::new(out));
    builder.mode(tar::HeaderMode::Complete);
    append(&mut builder, dir, &PathBuf::new(), 0)?;
    let mut inner = builder.into_inner().map_err(Error::Archive)?;
    inner.flush().map_err(Error::Archive)
}

fn append<W: Write>(
    builder: &mut tar::Builder<W>,
    root: &Path,
    relative: &Path,
    depth: usize,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::TooLarge("directories nest too deeply"));
    }
    let dir = root.join(relative);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(file("read", &dir))? {
        names.push(entry.map_err(file("read", &dir))?.file_name());
    }
    names.sort();
    for name in names {
        let inner = relative.join(&name);
        let path = root.join(&inner);
        let meta = std::fs::symlink_metadata(&path).map_err(file("read", &path))?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(meta.permissions().mode() & 0o7777);
        header.set_uid(u64::from(meta.uid()));
        header.set_gid(u64::from(meta.gid()));
        header.set_mtime(0);
        header.set_size(0);
        let kind = meta.file_type();
        let empty = std::io::empty();
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, &inner, empty).map_err(Error::Archive)?;
            append(builder, root, &inner, depth + 1)?;
        } else if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            let target = std::fs::read_link(&path).map_err(file("read", &path))?;
            builder.append_link(&mut header, &inner, &target).map_err(Error::Archive)?;
        } else if kind.is_file() {
            let opened = File::open(&path).map_err(file("read", &path))?;
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(meta.size());
            builder.append_data(&mut header, &inner, opened).map_err(Error::Archive)?;
        } else if kind.is_fifo() {
            header.set_entry_type(tar::EntryType::Fifo);
            builder.append_data(&mut header, &inner, empty).map_err(Error::Archive)?;
        } else {
            let shown = String::from_utf8_lossy(inner.as_os_str().as_bytes()).into_owned();
            return Err(Error::Hostile { entry: shown, why: "devices and sockets do not go into an image" });
        }
    }
    Ok(())
}
