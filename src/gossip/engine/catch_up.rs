//! Continues exchanges with a peer that has more changes than fit into one message.
//!
//! A newcomer would otherwise receive one message full of changes per peer and round. Instead, it
//! asks the same peer again as soon as an answer has arrived. This file tells whom to ask again, and
//! when; it builds no message. Invariants: one exchange is continued at a time, a peer that claims to have
//! more than it sends is asked for the same once more at most, and one that is slow or never has sent everything
//! keeps no other from being asked for longer than its turn.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::message::{ChitchatId, Version};

/// The shortest time between two questions: a hundred full messages per second.
const SPACING: Duration = Duration::from_millis(10);
/// The bytes of changes that an answer must contain for the exchange to go on for sure. One that was cut off is
/// shorter only if the next change nearly fills a message.
const MIN_PROGRESS: usize = 2 << 10;

/// The number of answers in a row with little that is new after which the exchange ends. There is one
/// if another peer has sent the same in the meantime.
const MOST_FRUITLESS: u32 = 2;

/// After this time it is the turn of the next peer that has more. A peer that takes long to answer, or never has
/// sent everything, would keep the others from being asked.
const TURN: Duration = Duration::from_millis(250);
/// The turn of a leaf, which has little to send: a few kilobytes of its own.
const TURN_OF_LEAF: Duration = Duration::from_millis(50);
/// The number of peers that can wait for their turn, and that of leaves among them. Others are asked in rounds only.
const MOST_WAITING: usize = 64;
const MOST_LEAVES_WAITING: usize = 16;

/// The exchange that is being continued, and the next ones.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// The time after which an answer is not expected any more.
    patience: Duration,
    /// The last question, until it is answered.
    asked: Option<Asked>,
    /// The peers to ask next, each of which has more, in the order of their turns.
    waiting: VecDeque<Waiting>,
    /// The peer that was asked last, and when its turn began.
    turn: Option<Turn>,
    last: Option<Duration>,
    /// A change that the sender of the last Syn has and that was missing here, and the same of leaves.
    claim: Option<Claim>,
    claim_of_leaf: Option<Claim>,
    /// The last change that was asked for in vain. A peer may list a member of which it sends nothing, or have a
    /// change for which there is no room in its answers or here.
    in_vain: Option<Claim>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    peer: SocketAddr,
    at: Duration,
    /// The number of answers in a row that contained little that was new.
    fruitless: u32,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    peer: SocketAddr,
    is_leaf: bool,
    since: Duration,
}

/// A peer that has more, and the time from which on it may be asked.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    peer: SocketAddr,
    due: Duration,
    fruitless: u32,
    is_leaf: bool,
}

/// The kind of a peer that has more to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Leaf,
    /// A node of the published crate, or one of which that is not known.
    Other,
    /// It is of this crate, and no leaf.
    Ours,
}

/// What a peer has said that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) from: SocketAddr,
    pub(super) id: ChitchatId,
    pub(super) version: Version,
}

