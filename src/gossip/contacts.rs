//! Who answers us.
//!
//! Not everyone that lives can be reached by everyone: a tab does not speak UDP, and a firewall may
//! stand between two nodes that a third can reach. Of such a member we hear through others, and
//! asking it is a wasted part of a round: in a large cluster behind one bridge nearly all of it.
//! This is a preference and no judgement: a member is found dead by its heartbeat alone. Invariant:
//! what is remembered is bounded by the members and seeds.

use std::net::SocketAddr;
use std::time::Duration;

use litemap::LiteMap;

/// Those whom we have asked.
#[derive(Debug)]
pub(super) struct Contacts {
    /// How long an answer may take.
    patience: Duration,
    asked: LiteMap<SocketAddr, Contact>,
}

#[derive(Debug, Default)]
struct Contact {
    has_answered: bool,
    /// Since when it owes us an answer.
    owes_since: Option<Duration>,
}

impl Contacts {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            asked: LiteMap::new(),
        }
    }

    pub(super) fn note_asked(&mut self, addr: SocketAddr, now: Duration) {
        let contact = self.asked.entry(addr).or_default();
        contact.owes_since.get_or_insert(now);
    }

    /// Something has come from `addr`: it can be reached, whatever it says.
    pub(super) fn note_heard(&mut self, addr: SocketAddr) {
        if let Some(contact) = self.asked.get_mut(&addr) {
            contact.has_answered = true;
            contact.owes_since = None;
        }
    }

    /// It was asked, and has not answered in time.
    pub(super) fn is_silent(&self, addr: SocketAddr, now: Duration) -> bool {
        let since = self.asked.get(&addr).and_then(|c| c.owes_since);
        since.is_some_and(|since| now >= since.saturating_add(self.patience))
    }

    /// It has answered when it was asked last, or may still do so as it did before.
    pub(super) fn answers(&self, addr: SocketAddr, now: Duration) -> bool {
        let contact = self.asked.get(&addr);
        contact.is_some_and(|c| c.has_answered) && !self.is_silent(addr, now)
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

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
    fn who_owes_an_answer_for_long_is_silent_until_it_is_heard() {
        let mut contacts = Contacts::new(PATIENCE);
        let at = Duration::from_secs;
        assert!(!contacts.is_silent(addr(1), at(0)));
        contacts.note_asked(addr(1), at(0));
        // Asking again gives no more time.
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
    fn strangers_and_those_who_are_gone_are_not_remembered() {
        let mut contacts = Contacts::new(PATIENCE);
        contacts.note_heard(addr(1));
        assert!(!contacts.answers(addr(1), Duration::ZERO));
        contacts.note_asked(addr(2), Duration::ZERO);
        contacts.note_asked(addr(3), Duration::ZERO);
        contacts.retain(|kept| *kept == addr(3));
        assert!(!contacts.is_silent(addr(2), PATIENCE));
        assert!(contacts.is_silent(addr(3), PATIENCE));
    }
}
