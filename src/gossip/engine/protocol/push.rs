//! Messages that answer nothing: rumours, and the state of a member that leaves.

use std::net::SocketAddr;
use std::time::Duration;

use super::Engine;
use crate::gossip::engine::event::Output;
use crate::gossip::engine::order::Members;
use crate::gossip::engine::rumours::{self, Audience};
use crate::gossip::engine::selection;
use crate::message::{ChitchatId, ChitchatMessage, Delta, ProtocolVersion, Version};

impl Engine {
    /// Pushes the changes of this member above `floor` to all that are connected, and then its whole state to a few
    /// live members, which may lack more. If the state exceeds a message, the few get its newest changes. The first
    /// message is short, so that it is written at once, also by a page that has no time left.
    pub(super) fn farewell(&mut self, floor: Version, now: Duration) -> Vec<Output> {
        let room = self.delta_room(0);
        let mut outputs = Vec::new();
        let connected: Vec<_> = self.routes.connected().iter().copied().collect();
        let mut floors = Members::new();
        floors.insert(self.id().clone(), floor);
        let news = self
            .cluster
            .delta_above(&floors, room, |_| false, &mut self.rng);
        self.push(&connected, &news, &mut outputs);
        let candidates = self.candidates(now);
        let chosen = selection::choose_live(&candidates, &mut self.rng);
        let whole = self.cluster.own_delta(room);
        self.push(&chosen, &whole, &mut outputs);
        outputs
    }

    /// Pushes pending changes to a few live members.
    pub(super) fn send_rumours(&mut self, now: Duration, outputs: &mut Vec<Output>) {
        let transmission = self.rumours.begin(now);
        if transmission.changes.is_empty() {
            return;
        }
        let candidates = self.candidates(now);
        let reachable = candidates.audience();
        let room = self.rumours.room(now).min(self.delta_room(0));
        let detector = &self.detector;
        let skip = |id: &ChitchatId| detector.is_scheduled_for_deletion(id, now);
        let delta = self
            .cluster
            .delta_above(&transmission.changes, room, skip, &mut self.rng);
        let len = rumours::approximate_len(&delta);
        let chosen = if delta.node_deltas.is_empty() {
            Vec::new()
        } else {
            let pattern = self.pattern();
            let audience = Audience {
                reachable,
                connected: self.routes.connected(),
                pattern: &pattern,
                own: self.id().addr(),
            };
            let cluster = &self.cluster;
            let known = |id: &ChitchatId| cluster.get(id).map_or(0, |state| state.max_version);
            self.rumours
                .choose(&transmission, audience, len, known, &mut self.rng)
        };
        let may_wait = self.routes.are_known();
        let (receivers, reachable) = (chosen.len(), reachable.len());
        self.rumours
            .end(&transmission, receivers, reachable, len, may_wait);
        self.counts.rumours_sent += receivers as u64;
        self.push(&chosen, &delta, outputs);
    }

    fn push(&self, to: &[SocketAddr], delta: &Delta, outputs: &mut Vec<Output>) {
        let parts = self.by_software(to);
        // Nearly always, nothing is hidden from anyone, and one message serves all.
        if !parts.iter().any(|(of, _)| self.hides_from(*of, delta)) {
            return self.push_all(to, delta, outputs);
        }
        for (software, to) in &parts {
            let mut shown = delta.clone();
            self.hide_from(*software, &mut shown);
            if !shown.node_deltas.is_empty() {
                self.push_all(to, &shown, outputs);
            }
        }
    }

    fn push_all(&self, to: &[SocketAddr], delta: &Delta, outputs: &mut Vec<Output>) {
        for (version, to) in self.by_version(to) {
            let delta = delta.clone();
            push_send(to, ChitchatMessage::Ack { version, delta }, outputs);
        }
    }

    /// Returns `addrs` divided by the version in which they are addressed, without empty parts.
    fn by_version(
        &self,
        addrs: &[SocketAddr],
    ) -> impl Iterator<Item = (ProtocolVersion, Vec<SocketAddr>)> + use<> {
        let otherwise = self.config.protocol_version;
        let reads_v1 =
            |addr: &SocketAddr| self.routes.version_for(*addr, otherwise) == ProtocolVersion::V1;
        let (v1, v0): (Vec<_>, Vec<_>) = addrs.iter().copied().partition(reads_v1);
        let parts = [(ProtocolVersion::V0, v0), (ProtocolVersion::V1, v1)];
        parts.into_iter().filter(|(_, to)| !to.is_empty())
    }
}

/// Adds an output that sends `message` to all of `to`.
pub(super) fn push_send(to: Vec<SocketAddr>, message: ChitchatMessage, outputs: &mut Vec<Output>) {
    match to.as_slice() {
        [] => {}
        [to] => outputs.push(Output::Send { to: *to, message }),
        _ => outputs.push(Output::SendToAll { to, message }),
    }
}
