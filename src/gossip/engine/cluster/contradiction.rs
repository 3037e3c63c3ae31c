//! What peers over UDP have said about members of which core members know better.
//!
//! Anyone over UDP may have said it, and may have said it first: before a core member has told us of the member, or
//! before that has sent us a message itself. Invariant: once it has, nothing is left of what was said before.

use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use crate::gossip::engine::cores::Report;
use crate::gossip::engine::node_state::NodeState;
use crate::gossip::engine::order;
use crate::message::{ChitchatId, Digest};

impl Cluster {
    /// Drops what peers over UDP have said about the members at the addresses that `digest`, which a core member has
    /// sent, lists and that no core member has listed before. Returns those members that it does not list, which are
    /// forgotten, sorted by id.
    pub(in crate::gossip::engine) fn contradict(
        &mut self,
        digest: &Digest,
        now: Duration,
    ) -> Vec<ChitchatId> {
        if !self.cores.has_unconfirmed() {
            return Vec::new();
        }
        let listed = digest.node_digests.keys();
        let unconfirmed = listed.filter(|id| self.cores.is_unconfirmed(id.addr()));
        let unconfirmed: Vec<_> = unconfirmed.collect();
        let addrs = order::set(unconfirmed.iter().map(|id| id.addr()));
        // While they still count as what they were.
        let forgotten = self.drop_said(digest, |addr| addrs.contains(&addr));
        for id in unconfirmed {
            let report = Report::of(digest, id, now);
            self.cores.contradict(id.addr(), report);
        }
        forgotten
    }

    /// Notes that a core member is at `addr`, and has sent `digest`. Drops what peers over UDP have said about the members
    /// there. Returns those that `digest` does not list, which are forgotten, sorted by id.
    pub(in crate::gossip::engine) fn meet(
        &mut self,
        addr: SocketAddr,
        digest: &Digest,
        now: Duration,
    ) -> Vec<ChitchatId> {
        let forgotten = match self.cores.is_over_udp(addr) {
            true => self.drop_said(digest, |other| other == addr),
            false => Vec::new(),
        };
        self.cores.mark(addr, now);
        forgotten
    }

    /// Forgets the states of the members at the addresses for which `is_there` returns true, and those that `digest`
    /// does not list altogether: others may have made up their generations.
    fn drop_said(
        &mut self,
        digest: &Digest,
        is_there: impl Fn(SocketAddr) -> bool,
    ) -> Vec<ChitchatId> {
        let (mut emptied, mut forgotten) = (Vec::new(), Vec::new());
        for (id, state) in self.nodes.iter_mut() {
            if *id == self.self_id || !is_there(id.addr()) {
                continue;
            }
            self.foreign_bytes = self.foreign_bytes.saturating_sub(state.bytes());
            if self.cores.is_limited(id.addr()) {
                self.limited_bytes = self.limited_bytes.saturating_sub(state.bytes());
            }
            *state = NodeState::default();
            match digest.node_digests.contains_key(id) {
                true => emptied.push(id.clone()),
                false => forgotten.push(id.clone()),
            }
        }
        self.nodes
            .retain(|id, _| forgotten.binary_search(id).is_err());
        self.reserved.forget(&emptied);
        self.reserved.forget(&forgotten);
        forgotten
    }
}
