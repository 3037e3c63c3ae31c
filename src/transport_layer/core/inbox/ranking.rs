//! The order of peers by queued messages and bytes.
//!
//! Sizes change with every message, but the order matters only when the inbox is full. A change is
//! therefore only noted, and the order is updated when it is needed. Invariant: the number of notes
//! is bounded by the number of peers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::room::{Bound, Sizes};
use crate::transport_layer::PeerMap;
use crate::transport_layer::core::pool::Pool;

/// An update is due after this many notes plus two for each peer.
const FEW: usize = 64;

/// The order of the peers of each pool by messages and by bytes.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    proved: Order,
    unproved: Order,
    /// The pool and the sizes by which each peer is ordered at present.
    ranked: PeerMap<(Pool, Sizes)>,
    /// Peers whose sizes may have changed since the last update.
    changed: Vec<SocketAddr>,
}

#[derive(Debug, Default)]
struct Order {
    by_messages: BTreeSet<(usize, SocketAddr)>,
    by_bytes: BTreeSet<(usize, SocketAddr)>,
}

impl Ranking {
    /// Notes that the sizes of `peer` may change. Until the next update the caller must note each
    /// of its `peers` peers at most once. Returns whether an [`update`](Self::update) is due.
    pub(super) fn note(&mut self, peer: SocketAddr, peers: usize) -> bool {
        self.changed.push(peer);
        self.changed.len() > FEW.saturating_add(peers.saturating_mul(2))
    }

    /// Updates the order. `sizes` returns the pool and the present sizes of a peer, zero if there is
    /// no such peer, and clears the mark that it was noted.
    pub(super) fn update(&mut self, mut sizes: impl FnMut(SocketAddr) -> (Pool, Sizes)) {
        let mut changed = std::mem::take(&mut self.changed);
        for peer in changed.drain(..) {
            let now = sizes(peer);
            let is_empty = now.1 == Sizes::default();
            let old = if is_empty {
                self.ranked.remove(&peer)
            } else {
                self.ranked.insert(peer, now)
            };
            if let Some((pool, old)) = old {
                let order = self.order(pool);
                order.by_messages.remove(&(old.messages, peer));
                order.by_bytes.remove(&(old.bytes, peer));
            }
            if !is_empty {
                let (pool, now) = now;
                let order = self.order(pool);
                order.by_messages.insert((now.messages, peer));
                order.by_bytes.insert((now.bytes, peer));
            }
        }
        self.changed = changed;
    }

    /// Returns the peer of `pool` that has the most of what `bound` limits, and how much it has. Call
    /// [`update`](Self::update) first.
    pub(super) fn most(&mut self, pool: Pool, bound: Bound) -> Option<(usize, SocketAddr)> {
        let order = self.order(pool);
        let order = match bound {
            Bound::Bytes => &order.by_bytes,
            Bound::Peer | Bound::Messages => &order.by_messages,
        };
        order.last().copied().filter(|(most, _)| *most > 0)
    }

    fn order(&mut self, pool: Pool) -> &mut Order {
        match pool {
            Pool::Proved => &mut self.proved,
            Pool::Unproved => &mut self.unproved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_due_after_a_few_notes_and_two_for_each_peer() {
        let mut ranking = Ranking::default();
        let mut notes = 1..;
        let due = notes.find(|n| ranking.note(([10, 0, 0, 1], *n).into(), 10));
        assert_eq!(due, Some(64 + 2 * 10 + 1));
    }
}
