//! Members that have left: what they and others say about it, and whom this member watches.
//!
//! A member that leaves sets the reserved key [`LEFT`] to its heartbeat. If a leaf is gone without a word, the core
//! members that were connected to it say so: each sets a key below [`DEPARTED`]. These keys are numbered and used
//! again, instead of being named after the leaf, since each deleted key leaves a tombstone for hours. Either counts until
//! the heartbeat of the member is higher than the one that is stated. This file changes no state of a member.
//! Invariant: a member has at most [`MAX_DEPARTURES`] such keys.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use litemap::LiteMap;

use crate::credential::is_key_address;
use crate::message::ChitchatId;

/// The name of the reserved key that says that its owner has left. The payload is its heartbeat.
pub(super) const LEFT: &str = "left";
/// With what the names of the reserved keys begin that say that a leaf is gone. The payload is its heartbeat, its
/// generation and the IP address of its key address, with spaces between.
pub(super) const DEPARTED: &str = "departed/";

/// The largest number of leaves that a member states to be gone at a time. Each page that joins receives all of these
/// statements, some 150 bytes each, and most pages that are closed say so themselves. What is beyond this is found
/// dead by its silence.
const MAX_DEPARTURES: usize = 100;
/// How long a member states that a leaf is gone. All others know within a second, and those that do not find it dead.
const STATED_FOR: Duration = Duration::from_secs(20);
/// The time without a higher heartbeat after which a leaf is gone that has lost its connection: long enough for a
/// page that is reloaded, or that connects to another member.
const MIN_SILENCE: Duration = Duration::from_secs(3);
/// Shortest silence, in gossip intervals, after which a leaf that has lost its connection is gone: the heartbeat of one
/// that is connected elsewhere arrives with rounds.
const MIN_SILENCE_INTERVALS: u32 = 3;
/// A leaf that has lost its connection is watched for so many times that silence. Afterwards its own failure is
/// found as that of any other member.
const WATCHED_FOR: u32 = 10;

/// A leaf of which a core member says that it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Departure {
    ip: IpAddr,
    generation_id: u64,
    pub(super) heartbeat: u64,
}

/// Departures that members have reported.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// Members that have left, each with its heartbeat.
    pub(super) left: Vec<(ChitchatId, u64)>,
    pub(super) departed: Vec<Departure>,
}

/// The leaves that this member watches, and what it has said.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// The leaves that have lost their connection to this member, each with the time.
    lost: LiteMap<SocketAddr, Duration>,
    /// When each of our keys below [`DEPARTED`] was set, if it is there.
    stated: Vec<Option<Duration>>,
    /// Members were added since [`Departure`]s were last compared with all of them.
    has_new: bool,
    /// When a member that may be of the published crate was last heard.
    upstream: Option<Duration>,
}

impl Departure {
    pub(super) fn of(id: &ChitchatId, heartbeat: u64) -> Self {
        Self {
            ip: id.addr().ip(),
            generation_id: id.generation_id,
            heartbeat,
        }
    }

    pub(super) fn payload(&self) -> String {
        let Self {
            ip,
            generation_id,
            heartbeat,
        } = self;
        format!("{heartbeat} {generation_id} {ip}")
    }

    fn parse(payload: &str) -> Option<Self> {
        let mut parts = payload.split(' ');
        let heartbeat = parts.next()?.parse().ok()?;
        let generation_id = parts.next()?.parse().ok()?;
        let ip: IpAddr = parts.next()?.parse().ok()?;
        let departure = Self {
            ip,
            generation_id,
            heartbeat,
        };
        let is_leaf = is_key_address(SocketAddr::new(ip, 0));
        (parts.next().is_none() && is_leaf).then_some(departure)
    }

    /// Returns true if it is about `id`.
    pub(super) fn is_of(&self, id: &ChitchatId) -> bool {
        self.generation_id == id.generation_id && self.ip == id.addr().ip()
    }
}

impl Departures {
    /// Notes that `owner` has left, if the reserved key `name` says so.
    pub(super) fn note_left(&mut self, owner: &ChitchatId, name: &str, payload: &str) {
        if name == LEFT
            && let Ok(heartbeat) = payload.parse()
        {
            self.left.push((owner.clone(), heartbeat));
        }
    }

    /// Notes that a leaf is gone, if the reserved key `name` of a core member says so.
    pub(super) fn note_departed(&mut self, name: &str, payload: &str) {
        if name.starts_with(DEPARTED) {
            self.departed.extend(Departure::parse(payload));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && self.departed.is_empty()
    }
}

impl Presence {
    /// Returns the silence after which a leaf is gone that has lost its connection.
    pub(super) fn silence(interval: Duration) -> Duration {
        MIN_SILENCE.max(interval.saturating_mul(MIN_SILENCE_INTERVALS))
    }

    /// Notes that the last connection to a leaf was lost.
    pub(super) fn note_lost(&mut self, addr: SocketAddr, now: Duration) {
        self.lost.insert(addr, now);
    }

    /// Notes that a leaf is connected.
    pub(super) fn note_connected(&mut self, addr: SocketAddr) {
        self.lost.remove(&addr);
    }

    /// Notes that this member has no connection at all: it is the one that is cut off.
    pub(super) fn note_cut_off(&mut self, now: Duration) {
        for (_, lost) in self.lost.iter_mut() {
            *lost = now;
        }
    }

