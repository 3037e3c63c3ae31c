//! A [`NetConnection`] over frames.
//!
//! Reading and writing have a lock each and never wait for each other. Every future that waits (for
//! a lock, the carrier or the peer) also waits for the connection's end, so closing wakes them all.
//! No task runs here: a frame is read only while a caller is in `recv`. Invariant: state that must
//! survive a dropped future (a message received in part, sealed bytes not written yet) belongs to
//! the connection, never to the future.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::lock::Mutex;

use super::activity::Activity;
use super::config::SecureConfig;
use super::ending::{End, Ending};
use super::error::FrameError;
use super::frame::{FrameEvent, FrameReader, FrameWriter};
use super::handshake::Established;
use super::record::Opener;
use super::stream::{Event, Inbox, Outbox};
use crate::credential::Identity;
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection};
use crate::rt::sync::yield_now;
use crate::rt::{self, Instant};

/// The time limit of closing: waiting for the writer, the goodbye, and the carrier's end.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// The largest number of messages that one call of `recv_many` returns.
const RECV_MANY: usize = 1024;

/// Frames without a whole message that one call of `recv` takes in a row before other tasks get their
/// turn. They may be as short as a keepalive, so a peer could send them faster than they are read.
const YIELD_AFTER: u32 = 64;

/// The addresses of a connection's two ends.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints {
    /// Our address as bound. The dialler's is replaced by the address that the acceptor sees.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
}

/// A secure, ordered stream of messages in both directions.
///
/// Clones share the connection. Dropping the last clone drops the carrier without a goodbye.
///
/// All methods of [`NetConnection`] fail with a [`FrameError`]. The peer's goodbye and a broken
/// carrier are noticed only while a caller waits in `recv` or `recv_many`. Several tasks may receive
/// at the same time; each message goes to one of them.
pub struct SecureConnection<R, W>(Arc<Inner<R, W>>);

struct Inner<R, W> {
    local_addr: SocketAddr,
    remote_addr: SocketAddr,
    local_identity: Identity,
    remote_identity: Identity,
    alpn: Alpn,
    max_message_len: usize,
    heard: Activity,
    ending: Ending,
    reading: Mutex<Reading<R>>,
    writing: Mutex<Writing<W>>,
}

struct Reading<R> {
    /// `None` after the connection has ended.
    carrier: Option<R>,
    opener: Opener,
    inbox: Inbox,
}

struct Writing<W> {
    /// `None` after the connection has been closed and its goodbye has been written.
    carrier: Option<W>,
    outbox: Outbox,
}

impl<R: FrameReader, W: FrameWriter> SecureConnection<R, W> {
    pub(super) fn new(
        reader: R,
        writer: W,
        endpoints: Endpoints,
        local_identity: Identity,
        established: Established,
        config: &SecureConfig,
    ) -> Self {
        Self(Arc::new(Inner {
            local_addr: established.observed_addr.unwrap_or(endpoints.local),
            remote_addr: endpoints.remote,
            local_identity,
            remote_identity: established.remote_identity,
            alpn: established.alpn,
            max_message_len: config.max_message_len,
            heard: Activity::new(),
            ending: Ending::default(),
            reading: Mutex::new(Reading {
                carrier: Some(reader),
                opener: established.opener,
                inbox: Inbox::new(config.max_message_len),
            }),
            writing: Mutex::new(Writing {
                carrier: Some(writer),
                outbox: established.outbox,
            }),
        }))
    }
}

impl<R, W> Clone for SecureConnection<R, W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R, W> fmt::Debug for SecureConnection<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureConnection")
            .field("local_addr", &self.0.local_addr)
            .field("remote_addr", &self.0.remote_addr)
            .field("remote_identity", &self.0.remote_identity)
            .field("alpn", &self.0.alpn)
            .field("end", &self.0.ending.get())
            .finish_non_exhaustive()
    }
}

