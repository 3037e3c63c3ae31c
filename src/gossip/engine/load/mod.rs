//! Limits the work that each peer causes, and that all of them cause together: a message may list so many
//! members and keys that it takes a hundred times as long as others, and an answer may be a thousand times as
//! long as the message that asks for it.
//!
//! It counts members, keys and bytes; it measures no time. If peers cause more work together than there may
//! be, each of them gets an equal share, as in fair queueing (Demers et al., 1989): the work of a peer ends at
//! a time of a clock that is the slower the more peers have work left. Leaves share among themselves what core members
//! leave. Invariant: a peer that causes little work is heard whatever the others do; leaves together get at most three
//! quarters of all, and at least one, however many new ones come; peers without a proved identity together get no more
//! than one core member, and their hosts share that, so that one which takes all it can leaves room to others.

mod leaf_work;
mod shares;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use leaf_work::LeafWork;
use shares::{BURST, Group};

use super::limiter::Limiter;
use super::policy::Sender;
use crate::credential::{InviteId, Role};
use crate::host::{Host, Takers};
use crate::message::{ChitchatMessage, Delta};

/// The time for which a member or key in a message is counted. It takes about a quarter of it on a usual
/// machine, so that a peer gets a quarter of a core.
const PER_ENTRY: Duration = Duration::from_micros(4);
/// The time for which a byte of an answer is counted: about four times as long as it takes to find, compress
/// and encrypt it.
const PER_BYTE: Duration = Duration::from_nanos(16);
/// The bytes of an answer that are counted at most. It is longer before it is compressed only if that takes
/// little time for each byte.
const MOST_BYTES: usize = 128 << 10;
/// All peers together may cause this many times the work of one: half a core.
const SHARES: u32 = 2;
/// The time between two advances of the clock.
const TICK: Duration = Duration::from_millis(20);

/// What a peer is, by which its work is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Core,
    /// It holds this invite, unless that has gone with its connection.
    Leaf(Option<InviteId>),
    /// It has no proved identity.
    Unproved,
}

impl Class {
    /// Returns the class of a sender. `invite_of` returns the invite of the leaf at an address.
    pub(super) fn of(
        sender: Sender,
        invite_of: impl FnOnce(SocketAddr) -> Option<InviteId>,
    ) -> Self {
        match sender.role {
            Role::Core if sender.is_proved() => Self::Core,
            Role::Leaf if sender.is_proved() => Self::Leaf(invite_of(sender.addr)),
            _ => Self::Unproved,
        }
    }
}

/// The work that peers have caused. That of leaves ends at real times, all other at times of a clock.
#[derive(Debug)]
pub(super) struct Load {
    core: Group,
    leaves: LeafWork,
    unproved: Limiter,
    /// The time, of the clock of core members, at which the work of all peers without a proved identity together ends.
    unproved_end: Duration,
    /// The work that their hosts have caused lately, in seconds.
    unproved_hosts: Takers,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            core: Group::new(SHARES),
            leaves: LeafWork::new(),
            unproved: Limiter::of_work(),
            unproved_end: Duration::ZERO,
            unproved_hosts: Takers::new(BURST.as_secs_f64(), BURST),
        }
    }

    /// Returns true if a message of `from` may be handled now, and counts its work. Any message may be
    /// if there was no work before, however long it is.
    pub(super) fn admit(
        &mut self,
        from: SocketAddr,
        class: Class,
        message: &ChitchatMessage,
        now: Duration,
    ) -> bool {
        let work = PER_ENTRY.saturating_mul(u32::try_from(entries(message)).unwrap_or(u32::MAX));
        self.advance(now);
        match class {
            Class::Core => self.core.admit(from, work),
            Class::Leaf(invite) => self.leaves.admit(from, invite, work, now),
            Class::Unproved => self.admit_unproved(from, work),
        }
    }

    fn admit_unproved(&mut self, from: SocketAddr, work: Duration) -> bool {
        let (time, burst) = (self.core.time(), self.core.burst());
        let Some(left) = time.saturating_add(burst).checked_sub(self.unproved_end) else {
            return false;
        };
        let taken = self.unproved_hosts.taken(Host::of(from.ip()), time);
        let is_admitted = taken <= left.min(burst).as_secs_f64()
            && self.unproved.admit_work(from, false, work, burst, time);
        if is_admitted {
            self.add_unproved(from, work, time);
        }
        is_admitted
    }

    /// Counts the work of an answer of `len` bytes to a message of `from`.
    pub(super) fn note_answer(
        &mut self,
        from: SocketAddr,
        class: Class,
        len: usize,
        now: Duration,
    ) {
        let bytes = u32::try_from(len.min(MOST_BYTES)).unwrap_or(u32::MAX);
        let work = PER_BYTE.saturating_mul(bytes);
        self.advance(now);
        match class {
            Class::Core => self.core.add(from, work),
            Class::Leaf(invite) => self.leaves.add(from, invite, work, now),
            Class::Unproved => {
                let time = self.core.time();
                self.unproved.add_work(from, false, work, time);
                self.add_unproved(from, work, time);
            }
        }
    }

    /// Counts more work of all peers without a proved identity together, and of the host of `from`.
    fn add_unproved(&mut self, from: SocketAddr, work: Duration, time: Duration) {
        self.unproved_end = self.unproved_end.max(time).saturating_add(work);
        let host = Host::of(from.ip());
        self.unproved_hosts.add(host, work.as_secs_f64(), time);
    }

    /// Returns when the work that `from` has caused ends, if no others cause more than they do now, or zero if
    /// it has ended.
    pub(super) fn idle_from(&self, from: SocketAddr) -> Duration {
        let of_core = self.core.due(from).max(self.unproved.due(from));
        self.core.when(of_core).max(self.leaves.idle_from(from))
    }

    /// Forgets the peers that have caused no work lately.
    pub(super) fn forget_idle(&mut self, now: Duration) {
        self.advance(now);
        self.core.forget_idle();
        self.leaves.forget_idle(now);
        self.unproved.forget_idle(self.core.time());
    }

    /// Advances the clock.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.core.at());
        if passed < TICK {
            return;
        }
        let (done, shortening) = self.core.advance(now, self.unproved_end);
        if let Some(shortening) = shortening {
            self.unproved.adjust(|end| shortening.forgiven(end));
            self.unproved_end = shortening.forgiven(self.unproved_end);
        }
        let all = passed.saturating_mul(SHARES);
        let quarter = all / 4;
        let left = all.saturating_sub(done);
        self.leaves.done(left.clamp(quarter, quarter * 3));
    }
}

/// Returns the number of members and keys in a message.
fn entries(message: &ChitchatMessage) -> usize {
    match message {
        ChitchatMessage::Syn { digest, .. } => digest.node_digests.len(),
        ChitchatMessage::SynAck { digest, delta, .. } => digest.node_digests.len() + changes(delta),
        ChitchatMessage::Ack { delta, .. } => changes(delta),
        ChitchatMessage::BadCluster { .. } => 0,
    }
}

fn changes(delta: &Delta) -> usize {
    let nodes = delta.node_deltas.iter();
    nodes.map(|node| 1 + node.key_values.len()).sum()
}
