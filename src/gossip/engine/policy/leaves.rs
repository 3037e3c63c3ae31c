//! The leaves that are connected, what their invites allow, and how much of it they have used.
//!
//! A leaf's last messages may wait while its connection ends, so its claims are kept for a while. Nothing here looks
//! into a message. Hosts are not limited here: a leaf is known by its key alone, and the transport layer limits the
//! connections of a host. Invariants: a bounded number of leaves is remembered; a leaf that comes and goes gains
//! nothing by it, since what it has used is kept for longer than it counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::credential::{Claims, InviteId, Quotas};
use crate::gossip::engine::event::Connection;
use crate::gossip::engine::order;
use crate::gossip::engine::usage::{Holds, Usage};

/// The time for which the claims of a leaf are kept after its connection has gone. It is also that in which
/// generations are counted.
pub(super) const KEPT: Duration = Duration::from_secs(60);
/// The number of leaves that are remembered: as many as peers that have a limit of their own elsewhere in the engine,
/// and eight times the connections that a socket has by default. Of others, nothing is applied.
pub(super) const MOST_LEAVES: usize = 8_192;
/// The time after which no message is on its way any more that a leaf has sent by its former invite.
const SETTLED: Duration = Duration::from_secs(10);
/// The number of generations of a leaf in [`KEPT`]. A page that is reloaded again and again by hand has fewer.
pub(super) const MOST_GENERATIONS: usize = 6;

/// The leaves, by their key addresses.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    leaves: LiteMap<SocketAddr, Leaf>,
    /// The invites of these leaves.
    invites: LiteMap<InviteId, OfInvite>,
}

/// A leaf that is connected, or was a short time ago.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) claims: Arc<Claims>,
    /// The claims of the invite that it had before.
    former: Option<Arc<Claims>>,
    /// Time at which the leaf changed to its present invite.
    renewed: Option<Duration>,
    /// When its connection had gone.
    gone: Option<Duration>,
    /// When its latest generations began, the oldest first.
    generations: [Option<Duration>; MOST_GENERATIONS],
    pub(super) changes: Changes,
    /// The number of entries that it may send again without a change, when it starts afresh: as many as it has changed.
    pub(super) repeats: usize,
    /// What its member has, as far as the leaf itself has sent it.
    pub(super) holds: Holds,
}

/// What all holders of an invite do and have together.
#[derive(Debug)]
pub(super) struct OfInvite {
    pub(super) changes: Changes,
    pub(super) holds: Holds,
    /// When it was last counted that a leaf holds it.
    used: Duration,
    /// Start of the current one-minute window, and generations counted in it.
    begun: (Duration, usize),
}

