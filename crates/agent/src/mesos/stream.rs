//! An executor's event stream: a bounded queue of records here, a response body on the connection's side.

use bytes::Bytes;
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use stoa_mesos::Encoding;
use stoa_mesos::executor::Event;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// How often a heartbeat is sent; the first comes after as long.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Records that wait for a slow reader.
const QUEUE_LEN_MAX: usize = 4_096;

/// The agent's side. Dropping it ends the stream once what was queued is read.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    queue: mpsc::Sender<Bytes>,
    encoding: Encoding,
}

impl Subscriber {
    /// Queues an event. False if the reader has gone or is too slow.
    pub(crate) fn send(&self, event: &Event) -> bool {
        self.queue.try_send(event.to_record(self.encoding)).is_ok()
    }

    /// Whether both are the same stream.
    pub(crate) fn is_same(&self, other: &Subscriber) -> bool {
        self.queue.same_channel(&other.queue)
    }
}

/// Told when the reader has gone.
type OnClose = Box<dyn FnOnce() + Send>;

/// The connection's side.
pub(crate) struct EventBody {
    records: mpsc::Receiver<Bytes>,
    heartbeat: Interval,
    encoding: Encoding,
    on_close: Option<OnClose>,
}

/// Opens a stream.
pub(crate) fn open(encoding: Encoding) -> (Subscriber, EventBody) {
    let (queue, records) = mpsc::channel(QUEUE_LEN_MAX);
    let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    (Subscriber { queue, encoding }, EventBody { records, heartbeat, encoding, on_close: None })
}

impl EventBody {
    /// Calls this when the reader has gone.
    pub(crate) fn on_close(mut self, call: impl FnOnce() + Send + 'static) -> EventBody {
        self.on_close = Some(Box::new(call));
        self
    }
}

impl hyper::body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Poll::Ready(record) = self.records.poll_recv(cx) {
            return Poll::Ready(record.map(|r| Ok(Frame::data(r))));
        }
        let encoding = self.encoding;
        self.heartbeat.poll_tick(cx).map(|_| Some(Ok(Frame::data(Event::Heartbeat.to_record(encoding)))))
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.records.close();
        if let Some(call) = self.on_close.take() {
            call();
        }
    }
}
