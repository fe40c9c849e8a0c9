//! A connection on which a client opens streams: one future reads, one writes, and whoever holds a stream talks to both
//! through bounded queues.

use super::frame::{self, Frame, FrameError, Goodbye, Reset};
use super::headers::{HeaderError, Headers, Packer, Unpacker};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

/// Most open streams of one client. A port-forward needs two for each connection.
const STREAMS_LEN_MAX: usize = 512;
/// Frames that may wait to be written.
const WRITE_QUEUE_LEN_MAX: usize = 64;
/// Frames that may wait for whoever reads a stream. The next one holds back the whole connection, since nothing else can
/// hold back these clients.
const STREAM_QUEUE_LEN_MAX: usize = 32;
/// After so many bytes taken from a stream the client gets its credit.
const CREDIT_BYTES: u32 = 32 * 1024;
/// As much is written at once as one wake finds, up to this.
const WRITE_BYTES: usize = 64 * 1024;
/// How often a quiet client is written to. One that has gone while its data was held back shows only in a write that fails.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Ours are even.
const PING_ID: u32 = 2;
/// How long a client may take to close after we said goodbye.
const LINGER: Duration = Duration::from_secs(5);

/// What is to be written.
enum Out {
    Reply(u32),
    Data { stream: u32, fin: bool, data: Bytes },
    Reset(u32, Reset),
    Ping(u32),
    Credit(u32, u32),
    GoAway(Goodbye),
}

/// What a stream's reader finds in its queue. A queue that ends without `Fin` belongs to a stream that was reset.
enum Item {
    Data(Bytes),
    Fin,
}

#[derive(Default)]
struct State {
    streams: HashMap<u32, Entry>,
    /// The last stream that a client opened.
    last: u32,
}

struct Entry {
    /// Gone once the client has finished.
    queue: Option<mpsc::Sender<Item>>,
    /// We have finished.
    finished: bool,
}

type Shared = Arc<Mutex<State>>;

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that the client opened.
pub(crate) struct Stream {
    pub(crate) headers: Headers,
    pub(crate) input: StreamInput,
    pub(crate) output: StreamOutput,
}

/// What the client sends on a stream.
pub(crate) struct StreamInput {
    id: u32,
    queue: mpsc::Receiver<Item>,
    out: mpsc::Sender<Out>,
    owed: u32,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Data(Bytes),
    /// The client sends no more.
    Finished,
    /// The stream or the connection is gone.
    Reset,
}

impl StreamInput {
    /// Waits for the next bytes. May be cancelled without loss.
    pub(crate) async fn next(&mut self) -> Input {
        match self.queue.recv().await {
            Some(Item::Data(data)) => {
                self.credit(data.len());
                Input::Data(data)
            }
            Some(Item::Fin) => Input::Finished,
            None => Input::Reset,
        }
    }

    fn credit(&mut self, len: usize) {
        self.owed = self.owed.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        if self.owed >= CREDIT_BYTES {
            // Stream 0 stands for the connection. If the queue is full the credit is given later.
            let both = self.out.try_reserve_many(2).map(|permits| {
                for (permit, id) in permits.zip([self.id, 0]) {
                    permit.send(Out::Credit(id, self.owed));
                }
            });
            if both.is_ok() {
                self.owed = 0;
            }
        }
    }
}

/// What we send on a stream.
#[derive(Clone)]
pub(crate) struct StreamOutput {
    id: u32,
    out: mpsc::Sender<Out>,
    shared: Shared,
}

/// The client does not want any more of a stream, or is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl StreamOutput {
    pub(crate) async fn send(&self, data: Bytes) -> Result<(), Gone> {
        self.write(data, false).await
    }

    /// We send no more.
    pub(crate) async fn finish(&self) {
        let _ = self.write(Bytes::new(), true).await;
    }

    /// Neither side sends any more.
    pub(crate) async fn reset(&self) {
        if lock(&self.shared).streams.remove(&self.id).is_some() {
            let _ = self.out.send(Out::Reset(self.id, Reset::Cancel)).await;
        }
    }

    async fn write(&self, data: Bytes, fin: bool) -> Result<(), Gone> {
        {
            let mut state = lock(&self.shared);
            let entry = state.streams.get_mut(&self.id).filter(|entry| !entry.finished).ok_or(Gone)?;
            entry.finished = fin;
            if fin && entry.queue.is_none() {
                state.streams.remove(&self.id);
            }
        }
        self.out.send(Out::Data { stream: self.id, fin, data }).await.map_err(|_| Gone)
    }
}

