//! The order of peers by queued messages and bytes.
//!
//! Sizes change with every message, but the order matters only when the inbox is full. A change is
//! therefore only noted, and the order is updated when it is needed. Invariant: the number of notes
//! is bounded by the number of peers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::transport_layer::PeerMap;

/// An update is due after this many notes plus two for each peer.
const FEW: usize = 64;

/// The order of peers by messages and by bytes.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    by_messages: BTreeSet<(usize, SocketAddr)>,
    by_bytes: BTreeSet<(usize, SocketAddr)>,
    /// The sizes by which each peer is ordered at present.
    ranked: PeerMap<Sizes>,
    /// Peers whose sizes may have changed since the last update.
    changed: Vec<SocketAddr>,
}

/// The number of queued messages of one peer, and of their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Ranking {
    /// Notes that the sizes of `peer` may change. Until the next update the caller must note each
    /// of its `peers` peers at most once. Returns whether an [`update`](Self::update) is due.
    pub(super) fn note(&mut self, peer: SocketAddr, peers: usize) -> bool {
        self.changed.push(peer);
        self.changed.len() > FEW.saturating_add(peers.saturating_mul(2))
    }

    /// Updates the order. `sizes` returns the present sizes of a peer, zero if there is no such
    /// peer, and clears the mark that it was noted.
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

    /// Returns the peer with the most messages, and their number. Call [`update`](Self::update)
    /// first.
    pub(super) fn most_messages(&self) -> Option<(usize, SocketAddr)> {
        self.by_messages.last().copied()
    }

    /// Returns the peer with the most bytes, and their number. Call [`update`](Self::update) first.
    pub(super) fn most_bytes(&self) -> Option<(usize, SocketAddr)> {
        self.by_bytes.last().copied()
    }
}
