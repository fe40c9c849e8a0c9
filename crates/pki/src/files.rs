//! Key files: written whole or not at all, and never readable by others.

use crate::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |cause| Error::File { verb, path: path.to_path_buf(), cause }
}

/// Makes `dir` and its parents with mode 0700.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))
}

/// Writes `text` to a temporary sibling, syncs it, and renames it into place.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    // A sibling of its own, made anew: what a crash left of a certificate would lend its open mode to a key.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    match fs::remove_file(&tmp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("remove", &tmp)(e)),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&tmp)
        .map_err(failed("write", &tmp))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write", &tmp))?;
    fs::rename(&tmp, path).map_err(failed("write", path))?;
    // An authority that clients already trust must not be gone after a power cut.
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(failed("sync", dir))
}

/// Reads a text file; `None` if it does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

/// Reads a private key, refusing one that others can read.
pub(crate) fn read_private(path: &Path) -> Result<Option<String>, Error> {
    let Some(text) = read(path)? else { return Ok(None) };
    let mode = fs::metadata(path).map_err(failed("read", path))?.mode();
    if mode & 0o077 != 0 {
        return Err(Error::Exposed(path.to_path_buf()));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_lends_its_mode_to_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("server.key");
        for left in ["server.tmp", "server.key.tmp"] {
            let left = dir.path().join(left);
            fs::write(&left, "half a certificate").unwrap();
            fs::set_permissions(&left, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        }
        write(&key, "k", 0o600).unwrap();
        assert_eq!(read_private(&key).unwrap().as_deref(), Some("k"));
    }
}
