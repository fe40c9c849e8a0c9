//! Opening what a former process left: the newest checkpoint, then the log after it.
//!
//! Nothing is changed on disk before all of it has been read and found good; then a write that a crash cut short is taken
//! off the end of the log, and files that the checkpoint made needless are removed.

use crate::draft::Draft;
use crate::frame::{self, Next, Record, has_frame_after};
use crate::header::{FileKind, HEADER_LEN, Header};
use crate::index::Index;
use crate::log::{Log, Segment, TEMPORARY, checkpoint_name, segment_name, sync_dir};
use crate::{Error, Event, Options, checkpoint};
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stoa_units::Revision;

/// What was found.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) history: VecDeque<Arc<Event>>,
    pub(crate) log: Log,
    /// The newest checkpoint; zero if there is none.
    pub(crate) checkpoint: Revision,
}

/// The store's files by name.
#[derive(Default)]
struct Files {
    segments: Vec<(Revision, PathBuf)>,
    checkpoints: Vec<(Revision, PathBuf)>,
    temporary: Vec<PathBuf>,
}

/// Reads all of it, or begins anew in a directory that has none of our files.
pub(crate) fn recover(dir: &Path, options: &Options) -> Result<Recovered, Error> {
    let files = list(dir)?;
    let mut replay = Replay::default();
    let mut cluster = (!options.cluster.is_empty()).then(|| options.cluster.clone());
    let newest = files.checkpoints.last();
    if let Some((at, path)) = newest {
        let (header, index) = checkpoint::read(path)?;
        header.check_cluster(path, cluster.get_or_insert_with(|| header.cluster.clone()))?;
        check_revision(path, &header, *at)?;
        replay.index = index;
    }
    let at = replay.index.compacted();
    let checkpoint = newest.map_or(Revision::ZERO, |(at, _)| *at);
    // Those segments that end at or before the checkpoint: a crash came between writing it and removing them.
    let needless = files.segments.windows(2).take_while(|pair| pair[1].0 <= at.next()).count();
    let (old, needed) = files.segments.split_at(needless);
    check_chain(dir, at, needed, newest.is_some())?;

    let mut segments = VecDeque::new();
    let (mut salt, mut cut) = (0, None);
    for (i, (first, path)) in needed.iter().enumerate() {
        let bytes = fs::read(path).map_err(|cause| Error::io(format!("read {}", path.display()), cause))?;
        let header = Header::parse(path, &bytes, FileKind::Log)?;
        header.check_cluster(path, cluster.get_or_insert_with(|| header.cluster.clone()))?;
        check_revision(path, &header, *first)?;
        if *first > replay.index.revision().next() {
            let what = format!("transactions before revision {first} are missing");
            return Err(Error::Corrupt { path: path.clone(), what });
        }
        let good = replay.segment(path, &bytes, header.salt, i + 1 == needed.len())?;
        let rest = &bytes[good as usize..];
        if !rest.is_empty() && i + 1 == needed.len() {
            cut = Some((path.clone(), good, rest.len(), is_zero(rest)));
        }
        salt = header.salt;
        segments.push_back(Segment { path: path.clone(), first: *first, bytes: good });
    }

    if let Some((path, good, lost, is_zero)) = cut {
        if !is_zero {
            tracing::warn!(path = %path.display(), bytes = lost, "cut off a write that a crash left unfinished");
        }
        truncate(&path, good).map_err(|cause| Error::io(format!("truncate {}", path.display()), cause))?;
    }
    // A process that was killed just after a rename has not made it durable: what relies on the new names comes after this.
    sync_dir(dir).map_err(|cause| Error::io(format!("sync {}", dir.display()), cause))?;
    let older = files.checkpoints.iter().rev().skip(1);
    for path in older.chain(old).map(|(_, path)| path).chain(&files.temporary) {
        fs::remove_file(path).map_err(|cause| Error::io(format!("remove {}", path.display()), cause))?;
    }
    let cluster = cluster.unwrap_or_default();
    let log = if segments.is_empty() {
        Log::create(dir, &cluster, replay.index.revision().next())
    } else {
        Log::open(dir, &cluster, segments, salt)
    };
    let log = log.map_err(|cause| Error::io(format!("open the log in {}", dir.display()), cause))?;
    Ok(Recovered { index: replay.index, history: replay.history, log, checkpoint })
}

