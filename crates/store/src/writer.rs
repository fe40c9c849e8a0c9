//! The one thread that writes.

use crate::frame;
use crate::hub::Group;
use crate::log::{AppendError, Log};
use crate::queue::{Queue, Reply, Request, Taken};
use crate::shared::{Shared, wake};
use crate::{Commit, Error, checkpoint};
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use stoa_units::{Revision, Time};
use tokio::runtime::Handle;

/// How often an idle store looks whether history has become too old.
const IDLE: Duration = Duration::from_secs(5);
/// How long to wait after a checkpoint failed: on a full disk the next attempt would only write the same in vain.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(30);

pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) log: Log,
    pub(crate) log_bytes: Arc<AtomicU64>,
    pub(crate) checkpoints: Checkpoints,
    frame: frame::Writer,
    /// Whose tasks wait, if the store was opened within one.
    runtime: Option<Handle>,
    /// Set when it is no longer known what is on disk.
    lost: Option<String>,
}

/// Whether there was something to write.
#[derive(Clone, Copy)]
enum Load {
    Busy,
    Idle,
}

/// Verdicts that wait for the disk.
#[derive(Default)]
struct Verdicts {
    commits: Vec<(Reply<Commit>, Result<Commit, Error>)>,
    compactions: Vec<(Reply<()>, Result<(), Error>)>,
}

impl Verdicts {
    fn len(&self) -> usize {
        self.commits.len() + self.compactions.len()
    }

    // A caller that no longer waits has dropped its end; that is its own business.
    fn send(self) {
        for (reply, verdict) in self.commits {
            let _ = reply.send(verdict);
        }
        for (reply, verdict) in self.compactions {
            let _ = reply.send(verdict);
        }
    }

    fn fail(self, cause: &io::Error) {
        let error = || Error::io("write the log", io::Error::new(cause.kind(), cause.to_string()));
        for (reply, _) in self.commits {
            let _ = reply.send(Err(error()));
        }
        for (reply, _) in self.compactions {
            let _ = reply.send(Err(error()));
        }
    }
}

/// What a batch has to tell, and whom. It is told when this is dropped, and so in any case.
struct News {
    verdicts: Verdicts,
    groups: Vec<Arc<Group>>,
}

impl News {
    /// Tells it. Tasks that this thread wakes are queued one by one under a lock, and run by whoever is idle before the next is
    /// woken; woken from within the runtime they are queued together, and what they answer leaves together.
    fn spread(self, runtime: Option<&Handle>) {
        match runtime {
            Some(runtime) if self.verdicts.len() > 1 => drop(runtime.spawn(async move { drop(self) })),
            _ => drop(self),
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        std::mem::take(&mut self.verdicts).send();
        wake(&self.groups);
    }
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        log: Log,
        log_bytes: Arc<AtomicU64>,
        checkpoint: Revision,
    ) -> Writer {
        log_bytes.store(log.bytes(), Ordering::Relaxed);
        Writer {
            shared,
            queue,
            log,
            log_bytes,
            checkpoints: Checkpoints { last: checkpoint, running: None, failed: None, stop: Arc::default() },
            frame: frame::Writer::default(),
            runtime: Handle::try_current().ok(),
            lost: None,
        }
    }

