//! Phi-accrual failure detection: relates the silence of a member to its usual heartbeat interval.
//!
//! After Hayashibara et al., "The phi accrual failure detector" (2004), in the form that the
//! published `chitchat` crate uses: intervals between heartbeats are assumed to be exponentially
//! distributed, so that phi is the time since the last heartbeat divided by the mean interval. The
//! mean includes five samples of a prior.
//!
//! A member is found live by the heartbeat that completes a first interval, and dead in a round
//! only. The detector judges; it sends nothing and removes no state of a member. Invariant: once a
//! member has been judged, it is either live or dead, and it is live only if an interval between two
//! of its heartbeats was measured.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::FailureDetectorConfig;
use super::order::{self, Members};
use crate::message::ChitchatId;

/// A member that has left is mentioned for this part of the time for which a dead one is: all members learn of it at
/// once, and not one by one.
const LEFT_PART: u32 = 3;
/// The number of samples that the prior counts for.
const PRIOR_WEIGHT: f64 = 5.0;

#[derive(Debug)]
pub(super) struct FailureDetector {
    config: FailureDetectorConfig,
    records: Members<Record>,
}

/// The record of a member whose heartbeat has risen, or which was judged.
#[derive(Debug, Default)]
struct Record {
    window: Window,
    judgement: Judgement,
    /// Since when the member is dead, if the last judgement found it dead.
    died: Option<Duration>,
    /// True if it is dead because it has left, as it or another member has said.
    has_left: bool,
}

/// Whether a member is live, and how this was found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    #[default]
    Dead,
    /// Found live by a heartbeat, after the last judgement.
    Risen,
    /// Found live by the last judgement.
    Live,
}

/// The most recent intervals between the heartbeats of a member.
#[derive(Debug, Default)]
struct Window {
    seconds: VecDeque<f64>,
    sum: f64,
    last_heartbeat: Option<Duration>,
}

impl FailureDetector {
    pub(super) fn new(config: FailureDetectorConfig) -> Self {
        Self {
            config,
            records: Members::new(),
        }
    }

