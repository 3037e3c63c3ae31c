//! Lets peers in.
//!
//! It runs no handshake itself, and reads and writes nothing. Invariant: a peer that is slow, or
//! never answers, delays nobody else's accept, and the loop survives every error.

use std::sync::Arc;
use std::time::Duration;

use super::Direction;
use super::shared::Shared;
use crate::message::Message;
use crate::net::{NetConnection, NetIncomingRequest, NetListener, NetTransport};
use crate::rt;

/// The pause after the listener itself failed: short for a peer that knocks, long for a loop.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Accepts until it is dropped, which frees the port. Each handshake is a task of its own, and at
/// most `max_pending_handshakes` run: one more ends the oldest.
pub(super) async fn handle_socket_listener<T: NetTransport, M: Message>(
    shared: Arc<Shared<T, M>>,
    listener: T::Listener,
) {
    let mut failures: u64 = 0;
    loop {
        let request = match listener.accept().await {
            Ok(request) => request,
            Err(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!(failures, error = format_args!("{error:#}"), "accept failed");
                }
                rt::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let oldest = shared
            .handshakes
            .pop_oldest(shared.config.max_pending_handshakes);
        if let Some(oldest) = oldest {
            drop(oldest);
            count_failure(&shared, &"too many handshakes at a time");
        }
        shared
            .handshakes
            .spawn(handle_handshake(Arc::clone(&shared), request));
    }
}

async fn handle_handshake<T, M, R>(shared: Arc<Shared<T, M>>, request: R)
where
    T: NetTransport,
    M: Message,
    R: NetIncomingRequest<Connection = T::Connection>,
{
    match rt::timeout(shared.config.dial_timeout, request.accept()).await {
        Ok(Ok(conn)) => shared.register(conn.remote_addr(), conn, Direction::Incoming),
        Ok(Err(error)) => count_failure(&shared, &format_args!("{error:#}")),
        Err(late) => count_failure(&shared, &late),
    }
}

/// Strangers may knock as often as they like: the log grows with the logarithm of that.
fn count_failure<T: NetTransport, M: Message>(shared: &Shared<T, M>, why: &dyn std::fmt::Display) {
    let failures = shared.with(|peers, _| {
        peers.folded.accept_failed += 1;
        peers.folded.accept_failed
    });
    if failures.is_power_of_two() {
        tracing::debug!(failures, %why, "a peer was not let in");
    }
}
