//! The order in which peers are received from.
//!
//! Peers take turns. Peers without a proved identity have as many turns as others, but together no
//! more than those with one while these have messages: forged addresses cost nothing, and each would
//! be one more turn for which the others wait.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::transport_layer::core::pool::Pool;

/// The peers that have messages, each once, in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    proved: VecDeque<SocketAddr>,
    unproved: VecDeque<SocketAddr>,
    /// Grows with each turn of a proved peer. A turn of an unproved one is due once it reaches the
    /// number of proved peers.
    due: usize,
}

impl RoundRobin {
    /// Puts a peer that is not listed at the end.
    pub(super) fn push(&mut self, pool: Pool, peer: SocketAddr) {
        self.queue(pool).push_back(peer);
    }

    /// Returns the peer that has the next turn.
    pub(super) fn front(&self) -> Option<SocketAddr> {
        let queue = match self.next() {
            Pool::Proved => &self.proved,
            Pool::Unproved => &self.unproved,
        };
        queue.front().copied()
    }

    /// Takes out the peer that has the next turn, which it uses.
    pub(super) fn pop(&mut self) -> Option<SocketAddr> {
        let (pool, proved) = (self.next(), self.proved.len());
        self.due = match pool {
            Pool::Proved => self.due + proved.min(self.unproved.len()),
            // Less than one turn stays due, however many peers there were before.
            Pool::Unproved => (self.due.saturating_sub(proved)).min(proved.saturating_sub(1)),
        };
        self.queue(pool).pop_front()
    }

    /// Takes out the peer that has the next turn, which it does not use.
    pub(super) fn skip(&mut self) {
        let pool = self.next();
        self.queue(pool).pop_front();
    }

    /// Takes out a peer, wherever it is listed.
    pub(super) fn remove(&mut self, peer: SocketAddr) {
        self.proved.retain(|turn| *turn != peer);
        self.unproved.retain(|turn| *turn != peer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.proved.is_empty() && self.unproved.is_empty()
    }

    /// Returns the peers of `pool` in order.
    #[cfg(test)]
    pub(super) fn of(&self, pool: Pool) -> Vec<SocketAddr> {
        let queue = match pool {
            Pool::Proved => &self.proved,
            Pool::Unproved => &self.unproved,
        };
        queue.iter().copied().collect()
    }

    fn next(&self) -> Pool {
        let is_due = self.due >= self.proved.len() && !self.unproved.is_empty();
        if is_due || self.proved.is_empty() {
            Pool::Unproved
        } else {
            Pool::Proved
        }
    }

    fn queue(&mut self, pool: Pool) -> &mut VecDeque<SocketAddr> {
        match pool {
            Pool::Proved => &mut self.proved,
            Pool::Unproved => &mut self.unproved,
        }
    }
}
