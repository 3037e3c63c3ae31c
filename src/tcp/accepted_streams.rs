//! Streams that a server of the user has accepted, on their way to a listener that did not.
//!
//! It neither reads them nor knows what is inside. Invariant: a stream that is pushed is either taken by a listener or
//! dropped, which closes it and which the listener counts, and at most [`MAX_WAITING`] wait.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::losses::{Loss, Losses};
use super::stream::Stream;
use crate::net::canonical;
use crate::rt::sync::Mutex;

/// The most streams that wait for a listener, which takes them at once unless the machine is very busy.
const MAX_WAITING: usize = 64;

/// Streams that a server of yours has accepted, and that a listener of this crate takes over: give a clone to
/// [`TcpConfig::accepted_streams`](super::TcpConfig::accepted_streams), and push streams into it.
///
/// What could arrive on the listener's own port can be pushed, and is subject to the same limits: frames of this crate,
/// requests for a WebSocket, and besides a WebSocket whose request your server has answered itself. Clones share the
/// streams.
#[derive(Debug, Clone, Default)]
pub struct AcceptedStreams(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Pushed>,
    losses: Losses,
    /// Whether there is a listener.
    is_taken: bool,
    listener: Option<Waker>,
}

/// The end of [`AcceptedStreams`] that a listener has. Dropping it closes the streams that wait.
#[derive(Debug)]
pub(super) struct StreamReceiver(AcceptedStreams);

/// A stream on its way to a listener.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) stream: Stream,
    /// The bytes of it that have been read already.
    pub(super) received: BytesMut,
    pub(super) remote: SocketAddr,
    pub(super) contents: Contents,
}

/// What a listener gets: a stream, or one that it does not get and has to count.
#[derive(Debug)]
pub(super) enum Handed {
    Stream(Pushed),
    Lost(Loss, SocketAddr),
}

/// What a stream contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// Its first bytes tell.
    Any,
    /// A WebSocket whose request was answered.
    WebSocket,
}

/// The reason for which a stream was not taken over. It is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// No listener takes the streams: the socket that was to be opened with them is closed, or not open yet.
    #[error("no listener takes the streams: its socket is closed or not open yet")]
    NoListener,
    /// Too many streams wait for the listener, which counts this one as
    /// [`AcceptFailure::Crowded`](crate::net::AcceptFailure::Crowded).
    #[error("{max} streams wait for the listener already")]
    Crowded {
        /// The limit.
        max: usize,
    },
}

/// The error of a listener for whose [`AcceptedStreams`] there is one already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another listener takes the streams of TcpConfig::accepted_streams")]
pub struct StreamsInUse;

impl AcceptedStreams {
    /// Returns a queue that no listener has yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands over a stream from `remote` of which nothing has been read. Its first bytes tell what it contains, as on the
    /// listener's own port. TLS is not recognised: hand over what is inside.
    ///
    /// `remote` is the address of the client, by which its host is counted. Behind a proxy, state that of the client only
    /// if the proxy is trusted to know it. What is read is copied once more than from a TCP stream
    /// ([`push_tcp`](Self::push_tcp)).
    ///
    /// # Errors
    ///
    /// Fails if no listener takes the stream. It is closed then.
    pub fn push<S>(&self, stream: S, remote: SocketAddr) -> Result<(), PushError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.push_stream(Pushed {
            stream: Stream::of(stream),
            received: BytesMut::new(),
            remote: canonical(remote),
            contents: Contents::Any,
        })
    }

    /// Hands over a TCP stream from `remote`, of which nothing has been read. It costs no more than one that the listener
    /// has accepted itself. TLS is recognised as on the listener's own port. See [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// Fails if no listener takes the stream. It is closed then.
    pub fn push_tcp(&self, stream: TcpStream, remote: SocketAddr) -> Result<(), PushError> {
        self.push_stream(Pushed {
            stream: stream.into(),
            received: BytesMut::new(),
            remote: canonical(remote),
            contents: Contents::Any,
        })
    }

    /// Hands over a WebSocket from `remote` for which your server has answered the request of the client. `read` has the
    /// bytes after the request that were read already. See [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// Fails if no listener takes the stream. It is closed then.
    pub fn push_websocket<S>(
        &self,
        stream: S,
        read: &[u8],
        remote: SocketAddr,
    ) -> Result<(), PushError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        self.push_stream(Pushed {
            stream: Stream::of(stream),
            received: BytesMut::from(read),
            remote: canonical(remote),
            contents: Contents::WebSocket,
        })
    }

    /// Returns whether a listener takes the streams.
    pub fn has_listener(&self) -> bool {
        self.0.lock().is_taken
    }

    /// Checks that a listener takes one more stream, which is from `remote`.
    ///
    /// # Errors
    ///
    /// Fails as [`push`](Self::push) does.
    #[cfg(feature = "http")]
    pub(super) fn check_room(&self, remote: SocketAddr) -> Result<(), PushError> {
        self.change(|queue| queue.check_room(remote))
    }

    /// Counts a stream from `remote`, or a request on it, that the listener does not get.
    #[cfg(feature = "http")]
    pub(super) fn lose(&self, loss: Loss, remote: SocketAddr) {
        // Without a listener there is nobody who counts.
        let _ = self.change(|queue| {
            if queue.is_taken {
                queue.losses.add(loss, remote);
            }
            Ok(())
        });
    }

    pub(super) fn push_stream(&self, pushed: Pushed) -> Result<(), PushError> {
        self.change(|queue| {
            queue.check_room(pushed.remote)?;
            queue.waiting.push_back(pushed);
            Ok(())
        })
    }

    /// Changes the queue, and wakes the listener. What was not pushed is dropped outside of the lock.
    fn change(
        &self,
        change: impl FnOnce(&mut Queue) -> Result<(), PushError>,
    ) -> Result<(), PushError> {
        let mut queue = self.0.lock();
        let changed = change(&mut queue);
        let listener = queue.listener.take();
        drop(queue);
        if let Some(listener) = listener {
            listener.wake();
        }
        changed
    }

    /// Returns the end for a listener.
    ///
    /// # Errors
    ///
    /// Fails if another listener has it.
    pub(super) fn take(&self) -> Result<StreamReceiver, StreamsInUse> {
        let mut queue = self.0.lock();
        if std::mem::replace(&mut queue.is_taken, true) {
            return Err(StreamsInUse);
        }
        drop(queue);
        Ok(StreamReceiver(self.clone()))
    }
}

impl Queue {
    fn check_room(&mut self, remote: SocketAddr) -> Result<(), PushError> {
        if !self.is_taken {
            return Err(PushError::NoListener);
        }
        if self.waiting.len() >= MAX_WAITING {
            let max = MAX_WAITING;
            self.losses.add(Loss::Crowded { max }, remote);
            return Err(PushError::Crowded { max });
        }
        Ok(())
    }
}

impl StreamReceiver {
    /// Returns the next stream. Those that are lost come after those that wait.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Handed> {
        let mut queue = self.0.0.lock();
        if let Some(pushed) = queue.waiting.pop_front() {
            return Poll::Ready(Handed::Stream(pushed));
        }
        if let Some((loss, peer)) = queue.losses.pop() {
            return Poll::Ready(Handed::Lost(loss, peer));
        }
        queue.listener = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for StreamReceiver {
    fn drop(&mut self) {
        let queue = std::mem::take(&mut *self.0.0.lock());
        // Outside of the lock.
        drop(queue);
    }
}
