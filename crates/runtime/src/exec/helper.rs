//! The helper's side of exec: a process with one thread, run from the sealed executable.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::{Answer, REQUEST_LEN_MAX, Request};
use crate::cgroup::Tree;
use crate::launch::Failure;

/// Serves the one request that comes over descriptor 0. To be called first thing in `main`, before any thread.
pub fn main(_: &[OsString]) -> ExitCode {
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3) else { return ExitCode::FAILURE };
    let mut control = UnixStream::from(control);
    match serve(&mut control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = answer(&mut control, &failed(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

fn failed(message: &str) -> Answer {
    Answer::Failed(Failure { code: 126, message: message.to_owned() })
}

fn answer(control: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let body = serde_json::to_vec(answer)?;
    control.write_all(&(body.len() as u32).to_le_bytes())?;
    control.write_all(&body)
}

fn receive(control: &mut UnixStream) -> io::Result<(Vec<OwnedFd>, Request)> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&*control, &mut [io::IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    let mut length = [0; 8];
    control.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > REQUEST_LEN_MAX {
        return Err(io::Error::other("the request is too long"));
    }
    let mut body = vec![0; length];
    control.read_exact(&mut body)?;
    Ok((fds, serde_json::from_slice(&body)?))
}

fn serve(control: &mut UnixStream) -> io::Result<()> {
    let (mut fds, mut request) = receive(control)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    // SAFETY: no pointers are passed. A process of the container must not be able to look into this one.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let init = request.init.open().ok_or_else(|| io::Error::other("container is not running"))?;
    Tree::discover()?.join_self(&request.cgroup)?;
    share_oom_score(request.init.pid);
    let users = match request.first_id {
        Some(first) => Some((File::open(format!("/proc/{}/ns/user", request.init.pid))?, first)),
        None => None,
    };
    let proc = crate::lsm::open_proc()?;
    request.launch.proc = Some(proc.as_raw_fd());
    enter(&init)?;
    drop(init);
    request.launch.users = users.as_ref().map(|(file, first)| (file.as_raw_fd(), *first));

    if request.tty {
        let (master, slave) = open_terminal()?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let rights = [master.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&rights));
        sendmsg(&*control, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
        fds = vec![slave];
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread, so its copy may do anything.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let ready = take_streams(&fds, request.tty);
            if ready.is_err() {
                // SAFETY: ends the copy without running the exit handlers of its parent.
                unsafe { libc::_exit(126) };
            }
            request.launch.run(write.as_raw_fd())
        }
        ForkResult::Parent { child } => {
            drop((write, fds));
            let mut failure = Vec::new();
            File::from(read).read_to_end(&mut failure)?;
            if !failure.is_empty() {
                let _ = waitpid(child, None);
                let told = serde_json::from_slice(&failure).map(Answer::Failed);
                return answer(control, &told.unwrap_or_else(|_| failed("the command could not be run")));
            }
            answer(control, &Answer::Started { pid: child.as_raw() })?;
            let code = loop {
                match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, code)) => break code,
                    Ok(WaitStatus::Signaled(_, signal, _)) => break 128 + signal as i32,
                    Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            };
            control.write_all(&code.to_le_bytes())
        }
    }
}

/// Whoever runs out of memory picks by this score, so a command has its container's. Without CAP_SYS_RESOURCE one below the
/// current one is refused: then it stays as it is, as the container's did.
fn share_oom_score(init: i32) {
    if let Ok(score) = std::fs::read(format!("/proc/{init}/oom_score_adj")) {
        let _ = std::fs::write("/proc/self/oom_score_adj", score);
    }
}

/// All namespaces at once, by the handle of the first process. Those it shares with the machine are passed over by
/// the kernel, which takes them as they are.
fn enter(init: &OwnedFd) -> io::Result<()> {
    let kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWCGROUP;
    // SAFETY: no memory is involved, and this process has one thread.
    if unsafe { libc::setns(init.as_raw_fd(), kinds) } == -1 {
        return Err(io::Error::last_os_error());
    }
    std::env::set_current_dir("/")
}

/// A pair from the container's own terminals, whose device must be the real one: the container may have put
/// anything at `/dev/ptmx` (CVE-2025-52565).
fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{Mode, OFlags};
    const DEVPTS_MAGIC: i64 = 0x1cd1;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty())?;
    if rustix::fs::fstatfs(&master)?.f_type as i64 != DEVPTS_MAGIC {
        return Err(io::Error::other("/dev/pts/ptmx of the container is not a terminal"));
    }
    rustix::pty::unlockpt(&master)?;
    // Opened through the master, not by a name in the container.
    let flags =
        rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY | rustix::pty::OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

fn take_streams(fds: &[OwnedFd], tty: bool) -> io::Result<()> {
    let _ = nix::unistd::setsid();
    let slot = |index: usize| fds.get(if tty { 0 } else { index }).ok_or(io::ErrorKind::InvalidInput);
    rustix::stdio::dup2_stdin(slot(0)?)?;
    rustix::stdio::dup2_stdout(slot(1)?)?;
    rustix::stdio::dup2_stderr(slot(2)?)?;
    if tty {
        rustix::process::ioctl_tiocsctty(slot(0)?)?;
    }
    Ok(())
}
