//! Frames: what is written to a file at once and found again whole or not at all.
//!
//! A frame is `magic, length, checksum, payload`. Magic and checksum depend on the file's salt, the checksum on the frame's
//! place too. A payload is a list of records. In the log each frame is one batch: the next one is written only after it is
//! on disk, so a damaged frame with a good one behind it is corruption, and one with nothing behind it is a write that a
//! crash cut short and that nobody was told of.

use crate::header::{Fields, HEADER_LEN};
use crate::{Entry, Event, EventKind, Key};
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::Arc;
use stoa_units::Revision;

/// Largest payload. A batch of the writer stays well below it.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;
const FRAME_HEADER_LEN: usize = 12;

const TXN: u8 = 1;
const COMPACT: u8 = 2;
const ENTRY: u8 = 3;
const END: u8 = 4;

/// One thing that is written down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A transaction.
    Txn { revision: Revision, ops: Vec<(EventKind, Key, Bytes)> },
    /// History before this was forgotten.
    Compact(Revision),
    /// An entry of a checkpoint.
    Entry(Entry),
    /// A checkpoint ends here, with this many entries.
    End(u64),
}

/// Puts records together.
#[derive(Default)]
pub(crate) struct Writer {
    buf: Vec<u8>,
}

impl Writer {
    /// Begins a frame; the memory of the last one is used again, unless it was unusually large.
    pub(crate) fn clear(&mut self) {
        self.buf.clear();
        self.buf.shrink_to(2 << 20);
        self.buf.resize(FRAME_HEADER_LEN, 0);
    }

    /// True if no record was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.buf.len() <= FRAME_HEADER_LEN
    }

    pub(crate) fn len(&self) -> usize {
        self.buf.len()
    }

    pub(crate) fn txn(&mut self, revision: Revision, events: &[Arc<Event>]) {
        self.buf.push(TXN);
        self.u64(revision.0);
        self.u32(events.len());
        for event in events {
            self.buf.push(match event.kind {
                EventKind::Put => 0,
                EventKind::Delete => 1,
            });
            self.key_value(&event.key, &event.value);
        }
    }

    pub(crate) fn compact(&mut self, to: Revision) {
        self.buf.push(COMPACT);
        self.u64(to.0);
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.buf.push(ENTRY);
        self.u64(entry.created.0);
        self.u64(entry.modified.0);
        self.key_value(&entry.key, &entry.value);
    }

    pub(crate) fn end(&mut self, count: u64) {
        self.buf.push(END);
        self.u64(count);
    }

    /// The finished frame, to be written at `offset` of a file with `salt`.
    pub(crate) fn seal(&mut self, salt: u64, offset: u64) -> &[u8] {
        let (head, payload) = self.buf.split_at_mut(FRAME_HEADER_LEN);
        let (magic, sum) = (magic(salt), checksum(salt, offset, payload));
        head[0..4].copy_from_slice(&magic);
        head[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        head[8..12].copy_from_slice(&sum.to_le_bytes());
        &self.buf
    }

    fn key_value(&mut self, key: &Key, value: &Bytes) {
        self.u32(key.as_str().len());
        self.u32(value.len());
        self.buf.extend_from_slice(key.as_str().as_bytes());
        self.buf.extend_from_slice(value);
    }

    fn u32(&mut self, n: usize) {
        // Keys, values and counts are bounded far below this.
        self.buf.extend_from_slice(&(n as u32).to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.buf.extend_from_slice(&n.to_le_bytes());
    }
}

fn magic(salt: u64) -> [u8; 4] {
    // Never zero, so that a hole in the file is no frame.
    ((salt >> 32) as u32 | 1).to_le_bytes()
}

fn checksum(salt: u64, offset: u64, payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&salt.to_le_bytes());
    sum.update(&offset.to_le_bytes());
    sum.update(&(payload.len() as u64).to_le_bytes());
    sum.update(payload);
    sum.finalize()
}

