//! Checkpoints: everything that existed at the compaction revision, so that the log before it can go.
//!
//! One is written by a thread of its own from a snapshot, while the writer goes on. Since it is taken at the *compaction*
//! revision and the log after that is kept, opening the store brings back not only the present but also all of history, with
//! the value before each change.

use crate::header::{FileKind, HEADER_LEN, Header, random_salt};
use crate::index::Index;
use crate::log::{checkpoint_name, create_temporary, finish_temporary};
use crate::{Entry, Error, frame};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use stoa_units::Revision;

/// How much is written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes the state at `index`'s compaction revision. Gives up when told to stop.
pub(crate) fn write(dir: &Path, cluster: &str, index: &Index, stop: &AtomicBool) -> io::Result<Revision> {
    let pin = index.pin_compacted();
    let mut chunks = Chunks::begin(dir, cluster, pin.at())?;
    let temporary = chunks.temporary.clone();
    let mut count = 0;
    let written = pin.each(|entry| {
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the store is closing"));
        }
        count += 1;
        chunks.entry(&entry)
    });
    let written = written.and_then(|()| chunks.end(count));
    if written.is_err() {
        // Half a checkpoint only takes the room that a full disk lacks; if it cannot go now, it goes at the next start.
        let _ = fs::remove_file(temporary);
    }
    written.map(|()| pin.at())
}

/// A checkpoint that is being written.
struct Chunks {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    salt: u64,
    offset: u64,
    chunk: frame::Writer,
}

impl Chunks {
    fn begin(dir: &Path, cluster: &str, at: Revision) -> io::Result<Chunks> {
        let path = dir.join(checkpoint_name(at));
        let salt = random_salt();
        let header = Header { kind: FileKind::Checkpoint, cluster: cluster.to_owned(), revision: at, salt };
        let (mut file, temporary) = create_temporary(&path)?;
        file.write_all(&header.to_bytes())?;
        let mut chunk = frame::Writer::default();
        chunk.clear();
        Ok(Chunks { path, temporary, file, salt, offset: HEADER_LEN as u64, chunk })
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.chunk.entry(entry);
        if self.chunk.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = self.chunk.seal(self.salt, self.offset);
        self.file.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        self.chunk.clear();
        Ok(())
    }

    fn end(mut self, count: u64) -> io::Result<()> {
        self.chunk.end(count);
        self.flush()?;
        finish_temporary(&self.file, &self.temporary, &self.path)
    }
}

/// Reads a checkpoint back.
pub(crate) fn read(path: &Path) -> Result<(Header, Index), Error> {
    let io = |cause| Error::io(format!("read {}", path.display()), cause);
    let corrupt = |what: &str| Error::Corrupt { path: path.to_owned(), what: what.to_owned() };
    let mut input = BufReader::with_capacity(256 * 1024, File::open(path).map_err(io)?);
    let mut head = Vec::with_capacity(HEADER_LEN);
    input.by_ref().take(HEADER_LEN as u64).read_to_end(&mut head).map_err(io)?;
    let header = Header::parse(path, &head, FileKind::Checkpoint)?;
    let index = Index::starting_at(header.revision);
    let mut frames = frame::Reader::new(input, header.salt);
    let (mut count, mut end) = (0, None);
    loop {
        let payload = match frames.next().map_err(io)? {
            frame::Next::Frame(payload) if end.is_none() => payload,
            frame::Next::End if end == Some(count) => return Ok((header, index)),
            frame::Next::End => return Err(corrupt("it is cut short")),
            frame::Next::Frame(_) => return Err(corrupt("something follows its end")),
            frame::Next::Damaged { offset, what } => {
                return Err(corrupt(&format!("{what}, at byte {offset}")));
            }
        };
        for record in frame::records(&payload).ok_or_else(|| corrupt("a frame holds no records"))? {
            match record {
                frame::Record::Entry(entry) if end.is_none() && entry.modified <= header.revision => {
                    index.restore(entry);
                    count += 1;
                }
                frame::Record::End(n) if end.is_none() => end = Some(n),
                _ => return Err(corrupt("a record is out of place")),
            }
        }
    }
}
