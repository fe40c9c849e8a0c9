//! A second, plain copy of a container's output: files `stdout` and `stderr` in a directory that the container's user may
//! write to. Therefore nothing there is ever opened that was not made here, and no link is followed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::log::Stream;

/// The two files. One that cannot be written is done without: the log is the record.
pub(crate) struct Plain {
    files: [Option<Output>; 2],
    bytes_max: u64,
}

struct Output {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Plain {
    /// Begins anew in a directory.
    pub(crate) fn open(directory: &Path, owner: (u32, u32), bytes_max: u64) -> Plain {
        let open = |name: &str| {
            let path = directory.join(name);
            let file = create(&path)
                .and_then(|f| std::os::unix::fs::fchown(&f, Some(owner.0), Some(owner.1)).map(|()| f));
            file.inspect_err(|error| eprintln!("shim: no {}: {error}", path.display()))
                .ok()
                .map(|file| Output { path, file, written: 0 })
        };
        Plain { files: [open("stdout"), open("stderr")], bytes_max }
    }

    /// Takes what was read from a stream, as it is.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(output) = &mut self.files[stream as usize] else { return };
        if output.written >= self.bytes_max {
            let old = PathBuf::from(format!("{}.1", output.path.display()));
            let _ = std::fs::rename(&output.path, old);
            if let Ok(file) = create(&output.path) {
                output.file = file;
                output.written = 0;
            }
        }
        if output.file.write_all(bytes).is_ok() {
            output.written += bytes.len() as u64;
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().append(true).create_new(true).mode(0o644).custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_copied_as_it_is_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (directory.path().join("box"), directory.path().join("precious"));
        std::fs::create_dir(&here).unwrap();
        std::fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, here.join("stdout")).unwrap();
        let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let mut plain = Plain::open(&here, me, 8);
        plain.write(Stream::Stdout, b"no newline");
        plain.write(Stream::Stderr, b"bad\n");
        plain.write(Stream::Stdout, b"next");
        let read = |name: &str| std::fs::read_to_string(here.join(name)).unwrap();
        assert_eq!(
            (read("stdout.1"), read("stdout"), read("stderr")),
            ("no newline".into(), "next".into(), "bad\n".into())
        );
        assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), "untouched");
    }
}
