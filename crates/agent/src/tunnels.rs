//! The agent's end of tunnels: a command, a container's streams, its log, or a port, each turned into frames.

use crate::logs;
use crate::machine::chain;
use crate::mesos::{Asker, Door};
use crate::node_api::{self, Body, Page};
use crate::shared::{LivePod, Shared};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use stoa_runtime::exec::Resize;
use stoa_runtime::{BoxRead, BoxWrite, Error as RuntimeError, ExecSpec};
use stoa_wire::{Channel, Frame, LogOptions, PodRef, TunnelRequest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Bytes that cross a tunnel in one frame at most; smaller than a frame may be, for the sake of latency.
const CHUNK_LEN: usize = 32 * 1024;

/// So long a port that sends no more is sent nothing before its connection ends.
const LISTEN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a tunnel is not opened: the status that a kubelet would answer, and the words.
pub(crate) type Refused = (u16, String);

/// A tunnel whose far end was found.
pub(crate) enum Opened {
    Exec {
        id: String,
        spec: ExecSpec,
        stdout: bool,
        stderr: bool,
    },
    Attach {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    Logs {
        path: PathBuf,
        options: LogOptions,
        uid: String,
        container: String,
        attempt: u32,
    },
    Port(TcpStream),
    Executors,
    MesosApi(Asker),
    /// An answer that is known already.
    Page(Page),
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// Finds what a tunnel leads to.
pub(crate) async fn open(shared: &Shared, request: TunnelRequest) -> Result<Opened, Refused> {
    match request {
        TunnelRequest::Exec { uid, container, command, stdin, stdout, stderr, tty, .. } => {
            let live = find_pod(shared, &uid)?;
            let id = running(&live, &container)
                .ok_or_else(|| (400, format!("container not found (\"{container}\")")))?;
            let spec = ExecSpec { args: command, tty, stdin, ..ExecSpec::default() };
            Ok(Opened::Exec { id, spec, stdout, stderr })
        }
        TunnelRequest::Attach { uid, container, stdin, stdout, stderr, .. } => {
            let live = find_pod(shared, &uid)?;
            let PodRef { namespace, name, .. } = &live.pod;
            let id = running(&live, &container)
                .ok_or_else(|| (400, format!("container {container} not found in pod {name}_{namespace}")))?;
            Ok(Opened::Attach { id, stdin, stdout, stderr })
        }
        TunnelRequest::Logs { uid, container, options, .. } => {
            let live = find_pod(shared, &uid)?;
            let name = &live.pod.name;
            if !live.containers.contains_key(&container) {
                return Err((400, format!("container {container} is not valid for pod {name}")));
            }
            let dir = shared.logs_of(&live.pod).join(&container);
            let lives = logs::lives(&dir);
            let wanted = if options.previous { lives.iter().rev().nth(1) } else { lives.last() };
            let Some(attempt) = wanted.copied() else {
                let message = if options.previous {
                    format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
                } else {
                    format!(
                        "container \"{container}\" in pod \"{name}\" is waiting to start: ContainerCreating"
                    )
                };
                return Err((400, message));
            };
            let path = dir.join(format!("{attempt}.log"));
            if !path.exists() {
                // The runtime makes the file with its first line.
                std::fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&path)
                    .map_err(|e| (500, e.to_string()))?;
            }
            Ok(Opened::Logs { path, options, uid, container, attempt })
        }
        TunnelRequest::Executors => Ok(Opened::Executors),
        TunnelRequest::MesosApi { acls } => {
            let asker = Asker::of_master(&acls);
            asker.map(Opened::MesosApi).map_err(|e| (400, format!("the ACLs cannot be read: {e}")))
        }
        TunnelRequest::Node { path, method, query } => {
            Ok(Opened::Page(node_api::answer(shared, &method, &path, &query).await))
        }
        TunnelRequest::PortForward { uid, port, .. } => {
            let live = find_pod(shared, &uid)?;
            if !live.connected {
                return Err((400, format!("pod \"{}\" is not running", live.pod.name)));
            }
            let stream = shared.machine.dial(live.netns.as_deref(), port).await;
            stream
                .map(Opened::Port)
                .map_err(|e| (500, format!("failed to connect to localhost:{port} inside the pod: {e}")))
        }
    }
}

fn find_pod(shared: &Shared, uid: &str) -> Result<LivePod, Refused> {
    let live = shared.live.lock().get(&shared.statics.behind(uid)).cloned();
    live.ok_or_else(|| (404, format!("pod {uid} is not on this node")))
}

/// A container without a process is not found, whether it waits, has ended or never was.
fn running(live: &LivePod, container: &str) -> Option<String> {
    live.containers.get(container)?.running.clone()
}

/// Carries frames until either side is done.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    opened: Opened,
    input: mpsc::Receiver<Frame>,
    output: mpsc::Sender<Frame>,
) {
    match opened {
        Opened::Exec { id, spec, stdout, stderr } => {
            let session = match shared.machine.exec(&id, spec).await {
                Ok(session) => session,
                Err(error) => return finish(&output, exec_failure(&chain(&error))).await,
            };
            let feed = tokio::spawn(feed(input, session.stdin, session.resize));
            let out = pump(session.stdout, Channel::Stdout, wanted(stdout, &output));
            let err = pump_maybe(session.stderr, Channel::Stderr, wanted(stderr, &output));
            let (_, _, code) = tokio::join!(out, err, session.exit);
            feed.abort();
            let status = match code {
                Ok(0) => json!({"metadata": {}, "status": "Success"}),
                Ok(code) => exit_status(code),
                Err(error) => exec_failure(&chain(&error)),
            };
            finish(&output, status).await;
        }
        Opened::Attach { id, stdin, stdout, stderr } => {
            let session = match shared.machine.attach(&id).await {
                Ok(session) => session,
                // It ended since it was looked for: there is nothing to see, which is no failure.
                Err(RuntimeError::NotFound(_) | RuntimeError::NotRunning(_)) => {
                    return finish(&output, json!({"metadata": {}, "status": "Success"})).await;
                }
                Err(error) => return finish(&output, failure(&chain(&error))).await,
            };
            let feed = tokio::spawn(feed(input, session.stdin.filter(|_| stdin), session.resize));
            let out = pump(session.stdout, Channel::Stdout, wanted(stdout, &output));
            let err = pump(session.stderr, Channel::Stderr, wanted(stderr, &output));
            tokio::select! {
                _ = async { tokio::join!(out, err) } => {}
                () = output.closed() => {}
            }
            feed.abort();
            finish(&output, json!({"metadata": {}, "status": "Success"})).await;
        }
        Opened::Logs { path, options, uid, container, attempt } => {
            let is_over = || {
                let live = shared.live.lock();
                let seen = live.get(&uid).and_then(|l| l.containers.get(&container));
                seen.is_none_or(|c| c.running.is_none() || c.attempts != attempt + 1)
            };
            let now = shared.now();
            if let Err(error) = logs::stream(path, &options, now, is_over, output.clone()).await {
                return finish(&output, failure(&error.to_string())).await;
            }
            finish(&output, json!({"metadata": {}, "status": "Success"})).await;
        }
        Opened::Port(stream) => forward(stream.into_split(), input, output).await,
        Opened::Executors => {
            crate::mesos::plane::serve(&shared.executors, &*shared.options.clock, input, output).await;
        }
        Opened::MesosApi(asker) => {
            let (near, far) = tokio::io::duplex(CHUNK_LEN);
            let served =
                tokio::spawn(crate::mesos::serve(Arc::clone(&shared), near, Door::Master(asker), None));
            forward(tokio::io::split(far), input, output).await;
            served.abort();
        }
        Opened::Page(Page { head, body }) => {
            let head = serde_json::to_vec(&head).unwrap_or_default();
            if output.send(Frame::new(Channel::Stderr, head)).await.is_err() {
                return;
            }
            match body {
                Body::Bytes(bytes) => {
                    for frame in Frame::split(Channel::Stdout, bytes) {
                        if output.send(frame).await.is_err() {
                            return;
                        }
                    }
                }
                Body::File(file, len) => {
                    send_file(tokio::fs::File::from_std(file).take(len), &output).await;
                }
            }
            finish(&output, json!({"metadata": {}, "status": "Success"})).await;
        }
    }
}

fn wanted(wanted: bool, output: &mpsc::Sender<Frame>) -> Option<mpsc::Sender<Frame>> {
    wanted.then(|| output.clone())
}

async fn finish(output: &mpsc::Sender<Frame>, status: serde_json::Value) {
    let _ = output.send(Frame::new(Channel::Status, status.to_string())).await;
}

fn failure(message: &str) -> serde_json::Value {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
}

/// A command that could not be run, as a kubelet tells it.
fn exec_failure(message: &str) -> serde_json::Value {
    let cause = format!("error executing command in container: {message}");
    let mut status = failure(&format!("Internal error occurred: {cause}"));
    status["details"] = json!({"causes": [{"message": cause}]});
    status
}

fn exit_status(code: i32) -> serde_json::Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// Standard input and sizes, towards the process.
async fn feed(mut input: mpsc::Receiver<Frame>, mut stdin: Option<BoxWrite>, resize: Option<Resize>) {
    while let Some(frame) = input.recv().await {
        match frame.channel {
            Channel::Stdin => {
                if let Some(writer) = stdin.as_mut()
                    && (writer.write_all(&frame.payload).await.is_err() || writer.flush().await.is_err())
                {
                    stdin = None;
                }
            }
            Channel::Close if frame.payload.first() == Some(&(Channel::Stdin as u8)) => stdin = None,
            Channel::Resize => {
                if let (Some(resize), Ok(size)) = (&resize, serde_json::from_slice::<Size>(&frame.payload)) {
                    resize.set(size.width, size.height);
                }
            }
            _ => {}
        }
    }
}

/// Sends what is left of a file, as long as somebody takes it.
async fn send_file(mut file: impl AsyncRead + Unpin, output: &mpsc::Sender<Frame>) {
    let mut chunk = vec![0; CHUNK_LEN];
    while let Ok(n @ 1..) = file.read(&mut chunk).await {
        let frame = Frame::new(Channel::Stdout, Bytes::copy_from_slice(&chunk[..n]));
        if output.send(frame).await.is_err() {
            return;
        }
    }
}

async fn pump_maybe(from: Option<BoxRead>, channel: Channel, to: Option<mpsc::Sender<Frame>>) {
    if let Some(from) = from {
        pump(from, channel, to).await;
    }
}

/// Passes bytes on; where nobody wants them they are read all the same, so that the writer is never held up.
async fn pump(mut from: impl AsyncRead + Unpin, channel: Channel, mut to: Option<mpsc::Sender<Frame>>) {
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        let n = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        if let Some(out) = &to
            && out.send(Frame::new(channel, Bytes::copy_from_slice(&chunk[..n]))).await.is_err()
        {
            to = None;
        }
    }
}

