//! Rumours: changes that are pushed at once, without waiting for a round.
//!
//! Rumour mongering after Demers et al., "Epidemic algorithms for replicated database maintenance"
//! (1987), with feedback and counters: a member that learns of a change sends it to a few others at
//! once, in a fixed pattern in which everyone receives it as many times ([`overlay`]). If it does not
//! receive the change as often itself, something is wrong: messages are lost, or members differ in
//! whom they know. It then sends the change to random members, several times at most. The rounds reach
//! those that are still missed. A rumour is an Ack without a preceding SynAck, which members of the
//! published `chitchat` crate apply as well.
//!
//! This file decides which changes to send, when, how often and within how many bytes. It does not
//! build messages. Invariants: the rumours of a member never cost more than
//! [`RumourConfig::max_bytes_per_second`], except for a burst of one second's worth; without changes
//! nothing is sent; a change is not sent to a member that is known to have it.

mod budget;
mod overlay;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use litemap::LiteMap;

use self::budget::Budget;
pub(super) use self::overlay::{in_pattern, successors};
use super::config::{MIN_RUMOUR_ROOM, RumourConfig};
use super::order::{self, Members};
use crate::credential::is_key_address;
use crate::message::{ChitchatId, Delta, NodeDelta, Version};

/// The number of members to which a member sends a rumour in all, if it gets no feedback, is the
/// logarithm of the number of members plus this. If no message is lost, random copies then reach all
/// members except in one case out of `e` to the power of this (Erdős and Rényi, 1959).
const CERTAINTY: f64 = 5.0;

/// The number of intervals after which a change is sent again unless it was received often enough
/// until then. A change has passed through a hundred members by then, each a few milliseconds away.
const FEEDBACK_INTERVALS: u32 = 3;

/// The time between two Syns that are sent because a rumour showed that changes are missing here.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);

/// The largest number of members that are remembered to have a change.
const MAX_HOLDERS: usize = 256;

/// The changes that this member is pushing.
#[derive(Debug)]
pub(super) struct Rumours {
    config: RumourConfig,
    pending: Members<Pending>,
    last: Option<Duration>,
    /// The members to send to at random, the next one last. All are sent to once before one is sent
    /// to again.
    order: Vec<SocketAddr>,
    budget: Budget,
    /// True while there is nobody to send to: the changes wait for a connection, or for the next one.
    is_parked: bool,
    last_repair: Option<Duration>,
}

/// The changes of a member that are being pushed.
#[derive(Debug, Default)]
struct Pending {
    /// Ascending by version; each ends where the next one begins.
    stretches: Vec<Stretch>,
    /// The members that are known to have the changes up to a version.
    holders: LiteMap<SocketAddr, Version>,
}

/// The changes of a member above a version, up to the next stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    above: Version,
    /// When the next transmission that contains them is due.
    next: Duration,
    /// The number of transmissions that contained them.
    sent: u32,
    /// True if they were made here, so that nobody sends them back.
    is_own: bool,
    /// True if they came from a member that made them and takes no part in the pattern. It has sent
    /// them over its few connections only, so this member makes up for that.
    is_entrusted: bool,
    /// The number of members that sent them to us, or would have done so if we had not been first.
    copies: usize,
}

/// The changes of a transmission.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transmission {
    /// The members whose changes are sent, each with the version above which they are.
    pub(super) changes: Members<Version>,
    /// True if some of the changes were not sent before.
    is_first: bool,
    /// True if some of the changes were, or are entrusted to this member.
    has_random: bool,
}

/// The members among which the receivers of a transmission are chosen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Audience<'a> {
    /// The live members that can be reached.
    pub(super) reachable: &'a BTreeSet<SocketAddr>,
    /// The addresses with a connection.
    pub(super) connected: &'a BTreeSet<SocketAddr>,
    /// The live members that others can dial, reachable or not, this one included, in the order of
    /// [`in_pattern`]. Empty if others cannot dial this one.
    pub(super) pattern: &'a [SocketAddr],
    pub(super) own: SocketAddr,
}

impl Rumours {
    pub(super) fn new(config: RumourConfig) -> Self {
        Self {
            budget: Budget::new(config.max_bytes_per_second),
            config,
            pending: Members::new(),
            last: None,
            order: Vec::new(),
            is_parked: false,
            last_repair: None,
        }
    }

