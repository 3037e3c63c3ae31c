//! Members that have left: what they and others say about it, and whom this member watches.
//!
//! A member that leaves sets the reserved key [`LEFT`] to its heartbeat. If a leaf is gone without a word, the core
//! members that were connected to it say so: each sets a key below [`DEPARTED`]. These keys are numbered and used
//! again, instead of being named after the leaf, since each deleted key leaves a tombstone for hours. A key states several
//! departures if they come together, as when a proxy ends. Either counts until the heartbeat of the member is higher than
//! the one that is stated. This file changes no state of a member.
//! Invariant: a member states at most [`MAX_DEPARTURES`] at a time, in at most twice as many keys as it needs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use litemap::LiteMap;

use super::order::{self, Rank};
use crate::credential::is_key_address;
use crate::message::ChitchatId;

/// The name of the reserved key that says that its owner has left. The payload is its heartbeat.
pub(super) const LEFT: &str = "left";
/// With what the names of the reserved keys begin that say that leaves are gone. The payload is, for each of them, its
/// heartbeat, its generation and the IP address of its key address, with spaces between, and [`SEPARATOR`] between them.
pub(super) const DEPARTED: &str = "departed/";
const SEPARATOR: char = ',';

/// The largest number of leaves that a member states to be gone at a time. Each page that joins receives all of these
/// statements, some 60 bytes each, and most pages that are closed say so themselves. What is beyond this is found
/// dead by its silence.
const MAX_DEPARTURES: usize = 1000;
/// The largest number of departures in one key.
const MAX_PER_KEY: usize = 16;
/// A departure is added to a key that was set within this time, if that has room.
const GATHERED_FOR: Duration = Duration::from_secs(1);
/// How long a member states that a leaf is gone. All others know within a second, and those that do not find it dead.
const STATED_FOR: Duration = Duration::from_secs(60);
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
    heartbeat: u64,
}

/// Departures that members have reported.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// Members that have left, each with its heartbeat.
    pub(super) left: Vec<(ChitchatId, u64)>,
    departed: Vec<Departure>,
}

/// The leaves that this member watches, and what it has said.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// The leaves that have lost their connection to this member, each with the time.
    lost: LiteMap<SocketAddr, Duration>,
    /// Our keys below [`DEPARTED`] by their numbers, if they are there.
    stated: Vec<Option<Statement>>,
    /// Members were added since [`Departure`]s were last compared with all of them.
    has_new: bool,
    /// When a member that may be of the published crate was last heard.
    upstream: Option<Duration>,
}

/// A key below [`DEPARTED`].
#[derive(Debug)]
struct Statement {
    /// When it was first set.
    at: Duration,
    departures: Vec<Departure>,
}

impl Departure {
    pub(super) fn of(id: &ChitchatId, heartbeat: u64) -> Self {
        Self {
            ip: id.addr().ip(),
            generation_id: id.generation_id,
            heartbeat,
        }
    }

    /// Returns what departures are sorted by. It is the same for all of one leaf, and hardly ever for two leaves.
    fn rank(&self) -> Rank {
        let ip = match self.ip {
            IpAddr::V4(ip) => ip.to_bits().into(),
            IpAddr::V6(ip) => {
                let [.., a, b, c, d, e, f, g, h] = ip.octets();
                u64::from_be_bytes([a, b, c, d, e, f, g, h])
            }
        };
        (false, ip, self.generation_id)
    }

    fn payload(&self) -> String {
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
}

impl Statement {
    fn has_room(&self, now: Duration) -> bool {
        self.departures.len() < MAX_PER_KEY && now.saturating_sub(self.at) < GATHERED_FOR
    }

