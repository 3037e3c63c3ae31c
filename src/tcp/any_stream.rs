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
    /// An error that followed bytes which were returned. The stream need not have it twice.
    error: Option<io::Error>,
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
    /// Whether a task may wait.
    is_awaited: AtomicBool,
    reading: AtomicWaker,
    writing: AtomicWaker,
}

impl Wake for Writers {
    fn wake(self: Arc<Self>) {
        self.is_blocked.store(false, Ordering::SeqCst);
        self.wake_both();
    }
}

impl Writers {
    fn wake_both(&self) {
        self.reading.wake();
        self.writing.wake();
    }
}

impl AnyStream {
    pub(super) fn new(stream: Pin<Box<dyn ReadWrite>>) -> Self {
        let inner = Inner {
            stream,
            read: BytesMut::new(),
            error: None,
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
        if !inner.read.is_empty() || inner.error.is_some() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; READ_LEN];
        let mut bytes = ReadBuf::new(&mut bytes);
        match ready!(inner.stream.as_mut().poll_read(cx, &mut bytes)) {
            // At the end, the next read finds it again.
            Ok(()) => inner.read.extend_from_slice(bytes.filled()),
            Err(error) => inner.error = Some(error),
        }
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
        if total == 0
            && let Some(error) = inner.error.take()
        {
            return Poll::Ready(Err(error));
        }
        while total < max && inner.error.is_none() {
            let mut bytes = [0; READ_LEN];
            let mut bytes = ReadBuf::new(&mut bytes);
            match inner.stream.as_mut().poll_read(cx, &mut bytes) {
                // What has arrived is returned first.
                Poll::Pending if total > 0 => break,
                Poll::Ready(Err(error)) if total > 0 => inner.error = Some(error),
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
        if !self.writers.is_blocked.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        self.writers.is_awaited.store(true, Ordering::SeqCst);
        // Again, since an attempt may have ended before it could see that.
        match self.writers.is_blocked.load(Ordering::SeqCst) {
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
        self.writers.is_blocked.store(true, Ordering::SeqCst);
        match poll(inner, &mut Context::from_waker(&waker)) {
            Poll::Ready(result) => {
                self.writers.is_blocked.store(false, Ordering::SeqCst);
                // The other half may have begun to wait meanwhile, and the stream wakes nobody for it.
                if self.writers.is_awaited.swap(false, Ordering::SeqCst) {
                    self.writers.wake_both();
                }
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    type OnWrite = Box<dyn FnMut(&Context<'_>) -> Poll<()> + Send>;

    /// A stream that does what is scripted.
    struct Scripted {
        read: Vec<io::Result<&'static [u8]>>,
        /// Called by each write, with the context of it.
        write: OnWrite,
    }

    impl AsyncRead for Scripted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(match self.read.is_empty() {
                // Like a socket that was reset, it says so once.
                true => Ok(()),
                false => self.read.remove(0).map(|bytes| buf.put_slice(bytes)),
            })
        }
    }

    impl AsyncWrite for Scripted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            (self.write)(cx).map(|()| Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_half_that_begins_to_wait_while_the_other_one_writes_is_woken() {
        let stream: Arc<OnceLock<AnyStream>> = Arc::default();
        let wakes = Arc::new(Wakes::default());
        let (of_test, writing) = (Arc::clone(&stream), Waker::from(Arc::clone(&wakes)));
        let mut waits = false;
        let write = move |_: &Context<'_>| {
            if std::mem::replace(&mut waits, true) {
                // The reading half writes, and meanwhile the other one looks whether it may.
                let cx = Context::from_waker(&writing);
                let waiting = of_test.get().unwrap().poll_writable(Half::Writing, &cx);
                assert_eq!(waiting, Poll::Pending);
            }
            Poll::Ready(())
        };
        let scripted = Scripted {
            read: Vec::new(),
            write: Box::new(write),
        };
        let _ = stream.set(AnyStream::new(Box::pin(scripted)));
        let write = || {
            stream
                .get()
                .unwrap()
                .try_write_vectored(&[IoSlice::new(b"abc")])
        };
        assert_eq!(write().unwrap(), 3);
        assert_eq!(write().unwrap(), 3);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_error_that_follows_bytes_is_returned_after_them_though_the_stream_has_it_once() {
        let reset = || Err(io::ErrorKind::ConnectionReset.into());
        for read in [vec![Ok(&b"abc"[..]), reset()], vec![reset()]] {
            let bytes = read.len() - 1;
            let write = Box::new(|_: &Context<'_>| Poll::Ready(()));
            let stream = AnyStream::new(Box::pin(Scripted { read, write }));
            let mut cx = Context::from_waker(Waker::noop());
            let mut read = |max| stream.poll_read(max, &mut |_: &[u8]| {}, &mut cx);
            if bytes > 0 {
                assert!(matches!(read(9), Poll::Ready(Ok(3))));
            }
            let mut cx = Context::from_waker(Waker::noop());
            assert!(stream.poll_read_ready(&mut cx).is_ready());
            let Poll::Ready(Err(error)) = read(9) else {
                panic!("the error was lost");
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }
}
