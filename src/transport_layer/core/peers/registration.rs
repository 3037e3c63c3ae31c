//! The address under which a new connection is registered.
//!
//! | connection | registered under |
//! |---|---|
//! | dialled | the address that the peer states; if it states none, the address that was dialled |
//! | accepted, and the peer states an address | that address |
//! | accepted, and the peer states no address | the key address of its identity |
//! | without authentication | the address that was dialled or that it came from |
//!
//! A stated address that belongs to another identity is contested: the peer is registered under its key
//! address, and the contested address is dialled once, to see who answers there. If nobody does, it
//! becomes that of the peer once the other identity has been gone for `peer_linger`; so does one that it
//! has lost to an identity which has answered there. An address that was dialled belongs to the identity
//! that has answered. A peer that is known keeps its address unless it has a better one now; while a
//! connection of it is in service, one beside it that states another address does not count, since it may
//! be refused.
//!
//! Invariant: a queue is only ever sent to the identity that it was filled for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Peers, Phase};
use crate::credential::{Identity, is_key_address};
use crate::net::{CloseCode, NetConnection, canonical};
use crate::rt::Instant;
use crate::transport_layer::core::peer::{Claim, Failure};
use crate::transport_layer::core::step::{Effects, PeerKey};
use crate::transport_layer::error::{OwnIdentity, WrongIdentity};
use crate::transport_layer::stats::{Direction, DropReason};

/// A contested address is dialled at most once in this time.
pub(super) const VERIFY_EVERY: Duration = Duration::from_secs(2);

impl<C: NetConnection> Peers<C> {
    /// Takes an accepted connection into service. If the socket is closing, or the connection may not
    /// have the address that it has, it is closed.
    pub(in crate::transport_layer) fn accepted(
        &mut self,
        conn: C,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        if self.phase != Phase::Open {
            fx.close.push((conn, CloseCode::GOING_AWAY));
            return;
        }
        self.folded.accepted += 1;
        let identity = conn.remote_identity();
        if self.is_own(&conn) {
            let code = self.refusal(Direction::Incoming);
            fx.close.push((conn, code));
            return;
        }
        let mut stated = None;
        let addr = if identity == Identity::UNPROVED {
            let source = canonical(conn.remote_addr());
            if !self.release(source, now, fx) {
                self.naming.unauthenticated_refused += 1;
                fx.close.push((conn, CloseCode::DUPLICATE));
                return;
            }
            source
        } else {
            stated = self.stated(&conn);
            self.place(identity, stated, None, now, fx)
        };
        self.enter(addr, conn, Direction::Incoming, now, fx);
        self.note_claim(addr, identity, stated, now);
    }

    /// Takes a connection into service that was dialled at `dialled` for the entry at `entry`.
    pub(in crate::transport_layer::core) fn dialled(
        &mut self,
        (entry, dialled): (SocketAddr, SocketAddr),
        conn: C,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        if matches!(self.phase, Phase::Closed { .. }) {
            fx.close.push((conn, CloseCode::GOING_AWAY));
            return;
        }
        let identity = conn.remote_identity();
        if identity == Identity::UNPROVED {
            // One that answers at another address than that of the entry is not the peer of the entry.
            if entry != dialled || !self.release(dialled, now, fx) {
                self.naming.unauthenticated_refused += 1;
                fx.close.push((conn, CloseCode::DUPLICATE));
                let error = WrongIdentity {
                    addr: dialled,
                    identity,
                };
                self.answered_by_another(entry, error.into(), now, fx);
            } else {
                self.end_dialled(entry, now, fx);
                self.enter(entry, conn, Direction::Outgoing, now, fx);
            }
            return;
        }
        let refused: Option<anyhow::Error> = if self.is_own(&conn) {
            Some(OwnIdentity { addr: dialled }.into())
        } else if is_key_address(dialled) && dialled != identity.address() {
            Some(
                WrongIdentity {
                    addr: dialled,
                    identity,
                }
                .into(),
            )
        } else {
            None
        };
        if let Some(error) = refused {
            fx.close.push((conn, CloseCode::REDUNDANT));
            self.answered_by_another(entry, error, now, fx);
            return;
        }
        let stated = self.stated(&conn);
        let addr = self.place(identity, stated, Some(dialled), now, fx);
        if addr != entry
            && let Some(peer) = self.map.get(&entry)
        {
            match peer.owner {
                // What is queued is for whoever answers at the address.
                None | Some(Identity::UNPROVED) => {
                    self.ensure(addr, now, fx);
                    self.merge(entry, addr, fx);
                }
                // It was registered there because it has stated the address, or has had it.
                Some(_) if entry == dialled => {
                    self.naming.wrong_identities += 1;
                    self.displace(entry, identity, now, fx);
                    if self.map.contains_key(&entry) {
                        self.ensure(addr, now, fx);
                        self.merge(entry, addr, fx);
                    }
                }
                Some(_) => {
                    let error = WrongIdentity {
                        addr: entry,
                        identity,
                    };
                    self.answered_by_another(entry, error.into(), now, fx);
                }
            }
        }
        self.enter(addr, conn, Direction::Outgoing, now, fx);
        self.note_claim(addr, identity, stated, now);
        self.add_alias(dialled, addr);
        if let Some(peer) = self.map.get_mut(&addr)
            && peer.was_reached_at(dialled)
        {
            peer.note_way(addr, dialled);
        }
    }

