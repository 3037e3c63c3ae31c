//! Records which members answer the Syns of this member.
//!
//! A live member is not always reachable from here: a tab does not speak UDP, and a firewall may
//! stand between two nodes that a third can reach. We learn of such a member from others, and a
//! Syn to it is wasted; in a large cluster behind one bridge that would be nearly all Syns.
//!
//! This file influences which members are selected, and does not judge them: a member is found dead
//! by its heartbeat alone. Invariant: only addresses of members and seeds are remembered.

use std::net::SocketAddr;
use std::time::Duration;

use litemap::LiteMap;

/// The connection to an address may be lost if it does not answer for so many times as long as it may. A
/// member that is busy for a moment answers in that time.
const OVERDUE_AFTER: u32 = 2;

/// The addresses to which a Syn was sent, and whether they answered.
#[derive(Debug)]
pub(super) struct Contacts {
    /// The time within which an answer is expected.
    patience: Duration,
    asked: LiteMap<SocketAddr, Contact>,
}

#[derive(Debug, Default)]
struct Contact {
    has_answered: bool,
    /// The time of the first Syn that has not been answered.
    unanswered_since: Option<Duration>,
    /// It was reported as overdue since the latest Syn.
    is_reported: bool,
}

impl Contact {
    /// Returns true if the first unanswered Syn was sent at least `patience` ago.
    fn is_silent(&self, patience: Duration, now: Duration) -> bool {
        let since = self.unanswered_since;
        since.is_some_and(|since| now >= since.saturating_add(patience))
    }
}

