//! The log: segments of frames, appended to and synced by the writer alone, removed from the front once a checkpoint covers
//! them.
//!
//! A sync of a file that has grown writes down its length too, which costs as much as the data. So small frames go over zeros that
//! were put at the end before, many frames' worth at a time; whoever reads a segment takes zeros at its end for its end.

use crate::frame;
use crate::header::{FileKind, HEADER_LEN, Header, random_salt};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use stoa_units::Revision;

/// What readers of the data directory may do: nothing, except for the owner. Secrets are in there.
const FILE_MODE: u32 = 0o600;
/// What small frames are put over.
static ZEROS: [u8; 512 << 10] = [0; 512 << 10];
/// From this size on a frame is put at the end of the file: zeros before it would only be written in vain.
const LARGE_BYTES_MIN: usize = 64 << 10;

/// A file of the log.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// The first revision that it may hold.
    pub(crate) first: Revision,
    pub(crate) bytes: u64,
}

/// Why nothing was appended.
pub(crate) enum AppendError {
    /// The log is as it was before; the next append may work.
    Refused(io::Error),
    /// It is not known what is on disk.
    Lost(io::Error),
}

/// The log, open at its end.
pub(crate) struct Log {
    dir: PathBuf,
    cluster: String,
    segments: VecDeque<Segment>,
    file: File,
    /// The length of that file; what is beyond the segment's bytes is zero.
    len: u64,
    salt: u64,
}

pub(crate) fn segment_name(first: Revision) -> String {
    format!("log-{:020}", first.0)
}

pub(crate) fn checkpoint_name(at: Revision) -> String {
    format!("checkpoint-{:020}", at.0)
}

impl Log {
    /// Continues with the last of `segments`, whose salt is `salt`.
    pub(crate) fn open(dir: &Path, cluster: &str, segments: VecDeque<Segment>, salt: u64) -> io::Result<Log> {
        let Some(last) = segments.back() else {
            return Err(io::Error::other("a log has at least one segment"));
        };
        let file = OpenOptions::new().write(true).open(&last.path)?;
        // A process that was killed between write and sync leaves a whole frame in the page cache. It was replayed and is
        // about to be shown to readers: from now on no power cut may take it back.
        file.sync_data()?;
        let len = last.bytes;
        Ok(Log { dir: dir.to_owned(), cluster: cluster.to_owned(), segments, file, len, salt })
    }

    /// Begins a log at `first`.
    pub(crate) fn create(dir: &Path, cluster: &str, first: Revision) -> io::Result<Log> {
        let (segment, file, salt) = create_segment(dir, cluster, first)?;
        let len = segment.bytes;
        let segments = VecDeque::from([segment]);
        Ok(Log { dir: dir.to_owned(), cluster: cluster.to_owned(), segments, file, len, salt })
    }

    /// Appends a frame. When this returns `Ok` the frame is on disk.
    pub(crate) fn append(&mut self, frame: &mut frame::Writer) -> Result<(), AppendError> {
        let Some(segment) = self.segments.back_mut() else {
            return Err(AppendError::Lost(io::Error::other("a log has at least one segment")));
        };
        let bytes = frame.seal(self.salt, segment.bytes);
        let end = segment.bytes + bytes.len() as u64;
        // Where there is no room for zeros there may be some for the frame.
        if end > self.len && bytes.len() < LARGE_BYTES_MIN && self.file.write_all_at(&ZEROS, self.len).is_ok()
        {
            self.len += ZEROS.len() as u64;
        }
        if let Err(cause) = self.file.write_all_at(bytes, segment.bytes) {
            // A full disk leaves part of the frame behind. What was never synced and never acknowledged can be cut off.
            return Err(match self.file.set_len(segment.bytes) {
                Ok(()) => {
                    self.len = segment.bytes;
                    AppendError::Refused(cause)
                }
                Err(_) => AppendError::Lost(cause),
            });
        }
        // After a failed sync the kernel may have dropped the dirty pages: trying again would prove nothing.
        self.file.sync_data().map_err(AppendError::Lost)?;
        segment.bytes = end;
        self.len = self.len.max(end);
        Ok(())
    }

    /// Takes the zeros off the end, which nothing more is put over.
    fn trim(&mut self) {
        let Some(segment) = self.segments.back() else { return };
        if self.len > segment.bytes && self.file.set_len(segment.bytes).is_ok() {
            self.len = segment.bytes;
        }
    }

    /// Begins a new segment if the last one is larger than `bytes_max`. After [`AppendError::Refused`] the old one goes on.
    pub(crate) fn rotate(&mut self, bytes_max: u64, next: Revision) -> Result<(), AppendError> {
        if self.segments.back().is_some_and(|s| s.bytes <= bytes_max || s.first >= next) {
            return Ok(());
        }
        let (segment, file, salt) = create_segment(&self.dir, &self.cluster, next).map_err(|cause| {
            // With the new segment in its place, opening the store would believe that the old one ends before it: nothing
            // may be appended there any more.
            let ours = cause.kind() != io::ErrorKind::AlreadyExists;
            let placed = self.dir.join(segment_name(next)).try_exists().unwrap_or(true);
            if ours && placed { AppendError::Lost(cause) } else { AppendError::Refused(cause) }
        })?;
        self.trim();
        (self.file, self.len, self.salt) = (file, segment.bytes, salt);
        self.segments.push_back(segment);
        Ok(())
    }

    /// How many bytes a checkpoint at `at` would free.
    pub(crate) fn bytes_through(&self, at: Revision) -> u64 {
        let next = self.segments.iter().skip(1);
        self.segments
            .iter()
            .zip(next)
            .take_while(|(_, next)| next.first <= at.next())
            .map(|(s, _)| s.bytes)
            .sum()
    }

    /// Removes the segments that hold nothing after `at`.
    pub(crate) fn remove_through(&mut self, at: Revision) -> io::Result<()> {
        while self.segments.get(1).is_some_and(|next| next.first <= at.next()) {
            fs::remove_file(&self.segments[0].path)?;
            self.segments.pop_front();
        }
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.trim();
    }
}

fn create_segment(dir: &Path, cluster: &str, first: Revision) -> io::Result<(Segment, File, u64)> {
    let header =
        Header { kind: FileKind::Log, cluster: cluster.to_owned(), revision: first, salt: random_salt() };
    let path = dir.join(segment_name(first));
    let (mut file, temporary) = create_temporary(&path)?;
    file.write_all(&header.to_bytes())?;
    // Opened before the rename, which it outlives: a lack of descriptors must not come between.
    let file = OpenOptions::new().write(true).open(&temporary)?;
    finish_temporary(&file, &temporary, &path)?;
    Ok((Segment { path, first, bytes: HEADER_LEN as u64 }, file, header.salt))
}

/// Creates the file that is to become `path` when it is complete.
pub(crate) fn create_temporary(path: &Path) -> io::Result<(File, PathBuf)> {
    let temporary = path.with_extension(TEMPORARY);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&temporary)?;
    Ok((file, temporary))
}

/// What unfinished files end with; they are removed when the store is opened.
pub(crate) const TEMPORARY: &str = "tmp";

/// Puts a complete file in its place, durably: no crash leaves a part of it there.
pub(crate) fn finish_temporary(file: &File, temporary: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    // A file of that name would be one that somebody else put there: it is not ours to overwrite.
    if path.try_exists()? {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is in the way", path.display()),
        ));
    }
    let dir = File::open(path.parent().unwrap_or(Path::new("/")))?;
    fs::rename(temporary, path)?;
    dir.sync_all()
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
