//! Files by virtual paths: a master has its log. Sandboxes are agents' business.

use crate::master::Master;
use crate::respond::Refusal;
use serde_json::{Value, json};
use std::collections::VecDeque;
use stoa_authz::Action;
use stoa_mesos::Blob;

/// The virtual path of the master's log.
const LOG_PATH: &str = "/master/log";
/// Most bytes of one read.
const READ_BYTES_MAX: u64 = 16 * 4096;
/// Most bytes of the log that are kept.
const LOG_BYTES_MAX: usize = 1 << 20;

/// The newest part of what happened, by offsets from the start.
#[derive(Debug, Default)]
pub(crate) struct Log {
    bytes: VecDeque<u8>,
    /// How much was dropped at the front.
    dropped: u64,
}

impl Log {
    /// Adds a line.
    pub fn line(&mut self, text: &str) {
        self.bytes.extend(text.bytes());
        self.bytes.push_back(b'\n');
        let excess = self.bytes.len().saturating_sub(LOG_BYTES_MAX);
        self.bytes.drain(..excess);
        self.dropped += excess as u64;
    }

    fn size(&self) -> u64 {
        self.dropped + self.bytes.len() as u64
    }

    fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let start = usize::try_from(offset.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.bytes.iter().skip(start).take(length).copied().collect()
    }
}

impl Master {
    fn check_log(&self, path: &str, principal: Option<&str>) -> Result<(), Refusal> {
        if path.trim_end_matches('/') != LOG_PATH {
            return Err(Refusal::NotFound(format!("File '{path}' not found")));
        }
        if !self.options.acls.may(principal, Action::AccessMesosLog, Some("*")) {
            return Err(Refusal::Forbidden);
        }
        Ok(())
    }

    /// What is under a path, as `FileInfo`s.
    pub fn list_files(&self, path: &str, principal: Option<&str>) -> Result<Vec<Value>, Refusal> {
        if !matches!(path.trim_end_matches('/'), "" | "/master" | LOG_PATH) {
            return Err(Refusal::NotFound(format!("File '{path}' not found")));
        }
        self.check_log(LOG_PATH, principal)?;
        let size = self.state.lock().log.size();
        let mtime = crate::watch::time_info(self.now());
        // A plain file that everybody may read.
        Ok(vec![
            json!({"path": LOG_PATH, "nlink": 1, "size": size, "mtime": mtime, "mode": 0o100_644, "uid": "root", "gid": "root"}),
        ])
    }

    /// A part of a file, and how long it is.
    pub fn read_file(
        &self,
        path: &str,
        offset: u64,
        length: Option<u64>,
        principal: Option<&str>,
    ) -> Result<(u64, Vec<u8>), Refusal> {
        self.check_log(path, principal)?;
        let state = self.state.lock();
        let length = length.unwrap_or(READ_BYTES_MAX).min(READ_BYTES_MAX);
        Ok((state.log.size(), state.log.read(offset, length)))
    }

    /// READ_FILE's answer.
    pub fn read_file_call(&self, call: &Value, principal: Option<&str>) -> Result<Value, Refusal> {
        let path = call["path"].as_str().unwrap_or_default();
        let offset = call["offset"].as_u64().unwrap_or(0);
        let (size, data) = self.read_file(path, offset, call["length"].as_u64(), principal)?;
        Ok(json!({"size": size, "data": Blob(data)}))
    }

    /// `/files/read`: negative or absent offsets ask for the size only, as the console does at first.
    pub fn read_file_legacy(
        &self,
        path: &str,
        offset: i64,
        length: Option<i64>,
        principal: Option<&str>,
    ) -> Result<Value, Refusal> {
        let Ok(start) = u64::try_from(offset) else {
            let (size, _) = self.read_file(path, 0, Some(0), principal)?;
            return Ok(json!({"offset": size, "data": ""}));
        };
        let length = length.and_then(|l| u64::try_from(l).ok());
        let (_, data) = self.read_file(path, start, length, principal)?;
        Ok(json!({"offset": start, "data": String::from_utf8_lossy(&data)}))
    }

    /// `/files/browse`, in `ls`'s columns.
    pub fn browse_legacy(&self, path: &str, principal: Option<&str>) -> Result<Value, Refusal> {
        let files = self.list_files(path, principal)?;
        let now = self.now().as_secs_f64();
        let one = |f: &Value| {
            json!({"path": f["path"], "nlink": f["nlink"], "size": f["size"], "mtime": now, "mode": "-rw-r--r--",
                "uid": f["uid"], "gid": f["gid"]})
        };
        Ok(files.iter().map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_newest_part_under_the_old_offsets() {
        let mut log = Log::default();
        log.line("one");
        assert_eq!((log.size(), log.read(0, 100)), (4, b"one\n".to_vec()));
        assert_eq!(log.read(2, 1), b"e");
        log.line(&"x".repeat(LOG_BYTES_MAX));
        assert_eq!(log.bytes.len(), LOG_BYTES_MAX);
        assert_eq!(log.size(), 4 + LOG_BYTES_MAX as u64 + 1);
        assert_eq!(log.read(log.size() - 2, 10), b"x\n");
        assert_eq!(log.read(log.size() + 5, 10), b"");
    }
}