impl<R: FrameReader, W: FrameWriter> NetConnection for SecureConnection<R, W> {
    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }
    fn remote_addr(&self) -> SocketAddr {
        self.0.remote_addr
    }
    fn local_identity(&self) -> Identity {
        self.0.local_identity
    }
    fn remote_identity(&self) -> Identity {
        self.0.remote_identity
    }
    fn alpn_negotiated(&self) -> &Alpn {
        &self.0.alpn
    }

    /// Sends every message of `batch`, as [`NetConnection::send_many`] describes.
    ///
    /// # Errors
    ///
    /// Fails with [`FrameError::MessageTooLong`] if a message is longer than
    /// [`SecureConfig::max_message_len`]. Messages before it have been written then, the message
    /// itself is removed from `batch`, those after it stay in `batch`, and the connection stays
    /// open.
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        Ok(self.0.send_many(batch).await?)
    }

    /// Sends a sign of life, as [`NetConnection::keepalive`] describes. Does nothing while another
    /// task is sending, since those bytes are a sign of life already. Cancel-safe.
    async fn keepalive(&self) -> anyhow::Result<()> {
        Ok(self.0.keepalive().await?)
    }

    /// Returns the next message, as [`NetConnection::recv`] describes.
    ///
    /// A message of at least 8 KiB that is also at least a quarter of its record (records are at
    /// most 64 KiB) shares the memory it was read into with its neighbours: over TCP, at most
    /// 256 KiB. Shorter messages share pieces of at most 4 KiB. To keep a short message for long,
    /// copy it.
    ///
    /// # Errors
    ///
    /// After our own `close`, fails with [`FrameError::Closed`]; calls that were waiting at that
    /// time fail in the same way.
    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        let mut received = None;
        let open = until_goodbye(self.0.recv(1, |message| received = Some(message)).await)?;
        Ok(received.filter(|_| open))
    }

    /// Appends the messages that have arrived to `messages`, as [`NetConnection::recv_many`]
    /// describes. Memory and errors are those of [`recv`](Self::recv).
    async fn recv_many(&self, messages: &mut Vec<Bytes>) -> anyhow::Result<bool> {
        until_goodbye(
            self.0
                .recv(RECV_MANY, |message| messages.push(message))
                .await,
        )
    }

    fn last_heard(&self) -> Instant {
        self.0.heard.last_heard()
    }

    /// Closes the connection, as [`NetConnection::close`] describes. Takes effect with the first
    /// poll: if the future is dropped after that, the goodbye may be missing, but the connection is
    /// closed.
    async fn close(&self, code: CloseCode) {
        self.0.close(code).await;
    }

    async fn watch_close(&self) -> CloseReason {
        let mut waiter = self.0.ending.waiter();
        poll_fn(|cx| waiter.poll_end(cx)).await.reason()
    }
}

impl<R: FrameReader, W: FrameWriter> Inner<R, W> {
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> Result<(), FrameError> {
        let mut writing = self.until_end(self.writing.lock()).await?;
        loop {
            let filled = writing.outbox.fill(batch, self.max_message_len);
            filled.map_err(|error| match error {
                FrameError::MessageTooLong { .. } => error,
                fatal => self.lose(fatal),
            })?;
            if writing.outbox.frames.is_empty() {
                return Ok(());
            }
            self.flush(&mut writing).await?;
        }
    }

    async fn keepalive(&self) -> Result<(), FrameError> {
        self.check_open()?;
        let Some(mut writing) = self.writing.try_lock() else {
            return Ok(());
        };
        let sealed = writing.outbox.keepalive();
        sealed.map_err(|fatal| self.lose(fatal))?;
        self.flush(&mut writing).await?;
        if let Some(carrier) = &mut writing.carrier {
            let pinged = self.until_end(carrier.ping()).await?;
            pinged.map_err(|error| self.lose(error.into()))?;
        }
        Ok(())
    }

    /// Writes the sealed frames.
    async fn flush(&self, writing: &mut Writing<W>) -> Result<(), FrameError> {
        let Some(carrier) = &mut writing.carrier else {
            return Err(self.lose(FrameError::Truncated));
        };
        let write = carrier.write_frames(&mut writing.outbox.frames);
        let written = self.until_end(write).await?;
        written.map_err(|error| self.lose(error.into()))
    }

    /// Passes the messages that are ready to `take`: at least one, waiting for it if necessary, and
    /// at most `max`.
    async fn recv(&self, max: usize, take: impl FnMut(Bytes)) -> Result<(), FrameError> {
        let mut reading = match self.until_end(self.reading.lock()).await {
            Ok(reading) => reading,
            Err(error) => {
                self.drop_reader();
                return Err(error);
            }
        };
        let received = self.recv_locked(&mut reading, max, take).await;
        if received.is_err() {
            reading.carrier = None;
        }
        received
    }