impl CatchUp {
    /// Returns a value for a member that expects answers within `patience`.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            asked: None,
            waiting: VecDeque::new(),
            turn: None,
            last: None,
            claim: None,
            claim_of_leaf: None,
            in_vain: None,
        }
    }

    /// Returns true if a message of `from` answers a question of a continued exchange.
    pub(super) fn is_answer(&self, from: SocketAddr) -> bool {
        self.asked.is_some_and(|asked| asked.peer == from)
    }

    /// Returns true if an exchange with `peer` is going on, so that a round need not open another one.
    pub(super) fn is_going_on(&self, peer: SocketAddr, now: Duration) -> bool {
        let mut waiting = self.waiting.iter();
        let was_last = waiting.find(|waiting| self.was_asked_last(waiting.peer));
        let next = was_last.or(self.waiting.front());
        let is_next = next.is_some_and(|next| next.peer == peer);
        let is_expected = |asked: Asked| now < asked.at.saturating_add(self.patience);
        is_next || self.is_answer(peer) && self.asked.is_some_and(is_expected)
    }

    /// Notes a change that the sender of a Syn has and that is missing here, if there is one.
    /// That of a leaf takes no other's place.
    pub(super) fn note_claim(&mut self, claim: Option<Claim>, is_leaf: bool) {
        if claim.is_some() {
            match is_leaf {
                true => self.claim_of_leaf = claim,
                false => self.claim = claim,
            }
        }
    }

    /// Returns and forgets what `from` has claimed to have.
    pub(super) fn take_claim(&mut self, from: SocketAddr) -> Option<Claim> {
        let mut claims = [&mut self.claim, &mut self.claim_of_leaf].into_iter();
        claims.find_map(|claim| claim.take_if(|claim| claim.from == from))
    }

    /// Notes that a peer has sent new changes of `len` bytes and has more, of which `claim` is one. If it answers
    /// quickly because it is of this crate, it is asked again at once, and otherwise after as much time as it took to
    /// answer.
    pub(super) fn note_progress(
        &mut self,
        claim: Claim,
        len: usize,
        source: Source,
        now: Duration,
    ) {
        let from = claim.from;
        if self.waiting.iter().any(|waiting| waiting.peer == from) {
            return;
        }
        let answered = self.asked.filter(|asked| asked.peer == from);
        let fruitless = if len < MIN_PROGRESS {
            let was_in_vain = self
                .in_vain
                .as_ref()
                .is_some_and(|vain| vain.is_same(&claim));
            let before = answered.map(|answered| answered.fruitless);
            if before.map_or(was_in_vain, |before| before >= MOST_FRUITLESS) {
                self.in_vain = Some(claim);
                self.note_end(from);
                return;
            }
            // One more answer shows whether the first one was cut off before a change that fills a message.
            before.map_or(MOST_FRUITLESS, |before| before + 1)
        } else {
            0
        };
        let mut took = Duration::ZERO;
        if let Some(answered) = answered {
            self.asked = None;
            took = now.saturating_sub(answered.at);
        }
        let rest = match source {
            Source::Leaf | Source::Ours => Duration::ZERO,
            Source::Other => took,
        };
        let is_leaf = source == Source::Leaf;
        let leaves = self.waiting.iter().filter(|waiting| waiting.is_leaf);
        let may_wait = !is_leaf || leaves.count() < MOST_LEAVES_WAITING;
        if may_wait && self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(Waiting {
                peer: from,
                due: now.saturating_add(rest),
                fruitless,
                is_leaf,
            });
        }
    }

    /// Takes the leaves out of the line for which `is_gone` returns true.
    pub(super) fn forget_leaves(&mut self, is_gone: impl Fn(SocketAddr) -> bool) {
        self.waiting
            .retain(|waiting| !(waiting.is_leaf && is_gone(waiting.peer)));
    }

    /// Asks `peer`, if it has more, no sooner than at `until`.
    pub(super) fn postpone(&mut self, peer: SocketAddr, until: Duration) {
        if let Some(waiting) = self.waiting.iter_mut().find(|next| next.peer == peer) {
            waiting.due = until.max(waiting.due);
        }
    }

    /// Notes that `from` has sent nothing new, or has nothing more.
    pub(super) fn note_end(&mut self, from: SocketAddr) {
        self.asked.take_if(|asked| asked.peer == from);
    }

    /// Returns when the next question is due.
    pub(super) fn due(&self) -> Option<Duration> {
        let dues = (0..self.waiting.len()).filter_map(|place| self.due_of(place));
        dues.min()
    }

    /// Returns when the peer at this place in line may be asked. One that has its turn goes on while it lasts,
    /// and as long as no other one waits.
    fn due_of(&self, place: usize) -> Option<Duration> {
        let Waiting { peer, due, .. } = *self.waiting.get(place)?;
        let spaced = self.last.map(|last| last.saturating_add(SPACING));
        let due = due.max(spaced.unwrap_or_default());
        let goes_on = |turn: &Turn| {
            let mut waiting = self.waiting.iter();
            self.asked.is_some() || waiting.any(|waiting| waiting.peer == turn.peer)
        };
        let of_another = self.turn.filter(|turn| turn.peer != peer && goes_on(turn));
        Some(of_another.map_or(due, |turn| due.max(turn.end())))
    }

    fn was_asked_last(&self, peer: SocketAddr) -> bool {
        self.turn.is_some_and(|turn| turn.peer == peer)
    }

    /// Returns the peer to ask now, and notes that it is asked.
    pub(super) fn ask(&mut self, now: Duration) -> Option<SocketAddr> {
        let turn = self.turn.filter(|turn| now < turn.end());
        let is_due = |place: &usize| self.due_of(*place).is_some_and(|due| due <= now);
        // The one whose turn it is, or else one whose turn it was not.
        let is_preferred = |place: &usize| {
            let waiting = self.waiting.get(*place);
            waiting.is_some_and(|one| self.was_asked_last(one.peer) == turn.is_some())
        };
        let mut due = (0..self.waiting.len()).filter(is_due);
        let first = due.clone().next();
        // After a leaf, it is the turn of one that is none.
        let is_other = |place: &usize| self.waiting.get(*place).is_some_and(|one| !one.is_leaf);
        let was_leaf = self.turn.is_some_and(|turn| turn.is_leaf);
        let mut waiting = self.waiting.iter();
        let goes_on = turn.is_some() && waiting.any(|one| self.was_asked_last(one.peer));
        let other = due.clone().find(is_other);
        let other = other.filter(|_| was_leaf && !goes_on);
        let place = other.or_else(|| due.find(is_preferred)).or(first)?;
        let Waiting {
            peer,
            fruitless,
            is_leaf,
            ..
        } = self.waiting.remove(place)?;
        if turn.is_none_or(|turn| turn.peer != peer) {
            self.turn = Some(Turn {
                peer,
                is_leaf,
                since: now,
            });
        }
        self.asked = Some(Asked {
            peer,
            at: now,
            fruitless,
        });
        self.last = Some(now);
        Some(peer)
    }
}

