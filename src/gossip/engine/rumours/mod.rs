//! Rumours: changes that are pushed at once, without waiting for a round.
//!
//! Rumour mongering after Demers et al., "Epidemic algorithms for replicated database maintenance"
//! (1987): a member that learns of a change sends it to a few others, several times, and then
//! stops; the rounds reach those that it missed. A rumour is an Ack without a preceding SynAck,
//! which members of the published `chitchat` crate apply as well.
//!
//! This file decides which changes to send, when, how often and within how many bytes. It does not
//! build messages. Invariants: the rumours of a member never cost more than
//! [`RumourConfig::max_bytes_per_second`], except for a burst of one second's worth; without changes
//! nothing is sent.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::config::{MIN_RUMOUR_ROOM, RumourConfig};
use super::order::Members;
use crate::message::{ChitchatId, Delta, NodeDelta, Version};

/// The number of members to which each member sends a rumour is the logarithm of the number of
/// members plus this. If no message is lost, all members then have it except in one case out of `e`
/// to the power of this (Erdős and Rényi, 1959).
const CERTAINTY: f64 = 5.0;

/// The time between two Syns that are sent because a rumour showed that changes are missing here.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);

/// The changes that this member is pushing.
#[derive(Debug)]
pub(super) struct Rumours {
    config: RumourConfig,
    pending: Members<Vec<Stretch>>,
    /// When the next transmission is due, if anything is pending.
    due: Option<Duration>,
    last: Option<Duration>,
    /// The members to send to, the next one last. All are sent to once before one is sent to again.
    order: Vec<SocketAddr>,
    budget: Budget,
    last_repair: Option<Duration>,
}

/// The changes of a member above a version, up to the next stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    above: Version,
    /// The number of transmissions that contained them.
    sent: u32,
}

/// A token bucket that counts bytes.
#[derive(Debug)]
struct Budget {
    bytes: usize,
    at: Duration,
}

impl Rumours {
    pub(super) fn new(config: RumourConfig) -> Self {
        Self {
            budget: Budget {
                bytes: config.max_bytes_per_second,
                at: Duration::ZERO,
            },
            config,
            pending: Members::new(),
            due: None,
            last: None,
            order: Vec::new(),
            last_repair: None,
        }
    }

    /// Notes that changes of `id` above version `above` are new here.
    pub(super) fn note(&mut self, id: &ChitchatId, above: Version, now: Duration) {
        if self.config.fanout == 0 {
            return;
        }
        let stretches = self.pending.entry(id.clone()).or_default();
        match stretches.last_mut() {
            Some(last) if last.sent == 0 => last.above = last.above.min(above),
            _ => stretches.push(Stretch { above, sent: 0 }),
        }
        if self.due.is_none() {
            // The first change is sent at once; those that follow are gathered.
            let earliest = self.last.map_or(now, |last| last + self.config.interval);
            self.due = Some(earliest.max(now));
        }
    }

    /// Returns when the next transmission is due, or `None` while nothing is pending.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Starts a transmission. Returns the members whose changes are to be sent, each with the
    /// version above which they are. Empty if the transmission must wait.
    pub(super) fn begin(&mut self, now: Duration) -> Members<Version> {
        if self.due.is_none_or(|due| due > now) {
            return Members::new();
        }
        self.last = Some(now);
        self.due = Some(now + self.config.interval);
        if self.room(now) < MIN_RUMOUR_ROOM {
            return Members::new();
        }
        let mut changes = Members::new();
        for (id, stretches) in self.pending.iter() {
            if let Some(lowest) = stretches.iter().map(|stretch| stretch.above).min() {
                changes.insert(id.clone(), lowest);
            }
        }
        changes
    }

    /// Returns the number of bytes that may be sent now to each member of a transmission.
    pub(super) fn room(&mut self, now: Duration) -> usize {
        let most = self.config.max_bytes_per_second;
        self.budget.refill(most, now);
        self.budget.bytes / self.config.fanout.max(1)
    }

    /// Selects the members to send to, out of `live`.
    pub(super) fn choose(
        &mut self,
        live: &BTreeSet<SocketAddr>,
        rng: &mut fastrand::Rng,
    ) -> Vec<SocketAddr> {
        let count = self.config.fanout.min(live.len());
        let mut chosen = Vec::with_capacity(count);
        while chosen.len() < count {
            match self.order.pop() {
                Some(addr) if live.contains(&addr) && !chosen.contains(&addr) => chosen.push(addr),
                Some(_) => {}
                None => {
                    self.order = live.iter().copied().collect();
                    rng.shuffle(&mut self.order);
                }
            }
        }
        chosen
    }

    /// Ends a transmission that was sent to `receivers` of `live` members, with `len` bytes each.
    pub(super) fn end(&mut self, receivers: usize, live: usize, len: usize) {
        self.budget.spend(len.saturating_mul(receivers));
        let enough = transmissions(live, self.config.fanout);
        for (_, stretches) in self.pending.iter_mut() {
            stretches.retain_mut(|stretch| {
                stretch.sent += 1;
                stretch.sent < enough
            });
        }
        self.pending.retain(|_, stretches| !stretches.is_empty());
        if self.pending.is_empty() {
            self.due = None;
        }
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

/// Returns the number of transmissions of a change that each member makes, so that it reaches all
/// of `live` others.
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

impl Budget {
    fn refill(&mut self, a_second: usize, now: Duration) {
        let passed = now.saturating_sub(self.at).min(Duration::from_secs(1));
        let earned = (a_second as u128).saturating_mul(passed.as_micros()) / 1_000_000;
        if earned > 0 {
            self.bytes = self
                .bytes
                .saturating_add(usize::try_from(earned).unwrap_or(usize::MAX))
                .min(a_second);
            self.at = now;
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
