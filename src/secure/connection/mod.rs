//! A [`NetConnection`] over frames.
//!
//! Reading and writing have a lock each and never wait for each other. Every future that waits (for a lock, the
//! carrier or the peer) also waits for the connection's end, so closing wakes them all. No task runs here: a frame
//! is read only while a caller is in `recv`. That caller also writes the answers to probes, between two reads and
//! without waiting; see `owed`. Invariant: state that must survive a dropped future (a message received in part,
//! sealed bytes not written yet, a probe that is not answered yet) belongs to the connection, never to the future.

mod closing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::lock::Mutex;

use crate::credential::{Claims, Grounds, Identity, Proved};
use crate::net::address::is_discard_only;
use crate::net::{Alpn, CloseCode, CloseReason, NetConnection, canonical};
use crate::rt::sync::yield_now;
use crate::rt::{self, Instant};
use crate::secure::activity::Activity;
use crate::secure::ending::{End, Ending};
use crate::secure::error::FrameError;
use crate::secure::frame::{FrameEvent, FrameReader, FrameWriter};
use crate::secure::handshake::Established;
use crate::secure::owed::{Owed, Words};
use crate::secure::params::HandshakeParams;
use crate::secure::receive_memory::ReceiveMemory;
use crate::secure::record::Opener;
use crate::secure::stream::{Event, Unpacker};
use crate::secure::writing::{WriteGuard, Writing};

/// The largest number of messages that one call of `recv_many` returns.
const RECV_MANY: usize = 1024;

/// Frames without a whole message, and control words, that one call of `recv` takes in a row before other tasks get
/// their turn. A peer could send them faster than they are read.
const YIELD_AFTER: u32 = 64;

/// A secure, ordered stream of messages in both directions.
///
/// Clones share the connection. Dropping the last clone drops the carrier without a goodbye.
///
/// All methods of [`NetConnection`] fail with a [`FrameError`]. The peer's goodbye and a broken carrier are noticed
/// only while a caller waits in `recv` or `recv_many`. Several tasks may receive at the same time; each message goes
/// to one of them.
pub struct SecureConnection<R, W>(Arc<Inner<R, W>>);

struct Inner<R, W> {
    local_addr: SocketAddr,
    remote_addr: SocketAddr,
    is_local: bool,
    local_identity: Arc<Identity>,
    remote_identity: Identity,
    proved: Proved,
    stated_addr: Option<SocketAddr>,
    alpn: Alpn,
    max_message_len: usize,
    memory: ReceiveMemory,
    heard: Activity,
    owed: Owed,
    ending: Ending,
    /// Whether a goodbye is due or said on this side, so that no message may be begun. Read for every batch, so
    /// without the lock.
    leaving: AtomicBool,
    reading: Mutex<Reading<R>>,
    writing: Mutex<Writing<W>>,
}

struct Reading<R> {
    /// `None` after the connection has ended.
    carrier: Option<R>,
    opener: Opener,
    unpacker: Unpacker,
    /// Whether a probe has been read behind messages that a call has returned. The next call of `recv`
    /// answers it, since its caller then has those messages.
    probed: bool,
    /// The peer's goodbye, if it has to be answered before the connection ends.
    goodbye: Option<CloseCode>,
}

impl<R> Reading<R> {
    /// Releases what only an open connection needs.
    fn end(&mut self) {
        self.carrier = None;
        self.unpacker.drop_partial();
    }
}

