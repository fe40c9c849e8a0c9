//! Checks a path of the machine against the type that a pod claims for it, and makes it where the type says so.

use crate::Error;
use std::fs;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Checks `path`, and makes it for the `OrCreate` types.
pub(crate) fn check_or_create(path: &str, kind: &str) -> Result<(), Error> {
    let at = Path::new(path);
    if !at.is_absolute() || path.split('/').any(|p| p == "..") {
        return Err(Error::Path(path.to_owned()));
    }
    match kind {
        "DirectoryOrCreate" if !at.exists() => {
            fs::create_dir_all(at).map_err(|e| Error::Words(refusal("mkdir", in_the_way(at), &e)))?;
            fs::set_permissions(at, fs::Permissions::from_mode(0o755)).map_err(Error::io("create", at))?;
        }
        "FileOrCreate" if !at.exists() => {
            let mut open = fs::OpenOptions::new();
            let made = open.write(true).create_new(true).mode(0o644).open(at);
            made.map_err(|e| Error::Words(refusal("open", at, &e)))?;
        }
        _ => {}
    }
    let is = |what: &'static str, test: fn(&fs::FileType) -> bool| match fs::metadata(at) {
        Ok(meta) if test(&meta.file_type()) => Ok(()),
        _ => Err(Error::HostPath { path: path.to_owned(), what }),
    };
    match kind {
        "" => {
            // With no type a kubelet lets the runtime make a missing directory.
            if at.exists() { Ok(()) } else { fs::create_dir_all(at).map_err(Error::io("create", at)) }
        }
        "Directory" | "DirectoryOrCreate" => is("a directory", fs::FileType::is_dir),
        "File" | "FileOrCreate" => is("a file", fs::FileType::is_file),
        "Socket" => is("a socket file", fs::FileType::is_socket),
        "CharDevice" => is("a character device", fs::FileType::is_char_device),
        "BlockDevice" => is("a block device", fs::FileType::is_block_device),
        _ => Err(Error::HostPath { path: path.to_owned(), what: "of a known type" }),
    }
}

/// The first part of a path that is no directory: where making all of it came to an end.
fn in_the_way(path: &Path) -> &Path {
    let mut all: Vec<&Path> = path.ancestors().collect();
    all.reverse();
    all.into_iter().find(|p| !p.is_dir()).unwrap_or(path)
}

/// A refused call in the words of Go's `PathError`, which a kubelet passes on.
fn refusal(call: &str, path: &Path, error: &std::io::Error) -> String {
    let words = error.to_string().to_lowercase();
    let words = words.split_once(" (os error").map_or(&*words, |(words, _)| words);
    format!("{call} {}: {words}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |n: &str| tmp.path().join(n).to_str().unwrap().to_owned();
        check_or_create(&at("d/e"), "DirectoryOrCreate").unwrap();
        check_or_create(&at("d/e"), "Directory").unwrap();
        check_or_create(&at("f"), "FileOrCreate").unwrap();
        check_or_create(&at("f"), "File").unwrap();
        for (name, kind, why) in [
            ("f", "Directory", "hostPath type check failed: {}/f is not a directory"),
            ("f", "DirectoryOrCreate", "hostPath type check failed: {}/f is not a directory"),
            ("f/x/y", "DirectoryOrCreate", "mkdir {}/f: not a directory"),
            ("d", "FileOrCreate", "hostPath type check failed: {}/d is not a file"),
            ("no/x", "FileOrCreate", "open {}/no/x: no such file or directory"),
        ] {
            let told = check_or_create(&at(name), kind).unwrap_err().to_string();
            assert_eq!(told, why.replace("{}", tmp.path().to_str().unwrap()));
        }
        assert!(check_or_create(&at("none"), "File").is_err());
        assert!(check_or_create("relative", "").is_err());
        assert!(check_or_create("/a/../b", "").is_err());
        check_or_create("/dev/null", "CharDevice").unwrap();
    }
}
