//! Limits the work that leaves cause together, beside what each of them may cause.
//!
//! A leaf may come with a new identity for each message, so identities alone limit nothing. Their work is one amount, of
//! which a part is done as time passes. What each invite and each leaf have caused lately decides who may cause more, as in
//! the sharing of buffers with dynamic thresholds (see [`Takers`]). Invariant: whatever holders of other invites do, a leaf
//! that causes little is heard. Within one invite, so is one beside others that cause much; beside more that cause little than
//! there may be, none is refused many times in a row.

use std::net::SocketAddr;
use std::time::Duration;

use litemap::LiteMap;

use super::shares::BURST;
use crate::credential::InviteId;
use crate::gossip::engine::limiter::Limiter;
use crate::host::Takers;

/// The work that may wait to be done. Leaves may be many that come back at the same time, each with a digest and an answer
/// that are counted as 2 ms.
const MOST: Duration = Duration::from_secs(4);
/// The time in which so much is done while core members do little.
const LASTS: Duration = Duration::from_millis(2_667);

/// The work, in seconds, up to which a leaf causes little: a digest of 500 members in each second. An eighth of the room is
/// left to such leaves, since others fill it in steps of whole messages. Of what a leaf may not use, it may use a part that
/// grows with the time for which it was refused: if all want more than there is, those whose turn comes late in each round
/// would never be heard.
const LITTLE: f64 = 0.012;
/// The time after which a leaf that was refused all the time may use all of the room.
const OLD: Duration = Duration::from_secs(8);
/// The number of leaves of which it is known that they were refused, and the time for which it is after the last message.
const MOST_REFUSED: usize = 1024;
const REMEMBERED: Duration = Duration::from_secs(12);

/// When the messages of a leaf were refused.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// The first one after the last that was not.
    first: Duration,
    last: Duration,
}

/// The work that leaves have caused.
#[derive(Debug)]
pub(super) struct LeafWork {
    /// The work that is not done yet, also of leaves that are gone.
    waiting: Duration,
    /// What the holders of each invite have caused lately, in seconds.
    invites: Takers<Option<InviteId>>,
    /// What each leaf has caused lately, in seconds.
    leaves: Takers<SocketAddr>,
    /// Limits each leaf as if it were alone.
    each: Limiter,
    /// The leaves whose last message was refused.
    refused: LiteMap<SocketAddr, Refused>,
}

impl LeafWork {
    pub(super) fn new() -> Self {
        Self {
            waiting: Duration::ZERO,
            invites: Takers::new(MOST.as_secs_f64(), LASTS),
            leaves: Takers::new(MOST.as_secs_f64(), LASTS),
            each: Limiter::of_work(),
            refused: LiteMap::new(),
        }
    }

    /// Returns true if a message of the leaf `from`, which holds `invite`, may be handled now, and counts its work.
    pub(super) fn admit(
        &mut self,
        from: SocketAddr,
        invite: Option<InviteId>,
        work: Duration,
        now: Duration,
    ) -> bool {
        let by_leaf = self.leaves.taken(from, now);
        let is_little = by_leaf + work.as_secs_f64() <= LITTLE;
        let base = if is_little { 0.9375 } else { 0.875 };
        let part = base + (1.0 - base) * self.refused_for(from, now);
        let taken = self.invites.taken(invite, now) + by_leaf;
        let left = MOST
            .checked_sub(self.waiting)
            .map(|left| left.as_secs_f64());
        let is_admitted = left.is_some_and(|left| taken <= left * part)
            && self.each.admit_work(from, true, work, BURST, now);
        if is_admitted {
            self.refused.remove(&from);
            self.note(from, invite, work, now);
        } else {
            self.note_refused(from, now);
        }
        is_admitted
    }

    /// Returns for how long all messages of a leaf have been refused, as a part of [`OLD`], at most 1.
    fn refused_for(&self, from: SocketAddr, now: Duration) -> f64 {
        self.refused.get(&from).map_or(0.0, |refused| {
            let age = now.saturating_sub(refused.first);
            (age.as_secs_f64() / OLD.as_secs_f64()).min(1.0)
        })
    }

    fn note_refused(&mut self, from: SocketAddr, now: Duration) {
        if let Some(refused) = self.refused.get_mut(&from) {
            refused.last = now;
        } else if self.refused.len() < MOST_REFUSED {
            let refused = Refused {
                first: now,
                last: now,
            };
            self.refused.insert(from, refused);
        }
    }

    /// Counts more work of a leaf.
    pub(super) fn add(
        &mut self,
        from: SocketAddr,
        invite: Option<InviteId>,
        work: Duration,
        now: Duration,
    ) {
        self.each.add_work(from, true, work, now);
        self.note(from, invite, work, now);
    }

    fn note(&mut self, from: SocketAddr, invite: Option<InviteId>, work: Duration, now: Duration) {
        self.waiting = self.waiting.saturating_add(work);
        self.invites.add(invite, work.as_secs_f64(), now);
        self.leaves.add(from, work.as_secs_f64(), now);
    }

    /// Notes that so much of the work is done.
    pub(super) fn done(&mut self, work: Duration) {
        self.waiting = self.waiting.saturating_sub(work);
    }

    /// Returns when the work of a leaf ends if others cause little.
    pub(super) fn idle_from(&self, from: SocketAddr) -> Duration {
        self.each.due(from)
    }

    /// Forgets the leaves that have caused no work lately.
    pub(super) fn forget_idle(&mut self, now: Duration) {
        self.each.forget_idle(now);
        let is_recent = |refused: &Refused| now.saturating_sub(refused.last) < REMEMBERED;
        self.refused.retain(|_, refused| is_recent(refused));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when_a_leaf_is_refused_is_remembered_while_it_goes_on_asking() {
        let mut work = LeafWork::new();
        let addr = |n| SocketAddr::from(([127, 0, 0, 1], n));
        let (leaf, other) = (addr(1), addr(2));
        // Nothing of this is ever done, so there is no room.
        work.add(other, None, MOST, Duration::ZERO);
        let mut ask = |now: Duration| {
            let is_admitted = work.admit(leaf, None, Duration::from_millis(1), now);
            assert!(!is_admitted, "{now:?}");
            work.forget_idle(now);
            work.refused_for(leaf, now)
        };
        assert_eq!(ask(Duration::ZERO), 0.0);
        assert_eq!(ask(OLD / 2), 0.5);
        assert_eq!(ask(REMEMBERED), 1.0);
        // Longer ago than it was refused first.
        let later = OLD / 2 + REMEMBERED;
        assert_eq!(ask(later), 1.0);
        let long_after = later + REMEMBERED;
        work.forget_idle(long_after);
        assert_eq!(work.refused_for(leaf, long_after), 0.0);
    }
}
