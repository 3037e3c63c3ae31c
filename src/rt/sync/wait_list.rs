//! A line of tasks that wait for the same thing.

use std::task::Waker;

/// Tasks that wait for the same thing, in the order in which they came.
///
/// It contains no lock: the lock that guards what the tasks wait for must guard the list as well.
/// An entry stays in the list until its owner calls [`leave`](Self::leave). The first entry is
/// therefore always responsible for checking again; waking it twice does no harm.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    next: u64,
    waiting: Vec<(u64, Waker)>,
}

/// A place in a [`WaitList`], or `None` if its holder has no place.
pub(crate) type Ticket = Option<u64>;

impl WaitList {
    /// Takes a place at the end of the line and stores it in `ticket`. A ticket that has a place
    /// already keeps it and only gets the new waker.
    pub(crate) fn join(&mut self, ticket: &mut Ticket, waker: &Waker) {
        if let Some(place) = *ticket
            && let Some((_, known)) = self.waiting.iter_mut().find(|(id, _)| *id == place)
        {
            known.clone_from(waker);
            return;
        }
        if self.waiting.capacity() == 0 {
            // Few lists ever have more than one entry, and the vector would make room for four.
            self.waiting.reserve_exact(1);
        }
        self.next += 1;
        *ticket = Some(self.next);
        self.waiting.push((self.next, waker.clone()));
    }

    /// Gives up the place. Returns whether it was the first in line.
    pub(crate) fn leave(&mut self, ticket: &mut Ticket) -> bool {
        let Some(place) = ticket.take() else {
            return false;
        };
        let found = self.waiting.iter().position(|(id, _)| *id == place);
        if let Some(index) = found {
            self.waiting.remove(index);
        }
        found == Some(0)
    }

    /// Returns whether no other task is in line before the holder of `ticket`.
    pub(crate) fn may_pass(&self, ticket: Ticket) -> bool {
        self.waiting
            .first()
            .is_none_or(|(first, _)| Some(*first) == ticket)
    }

    /// Returns the waker of the first in line. Wake it after the lock is released.
    pub(crate) fn first(&self) -> Option<Waker> {
        self.waiting.first().map(|(_, waker)| waker.clone())
    }

    /// Returns the wakers of all in line. Wake them after the lock is released.
    pub(crate) fn all(&self) -> impl Iterator<Item = Waker> + '_ {
        self.waiting.iter().map(|(_, waker)| waker.clone())
    }

    /// Empties the line and returns the wakers of all that were in it. Their tickets have no place
    /// any more.
    pub(crate) fn take_all(&mut self) -> Vec<(u64, Waker)> {
        std::mem::take(&mut self.waiting)
    }

    /// Returns the number of tasks in line.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether the line is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_line_passes_and_hands_its_turn_on_when_it_leaves() {
        let mut list = WaitList::default();
        let (mut first, mut second) = (None, None);
        list.join(&mut first, Waker::noop());
        list.join(&mut second, Waker::noop());
        assert!(list.may_pass(first) && !list.may_pass(second) && !list.may_pass(None));
        list.join(&mut first, Waker::noop());
        assert!(list.may_pass(first), "a second join must keep the place");
        assert!(list.leave(&mut first));
        assert!(list.may_pass(second));
        assert!(list.leave(&mut second) && list.is_empty());
        assert!(!list.leave(&mut second), "left before");
    }

    /// A waker that differs from every other one.
    fn waker() -> Waker {
        struct Idle;
        impl std::task::Wake for Idle {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        std::sync::Arc::new(Idle).into()
    }

    #[test]
    fn the_order_of_the_line_stays_whoever_leaves_and_each_has_its_latest_waker() {
        let mut list = WaitList::default();
        let mut tickets = [None; 4];
        for ticket in &mut tickets {
            list.join(ticket, &waker());
        }
        let latest = [waker(), waker(), waker(), waker()];
        for (ticket, waker) in tickets.iter_mut().zip(&latest) {
            list.join(ticket, waker);
        }
        assert!(!list.leave(&mut tickets[1]));
        for next in [0, 2, 3] {
            assert!(
                list.first()
                    .is_some_and(|first| first.will_wake(&latest[next]))
            );
            assert!(list.leave(&mut tickets[next]));
        }
    }
}
