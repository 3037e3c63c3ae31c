//! The places of peers that hold invites.
//!
//! They may be anyone, so they have three quarters of all places and never take one from a member of the cluster;
//! and those that share an invite have as many as that says. Where there is no room, the host that has the most of
//! these connections loses one to a host that has fewer. A connection from that host itself is refused, so
//! that the connections of one host do not displace each other in turn. Invariant: a member finds room whatever
//! leaves do.

use std::net::SocketAddr;

use super::Peers;
use crate::credential::{InviteId, Refusal};
use crate::host::{Counts, Host};
use crate::net::NetConnection;
use crate::rt::Instant;
use crate::transport_layer::core::link::Link;
use crate::transport_layer::core::step::Effects;
use crate::transport_layer::error::code_of;

/// The leaves that have too many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    /// Those that hold this invite.
    Invite(InviteId),
    /// All.
    All,
}

impl<C: NetConnection> Peers<C> {
    /// Returns whether there is room for `link`, the new connection of a leaf that is registered at `addr`, after
    /// evicting those of others that have more. That of a member always has room as far as this file knows.
    pub(super) fn has_room_for_leaf(
        &mut self,
        addr: SocketAddr,
        link: &Link<C>,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> bool {
        let Some(invite) = link.invite() else {
            return true;
        };
        let max = link.conn.claims().map_or(0, |claims| {
            usize::try_from(claims.quotas().max_connections()).unwrap_or(usize::MAX)
        });
        loop {
            let crowd = if self.census.of_invite(invite) >= max {
                Crowd::Invite(invite)
            } else if self.is_full_for_leaves() && !self.replaces_another(addr, link) {
                Crowd::All
            } else {
                return true;
            };
            let Some((addr, victim)) = self.heaviest_leaf(crowd, link.host) else {
                return false;
            };
            self.evict_link(
                addr,
                victim,
                "its host has the most connections with invites",
                now,
                fx,
            );
        }
    }

    /// Closes the connections that the peer at `addr` has by an invite, since what it gossips about itself is refused.
    pub(in crate::transport_layer) fn refuse_leaf(
        &mut self,
        addr: SocketAddr,
        reason: Refusal,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let links = self.map.get(&addr).into_iter().flat_map(|peer| &peer.links);
        let by_invite = links.filter(|link| link.invite().is_some());
        let links: Vec<_> = by_invite.map(|link| link.id).collect();
        for link in links {
            let why = "what it gossips about itself is refused";
            self.close_link((addr, link), code_of(reason), why, now, fx);
        }
    }

    fn is_full_for_leaves(&self) -> bool {
        let max = self.config.max_connections;
        let share = max - max.div_ceil(4);
        self.census.leaves() >= share || self.in_use() >= max
    }

    /// Returns whether the peer at `addr` has dialled `link` to replace a connection that it has dialled with
    /// another invite.
    fn replaces_another(&self, addr: SocketAddr, link: &Link<C>) -> bool {
        let older = self.map.get(&addr).and_then(|peer| peer.active());
        older.is_some_and(|older| {
            older.direction == link.direction && older.conn.grounds() != link.conn.grounds()
        })
    }

    /// Returns the least recently used connection, of those that `crowd` has with the host that has the most of
    /// them, if that host will still have as many as `than` will.
    fn heaviest_leaf(&self, crowd: Crowd, than: Host) -> Option<(SocketAddr, u64)> {
        let links = || {
            let links = self.map.iter();
            let links = links.flat_map(|(addr, peer)| peer.links.iter().map(move |l| (*addr, l)));
            links.filter(move |(_, link)| match (crowd, link.invite()) {
                (Crowd::Invite(crowd), invite) => invite == Some(crowd),
                (Crowd::All, invite) => invite.is_some(),
            })
        };
        let counts = Counts::of_hosts(links().map(|(_, link)| link.host));
        let of_newcomer = counts.count(than);
        let heavier = links().filter(|(_, link)| counts.count(link.host) > of_newcomer + 1);
        let rank = |link: &Link<C>| (counts.count(link.host), std::cmp::Reverse(link.used));
        let heaviest = heavier.max_by_key(|(_, link)| rank(link));
        heaviest.map(|(addr, link)| (addr, link.id))
    }
}