    /// Returns whether the peer at `home` has not been connected for `peer_linger`.
    pub(super) fn is_gone(&self, home: SocketAddr, now: Instant) -> bool {
        let peer = self.map.get(&home);
        peer.is_some_and(|peer| {
            let away = now.saturating_duration_since(peer.connected_until);
            peer.links.is_empty() && away >= self.config.peer_linger
        })
    }

    /// Notes that the peer at `addr`, which has connected as `identity`, has stated an address that belongs to
    /// another, if it has.
    fn note_claim(
        &mut self,
        addr: SocketAddr,
        identity: Identity,
        stated: Option<SocketAddr>,
        now: Instant,
    ) {
        if let Some(stated) = stated.filter(|stated| *stated != identity.address())
            && let Some(peer) = self.map.get(&addr)
            && peer.owner == Some(identity)
            && peer.active().is_some_and(|link| link.states(stated))
        {
            // Whoever answers there has that time to do so.
            self.claim(addr, stated, now + VERIFY_EVERY);
        }
    }

    /// Notes what a connection states that has taken the place of an older one. It was not known before which
    /// of the two would stay.
    pub(super) fn renew_claim(&mut self, addr: SocketAddr, conn: &C, now: Instant) {
        let key = conn.remote_identity().address();
        let stated = conn.stated_addr().map(canonical);
        let stated = stated.filter(|stated| *stated != key && self.may_have(conn, *stated));
        self.claim(addr, stated.unwrap_or(addr), now);
    }

    /// Makes the task of the peer at `addr` look at `due` whether the address that it has stated is free, if it
    /// is registered under another one.
    fn claim(&mut self, addr: SocketAddr, stated: SocketAddr, due: Instant) {
        if let Some(peer) = self.map.get_mut(&addr) {
            let claim = Claim { addr: stated, due };
            peer.claim = (stated != addr).then(|| Box::new(claim));
            peer.signal.raise();
        }
    }

    /// Registers the peer of an entry under the address that it has stated, if that belonged to another
    /// identity which is gone by now. Messages to that address would otherwise be dialled for the other
    /// identity for ever, though the peer that states it is connected.
    pub(super) fn claim_again(&mut self, key: PeerKey, now: Instant, fx: &mut Effects<C>) {
        let Some(peer) = self.get(key) else {
            return;
        };
        let (Some(claim), Some(identity)) = (peer.claim.as_deref().copied(), peer.owner) else {
            return;
        };
        if claim.due > now {
            return;
        }
        let owner = self.map.get(&claim.addr).filter(|peer| peer.is_proved());
        let is_free = match owner {
            Some(_) => self.is_gone(claim.addr, now),
            None => !self.has_answered_at(claim.addr, identity),
        };
        if !is_free {
            let since = owner.filter(|owner| owner.links.is_empty());
            let since = since.map_or(now, |owner| owner.connected_until);
            let due = (since + self.config.peer_linger).max(now + VERIFY_EVERY);
            if let Some(peer) = self.get(key) {
                peer.claim = Some(Box::new(Claim { due, ..claim }));
            }
            return;
        }
        if owner.is_some() {
            self.disown(claim.addr, fx);
        }
        if let Some(peer) = self.get(key) {
            peer.claim = None;
        }
        self.place(identity, Some(claim.addr), None, now, fx);
        self.verify(claim.addr, now);
    }

    /// Returns whether `addr` is an alias at which another identity than `identity` was dialled, by a
    /// connection that is alive.
    fn has_answered_at(&self, addr: SocketAddr, identity: Identity) -> bool {
        let registered = self.names.aliases.get(&addr);
        let peer = registered.and_then(|registered| self.map.get(registered));
        peer.is_some_and(|peer| peer.owner != Some(identity) && peer.was_dialled_at(addr))
    }

