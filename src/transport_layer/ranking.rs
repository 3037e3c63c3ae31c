//! Which peer has the most of something.
//!
//! Sizes change with every message and are asked for only when a queue is full: so a change is
//! only noted, and the order is brought up to date when it is asked for. Invariant: what is noted
//! is bounded by the number of peers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::PeerMap;

/// Notes beyond this and twice the number of ranked peers are worked off at once.
const FEW: usize = 64;

/// The order of peers by messages and by bytes.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    by_messages: BTreeSet<(usize, SocketAddr)>,
    by_bytes: BTreeSet<(usize, SocketAddr)>,
    /// As which sizes a peer stands in the order.
    ranked: PeerMap<Sizes>,
    /// Peers whose sizes may have changed since.
    changed: Vec<SocketAddr>,
}

/// What a peer has queued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Ranking {
    /// Notes that the sizes of `peer`, of `peers` in all, may change. The caller sees to it that
    /// each peer is noted once until it is looked up: true asks for an [`update`](Self::update).
    pub(super) fn note(&mut self, peer: SocketAddr, peers: usize) -> bool {
        self.changed.push(peer);
        self.changed.len() > FEW.saturating_add(peers.saturating_mul(2))
    }

    /// Works the notes off; `sizes` gives a peer's sizes now, zero if there is no such peer, and
    /// forgets that it was noted.
    pub(super) fn update(&mut self, mut sizes: impl FnMut(SocketAddr) -> Sizes) {
        for peer in self.changed.drain(..) {
            let now = sizes(peer);
            let old = if now == Sizes::default() {
                self.ranked.remove(&peer)
            } else {
                self.ranked.insert(peer, now)
            };
            if let Some(old) = old {
                self.by_messages.remove(&(old.messages, peer));
                self.by_bytes.remove(&(old.bytes, peer));
            }
            if now != Sizes::default() {
                self.by_messages.insert((now.messages, peer));
                self.by_bytes.insert((now.bytes, peer));
            }
        }
    }

    /// Who has the most messages, and how many. Call [`update`](Self::update) first.
    pub(super) fn most_messages(&self) -> Option<(usize, SocketAddr)> {
        self.by_messages.last().copied()
    }

    /// Who has the most bytes, and how many. Call [`update`](Self::update) first.
    pub(super) fn most_bytes(&self) -> Option<(usize, SocketAddr)> {
        self.by_bytes.last().copied()
    }
}
