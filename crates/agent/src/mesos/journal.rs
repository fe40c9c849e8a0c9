//! What an agent must still know of an executor's tasks after it was killed: one file of lines for each executor, appended
//! to before anything is confirmed. Not synced: it has to outlive the process, not the machine, whose end is the
//! executor's too.

use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use stoa_mesos::{Blob, TaskStatus};
use stoa_units::TaskId;

/// A journal longer than this is written anew once it holds twice what is still true.
const COMPACT_BYTES_MIN: u64 = 4 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Line {
    /// The first: what the executor proves itself with.
    Token(String),
    /// A task was given to the executor.
    Sent(TaskId),
    /// The executor, or the agent in its place, reported a status.
    Update(Box<TaskStatus>),
    /// The scheduler has confirmed one.
    Acknowledged(TaskId, Blob),
    /// The executor is over.
    Ended(i32),
}

/// An executor's journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Journal {
    /// Opens one, and returns what it holds. A line that was cut off by the end of the process is as if never written.
    pub(crate) fn open(path: &Path) -> (Journal, Vec<Line>) {
        let mut lines = Vec::new();
        let mut whole = 0;
        if let Ok(file) = File::open(path) {
            let mut reader = BufReader::new(file);
            let mut text = Vec::new();
            while let Ok(n) = reader.read_until(b'\n', &mut text) {
                if n == 0 || text.last() != Some(&b'\n') {
                    break;
                }
                match serde_json::from_slice(&text) {
                    Ok(line) => lines.push(line),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "a line of an executor's journal cannot be read")
                    }
                }
                whole += n as u64;
                text.clear();
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.and_then(|f| f.set_len(whole).map(|()| f));
        if let Err(error) = &file {
            tracing::error!(path = %path.display(), %error, "cannot open an executor's journal: its updates will not outlive this agent");
        }
        (Journal { path: path.to_owned(), file: file.ok(), bytes: whole }, lines)
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, line: &Line) {
        let Some(file) = &mut self.file else { return };
        let mut text = stoa_mesos::json::to_ascii(line);
        text.push(b'\n');
        self.bytes += text.len() as u64;
        if let Err(error) = file.write_all(&text) {
            tracing::error!(path = %self.path.display(), %error, "cannot write an executor's journal");
        }
    }

    /// Whether it is worth asking for [`Journal::rewrite`].
    pub(crate) fn is_long(&self) -> bool {
        self.bytes >= COMPACT_BYTES_MIN
    }

    /// Replaces the file by what is still true.
    pub(crate) fn rewrite(&mut self, lines: &[Line]) {
        let new = self.path.with_extension("new");
        let text: Vec<u8> = lines
            .iter()
            .flat_map(|l| stoa_mesos::json::to_ascii(l).into_iter().chain(std::iter::once(b'\n')))
            .collect();
        if text.len() as u64 * 2 > self.bytes {
            return;
        }
        let done = std::fs::write(&new, &text).and_then(|()| std::fs::rename(&new, &self.path));
        match done.and_then(|()| OpenOptions::new().append(true).open(&self.path)) {
            Ok(file) => {
                self.file = Some(file);
                self.bytes = text.len() as u64;
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot shorten an executor's journal")
            }
        }
    }

    /// Removes it.
    pub(crate) fn remove(&mut self) {
        self.file = None;
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_line_is_as_if_never_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, lines) = Journal::open(&path);
        assert!(lines.is_empty());
        journal.write(&Line::Token("t".into()));
        journal.write(&Line::Sent("a".into()));
        drop(journal);
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"sent\":\"b");
        std::fs::write(&path, text).unwrap();
        let (mut journal, lines) = Journal::open(&path);
        assert_eq!(lines, [Line::Token("t".into()), Line::Sent("a".into())]);
        journal.write(&Line::Ended(0));
        drop(journal);
        assert_eq!(Journal::open(&path).1.last(), Some(&Line::Ended(0)));
    }
}
