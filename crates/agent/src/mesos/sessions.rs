//! Processes that operators started in tasks' containers: their input, their output as records, their end.

use super::container_id::ContainerId;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_mesos::{Blob, Encoding, recordio};
use stoa_runtime::{BoxRead, ExecSession};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

/// Sessions that are remembered, those that ended included.
const SESSIONS_MAX: usize = 1_024;
/// Records, and pieces of input, that wait.
const QUEUE_LEN_MAX: usize = 64;
/// Bytes of output in one record.
const CHUNK_LEN: usize = 16 << 10;
/// How long output is read that a process leaves behind.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);
/// How often a silent stream says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What is sent to a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    /// Bytes; none means the end.
    Data(Vec<u8>),
    /// A terminal's new size: columns, rows.
    Size(u16, u16),
}

impl Input {
    /// Reads a `ProcessIO`.
    pub(crate) fn read(io: &Value) -> Option<Input> {
        match io["type"].as_str()? {
            "DATA" if io["data"]["type"] == "STDIN" => {
                let data = io["data"].get("data").cloned().unwrap_or_else(|| "".into());
                serde_json::from_value::<Blob>(data).ok().map(|b| Input::Data(b.0))
            }
            "CONTROL" if io["control"]["type"] == "TTY_INFO" => {
                let size = &io["control"]["tty_info"]["window_size"];
                let number = |key: &str| size[key].as_u64().and_then(|n| u16::try_from(n).ok());
                Some(Input::Size(number("columns")?, number("rows")?))
            }
            _ => None,
        }
    }
}

/// Whether a process is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Unknown,
    Running,
    Done,
}

struct Session {
    id: ContainerId,
    input: Option<mpsc::Sender<Input>>,
    code: watch::Sender<Option<i32>>,
    signal: Option<Box<dyn Fn(i32) + Send + Sync>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Sessions {
    all: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// A new one; false if there is one of that name.
    pub(crate) fn begin(&self, id: &ContainerId) -> bool {
        let mut all = self.all.lock();
        if all.contains_key(&id.key()) {
            return false;
        }
        if all.len() >= SESSIONS_MAX {
            all.retain(|_, s| s.code.borrow().is_none());
        }
        let session = Session { id: id.clone(), input: None, code: watch::Sender::new(None), signal: None };
        all.insert(id.key(), session);
        true
    }

    /// Those that are not over.
    pub(crate) fn list(&self) -> Vec<ContainerId> {
        let all = self.all.lock();
        let mut live: Vec<ContainerId> =
            all.values().filter(|s| s.code.borrow().is_none()).map(|s| s.id.clone()).collect();
        live.sort_by_key(ContainerId::key);
        live
    }

    /// Whether there is, or was, one of that name.
    pub(crate) fn knows(&self, id: &ContainerId) -> bool {
        self.all.lock().contains_key(&id.key())
    }

    /// It is over.
    pub(crate) fn end(&self, id: &ContainerId, code: i32) {
        if let Some(session) = self.all.lock().get_mut(&id.key()) {
            session.input = None;
            session.signal = None;
            session.code.send_replace(Some(code));
        }
    }

    /// Where its input goes.
    pub(crate) fn input(&self, id: &ContainerId) -> Option<mpsc::Sender<Input>> {
        self.all.lock().get(&id.key())?.input.clone()
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self, id: &ContainerId) -> Option<i32> {
        let mut code = self.all.lock().get(&id.key())?.code.subscribe();
        let ended = code.wait_for(Option::is_some).await.ok()?;
        *ended
    }

    /// Sends it a signal; false if it is not there.
    pub(crate) fn signal(&self, id: &ContainerId, signal: i32) -> bool {
        let all = self.all.lock();
        let Some(session) = all.get(&id.key()) else { return false };
        if let Some(send) = &session.signal {
            send(signal);
        }
        true
    }

    /// Forgets one that is over.
    pub(crate) fn remove(&self, id: &ContainerId) -> Ended {
        let mut all = self.all.lock();
        match all.get(&id.key()).map(|s| s.code.borrow().is_some()) {
            None => Ended::Unknown,
            Some(false) => Ended::Running,
            Some(true) => {
                all.remove(&id.key());
                Ended::Done
            }
        }
    }
}

/// Carries a process; what it writes comes out as records. `is_bound` means that it is killed when nobody listens any more.
pub(crate) fn run(
    sessions: Arc<Sessions>,
    id: ContainerId,
    started: ExecSession,
    is_bound: bool,
    encoding: Encoding,
) -> mpsc::Receiver<Bytes> {
    let (input, inputs) = mpsc::channel(QUEUE_LEN_MAX);
    let signal = started.signaller();
    let kill = started.killer();
    if let Some(session) = sessions.all.lock().get_mut(&id.key()) {
        session.input = Some(input);
        session.signal = Some(Box::new(signal));
    }
    let (records, out) = mpsc::channel(QUEUE_LEN_MAX);
    let ExecSession { stdin, stdout, stderr, resize, exit, .. } = started;
    tokio::spawn(async move {
        let feed = tokio::spawn(feed(inputs, stdin, resize));
        let said = pump_both(stdout, stderr, records.clone(), encoding);
        tokio::pin!(said, exit);
        // What the process leaves behind may hold its output open for long: its end is the end all the same.
        let code = tokio::select! {
            () = &mut said => exit.await,
            code = &mut exit => {
                let _ = tokio::time::timeout(LAST_WORDS_WAIT, &mut said).await;
                code
            }
            () = records.closed(), if is_bound => {
                kill();
                exit.await
            }
        };
        let code = code.unwrap_or(255);
        feed.abort();
        sessions.end(&id, code);
    });
    out
}

/// Output of a container that runs already, as records.
pub(crate) fn follow(stdout: BoxRead, stderr: Option<BoxRead>, encoding: Encoding) -> mpsc::Receiver<Bytes> {
    let (records, out) = mpsc::channel(QUEUE_LEN_MAX);
    tokio::spawn(async move {
        tokio::select! {
            () = pump_both(stdout, stderr, records.clone(), encoding) => {}
            () = records.closed() => {}
        }
    });
    out
}

async fn pump_both(
    stdout: BoxRead,
    stderr: Option<BoxRead>,
    records: mpsc::Sender<Bytes>,
    encoding: Encoding,
) {
    let errors = async {
        if let Some(stderr) = stderr {
            pump(stderr, "STDERR", &records, encoding).await;
        }
    };
    let both = async { tokio::join!(pump(stdout, "STDOUT", &records, encoding), errors) };
    tokio::pin!(both);
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            _ = &mut both => return,
            _ = beat.tick() => {
                let interval = json!({"nanoseconds": HEARTBEAT.as_nanos() as u64});
                let io = json!({"type": "CONTROL", "control": {"type": "HEARTBEAT", "heartbeat": {"interval": interval}}});
                let _ = records.try_send(record(&io, encoding));
            }
        }
    }
}