/// The whole connection.
pub(crate) struct Connection {
    out: mpsc::Sender<Out>,
    streams: mpsc::Receiver<Stream>,
}

impl Connection {
    /// Takes over a connection. Nothing moves unless the future is polled; it ends when the connection has.
    pub(crate) fn new<IO>(io: IO) -> (Connection, impl Future<Output = ()> + Send)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (out, queue) = mpsc::channel(WRITE_QUEUE_LEN_MAX);
        let (opened, streams) = mpsc::channel(STREAM_QUEUE_LEN_MAX);
        let reader =
            Reader { out: out.clone(), opened, shared: Shared::default(), unpacker: Unpacker::new() };
        (Connection { out, streams }, drive(io, reader, queue))
    }

    /// The next stream that the client opens; `None` when it has gone.
    pub(crate) async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// Says goodbye: what was sent before is still written, then the connection is closed.
    pub(crate) async fn close(self) {
        let _ = self.out.send(Out::GoAway(Goodbye::Fine)).await;
    }
}

async fn drive<IO>(io: IO, mut reader: Reader, queue: mpsc::Receiver<Out>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (input, output) = tokio::io::split(io);
    let (out, shared) = (reader.out.clone(), reader.shared.clone());
    let mut read = pin!(reader.run(BufReader::with_capacity(16 * 1024, input)));
    let mut written = pin!(write(output, queue, &shared));
    let end = tokio::select! {
        end = &mut read => Some(end),
        _ = &mut written => None,
    };
    let last = match end {
        // We have said goodbye, or the client takes no more: let it close first, so that no reset overtakes the last bytes.
        None => tokio::time::timeout(LINGER, read).await.map(|_| ()),
        Some(end) => {
            lock(&shared).streams.clear();
            let goodbye = async {
                if let Err(cause) = end {
                    tracing::debug!(%cause, "a SPDY connection ended");
                    let _ = out.send(Out::GoAway(Goodbye::Protocol)).await;
                } else {
                    let _ = out.send(Out::GoAway(Goodbye::Fine)).await;
                }
            };
            // The writer must run for the queue to have room.
            tokio::time::timeout(LINGER, async { tokio::join!(goodbye, written) }).await.map(|_| ())
        }
    };
    if last.is_err() {
        tracing::debug!("a SPDY client did not close in time");
    }
    lock(&shared).streams.clear();
}

/// Why a connection ends before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Headers(#[from] HeaderError),
    #[error("stream {0} is not a client's next")]
    Order(u32),
}

struct Reader {
    out: mpsc::Sender<Out>,
    opened: mpsc::Sender<Stream>,
    shared: Shared,
    unpacker: Unpacker,
}

