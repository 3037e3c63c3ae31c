//! The task of a connection, which reads it.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::iter;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{Either, select};

use super::decoding::Work;
use super::shared::Shared;
use crate::credential::Identity;
use crate::message::Message;
use crate::net::{CloseReason, NetConnection, NetTransport};
use crate::rt::sync::yield_now;
use crate::rt::{self, Instant, MaybeSend};
use crate::transport_layer::core::{LinkEnd, NewReader, Origin, PeerKey, Reading, Source, Streak};

/// While nothing arrives, the buffers keep room for this many messages.
const KEPT_ROOM: usize = 64;
/// The use of a connection is recorded at most this often, or sixteen times in each idle timeout if
/// that is more often. Recording it for each message would take the lock of all peers too often.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// A reader that has to wait for others looks first after this time whether they are done. The time doubles
/// with each look.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// The longest time between two looks.
const LONGEST_LOOK: Duration = Duration::from_millis(20);

/// Reads a connection until it ends, and then takes it out of service.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function keeps what it is passed twice"
)]
fn handle_incoming_connection<T: NetTransport, M: Message>(
    mut reader: Reader<T, M>,
) -> impl Future<Output = ()> + MaybeSend {
    async move { reader.run().await }
}

/// Reads one connection. Messages enter the inbox in the order in which they arrive; bytes that do
/// not decode to a message are only counted.
pub(super) struct Reader<T: NetTransport, M: Message> {
    shared: Arc<Shared<T, M>>,
    key: PeerKey,
    /// The address under which the peer is registered.
    addr: SocketAddr,
    /// The revision of the core when `addr` was looked up.
    revision: u64,
    link: u64,
    conn: T::Connection,
    origin: Origin,
    noted: Option<Instant>,
    /// The work of decoding messages that take long.
    work: Work,
}

impl<T: NetTransport, M: Message> Reader<T, M> {
    /// Logs a connection that was taken into service, and starts to read it.
    pub(super) fn start(shared: &Arc<Shared<T, M>>, new: NewReader<T::Connection>) {
        let NewReader {
            key,
            link,
            conn,
            direction,
        } = new;
        let identity = conn.remote_identity();
        let role = conn.grounds().role(&identity);
        let origin = Origin { identity, role };
        let (addr, identity) = (key.addr, origin.identity.short());
        if origin.identity == Identity::UNPROVED {
            // There may be as many as someone forges addresses.
            tracing::debug!(%addr, ?direction, "connected");
        } else {
            tracing::info!(%addr, ?direction, identity, "connected");
        }
        let reader = Self {
            shared: Arc::clone(shared),
            key,
            addr,
            // It has not looked at the peer yet.
            revision: u64::MAX,
            link,
            conn,
            origin,
            noted: None,
            work: Work::default(),
        };
        shared.tasks.spawn((), handle_incoming_connection(reader));
    }

    async fn run(&mut self) {
        poll_fn(|cx| {
            self.shared
                .with(|peers, _| peers.reader_began(self.key, self.link, cx.waker()));
            Poll::Ready(())
        })
        .await;
        self.read_all().await;
        self.shared
            .with(|peers, fx| peers.reader_ended(self.key, self.link, fx));
    }

    async fn read_all(&mut self) {
        let mut streak = Streak::default();
        // Room for one, since many peers send one message at a time. More room is made, and then
        // kept, when more arrive together.
        let mut arrived = Vec::with_capacity(1);
        let mut messages = VecDeque::with_capacity(1);
        loop {
            let (read, waited) = self.read(&mut arrived, &mut messages).await;
            let count = arrived.len();
            match read {
                Ok(true) => {
                    while self.revision != self.shared.revision() {
                        // Boxed: it is rare.
                        Box::pin(self.review()).await;
                    }
                    let mut source = self.note_arrival();
                    if let Some(rest) = self.decode_cheap(&mut arrived, &mut messages) {
                        // Boxed: it is rare.
                        source = Box::pin(self.decode_rest(source, rest, &mut messages)).await;
                    }
                    self.enter(source, &mut messages).await;
                }
                Ok(false) => {
                    let end = match self.conn.watch_close().now_or_never() {
                        Some(CloseReason::Remote(code)) => LinkEnd::Remote(code),
                        _ => LinkEnd::Lost,
                    };
                    return self.ended(end, &"the peer said goodbye");
                }
                Err(error) => return self.ended(LinkEnd::Lost, &format_args!("{error:#}")),
            }
            if streak.note(count, waited) {
                yield_now().await;
            }
        }
    }

