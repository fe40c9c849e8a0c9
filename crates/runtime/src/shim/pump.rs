//! The helper's one loop: output into the log and to whoever is attached, input to the container, and its end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::log::{Log, Stream};
use crate::frame;

const READ_LEN: usize = 32 * 1024;
const CLIENTS_MAX: usize = 64;
/// A client that lags further behind is dropped: the container is never held up for it.
const CLIENT_BACKLOG_MAX: usize = 1 << 20;
/// Input taken from clients before the container reads it.
const STDIN_BACKLOG_MAX: usize = 256 * 1024;
/// After the container's end, how long its streams may stay silent before they are given up: a process that got
/// out of the container with them can hold them open for ever.
const DRAIN_PAUSE_MS: u16 = 100;
const DRAIN_PAUSES_MAX: u32 = 20;

const LAST_WRITE_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    is_gone: bool,
}

/// What the container's first process is connected to.
pub(super) struct Pipes {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    pub(super) stdin: Option<OwnedFd>,
    /// The terminal's master side; then `stdout` and `stdin` are copies of it.
    pub(super) terminal: Option<OwnedFd>,
}

pub(super) struct Pump {
    pub(super) pipes: Pipes,
    pub(super) log: Log,
    pub(super) init: Pid,
    pub(super) stdin_once: bool,
    signals: SignalFd,
    listener: UnixListener,
    clients: Vec<Client>,
    stdin_backlog: Vec<u8>,
    stdin_ends: bool,
}

/// What became readable or writable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Signals,
    Listener,
    Stdout,
    Stderr,
    Stdin,
    Client(usize),
}

