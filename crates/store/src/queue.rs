//! The way to the writer: bounded in length and in bytes, joined without blocking a task's thread.

use crate::{Commit, Error, Revision, Txn};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// What may wait, in units of [`UNIT_BYTES`]; every request takes at least one.
const QUEUE_UNITS_MAX: usize = 16 * 1024;
const UNIT_BYTES: usize = 4 * 1024;
/// Most requests in one batch.
const BATCH_LEN_MAX: usize = 4 * 1024;
/// Most bytes in one batch; one more transaction may go beyond it.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// The other end of a verdict.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What the writer is asked to do.
pub(crate) enum Request {
    /// Judge a transaction and carry it out.
    Commit { txn: Txn, bytes: usize, reply: Reply<Commit> },
    /// Forget history.
    Compact { before: Revision, reply: Reply<()> },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Request::Commit { bytes, .. } => *bytes,
            Request::Compact { .. } => 0,
        }
    }

    fn units(&self) -> usize {
        1 + self.bytes() / UNIT_BYTES
    }
}

/// What the writer finds.
pub(crate) enum Taken {
    /// These, in the order in which they came.
    Requests(Vec<Request>),
    /// Nothing for a while.
    Idle,
    /// Nothing, ever again.
    Closed,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    closed: bool,
}

pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    room: Semaphore,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue { state: Mutex::default(), ready: Condvar::new(), room: Semaphore::new(QUEUE_UNITS_MAX) }
    }

    /// Waits for room and queues a request.
    pub(crate) async fn push(&self, request: Request) -> Result<(), Error> {
        let units = u32::try_from(request.units()).unwrap_or(u32::MAX);
        self.room.acquire_many(units).await.map_err(|_| Error::Closed)?.forget();
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.push_back(request);
        drop(state);
        if was_empty {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Takes what waits, up to a batch; waits up to `patience` if nothing does.
    pub(crate) fn take(&self, patience: Duration) -> Taken {
        let mut state = self.state.lock();
        if state.waiting.is_empty() && !state.closed {
            self.ready.wait_for(&mut state, patience);
        }
        if state.waiting.is_empty() {
            return if state.closed { Taken::Closed } else { Taken::Idle };
        }
        let (mut len, mut bytes, mut units) = (0, 0, 0);
        for request in &state.waiting {
            if len == BATCH_LEN_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            len += 1;
            bytes += request.bytes();
            units += request.units();
        }
        let requests = state.waiting.drain(..len).collect();
        drop(state);
        self.room.add_permits(units);
        Taken::Requests(requests)
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Lets nothing more in. What already waits is still taken.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.room.close();
        self.ready.notify_one();
    }

    /// The writer is gone: whoever still waits is told so.
    pub(crate) fn abandon(&self) {
        self.close();
        self.state.lock().waiting.clear();
    }
}