impl Claim {
    /// Returns whether both claims name the same change; the peer is ignored.
    fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.version == other.version
    }
}

impl Turn {
    fn end(self) -> Duration {
        let length = if self.is_leaf { TURN_OF_LEAF } else { TURN };
        self.since.saturating_add(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn addr(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    fn claim(from: u16) -> Claim {
        Claim {
            from: addr(from),
            id: ChitchatId::new("a", 1, addr(99)),
            version: 9,
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_peer_that_has_more_is_asked_again_at_once_and_at_most_a_hundred_times_a_second() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(claim(1), 60_000, Source::Ours, ms(5));
        assert_eq!(catch_up.ask(ms(5)), Some(addr(1)));
        assert!(catch_up.is_answer(addr(1)) && !catch_up.is_answer(addr(2)));
        catch_up.note_progress(claim(1), 60_000, Source::Ours, ms(7));
        assert_eq!((catch_up.ask(ms(7)), catch_up.due()), (None, Some(ms(15))));
        assert_eq!(catch_up.ask(ms(15)), Some(addr(1)));
        catch_up.note_end(addr(1));
        assert!(!catch_up.is_answer(addr(1)) && catch_up.due().is_none());
    }

    #[test]
    fn a_peer_that_may_be_of_the_published_crate_gets_as_much_time_for_others() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(claim(1), 60_000, Source::Other, ms(5));
        assert_eq!(catch_up.ask(ms(5)), Some(addr(1)));
        catch_up.note_progress(claim(1), 60_000, Source::Other, ms(45));
        assert_eq!(catch_up.due(), Some(ms(85)));
    }

    #[test]
    fn one_peer_is_asked_at_a_time_unless_it_does_not_answer() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(claim(1), 60_000, Source::Ours, ms(0));
        catch_up.note_progress(claim(2), 60_000, Source::Ours, ms(0));
        assert!(catch_up.is_going_on(addr(1), ms(0)), "it is asked next");
        assert!(!catch_up.is_going_on(addr(2), ms(0)));
        assert_eq!(catch_up.ask(ms(0)), Some(addr(1)));
        // The other one has said that it has more, and waits until the turn is over.
        assert_eq!(
            (catch_up.ask(ms(249)), catch_up.due()),
            (None, Some(ms(250)))
        );
        assert!(catch_up.is_going_on(addr(1), ms(1_999)));
        assert!(!catch_up.is_going_on(addr(1), ms(2_000)));
        assert_eq!(catch_up.ask(ms(250)), Some(addr(2)));
        assert!(catch_up.is_answer(addr(2)) && !catch_up.is_answer(addr(1)));
    }

    #[test]
    fn peers_that_have_more_are_asked_in_turns_and_those_with_nothing_left_lose_theirs() {
        let mut catch_up = CatchUp::new(PATIENCE);
        let mut asked = Vec::new();
        for peer in 1..=3 {
            catch_up.note_progress(claim(peer), 60_000, Source::Ours, ms(0));
        }
        for at in 0..100 {
            let now = ms(at * 10);
            let Some(peer) = catch_up.ask(now) else {
                continue;
            };
            asked.push((at, peer.port()));
            if peer == addr(2) && at > 30 {
                catch_up.note_end(peer);
            } else {
                catch_up.note_progress(claim(peer.port()), 60_000, Source::Ours, now);
            }
        }
        asked.dedup_by_key(|(_, peer)| *peer);
        // The second one ends in its turn. Nobody is asked twice in the meantime.
        assert_eq!(asked, [(0, 1), (25, 2), (32, 3), (57, 1), (82, 3)]);
    }

    #[test]
    fn leaves_take_a_part_of_the_line_and_short_turns_until_they_are_gone() {
        let mut catch_up = CatchUp::new(PATIENCE);
        for leaf in 100..200 {
            catch_up.note_progress(claim(leaf), 60_000, Source::Leaf, ms(0));
        }
        assert_eq!(catch_up.waiting.len(), MOST_LEAVES_WAITING);
        for peer in 1..=3 {
            catch_up.note_progress(claim(peer), 60_000, Source::Ours, ms(0));
        }
        // Nobody answers. After each leaf comes one that is none.
        let mut asked = Vec::new();
        for at in 0..200 {
            let peer = catch_up.ask(ms(at * 10));
            asked.extend(peer.map(|peer| (at * 10, peer.port())));
        }
        let first = [
            (0, 100),
            (50, 1),
            (300, 101),
            (350, 2),
            (600, 102),
            (650, 3),
        ];
        assert_eq!(asked[..6], first);
        assert_eq!(asked[6..8], [(900, 103), (950, 104)]);
        for peer in [1, 100, 101] {
            let source = if peer < 100 {
                Source::Ours
            } else {
                Source::Leaf
            };
            catch_up.note_progress(claim(peer), 60_000, source, ms(2_000));
        }
        catch_up.forget_leaves(|addr| addr.port() != 101);
        let left: Vec<_> = catch_up.waiting.iter().map(|one| one.peer.port()).collect();
        assert_eq!(left, [1, 101]);
    }

    #[test]
    fn a_peer_that_has_much_keeps_most_of_the_time_beside_leaves_that_never_answer() {
        let mut catch_up = CatchUp::new(PATIENCE);
        let mut asked = 0;
        for at in 0..1_000 {
            let now = ms(at * 10);
            for leaf in 100..116 {
                catch_up.note_progress(claim(leaf), 60_000, Source::Leaf, now);
            }
            if at == 0 || catch_up.is_answer(addr(1)) {
                catch_up.note_progress(claim(1), 60_000, Source::Ours, now);
            }
            asked += u32::from(catch_up.ask(now) == Some(addr(1)));
        }
        // 1,000 without leaves, which get 50 ms of each 300.
        assert!((780..=860).contains(&asked), "{asked}");
    }

    #[test]
    fn leaves_that_end_their_turns_early_and_come_back_take_no_more_time() {
        let mut catch_up = CatchUp::new(PATIENCE);
        let (mut asked, mut answers_at) = (0, ms(0));
        let mut returns_at = [ms(0); 16];
        for at in 0..1_000 {
            let now = ms(at * 10);
            if catch_up.is_answer(addr(1)) {
                catch_up.note_progress(claim(1), 60_000, Source::Ours, now);
            }
            for (leaf, returns_at) in (100..).zip(&mut returns_at) {
                // Each answers after 40 ms that it has nothing, and claims a while later to have more.
                if catch_up.is_answer(addr(leaf)) && now >= answers_at {
                    catch_up.note_end(addr(leaf));
                    *returns_at = now + ms(200);
                }
                if !catch_up.is_answer(addr(leaf)) && now >= *returns_at {
                    catch_up.note_progress(claim(leaf), 60_000, Source::Leaf, now);
                }
            }
            if at == 0 {
                catch_up.note_progress(claim(1), 60_000, Source::Ours, now);
            }
            let peer = catch_up.ask(now);
            asked += u32::from(peer == Some(addr(1)));
            answers_at = peer.map_or(answers_at, |_| now + ms(40));
        }
        assert!((780..=900).contains(&asked), "{asked}");
    }

    #[test]
    fn what_a_leaf_claims_takes_no_place_of_what_others_claim() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_claim(Some(claim(1)), false);
        catch_up.note_claim(Some(claim(2)), true);
        catch_up.note_claim(None, false);
        for from in [2, 1] {
            assert_eq!(catch_up.take_claim(addr(from)), Some(claim(from)));
            assert_eq!(catch_up.take_claim(addr(from)), None);
        }
    }

    #[test]
    fn a_bounded_number_of_peers_wait() {
        let mut catch_up = CatchUp::new(PATIENCE);
        for peer in 0..1_000 {
            catch_up.note_progress(claim(peer), 60_000, Source::Ours, ms(0));
        }
        assert_eq!(catch_up.waiting.len(), MOST_WAITING);
    }

    #[test]
    fn a_peer_whose_answers_contain_nothing_new_is_soon_not_asked_any_more() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(claim(1), 60_000, Source::Ours, ms(0));
        let mut asked = 0;
        for at in 0..100 {
            asked += usize::from(catch_up.ask(ms(at * 10)).is_some());
            catch_up.note_progress(claim(1), 0, Source::Ours, ms(at * 10));
        }
        assert_eq!(asked, 3);
    }