fn list(dir: &Path) -> Result<Files, Error> {
    let io = |cause| Error::io(format!("list {}", dir.display()), cause);
    let mut files = Files::default();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let (stem, unfinished) = match name.strip_suffix(TEMPORARY).and_then(|s| s.strip_suffix('.')) {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        let number = |prefix: &str| stem.strip_prefix(prefix).and_then(Revision::parse);
        let (list, revision, proper) = if let Some(r) = number("log-") {
            (&mut files.segments, r, segment_name(r))
        } else if let Some(r) = number("checkpoint-") {
            (&mut files.checkpoints, r, checkpoint_name(r))
        } else {
            continue;
        };
        if proper != stem {
            continue;
        }
        if unfinished { files.temporary.push(path) } else { list.push((revision, path)) }
    }
    files.segments.sort();
    files.checkpoints.sort();
    Ok(files)
}

/// The log must go on where the checkpoint ends.
fn check_chain(
    dir: &Path,
    at: Revision,
    needed: &[(Revision, PathBuf)],
    has_checkpoint: bool,
) -> Result<(), Error> {
    match needed.first() {
        Some((first, path)) if *first > at.next() => {
            let what = format!("the log before revision {first} is missing");
            Err(Error::Corrupt { path: path.clone(), what })
        }
        None if has_checkpoint => {
            let what = "it has a checkpoint but no log".to_owned();
            Err(Error::Corrupt { path: dir.to_owned(), what })
        }
        _ => Ok(()),
    }
}

fn check_revision(path: &Path, header: &Header, named: Revision) -> Result<(), Error> {
    if header.revision == named {
        return Ok(());
    }
    let what = format!("its name says revision {named}, its header {}", header.revision);
    Err(Error::Corrupt { path: path.to_owned(), what })
}

fn truncate(path: &Path, len: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

/// Carries out again what the log says.
#[derive(Default)]
struct Replay {
    index: Index,
    history: VecDeque<Arc<Event>>,
}

impl Replay {
    /// Replays a segment and returns how much of it is good: all but zeros at its end, unless it is the last one and ends in a torn
    /// write. That nothing is missing where zeros stand is for the next segment to say.
    fn segment(&mut self, path: &Path, bytes: &[u8], salt: u64, last: bool) -> Result<u64, Error> {
        let corrupt = |what: String| Error::Corrupt { path: path.to_owned(), what };
        let mut frames = frame::Reader::new(&bytes[HEADER_LEN..], salt);
        loop {
            let offset = frames.offset();
            let next = frames.next().map_err(|cause| Error::io(format!("read {}", path.display()), cause))?;
            let payload = match next {
                Next::Frame(payload) => payload,
                Next::End => return Ok(offset),
                Next::Damaged { offset, .. } if is_zero(&bytes[offset as usize..]) => return Ok(offset),
                Next::Damaged { offset, .. } if last && !has_frame_after(bytes, offset, salt) => {
                    return Ok(offset);
                }
                Next::Damaged { offset, what } => {
                    return Err(corrupt(format!("{what}, at byte {offset}")));
                }
            };
            let records = frame::records(&payload)
                .ok_or_else(|| corrupt(format!("a frame holds no records, at byte {offset}")))?;
            for record in records {
                self.record(record).map_err(|what| corrupt(format!("{what}, at byte {offset}")))?;
            }
        }
    }

    fn record(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Txn { revision, .. } if revision <= self.index.compacted() => Ok(()),
            Record::Txn { revision, ops } => {
                let mut draft = Draft::new(&self.index, ops.len());
                draft.replay(revision, ops)?;
                self.history.extend(draft.publish());
                Ok(())
            }
            Record::Compact(to) if to <= self.index.compacted() => Ok(()),
            Record::Compact(to) if to > self.index.revision() => {
                Err(format!("a compaction to revision {to}, which has not happened"))
            }
            Record::Compact(to) => {
                let end = self.history.partition_point(|event| event.revision <= to);
                self.history.drain(..end);
                self.index.compact(to);
                Ok(())
            }
            Record::Entry(_) | Record::End(_) => Err("a record of a checkpoint".to_owned()),
        }
    }
}