    /// Reads into `arrived`. If nothing has arrived yet, releases what a burst has left in the
    /// buffers before it waits. Also returns whether it has waited.
    async fn read(
        &self,
        arrived: &mut Vec<Bytes>,
        messages: &mut VecDeque<(M, usize)>,
    ) -> (anyhow::Result<bool>, bool) {
        let mut waited = false;
        if arrived.capacity() > KEPT_ROOM || messages.capacity() > KEPT_ROOM {
            if let Some(read) = self.conn.recv_many(arrived).now_or_never() {
                return (read, waited);
            }
            *arrived = Vec::with_capacity(1);
            *messages = VecDeque::with_capacity(1);
        }
        let mut reading = pin!(self.conn.recv_many(arrived));
        let read = poll_fn(|cx| {
            let seen = self.shared.revision();
            let poll = reading.as_mut().poll(cx);
            if poll.is_pending() {
                waited = true;
                self.note_empty(seen);
            }
            poll
        });
        let read = read.await;
        (read, waited)
    }

    /// Records that there was nothing more to read when the revision was `seen`, in case that the reader of
    /// another connection waits for that.
    fn note_empty(&self, seen: u64) {
        if self.revision != seen {
            let (key, link) = (self.key, self.link);
            self.shared
                .with(|peers, _| peers.read_empty(key, link, seen, Instant::now()));
        }
    }

    fn note_arrival(&mut self) -> Source {
        let at = self.conn.last_heard();
        let every = NOTE_EVERY.min(self.shared.config.idle_timeout / 16);
        let due = self
            .noted
            .is_none_or(|noted| at.saturating_duration_since(noted) >= every);
        if due {
            self.noted = Some(at);
            self.shared
                .with(|peers, _| peers.heard(self.key, self.link, at));
        }
        Source {
            from: self.addr,
            origin: self.origin,
            at,
        }
    }

    /// Looks at the peer again, since one has moved or has lost a connection. So that the order is kept,
    /// waits, without reading the connection, for readers whose messages come before those of this one, and if
    /// the peer has moved, until `recv` has returned its messages of the old address. That may belong to another
    /// peer by now, so nothing more may be received in its name.
    async fn review(&mut self) {
        if self.review_at_once() {
            return;
        }
        let mut look_after = FIRST_LOOK;
        self.note_reading(Reading::Paused);
        loop {
            rt::sleep(look_after).await;
            if self.review_at_once() {
                break;
            }
            look_after = (look_after * 2).min(LONGEST_LOOK);
        }
        self.note_reading(Reading::Since(Instant::now()));
    }

    /// Looks at the peer again as [`review`](Self::review) does. Returns false, and changes nothing, if that
    /// has to wait.
    fn review_at_once(&mut self) -> bool {
        let revision = self.shared.revision();
        let (key, link) = (self.key, self.link);
        let (has_to_wait, addr) = self.shared.with(|peers, fx| {
            let has_to_wait = peers.must_hold_back(key, link, Instant::now(), fx);
            (has_to_wait, peers.address_of(key))
        });
        let (old, identity) = (self.addr, self.origin.identity);
        if has_to_wait || (addr != old && self.shared.inbox.has_messages_of(old, identity)) {
            return false;
        }
        self.addr = addr;
        self.revision = revision;
        true
    }

    /// Decodes messages up to the first one that needs a turn. Returns that one and those behind it.
    fn decode_cheap(
        &mut self,
        arrived: &mut Vec<Bytes>,
        messages: &mut VecDeque<(M, usize)>,
    ) -> Option<Vec<Bytes>> {
        let mut arrived = arrived.drain(..);
        while let Some(bytes) = arrived.next() {
            let work = M::decoding_work(&bytes);
            if self.work.needs_turn(work) {
                return Some(iter::once(bytes).chain(arrived).collect());
            }
            if let Some(message) = self.decode_timed(bytes, work) {
                messages.push_back(message);
            }
        }
        None
    }