async fn pump(mut from: BoxRead, stream: &str, records: &mpsc::Sender<Bytes>, encoding: Encoding) {
    let mut chunk = vec![0; CHUNK_LEN];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        let io = json!({"type": "DATA", "data": {"type": stream, "data": Blob(chunk[..n].to_vec())}});
        if records.send(record(&io, encoding)).await.is_err() {
            return;
        }
    }
}

fn record(io: &Value, encoding: Encoding) -> Bytes {
    recordio::encode(&encoding.encode("agent.ProcessIO", io))
}

async fn feed(
    mut inputs: mpsc::Receiver<Input>,
    mut stdin: Option<stoa_runtime::BoxWrite>,
    resize: Option<stoa_runtime::exec::Resize>,
) {
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Data(bytes) if bytes.is_empty() => stdin = None,
            Input::Data(bytes) => {
                if let Some(writer) = stdin.as_mut()
                    && (writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err())
                {
                    stdin = None;
                }
            }
            Input::Size(columns, rows) => {
                if let Some(resize) = &resize {
                    resize.set(columns, rows);
                }
            }
        }
    }
    // Whoever sent input is gone; the process is not told, since another may come.
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_bytes_an_end_or_a_size() {
        let data = |d: Value| json!({"type": "DATA", "data": {"type": "STDIN", "data": d}});
        assert_eq!(Input::read(&data("aGk=".into())), Some(Input::Data(b"hi".to_vec())));
        assert_eq!(Input::read(&data("".into())), Some(Input::Data(vec![])));
        let size = json!({"type": "CONTROL", "control": {"type": "TTY_INFO",
            "tty_info": {"window_size": {"rows": 24, "columns": 80}}}});
        assert_eq!(Input::read(&size), Some(Input::Size(80, 24)));
        assert_eq!(Input::read(&json!({"type": "CONTROL", "control": {"type": "HEARTBEAT"}})), None);
    }

    #[tokio::test]
    async fn an_end_is_known_to_whoever_waits_and_then_forgotten() {
        let sessions = Arc::new(Sessions::default());
        let id = |parent: &str| {
            let parent = ContainerId { value: parent.into(), parent: None };
            ContainerId { value: "s".into(), parent: Some(Box::new(parent)) }
        };
        let s = id("a");
        assert!(sessions.begin(&s) && !sessions.begin(&s));
        assert!(sessions.begin(&id("b")), "a name within another container is another one");
        assert_eq!(sessions.remove(&s), Ended::Running);
        let waiting = tokio::spawn({
            let (sessions, s) = (Arc::clone(&sessions), s.clone());
            async move { sessions.wait(&s).await }
        });
        sessions.end(&s, 3);
        assert_eq!(waiting.await.unwrap(), Some(3));
        assert_eq!(sessions.list(), [id("b")]);
        assert_eq!(sessions.remove(&s), Ended::Done);
        assert_eq!(sessions.wait(&s).await, None);
    }
}
