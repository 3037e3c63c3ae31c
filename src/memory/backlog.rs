//! Dials that wait to be accepted.
//!
//! It runs no handshake. Invariant: at most [`MAX_WAITING`] dials wait, and a dial that was given
//! up does not keep another one out.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures::channel::oneshot;

use super::connection::MemoryConnection;
use crate::credential::NetCredential;
use crate::net::Alpn;
use crate::rt::sync::{Epoch, Mutex};
use crate::secure::HandshakeError;

/// At most this many dials wait for a listener's `accept`. One more is refused.
const MAX_WAITING: usize = 1024;

/// The dials of one listener's address that wait for `accept`.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: Mutex<VecDeque<Dial>>,
    changed: Epoch,
}

/// A dial, and the channel for its result.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) from: SocketAddr,
    pub(super) alpn_preferred: Vec<Alpn>,
    pub(super) credential: NetCredential,
    pub(super) answer: oneshot::Sender<Result<MemoryConnection, HandshakeError>>,
}

impl Backlog {
    /// Queues a dial. Returns false, and drops the dial, if too many wait.
    pub(super) fn push(&self, dial: Dial) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_WAITING {
            waiting.retain(|dial| !dial.answer.is_canceled());
        }
        if waiting.len() >= MAX_WAITING {
            return false;
        }
        waiting.push_back(dial);
        drop(waiting);
        self.changed.advance();
        true
    }

    /// Returns the dial that has waited longest, waiting if there is none. Cancel-safe.
    pub(super) async fn next(&self) -> Dial {
        loop {
            let seen = self.changed.current();
            let dial = self.waiting.lock().pop_front();
            if let Some(dial) = dial {
                return dial;
            }
            self.changed.later_than(seen).await;
        }
    }

    /// Drops all dials that wait, which fails them.
    pub(super) fn clear(&self) {
        self.waiting.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::credential::Trust;

    #[test]
    fn the_dial_that_has_waited_longest_is_accepted_first() {
        let backlog = Backlog::default();
        let credential = NetCredential::generate(Trust::dangerously_anyone());
        let from = |port| SocketAddr::from(([10, 0, 0, 1], port));
        for port in 1..4 {
            let dial = Dial {
                from: from(port),
                alpn_preferred: Vec::new(),
                credential: credential.clone(),
                answer: oneshot::channel().0,
            };
            assert!(backlog.push(dial));
        }
        for port in 1..4 {
            let next = backlog.next().now_or_never();
            assert_eq!(next.map(|dial| dial.from), Some(from(port)));
        }
        assert!(backlog.next().now_or_never().is_none());
    }
}
