//! Syn, SynAck, Ack and BadCluster: what a message changes here, and the answer to it.

use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use super::push::push_send;
use crate::gossip::engine::cluster::Learnt;
use crate::gossip::engine::event::Output;
use crate::message::{ChitchatId, ChitchatMessage, Delta, Digest, ProtocolVersion, syn_overhead};

/// The bytes that the digest of a SynAck leaves for its delta, so that changes get through even in
/// a cluster whose digest would fill the message.
const MIN_DELTA_ROOM: usize = 4 << 10;
/// The number of peers of other clusters that are remembered.
const MAX_REJECTIONS: usize = 64;

impl Engine {
    /// Sends a Syn to each of `addrs`.
    pub(super) fn ask(&mut self, addrs: &[SocketAddr], now: Duration, outputs: &mut Vec<Output>) {
        for addr in addrs {
            self.contacts.note_asked(*addr, now);
        }
        for (version, to) in self.by_version(addrs) {
            let syn = self.syn(version, now);
            push_send(to, syn, outputs);
        }
    }

    fn syn(&mut self, version: ProtocolVersion, now: Duration) -> ChitchatMessage {
        let cluster_id = self.config.cluster_id.clone();
        let room = self
            .config
            .max_message_len
            .saturating_sub(syn_overhead(&cluster_id));
        let digest = self.digest(version, room, now);
        ChitchatMessage::Syn {
            version,
            cluster_id,
            digest,
        }
    }

    /// Handles a message from `from`. Returns true if the membership has changed.
    pub(super) fn message(
        &mut self,
        from: SocketAddr,
        message: ChitchatMessage,
        now: Duration,
        outputs: &mut Vec<Output>,
    ) -> bool {
        self.contacts.note_heard(from);
        // With every message as well as in every round, as in the published crate.
        self.beat();
        match message {
            ChitchatMessage::Syn {
                version,
                cluster_id,
                digest,
            } => {
                if cluster_id != self.config.cluster_id {
                    self.counts.foreign_syns += 1;
                    outputs.push(Output::Send {
                        to: from,
                        message: ChitchatMessage::BadCluster { version },
                    });
                    return false;
                }
                self.note_heard(from);
                let changed = self.note_digest(from, &digest, now);
                let message = self.syn_ack(version, &digest, now);
                outputs.push(Output::Send { to: from, message });
                changed
            }
            ChitchatMessage::SynAck {
                version,
                digest,
                delta,
            } => {
                self.note_heard(from);
                let mut changed = self.note_digest(from, &digest, now);
                changed |= self.learn(from, delta, now).changed;
                let room = self.delta_room(0);
                let delta = self.delta(&digest, room, now);
                let message = ChitchatMessage::Ack { version, delta };
                outputs.push(Output::Send { to: from, message });
                changed
            }
            ChitchatMessage::Ack { delta, .. } => {
                self.note_heard(from);
                let learnt = self.learn(from, delta, now);
                let may_ask = learnt.has_gap && self.routes.has_route(from);
                if may_ask && self.rumours.may_repair(now) {
                    self.ask(&[from], now, outputs);
                }
                learnt.changed
            }
            ChitchatMessage::BadCluster { .. } => {
                self.counts.rejections += 1;
                if self.rejected_by.len() < MAX_REJECTIONS {
                    self.rejected_by.insert(from);
                }
                if self.counts.rejections.is_power_of_two() {
                    tracing::warn!(
                        %from,
                        rejections = self.counts.rejections,
                        "a peer belongs to another cluster"
                    );
                }
                false
            }
        }
    }

    /// Notes that a member of this cluster has sent a message.
    fn note_heard(&mut self, from: SocketAddr) {
        self.counts.heard += u64::from(from != self.id().gossip_advertise_addr);
        self.rejected_by.remove(&from);
    }

    /// Notes the members, heartbeats and versions that the digest of a peer lists. Returns true if a
    /// member is new or is live that was not before.
    fn note_digest(&mut self, from: SocketAddr, digest: &Digest, now: Duration) -> bool {
        let listed = &digest.node_digests;
        let version = |id: &ChitchatId| listed.get(id).map(|node| node.max_version);
        self.rumours.note_digest(from, version);
        let noted = self.cluster.note_heartbeats(digest);
        let risen = self.detector.heartbeats(noted.risen.into_iter(), now);
        noted.has_new || risen
    }

    /// Applies a delta, and notes the new changes in it to be pushed.
    fn learn(&mut self, from: SocketAddr, delta: Delta, now: Duration) -> Learnt {
        let learnt = self.cluster.apply(delta, now);
        for (id, above, reached) in &learnt.changes {
            self.rumours.note_copy(id, from, *reached, *reached);
            self.rumours.note(id, *above, Some((from, *reached)), now);
        }
        for (id, reached) in &learnt.copies {
            let known = self.cluster.get(id).map_or(0, |state| state.max_version);
            self.rumours.note_copy(id, from, *reached, known);
        }
        learnt
    }

    fn syn_ack(
        &mut self,
        version: ProtocolVersion,
        theirs: &Digest,
        now: Duration,
    ) -> ChitchatMessage {
        let room = self.delta_room(MIN_DELTA_ROOM);
        let digest = self.digest(version, room, now);
        let room = self.delta_room(digest.encoded_len_bound(version));
        let delta = self.delta(theirs, room, now);
        ChitchatMessage::SynAck {
            version,
            digest,
            delta,
        }
    }

    pub(super) fn digest(
        &mut self,
        version: ProtocolVersion,
        room: usize,
        now: Duration,
    ) -> Digest {
        let detector = &self.detector;
        self.cluster.digest(version, room, |id| {
            detector.is_scheduled_for_deletion(id, now)
        })
    }

    fn delta(&mut self, theirs: &Digest, room: usize, now: Duration) -> Delta {
        let detector = &self.detector;
        let skip = |id: &ChitchatId| detector.is_scheduled_for_deletion(id, now);
        self.cluster.delta(theirs, room, skip, &mut self.rng)
    }
}
