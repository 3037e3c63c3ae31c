//! A stream of any kind that both halves of a connection share.
//!
//! Each call locks the stream and never waits inside the lock. A stream that has no readiness is read to find out whether
//! there is something, and what was read waits for the reader. Invariants: nothing is lost if a caller stops waiting; a
//! stream wakes the task that reads, and each of the two that write; at most [`READ_LEN`] bytes wait, and an idle stream
//! holds none.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf as _, BytesMut};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rt::sync::Mutex;

/// The most bytes that are taken from the stream at once. On the stack, so it costs nothing while a stream is idle.
const READ_LEN: usize = 16 << 10;

/// A stream that can be read and written.
pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send {}

impl<S: AsyncRead + AsyncWrite + Send> ReadWrite for S {}

/// A stream of any kind.
pub(super) struct AnyStream {
    inner: Mutex<Inner>,
    writers: Arc<Writers>,
}

struct Inner {
    stream: Pin<Box<dyn ReadWrite>>,
    /// Bytes that were read to find out whether there are any.
    read: BytesMut,
    /// Whether the stream's direction has been ended.
    is_ended: bool,
}

/// Which half waits until the stream takes more: the one that writes, or the one that reads and owes an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Half {
    Reading,
    Writing,
}

/// The tasks that wait until the stream takes more. A stream wakes only one task, so it wakes this.
#[derive(Debug, Default)]
struct Writers {
    /// Whether the stream has taken nothing, and has not woken us since.
    is_blocked: AtomicBool,
    reading: AtomicWaker,
    writing: AtomicWaker,
}

impl Wake for Writers {
    fn wake(self: Arc<Self>) {
        self.is_blocked.store(false, Ordering::Release);
        self.reading.wake();
        self.writing.wake();
    }
}

impl AnyStream {
    pub(super) fn new(stream: Pin<Box<dyn ReadWrite>>) -> Self {
        let inner = Inner {
            stream,
            read: BytesMut::new(),
            is_ended: false,
        };
        Self {
            inner: Mutex::new(inner),
            writers: Arc::default(),
        }
    }

    /// Completes when a read has something to return, if only an error or the end.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.inner.lock();
        if !inner.read.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; READ_LEN];
        let mut bytes = ReadBuf::new(&mut bytes);
        ready!(inner.stream.as_mut().poll_read(cx, &mut bytes))?;
        // At the end, the next read finds it again.
        inner.read.extend_from_slice(bytes.filled());
        Poll::Ready(Ok(()))
    }

    /// Hands bytes to `sink` until there are at least `max` of them, or no more have arrived. Returns their number, which
    /// is 0 at the end.
    pub(super) fn poll_read(
        &self,
        max: usize,
        sink: &mut impl FnMut(&[u8]),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.inner.lock();
        let mut total = inner.read.len();
        if total > 0 {
            sink(&inner.read);
            inner.read = BytesMut::new();
        }
        while total < max {
            let mut bytes = [0; READ_LEN];
            let mut bytes = ReadBuf::new(&mut bytes);
            match inner.stream.as_mut().poll_read(cx, &mut bytes) {
                // What has arrived is returned first. The next call has the same result.
                Poll::Pending | Poll::Ready(Err(_)) if total > 0 => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if bytes.filled().is_empty() => break,
                Poll::Ready(Ok(())) => {
                    total += bytes.filled().len();
                    sink(bytes.filled());
                }
            }
        }
        Poll::Ready(Ok(total))
    }

    /// Writes as much as the stream takes. Returns the number of bytes that it has taken.
    ///
    /// # Errors
    ///
    /// Fails with `WouldBlock` if the stream takes nothing now.
    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // A stream that ignores all slices but the first would get one that is empty.
        let Some(first) = slices.iter().find(|slice| !slice.is_empty()) else {
            return Ok(0);
        };
        self.attempt(|inner, cx| {
            let stream = inner.stream.as_mut();
            if stream.is_write_vectored() {
                stream.poll_write_vectored(cx, slices)
            } else {
                stream.poll_write(cx, first)
            }
        })
    }

    /// Flushes. Returns whether nothing is left.
    pub(super) fn try_flush(&self) -> io::Result<bool> {
        done(self.attempt(|inner, cx| inner.stream.as_mut().poll_flush(cx)))
    }

    /// Takes bytes out of `bytes` and writes until the stream takes no more. Returns whether everything has been written.
    pub(super) fn try_write_all(&self, bytes: &mut BytesMut) -> io::Result<bool> {
        while !bytes.is_empty() {
            match self.try_write_vectored(&[IoSlice::new(bytes)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.try_flush()
    }

    /// Ends this side's direction. Returns whether that is complete; if not, this must be called again.
    pub(super) fn try_end(&self) -> io::Result<bool> {
        done(self.attempt(|inner, cx| {
            if !inner.is_ended {
                ready!(inner.stream.as_mut().poll_shutdown(cx))?;
                inner.is_ended = true;
            }
            Poll::Ready(Ok(()))
        }))
    }

    /// Completes when the stream may take more.
    pub(super) fn poll_writable(&self, half: Half, cx: &Context<'_>) -> Poll<()> {
        let waker = match half {
            Half::Reading => &self.writers.reading,
            Half::Writing => &self.writers.writing,
        };
        waker.register(cx.waker());
        match self.writers.is_blocked.load(Ordering::Acquire) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Waits until the stream may take more. Cancel-safe.
    pub(super) async fn writable(&self, half: Half) {
        poll_fn(|cx| self.poll_writable(half, cx)).await;
    }

    fn attempt<T>(
        &self,
        poll: impl FnOnce(&mut Inner, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        let inner = &mut *self.inner.lock();
        let waker = Waker::from(Arc::clone(&self.writers));
        // Before, since the stream may wake us at once.
        self.writers.is_blocked.store(true, Ordering::Release);
        match poll(inner, &mut Context::from_waker(&waker)) {
            Poll::Ready(result) => {
                self.writers.is_blocked.store(false, Ordering::Release);
                result
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Returns whether an attempt has succeeded.
fn done(attempt: io::Result<()>) -> io::Result<bool> {
    match attempt {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

impl fmt::Debug for AnyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyStream").finish_non_exhaustive()
    }
}