    /// Notes that changes of `id` above version `above` are new here. They came from the member at
    /// `from`, which has them up to version `reached`, or from here.
    pub(super) fn note(
        &mut self,
        id: &ChitchatId,
        above: Version,
        from: Option<(SocketAddr, Version)>,
        now: Duration,
    ) {
        if self.config.fanout == 0 {
            return;
        }
        self.is_parked = false;
        let pending = self.pending.entry(id.clone()).or_default();
        let copies = usize::from(from.is_some());
        let owner = id.addr();
        let is_entrusted = from.is_some_and(|(addr, _)| addr == owner && is_key_address(addr));
        match pending.stretches.last_mut() {
            Some(last) if last.sent == 0 => {
                last.above = last.above.min(above);
                last.is_own |= from.is_none();
                last.is_entrusted |= is_entrusted;
                last.copies = copies;
            }
            _ => pending.stretches.push(Stretch {
                above,
                next: now,
                sent: 0,
                is_own: from.is_none(),
                is_entrusted,
                copies,
            }),
        }
        if let Some((from, reached)) = from {
            pending.note_holder(from, reached);
        }
    }

    /// Notes that the member at `from` has sent us changes of `id` up to version `reached`, of which
    /// we have had all. We know them up to version `known`.
    pub(super) fn note_copy(
        &mut self,
        id: &ChitchatId,
        from: SocketAddr,
        reached: Version,
        known: Version,
    ) {
        let enough = self.enough();
        let Some(pending) = self.pending.get_mut(id) else {
            return;
        };
        let is_new = pending.holders.get(&from).is_none_or(|had| *had < reached);
        if is_new {
            pending.note_holder(from, reached);
            let ends = pending.stretches.iter().skip(1).map(|next| next.above);
            let ends: Vec<_> = ends.chain([known]).collect();
            let covered = pending.stretches.iter_mut().zip(ends);
            for (stretch, _) in covered.filter(|(_, end)| *end <= reached) {
                stretch.copies += 1;
            }
        }
        let is_done = |stretch: &Stretch| stretch.sent > 0 && stretch.copies >= enough;
        pending.stretches.retain(|stretch| !is_done(stretch));
        if pending.stretches.is_empty() {
            self.pending.remove(id);
        }
    }

    /// Notes that the member at `from` has listed the versions that `known_by` returns.
    pub(super) fn note_digest(
        &mut self,
        from: SocketAddr,
        known_by: impl Fn(&ChitchatId) -> Option<Version>,
    ) {
        for (id, pending) in self.pending.iter_mut() {
            if let Some(version) = known_by(id) {
                pending.note_holder(from, version);
            }
        }
    }

    /// Returns the version above which changes of `id` are being pushed, if there are such changes.
    pub(super) fn floor(&self, id: &ChitchatId) -> Option<Version> {
        let pending = self.pending.get(id)?;
        pending.stretches.first().map(|stretch| stretch.above)
    }

