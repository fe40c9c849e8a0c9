//! A framework's event stream: a bounded queue of records on the master's side, a response body on the connection's.
//! A reader that does not keep up is disconnected, never waited for.

use bytes::Bytes;
use http_body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use stoa_mesos::Encoding;
use stoa_mesos::scheduler::Event;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often a heartbeat is sent.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Records that wait for a slow reader.
const STREAM_QUEUE_LEN_MAX: usize = 4_096;

/// Told when any stream's reader has gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closings {
    is_any: Arc<AtomicBool>,
    wake: Arc<Notify>,
}

impl Closings {
    pub fn new(wake: Arc<Notify>) -> Closings {
        Closings { is_any: Arc::default(), wake }
    }

    /// A stream has to be looked at.
    pub fn note(&self) {
        self.is_any.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether a reader has gone since the last call.
    pub fn take(&self) -> bool {
        self.is_any.swap(false, Ordering::Relaxed)
    }
}

/// The master's side.
#[derive(Debug)]
pub(crate) struct Subscriber {
    queue: mpsc::Sender<Bytes>,
    /// An event found no room.
    is_overrun: AtomicBool,
    /// What every later call must name.
    pub stream_id: String,
    /// How it wants its events written.
    pub encoding: Encoding,
}

/// Opens a stream.
pub(crate) fn open(closings: &Closings, encoding: Encoding) -> (Subscriber, EventBody) {
    let (queue, body) = channel(closings, Event::Heartbeat.to_record(encoding));
    let stream_id = uuid::Uuid::new_v4().to_string();
    let subscriber = Subscriber { queue, is_overrun: AtomicBool::new(false), stream_id, encoding };
    (subscriber, body)
}

/// A queue of records and the body that they become; `beat` is sent in between while nothing else is.
pub(crate) fn channel(closings: &Closings, beat: Bytes) -> (mpsc::Sender<Bytes>, EventBody) {
    let (queue, records) = mpsc::channel(STREAM_QUEUE_LEN_MAX);
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    (queue, EventBody { records, heartbeat, closings: closings.clone(), beat })
}

impl Subscriber {
    /// Queues an event. False if the reader has gone or is too slow.
    pub fn send(&self, event: &Event) -> bool {
        let is_sent = self.queue.try_send(event.to_record(self.encoding)).is_ok();
        if !is_sent {
            self.is_overrun.store(true, Ordering::Relaxed);
        }
        is_sent
    }

    /// Whether nothing more can be sent.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed() || self.is_overrun.load(Ordering::Relaxed)
    }

    /// The queue itself, for a sender that waits for room.
    pub fn queue(&self) -> mpsc::Sender<Bytes> {
        self.queue.clone()
    }
}

/// The connection's side. It ends when the subscriber is dropped and what was queued is read.
pub(crate) struct EventBody {
    records: mpsc::Receiver<Bytes>,
    heartbeat: Interval,
    closings: Closings,
    beat: Bytes,
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Poll::Ready(record) = self.records.poll_recv(cx) {
            return Poll::Ready(record.map(|r| Ok(Frame::data(r))));
        }
        let beat = self.beat.clone();
        self.heartbeat.poll_tick(cx).map(|_| Some(Ok(Frame::data(beat))))
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.records.close();
        self.closings.note();
    }
}
