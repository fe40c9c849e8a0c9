//! A container's log file in the form kubelets and log collectors read: `<time> <stream> <F|P> <text>`, long lines cut
//! into partial ones, rotated by size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stoa_units::Clock;

use super::plain::Plain;

/// Longer lines are written in parts.
const LINE_LEN_MAX: usize = 16 * 1024;

/// Which of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The file and what was read but not yet ended by a newline.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    written: u64,
    bytes_max: u64,
    files_max: u32,
    pending: [Vec<u8>; 2],
    clock: Arc<dyn Clock>,
    out: Vec<u8>,
    pub(crate) plain: Option<Plain>,
}

impl Log {
    pub(crate) fn open(
        path: &Path,
        bytes_max: u64,
        files_max: u32,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Log> {
        let file = open(path)?;
        let written = file.metadata()?.len();
        Ok(Log {
            path: path.to_path_buf(),
            file,
            written,
            bytes_max,
            files_max,
            pending: [Vec::new(), Vec::new()],
            clock,
            out: Vec::new(),
            plain: None,
        })
    }

    /// Takes what was read from a stream and writes the lines that are whole by now.
    pub(crate) fn take(&mut self, stream: Stream, mut bytes: &[u8]) {
        if let Some(plain) = &mut self.plain {
            plain.write(stream, bytes);
        }
        let stamp = self.stamp();
        while !bytes.is_empty() {
            let pending = &mut self.pending[stream as usize];
            let room = LINE_LEN_MAX - pending.len();
            match bytes.iter().take(room).position(|b| *b == b'\n') {
                Some(end) => {
                    pending.extend_from_slice(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                    self.line(stream, &stamp, 'F');
                }
                None => {
                    let taken = room.min(bytes.len());
                    pending.extend_from_slice(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    // A line of exactly the maximum is whole if its newline comes next.
                    if pending.len() == LINE_LEN_MAX && bytes.first() != Some(&b'\n') {
                        self.line(stream, &stamp, 'P');
                    } else if pending.len() == LINE_LEN_MAX {
                        bytes = &bytes[1..];
                        self.line(stream, &stamp, 'F');
                    }
                }
            }
        }
        self.flush();
    }

    /// The streams ended: what is left of them was ended by no newline, and a reader must not see one there.
    pub(crate) fn finish(&mut self) {
        let stamp = self.stamp();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.pending[stream as usize].is_empty() {
                self.line(stream, &stamp, 'P');
            }
        }
        self.flush();
    }

    fn stamp(&self) -> String {
        self.clock.now().0.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
    }

    fn line(&mut self, stream: Stream, stamp: &str, tag: char) {
        let text = std::mem::take(&mut self.pending[stream as usize]);
        self.out.extend_from_slice(format!("{stamp} {} {tag} ", stream.name()).as_bytes());
        self.out.extend_from_slice(&text);
        self.out.push(b'\n');
        if self.written + self.out.len() as u64 >= self.bytes_max {
            self.flush();
            self.rotate();
        }
    }

    /// A full disk must not stop the container: what cannot be written is lost.
    fn flush(&mut self) {
        if !self.out.is_empty() && self.file.write_all(&self.out).is_ok() {
            self.written += self.out.len() as u64;
        }
        self.out.clear();
    }

    fn rotate(&mut self) {
        let numbered = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        if self.files_max > 1 {
            for n in (1..self.files_max - 1).rev() {
                let _ = std::fs::rename(numbered(n), numbered(n + 1));
            }
            let _ = std::fs::rename(&self.path, numbered(1));
        } else {
            let _ = std::fs::remove_file(&self.path);
        }
        if let Ok(file) = open(&self.path) {
            self.file = file;
            self.written = 0;
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_units::{ManualClock, Time};

    fn log(directory: &Path, bytes_max: u64) -> Log {
        let clock = ManualClock::new(Time::parse("2026-01-02T03:04:05Z").unwrap());
        Log::open(&directory.join("0.log"), bytes_max, 3, Arc::new(clock)).unwrap()
    }

    fn read(directory: &Path, name: &str) -> String {
        std::fs::read_to_string(directory.join(name)).unwrap()
    }

    #[test]
    fn lines_are_stamped_and_streams_kept_apart() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), u64::MAX);
        log.take(Stream::Stdout, b"one\ntw");
        log.take(Stream::Stderr, b"oops\n");
        log.take(Stream::Stdout, b"o\nend");
        log.finish();
        assert_eq!(
            read(directory.path(), "0.log"),
            "2026-01-02T03:04:05.000000000Z stdout F one\n\
             2026-01-02T03:04:05.000000000Z stderr F oops\n\
             2026-01-02T03:04:05.000000000Z stdout F two\n\
             2026-01-02T03:04:05.000000000Z stdout P end\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_into_partial_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), u64::MAX);
        let mut bytes = vec![b'x'; LINE_LEN_MAX + 3];
        bytes.push(b'\n');
        bytes.extend(vec![b'y'; LINE_LEN_MAX]);
        bytes.push(b'\n');
        log.take(Stream::Stdout, &bytes);
        let text = read(directory.path(), "0.log");
        let tags: Vec<(&str, usize)> = text.lines().map(|l| (&l[38..39], l.len() - 40)).collect();
        assert_eq!(tags, [("P", LINE_LEN_MAX), ("F", 3), ("F", LINE_LEN_MAX)]);
    }

    #[test]
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 100);
        for n in 0..20 {
            log.take(Stream::Stdout, format!("line number {n:04}\n").as_bytes());
        }
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.1", "0.log.2"]);
        assert!(
            read(directory.path(), "0.log.1").contains("0019")
                || read(directory.path(), "0.log").contains("0019")
        );
    }
}
