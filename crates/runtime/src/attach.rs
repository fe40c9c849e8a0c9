//! Joining the streams of a container's first process through its helper's socket.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::exec::Resize;
use crate::frame;
use crate::layout::Bundle;
use crate::runtime::Runtime;
use crate::{BoxRead, BoxWrite};

const BUFFER_LEN: usize = 64 * 1024;
const RESIZES_LEN_MAX: usize = 16;

/// The streams of a container's first process, from now on. They end when the container does.
pub struct AttachSession {
    /// When the container was started with stdin.
    pub stdin: Option<BoxWrite>,
    /// Output; with a terminal, all of it.
    pub stdout: BoxRead,
    /// Errors; silent with a terminal.
    pub stderr: BoxRead,
    /// With a terminal.
    pub resize: Option<Resize>,
}

impl Runtime {
    /// Joins a running container's streams.
    pub async fn attach(&self, id: &str) -> Result<AttachSession, Error> {
        let (_, spec, _) = self.init_of(id)?;
        let bundle = self.inner.layout.bundle(id);
        let stream = connect(&bundle).await.map_err(Error::io("attach to", bundle.dir()))?;
        let (socket_read, socket_write) = stream.into_split();
        let (stdout_ours, stdout) = duplex(BUFFER_LEN);
        let (stderr_ours, stderr) = duplex(BUFFER_LEN);
        let (stdin, stdin_ours) = duplex(BUFFER_LEN);
        let (resizes, asked) = mpsc::channel(RESIZES_LEN_MAX);
        let sending = send(socket_write, spec.stdin.then_some(stdin_ours), asked);
        tokio::spawn(async move {
            // The session lasts as long as there may be output; both halves of the socket go together.
            tokio::select! {
                () = receive(socket_read, stdout_ours, stderr_ours) => {}
                never = sending => match never {},
            }
        });
        let resize = Resize::new(move |columns, rows| {
            // A size that finds no room is followed by a newer one.
            let _ = resizes.try_send((columns, rows));
        });
        Ok(AttachSession {
            stdin: spec.stdin.then(|| Box::pin(stdin) as BoxWrite),
            stdout: Box::pin(stdout),
            stderr: Box::pin(stderr),
            resize: Some(resize),
        })
    }
}

/// By the directory's descriptor, because a whole path may be longer than a socket address.
async fn connect(bundle: &Bundle) -> std::io::Result<UnixStream> {
    let directory = File::open(bundle.dir())?;
    let path = format!("/proc/self/fd/{}/attach.sock", directory.as_raw_fd());
    UnixStream::connect(Path::new(&path)).await
}

async fn send(
    mut socket: tokio::net::unix::OwnedWriteHalf,
    mut stdin: Option<DuplexStream>,
    resizes: mpsc::Receiver<(u16, u16)>,
) -> Infallible {
    let mut buffer = vec![0; BUFFER_LEN / 4];
    let mut resizes = Some(resizes);
    loop {
        let mut out = Vec::new();
        tokio::select! {
            // A size set before input must be in force when the input is read.
            biased;
            size = next_size(&mut resizes) => {
                let ([a, b], [c, d]) = (size.0.to_be_bytes(), size.1.to_be_bytes());
                frame::put(&mut out, frame::RESIZE, &[a, b, c, d]);
            }
            count = next_input(&mut stdin, &mut buffer) => match count {
                0 => frame::put(&mut out, frame::STDIN_END, &[]),
                count => frame::put(&mut out, frame::STDIN, &buffer[..count]),
            },
        }
        if socket.write_all(&out).await.is_err() {
            // The container ended; what it wrote last may still be on its way to us.
            return std::future::pending().await;
        }
    }
}

/// Never, once the session's handle is gone.
async fn next_size(resizes: &mut Option<mpsc::Receiver<(u16, u16)>>) -> (u16, u16) {
    if let Some(receiver) = resizes {
        if let Some(size) = receiver.recv().await {
            return size;
        }
        *resizes = None;
    }
    std::future::pending().await
}

/// Bytes read; once 0 at the end, then never.
async fn next_input(stdin: &mut Option<DuplexStream>, buffer: &mut [u8]) -> usize {
    let Some(stream) = stdin else { return std::future::pending().await };
    let count = stream.read(buffer).await.unwrap_or(0);
    if count == 0 {
        *stdin = None;
    }
    count
}

async fn receive(
    mut socket: tokio::net::unix::OwnedReadHalf,
    mut stdout: DuplexStream,
    mut stderr: DuplexStream,
) {
    let (mut chunk, mut buffer) = (vec![0; BUFFER_LEN / 2], Vec::new());
    loop {
        match socket.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
        }
        let mut frames = Vec::new();
        let understood = frame::drain(&mut buffer, |kind, payload| frames.push((kind, payload.to_vec())));
        for (kind, payload) in frames {
            let to = if kind == frame::STDERR { &mut stderr } else { &mut stdout };
            // A reader that went away ends the session on both sides.
            if to.write_all(&payload).await.is_err() {
                return;
            }
        }
        if understood.is_err() {
            return;
        }
    }
}