    /// Returns when the next transmission is due, or `None` while nothing is pending.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.is_parked {
            return None;
        }
        let stretches = self.pending.values().flat_map(|p| p.stretches.iter());
        let next = stretches.map(|stretch| stretch.next).min()?;
        // The first change is sent at once; those that follow are gathered.
        let earliest = self.last.map(|last| last + self.config.interval);
        Some(earliest.map_or(next, |earliest| earliest.max(next)))
    }

    /// Makes changes due that wait for a connection.
    pub(super) fn unpark(&mut self, now: Duration) {
        if std::mem::take(&mut self.is_parked) {
            for (_, pending) in self.pending.iter_mut() {
                for stretch in &mut pending.stretches {
                    stretch.next = now;
                }
            }
        }
    }

    /// Starts a transmission. There are no changes if it must wait.
    pub(super) fn begin(&mut self, now: Duration) -> Transmission {
        let mut transmission = Transmission::default();
        if self.due().is_none_or(|due| due > now) {
            return transmission;
        }
        self.last = Some(now);
        if self.room(now) < MIN_RUMOUR_ROOM {
            return transmission;
        }
        for (id, pending) in self.pending.iter() {
            let due = pending.stretches.iter().filter(|s| s.next <= now);
            for stretch in due {
                let lowest = transmission.changes.entry(id.clone());
                let lowest = lowest.or_insert(stretch.above);
                *lowest = stretch.above.min(*lowest);
                transmission.is_first |= stretch.sent == 0;
                transmission.has_random |= stretch.sent > 0 || stretch.is_entrusted;
            }
        }
        transmission
    }

    /// Returns the number of bytes that may be sent now to each member of a transmission.
    pub(super) fn room(&mut self, now: Duration) -> usize {
        self.budget.refill(now) / self.config.fanout.max(1)
    }

    /// Selects the members to which to send `transmission`, whose message has `len` bytes. `known`
    /// returns the version up to which the changes of a member are known here.
    pub(super) fn choose(
        &mut self,
        transmission: &Transmission,
        audience: Audience<'_>,
        len: usize,
        known: impl Fn(&ChitchatId) -> Version,
        rng: &mut fastrand::Rng,
    ) -> Vec<SocketAddr> {
        let holders = self.holders(&transmission.changes, known);
        let Audience {
            reachable,
            connected,
            pattern,
            own,
        } = audience;
        let lacks = |addr: &SocketAddr| reachable.contains(addr) && !holders.contains(addr);
        let fanout = self.config.fanout;
        let mut chosen = Vec::new();
        let mut at_random = 0;
        if transmission.is_first {
            if reachable.len() <= fanout {
                chosen.extend(reachable.iter().copied().filter(lacks));
            } else if let Some(place) = pattern.iter().position(|addr| *addr == own) {
                at_random +=
                    self.follow(pattern, place, transmission, &mut chosen, lacks, reachable);
            } else {
                at_random += fanout;
            }
            // Members that nobody can dial are not in the pattern of anyone: their connections are
            // the only way to them.
            let nobody_dials = connected.iter().filter(|addr| is_key_address(**addr));
            let before = order::set(chosen.iter().copied());
            let others = nobody_dials.filter(|addr| !before.contains(addr) && lacks(addr));
            chosen.extend(others);
        }
        if transmission.has_random {
            at_random += fanout;
        }
        if at_random > 0 && transmission.is_first {
            // A dial would delay the first copies.
            let near = order::set(connected.iter().copied().filter(lacks));
            let from: Vec<_> = near
                .difference(&order::set(chosen.iter().copied()))
                .copied()
                .collect();
            let more = rng.choose_multiple(from, at_random);
            at_random -= more.len();
            chosen.extend(more);
        }
        self.choose_at_random(at_random, reachable, lacks, &mut chosen, rng);
        let is_near = chosen.iter().any(|addr| connected.contains(addr));
        if !is_near && !chosen.is_empty() {
            let near = connected.iter().copied().filter(lacks);
            chosen.extend(rng.choose_multiple(near, 1));
        }
        // Room for the fanout was left; there may be more connections than that.
        chosen.truncate((self.budget.bytes() / len.max(1)).max(fanout));
        chosen
    }

    /// Adds the successors in the pattern that lack the changes. Returns how many of the others must
    /// be replaced, because they cannot be reached from here.
    fn follow(
        &mut self,
        pattern: &[SocketAddr],
        place: usize,
        transmission: &Transmission,
        chosen: &mut Vec<SocketAddr>,
        lacks: impl Fn(&SocketAddr) -> bool,
        reachable: &BTreeSet<SocketAddr>,
    ) -> usize {
        let (members, fanout) = (pattern.len(), self.config.fanout);
        let mut unreachable = 0;
        let mut mutual = 0;
        for next in overlay::successors(place, members, fanout) {
            let Some(addr) = pattern.get(next) else {
                continue;
            };
            if !reachable.contains(addr) {
                unreachable += 1;
            } else if lacks(addr) {
                chosen.push(*addr);
                // It would have sent the changes to us.
                let mut back = overlay::successors(next, members, fanout);
                mutual += usize::from(back.any(|back| back == place));
            }
        }
        for id in transmission.changes.keys() {
            let pending = self.pending.get_mut(id);
            let stretches = pending.into_iter().flat_map(|p| p.stretches.iter_mut());
            for stretch in stretches.filter(|stretch| stretch.sent == 0) {
                stretch.copies += mutual;
            }
        }
        unreachable
    }

    fn choose_at_random(
        &mut self,
        count: usize,
        reachable: &BTreeSet<SocketAddr>,
        lacks: impl Fn(&SocketAddr) -> bool,
        chosen: &mut Vec<SocketAddr>,
        rng: &mut fastrand::Rng,
    ) {
        if count == 0 {
            return;
        }
        let mut taken = order::set(chosen.iter().copied());
        let candidates = reachable.iter().filter(|addr| lacks(addr));
        let left = candidates.filter(|addr| !taken.contains(addr)).count();
        let end = chosen.len() + count.min(left);
        while chosen.len() < end {
            match self.order.pop() {
                Some(addr) if lacks(&addr) && taken.insert(addr) => chosen.push(addr),
                Some(_) => {}
                None => {
                    self.order = reachable.iter().copied().collect();
                    rng.shuffle(&mut self.order);
                }
            }
        }
    }

    /// Returns the members that are known to have all of `changes`.
    fn holders(
        &self,
        changes: &Members<Version>,
        known: impl Fn(&ChitchatId) -> Version,
    ) -> BTreeSet<SocketAddr> {
        let mut common: Option<BTreeSet<SocketAddr>> = None;
        for id in changes.keys() {
            let known = known(id);
            let has = |addr: &SocketAddr| {
                let holders = self.pending.get(id).map(|p| &p.holders);
                let version = holders.and_then(|holders| holders.get(addr));
                *addr == id.addr() || version.is_some_and(|had| *had >= known)
            };
            if let Some(common) = &mut common {
                common.retain(has);
            } else {
                let holders = self.pending.get(id).into_iter();
                let holders = holders.flat_map(|p| p.holders.keys().copied());
                common = Some(order::set(holders.chain([id.addr()]).filter(has)));
            }
        }
        common.unwrap_or_default()
    }

    /// Ends a transmission that was sent to `receivers` of `reachable` members, with `len` bytes
    /// each. If there is nobody and `may_wait`, the changes that were made here wait for a connection.
    pub(super) fn end(
        &mut self,
        transmission: &Transmission,
        receivers: usize,
        reachable: usize,
        len: usize,
        may_wait: bool,
    ) {
        if reachable == 0 && may_wait {
            self.is_parked = true;
            for id in transmission.changes.keys() {
                if let Some(pending) = self.pending.get_mut(id) {
                    // What others have sent is old by the time at which a member is live: those of a new
                    // cluster learn everything before.
                    let is_from_here = |stretch: &Stretch| stretch.is_own || stretch.is_entrusted;
                    pending.stretches.retain(is_from_here);
                }
            }
            self.drop_finished();
            return;
        }
        self.budget.spend(len.saturating_mul(receivers));
        let most = transmissions(reachable, self.config.fanout);
        let enough = self.enough();
        let Some(now) = self.last else {
            return;
        };
        let interval = self.config.interval;
        for id in transmission.changes.keys() {
            let Some(pending) = self.pending.get_mut(id) else {
                continue;
            };
            pending.stretches.retain_mut(|stretch| {
                if stretch.next <= now {
                    stretch.sent += 1;
                    let wait = if stretch.is_own {
                        1
                    } else {
                        FEEDBACK_INTERVALS
                    };
                    stretch.next = now + interval.saturating_mul(wait);
                }
                let is_done = stretch.sent > 0 && (receivers == 0 || stretch.copies >= enough);
                stretch.sent < most && !is_done
            });
        }
        self.drop_finished();
    }

    fn drop_finished(&mut self) {
        self.pending
            .retain(|_, pending| !pending.stretches.is_empty());
    }

    /// Returns the number of copies of a change that a member receives in the pattern, less one that
    /// may be late or lost.
    fn enough(&self) -> usize {
        self.config.fanout.saturating_sub(1).max(2)
    }

    /// Returns true if a Syn may be sent now to ask for changes that a rumour showed to be missing
    /// here. At most one is allowed in each [`REPAIR_INTERVAL`].
    pub(super) fn may_repair(&mut self, now: Duration) -> bool {
        let due = self.last_repair.map(|last| last + REPAIR_INTERVAL);
        let may = self.config.fanout > 0 && due.is_none_or(|due| due <= now);
        if may {
            self.last_repair = Some(now);
        }
        may
    }
}