    pub(super) fn watches_any(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Returns when the connection to `addr` was lost, if it is watched.
    pub(super) fn lost(&self, addr: SocketAddr) -> Option<Duration> {
        self.lost.get(&addr).copied()
    }

    /// Stops to watch the leaves for which `is_gone` returns true, and those that have been watched for long.
    pub(super) fn watch_others(
        &mut self,
        is_gone: impl Fn(SocketAddr) -> bool,
        silence: Duration,
        now: Duration,
    ) {
        let longest = silence.saturating_mul(WATCHED_FOR);
        self.lost
            .retain(|addr, lost| !is_gone(*addr) && now.saturating_sub(*lost) < longest);
    }

    /// Returns the number of a key for another departure: one that is free, or else the oldest one.
    pub(super) fn take_number(&mut self, now: Duration) -> usize {
        let free = self.stated.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            if self.stated.len() < MAX_DEPARTURES {
                self.stated.push(None);
                return self.stated.len() - 1;
            }
            let oldest = self.stated.iter().zip(0..).min();
            oldest.map_or(0, |(_, number)| number)
        });
        if let Some(stated) = self.stated.get_mut(number) {
            *stated = Some(now);
        }
        number
    }

    /// Frees and returns the numbers of the keys that were set long ago.
    pub(super) fn take_expired(&mut self, now: Duration) -> Vec<usize> {
        let mut expired = Vec::new();
        for (number, stated) in self.stated.iter_mut().enumerate() {
            if stated.is_some_and(|stated| now.saturating_sub(stated) >= STATED_FOR) {
                *stated = None;
                expired.push(number);
            }
        }
        expired
    }

    /// Notes that members were added, of which it may have been said before that they are gone.
    pub(super) fn note_new(&mut self) {
        self.has_new = true;
    }

    /// Returns whether members were added since the last call.
    pub(super) fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.has_new)
    }

    /// Notes a message of a member that may be of the published crate.
    pub(super) fn note_upstream(&mut self, now: Duration) {
        self.upstream = Some(now);
    }

    /// Returns true if such a member was heard within the last `within`.
    pub(super) fn has_upstream(&self, within: Duration, now: Duration) -> bool {
        let heard = self.upstream;
        heard.is_some_and(|heard| now.saturating_sub(heard) <= within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Identity;

    const SECOND: Duration = Duration::from_secs(1);

    fn leaf(n: u8) -> ChitchatId {
        ChitchatId::new("leaf", 7, Identity::from_bytes([n; 32]).address())
    }

    #[test]
    fn a_departure_is_of_one_generation_at_one_key_address() {
        let departure = Departure::of(&leaf(1), 12);
        assert_eq!(Departure::parse(&departure.payload()), Some(departure));
        assert!(departure.is_of(&leaf(1)));
        let later = ChitchatId {
            generation_id: 8,
            ..leaf(1)
        };
        assert!(!departure.is_of(&later) && !departure.is_of(&leaf(2)));
    }

    #[test]
    fn what_is_no_departure_of_a_leaf_is_ignored() {
        let payload = Departure::of(&leaf(1), 12).payload();
        let cut = payload.rsplit_once(' ').unwrap().0;
        for bad in [
            "",
            cut,
            &payload[1..payload.len() - 20],
            &format!("{payload} x"),
            &format!("-{payload}"),
            "12 7 10.0.0.1",
            "99999999999999999999 7 2001:20::1",
        ] {
            assert_eq!(Departure::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_leaf_is_silent_after_three_seconds_or_three_intervals_and_watched_ten_times_as_long() {
        let half = SECOND / 2;
        let silences = [half, SECOND, SECOND * 2].map(Presence::silence);
        assert_eq!(silences, [SECOND * 3, SECOND * 3, SECOND * 6]);
        let [gone, other] = [1, 2].map(|n| leaf(n).addr());
        let mut presence = Presence::default();
        presence.note_lost(gone, Duration::ZERO);
        presence.note_lost(other, Duration::ZERO);
        let mut watch = |now| {
            presence.watch_others(|addr| addr == gone, SECOND * 3, now);
            [gone, other].map(|addr| presence.lost(addr).is_some())
        };
        assert_eq!(watch(SECOND * 29), [false, true]);
        assert_eq!(watch(SECOND * 30), [false, false]);
        assert!(!presence.watches_any());
    }

    #[test]
    fn numbers_are_used_again_and_at_most_a_hundred_at_a_time() {
        let mut presence = Presence::default();
        assert_eq!(presence.take_number(Duration::ZERO), 0);
        assert_eq!(presence.take_expired(STATED_FOR), [0]);
        assert_eq!(presence.take_number(STATED_FOR), 0);
        let mut presence = Presence::default();
        for n in 0..100 {
            assert_eq!(presence.take_number(SECOND * (1 + n / 50)), n as usize);
        }
        assert_eq!(presence.take_number(SECOND * 3), 0, "the oldest one");
        assert_eq!(presence.take_expired(SECOND * 20), [0_usize; 0]);
        let expired = presence.take_expired(SECOND * 21);
        assert!(expired.into_iter().eq(1..50));
        assert_eq!(presence.take_number(SECOND * 21), 1);
        assert_eq!(presence.stated.len(), MAX_DEPARTURES);
    }
}