    /// Returns the address for a connection of `identity`, and frees it for that identity.
    fn place(
        &mut self,
        identity: Identity,
        stated: Option<SocketAddr>,
        dialled: Option<SocketAddr>,
        now: Instant,
        fx: &mut Effects<C>,
    ) -> SocketAddr {
        let key = identity.address();
        let home = self.names.identities.get(&key).copied();
        // Its key address says nothing that is not known.
        let stated = stated.filter(|stated| *stated != key);
        let Some(wanted) = stated.or(dialled) else {
            return home.unwrap_or(key);
        };
        let owner = self.map.get(&wanted).and_then(|peer| peer.owner);
        match owner {
            None if dialled != Some(wanted) && self.has_answered_at(wanted, identity) => {
                self.naming.stated_addrs_contested += 1;
                return home.unwrap_or(key);
            }
            None => {}
            // What is queued is for whoever answers at the address.
            Some(Identity::UNPROVED) if dialled == Some(wanted) => {
                self.close_links(wanted, "an authenticated peer has its address", now, fx);
            }
            Some(owner) if owner == identity => return wanted,
            // Whoever answers at an address owns it. An identity takes precedence over peers that have
            // proved none.
            Some(owner) if dialled == Some(wanted) || owner == Identity::UNPROVED => {
                self.naming.wrong_identities += u64::from(owner != Identity::UNPROVED);
                self.displace(wanted, identity, now, fx);
            }
            Some(_) => {
                self.naming.stated_addrs_contested += 1;
                self.verify(wanted, now);
                return home.unwrap_or(key);
            }
        }
        match home {
            // A name that says nothing is given up for one that can be dialled. One that the peer has
            // stated is kept if this connection states none.
            Some(home) if stated.is_none() && home != key => home,
            // It may be another program with the key of this peer, and will be refused then.
            Some(home) if stated.is_some_and(|stated| self.states_another(home, stated)) => home,
            Some(home) => {
                self.rename(home, wanted, now, fx);
                self.add_alias(home, wanted);
                wanted
            }
            None => wanted,
        }
    }

    /// Returns whether the connection of the peer at `home` that is in service states another address than
    /// `stated`, or none.
    fn states_another(&self, home: SocketAddr, stated: SocketAddr) -> bool {
        let link = self.map.get(&home).and_then(|peer| peer.active());
        link.is_some_and(|link| !link.states(stated))
    }

    /// Frees the entry at `addr` for `identity` if it belongs to another. A connected owner moves to its
    /// key address with its messages. The messages for an owner that is not connected are dropped.
    fn displace(
        &mut self,
        addr: SocketAddr,
        identity: Identity,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        let Some(owner) = peer.owner.filter(|owner| *owner != identity) else {
            return;
        };
        if owner == Identity::UNPROVED {
            self.close_links(addr, "an authenticated peer has its address", now, fx);
        } else if let Some(link) = peer.active() {
            let is_stated = link.states(addr);
            self.rename(addr, owner.address(), now, fx);
            if is_stated {
                self.claim(owner.address(), addr, now + VERIFY_EVERY);
            }
            return;
        }
        // What is left are connections to which this side has said goodbye.
        self.close_links(addr, "another identity has its address", now, fx);
        self.disown(addr, fx);
    }

    /// Closes all connections of the entry at `addr`.
    fn close_links(
        &mut self,
        addr: SocketAddr,
        why: &'static str,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let peer = self.map.get(&addr);
        let links = peer.into_iter().flat_map(|peer| &peer.links);
        let links: Vec<_> = links.map(|link| link.id).collect();
        for link in links {
            self.close_link((addr, link), CloseCode::DUPLICATE, why, now, fx);
        }
    }

    /// Drops the messages that wait for the owner of the entry at `addr`, which now belongs to nobody.
    pub(super) fn disown(&mut self, addr: SocketAddr, fx: &mut Effects<C>) {
        if let Some(peer) = self.map.get_mut(&addr)
            && let Some(owner) = peer.owner.take()
        {
            peer.via = None;
            peer.queue.recall(DropReason::IdentityChanged);
            self.backlog.settle(&mut peer.queue);
            fx.wakers.extend(peer.queue.ready_sender());
            self.names.identities.remove(&owner.address());
            self.relieve(None, fx);
        }
    }

    /// Notes that the dial of an entry was answered by an identity that it is not for. The messages that
    /// wait for the owner are dropped.
    fn answered_by_another(
        &mut self,
        entry: SocketAddr,
        error: anyhow::Error,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        self.naming.wrong_identities += 1;
        let (min, max) = (self.config.backoff_min, self.config.backoff_max);
        let id = self.next_id();
        if let Some(peer) = self.map.get_mut(&entry)
            && peer.active().is_none()
        {
            peer.via = None;
            if peer.owner.is_some() {
                peer.queue.drop_waiting(DropReason::IdentityChanged);
                self.backlog.settle(&mut peer.queue);
            }
            peer.failure = Some(Box::new(Failure {
                id,
                error: Arc::new(error),
                permanent: false,
            }));
            peer.backoff.fail(now, min, max);
            fx.wakers.extend(peer.observers.all());
            fx.wakers.extend(peer.queue.ready_sender());
            self.relieve(None, fx);
        }
    }

    /// Makes the task of the peer at `addr` dial it, to see who answers there, unless that is known. A socket
    /// that cannot listen, as that of a browser tab, dials no address that it was not told to dial.
    pub(super) fn verify(&mut self, addr: SocketAddr, now: Instant) {
        if self.own.local_addr.port() == 0 {
            return;
        }
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        if peer.verification_due().is_none() && !peer.was_dialled_at(addr) {
            let check = peer.verification.get_or_insert_default();
            let next = check.last.map(|last| last + VERIFY_EVERY);
            check.due = Some(next.map_or(now, |next| next.max(now)));
            peer.wake_task(now);
        }
    }
}