impl Contacts {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            asked: LiteMap::new(),
        }
    }

    /// Notes that a Syn was sent to `addr`.
    pub(super) fn note_asked(&mut self, addr: SocketAddr, now: Duration) {
        let contact = self.asked.entry(addr).or_default();
        contact.unanswered_since.get_or_insert(now);
        contact.is_reported = false;
    }

    /// Notes a message from `addr`. Any message counts as an answer: it shows that the address can
    /// be reached.
    pub(super) fn note_heard(&mut self, addr: SocketAddr) {
        if let Some(contact) = self.asked.get_mut(&addr) {
            contact.has_answered = true;
            contact.unanswered_since = None;
        }
    }

    /// Notes that the connection to `addr` was lost, and a Syn over it perhaps as well. It says
    /// nothing about the member.
    pub(super) fn note_lost(&mut self, addr: SocketAddr) {
        if let Some(contact) = self.asked.get_mut(&addr) {
            contact.unanswered_since = None;
        }
    }

    /// Returns true if an answer of `addr` may still come.
    pub(super) fn may_still_answer(&self, addr: SocketAddr, now: Duration) -> bool {
        let since = self.asked.get(&addr).and_then(|c| c.unanswered_since);
        since.is_some() && !self.is_silent(addr, now)
    }

    /// Returns true if `addr` has not answered in time.
    pub(super) fn is_silent(&self, addr: SocketAddr, now: Duration) -> bool {
        let contact = self.asked.get(&addr);
        contact.is_some_and(|contact| contact.is_silent(self.patience, now))
    }

    /// Returns the addresses that have not answered in time, in their order.
    pub(super) fn silent(&self, now: Duration) -> impl Iterator<Item = &SocketAddr> {
        let asked = self.asked.iter();
        let silent = asked.filter(move |(_, contact)| contact.is_silent(self.patience, now));
        silent.map(|(addr, _)| addr)
    }

    /// Returns true if `addr` has answered before and still has time for its next answer, if one is
    /// due.
    pub(super) fn answers(&self, addr: SocketAddr, now: Duration) -> bool {
        let contact = self.asked.get(&addr);
        contact.is_some_and(|c| c.has_answered) && !self.is_silent(addr, now)
    }

    /// Returns the addresses that have not answered for so long that the connection to them may be lost:
    /// each once for every Syn, at the earliest [`Self::overdue_after`] the first one.
    pub(super) fn take_overdue(&mut self, now: Duration) -> Vec<SocketAddr> {
        let limit = self.overdue_after();
        let mut overdue = Vec::new();
        for (addr, contact) in &mut self.asked {
            let since = contact.unanswered_since.filter(|_| !contact.is_reported);
            if since.is_some_and(|since| now >= since.saturating_add(limit)) {
                contact.is_reported = true;
                overdue.push(*addr);
            }
        }
        overdue
    }

    /// Returns the silence after which the connection to an address may be lost.
    pub(super) fn overdue_after(&self) -> Duration {
        self.patience.saturating_mul(OVERDUE_AFTER)
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// Forgets the addresses for which `keep` returns false.
    pub(super) fn retain(&mut self, keep: impl Fn(&SocketAddr) -> bool) {
        self.asked.retain(|addr, _| keep(addr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn addr(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    #[test]
    fn an_address_that_does_not_answer_in_time_is_silent_until_it_is_heard() {
        let mut contacts = Contacts::new(PATIENCE);
        let at = Duration::from_secs;
        assert!(!contacts.is_silent(addr(1), at(0)));
        contacts.note_asked(addr(1), at(0));
        // A second Syn does not extend the time.
        contacts.note_asked(addr(1), at(1));
        assert!(!contacts.is_silent(addr(1), at(1)));
        assert!(contacts.is_silent(addr(1), at(2)));
        contacts.note_heard(addr(1));
        assert!(!contacts.is_silent(addr(1), at(9)));
        assert!(contacts.answers(addr(1), at(9)));
        contacts.note_asked(addr(1), at(10));
        assert!(contacts.answers(addr(1), at(11)));
        assert!(!contacts.answers(addr(1), at(12)));
    }

    #[test]
    fn a_syn_that_was_lost_with_its_connection_is_not_held_against_the_member() {
        let mut contacts = Contacts::new(PATIENCE);
        let at = Duration::from_secs;
        contacts.note_asked(addr(1), at(0));
        assert!(contacts.may_still_answer(addr(1), at(1)));
        contacts.note_lost(addr(1));
        assert!(!contacts.may_still_answer(addr(1), at(1)));
        assert!(!contacts.is_silent(addr(1), at(9)));
        contacts.note_asked(addr(1), at(9));
        assert!(contacts.is_silent(addr(1), at(11)));
        assert!(!contacts.may_still_answer(addr(1), at(11)));
    }

    #[test]
    fn an_address_that_does_not_answer_for_long_is_reported_once_for_each_syn() {
        let mut contacts = Contacts::new(PATIENCE);
        let at = Duration::from_secs;
        contacts.note_asked(addr(1), at(0));
        contacts.note_asked(addr(2), at(1));
        contacts.note_heard(addr(2));
        assert_eq!(contacts.take_overdue(at(3)), []);
        assert_eq!(contacts.take_overdue(at(4)), [addr(1)]);
        assert_eq!(contacts.take_overdue(at(9)), []);
        contacts.note_asked(addr(1), at(9));
        assert_eq!(contacts.take_overdue(at(9)), [addr(1)]);
        // Another connection gets the time that the first one had.
        contacts.note_lost(addr(1));
        contacts.note_asked(addr(1), at(10));
        assert_eq!(contacts.take_overdue(at(13)), []);
        assert_eq!(contacts.take_overdue(at(14)), [addr(1)]);
    }

    #[test]
    fn addresses_that_were_never_asked_or_are_gone_are_not_remembered() {
        let mut contacts = Contacts::new(PATIENCE);
        contacts.note_heard(addr(1));
        assert!(!contacts.answers(addr(1), Duration::ZERO));
        contacts.note_asked(addr(2), Duration::ZERO);
        contacts.note_asked(addr(3), Duration::ZERO);
        contacts.retain(|kept| *kept == addr(3));
        assert!(!contacts.is_silent(addr(2), PATIENCE));
        assert!(contacts.is_silent(addr(3), PATIENCE));
    }

    #[test]
    fn each_address_that_was_asked_is_remembered_once_until_it_is_forgotten() {
        let mut contacts = Contacts::new(PATIENCE);
        for n in [1, 2, 2, 3] {
            contacts.note_asked(addr(n), Duration::ZERO);
        }
        assert_eq!(contacts.len(), 3);
        contacts.retain(|kept| *kept == addr(2));
        assert_eq!(contacts.len(), 1);
    }
}
