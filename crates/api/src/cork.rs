//! Gathers what a connection writes. HTTP/2 flushes after every frame, which would be a record of TLS, a system call and a packet
//! each: an event that a hundred watches of one connection wait for would leave in a hundred packets. Here a frame waits until
//! the tasks that were woken with its own have had their turn, and all leave together.

use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much waits at most; a write beyond it waits for the connection.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// From this size on a write gains nothing by being copied.
const DIRECT_BYTES_MIN: usize = 8 * 1024;
/// What a connection on which nothing happens may keep.
const IDLE_BYTES_MAX: usize = 4 * 1024;

/// What is between HTTP and the connection below.
#[derive(Debug)]
struct Inner<T> {
    io: T,
    gathered: Vec<u8>,
    /// How much of that is written already.
    written: usize,
    /// Whether somebody flushes after this turn.
    is_gathering: bool,
    /// Whether the connection below may hold something back.
    is_dirty: bool,
    /// Why the last flush failed: HTTP learns of it at its next.
    failed: Option<io::ErrorKind>,
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    /// Hands what was gathered to the connection below.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered[self.written..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += n;
            self.is_dirty = true;
        }
        self.written = 0;
        self.gathered.clear();
        self.gathered.shrink_to(IDLE_BYTES_MAX);
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.is_dirty = false;
        Poll::Ready(Ok(()))
    }

    fn waits(&self) -> bool {
        self.is_dirty || !self.gathered.is_empty()
    }
}

/// A connection as HTTP sees it.
#[derive(Debug)]
pub(crate) struct Corked<T>(Arc<Mutex<Inner<T>>>);

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Corked<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        if !inner.is_gathering && inner.waits() {
            // What was left at the hand-over leaves though the new owner only listens; a failure shows at its next write.
            let _ = inner.poll_flush(cx);
        }
        Pin::new(&mut inner.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        let len: usize = bufs.iter().map(|b| b.len()).sum();
        if !inner.is_gathering || len >= DIRECT_BYTES_MIN {
            ready!(inner.poll_drain(cx))?;
            inner.is_dirty = true;
            return Pin::new(&mut inner.io).poll_write_vectored(cx, bufs);
        }
        if inner.gathered.len() + len > GATHERED_BYTES_MAX {
            ready!(inner.poll_drain(cx))?;
        }
        bufs.iter().for_each(|b| inner.gathered.extend_from_slice(b));
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        match inner.failed.take() {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None if inner.is_gathering => Poll::Ready(Ok(())),
            None => inner.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        ready!(inner.poll_flush(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

/// Whoever serves the connection: flushes what HTTP has written in its turns.
#[derive(Debug)]
pub(crate) struct Cork<T>(Arc<Mutex<Inner<T>>>);

/// Puts a cork on a connection. Only while [`Cork::drive`] runs is anything gathered: whoever takes the connection over
/// afterwards writes through.
pub(crate) fn cork<T>(io: T) -> (Corked<T>, Cork<T>) {
    let inner =
        Inner { io, gathered: Vec::new(), written: 0, is_gathering: false, is_dirty: false, failed: None };
    let inner = Arc::new(Mutex::new(inner));
    (Corked(inner.clone()), Cork(inner))
}

impl<T: AsyncWrite + Unpin> Cork<T> {
    /// Runs what serves the connection to its end.
    pub(crate) async fn drive<F: Future>(&self, mut serving: Pin<&mut F>) -> F::Output {
        let mut has_waited = false;
        poll_fn(|cx| {
            self.0.lock().is_gathering = true;
            let polled = serving.as_mut().poll(cx);
            let mut inner = self.0.lock();
            inner.is_gathering = false;
            if polled.is_ready() {
                // An upgrade leaves its answer here. Who has taken over would write what does not leave now.
                let _ = inner.poll_flush(cx);
                return polled;
            }
            if !inner.waits() {
                has_waited = false;
                return Poll::Pending;
            }
            // Once behind everybody who is ready to run: they may have more for this connection.
            has_waited = !has_waited;
            if has_waited {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Poll::Ready(Err(e)) = inner.poll_flush(cx) {
                inner.failed = Some(e.kind());
                inner.gathered.clear();
                (inner.written, inner.is_dirty) = (0, false);
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    /// Writes and flushes each word, then waits for a byte from the other side.
    async fn speak(mut io: Corked<DuplexStream>, words: &[&str]) -> Corked<DuplexStream> {
        for word in words {
            io.write_all(word.as_bytes()).await.unwrap();
            io.flush().await.unwrap();
        }
        io.read_exact(&mut [0]).await.unwrap();
        io
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_together() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (io, cork) = cork(near);
        let serving = tokio::spawn(async move {
            let mut work = std::pin::pin!(speak(io, &["one ", "two ", "three"]));
            cork.drive(work.as_mut()).await
        });
        let mut buf = [0; 64];
        let n = far.read(&mut buf).await.unwrap();
        assert_eq!(std::str::from_utf8(&buf[..n]), Ok("one two three"));
        far.write_all(b"!").await.unwrap();
        let mut io = serving.await.unwrap();
        // Taken over: each write leaves at once.
        io.write_all(b"four").await.unwrap();
        assert_eq!(far.read(&mut buf).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_up() {
        let (near, mut far) = tokio::io::duplex(16);
        let (io, cork) = cork(near);
        let long = "x".repeat(3 * GATHERED_BYTES_MAX);
        let words: Vec<String> =
            long.as_bytes().chunks(1_000).map(|c| String::from_utf8_lossy(c).into()).collect();
        let serving = tokio::spawn(async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut work = std::pin::pin!(speak(io, &words));
            cork.drive(work.as_mut()).await
        });
        let mut got = vec![0; long.len()];
        far.read_exact(&mut got).await.unwrap();
        assert!(got.iter().all(|b| *b == b'x'));
        far.write_all(b"!").await.unwrap();
        let io = serving.await.unwrap();
        assert!(io.0.lock().gathered.capacity() <= IDLE_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_broken_connection_is_told_to_who_writes() {
        let (near, far) = tokio::io::duplex(16);
        let (mut io, cork) = cork(near);
        drop(far);
        let mut work = std::pin::pin!(async move {
            loop {
                io.write_all(b"word").await?;
                io.flush().await?;
                tokio::task::yield_now().await;
            }
            #[allow(unreachable_code)]
            Ok::<(), io::Error>(())
        });
        assert_eq!(cork.drive(work.as_mut()).await.map_err(|e| e.kind()), Err(io::ErrorKind::BrokenPipe));
    }
}