    /// Decodes messages of which some take long. Returns the source of those that were not entered yet.
    async fn decode_rest(
        &mut self,
        mut source: Source,
        arrived: Vec<Bytes>,
        messages: &mut VecDeque<(M, usize)>,
    ) -> Source {
        for bytes in arrived {
            let work = M::decoding_work(&bytes);
            if self.work.needs_turn(work) {
                let source = &mut source;
                self.decode_in_turn(source, bytes, work, messages).await;
            } else {
                messages.extend(self.decode_timed(bytes, work));
            }
        }
        source
    }

    /// Decodes a message that takes long: enters what has arrived before it, and then waits for its turn.
    async fn decode_in_turn(
        &mut self,
        source: &mut Source,
        bytes: Bytes,
        work: usize,
        messages: &mut VecDeque<(M, usize)>,
    ) {
        self.enter(*source, messages).await;
        self.note_reading(Reading::Paused);
        let shared = Arc::clone(&self.shared);
        let turn = loop {
            let turn = shared.decoding.take().await;
            // Those who have come later would get it over and over if it was given up whenever a peer moves.
            if self.find_source_at_once(source) {
                break turn;
            }
            drop(turn);
            self.find_source(source).await;
        };
        messages.extend(self.decode_timed(bytes, work));
        // Without waiting for room, for which other peers would wait too.
        shared.inbox.push_many(*source, messages);
        self.work.pause().await;
        drop(turn);
        self.note_reading(Reading::Since(Instant::now()));
        self.find_source(source).await;
        self.enter(*source, messages).await;
    }

    /// Looks at the peer again if something has changed while this reader has waited.
    async fn find_source(&mut self, source: &mut Source) {
        while self.revision != self.shared.revision() {
            self.review().await;
            *source = self.note_arrival();
        }
    }

    /// Does the same unless that has to wait. Returns false then.
    fn find_source_at_once(&mut self, source: &mut Source) -> bool {
        while self.revision != self.shared.revision() {
            if !self.review_at_once() {
                return false;
            }
            *source = self.note_arrival();
        }
        true
    }

    fn decode_timed(&mut self, bytes: Bytes, work: usize) -> Option<(M, usize)> {
        if work == 0 {
            return self.decode(bytes);
        }
        let began = Instant::now();
        let decoded = self.decode(bytes);
        self.work.note(work, began.elapsed());
        decoded
    }

    /// Returns the message with its encoded length.
    fn decode(&self, bytes: Bytes) -> Option<(M, usize)> {
        let len = bytes.len();
        match M::decode(bytes) {
            Ok(message) => Some((message, len)),
            Err(error) => {
                let addr = self.addr;
                let count = self.shared.inbox.count_undecodable(addr, len);
                if count.is_power_of_two() {
                    tracing::debug!(%addr, count, %error, "received an invalid message");
                }
                None
            }
        }
    }

    async fn enter(&self, source: Source, messages: &mut VecDeque<(M, usize)>) {
        let inbox = &self.shared.inbox;
        inbox.push_many(source, messages);
        if messages.is_empty() {
            return;
        }
        // While the connection is not read, the silence of the peer means nothing.
        self.note_reading(Reading::Paused);
        // Boxed: it is rare, and this task would hold the room for it for all its life.
        Box::pin(self.wait_for_room(source, messages)).await;
        self.note_reading(Reading::Since(Instant::now()));
    }

    /// Enters `messages` one by one as there is room. If the connection ends first, drops the rest:
    /// a peer that connects again and again would make us hold more and more of them otherwise, and
    /// those of its next connection could overtake them.
    async fn wait_for_room(&self, source: Source, messages: &mut VecDeque<(M, usize)>) {
        let inbox = &self.shared.inbox;
        let mut ended = pin!(self.conn.watch_close());
        while let Some(message) = messages.pop_front() {
            let len = message.1;
            let entering = pin!(inbox.push(source, message));
            if let Either::Right(_) = select(entering, ended.as_mut()).await {
                let rest = messages.drain(..).map(|(_, len)| len);
                inbox.count_dropped(source.from, std::iter::once(len).chain(rest));
                return;
            }
            inbox.push_many(source, messages);
        }
    }

    fn note_reading(&self, reading: Reading) {
        self.shared
            .with(|peers, _| peers.reading(self.key, self.link, reading));
    }

    fn ended(&self, end: LinkEnd, why: &dyn std::fmt::Display) {
        self.shared.disconnected(self.key, self.link, end, why);
    }
}
