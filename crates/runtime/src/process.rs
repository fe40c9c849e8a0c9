//! Processes named safely: a pid counts only together with its start time and the boot it was seen in, and signals
//! go through pidfds, so that a reused number never stands for the wrong process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use serde::{Deserialize, Serialize};

/// A process, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// In clock ticks since boot.
    pub(crate) start_time: u64,
    pub(crate) boot_id: String,
}

impl Identity {
    /// The process that has this pid now.
    pub(crate) fn of(pid: i32) -> Option<Identity> {
        Some(Identity { pid, start_time: start_time(pid)?, boot_id: boot_id() })
    }

    /// A handle of it, if it still is.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        if self.boot_id != boot_id() {
            return None;
        }
        let handle = rustix::process::pidfd_open(
            rustix::process::Pid::from_raw(self.pid)?,
            rustix::process::PidfdFlags::empty(),
        )
        .ok()?;
        // Checked after opening: from here on the handle cannot come to mean another process.
        (start_time(self.pid) == Some(self.start_time)).then_some(handle)
    }

    /// Whether it still is (a zombie counts).
    pub(crate) fn is_alive(&self) -> bool {
        self.open().is_some()
    }

    /// Whether it still runs: one that is ending, or has ended and was not reaped, does not.
    pub(crate) fn runs(&self) -> bool {
        const PF_EXITING: u32 = 0x4;
        let Some(_handle) = self.open() else { return false };
        let flags = stat_field(self.pid, 9).and_then(|f| f.parse::<u32>().ok());
        let state = stat_field(self.pid, 3);
        state.is_some_and(|s| s != "Z" && s != "X") && flags.is_some_and(|f| f & PF_EXITING == 0)
    }

    /// Sends a signal; `Ok(false)` when it is gone.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<bool> {
        match self.open() {
            None => Ok(false),
            Some(handle) => send_signal(&handle, signal),
        }
    }
}

/// Sends a signal to the process of a handle; `Ok(false)` when it is gone.
pub(crate) fn send_signal(handle: &OwnedFd, signal: i32) -> io::Result<bool> {
    // SAFETY: the descriptor is open for the call, the info pointer may be null.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, handle.as_raw_fd(), signal, std::ptr::null::<u8>(), 0)
    };
    match result {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(error),
        },
    }
}

/// In clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    stat_field(pid, 22)?.parse().ok()
}

/// A field of `/proc/<pid>/stat` behind the command name, which may hold anything: count from its closing bracket.
fn stat_field(pid: i32, number: usize) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|b| *b == b')')? + 2;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    text.split(' ').nth(number.checked_sub(3)?).map(str::to_owned)
}

/// Changes with every boot.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
