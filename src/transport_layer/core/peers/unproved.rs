//! Peers that have proved no identity: which addresses they may have, and when theirs are dialled all the same.
//!
//! Someone may have forged what came from an address, or forges answers to what is sent there. So a
//! connection without authentication does not keep an address from being dialled that the application asks for:
//! at once if the connection has come by itself, and else every two minutes. An identity that answers there takes the
//! address.
//!
//! Invariants: a connection without authentication never enters an entry that an identity owns, and takes none
//! of its addresses; what arrives on one causes no dial.

use std::net::SocketAddr;
use std::time::Duration;

use super::Peers;
use crate::credential::is_key_address;
use crate::net::{CloseCode, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::core::step::Effects;
use crate::transport_layer::stats::Direction;

/// An address at which nobody has proved an identity when it was dialled is dialled again after this time, if it is asked
/// for. It is longer than the time for which `either` dials it over the second network alone.
const DIAL_AGAIN_AFTER: Duration = Duration::from_secs(120);
/// After a dial that has failed, it is dialled again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(10);

impl<C: NetConnection> Peers<C> {
    /// Has the peer at `addr` dialled, which the application asks for, if it is connected and has proved no identity.
    pub(super) fn dial_unproved(&mut self, addr: SocketAddr, now: Instant) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        if peer.is_proved() || peer.active().is_none() || peer.dial.is_some() {
            return;
        }
        let dialled = peer.links.iter().filter(|link| link.was_dialled_at(addr));
        let again = dialled.map(|link| link.since + DIAL_AGAIN_AFTER).max();
        let check = peer.verification.get_or_insert_default();
        let next = check.last.map(|last| last + RETRY_AFTER).max(again);
        if check.due.is_none() && next.is_none_or(|next| next <= now) {
            check.due = Some(now);
            peer.wake_task(now);
        }
    }

    /// Ends the connections without authentication that this side has dialled at `addr` before, since it has one more.
    pub(super) fn end_dialled(&mut self, addr: SocketAddr, now: Instant, fx: &mut Effects<C>) {
        let peer = self.map.get(&addr);
        let links = peer.into_iter().flat_map(|peer| &peer.links);
        let dialled = links.filter(|link| link.direction == Direction::Outgoing);
        let dialled: Vec<_> = dialled.map(|link| link.id).collect();
        for link in dialled {
            let why = "the address was dialled again";
            self.close_link((addr, link), CloseCode::REDUNDANT, why, now, fx);
        }
    }

    /// Returns the entry of the identity that is known at `addr`: it is registered there, `addr` is an
    /// alias of it, or it was dialled there and is dialled there again.
    fn claimant(&self, addr: SocketAddr) -> Option<SocketAddr> {
        let home = self.names.aliases.get(&addr).copied().unwrap_or(addr);
        if self.map.get(&home).is_some_and(|peer| peer.is_proved()) {
            return Some(home);
        }
        let mut peers = self.map.iter();
        let via = peers.find(|(_, peer)| peer.is_reached_by(addr) && peer.is_proved());
        via.map(|(home, _)| *home)
    }

    /// Returns whether a connection without authentication may have `addr`. It may if no identity is known
    /// there, or the one that is has not been connected for `peer_linger`, after which it would be forgotten
    /// if nothing was sent to it. What waits for that identity is dropped. A key address is that of its
    /// identity for ever.
    pub(super) fn release(&mut self, addr: SocketAddr, now: Instant, fx: &mut Effects<C>) -> bool {
        if is_key_address(addr) {
            return false;
        }
        let mut is_taken_over = false;
        while let Some(home) = self.claimant(addr) {
            if !self.is_gone(home, now) {
                return false;
            }
            self.disown(home, fx);
            is_taken_over = true;
        }
        if is_taken_over {
            self.naming.downgraded += 1;
            fx.downgraded.push(addr);
        }
        true
    }
}