impl<R: FrameReader, W: FrameWriter> SecureConnection<R, W> {
    pub(super) fn new(
        reader: R,
        writer: W,
        params: &HandshakeParams<'_>,
        established: Established,
    ) -> Self {
        let endpoints = params.endpoints;
        let remote_addr = canonical(endpoints.remote);
        Self(Arc::new(Inner {
            local_addr: canonical(established.observed_addr.unwrap_or(endpoints.local)),
            remote_addr,
            is_local: if is_discard_only(remote_addr) {
                reader.is_local()
            } else {
                remote_addr.ip().is_loopback()
            },
            local_identity: Arc::clone(params.credential.shared_identity()),
            remote_identity: established.remote_identity,
            proved: established.proved,
            stated_addr: established.stated_addr,
            alpn: established.alpn,
            max_message_len: params.config.max_message_len,
            memory: params.memory.clone(),
            heard: Activity::new(),
            owed: Owed::default(),
            ending: Ending::default(),
            leaving: AtomicBool::new(false),
            reading: Mutex::new(Reading {
                carrier: Some(reader),
                opener: established.opener,
                unpacker: Unpacker::new(params.config.max_message_len),
                probed: false,
                goodbye: None,
            }),
            writing: Mutex::new(Writing::new(writer, established.packer)),
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
            .field("grounds", &self.0.proved.grounds())
            .field("stated_addr", &self.0.stated_addr)
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
    fn is_local(&self) -> bool {
        self.0.is_local
    }
    fn local_identity(&self) -> Identity {
        *self.0.local_identity
    }
    fn remote_identity(&self) -> Identity {
        self.0.remote_identity
    }
    fn grounds(&self) -> Grounds {
        self.0.proved.grounds()
    }
    fn claims(&self) -> Option<&Arc<Claims>> {
        self.0.proved.claims()
    }
    fn stated_addr(&self) -> Option<SocketAddr> {
        self.0.stated_addr
    }
    fn alpn_negotiated(&self) -> &Alpn {
        &self.0.alpn
    }

    /// Sends every message of `batch`, as [`NetConnection::send_many`] describes.
    ///
    /// # Errors
    ///
    /// Fails with [`FrameError::MessageTooLong`] if a message is longer than
    /// [`SecureConfig::max_message_len`](super::SecureConfig::max_message_len). Messages before it have
    /// been written then, the message itself is removed from `batch`, those after it stay in `batch`,
    /// and the connection stays open.
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> anyhow::Result<()> {
        Ok(self.0.send_many(batch).await?)
    }

    /// Sends a sign of life, as [`NetConnection::keepalive`] describes. Does nothing while another
    /// task is sending, since those bytes are a sign of life already. Cancel-safe.
    async fn keepalive(&self) -> anyhow::Result<()> {
        Ok(self.0.keepalive().await?)
    }

    /// Asks the peer for an answer, as [`NetConnection::probe`] describes. Never waits: if the carrier
    /// does not take the probe at once, or another task is writing, the probe goes out with what is
    /// written next, or from a task that waits in `recv`. Probes that wait at the same time count as
    /// one. Cancel-safe.
    ///
    /// The peer answers when its caller calls `recv` or `recv_many` again after the call that returned
    /// the last message before the probe. Answers are not numbered: with several probes on their way,
    /// an answer may belong to an earlier one.
    async fn probe(&self) -> anyhow::Result<()> {
        Ok(self.0.probe().await?)
    }

    fn last_answer(&self) -> Option<Instant> {
        self.0.heard.last_answer()
    }

    /// Returns the next message, as [`NetConnection::recv`] describes.
    ///
    /// A message shares the memory of the record that it came in (at most 64 KiB) with its neighbours,
    /// which stays taken until all of them have been dropped. All connections of a network together hold at
    /// most [`SecureConfig::max_shared_record_bytes`](super::SecureConfig::max_shared_record_bytes) in this
    /// way. Beyond that, messages are copied into pieces of at most 4 KiB, except those of at least 8 KiB that
    /// are at least a quarter of their record. So keeping messages for long costs speed, and no more memory
    /// than that; a receiver that keeps short ones copies them.
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

    /// Says goodbye and goes on receiving, as [`NetConnection::leave`] describes. If the future is dropped, nothing
    /// more can be sent, and the goodbye may be missing.
    async fn leave(&self, code: CloseCode) {
        if let Err(error) = self.0.leave(code).await {
            self.0.lose(error);
        }
    }

    async fn watch_close(&self) -> CloseReason {
        let mut waiter = self.0.ending.waiter();
        poll_fn(|cx| waiter.poll_end(cx)).await.reason()
    }
}

impl<R: FrameReader, W: FrameWriter> Inner<R, W> {
    async fn send_many(&self, batch: &mut VecDeque<Bytes>) -> Result<(), FrameError> {
        if self.leaving.load(Ordering::Acquire) {
            return self.ending.unless_ended(pending()).await?;
        }
        let writing = self.ending.unless_ended(self.writing.lock()).await?;
        let mut writing = WriteGuard::new(writing, &self.owed);
        if writing.has_left() {
            drop(writing);
            return self.ending.unless_ended(pending()).await?;
        }
        loop {
            let filled = writing.packer.fill(batch, self.max_message_len, &self.owed);
            filled.map_err(|error| match error {
                FrameError::MessageTooLong { .. } => error,
                fatal => self.lose(fatal),
            })?;
            if writing.is_written() {
                return Ok(());
            }
            self.flush(&mut writing).await?;
        }
    }

    async fn keepalive(&self) -> Result<(), FrameError> {
        self.ending.check_open()?;
        let Some(writing) = self.writing.try_lock() else {
            return Ok(());
        };
        let mut writing = WriteGuard::new(writing, &self.owed);
        if writing.has_left() {
            return Ok(());
        }
        let sealed = writing.packer.keepalive();
        sealed.map_err(|fatal| self.lose(fatal))?;
        self.flush(&mut writing).await?;
        if let Some(carrier) = &mut writing.carrier {
            let pinged = self.ending.unless_ended(pin!(carrier.ping())).await?;
            pinged.map_err(|error| self.lose(error.into()))?;
        }
        drop(writing);
        self.write_owed().await
    }

    /// Writes the sealed frames.
    async fn flush(&self, writing: &mut Writing<W>) -> Result<(), FrameError> {
        let flushed = self.ending.unless_ended(pin!(writing.flush())).await?;
        flushed.map_err(|error| self.lose(error))
    }

    async fn probe(&self) -> Result<(), FrameError> {
        self.ending.check_open()?;
        self.owed.add(Words::PROBE);
        self.write_owed().await
    }

    /// Writes what is owed as far as the carrier takes it at once. The rest is left to the task in
    /// `recv` and to whoever writes next.
    async fn write_owed(&self) -> Result<(), FrameError> {
        if !self.owed.any() {
            return Ok(());
        }
        let Some(writing) = self.writing.try_lock() else {
            // For the case that the task in `recv` has the lock.
            self.owed.pass_on();
            return Ok(());
        };
        let mut writing = WriteGuard::new(writing, &self.owed);
        match poll_fn(|cx| Poll::Ready(self.poll_owed(&mut writing, cx))).await {
            Poll::Ready(written) => written.map_err(|error| self.lose(error)),
            Poll::Pending => Ok(()),
        }
    }

    /// Writes what is owed as far as possible at once, on behalf of the task in `recv`. Never keeps the
    /// writing lock, since that task may not be polled again for long.
    fn serve(&self, cx: &mut Context<'_>) {
        self.owed.register(cx.waker());
        if !self.owed.any() {
            return;
        }
        let Some(mut writing) = self.writing.try_lock() else {
            return;
        };
        if matches!(self.poll_owed(&mut writing, cx), Poll::Ready(Err(_))) {
            // Messages and a goodbye may still be on their way here, and are read first. Whoever writes next is told.
            self.owed.take();
        }
    }

    fn poll_owed(
        &self,
        writing: &mut Writing<W>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), FrameError>> {
        if writing.has_left() {
            // The peer reads nothing that comes after the goodbye.
            self.owed.take();
            return Poll::Ready(Ok(()));
        }
        writing.packer.fill(&mut VecDeque::new(), 0, &self.owed)?;
        if !writing.is_written() {
            let flushed = pin!(writing.flush()).poll(cx);
            if !matches!(flushed, Poll::Ready(Ok(()))) {
                self.owed.add(Words::UNWRITTEN);
                return flushed;
            }
        }
        if self.owed.any() || !writing.packer.is_between_messages() {
            // The rest of a message comes first, in pieces of bounded size.
            self.owed.add(Words::UNWRITTEN);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Passes the messages that are ready to `take`: at least one, waiting for it if necessary, and
    /// at most `max`.
    async fn recv(&self, max: usize, take: impl FnMut(Bytes)) -> Result<(), FrameError> {
        let mut reading = match self.ending.unless_ended(self.reading.lock()).await {
            Ok(reading) => reading,
            Err(error) => {
                self.drop_reader();
                return Err(error);
            }
        };
        let received = self.recv_locked(&mut reading, max, take).await;
        if received.is_err() {
            reading.end();
        }
        received
    }

    async fn recv_locked(
        &self,
        reading: &mut Reading<R>,
        max: usize,
        mut take: impl FnMut(Bytes),
    ) -> Result<(), FrameError> {
        if std::mem::take(&mut reading.probed) {
            self.owed.add(Words::ANSWER);
        }
        let mut taken = 0;
        let mut in_a_row = 0;
        loop {
            if let Some(code) = reading.goodbye {
                if taken > 0 {
                    return Ok(());
                }
                // Boxed because it is rare: each reader would hold the room for it otherwise.
                if let Err(error) = Box::pin(self.leave(code)).await {
                    tracing::trace!(%error, "goodbye not answered");
                }
                return Err(self.ending.set(End::Remote(code)).error());
            }
            while taken < max {
                match reading
                    .unpacker
                    .next(self.memory.partials(), self.remote_identity)
                {
                    Ok(Some(Event::Message(message))) => {
                        taken += 1;
                        take(message);
                    }
                    Ok(Some(Event::Probe)) if taken > 0 => {
                        reading.probed = true;
                        break;
                    }
                    Ok(Some(control @ (Event::Probe | Event::Answer))) => {
                        match control {
                            Event::Probe => self.owed.add(Words::ANSWER),
                            _ => self.heard.answered(),
                        }
                        if taken == 0 {
                            self.take_turn(&mut in_a_row).await?;
                        }
                    }
                    // Messages that came before the end are returned first. The next call finds
                    // the end again.
                    Ok(Some(Event::Goodbye(code))) if code.is_answered() => {
                        self.leaving.store(true, Ordering::Release);
                        reading.goodbye = Some(code);
                        break;
                    }
                    Ok(Some(Event::Goodbye(code))) => {
                        let end = self.ending.set(End::Remote(code));
                        return if taken > 0 { Ok(()) } else { Err(end.error()) };
                    }
                    Err(_) if taken > 0 => break,
                    Err(error) => return Err(self.lose(error)),
                    Ok(None) => break,
                }
            }
            if reading.goodbye.is_some() {
                continue;
            }
            if taken > 0 {
                poll_fn(|cx| {
                    self.serve(cx);
                    Poll::Ready(())
                })
                .await;
                return Ok(());
            }
            let record = self.next_record(reading, &mut in_a_row).await?;
            let plaintexts = self.memory.plaintexts();
            let opened = plaintexts.open(&mut reading.opener, &record);
            let plaintext = opened.map_err(|error| self.lose(error))?;
            // Only authentic bytes count as a sign of life.
            self.heard.heard();
            reading.unpacker.feed(plaintext);
        }
    }

    /// Counts something that was read and is no message, and lets other tasks run from time to time.
    async fn take_turn(&self, in_a_row: &mut u32) -> Result<(), FrameError> {
        *in_a_row += 1;
        if *in_a_row > YIELD_AFTER {
            *in_a_row = 0;
            self.ending.unless_ended(pin!(yield_now())).await?;
        }
        Ok(())
    }

    async fn next_record(
        &self,
        reading: &mut Reading<R>,
        in_a_row: &mut u32,
    ) -> Result<BytesMut, FrameError> {
        loop {
            self.take_turn(in_a_row).await?;
            let read = if reading.unpacker.partial().is_some() {
                // Boxed because it is rare: each reader would hold the room for it otherwise.
                Box::pin(self.read_in_time(reading)).await?
            } else {
                let Some(carrier) = &mut reading.carrier else {
                    return Err(self.lose(FrameError::Truncated));
                };
                let mut read = pin!(carrier.read_frame());
                let read = poll_fn(|cx| {
                    self.serve(cx);
                    read.as_mut().poll(cx)
                });
                self.ending.unless_ended(read).await?
            };
            match read {
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

    /// Reads a frame that continues a message that has arrived in part. Fails if that takes too long, or
    /// if the message is evicted.
    async fn read_in_time(
        &self,
        reading: &mut Reading<R>,
    ) -> Result<io::Result<Option<FrameEvent>>, FrameError> {
        let (Some(carrier), Some(partial)) = (&mut reading.carrier, reading.unpacker.partial())
        else {
            return Err(self.lose(FrameError::Truncated));
        };
        let left = partial.time_left(Instant::now());
        let mut read = pin!(carrier.read_frame());
        let read = poll_fn(|cx| {
            self.serve(cx);
            match partial.poll_evicted(cx) {
                Poll::Ready(evicted) => Poll::Ready(Err(evicted)),
                Poll::Pending => read.as_mut().poll(cx).map(Ok),
            }
        });
        match rt::timeout(left, self.ending.unless_ended(read)).await {
            Ok(read) => read?.map_err(|evicted| self.lose(evicted)),
            Err(rt::Elapsed(_)) => Err(self.lose(partial.timed_out())),
        }
    }

    /// Releases the reading half. If a call of `recv` holds it, that call releases it when it returns.
    fn drop_reader(&self) {
        if let Some(mut reading) = self.reading.try_lock() {
            reading.end();
        }
    }

    /// Ends the connection with `error`. Returns the error of its first end, which may be an earlier one.
    fn lose(&self, error: FrameError) -> FrameError {
        if matches!(error, FrameError::Tampered | FrameError::Malformed { .. }) {
            self.memory.partials().count_rejected_record();
        }
        self.ending.set(End::lost(error)).error()
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
