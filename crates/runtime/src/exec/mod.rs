//! Further processes in a running container. The agent starts a helper that joins the container's cgroup and
//! namespaces, forks, and takes the same last steps as a container's first process; the command's streams are the
//! agent's own pipes (or the terminal's master side, handed over the control socket), so no bytes pass through it.

mod helper;

pub use helper::main as helper_main;

use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::libc;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use crate::capability::{self, Set};
use crate::error::Error;
use crate::launch::{Failure, Launch};
use crate::process::{Identity, send_signal};
use crate::runtime::Runtime;
use crate::seccomp;
use crate::shim::{receive_descriptor, resize};
use crate::spec::{ExecSpec, Rootfs};
use crate::{BoxRead, BoxWrite};

/// A request longer than this is refused; the kernel's own limit for arguments is 2 MiB.
const REQUEST_LEN_MAX: usize = 8 << 20;

/// How long a command may take to begin.
const BEGIN_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

/// What the helper is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    init: Identity,
    cgroup: String,
    /// First of the machine's ids that the pod has for itself.
    first_id: Option<u32>,
    launch: Launch,
    tty: bool,
}

/// What the helper answers first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Started { pid: i32 },
    Failed(Failure),
}

/// Sets the size of a terminal.
#[derive(Clone)]
pub struct Resize(Arc<dyn Fn(u16, u16) + Send + Sync>);

impl Resize {
    pub(crate) fn new(set: impl Fn(u16, u16) + Send + Sync + 'static) -> Resize {
        Resize(Arc::new(set))
    }

    /// To this many columns and rows.
    pub fn set(&self, columns: u16, rows: u16) {
        (self.0)(columns, rows);
    }
}

/// A running command and its streams. Dropping it closes them; it does not kill the command.
pub struct ExecSession {
    /// When asked for; dropping it is the end of input.
    pub stdin: Option<BoxWrite>,
    /// Output; with a terminal, all of it.
    pub stdout: BoxRead,
    /// Errors; `None` with a terminal.
    pub stderr: Option<BoxRead>,
    /// With a terminal.
    pub resize: Option<Resize>,
    /// The exit code.
    pub exit: ExecExit,
    process: Option<Arc<OwnedFd>>,
}

impl ExecSession {
    /// Kills the command.
    pub fn kill(&self) {
        self.killer()();
    }

    /// A handle to kill the command with when the session has been taken apart.
    pub fn killer(&self) -> impl Fn() + Send + Sync + use<> {
        let signal = self.signaller();
        move || signal(libc::SIGKILL)
    }

    /// A handle to send the command signals with when the session has been taken apart.
    pub fn signaller(&self) -> impl Fn(i32) + Send + Sync + use<> {
        let process = self.process.clone();
        move |signal| {
            if let Some(process) = &process {
                let _ = send_signal(process, signal);
            }
        }
    }
}

/// The end of a command: its code, 128 + signal when a signal ended it.
pub struct ExecExit(Pin<Box<dyn Future<Output = Result<i32, Error>> + Send>>);

