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
use crate::gossip::engine::cores::{Owner, Report};
use crate::gossip::engine::denial::Denial;
use crate::gossip::engine::order;
use crate::gossip::engine::policy::{Known, NameCache, Sender};
use crate::message::{ChitchatId, ChitchatMessage, Delta, Digest};

/// The number of intervals in which all core members hear of a member, and what it has proved. What peers over UDP tell
/// waits for so long until core members are told, unless the member has sent a datagram itself.
const REPORT_INTERVALS: u32 = 10;
/// The number of intervals for which a core member may be without keys for others: until the exchange ends in which they
/// have heard of it.
const EMPTY_INTERVALS: u32 = 1;
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
        if sender.role == Role::Leaf && sender.is_proved() {
            self.cluster.note_leaf(sender.addr);
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
        if let Some(report) = self.cluster.cores.note_datagram(addr) {
            self.judge_sender(addr, report, now);
        }
        false
    }

    /// Finds out whether `addr`, which a core member has reported and from which a datagram has come, is that of a core
    /// member.
    fn judge_sender(&mut self, addr: SocketAddr, report: Report, now: Duration) {
        let (mut is_core, mut reached) = (false, 0);
        for (id, state) in self.cluster.nodes().filter(|(id, _)| id.addr() == addr) {
            is_core |= self.cluster.has_proved(id);
            reached = reached.max(state.max_version);
        }
        if is_core {
            self.cluster.cores.mark(addr, now);
            return;
        }
        let has_waited = |intervals: u32| {
            let patience = self.config.gossip_interval.saturating_mul(intervals);
            now.saturating_sub(report.at) >= patience
        };
        // Without secrets, no proof follows. With them, it would be in a state that has arrived, and no core member
        // is without keys for long.
        let has_state = reached > 0 && reached >= report.version;
        let is_empty = reached == 0 && report.version == 0;
        let is_over_udp = !self.cluster.has_secrets()
            || has_state
            || is_empty && has_waited(EMPTY_INTERVALS)
            || has_waited(REPORT_INTERVALS);
        if is_over_udp {
            self.cluster.cores.note_over_udp(addr);
        }
    }

    /// Notes in each round whether core members are silent.
    pub(super) fn note_silence(&mut self, now: Duration) {
        let silence = self.config.gossip_interval.saturating_mul(SILENT_INTERVALS);
        self.cluster.cores.note_round(silence, now);
    }

    /// Finds out which of the members that core members have reported long ago are core, if there are peers over UDP:
    /// one whose datagrams come from another address than it advertises is known by its lack of a proof alone.
    pub(super) fn judge_reported(&mut self, now: Duration) {
        if !self.cluster.has_secrets() || !self.cluster.cores.has_udp() {
            return;
        }
        let patience = self.patience_with_reports();
        let reported = self.cluster.cores.reported_for(patience, now);
        if reported.is_empty() {
            return;
        }
        let others = self.cluster.others();
        let others = others.filter(|id| reported.contains(&id.addr()));
        let proved = others.filter(|id| self.cluster.has_proved(id));
        let proved: BTreeSet<_> = order::set(proved.map(ChitchatId::addr));
        for addr in reported {
            match proved.contains(&addr) {
                true => self.cluster.cores.mark(addr, now),
                false => self.cluster.cores.note_over_udp(addr),
            }
        }
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
        self.cluster.cores.note_digest(now);
        !forgotten.is_empty()
    }

    /// Notes that the digest of a core member has been compared, and its members added. Returns true if a member was
    /// forgotten: one of which peers over UDP had told, and which has the name of a core member.
    pub(super) fn confirm(&mut self, digest: &Digest, now: Duration) -> bool {
        // A core member that has just started lists nobody, and could not have known better.
        if !self.cluster.cores.has_unconfirmed() || !digest.node_digests.contains_key(self.id()) {
            return false;
        }
        let patience = self.patience_with_reports();
        let names = NameCache::default();
        let known = Known {
            names: &names,
            cluster: &self.cluster,
            detector: &self.detector,
            recent: now.saturating_sub(patience),
        };
        let others = self.cluster.others();
        let unconfirmed = others.filter(|id| self.cluster.cores.is_unconfirmed(id.addr()));
        let of_core = unconfirmed.filter(|id| known.is_name_of_core(id, true));
        let forgotten: Vec<_> = of_core.cloned().collect();
        self.detector.forget(&forgotten);
        self.cluster.forget(&forgotten);
        self.cluster.cores.confirm(patience, now);
        !forgotten.is_empty()
    }

    /// Returns the time in which all core members hear of a member, and what it has proved.
    pub(super) fn patience_with_reports(&self) -> Duration {
        self.config.gossip_interval.saturating_mul(REPORT_INTERVALS)
    }

    /// Returns true unless messages to `addr` are known to be encrypted.
    pub(super) fn may_be_udp(&self, addr: SocketAddr) -> bool {
        let is_secure = self.cluster.cores.contains(addr) || self.routes.is_ours(addr);
        !is_secure && !is_key_address(addr)
    }

    /// Chooses the leaves that peers over UDP are told of, if it is time to before a message to one with `software`.
    pub(super) fn introduce(&mut self, software: Software, now: Duration) {
        if !software.may_be_over_udp() {
            return;
        }
        let (members, interval) = (self.cluster.nodes().len(), self.config.gossip_interval);
        if !self.introductions.is_due(members, interval, now) {
            return;
        }
        let detector = &self.detector;
        let is_live = |id: &ChitchatId| detector.is_live(id);
        let silence = self.mentioned_for(Software::Ours, MENTIONED_INTERVALS);
        let is_gone = detector.omission(silence, now);
        let hidden = self
            .introductions
            .update(&self.cluster, is_live, is_gone, interval, now);
        self.policy.denied.add(Denial::Hidden, hidden);
    }

    /// Notes which leaves a peer over UDP knows.
    pub(super) fn note_listed(&mut self, sender: Sender, digest: &Digest, now: Duration) {
        if sender.role == Role::Unauthenticated {
            let listed = digest.node_digests.keys();
            let leaves = listed.filter(|id| is_key_address(id.addr()));
            self.introductions.note_listed(leaves, now);
        }
    }

    /// Returns the members that one with `software` is not told of although it may hear of
    /// [these](Introductions::told): those of which only peers over UDP have told, while core members may know better.
    pub(super) fn hidden_from(&self, software: Software) -> BTreeSet<ChitchatId> {
        let cores = &self.cluster.cores;
        if software == Software::Udp || !cores.has_unconfirmed() {
            return BTreeSet::new();
        }
        let is_hidden =
            |id: &&ChitchatId| cores.is_unconfirmed(id.addr()) && self.is_hidden_from(software, id);
        order::set(self.cluster.others().filter(is_hidden).cloned())
    }

    /// Takes the members out of `delta` that a peer with `software` is not told of.
    pub(super) fn hide_from(&self, software: Software, delta: &mut Delta) {
        delta
            .node_deltas
            .retain(|node| !self.is_hidden_from(software, &node.chitchat_id));
    }

    /// Returns true if `delta` has a member that a peer with `software` is not told of.
    pub(super) fn hides_from(&self, software: Software, delta: &Delta) -> bool {
        let mut members = delta.node_deltas.iter().map(|node| &node.chitchat_id);
        members.any(|id| self.is_hidden_from(software, id))
    }

    fn is_hidden_from(&self, software: Software, id: &ChitchatId) -> bool {
        let cores = &self.cluster.cores;
        let is_unconfirmed = || cores.is_unconfirmed(id.addr());
        let is_too_many =
            || self.cluster.owner(id) == Owner::Leaf && !self.introductions.is_shown(id);
        match software {
            Software::Udp => is_too_many(),
            Software::Stranger => is_too_many() || is_unconfirmed(),
            Software::Leaf => is_unconfirmed() && !cores.are_silent(),
            Software::Ours | Software::Unknown => is_unconfirmed(),
        }
    }
}
