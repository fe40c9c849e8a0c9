//! Small files that must be either the old or the new one, whenever the power goes: what the agent has promised and could not
//! find out again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Replaces a file. When this returns without an error, what was written is on the disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Does work that waits for the disk. Where tasks of the runtime share a thread with it, they go on elsewhere meanwhile.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|h| h.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("state.json");
        write(&path, b"a longer first edition").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
        assert!(write(&tmp.path().join("none/state.json"), b"x").is_err());
    }

    #[test]
    fn whoever_shares_a_thread_with_the_disk_goes_on() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let waiter = tokio::spawn(async {
                let (tell, told) = std::sync::mpsc::channel();
                tokio::spawn(async move { tell.send(()) });
                // There is one thread, and it is here. Nobody waits for ever for what cannot come.
                aside(|| told.recv_timeout(PATIENCE)).is_ok()
            });
            assert!(waiter.await.unwrap(), "the other task had no thread");
        });
        assert_eq!(aside(|| 1), 1);
    }
}