impl Pump {
    pub(super) fn new(
        pipes: Pipes,
        log: Log,
        init: Pid,
        stdin_once: bool,
        signals: SignalFd,
        listener: UnixListener,
    ) -> io::Result<Pump> {
        listener.set_nonblocking(true)?;
        for fd in [&pipes.stdout, &pipes.stderr, &pipes.stdin].into_iter().flatten() {
            let flags = rustix::fs::fcntl_getfl(fd)?;
            rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        Ok(Pump {
            pipes,
            log,
            init,
            stdin_once,
            signals,
            listener,
            clients: Vec::new(),
            stdin_backlog: Vec::new(),
            stdin_ends: false,
        })
    }

    /// Runs until the first process has ended and its output is in the log. `on_end` is called in between, to kill
    /// what it left behind.
    pub(super) fn run(&mut self, on_end: impl Fn()) -> WaitStatus {
        let mut ended: Option<WaitStatus> = self.reap();
        let mut pauses = 0;
        if ended.is_some() {
            on_end();
        }
        loop {
            if ended.is_some() && self.pipes.stdout.is_none() && self.pipes.stderr.is_none() {
                break;
            }
            let ready = self.wait(if ended.is_some() { Some(DRAIN_PAUSE_MS) } else { None });
            if ended.is_some() && ready.is_empty() {
                pauses += 1;
                if pauses >= DRAIN_PAUSES_MAX {
                    break;
                }
            }
            for slot in ready {
                self.serve(slot);
                if slot == Slot::Signals && ended.is_none() {
                    ended = self.reap();
                    if ended.is_some() {
                        on_end();
                    }
                }
            }
            self.write_stdin();
            for client in &mut self.clients {
                client.write();
            }
            self.forget_clients();
        }
        self.log.finish();
        for client in &mut self.clients {
            client.write_last();
        }
        ended.unwrap_or(WaitStatus::StillAlive)
    }

    fn wait(&self, timeout_ms: Option<u16>) -> Vec<Slot> {
        let mut slots = vec![Slot::Signals, Slot::Listener];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        for (slot, fd) in [(Slot::Stdout, &self.pipes.stdout), (Slot::Stderr, &self.pipes.stderr)] {
            if let Some(fd) = fd {
                slots.push(slot);
                fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
            }
        }
        if let Some(fd) = &self.pipes.stdin
            && !self.stdin_backlog.is_empty()
        {
            slots.push(Slot::Stdin);
            fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLOUT));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut wanted = PollFlags::empty();
            if self.stdin_backlog.len() < STDIN_BACKLOG_MAX {
                wanted |= PollFlags::POLLIN;
            }
            if !client.output.is_empty() {
                wanted |= PollFlags::POLLOUT;
            }
            slots.push(Slot::Client(index));
            fds.push(PollFd::new(client.stream.as_fd(), wanted));
        }
        let timeout = timeout_ms.map_or(PollTimeout::NONE, PollTimeout::from);
        if poll(&mut fds, timeout).is_err() {
            return Vec::new();
        }
        fds.iter()
            .zip(slots)
            .filter(|(fd, _)| fd.revents().is_some_and(|r| !r.is_empty()))
            .map(|(_, slot)| slot)
            .collect()
    }

    fn serve(&mut self, slot: Slot) {
        match slot {
            Slot::Signals => while let Ok(Some(_)) = self.signals.read_signal() {},
            Slot::Listener => {
                if let Ok((stream, _)) = self.listener.accept()
                    && self.clients.len() < CLIENTS_MAX
                    && stream.set_nonblocking(true).is_ok()
                {
                    self.clients.push(Client { stream, input: vec![], output: vec![], is_gone: false });
                }
            }
            Slot::Stdout => self.read_output(Stream::Stdout),
            Slot::Stderr => self.read_output(Stream::Stderr),
            Slot::Stdin => {}
            Slot::Client(index) => self.read_client(index),
        }
    }

    fn read_output(&mut self, stream: Stream) {
        let (fd, kind) = match stream {
            Stream::Stdout => (&mut self.pipes.stdout, frame::STDOUT),
            Stream::Stderr => (&mut self.pipes.stderr, frame::STDERR),
        };
        let mut buffer = [0; READ_LEN];
        let Some(open) = fd.as_ref() else { return };
        match rustix::io::read(open, &mut buffer) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // A terminal whose other side is closed says EIO where a pipe says end of file.
            Ok(0) | Err(_) => *fd = None,
            Ok(count) => {
                self.log.take(stream, &buffer[..count]);
                for client in &mut self.clients {
                    frame::put(&mut client.output, kind, &buffer[..count]);
                    client.is_gone |= client.output.len() > CLIENT_BACKLOG_MAX;
                }
            }
        }
    }

    fn read_client(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        let mut buffer = [0; READ_LEN];
        match client.stream.read(&mut buffer) {
            Ok(0) => client.is_gone = true,
            Ok(count) => client.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => client.is_gone = true,
        }
        let (backlog, ends, terminal) = (&mut self.stdin_backlog, &mut self.stdin_ends, &self.pipes.terminal);
        let once = self.stdin_once;
        let understood = frame::drain(&mut client.input, |kind, payload| match kind {
            frame::STDIN => backlog.extend_from_slice(payload),
            frame::STDIN_END => *ends |= once,
            frame::RESIZE => {
                if let (Some(terminal), &[a, b, c, d]) = (terminal, payload) {
                    resize(terminal.as_fd(), u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                }
            }
            _ => {}
        });
        client.is_gone |= understood.is_err();
    }

    fn write_stdin(&mut self) {
        if let Some(fd) = &self.pipes.stdin {
            match rustix::io::write(fd, &self.stdin_backlog) {
                _ if self.stdin_backlog.is_empty() => {}
                Ok(count) => drop(self.stdin_backlog.drain(..count)),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => self.pipes.stdin = None,
            }
        }
        if self.pipes.stdin.is_none() {
            self.stdin_backlog.clear();
        }
        if self.stdin_ends && self.stdin_backlog.is_empty() && self.pipes.terminal.is_none() {
            self.pipes.stdin = None;
        }
    }

    fn forget_clients(&mut self) {
        let before = self.clients.len();
        self.clients.retain(|client| !client.is_gone);
        self.stdin_ends |= self.stdin_once && self.clients.len() < before;
    }

    /// Collects all that ended; the container's first process among them, if it did.
    fn reap(&self) -> Option<WaitStatus> {
        let mut init = None;
        while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::StillAlive => break,
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) if pid == self.init => {
                    init = Some(status);
                }
                _ => {}
            }
        }
        init
    }
}

impl Client {
    /// The end of the output, for which even a slow client is waited for a moment.
    fn write_last(&mut self) {
        let _ = self.stream.set_nonblocking(false);
        let _ = self.stream.set_write_timeout(Some(LAST_WRITE_WAIT));
        let _ = self.stream.write_all(&self.output);
    }

    fn write(&mut self) {
        while !self.output.is_empty() && !self.is_gone {
            match self.stream.write(&self.output) {
                Ok(0) => self.is_gone = true,
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.is_gone = true,
            }
        }
    }
}

pub(crate) fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

/// Receives the descriptor that comes with the next byte.
pub(crate) fn receive_descriptor(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 256];
    recvmsg(stream, &mut [io::IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    Ok(ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// A new `/dev/null`.
pub(super) fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}