/// Carries one connection until both directions have ended. A pod that has said its last word may still listen, but not to
/// silence: the client would otherwise wait for an end that only it could bring about.
async fn forward(
    (read, mut write): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut input: mpsc::Receiver<Frame>,
    output: mpsc::Sender<Frame>,
) {
    let back = async {
        pump(read, Channel::Stdout, Some(output.clone())).await;
        let _ = output.send(Frame::new(Channel::Close, vec![Channel::Stdout as u8])).await;
    };
    tokio::pin!(back);
    let mut is_read_out = false;
    loop {
        let frame = tokio::select! {
            frame = input.recv() => frame,
            () = &mut back, if !is_read_out => {
                is_read_out = true;
                continue;
            }
            () = tokio::time::sleep(LISTEN_TIMEOUT), if is_read_out => break,
            () = output.closed() => return,
        };
        match frame {
            Some(frame) if frame.channel == Channel::Stdin => {
                if write.write_all(&frame.payload).await.is_err() {
                    break;
                }
            }
            Some(frame)
                if frame.channel == Channel::Close
                    && frame.payload.first() == Some(&(Channel::Stdin as u8)) =>
            {
                break;
            }
            Some(_) => {}
            // The client is gone altogether.
            None => break,
        }
    }
    let _ = write.shutdown().await;
    if !is_read_out {
        tokio::select! {
            () = back => {}
            () = output.closed() => return,
        }
    }
    finish(&output, json!({"metadata": {}, "status": "Success"})).await;
}
