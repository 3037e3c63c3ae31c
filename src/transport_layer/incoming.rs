//! Reads a connection.
//!
//! Nothing is written here, and nothing is dialled. Invariant: messages go to the incoming queue in
//! the order in which they came, and bytes that are no message cost their sender one count and
//! nobody anything else.

use std::net::SocketAddr;
use std::sync::Arc;

use super::peers::Reading;
use super::shared::Shared;
use super::wait::yield_now;
use crate::message::Message;
use crate::net::{NetConnection, NetTransport};
use crate::rt::Instant;

/// Messages read in a row before other tasks get their turn.
const YIELD_AFTER: u32 = 64;

/// Reads connection `link` of `addr` until it ends, and takes it out of service then.
pub(super) async fn handle_incoming_connection<T: NetTransport, M: Message>(
    shared: Arc<Shared<T, M>>,
    addr: SocketAddr,
    link: u64,
    conn: T::Connection,
) {
    let mut in_a_row = 0;
    loop {
        match conn.recv().await {
            Ok(Some(bytes)) => {
                note_heard(&shared, addr, link);
                take(&shared, addr, link, bytes).await;
            }
            Ok(None) => {
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

async fn take<T: NetTransport, M: Message>(
    shared: &Shared<T, M>,
    addr: SocketAddr,
    link: u64,
    bytes: bytes::Bytes,
) {
    let len = bytes.len();
    let message = match M::decode(bytes) {
        Ok(message) => message,
        Err(error) => {
            let count = shared.incoming.count_undecodable(addr, len);
            if count.is_power_of_two() {
                tracing::debug!(%addr, count, %error, "received what is no message");
            }
            return;
        }
    };
    if let Err(message) = shared.incoming.try_push(addr, message, len) {
        // While we do not read, silence is ours and not the peer's.
        note_reading(shared, addr, link, Reading::Paused);
        shared.incoming.push(addr, message, len).await;
        note_reading(shared, addr, link, Reading::Since(Instant::now()));
    }
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
