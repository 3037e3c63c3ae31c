//! Reads a connection.
//!
//! Nothing is written here, and nothing is dialled. Invariant: messages go to the incoming queue in
//! the order in which they came, and bytes that are no message cost their sender one count and
//! nobody anything else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;

use super::peers::Reading;
use super::shared::Shared;
use crate::message::Message;
use crate::net::{NetConnection, NetTransport};
use crate::rt::Instant;
use crate::rt::sync::yield_now;

/// Places for messages that are kept while nothing arrives.
const KEEP_ROOM: usize = 64;

/// Times that messages are read in a row before other tasks get their turn.
const YIELD_AFTER: u32 = 16;

/// Reads connection `link` of `addr` until it ends, and takes it out of service then.
pub(super) async fn handle_incoming_connection<T: NetTransport, M: Message>(
    shared: Arc<Shared<T, M>>,
    addr: SocketAddr,
    link: u64,
    conn: T::Connection,
) {
    let mut in_a_row = 0;
    let mut arrived = Vec::new();
    let mut messages = VecDeque::new();
    loop {
        match recv_many(&conn, &mut arrived, &mut messages).await {
            Ok(true) => {
                note_heard(&shared, addr, link);
                for bytes in arrived.drain(..) {
                    let len = bytes.len();
                    messages.extend(decode(&shared, addr, bytes).map(|message| (message, len)));
                }
                enter(&shared, addr, link, &mut messages).await;
            }
            Ok(false) => {
                shared.lost(addr, link, &"the peer said goodbye");
                return;
            }
            Err(error) => {
                shared.lost(addr, link, &format_args!("{error:#}"));
                return;
            }
        }
        in_a_row += 1;
        if in_a_row >= YIELD_AFTER {
            in_a_row = 0;
            yield_now().await;
        }
    }
}

/// Reads into `arrived`; what a burst has made of the buffers is not kept through a silence.
async fn recv_many<C: NetConnection, M>(
    conn: &C,
    arrived: &mut Vec<Bytes>,
    messages: &mut VecDeque<(M, usize)>,
) -> anyhow::Result<bool> {
    if arrived.capacity() > KEEP_ROOM {
        if let Some(read) = conn.recv_many(arrived).now_or_never() {
            return read;
        }
        *arrived = Vec::new();
        *messages = VecDeque::new();
    }
    conn.recv_many(arrived).await
}

fn decode<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    bytes: Bytes,
) -> Option<M> {
    let len = bytes.len();
    match M::decode(bytes) {
        Ok(message) => Some(message),
        Err(error) => {
            let count = shared.incoming.count_undecodable(addr, len);
            if count.is_power_of_two() {
                tracing::debug!(%addr, count, %error, "received what is no message");
            }
            None
        }
    }
}

async fn enter<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    link: u64,
    messages: &mut VecDeque<(M, usize)>,
) {
    shared.incoming.try_push_many(addr, messages);
    if messages.is_empty() {
        return;
    }
    // While we do not read, silence is ours and not the peer's.
    note_reading(shared, addr, link, Reading::Paused);
    while let Some((message, len)) = messages.pop_front() {
        shared.incoming.push(addr, message, len).await;
        shared.incoming.try_push_many(addr, messages);
    }
    note_reading(shared, addr, link, Reading::Since(Instant::now()));
}

fn note_heard<T: NetTransport, M: Message>(shared: &Shared<T, M>, addr: SocketAddr, link: u64) {
    let mut peers = shared.lock();
    if let Some(peer) = peers.map.get_mut(&addr)
        && let Some(link) = peer.link(link)
    {
        link.used = Instant::now();
        if !link.heard {
            link.heard = true;
            peer.backoff.reset();
        }
    }
}

fn note_reading<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    link: u64,
    reading: Reading,
) {
    let mut peers = shared.lock();
    if let Some(peer) = peers.map.get_mut(&addr) {
        if let Some(link) = peer.link(link) {
            link.reading = reading;
        }
        peer.signal.raise();
    }
}
