//! Two connections of one identity: which of them stays.

use std::net::SocketAddr;
use std::time::Duration;

use super::Peers;
use crate::credential::Identity;
use crate::net::{CloseCode, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::core::conflict::{Conflict, Kind};
use crate::transport_layer::core::link::{Link, LinkEnd, LinkRole};
use crate::transport_layer::core::step::{Effects, EndedLink};
use crate::transport_layer::stats::Direction;

/// A connection that is younger than this is alive: it is not probed when the sides have dialled each
/// other, so that a peer which is too busy to answer does not lose both connections.
const FRESH: Duration = Duration::from_secs(5);

impl<C: NetConnection> Peers<C> {
    /// Returns whether the peer at `addr` has two connections of which one will stay, so that no third one
    /// is needed.
    pub(super) fn is_contested(&self, addr: SocketAddr) -> bool {
        let peer = self.map.get(&addr);
        peer.is_some_and(|peer| peer.conflict.is_some())
    }

    /// Decides the role of a new connection of the peer at `addr`, beside the one that is active.
    pub(super) fn admit(
        &mut self,
        addr: SocketAddr,
        newer: &mut Link<C>,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let own = self.own;
        let identity = newer.conn.remote_identity();
        if identity == Identity::UNPROVED {
            // Nothing tells who is at the other end, so none of the two is better.
            return;
        }
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        if newer.direction == Direction::Incoming
            && let Some(dial) = &mut peer.dial
        {
            newer.after = Some(dial.id);
            dial.has_waited = false;
            self.revision += 1;
        }
        let Some(index) = peer
            .links
            .iter()
            .position(|link| link.role == LinkRole::Active)
        else {
            // What the peer has written to one that is being left comes before.
            let mut links = peer.links.iter().rev();
            let left = links.find(|link| link.is_leaving());
            newer.after = left.map(|link| link.id).or(newer.after);
            return;
        };
        let Some(older) = peer.links.get_mut(index) else {
            return;
        };
        // Two sockets of one program may share a key.
        let ours_stays = (own.identity, own.advertised_addr) < (identity, addr);
        // A socket states one address. Another one is that of another program, or of a later run.
        let differ = older.conn.stated_addr() != newer.conn.stated_addr();
        let kind = match (older.direction, newer.direction) {
            _ if differ => Kind::Duplicate,
            // Both sides know which of the two is the newer one, and that it was dialled on purpose.
            (one, other) if one == other && older.conn.grounds() != newer.conn.grounds() => {
                Kind::Renewal
            }
            (Direction::Outgoing, Direction::Outgoing)
            | (Direction::Incoming, Direction::Incoming) => Kind::Duplicate,
            (_, Direction::Outgoing) if ours_stays => Kind::KeepNewer,
            (_, Direction::Incoming) if !ours_stays => Kind::KeepNewer,
            _ => Kind::KeepOlder,
        };
        let is_crossing = matches!(kind, Kind::KeepOlder | Kind::KeepNewer);
        if is_crossing && newer.was_made_before(older) {
            // This side was slow to take it into service. The peer may have written to it, lost it and made
            // the other one meanwhile.
            newer.after = older.after.replace(newer.id);
            self.revision += 1;
        } else {
            newer.after = Some(older.id);
        }
        match kind {
            Kind::Duplicate => newer.role = LinkRole::Waiting,
            Kind::KeepOlder => newer.role = LinkRole::Draining(now),
            Kind::KeepNewer => older.role = LinkRole::Draining(now),
            Kind::Renewal => match newer.direction {
                Direction::Outgoing => {
                    newer.role = LinkRole::Standby;
                    // The peer may have lost the older one, and would say no goodbye there.
                    older.raise_doubt();
                }
                Direction::Incoming => {
                    let older = older.id;
                    self.leave((addr, older), CloseCode::RENEWED, now, fx);
                    return;
                }
            },
        }
        let age = now.saturating_duration_since(older.since);
        if kind != Kind::KeepOlder || age >= FRESH {
            peer.conflict = Some(Box::new(Conflict::new(kind, older.id, newer.id)));
        }
        peer.wake_task(now);
    }

    /// Settles the conflict of the peer at `addr`: `answered` says whether the older connection is
    /// alive.
    pub(super) fn settle(
        &mut self,
        addr: SocketAddr,
        answered: bool,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let Some(conflict) = self.map.get_mut(&addr).and_then(|p| p.conflict.take()) else {
            return;
        };
        match (conflict.kind, answered) {
            (Kind::KeepOlder, true) | (Kind::KeepNewer, false) | (Kind::Renewal, _) => {}
            (Kind::KeepNewer, true) => {
                let peer = self.map.get_mut(&addr);
                if let Some(newer) = peer.and_then(|peer| peer.link(conflict.newer)) {
                    newer.after = None;
                }
            }
            (Kind::Duplicate, true) => {
                let peer = self.map.get_mut(&addr);
                let newer = peer.and_then(|peer| peer.link(conflict.newer));
                let Some(direction) = newer.map(|link| link.direction) else {
                    return;
                };
                let code = self.refusal(direction);
                let why = "another connection of its identity is alive";
                self.close_link((addr, conflict.newer), code, why, now, fx);
            }
            (Kind::Duplicate | Kind::KeepOlder, false) => {
                let (code, why) = (
                    CloseCode::GOING_AWAY,
                    "it does not answer, and the peer has connected again",
                );
                self.close_link((addr, conflict.older), code, why, now, fx);
                self.promote(addr, conflict.newer, now, fx);
            }
        }
        self.start_readers(addr, fx);
    }

    /// Counts a connection that is refused beside another one of its identity, and returns the code to
    /// close it with.
    pub(super) fn refusal(&mut self, direction: Direction) -> CloseCode {
        match direction {
            Direction::Incoming => {
                self.naming.duplicates_refused += 1;
                CloseCode::DUPLICATE
            }
            Direction::Outgoing => CloseCode::REDUNDANT,
        }
    }

    /// Ends a conflict because one of its connections has ended. If no connection is active then, one
    /// that waits or drains becomes so. But if this side has written to the lost one, one that drains is closed:
    /// the peer reads it beside the other, so what is written there could overtake what was written before.
    pub(super) fn link_lost(
        &mut self,
        addr: SocketAddr,
        lost: &Link<C>,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        peer.end_conflict_of(lost.id);
        let mut rest = peer.links.iter().rev();
        let rest = rest.find(|link| !link.is_leaving());
        if peer.active().is_none()
            && let Some(rest) = rest
        {
            let (id, drains) = (rest.id, matches!(rest.role, LinkRole::Draining(_)));
            if drains && lost.was_written() {
                let why = "the connection beside it is lost";
                self.close_link((addr, id), CloseCode::REDUNDANT, why, now, fx);
            } else {
                self.promote(addr, id, now, fx);
            }
        }
        self.start_readers(addr, fx);
    }

    /// Makes a connection the active one of its peer.
    pub(super) fn promote(
        &mut self,
        addr: SocketAddr,
        link: u64,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        let Some(link) = peer.link(link) else {
            return;
        };
        link.role = LinkRole::Active;
        link.written = now;
        let (conn, direction) = (link.conn.clone(), link.direction);
        peer.renewal = None;
        if direction == Direction::Outgoing {
            peer.note_way(addr, conn.remote_addr());
        }
        peer.wake_task(now);
        self.connections += 1;
        self.start_readers(addr, fx);
        self.renew_claim(addr, &conn, now);
    }

    /// Closes a connection and notes it for the log.
    pub(super) fn close_link(
        &mut self,
        (addr, link): (SocketAddr, u64),
        code: CloseCode,
        why: &'static str,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let life = self.disconnected_at(addr, link, &LinkEnd::Local(code), now, fx);
        fx.ended
            .extend(life.map(|life| EndedLink { addr, why, life }));
    }
}