    #[test]
    fn a_peer_that_sends_little_is_asked_once_more_for_the_same_change() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(claim(1), MIN_PROGRESS - 1, Source::Ours, ms(0));
        assert_eq!(catch_up.ask(ms(0)), Some(addr(1)));
        catch_up.note_progress(claim(1), MIN_PROGRESS - 1, Source::Ours, ms(5));
        assert_eq!((catch_up.due(), catch_up.is_answer(addr(1))), (None, false));
        // In later rounds, by whichever peer.
        for from in [1, 2] {
            catch_up.note_progress(claim(from), MIN_PROGRESS - 1, Source::Ours, ms(1_000));
            assert_eq!(catch_up.due(), None);
        }
        let later = Claim {
            version: 10,
            ..claim(2)
        };
        catch_up.note_progress(later, MIN_PROGRESS - 1, Source::Ours, ms(1_000));
        assert_eq!(catch_up.ask(ms(1_000)), Some(addr(2)));
        // It was cut off before a change that nearly fills a message.
        catch_up.note_progress(claim(2), MIN_PROGRESS, Source::Ours, ms(1_005));
        assert_eq!(catch_up.ask(ms(1_010)), Some(addr(2)));
    }

    #[test]
    fn a_claim_is_that_of_its_sender() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_claim(Some(claim(1)), false);
        catch_up.note_claim(None, false);
        assert_eq!(catch_up.take_claim(addr(2)), None);
        assert_eq!(catch_up.take_claim(addr(1)), Some(claim(1)));
    }

    #[test]
    fn a_question_can_be_put_off_and_never_comes_sooner_for_that() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.postpone(addr(1), ms(9));
        assert_eq!(catch_up.due(), None);
        catch_up.note_progress(claim(1), 60_000, Source::Ours, ms(5));
        catch_up.postpone(addr(1), ms(30));
        assert_eq!(catch_up.due(), Some(ms(30)));
        // The work that another peer has caused is none of this one.
        catch_up.postpone(addr(2), ms(900));
        assert_eq!(catch_up.due(), Some(ms(30)));
        catch_up.postpone(addr(1), ms(20));
        assert_eq!(catch_up.due(), Some(ms(30)));
    }
}