    /// Notes that the heartbeats of `ids` have risen. `ids` must be sorted. Returns true if one of
    /// them is live that was not before.
    pub(super) fn heartbeats<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a ChitchatId>,
        now: Duration,
    ) -> bool {
        let config = &self.config;
        let (mut changed, mut unknown) = (false, Vec::new());
        let ids = ids.map(|id| (id, ()));
        order::meet(&mut self.records, ids, |id, record, ()| match record {
            Some(record) => changed |= record.heartbeat(config, now),
            None => {
                let mut record = Record::default();
                changed |= record.heartbeat(config, now);
                unknown.push((id.clone(), record));
            }
        });
        order::insert_all(&mut self.records, unknown);
        changed
    }

    /// Judges `ids` again, which must be sorted. Returns true if one of them is newly found live or
    /// dead.
    pub(super) fn judge<'a>(
        &mut self,
        ids: impl Iterator<Item = &'a ChitchatId>,
        now: Duration,
    ) -> bool {
        let (mut changed, mut unknown) = (false, Vec::new());
        let config = &self.config;
        let ids = ids.map(|id| (id, ()));
        order::meet(&mut self.records, ids, |id, record, ()| match record {
            Some(record) => changed |= record.judge(config, now),
            None => {
                let mut record = Record::default();
                changed |= record.judge(config, now);
                unknown.push((id.clone(), record));
            }
        });
        order::insert_all(&mut self.records, unknown);
        changed
    }

    pub(super) fn is_live(&self, id: &ChitchatId) -> bool {
        let record = self.records.get(id);
        record.is_some_and(|record| record.judgement != Judgement::Dead)
    }

    /// Notes that members have left. Returns true if one of them had not before.
    pub(super) fn depart(&mut self, ids: &[ChitchatId], now: Duration) -> bool {
        let mut changed = false;
        for id in ids {
            let record = self.records.entry(id.clone()).or_default();
            changed |= record.depart(now);
        }
        changed
    }

    /// Notes that the first of each pair was replaced by the second, the next generation of the same member, which has just
    /// been heard. If the old one was live or had left, the new one is live at once: a page that is reloaded is never
    /// found dead. The pairs must be sorted by the second. Takes time in proportion to all members. Nothing is known of the
    /// old ones afterwards, which the caller forgets.
    pub(super) fn succeed(&mut self, pairs: &[(&ChitchatId, &ChitchatId)], now: Duration) {
        let mut successors = Vec::with_capacity(pairs.len());
        for (old, new) in pairs {
            let Some(record) = self.records.get_mut(old).map(std::mem::take) else {
                continue;
            };
            if record.judgement != Judgement::Dead || record.has_left {
                successors.push(((*new).clone(), record));
            }
        }
        let news = order::set(successors.iter().map(|(new, _)| new.clone()));
        self.records.retain(|id, _| !news.contains(id));
        for (_, record) in &mut successors {
            record.heartbeat(&self.config, now);
        }
        order::insert_all(&mut self.records, successors);
    }

    /// Returns true if `id` has left, and no higher heartbeat has shown since that it is alive.
    pub(super) fn has_left(&self, id: &ChitchatId) -> bool {
        self.records.get(id).is_some_and(|record| record.has_left)
    }

    /// Returns a number that is higher for members that take precedence: live ones, and then those that have
    /// left. A newcomer, which is not live yet, has the lowest, so that a page that is reloaded is never
    /// shown as dead.
    pub(super) fn precedence(&self, id: &ChitchatId) -> u8 {
        self.records.get(id).map_or(0, |record| {
            if record.judgement != Judgement::Dead {
                2
            } else {
                u8::from(record.has_left)
            }
        })
    }

    /// Returns when the heartbeat of `id` has last risen.
    pub(super) fn last_heartbeat(&self, id: &ChitchatId) -> Option<Duration> {
        self.records.get(id)?.window.last_heartbeat
    }

    /// Returns the members that the last judgement found live, to select from.
    ///
    /// Those found live since then are not among them. As soon as one member is live, the selection
    /// prefers it to all that are not; so at the start of a cluster the few that are found live
    /// first would be selected again and again, and the others would wait for their heartbeats.
    pub(super) fn judged_live(&self) -> impl Iterator<Item = &ChitchatId> {
        let is_live = |record: &Record| record.judgement == Judgement::Live;
        let live = self.records.iter().filter(move |(_, r)| is_live(r));
        live.map(|(id, _)| id)
    }

    /// Returns the members that the last judgement found dead.
    pub(super) fn judged_dead(&self) -> impl Iterator<Item = &ChitchatId> {
        let dead = self.records.iter().filter(|(_, r)| r.died.is_some());
        dead.map(|(id, _)| id)
    }

    /// Returns true if `id` has been dead for more than half of the time after which it is
    /// forgotten. Such a member is left out of digests and deltas, so that every member can forget
    /// it without learning of it again.
    pub(super) fn is_scheduled_for_deletion(&self, id: &ChitchatId, now: Duration) -> bool {
        let half = self.config.dead_node_grace_period / 2;
        let died = self.records.get(id).and_then(|record| record.died);
        died.is_some_and(|died| now.saturating_sub(died) > half)
    }

    /// Returns a function that says whether a member is left out of messages to members that hear of it
    /// for no longer than `silence` after it has died, if that is limited.
    pub(super) fn omission(
        &self,
        silence: Option<Duration>,
        now: Duration,
    ) -> impl Fn(&ChitchatId) -> bool {
        // In a cluster without dead members, nobody is searched for.
        let is_dead =
            |record: &Record| record.judgement == Judgement::Dead || record.died.is_some();
        let has_dead = self.records.values().any(is_dead);
        move |id| {
            has_dead
                && (silence.is_some_and(|silence| self.is_silent(id, silence, now))
                    || self.is_scheduled_for_deletion(id, now))
        }
    }

    /// Returns true if `id` is dead and has been silent for longer than `after`.
    fn is_silent(&self, id: &ChitchatId, after: Duration, now: Duration) -> bool {
        self.records.get(id).is_some_and(|record| {
            let after = if record.has_left {
                after / LEFT_PART
            } else {
                after
            };
            let since = record.died.max(record.window.last_heartbeat);
            let is_dead = record.judgement == Judgement::Dead;
            is_dead && since.is_some_and(|since| now.saturating_sub(since) > after)
        })
    }

    /// Returns up to `most` members that have been dead the longest, of those for which `may` returns true, sorted by
    /// id.
    pub(super) fn longest_dead(
        &self,
        most: usize,
        may: impl Fn(&ChitchatId) -> bool,
    ) -> Vec<ChitchatId> {
        if most == 0 {
            return Vec::new();
        }
        let records = self.records.iter().filter(|(id, _)| may(id));
        let dead = records.filter_map(|(id, record)| {
            let died = record
                .died
                .filter(|_| record.judgement == Judgement::Dead)?;
            Some((id, died))
        });
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let by_age = order::sorted(dead.collect(), |(_, died)| (false, micros(*died), 0));
        let longest = by_age.into_iter().take(most).map(|(id, _)| id);
        let longest = order::set(longest);
        longest.into_iter().cloned().collect()
    }

    /// Removes members, which must be sorted by id.
    pub(super) fn forget(&mut self, ids: &[ChitchatId]) {
        self.records.retain(|id, _| ids.binary_search(id).is_err());
    }

    /// Removes and returns the members that have been dead for the whole grace period, or have left and been so for
    /// `left_for`, sorted by id.
    pub(super) fn take_forgotten(&mut self, left_for: Duration, now: Duration) -> Vec<ChitchatId> {
        let grace_of_dead = self.config.dead_node_grace_period;
        let mut forgotten = Vec::new();
        self.records.retain(|id, record| {
            let grace = if record.has_left {
                left_for.min(grace_of_dead)
            } else {
                grace_of_dead
            };
            let is_over = |died| now.saturating_sub(died) >= grace;
            let is_kept = !record.died.is_some_and(is_over);
            if !is_kept {
                forgotten.push(id.clone());
            }
            is_kept
        });
        forgotten
    }

    /// Returns the silence after which `id` would be found dead, given the intervals measured so
    /// far, or `None` if none was measured.
    pub(super) fn timeout(&self, id: &ChitchatId) -> Option<Duration> {
        let window = &self.records.get(id)?.window;
        let mean = window.mean(self.config.initial_interval)?;
        Duration::try_from_secs_f64(mean * self.config.phi_threshold).ok()
    }

    /// Excludes the last `pause` from the silence of the members for which `is_excused` returns true:
    /// this process was suspended, or nothing could reach it.
    pub(super) fn forgive(
        &mut self,
        pause: Duration,
        now: Duration,
        is_excused: impl Fn(&ChitchatId) -> bool,
    ) {
        let excused = self.records.iter_mut().filter(|(id, _)| is_excused(id));
        for (_, record) in excused {
            if let Some(last) = &mut record.window.last_heartbeat {
                *last = last.saturating_add(pause).min(now);
            }
        }
    }
}