impl Reader {
    async fn run(&mut self, mut input: impl AsyncRead + Unpin) -> Result<(), Broken> {
        while let Some(frame) = frame::read(&mut input).await? {
            match frame {
                Frame::SynStream { stream, fin, block } => self.open(stream, fin, &block).await?,
                Frame::SynReply { block, .. } => drop(self.unpacker.unpack(&block)?),
                Frame::Headers { stream, fin, block } => {
                    self.unpacker.unpack(&block)?;
                    if fin {
                        self.finish(stream).await;
                    }
                }
                Frame::Data { stream, fin, data } => self.data(stream, fin, data).await,
                Frame::RstStream { stream } => drop(lock(&self.shared).streams.remove(&stream)),
                // Odd pings are the client's; an even one is the answer to one of ours.
                Frame::Ping { id } if id % 2 == 1 => self.send(Out::Ping(id)).await,
                Frame::Ping { .. } | Frame::GoAway | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn send(&self, out: Out) {
        // A writer that is gone takes the connection down; the next read will tell.
        let _ = self.out.send(out).await;
    }

    async fn open(&mut self, id: u32, fin: bool, block: &[u8]) -> Result<(), Broken> {
        // Also when the stream is refused: the packer on the other side has moved on.
        let headers = self.unpacker.unpack(block)?;
        let (queue, items) = mpsc::channel(STREAM_QUEUE_LEN_MAX);
        let admitted = {
            let mut state = lock(&self.shared);
            if id.is_multiple_of(2) || id <= state.last {
                return Err(Broken::Order(id));
            }
            state.last = id;
            let admitted = state.streams.len() < STREAMS_LEN_MAX;
            if admitted {
                state.streams.insert(id, Entry { queue: Some(queue), finished: false });
            }
            admitted
        };
        if !admitted {
            self.send(Out::Reset(id, Reset::Refused)).await;
            return Ok(());
        }
        self.send(Out::Reply(id)).await;
        let input = StreamInput { id, queue: items, out: self.out.clone(), owed: 0 };
        let output = StreamOutput { id, out: self.out.clone(), shared: self.shared.clone() };
        // If nobody wants streams any more this one is dropped, and with it the client's data.
        let _ = self.opened.send(Stream { headers, input, output }).await;
        if fin {
            self.finish(id).await;
        }
        Ok(())
    }

    async fn data(&mut self, id: u32, fin: bool, data: Bytes) {
        let known = {
            let state = lock(&self.shared);
            state.streams.get(&id).map(|entry| entry.queue.clone()).ok_or(id > state.last)
        };
        match known {
            Ok(Some(queue)) => {
                if !data.is_empty() {
                    let _ = queue.send(Item::Data(data)).await;
                }
                if fin {
                    self.finish(id).await;
                }
            }
            Ok(None) => self.send(Out::Reset(id, Reset::Protocol)).await,
            Err(true) => self.send(Out::Reset(id, Reset::InvalidStream)).await,
            // It was open once: the client does not know yet that it is not.
            Err(false) => {}
        }
    }

    async fn finish(&mut self, id: u32) {
        let queue = {
            let mut state = lock(&self.shared);
            let Some(entry) = state.streams.get_mut(&id) else { return };
            let queue = entry.queue.take();
            if entry.finished {
                state.streams.remove(&id);
            }
            queue
        };
        if let Some(queue) = queue {
            let _ = queue.send(Item::Fin).await;
        }
    }
}

/// Writes what is queued until goodbye has been said.
async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Out>,
    shared: &Shared,
) -> io::Result<()> {
    let mut packer = Packer::new().map_err(io::Error::other)?;
    let mut buf = Vec::with_capacity(WRITE_BYTES);
    let mut closing = false;
    while !closing {
        let mut next = match tokio::time::timeout(PING_INTERVAL, queue.recv()).await {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(_) => Out::Ping(PING_ID),
        };
        loop {
            closing |= matches!(next, Out::GoAway(_));
            put(&mut buf, &mut packer, next, shared)?;
            if closing || buf.len() >= WRITE_BYTES {
                break;
            }
            match queue.try_recv() {
                Ok(more) => next = more,
                Err(_) => break,
            }
        }
        output.write_all(&buf).await?;
        output.flush().await?;
        buf.clear();
    }
    output.shutdown().await
}

fn put(buf: &mut Vec<u8>, packer: &mut Packer, out: Out, shared: &Shared) -> io::Result<()> {
    match out {
        Out::Reply(stream) => {
            let block = packer.pack(&Headers::default()).map_err(io::Error::other)?;
            frame::put_syn_reply(buf, stream, &block);
        }
        Out::Data { stream, fin, data } => frame::put_data(buf, stream, fin, &data),
        Out::Reset(stream, why) => frame::put_rst_stream(buf, stream, why),
        Out::Ping(id) => frame::put_ping(buf, id),
        Out::Credit(stream, credit) => frame::put_window_update(buf, stream, credit),
        Out::GoAway(why) => frame::put_go_away(buf, lock(shared).last, why),
    }
    Ok(())
}
