//! The spread of numbered changes to all nodes: which node to ask next, and when all had a change.
//!
//! Plain values only; time is an argument. A node has a change if it has that number or a higher
//! one. A change is everywhere only when the first node that lacks it has it, so that node alone is
//! asked until then; with its news, all others that lack the change are asked at once.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// The changes that are not yet known to be everywhere, and what each node is known to have.
#[derive(Debug)]
pub(crate) struct Spread {
    /// The highest number that each node has shown.
    nodes: Vec<u64>,
    open: VecDeque<u64>,
    done: Vec<Done>,
    /// The last moment at which a node lacked the oldest open change.
    lacked_at: Option<SystemTime>,
}

/// How many nodes to ask at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breadth {
    One,
    All,
}

/// A change that all nodes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) at: SystemTime,
    /// Time before `at` within which the last node may have received the change.
    pub(crate) uncertainty: Duration,
}

impl Spread {
    /// Returns the state for `nodes` nodes, none of which has a change.
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![0; nodes],
            open: VecDeque::new(),
            done: Vec::new(),
            lacked_at: None,
        }
    }

    /// Adds a change. Numbers start at 1 and rise.
    pub(crate) fn expect(&mut self, number: u64) {
        self.open.push_back(number);
    }

    /// Returns the number of changes that are not everywhere.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns the nodes to ask: those that lack the oldest open change, or the first of them.
    pub(crate) fn to_ask(&self, breadth: Breadth) -> Vec<usize> {
        let Some(oldest) = self.open.front() else {
            return Vec::new();
        };
        let most = match breadth {
            Breadth::One => 1,
            Breadth::All => usize::MAX,
        };
        let nodes = (0..).zip(&self.nodes).filter(|(_, seen)| *seen < oldest);
        nodes.map(|(node, _)| node).take(most).collect()
    }

    /// Takes a node's answer, the highest number that it has. Returns whether that was new.
    pub(crate) fn answer(&mut self, node: usize, number: u64, at: SystemTime) -> bool {
        let Some(seen) = self.nodes.get_mut(node) else {
            return false;
        };
        let is_new = number > *seen;
        *seen = number.max(*seen);
        let everywhere = self.nodes.iter().copied().min().unwrap_or(u64::MAX);
        while let Some(&number) = self.open.front()
            && number <= everywhere
        {
            self.open.pop_front();
            let since = self
                .lacked_at
                .and_then(|lacked| at.duration_since(lacked).ok());
            self.done.push(Done {
                number,
                at,
                uncertainty: since.unwrap_or_default(),
            });
        }
        if !is_new {
            self.lacked_at = Some(at);
        }
        is_new
    }

    /// Returns the changes that have become known to be everywhere since the last call.
    pub(crate) fn take_done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn a_change_is_done_when_the_last_node_has_it() {
        let mut spread = Spread::new(2);
        assert!(spread.to_ask(Breadth::All).is_empty());
        spread.expect(1);
        assert_eq!(spread.to_ask(Breadth::One), [0]);
        assert_eq!(spread.to_ask(Breadth::All), [0, 1]);
        assert!(!spread.answer(0, 0, at(10)));
        assert!(spread.answer(0, 1, at(14)));
        assert_eq!(spread.to_ask(Breadth::All), [1]);
        assert_eq!(spread.take_done(), []);
        assert!(spread.answer(1, 1, at(15)));
        let done = Done {
            number: 1,
            at: at(15),
            uncertainty: Duration::from_millis(5),
        };
        assert_eq!(spread.take_done(), [done]);
        assert_eq!(spread.open(), 0);
    }

    #[test]
    fn a_later_change_does_not_delay_an_earlier_one_and_replaces_it_where_it_overtakes() {
        let mut spread = Spread::new(2);
        spread.expect(1);
        spread.answer(0, 1, at(1));
        spread.expect(2);
        // Node 0 lacks change 2, but change 1 is what is waited for.
        assert_eq!(spread.to_ask(Breadth::All), [1]);
        spread.answer(1, 2, at(5));
        let done: Vec<_> = spread.take_done().iter().map(|done| done.number).collect();
        assert_eq!(done, [1]);
        assert_eq!(spread.to_ask(Breadth::All), [0]);
        spread.answer(0, 2, at(6));
        assert_eq!(spread.take_done().len(), 1);
    }
}