impl Leaves {
    /// Replaces the connections.
    pub(super) fn connect(&mut self, connections: &[Connection], now: Duration) {
        let with_invite = connections.iter().filter(|c| c.invite.is_some());
        if self.leaves.is_empty() && with_invite.clone().next().is_none() {
            return;
        }
        let connected = order::set(with_invite.clone().map(|connection| connection.addr));
        for (addr, leaf) in &mut self.leaves {
            match connected.contains(addr) {
                true => leaf.gone = None,
                false => leaf.gone = leaf.gone.or(Some(now)),
            }
        }
        self.remove_gone(now);
        for connection in with_invite {
            let Some(claims) = &connection.invite else {
                continue;
            };
            if let Some(leaf) = self.leaves.get_mut(&connection.addr) {
                // It may have renewed its invite.
                let former = std::mem::replace(&mut leaf.claims, Arc::clone(claims));
                if former.id() != claims.id() {
                    leaf.renewed = Some(now);
                    leaf.former = Some(former);
                }
            } else if self.has_room() {
                let leaf = Leaf::new(Arc::clone(claims), now);
                self.leaves.insert(connection.addr, leaf);
            }
        }
        self.count_holds(now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Returns the invite of the leaf at `addr`.
    pub(super) fn invite_of(&self, addr: SocketAddr) -> Option<InviteId> {
        Some(self.leaves.get(&addr)?.claims.id())
    }

    /// Forgets the leaves that have been gone for long, and counts again what the others have.
    pub(super) fn forget_gone(&mut self, now: Duration) {
        self.remove_gone(now);
        self.count_holds(now);
    }

    fn remove_gone(&mut self, now: Duration) {
        let is_kept = |leaf: &Leaf| leaf.gone.is_none_or(|gone| now.saturating_sub(gone) < KEPT);
        self.leaves.retain(|_, leaf| is_kept(leaf));
    }

    /// Adds up what the holders of each invite have, and forgets invites that had no holders for a while. A leaf that has
    /// changed to another invite takes of both for a while: otherwise, it would make room for the next one by it.
    fn count_holds(&mut self, now: Duration) {
        for (_, invite) in &mut self.invites {
            invite.holds = Holds::default();
        }
        for leaf in self.leaves.values() {
            let changed = leaf.renewed.is_some_and(|at| now.saturating_sub(at) < KEPT);
            let former = leaf.former.as_ref().filter(|_| changed);
            for claims in former.into_iter().chain([&leaf.claims]) {
                let quotas = claims.quotas();
                let invite = self.invites.entry(claims.id());
                let invite = invite.or_insert_with(|| OfInvite::new(quotas, now));
                invite.used = now;
                // More than this it has by another invite, which takes nothing from others.
                invite.holds = invite.holds.with(leaf.holds.min(most_of_leaf(quotas)));
            }
        }
        let is_kept = |invite: &OfInvite| now.saturating_sub(invite.used) < KEPT;
        self.invites.retain(|_, invite| is_kept(invite));
    }

    /// Returns true if there is room for a leaf, after the one that has gone first was forgotten if necessary.
    fn has_room(&mut self) -> bool {
        if self.leaves.len() >= MOST_LEAVES {
            let gone = self
                .leaves
                .iter()
                .filter_map(|(addr, leaf)| Some((leaf.gone?, *addr)));
            if let Some((_, addr)) = gone.min() {
                self.leaves.remove(&addr);
            }
        }
        self.leaves.len() < MOST_LEAVES
    }

    /// Returns the leaf at `addr`, and its invite.
    pub(super) fn get_mut(
        &mut self,
        addr: SocketAddr,
        now: Duration,
    ) -> Option<(&mut Leaf, &mut OfInvite)> {
        let leaf = self.leaves.get_mut(&addr)?;
        let invite = self.invites.entry(leaf.claims.id());
        let quotas = leaf.claims.quotas();
        let invite = invite.or_insert_with(|| OfInvite::new(quotas, now));
        Some((leaf, invite))
    }
}

impl Leaf {
    fn new(claims: Arc<Claims>, now: Duration) -> Self {
        let changes = Changes::new(Pace::of_one(claims.quotas()), now);
        // What is known of it was paid for when it was last connected.
        let repeats = most_of_leaf(claims.quotas()).visible.keys;
        Self {
            claims,
            former: None,
            renewed: None,
            gone: None,
            generations: [None; MOST_GENERATIONS],
            changes,
            repeats,
            holds: Holds::default(),
        }
    }

    /// Returns true if all that arrives was sent by the present invite.
    pub(super) fn is_settled(&self, now: Duration) -> bool {
        let renewed = self.renewed;
        renewed.is_none_or(|at| now.saturating_sub(at) >= SETTLED)
    }

    /// Returns true if another generation may begin now, and counts it.
    pub(super) fn may_begin(&mut self, now: Duration) -> bool {
        let [oldest, ..] = &mut self.generations;
        if oldest.is_some_and(|at| now.saturating_sub(at) < KEPT) {
            return false;
        }
        *oldest = Some(now);
        self.generations.rotate_left(1);
        true
    }
}

impl OfInvite {
    fn new(quotas: Quotas, now: Duration) -> Self {
        Self {
            changes: Changes::new(Pace::of_all(quotas), now),
            holds: Holds::default(),
            used: now,
            begun: (now, 0),
        }
    }

    /// Returns true if another generation of any holder may begin now, and counts it: as many as those who may be
    /// connected at a time may begin. Without this, one invite with ever new identities would fill the table of
    /// members with some that are gone.
    pub(super) fn may_begin(&mut self, quotas: Quotas, now: Duration) -> bool {
        let (since, count) = &mut self.begun;
        if now.saturating_sub(*since) >= KEPT {
            (*since, *count) = (now, 0);
        }
        let most = size(quotas.max_connections()).saturating_mul(MOST_GENERATIONS);
        if *count >= most {
            return false;
        }
        *count += 1;
        true
    }
}

/// Returns what a holder of an invite may have.
pub(in crate::gossip::engine) fn most_of_leaf(quotas: Quotas) -> Holds {
    let visible = Usage {
        keys: size(quotas.max_keys()),
        bytes: size(quotas.max_bytes()),
    };
    Holds {
        visible,
        // A page that replaces its keys again and again starts afresh once in as many changes as it may have keys.
        all: visible.times(2),
    }
}

/// The changes that may be made now: a whole state at once, and then so many in each second.
#[derive(Debug)]
pub(super) struct Changes {
    /// In millionths.
    left: u64,
    at: Duration,
}

/// How many changes may be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    per_second: u64,
    at_once: u64,
}

const MILLION: u64 = 1_000_000;

impl Pace {
    /// Returns the pace of `holders` of an invite together. Each may send its whole state at once, with as many tombstones as
    /// keys, unless that takes longer to earn than [`KEPT`].
    fn of(quotas: Quotas, holders: u32) -> Self {
        let per_second = quotas.max_changes_per_second();
        let earned = u64::from(per_second).saturating_mul(KEPT.as_secs());
        let at_once = (2 * u64::from(quotas.max_keys()))
            .min(earned)
            .max(per_second.into());
        Self {
            per_second: u64::from(per_second).saturating_mul(holders.into()),
            at_once: at_once
                .saturating_mul(holders.into())
                .saturating_mul(MILLION),
        }
    }

