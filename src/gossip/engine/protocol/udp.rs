//! What peers over UDP are told, and how an address becomes one of them.
//!
//! The limits are in `policy`. Invariant: a message to an address of which nothing is known is one to a peer over UDP.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use super::exchange::{MENTIONED_INTERVALS, Software};
use crate::credential::{Role, is_key_address};
use crate::gossip::engine::cores::Owner;
use crate::gossip::engine::denial::Denial;
use crate::gossip::engine::order;
use crate::gossip::engine::policy::Sender;
use crate::message::{ChitchatId, Delta};

impl Engine {
    /// Notes the role in which a message was sent from an address.
    pub(super) fn note_sender(&mut self, sender: Sender) {
        if sender.is_proved_core() {
            self.cluster.cores.mark(sender.addr);
            return;
        }
        if sender.role != Role::Unauthenticated {
            return;
        }
        self.cluster.cores.note_datagram(sender.addr);
        if self.cluster.cores.contains(sender.addr) {
            // The transport layer has dialled the core member in vain. While others hear from it, it is only this
            // member that cannot reach it.
            let others = self.cluster.others();
            let at_addr = |id: &&ChitchatId| id.addr() == sender.addr;
            let is_heard = others.filter(at_addr).any(|id| self.detector.is_live(id));
            if !is_heard {
                self.cluster.cores.unmark(sender.addr);
            }
        }
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

    /// Returns the leaves that a member with `software` is not told of.
    pub(super) fn hidden_from(&self, software: Software) -> BTreeSet<ChitchatId> {
        if software != Software::Udp {
            return BTreeSet::new();
        }
        let is_hidden = |id: &&ChitchatId| {
            self.cluster.owner(id) == Owner::Leaf && !self.introductions.is_shown(id)
        };
        order::set(self.cluster.others().filter(is_hidden).cloned())
    }

    /// Takes the leaves out of `delta` that peers over UDP are not told of.
    pub(super) fn hide(&self, delta: &mut Delta) {
        delta.node_deltas.retain(|node| {
            let id = &node.chitchat_id;
            self.cluster.owner(id) != Owner::Leaf || self.introductions.is_shown(id)
        });
    }
}