impl Pending {
    fn note_holder(&mut self, addr: SocketAddr, version: Version) {
        if let Some(had) = self.holders.get_mut(&addr) {
            *had = version.max(*had);
        } else if self.holders.len() < MAX_HOLDERS {
            self.holders.insert(addr, version);
        }
    }
}

/// Returns the number of transmissions of a change that a member makes without feedback, so that it
/// reaches all of `live` others.
fn transmissions(live: usize, fanout: usize) -> u32 {
    if live <= fanout {
        return 1;
    }
    let live = u32::try_from(live).unwrap_or(u32::MAX);
    let fanout = u32::try_from(fanout).unwrap_or(u32::MAX).max(1);
    let contacts = f64::from(live).ln() + CERTAINTY;
    let times = (contacts / f64::from(fanout)).ceil();
    (1..=16).find(|n| f64::from(*n) >= times).unwrap_or(16)
}

/// Returns the approximate length of `delta` before compression, in bytes, as the budget
/// counts it.
pub(super) fn approximate_len(delta: &Delta) -> usize {
    let of_node = |node: &NodeDelta| {
        let keys = node
            .key_values
            .iter()
            .map(|kv| kv.key.len() + kv.value.len() + 16);
        keys.sum::<usize>() + node.chitchat_id.node_id.len() + 64
    };
    delta.node_deltas.iter().map(of_node).sum()
}