    /// Returns the number of changes that may be made at once, after a while without any.
    pub(super) fn at_once(self) -> usize {
        usize::try_from(self.at_once / MILLION).unwrap_or(usize::MAX)
    }

    pub(super) fn of_one(quotas: Quotas) -> Self {
        Self::of(quotas, 1)
    }

    pub(super) fn of_all(quotas: Quotas) -> Self {
        Self::of(quotas, quotas.max_connections())
    }
}

impl Changes {
    fn new(pace: Pace, now: Duration) -> Self {
        Self {
            left: pace.at_once,
            at: now,
        }
    }

    /// Returns the number of changes that may be made now.
    pub(super) fn left(&mut self, pace: Pace, now: Duration) -> usize {
        let micros = u64::try_from(now.saturating_sub(self.at).as_micros()).unwrap_or(u64::MAX);
        let more = micros.saturating_mul(pace.per_second);
        self.left = self.left.saturating_add(more).min(pace.at_once);
        self.at = self.at.max(now);
        usize::try_from(self.left / MILLION).unwrap_or(usize::MAX)
    }

    pub(super) fn take(&mut self, changes: usize) {
        let changes = u64::try_from(changes).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(changes.saturating_mul(MILLION));
    }
}

pub(super) fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Identity;

    #[test]
    fn an_invite_is_forgotten_with_the_last_of_its_holders() {
        let id = InviteId::generate(Duration::ZERO, KEPT).unwrap();
        let claims = Arc::new(Claims::new(id));
        let connections = [1, 2].map(|n| Connection {
            addr: Identity::from_bytes([n; 32]).address(),
            reads_v1: true,
            invite: Some(Arc::clone(&claims)),
        });
        let mut leaves = Leaves::default();
        leaves.connect(&connections, Duration::ZERO);
        leaves.connect(&connections[1..], KEPT);
        leaves.connect(&[], KEPT * 2);
        for (intervals, expected) in [(2, 1), (3, 0)] {
            leaves.forget_gone(KEPT * intervals);
            assert_eq!(leaves.invites.len(), expected, "{intervals}");
        }
        assert!(leaves.is_empty());
    }
}
