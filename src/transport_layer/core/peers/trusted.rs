//! A change of trust: which connections are renewed, left and closed.
//!
//! A connection rests on the secret of its handshake and on the identity of its peer. If the secret is still accepted,
//! but is not the first one any more, the side that has dialled dials again, at leisure. If it is not accepted any
//! more, that side dials again at once, and both sides leave what is left after a second. A connection whose peer is
//! refused is closed at once.
//!
//! A connection that is replaced in this way is never closed before the other side has said goodbye, too: so no
//! message is lost. The side that has accepted both connections decides, since it knows first that the new one is
//! in service; the one that has dialled waits for its goodbye. Invariant: only the side that has dialled a connection
//! replaces it, and always by one with its own first secret, so that two sides with different first secrets do not
//! replace each other's connections in turn.

use std::net::SocketAddr;

use super::Peers;
use crate::credential::{Grounds, Identity, Refusal, Standing};
use crate::net::{CloseCode, NetConnection};
use crate::rt::Instant;
use crate::transport_layer::core::link::{Link, LinkRole};
use crate::transport_layer::core::step::{Effects, PeerKey};
use crate::transport_layer::core::trusted::Trusted;

/// The number of dials that renew connections at a time. More would delay what else both sides do; a handshake takes
/// a millisecond of CPU time on each.
const MAX_RENEWALS: usize = 16;

/// The connections to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport_layer) enum Of {
    /// All connections.
    All,
    /// The connections of one identity.
    Identity(Identity),
    /// The connections of peers that hold an invite.
    Leaves,
}

/// A connection whose trust is to be judged.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport_layer) struct ToJudge {
    pub(in crate::transport_layer) link: u64,
    pub(in crate::transport_layer) identity: Identity,
    pub(in crate::transport_layer) grounds: Grounds,
}

/// The connections on which a change of trust had an effect, for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::transport_layer) struct Judged {
    /// Those that were made with a secret which is accepted, and is not the first one.
    pub(in crate::transport_layer) outdated: usize,
    /// Those whose secret was removed.
    pub(in crate::transport_layer) removed: usize,
    /// Those whose peer is refused.
    pub(in crate::transport_layer) refused: usize,
    /// The reason of one of these refusals.
    pub(in crate::transport_layer) reason: Option<Refusal>,
}

impl<C: NetConnection> Peers<C> {
    /// Returns the connections to judge.
    pub(in crate::transport_layer) fn to_judge(&self, of: Of) -> Vec<ToJudge> {
        if of == Of::Leaves && self.census.leaves() == 0 {
            return Vec::new();
        }
        let links = self.map.values().flat_map(|peer| &peer.links);
        let links = links.map(|link| ToJudge {
            link: link.id,
            identity: link.conn.remote_identity(),
            grounds: link.conn.grounds(),
        });
        links
            .filter(|link| match of {
                Of::All => true,
                Of::Identity(identity) => link.identity == identity,
                Of::Leaves => matches!(link.grounds, Grounds::Invite { .. }),
            })
            .collect()
    }

    /// Applies the standings of connections, in the order of their ids.
    pub(in crate::transport_layer) fn judged(
        &mut self,
        standings: &[(u64, Standing)],
        now: Instant,
        fx: &mut Effects<C>,
    ) -> Judged {
        let mut judged = Judged::default();
        let mut refused: Vec<(SocketAddr, u64)> = Vec::new();
        for (addr, peer) in &mut self.map {
            let mut is_judged = false;
            for link in &mut peer.links {
                let place = standings.binary_search_by_key(&link.id, |(link, _)| *link);
                let Some((_, standing)) = place.ok().and_then(|place| standings.get(place)) else {
                    continue;
                };
                is_judged = true;
                link.trusted = match (*standing, link.trusted) {
                    (Standing::SecretRemoved, Trusted::Removed(since)) => Trusted::Removed(since),
                    (Standing::SecretRemoved, _) => {
                        judged.removed += 1;
                        Trusted::Removed(now)
                    }
                    (Standing::Outdated, _) => {
                        judged.outdated += 1;
                        Trusted::Outdated
                    }
                    (Standing::Refused(reason), trusted) => {
                        judged.refused += 1;
                        judged.reason = Some(reason);
                        refused.push((*addr, link.id));
                        trusted
                    }
                    (Standing::Current, _) => Trusted::Current,
                };
            }
            if is_judged {
                // A dial that has failed may succeed with another secret.
                peer.renewal = None;
                peer.wake_task(now);
            }
        }
        for link in refused {
            let why = "its peer is not trusted any more";
            self.close_link(link, CloseCode::UNTRUSTED, why, now, fx);
        }
        judged
    }

    /// Returns whether the connection of the peer at `addr` may be renewed now: there is room for a second one, and
    /// few others are being renewed. A renewal takes no place from a connection or another dial.
    pub(super) fn may_renew(&self, addr: SocketAddr) -> bool {
        let Some(link) = self.map.get(&addr).and_then(|peer| peer.active()) else {
            return false;
        };
        let (config, pool) = (&self.config, link.owner.pool());
        self.renewing < MAX_RENEWALS
            && self.in_use() < config.max_connections
            && self.census.of_owner(link.owner) < config.max_connections_per_identity
            && self.census.of_host(pool, link.host) < config.max_connections_per_host
    }

    /// Says goodbye on a connection, which is then read until the peer has, too.
    pub(super) fn leave(
        &mut self,
        (addr, id): (SocketAddr, u64),
        code: CloseCode,
        now: Instant,
        fx: &mut Effects<C>,
    ) {
        let Some(peer) = self.map.get_mut(&addr) else {
            return;
        };
        let Some(link) = peer.link(id) else {
            return;
        };
        if link.role == LinkRole::Waiting {
            let why = "its secret was removed";
            self.close_link((addr, id), code, why, now, fx);
            return;
        }
        link.role = LinkRole::Leaving(now, code);
        fx.leave.push((link.conn.clone(), code));
        peer.end_conflict_of(id);
        self.connections += 1;
        self.revision += 1;
        if peer.active().is_none()
            && let Some(next) = peer.next_in_service()
        {
            self.promote(addr, next, now, fx);
        }
        self.start_readers(addr, fx);
    }

    /// Returns whether the task of a peer has to stop writing to a connection that does not take what is written,
    /// because there is another one, or this one is being left.
    pub(in crate::transport_layer) fn must_leave(&self, key: PeerKey, link: u64) -> bool {
        let peer = self.locate(key).and_then(|addr| self.map.get(&addr));
        peer.is_some_and(|peer| {
            let mut links = peer.links.iter().filter(|known| known.id == link);
            peer.conflict.is_some() || links.any(Link::is_leaving)
        })
    }
}
