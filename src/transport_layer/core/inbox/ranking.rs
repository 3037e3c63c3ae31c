//! Which peer has the most messages or bytes.
//!
//! Sizes change with every message, and the order matters only when the inbox is full. A change is
//! therefore only noted, and the order is brought up to date when it is asked for. Invariant: the
//! number of notes is bounded by the number of peers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::transport_layer::PeerMap;

/// An update is due after this many notes and two for each peer.
const FEW: usize = 64;

/// The order of peers by messages and by bytes.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    by_messages: BTreeSet<(usize, SocketAddr)>,
    by_bytes: BTreeSet<(usize, SocketAddr)>,
    /// The sizes with which a peer is in the order.
    ranked: PeerMap<Sizes>,
    /// Peers whose sizes may have changed since.
    changed: Vec<SocketAddr>,
}

/// What is queued of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Ranking {
    /// Notes that the sizes of `peer` may change. The caller must note each of its `peers` peers only
    /// once until the next update. Returns whether an [`update`](Self::update) is due.
    pub(super) fn note(&mut self, peer: SocketAddr, peers: usize) -> bool {
        self.changed.push(peer);
        self.changed.len() > FEW.saturating_add(peers.saturating_mul(2))
    }

    /// Brings the order up to date. `sizes` returns the present sizes of a peer, zero if there is no
    /// such peer, and forgets that it was noted.
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

    /// Returns the peer with the most messages, and how many. Call [`update`](Self::update) first.
    pub(super) fn most_messages(&self) -> Option<(usize, SocketAddr)> {
        self.by_messages.last().copied()
    }

    /// Returns the peer with the most bytes, and how many. Call [`update`](Self::update) first.
    pub(super) fn most_bytes(&self) -> Option<(usize, SocketAddr)> {
        self.by_bytes.last().copied()
    }
}