impl Record {
    /// Notes a heartbeat. Returns true if the member is live by it and was not before.
    fn heartbeat(&mut self, config: &FailureDetectorConfig, now: Duration) -> bool {
        self.window.heartbeat(config, now);
        // Phi is 0 at the moment of a heartbeat, if there is an interval to relate the silence to.
        let rises = self.judgement == Judgement::Dead && !self.window.seconds.is_empty();
        if rises {
            self.judgement = Judgement::Risen;
        }
        if rises && std::mem::take(&mut self.has_left) {
            // It was live and is back, for example since a proxy has restarted. Changes reach it at once.
            self.judgement = Judgement::Live;
            self.died = None;
        }
        rises
    }

    /// Notes that the member has left. Returns true if it had not before.
    fn depart(&mut self, now: Duration) -> bool {
        let is_new = !self.has_left;
        self.judgement = Judgement::Dead;
        self.window.forget_intervals();
        self.has_left = true;
        if is_new || self.died.is_none() {
            self.died = Some(now);
        }
        is_new
    }

    /// Returns true if the member is newly found live or dead.
    fn judge(&mut self, config: &FailureDetectorConfig, now: Duration) -> bool {
        let before = self.judgement;
        let phi = self.window.phi(config.initial_interval, now);
        if phi.is_some_and(|phi| phi <= config.phi_threshold) {
            self.judgement = Judgement::Live;
            self.died = None;
            return before == Judgement::Dead;
        }
        self.judgement = Judgement::Dead;
        // A member that comes back is judged by intervals measured since then.
        self.window.forget_intervals();
        let is_new = before != Judgement::Dead || self.died.is_none();
        if is_new {
            self.died = Some(now);
        }
        is_new
    }
}

impl Window {
    fn heartbeat(&mut self, config: &FailureDetectorConfig, now: Duration) {
        if let Some(last) = self.last_heartbeat {
            let interval = now.saturating_sub(last);
            if interval <= config.max_interval {
                self.push(interval, config.sampling_window_size);
            }
        }
        self.last_heartbeat = Some(now);
    }

    fn push(&mut self, interval: Duration, capacity: usize) {
        if self.seconds.len() >= capacity.max(1)
            && let Some(oldest) = self.seconds.pop_front()
        {
            self.sum -= oldest;
        }
        let seconds = interval.as_secs_f64();
        self.seconds.push_back(seconds);
        self.sum += seconds;
    }

