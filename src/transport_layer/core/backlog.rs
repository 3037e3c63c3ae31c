//! The bound on the bytes that wait to be sent to all peers together.
//!
//! It knows sums, and no queue. Invariant: every peer may have its share waiting, whatever the others
//! have. Under the policies that drop messages, the peer with the most loses some for a newcomer, so only
//! the sum is bounded. Under `Backpressure` nothing is dropped, and a peer that has more may add less:
//! one with more than a batch up to half of the bound, one with a batch up to three quarters, and one with
//! its share up to all of it.

use super::queue::{BATCH_BYTES, OutgoingQueue};
use super::step::PeerKey;
use crate::transport_layer::config::{OverflowPolicy, TransportLayerConfig};

/// What waits to be sent to all peers.
#[derive(Debug)]
pub(super) struct Backlog {
    most: usize,
    /// What each peer may have at any time: a quarter of the bound is enough for all of them.
    share: usize,
    overflow: OverflowPolicy,
    bytes: usize,
    /// The peers with a sender that waits for others, each with the sum at which it looks again.
    held_back: Vec<(PeerKey, usize)>,
}

impl Backlog {
    pub(super) fn new(config: &TransportLayerConfig) -> Self {
        let most = config.max_outgoing_bytes;
        Self {
            most,
            share: most / 4 / config.max_peers.max(1),
            overflow: config.outgoing.overflow,
            bytes: 0,
            held_back: Vec::new(),
        }
    }

    /// Takes note of what waits in `queue` at present.
    pub(super) fn settle(&mut self, queue: &mut OutgoingQueue) {
        let now = queue.waiting_bytes();
        let before = std::mem::replace(&mut queue.settled, now);
        self.bytes = (self.bytes + now).saturating_sub(before);
    }

    /// Returns whether `len` more bytes cost nobody anything, whatever the policy.
    pub(super) fn is_calm(&self, len: usize) -> bool {
        self.bytes.saturating_add(len) <= self.most / 2
    }

    /// Returns by how much the sum exceeds the bound, if messages are to be dropped for that.
    pub(super) fn excess(&self) -> usize {
        match self.overflow {
            OverflowPolicy::Backpressure => 0,
            OverflowPolicy::DropOldest | OverflowPolicy::DropNewest => {
                self.bytes.saturating_sub(self.most)
            }
        }
    }

    /// Returns whether a sender must wait, because of what others have, until a peer for which `own` bytes
    /// wait may have `len` more. Notes it then.
    pub(super) fn holds_back(&mut self, peer: PeerKey, own: usize, len: usize) -> bool {
        if self.overflow != OverflowPolicy::Backpressure {
            return false;
        }
        let then = own.saturating_add(len);
        let most = if then <= self.share {
            self.most
        } else if then <= BATCH_BYTES || own == 0 {
            self.most - self.most / 4
        } else {
            self.most / 2
        };
        let room_at = most.saturating_sub(len);
        if self.bytes <= room_at {
            return false;
        }
        match self
            .held_back
            .iter_mut()
            .find(|(held, _)| held.id == peer.id)
        {
            Some(held) => *held = (peer, room_at),
            None => self.held_back.push((peer, room_at)),
        }
        true
    }

    /// Returns the peers whose senders may find room now. They are noted again if they do not.
    pub(super) fn ready(&mut self) -> impl Iterator<Item = PeerKey> + use<> {
        let bytes = self.bytes;
        let mut ready = Vec::new();
        self.held_back.retain(|(peer, room_at)| {
            let is_ready = bytes <= *room_at;
            if is_ready {
                ready.push(*peer);
            }
            !is_ready
        });
        ready.into_iter()
    }

    /// Returns whether a sender for the peer `id` is noted, and there is no room for it.
    #[cfg(test)]
    pub(super) fn is_held_back(&self, id: u64) -> bool {
        let mut held_back = self.held_back.iter();
        held_back.any(|(peer, room_at)| peer.id == id && self.bytes > *room_at)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    fn key(id: u64) -> PeerKey {
        let addr = ([10, 0, 0, 1], 7000).into();
        PeerKey { addr, id }
    }

    /// A bound of 4 MiB, of which each of 16 peers has a share of 64 KiB.
    fn backlog(overflow: OverflowPolicy, bytes: usize) -> Backlog {
        let mut config = TransportLayerConfig::default()
            .with_max_outgoing_bytes(4 * MIB)
            .with_max_connections(15)
            .with_max_peers(16);
        config.outgoing.overflow = overflow;
        Backlog {
            bytes,
            ..Backlog::new(&config)
        }
    }

    #[test]
    fn a_sender_waits_the_sooner_the_more_its_peer_has() {
        // What all peers and the peer itself have, a message, and whether its sender waits.
        let cases = [
            ("up to half, any peer", 2 * MIB - 10, MIB, 10, false),
            ("above half, more than a batch", 2 * MIB, 256 * KIB, 1, true),
            ("above half, a batch", 2 * MIB, 255 * KIB, KIB, false),
            ("above half, one long message", 2 * MIB, 0, MIB, false),
            (
                "three quarters, a batch",
                3 * MIB - KIB,
                255 * KIB,
                KIB,
                false,
            ),
            (
                "above three quarters, a batch",
                3 * MIB,
                255 * KIB,
                KIB,
                true,
            ),
            (
                "above three quarters, one long message",
                3 * MIB,
                0,
                65 * KIB,
                true,
            ),
            (
                "above three quarters, a share",
                3 * MIB,
                63 * KIB,
                KIB,
                false,
            ),
            (
                "all but a share, a share",
                4 * MIB - KIB,
                63 * KIB,
                KIB,
                false,
            ),
            ("nothing, the longest message", 0, 0, 4 * MIB, false),
        ];
        for (what, bytes, own, len, waits) in cases {
            let mut backlog = backlog(OverflowPolicy::Backpressure, bytes);
            assert_eq!(backlog.holds_back(key(1), own, len), waits, "{what}");
            assert_eq!(backlog.held_back.len(), usize::from(waits), "{what}");
        }
        for overflow in [OverflowPolicy::DropOldest, OverflowPolicy::DropNewest] {
            let mut backlog = backlog(overflow, 4 * MIB);
            assert!(!backlog.holds_back(key(1), MIB, 1), "{overflow:?}");
        }
    }

    #[test]
    fn a_sender_that_waits_looks_again_once_it_may_find_room() {
        let mut backlog = backlog(OverflowPolicy::Backpressure, 4 * MIB);
        for (id, own) in [(1, MIB), (2, 100 * KIB), (1, MIB)] {
            assert!(backlog.holds_back(key(id), own, KIB));
        }
        let mut ready = |bytes: usize| {
            backlog.bytes = bytes;
            backlog.ready().map(|key| key.id).collect::<Vec<_>>()
        };
        assert!(ready(3 * MIB).is_empty());
        assert_eq!(ready(3 * MIB - KIB), [2]);
        assert!(ready(2 * MIB).is_empty());
        assert_eq!(ready(2 * MIB - KIB), [1]);
        assert!(ready(0).is_empty());
    }
}
