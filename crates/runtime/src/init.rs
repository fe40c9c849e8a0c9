//! A minimal first process. In a PID namespace of its own a command is process 1, and to process 1 the kernel delivers
//! no signal that it does not handle: SIGTERM to a plain `sleep` does nothing. Where the command should end as it does
//! anywhere else, it becomes the child of this: a process that passes signals on, reaps whatever is orphaned to it, and
//! ends as the command does.

use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Which of the two a process is after [`split`].
pub(crate) enum Side {
    /// The one that goes on to exec.
    Command,
    /// The one that stays.
    First(Pid),
}

/// Forks. The caller has one thread; descriptors and rights are already those that the command shall have. With
/// `group`, the command leads a session of its own, and signals go to all of it.
pub(crate) fn split(group: Group) -> io::Result<Side> {
    // Before the fork, so that no signal falls between it and the loop.
    SigSet::all().thread_block()?;
    // SAFETY: this process has one thread, so its copy may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Side::First(child)),
        ForkResult::Child => {
            if group == Group::Own {
                nix::unistd::setsid()?;
            }
            SigSet::empty().thread_set_mask()?;
            Ok(Side::Command)
        }
    }
}

/// Whether the command leads a group of its own. With a terminal it stays in the session that the terminal controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Own,
    Shared,
}

/// Passes signals on and reaps until the command ends, and ends like it.
pub(crate) fn stay(child: Pid, group: Group) -> ! {
    // SAFETY: no memory is involved beyond the constant name. The process is a copy of the helper: nothing in the
    // container may look into it.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"stoa-init".as_ptr());
    }
    let code = wait_for_end(child, group).unwrap_or(255);
    // SAFETY: ends the process without running exit handlers of the program it was forked from.
    unsafe { libc::_exit(code) }
}

fn wait_for_end(child: Pid, group: Group) -> nix::Result<i32> {
    let target = if group == Group::Own { Pid::from_raw(-child.as_raw()) } else { child };
    loop {
        match next_signal()? {
            libc::SIGCHLD => {
                if let Some(code) = reap(Some(child))? {
                    return Ok(code);
                }
            }
            // Raw, since real-time signals have no name here. A command that is just ending is no error.
            // SAFETY: no memory is involved.
            signal => _ = unsafe { libc::kill(target.as_raw(), signal) },
        }
    }
}

/// Waits for a signal of any kind.
pub(crate) fn next_signal() -> nix::Result<i32> {
    let all = SigSet::all();
    let mut signal = 0;
    loop {
        // SAFETY: both pointers are to live locals.
        match unsafe { libc::sigwait(std::ptr::from_ref(all.as_ref()), &raw mut signal) } {
            0 => return Ok(signal),
            libc::EINTR => {}
            error => return Err(Errno::from_raw(error)),
        }
    }
}

/// Reaps all that has ended; the code of `child` if it was among them.
pub(crate) fn reap(child: Option<Pid>) -> nix::Result<Option<i32>> {
    let mut found = None;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if Some(pid) == child => found = Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if Some(pid) == child => found = Some(code_of(signal)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(found),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn code_of(signal: Signal) -> i32 {
    128 + signal as i32
}
