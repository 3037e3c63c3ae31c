//! Limits the work that each peer causes with its messages, since a message may list so many members and
//! keys that it takes a hundred times as long as others.
//!
//! It counts members and keys; it measures no time. Invariant: a peer that sends too much costs only its own
//! messages, and peers without a proved identity together get no more than one that has one.

use std::net::SocketAddr;
use std::time::Duration;

use super::limiter::Limiter;
use crate::message::{ChitchatMessage, Delta};

/// The time for which a member or key in a message is counted. It takes about a quarter of it on a usual
/// machine, so that a peer gets a quarter of a core.
const PER_ENTRY: Duration = Duration::from_micros(4);
/// The time for which a peer may have caused work at once: a digest of the most members, several times.
const BURST: Duration = Duration::from_millis(250);

/// The work that peers have caused.
#[derive(Debug)]
pub(super) struct Load {
    peers: Limiter,
    /// The time from which on all peers without a proved identity together will have caused no work.
    unproved: Duration,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            peers: Limiter::of_work(BURST),
            unproved: Duration::ZERO,
        }
    }

    /// Returns true if a message of `from` may be handled now, and counts its work. Any message may be
    /// if there was no work before, however long it is.
    pub(super) fn admit(
        &mut self,
        from: SocketAddr,
        is_proved: bool,
        message: &ChitchatMessage,
        now: Duration,
    ) -> bool {
        let work = PER_ENTRY.saturating_mul(u32::try_from(entries(message)).unwrap_or(u32::MAX));
        if !is_proved && self.unproved > now.saturating_add(BURST) {
            return false;
        }
        if !self.peers.admit_work(from, is_proved, work, now) {
            return false;
        }
        if !is_proved {
            self.unproved = self.unproved.max(now).saturating_add(work);
        }
        true
    }

    /// Returns the time from which on `from` will have caused no work.
    pub(super) fn idle_from(&self, from: SocketAddr) -> Duration {
        self.peers.due(from)
    }

    /// Forgets the peers that have caused no work lately.
    pub(super) fn forget_idle(&mut self, now: Duration) {
        self.peers.forget_idle(now);
    }
}

/// Returns the number of members and keys in a message.
fn entries(message: &ChitchatMessage) -> usize {
    match message {
        ChitchatMessage::Syn { digest, .. } => digest.node_digests.len(),
        ChitchatMessage::SynAck { digest, delta, .. } => digest.node_digests.len() + changes(delta),
        ChitchatMessage::Ack { delta, .. } => changes(delta),
        ChitchatMessage::BadCluster { .. } => 0,
    }
}

fn changes(delta: &Delta) -> usize {
    let nodes = delta.node_deltas.iter();
    nodes.map(|node| 1 + node.key_values.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        ChitchatId, DeletionStatus, Digest, KeyValueMutation, NodeDelta, NodeDigest,
        ProtocolVersion,
    };

    fn addr(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    fn syn(members: u64) -> ChitchatMessage {
        let ids = (0..members).map(|n| ChitchatId::new("a", n, addr(1)));
        let digest: Vec<_> = ids.map(|id| (id, NodeDigest::default())).collect();
        ChitchatMessage::Syn {
            version: ProtocolVersion::V1,
            cluster_id: "cluster".to_owned(),
            digest: Digest::from(digest),
        }
    }

    /// A message with the changes of one member, `keys` of them.
    fn ack(keys: u64) -> ChitchatMessage {
        let change = |version| KeyValueMutation {
            key: "k".to_owned(),
            value: "v".to_owned(),
            version,
            status: DeletionStatus::Set,
        };
        let node = NodeDelta {
            chitchat_id: ChitchatId::new("a", 1, addr(1)),
            from_version_excluded: 0,
            last_gc_version: 0,
            key_values: (1..=keys).map(change).collect(),
            max_version: keys,
        };
        ChitchatMessage::Ack {
            version: ProtocolVersion::V1,
            delta: Delta {
                node_deltas: vec![node],
            },
        }
    }

    #[test]
    fn a_peer_that_sends_long_messages_is_limited_by_their_length_and_limits_no_other() {
        for (long, short) in [(syn(20_000), syn(10)), (ack(20_000), ack(10))] {
            let mut load = Load::new();
            let mut admitted = 0;
            for millis in 0..10_000 {
                let now = Duration::from_millis(millis);
                admitted += usize::from(load.admit(addr(1), true, &long, now));
                assert!(load.admit(addr(2), true, &short, now));
                assert!(load.admit(addr(3), false, &short, now));
            }
            // 80 ms each, and those of the burst.
            assert!((120..135).contains(&admitted), "{admitted}");
        }
    }

    #[test]
    fn peers_without_a_proved_identity_share_what_one_peer_gets() {
        let (long, short) = (syn(20_000), syn(10));
        let mut load = Load::new();
        let mut admitted = 0;
        for millis in 0..10_000_u16 {
            let now = Duration::from_millis(millis.into());
            admitted += usize::from(load.admit(addr(millis), false, &long, now));
            assert!(load.admit(addr(2), true, &short, now));
        }
        assert!((120..135).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_peer_is_idle_again_once_the_work_that_it_has_caused_is_done() {
        let mut load = Load::new();
        let now = Duration::from_secs(5);
        assert_eq!(load.idle_from(addr(1)), Duration::ZERO);
        load.admit(addr(1), true, &syn(1_000), now);
        assert_eq!(load.idle_from(addr(1)), now + PER_ENTRY * 1_000);
        assert_eq!(load.idle_from(addr(2)), Duration::ZERO);
    }
}