    /// Writes until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            match self.queue.take(IDLE) {
                Taken::Requests(requests) => {
                    self.batch(requests);
                    self.keep_house(Load::Busy);
                }
                Taken::Idle => {
                    self.batch(Vec::new());
                    self.keep_house(Load::Idle);
                }
                Taken::Closed => break,
            }
        }
    }

    /// One batch: judge, make durable, publish, tell.
    fn batch(&mut self, requests: Vec<Request>) {
        self.frame.clear();
        let shared = self.shared.clone();
        let mut draft = shared.draft(requests.len(), self.compaction_in(&requests));
        if let Some(to) = draft.compacted {
            self.frame.compact(to);
        }
        let mut verdicts = Verdicts::default();
        for request in requests {
            match request {
                Request::Commit { txn, reply, .. } => {
                    let before = draft.events.len();
                    let verdict = draft.apply(txn);
                    if draft.events.len() > before {
                        self.frame.txn(draft.revision(), &draft.events[before..]);
                    }
                    verdicts.commits.push((reply, verdict));
                }
                Request::Compact { before, reply } => {
                    let verdict = shared.index().check(before);
                    verdicts.compactions.push((reply, verdict));
                }
            }
        }
        if let Err(cause) = self.write() {
            return verdicts.fail(&cause);
        }
        let groups = if draft.is_empty() { Vec::new() } else { shared.publish(draft) };
        News { verdicts, groups }.spread(self.runtime.as_ref());
    }

    /// The furthest compaction that callers ask for and that is possible.
    fn compaction_in(&self, requests: &[Request]) -> Option<Revision> {
        let wanted = requests.iter().filter_map(|request| match request {
            Request::Compact { before, .. } => Some(*before),
            Request::Commit { .. } => None,
        });
        wanted.filter(|before| *before <= self.shared.revision()).max()
    }

    fn write(&mut self) -> io::Result<()> {
        if let Some(why) = &self.lost {
            return Err(io::Error::other(format!("the store is read-only after a failure: {why}")));
        }
        if self.frame.is_empty() {
            return Ok(());
        }
        match self.log.append(&mut self.frame) {
            Ok(()) => Ok(()),
            Err(AppendError::Refused(cause)) => {
                tracing::error!(%cause, "cannot write the log; the transactions were refused");
                Err(cause)
            }
            Err(AppendError::Lost(cause)) => {
                tracing::error!(%cause, "cannot sync the log; the store is read-only until it is opened again");
                self.lost = Some(cause.to_string());
                Err(cause)
            }
        }
    }

    /// After a batch: new segments, checkpoints, and the removal of what they replace.
    fn keep_house(&mut self, load: Load) {
        if self.lost.is_some() {
            return;
        }
        let options = &self.shared.options;
        match self.log.rotate(options.segment_bytes_max, self.shared.revision().next()) {
            Ok(()) => {}
            Err(AppendError::Refused(cause)) => {
                tracing::warn!(%cause, "cannot begin a new segment of the log; the old one grows on");
            }
            Err(AppendError::Lost(cause)) => {
                tracing::error!(%cause, "cannot begin a new segment of the log; the store is read-only until it is opened again");
                self.lost = Some(cause.to_string());
                return;
            }
        }
        let now = options.clock.now();
        if self.checkpoints.finish(now)
            && let Err(cause) = self.checkpoints.remove_replaced(&mut self.log)
        {
            tracing::warn!(%cause, "cannot remove old files of the store");
        }
        let index = self.shared.index();
        let free = self.log.bytes_through(index.compacted());
        // A checkpoint costs the live state and frees the log. When there is nothing else to do a smaller gain is enough: the
        // next start is the quicker.
        let worthwhile = match load {
            Load::Busy => options.log_bytes_max.max(4 * index.live_bytes()),
            Load::Idle => (options.log_bytes_max / 8).max(index.live_bytes() / 2),
        };
        if free > worthwhile && self.checkpoints.is_ready(now) {
            self.checkpoints.start(&self.log, self.shared.clone());
        }
        self.log_bytes.store(self.log.bytes(), Ordering::Relaxed);
    }
}

impl Drop for Writer {
    // Also when the thread unwinds: a caller must hear that there is nobody left to answer.
    fn drop(&mut self) {
        self.queue.abandon();
        self.shared.hub.close();
        self.checkpoints.stop();
    }
}

/// Writes checkpoints, one at a time.
pub(crate) struct Checkpoints {
    last: Revision,
    running: Option<JoinHandle<io::Result<Revision>>>,
    /// When the last attempt failed, if it did.
    failed: Option<Time>,
    stop: Arc<AtomicBool>,
}

impl Checkpoints {
    fn start(&mut self, log: &Log, shared: Arc<Shared>) {
        if shared.compacted() <= self.last {
            return;
        }
        let (dir, cluster, stop) = (log.dir().to_owned(), log.cluster().to_owned(), self.stop.clone());
        let thread = thread::Builder::new().name("stoa-checkpoint".to_owned());
        match thread.spawn(move || checkpoint::write(&dir, &cluster, shared.index(), &stop)) {
            Ok(handle) => self.running = Some(handle),
            Err(cause) => tracing::warn!(%cause, "cannot start a thread to write a checkpoint"),
        }
    }

    /// True if none is being written and the last failure is long enough ago.
    fn is_ready(&self, now: Time) -> bool {
        self.running.is_none() && self.failed.is_none_or(|then| now.since(then) >= CHECKPOINT_RETRY)
    }

    /// True if a checkpoint has been completed since the last call.
    fn finish(&mut self, now: Time) -> bool {
        let Some(running) = self.running.take_if(|running| running.is_finished()) else { return false };
        self.failed = None;
        match running.join() {
            Ok(Ok(at)) => {
                self.last = at;
                return true;
            }
            Ok(Err(cause)) => tracing::error!(%cause, "cannot write a checkpoint"),
            Err(_) => tracing::error!("the thread that wrote a checkpoint panicked"),
        }
        self.failed = Some(now);
        false
    }

    fn remove_replaced(&self, log: &mut Log) -> io::Result<()> {
        log.remove_through(self.last)?;
        for entry in fs::read_dir(log.dir())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let older =
                name.strip_prefix("checkpoint-").and_then(Revision::parse).is_some_and(|r| r < self.last);
            if older {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}
