//! News that is told at once, without waiting for a round.
//!
//! Rumour mongering (Demers et al., "Epidemic algorithms for replicated database maintenance",
//! 1987): whoever learns something new tells a few others, several times, and then stops; the
//! rounds reach whomever it has missed. What is told is an unasked Ack, which upstream members take
//! as well. No messages are built here: this file knows what is news, when to tell it, how often,
//! and how much may be said. Invariants: a member's rumours never cost more than
//! [`RumourConfig::max_bytes_per_second`], but for a burst of one second's worth; without news
//! nothing is said at all.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::RumourConfig;
use super::order::Members;
use crate::message::{ChitchatId, Version};

/// Added to the logarithm of the number of members, it makes the number of times that each tells a
/// rumour: all of them have heard it then but for one case in `e` to this power, if nothing is
/// lost (Erdős and Rényi, 1959).
const CERTAINTY: f64 = 5.0;

/// Less room than this is waited for rather than used.
pub(super) const MIN_ROOM: usize = 1 << 10;

/// Between two Syns that ask for what a rumour has shown us to lack.
const REPAIR_INTERVAL: Duration = Duration::from_millis(200);

/// What one member has to tell.
#[derive(Debug)]
pub(super) struct Rumours {
    config: RumourConfig,
    news: Members<Vec<Stretch>>,
    /// When the next telling is due, if there is anything to tell.
    due: Option<Duration>,
    last: Option<Duration>,
    /// Others in the order in which they are told: everyone once before anyone twice.
    order: Vec<SocketAddr>,
    budget: Budget,
    last_repair: Option<Duration>,
}

/// Changes above a version, until the next stretch, and how often they have been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    above: Version,
    told: u32,
}

/// A token bucket, of bytes.
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
            news: Members::new(),
            due: None,
            last: None,
            order: Vec::new(),
            last_repair: None,
        }
    }

    /// Something about `id`, above version `above`, is new here.
    pub(super) fn note(&mut self, id: &ChitchatId, above: Version, now: Duration) {
        if self.config.fanout == 0 {
            return;
        }
        let stretches = self.news.entry(id.clone()).or_default();
        match stretches.last_mut() {
            Some(last) if last.told == 0 => last.above = last.above.min(above),
            _ => stretches.push(Stretch { above, told: 0 }),
        }
        if self.due.is_none() {
            // The first news is told at once, what follows is gathered.
            let earliest = self.last.map_or(now, |last| last + self.config.interval);
            self.due = Some(earliest.max(now));
        }
    }

    /// When to tell; `None` while there is nothing to tell.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// What to tell now: from which version on, of whom. Empty if that has to wait.
    pub(super) fn begin(&mut self, now: Duration) -> Members<Version> {
        if self.due.is_none_or(|due| due > now) {
            return Members::new();
        }
        self.last = Some(now);
        self.due = Some(now + self.config.interval);
        if self.room(now) < MIN_ROOM {
            return Members::new();
        }
        let mut news = Members::new();
        for (id, stretches) in self.news.iter() {
            if let Some(lowest) = stretches.iter().map(|stretch| stretch.above).min() {
                news.insert(id.clone(), lowest);
            }
        }
        news
    }

    /// Bytes that each of those who are told now may be sent.
    pub(super) fn room(&mut self, now: Duration) -> usize {
        let most = self.config.max_bytes_per_second;
        self.budget.refill(most, now);
        self.budget.bytes / self.config.fanout.max(1)
    }

    /// Whom to tell, out of `live`.
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

    /// What was to be told has been told to `told` of `live` others, with `len` bytes each.
    pub(super) fn end(&mut self, told: usize, live: usize, len: usize) {
        self.budget.spend(len.saturating_mul(told));
        let enough = times(live, self.config.fanout);
        for (_, stretches) in self.news.iter_mut() {
            stretches.retain_mut(|stretch| {
                stretch.told += 1;
                stretch.told < enough
            });
        }
        self.news.retain(|_, stretches| !stretches.is_empty());
        if self.news.is_empty() {
            self.due = None;
        }
    }

    /// Whether to ask for what a rumour has shown us to lack: now and then only.
    pub(super) fn may_repair(&mut self, now: Duration) -> bool {
        let due = self.last_repair.map(|last| last + REPAIR_INTERVAL);
        let may = self.config.fanout > 0 && due.is_none_or(|due| due <= now);
        if may {
            self.last_repair = Some(now);
        }
        may
    }
}

/// How often each member tells a rumour, so that all of `live` others hear it.
fn times(live: usize, fanout: usize) -> u32 {
    if live <= fanout {
        return 1;
    }
    let live = u32::try_from(live).unwrap_or(u32::MAX);
    let fanout = u32::try_from(fanout).unwrap_or(u32::MAX).max(1);
    let contacts = f64::from(live).ln() + CERTAINTY;
    let times = (contacts / f64::from(fanout)).ceil();
    (1..=16).find(|n| f64::from(*n) >= times).unwrap_or(16)
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

#[cfg(test)]
mod tests;