/// What comes next in a file.
pub(crate) enum Next {
    /// A whole frame's payload.
    Frame(Vec<u8>),
    /// Nothing: the file ends here.
    End,
    /// Something that is no frame, at this offset.
    Damaged { offset: u64, what: &'static str },
}

/// Reads frames one after another.
pub(crate) struct Reader<R> {
    input: R,
    salt: u64,
    offset: u64,
}

impl<R: Read> Reader<R> {
    /// Reads from `input`, which stands behind the file's header.
    pub(crate) fn new(input: R, salt: u64) -> Reader<R> {
        Reader { input, salt, offset: HEADER_LEN as u64 }
    }

    /// Where the next frame begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn next(&mut self) -> io::Result<Next> {
        let damaged = |offset, what| Ok(Next::Damaged { offset, what });
        let mut head = [0; FRAME_HEADER_LEN];
        match read_up_to(&mut self.input, &mut head)? {
            0 => return Ok(Next::End),
            FRAME_HEADER_LEN => {}
            _ => return damaged(self.offset, "a frame's header is cut short"),
        }
        let mut fields = Fields(&head[4..]);
        let (len, sum) = (fields.u32().unwrap_or(0) as usize, fields.u32().unwrap_or(0));
        if head[..4] != magic(self.salt) || len > FRAME_BYTES_MAX {
            return damaged(self.offset, "no frame begins here");
        }
        let mut payload = vec![0; len];
        if read_up_to(&mut self.input, &mut payload)? < len {
            return damaged(self.offset, "a frame is cut short");
        }
        if sum != checksum(self.salt, self.offset, &payload) {
            return damaged(self.offset, "a frame does not match its checksum");
        }
        self.offset += (FRAME_HEADER_LEN + len) as u64;
        Ok(Next::Frame(payload))
    }
}

fn read_up_to(input: &mut impl Read, out: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < out.len() {
        match input.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Whether a good frame stands anywhere in `file` after `offset`.
pub(crate) fn has_frame_after(file: &[u8], offset: u64, salt: u64) -> bool {
    let magic = magic(salt);
    let start = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(1);
    (start..file.len().saturating_sub(FRAME_HEADER_LEN)).any(|at| {
        if file[at..at + 4] != magic {
            return false;
        }
        let mut fields = Fields(&file[at + 4..]);
        let (Some(len), Some(sum)) = (fields.u32(), fields.u32()) else { return false };
        fields.take(len as usize).is_some_and(|payload| checksum(salt, at as u64, payload) == sum)
    })
}

/// Takes a payload apart; `None` if it is not a list of records.
pub(crate) fn records(payload: &[u8]) -> Option<Vec<Record>> {
    let mut fields = Fields(payload);
    let mut out = Vec::new();
    while !fields.0.is_empty() {
        out.push(record(&mut fields)?);
    }
    Some(out)
}

fn record(fields: &mut Fields<'_>) -> Option<Record> {
    Some(match fields.u8()? {
        TXN => {
            let (revision, count) = (Revision(fields.u64()?), fields.u32()?);
            let mut ops = Vec::with_capacity((count as usize).min(crate::TXN_OPS_MAX));
            for _ in 0..count {
                let kind = match fields.u8()? {
                    0 => EventKind::Put,
                    1 => EventKind::Delete,
                    _ => return None,
                };
                let (key, value) = key_value(fields)?;
                ops.push((kind, key, value));
            }
            Record::Txn { revision, ops }
        }
        COMPACT => Record::Compact(Revision(fields.u64()?)),
        ENTRY => {
            let (created, modified) = (Revision(fields.u64()?), Revision(fields.u64()?));
            let (key, value) = key_value(fields)?;
            Record::Entry(Entry { key, value, created, modified })
        }
        END => Record::End(fields.u64()?),
        _ => return None,
    })
}

fn key_value(fields: &mut Fields<'_>) -> Option<(Key, Bytes)> {
    let (key_len, value_len) = (fields.u32()? as usize, fields.u32()? as usize);
    let key = std::str::from_utf8(fields.take(key_len)?).ok()?;
    // Copied, so that one value does not keep a whole frame in memory.
    let value = Bytes::copy_from_slice(fields.take(value_len)?);
    Some((Key::from_text(key), value))
}
