//! What peers over UDP are told, and how an address becomes one of them.
//!
//! The limits are in `policy`. Invariant: a message to an address of which nothing is known is one to a peer over UDP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use super::exchange::MENTIONED_INTERVALS;
use super::software::Software;
use crate::credential::{Role, is_key_address};
use crate::gossip::engine::cores::Owner;
use crate::gossip::engine::denial::Denial;
use crate::gossip::engine::order;
use crate::gossip::engine::policy::Sender;
use crate::message::{ChitchatId, ChitchatMessage, Delta, Digest};

/// The number of intervals in which all core members hear of a member, and what it has proved. What peers over UDP tell
/// waits for so long until core members are told, unless the member has sent a datagram itself.
const REPORT_INTERVALS: u32 = 10;
/// The number of intervals after which a core member that is there would have sent a digest: each is asked by a few
/// others in each of them, and one that has just started asks its seeds at once.
const SILENT_INTERVALS: u32 = 3;

impl Engine {
    /// Notes the role in which a message was sent from an address. Returns true if a member was forgotten, of which
    /// peers over UDP had told.
    pub(super) fn note_sender(
        &mut self,
        sender: Sender,
        message: &ChitchatMessage,
        now: Duration,
    ) -> bool {
        if sender.is_proved_core() {
            return self.meet(sender.addr, message, now);
        }
        if sender.role != Role::Unauthenticated {
            return false;
        }
        let addr = sender.addr;
        let patience = self.patience_with_reports();
        let at_addr = |id: &&ChitchatId| id.addr() == addr;
        let cores = &mut self.cluster.cores;
        if cores.is_silent(addr, patience, now) {
            // The transport layer has dialled the core member in vain. While others hear from it, it is only this
            // member that cannot reach it.
            let others = self.cluster.others();
            let is_live = others.filter(at_addr).any(|id| self.detector.is_live(id));
            if !is_live {
                self.cluster.cores.note_over_udp(addr);
            }
            return false;
        }
        // Without secrets, no proof follows.
        let patience = match self.cluster.has_secrets() {
            true => patience,
            false => Duration::ZERO,
        };
        let cores = &mut self.cluster.cores;
        if cores.note_datagram(addr, patience, now) {
            let others = self.cluster.others();
            let is_core = others.filter(at_addr).any(|id| self.cluster.has_proved(id));
            if is_core {
                self.cluster.cores.mark(addr, now);
            } else {
                self.cluster.cores.note_over_udp(addr);
            }
        }
        false
    }

    /// Notes that a core member has sent `message` from `addr`.
    fn meet(&mut self, addr: SocketAddr, message: &ChitchatMessage, now: Duration) -> bool {
        let digest = match message {
            ChitchatMessage::Syn { digest, .. } | ChitchatMessage::SynAck { digest, .. } => digest,
            // The next digest of the peer says which of the members at its address is its own.
            _ if self.cluster.cores.is_over_udp(addr) => return false,
            _ => &Digest::default(),
        };
        let forgotten = self.cluster.meet(addr, digest, now);
        self.detector.forget(&forgotten);
        !forgotten.is_empty()
    }

    /// Compares the digest of a core member with what peers over UDP have told. Returns true if a member was forgotten.
    pub(super) fn compare_with_core(&mut self, digest: &Digest, now: Duration) -> bool {
        let forgotten = self.cluster.contradict(digest, now);
        self.detector.forget(&forgotten);
        let patience = self.patience_with_reports();
        let cores = &mut self.cluster.cores;
        cores.note_digest(now);
        cores.confirm(patience, now);
        !forgotten.is_empty()
    }

    /// Waits no longer for core members to say otherwise if none of them sends anything.
    pub(super) fn confirm_unopposed(&mut self, now: Duration) {
        let patience = self.patience_with_reports();
        let silence = self.config.gossip_interval.saturating_mul(SILENT_INTERVALS);
        let cores = &mut self.cluster.cores;
        if cores.has_unconfirmed() && cores.are_silent_for(silence, now) {
            cores.confirm(patience, now);
        }
    }

    /// Returns the time in which all core members hear of a member, and what it has proved.
    fn patience_with_reports(&self) -> Duration {
        self.config.gossip_interval.saturating_mul(REPORT_INTERVALS)
    }

    /// Returns true unless messages to `addr` are known to be encrypted.
    pub(super) fn may_be_udp(&self, addr: SocketAddr) -> bool {
        let is_secure = self.cluster.cores.contains(addr) || self.routes.is_ours(addr);
        !is_secure && !is_key_address(addr)
    }

    /// Chooses the leaves that peers over UDP are told of.
    pub(super) fn introduce(&mut self, now: Duration) {
        let detector = &self.detector;
        let is_live = |id: &ChitchatId| detector.is_live(id);
        let silence = self.mentioned_for(Software::Ours, MENTIONED_INTERVALS);
        let is_gone = detector.omission(silence, now);
        let hidden = self
            .introductions
            .update(&self.cluster, is_live, is_gone, now);
        self.policy.denied.add(Denial::Hidden, hidden);
    }

    /// Returns the members that one with `software` is not told of: if it is over UDP, leaves for which there is no room,
    /// and else those of which only peers over UDP have told, while core members may know better.
    pub(super) fn hidden_from(&self, software: Software) -> BTreeSet<ChitchatId> {
        if software != Software::Udp && !self.cluster.cores.has_unconfirmed() {
            return BTreeSet::new();
        }
        let is_hidden = |id: &&ChitchatId| self.is_hidden_from(software, id);
        order::set(self.cluster.others().filter(is_hidden).cloned())
    }

    /// Takes the members out of `delta` that a peer with `software` is not told of.
    pub(super) fn hide_from(&self, software: Software, delta: &mut Delta) {
        delta
            .node_deltas
            .retain(|node| !self.is_hidden_from(software, &node.chitchat_id));
    }

    fn is_hidden_from(&self, software: Software, id: &ChitchatId) -> bool {
        match software {
            Software::Udp => {
                self.cluster.owner(id) == Owner::Leaf && !self.introductions.is_shown(id)
            }
            Software::Ours | Software::Unknown => self.cluster.cores.is_unconfirmed(id.addr()),
        }
    }
}
