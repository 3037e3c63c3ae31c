//! A [`NetConnection`] over frames.
//!
//! Reading and writing have a lock each and never wait for each other. Whoever waits, for a lock,
//! the carrier or the peer, also waits for the connection's end, so closing wakes everyone. No
//! task runs here: a frame is read when somebody calls `recv`. Invariant: state that outlives a
//! dropped future (half a message in, sealed bytes not written yet) lives in the connection, never
//! in the future.

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

use super::ending::{End, Ending};
use super::handshake::Established;
use super::record::Opener;
use super::silence::Activity;
use super::stream::{Event, Inbox, LONGEST_MESSAGE, Outbox};
use super::{Endpoints, FrameError, FrameEvent, FrameReader, FrameWriter, SecureConfig};
use crate::credential::Identity;
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection};
use crate::rt;

/// How long a goodbye may take.
const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// Messages that are received at a time.
const RECV_MANY: usize = 1024;

/// A secure, ordered stream of messages.
///
/// Clones share it; dropping the last one drops the carrier without a goodbye.
///
/// Beyond what [`NetConnection`] says: the errors are [`FrameError`]s. The peer's goodbye
/// and a broken carrier are noticed by whoever waits in `recv`. Several may call `recv` at
/// a time; each message goes to one of them.
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
    /// `None` once the connection has ended.
    carrier: Option<R>,
    opener: Opener,
    inbox: Inbox,
}

struct Writing<W> {
    /// `None` once the connection has ended and its goodbye is written.
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
        let max_message_len = config.max_message_len.min(LONGEST_MESSAGE);
        Self(Arc::new(Inner {
            local_addr: established.observed_addr.unwrap_or(endpoints.local),
            remote_addr: endpoints.remote,
            local_identity,
            remote_identity: established.remote_identity,
            alpn: established.alpn,
            max_message_len,
            heard: Activity::new(),
            ending: Ending::default(),
            reading: Mutex::new(Reading {
                carrier: Some(reader),
                opener: established.opener,
                inbox: Inbox::new(max_message_len),
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

    /// See [`NetConnection::send_many`]. A message over the limit is taken off `batch` and refused
    /// with [`FrameError::MessageTooLong`] once those before it are written; those behind it stay
    /// in `batch`, and the connection lives on.
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        Ok(self.0.send_many(batch).await?)
    }

    /// See [`NetConnection::keepalive`]. If a sender holds the line, its bytes are sign of life
    /// enough, and this does nothing. Cancel-safe.
    async fn keepalive(&self) -> anyhow::Result<()> {
        Ok(self.0.keepalive().await?)
    }

    /// See [`NetConnection::recv`]. After our own `close` it gives [`FrameError::Closed`], also to
    /// whoever was waiting.
    ///
    /// A message of 8 KiB and a quarter of its record or more (records are at most 64 KiB) shares
    /// the memory it was read into with its neighbours, over TCP 256 KiB at most; shorter ones share
    /// at most 4 KiB among themselves.
    /// Whoever keeps a short message for long may want a copy of it.
    async fn recv(&self) -> anyhow::Result<Option<Bytes>> {
        let mut received = None;
        let open = until_goodbye(self.0.recv(1, |message| received = Some(message)).await)?;
        Ok(received.filter(|_| open))
    }

    /// See [`NetConnection::recv_many`] and [`recv`](Self::recv).
    async fn recv_many(&self, messages: &mut Vec<Bytes>) -> anyhow::Result<bool> {
        until_goodbye(
            self.0
                .recv(RECV_MANY, |message| messages.push(message))
                .await,
        )
    }

    fn silence(&self) -> Duration {
        self.0.heard.silence()
    }

    /// See [`NetConnection::close`]. If the future is dropped early, the goodbye may not be
    /// written; the connection is closed all the same.
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

    /// Writes what is sealed.
    async fn flush(&self, writing: &mut Writing<W>) -> Result<(), FrameError> {
        let Some(carrier) = &mut writing.carrier else {
            return Err(self.lose(FrameError::Truncated));
        };
        let write = carrier.write_frames(&mut writing.outbox.frames);
        let written = self.until_end(write).await?;
        written.map_err(|error| self.lose(error.into()))
    }

    /// Hands every message that is ready to `take`, at least one, and at most `max`.
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
        loop {
            while taken < max {
                match reading.inbox.next() {
                    Ok(Some(Event::Message(message))) => {
                        taken += 1;
                        take(message);
                    }
                    // What came before the end is given first; the end is found again then.
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
            let mut record = self.next_record(reading).await?;
            let opened = reading.opener.open(&mut record);
            opened.map_err(|error| self.lose(error))?;
            // Only what is authentic counts as a sign of life.
            self.heard.heard();
            reading.inbox.feed(record);
        }
    }

    async fn next_record(&self, reading: &mut Reading<R>) -> Result<BytesMut, FrameError> {
        loop {
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
        // Whoever held the line has been woken by the end and lets go of it.
        let goodbye = async {
            let mut writing = self.writing.lock().await;
            let Some(mut carrier) = writing.carrier.take() else {
                return;
            };
            if let End::Local(code) = end {
                let said = say_goodbye(&mut carrier, &mut writing.outbox, code).await;
                if let Err(error) = said {
                    tracing::trace!(%error, "no goodbye");
                }
            }
            let _ = carrier.shutdown().await;
        };
        if rt::timeout(GOODBYE_TIME, goodbye).await.is_err() {
            tracing::trace!("the goodbye took too long");
        }
    }

    /// Releases the reading half, unless somebody is in `recv`, who does it then.
    fn drop_reader(&self) {
        if let Some(mut reading) = self.reading.try_lock() {
            reading.carrier = None;
        }
    }

    /// Ends the connection by an error; gives the error that counts, which may be an earlier one.
    fn lose(&self, error: FrameError) -> FrameError {
        self.ending.set(End::lost(error)).error()
    }

    fn check_open(&self) -> Result<(), FrameError> {
        match self.ending.get() {
            Some(end) => Err(end.error()),
            None => Ok(()),
        }
    }

    /// Waits for `future`, or fails with what ended the connection. Cancel-safe if `future` is.
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

/// False for the peer's goodbye.
fn until_goodbye(received: Result<(), FrameError>) -> anyhow::Result<bool> {
    match received {
        Ok(()) => Ok(true),
        Err(FrameError::Closed {
            reason: CloseReason::Remote(_),
        }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes what is sealed, the rest of a message that was begun, and the goodbye.
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