    async fn recv_locked(
        &self,
        reading: &mut Reading<R>,
        max: usize,
        mut take: impl FnMut(Bytes),
    ) -> Result<(), FrameError> {
        let mut taken = 0;
        let mut in_a_row = 0;
        loop {
            while taken < max {
                match reading.inbox.next() {
                    Ok(Some(Event::Message(message))) => {
                        taken += 1;
                        take(message);
                    }
                    // Messages that came before the end are returned first. The next call finds
                    // the end again.
                    Ok(Some(Event::Goodbye(code))) => {
                        let end = self.ending.set(End::Remote(code));
                        return if taken > 0 { Ok(()) } else { Err(end.error()) };
                    }
                    Err(_) if taken > 0 => return Ok(()),
                    Err(error) => return Err(self.lose(error)),
                    Ok(None) => break,
                }
            }
            if taken > 0 {
                return Ok(());
            }
            let mut record = self.next_record(reading, &mut in_a_row).await?;
            let opened = reading.opener.open(&mut record);
            opened.map_err(|error| self.lose(error))?;
            // Only authentic bytes count as a sign of life.
            self.heard.heard();
            reading.inbox.feed(record);
        }
    }

    async fn next_record(
        &self,
        reading: &mut Reading<R>,
        in_a_row: &mut u32,
    ) -> Result<BytesMut, FrameError> {
        loop {
            if *in_a_row >= YIELD_AFTER {
                *in_a_row = 0;
                self.until_end(yield_now()).await?;
            }
            *in_a_row += 1;
            let Some(carrier) = &mut reading.carrier else {
                return Err(self.lose(FrameError::Truncated));
            };
            match self.until_end(carrier.read_frame()).await? {
                Ok(Some(FrameEvent::Frame(frame))) => return Ok(frame),
                Ok(Some(FrameEvent::Activity)) => self.heard.heard(),
                Ok(None) => return Err(self.lose(FrameError::Truncated)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(self.lose(FrameError::Truncated));
                }
                Err(error) => return Err(self.lose(error.into())),
            }
        }
    }

    async fn close(&self, code: CloseCode) {
        let end = self.ending.set(End::Local(code));
        self.drop_reader();
        // A task that held the writing lock has been woken by the end and releases it.
        let goodbye = async {
            let mut writing = self.writing.lock().await;
            let Some(mut carrier) = writing.carrier.take() else {
                return;
            };
            if let End::Local(code) = end {
                let said = say_goodbye(&mut carrier, &mut writing.outbox, code).await;
                if let Err(error) = said {
                    tracing::trace!(%error, "goodbye not sent");
                }
            }
            let _ = carrier.shutdown().await;
        };
        if rt::timeout(GOODBYE_TIME, goodbye).await.is_err() {
            tracing::trace!(limit = ?GOODBYE_TIME, "closing timed out");
        }
    }

    /// Releases the reading half. If a call of `recv` holds it, that call releases it when it
    /// returns.
    fn drop_reader(&self) {
        if let Some(mut reading) = self.reading.try_lock() {
            reading.carrier = None;
        }
    }

    /// Ends the connection with `error`. Returns the error of its first end, which may be an earlier
    /// one.
    fn lose(&self, error: FrameError) -> FrameError {
        self.ending.set(End::lost(error)).error()
    }

    fn check_open(&self) -> Result<(), FrameError> {
        match self.ending.get() {
            Some(end) => Err(end.error()),
            None => Ok(()),
        }
    }

    /// Waits for `future`, or fails with the error of the connection's end if that comes first.
    /// Cancel-safe if `future` is.
    async fn until_end<F: Future>(&self, future: F) -> Result<F::Output, FrameError> {
        self.check_open()?;
        let mut future = pin!(future);
        let mut waiter = self.ending.waiter();
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            waiter.poll_end(cx).map(|end| Err(end.error()))
        })
        .await
    }
}

/// Returns `false` if the peer has said goodbye, and passes other errors on.
fn until_goodbye(received: Result<(), FrameError>) -> anyhow::Result<bool> {
    match received {
        Ok(()) => Ok(true),
        Err(FrameError::Closed {
            reason: CloseReason::Remote(_),
        }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes the sealed frames, the rest of a message that has been sent in part, and the goodbye.
async fn say_goodbye<W: FrameWriter>(
    carrier: &mut W,
    outbox: &mut Outbox,
    code: CloseCode,
) -> anyhow::Result<()> {
    loop {
        outbox.fill(&mut VecDeque::new(), 0)?;
        if outbox.frames.is_empty() {
            break;
        }
        carrier.write_frames(&mut outbox.frames).await?;
    }
    outbox.goodbye(code)?;
    carrier.write_frames(&mut outbox.frames).await?;
    Ok(())
}