impl Future for ExecExit {
    type Output = Result<i32, Error>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl Runtime {
    /// Runs a command in a container.
    pub async fn exec(&self, id: &str, spec: ExecSpec) -> Result<ExecSession, Error> {
        let request = self.exec_request(id, &spec)?;
        let runtime = self.clone();
        let owned = id.to_owned();
        let begun =
            tokio::task::spawn_blocking(move || runtime.begin_exec(&owned, &request, spec.stdin)).await;
        let begun = begun.map_err(|e| exec_error(id, &io::Error::other(e)))??;
        begun.into_session(id)
    }

    fn exec_request(&self, id: &str, spec: &ExecSpec) -> Result<Request, Error> {
        let (init, container, pod) = self.init_of(id)?;
        let capabilities =
            capability::resolve(&container.capabilities, container.privileged)?.and(Set::held());
        let mut env = container.env.clone();
        for added in &spec.env {
            let name = added.split('=').next().unwrap_or_default();
            env.retain(|v| v.split('=').next() != Some(name));
            env.push(added.clone());
        }
        if !env.iter().any(|v| v.starts_with("HOSTNAME=")) && !pod.hostname.is_empty() {
            env.push(format!("HOSTNAME={}", pod.hostname));
        }
        if spec.tty && !env.iter().any(|v| v.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
        let default_cwd = match &container.rootfs {
            Rootfs::Host { sandbox } if container.cwd.as_os_str().is_empty() => sandbox.clone(),
            _ => container.cwd.clone(),
        };
        Ok(Request {
            init,
            cgroup: self.inner.cgroup(&pod, id),
            first_id: pod.first_id(),
            launch: Launch {
                args: spec.args.clone(),
                env,
                cwd: spec.cwd.clone().unwrap_or(default_cwd),
                user: spec.user.clone().unwrap_or_else(|| container.user.clone()),
                capabilities,
                no_new_privileges: container.no_new_privileges,
                init: None,
                users: None,
                seccomp: seccomp::compile(&container.seccomp, container.privileged, capabilities)?,
                confinement: container.confinement.clone(),
                proc: None,
            },
            tty: spec.tty,
        })
    }

    fn begin_exec(&self, id: &str, request: &Request, wants_stdin: bool) -> Result<Begun, Error> {
        let failed = |error: io::Error| exec_error(id, &error);
        let (mut control, theirs) = UnixStream::pair().map_err(failed)?;
        let child = self
            .inner
            .helper
            .command("exec-helper", &[])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        // From here on an early return must not leave the helper unreaped.
        let mut child = Reaped(Some(child));
        control.set_read_timeout(Some(BEGIN_WAIT)).map_err(failed)?;
        let mut streams = Streams::default();
        if request.tty {
            send(&control, &[]).map_err(failed)?;
        } else {
            let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from);
            let (in_read, in_write) = pipe().map_err(failed)?;
            let (out_read, out_write) = pipe().map_err(failed)?;
            let (err_read, err_write) = pipe().map_err(failed)?;
            send(&control, &[in_read.as_fd(), out_write.as_fd(), err_write.as_fd()]).map_err(failed)?;
            streams.stdin = wants_stdin.then_some(in_write);
            (streams.stdout, streams.stderr) = (Some(out_read), Some(err_read));
        }
        let body = serde_json::to_vec(request).map_err(|e| failed(e.into()))?;
        control.write_all(&(body.len() as u64).to_le_bytes()).map_err(failed)?;
        control.write_all(&body).map_err(failed)?;
        if request.tty {
            streams.terminal = receive_descriptor(&control).map_err(failed)?;
        }
        match read_answer(&mut control).map_err(failed)? {
            Answer::Failed(Failure { code, message }) => {
                Err(Error::Exec { id: id.to_owned(), message, code })
            }
            Answer::Started { pid } => {
                let process = rustix::process::Pid::from_raw(pid).and_then(|pid| {
                    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
                });
                let child = child.0.take();
                Ok(Begun { control, child, streams, process, wants_stdin })
            }
        }
    }
}

fn exec_error(id: &str, error: &io::Error) -> Error {
    Error::Exec { id: id.to_owned(), message: error.to_string(), code: 126 }
}

/// The first byte carries the descriptors.
fn send(control: &UnixStream, fds: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(control, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

fn read_answer(control: &mut UnixStream) -> io::Result<Answer> {
    let mut length = [0; 4];
    control.read_exact(&mut length)?;
    let mut body = vec![0; (u32::from_le_bytes(length) as usize).min(REQUEST_LEN_MAX)];
    control.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Ends and reaps its process unless that was taken out.
struct Reaped(Option<Child>);

impl Drop for Reaped {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[derive(Default)]
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// A started command, its streams not yet made asynchronous.
struct Begun {
    control: UnixStream,
    child: Option<Child>,
    streams: Streams,
    process: Option<OwnedFd>,
    wants_stdin: bool,
}

impl Begun {
    fn into_session(self, id: &str) -> Result<ExecSession, Error> {
        let failed = |error: io::Error| exec_error(id, &error);
        self.control.set_nonblocking(true).map_err(failed)?;
        let control = tokio::net::UnixStream::from_std(self.control).map_err(failed)?;
        // On its own, so that the helper is reaped even when nobody waits for the code.
        let watched = tokio::spawn(watch_end(id.to_owned(), control, self.child));
        let lost = id.to_owned();
        let exit = ExecExit(Box::pin(async move {
            watched.await.unwrap_or_else(|error| Err(exec_error(&lost, &io::Error::other(error))))
        }));
        let process = self.process.map(Arc::new);
        let Streams { stdin, stdout, stderr, terminal } = self.streams;
        if let Some(terminal) = terminal {
            let terminal = Terminal::new(terminal).map_err(failed)?;
            let master = terminal.0.clone();
            return Ok(ExecSession {
                stdin: self.wants_stdin.then(|| Box::pin(terminal.clone()) as BoxWrite),
                stdout: Box::pin(terminal),
                stderr: None,
                resize: Some(Resize::new(move |columns, rows| {
                    resize(master.get_ref().as_fd(), columns, rows)
                })),
                exit,
                process,
            });
        }
        let read = |fd: Option<OwnedFd>| -> Result<BoxRead, Error> {
            match fd {
                Some(fd) => Ok(Box::pin(pipe::Receiver::from_owned_fd(fd).map_err(failed)?)),
                None => Ok(Box::pin(tokio::io::empty())),
            }
        };
        Ok(ExecSession {
            stdin: match stdin {
                Some(fd) => Some(Box::pin(pipe::Sender::from_owned_fd(fd).map_err(failed)?)),
                None => None,
            },
            stdout: read(stdout)?,
            stderr: Some(read(stderr)?),
            resize: None,
            exit,
            process,
        })
    }
}

/// The helper's last four bytes are the code.
async fn watch_end(
    id: String,
    mut control: tokio::net::UnixStream,
    child: Option<Child>,
) -> Result<i32, Error> {
    let mut code = [0; 4];
    let read = control.read_exact(&mut code).await;
    let reaped = tokio::task::spawn_blocking(move || {
        if let Some(mut child) = child {
            let _ = child.wait();
        }
    });
    let _ = reaped.await;
    match read {
        Ok(_) => Ok(i32::from_le_bytes(code)),
        Err(error) => Err(exec_error(&id, &io::Error::other(format!("the exec helper was lost: {error}")))),
    }
}

/// The master side of a terminal.
#[derive(Clone)]
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    fn new(fd: OwnedFd) -> io::Result<Terminal> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by the returned value and closed by nobody else.
        Ok(Terminal(Arc::new(unsafe { AsyncFd::register(fd) }?)))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| rustix::io::read(fd.get_ref(), &mut *unfilled).map_err(io::Error::from)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The other side is closed for good: the end of the stream.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| rustix::io::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