    fn payload(&self) -> String {
        let mut text = String::new();
        for departure in &self.departures {
            if !text.is_empty() {
                text.push(SEPARATOR);
            }
            text.push_str(&departure.payload());
        }
        text
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

    /// Notes which leaves are gone, if the reserved key `name` of a core member says so.
    pub(super) fn note_departed(&mut self, name: &str, payload: &str) {
        if name.starts_with(DEPARTED) {
            let each = payload.split(SEPARATOR);
            self.departed.extend(each.filter_map(Departure::parse));
        }
    }

    /// Returns those of `leaves` that core members have reported to be gone, each with the highest heartbeat.
    pub(super) fn departed_of<'a>(
        &self,
        leaves: impl Iterator<Item = &'a ChitchatId>,
    ) -> Vec<(ChitchatId, u64)> {
        let mut gone = Vec::new();
        if self.departed.is_empty() {
            return gone;
        }
        let departed = order::sorted(self.departed.clone(), Departure::rank);
        for id in leaves {
            let leaf = Departure::of(id, 0);
            let first = departed.partition_point(|departure| departure.rank() < leaf.rank());
            let others = departed.get(first..).unwrap_or_default().iter();
            let of_rank = others.take_while(|departure| departure.rank() == leaf.rank());
            let of_leaf = of_rank.filter(|departure| departure.ip == leaf.ip);
            if let Some(heartbeat) = of_leaf.map(|departure| departure.heartbeat).max() {
                gone.push((id.clone(), heartbeat));
            }
        }
        gone
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

    /// Returns how many more departures may be stated.
    pub(super) fn room(&self) -> usize {
        let stated = self.stated.iter().flatten();
        let stated: usize = stated.map(|statement| statement.departures.len()).sum();
        MAX_DEPARTURES.saturating_sub(stated)
    }

    /// Notes departures that are to be stated, as many as there is [`room`](Self::room) for. Returns the numbers of the
    /// keys that are to be set, each with its payload.
    pub(super) fn state(
        &mut self,
        departures: impl IntoIterator<Item = Departure>,
        now: Duration,
    ) -> Vec<(usize, String)> {
        let mut changed = Vec::new();
        for departure in departures.into_iter().take(self.room()) {
            let number = self.number(now);
            if self.stated.len() <= number {
                self.stated.resize_with(number + 1, || None);
            }
            if let Some(statement) = self.stated.get_mut(number) {
                let statement = statement.get_or_insert_with(|| Statement {
                    at: now,
                    departures: Vec::new(),
                });
                statement.departures.push(departure);
                if !changed.contains(&number) {
                    changed.push(number);
                }
            }
        }
        let payload = |number: usize| Some((number, self.stated.get(number)?.as_ref()?.payload()));
        changed.into_iter().filter_map(payload).collect()
    }

    /// Returns the number of the key to which a departure is added: one that was just set, or else one that is free.
    fn number(&self, now: Duration) -> usize {
        let has_room = |of: &Option<Statement>| of.as_ref().is_some_and(|of| of.has_room(now));
        let open = self.stated.iter().position(has_room);
        let free = || self.stated.iter().position(Option::is_none);
        open.or_else(free).unwrap_or(self.stated.len())
    }

    /// Frees and returns the numbers of the keys that were set long ago.
    pub(super) fn take_expired(&mut self, now: Duration) -> Vec<usize> {
        let is_old = |of: &mut Statement| now.saturating_sub(of.at) >= STATED_FOR;
        let numbered = self.stated.iter_mut().enumerate();
        let expired = numbered.filter_map(|(number, of)| of.take_if(is_old).map(|_| number));
        expired.collect()
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
    use std::collections::BTreeSet;

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
        let mut departures = Departures::default();
        let of_others = [(2, 11), (1, 12), (1, 9), (3, 20), (1, 10)];
        let payloads = of_others.map(|(n, heartbeat)| Departure::of(&leaf(n), heartbeat).payload());
        departures.note_departed("departed/0", &payloads.join(","));
        departures.note_departed("left", &Departure::of(&leaf(4), 30).payload());
        let later = ChitchatId {
            generation_id: 8,
            ..leaf(1)
        };
        let all = [leaf(1), leaf(2), leaf(4), leaf(5), later];
        let gone = departures.departed_of(all.iter());
        assert_eq!(gone, [(leaf(1), 12), (leaf(2), 11)]);
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

    fn departures(count: u64) -> impl Iterator<Item = Departure> {
        (0..count).map(|heartbeat| Departure::of(&leaf(1), heartbeat))
    }

    /// Returns the numbers of the keys that are to be set for so many more departures.
    fn numbers(presence: &mut Presence, count: u64, now: Duration) -> Vec<usize> {
        let keys = presence.state(departures(count), now);
        keys.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn departures_that_come_together_share_keys_whose_numbers_are_used_again() {
        let mut presence = Presence::default();
        let keys = presence.state(departures(17), Duration::ZERO);
        let payloads: Vec<_> = departures(17)
            .map(|departure| departure.payload())
            .collect();
        let expected = [(0, payloads[..16].join(",")), (1, payloads[16].clone())];
        assert_eq!(keys, expected);
        // A moment later, one that is not full takes more. It is withdrawn a minute after it was first set.
        let moment = GATHERED_FOR - Duration::from_millis(1);
        assert_eq!(numbers(&mut presence, 16, moment), [1, 2]);
        assert_eq!(numbers(&mut presence, 1, SECOND), [2]);
        assert_eq!(numbers(&mut presence, 1, SECOND * 2), [3]);
        assert_eq!(presence.take_expired(SECOND * 59), [0_usize; 0]);
        assert_eq!(presence.take_expired(SECOND * 60), [0, 1]);
        assert_eq!(numbers(&mut presence, 17, SECOND * 60), [0, 1]);
        assert_eq!(presence.take_expired(SECOND * 61), [2]);
    }

    #[test]
    fn at_most_a_thousand_departures_are_stated_at_a_time_in_few_keys() {
        for each in [1, 10, 16, 40, 900, 5_000] {
            let mut presence = Presence::default();
            let mut stated = BTreeSet::new();
            for millis in (0..60_000).step_by(50) {
                stated.extend(numbers(&mut presence, each, Duration::from_millis(millis)));
            }
            assert_eq!(presence.room(), 0, "{each}");
            assert!(
                (63..125).contains(&stated.len()),
                "{each}: {}",
                stated.len()
            );
            let all = presence.take_expired(SECOND * 120);
            assert!(all.into_iter().eq(stated), "{each}");
            assert_eq!(presence.room(), MAX_DEPARTURES);
        }
    }
}
