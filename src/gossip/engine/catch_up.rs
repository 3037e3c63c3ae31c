//! Continues exchanges with a peer that has more changes than fit into one message.
//!
//! A newcomer would otherwise receive one message full of changes per peer and round. Instead, it
//! asks the same peer again as soon as an answer has arrived. This file tells whom to ask again, and
//! when; it builds no message. Invariants: one exchange is continued at a time, and a peer that claims
//! to have more than it sends is not asked again.

use std::net::SocketAddr;
use std::time::Duration;

use crate::message::{ChitchatId, Version};

/// The shortest time between two questions: a hundred full messages per second.
const SPACING: Duration = Duration::from_millis(10);
/// The bytes of changes that an answer must contain for the exchange to go on. An answer that was cut
/// off is never shorter.
const MIN_PROGRESS: usize = 2 << 10;

/// The number of answers in a row that contain nothing new after which the exchange ends. There is one
/// if another peer has sent the same in the meantime.
const MOST_FRUITLESS: u32 = 2;

/// The exchange that is being continued, and the next one.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// The time after which an answer is not expected any more.
    patience: Duration,
    /// The last question, until it is answered.
    asked: Option<Asked>,
    /// The peer to ask next, and when.
    next: Option<(SocketAddr, Duration)>,
    last: Option<Duration>,
    /// The number of answers in a row that contained nothing new.
    fruitless: u32,
    /// A change that the sender of the last Syn has and that was missing here.
    claim: Option<Claim>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    peer: SocketAddr,
    at: Duration,
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
            next: None,
            last: None,
            fruitless: 0,
            claim: None,
        }
    }

    /// Returns true if a message of `from` answers a question of a continued exchange.
    pub(super) fn is_answer(&self, from: SocketAddr) -> bool {
        self.asked.is_some_and(|asked| asked.peer == from)
    }

    /// Returns true if an exchange with `peer` is going on, so that a round need not open another one.
    pub(super) fn is_going_on(&self, peer: SocketAddr, now: Duration) -> bool {
        let is_next = self.next.is_some_and(|(next, _)| next == peer);
        let is_expected = |asked: Asked| now < asked.at.saturating_add(self.patience);
        is_next || self.is_answer(peer) && self.asked.is_some_and(is_expected)
    }

    /// Notes a change that the sender of a Syn has and that is missing here, if there is one.
    pub(super) fn note_claim(&mut self, claim: Option<Claim>) {
        if claim.is_some() {
            self.claim = claim;
        }
    }

    /// Returns and forgets what `from` has claimed to have.
    pub(super) fn take_claim(&mut self, from: SocketAddr) -> Option<Claim> {
        self.claim.take_if(|claim| claim.from == from)
    }

    /// Notes that `from` has sent new changes of `len` bytes and has more. If it answers quickly because it
    /// is `ours`, it is asked again at once, and otherwise after as much time as it took to answer.
    pub(super) fn note_progress(
        &mut self,
        from: SocketAddr,
        len: usize,
        ours: bool,
        now: Duration,
    ) {
        let is_busy = self.asked.is_some_and(|asked| {
            asked.peer != from && now < asked.at.saturating_add(self.patience)
        });
        if is_busy || self.next.is_some() {
            return;
        }
        let is_fruitless = len < MIN_PROGRESS;
        if is_fruitless && (!self.is_answer(from) || self.fruitless >= MOST_FRUITLESS) {
            self.note_end(from);
            return;
        }
        self.fruitless = if is_fruitless { self.fruitless + 1 } else { 0 };
        let answered = self.asked.take().filter(|asked| asked.peer == from);
        let took = answered.map_or(Duration::ZERO, |asked| now.saturating_sub(asked.at));
        let rest = if ours { Duration::ZERO } else { took };
        let earliest = self.last.map_or(now, |last| last.saturating_add(SPACING));
        let due = now.saturating_add(rest).max(earliest);
        self.next = Some((from, due));
    }

    /// Asks the next peer no sooner than at `until`.
    pub(super) fn postpone(&mut self, until: Duration) {
        if let Some((_, due)) = &mut self.next {
            *due = until.max(*due);
        }
    }

    /// Notes that `from` has sent nothing new, or has nothing more.
    pub(super) fn note_end(&mut self, from: SocketAddr) {
        self.asked.take_if(|asked| asked.peer == from);
    }

    /// Returns when the next question is due.
    pub(super) fn due(&self) -> Option<Duration> {
        self.next.map(|(_, due)| due)
    }

    /// Returns the peer to ask now, and notes that it is asked.
    pub(super) fn ask(&mut self, now: Duration) -> Option<SocketAddr> {
        let (peer, _) = self.next.take_if(|(_, due)| *due <= now)?;
        self.asked = Some(Asked { peer, at: now });
        self.last = Some(now);
        Some(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn addr(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_peer_that_has_more_is_asked_again_at_once_and_at_most_a_hundred_times_a_second() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(addr(1), 60_000, true, ms(5));
        assert_eq!(catch_up.ask(ms(5)), Some(addr(1)));
        assert!(catch_up.is_answer(addr(1)) && !catch_up.is_answer(addr(2)));
        catch_up.note_progress(addr(1), 60_000, true, ms(7));
        assert_eq!((catch_up.ask(ms(7)), catch_up.due()), (None, Some(ms(15))));
        assert_eq!(catch_up.ask(ms(15)), Some(addr(1)));
        catch_up.note_end(addr(1));
        assert!(!catch_up.is_answer(addr(1)) && catch_up.due().is_none());
    }

    #[test]
    fn a_peer_that_may_be_of_the_published_crate_gets_as_much_time_for_others() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(addr(1), 60_000, false, ms(5));
        assert_eq!(catch_up.ask(ms(5)), Some(addr(1)));
        catch_up.note_progress(addr(1), 60_000, false, ms(45));
        assert_eq!(catch_up.due(), Some(ms(85)));
    }

    #[test]
    fn one_peer_is_asked_at_a_time_unless_it_does_not_answer() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(addr(1), 60_000, true, ms(0));
        catch_up.note_progress(addr(2), 60_000, true, ms(0));
        assert!(catch_up.is_going_on(addr(1), ms(0)), "it is asked next");
        assert!(!catch_up.is_going_on(addr(2), ms(0)));
        assert_eq!(catch_up.ask(ms(0)), Some(addr(1)));
        catch_up.note_progress(addr(2), 60_000, true, ms(1_999));
        assert_eq!(catch_up.due(), None);
        assert!(catch_up.is_going_on(addr(1), ms(1_999)));
        assert!(!catch_up.is_going_on(addr(1), ms(2_000)));
        catch_up.note_progress(addr(2), 60_000, true, ms(2_000));
        assert_eq!(catch_up.ask(ms(2_000)), Some(addr(2)));
    }

    #[test]
    fn a_peer_whose_answers_contain_nothing_new_is_soon_not_asked_any_more() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(addr(1), 60_000, true, ms(0));
        let mut asked = 0;
        for at in 0..100 {
            asked += usize::from(catch_up.ask(ms(at * 10)).is_some());
            catch_up.note_progress(addr(1), 0, true, ms(at * 10));
        }
        assert_eq!(asked, 3);
    }

    #[test]
    fn a_peer_that_sends_little_is_not_asked_again_and_a_claim_is_that_of_its_sender() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.note_progress(addr(1), MIN_PROGRESS - 1, true, ms(0));
        assert_eq!(catch_up.due(), None);
        catch_up.note_progress(addr(1), MIN_PROGRESS, true, ms(0));
        assert_eq!(catch_up.due(), Some(ms(0)));
        let claim = Claim {
            from: addr(1),
            id: ChitchatId::new("a", 1, addr(1)),
            version: 9,
        };
        catch_up.note_claim(Some(claim.clone()));
        catch_up.note_claim(None);
        assert_eq!(catch_up.take_claim(addr(2)), None);
        assert_eq!(catch_up.take_claim(addr(1)), Some(claim));
    }

    #[test]
    fn a_question_can_be_put_off_and_never_comes_sooner_for_that() {
        let mut catch_up = CatchUp::new(PATIENCE);
        catch_up.postpone(ms(9));
        assert_eq!(catch_up.due(), None);
        catch_up.note_progress(addr(1), 60_000, true, ms(5));
        catch_up.postpone(ms(30));
        assert_eq!(catch_up.due(), Some(ms(30)));
        catch_up.postpone(ms(20));
        assert_eq!(catch_up.due(), Some(ms(30)));
    }
}