    /// Forgets all intervals and releases their memory: a member may be dead for long.
    fn forget_intervals(&mut self) {
        self.seconds = VecDeque::new();
        self.sum = 0.0;
    }

    fn mean(&self, prior: Duration) -> Option<f64> {
        if self.seconds.is_empty() {
            // One heartbeat is no evidence: it may belong to a member that died long ago.
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a window holds far fewer than 2^52 samples"
        )]
        let samples = self.seconds.len() as f64;
        Some((self.sum + PRIOR_WEIGHT * prior.as_secs_f64()) / (samples + PRIOR_WEIGHT))
    }

    fn phi(&self, prior: Duration, now: Duration) -> Option<f64> {
        let silence = now.saturating_sub(self.last_heartbeat?);
        Some(silence.as_secs_f64() / self.mean(prior)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ChitchatId {
        ChitchatId::new("a", 1, ([127, 0, 0, 1], 1).into())
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn beating(heartbeats: u64) -> FailureDetector {
        let mut detector = FailureDetector::new(FailureDetectorConfig::default());
        for at in 1..=heartbeats {
            detector.heartbeats([&id()].into_iter(), seconds(at));
        }
        detector
    }

    #[test]
    fn a_member_is_live_once_an_interval_was_measured() {
        let mut detector = beating(1);
        detector.judge([&id()].into_iter(), seconds(1));
        assert!(!detector.is_live(&id()));
        assert!(detector.heartbeats([&id()].into_iter(), seconds(2)));
        assert!(detector.is_live(&id()));
        // Neither a further heartbeat nor the judgement changes that.
        assert!(!detector.heartbeats([&id()].into_iter(), seconds(3)));
        assert!(!detector.judge([&id()].into_iter(), seconds(3)));
        assert!(detector.is_live(&id()));
    }

    #[test]
    fn a_member_that_is_found_live_is_selected_as_such_from_the_next_round_on() {
        let mut detector = beating(1);
        detector.judge([&id()].into_iter(), seconds(1));
        detector.heartbeats([&id()].into_iter(), seconds(2));
        assert_eq!(detector.judged_live().count(), 0);
        assert_eq!(detector.judged_dead().count(), 1);
        detector.judge([&id()].into_iter(), seconds(2));
        assert_eq!(detector.judged_live().count(), 1);
        assert_eq!(detector.judged_dead().count(), 0);
    }

    #[test]
    fn a_member_that_falls_silent_before_it_was_judged_is_dead_from_then_on() {
        let mut detector = beating(1);
        detector.judge([&id()].into_iter(), seconds(1));
        detector.heartbeats([&id()].into_iter(), seconds(2));
        assert!(detector.judge([&id()].into_iter(), seconds(100)));
        assert!(!detector.is_live(&id()));
        let half = seconds(12 * 3600);
        assert!(!detector.is_scheduled_for_deletion(&id(), seconds(100) + half));
        assert!(detector.is_scheduled_for_deletion(&id(), seconds(101) + half));
    }

    #[test]
    fn a_member_that_is_known_longer_is_found_dead_sooner_because_the_prior_counts_less() {
        // Mean (n + 25) / (n + 5) seconds after n intervals of 1 s; dead at 8 times that.
        for (intervals, timeout) in [(1, 8.0 * 26.0 / 6.0), (95, 8.0 * 120.0 / 100.0)] {
            let mut detector = beating(intervals + 1);
            assert!(detector.is_live(&id()));
            let actual = detector.timeout(&id()).unwrap().as_secs_f64();
            assert!((actual - timeout).abs() < 1e-6, "{actual} for {timeout}");
            let last = seconds(intervals + 1).as_secs_f64();
            let just_before = Duration::from_secs_f64(last + timeout - 0.01);
            assert!(!detector.judge([&id()].into_iter(), just_before));
            assert!(detector.judge([&id()].into_iter(), just_before + seconds(1)));
            assert!(!detector.is_live(&id()));
        }
    }

    #[test]
    fn intervals_above_the_maximum_are_not_counted() {
        let mut detector = beating(1);
        detector.heartbeats([&id()].into_iter(), seconds(60));
        assert!(detector.timeout(&id()).is_none());
    }

    #[test]
    fn a_member_that_comes_back_needs_a_new_interval_to_be_live() {
        let mut detector = beating(10);
        detector.judge([&id()].into_iter(), seconds(10));
        detector.judge([&id()].into_iter(), seconds(100));
        assert_eq!(detector.judged_dead().count(), 1);
        detector.heartbeats([&id()].into_iter(), seconds(101));
        detector.judge([&id()].into_iter(), seconds(101));
        assert!(!detector.is_live(&id()));
        detector.heartbeats([&id()].into_iter(), seconds(102));
        detector.judge([&id()].into_iter(), seconds(102));
        assert!(detector.is_live(&id()));
        assert_eq!(detector.judged_dead().count(), 0);
    }

    #[test]
    fn a_dead_member_is_left_out_after_half_the_grace_period_and_forgotten_after_all_of_it() {
        let mut detector = beating(10);
        detector.judge([&id()].into_iter(), seconds(1000));
        let day = seconds(24 * 3600);
        assert!(!detector.is_scheduled_for_deletion(&id(), seconds(1000) + day / 2));
        assert!(detector.is_scheduled_for_deletion(&id(), seconds(1001) + day / 2));
        assert!(
            detector
                .take_forgotten(Duration::MAX, seconds(999) + day)
                .is_empty()
        );
        assert_eq!(
            detector.take_forgotten(Duration::MAX, seconds(1000) + day),
            [id()]
        );
    }

    #[test]
    fn the_members_that_are_dead_the_longest_are_found_first() {
        let mut detector = FailureDetector::new(FailureDetectorConfig::default());
        let id = |n: u16| ChitchatId::new("a", n.into(), ([127, 0, 0, 1], n).into());
        for (n, at) in [(1, 30), (2, 10), (3, 20), (4, 5)] {
            detector.judge([&id(n)].into_iter(), seconds(at));
        }
        for at in 31..34 {
            detector.heartbeats([&id(4)].into_iter(), seconds(at));
        }
        assert_eq!(detector.longest_dead(1, |_| true), [id(2)]);
        assert_eq!(detector.longest_dead(9, |_| true), [id(1), id(2), id(3)]);
        detector.forget(&[id(1), id(2)]);
        assert_eq!(detector.longest_dead(9, |_| true), [id(3)]);
    }

    #[test]
    fn a_dead_member_is_silent_from_its_last_sign_of_life_on() {
        let mut detector = beating(10);
        detector.judge([&id()].into_iter(), seconds(1000));
        let is_silent = |d: &FailureDetector, at| d.is_silent(&id(), seconds(30), seconds(at));
        assert!(!is_silent(&detector, 1030) && is_silent(&detector, 1031));
        detector.heartbeats([&id()].into_iter(), seconds(1040));
        assert!(!is_silent(&detector, 1070) && is_silent(&detector, 1071));
        detector.heartbeats([&id()].into_iter(), seconds(1041));
        assert!(!is_silent(&detector, 2000), "it is live");
    }

    #[test]
    fn a_pause_of_this_process_finds_no_member_dead() {
        let mut detector = beating(10);
        detector.judge([&id()].into_iter(), seconds(10));
        detector.forgive(seconds(600), seconds(611), |_| true);
        detector.judge([&id()].into_iter(), seconds(611));
        assert!(detector.is_live(&id()));
    }

    #[test]
    fn the_window_is_bounded_and_its_sum_is_the_sum_of_its_samples() {
        let mut window = Window::default();
        for n in 1..=1000 {
            window.push(Duration::from_millis(n), 10);
        }
        assert_eq!(window.seconds.len(), 10);
        let sum: f64 = window.seconds.iter().sum();
        assert!((window.sum - sum).abs() < 1e-9);
    }

    #[test]
    fn a_member_without_a_heartbeat_is_found_dead_at_its_first_judgement() {
        let mut detector = beating(0);
        assert!(detector.judge([&id()].into_iter(), seconds(1)));
        assert!(!detector.judge([&id()].into_iter(), seconds(2)));
        assert_eq!(detector.judged_dead().count(), 1);
    }

    #[test]
    fn a_member_that_fell_silent_is_omitted_even_if_it_was_never_judged() {
        let mut detector = beating(1);
        let omits = |detector: &FailureDetector, at| {
            detector.omission(Some(seconds(30)), seconds(at))(&id())
        };
        assert!(!omits(&detector, 31) && omits(&detector, 32));
        detector.judge([&id()].into_iter(), seconds(100));
        assert!(!omits(&detector, 130) && omits(&detector, 131));
        let day = seconds(24 * 3600);
        assert!(!detector.omission(None, day / 2)(&id()));
        assert!(detector.omission(None, day)(&id()));
    }
}
